//! Watches a job to its end: one stream of events, shown as rows, as lines, as JSON, or not at all.
//!
//! Owns: the form of the output, the time of the next plain line, and waiting for a console that
//! was restarted. Ctrl-C ends only the watching: the job belongs to the console and goes on.

use super::job_text;
use super::live::Live;
use super::newcomers::{Desk, Mode};
use super::table::clean;
use api::{ApiError, ErrorCode, Event, JobState, JobView, Summary};
use client::{Client, Events, segment};
use facts::target::TargetState;
use std::collections::BTreeMap;
use std::time::Duration;
use terminal::exit::{Ended, Exit};
use terminal::interrupt;
use terminal::output::Output;
use tokio::time::Instant;

/// Interval between two summary lines when piped.
const SUMMARY_EVERY: Duration = Duration::from_secs(10);
/// Longest wait for a console that was restarted.
const COME_BACK_WITHIN: Duration = Duration::from_secs(10);
/// Interval between two attempts to reach it.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// The part of a job that is shown.
pub(super) enum Show {
    /// All of it: rows, lines or JSON, depending on the output.
    Everything,
    /// Only the result.
    End,
}

/// Shows a job until it ends.
///
/// # Errors
/// `Interrupted` at Ctrl-C; `Unreachable` when the console does not come back; `TimedOut` after
/// `limit`.
pub(super) async fn follow(
    client: &Client,
    job: &str,
    out: &Output,
    show: Show,
    limit: Option<Duration>,
) -> Result<Summary, ApiError> {
    let mode = match show {
        Show::Everything if out.can_ask() => Mode::Ask,
        Show::Everything if !out.json() => Mode::Say,
        Show::Everything | Show::End => Mode::Silent,
    };
    let mut view = match show {
        Show::End => View::Nothing,
        Show::Everything if out.quiet() => View::Nothing,
        Show::Everything if out.json() => View::Json,
        Show::Everything if out.draws_bars() => View::Live(Live::new(out)),
        Show::Everything => View::Plain(Plain::default()),
    };
    let ended = tokio::select! {
        ended = until_summary(client, job, out, &mut view, mode) => ended,
        () = interrupt::wait() => Err(ApiError::new(ErrorCode::Interrupted, format!("no longer watching job {job}; it goes on"))
            .hint(format!("`diskcast job watch {job}` shows it again, `diskcast job cancel {job}` ends it"))),
        () = sleep_for(limit) => Err(still_running(job, limit.unwrap_or_default())),
    };
    drop(view);
    ended
}

/// Shows the result of a job: the last JSON line, or the table and the next step for the failed
/// targets.
///
/// # Errors
/// The reason a capture has no image.
pub(super) fn show_end(summary: &Summary, out: &Output) -> Ended {
    if summary.capture.is_some() {
        return super::capture_target::show_end(summary, out);
    }
    Ok(show_deployed(summary, out))
}

fn show_deployed(summary: &Summary, out: &Output) -> Exit {
    let exit = exit_of(summary);
    if out.json() {
        out.result_json(&Event::Summary(Box::new(summary.clone())));
        return exit;
    }
    out.line(job_text::end_table(&summary.targets, summary.proof_root()));
    out.line("");
    out.line(job_text::end_line(summary));
    if summary.unchecked {
        out.line(job_text::UNCHECKED);
    }
    out.line(format!("report: {}", clean(&summary.report)));
    if exit != Exit::OK {
        out.line(format!(
            "to try the others again: diskcast job retry {}",
            clean(&summary.job)
        ));
    }
    exit
}

/// The exit code: 0 only if every target is proven. A damaged image counts before its targets.
pub(super) fn exit_of(summary: &Summary) -> Exit {
    let proven = summary
        .targets
        .iter()
        .all(|target| target.state == TargetState::Done);
    if summary.state == JobState::Done
        && summary.failed == 0
        && proven
        && !summary.targets.is_empty()
    {
        Exit::OK
    } else if summary.session.damage.is_some() {
        ErrorCode::Integrity.into()
    } else {
        ErrorCode::TargetsFailed.into()
    }
}

