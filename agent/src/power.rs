//! Restarts or switches off the machine, after its job was recorded.

use facts::order::EndAction;
use rustix::system::{RebootCommand, reboot};

/// Syncs, then restarts or switches off. Returns only when the kernel refused, which is logged: a
/// machine that stays up is a nuisance, not a fault of the deployment.
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
