//! Plans for Windows images: their steps, and the cases they refuse.

use crate::case::*;
use template::answers::AnswerFileFound;
use template::findings::{
    Arch, Obstacle, ProductType, StorageService, System, WindowsFindings, WindowsGroup,
};
use template::machine::PciDevice;
use template::step::{Action, FileSystem, FirstBootAction, Group, MachinePlan, Step};

#[test]
fn volumes_and_hives_that_may_not_be_touched() {
    for (obstacle, want) in [
        (
            Obstacle::BitLocker,
            "encrypted by BitLocker; turn BitLocker off",
        ),
        (
            Obstacle::Luks,
            "encrypted by LUKS; capture a master without",
        ),
        (
            Obstacle::Hibernated,
            "or set windows.discard_hibernation = true",
        ),
        (
            Obstacle::DirtyVolume,
            "not closed cleanly; check the volume",
        ),
        (
            Obstacle::DirtyHive {
                hive: "SYSTEM".into(),
                reason: "no logs".into(),
            },
            "the hive SYSTEM was not closed cleanly, and its logs do not apply: no logs; start the master once",
        ),
        (
            Obstacle::DamagedHive {
                hive: "SAM".into(),
                reason: "cell 0x20".into(),
            },
            "the hive SAM is damaged: cell 0x20; repair the master",
        ),
        (
            Obstacle::Unreadable {
                what: "SOFTWARE".into(),
                reason: "i/o error".into(),
            },
            "SOFTWARE cannot be read: i/o error; check",
        ),
    ] {
        with_windows(NAME, |w| w.obstacles.push(obstacle.clone())).refused(want);
        with_linux(NAME, |l| l.obstacles.push(obstacle.clone())).refused(want);
        // An obstacle of the volume alone counts, too; the same one at both places is reported
        // once.
        let mut case = with_windows(NAME, |w| w.obstacles.push(obstacle.clone()));
        case.findings.partitions[2].obstacles.push(obstacle);
        assert_eq!(case.plan().refused.len(), 1);
    }
    let discard = format!("{NAME}[windows]\ndiscard_hibernation = true\n");
    let case = with_windows(&discard, |w| w.obstacles.push(Obstacle::Hibernated));
    assert_eq!(case.ids()[0], "windows.hibernation");
    // The volume may grow once the session is discarded.
    let mut case = on_windows(&discard);
    case.findings.partitions[2]
        .obstacles
        .push(Obstacle::Hibernated);
    case.grown = Some(3);
    assert_eq!(case.ids()[..2], ["windows.hibernation", "grow"]);
    assert!(
        !on_windows(&discard)
            .ids()
            .contains(&"windows.hibernation".into())
    );
    with_windows(&discard, |w| {
        w.obstacles = vec![Obstacle::Hibernated, Obstacle::DirtyVolume]
    })
    .refused("not closed cleanly");
}

