//! Everything a technician sees goes through one [`Output`].
//!
//! Owns: stdout, stderr, the bars, and what `--json`, `-q` and a closed pipe mean. Results go to stdout, notes and
//! progress to stderr; under `--json` progress and errors join the results as one JSON object a line, so that an
//! unattended run shows the same facts as an attended one. Never decides what a command does.
//!
//! A closed stdout (`| head`) is not an error: what follows is dropped in silence and a command with effects runs to
//! its end. Commands that only watch ask [`Output::is_closed`] and stop.

use super::progress::Progress;
use crate::console::api::{ApiError, ErrorCode};
use indicatif::{MultiProgress, ProgressDrawTarget};
use serde::Serialize;
use std::io::{BufRead, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// How results and progress are to be shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct OutputOptions {
    /// JSON on stdout instead of text.
    pub json: bool,
    /// Results and errors only.
    pub quiet: bool,
    /// 0: as usual, 1: more, 2: everything.
    pub verbose: u8,
    /// Never colour, whatever the terminal.
    pub no_color: bool,
}

/// Where a technician looks. Cheap to clone; every clone writes to the same place in turn.
#[derive(Clone)]
pub struct Output {
    inner: Arc<Inner>,
}

struct Inner {
    options: OutputOptions,
    /// stderr is a terminal that can redraw lines.
    terminal: bool,
    /// stdin is a terminal: questions can be answered.
    interactive: bool,
    color: bool,
    out: Mutex<Box<dyn Write + Send>>,
    err: Mutex<Box<dyn Write + Send>>,
    closed: AtomicBool,
    bars: MultiProgress,
}

/// An error as `--json` shows it: `type` first, then the fields of [`ApiError`].
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

    /// An output that writes elsewhere, without terminal or colour: for tests and for the demo's inner commands.
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

    /// `--json` was given.
    pub fn json(&self) -> bool {
        self.inner.options.json
    }

    /// `-q` was given.
    pub fn quiet(&self) -> bool {
        self.inner.options.quiet
    }

    /// How often `-v` was given.
    pub fn verbose(&self) -> u8 {
        self.inner.options.verbose
    }

    /// Bars can be drawn: stderr is a terminal and neither `--json` nor `-q` was given.
    pub fn draws_bars(&self) -> bool {
        self.inner.terminal && !self.json() && !self.quiet()
    }

    /// Colour is wanted on stderr.
    pub fn color(&self) -> bool {
        self.inner.color
    }

    /// The reader of stdout has gone away.
    pub fn is_closed(&self) -> bool {
        self.inner.closed.load(Ordering::Relaxed)
    }

    /// The bars of this output; hidden unless [`Output::draws_bars`].
    pub fn bars(&self) -> &MultiProgress {
        &self.inner.bars
    }

    /// Somebody is at a terminal who sees notes and can answer a question.
    pub fn can_ask(&self) -> bool {
        self.inner.interactive && !self.json() && !self.quiet()
    }

    /// Takes the bars off the terminal, so that a line can be typed on it.
    pub(super) fn hide_bars(&self) {
        // They are drawn again later; a terminal that cannot be cleared has one more line.
        let _ = self.inner.bars.clear();
        self.inner
            .bars
            .set_draw_target(ProgressDrawTarget::hidden());
    }

    /// Draws the bars again.
    pub(super) fn show_bars(&self) {
        if self.draws_bars() {
            self.inner.bars.set_draw_target(bars_of_terminal());
        }
    }

    /// One JSON document on a line of stdout, with or without `--json`.
    pub fn result_json(&self, document: &impl Serialize) {
        match serde_json::to_string(document) {
            Ok(text) => self.stdout(&text),
            // Our own types serialize; a map with a non-text key would be our mistake, and is said rather than hidden.
            Err(error) => self.error(&ApiError::new(
                ErrorCode::Unexpected,
                format!("printing a result: {error}"),
            )),
        }
    }

    /// A result on stdout. A closed pipe ends quietly.
    pub fn line(&self, text: impl AsRef<str>) {
        self.stdout(text.as_ref());
    }

    /// A remark on stderr; silent with `-q`.
    pub fn note(&self, text: impl AsRef<str>) {
        if !self.quiet() {
            self.stderr(text.as_ref());
        }
    }

    /// A remark on stderr that only `-v` shows.
    pub fn detail(&self, text: impl AsRef<str>) {
        if self.verbose() > 0 {
            self.note(text);
        }
    }

    /// A warning on stderr, with `-q` as well: what it says may cost a disk.
    pub fn warn(&self, text: impl AsRef<str>) {
        let head = self.paint("warning:", "33;1");
        self.stderr(&format!("{head} {}", text.as_ref()));
    }

    /// What went wrong and what to try: text on stderr, or the last JSON line on stdout.
    pub fn error(&self, error: &ApiError) {
        if self.json() {
            // Fields are an enum and strings: this cannot fail to serialize.
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

    /// Progress over bytes: a bar on a terminal, a line every few seconds when piped, JSON lines under `--json`,
    /// nothing with `-q`. `total` is `None` when it is not known yet.
    pub fn progress(&self, label: &str, total: Option<u64>) -> Progress {
        Progress::new(self.clone(), label, total)
    }

    /// Asks before something destructive. `yes` is the command's `--yes`; otherwise the technician has to type `answer`.
    ///
    /// # Errors
    /// `Usage` when nobody can be asked (no terminal, or `--json`), or the answer was another.
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

    /// The text in an ANSI colour where colour is wanted.
    pub fn paint(&self, text: &str, code: &str) -> String {
        if self.inner.color {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// Text for stderr, whole lines, without tearing a bar; what `-q` says is the caller's affair.
    pub(super) fn stderr(&self, text: &str) {
        self.inner.bars.suspend(|| {
            let mut err = self
                .inner
                .err
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            // Nobody is left to be told when stderr is gone.
            let _ = writeln!(err, "{text}").and_then(|()| err.flush());
        });
    }

    pub(super) fn ask(&self, question: &str) {
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
pub(super) mod tests {
    use super::*;

    /// A writer tests can read back.
    #[derive(Clone, Default)]
    pub(crate) struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Buffer {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    struct ClosedPipe;

    impl Write for ClosedPipe {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    pub(crate) fn captured(options: OutputOptions) -> (Output, Buffer, Buffer) {
        let (out, err) = (Buffer::default(), Buffer::default());
        (
            Output::to_writers(options, out.clone(), err.clone()),
            out,
            err,
        )
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
