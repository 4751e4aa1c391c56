//! Restarting and switching off the machine, after its job was recorded.

use crate::net::control::EndAction;
use rustix::system::{RebootCommand, reboot};

/// Syncs and acts. Returns only when the kernel refused, which is said in the log: a machine that stays up is a
/// nuisance, not a fault of the deployment.
pub(super) fn act(action: EndAction) {
    let command = match action {
        EndAction::None => return,
        EndAction::Restart => RebootCommand::Restart,
        EndAction::Shutdown => RebootCommand::PowerOff,
    };
    rustix::fs::sync();
    if let Err(error) = reboot(command) {
        tracing::warn!(?action, %error, "the machine did not obey; do it by hand");
    }
}
