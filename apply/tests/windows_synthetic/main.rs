//! Windows steps on synthetic hives: cases that run on every machine, and cases that have to be
//! refused.

mod windows_lab;

use apply::Outcome;
use firstboot::job::{self, Job, ReportTo, Secret};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use template::first_start::{FirstStart, ReportKey};
use template::step::{
    Action, Answers, DriverFile, FirstBootAction, FirstBootEnd, FirstBootJob, FirstBootStep, Group,
    Ipv4Config, Nic, NicConfig, OnError, OnExists, Payload, User,
};
use windows_lab::volume::Mounted;
use windows_lab::{Lab, PARTITION, hives, hivexget, python, reglookup, said};

const MACHINE: [u32; 3] = [1111111111, 222222222, 3333333333];
const OLD_SID: &str = "S-1-5-21-1111111111-222222222-3333333333";
/// A SID whose text is shorter than the old one: strings and names change their length.
const NEW_SID: &str = "S-1-5-21-44-55-66";
const NEW: [u32; 3] = [44, 55, 66];
const CONFIG: &str = "Windows/System32/config";

/// A small SYSTEM hive, with `product` as its product type.
fn system(dir: &Path, product: &str) -> Vec<u8> {
    let product = format!("string:{product}");
    hives::build(
        dir,
        &hives::descriptor(&hives::sid(MACHINE, Some(1000))),
        &[
            (
                "Select",
                &[("Current", "dword:1"), ("LastKnownGood", "dword:1")],
            ),
            ("Setup", &[("UnattendFile", r"string:D:\other.xml")]),
            (
                r"ControlSet001\Control\ComputerName\ComputerName",
                &[("ComputerName", "string:MASTER")],
            ),
            (
                r"ControlSet001\Control\ProductOptions",
                &[("ProductType", &product)],
            ),
            (
                r"ControlSet001\Services\Tcpip\Parameters",
                &[("Hostname", "string:master")],
            ),
            (
                r"ControlSet001\Services\Tcpip6\Parameters",
                &[("Dhcpv6DUID", "hex:3:00,01")],
            ),
            (
                r"ControlSet001\Services\stornvme",
                &[("Start", "dword:3"), ("Type", "dword:1")],
            ),
            (
                r"ControlSet001\Services\stornvme\StartOverride",
                &[("0", "dword:3")],
            ),
            ("DriverDatabase", &[]),
        ],
    )
}

fn sam(dir: &Path) -> Vec<u8> {
    let account = [vec![0x5a; 40], hives::sid(MACHINE, None)[12..].to_vec()].concat();
    let account = hives::hex(3, &account);
    let members = format!(r"SAM\Domains\Builtin\Aliases\Members\{OLD_SID}");
    let admins = hives::hex(3, &[vec![0; 52], hives::sid(MACHINE, Some(500))].concat());
    hives::build(
        dir,
        &hives::descriptor(&hives::sid(MACHINE, Some(500))),
        &[
            (r"SAM\Domains\Account", &[("V", &account)]),
            (&format!(r"{members}\000001F4"), &[]),
            (r"SAM\Domains\Builtin\Aliases\00000220", &[("C", &admins)]),
        ],
    )
}

fn security(dir: &Path, domain: bool) -> Vec<u8> {
    let machine = hives::hex(0, &hives::sid(MACHINE, None));
    let domain = match domain {
        true => hives::hex(0, &hives::sid([7, 8, 9], None)),
        false => hives::hex(0, &[0; 4]),
    };
    let user = hives::sid(MACHINE, Some(1000));
    let right = hives::hex(0, &user);
    let account = format!(r"Policy\Accounts\{OLD_SID}-1000\Sid");
    hives::build(
        dir,
        &hives::descriptor(&user),
        &[
            (r"Policy\PolAcDmS", &[("", &machine)]),
            (r"Policy\PolPrDmS", &[("", &domain)]),
            (&account, &[("", &right)]),
        ],
    )
}

fn software(dir: &Path) -> Vec<u8> {
    let list = format!(r"Microsoft\Windows NT\CurrentVersion\ProfileList\{OLD_SID}-1000");
    let text = format!("string:before {OLD_SID}-1000 and {OLD_SID}1 after");
    hives::build(
        dir,
        &hives::descriptor(&hives::sid(MACHINE, Some(1000))),
        &[
            (r"Microsoft\Cryptography", &[("MachineGuid", "string:old")]),
            (
                &list,
                &[
                    ("ProfileImagePath", r"string:C:\Users\someone"),
                    ("text", &text),
                ],
            ),
        ],
    )
}