#[test]
fn sids() {
    let sid = |word: &str| format!("[windows]\nsid = '{word}'\n");
    on_windows(&sid("sysprep")).refused("the image is not generalised; run `sysprep");
    with_windows(&sid("rewrite"), |w| {
        w.product_type = ProductType::DomainController
    })
    .refused("domain controller, whose SID is its domain's");
    with_windows(&sid("rewrite"), |w| w.machine_sid = None).refused("its SID cannot be read");
    with_windows(&sid("rewrite"), |w| w.generalised = true).noted("Windows Setup draws a new SID");
    with_windows(&sid("keep"), |w| w.build = 26_100).refused("refuse each other since build 26100");
    with_windows(&sid("rewrite"), |w| w.build = 26_100).fine();
    with_windows(&sid("keep"), |w| (w.build, w.generalised) = (26_100, true)).fine();
    with_windows(
        "[windows]\nsid = 'keep'\nallow_duplicate_sid = true\n",
        |w| w.build = 26_100,
    )
    .noted("share one SID");
    with_windows(&sid("keep"), |w| w.build = 26_099).fine();
    with_windows(&sid("keep"), |w| w.build = 26_099).noted("keep the SID of the master");
    // By default, a machine gets a SID of its own, and the plan names the consequences.
    let rewrites = |plan: &MachinePlan| {
        let is = |step: &Step| matches!(step.action, Action::WindowsSid { .. });
        plan.steps.iter().any(is)
    };
    let elsewhere = |w: &mut WindowsFindings| w.profiles_elsewhere = vec![r"D:\Users\pat".into()];
    for text in [NAME, &sid("auto"), &sid("rewrite")] {
        let plan = on_windows(text).noted("lose what they encrypted with DPAPI");
        assert!(rewrites(&plan), "{text}");
        // The SID shown is the one that is written.
        let shown = plan.steps.iter().any(|step| match &step.action {
            Action::WindowsSid { new, .. } => step.what.contains(&format!("its SID is {new} ")),
            _ => false,
        });
        assert!(shown, "{plan:#?}");
        with_windows(text, |w| w.product_type = ProductType::DomainController)
            .refused("domain controller");
        with_windows(text, elsewhere).refused(r"could not log on to them (D:\Users\pat)");
        let generalised = with_windows(text, |w| w.generalised = true).fine();
        assert!(!rewrites(&generalised), "{text}");
        // Access rights on another volume of the image are not rewritten. A note says so only when
        // they name this master.
        let mut others = on_windows(text);
        for (number, sid) in [(4, "S-1-5-21-1-2-3"), (5, "S-1-5-21-1-2-33")] {
            let mut data = partition(number, Some(FileSystem::Ntfs));
            data.label = Some("Data".into());
            data.sids = vec!["S-1-5-21-9-9-9".into(), sid.into()];
            others.findings.partitions.push(data);
        }
        let notes = others.fine().notes;
        let named = |note: &&String| note.contains("whose rights name S-1-5-21-1-2-3");
        let named: Vec<_> = notes.iter().filter(named).collect();
        assert!(
            matches!(named.as_slice(), [one] if one.starts_with("partition 4 (Data) ")),
            "{notes:?}"
        );
    }
    // An unreadable SID is refused when a rewrite was requested, and on builds whose copies refuse
    // each other.
    let unreadable = |w: &mut WindowsFindings| w.machine_sid = None;
    for text in [NAME, &sid("auto")] {
        let plan = with_windows(text, unreadable).noted("all copies keep what they have");
        assert!(!rewrites(&plan), "{text}");
        with_windows(text, |w| (w.machine_sid, w.build) = (None, 26_100))
            .refused("its SID cannot be read");
    }
    with_windows(&sid("keep"), elsewhere).fine();
    with_windows(&sid("keep"), unreadable).fine();
    // A second run writes the same SID; another machine gets another one.
    let new = |seed| {
        let mut case = on_windows(&sid("rewrite"));
        case.binding.as_mut().unwrap().seed = seed;
        let steps = case.fine().steps;
        steps
            .into_iter()
            .find_map(|step| match step.action {
                Action::WindowsSid { new, .. } => Some(new),
                _ => None,
            })
            .unwrap()
    };
    assert_eq!(new([1; 12]), new([1; 12]));
    assert_ne!(new([1; 12]), new([2; 12]));
}

#[test]
fn answer_files_of_the_master() {
    let with = |file: Option<AnswerFileFound>, registered: Option<&str>| {
        with_windows(NAME, |w| {
            w.generalised = true;
            w.answer_file = file;
            w.registered_answer_file = registered.map(str::to_owned);
        })
    };
    let file = AnswerFileFound {
        path: r"Windows\Panther\Unattend.xml".into(),
        dropped: vec!["LocalAccount pat".into()],
        fault: None,
    };
    with(Some(file.clone()), None)
        .noted(r"an answer file, Windows\Panther\Unattend.xml: ours is merged");
    with(Some(file.clone()), None).noted("what needs them is left out: LocalAccount pat");
    with(None, Some(r"D:\other.xml"))
        .noted(r"another answer file, D:\other.xml: that is taken out");
    let broken = AnswerFileFound {
        fault: Some("it is not one document".into()),
        ..file
    };
    with(Some(broken), None)
        .refused("cannot be merged with ours: it is not one document; remove it");
}

#[test]
fn members_of_domains() {
    let member = |template: &str| with_windows(template, |w| w.domain = Some("old.example".into()));
    member(NAME).refused("the master is a member of old.example");
    member("[membership]\nworkgroup = 'W'\n").refused("move the master into a workgroup");
    member("[windows]\n").noted("shares the master's account in old.example");
    with_windows(NAME, |w| w.product_type = ProductType::DomainController)
        .refused("it is a domain controller");
    let join = format!("{NAME}{DOMAIN}");
    with_windows(&join, |w| w.edition = Some("CoreSingleLanguage".into()))
        .refused("cannot join a domain");
    with_windows(&join, |w| w.version = (6, 0)).refused("needs Windows 7 or later");
    on_windows(&join).noted("holds the password of its account there and lies on the disk until");
    let samba =
        "[membership]\ndomain = 'corp.example'\nmethod = 'samba'\ncredential = 'ref:join'\n";
    on_windows(&format!("{NAME}{samba}"))
        .noted("one of that name that is there already is taken over");
    with_linux(&join, |_| {}).refused("it is not joined to corp.example; install realmd or adcli");
    with_linux(&join, |l| l.join_tools = vec!["realm".into()]).refused("join with a [[run]]");
    on_linux("[membership]\nworkgroup = 'W'\n").noted("the workgroup W is for Windows");
}

