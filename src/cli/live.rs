//! A job on a terminal: a header line and a row a target, redrawn in place.
//!
//! Owns: the bars. Up to [`ROWS`] targets have a row each; a larger room has the header and one bar
//! for all. A target that ends (done, failed, lost) leaves a lasting line.

use super::job_text;
use super::table::clean;
use api::{Event, JobView};
use indicatif::{ProgressBar, ProgressStyle};
use std::time::Duration;
use terminal::output::Output;

/// Most rows, so that they fit a small terminal below the header.
const ROWS: usize = 16;

pub(super) struct Live {
    out: Output,
    header: ProgressBar,
    rows: Vec<ProgressBar>,
    all: Option<ProgressBar>,
    root: String,
}

impl Live {
    pub(super) fn new(out: &Output) -> Self {
        let header = out.bars().add(text_bar());
        header.set_message("waiting for the console's first report");
        Self {
            out: out.clone(),
            header,
            rows: Vec::new(),
            all: None,
            root: String::new(),
        }
    }

    pub(super) fn event(&mut self, event: &Event) {
        match event {
            Event::State { target, .. } if target.state.is_final() => {
                self.out.note(job_text::state_line(target, &self.root))
            }
            Event::Progress { view, .. } => self.progress(view),
            Event::Log { text, .. } => self.out.detail(clean(text)),
            Event::State { .. } | Event::Summary(_) => {}
        }
    }

    fn progress(&mut self, view: &JobView) {
        view.proof_root().clone_into(&mut self.root);
        self.header.set_message(job_text::header(view));
        if view.targets.len() > ROWS {
            let all = self.all.get_or_insert_with(|| {
                let bar = self.out.bars().add(ProgressBar::new(100));
                bar.set_style(bar_style());
                bar
            });
            all.set_position(u64::from(job_text::overall_percent(view)));
            return;
        }
        while self.rows.len() < view.targets.len() {
            self.rows.push(self.out.bars().add(text_bar()));
        }
        let width = job_text::name_width(&view.targets);
        for (bar, target) in self.rows.iter().zip(&view.targets) {
            bar.set_message(job_text::row(target, width));
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        for bar in self
            .rows
            .iter()
            .chain([&self.header])
            .chain(self.all.as_ref())
        {
            bar.finish_and_clear();
        }
    }
}

/// A line of text that is cut at the terminal's edge rather than wrapped.
fn text_bar() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    bar.set_style(
        ProgressStyle::with_template("{wide_msg}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner()),
    );
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}

fn bar_style() -> ProgressStyle {
    ProgressStyle::with_template("[{wide_bar}] {percent:>3} %")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::super::job_text::tests::{sample_view, target};
    use super::*;
    use terminal::output::OutputOptions;
    use terminal::testing::captured;

    #[test]
    fn a_small_room_has_rows_and_a_large_one_a_bar() {
        let (out, _, notes) = captured(OutputOptions::default());
        let mut view = sample_view();
        let event = |view: &JobView| Event::Progress {
            job: "7".into(),
            view: Box::new(view.clone()),
        };
        let mut live = Live::new(&out);
        live.event(&event(&view));
        assert_eq!((live.rows.len(), live.all.is_some()), (4, false));
        assert!(live.rows[0].message().starts_with("pc-01   receiving"));
        assert!(live.header.message().starts_with("job 7  running"));

        let mut live = Live::new(&out);
        view.targets = (0..200)
            .map(|n| {
                target(
                    &format!("pc-{n}"),
                    "receiving",
                    serde_json::json!({"done_bytes": 1, "total_bytes": 2}),
                )
            })
            .collect();
        live.event(&event(&view));
        assert_eq!(
            (
                live.rows.len(),
                live.all.as_ref().map(ProgressBar::position)
            ),
            (0, Some(25))
        );

        let ended = target(
            "pc-9",
            "lost",
            serde_json::json!({"reason": "connection ended"}),
        );
        live.event(&Event::State {
            job: "7".into(),
            time: "t".into(),
            target: Box::new(ended),
        });
        assert_eq!(
            notes.text(),
            "pc-9: lost: connection ended; what its disk is now is unknown\n"
        );
    }
}
