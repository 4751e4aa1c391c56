//! `diskcast doctor`: checks whether a room is ready for a deployment, and says what to change.

use super::Context;
use super::table::{Align, Columns, clean, count, or_dash};
use api::doctor::{ConsoleHealth, DoctorOptions, DoctorReport, Finding, TargetHealth, Verdict};
use api::select::{Selector, SelectorError};
use api::{ApiError, ErrorCode};
use clap::Args;
use facts::units;
use net::port_owner;
use protocol::control::QuerierFacts;
use std::time::Duration;
use terminal::exit::{Ended, Exit};

/// Columns that findings are wrapped to, which fits an 80-column terminal.
const WIDTH: usize = 78;
/// Default TCP ports of a console.
const PORTS: [u16; 2] = [5001, 5003];

/// Options of `doctor`.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 nothing bad was found, 3 some targets have problems, 4 nobody
to check, 6 no console.

Examples:
  diskcast doctor
  diskcast doctor --targets 'lab-*' --rate 400mbit
  diskcast doctor --json | jq '.targets[] | select(.verdict != \"ok\")'")]
pub(super) struct DoctorArgs {
    /// Only these [default: every connected target]
    #[arg(long, value_name = "SELECTOR", value_parser = selector)]
    targets: Option<String>,
    /// Rate of the probe on the wire, such as 400mbit or 50MB [default: that of
    /// the slowest known link, else 200mbit]
    #[arg(long, value_name = "RATE", value_parser = units::parse_rate)]
    rate: Option<u64>,
    /// Duration of the probe, up to 60s
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = units::parse_duration)]
    seconds: Duration,
}

/// Runs the command.
///
/// # Errors
/// The failure, with the exit code that belongs to it.
pub(super) async fn run(args: DoctorArgs, context: &Context) -> Ended {
    let out = &context.out;
    let options = DoctorOptions {
        targets: args.targets,
        rate_bits_per_s: args.rate,
        seconds: Some(args.seconds.as_secs_f64()),
    };
    let report: DoctorReport = context
        .client()
        .post("/v1/doctor", &options)
        .await
        .map_err(busy_ports)?;
    if out.json() {
        out.result_json(&report);
    } else {
        out.line(report_text(&report));
    }
    Ok(exit_of(&report))
}

/// The exit code of a report: a bad console counts like a bad target.
fn exit_of(report: &DoctorReport) -> Exit {
    let bad = |verdict: Verdict| verdict == Verdict::Bad;
    if report.targets.is_empty() {
        ErrorCode::NothingMatched.into()
    } else if bad(report.console.verdict) || report.targets.iter().any(|target| bad(target.verdict))
    {
        ErrorCode::TargetsFailed.into()
    } else {
        Exit::OK
    }
}

/// Adds the programs that hold the console's ports to an error that no console answers.
fn busy_ports(mut error: ApiError) -> ApiError {
    if error.code == ErrorCode::Unreachable {
        let taken: Vec<String> = PORTS
            .iter()
            .filter_map(|port| {
                Some(format!(
                    "TCP port {port} is in use by {}",
                    port_owner::tcp(*port)?
                ))
            })
            .collect();
        if !taken.is_empty() {
            let hint = error.hint.take().unwrap_or_default();
            error.hint = Some(format!("{hint}; {}", taken.join(", ")));
        }
    }
    error
}

/// clap's value parser of a selector; the console parses it again.
fn selector(text: &str) -> Result<String, SelectorError> {
    text.parse::<Selector>().map(|_| text.to_owned())
}

fn report_text(report: &DoctorReport) -> String {
    let mut lines = console_lines(&report.console);
    if let Some(probe) = &report.probe {
        lines.push(format!(
            "probe      {} of {} for {}, {} packets to {} and {}",
            units::bits_per_s(probe.reached_bits_per_s),
            units::bits_per_s(probe.rate_bits_per_s),
            units::span(probe.seconds),
            probe.main_packets + probe.second_packets,
            probe.main,
            probe.second
        ));
    }
    for text in &report.not_checked {
        wrap(&mut lines, "not checked: ", text);
    }
    if report.targets.is_empty() {
        lines.push(
            "no target is connected: switch machines on and boot them over the network".to_owned(),
        );
        return lines.join("\n");
    }
    lines.push(String::new());
    lines.push(target_table(&report.targets));
    for finding in &report.room {
        lines.push(String::new());
        lines.push("the room".to_owned());
        finding_lines(&mut lines, finding);
    }
    for target in report
        .targets
        .iter()
        .filter(|target| !target.findings.is_empty())
    {
        lines.push(String::new());
        lines.push(clean(&target.name));
        for finding in &target.findings {
            finding_lines(&mut lines, finding);
        }
    }
    lines.push(String::new());
    lines.push(totals(&report.targets));
    lines.join("\n")
}

