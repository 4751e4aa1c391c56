//! `cargo xtask`: the project's own tools.
//!
//! `test` runs all tests on a fresh Debian machine: it installs missing packages, with a message,
//! and runs every step in order. `bench peers` measures diskcast beside partclone and zstd in one
//! run, `bench room` deployments in a room of namespaces beside uftp and udpcast.
//!
//! Always holds: nothing is skipped silently (a step that cannot run fails with its reason), every
//! step has a time limit, and the exit code is zero only when every step passed. Owns no test
//! itself and depends on a few small readers (JSON, TOML, versions, licences) only, so that it compiles
//! in seconds.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a developer's tool: it speaks to the terminal and to the CI log"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "a driver of processes: it times them, waits for them and makes scratch files"
)]

mod agent;
mod bench;
mod binaries;
mod firstboot;
mod fuzz;
#[cfg(test)]
mod house;
mod machine;
mod options;
mod packages;
mod python;
mod room;
mod scratch;
mod seeds;
mod shell;
mod steps;
mod supply;
mod test;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask: set-up and proof of diskcast

  cargo xtask test [--full] [FILTER]
      Everything CI runs, on a Debian machine, as root: installs missing packages,
      checks loop devices, FUSE and network namespaces, then fmt, deny.toml
      and advisories, build with clippy's lints, test and a short run of each
      fuzz target. Ends with 'N passed, N failed'.
      --full   longer fuzzing and the long forms of tests (DISKCAST_TEST_FULL=1)
      FILTER   one step (fmt, deny, clippy, build, test, fuzz), one fuzz target, or else
               the tests whose name contains FILTER

  cargo xtask bench peers [--size SIZE] [--runs N] [--earlier PROGRAM] [--dir DIR]
      Capture, restore and deep check of two generated disks, interleaved with
      partclone and zstd; medians and ratios as a markdown table. As root.
      --size     bytes in files on the disk (default 1G; K, M, G)
      --runs     runs of each side (default 3)
      --earlier  an earlier build of diskcast, measured in the same turns
      --dir      where the disks go (default: the system's temporary folder)

  cargo xtask bench room [--scenario NAME ...] [--agents N] [--rate 200mbit]
                         [--payload 128M] [--files 1070M] [--runs K] [--dir DIR]
                         [--deploy WORD ...] [--bin DIR] [--no-peers] [--json]
      Deployments in a room of network namespaces, each figure beside its limit
      and beside uftp, udpcast, or udpcast with zstd and partclone. As root.
      --scenario  transport-0, transport-1, transport-5, burst, end-to-end-50,
                  end-to-end-200, flat, slow-one, kill-one, reboot, reuse, memory
                  (default: all; may be repeated, or a list with commas)
      --agents    instead of what the scenario asks for
      --rate      of every link, instead of what the scenario asks for
      --payload   incompressible disk (default 128M)
      --files     bytes in files on the NTFS disk of end-to-end (default 1070M)
      --runs      runs of each side, interleaved (default 3)
      --dir       where images and target disks go
      --deploy    one more word for every `deploy`, for example --pace=fastest
      --bin       folder with built programs, instead of building them

  cargo xtask agent
      The agent that needs no libraries, as diskcast-agent-static beside the usual
      one: what `diskcast export` puts into the pre-OS.

  cargo xtask firstboot
      diskcast-firstboot.exe beside the agent: what a Windows target finishes itself
      with. Fetches Debian's compiler for Windows into the target folder.

  cargo xtask notices
      THIRD-PARTY.txt beside the programs: the crates in them and their licences,
      which everyone who passes the programs on has to pass on with them.
      `diskcast export` puts it into what it writes.

  cargo xtask help
";

/// Prints the help.
fn help() -> Result<bool, shell::Failure> {
    print!("{HELP}");
    Ok(true)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let asks_for_help = words.iter().any(|word| matches!(*word, "--help" | "-h"));
    let outcome = match words.as_slice() {
        _ if asks_for_help => help(),
        ["test", rest @ ..] => options::Test::parse(rest).and_then(|o| test::run(&o)),
        ["agent"] => agent::run(),
        ["firstboot"] => firstboot::run(),
        ["notices"] => supply::notices::run(),
        ["bench", "peers", rest @ ..] => options::Bench::parse(rest).and_then(|o| bench::peers(&o)),
        ["bench", "room", rest @ ..] => room::Options::parse(rest).and_then(|o| room::run(&o)),
        [] | ["help", ..] => help(),
        other => Err(shell::Failure::usage(format!(
            "unknown command: {}",
            other.join(" ")
        ))),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            if failure.usage {
                eprint!("\n{HELP}");
                return ExitCode::from(2);
            }
            ExitCode::FAILURE
        }
    }
}
