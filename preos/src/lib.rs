//! The pre-OS: the agent and all else that runs between the kernel and the console's orders.
//!
//! ```text
//! first (process 1)  mounts, reaps, starts `run` and starts it again when it ends
//!   '- run           command line -> drivers -> address -> agent, with a screen
//!        plug ------- modules for devices, now and later
//!        bring_up --- link, DHCP
//!        screen ----- view of Board (the pre-OS) and Desk (the agent); keys
//!        end -------- BootNext, unmount, restart or power off
//! ```
//!
//! | module | content | pure |
//! |---|---|---|
//! | [`command`] | the program `diskcast-agent` where a system runs already | |
//! | [`first`], [`mounts`] | process 1 | |
//! | [`run`] | the sequence of a start | |
//! | [`cmdline`] | the kernel command line | yes |
//! | [`modules`] | drivers | alias, deps |
//! | [`network`] | cards, DHCP, address | cards, exchange |
//! | [`board`] | the pre-OS's state for the screen | yes |
//! | [`screen`] | view, rows, keys; terminals | all but terminals |
//! | [`efi`] | the boot entry of the deployed disk | all but vars |
//! | [`event`] | reports of stages to the boot service | |
//! | [`end`] | restart and power off | |
//! | [`shell`] | a shell for people who build bundles | |
//!
//! Always holds: process 1 never ends; nothing is written to a disk here; a restart follows only a
//! job that was proven, committed and recorded.

pub mod board;
pub mod cmdline;
pub mod command;
pub mod efi;
pub mod end;
pub mod event;
pub mod first;
pub mod modules;
pub mod mounts;
pub mod network;
pub mod run;
pub mod screen;
pub mod shell;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

/// Argument with which process 1 starts the rest of itself.
const RUN: &str = "pre-os";

/// Runs the pre-OS's part of this process, if it has one: as process 1, as its child, or as the
/// kernel's `modprobe`. `None` otherwise.
pub fn enter(arguments: &[OsString]) -> Option<ExitCode> {
    // In a container the agent is process 1 too, but under its own name.
    let called = arguments.first().map(Path::new).and_then(Path::file_name);
    if std::process::id() == 1 && called == Some(OsStr::new("init")) {
        first::be_first();
    }
    let words: Vec<&str> = arguments
        .iter()
        .skip(1)
        .filter_map(|a| a.to_str())
        .collect();
    match words.as_slice() {
        [RUN] if rustix::process::getppid().is_some_and(|parent| parent.is_init()) => {
            Some(run::run())
        }
        // The arguments with which the kernel requests a module (kernel/module/kmod.c,
        // call_modprobe).
        ["-q", "--", name] => {
            let loaded = modules::load::Modules::open().load_by_any_name(name);
            Some(if loaded > 0 {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
        _ => None,
    }
}
