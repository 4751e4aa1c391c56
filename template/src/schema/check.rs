//! Contradictions between the keys of a template.
//!
//! Takes values only, so a template made by a guide is checked like one that was read. Each
//! contradiction names the key that is best changed. Keys that are missing or wrong by themselves
//! are reported elsewhere.

use super::{Copy, JoinMethod, Network, NetworkMode, SidChoice, Template};
use crate::paths::{PathFault, Shape, check_path};
use crate::values::{Net, NicChoice};
use std::collections::BTreeMap;

/// Two keys that contradict each other.
pub(super) struct Contradiction {
    /// Path of the key that is best changed.
    pub(super) key: String,
    /// The contradiction, and what to do.
    pub(super) message: String,
    /// Keys that led to it. When one of them is wrong by itself, this may be no contradiction at
    /// all.
    pub(super) from: &'static [&'static str],
}

type Faults = Vec<Contradiction>;

/// Every contradiction of a template.
pub(super) fn contradictions(template: &Template) -> Faults {
    let mut faults = Faults::new();
    if template.onto.is_some() && template.partitions.len() != 1 {
        let message = "needs the one partition of the image that goes there: partitions = [2]";
        fault(&mut faults, "onto", message);
    }
    if template.share_password.is_some() && template.share_user.is_none() {
        let message = "goes with share_user, the account it is for";
        fault(&mut faults, "share_password", message);
    }
    network(template, &mut faults);
    identity(template, &mut faults);
    membership(template, &mut faults);
    users(template, &mut faults);
    windows(template, &mut faults);
    if template.first_start.report == Some(false) && !template.first_start.console.is_empty() {
        let message = "goes with first_start.report = true; nothing is reported otherwise";
        fault(&mut faults, "first_start.console", message);
    }
    copies(&template.copies, &mut faults);
    runs(template, &mut faults);
    faults
}

fn fault(faults: &mut Faults, key: &str, message: impl Into<String>) {
    let from: &[&str] = match key {
        "network.range" | "network.prefix" => &["network.mode", "network.prefix", "identity.list"],
        key if key.starts_with("network.") => &["network.mode", "network.prefix", "network.range"],
        "identity.hostname" => &["network.mode"],
        "onto" => &["partitions"],
        "share_password" => &["share_user"],
        "windows.allow_duplicate_sid" => &["windows.sid"],
        "membership.domain" => &["identity.hostname", "identity.list"],
        "first_start.console" => &["first_start.report"],
        key if key.starts_with("membership.") => &["membership.domain", "membership.method"],
        _ => &[],
    };
    faults.push(Contradiction {
        key: key.to_owned(),
        message: message.into(),
        from,
    });
}

fn windows(template: &Template, faults: &mut Faults) {
    let Some(windows) = &template.windows else {
        return;
    };
    if windows.allow_duplicate_sid && windows.sid != SidChoice::Keep {
        let message =
            "goes with windows.sid = \"keep\" only; with any other, each machine has its own SID";
        fault(faults, "windows.allow_duplicate_sid", message);
    }
}

fn network(template: &Template, faults: &mut Faults) {
    let network = &template.network;
    if network.mode == NetworkMode::Static {
        static_addresses(template, network, faults);
        return;
    }
    let mode = network.mode.as_str();
    for (key, there) in [
        ("network.range", network.range.is_some()),
        ("network.prefix", network.prefix.is_some()),
        ("network.gateway", network.gateway.is_some()),
    ] {
        if there {
            fault(
                faults,
                key,
                format!("goes with mode = \"static\", and mode is {mode}"),
            );
        }
    }
    if network.mode == NetworkMode::Keep {
        for (key, there) in [
            ("network.dns", !network.dns.is_empty()),
            ("network.search", !network.search.is_empty()),
        ] {
            if there {
                fault(
                    faults,
                    key,
                    "mode is keep: the network stays as the image has it; use mode = \"dhcp\" or \"static\"",
                );
            }
        }
    }
}

fn static_addresses(template: &Template, network: &Network, faults: &mut Faults) {
    if network.range.is_none() && template.identity.list.is_none() {
        fault(
            faults,
            "network.range",
            "mode is static: a range is needed, or identity.list with an address for each machine",
        );
    }
    if network.nic == NicChoice::All {
        fault(
            faults,
            "network.nic",
            "one address cannot be given to all cards of a machine; use boot or mac:",
        );
    }
    let Some(prefix) = network.prefix else {
        fault(
            faults,
            "network.prefix",
            "mode is static: the bits of the network are needed, such as 24",
        );
        return;
    };
    if let (Some(range), Some(gateway)) = (network.range, network.gateway)
        && range.contains(gateway)
    {
        fault(
            faults,
            "network.gateway",
            format!("{gateway} lies in the range {range} and would be handed out"),
        );
    }
    let Some(range) = network.range else { return };
    let net = Net::new(range.first, prefix);
    if !net.contains(range.last) {
        fault(
            faults,
            "network.range",
            format!(
                "{range} does not lie in one network of {prefix} bits: {} is outside {net}",
                range.last
            ),
        );
        return;
    }
    for (address, what) in [
        (net.network(), "names the network"),
        (net.broadcast(), "means every machine of it"),
    ] {
        if range.contains(address) {
            fault(
                faults,
                "network.range",
                format!("{address} is in it, which {what} {net}"),
            );
        }
    }
    if let Some(gateway) = network.gateway
        && (!net.contains(gateway) || gateway == net.network() || gateway == net.broadcast())
    {
        fault(
            faults,
            "network.gateway",
            format!("{gateway} is no machine of the network {net}"),
        );
    }
}

