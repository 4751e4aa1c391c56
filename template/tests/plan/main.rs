//! Plans: what they come to, printed, and every reason to refuse.

mod case;
mod drivers;
#[path = "../snapshot/mod.rs"]
mod snapshot;

use case::*;
use std::fmt::Write as _;
use template::answers::AnswerFileFound;
use template::findings::{
    Arch, CloudInit, Findings, Obstacle, ProductType, Setting, StorageService, Sudo, System,
    WindowsFindings, WindowsGroup,
};
use template::fstab;
use template::machine::{CopiedFile, Files, Machine, PciDevice};
use template::plan::{lines, secrets};
use template::step::{
    Action, AfterApply, FileSystem, FirstBootAction, FirstBootEnd, Group, Kept, MachinePlan, Step,
};

/// Everything at once.
fn full(case: Case, copy_to: &str) -> Case {
    let template = format!(
        "end = 'restart'\ngrow = '3'\n{NAME}{STATIC}{DOMAIN}{}{USER}\
         [[driver]]\npath = 'drivers/viostor'\nboot_critical = true\n[[driver]]\npath = 'drivers/other'\n\
         [[copy]]\nfrom = 'a.msi'\nto = '{copy_to}'\nexecute = true\narguments = 'X=1'\n\
         [[run]]\ncommand = 'echo done'\n",
        case.template
    );
    let mut other = package();
    for section in &mut other.infs[0].1.makers[0].sections {
        section
            .models
            .retain(|model| model.hardware_ids[0].ends_with("9A0B"));
    }
    Case {
        template,
        files: Files {
            copies: vec![one_file("a.msi")],
            drivers: vec![package(), other],
        },
        machine: Machine {
            pci: vec![
                device(0x1af4, 0x1001, 0x010000),
                device(0x144d, 0xa808, 0x010802),
            ],
            ..machine()
        },
        grown: Some(3),
        ..case
    }
}

#[test]
fn plans_as_they_are_printed() {
    let mut text = String::new();
    let mut show = |title: &str, case: &Case| {
        let _ = writeln!(text, "== {title}\n{}\n", lines(&case.plan()).join("\n"));
    };
    show(
        "windows, everything",
        &full(
            on_windows("[windows]\nsid = 'rewrite'\n"),
            "C:\\Deploy\\a.msi",
        ),
    );
    show(
        "windows, generalised, everything",
        &full(
            with_windows("[windows]\nsid = 'sysprep'\nlocale = 'de-DE'\n", |w| {
                w.generalised = true
            }),
            "C:\\Deploy\\a.msi",
        ),
    );
    show(
        "windows, a workgroup",
        &on_windows("[membership]\nworkgroup = 'ROOM1'\n"),
    );
    let mut seven = with_windows(NAME, |w| *w = windows_7());
    seven.machine.pci.push(device(0x8086, 0x7111, 0x010180));
    show("windows 7, a name", &seven);
    let mut files = on_linux(&format!(
        "end = 'none'\n{NAME}{STATIC}{USER}[[copy]]\nfrom = 'a'\nto = '/opt/a'\nexecute = true\n[[copy]]\nfrom = 'b'\nto = '/opt/b'\n\
         [[run]]\ncommand = 'true'\n"
    ));
    files.template = files
        .template
        .replace(", 'Technicians'", ", 'docker', 'users', 'power-users'");
    files.grown = Some(2);
    let part = |relative: &str| CopiedFile {
        relative: relative.into(),
        payload: payload(relative),
    };
    files.files.copies = vec![one_file("a"), vec![part("x/1.txt"), part("2.txt")]];
    show("linux, everything", &files);
    show(
        "linux, cloud-init",
        &with_linux(
            &format!("{NAME}{STATIC}[linux]\nmethod = 'cloud-init'\n"),
            |l| l.cloud_init = Some(CloudInit::default()),
        ),
    );
    show(
        "linux, cloud-init is told to leave things alone",
        &with_linux(&format!("{NAME}{STATIC}[[user]]\nname = 'lab'\n"), |l| {
            l.cloud_init = Some(CloudInit {
                accounts: vec!["ubuntu".into()],
                ..CloudInit::default()
            });
        }),
    );
    show(
        "refused",
        &with_windows(&format!("{NAME}{DOMAIN}[windows]\nsid = 'keep'\n"), |w| {
            w.domain = Some("old.example".into());
            w.edition = Some("Core".into());
            w.build = 26_100;
            w.obstacles = vec![];
        }),
    );
    snapshot::hold("plans/printed.txt", &text);
}