fn workstation(mib: u64, more: impl FnOnce(&Mounted)) -> Lab {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    Lab::new(mib, |mounted| {
        mounted.put(&format!("{CONFIG}/SYSTEM"), &system(dir, "WinNT"));
        mounted.put(&format!("{CONFIG}/SYSTEM.LOG1"), &[7; 4096]);
        mounted.put(&format!("{CONFIG}/SAM"), &sam(dir));
        mounted.put(&format!("{CONFIG}/SECURITY"), &security(dir, false));
        mounted.put(&format!("{CONFIG}/SOFTWARE"), &software(dir));
        more(mounted);
    })
}

fn name(name: &str) -> Action {
    Action::WindowsName {
        partition: PARTITION,
        name: name.to_uppercase(),
        dns_name: name.into(),
        suffix: None,
    }
}

fn new_sid(old: &str) -> Action {
    Action::WindowsSid {
        partition: PARTITION,
        old: old.into(),
        new: NEW_SID.into(),
    }
}

fn card() -> Nic {
    Nic {
        mac: "52:54:00:12:34:56".into(),
        config: NicConfig {
            ipv4: Ipv4Config::Static {
                address: Ipv4Addr::new(10, 20, 0, 50),
                prefix: 24,
                gateway: Some(Ipv4Addr::new(10, 20, 0, 1)),
            },
            dns: vec![Ipv4Addr::new(10, 20, 0, 2)],
            suffix: Some("lab.example".into()),
            search: Vec::new(),
        },
    }
}

/// Security descriptor of a file, read through ntfs-3g.
fn rights(mounted: &Mounted, path: &str) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    let path = mounted.path().join(path);
    let length = rustix::fs::getxattr(path, "system.ntfs_acl", &mut bytes[..]).unwrap();
    bytes.truncate(length);
    bytes
}

fn set_rights(path: &Path, descriptor: &[u8]) {
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(path, "system.ntfs_acl", descriptor, flags).unwrap();
}

/// Number of a file's MFT record.
fn number(mounted: &Mounted, path: &str) -> u64 {
    rustix::fs::stat(mounted.path().join(path)).unwrap().st_ino
}

fn names(descriptor: &[u8], sid: &[u8]) -> bool {
    descriptor.windows(sid.len()).any(|window| window == sid)
}

