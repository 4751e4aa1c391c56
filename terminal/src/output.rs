//! All output of a command goes through one [`Output`].
//!
//! Owns: stdout, stderr, the bars, and the meaning of `--json`, `-q` and a closed pipe. Results go
//! to stdout, notes and progress to stderr; under `--json` progress and errors join the results as
//! one JSON object a line, so that an unattended run shows the same facts as an attended one. Never
//! decides what a command does.
//!
//! A closed stdout (`| head`) is not an error: further output is dropped without a message, and a
//! command with effects runs to its end. Commands that only watch ask [`Output::is_closed`] and
//! stop.

use crate::progress::Progress;
use api::{ApiError, ErrorCode};
use indicatif::{MultiProgress, ProgressDrawTarget};
use serde::Serialize;
use std::io::{BufRead, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Options for the form of the output.
#[derive(Clone, Copy, Debug, Default)]
pub struct OutputOptions {
    /// JSON on stdout instead of text.
    pub json: bool,
    /// Results and errors only.
    pub quiet: bool,
    /// 0: default, 1: more, 2: everything.
    pub verbose: u8,
    /// Never colour, on any terminal.
    pub no_color: bool,
}

/// The output of a command. Cheap to clone; all clones write to the same place.
#[derive(Clone)]
pub struct Output {
    inner: Arc<Inner>,
}

struct Inner {
    options: OutputOptions,
    /// True when stderr is a terminal that can redraw lines.
    terminal: bool,
    /// True when stdin is a terminal, so that questions can be answered.
    interactive: bool,
    color: bool,
    out: Mutex<Box<dyn Write + Send>>,
    err: Mutex<Box<dyn Write + Send>>,
    closed: AtomicBool,
    bars: MultiProgress,
}

/// An error in the form of `--json`: `type` first, then the fields of [`ApiError`].
#[derive(Serialize)]
struct ErrorLine<'a> {
    r#type: &'static str,
    #[serde(flatten)]
    error: &'a ApiError,
}

fn bars_of_terminal() -> ProgressDrawTarget {
    ProgressDrawTarget::stderr_with_hz(8)
}

impl Output {
    /// The process's own stdout and stderr. Honours `NO_COLOR`, `CLICOLOR_FORCE` and `TERM=dumb`.
    pub fn new(options: OutputOptions) -> Self {
        let stderr = std::io::stderr();
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let set = |name: &str| {
            std::env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0")
        };
        let terminal = stderr.is_terminal() && !dumb;
        let color = !options.no_color
            && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
            && (terminal || set("CLICOLOR_FORCE"));
        let interactive = std::io::stdin().is_terminal() && stderr.is_terminal();
        let bars =
            MultiProgress::with_draw_target(if terminal && !options.quiet && !options.json {
                bars_of_terminal()
            } else {
                ProgressDrawTarget::hidden()
            });
        Self {
            inner: Arc::new(Inner {
                options,
                terminal,
                interactive,
                color,
                out: Mutex::new(Box::new(std::io::stdout())),
                err: Mutex::new(Box::new(stderr)),
                closed: AtomicBool::new(false),
                bars,
            }),
        }
    }