#[test]
fn the_whole_plan_crosses_as_json_and_comes_out_the_same_twice() {
    let case = full(
        on_windows("[windows]\nsid = 'rewrite'\n"),
        "C:\\Deploy\\a.msi",
    );
    let plan = case.plan();
    assert_eq!(case.plan(), plan);
    let json = serde_json::to_string_pretty(&plan).unwrap();
    assert_eq!(serde_json::from_str::<MachinePlan>(&json).unwrap(), plan);
    snapshot::hold("plans/windows.json", &json);
}

#[test]
fn a_template_that_changes_nothing_fits_any_image() {
    let mut case = on_windows("end = 'restart'\nimage = 'x'\n");
    assert_eq!(case.plan(), MachinePlan::default());
    case.findings = Findings::default();
    assert_eq!(case.plan(), MachinePlan::default());
    // Its partition may grow all the same.
    case.grown = Some(3);
    case.noted("it was not looked at");
    case.findings = findings(vec![]);
    assert_eq!(case.ids(), ["grow"]);
    case.grown = Some(1);
    case.noted("FAT cannot be made larger");
    case.grown = Some(4);
    case.noted("no file system that is known");
    case.findings.partitions[2]
        .obstacles
        .push(Obstacle::BitLocker);
    case.grown = Some(3);
    case.noted("encrypted by BitLocker");
}

#[test]
fn one_system_has_to_be_meant() {
    let mut case = on_windows(NAME);
    case.findings = findings(vec![]);
    case.refused("no system was found on the image");
    case.findings.partitions[1].obstacles.push(Obstacle::Luks);
    case.refused("partition 2: the volume is encrypted by LUKS");

    let dual = || {
        vec![
            System::Windows(Box::new(windows())),
            System::Linux(Box::new(linux())),
        ]
    };
    case.findings = findings(dual());
    case.refused("more than one system is on the image; say which with windows.partition or linux.partition; found: partition 3");
    let chosen = |template: &str| Case {
        findings: findings(dual()),
        ..on_windows(&format!("{NAME}{template}"))
    };
    assert!(
        chosen("[windows]\npartition = 3\n")
            .ids()
            .contains(&"windows.name".into())
    );
    assert!(
        chosen("[linux]\npartition = 2\n")
            .ids()
            .contains(&"linux.hostname".into())
    );
    chosen("[windows]\npartition = 2\n").refused("more than one system");
    chosen("[windows]\npartition = 3\n[linux]\npartition = 2\n").refused("name a system each");
    on_windows(&format!("{NAME}[windows]\npartition = 1\n"))
        .refused("windows.partition is 1, and no such system is there");
}

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
        // On the volume alone it counts as well, and twice is told once.
        let mut case = with_windows(NAME, |w| w.obstacles.push(obstacle.clone()));
        case.findings.partitions[2].obstacles.push(obstacle);
        assert_eq!(case.plan().refused.len(), 1);
    }
    let discard = format!("{NAME}[windows]\ndiscard_hibernation = true\n");
    let case = with_windows(&discard, |w| w.obstacles.push(Obstacle::Hibernated));
    assert_eq!(case.ids()[0], "windows.hibernation");
    // Once it is gone the volume may grow.
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
    // Without a word, a machine gets a SID of its own, and the plan says what that costs.
    let rewrites = |plan: &MachinePlan| {
        let is = |step: &Step| matches!(step.action, Action::WindowsSid { .. });
        plan.steps.iter().any(is)
    };
    let elsewhere = |w: &mut WindowsFindings| w.profiles_elsewhere = vec![r"D:\Users\pat".into()];
    for text in [NAME, &sid("auto"), &sid("rewrite")] {
        let plan = on_windows(text).noted("lose what they encrypted with DPAPI");
        assert!(rewrites(&plan), "{text}");
        with_windows(text, |w| w.product_type = ProductType::DomainController)
            .refused("domain controller");
        with_windows(text, elsewhere).refused(r"could not log on to them (D:\Users\pat)");
        let generalised = with_windows(text, |w| w.generalised = true).fine();
        assert!(!rewrites(&generalised), "{text}");
        // Rights on another volume of the image are not rewritten: that is said where they name this master, and only there.
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
    // A SID that cannot be read is refused where it was asked for, and where copies with one SID refuse each other.
    let unreadable = |w: &mut WindowsFindings| w.machine_sid = None;
    for text in [NAME, &sid("auto")] {
        let plan = with_windows(text, unreadable).noted("all copies keep what they have");
        assert!(!rewrites(&plan), "{text}");
        with_windows(text, |w| (w.machine_sid, w.build) = (None, 26_100))
            .refused("its SID cannot be read");
    }
    with_windows(&sid("keep"), elsewhere).fine();
    with_windows(&sid("keep"), unreadable).fine();
    // A re-run writes the same, another machine another.
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
    with_linux(&join, |_| {}).refused("it is not joined to corp.example; install realmd or adcli");
    with_linux(&join, |l| l.join_tools = vec!["realm".into()]).refused("join with a [[run]]");
    on_linux("[membership]\nworkgroup = 'W'\n").noted("the workgroup W is for Windows");
}