/// A group the image lacks would stop first boot, or Setup, on every machine.
#[test]
fn groups_of_a_windows_are_its_own() {
    let german = |w: &mut WindowsFindings| {
        let group = |name: &str, id| WindowsGroup {
            name: name.into(),
            id,
        };
        w.groups = vec![
            group("Administratoren", 544),
            group("Benutzer", 545),
            group("Labor", 1003),
        ];
    };
    let user = |groups: &str| {
        format!("[[user]]\nname = 'labadmin'\npassword = 'ref:p'\ngroups = [{groups}]\n")
    };
    let given = |template: &str, generalised: bool| -> Vec<Group> {
        let case = with_windows(template, |w| {
            german(w);
            w.generalised = generalised;
        });
        let mut steps = case.fine().steps.into_iter();
        let found = steps.find_map(|step| match step.action {
            Action::WindowsAnswerFile { answers, .. } => Some(answers.users[0].groups.clone()),
            Action::FirstBoot { job, .. } => {
                job.steps.into_iter().find_map(|step| match step.action {
                    FirstBootAction::User(user) => Some(user.groups),
                    _ => None,
                })
            }
            _ => None,
        });
        found.unwrap()
    };
    let named = |name: &str| Group::Named(name.into());
    // Setup knows groups by name only, the first-boot program by SID.
    let template = user("'Administrators', 'USERS', 'labor'");
    assert_eq!(
        given(&template, true),
        [named("Administratoren"), named("Benutzer"), named("Labor")]
    );
    assert_eq!(
        given(&template, false),
        [Group::Administrators, Group::Users, named("Labor")]
    );
    with_windows(&user("'Technicians'"), german)
        .refused("has no group Technicians; it has Administratoren, Benutzer, Labor");
    with_windows(&user("'remote-desktop'"), german).refused("has no group remote-desktop");
    on_windows(&user("'Technicians'")).fine();
    for name in ["labor", "System", "network service"] {
        with_windows(&format!("[[user]]\nname = '{name}'\n"), german)
            .refused("cannot be an account");
    }
}

#[test]
fn disk_controllers() {
    let with = |pci: Vec<PciDevice>, change: fn(&mut WindowsFindings)| {
        let mut case = with_windows("[windows]\n", change);
        case.machine.pci = pci;
        case
    };
    let nvme = device(0x144d, 0xa808, 0x010802);
    let ahci = device(0x8086, 0xa352, 0x010601);
    let virtio = device(0x1af4, 0x1001, 0x010000);
    let seven: fn(&mut WindowsFindings) = |w| *w = windows_7();
    with(vec![nvme], seven).refused("NVMe controller 144d:a808 (Windows 7 came without NVMe, KB2990941 brought it); add the vendor's");
    with(vec![nvme], |w| {
        *w = windows_7();
        w.storage_services.push(StorageService {
            name: "stornvme".into(),
            start: 3,
            overridden: false,
        });
    })
    .fine();
    let xp: fn(&mut WindowsFindings) = |w| {
        *w = windows_7();
        (w.version, w.arch) = ((5, 1), Arch::X86);
        w.storage_services
            .retain(|service| service.name != "msahci" && service.name != "iaStorV");
    };
    with(vec![ahci], xp).refused("XP came without AHCI");
    with(vec![virtio], |_| {}).refused("has no driver for this machine's virtio disk 1af4:1001");
    with(vec![device(0xabcd, 1, 0x010400)], |_| {}).refused("(Windows comes with none for it)");
    // A controller with a driver may carry the disk, unless the disk is known to be on the other
    // one.
    with(vec![virtio, nvme], |_| {}).noted("disks on it are not seen");
    with(
        vec![
            PciDevice {
                target_disk: true,
                ..virtio
            },
            nvme,
        ],
        |_| {},
    )
    .refused("virtio disk");
    with(
        vec![
            virtio,
            PciDevice {
                target_disk: true,
                ..nvme
            },
        ],
        |_| {},
    )
    .noted("disks on it are not seen");
    with(vec![], |_| {}).noted("disk controllers are not known");
    // Hyper-V's second generation has no PCI devices.
    let mut hyper_v = with(vec![], |_| {});
    hyper_v.machine.model = Some("Microsoft Corporation Virtual Machine".into());
    assert_eq!(
        hyper_v.ids(),
        ["windows.storage", "windows.ids", "windows.sid"]
    );
    // Windows up to 7 finds controllers in the CriticalDeviceDatabase.
    let critical = |case: &Case| {
        let steps = case.fine().steps;
        steps.into_iter().find_map(|step| match step.action {
            Action::WindowsStorage {
                critical_devices, ..
            } => Some(
                critical_devices
                    .into_iter()
                    .map(|d| format!("{} {}", d.id, d.service))
                    .collect::<Vec<_>>(),
            ),
            _ => None,
        })
    };
    assert_eq!(
        critical(&with(vec![ahci], seven)).unwrap(),
        ["PCI#VEN_8086&DEV_A352 msahci", "PCI#CC_0106 msahci"]
    );
    assert_eq!(
        critical(&with(vec![device(0x8086, 0x7111, 0x010180)], seven)).unwrap(),
        ["PCI#VEN_8086&DEV_7111 intelide", "PCI#CC_0101 pciide"]
    );
    assert_eq!(critical(&with(vec![ahci], |_| {})).unwrap(), [""; 0]);
}

