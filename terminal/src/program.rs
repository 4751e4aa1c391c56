//! The frame of a program: from its arguments to a parsed command, from the command's end to the exit
//! code.

use crate::exit::{Ended, Exit, usage};
use crate::output::{Output, OutputOptions};
use api::{ApiError, ErrorCode};
use clap::{CommandFactory, FromArgMatches};
use std::ffi::OsString;

/// Parses the arguments.
///
/// # Errors
/// The exit code after help, the version or a usage error, which are printed here.
pub fn parse<C: CommandFactory + FromArgMatches>(arguments: &[OsString]) -> Result<C, Exit> {
    let parsed = C::command()
        .try_get_matches_from(arguments)
        .and_then(|mut matches| C::from_arg_matches_mut(&mut matches));
    parsed.map_err(|error| {
        let json = arguments.iter().any(|argument| argument == "--json");
        if json && error.use_stderr() {
            let out = Output::new(OutputOptions {
                json: true,
                ..Default::default()
            });
            return told(Err(usage_error(&error)), &out);
        }
        // A closed pipe while help is printed is no failure.
        let _ = error.print();
        if error.use_stderr() {
            ErrorCode::Usage.into()
        } else {
            Exit::OK
        }
    })
}

/// clap's message as one line: the mistake, then its tip.
pub fn usage_error(error: &clap::Error) -> ApiError {
    let text = error.render().to_string();
    let wrong = text
        .lines()
        .next()
        .unwrap_or_default()
        .trim_start_matches("error: ")
        .trim_end_matches('.')
        .to_owned();
    let tip = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("tip: "))
        .unwrap_or("try --help");
    usage(wrong).hint(tip)
}

/// Shows the error of a command, if it ended with one; returns the exit code.
pub fn told(ended: Ended, out: &Output) -> Exit {
    ended.unwrap_or_else(|error| {
        out.error(&error);
        error.code.into()
    })
}