#[test]
fn what_was_not_handed_out_is_refused() {
    let mut case = on_windows(NAME);
    case.binding = None;
    case.refused("no name was handed out");
    let mut case = on_linux(STATIC);
    case.binding = None;
    case.refused("no address was handed out");
    let mut case = on_windows(NAME);
    case.binding.as_mut().unwrap().name = Some("SIXTEEN-LETTERS-X".into());
    case.refused("Windows takes 15");
    let mut case = on_linux(NAME);
    case.binding.as_mut().unwrap().name = Some("SIXTEEN-LETTERS-X".into());
    case.fine();
}

#[test]
fn cards() {
    let first_boot = |case: &Case| {
        let last = case
            .fine()
            .steps
            .into_iter()
            .rev()
            .find(|step| step.id == "firstboot");
        last.is_some_and(|step| step.what.contains("network.1"))
    };
    // A card the master knew is edited, another waits for first boot, and DHCP needs nothing.
    let known = with_windows(STATIC, |w| {
        w.interfaces[0].mac = Some("52:54:00:00:00:01".into())
    });
    assert!(known.ids().contains(&"windows.tcpip.1".into()) && !first_boot(&known));
    assert!(first_boot(&on_windows(STATIC)));
    let dhcp = "[network]\nmode = 'dhcp'\n";
    assert!(!first_boot(&on_windows(dhcp)));
    let known = with_windows(dhcp, |w| {
        w.interfaces[0].mac = Some("52:54:00:00:00:01".into())
    });
    assert!(known.ids().contains(&"windows.tcpip.1".into()));
    assert!(first_boot(&on_windows(&format!(
        "{dhcp}dns = ['10.0.0.1']\n"
    ))));

    on_windows(&format!("{dhcp}nic = 'mac:02:00:00:00:00:09'\n"))
        .refused("which this machine does not have (it has 52:54:00:00:00:01,");
    let mut none = on_linux(dhcp);
    (none.machine.macs, none.machine.boot_mac) = (vec![], None);
    none.refused("no network card that could be configured");
    let all = on_linux(&format!("{dhcp}nic = 'all'\n")).fine();
    let both = all
        .steps
        .iter()
        .any(|step| matches!(&step.action, Action::LinuxNetwork { nics, .. } if nics.len() == 2));
    assert!(both);
    with_linux(dhcp, |l| l.renderers.clear()).refused("nothing known configures its network");
}