/// Waits for the end of a job without showing it; the caller handles Ctrl-C.
///
/// # Errors
/// `TimedOut` after `within`; `Unreachable` when the console does not come back.
pub(super) async fn until_end(
    client: &Client,
    job: &str,
    out: &Output,
    within: Duration,
) -> Result<Summary, ApiError> {
    let mut nothing = View::Nothing;
    tokio::time::timeout(
        within,
        until_summary(client, job, out, &mut nothing, Mode::Silent),
    )
    .await
    .unwrap_or_else(|_| Err(still_running(job, within)))
}

fn still_running(job: &str, after: Duration) -> ApiError {
    let after = facts::units::span(after.as_secs_f64());
    ApiError::new(
        ErrorCode::TimedOut,
        format!("job {job} is not over after {after}"),
    )
    .hint(format!("it goes on; `diskcast job watch {job}` shows it"))
}

async fn sleep_for(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

async fn until_summary(
    client: &Client,
    job: &str,
    out: &Output,
    view: &mut View,
    mode: Mode,
) -> Result<Summary, ApiError> {
    let path = format!("/v1/jobs/{}/events", segment(job));
    let mut events = client.events(&path).await?;
    let mut shown = Shown::default();
    let mut desk = Desk::new(client, job, out, mode);
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            typed = desk.typed() => {
                desk.answered(typed).await;
                desk.kept().iter().for_each(|event| view.event(event, out));
                desk.ask().await;
                continue;
            }
        };
        match event {
            Some(Ok(Event::Summary(summary))) => {
                desk.withdraw("the job is over");
                desk.kept().iter().for_each(|event| view.event(event, out));
                return Ok(*summary);
            }
            Some(Ok(event)) if shown.is_old(&event) => {}
            Some(Ok(event)) => {
                desk.hear(&event);
                desk.keep(event);
                desk.kept().iter().for_each(|event| view.event(event, out));
                desk.ask().await;
            }
            Some(Err(error)) if error.code != ErrorCode::Unreachable => return Err(error),
            _ => {
                desk.withdraw("the console is gone");
                events = come_back(client, &path, job, out).await?;
                shown.begins_again();
            }
        }
        if out.is_closed() {
            return Err(ApiError::new(
                ErrorCode::Interrupted,
                format!("nobody reads this any more; job {job} goes on"),
            ));
        }
    }
}

/// The times of events shown before the console was restarted, because a restarted console sends a
/// job's events from the start.
#[derive(Default)]
struct Shown {
    newest: Option<jiff::Timestamp>,
    until: Option<jiff::Timestamp>,
}

impl Shown {
    fn begins_again(&mut self) {
        self.until = self.newest;
    }

    /// True for an event from before the restart. An event without a readable time is shown twice
    /// rather than never.
    fn is_old(&mut self, event: &Event) -> bool {
        let (Event::State { time, .. } | Event::Log { time, .. }) = event else {
            return false;
        };
        let Ok(time) = time.parse() else { return false };
        self.newest = self.newest.max(Some(time));
        self.until.is_some_and(|until| time <= until)
    }
}

/// Connects again to a console that ended without a summary, because it was stopped or killed. A
/// restarted one knows the job.
async fn come_back(
    client: &Client,
    path: &str,
    job: &str,
    out: &Output,
) -> Result<Events, ApiError> {
    out.note(format!(
        "the console is gone; waiting up to {} s for it to come back",
        COME_BACK_WITHIN.as_secs()
    ));
    let give_up = Instant::now() + COME_BACK_WITHIN;
    loop {
        tokio::time::sleep(RETRY_EVERY).await;
        match client.events(path).await {
            Ok(events) => {
                out.note("the console is back");
                return Ok(events);
            }
            Err(error) if error.code != ErrorCode::Unreachable => return Err(error),
            Err(error) if Instant::now() >= give_up => {
                return Err(error.hint(format!("start it with `diskcast console run`, then `diskcast job watch {job}`; nothing reported done is lost")));
            }
            Err(_) => {}
        }
    }
}

