//! What two machines must not share: machine id, random seeds, SSH host keys.

use super::edits::Edits;
use crate::guest::{Kind, Owner};

/// Unit that makes new host keys before the SSH server starts: Debian does not do it by itself.
const KEYS_UNIT: &str = "diskcast-ssh-keys.service";

/// Where units of this machine lie.
pub(super) const UNITS: &str = "/etc/systemd/system";

/// Notes what is missing for a machine id of its own: an empty file, which systemd fills at the next start, without
/// taking the start for the very first one (which `uninitialized` or no file would, and which resets presets).
pub(super) fn machine_id(edits: &mut Edits<'_>) -> Result<(), String> {
    if edits.exists("/etc/machine-id")? || edits.has_systemd()? {
        edits.file("/etc/machine-id", "", Owner::root(0o444))?;
    }
    // As a link to /etc/machine-id (Debian) it is right already.
    if edits.is("/var/lib/dbus/machine-id", Kind::File)? {
        edits.gone("/var/lib/dbus/machine-id")?;
    }
    for seed in [
        "/var/lib/systemd/random-seed",
        "/var/lib/urandom/random-seed",
        "/var/lib/misc/random-seed",
        "/var/lib/random-seed",
        "/boot/loader/random-seed",
        "/efi/loader/random-seed",
        "/boot/efi/loader/random-seed",
    ] {
        edits.gone(seed)?;
    }
    Ok(())
}

/// Notes what is missing for host keys of its own.
pub(super) fn ssh_host_keys(edits: &mut Edits<'_>) -> Result<(), String> {
    edits.gone_where("/etc/ssh", |name| {
        name.starts_with("ssh_host_") && (name.ends_with("_key") || name.ends_with(".pub"))
    })?;
    let server = edits.exists("/usr/sbin/sshd")? || edits.exists("/usr/bin/sshd")?;
    if !server {
        return Ok(());
    }
    if !edits.exists("/usr/bin/ssh-keygen")? {
        return Err(
            "the image has an SSH server but no /usr/bin/ssh-keygen to make its keys".into(),
        );
    }
    if !edits.has_systemd()? {
        return Err(
            "the image has an SSH server and no systemd: nothing would make new host keys; leave ssh-host-keys out \
             of linux.regenerate"
                .into(),
        );
    }
    let path = format!("{UNITS}/{KEYS_UNIT}");
    edits.exact_file(&path, &keys_unit(), Owner::root(0o644))?;
    edits.link(
        &format!("{UNITS}/multi-user.target.wants/{KEYS_UNIT}"),
        &path,
    )
}

/// Not before `ssh.socket`: sockets start before any ordinary service, and the cycle would drop one of them.
fn keys_unit() -> String {
    format!(
        "# Written by diskcast. Makes the SSH host keys of this machine once, and goes.\n\
         [Unit]\n\
         Description=SSH host keys of this machine\n\
         Before=ssh.service sshd.service\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         ExecStart=/usr/bin/ssh-keygen -A\n\
         ExecStartPost=-/bin/rm -f {UNITS}/multi-user.target.wants/{KEYS_UNIT} {UNITS}/{KEYS_UNIT}\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n"
    )
}