#[test]
fn accounts() {
    let user = |rest: &str| format!("[[user]]\nname = {rest}\n");
    on_windows(&user("'a-name-of-more-than-20'")).refused("Windows takes 20");
    on_windows(&user("'a.'")).refused("ends with a dot");
    on_windows(&format!("{NAME}{}", user("'lab-07'"))).refused("the name of the machine");
    on_windows(&user("'gast'\non_exists = 'fail'")).refused("has an account gast already");
    on_windows(&user("'gast'\non_exists = 'skip'")).noted("stays as it is");
    on_linux(&user("'Lab Admin'")).refused("cannot be an account of Linux");
    on_linux(&user("'old'\non_exists = 'fail'")).refused("has an account old already");
    on_linux(&user("'old'\non_exists = 'skip'")).noted("stays as it is");
    with_linux(&user("'a'\ngroups = ['administrators']"), |l| {
        l.admin_group = None
    })
    .refused("neither a group sudo nor wheel");
}

/// A group the image lacks would end first boot, or Setup, on every machine.
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
    // Setup knows names alone, the first-boot program SIDs.
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
    // One that is served may carry the disk, unless it is known to hang on the other.
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
    // Hyper-V's second generation has no PCI at all.
    let mut hyper_v = with(vec![], |_| {});
    hyper_v.machine.model = Some("Microsoft Corporation Virtual Machine".into());
    assert_eq!(
        hyper_v.ids(),
        ["windows.storage", "windows.ids", "windows.sid"]
    );
    // Windows to 7 looks them up.
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

#[test]
fn files_and_programs() {
    let copy = |to: &str, rest: &str| format!("[[copy]]\nfrom = 'x'\nto = '{to}'\n{rest}");
    let with = |mut case: Case, files: Vec<CopiedFile>| {
        case.files.copies = vec![files];
        case
    };
    let part = |relative: &str| CopiedFile {
        relative: relative.into(),
        payload: payload(relative),
    };
    with(on_windows(&copy("/opt/x", "")), one_file("x"))
        .refused("is a path of Linux, and the image holds Windows");
    with(on_linux(&copy("C:\\x", "")), one_file("x"))
        .refused("is a path of Windows, and the image holds Linux");
    with(on_linux(&copy("/opt/x", "")), vec![]).refused("x has no file; check its path");
    with(on_windows(&copy("C:\\x", "")), vec![part("a/../../b")]).refused("would leave its place");
    with(on_windows(&copy("C:\\x", "")), vec![part("con.txt")]).refused("Windows cannot have");
    with(on_windows(&copy("C:\\x", "")), vec![part("a"), part("A")])
        .refused("two files would be C:\\x\\A");
    assert_eq!(
        with(on_linux(&copy("/x", "")), vec![part("a"), part("A")])
            .ids()
            .len(),
        4
    );
    with(
        on_linux(&copy("/x", "execute = true\n")),
        vec![part("a"), part("b")],
    )
    .refused("is a folder and cannot be run");
    let long = format!("[[run]]\ncommand = '{}'\n", "x".repeat(8001));
    on_windows(&long).refused("8001 characters, 8000 are the most");

    let command = |to: &str| {
        let case = with(
            on_windows(&copy(to, "execute = true\narguments = '/s'\n")),
            one_file("x"),
        );
        let plan = case.fine();
        let line = lines(&plan)
            .into_iter()
            .find(|line| line.contains("execute.1: run"))
            .unwrap();
        line.trim().trim_start_matches("execute.1: run ").to_owned()
    };
    for (to, want) in [
        (
            "C:/Deploy/app.MSI",
            "msiexec.exe /i \"C:\\Deploy\\app.MSI\" /qn /norestart /s",
        ),
        ("C:\\a b\\setup.exe", "\"C:\\a b\\setup.exe\" /s"),
        (
            "C:\\x.ps1",
            "powershell.exe -NoProfile -NonInteractive -ExecutionPolicy Bypass -File \"C:\\x.ps1\" /s",
        ),
        ("C:\\x.reg", "reg.exe import \"C:\\x.reg\" /s"),
    ] {
        assert_eq!(command(to), want);
    }
}

