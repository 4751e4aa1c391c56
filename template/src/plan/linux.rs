//! Steps of a Linux system: name, identities, network, accounts, files, first boot.

use super::{Draft, cloud_init, files, foreseen, identity, linux_title, network, obstacles};
use crate::findings::{LinuxFindings, Renderer, Sudo};
use crate::names::{NameRules, check};
use crate::paths::Shape;
use crate::schema::{Regenerate, User, group_name, password_name};
use crate::step::{Action, Group, Kept, Nic, OnExists};

pub(super) fn plan(draft: &mut Draft<'_>, linux: &LinuxFindings) {
    let title = linux_title(linux);
    if !obstacles::passes(draft, &title, linux.partition, &linux.obstacles, false) {
        return;
    }
    let settings = draft.template().linux.clone().unwrap_or_default();
    draft.grow();
    let name = hostname(draft);
    let nics = network::nics(draft);
    let by_seed = cloud_init::by_seed(draft, linux, &title, &name, &nics);
    if name.is_none() && nics.is_empty() && draft.template().network.suffix.is_some() {
        draft.note("network.suffix is left out: it goes with a name, or with network.mode = \"dhcp\" or \"static\"");
    }
    if !by_seed && let Some((name, fqdn)) = &name {
        draft.offline(
            "linux.hostname",
            format!("its name is {}", fqdn.as_ref().unwrap_or(name)),
            Action::LinuxHostname {
                partition: linux.partition,
                name: name.clone(),
                fqdn: fqdn.clone(),
            },
        );
    }
    if settings.regenerate.contains(&Regenerate::MachineId) {
        draft.offline(
            "linux.machine-id",
            "machine-id and random seeds are drawn anew",
            Action::LinuxMachineId {
                partition: linux.partition,
            },
        );
    }
    if settings.regenerate.contains(&Regenerate::MachineId) && !linux.host_ids.is_empty() {
        draft.offline(
            "linux.host-ids",
            format!("its own ids in {}", linux.host_ids.join(", ")),
            Action::LinuxHostIds {
                partition: linux.partition,
                id: identity::host_id(&draft.seed()),
            },
        );
    }
    if linux.keytab {
        draft.note(
            "/etc/krb5.keytab has the keys of the master in its domain: every machine would be the master there; remove it on the \
             master, and join anew with a [[run]]",
        );
    }
    let keys = settings.regenerate.contains(&Regenerate::SshHostKeys) && linux.ssh_server;
    if keys && !linux.host_keys {
        draft.refuse(format!(
            "{title}: it has an SSH server, and nothing that would make new host keys (ssh-keygen with systemd, or with OpenRC's \
             start script); leave ssh-host-keys out of linux.regenerate"
        ));
    }
    if keys {
        draft.offline(
            "linux.ssh-host-keys",
            "the master's SSH host keys are gone, its own are made before its server starts",
            Action::LinuxSshHostKeys {
                partition: linux.partition,
            },
        );
    }
    if by_seed {
        cloud_init::seed(draft, linux, name, nics);
    } else {
        let mut keeps = Vec::new();
        keeps.extend(name.map(|_| Kept::Name));
        keeps.extend((!nics.is_empty()).then_some(Kept::Network));
        keeps.extend((!draft.template().users.is_empty()).then_some(Kept::Accounts));
        keeps.extend(keys.then_some(Kept::HostKeys));
        cards(draft, linux, &title, nics);
        cloud_init::keeps(draft, linux, keeps);
    }
    for (number, user) in (1usize..).zip(&draft.template().users) {
        account(draft, linux, &title, number, user);
    }
    files::copies(draft, Shape::Linux, linux.partition);
    files::programs(draft, Shape::Linux);
    if !draft.job.is_empty() && !linux.systemd {
        let steps: Vec<&str> = draft.job.iter().map(|step| step.id.as_str()).collect();
        let steps = steps.join(", ");
        draft.refuse(format!(
            "{title}: it has no systemd, so nothing can run at first boot ({steps}); leave that out of the template{}",
            if keys { ", and ssh-host-keys out of linux.regenerate" } else { "" }
        ));
    }
    if draft.template().first_start.report == Some(true) && !linux.systemd {
        draft.refuse(format!(
            "{title}: it has no systemd, so nothing can report its first start; set first_start.report = false"
        ));
    }
    foreseen::check(draft, linux, &title);
    ignored(draft, linux, &title);
}

/// Host name and, with a DNS suffix, the full name.
fn hostname(draft: &mut Draft<'_>) -> Option<(String, Option<String>)> {
    let name = draft.hostname()?;
    if let Err(message) = check(name, NameRules::Dns) {
        draft.refuse(format!("identity.hostname: {message}"));
    }
    let template = draft.template();
    let fqdn = template
        .network
        .suffix
        .as_ref()
        .map(|suffix| format!("{name}.{suffix}"));
    Some((name.to_owned(), fqdn))
}