const EVERYONE: [u8; 12] = [1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
const SYSTEM_ACCOUNT: [u8; 12] = [1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0];
const USERS: [u8; 16] = [1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 0x21, 2, 0, 0];

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

const ANSWERS: &str = "
import sys, base64
import xml.etree.ElementTree as tree
u = '{urn:schemas-microsoft-com:unattend}'
root = tree.parse(sys.argv[1]).getroot()
for s in root.findall(u + 'settings'):
    for c in s.findall(u + 'component'):
        for e in c.iter():
            if e.text and e.text.strip():
                print(s.get('pass'), c.get('name').split('-')[-1], e.tag.replace(u, ''), e.text.strip())
value = root.find('.//' + u + 'LocalAccount/' + u + 'Password/' + u + 'Value').text
print(base64.b64decode(value).decode('utf-16-le'))
";

#[test]
fn answers_files_and_the_first_boot_job_lie_ready() {
    let mut lab = workstation(24, |mounted| {
        // An answer file as Setup leaves it after a first installation, with a prefix, in the last
        // of its places.
        let there = "<u:unattend xmlns:u='urn:schemas-microsoft-com:unattend'>\
            <u:settings pass='specialize' wasPassProcessed='true'>\
            <u:component name='Microsoft-Windows-Shell-Setup' processorArchitecture='amd64'>\
            <u:TimeZone>UTC</u:TimeZone><u:ComputerName>*</u:ComputerName></u:component></u:settings>\
            <u:settings pass='oobeSystem' wasPassProcessed='true'>\
            <u:component name='Microsoft-Windows-Shell-Setup' processorArchitecture='amd64'><u:AutoLogon><u:Username>pat</u:Username>\
            <u:Password>*SENSITIVE*DATA*DELETED*</u:Password></u:AutoLogon></u:component></u:settings></u:unattend>";
        mounted.put(
            "Windows/System32/Sysprep/Panther/unattend.xml",
            there.as_bytes(),
        );
        mounted.put(
            "ProgramData/diskcast/firstboot.journal",
            b"of another deployment",
        );
        mounted.put("deploy/app.msi", b"an older one");
    });
    let password = lab.secret("pw", "S3cret & \u{fc}nique");
    let blob = lab.secret("blob", "QkxPQg==");
    let user = User {
        name: "labadmin".into(),
        full_name: None,
        groups: vec![Group::Administrators],
        password: Some(password),
        on_exists: OnExists::Update,
    };
    let executable = lab.payload(
        "diskcast-firstboot.exe",
        &[b"MZ".to_vec(), vec![1; 3000]].concat(),
    );
    let app = lab.payload("app.msi", &[9; 70_000]);
    let inf = lab.payload("net.inf", b"[Version]");
    let steps = [
        ("net", FirstBootAction::Network(card())),
        ("user", FirstBootAction::User(user.clone())),
        ("join", FirstBootAction::Join { blob: blob.clone() }),
        ("drivers", FirstBootAction::InstallDrivers),
        (
            "run",
            FirstBootAction::Run {
                command: r"msiexec /i C:\Deploy\app.msi /qn".into(),
                timeout_seconds: 600,
                ok_codes: vec![0],
                reboot_codes: vec![3010],
                on_error: OnError::Continue,
            },
        ),
    ];
    let steps = steps.map(|(id, action)| FirstBootStep {
        id: id.into(),
        action,
    });
    let actions = [
        Action::CopyFile {
            partition: PARTITION,
            payload: app,
            to: r"C:\Deploy\App.msi".into(),
        },
        Action::CopyFile {
            partition: PARTITION,
            payload: inf.clone(),
            to: r"C:\New folder\x\net.inf".into(),
        },
        Action::WindowsStageDriver {
            partition: PARTITION,
            name: "net".into(),
            files: vec![DriverFile {
                name: "net.inf".into(),
                payload: inf,
            }],
        },
        Action::WindowsAnswerFile {
            partition: PARTITION,
            answers: Box::new(Answers {
                architecture: "amd64".into(),
                computer_name: Some("LAB-02".into()),
                workgroup: None,
                nics: vec![card()],
                users: vec![user],
                join_blob: Some(blob),
                locale: Some("de-DE".into()),
            }),
        },
        Action::FirstBoot {
            partition: PARTITION,
            job: FirstBootJob {
                steps: steps.into(),
                end: FirstBootEnd::Shutdown,
                report: true,
            },
            executable: Some(executable.clone()),
        },
    ];
    lab.first_start = Some(FirstStart {
        consoles: vec!["10.20.0.2:5003".into(), "10.21.0.2:5003".into()],
        job: 17,
        target: "T-1".into(),
        key: ReportKey::new([0xa5; 32]),
    });
    lab.all(&actions, Outcome::Applied);
    for line in &lab.said {
        assert!(
            !line.contains("S3cret") && !line.contains("QkxPQg") && !line.contains("a5a5"),
            "a secret in the log: {line}"
        );
    }

    let volume = lab.volume();
    lab.audit(&volume);
    assert_eq!(
        lab.cat(&volume, "deploy/app.msi"),
        [9; 70_000],
        "under the name that was there"
    );
    let answers = lab.dir.path().join("answers.xml");
    let text = lab.cat(&volume, "Windows/Panther/Unattend/Unattend.xml");
    std::fs::write(&answers, text).unwrap();
    let said = python("xml.etree", ANSWERS, &[&answers]).expect("python3, of Debian");
    for wanted in [
        "specialize Setup TimeZone UTC",
        "specialize Setup ComputerName LAB-02",
        "specialize TCPIP Identifier 52-54-00-12-34-56",
        "specialize TCPIP IpAddress 10.20.0.50/24",
        "specialize TCPIP NextHopAddress 10.20.0.1",
        "specialize Client IpAddress 10.20.0.2",
        "specialize UnattendedJoin AccountData QkxPQg==",
        "oobeSystem Setup Name labadmin",
        "oobeSystem Core UserLocale de-DE",
        "S3cret & \u{fc}niquePassword",
    ] {
        assert!(said.lines().any(|line| line == wanted), "{wanted}: {said}");
    }
    for gone in ["ComputerName *", "SENSITIVE", "AutoLogon"] {
        assert!(!said.contains(gone), "{gone}: {said}");
    }
    let text = std::fs::read_to_string(&answers).unwrap();
    assert!(!text.contains("wasPassProcessed"), "{text}");
    assert_eq!(text.matches("pass=\"specialize\"").count(), 1, "{text}");

    let job = lab.cat(&volume, "ProgramData/diskcast/firstboot.job");
    let job = Job::parse(&String::from_utf8(job).unwrap()).unwrap();
    assert_eq!(job.end, job::End::Shutdown);
    let ids: Vec<_> = job.steps.iter().map(|step| step.id.as_str()).collect();
    assert_eq!(ids, ["net", "user", "join", "drivers", "run"]);
    let report = ReportTo {
        consoles: vec![
            "10.20.0.2:5003".parse().unwrap(),
            "10.21.0.2:5003".parse().unwrap(),
        ],
        job: 17,
        target: "T-1".into(),
        key: Secret::new("a5".repeat(32)),
    };
    assert_eq!(job.report.as_ref(), Some(&report));
    match &job.steps[1].action {
        job::Action::User(user) => {
            assert_eq!(
                user.password.as_ref().unwrap().value(),
                Some("S3cret & \u{fc}nique")
            );
            assert_eq!(user.groups, [job::Group::Sid("S-1-5-32-544".into())]);
        }
        other => panic!("{other:?}"),
    }
    let system = lab.hive(&volume, "SYSTEM");
    // Setup would read the file that the registry names instead of ours.
    let setup = reglookup(&system, "/Setup");
    assert!(
        !setup.iter().any(|line| line.contains("UnattendFile")),
        "{setup:#?}"
    );
    let service = reglookup(&system, "/ControlSet001/Services/diskcast-firstboot");
    for wanted in [
        "Type,DWORD,0x00000010",
        "Start,DWORD,0x00000002",
        "ErrorControl,DWORD,0x00000001",
        "ObjectName,SZ,LocalSystem",
    ] {
        assert!(
            service
                .iter()
                .any(|line| line.ends_with(&format!("/{wanted}"))),
            "{wanted}: {service:#?}"
        );
    }
    {
        let mounted = Mounted::new(&volume);
        let folder = "ProgramData/diskcast";
        assert!(
            !mounted
                .path()
                .join(folder)
                .join("firstboot.journal")
                .exists()
        );
        let private = [
            "",
            "/firstboot.job",
            "/diskcast-firstboot.exe",
            "/drivers/net/net.inf",
        ];
        let private = private.map(|name| format!("{folder}{name}"));
        for path in private
            .iter()
            .map(String::as_str)
            .chain(["Windows/Panther/Unattend/Unattend.xml"])
        {
            let sd = rights(&mounted, path);
            assert!(
                names(&sd, &SYSTEM_ACCOUNT) && !names(&sd, &EVERYONE) && !names(&sd, &USERS),
                "{path}"
            );
            // Nothing is inherited from a folder that others may read.
            assert_eq!(sd[3] & 0x10, 0x10, "{path}");
        }
        for path in ["New folder", "New folder/x/net.inf"] {
            let sd = rights(&mounted, path);
            assert!(names(&sd, &USERS) && !names(&sd, &EVERYONE), "{path}");
        }
    }
    lab.all(&actions, Outcome::Unchanged);

    // A job that only reports.
    let alone = Action::FirstBoot {
        partition: PARTITION,
        job: FirstBootJob {
            report: true,
            ..FirstBootJob::default()
        },
        executable: Some(executable),
    };
    lab.all(&[alone], Outcome::Applied);
    let volume = lab.volume();
    let job = lab.cat(&volume, "ProgramData/diskcast/firstboot.job");
    let job = Job::parse(&String::from_utf8(job).unwrap()).unwrap();
    let expected = Job {
        report: Some(report),
        ..Job::default()
    };
    assert_eq!(job, expected);
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

/// Content of every file below `System32\config` of a volume.
fn config(lab: &Lab) -> BTreeMap<String, Vec<u8>> {
    let volume = lab.volume();
    let listed = said(
        "ntfsls",
        &["-p", &format!("/{CONFIG}"), &volume.display().to_string()],
    );
    let names = listed
        .lines()
        .map(str::trim)
        .filter(|name| !name.is_empty() && !name.starts_with('.'));
    names
        .map(|name| {
            (
                name.to_owned(),
                lab.cat(&volume, &format!("{CONFIG}/{name}")),
            )
        })
        .collect()
}

/// Each refusal names the cause and leaves every hive unchanged, without even a copy beside it.
#[test]
fn what_cannot_be_done_leaves_every_hive_as_it_was() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let replace = |name: &'static str, bytes: Vec<u8>| {
        move |mounted: &Mounted| mounted.put(&format!("{CONFIG}/{name}"), &bytes)
    };
    let mut damaged = system(dir, "WinNT");
    let at = damaged.windows(2).rposition(|w| w == b"nk").unwrap();
    damaged[at..at + 2].copy_from_slice(b"??");
    let mut dirty = system(dir, "WinNT");
    dirty[4] += 1;
    let sum = dirty[..508].chunks_exact(4).fold(0, |sum, word| {
        sum ^ u32::from_le_bytes(word.try_into().unwrap())
    });
    dirty[508..512].copy_from_slice(&sum.to_le_bytes());
    let workgroup = Action::WindowsWorkgroup {
        partition: PARTITION,
        name: "LAB".into(),
    };
    let storage = Action::WindowsStorage {
        partition: PARTITION,
        services: vec!["vmd".into()],
        critical_devices: Vec::new(),
    };
    let interface = Action::WindowsTcpip {
        partition: PARTITION,
        interface: "{00000000-0000-0000-0000-000000000000}".into(),
        config: card().config,
    };
    let no_program = Action::FirstBoot {
        partition: PARTITION,
        job: FirstBootJob::default(),
        executable: None,
    };
    let nowhere = Action::FirstBoot {
        partition: PARTITION,
        job: FirstBootJob {
            report: true,
            ..FirstBootJob::default()
        },
        executable: Some(Payload {
            name: "diskcast-firstboot.exe".into(),
            blake3: "00".repeat(32),
            bytes: 1,
        }),
    };
    type Fill = Box<dyn FnOnce(&Mounted)>;
    let put = |name, bytes| Box::new(replace(name, bytes)) as Fill;
    let cases: [(Fill, Vec<(Action, &str)>); 7] = [
        (put("SYSTEM", damaged), vec![(name("x"), "damaged")]),
        (
            put("SYSTEM", dirty),
            vec![(name("x"), "logs do not complete it")],
        ),
        (
            put("SYSTEM", b"text".to_vec()),
            vec![(name("x"), "not a registry hive")],
        ),
        (
            put("SYSTEM", system(dir, "LanmanNT")),
            vec![(new_sid(OLD_SID), "domain controller")],
        ),
        (
            put("SECURITY", security(dir, true)),
            vec![(workgroup, "member of a domain")],
        ),
        (
            Box::new(full),
            vec![(name("x"), "bytes free"), (new_sid(OLD_SID), "bytes free")],
        ),
        (
            Box::new(|_| {}),
            vec![
                (new_sid("S-1-5-21-1-2-3"), "inspect the image again"),
                (new_sid("S-1-5-32-544"), "no machine SID"),
                (storage, "no service vmd"),
                (interface, "does not know the interface"),
                (no_program, "diskcast-firstboot.exe"),
                (nowhere, "its order does not say where"),
            ],
        ),
    ];
    for (fill, refusals) in cases {
        let mut lab = workstation(8, fill);
        let before = config(&lab);
        assert_eq!(before.len(), 5);
        for (action, why) in refusals {
            let error = lab.run(&[action]).unwrap_err();
            assert!(error.to_string().contains(why), "{why}: {error}");
        }
        assert!(config(&lab) == before, "something was written");
    }
}

/// Fills the volume until a copy of a hive no longer fits.
fn full(mounted: &Mounted) {
    let free = || {
        let free = rustix::fs::statvfs(mounted.path()).unwrap();
        free.f_bavail * free.f_frsize
    };
    let keep = 256 << 10;
    let bytes = usize::try_from(free().saturating_sub(keep)).unwrap();
    mounted.put("fill", &vec![1; bytes]);
    assert!(free() < 1 << 20);
}
