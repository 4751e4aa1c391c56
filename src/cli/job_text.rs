//! A job as text: the rows, lines and tables that `deploy` and `job` show.
//!
//! Values in, text out: bars, plain lines and the table at the end come from here, so an attended
//! and an unattended run show the same. Every number has its unit or its label.

use super::job_add::newcomer_line;
use super::table::{Align, Columns, clean, count, or_dash};
use api::{FirstStartState, ImageCheck, JobTarget, JobView, Summary};
use facts::target::{DiskNow, TargetState};
use facts::units;
use std::collections::BTreeMap;

/// Length of a bar, in characters.
const BAR: usize = 16;

/// Columns that the names of these targets need.
pub(super) fn name_width(targets: &[JobTarget]) -> usize {
    targets
        .iter()
        .map(|target| target.name.chars().count())
        .max()
        .unwrap_or(0)
        .min(24)
}

/// One target in one row: `pc-07  receiving   42 % [######----------]  118 MB/s  network  lost 0.02
/// %  3:10 left`. The word after the rate names the bottleneck of the target.
pub(super) fn row(target: &JobTarget, width: usize) -> String {
    let head = format!("{:width$}  {:<10}", clean(&target.name), target.state);
    let tail = match target.state {
        TargetState::Done => {
            let mut text = format!(
                "100 %  {} in {}",
                units::bytes(target.bytes_written),
                units::span(target.seconds)
            );
            if let Some(first_start) = first_start(target) {
                text.push_str(&format!("  {first_start}"));
            }
            text
        }
        TargetState::Failed | TargetState::Dropped | TargetState::Lost => reason(target),
        _ => {
            let percent = units::percent(target.done_bytes, target.total_bytes);
            let mut text = format!("{percent:>3} % [{}]", bar(percent));
            if target.rate_bytes_per_s > 0 {
                text.push_str(&format!(
                    "  {}",
                    units::bytes_per_s(target.rate_bytes_per_s)
                ));
            }
            if let Some(bottleneck) = target.bottleneck {
                text.push_str(&format!("  {}", bottleneck.as_str()));
            }
            if target.counters.packets_received > 0 || target.state != TargetState::Capturing {
                text.push_str(&format!("  lost {}", units::share(target.loss)));
            }
            if let Some(eta) = target.eta_seconds {
                text.push_str(&format!("  {} left", units::clock(eta)));
            }
            if let Some(note) = &target.note {
                text.push_str(&format!("  {}", clean(note)));
            }
            text
        }
    };
    format!("{head}  {tail}").trim_end().to_owned()
}

/// The first line above the rows, for the whole job.
pub(super) fn header(view: &JobView) -> String {
    // The most important facts come first: a narrow terminal cuts the end.
    let mut text = format!(
        "job {}  {}  {:>3} %",
        clean(&view.id),
        view.state.as_str(),
        overall_percent(view)
    );
    if let Some(ImageCheck::Checking {
        done_bytes,
        total_bytes,
    }) = &view.image_check
    {
        let percent = units::percent(*done_bytes, *total_bytes);
        text.push_str(&format!("  checking the image {percent} %"));
    }
    if let Some(eta) = eta(&view.targets) {
        text.push_str(&format!("  {} left", units::clock(eta)));
    }
    text.push_str(&format!("  {}", state_counts(&view.targets)));
    if view.session.rate_bytes_per_s > 0 {
        text.push_str(&format!(
            "  {} on the wire",
            units::bits_per_s(view.session.rate_bytes_per_s.saturating_mul(8))
        ));
    }
    if view.session.parity_bytes > 0 {
        text.push_str(&format!("  parity {}", parity_share(view)));
    }
    text
}

/// The line that is written every few seconds when piped.
pub(super) fn summary_line(view: &JobView) -> String {
    let moving: Vec<&JobTarget> = view
        .targets
        .iter()
        .filter(|target| !target.state.is_final())
        .collect();
    let mut text = header(view);
    if !moving.is_empty() {
        let worst = moving.iter().map(|target| target.loss).fold(0.0, f64::max);
        let slowest = moving
            .iter()
            .map(|target| target.rate_bytes_per_s)
            .min()
            .unwrap_or(0);
        text.push_str(&format!(
            "  slowest {}  worst loss {}",
            units::bytes_per_s(slowest),
            units::share(worst)
        ));
    }
    text
}

