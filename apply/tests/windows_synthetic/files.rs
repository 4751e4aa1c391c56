//! Answer files, copied files, drivers and the first-boot job, and who may read them.

use super::*;

const EVERYONE: [u8; 12] = [1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];

const SYSTEM_ACCOUNT: [u8; 12] = [1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0];

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