    /// An output with other writers, without terminal or colour: for tests and for the demo's inner
    /// commands.
    pub fn to_writers(
        options: OutputOptions,
        out: impl Write + Send + 'static,
        err: impl Write + Send + 'static,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                options,
                terminal: false,
                interactive: false,
                color: false,
                out: Mutex::new(Box::new(out)),
                err: Mutex::new(Box::new(err)),
                closed: AtomicBool::new(false),
                bars: MultiProgress::with_draw_target(ProgressDrawTarget::hidden()),
            }),
        }
    }

    /// True with `--json`.
    pub fn json(&self) -> bool {
        self.inner.options.json
    }

    /// True with `-q`.
    pub fn quiet(&self) -> bool {
        self.inner.options.quiet
    }

    /// Number of `-v` options.
    pub fn verbose(&self) -> u8 {
        self.inner.options.verbose
    }

    /// True when bars can be drawn: stderr is a terminal and neither `--json` nor `-q` was given.
    pub fn draws_bars(&self) -> bool {
        self.inner.terminal && !self.json() && !self.quiet()
    }

    /// True when stderr is coloured.
    pub fn color(&self) -> bool {
        self.inner.color
    }

    /// True when the reader of stdout has closed it.
    pub fn is_closed(&self) -> bool {
        self.inner.closed.load(Ordering::Relaxed)
    }

    /// The bars of this output; hidden unless [`Output::draws_bars`].
    pub fn bars(&self) -> &MultiProgress {
        &self.inner.bars
    }

    /// True when a person at a terminal sees notes and can answer a question.
    pub fn can_ask(&self) -> bool {
        self.inner.interactive && !self.json() && !self.quiet()
    }

    /// Takes the bars off the terminal, so that a line can be typed on it.
    pub fn hide_bars(&self) {
        // They are drawn again later. If the terminal cannot be cleared, it has one more line.
        let _ = self.inner.bars.clear();
        self.inner
            .bars
            .set_draw_target(ProgressDrawTarget::hidden());
    }

    /// Draws the bars again.
    pub fn show_bars(&self) {
        if self.draws_bars() {
            self.inner.bars.set_draw_target(bars_of_terminal());
        }
    }

    /// Writes one JSON document on a line of stdout, with or without `--json`.
    pub fn result_json(&self, document: &impl Serialize) {
        match serde_json::to_string(document) {
            Ok(text) => self.stdout(&text),
            // Our own types serialize. A map with a non-text key would be our mistake, and is shown
            // rather than hidden.
            Err(error) => self.error(&ApiError::new(
                ErrorCode::Unexpected,
                format!("printing a result: {error}"),
            )),
        }
    }

    /// Writes a result to stdout. A closed pipe is no error.
    pub fn line(&self, text: impl AsRef<str>) {
        self.stdout(text.as_ref());
    }

    /// Writes a note to stderr, unless `-q` was given.
    pub fn note(&self, text: impl AsRef<str>) {
        if !self.quiet() {
            self.stderr(text.as_ref());
        }
    }

    /// Writes a note to stderr, only with `-v`.
    pub fn detail(&self, text: impl AsRef<str>) {
        if self.verbose() > 0 {
            self.note(text);
        }
    }

    /// Writes a warning to stderr, even with `-q`: its subject may cost a disk.
    pub fn warn(&self, text: impl AsRef<str>) {
        let head = self.paint("warning:", "33;1");
        self.stderr(&format!("{head} {}", text.as_ref()));
    }

    /// Shows an error with its hint: text on stderr, or the last JSON line on stdout.
    pub fn error(&self, error: &ApiError) {
        if self.json() {
            // The fields are an enum and strings, which always serialize.
            if let Ok(text) = serde_json::to_string(&ErrorLine {
                r#type: "error",
                error,
            }) {
                self.stdout(&text);
            }
            return;
        }
        self.stderr(&format!(
            "{} {}",
            self.paint("error:", "31;1"),
            error.message
        ));
        if let Some(hint) = &error.hint {
            self.stderr(&format!("{} {hint}", self.paint("hint:", "36;1")));
        }
    }

    /// Starts a progress display over bytes: a bar on a terminal, a line every few seconds when
    /// piped, JSON lines under `--json`, nothing with `-q`. `total` is `None` while it is unknown.
    pub fn progress(&self, label: &str, total: Option<u64>) -> Progress {
        Progress::new(self.clone(), label, total)
    }

    /// Has something destructive confirmed. `yes` is the command's `--yes`; otherwise the
    /// technician has to type `answer`.
    ///
    /// # Errors
    /// `Usage` when no question is possible (no terminal, or `--json`), or the typed answer
    /// differs.
    pub fn confirm(&self, question: &str, answer: &str, yes: bool) -> Result<(), ApiError> {
        if yes {
            return Ok(());
        }
        if self.json() || !self.inner.interactive {
            return Err(ApiError::new(
                ErrorCode::Usage,
                "this needs a confirmation, and nobody is at a terminal to give it",
            )
            .hint("look at the plan, then add --yes"));
        }
        let mut typed = String::new();
        self.ask(&format!("{question} Type {answer} to go on: "));
        let read = std::io::stdin().lock().read_line(&mut typed);
        if read.is_ok_and(|n| n > 0) && typed.trim() == answer {
            Ok(())
        } else {
            Err(ApiError::new(
                ErrorCode::Usage,
                format!("not confirmed: {answer} was expected; nothing was touched"),
            ))
        }
    }

    /// The text in an ANSI colour, if stderr is coloured.
    pub fn paint(&self, text: &str, code: &str) -> String {
        if self.inner.color {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// Writes whole lines to stderr without tearing a bar; the caller handles `-q`.
    pub fn stderr(&self, text: &str) {
        self.inner.bars.suspend(|| {
            let mut err = self
                .inner
                .err
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            // If stderr fails, nothing is left to report it to.
            let _ = writeln!(err, "{text}").and_then(|()| err.flush());
        });
    }

    /// Writes a question to stderr; the answer is typed on the same line.
    pub fn ask(&self, question: &str) {
        let mut err = self
            .inner
            .err
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let _ = write!(err, "{question}").and_then(|()| err.flush());
    }

    fn stdout(&self, text: &str) {
        if self.is_closed() {
            return;
        }
        self.inner.bars.suspend(|| {
            let mut out = self
                .inner
                .out
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
                self.inner.closed.store(true, Ordering::Relaxed);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Buffer, captured};

    struct ClosedPipe;

    impl Write for ClosedPipe {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn text_form() {
        let (output, out, err) = captured(OutputOptions::default());
        output.line("a result");
        output.note("a note");
        output.detail("a detail");
        output.warn("a warning");
        output.error(&ApiError::new(ErrorCode::Refused, "disk is mounted").hint("unmount it"));
        assert_eq!(out.text(), "a result\n");
        assert_eq!(
            err.text(),
            "a note\nwarning: a warning\nerror: disk is mounted\nhint: unmount it\n"
        );
    }

    #[test]
    fn quiet_keeps_results_warnings_and_errors() {
        let (output, out, err) = captured(OutputOptions {
            quiet: true,
            ..Default::default()
        });
        output.line("a result");
        output.note("a note");
        output.warn("a warning");
        output.error(&ApiError::new(ErrorCode::Refused, "no"));
        let bar = output.progress("reading", Some(10));
        bar.set(10);
        bar.finish("read");
        assert_eq!(out.text(), "a result\n");
        assert_eq!(err.text(), "warning: a warning\nerror: no\n");
    }

    #[test]
    fn json_form_has_errors_on_stdout_as_one_line() {
        let (output, out, err) = captured(OutputOptions {
            json: true,
            ..Default::default()
        });
        output.result_json(&serde_json::json!({"type": "plan"}));
        output.error(&ApiError::new(ErrorCode::Unreachable, "no console").hint("start one"));
        assert_eq!(
            out.text(),
            "{\"type\":\"plan\"}\n{\"type\":\"error\",\"code\":\"unreachable\",\"message\":\"no console\",\"hint\":\"start one\"}\n"
        );
        assert_eq!(err.text(), "");
    }

    #[test]
    fn a_closed_pipe_ends_quietly() {
        let output = Output::to_writers(OutputOptions::default(), ClosedPipe, Buffer::default());
        assert!(!output.is_closed());
        output.line("gone");
        output.line("gone");
        assert!(output.is_closed());
    }

    #[test]
    fn confirmation_without_a_terminal_is_a_usage_error() {
        let (output, _, _) = captured(OutputOptions::default());
        assert!(output.confirm("Erase 3 disks?", "3", true).is_ok());
        let error = output.confirm("Erase 3 disks?", "3", false).unwrap_err();
        assert_eq!(error.code, ErrorCode::Usage);
        assert!(error.hint.unwrap().contains("--yes"));
    }
}
