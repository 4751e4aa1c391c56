//! Tests of a job's text: it is read back as the same job, and invalid text is refused.

use firstboot::job::{
    Action, End, Group, Job, JobError, Mac, Network, OnError, OnExists, ReportTo, Run, Secret,
    StaticAddress, Step, User,
};
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

fn example() -> Job {
    Job {
        steps: vec![
            Step {
                id: "net.1".into(),
                action: Action::Network(Network {
                    mac: Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]),
                    address: Some(StaticAddress {
                        address: Ipv4Addr::new(10, 20, 0, 50),
                        prefix: 24,
                        gateway: Some(Ipv4Addr::new(10, 20, 0, 1)),
                    }),
                    dns: vec![Ipv4Addr::new(10, 20, 0, 2)],
                    suffix: Some("lab.example".into()),
                    search: vec!["corp.example".into()],
                }),
            },
            Step {
                id: "user.1".into(),
                action: Action::User(User {
                    name: "labadmin".into(),
                    full_name: Some("Lab".into()),
                    groups: vec![
                        Group::Sid(Group::ADMINISTRATORS.into()),
                        Group::Named("Technicians".into()),
                    ],
                    password: Some(Secret::new("back\\slash and =\ttab")),
                    on_exists: OnExists::Update,
                }),
            },
            Step {
                id: "join".into(),
                action: Action::Join {
                    blob: Secret::new("ARAIAMzMzMw="),
                },
            },
            Step {
                id: "drivers".into(),
                action: Action::InstallDrivers {
                    folder: r"C:\ProgramData\diskcast\drivers".into(),
                },
            },
            Step {
                id: "run.1".into(),
                action: Action::Run(Run {
                    command: r"msiexec /i C:\Deploy\app.msi /qn".into(),
                    timeout_seconds: 1200,
                    ok_codes: vec![0, -2_147_467_259],
                    reboot_codes: vec![3010],
                    on_error: OnError::Stop,
                }),
            },
        ],
        end: End::Shutdown,
        report: Some(ReportTo {
            consoles: vec![
                "10.20.0.2:5003".parse().unwrap(),
                "[fd00::2]:5003".parse().unwrap(),
            ],
            job: 17,
            target: "4c4c4544-0042".into(),
            key: Secret::new("0123456789abcdef".repeat(4)),
        }),
    }
}

/// Machines in the field read texts of older consoles: this text must stay valid as version 1.
const VERSION_1: &str = "\
diskcast-firstboot 1
end shutdown

report 17
console 10.20.0.2:5003
console [fd00::2]:5003
target 4c4c4544-0042
key =0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef

step net.1 network
mac 52:54:00:12:34:56
address 10.20.0.50/24
gateway 10.20.0.1
dns 10.20.0.2
suffix lab.example
search corp.example

step user.1 user
name labadmin
full-name Lab
group S-1-5-32-544
group-name Technicians
password =back\\\\slash and =\\ttab
on-exists update

step join join
blob =ARAIAMzMzMw=

step drivers install-drivers
folder C:\\\\ProgramData\\\\diskcast\\\\drivers

step run.1 run
command msiexec /i C:\\\\Deploy\\\\app.msi /qn
timeout 1200
ok 0
ok -2147467259
reboot 3010
on-error stop

steps 5
";

#[test]
fn the_text_of_version_1() {
    assert_eq!(example().encode().unwrap(), VERSION_1);
    assert_eq!(Job::parse(VERSION_1).unwrap(), example());
}

#[test]
fn no_secret_is_shown() {
    let shown = format!("{:?}", example());
    assert!(
        !shown.contains("slash") && !shown.contains("ARAI") && !shown.contains("abcdef"),
        "{shown}"
    );
    let broken = VERSION_1.replace("password =back", "password back");
    let error = Job::parse(&broken).unwrap_err();
    assert_eq!(
        error,
        JobError::Step {
            id: "user.1".into(),
            reason: "a secret begins with '='".into()
        }
    );
}

#[test]
fn every_cut_is_noticed() {
    for length in 0..VERSION_1.len() - 1 {
        assert!(
            Job::parse(&VERSION_1[..length]).is_err(),
            "cut to {length} bytes"
        );
    }
    // Only the newline of the last line may be missing.
    assert!(Job::parse(VERSION_1.trim_end()).is_ok());
}

