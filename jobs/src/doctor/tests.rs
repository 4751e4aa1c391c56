//! Single faults, and faults that many targets have in common.

use super::*;
use protocol::control::{DiskSpeed, QuerierFacts};

const SENT: u64 = 10_000;

fn probe() -> ProbeView {
    ProbeView {
        main: "239.254.1.1:5002".to_owned(),
        second: "239.254.1.2:5004".to_owned(),
        rate_bits_per_s: 200_000_000,
        reached_bits_per_s: 200_000_000,
        seconds: 3.0,
        main_packets: SENT,
        second_packets: 500,
        jumbo: true,
    }
}

fn lane(received: u64) -> LaneCounts {
    LaneCounts {
        received,
        small: if received == 0 { 0 } else { 5 },
        ..LaneCounts::default()
    }
}

fn well() -> DoctorAnswer {
    DoctorAnswer {
        interface: "eth0".to_owned(),
        mtu: Some(1500),
        receive_buffer: 32 << 20,
        main: lane(SENT),
        second: lane(500),
        beacon_heard: true,
        memory_available: Some(1 << 30),
        ..DoctorAnswer::default()
    }
}

fn judged(change: impl FnOnce(&mut DoctorAnswer)) -> TargetHealth {
    let mut answer = well();
    change(&mut answer);
    let mut health = TargetHealth {
        answer: Some(answer),
        ..TargetHealth::default()
    };
    let probe = probe();
    let measured = Measured {
        probe: Some(&probe),
        console_mtu: Some(9000),
        fastest_link: Some(1000),
    };
    target(&mut health, measured);
    health
}

/// Each fault alone: its check, its verdict, and a word of the advice.
#[test]
fn each_fault_has_its_name_and_its_cure() {
    assert_eq!(judged(|_| {}).findings, []);
    type Change = fn(&mut DoctorAnswer);
    let cases: &[(Change, &str, Verdict, &str)] = &[
        (
            |a| (a.main, a.second) = (lane(0), lane(0)),
            "multicast",
            Verdict::Bad,
            "querier",
        ),
        (
            |a| a.main = lane(0),
            "multicast",
            Verdict::Bad,
            "max-groups",
        ),
        (
            |a| a.second = lane(0),
            "multicast",
            Verdict::Bad,
            "max-groups",
        ),
        (
            |a| (a.main.received, a.main.silent_ms) = (3_000, 2_050),
            "multicast",
            Verdict::Bad,
            "snooping",
        ),
        (|a| a.main.received = 0, "mtu", Verdict::Bad, "1500"),
        (|a| a.main.received = 9_400, "loss", Verdict::Bad, "cable"),
        (|a| a.main.received = 9_950, "loss", Verdict::Warn, "cable"),
        (
            |a| (a.main.received, a.main.kernel_drops) = (9_400, 590),
            "loss",
            Verdict::Bad,
            "rmem_max",
        ),
        (
            |a| a.main.kernel_drops = 3,
            "kernel-drops",
            Verdict::Warn,
            "rmem_max",
        ),
        (
            |a| a.main.duplicates = 5_000,
            "duplicates",
            Verdict::Warn,
            "loop",
        ),
        (
            |a| a.second.reordered = 400,
            "reordering",
            Verdict::Warn,
            "bonded",
        ),
        (|a| a.mtu = Some(9000), "mtu", Verdict::Warn, "jumbo"),
        (|a| a.mtu = Some(1400), "mtu", Verdict::Bad, "1500"),
        (
            |a| a.receive_buffer = 212_992,
            "receive-buffer",
            Verdict::Warn,
            "net.core.rmem_max",
        ),
        (
            |a| a.duplex = Some("half".into()),
            "link",
            Verdict::Bad,
            "negotiate",
        ),
        (
            |a| a.speed_mbit_per_s = Some(100),
            "link",
            Verdict::Warn,
            "cable",
        ),
        (
            |a| a.memory_available = Some(64 << 20),
            "memory",
            Verdict::Warn,
            "runs there",
        ),
        (
            |a| a.disks = vec![disk(10_000_000, None)],
            "disk",
            Verdict::Warn,
            "SMART",
        ),
        (
            |a| a.disks = vec![disk(0, Some("I/O error"))],
            "disk",
            Verdict::Bad,
            "replace",
        ),
        (
            |a| a.querier = silent(),
            "querier",
            Verdict::Warn,
            "--querier",
        ),
        (
            |a| a.join_error = Some("UDP port 5002 is in use by x (pid 1)".into()),
            "port",
            Verdict::Bad,
            "--main",
        ),
        (
            |a| a.consoles = vec![Default::default()],
            "console",
            Verdict::Warn,
            "--main",
        ),
    ];
    for (number, (change, check, verdict, cure)) in cases.iter().enumerate() {
        let health = judged(*change);
        let [only] = &health.findings[..] else {
            panic!("case {number}, {check}: {:#?}", health.findings)
        };
        assert_eq!(
            (only.check.as_str(), only.verdict, health.verdict),
            (*check, *verdict, *verdict),
            "case {number}"
        );
        assert!(
            only.advice.contains(cure),
            "case {number}, {check}: {}",
            only.advice
        );
    }
}

fn disk(bytes_per_s: u64, error: Option<&str>) -> DiskSpeed {
    DiskSpeed {
        path: "/dev/sda".to_owned(),
        bytes_per_s,
        error: error.map(str::to_owned),
    }
}

fn silent() -> QuerierFacts {
    QuerierFacts {
        interface: "eth0".to_owned(),
        silent_seconds: Some(140),
        ..QuerierFacts::default()
    }
}

#[test]
fn a_busy_agent_and_a_wrong_clock() {
    let busy = judged(|a| {
        a.busy = Some("in job 7".to_owned());
        a.main = lane(0);
    });
    assert_eq!(busy.findings.len(), 1);
    assert_eq!((busy.verdict, busy.main_loss), (Verdict::Warn, None));
    let mut late = TargetHealth {
        answer: Some(well()),
        clock_offset_s: Some(-3600.0),
        ..TargetHealth::default()
    };
    target(&mut late, Measured::default());
    assert!(
        late.findings[0].text.contains("-3600.0 s"),
        "{:?}",
        late.findings
    );
}

#[test]
fn what_most_have_in_common_is_said_of_the_room() {
    let deaf = || judged(|a| (a.main, a.second) = (lane(0), lane(0)));
    let losing = || judged(|a| a.main.received = 9_000);
    let all_well = || judged(|_| {});
    assert_eq!(room(&[deaf(), all_well(), all_well()]), []);
    assert_eq!(room(&[deaf(), deaf()]), [], "two may be an accident");
    assert_eq!(room(&[deaf(), deaf(), all_well()])[0].check, "multicast");
    assert_eq!(room(&[losing(), losing(), all_well()])[0].check, "loss");
}
