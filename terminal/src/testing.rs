//! Helpers for tests of programs that use this crate: an output that is read back, and a walk over
//! all commands.

use crate::output::{Output, OutputOptions};
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

/// A writer whose text can be read back.
#[derive(Clone, Default)]
pub struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    /// Everything written so far.
    pub fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// An output with its stdout and its stderr.
pub fn captured(options: OutputOptions) -> (Output, Buffer, Buffer) {
    let (out, err) = (Buffer::default(), Buffer::default());
    (
        Output::to_writers(options, out.clone(), err.clone()),
        out,
        err,
    )
}

/// Checks a program and all its commands: help fits 80 columns, and each command and option says
/// what it is. Returns the number of commands.
///
/// # Panics
/// When one of them does not.
pub fn check_help(mut program: clap::Command) -> usize {
    program.clone().debug_assert();
    program.build();
    let name = program.get_name().to_owned();
    check_command(&program, &name)
}

fn check_command(command: &clap::Command, path: &str) -> usize {
    for help in [
        command.clone().render_help(),
        command.clone().render_long_help(),
    ] {
        for line in help.to_string().lines() {
            assert!(line.chars().count() <= 80, "{path}: {line}");
        }
    }
    assert!(
        command.get_about().is_some(),
        "{path} does not say what it does"
    );
    for argument in command.get_arguments() {
        assert!(
            argument.get_help().is_some(),
            "{path} {} does not say what it is",
            argument.get_id()
        );
    }
    let below = command.get_subcommands();
    1 + below
        .map(|sub| check_command(sub, &format!("{path} {}", sub.get_name())))
        .sum::<usize>()
}
