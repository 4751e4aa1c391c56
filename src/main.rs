//! The program `diskcast`: the technician's command line and the console.

use std::process::ExitCode;

fn main() -> ExitCode {
    diskcast::cli::diskcast(std::env::args_os()).into()
}