#[test]
fn what_must_not_be_is_refused_by_name() {
    let cases = [
        ("diskcast-firstboot 1", "hello 1", "not a first-boot job"),
        (
            "diskcast-firstboot 1",
            "diskcast-firstboot 2",
            "version \"2\"",
        ),
        ("end shutdown\n", "", "no end action"),
        ("end shutdown", "end explode", "none, restart, shutdown"),
        ("steps 5", "steps 4", "cut"),
        ("steps 5\n", "steps 5\nend none\n", "after the last line"),
        ("step join join", "step join enter", "unknown kind"),
        ("step join join", "step net.1 join", "twice"),
        ("step join join", "step Join join", "an id is"),
        ("name labadmin", "nick labadmin", "unknown key"),
        (
            "name labadmin",
            "name labadmin\nname root",
            "name is there twice",
        ),
        (
            "name labadmin",
            "name LAB\\\\labadmin",
            "cannot be in the name",
        ),
        (
            "name labadmin",
            "name abcdefghijklmnopqrstu",
            "21 characters",
        ),
        ("name labadmin", "name a\\nb", "control character"),
        ("name labadmin", "name a\tb", "not escaped"),
        ("name labadmin", "name a\\xb", "unknown escape"),
        ("name labadmin", "name a\\u{110000}", "escape"),
        ("group S-1-5-32-544", "group Administrators", "not a SID"),
        (
            "address 10.20.0.50/24",
            "address 10.20.0.50/33",
            "1 to 32 bits",
        ),
        ("address 10.20.0.50/24\n", "", "gateway without an address"),
        ("suffix lab.example", "suffix lab & del", "not a DNS suffix"),
        (
            "mac 52:54:00:12:34:56",
            "mac 52:54:00:12:34",
            "unreadable mac",
        ),
        ("blob =ARAIAMzMzMw=", "blob =AR AI", "not base64"),
        ("timeout 1200", "timeout 0", "1 to 86400"),
        ("timeout 1200", "timeout +5", "a number"),
        ("ok 0\nok -2147467259\nreboot 3010\n", "", "no exit code"),
        ("report 17", "report x", "report: a number"),
        ("report 17", "report 18446744073709551616", "too large"),
        (
            "report 17\n",
            "report 17\nreport 17\n",
            "report: target is missing",
        ),
        (
            "\nsteps 5",
            "\nreport 17\nsteps 5",
            "twice, or behind a step",
        ),
        ("10.20.0.2:5003", "10.20.0.2", "unreadable console"),
        ("10.20.0.2:5003", "console.lab:5003", "unreadable console"),
        (
            "console 10.20.0.2:5003\nconsole [fd00::2]:5003\n",
            "",
            "1 to 8 addresses of the console, not 0",
        ),
        ("target 4c4c4544-0042\n", "", "target is missing"),
        ("target 4c4c4544-0042", "target  ", "target is empty"),
        ("key =0123", "key 0123", "a secret begins"),
        ("key =0123", "key =123", "64 small hex digits"),
        ("key =0123", "key =A123", "64 small hex digits"),
        ("key =0123", "reply =0123", "unknown key"),
        ("step join join", "step report join", "the report alone"),
    ];
    for (from, to, expected) in cases {
        assert!(VERSION_1.contains(from), "{from}");
        let error = Job::parse(&VERSION_1.replacen(from, to, 1))
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{to:?}: {error}");
    }
}

#[test]
fn what_must_not_be_is_not_written_either() {
    let mut job = example();
    job.steps[1].id = "net.1".into();
    assert!(job.encode().is_err());
    let mut job = example();
    job.steps = vec![job.steps.remove(3); 300];
    assert_eq!(job.encode(), Err(JobError::TooManySteps));
}

fn words() -> impl Strategy<Value = String> {
    "[a-zA-Zäß %&'()\\\\=*#-]{0,40}x"
}

fn domain() -> impl Strategy<Value = String> {
    "[a-z0-9][a-z0-9.-]{0,20}"
}

