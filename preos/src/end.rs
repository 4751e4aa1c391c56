//! The end of the pre-OS: restart from the machine's own disk, or power off.
//!
//! ```text
//! recorded by the console -> BootNext (UEFI, restart) -> unmount -> sync -> reboot(2)
//!                                                                    if that fails: sysrq
//! ```
//!
//! Runs only after a job ended `done` (`agent::OnEnd`).

#![expect(clippy::disallowed_methods, reason = "a machine takes seconds to obey")]

use super::board::Board;
use super::modules::load::Modules;
use super::{efi, mounts};
use facts::order::EndAction;
use rustix::system::{RebootCommand, reboot};
use std::path::Path;
use std::time::Duration;

/// Time for the screen to show the end, and for the last lines to leave the serial port.
const LAST_WORDS: Duration = Duration::from_millis(800);
/// Time after which a kernel that has not restarted the machine never will.
const PATIENCE: Duration = Duration::from_secs(10);

/// Carries out an end action on a machine whose disk was committed.
pub fn obey(action: EndAction, disk: &Path, board: &Board, modules: &Modules) {
    if action == EndAction::None {
        return;
    }
    board.change(|situation| situation.ending = Some(action));
    if action == EndAction::Restart {
        match efi::vars::boot_next(disk, modules) {
            Ok(Some(said)) => tracing::info!(disk = %disk.display(), "{said}"),
            Ok(None) => {}
            // The boot server sends a finished machine to its own disk too: slower, but it works.
            Err(error) => {
                tracing::warn!(disk = %disk.display(), %error, "the firmware was not told to start this disk next");
                board.remark(format!(
                    "The firmware was not told to start {} next: {error}.",
                    disk.display()
                ));
            }
        }
    }
    std::thread::sleep(LAST_WORDS);
    power(action);
    board.change(|situation| {
        situation.ending = None;
        situation.failure = Some(
            "This machine did not restart by itself. The disk is ready: switch it off and on."
                .into(),
        );
    });
}

/// Unmounts, syncs and restarts or powers off. Returns only when the machine did neither.
pub fn power(action: EndAction) {
    let (command, last_resort) = match action {
        EndAction::None => return,
        EndAction::Restart => (RebootCommand::Restart, "b"),
        EndAction::Shutdown => (RebootCommand::PowerOff, "o"),
    };
    mounts::unmount_data();
    rustix::fs::sync();
    if let Err(error) = reboot(command) {
        tracing::warn!(?action, %error, "the kernel refused; trying its emergency key");
    }
    std::thread::sleep(PATIENCE);
    let _ = std::fs::write("/proc/sysrq-trigger", last_resort);
    std::thread::sleep(PATIENCE);
}
