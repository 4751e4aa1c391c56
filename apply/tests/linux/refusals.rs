//! Steps that are refused: each names its cause and leaves nothing behind.

use super::*;

#[test]
fn links_of_the_guest_lead_nowhere_else() {
    if !may_mount() {
        return;
    }
    // A folder of the host, which the links of a hostile guest point to.
    let outside = tempfile::tempdir().unwrap();
    let victim = outside.path().join("hostname");
    fs::write(&victim, "host\n").unwrap();
    let climb = format!("-> ../../../../../../../../..{}", victim.display());
    let folder = format!("-> {}", outside.path().display());
    let host = fs::read("/etc/hostname").unwrap_or_default();

    let disk = Disk::new(&[16, 16]);
    let mut tree = debian_tree();
    tree.insert("etc/hostname", &climb);
    tree.insert("etc/machine-id", "-> /etc/hostname");
    tree.insert("etc/hosts", "-> /proc/self/root/etc/hosts");
    tree.remove("etc/ssh/ssh_host_rsa_key");
    tree.remove("etc/ssh/ssh_host_rsa_key.pub");
    tree.remove("etc/ssh/sshd_config");
    tree.insert("etc/ssh", &folder);
    disk.ext4(1, &tree, 16, &[]);
    fs::write(outside.path().join("ssh_host_rsa_key"), "the host's own").unwrap();
    // A link in place of the whole /etc.
    let etc = format!("-> {}", outside.path().display());
    disk.ext4(2, &[("etc", etc.as_str()), ("x/y", "")].into(), 16, &[]);

    let steps = |partition| {
        vec![
            Action::LinuxHostname {
                partition,
                name: "pc-07".into(),
                fqdn: None,
            },
            Action::LinuxMachineId { partition },
            Action::LinuxSshHostKeys { partition },
        ]
    };
    disk.run(steps(1), &Secrets::default(), &Files::default())
        .unwrap();
    assert_eq!(disk.cat(1, "/etc/hostname"), "pc-07\n");
    let error = disk
        .run(steps(2), &Secrets::default(), &Files::default())
        .unwrap_err();
    assert_eq!(step_of(&error), Some("step.0"));

    assert_eq!(fs::read_to_string(&victim).unwrap(), "host\n");
    assert_eq!(
        fs::read_to_string(outside.path().join("ssh_host_rsa_key")).unwrap(),
        "the host's own"
    );
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 2);
    assert_eq!(fs::read("/etc/hostname").unwrap_or_default(), host);
    disk.assert_clean(1);
    disk.assert_clean(2);
}

#[test]
fn a_file_that_is_another_one_and_a_full_volume_are_refused_and_leave_nothing() {
    if !may_mount() {
        return;
    }
    let disk = Disk::new(&[16]);
    disk.ext4(1, &debian_tree(), 16, &[]);
    let mut files = Files::default();
    let mut payload = files.add("app.deb", b"right");
    files.0.insert(payload.blake3.clone(), b"wrong".to_vec());
    let copy = |payload: &template::step::Payload| {
        vec![Action::CopyFile {
            partition: 1,
            payload: payload.clone(),
            to: "/opt/app.deb".into(),
        }]
    };
    let error = disk
        .run(copy(&payload), &Secrets::default(), &files)
        .unwrap_err();
    assert!(
        error.to_string().contains("is not the file the plan names"),
        "{error}"
    );
    assert!(matches!(error.cause(), Some(StepError::OtherFile { .. })));
    files
        .0
        .insert(payload.blake3.clone(), b"right and more".to_vec());
    let error = disk
        .run(copy(&payload), &Secrets::default(), &files)
        .unwrap_err();
    assert!(
        error.to_string().contains("is longer than the 5 bytes"),
        "{error}"
    );
    payload.bytes = 6;
    files.0.insert(payload.blake3.clone(), b"right".to_vec());
    let error = disk
        .run(copy(&payload), &Secrets::default(), &files)
        .unwrap_err();
    assert!(error.to_string().contains("ended 1 bytes early"), "{error}");
    let listed = disk.debugfs(1, "ls /opt");
    assert!(!listed.contains("app.deb"), "{listed}");

    let large = files.add("huge.iso", &vec![0_u8; 15 << 20]);
    let error = disk
        .run(copy(&large), &Secrets::default(), &files)
        .unwrap_err();
    assert!(error.to_string().contains("bytes free"), "{error}");
    let Some(StepError::NoRoom { room, .. }) = error.cause() else {
        panic!("{error:?}");
    };
    assert!(room.is_some_and(|room| room.needed > 15 << 20 && room.free < room.needed));
    disk.assert_clean(1);
}

