//! cloud-init in a plan: settings it must leave alone, data it gets as a seed, and conflicts that
//! no setting can prevent.

use super::{Draft, identity, network};
use crate::findings::{CloudInit, LinuxFindings, Setting};
use crate::schema::LinuxMethod;
use crate::step::{Action, Kept, Nic};

/// Host name: the first label, and the full name with the domain.
pub(super) type Name = Option<(String, Option<String>)>;

/// Decides whether name and addresses go through a seed of cloud-init. True for a seed, false for
/// files written directly.
pub(super) fn by_seed(
    draft: &mut Draft<'_>,
    linux: &LinuxFindings,
    title: &str,
    name: &Name,
    nics: &[Nic],
) -> bool {
    let settings = draft.template().linux.clone().unwrap_or_default();
    let seed = settings.method == LinuxMethod::CloudInit;
    let advice = "use linux.method = \"auto\", which writes the files themselves";
    match &linux.cloud_init {
        None if seed => draft.refuse(format!(
            "{title}: linux.method is cloud-init, and the image has none; {advice}"
        )),
        None => {}
        Some(found) => match &found.disabled_by {
            Some(by) if seed => draft.refuse(format!(
                "{title}: linux.method is cloud-init, and it is disabled by {by}; {advice}"
            )),
            Some(_) => {}
            None => {
                if seed {
                    let loses = found.name_loses.iter().filter(|_| name.is_some());
                    let loses =
                        loses.chain(found.network_loses.iter().filter(|_| !nics.is_empty()));
                    for reason in loses {
                        draft.refuse(format!(
                            "{title}: cloud-init would not take what it is given: {reason}; {advice}"
                        ));
                    }
                }
                stronger(draft, found, title, seed, name.is_some(), !nics.is_empty());
                about_accounts(draft, found);
                for unknown in &found.unknown {
                    draft.note(format!(
                        "cloud-init may change the machine at its start, and what it does cannot be told: {unknown}"
                    ));
                }
            }
        },
    }
    seed
}

/// Refuses settings of the master that would undo a step and cannot be overridden.
fn stronger(
    draft: &mut Draft<'_>,
    found: &CloudInit,
    title: &str,
    seed: bool,
    names: bool,
    cards: bool,
) {
    for Setting { place, key, value } in &found.stronger {
        let (undoes, advice) = match key.as_str() {
            // A seed's name is applied by the rules of these keys, so they do not conflict with it.
            "preserve_hostname" | "manage_etc_hosts" => (names && !seed, "remove it on the master"),
            "network" | "ip" | "network-config" => (cards, "remove it on the master"),
            "users" => {
                let ours = draft
                    .template()
                    .users
                    .iter()
                    .any(|user| user.name == *value);
                (
                    ours && !found.accounts_made,
                    "remove it on the master, or choose another account",
                )
            }
            // All other keys can affect both name and addresses.
            _ => (names || cards, "remove it on the master"),
        };
        let what = if value.is_empty() {
            key.clone()
        } else {
            format!("{key} with {value}")
        };
        if undoes {
            draft.refuse(format!(
                "{title}: cloud-init would undo this at the next start: {place} says {what}, which counts more than anything \
                 that can be written beside it; {advice}"
            ));
        } else if key == "users" {
            draft.note(format!(
                "cloud-init makes the account {value} again on what it takes for another machine ({place})"
            ));
        }
    }
}

/// Notes for the distribution's own account.
fn about_accounts(draft: &mut Draft<'_>, found: &CloudInit) {
    if found.accounts.is_empty() {
        return;
    }
    let list = found.accounts.join(", ");
    if !draft.template().users.is_empty() {
        draft.note(format!(
            "cloud-init makes no accounts of its configuration any more ({list}); those that are there stay as they are"
        ));
    } else if found.accounts_made {
        draft.note(format!(
            "the distribution's account stays as the master has it, password included: {list}"
        ));
    } else {
        draft.note(format!(
            "cloud-init makes the distribution's account at the first start: {list}"
        ));
    }
}

/// A step that gives name and addresses to cloud-init as a seed.
pub(super) fn seed(draft: &mut Draft<'_>, linux: &LinuxFindings, name: Name, nics: Vec<Nic>) {
    if name.is_none() && nics.is_empty() {
        return;
    }
    let (hostname, fqdn) = name.map_or((None, None), |(name, fqdn)| (Some(name), fqdn));
    let mut what: Vec<String> = Vec::new();
    what.extend(
        hostname
            .as_ref()
            .map(|name| format!("its name is {}", fqdn.as_ref().unwrap_or(name))),
    );
    what.extend(
        nics.iter()
            .map(|nic| format!("card {} gets {}", nic.mac, network::describe(&nic.config))),
    );
    draft.offline(
        "linux.cloud-init",
        format!("by cloud-init: {}", what.join(", ")),
        Action::LinuxCloudInit {
            partition: linux.partition,
            hostname,
            fqdn,
            nics,
            instance_id: identity::instance_id(&draft.seed()),
            accounts: !draft.template().users.is_empty(),
        },
    );
}

/// A step that keeps cloud-init from changing what other steps write.
pub(super) fn keeps(draft: &mut Draft<'_>, linux: &LinuxFindings, keeps: Vec<Kept>) {
    if linux.cloud_init.is_none() || keeps.is_empty() {
        return;
    }
    let words: Vec<&str> = keeps
        .iter()
        .map(|kept| match kept {
            Kept::Name => "name",
            Kept::Network => "network",
            Kept::Accounts => "accounts",
            Kept::HostKeys => "SSH host keys",
        })
        .collect();
    draft.offline(
        "linux.cloud-init",
        format!("cloud-init leaves alone: {}", words.join(", ")),
        Action::LinuxCloudInitKeeps {
            partition: linux.partition,
            keeps,
        },
    );
}
