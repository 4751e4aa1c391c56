//! Progress of one long local command (capture, check, restore): one stream of numbers in three
//! forms.
//!
//! Owns: the time of the next plain or JSON line, and the bar. Worker threads share one
//! [`Progress`]; counting is one atomic addition and a try-lock, so it may be called for every
//! chunk. Dropping it without [`Progress::finish`] removes the bar without a message: the error
//! that follows has one.

#![expect(
    clippy::disallowed_methods,
    reason = "this is the edge: speed and time left need the clock"
)]

use crate::output::Output;
use facts::speed::RateWindow;
use facts::units;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Interval between two plain lines when piped.
const PLAIN_EVERY: Duration = Duration::from_secs(5);
/// Interval between two JSON lines.
const JSON_EVERY: Duration = Duration::from_millis(500);
/// Value of an unknown total.
const UNKNOWN: u64 = u64::MAX;

/// A running count of bytes. Cheap to clone; clones count together.
#[derive(Clone)]
pub struct Progress {
    inner: Arc<Inner>,
}

struct Inner {
    output: Output,
    label: String,
    /// Total number of bytes; [`UNKNOWN`] until it is set.
    total: AtomicU64,
    done: AtomicU64,
    started: Instant,
    bar: Option<ProgressBar>,
    shown: Mutex<Shown>,
}

#[derive(Default)]
struct Shown {
    window: RateWindow,
    message: String,
    last: Option<Duration>,
    finished: bool,
}

#[derive(Serialize)]
struct ProgressLine<'a> {
    r#type: &'static str,
    label: &'a str,
    done_bytes: u64,
    total_bytes: Option<u64>,
    rate_bytes_per_s: u64,
    eta_seconds: Option<f64>,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
}

impl Progress {
    pub(crate) fn new(output: Output, label: &str, total: Option<u64>) -> Self {
        let bar = output.draws_bars().then(|| {
            let bar = output.bars().add(ProgressBar::no_length());
            bar.set_style(style(total.is_some(), output.color()));
            if let Some(total) = total {
                bar.set_length(total);
            }
            bar.set_prefix(label.to_owned());
            bar.enable_steady_tick(Duration::from_millis(250));
            bar
        });
        Self {
            inner: Arc::new(Inner {
                output,
                label: label.to_owned(),
                total: AtomicU64::new(total.unwrap_or(UNKNOWN)),
                done: AtomicU64::new(0),
                started: Instant::now(),
                bar,
                shown: Mutex::new(Shown::default()),
            }),
        }
    }

    /// Sets the total, in bytes.
    pub fn set_total(&self, total: u64) {
        if self.inner.total.swap(total, Ordering::Relaxed) == total {
            return;
        }
        if let Some(bar) = &self.inner.bar {
            bar.set_length(total);
            bar.set_style(style(true, self.inner.output.color()));
        }
    }

    /// Sets the number of bytes done. Worker threads may report out of order: the count never
    /// falls.
    pub fn set(&self, done: u64) {
        self.inner.done.fetch_max(done, Ordering::Relaxed);
        self.show();
    }

    /// Adds to the number of bytes done.
    pub fn inc(&self, more: u64) {
        self.inner.done.fetch_add(more, Ordering::Relaxed);
        self.show();
    }

    /// Sets the description of the current work, a few words.
    pub fn message(&self, text: impl Into<String>) {
        let text = text.into();
        if let Some(bar) = &self.inner.bar {
            bar.set_message(text.clone());
        }
        self.inner
            .shown
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .message = text;
    }

    /// Bytes per second since the start.
    pub fn mean_bytes_per_s(&self) -> u64 {
        let micros = self.inner.started.elapsed().as_micros().max(1);
        u64::try_from(u128::from(self.inner.done.load(Ordering::Relaxed)) * 1_000_000 / micros)
            .unwrap_or(u64::MAX)
    }

    /// Seconds since the start.
    pub fn seconds(&self) -> f64 {
        self.inner.started.elapsed().as_secs_f64()
    }

