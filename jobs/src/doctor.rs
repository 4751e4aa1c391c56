//! Verdicts on the answers to `doctor`, with advice. Pure.
//!
//! Owns thresholds and texts. A finding is `bad` if a deployment would fail there, fall back to TCP
//! 5003, or be far slower than on other targets, and `warn` if it works but deserves attention.
//! Each finding names the setting to change on the switch or the machine.

use api::doctor::{Finding, ProbeView, TargetHealth, Verdict, worst};
use protocol::control::{DoctorAnswer, LaneCounts};
use protocol::doctor::{short_buffer, silence_text};

/// Share of lost packets from which loss is a finding, and from which it is bad. Parity covers 2 %
/// at 2 % more time, and no intact cable loses that much.
const LOSS: (f64, f64) = (0.001, 0.02);
/// Share of the loss that pauses must explain to count as its cause.
const STOPPED: f64 = 0.8;
/// Share of duplicated or reordered packets from which they are a finding.
const ODD_SHARE: f64 = 0.01;
/// Clock difference in seconds from which logs become useless.
const CLOCK_S: f64 = 5.0;
/// Read rate of a disk in bytes per second below which it is a finding; every intact disk is
/// faster.
const SLOW_DISK_BYTES_PER_S: u64 = 30_000_000;
/// Memory in bytes that a machine needs: that of an agent (docs/performance.md) and some for the
/// kernel.
const MEMORY_BYTES: u64 = 192 << 20;
/// Size of a session's packets in bytes, as IP packets.
pub const PACKET_IP_BYTES: u32 = 1476;
/// MTU of an Ethernet without tunnels, in bytes.
pub const USUAL_MTU: u32 = 1500;
const JUMBO_MTU: u32 = 9000;

/// Consequence for a machine without multicast.
const SERVED_BY_TCP: &str = "it would be served over TCP 5003, one machine at a time";

/// Makes a finding: the verdict, the short name of its check, the text, and advice.
pub fn finding(
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

/// Measurements that a target's answer is compared with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Measured<'a> {
    /// The probe; `None` if none was sent.
    pub probe: Option<&'a ProbeView>,
    /// MTU of the console's interface in bytes.
    pub console_mtu: Option<u32>,
    /// Speed of the fastest link in the room in Mbit/s.
    pub fastest_link: Option<u32>,
}

/// Fills in loss, findings and verdict of a target that answered.
pub fn target(health: &mut TargetHealth, measured: Measured<'_>) {
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

/// Returns the share of packets that were lost; `None` if none were sent.
pub fn loss(received: u64, sent: u64) -> Option<f64> {
    (sent > 0).then(|| sent.saturating_sub(received) as f64 / sent as f64)
}

/// Adds findings if multicast, or its full-size packets, do not arrive. Returns false if loss must
/// not be judged then.
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
        _ => true,
    }
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
    // A lane from which nothing arrives has a finding of its own.
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
        // The advice depends on whether the machine or the network lost the packets.
        if dropped.saturating_mul(2) >= lost {
            findings.push(finding(
                verdict,
                "loss",
                format!("{percent:.1} % of the packets are lost at {rate:.0} Mbit/s, {dropped} of {lost} in this machine itself, which reads too slowly"),
                "let nothing else run on it; give it a larger receive buffer (root, or sysctl net.core.rmem_max); lower --rate",
            ));
        } else if let Some(pause) = pause(answer, probe, share) {
            findings.push(pause);
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

/// Returns the finding for multicast that stopped, perhaps several times: the cause is a switch
/// that forgot a member rather than a lossy cable.
fn pause(answer: &DoctorAnswer, probe: &ProbeView, share: f64) -> Option<Finding> {
    let silent = answer.main.silent_ms.max(answer.second.silent_ms) as f64 / 1e3;
    (silent > 0.0 && silent >= STOPPED * share * probe.seconds).then(|| {
        finding(
            Verdict::Bad,
            "multicast",
            format!(
                "multicast stopped for {silent:.1} of {:.1} s: a switch between forgot that this machine wants it, or its link went down; {SERVED_BY_TCP}",
                probe.seconds
            ),
            "switch on an IGMP querier (on the switch, or `console run --querier`), or switch IGMP snooping off; look at the cable",
        )
    })
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

/// Returns the findings that many targets have in common.
pub fn room(targets: &[TargetHealth]) -> Vec<Finding> {
    let has = |check: &str| {
        targets
            .iter()
            .filter(|target| target.findings.iter().any(|f| f.check == check))
            .count()
    };
    let mut findings = Vec::new();
    let count = targets.len();
    // Among three or more targets, half of them is no coincidence.
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
mod tests;
