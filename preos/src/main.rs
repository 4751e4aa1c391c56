//! The agent: runs on the machine whose disk is written; as process 1 it is the pre-OS.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    match preos::enter(&arguments) {
        Some(code) => code,
        None => preos::command::diskcast_agent(&arguments).into(),
    }
}
