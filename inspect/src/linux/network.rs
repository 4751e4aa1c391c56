//! Programs that configure the network of a system, and configuration of more than plain cards.
//!
//! Enabled units decide, not installed programs. An enabled service that diskcast cannot write for
//! is named, so that no second configuration is put beside it.

use super::parse;
use super::tree::Tree;
use template::findings::Renderer;
use template::yaml::{self, Node};

/// Network configuration of a system.
#[derive(Default)]
pub(super) struct Network {
    /// Programs that configure it, the one in use first.
    pub(super) renderers: Vec<Renderer>,
    /// A service in use that diskcast cannot write for.
    pub(super) unknown: Option<String>,
    /// Bridges, bonds and VLANs, each with its file.
    pub(super) beyond: Vec<String>,
}

/// Services that configure cards and that diskcast cannot write for: unit, and name in OpenRC.
const OTHERS: [(&str, &str); 5] = [
    ("wicked.service", "wicked"),
    ("dhcpcd.service", "dhcpcd"),
    ("connman.service", "connman"),
    ("netctl-auto", "netctl"),
    ("netctl", "netctl"),
];

/// Kinds of netplan devices that are built on cards.
const BEYOND: [&str; 5] = ["bridges", "bonds", "vlans", "vrfs", "tunnels"];

const INTERFACES: &str = "/etc/network/interfaces";

pub(super) fn inspect(tree: &Tree) -> Network {
    let enabled = enabled_units(tree);
    let is_enabled = |unit: &str| enabled.iter().any(|name| name == unit);
    let mut found = Network {
        renderers: renderers(tree, &is_enabled),
        ..Network::default()
    };
    found.unknown = OTHERS
        .iter()
        .find(|(unit, openrc)| {
            enabled.iter().any(|name| {
                let at_card = name
                    .strip_prefix(unit.trim_end_matches(".service"))
                    .is_some_and(|rest| rest.starts_with('@'));
                name == unit || name == openrc || at_card
            })
        })
        .map(|(_, name)| (*name).to_owned());
    if let Some(first) = found.renderers.first() {
        found.beyond = beyond(tree, *first);
    }
    found
}

/// Names of units that a start pulls in: systemd's links below a target, the targets of alias
/// links, and the services of OpenRC's run levels.
fn enabled_units(tree: &Tree) -> Vec<String> {
    let mut names = Vec::new();
    for base in [
        "/etc/systemd/system",
        "/usr/lib/systemd/system",
        "/lib/systemd/system",
    ] {
        for target in [
            "multi-user",
            "network-online",
            "network",
            "sysinit",
            "basic",
            "default",
        ] {
            names.extend(tree.list(&format!("{base}/{target}.target.wants")));
        }
    }
    // openSUSE: the chosen network service has this unit name as an alias.
    names.extend(tree.link_name("/etc/systemd/system/network.service"));
    names.retain(|unit| !tree.is_masked(unit));
    for level in ["boot", "default"] {
        names.extend(tree.list(&format!("/etc/runlevels/{level}")));
    }
    names
}