#[test]
fn driver_packages() {
    assert_eq!(
        virtio().ids(),
        [
            "windows.boot-driver.1",
            "windows.stage-driver.1",
            "windows.ids",
            "windows.sid",
            "firstboot"
        ]
    );
    let mut case = virtio();
    case.machine.pci = vec![device(0x144d, 0xa808, 0x010802)];
    case.noted("the machine has no such device");
    case.template = case
        .template
        .replace("boot_critical = true", "match = 'always'");
    assert!(case.ids().contains(&"windows.stage-driver.1".into()));

    let refused = |change: &dyn Fn(&mut Case), want: &str| {
        let mut case = virtio();
        change(&mut case);
        case.refused(want);
    };
    refused(
        &|c| c.files.drivers.clear(),
        "drivers/viostor was not found",
    );
    refused(
        &|c| c.files.drivers[0].infs.clear(),
        "has no .inf of a driver",
    );
    refused(
        &|c| c.files.drivers[0].files[2].program.as_mut().unwrap().signed = false,
        "viostor.sys is not signed in itself",
    );
    refused(
        &|c| drop(c.files.drivers[0].files.remove(0)),
        "has no catalog (.cat) beside it",
    );
    refused(
        &|c| drop(c.files.drivers[0].files.remove(2)),
        "viostor.sys is not in the folder",
    );
    refused(
        &|c| c.machine.pci = vec![device(0x8086, 0x9a0b, 0x010400)],
        "names no service, so it is no boot driver",
    );
    refused(
        &|c| c.machine.pci = vec![device(0x1af4, 0x9999, 0x010000)],
        "is for 32-bit Intel, and the image holds Windows 10 Pro for 64-bit Intel",
    );
    refused(
        &|c| {
            c.files.drivers[0].infs[0].1.makers[0]
                .sections
                .iter_mut()
                .for_each(|section| section.target.version = (10, 0, 22_000))
        },
        "is for Windows 10.0 build 22000 and later",
    );
    refused(
        &|c| {
            c.files.drivers[0].infs[0].1.makers.clear();
            c.template = c
                .template
                .replace("boot_critical = true", "match = 'always'");
        },
        "names no device in its .inf",
    );
    let mut on_linux = virtio();
    on_linux.findings = findings(vec![System::Linux(Box::new(linux()))]);
    on_linux.noted("driver packages are for Windows");
}

/// The rewrite would fail on the machine, after its disk was written. The refusal comes before
/// anything is sent, and names the profile.
#[test]
fn a_user_hive_that_cannot_be_changed_is_refused_by_the_profile() {
    let with = |template: &str, obstacle: fn(String) -> Obstacle, path: &str| {
        with_windows(template, |w| {
            w.unchangeable_hives = vec![obstacle(path.into())]
        })
    };
    let dirty = |hive| Obstacle::DirtyHive {
        hive,
        reason: "there is no valid log".into(),
    };
    let damaged = |hive| Obstacle::DamagedHive {
        hive,
        reason: "no signature".into(),
    };
    for (path, who) in [
        (r"Users\pat\NTUSER.DAT", "pat"),
        (r"Profile\münch\ntuser.man", r"münch"),
        (
            r"Users\pat\AppData\Local\Microsoft\Windows\UsrClass.dat",
            "pat",
        ),
        (
            r"Documents and Settings\kim\Local Settings\Application Data\Microsoft\Windows\UsrClass.dat",
            "kim",
        ),
    ] {
        let case = with("[windows]\n", dirty, path);
        case.refused(&format!("the hive {path} was not closed cleanly"));
        case.refused(&format!("log on to the profile {who} and off again"));
        case.refused("or use windows.sid = \"keep\"");
        with("[windows]\n", damaged, path).refused(&format!("remove the profile {who}"));
        with("[windows]\nsid = 'keep'\n", dirty, path).fine();
    }
    let old = r"Windows.old\Windows\System32\config\SOFTWARE";
    with("[windows]\n", dirty, old).refused("start the master once, shut it down");
}