#[test]
fn first_boot_has_to_be_possible() {
    let run = "[[run]]\ncommand = 'x'\n";
    with_windows(run, |w| w.arch = Arch::X86)
        .refused("the first-boot program needs 64-bit Windows 7");
    with_windows(run, |w| w.version = (6, 0))
        .refused("the first-boot program needs 64-bit Windows 7");
    with_linux(run, |l| l.systemd = false)
        .refused("it has no systemd, so nothing can run at first boot");
    with_linux("[linux]\nregenerate = []\n", |l| l.systemd = false).fine();
    with_linux("[linux]\nmethod = 'cloud-init'\n", |_| {})
        .refused("linux.method is cloud-init, and the image has none");
    with_windows(NAME, |w| (w.generalised, w.version) = (true, (5, 1)))
        .refused("answer files are known for");
    with_windows(NAME, |w| (w.generalised, w.arch) = (true, Arch::Other))
        .refused("answer files are known for");
}

#[test]
fn cloud_init_is_given_nothing_that_it_would_not_take() {
    let found = |change: fn(&mut CloudInit)| {
        let mut found = CloudInit::default();
        change(&mut found);
        Some(found)
    };
    let seed = format!("{NAME}{STATIC}[linux]\nmethod = 'cloud-init'\n");
    with_linux(&seed, |l| {
        l.cloud_init = found(|c| c.disabled_by = Some("/etc/cloud/cloud-init.disabled".into()))
    })
    .refused("it is disabled by /etc/cloud/cloud-init.disabled");
    with_linux(&seed, |l| {
        l.cloud_init = found(|c| c.network_loses = vec!["x says network:".into()])
    })
    .refused("would not take what it is given: x says network:; use linux.method = \"auto\"");
    with_linux(&seed, |l| {
        l.cloud_init = found(|c| c.name_loses = vec!["y".into()])
    })
    .refused("would not take what it is given: y");
    // Nothing is said of addresses.
    let name_only = format!("{NAME}[linux]\nmethod = 'cloud-init'\n");
    with_linux(&name_only, |l| {
        l.cloud_init = found(|c| c.network_loses = vec!["x".into()])
    })
    .fine();

    let setting = |key: &str, value: &str| Setting {
        place: "/etc/cloud/cloud.cfg.d/zzzz.cfg".into(),
        key: key.into(),
        value: value.into(),
    };
    let stronger = |key: &str, value: &str, made: bool| {
        Some(CloudInit {
            stronger: vec![setting(key, value)],
            accounts_made: made,
            ..CloudInit::default()
        })
    };
    for (key, template) in [
        ("preserve_hostname", NAME),
        ("manage_etc_hosts", NAME),
        ("network", STATIC),
        ("ip", STATIC),
    ] {
        with_linux(template, |l| l.cloud_init = stronger(key, "", false)).refused(&format!(
            "/etc/cloud/cloud.cfg.d/zzzz.cfg says {key}, which counts more"
        ));
        with_linux("[linux]\nregenerate = []\n", |l| {
            l.cloud_init = stronger(key, "", false)
        })
        .fine();
    }
    let user = "[[user]]\nname = 'lab'\n";
    with_linux(user, |l| l.cloud_init = stronger("users", "lab", false))
        .refused("says users with lab");
    with_linux(user, |l| l.cloud_init = stronger("users", "lab", true))
        .noted("makes the account lab again");
    with_linux(user, |l| l.cloud_init = stronger("users", "ann", false))
        .noted("makes the account ann again");

    let accounts = |made| {
        Some(CloudInit {
            accounts: vec!["ubuntu".into()],
            accounts_made: made,
            ..CloudInit::default()
        })
    };
    with_linux(NAME, |l| l.cloud_init = accounts(true))
        .noted("the distribution's account stays as the master has it, password included: ubuntu");
    with_linux(NAME, |l| l.cloud_init = accounts(false))
        .noted("makes the distribution's account at the first start: ubuntu");
    with_linux(user, |l| l.cloud_init = accounts(false))
        .noted("makes no accounts of its configuration any more (ubuntu)");
    // Auto is files wherever cloud-init is, and it is told so.
    let plan = with_linux(&format!("{NAME}{STATIC}{user}"), |l| {
        l.cloud_init = accounts(false)
    })
    .fine();
    let kept = plan.steps.iter().find_map(|step| match &step.action {
        Action::LinuxCloudInitKeeps { keeps, .. } => Some(keeps.clone()),
        _ => None,
    });
    assert_eq!(
        kept,
        Some(vec![
            Kept::Name,
            Kept::Network,
            Kept::Accounts,
            Kept::HostKeys
        ])
    );
    assert!(
        !plan
            .steps
            .iter()
            .any(|step| matches!(step.action, Action::LinuxCloudInit { .. }))
    );
}

