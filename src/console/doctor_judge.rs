//! What an answer to `doctor` means, and what to do about it. Pure.
//!
//! Owns: thresholds and words. A finding is `bad` when a deployment would fail there, fall back to TCP 5003, or run far slower than for
//! the others; `warn` when it works and somebody should know. Each says what to set, on the switch or on the machine.

use super::doctor_report::{Finding, ProbeView, TargetHealth, Verdict, worst};
use crate::net::control::{DoctorAnswer, LaneCounts};
use crate::net::igmp_querier::silence_text;
use crate::net::socket::short_buffer;

/// Loss that is named, and loss that is bad: parity covers 2 % at 2 % more time, and nobody has a cable that loses so much.
const LOSS: (f64, f64) = (0.001, 0.02);
/// Of the stream this share was reached, and nearly all until then: it stopped.
const STOPPED: (f64, f64) = (0.9, 0.95);
/// Share of packets that came twice or late, from which it is named.
const ODD_SHARE: f64 = 0.01;
/// A clock further off makes logs useless.
const CLOCK_S: f64 = 5.0;
/// Slower than any disk that is well.
const SLOW_DISK_BYTES_PER_S: u64 = 30_000_000;
/// What an agent takes (DESIGN section 11) and something for the kernel.
const MEMORY_BYTES: u64 = 192 << 20;
/// Packets of a session are this large, as IP.
pub(super) const PACKET_IP_BYTES: u32 = 1476;
/// An Ethernet without tunnels.
pub(super) const USUAL_MTU: u32 = 1500;
const JUMBO_MTU: u32 = 9000;

/// What no multicast means for a machine.
const SERVED_BY_TCP: &str = "it would be served over TCP 5003, one machine at a time";

pub(super) fn finding(
    verdict: Verdict,
    check: &str,
    text: impl Into<String>,
    advice: impl Into<String>,
) -> Finding {
    Finding {
        verdict,
        check: check.to_owned(),
        text: text.into(),
        advice: advice.into(),
    }
}

/// What is known of a target besides its answer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Measured<'a> {
    /// The probe, when one was sent.
    pub(super) probe: Option<&'a ProbeView>,
    /// MTU of the console's interface.
    pub(super) console_mtu: Option<u32>,
    /// Fastest link in the room, Mbit/s.
    pub(super) fastest_link: Option<u32>,
}

/// Fills in loss, findings and verdict of a target that answered.
pub(super) fn target(health: &mut TargetHealth, measured: Measured<'_>) {
    let Some(answer) = &health.answer else {
        health.verdict = worst(&health.findings);
        return;
    };
    let mut findings = Vec::new();
    if let Some(why) = &answer.busy {
        findings.push(finding(
            Verdict::Warn,
            "busy",
            format!("not checked: {why}"),
            "run doctor again when it is idle",
        ));
        health.findings.append(&mut findings);
        health.verdict = worst(&health.findings);
        return;
    }
    let reached = match (&answer.join_error, measured.probe) {
        (Some(error), _) => {
            findings.push(finding(
                Verdict::Bad,
                "port",
                format!("it cannot listen for multicast: {error}; {SERVED_BY_TCP}"),
                "end the program that has the port, or give console and agents other groups (--main, --second)",
            ));
            false
        }
        (None, Some(probe)) => {
            health.main_loss = loss(answer.main.received, probe.main_packets);
            health.second_loss = loss(answer.second.received, probe.second_packets);
            reach(answer, probe, &mut findings)
        }
        (None, None) => false,
    };
    if let (true, Some(probe)) = (reached, measured.probe) {
        losses(answer, probe, &mut findings);
        jumbo(answer, probe, measured.console_mtu, &mut findings);
    }
    machine(answer, measured, &mut findings);
    if let Some(offset) = health
        .clock_offset_s
        .filter(|offset| offset.abs() > CLOCK_S)
    {
        findings.push(finding(
            Verdict::Warn,
            "clock",
            format!("its clock is {offset:+.1} s off the console's: its log lines carry wrong times"),
            "set the clock (NTP, or the firmware's clock); the console's if many targets agree with each other",
        ));
    }
    health.findings.append(&mut findings);
    health.verdict = worst(&health.findings);
}