fn secret() -> impl Strategy<Value = Secret> {
    // Any text from a keyboard or a password manager, line ends and control characters included,
    // but no zero.
    prop_oneof![
        4 => "\\PC{0,30}".prop_map(Secret::new),
        2 => "[\u{1}-\u{a0}*=\\\\]{0,30}".prop_map(Secret::new),
        1 => Just(Secret::Wiped),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    let address = (any::<u32>(), 1..=32_u8, proptest::option::of(any::<u32>())).prop_map(
        |(address, prefix, gateway)| StaticAddress {
            address: address.into(),
            prefix,
            gateway: gateway.map(Ipv4Addr::from),
        },
    );
    let network = (
        any::<[u8; 6]>(),
        proptest::option::of(address),
        proptest::collection::vec(any::<u32>().prop_map(Ipv4Addr::from), 0..4),
        proptest::option::of(domain()),
        proptest::collection::vec(domain(), 0..4),
    )
        .prop_map(|(mac, address, dns, suffix, search)| {
            Action::Network(Network {
                mac: Mac(mac),
                address,
                dns,
                suffix,
                search,
            })
        });
    let group = prop_oneof![
        Just(Group::Sid(Group::REMOTE_DESKTOP.into())),
        words().prop_map(Group::Named)
    ];
    let on_exists = prop_oneof![
        Just(OnExists::Update),
        Just(OnExists::Skip),
        Just(OnExists::Fail)
    ];
    let user = (
        "[a-zA-Zä._ -]{0,19}u",
        proptest::option::of(words()),
        proptest::collection::vec(group, 0..4),
        proptest::option::of(secret()),
        on_exists,
    )
        .prop_map(|(name, full_name, groups, password, on_exists)| {
            Action::User(User {
                name,
                full_name,
                groups,
                password,
                on_exists,
            })
        });
    let run = (
        words(),
        1..=86_400_u32,
        proptest::collection::vec(any::<i32>(), 1..5),
        proptest::collection::vec(any::<i32>(), 0..5),
        prop_oneof![Just(OnError::Stop), Just(OnError::Continue)],
    )
        .prop_map(
            |(command, timeout_seconds, ok_codes, reboot_codes, on_error)| {
                Action::Run(Run {
                    command,
                    timeout_seconds,
                    ok_codes,
                    reboot_codes,
                    on_error,
                })
            },
        );
    prop_oneof![
        network,
        user,
        run,
        words().prop_map(|folder| Action::InstallDrivers { folder }),
        "[a-zA-Z0-9+/]{1,60}={0,2}".prop_map(|blob| Action::Join {
            blob: Secret::new(blob)
        }),
    ]
}

fn report() -> impl Strategy<Value = ReportTo> {
    let address = prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(IpAddr::from)
    ];
    let console = (address, any::<u16>()).prop_map(SocketAddr::from);
    let key = prop_oneof!["[0-9a-f]{64}".prop_map(Secret::new), Just(Secret::Wiped)];
    let consoles = proptest::collection::vec(console, 1..=8);
    (consoles, any::<u64>(), words(), key).prop_map(|(consoles, job, target, key)| ReportTo {
        consoles,
        job,
        target,
        key,
    })
}

fn job() -> impl Strategy<Value = Job> {
    let end = prop_oneof![Just(End::None), Just(End::Restart), Just(End::Shutdown)];
    let report = proptest::option::of(report());
    let actions = proptest::collection::vec(action(), 0..8);
    (actions, end, report).prop_map(|(actions, end, report)| Job {
        steps: actions
            .into_iter()
            .enumerate()
            .map(|(at, action)| Step {
                id: format!("step.{at}"),
                action,
            })
            .collect(),
        end,
        report,
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_as_the_same(job in job()) {
        let text = job.encode().unwrap();
        prop_assert_eq!(Job::parse(&text).unwrap(), job);
    }

    #[test]
    fn any_text_is_read_without_a_panic(text in "\\PC*") {
        let _ = Job::parse(&text);
    }

    #[test]
    fn a_damaged_text_is_refused_or_read_as_a_job_that_can_be_written(
        job in job(), at in any::<prop::sample::Index>(), byte in any::<u8>(), drop in any::<bool>()
    ) {
        let mut bytes = job.encode().unwrap().into_bytes();
        let at = at.index(bytes.len());
        if drop { bytes.remove(at); } else { bytes[at] = byte; }
        if let Ok(text) = String::from_utf8(bytes) {
            if let Ok(read) = Job::parse(&text) {
                prop_assert_eq!(Job::parse(&read.encode().unwrap()).unwrap(), read);
            }
        }
    }
}