#[test]
fn a_network_that_is_not_written_for_is_refused_by_name() {
    with_linux(STATIC, |l| l.network_by = Some("wicked".into()))
        .refused("wicked configures its network");
    with_linux(STATIC, |l| {
        l.beyond_cards = vec!["/etc/netplan/a.yaml (bridges: br0)".into()]
    })
    .refused("would lose their cards (/etc/netplan/a.yaml (bridges: br0))");
    with_linux(STATIC, |l| (l.systemd, l.udev) = (false, false))
        .refused("without udev none can be named by its MAC");
    with_linux(STATIC, |l| (l.systemd, l.udev) = (false, true)).fine();
    with_linux(STATIC, |l| l.renderers = Vec::new())
        .refused("nothing known configures its network");
    // Nothing is said of addresses.
    with_linux(NAME, |l| l.network_by = Some("wicked".into())).fine();
}

#[test]
fn administrators_are_refused_where_they_could_do_nothing() {
    let user = "[[user]]\nname = 'lab'\ngroups = ['administrators']\n";
    with_linux(user, |l| l.admin_group = None).refused("has neither a group sudo nor wheel");
    with_linux(user, |l| l.sudo = None).refused("has no sudo, so nobody can be in administrators");
    let sudo = |grants, reads_folder| {
        Some(Sudo {
            grants,
            reads_folder,
        })
    };
    with_linux(user, |l| l.sudo = sudo(false, false)).refused("gives its administrators nothing");
    for (grants, reads_folder) in [(true, false), (false, true)] {
        let plan = with_linux(user, |l| l.sudo = sudo(grants, reads_folder)).fine();
        // Not by the group's name: whoever carries it out sees to the rights as well.
        let groups = plan.steps.iter().find_map(|step| match &step.action {
            Action::LinuxUser { user, .. } => Some(user.groups.clone()),
            _ => None,
        });
        assert_eq!(groups, Some(vec![Group::Administrators]));
    }
}

#[test]
fn what_the_agent_would_refuse_on_linux_is_refused_before_anything_is_sent() {
    let user =
        |name: &str, group: &str| format!("[[user]]\nname = '{name}'\ngroups = ['{group}']\n");
    on_linux(&user("lab", "Docker")).refused(
        "user 1: partition 2 (Debian GNU/Linux 12 (bookworm)) has no group Docker; it has docker",
    );
    on_linux(&user("lab", "wireshark")).refused("has no group wireshark");
    on_linux(&user("lab", "lab")).fine();
    on_linux(&user("www-data", "docker")).refused("www-data is an account of partition 2");
    with_linux("", |l| l.host_keys = false).fine();
    with_linux(NAME, |l| l.host_keys = false)
        .refused("leave ssh-host-keys out of linux.regenerate");
    with_linux(
        &format!("{NAME}[linux]\nregenerate = ['machine-id']\n"),
        |l| l.host_keys = false,
    )
    .fine();

    let mount = |volume: fstab::Name, path: &str| fstab::Entry {
        volume,
        path: path.into(),
        subvolume: false,
    };
    let lvm = |path: &str| mount(fstab::Name::Other("/dev/mapper/vg-x".into()), path);
    let copy = |to: &str| format!("[[copy]]\nfrom = 'a'\nto = '{to}'\n");
    let at = |template: &str, mounts: Vec<fstab::Entry>| {
        let mut case = with_linux(template, |l| l.mounts = mounts);
        case.files.copies = vec![one_file("a")];
        case.findings.partitions[0] = partition(1, Some(FileSystem::Xfs));
        case.findings.partitions[0].uuid = Some("ABCD".into());
        case
    };
    at(&copy("/srv/a"), vec![lvm("/srv")])
        .refused("/srv/a would lie on /dev/mapper/vg-x, which is mounted at /srv");
    at(&copy("/srva"), vec![lvm("/srv")])
        .noted("/srv lies on /dev/mapper/vg-x and stays as the master has it");
    at(
        &copy("/srv/a"),
        vec![mount(fstab::Name::Uuid("abcd".into()), "/srv")],
    )
    .fine();
    at(&user("lab", "docker"), vec![lvm("/home")])
        .refused("the home of a new account, /home/lab, would lie on /dev/mapper/vg-x");
    at("[[run]]\ncommand = 'x'\n", vec![lvm("/var")])
        .refused("what runs at first boot, in /var/lib/diskcast, would lie on");
    at(NAME, vec![lvm("/boot")]).fine();

    let mut large = at(&copy("/opt/a"), Vec::new());
    large.files.copies[0][0].payload.bytes = (1 << 30) + 1;
    large.refused("1073745920 bytes, and 1073741824 are free");
    large.grown = Some(2);
    large.fine();
}