/// The line for a change of state. `root` is the hash that a target has to prove, empty while it is
/// not known.
pub(super) fn state_line(target: &JobTarget, root: &str) -> String {
    let name = clean(&target.name);
    match target.state {
        TargetState::Done => {
            // A stream that begins with the end has not told the root; the console compared it
            // before it called the target done.
            let equal = |read: &str| root.is_empty() || read == root;
            let proof = if target.root.as_deref().is_some_and(equal) {
                ", read back and equal to the image"
            } else {
                ""
            };
            format!(
                "{name}: done, {} in {}{proof}",
                units::bytes(target.bytes_written),
                units::span(target.seconds)
            )
        }
        TargetState::Failed => {
            let step = target
                .step
                .map(|step| format!(" while {step}"))
                .unwrap_or_default();
            format!("{name}: failed{step}: {}", reason(target))
        }
        TargetState::Dropped | TargetState::Lost => {
            format!("{name}: {}: {}", target.state, reason(target))
        }
        _ => match &target.note {
            Some(note) => format!("{name}: {} ({})", target.state, clean(note)),
            None => format!("{name}: {}", target.state),
        },
    }
}

/// The table at the end, failed targets first; `root` is the hash that each had to prove.
pub(super) fn end_table(targets: &[JobTarget], root: &str) -> String {
    let mut columns = Columns::new(&[
        ("TARGET", Align::Left),
        ("DISK", Align::Left),
        ("ROOT", Align::Left),
        ("WRITTEN", Align::Right),
        ("TIME", Align::Right),
        ("SPEED", Align::Right),
        ("LOSS", Align::Right),
        ("STATE", Align::Left),
        ("REASON", Align::Left),
    ]);
    let failed = targets
        .iter()
        .filter(|target| target.state != TargetState::Done);
    for target in failed.chain(
        targets
            .iter()
            .filter(|target| target.state == TargetState::Done),
    ) {
        let matches = match target.root.as_deref() {
            Some(read) if read == root => "matches",
            Some(_) => "DIFFERS",
            None => "-",
        };
        let reason = if target.state == TargetState::Done {
            let said = [target.note.clone(), first_start(target)];
            let said: Vec<String> = said.into_iter().flatten().collect();
            or_dash(Some(&said.join("; ")))
        } else {
            reason(target)
        };
        columns.row([
            target.name.clone(),
            or_dash(Some(&target.disk)),
            matches.to_owned(),
            units::bytes(target.bytes_written),
            units::span(target.seconds),
            mean_rate(target),
            units::share(target.loss),
            target.state.to_string(),
            reason,
        ]);
    }
    columns.text()
}

/// The result in one line: `job 7 failed: 3 of 4 targets proven in 12.3 s; 1.20 GB sent by
/// multicast, ...`.
pub(super) fn end_line(summary: &Summary) -> String {
    let session = &summary.session;
    let mut text = format!(
        "job {} {}: {} of {} proven in {}; {} sent by multicast",
        clean(&summary.job),
        summary.state.as_str(),
        summary.done,
        count(summary.targets.len(), "target"),
        units::span(summary.seconds),
        units::bytes(session.source_bytes.saturating_add(session.parity_bytes)),
    );
    if session.parity_bytes > 0 {
        text.push_str(&format!(
            " ({} of it parity)",
            units::bytes(session.parity_bytes)
        ));
    }
    if session.bulk_bytes > 0 {
        text.push_str(&format!(", {} over TCP", units::bytes(session.bulk_bytes)));
    }
    text
}

/// The line for an image that was not checked.
pub(super) const UNCHECKED: &str = "the image was not checked before it was sent: --no-check";

/// The table of `job list`.
pub(super) fn job_table(jobs: &[JobView]) -> String {
    let mut columns = Columns::new(&[
        ("JOB", Align::Left),
        ("STATE", Align::Left),
        ("CREATED", Align::Left),
        ("TARGETS", Align::Left),
        ("IMAGE", Align::Left),
    ]);
    for job in jobs {
        columns.row([
            job.id.clone(),
            job.state.as_str().to_owned(),
            job.created.clone(),
            state_counts(&job.targets),
            job.image.clone(),
        ]);
    }
    columns.text()
}