/// Renderers in the order of their precedence: netplan before the services it writes for, and
/// ifupdown before NetworkManager, which leaves the cards of `/etc/network/interfaces` alone.
fn renderers(tree: &Tree, enabled: &dyn Fn(&str) -> bool) -> Vec<Renderer> {
    let netplan = tree.has_any(&[
        "/usr/sbin/netplan",
        "/usr/libexec/netplan/generate",
        "/usr/lib/netplan/generate",
    ]);
    let netplan_files = tree
        .list("/etc/netplan")
        .iter()
        .any(|name| name.ends_with(".yaml"));
    let ifupdown = tree.has_any(&["/usr/sbin/ifup", "/sbin/ifup"]) && tree.has(INTERFACES);
    let ifupdown_cards = interfaces(tree)
        .iter()
        .any(|(_, text)| parse::configures_cards(text));
    let unit = ["/usr/lib/systemd/system", "/lib/systemd/system"]
        .iter()
        .any(|folder| tree.has(&format!("{folder}/networking.service")));
    let ifupdown_runs = !unit || enabled("networking.service");
    let manager = tree.has_any(&["/usr/sbin/NetworkManager", "/usr/bin/NetworkManager"])
        && (enabled("NetworkManager.service") || enabled("NetworkManager"));
    let networkd = tree.has_any(&[
        "/usr/lib/systemd/systemd-networkd",
        "/lib/systemd/systemd-networkd",
    ]) && enabled("systemd-networkd.service");
    let scripts = "/etc/sysconfig/network-scripts";
    let ifcfg = tree.has_any(&[
        "/etc/sysconfig/network-scripts/ifup-eth",
        "/etc/init.d/network",
        "/etc/rc.d/init.d/network",
    ]) && tree.has(scripts);
    let mut order = Vec::new();
    for (applies, renderer) in [
        (netplan && netplan_files, Renderer::Netplan),
        (
            ifupdown && ifupdown_runs && ifupdown_cards,
            Renderer::Ifupdown,
        ),
        (manager, Renderer::NetworkManager),
        (networkd, Renderer::Networkd),
        (ifcfg, Renderer::Ifcfg),
        (netplan, Renderer::Netplan),
        (ifupdown && ifupdown_runs, Renderer::Ifupdown),
    ] {
        if applies && !order.contains(&renderer) {
            order.push(renderer);
        }
    }
    order
}

fn interfaces(tree: &Tree) -> Vec<(String, String)> {
    let folder = "/etc/network/interfaces.d";
    let names = tree.list(folder);
    let paths = names.iter().map(|name| format!("{folder}/{name}"));
    std::iter::once(INTERFACES.to_owned())
        .chain(paths)
        .filter_map(|path| Some((path.clone(), tree.text(&path)?)))
        .collect()
}

/// Texts of the files in a folder whose names match.
fn texts(tree: &Tree, folder: &str, fits: impl Fn(&str) -> bool) -> Vec<(String, String)> {
    let names = tree.list(folder);
    names
        .iter()
        .filter(|name| fits(name))
        .map(|name| format!("{folder}/{name}"))
        .filter_map(|path| Some((path.clone(), tree.text(&path)?)))
        .collect()
}

/// Configuration that would be lost, or would lose its cards, if the cards got files of their own.
fn beyond(tree: &Tree, renderer: Renderer) -> Vec<String> {
    let places = match renderer {
        Renderer::Netplan => return netplan_beyond(tree),
        Renderer::Networkd => {
            let names = tree.list("/etc/systemd/network");
            return names
                .iter()
                .filter(|name| name.ends_with(".netdev"))
                .map(|name| format!("/etc/systemd/network/{name}"))
                .collect();
        }
        Renderer::Ifupdown => interfaces(tree),
        Renderer::NetworkManager => {
            let mut all = texts(tree, "/etc/NetworkManager/system-connections", |_| true);
            all.extend(ifcfg_texts(tree));
            all
        }
        Renderer::Ifcfg => ifcfg_texts(tree),
    };
    places
        .into_iter()
        .filter(|(_, text)| parse::more_than_cards(text))
        .map(|(path, _)| path)
        .collect()
}

fn ifcfg_texts(tree: &Tree) -> Vec<(String, String)> {
    texts(tree, "/etc/sysconfig/network-scripts", |name| {
        name.starts_with("ifcfg-")
    })
}

fn netplan_beyond(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in texts(tree, "/etc/netplan", |name| name.ends_with(".yaml")) {
        let Ok(node) = yaml::read(&text) else {
            continue;
        };
        for kind in BEYOND {
            let devices = node.as_ref().and_then(|node| node.at(&["network", kind]));
            let names: Vec<&str> = devices
                .into_iter()
                .flat_map(Node::entries)
                .map(|(name, _)| name)
                .collect();
            if !names.is_empty() {
                found.push(format!("{path} ({kind}: {})", names.join(", ")));
            }
        }
    }
    found
}