pub(super) fn loss(received: u64, sent: u64) -> Option<f64> {
    (sent > 0).then(|| sent.saturating_sub(received) as f64 / sent as f64)
}

/// Does anything arrive, and is it large enough? False when there is nothing to say about loss.
fn reach(answer: &DoctorAnswer, probe: &ProbeView, findings: &mut Vec<Finding>) -> bool {
    let nothing = |lane: &LaneCounts| lane.received == 0 && lane.small == 0;
    match (nothing(&answer.main), nothing(&answer.second)) {
        (true, true) => {
            let beacon = if answer.beacon_heard {
                ", although beacons were heard earlier"
            } else {
                ""
            };
            findings.push(finding(
                Verdict::Bad,
                "multicast",
                format!("no multicast arrives here{beacon}; {SERVED_BY_TCP}"),
                no_multicast_advice(answer),
            ));
            false
        }
        (true, false) | (false, true) => {
            let (dead, other) = if nothing(&answer.main) {
                (&probe.main, &probe.second)
            } else {
                (&probe.second, &probe.main)
            };
            findings.push(finding(
                Verdict::Bad,
                "multicast",
                format!("nothing of {dead} arrives here, {other} does"),
                "look for a filter or a limit of groups on the switch port (igmp max-groups, multicast ACL), or a firewall on this machine",
            ));
            true
        }
        (false, false) if answer.main.received == 0 && probe.main_packets > 0 => {
            findings.push(finding(
                Verdict::Bad,
                "mtu",
                format!("small packets arrive, full ones of {PACKET_IP_BYTES} bytes do not; {SERVED_BY_TCP}"),
                format!("set an MTU of {USUAL_MTU} or more on every interface and switch between; diskcast never fragments"),
            ));
            false
        }
        _ => !stopped(answer, probe, findings),
    }
}

/// It came, and then came no more: a switch that forgot its members, rather than a wire that loses.
fn stopped(answer: &DoctorAnswer, probe: &ProbeView, findings: &mut Vec<Finding>) -> bool {
    let (main, sent) = (&answer.main, probe.main_packets);
    let early = (main.until as f64) < STOPPED.0 * sent as f64;
    let whole_before = main.received as f64 >= STOPPED.1 * main.until as f64;
    if !early || !whole_before || main.until == 0 {
        return false;
    }
    let seconds = probe.seconds * main.until as f64 / sent.max(1) as f64;
    findings.push(finding(
        Verdict::Bad,
        "multicast",
        format!("multicast arrived for {seconds:.1} s and then no more: a switch between forgot that this machine wants it; {SERVED_BY_TCP}"),
        "switch on an IGMP querier (on the switch, or `console run --querier`), or switch IGMP snooping off",
    ));
    true
}

fn no_multicast_advice(answer: &DoctorAnswer) -> String {
    let querier = &answer.querier;
    let mut advice = if querier.silent_seconds.is_some() {
        "no IGMP querier is heard there: switch one on (on the switch, or `console run --querier`); else ".to_owned()
    } else {
        String::new()
    };
    advice.push_str(
        "see that its switch port is in the console's VLAN, that the switch has no multicast filter or storm control on it and forgets no members \
         (IGMP snooping with a querier, or snooping off), and that no firewall drops UDP to 239.254.0.0/16; Wi-Fi is not for multicast",
    );
    advice
}

