//! The target side: runs on the machine whose disk is written.

use std::process::ExitCode;

fn main() -> ExitCode {
    diskcast::cli::diskcast_agent(std::env::args_os()).into()
}