fn console_lines(console: &ConsoleHealth) -> Vec<String> {
    let mut facts = vec![console.interface.clone()];
    facts.extend(
        console
            .speed_mbit_per_s
            .map(|speed| format!("{speed} Mbit/s")),
    );
    facts.extend(console.mtu.map(|mtu| format!("MTU {mtu}")));
    facts.extend(
        console
            .free_bytes
            .map(|free| format!("{} free", units::bytes(free))),
    );
    let mut lines = vec![
        clean(&format!(
            "console    {}: {}",
            console.verdict.as_str(),
            facts.join(", ")
        )),
        clean(&format!("querier    {}", querier(&console.querier))),
    ];
    let ports: Vec<String> = console
        .ports
        .iter()
        .map(|port| match &port.owner {
            Some(owner) => format!("{} {} {owner}", port.protocol, port.port),
            None => format!("{} {}", port.protocol, port.port),
        })
        .collect();
    lines.push(clean(&format!("ports      {}", ports.join(", "))));
    if !console.dhcp_servers.is_empty() {
        lines.push(clean(&format!(
            "dhcp       {}",
            console.dhcp_servers.join(", ")
        )));
    }
    for finding in &console.findings {
        finding_lines(&mut lines, finding);
    }
    lines
}

/// The querier in few words, for a table.
fn querier(facts: &QuerierFacts) -> String {
    match (&facts.unchecked, &facts.heard) {
        (Some(_), _) => "-".to_owned(),
        (None, _) if facts.own => "this console".to_owned(),
        (None, Some(who)) => who.clone(),
        (None, None) if facts.silent_seconds.is_some() => "none".to_owned(),
        (None, None) => format!("none in {} s yet", facts.listening_seconds),
    }
}

fn target_table(targets: &[TargetHealth]) -> String {
    let mut columns = Columns::new(&[
        ("TARGET", Align::Left),
        ("VERDICT", Align::Left),
        ("LOSS", Align::Right),
        ("DROPS", Align::Right),
        ("BUFFER", Align::Right),
        ("LINK", Align::Right),
        ("MTU", Align::Right),
        ("DISK", Align::Right),
        ("CLOCK", Align::Right),
        ("QUERIER", Align::Left),
    ]);
    for target in targets {
        let answer = target
            .answer
            .as_ref()
            .filter(|answer| answer.busy.is_none());
        let listened = answer.filter(|answer| answer.join_error.is_none());
        let cell = |text: Option<String>| or_dash(text.as_deref());
        columns.row([
            target.name.clone(),
            target.verdict.as_str().to_owned(),
            cell(target.main_loss.map(units::share)),
            cell(listened.map(|a| {
                a.main
                    .kernel_drops
                    .saturating_add(a.second.kernel_drops)
                    .to_string()
            })),
            cell(listened.map(|a| format!("{} KiB", a.receive_buffer >> 10))),
            cell(answer.and_then(|a| {
                let speed = a.speed_mbit_per_s?.to_string();
                Some(match &a.duplex {
                    Some(duplex) => format!("{speed} {duplex}"),
                    None => speed,
                })
            })),
            cell(answer.and_then(|a| a.mtu).map(|mtu| mtu.to_string())),
            cell(
                answer
                    .and_then(|a| a.disks.first())
                    .map(|disk| units::bytes_per_s(disk.bytes_per_s)),
            ),
            cell(
                target
                    .clock_offset_s
                    .map(|offset| format!("{:+.2} s", (offset * 100.0).round() / 100.0 + 0.0)),
            ),
            cell(answer.map(|a| querier(&a.querier))),
        ]);
    }
    columns.text()
}

fn finding_lines(lines: &mut Vec<String>, finding: &Finding) {
    let label = format!("  {:<5}", finding.verdict.as_str());
    wrap(lines, &label, &finding.text);
    wrap(lines, "       do: ", &finding.advice);
}