fn losses(answer: &DoctorAnswer, probe: &ProbeView, findings: &mut Vec<Finding>) {
    // A lane of which nothing arrives is a finding of its own.
    let lanes = [
        (&answer.main, probe.main_packets),
        (&answer.second, probe.second_packets),
    ];
    let alive = lanes.iter().filter(|(lane, _)| lane.received > 0);
    let (received, sent) = alive.fold((0u64, 0u64), |(received, sent), (lane, packets)| {
        (
            received.saturating_add(lane.received),
            sent.saturating_add(*packets),
        )
    });
    let lost = sent.saturating_sub(received);
    let share = loss(received, sent).unwrap_or(0.0);
    let dropped = answer
        .main
        .kernel_drops
        .saturating_add(answer.second.kernel_drops);
    if share >= LOSS.0 {
        let verdict = if share >= LOSS.1 {
            Verdict::Bad
        } else {
            Verdict::Warn
        };
        let percent = share * 100.0;
        let rate = probe.reached_bits_per_s as f64 / 1e6;
        // Whether the machine or the wire lost them decides what helps.
        if dropped.saturating_mul(2) >= lost {
            findings.push(finding(
                verdict,
                "loss",
                format!("{percent:.1} % of the packets are lost at {rate:.0} Mbit/s, {dropped} of {lost} in this machine itself, which reads too slowly"),
                "let nothing else run on it; give it a larger receive buffer (root, or sysctl net.core.rmem_max); lower --rate",
            ));
        } else {
            let slow = answer
                .speed_mbit_per_s
                .filter(|speed| f64::from(*speed) < rate)
                .map_or(String::new(), |speed| {
                    format!("; its link of {speed} Mbit/s is slower than the probe")
                });
            findings.push(finding(
                verdict,
                "loss",
                format!("{percent:.1} % of the packets are lost at {rate:.0} Mbit/s ({lost} of {sent}){slow}"),
                "look at the speed and duplex of its switch port, its cable, and storm control or rate limits for multicast; \
                 if all targets lose alike, lower --rate",
            ));
        }
    } else if dropped > 0 {
        findings.push(finding(
            Verdict::Warn,
            "kernel-drops",
            format!("its kernel dropped {dropped} packets because they were not read in time"),
            "give it a larger receive buffer (root, or sysctl net.core.rmem_max)",
        ));
    }
    let odd = |count: u64| count as f64 > ODD_SHARE * received as f64 && received > 0;
    let duplicates = answer
        .main
        .duplicates
        .saturating_add(answer.second.duplicates);
    if odd(duplicates) {
        findings.push(finding(
            Verdict::Warn,
            "duplicates",
            format!("{duplicates} packets came more than once"),
            "look for a loop or a mirrored port on the switch",
        ));
    }
    let reordered = answer
        .main
        .reordered
        .saturating_add(answer.second.reordered);
    if odd(reordered) {
        findings.push(finding(
            Verdict::Warn,
            "reordering",
            format!("{reordered} packets were overtaken by later ones"),
            "let a bonded link send a flow over one of its cables (hash by address, not round robin)",
        ));
    }
}

fn jumbo(
    answer: &DoctorAnswer,
    probe: &ProbeView,
    console_mtu: Option<u32>,
    findings: &mut Vec<Finding>,
) {
    let claims = |mtu: Option<u32>| mtu.is_some_and(|mtu| mtu >= JUMBO_MTU);
    if probe.jumbo
        && claims(answer.mtu)
        && claims(console_mtu)
        && answer.main.jumbo == 0
        && answer.second.jumbo == 0
    {
        findings.push(finding(
            Verdict::Warn,
            "mtu",
            format!("its MTU is {JUMBO_MTU} or more, yet packets of that size do not arrive"),
            format!("switch jumbo frames on at the switch, or set its MTU to {USUAL_MTU}"),
        ));
    }
}

