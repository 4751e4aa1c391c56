//! Identifiers that two machines must not share: machine id, random seeds, SSH host keys.

use super::edits::Edits;
use crate::error::{Result, StepError};
use crate::guest::{Kind, Owner};
use template::salt;

/// Unit that makes new host keys before the SSH server starts; Debian does not make them by itself.
const KEYS_UNIT: &str = "diskcast-ssh-keys.service";

/// Folder of the machine's own units.
pub(super) const UNITS: &str = "/etc/systemd/system";

/// Notes the changes for a new machine id: an empty file, which systemd fills at the next start
/// without treating that start as the very first one. (With `uninitialized`, or without the file,
/// it would, and would reset presets.)
pub(super) fn machine_id(edits: &mut Edits<'_>) -> Result<()> {
    if edits.exists("/etc/machine-id")? || edits.has_systemd()? {
        edits.file("/etc/machine-id", "", Owner::root(0o444))?;
    }
    // A link to /etc/machine-id (Debian) needs no change.
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

/// Notes the changes for new ids towards storage servers and Salt. A missing file is not made: its
/// program makes one when it needs it.
pub(super) fn host_ids(edits: &mut Edits<'_>, id: &str) -> Result<()> {
    if id.len() != 36
        || !id
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
    {
        return Err(StepError::Order(format!("{id:?} is not a UUID")));
    }
    let initiator = "/etc/iscsi/initiatorname.iscsi";
    if let Some(text) = edits.text(initiator)? {
        edits.file(initiator, &with_initiator(&text, id), Owner::root(0o600))?;
    }
    for (path, text) in [
        ("/etc/nvme/hostid", format!("{id}\n")),
        (
            "/etc/nvme/hostnqn",
            format!("nqn.2014-08.org.nvmexpress:uuid:{id}\n"),
        ),
    ] {
        if edits.exists(path)? {
            edits.file(path, &text, Owner::root(0o644))?;
        }
    }
    // A minion takes its id from the host name at start, and makes its keys then.
    for path in [
        "/etc/salt/minion_id",
        "/etc/salt/pki/minion/minion.pem",
        "/etc/salt/pki/minion/minion.pub",
    ] {
        edits.gone(path)?;
    }
    let further = edits.list(salt::FOLDER)?.into_iter();
    let further = further.filter(|name| name.ends_with(".conf"));
    let further = further.map(|name| format!("{}/{name}", salt::FOLDER));
    for path in std::iter::once(salt::MAIN.to_owned()).chain(further) {
        let text = edits.text(&path)?;
        if let Some(text) = text.and_then(|text| salt::without_id(&text)) {
            edits.file(&path, &text, Owner::root(0o644))?;
        }
    }
    Ok(())
}

/// The initiator name file with another last part (RFC 3720 section 3.2.6.3.1):
/// `iqn.1993-08.org.debian:01:9f3c...`.
fn with_initiator(text: &str, id: &str) -> String {
    let last: String = id
        .chars()
        .filter(char::is_ascii_hexdigit)
        .take(12)
        .collect();
    let lines: Vec<String> = text
        .lines()
        .map(|line| match line.trim().strip_prefix("InitiatorName=") {
            Some(name) => {
                let authority = name
                    .rsplit_once(':')
                    .map_or(name, |(authority, _)| authority);
                format!("InitiatorName={authority}:{last}")
            }
            None => line.to_owned(),
        })
        .collect();
    lines.join("\n") + "\n"
}

/// Notes the changes for new SSH host keys.
pub(super) fn ssh_host_keys(edits: &mut Edits<'_>) -> Result<()> {
    edits.gone_where("/etc/ssh", |name| {
        name.starts_with("ssh_host_") && (name.ends_with("_key") || name.ends_with(".pub"))
    })?;
    let server = edits.exists("/usr/sbin/sshd")? || edits.exists("/usr/bin/sshd")?;
    if !server {
        return Ok(());
    }
    if !edits.exists("/usr/bin/ssh-keygen")? {
        return Err(StepError::refused(
            "the image has an SSH server but no /usr/bin/ssh-keygen to make its keys",
            "install it on the master, or leave ssh-host-keys out of linux.regenerate",
        ));
    }
    if !edits.has_systemd()? {
        // OpenRC's script makes missing keys at every start.
        let script = edits.text("/etc/init.d/sshd")?.unwrap_or_default();
        if script.contains("ssh-keygen") {
            return Ok(());
        }
        return Err(StepError::refused(
            "the image has an SSH server and no systemd: nothing would make new host keys",
            "leave ssh-host-keys out of linux.regenerate",
        ));
    }
    let path = format!("{UNITS}/{KEYS_UNIT}");
    edits.exact_file(&path, &keys_unit(), Owner::root(0o644))?;
    edits.link(
        &format!("{UNITS}/multi-user.target.wants/{KEYS_UNIT}"),
        &path,
    )
}

/// Unit file for new host keys. It has no `Before=ssh.socket`: sockets start before any ordinary
/// service, and systemd would break the cycle by dropping one of the units.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_initiator_keeps_its_authority() {
        let id = "0a1b2c3d-4e5f-4000-8000-000000000000";
        assert_eq!(
            with_initiator("## x\nInitiatorName=iqn.1993-08.org.debian:01:9f3c\n", id),
            "## x\nInitiatorName=iqn.1993-08.org.debian:01:0a1b2c3d4e5f\n"
        );
        assert_eq!(
            with_initiator("GenerateName=yes\n", id),
            "GenerateName=yes\n"
        );
    }
}