/// Appends text in lines of [`WIDTH`] columns; later lines are indented like the label of the
/// first.
fn wrap(lines: &mut Vec<String>, label: &str, text: &str) {
    let mut line = label.to_owned();
    let mut begun = false;
    for word in clean(text).split(' ') {
        if begun && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(std::mem::replace(
                &mut line,
                " ".repeat(label.chars().count()),
            ));
            begun = false;
        }
        if begun {
            line.push(' ');
        }
        line.push_str(word);
        begun = true;
    }
    lines.push(line);
}

fn totals(targets: &[TargetHealth]) -> String {
    let number = |verdict: Verdict| {
        targets
            .iter()
            .filter(|target| target.verdict == verdict)
            .count()
    };
    format!(
        "{}: {} ok, {} warn, {} bad",
        count(targets.len(), "target"),
        number(Verdict::Ok),
        number(Verdict::Warn),
        number(Verdict::Bad)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sample() -> DoctorReport {
        serde_json::from_value(json!({
            "type": "doctor", "schema_version": 1, "time": "t", "room": [], "not_checked": ["other DHCP servers: needs root (UDP port 68)"],
            "console": {"verdict": "ok", "interface": "eth0 (10.0.0.1)", "speed_mbit_per_s": 1000, "mtu": 1500, "free_bytes": 5_000_000_000_u64,
                        "querier": {"interface": "eth0", "heard": "10.0.0.254"},
                        "ports": [{"protocol": "tcp", "port": 5001, "carries": "control", "owner": "diskcast (pid 7)"}]},
            "probe": {"main": "239.254.1.1:5002", "second": "239.254.1.2:5004", "rate_bits_per_s": 200_000_000_u64,
                      "reached_bits_per_s": 199_000_000_u64, "seconds": 3.0, "main_packets": 47_000, "second_packets": 2_500},
            "targets": [
                {"id": "a", "name": "lab-01", "verdict": "ok", "findings": [], "main_loss": 0.0, "clock_offset_s": -0.001,
                 "answer": {"id": "1", "mtu": 1500, "speed_mbit_per_s": 1000, "duplex": "full", "receive_buffer": 33_554_432,
                            "querier": {"heard": "10.0.0.254"}, "disks": [{"path": "/dev/sda", "bytes_per_s": 500_000_000}]}},
                {"id": "b", "name": "lab-02\u{1b}[2J", "verdict": "bad", "main_loss": 1.0,
                 "findings": [{"verdict": "bad", "check": "multicast", "text": "no multicast arrives here", "advice": "look at the switch"}]}
            ]
        }))
        .unwrap()
    }

    #[test]
    fn a_table_then_what_is_wrong_and_what_to_do() {
        let text = report_text(&sample());
        for part in [
            "console    ok: eth0 (10.0.0.1), 1000 Mbit/s, MTU 1500, 5.00 GB free\nquerier    10.0.0.254\nports      tcp 5001 diskcast (pid 7)\n",
            "probe      199 Mbit/s of 200 Mbit/s for 3.00 s, 49500 packets to 239.254.1.1:5002 and 239.254.1.2:5004\n",
            "not checked: other DHCP servers: needs root (UDP port 68)\n",
            "lab-02?[2J\n  bad  no multicast arrives here\n       do: look at the switch\n",
            "2 targets: 1 ok, 0 warn, 1 bad",
        ] {
            assert!(text.contains(part), "{part}\n---\n{text}");
        }
        assert!(
            text.contains("1000 full") && text.contains("500 MB/s") && text.contains("+0.00 s"),
            "{text}"
        );
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn exit_codes() {
        let mut report = sample();
        assert_eq!(exit_of(&report), Exit(3));
        report.targets.pop();
        assert_eq!(exit_of(&report), Exit::OK);
        report.console.verdict = Verdict::Warn;
        assert_eq!(exit_of(&report), Exit::OK);
        report.console.verdict = Verdict::Bad;
        assert_eq!(exit_of(&report), Exit(3));
        report.targets.clear();
        assert_eq!(exit_of(&report), Exit(4));
    }

    #[test]
    fn long_sentences_are_wrapped_under_their_label() {
        let mut lines = Vec::new();
        wrap(&mut lines, "  bad  ", &"word ".repeat(40));
        assert!(lines.len() > 2);
        assert!(lines.iter().all(|line| line.len() <= WIDTH));
        assert!(lines[1].starts_with("       word"));
    }
}