fn machine(answer: &DoctorAnswer, measured: Measured<'_>, findings: &mut Vec<Finding>) {
    if let Some(mtu) = answer.mtu.filter(|mtu| *mtu < PACKET_IP_BYTES) {
        findings.push(finding(
            Verdict::Bad,
            "mtu",
            format!(
                "the MTU of {} is {mtu}; packets have {PACKET_IP_BYTES} bytes",
                answer.interface
            ),
            format!("set it to {USUAL_MTU}"),
        ));
    }
    if answer.join_error.is_none()
        && answer.receive_buffer > 0
        && let Some(text) =
            short_buffer(usize::try_from(answer.receive_buffer).unwrap_or(usize::MAX))
    {
        findings.push(finding(
            Verdict::Warn,
            "receive-buffer",
            text,
            "run the agent as root, or set sysctl net.core.rmem_max=33554432",
        ));
    }
    if answer.duplex.as_deref() == Some("half") {
        findings.push(finding(
            Verdict::Bad,
            "link",
            "its link runs half duplex",
            "let both ends negotiate, or set both alike; change the cable",
        ));
    }
    if let (Some(speed), Some(fastest)) = (answer.speed_mbit_per_s, measured.fastest_link)
        && speed < fastest
    {
        findings.push(finding(
            Verdict::Warn,
            "link",
            format!("its link runs at {speed} Mbit/s, others at {fastest}: a session goes as fast as its slowest link unless --rate says otherwise"),
            "look at its cable (all eight wires) and its switch port, or leave it out with --targets and deploy it alone",
        ));
    }
    if let Some(memory) = answer
        .memory_available
        .filter(|bytes| *bytes < MEMORY_BYTES)
    {
        findings.push(finding(
            Verdict::Warn,
            "memory",
            format!(
                "{} MiB of memory are free, an agent takes up to {}",
                memory >> 20,
                MEMORY_BYTES >> 20
            ),
            "end what else runs there",
        ));
    }
    for disk in &answer.disks {
        let (path, rate) = (&disk.path, disk.bytes_per_s);
        if let Some(error) = &disk.error {
            findings.push(finding(
                Verdict::Bad,
                "disk",
                format!("{path} cannot be read: {error}"),
                "look at its cable and its SMART data; replace it",
            ));
        } else if rate < SLOW_DISK_BYTES_PER_S {
            findings.push(finding(
                Verdict::Warn,
                "disk",
                format!(
                    "{path} is read at {} MB/s: the disk will be what this target waits for",
                    rate / 1_000_000
                ),
                "look at its SMART data, and whether the controller runs in IDE mode",
            ));
        }
    }
    if let Some(seconds) = answer.querier.silent_seconds {
        findings.push(finding(
            Verdict::Warn,
            "querier",
            silence_text(&answer.querier.interface, seconds),
            "switch on the switch's IGMP querier, or run the console with --querier",
        ));
    }
    for other in &answer.consoles {
        findings.push(finding(
            Verdict::Warn,
            "console",
            format!("another console is heard here: {} at {}, pin {}", other.name, other.address, other.pin),
            "agents follow their own pin only, but two consoles on the same groups share the wire: give one other groups (--main, --second)",
        ));
    }
}

/// What many targets have in common.
pub(super) fn room(targets: &[TargetHealth]) -> Vec<Finding> {
    let has = |check: &str| {
        targets
            .iter()
            .filter(|target| target.findings.iter().any(|f| f.check == check))
            .count()
    };
    let mut findings = Vec::new();
    let count = targets.len();
    // With three or more, half of them is no accident.
    if count >= 3 && has("multicast") * 2 >= count {
        let deaf = has("multicast");
        findings.push(finding(
            Verdict::Bad,
            "multicast",
            format!("{deaf} of {count} targets hear no multicast: what stops it is near the console or between switches"),
            "look at the console's own switch port, and let the uplinks between switches pass multicast (mrouter ports, or a querier behind them)",
        ));
    }
    if count >= 3 && has("loss") * 2 >= count {
        let losing = has("loss");
        findings.push(finding(
            Verdict::Warn,
            "loss",
            format!("{losing} of {count} targets lose packets: what they share is too slow for this rate"),
            "run doctor with a lower --rate to find what passes, and deploy with it",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::control::{DiskSpeed, QuerierFacts};

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
            until: if received == 0 { 0 } else { SENT },
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

    /// Each fault alone: its check, its verdict, and a word of the cure.
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
                |a| (a.main.received, a.main.until) = (3_000, 3_050),
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
}