    /// Ends the display: the bar is removed and `text`, unless empty, stays as a note. Under
    /// `--json` the last progress line is written, so that a reader always gets the final count.
    pub fn finish(&self, text: impl AsRef<str>) {
        let mut shown = self
            .inner
            .shown
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut shown.finished, true) {
            return;
        }
        if let Some(bar) = &self.inner.bar {
            bar.finish_and_clear();
        }
        if self.inner.output.quiet() {
            return;
        }
        if self.inner.output.json() {
            let done = self.inner.done.load(Ordering::Relaxed);
            shown.window.note(self.inner.started.elapsed(), done);
            self.json_line(&shown, done);
        } else if !text.as_ref().is_empty() {
            self.inner.output.note(text);
        }
    }

    fn show(&self) {
        if self.inner.output.quiet() {
            return;
        }
        // A thread that finds the lock taken leaves the output to the other one: counting never
        // waits for a slow terminal.
        let Ok(mut shown) = self.inner.shown.try_lock() else {
            return;
        };
        let done = self.inner.done.load(Ordering::Relaxed);
        if let Some(bar) = &self.inner.bar {
            // Set under the lock, so that the position never goes back, which would restart the
            // bar's speed.
            bar.set_position(done);
            return;
        }
        let now = self.inner.started.elapsed();
        shown.window.note(now, done);
        let every = if self.inner.output.json() {
            JSON_EVERY
        } else {
            PLAIN_EVERY
        };
        if shown.finished || now.saturating_sub(shown.last.unwrap_or_default()) < every {
            return;
        }
        shown.last = Some(now);
        if self.inner.output.json() {
            self.json_line(&shown, done);
        } else {
            let line = plain_line(&self.inner.label, done, self.total(), &shown);
            self.inner.output.note(line);
        }
    }

    fn total(&self) -> Option<u64> {
        Some(self.inner.total.load(Ordering::Relaxed)).filter(|total| *total != UNKNOWN)
    }

    fn json_line(&self, shown: &Shown, done: u64) {
        let total = self.total();
        self.inner.output.result_json(&ProgressLine {
            r#type: "progress",
            label: &self.inner.label,
            done_bytes: done,
            total_bytes: total,
            rate_bytes_per_s: shown.window.bytes_per_s(),
            eta_seconds: total.and_then(|total| shown.window.eta_seconds(total)),
            message: &shown.message,
        });
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn plain_line(label: &str, done: u64, total: Option<u64>, shown: &Shown) -> String {
    let mut line = match total {
        Some(total) => format!(
            "{label}: {:>3} % of {}",
            units::percent(done, total),
            units::bytes(total)
        ),
        None => format!("{label}: {}", units::bytes(done)),
    };
    line.push_str(&format!(
        ", {}",
        units::bytes_per_s(shown.window.bytes_per_s())
    ));
    if let Some(eta) = total.and_then(|total| shown.window.eta_seconds(total)) {
        line.push_str(&format!(", {} left", units::clock(eta)));
    }
    if !shown.message.is_empty() {
        line.push_str(&format!(", {}", shown.message));
    }
    line
}

/// ASCII only: serial consoles have no box glyphs.
fn style(known: bool, color: bool) -> ProgressStyle {
    let bar = if color { "{bar:30.cyan}" } else { "{bar:30}" };
    let template = if known {
        format!(
            "{{prefix}} {{percent:>3}} % [{bar}] {{decimal_bytes}} of {{decimal_total_bytes}}, {{decimal_bytes_per_sec}}, {{eta}} left {{msg}}"
        )
    } else {
        "{prefix} {decimal_bytes}, {decimal_bytes_per_sec} {msg}".to_owned()
    };
    ProgressStyle::with_template(&template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::OutputOptions;
    use crate::testing::captured;

    #[test]
    fn json_progress_always_shows_the_end() {
        let (output, out, err) = captured(OutputOptions {
            json: true,
            ..Default::default()
        });
        let progress = output.progress("capture", None);
        progress.set_total(100);
        progress.inc(60);
        progress.inc(40);
        progress.set(70);
        progress.finish("captured");
        progress.finish("twice is once");
        let lines: Vec<serde_json::Value> = out
            .text()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 1, "half a second has not passed");
        assert_eq!(lines[0]["type"], "progress");
        assert_eq!(
            (&lines[0]["done_bytes"], &lines[0]["total_bytes"]),
            (&100.into(), &100.into())
        );
        assert_eq!(err.text(), "");
    }

    #[test]
    fn piped_progress_ends_with_its_text() {
        let (output, out, err) = captured(OutputOptions::default());
        let progress = output.progress("check", Some(10));
        progress.set(10);
        progress.finish("checked 10 B");
        assert_eq!(
            (out.text().as_str(), err.text().as_str()),
            ("", "checked 10 B\n")
        );
    }

    #[test]
    fn a_plain_line_names_every_number() {
        let mut shown = Shown {
            message: "partition 2".to_owned(),
            ..Default::default()
        };
        shown.window.note(Duration::from_secs(0), 0);
        shown.window.note(Duration::from_secs(5), 500_000_000);
        assert_eq!(
            plain_line("capture", 500_000_000, Some(2_000_000_000), &shown),
            "capture:  25 % of 2.00 GB, 100 MB/s, 0:15 left, partition 2"
        );
        assert_eq!(
            plain_line("capture", 500_000_000, None, &shown),
            "capture: 500 MB, 100 MB/s, partition 2"
        );
    }

    #[test]
    fn bar_templates_are_valid() {
        for (known, color) in [(true, true), (true, false), (false, true)] {
            let _ = style(known, color);
        }
        assert!(ProgressStyle::with_template("{bar:30.cyan} {decimal_bytes_per_sec}").is_ok());
    }
}