fn cards(draft: &mut Draft<'_>, linux: &LinuxFindings, title: &str, nics: Vec<Nic>) {
    if nics.is_empty() {
        return;
    }
    if let Some(service) = &linux.network_by {
        draft.refuse(format!(
            "{title}: {service} configures its network, and files are not written for it; use network.mode = \"keep\" and a \
             [[run]], or another service on the master (netplan, NetworkManager, networkd, ifupdown, ifcfg)"
        ));
        return;
    }
    if !linux.beyond_cards.is_empty() {
        draft.refuse(format!(
            "{title}: its network has bridges, bonds or VLANs, which would lose their cards ({}); use network.mode = \"keep\" and a \
             [[run]], or take them out on the master",
            linux.beyond_cards.join("; ")
        ));
        return;
    }
    let Some(renderer) = linux.renderers.first() else {
        draft.refuse(format!(
            "{title}: nothing known configures its network (netplan, NetworkManager, networkd, ifupdown, ifcfg); use \
             network.mode = \"keep\" and a [[run]]"
        ));
        return;
    };
    if *renderer == Renderer::Ifupdown && !linux.systemd && !linux.udev {
        draft.refuse(format!(
            "{title}: ifupdown knows cards by name only, and without udev none can be named by its MAC; use network.mode = \
             \"keep\""
        ));
        return;
    }
    let what: Vec<String> = nics
        .iter()
        .map(|nic| format!("card {} gets {}", nic.mac, network::describe(&nic.config)))
        .collect();
    draft.offline(
        "linux.network",
        what.join(", "),
        Action::LinuxNetwork {
            partition: linux.partition,
            renderer: *renderer,
            nics,
        },
    );
}

fn account(draft: &mut Draft<'_>, linux: &LinuxFindings, title: &str, number: usize, user: &User) {
    // The rule of useradd (shadow, `is_valid_user_name`), and the 32 bytes of utmp.
    let mut letters = user.name.chars();
    let good = letters
        .next()
        .is_some_and(|c| c.is_ascii_lowercase() || c == '_')
        && letters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-'))
        && user.name.len() <= 32;
    if !good {
        draft.refuse(format!(
            "user {number}: {} cannot be an account of Linux: small letters, digits, `-` and `_`, at most 32, a letter first",
            user.name
        ));
    }
    if linux.system_accounts.contains(&user.name) {
        return draft.refuse(format!(
            "user {number}: {} is an account of {title} itself; choose another name",
            user.name
        ));
    }
    if linux.accounts.contains(&user.name) {
        match user.on_exists {
            OnExists::Update => {}
            OnExists::Skip => return draft.note(format!("account {} is there already and stays as it is", user.name)),
            OnExists::Fail => draft.refuse(format!(
                "user {number}: {title} has an account {} already; use on_exists = \"update\" or \"skip\"",
                user.name
            )),
        }
    }
    let mut groups = Vec::new();
    for group in &user.groups {
        match group {
            Group::Administrators => match administrators(linux) {
                Ok(()) => groups.push(Group::Administrators),
                Err(why) => draft.refuse(format!(
                    "user {number}: {title} {why}, so nobody can be in administrators; install sudo on the master, or name a group \
                     of its own"
                )),
            },
            Group::Named(name) => {
                // useradd gives each of the template's own accounts a group of its name.
                let own = draft.template().users.iter().any(|other| other.name == *name);
                if !own && !linux.groups.contains(name) {
                    draft.refuse(format!(
                        "user {number}: {title} has no group {name}{}",
                        alike(&linux.groups, name)
                    ));
                }
                groups.push(Group::Named(name.clone()));
            }
            // Every account of Linux is a user, so there is no group for that.
            Group::Users => {}
            Group::PowerUsers | Group::RemoteDesktop => draft.note(format!(
                "account {}: Linux has no group {}; it is left out",
                user.name,
                group_name(group)
            )),
        }
    }
    draft.offline(
        format!("linux.user.{number}"),
        format!("account {}", user.name),
        Action::LinuxUser {
            partition: linux.partition,
            user: crate::step::User {
                name: user.name.clone(),
                full_name: user.full_name.clone(),
                groups,
                password: user.password.as_ref().map(|_| password_name(&user.name)),
                on_exists: user.on_exists,
            },
        },
    );
}

/// Checks that members of the administrators' group can get all rights through sudo. The error is
/// the reason why not.
fn administrators(linux: &LinuxFindings) -> Result<(), &'static str> {
    if linux.admin_group.is_none() {
        return Err("has neither a group sudo nor wheel");
    }
    match linux.sudo {
        None => Err("has no sudo"),
        Some(Sudo {
            grants: false,
            reads_folder: false,
        }) => Err(
            "has a sudoers file that gives its administrators nothing and reads no /etc/sudoers.d",
        ),
        Some(_) => Ok(()),
    }
}

/// A hint when the image has a group whose name differs only in case; empty otherwise.
fn alike(groups: &[String], name: &str) -> String {
    let other = groups.iter().find(|group| group.eq_ignore_ascii_case(name));
    other.map_or_else(String::new, |group| format!("; it has {group}"))
}

/// Refuses or notes settings that do not apply to Linux.
fn ignored(draft: &mut Draft<'_>, linux: &LinuxFindings, title: &str) {
    let membership = &draft.template().membership;
    if let Some(domain) = &membership.domain {
        let advice = if linux.join_tools.is_empty() {
            "install realmd or adcli on the master, and join with a [[run]]"
        } else {
            "join with a [[run]]: an offline-join blob is for Windows only"
        };
        draft.refuse(format!("{title}: it is not joined to {domain}; {advice}"));
    }
    if let Some(workgroup) = &membership.workgroup {
        draft.note(format!(
            "the workgroup {workgroup} is for Windows; it is left out"
        ));
    }
    if !draft.template().drivers.is_empty() {
        draft.note("driver packages are for Windows; they are left out");
    }
}
