//! A machine that was not generalised gets another name, SID and addresses, and keeps the rest.

use super::*;

fn set_rights(path: &Path, descriptor: &[u8]) {
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(path, "system.ntfs_acl", descriptor, flags).unwrap();
}

/// Number of a file's MFT record.
fn number(mounted: &Mounted, path: &str) -> u64 {
    rustix::fs::stat(mounted.path().join(path)).unwrap().st_ino
}

#[test]
fn a_machine_that_was_not_generalised_becomes_another() {
    let mut inode = 0;
    let mut lab = workstation(24, |mounted| {
        mounted.put(&format!("$Recycle.Bin/{OLD_SID}-1000/desktop.ini"), b"d");
        mounted.put("Users/someone/mine.txt", b"m");
        let sd = hives::descriptor(&hives::sid(MACHINE, Some(1000)));
        let path = mounted.path().join("Users/someone/mine.txt");
        set_rights(&path, &sd);
        set_rights(
            &mounted.path().join(CONFIG).join("SYSTEM"),
            &hives::descriptor(&USERS),
        );
        inode = number(mounted, &format!("{CONFIG}/SYSTEM"));
    });
    let actions = [
        name("Lab-01"),
        Action::WindowsWorkgroup {
            partition: PARTITION,
            name: "LAB".into(),
        },
        Action::WindowsIdentifiers {
            partition: PARTITION,
            machine_guid: "new-guid".into(),
        },
        Action::WindowsStorage {
            partition: PARTITION,
            services: vec!["stornvme".into()],
            critical_devices: Vec::new(),
        },
        new_sid(OLD_SID),
    ];
    lab.all(&actions, Outcome::Applied);
    let volume = lab.volume();
    lab.audit(&volume);
    let [system, sam, security, software] =
        ["SYSTEM", "SAM", "SECURITY", "SOFTWARE"].map(|name| lab.hive(&volume, name));
    assert_eq!(
        hivexget(
            &system,
            r"ControlSet001\Services\Tcpip\Parameters",
            "NV Hostname"
        ),
        "Lab-01"
    );
    assert_eq!(
        hivexget(&software, r"Microsoft\Cryptography", "MachineGuid"),
        "new-guid"
    );
    let nvme = reglookup(&system, "/ControlSet001/Services/stornvme");
    assert!(
        nvme.iter()
            .any(|line| line.ends_with("/Start,DWORD,0x00000000")),
        "{nvme:#?}"
    );
    assert_eq!(nvme.len(), 3, "no StartOverride: {nvme:#?}");
    for (hive, key) in [
        (
            &sam,
            format!(r"SAM\Domains\Builtin\Aliases\Members\{NEW_SID}\000001F4"),
        ),
        (&security, format!(r"Policy\Accounts\{NEW_SID}-1000\Sid")),
        (
            &software,
            format!(r"Microsoft\Windows NT\CurrentVersion\ProfileList\{NEW_SID}-1000"),
        ),
    ] {
        let found = reglookup(hive, &format!("/{}", key.replace('\\', "/")));
        assert!(
            found.iter().any(|line| line.contains(",KEY")),
            "{key}: {found:#?}"
        );
    }
    let list = format!(r"Microsoft\Windows NT\CurrentVersion\ProfileList\{NEW_SID}-1000");
    // A SID with the same beginning belongs to another machine.
    let text = format!("before {NEW_SID}-1000 and {OLD_SID}1 after");
    assert_eq!(hivexget(&software, &list, "text"), text);
    for hive in [&sam, &security, &software, &system] {
        let bytes = std::fs::read(hive).unwrap();
        assert!(
            !names(&bytes, &hives::sid(MACHINE, None)[2..]),
            "{}",
            hive.display()
        );
        assert!(
            names(&bytes, &hives::sid(NEW, None)[2..]),
            "{}",
            hive.display()
        );
    }
    let bytes = std::fs::read(&sam).unwrap();
    let account = [vec![0x5a; 40], hives::sid(NEW, None)[12..].to_vec()].concat();
    assert!(
        names(&bytes, &account),
        "the numbers at the end of the account domain's V"
    );
    assert_eq!(
        lab.cat(&volume, &format!("$Recycle.Bin/{NEW_SID}-1000/desktop.ini")),
        b"d"
    );
    {
        let mounted = Mounted::new(&volume);
        let sd = hives::descriptor(&hives::sid(NEW, Some(1000)));
        assert_eq!(rights(&mounted, "Users/someone/mine.txt"), sd);
        // Written in place: the file and its descriptor stay the same, and the copy has that
        // descriptor too.
        assert_eq!(number(&mounted, &format!("{CONFIG}/SYSTEM")), inode);
        for name in ["SYSTEM", "SYSTEM.predeploy"] {
            let found = rights(&mounted, &format!("{CONFIG}/{name}"));
            assert_eq!(found, hives::descriptor(&USERS), "{name}");
        }
    }
    let log = lab.cat(&volume, &format!("{CONFIG}/SYSTEM.LOG1"));
    assert_eq!(log, [0; 4096], "a stale log is emptied");

    let first: Vec<_> = [&system, &sam, &security, &software]
        .map(|path| std::fs::read(path).unwrap())
        .into();
    lab.all(&actions, Outcome::Unchanged);
    let volume = lab.volume();
    let second = ["SYSTEM", "SAM", "SECURITY", "SOFTWARE"].map(|name| lab.hive(&volume, name));
    assert!(first == second.map(|path| std::fs::read(path).unwrap()));
}

#[test]
fn a_session_that_is_given_up_is_gone() {
    let mut lab = workstation(24, |mounted| {
        mounted.put("hiberfil.sys", &[b"HIBR".to_vec(), vec![0; 8192]].concat());
    });
    let error = lab.run(&[name("Lab-03")]).unwrap_err();
    assert!(error.to_string().contains("discard_hibernation"), "{error}");
    let discard = Action::WindowsDiscardHibernation {
        partition: PARTITION,
    };
    lab.all(&[discard.clone(), name("Lab-03")], Outcome::Applied);
    lab.all(&[discard, name("Lab-03")], Outcome::Unchanged);
    let listed = said("ntfsls", &[&lab.volume().display().to_string()]);
    assert!(
        listed.contains("Windows") && !listed.contains("hiberfil"),
        "{listed}"
    );
}
