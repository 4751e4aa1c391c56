//! Tests of the first-start report with real shells, real programs, and a console that verifies it.

mod console;

use super::super::test_machine::Machine;
use super::*;
use console::{Console, Manner, key};
use firstboot::report::{self, Outcome, Report, System};
use std::path::PathBuf;
use template::step::{FirstBootAction, FirstBootEnd, FirstBootJob, FirstBootStep, OnError};

const SHELLS: [&[&str]; 3] = [&["dash"], &["bash", "--posix"], &["busybox", "sh"]];

/// Programs that the script needs besides one that connects to the console, all in Debian's
/// smallest system.
const TOOLS: &str =
    "cat cut date grep head ip mkdir mv rm sed sh sha256sum sleep sort sync timeout tr wc";

fn program(name: &str) -> PathBuf {
    std::env::split_paths(&std::env::var_os("PATH").unwrap())
        .map(|folder| folder.join(name))
        .find(|path| path.exists() && !path.display().to_string().contains("pyenv"))
        .unwrap_or_else(|| panic!("{name} is not installed here"))
}

fn job(commands: &[(&str, OnError)], end: FirstBootEnd) -> FirstBootJob {
    let step = |(number, (command, on_error)): (usize, &(&str, OnError))| FirstBootStep {
        id: format!("run.{}", number + 1),
        action: FirstBootAction::Run {
            command: (*command).into(),
            timeout_seconds: 20,
            ok_codes: vec![0],
            reboot_codes: vec![9],
            on_error: *on_error,
        },
    };
    FirstBootJob {
        steps: commands.iter().enumerate().map(step).collect(),
        end,
        report: true,
    }
}