/// Text of `job show`: the job, then its targets.
pub(super) fn job_text(view: &JobView) -> String {
    let mut lines = vec![
        header(view),
        format!("image    {}", clean(&view.image)),
        format!("root     {}", clean(&view.root)),
        format!("created  {}", clean(&view.created)),
    ];
    for (label, value) in [
        ("started  ", &view.started),
        ("ended    ", &view.ended),
        ("retries  job ", &view.retry_of),
    ] {
        if let Some(value) = value {
            lines.push(format!("{label}{}", clean(value)));
        }
    }
    if let Some(note) = &view.start_note {
        lines.push(format!("start    {}", clean(note)));
    }
    if view.unchecked {
        lines.push(format!("check    {UNCHECKED}"));
    }
    lines.extend(view.newcomers.iter().map(newcomer_line));
    lines.push(String::new());
    if view.state.is_final() && view.capture.is_none() {
        lines.push(end_table(&view.targets, view.proof_root()));
    } else {
        let width = name_width(&view.targets);
        lines.extend(view.targets.iter().map(|target| row(target, width)));
    }
    lines.join("\n")
}

/// The number of targets in each state: `3 receiving, 1 done`, in the order of a target's life.
pub(super) fn state_counts(targets: &[JobTarget]) -> String {
    let mut counts: BTreeMap<TargetState, usize> = BTreeMap::new();
    for target in targets {
        *counts.entry(target.state).or_default() += 1;
    }
    if counts.is_empty() {
        return "no targets".to_owned();
    }
    counts
        .iter()
        .map(|(state, number)| format!("{number} {state}"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Percent of the whole job, never falling. Writing is the first half of a target's work, reading
/// back the second; a target that has ended counts as complete.
pub(super) fn overall_percent(view: &JobView) -> u8 {
    let mut done = 0_u64;
    for target in &view.targets {
        let part = u64::from(units::percent(target.done_bytes, target.total_bytes));
        done += match target.state {
            TargetState::Capturing | TargetState::Receiving | TargetState::Repairing => part,
            TargetState::Verifying => 100 + part.min(98),
            TargetState::Applying | TargetState::Committing => 199,
            state if state.is_final() || state == TargetState::Rebooting => 200,
            _ => 0,
        };
    }
    units::percent(done, 200 * view.targets.len() as u64)
}

/// Seconds until the last active target ends.
fn eta(targets: &[JobTarget]) -> Option<f64> {
    targets
        .iter()
        .filter(|target| !target.state.is_final())
        .filter_map(|target| target.eta_seconds)
        .reduce(f64::max)
}

fn parity_share(view: &JobView) -> String {
    units::share(view.session.parity_bytes as f64 / (view.session.source_bytes.max(1)) as f64)
}

fn mean_rate(target: &JobTarget) -> String {
    if target.seconds <= 0.0 || target.bytes_written == 0 {
        return "-".to_owned();
    }
    let micros =
        std::time::Duration::try_from_secs_f64(target.seconds).map_or(1, |d| d.as_micros().max(1));
    units::bytes_per_s(
        u64::try_from(u128::from(target.bytes_written) * 1_000_000 / micros).unwrap_or(u64::MAX),
    )
}

/// First start of a target that is done; of any other target only if it reported one.
fn first_start(target: &JobTarget) -> Option<String> {
    let known = target.first_start.as_ref()?;
    let expected = target.state == TargetState::Done;
    (expected || known.state != FirstStartState::NotHeard).then(|| clean(&known.line()))
}

/// Reason why a target ended, state of its disk, and its first start if it reported one.
fn reason(target: &JobTarget) -> String {
    let text = ended(target);
    match first_start(target) {
        Some(first_start) => format!("{text}; {first_start}"),
        None => text,
    }
}

fn ended(target: &JobTarget) -> String {
    let text = clean(target.reason.as_deref().unwrap_or("no reason was given"));
    let unheard = matches!(target.state, TargetState::Dropped | TargetState::Lost);
    match target.disk_now {
        Some(now) => format!("{text}; {}", now.words()),
        None if unheard => format!("{text}; {}", DiskNow::Unknown.words()),
        None => text,
    }
}

fn bar(percent: u8) -> String {
    let filled = usize::from(percent) * BAR / 100;
    format!(
        "{}{}",
        "#".repeat(filled.min(BAR)),
        "-".repeat(BAR - filled.min(BAR))
    )
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use api::FirstStart;
    use serde_json::json;

    pub(crate) fn target(name: &str, state: &str, more: serde_json::Value) -> JobTarget {
        let mut value = json!({"id": format!("id-{name}"), "name": name, "state": state});
        value
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        serde_json::from_value(value).unwrap()
    }

    pub(crate) fn sample_view() -> JobView {
        let mut view: JobView = serde_json::from_value(json!({
            "id": "7", "state": "running", "created": "2026-11-21T03:00:00Z", "image": "/srv/lab.dcimg", "root": "aa", "targets": []
        }))
        .unwrap();
        view.targets = vec![
            target(
                "pc-01",
                "receiving",
                json!({"done_bytes": 420, "total_bytes": 1000, "rate_bytes_per_s": 118_000_000, "bottleneck": "disk", "loss": 0.0002, "eta_seconds": 190.0}),
            ),
            target(
                "pc-02",
                "verifying",
                json!({"done_bytes": 500, "total_bytes": 1000, "eta_seconds": 20.0, "note": "no multicast"}),
            ),
            target(
                "pc-03",
                "done",
                json!({"bytes_written": 1_200_000_000_u64, "seconds": 12.5, "root": "aa", "loss": 0.01}),
            ),
            target(
                "lab-14",
                "failed",
                json!({"reason": "write error at byte 4096 of /dev/sda\u{1b}[31m", "step": "receiving", "disk": "/dev/sda", "root": "bb"}),
            ),
        ];
        view.session.rate_bytes_per_s = 25_000_000;
        view.session.source_bytes = 1_000_000_000;
        view.session.parity_bytes = 17_000_000;
        view
    }

    pub(crate) fn sample_summary() -> Summary {
        let view = sample_view();
        serde_json::from_value(json!({
            "schema_version": 1, "job": "7", "state": "failed", "image": view.image, "root": "aa", "targets": view.targets[2..],
            "done": 1, "failed": 1, "seconds": 13.4, "session": view.session, "report": "/var/lib/diskcast/jobs/7"
        }))
        .unwrap()
    }

    #[test]
    fn rows() {
        let view = sample_view();
        let width = name_width(&view.targets);
        let rows: Vec<String> = view
            .targets
            .iter()
            .map(|target| row(target, width))
            .collect();
        assert_eq!(
            rows,
            [
                "pc-01   receiving    42 % [######----------]  118 MB/s  disk  lost 0.02 %  3:10 left",
                "pc-02   verifying    50 % [########--------]  lost 0.00 %  0:20 left  no multicast",
                "pc-03   done        100 %  1.20 GB in 12.5 s",
                "lab-14  failed      write error at byte 4096 of /dev/sda?[31m",
            ]
        );
    }

    /// First starts are shown in rows, in the end table, and beside the reason of a failed target.
    #[test]
    fn first_starts() {
        let done = json!({"bytes_written": 1_200_000_000_u64, "seconds": 12.5, "root": "aa"});
        let mut targets: Vec<JobTarget> = ["pc-01", "pc-02", "pc-03", "pc-04", "pc-05"]
            .iter()
            .map(|name| target(name, "done", done.clone()))
            .collect();
        let known = [
            json!({"state": "not-heard"}),
            json!({"state": "started", "name": "LAB-02"}),
            json!({"state": "failed", "name": "LAB-03", "step": "run.2", "reason": "exit code 3"}),
            json!({"state": "failed", "name": "LAB-99", "planned_name": "LAB-04"}),
        ];
        for (target, known) in targets.iter_mut().zip(known) {
            target.first_start = Some(serde_json::from_value(known).unwrap());
        }
        let mut lost = target(
            "pc-06",
            "lost",
            json!({"reason": "it is gone", "disk_now": "blank"}),
        );
        lost.first_start = Some(FirstStart::default());
        let mut back = lost.clone();
        back.first_start.clone_from(&targets[1].first_start);
        targets.extend([lost, back]);
        let rows: Vec<String> = targets.iter().map(|target| row(target, 5)).collect();
        assert_eq!(
            rows,
            [
                "pc-01  done        100 %  1.20 GB in 12.5 s  first start not heard of",
                "pc-02  done        100 %  1.20 GB in 12.5 s  started as LAB-02",
                "pc-03  done        100 %  1.20 GB in 12.5 s  first start failed: run.2: exit code 3",
                "pc-04  done        100 %  1.20 GB in 12.5 s  started as LAB-99, planned LAB-04",
                "pc-05  done        100 %  1.20 GB in 12.5 s",
                "pc-06  lost        it is gone; its disk is blank",
                "pc-06  lost        it is gone; its disk is blank; started as LAB-02",
            ]
        );
        let table = end_table(&targets[..2], "aa");
        assert!(
            table.contains("done   first start not heard of")
                && table.contains("done   started as LAB-02"),
            "{table}"
        );
    }

    #[test]
    fn the_whole_job_in_a_line() {
        let view = sample_view();
        // (42 + 150 + 200 + 200) / 800
        let header_text = "job 7  running   74 %  3:10 left  1 receiving, 1 verifying, 1 done, 1 failed  200 Mbit/s on the wire  parity 1.70 %";
        assert_eq!(header(&view), header_text);
        assert_eq!(
            summary_line(&view),
            format!("{header_text}  slowest 0 B/s  worst loss 0.02 %")
        );
    }

    #[test]
    fn state_changes() {
        let view = sample_view();
        let lines: Vec<String> = view
            .targets
            .iter()
            .map(|target| state_line(target, &view.root))
            .collect();
        assert_eq!(
            lines,
            [
                "pc-01: receiving",
                "pc-02: verifying (no multicast)",
                "pc-03: done, 1.20 GB in 12.5 s, read back and equal to the image",
                "lab-14: failed while receiving: write error at byte 4096 of /dev/sda?[31m",
            ]
        );
    }

    #[test]
    fn the_end() {
        let summary = sample_summary();
        assert_eq!(
            end_table(&summary.targets, &summary.root),
            "TARGET  DISK      ROOT     WRITTEN    TIME      SPEED    LOSS  STATE   REASON\n\
             lab-14  /dev/sda  DIFFERS      0 B  0.00 s          -  0.00 %  failed  write error at byte 4096 of /dev/sda?[31m\n\
             pc-03   -         matches  1.20 GB  12.5 s  96.0 MB/s  1.00 %  done    -"
        );
        assert_eq!(
            end_line(&summary),
            "job 7 failed: 1 of 2 targets proven in 13.4 s; 1.02 GB sent by multicast (17.0 MB of it parity)"
        );
    }

    #[test]
    fn overall_percent_never_falls_when_reading_back_begins() {
        let mut view = sample_view();
        let mut before = 0;
        for (state, done) in [
            ("ready", 0),
            ("receiving", 0),
            ("receiving", 1000),
            ("verifying", 0),
            ("verifying", 1000),
            ("committing", 0),
            ("done", 0),
        ] {
            view.targets = vec![target(
                "a",
                state,
                json!({"done_bytes": done, "total_bytes": 1000}),
            )];
            let now = overall_percent(&view);
            assert!(now >= before, "{state}: {now} after {before}");
            before = now;
        }
        assert_eq!(before, 100);
        view.targets.clear();
        assert_eq!(overall_percent(&view), 0);
    }

    #[test]
    fn lists() {
        let view = sample_view();
        assert_eq!(
            job_table(std::slice::from_ref(&view)),
            "JOB  STATE    CREATED               TARGETS                                     IMAGE\n\
             7    running  2026-11-21T03:00:00Z  1 receiving, 1 verifying, 1 done, 1 failed  /srv/lab.dcimg"
        );
        assert!(job_text(&view).contains("image    /srv/lab.dcimg\nroot     aa\ncreated  2026-11-21T03:00:00Z\n\npc-01   receiving"));
    }
}