#[test]
fn secrets_that_are_no_hash_and_accounts_that_are_there_are_refused() {
    if !may_mount() {
        return;
    }
    let disk = Disk::new(&[16]);
    disk.ext4(1, &debian_tree(), 16, &[]);
    let run = |user: User, secrets: &Secrets| {
        disk.run(
            vec![Action::LinuxUser { partition: 1, user }],
            secrets,
            &Files::default(),
        )
    };
    let mut clear = Secrets::default();
    clear.insert(SecretName("labadmin".into()), "clear text".into());
    let error = run(user("labadmin"), &clear).unwrap_err();
    assert!(
        error.to_string().contains("is not a password hash"),
        "{error}"
    );
    assert!(!error.to_string().contains("clear text"), "{error}");
    let error = run(user("labadmin"), &Secrets::default()).unwrap_err();
    assert!(
        error.to_string().contains("did not come with the order"),
        "{error}"
    );
    assert!(matches!(error.cause(), Some(StepError::Order(_))));
    let secrets = secrets();
    let error = run(user("ann"), &secrets).unwrap_err();
    assert!(error.to_string().contains("is there already"), "{error}");
    assert!(matches!(error.cause(), Some(StepError::Refused { .. })));
    let error = run(
        User {
            on_exists: OnExists::Update,
            ..user("daemon")
        },
        &secrets,
    )
    .unwrap_err();
    assert!(
        error.to_string().contains("account of the system itself"),
        "{error}"
    );
    let mut missing = user("bob");
    missing.groups = vec![Group::Named("docker".into())];
    let error = run(missing, &secrets).unwrap_err();
    assert!(error.to_string().contains("no group docker"), "{error}");
    assert!(!disk.cat(1, "/etc/passwd").contains("bob"));

    let skipped = run(
        User {
            on_exists: OnExists::Skip,
            ..user("ann")
        },
        &secrets,
    )
    .unwrap();
    assert_eq!(skipped.steps.first().unwrap().1, Outcome::Unchanged);
    run(
        User {
            on_exists: OnExists::Update,
            ..user("ann")
        },
        &secrets,
    )
    .unwrap();
    assert!(disk.cat(1, "/etc/shadow").contains("\nann:$y$"));
    assert!(disk.cat(1, "/home/ann/keep").contains("mine"));
}

#[test]
fn what_cannot_be_done_names_its_step_and_reason() {
    if !may_mount() {
        return;
    }
    let disk = Disk::new(&[16, 4]);
    let mut tree = debian_tree();
    tree.remove("usr/lib/systemd/systemd");
    disk.ext4(1, &tree, 16, &[]);
    let fails = |action: Action, words: &str| {
        let error = disk
            .run(vec![action], &Secrets::default(), &Files::default())
            .unwrap_err();
        assert_eq!(step_of(&error), Some("step.0"));
        assert!(error.to_string().contains(words), "{error}");
    };
    fails(
        Action::FirstBoot {
            partition: 1,
            job: first_boot(),
            executable: None,
        },
        "no systemd",
    );
    fails(Action::LinuxSshHostKeys { partition: 1 }, "no systemd");
    fails(
        Action::LinuxMachineId { partition: 2 },
        "holds no file system that can be mounted",
    );
    fails(Action::LinuxMachineId { partition: 9 }, "no partition 9");
    fails(
        Action::GrowFileSystem {
            partition: 1,
            file_system: template::step::FileSystem::Ntfs,
        },
        "partition 1 holds Ext and not Ntfs; inspect the image again",
    );
    let mut refused = plan(vec![Action::LinuxMachineId { partition: 1 }]);
    refused.refused.push("no address is left".into());
    let error = disk
        .run_plan(&refused, &Secrets::default(), &Files::default())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "this machine is refused: no address is left"
    );
    assert!(disk.cat(1, "/etc/machine-id").starts_with("0123"));
}

#[test]
fn a_full_volume_says_so_and_keeps_its_files() {
    if !may_mount() {
        return;
    }
    let disk = Disk::new(&[16]);
    disk.ext4(1, &debian_tree(), 16, &["-m", "0", "-b", "1024"]);
    // Filled to the last block; the file's own metadata makes the first writes fall short.
    let filler = disk.folder.path().join("filler");
    for name in ["a", "b", "c", "d"] {
        let stats = disk.debugfs(1, "stats -h");
        let free: usize = stats
            .lines()
            .find_map(|line| line.strip_prefix("Free blocks:"))
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        let room = if free > 64 { free - free / 16 } else { free };
        fs::write(&filler, vec![1_u8; room * 1024]).unwrap();
        let request = format!("write {} {name}", filler.display());
        tool("debugfs", &["-w", "-R", &request, &disk.place(1)]);
    }
    let step = || {
        vec![Action::LinuxHostname {
            partition: 1,
            name: "pc-07".into(),
            fqdn: None,
        }]
    };
    let error = disk
        .run(step(), &Secrets::default(), &Files::default())
        .unwrap_err();
    assert!(
        error.to_string().contains("no room left on the volume"),
        "{error}"
    );
    assert!(matches!(
        error.cause(),
        Some(StepError::NoRoom { room: None, .. })
    ));
    assert_eq!(disk.cat(1, "/etc/hostname"), "master\n");
    let listed = disk.debugfs(1, "ls /etc");
    assert!(!listed.contains("diskcast"), "{listed}");
    disk.assert_clean(1);
}