/// A machine with two cards, one of them virtual, and with no other programs than those in `tools`.
fn machine(job: &FirstBootJob, first_start: &FirstStart, tools: &str) -> Machine {
    let machine = Machine::new(job, Some(first_start));
    machine.change(":/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "");
    machine.change("waits='0 5 10 20 30 40 50 60'", "waits='0 0 0 0 50'");
    machine.change("sleep \"$pause\"", "sleep 0");
    for tool in tools.split(' ').filter(|tool| *tool != "ip") {
        let at = machine.path(&format!("bin/{tool}"));
        std::os::unix::fs::symlink(program(tool), at).unwrap();
    }
    if tools.contains("ip ") {
        machine.program(
            "ip",
            "cat <<END\n\
             2: eth0    inet 10.0.0.7/24 brd 10.0.0.255 scope global dynamic eth0\\       valid_lft 1sec\n\
             2: eth0    inet6 fd00::7/64 scope global \\       valid_lft forever preferred_lft forever\n\
             3: docker0    inet 172.17.0.1/16 brd 172.17.255.255 scope global docker0\\  valid_lft forever\n\
             4: br0    inet 10.1.0.7/16 brd 10.1.255.255 scope global br0\\  valid_lft forever\n\
             END",
        );
    }
    machine.put("proc/sys/kernel/hostname", "lab-07.example\n");
    machine.put("machine-id", "0123456789abcdef0123456789abcdef\n");
    for (card, mac) in [
        ("eth0", "52:54:00:12:34:56"),
        ("docker0", "02:42:00:00:00:01"),
        ("br0", "52:54:00:12:34:57"),
    ] {
        machine.put(
            &format!("sys/class/net/{card}/address"),
            &format!("{mac}\n"),
        );
    }
    machine.put("sys/class/net/eth0/device/vendor", "0x1af4\n");
    machine.put("sys/class/net/br0/lower_eth1/device/vendor", "0x1af4\n");
    machine.put("sys/class/net/docker0/lower_veth1/address", "\n");
    machine.put(
        "proc/net/fib_trie",
        "Main:\n  +-- 10.0.0.0/24 2 0 1\n     |-- 10.0.0.0\n        /24 link UNICAST\n     |-- 10.0.0.7\n        \
         /32 host LOCAL\nLocal:\n        |-- 127.0.0.1\n           /32 host LOCAL\n     |-- 10.0.0.7\n        \
         /32 host LOCAL\n     |-- 172.17.0.1\n        /32 host LOCAL\n     |-- 10.1.0.7\n        /32 host LOCAL\n",
    );
    machine.put(
        "proc/net/route",
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
         eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
         eth0\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
         docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
         br0\t0000010A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n",
    );
    machine.put(
        "proc/net/if_inet6",
        "00000000000000000000000000000001 01 80 10 80       lo\n\
         fd000000000000000000000000000007 02 40 00 82     eth0\n\
         fe8000000000000000fc00fffe000001 02 40 20 80     eth0\n",
    );
    machine
}

fn whole(way: &str) -> String {
    format!("{TOOLS} {way}")
}

fn expected(result: Outcome) -> Report {
    let address = |mac: &str, ip: &str, prefix| report::Address {
        mac: mac.parse().unwrap(),
        ip: ip.parse().unwrap(),
        prefix,
    };
    Report {
        job: 17,
        target: "it's 4c4c4544-0042".into(),
        result,
        name: "lab-07".into(),
        system: System::Linux {
            machine_id: Some("0123456789abcdef0123456789abcdef".into()),
        },
        addresses: vec![
            address("52:54:00:12:34:56", "10.0.0.7", 24),
            address("52:54:00:12:34:56", "fd00::7", 64),
            address("52:54:00:12:34:57", "10.1.0.7", 16),
        ],
    }
}

/// RFC 4231: the cases whose key is no longer than a block.
#[test]
fn hmac_is_that_of_rfc_4231_in_every_shell() {
    let cases: [(Vec<u8>, Vec<u8>, &str); 4] = [
        (
            vec![0x0b; 20],
            b"Hi There".to_vec(),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
        ),
        (
            b"Jefe".to_vec(),
            b"what do ya want for nothing?".to_vec(),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        (
            vec![0xaa; 20],
            vec![0xdd; 50],
            "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
        ),
        (
            (1..=25).collect(),
            vec![0xcd; 50],
            "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
        ),
    ];
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    for (number, (secret, text, want)) in cases.iter().enumerate() {
        // Shorter keys are padded with zeros (RFC 2104).
        let mut bytes = [0; 32];
        bytes[..secret.len()].copy_from_slice(secret);
        std::fs::write(at("text"), text).unwrap();
        for digester in ["sha256sum", "busybox", "openssl"] {
            let script = format!(
                "digester={digester}\n{HASHES}{}hmac <'{}'\n",
                hmac(&ReportKey::new(bytes)),
                at("text")
            );
            let path = at("script");
            std::fs::write(&path, script).unwrap();
            for shell in SHELLS {
                let words = [&shell[1..], &[path.as_str()]].concat();
                let said = crate::program::run(shell[0], &words, crate::program::SHORT).unwrap();
                assert_eq!(
                    said.stdout.trim_end(),
                    *want,
                    "case {number}, {shell:?}, {digester}: {}",
                    said.said
                );
            }
        }
    }
    // Every byte a digest can hold.
    let digits: String = (0..=255_u8).map(|byte| format!("{byte:02x}")).collect();
    let path = at("script");
    std::fs::write(&path, format!("{HASHES}bytes {digits} >'{}'\n", at("out"))).unwrap();
    for shell in SHELLS {
        let words = [&shell[1..], &[path.as_str()]].concat();
        crate::program::run(shell[0], &words, crate::program::SHORT).unwrap();
        assert!(
            std::fs::read(at("out")).unwrap().into_iter().eq(0..=255),
            "{shell:?}"
        );
    }
}

#[test]
fn every_way_to_the_console_works_by_itself() {
    std::thread::scope(|scope| {
        for way in [
            "bash",
            "nc.openbsd",
            "nc.traditional",
            "busybox",
            "python3",
            "perl",
            "socat",
        ] {
            scope.spawn(move || {
                let console = Console::new(Manner::Heard);
                let tools = if way.starts_with("nc.") {
                    TOOLS.to_owned()
                } else {
                    whole(way)
                };
                let machine = machine(
                    &job(&[], FirstBootEnd::Restart),
                    &console.first_start(),
                    &tools,
                );
                if way.starts_with("nc.") {
                    std::os::unix::fs::symlink(program(way), machine.path("bin/nc")).unwrap();
                }
                assert_eq!(machine.start(), Some(0), "{way}: {}", machine.log());
                assert_eq!(
                    console.got(),
                    [expected(Outcome::Done)],
                    "{way}: {}",
                    machine.log()
                );
                assert_eq!(machine.text_of("asked"), "--no-block reboot\n", "{way}");
                assert!(machine.over(), "{way}");
                assert!(!machine.path("report").exists(), "{way}");
            });
        }
    });
}

/// Neither the padded key nor the key is ever seen by another program; only the script has it, and
/// the script is removed at the end.
#[test]
fn every_shell_reports_and_none_shows_the_key() {
    std::thread::scope(|scope| {
        for shell in SHELLS {
            scope.spawn(move || {
                let console = Console::new(Manner::Heard);
                let machine = machine(&job(&[("true", OnError::Stop)], FirstBootEnd::None), &console.first_start(), &whole("nc").replace("sha256sum ", ""));
                let at = machine.folder().display().to_string();
                machine.program(
                    "sha256sum",
                    &format!(
                        "for at in /proc/[0-9]*; do cat $at/cmdline $at/environ >>{at}/seen 2>/dev/null; done; exec {}",
                        program("sha256sum").display()
                    ),
                );
                let pads = hmac(&key());
                let pad = pads.split('\'').nth(1).unwrap();
                assert!(machine.text_of("firstboot.sh").contains(pad));
                assert_eq!(machine.start_by(shell), Some(0), "{shell:?}: {}", machine.log());
                assert_eq!(console.got(), [expected(Outcome::Done)], "{shell:?}: {}", machine.log());
                let seen = std::fs::read(machine.path("seen")).unwrap_or_default();
                let seen = String::from_utf8_lossy(&seen).into_owned() + &machine.log();
                assert!(shell[0] == "busybox" || seen.len() > 1000, "{shell:?}");
                assert!(!seen.contains(&pad[..40]) && !seen.contains(&key().hex()), "{shell:?}");
            });
        }
    });
}

#[test]
fn addresses_are_found_without_ip() {
    let console = Console::new(Manner::Heard);
    let machine = machine(
        &job(&[], FirstBootEnd::None),
        &console.first_start(),
        &whole("perl").replace("ip ", ""),
    );
    assert_eq!(machine.start(), Some(0), "{}", machine.log());
    let mut got = console.got();
    let mut want = vec![expected(Outcome::Done)];
    for report in got.iter_mut().chain(&mut want) {
        report.addresses.sort_by_key(|address| address.to_string());
    }
    assert_eq!(got, want, "{}", machine.log());
}

#[test]
fn a_failed_step_is_reported_by_its_id() {
    let failed = |reason: &str| Outcome::Failed {
        step: Some("run.2".into()),
        reason: reason.into(),
    };
    for (on_error, code, asked) in [
        (OnError::Stop, 1, ""),
        (OnError::Continue, 0, "--no-block poweroff\n"),
    ] {
        let console = Console::new(Manner::Heard);
        let steps = [
            ("true", OnError::Stop),
            ("exit 3", on_error),
            ("echo third", OnError::Stop),
        ];
        let machine = machine(
            &job(&steps, FirstBootEnd::Shutdown),
            &console.first_start(),
            &whole("nc"),
        );
        assert_eq!(machine.start(), Some(code), "{}", machine.log());
        assert_eq!(console.got(), [expected(failed("exit code 3"))]);
        assert_eq!(machine.text_of("asked"), asked);
        assert_eq!(
            machine.log().contains("\nthird\n"),
            on_error == OnError::Continue
        );
        assert!(machine.over());
    }
}

/// The end action does not wait for a console that cannot be reached; later starts only report.
#[test]
fn what_nobody_heard_is_tried_at_five_later_starts_and_then_everything_goes() {
    let console = Console::new(Manner::Forged);
    let steps = [
        ("echo one; exit 9", OnError::Stop),
        ("echo two", OnError::Stop),
    ];
    let machine = machine(
        &job(&steps, FirstBootEnd::Restart),
        &console.first_start(),
        &whole("nc"),
    );
    assert_eq!(machine.start(), Some(0));
    assert_eq!(
        console.got(),
        [],
        "the machine restarts before its job is over"
    );
    for start in 1..=STARTS {
        assert_eq!(machine.start(), Some(0), "{}", machine.log());
        assert_eq!(
            machine.over(),
            start == STARTS,
            "start {start}: {}",
            machine.log()
        );
        assert_eq!(
            machine.text_of("asked"),
            "--no-block reboot\n".repeat(2),
            "start {start}"
        );
    }
    let got = console.got();
    assert_eq!(got.len(), 5 * usize::try_from(STARTS).unwrap());
    assert!(got.iter().all(|report| *report == expected(Outcome::Done)));
    assert_eq!(machine.log().matches("\none\n").count(), 1);
    assert_eq!(machine.log().matches("\ntwo\n").count(), 1);
    assert!(!machine.path("report").exists());
}

#[test]
fn a_refusal_ends_it_at_once() {
    let console = Console::new(Manner::Refused);
    let machine = machine(
        &job(&[], FirstBootEnd::Shutdown),
        &console.first_start(),
        &whole("nc"),
    );
    assert_eq!(machine.start(), Some(0));
    assert_eq!(console.got().len(), 1);
    assert_eq!(machine.text_of("asked"), "--no-block poweroff\n");
    assert!(machine.over());
}

/// The console gives the same answer to a repeated report and refuses a different one, so the first
/// report is sent again even if the machine has changed since.
#[test]
fn an_answer_that_got_lost_is_asked_for_with_the_same_report() {
    let console = Console::new(Manner::Lost);
    let machine = machine(
        &job(&[], FirstBootEnd::None),
        &console.first_start(),
        &whole("nc"),
    );
    assert_eq!(machine.start(), Some(0));
    machine.put("proc/sys/kernel/hostname", "other\n");
    assert_eq!(machine.start(), Some(0));
    let got = console.got();
    assert_eq!(got.len(), 10);
    assert!(
        got.iter().all(|report| *report == expected(Outcome::Done)),
        "{got:?}"
    );
}

/// The report waits for a card whose address comes late; without any address it is still sent in
/// the end.
#[test]
fn a_report_waits_for_an_address_but_not_for_ever() {
    let console = Console::new(Manner::Heard);
    let tools = whole("nc").replace("ip ", "");
    let late = machine(
        &job(&[], FirstBootEnd::None),
        &console.first_start(),
        &tools,
    );
    let at = late.folder().display().to_string();
    late.program("ip", &format!(
        "echo asked >>{at}/looked\nif [ $(wc -l <{at}/looked) -gt 2 ]; then\necho '2: eth0    inet 10.0.0.7/24 scope global eth0'\nfi"
    ));
    for name in ["fib_trie", "route", "if_inet6"] {
        late.put(&format!("proc/net/{name}"), "");
    }
    assert_eq!(late.start(), Some(0));
    let got = console.got();
    assert_eq!(got.len(), 1, "{}", late.log());
    assert_eq!(got[0].addresses, expected(Outcome::Done).addresses[..1]);
    assert_eq!(late.text_of("looked").lines().count(), 3);

    let never = machine(
        &job(&[], FirstBootEnd::None),
        &console.first_start(),
        &tools,
    );
    for name in ["fib_trie", "route", "if_inet6"] {
        never.put(&format!("proc/net/{name}"), "");
    }
    assert_eq!(never.start(), Some(0));
    let got = console.got();
    assert_eq!(got.len(), 2, "{}", never.log());
    assert_eq!(got[1].addresses, []);
    assert!(late.over() && never.over());
}

/// Without a running console or a network the end action is still carried out.
#[test]
fn the_end_action_does_not_depend_on_a_network_or_a_way_to_report() {
    let first_start = FirstStart {
        consoles: vec!["127.0.0.1:1".into(), "127.0.0.2:1".into()],
        job: 17,
        target: "t-1".into(),
        key: key(),
    };
    let nobody = machine(
        &job(&[], FirstBootEnd::Restart),
        &first_start,
        &whole("bash"),
    );
    assert_eq!(nobody.start(), Some(0));
    assert_eq!(nobody.text_of("asked"), "--no-block reboot\n");
    assert!(!nobody.over());
    let no_way = machine(&job(&[], FirstBootEnd::Restart), &first_start, TOOLS);
    assert_eq!(no_way.start(), Some(0));
    assert_eq!(no_way.text_of("asked"), "--no-block reboot\n");
    assert!(
        no_way.over() && no_way.log().contains("is not reported"),
        "{}",
        no_way.log()
    );
}

/// cloud-init's last stage may still change the host name.
#[test]
fn the_name_is_that_after_cloud_init() {
    let console = Console::new(Manner::Heard);
    let machine = machine(
        &job(&[], FirstBootEnd::None),
        &console.first_start(),
        &whole("nc").replace("sleep ", ""),
    );
    let at = machine.folder().display().to_string();
    machine.put("run/cloud-init/enabled", "");
    machine.put("proc/sys/kernel/hostname", "master\n");
    machine.program("sleep", &format!(
        "if [ $1 = 5 ]; then echo lab-07 >{at}/proc/sys/kernel/hostname; : >{at}/run/cloud-init/result.json; fi"
    ));
    assert_eq!(machine.start(), Some(0));
    assert_eq!(
        console.got(),
        [expected(Outcome::Done)],
        "{}",
        machine.log()
    );
}

/// The power fails before each effect of the script in turn: no step is done twice, and the report
/// arrives.
#[test]
fn a_power_cut_loses_nothing_and_repeats_nothing() {
    for stop in [false, true] {
        let console = Console::new(Manner::Heard);
        let mut cut = 0;
        loop {
            cut += 1;
            let bad = if stop { "echo two; exit 4" } else { "echo two" };
            let steps = [("echo one", OnError::Stop), (bad, OnError::Stop)];
            let machine = machine(
                &job(&steps, FirstBootEnd::Restart),
                &console.first_start(),
                &whole("nc"),
            );
            let at = machine.folder().display().to_string();
            // Everything that is kept is synced before the next effect: a cut at a sync is a cut
            // between two effects.
            std::fs::remove_file(machine.path("bin/sync")).unwrap();
            machine.program("sync", &format!(
                "echo >>{at}/syncs\nif [ $(wc -l <{at}/syncs) -eq {cut} ]; then kill -9 $PPID; fi"
            ));
            let before = console.got().len();
            let first = machine.start();
            let over = first.is_some();
            if !over && !machine.over() && machine.path("firstboot.sh").exists() {
                machine.start();
            }
            let story = format!("stop {stop}, cut {cut}: {}", machine.log());
            let got = &console.got()[before..];
            assert!(!got.is_empty(), "{story}");
            assert!(got.iter().all(|report| *report == got[0]), "{story}");
            assert_eq!(
                matches!(got[0].result, Outcome::Failed { .. }),
                stop,
                "{story}"
            );
            assert!(!machine.path("firstboot.sh").exists(), "{story}");
            let asked = machine.text_of("asked").lines().count();
            // A script that is cut off while it removes itself has restarted the machine already.
            assert!(asked <= usize::from(!stop), "{story}");
            for said in ["\none\n", "\ntwo\n"] {
                let times = machine.log().matches(said).count();
                // Only a step that was running may run again.
                assert!(times == 1 || (times == 2 && !over), "{story}");
            }
            if over {
                break;
            }
        }
        assert!(cut > 8, "{cut}");
    }
}

#[test]
fn three_minutes_are_waited_and_addresses_are_told_once() {
    assert!(WAITS_SECONDS.iter().sum::<u32>() >= 180);
    assert!(WAITS_SECONDS.is_sorted() && WAITS_SECONDS.contains(&LATE_SECONDS));
    let mut first_start = FirstStart {
        consoles: [
            "10.0.0.2:5003",
            "[fd00::2]:5003",
            "[::ffff:10.0.0.3]:5003",
            "10.0.0.2:5003",
        ]
        .map(String::from)
        .to_vec(),
        job: 1,
        target: "t".into(),
        key: key(),
    };
    let text = functions(&first_start).unwrap();
    assert!(
        text.contains("consoles='10.0.0.2,5003 fd00::2,5003 10.0.0.3,5003'\n"),
        "{text}"
    );
    for bad in ["", "10.0.0.2", "console:5003", "10.0.0.2:5003; rm"] {
        first_start.consoles = vec![bad.into()];
        assert!(functions(&first_start).is_err(), "{bad}");
    }
    first_start.consoles = Vec::new();
    assert!(functions(&first_start).is_err());
    let without = super::super::script::script(&job(&[], FirstBootEnd::None), None);
    assert!(
        without
            .unwrap_err()
            .to_string()
            .contains("does not say to which console")
    );
}
