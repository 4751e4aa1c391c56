//! Configuration of cloud-init: either leave alone what other steps wrote, or take a NoCloud seed.
//!
//! Both are one file that sorts after those of installers (`99-installer.cfg`) and cloud providers:
//! if two files set the same key, the one that sorts last counts.

use super::edits::Edits;
use super::network;
use super::renderers::{self, Card, MARK};
use crate::context::Context;
use crate::error::{Result, StepError};
use crate::guest::Owner;
use template::step::{Kept, Nic};

const OURS: &str = "/etc/cloud/cloud.cfg.d/zzz-diskcast.cfg";
const SEED: &str = "/var/lib/cloud/seed/nocloud";

/// Line of [`OURS`] that selects a seed as the data source.
const SOURCES: &str = "datasource_list: [ NoCloud, None ]\n";

/// Files of a seed.
const SEED_FILES: [&str; 3] = ["meta-data", "user-data", "network-config"];

/// Notes the changes after which cloud-init leaves the given things alone.
pub(super) fn keeps(edits: &mut Edits<'_>, keeps: &[Kept]) -> Result<()> {
    // A master that diskcast once deployed with a seed would apply that seed again.
    if edits.text(OURS)?.is_some_and(|text| text.contains(SOURCES)) {
        for name in SEED_FILES {
            edits.gone(&format!("{SEED}/{name}"))?;
        }
    }
    edits.exact_file(OURS, &kept(keeps), Owner::root(0o644))
}

fn kept(keeps: &[Kept]) -> String {
    let mut text = String::from(MARK);
    for kept in keeps {
        text.push_str(match kept {
            Kept::Name => "preserve_hostname: true\nmanage_etc_hosts: false\n",
            Kept::Network => "network: {config: disabled}\n",
            Kept::Accounts => NO_ACCOUNTS,
            Kept::HostKeys => "ssh_deletekeys: false\n",
        });
    }
    text
}

/// Settings that make cloud-init create no account for the distribution and not lock an existing
/// one of that name again.
const NO_ACCOUNTS: &str = "users: []\n";

/// Content of a seed.
pub(super) struct Seed<'a> {
    /// First label of the host name.
    pub(super) hostname: Option<&'a str>,
    /// Host name with its domain.
    pub(super) fqdn: Option<&'a str>,
    /// Network cards with their addresses.
    pub(super) nics: &'a [Nic],
    /// Instance id, a new one for each deployment.
    pub(super) instance_id: &'a str,
    /// cloud-init makes no accounts.
    pub(super) accounts: bool,
}

/// Notes the changes that the seed needs.
pub(super) fn seeded(
    edits: &mut Edits<'_>,
    context: &mut Context<'_>,
    seed: &Seed<'_>,
) -> Result<()> {
    let words = [seed.hostname, seed.fqdn, Some(seed.instance_id)];
    for word in words.into_iter().flatten() {
        plain(word)?;
    }
    let cards = seed
        .nics
        .iter()
        .map(Card::new)
        .collect::<Result<Vec<_>, _>>()?;
    edits.folder(SEED, Owner::root(0o700))?;
    let private = Owner::root(0o600);
    edits.exact_file(
        &format!("{SEED}/meta-data"),
        &meta_data(seed.hostname, seed.instance_id),
        private,
    )?;
    edits.exact_file(
        &format!("{SEED}/user-data"),
        &user_data(seed.hostname, seed.fqdn),
        private,
    )?;
    let network = format!("{SEED}/network-config");
    if cards.is_empty() {
        edits.gone(&network)?;
    } else {
        network::cleared(edits, context)?;
        edits.exact_file(&network, &renderers::ethernets(&cards, ""), private)?;
    }
    let accounts = if seed.accounts { NO_ACCOUNTS } else { "" };
    edits.exact_file(
        OURS,
        &format!("{MARK}{SOURCES}{accounts}"),
        Owner::root(0o644),
    )
}

fn meta_data(hostname: Option<&str>, instance_id: &str) -> String {
    let name = hostname.map_or_else(String::new, |name| format!("local-hostname: \"{name}\"\n"));
    format!("{MARK}instance-id: \"{instance_id}\"\n{name}")
}

fn user_data(hostname: Option<&str>, fqdn: Option<&str>) -> String {
    let mut text = format!("#cloud-config\n{MARK}");
    if let Some(name) = hostname {
        text.push_str(&format!("preserve_hostname: false\nhostname: \"{name}\"\n"));
    }
    if let Some(fqdn) = fqdn {
        text.push_str(&format!("fqdn: \"{fqdn}\"\n"));
    }
    text
}

fn plain(word: &str) -> Result<()> {
    let plain = word
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
    if word.is_empty() || !plain {
        return Err(StepError::refused(
            format!("{word:?} cannot be given to cloud-init"),
            "use letters, digits, -, . and _ alone",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_alone() {
        assert_eq!(
            kept(&[Kept::Name, Kept::Network, Kept::Accounts, Kept::HostKeys]),
            "# Written by diskcast.\npreserve_hostname: true\nmanage_etc_hosts: false\nnetwork: {config: disabled}\n\
             users: []\nssh_deletekeys: false\n"
        );
    }

    #[test]
    fn seed_text() {
        assert_eq!(
            meta_data(Some("pc-1"), "diskcast-7"),
            "# Written by diskcast.\ninstance-id: \"diskcast-7\"\nlocal-hostname: \"pc-1\"\n"
        );
        assert_eq!(
            user_data(Some("pc-1"), Some("pc-1.lab")),
            "#cloud-config\n# Written by diskcast.\npreserve_hostname: false\nhostname: \"pc-1\"\nfqdn: \"pc-1.lab\"\n"
        );
        assert!(plain("a\nb").is_err());
    }
}