#[test]
fn ids_of_storage_and_management_are_renewed_and_a_keytab_is_named() {
    let case = with_linux(NAME, |l| {
        l.host_ids = vec!["/etc/nvme/hostid".into()];
        l.keytab = true;
    });
    case.noted("/etc/krb5.keytab has the keys of the master");
    assert!(case.ids().contains(&"linux.host-ids".to_owned()));
    let kept = with_linux("[linux]\nregenerate = []\n", |l| {
        l.host_ids = vec!["/etc/nvme/hostid".into()]
    });
    assert_eq!(kept.ids(), [""; 0]);
}

#[test]
fn the_end_action_goes_where_the_last_step_is() {
    for (word, want) in [
        ("shutdown", FirstBootEnd::Shutdown),
        ("restart", FirstBootEnd::Restart),
        ("none", FirstBootEnd::None),
    ] {
        let plan = on_windows(&format!("end = '{word}'\n[[run]]\ncommand = 'x'\n")).fine();
        assert_eq!(plan.after, AfterApply::RestartForFirstBoot);
        let end = plan.steps.into_iter().find_map(|step| match step.action {
            Action::FirstBoot { job, .. } => Some(job.end),
            _ => None,
        });
        assert_eq!(end, Some(want));
        assert_eq!(
            on_windows(&format!("end = '{word}'\n{NAME}")).fine().after,
            AfterApply::EndAction
        );
    }
}

#[test]
fn secrets_are_named_and_never_held() {
    let named = |case: &Case| -> Vec<String> {
        let plan = case.fine();
        assert!(!serde_json::to_string(&plan).unwrap().contains("ref:"));
        secrets(&plan)
            .iter()
            .map(|(name, form)| format!("{} {form:?}", name.0))
            .collect()
    };
    let template = format!("{NAME}{DOMAIN}{USER}");
    assert_eq!(
        named(&on_windows(&template)),
        ["join.blob JoinBlob", "user.labadmin.password Password"]
    );
    assert_eq!(
        named(&with_windows(&template, |w| w.generalised = true)),
        ["user.labadmin.password Password", "join.blob JoinBlob"]
    );
    assert_eq!(named(&on_linux(USER)), ["user.labadmin.password CryptHash"]);
}

#[test]
fn a_suffix_needs_a_place_to_be() {
    let suffix = "[network]\nsuffix = 'lab.example'\n";
    // Without a name the master's stays.
    let plan = on_windows(suffix).fine();
    let named = plan.steps.iter().any(|step| {
        matches!(&step.action, Action::WindowsName { name, suffix: Some(_), .. } if name == "MASTER")
    });
    assert!(named);
    with_windows(suffix, |w| w.generalised = true).noted("network.suffix is left out");
    on_linux(suffix).noted("network.suffix is left out");
}
