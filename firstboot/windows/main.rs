//! `diskcast-firstboot.exe`: carries out the job of a machine after its first start, and removes
//! itself.
//!
//! Runs as a Windows service (LocalSystem, started automatically), or with `--run JOBFILE` on a
//! console, where it neither restarts the machine nor removes a service. Beside the program lie
//! `firstboot.job`, `firstboot.journal` and `firstboot.log`; only SYSTEM and Administrators may
//! read that folder.
//!
//! Owns these files alone. Decides nothing: [`firstboot::machine`] does. All `unsafe` code is in
//! `sys.rs` and `sys/`.
//!
//! Tested under Wine 8. Not tested on real Windows. Needs 64-bit Windows 7 or later, like Rust's
//! standard library.
//!
//! Exit codes of `--run`: 0 finished, 1 stopped for good, 2 wrong arguments or no job, 3 could not
//! continue, 3010 a restart is needed.

#![cfg(windows)]
#![deny(unsafe_code)]

mod log;
mod report;
mod runner;
mod steps;
#[allow(unsafe_code)]
mod sys;

use runner::{Mode, Runner};
use std::path::{Path, PathBuf};

/// Name of the service, here and in the registry.
pub(crate) const SERVICE: &str = "diskcast-firstboot";

const HELP: &str = "\
diskcast-firstboot: what a machine finishes by itself after its first start

  diskcast-firstboot --run JOBFILE
      carries the job out here and now; where the machine has to restart, ends
      with exit code 3010, and goes on when it is run again

Without arguments it is the service of that name, and does the job beside it.
";

fn main() {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let code = match arguments.as_slice() {
        [] => as_service(),
        [run, job] if run == "--run" => Runner::new(Path::new(job), Mode::Console).start(),
        [word] if word == "--help" => {
            print!("{}", HELP);
            0
        }
        _ => {
            eprint!("{}", HELP);
            2
        }
    };
    std::process::exit(code);
}

fn as_service() -> i32 {
    match sys::service::dispatch(SERVICE, serve) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("not started as a service: {}\n\n{}", error, HELP);
            2
        }
    }
}

/// Main function of the service, on a thread of the service control manager.
fn serve() {
    let job = std::env::current_exe()
        .ok()
        .and_then(|exe| exe.parent().map(Path::to_path_buf))
        .unwrap_or_else(|| PathBuf::from(r"C:\ProgramData\diskcast"))
        .join("firstboot.job");
    Runner::new(&job, Mode::Service).start();
}
