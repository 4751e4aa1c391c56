//! Questions to a person at the terminal.
//!
//! Owns: the terminal's echo, which is off for a secret and restored however the question ends.
//! Without a terminal no question is asked.

use api::ApiError;
use rustix::termios::{self, LocalModes, OptionalActions, Termios};
use std::io::{BufRead, stdin};
use terminal::exit::usage;
use terminal::output::Output;
use zeroize::Zeroizing;

/// Restores the terminal's settings when dropped.
struct Quiet(Termios);

impl Quiet {
    fn begin() -> Option<Self> {
        let before = termios::tcgetattr(stdin()).ok()?;
        let mut modes = before.clone();
        modes.local_modes.remove(LocalModes::ECHO);
        termios::tcsetattr(stdin(), OptionalActions::Now, &modes).ok()?;
        Some(Self(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // An error here can be shown to nobody.
        let _ = termios::tcsetattr(stdin(), OptionalActions::Now, &self.0);
    }
}

/// Asks for one line; returns it without its line end.
///
/// # Errors
/// `Usage` when there is no terminal, or the input ends.
pub(super) fn line(out: &Output, question: &str) -> Result<String, ApiError> {
    if out.json() || !termios::isatty(stdin()) {
        return Err(usage(format!(
            "{} has to be answered, and nobody is at a terminal",
            question.trim_end_matches([' ', ':'])
        )));
    }
    out.ask(question);
    let mut typed = String::new();
    match stdin().lock().read_line(&mut typed) {
        Ok(read) if read > 0 => Ok(typed.trim_end_matches(['\r', '\n']).to_owned()),
        _ => Err(usage("not answered; nothing was done")),
    }
}

/// Asks for a secret without showing it, twice, until both entries are equal.
///
/// # Errors
/// The errors of [`line`]; `Usage` after three attempts.
pub(super) fn secret(out: &Output, what: &str) -> Result<Zeroizing<String>, ApiError> {
    for _ in 0..3 {
        let hidden = |question: &str| -> Result<Zeroizing<String>, ApiError> {
            let quiet = Quiet::begin();
            let typed = line(out, question).map(Zeroizing::new);
            if quiet.is_some() {
                out.note("");
            }
            typed
        };
        let first = hidden(&format!("{what}: "))?;
        if first.is_empty() {
            return Err(usage(format!("{what} is empty; nothing was done")));
        }
        if *hidden(&format!("{what} again: "))? == *first {
            return Ok(first);
        }
        out.note("they differ");
    }
    Err(usage(format!(
        "{what} was not typed the same twice; nothing was done"
    )))
}