enum View {
    Live(Live),
    Plain(Plain),
    Json,
    Nothing,
}

impl View {
    fn event(&mut self, event: &Event, out: &Output) {
        match self {
            Self::Live(live) => live.event(event),
            Self::Plain(plain) => plain.event(event, out),
            Self::Json => out.result_json(event),
            Self::Nothing => {}
        }
    }
}

/// Append-only output: one line for each change of state, and now and then one for the whole job.
#[derive(Default)]
struct Plain {
    states: BTreeMap<String, TargetState>,
    root: String,
    last: Option<Instant>,
    job_state: Option<JobState>,
}

impl Plain {
    fn event(&mut self, event: &Event, out: &Output) {
        match event {
            Event::State { target, .. } => {
                self.states.insert(target.id.clone(), target.state);
                out.note(job_text::state_line(target, &self.root));
            }
            Event::Progress { view, .. } => self.progress(view, Instant::now(), out),
            Event::Log { text, .. } => out.detail(clean(text)),
            Event::Summary(_) => {}
        }
    }

    fn progress(&mut self, view: &JobView, now: Instant, out: &Output) {
        view.proof_root().clone_into(&mut self.root);
        // A stream that begins in the middle has missed changes; the progress event shows them.
        for target in &view.targets {
            if self.states.insert(target.id.clone(), target.state) != Some(target.state) {
                out.note(job_text::state_line(target, view.proof_root()));
            }
        }
        let due = self
            .last
            .is_none_or(|last| now.duration_since(last) >= SUMMARY_EVERY);
        if due || self.job_state != Some(view.state) {
            out.note(job_text::summary_line(view));
            self.last = Some(now);
            self.job_state = Some(view.state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::job_text::tests::{sample_summary, sample_view, target};
    use super::*;
    use serde_json::json;
    use terminal::output::OutputOptions;
    use terminal::testing::captured;

    fn progress(view: &JobView) -> Event {
        Event::Progress {
            job: view.id.clone(),
            view: Box::new(view.clone()),
        }
    }

    #[test]
    fn plain_lines_once_a_change_and_now_and_then() {
        let (out, results, notes) = captured(OutputOptions::default());
        let mut plain = Plain::default();
        let mut view = sample_view();
        view.targets.truncate(1);
        plain.event(&progress(&view), &out);
        plain.event(&progress(&view), &out);
        let changed = target("pc-01", "verifying", json!({}));
        plain.event(
            &Event::State {
                job: "7".into(),
                time: "t".into(),
                target: Box::new(changed.clone()),
            },
            &out,
        );
        view.targets = vec![changed];
        plain.event(&progress(&view), &out);
        plain.event(
            &Event::Log {
                job: "7".into(),
                time: "t".into(),
                text: "only with -v".into(),
            },
            &out,
        );
        let text = notes.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert_eq!(
            (lines[0], lines[2]),
            ("pc-01: receiving", "pc-01: verifying")
        );
        assert!(lines[1].starts_with("job 7  running"));
        assert_eq!(results.text(), "");
        // Another line ten seconds later.
        plain.progress(&view, Instant::now() + SUMMARY_EVERY, &out);
        assert_eq!(notes.text().lines().count(), 4);
    }

    #[test]
    fn the_end_is_a_table_or_the_last_json_line() {
        let summary = sample_summary();
        let (out, results, _) = captured(OutputOptions::default());
        assert_eq!(show_end(&summary, &out).unwrap(), Exit(3));
        assert!(
            results.text().ends_with(
                "report: /var/lib/diskcast/jobs/7\nto try the others again: diskcast job retry 7\n"
            ),
            "{}",
            results.text()
        );

        let (out, results, _) = captured(OutputOptions::default());
        let mut unchecked = summary.clone();
        unchecked.unchecked = true;
        show_end(&unchecked, &out).unwrap();
        let text = results.text();
        assert!(
            text.lines().any(|line| line == job_text::UNCHECKED),
            "{text}"
        );

        let (out, results, notes) = captured(OutputOptions {
            json: true,
            ..Default::default()
        });
        assert_eq!(show_end(&summary, &out).unwrap(), Exit(3));
        let last: serde_json::Value = serde_json::from_str(results.text().trim()).unwrap();
        assert_eq!(
            (last["type"].as_str(), last["targets"][0]["state"].as_str()),
            (Some("summary"), Some("done"))
        );
        for field in ["id", "state", "reason", "bytes_written", "seconds", "root"] {
            assert!(last["targets"][0].get(field).is_some(), "{field}");
        }
        assert_eq!(notes.text(), "");
    }

    #[test]
    fn only_proven_targets_are_a_success() {
        let mut summary = sample_summary();
        summary
            .targets
            .retain(|target| target.state == TargetState::Done);
        summary.failed = 0;
        summary.state = JobState::Done;
        assert_eq!(exit_of(&summary), Exit::OK);
        for state in [JobState::Cancelled, JobState::Failed, JobState::Interrupted] {
            assert_eq!(
                exit_of(&Summary {
                    state,
                    ..summary.clone()
                }),
                Exit(3)
            );
        }
        // A console that reports `done` for the job is not believed while one of its targets is not
        // done.
        summary.targets[0].state = TargetState::Lost;
        assert_eq!(exit_of(&summary), Exit(3));
        summary.targets.clear();
        assert_eq!(exit_of(&summary), Exit(3));
    }

    #[tokio::test]
    async fn a_console_that_was_restarted_is_waited_for() {
        use client::fake::{answer, console};
        let folder = tempfile::tempdir().unwrap();
        let log = |second: u32, text: &str| {
            let time = format!("2026-11-21T03:00:0{second}Z");
            serde_json::to_string(&Event::Log {
                job: "7".into(),
                time,
                text: text.into(),
            })
            .unwrap()
        };
        let summary = serde_json::to_string(&Event::Summary(Box::new(sample_summary()))).unwrap();
        // The first stream ends without a summary, in the middle of a line; the second one has all
        // events from the start.
        let first = format!("{}\n{}\n{{\"type\":", log(1, "one"), log(2, "two"));
        let second = format!(
            "{}\n{}\n{}\n{summary}\n",
            log(1, "one"),
            log(2, "two"),
            log(3, "three")
        );
        let served = console(
            folder.path(),
            vec![answer("200 OK", &first), answer("200 OK", &second)],
        );
        let (out, _, notes) = captured(OutputOptions {
            verbose: 1,
            ..Default::default()
        });
        let ended = follow(
            &Client::new(folder.path()),
            "7",
            &out,
            Show::Everything,
            None,
        )
        .await
        .unwrap();
        assert_eq!(ended.job, "7");
        assert_eq!(served.await.unwrap().len(), 2);
        assert_eq!(
            notes.text(),
            "one\ntwo\nthe console is gone; waiting up to 10 s for it to come back\nthe console is back\nthree\n"
        );
    }

    #[tokio::test]
    async fn waiting_has_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let _silent = tokio::net::UnixListener::bind(folder.path().join(api::SOCKET_NAME)).unwrap();
        let (out, ..) = captured(OutputOptions::default());
        let error = follow(
            &Client::new(folder.path()),
            "7",
            &out,
            Show::End,
            Some(Duration::from_millis(20)),
        )
        .await
        .unwrap_err();
        assert_eq!(error.code.exit_code(), 124);
        assert!(
            error.message.contains("job 7 is not over"),
            "{}",
            error.message
        );
    }
}
