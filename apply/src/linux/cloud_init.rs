//! A NoCloud seed: where cloud-init is at work it would undo our files, so it is told instead.

use super::edits::Edits;
use super::renderers::{self, Card};
use crate::guest::Owner;
use template::step::Nic;

const SEED: &str = "/var/lib/cloud/seed/nocloud";

/// Notes what is missing.
pub(super) fn missing(
    edits: &mut Edits<'_>,
    hostname: Option<&str>,
    fqdn: Option<&str>,
    nics: &[Nic],
    instance_id: &str,
) -> Result<(), String> {
    for word in [hostname, fqdn, Some(instance_id)].into_iter().flatten() {
        plain(word)?;
    }
    let cards = nics.iter().map(Card::new).collect::<Result<Vec<_>, _>>()?;
    edits.folder(SEED, Owner::root(0o700))?;
    let private = Owner::root(0o600);
    edits.exact_file(
        &format!("{SEED}/meta-data"),
        &meta_data(hostname, instance_id),
        private,
    )?;
    edits.exact_file(
        &format!("{SEED}/user-data"),
        &user_data(hostname, fqdn),
        private,
    )?;
    let network = format!("{SEED}/network-config");
    if cards.is_empty() {
        edits.gone(&network)?;
    } else {
        edits.exact_file(&network, &renderers::ethernets(&cards, ""), private)?;
    }
    // The first kind of source in the list that is found is the one in charge.
    edits.file(
        "/etc/cloud/cloud.cfg.d/99-diskcast-seed.cfg",
        "# Written by diskcast: the seed lies in /var/lib/cloud/seed/nocloud.\ndatasource_list: [ NoCloud, None ]\n",
        Owner::root(0o644),
    )
}

fn meta_data(hostname: Option<&str>, instance_id: &str) -> String {
    let name = hostname.map_or_else(String::new, |name| format!("local-hostname: \"{name}\"\n"));
    format!("instance-id: \"{instance_id}\"\n{name}")
}

fn user_data(hostname: Option<&str>, fqdn: Option<&str>) -> String {
    let mut text = String::from("#cloud-config\n");
    if let Some(name) = hostname {
        text.push_str(&format!("preserve_hostname: false\nhostname: \"{name}\"\n"));
    }
    if let Some(fqdn) = fqdn {
        text.push_str(&format!("fqdn: \"{fqdn}\"\n"));
    }
    text
}

fn plain(word: &str) -> Result<(), String> {
    let plain = word
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
    if word.is_empty() || !plain {
        return Err(format!("{word:?} cannot be given to cloud-init"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seed_text() {
        assert_eq!(
            meta_data(Some("pc-1"), "diskcast-7"),
            "instance-id: \"diskcast-7\"\nlocal-hostname: \"pc-1\"\n"
        );
        assert_eq!(
            user_data(Some("pc-1"), Some("pc-1.lab")),
            "#cloud-config\npreserve_hostname: false\nhostname: \"pc-1\"\nfqdn: \"pc-1.lab\"\n"
        );
        assert!(plain("a\nb").is_err());
    }
}