fn identity(template: &Template, faults: &mut Faults) {
    let Some(pattern) = &template.identity.hostname else {
        return;
    };
    if pattern.needs_address() && template.network.mode != NetworkMode::Static {
        fault(
            faults,
            "identity.hostname",
            "{ip_last} is known only with network.mode = \"static\"",
        );
    }
}

fn membership(template: &Template, faults: &mut Faults) {
    let membership = &template.membership;
    if let Some(workgroup) = &membership.workgroup {
        // Characters that a NetBIOS name must not have (Microsoft, "Naming conventions in Active
        // Directory").
        let bad = workgroup
            .chars()
            .find(|c| r#"\/:*?"<>|;,=+[]@."#.contains(*c));
        if let Some(bad) = bad {
            fault(
                faults,
                "membership.workgroup",
                format!("{bad:?} cannot be in the name of a workgroup"),
            );
        } else if workgroup.chars().count() > 15 {
            fault(
                faults,
                "membership.workgroup",
                "the name of a workgroup has at most 15 characters",
            );
        }
    }
    if membership.domain.is_none() {
        for (key, there) in [
            ("membership.ou", membership.ou.is_some()),
            ("membership.blobs", membership.blobs.is_some()),
            ("membership.credential", membership.credential.is_some()),
        ] {
            if there {
                fault(faults, key, "goes with a domain, and there is none");
            }
        }
        return;
    }
    if membership.workgroup.is_some() {
        fault(
            faults,
            "membership.workgroup",
            "a machine is in a workgroup or in a domain; leave one of them out",
        );
    }
    if !template.identity.names() {
        fault(
            faults,
            "membership.domain",
            "a machine joins under its own name: identity.hostname or identity.list is needed",
        );
    }
    match membership.method {
        JoinMethod::Blob if membership.blobs.is_none() => {
            fault(
                faults,
                "membership.blobs",
                "method is blob: the folder with NAME.blob of each machine is needed",
            );
        }
        JoinMethod::Samba if membership.credential.is_none() => {
            fault(
                faults,
                "membership.credential",
                "method is samba: the password that may add machines is needed, such as ref:join",
            );
        }
        _ => {}
    }
}

fn users(template: &Template, faults: &mut Faults) {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for (number, user) in (1..).zip(&template.users) {
        if user.name.is_empty() {
            continue;
        }
        if let Some(first) = seen.get(&user.name.to_lowercase()) {
            fault(
                faults,
                &format!("user.{number}.name"),
                format!("{} is user {first} already", user.name),
            );
        } else {
            seen.insert(user.name.to_lowercase(), number);
        }
    }
}

fn copies(copies: &[Copy], faults: &mut Faults) {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut shape: Option<(Shape, usize)> = None;
    for (number, copy) in (1..).zip(copies) {
        let key = format!("copy.{number}.to");
        if !copy.execute && !copy.arguments.is_empty() {
            fault(
                faults,
                &format!("copy.{number}.arguments"),
                "goes with execute = true",
            );
        }
        if copy.to.is_empty() {
            continue;
        }
        let found = match check_path(&copy.to) {
            Ok(found) => found,
            Err(PathFault::Shapeless) if copy.execute => {
                fault(
                    faults,
                    &key,
                    format!(
                        "{} is neither a Windows path (C:\\...) nor a Linux path (/...), so it cannot be run",
                        copy.to
                    ),
                );
                continue;
            }
            Err(error) => {
                fault(faults, &key, error.to_string());
                continue;
            }
        };
        match shape {
            Some((other, first)) if other != found => fault(
                faults,
                &key,
                format!(
                    "is a path of {found}, and copy {first} goes to a path of {other}; an image holds one of them"
                ),
            ),
            Some(_) => {}
            None => shape = Some((found, number)),
        }
        // On NTFS, names that differ only in case are one file.
        let folded = match found {
            Shape::Windows => copy.to.to_lowercase().replace('/', "\\"),
            Shape::Linux => copy.to.clone(),
        };
        if let Some(first) = seen.get(&folded) {
            fault(faults, &key, format!("copy {first} lies there already"));
        } else {
            seen.insert(folded, number);
        }
    }
}

fn runs(template: &Template, faults: &mut Faults) {
    for (number, run) in (1..).zip(&template.runs) {
        if run.ok_codes.is_empty() && run.reboot_codes.is_empty() {
            fault(
                faults,
                &format!("run.{number}.ok_codes"),
                "without an exit code that is success it can only fail",
            );
        }
    }
}
