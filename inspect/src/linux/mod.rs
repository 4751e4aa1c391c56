//! A Linux root in an ext file system.
//!
//! Told by files that exist, not by the name of the distribution: what is installed, what is enabled, what is configured.

mod cloud_init;
mod parse;
mod tree;

use crate::source::Source;
use crate::unreadable;
use template::findings::{Arch, LinuxFindings, Obstacle, PartitionFindings, Renderer};
use tree::Tree;

/// The system in the volume; `None` when there is none. What cannot be read is noted with the partition.
pub(crate) fn inspect(source: Source, partition: &mut PartitionFindings) -> Option<LinuxFindings> {
    let tree = match Tree::open(source) {
        Ok(tree) => tree,
        Err(reason) => {
            partition
                .obstacles
                .push(unreadable("the ext volume", &reason));
            return None;
        }
    };
    if tree.has_errors {
        partition.obstacles.push(Obstacle::DirtyVolume);
    }
    let release = tree
        .text("/etc/os-release")
        .or_else(|| tree.text("/usr/lib/os-release"));
    // Before os-release: Red Hat 6 and its like.
    let old_release = tree.text("/etc/redhat-release");
    let passwd = tree.text("/etc/passwd");
    let (Some(passwd), true) = (passwd, release.is_some() || old_release.is_some()) else {
        note_unreadable(&tree, &mut partition.obstacles);
        return None;
    };
    let release = release.unwrap_or_default();
    let value = |key: &str| parse::assignment(&release, key);
    let old_name = || {
        old_release
            .as_deref()
            .and_then(parse::first_line)
            .map(str::to_owned)
    };
    let login_defs = tree
        .text("/etc/login.defs")
        .or_else(|| tree.text("/usr/etc/login.defs"))
        .unwrap_or_default();
    let group = tree.text("/etc/group").unwrap_or_default();
    let mut found = LinuxFindings {
        partition: partition.number,
        id: value("ID").unwrap_or_else(|| "rhel".to_owned()),
        pretty_name: value("PRETTY_NAME")
            .or_else(|| value("NAME"))
            .or_else(old_name)
            .unwrap_or_default(),
        version: value("VERSION_ID").unwrap_or_default(),
        arch: architecture(&tree),
        hostname: hostname(&tree),
        systemd: tree.has_any(&["/usr/lib/systemd/systemd", "/lib/systemd/systemd"]),
        renderers: renderers(&tree),
        cloud_init: cloud_init::inspect(&tree),
        encrypt_method: parse::login_def(&login_defs, "ENCRYPT_METHOD").map(str::to_lowercase),
        admin_group: ["sudo", "wheel"]
            .into_iter()
            .find(|name| parse::has_name(&group, name))
            .map(str::to_owned),
        selinux_enforcing: tree
            .text("/etc/selinux/config")
            .and_then(|text| parse::assignment(&text, "SELINUX"))
            .is_some_and(|mode| mode.eq_ignore_ascii_case("enforcing")),
        ssh_server: tree.has_any(&["/usr/sbin/sshd", "/usr/bin/sshd"]),
        accounts: parse::accounts(&passwd, &login_defs),
        join_tools: ["realm", "adcli"]
            .into_iter()
            .filter(|tool| {
                ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]
                    .iter()
                    .any(|folder| tree.has(&format!("{folder}/{tool}")))
            })
            .map(str::to_owned)
            .collect(),
        obstacles: Vec::new(),
    };
    note_unreadable(&tree, &mut found.obstacles);
    Some(found)
}

fn note_unreadable(tree: &Tree, obstacles: &mut Vec<Obstacle>) {
    for (path, reason) in tree.take_unreadable() {
        obstacles.push(unreadable(&path, &reason));
    }
}

/// From the header of a program that every start needs.
fn architecture(tree: &Tree) -> Arch {
    let programs = [
        "/usr/lib/systemd/systemd",
        "/lib/systemd/systemd",
        "/usr/bin/sh",
        "/bin/sh",
        "/sbin/init",
    ];
    let mut header = [0_u8; 20];
    programs
        .iter()
        .find(|program| tree.head(program, &mut header) && header.starts_with(b"\x7fELF"))
        .map_or(Arch::Other, |_| parse::elf_machine(&header))
}

fn hostname(tree: &Tree) -> String {
    let from_file = |path| tree.text(path).and_then(|text| parse::first_word(&text));
    from_file("/etc/hostname")
        .or_else(|| from_file("/etc/HOSTNAME"))
        .or_else(|| parse::assignment(&tree.text("/etc/sysconfig/network")?, "HOSTNAME"))
        .unwrap_or_default()
}

/// What configures the network, the one in charge first: what has configuration for a card before what is merely enabled,
/// what is enabled before what is merely installed. netplan comes before the services it writes for, and ifupdown before
/// NetworkManager, which leaves the cards of `/etc/network/interfaces` alone.
fn renderers(tree: &Tree) -> Vec<Renderer> {
    let netplan = tree.has_any(&[
        "/usr/sbin/netplan",
        "/usr/libexec/netplan/generate",
        "/usr/lib/netplan/generate",
    ]);
    let netplan_files = tree
        .list("/etc/netplan")
        .iter()
        .any(|name| name.ends_with(".yaml"));
    let ifupdown =
        tree.has_any(&["/usr/sbin/ifup", "/sbin/ifup"]) && tree.has("/etc/network/interfaces");
    let interfaces = tree.text("/etc/network/interfaces").unwrap_or_default();
    let fragments = tree.list("/etc/network/interfaces.d");
    let ifupdown_cards = parse::configures_cards(&interfaces)
        || fragments.iter().any(|name| {
            tree.text(&format!("/etc/network/interfaces.d/{name}"))
                .is_some_and(|text| parse::configures_cards(&text))
        });
    let enabled = |unit: &str| {
        [
            "multi-user.target.wants",
            "network-online.target.wants",
            "network.target.wants",
        ]
        .iter()
        .any(|folder| tree.has_link(&format!("/etc/systemd/system/{folder}/{unit}")))
    };
    let manager = tree.has_any(&["/usr/sbin/NetworkManager", "/usr/bin/NetworkManager"]);
    let manager_enabled = manager && enabled("NetworkManager.service");
    let networkd = tree.has_any(&[
        "/usr/lib/systemd/systemd-networkd",
        "/lib/systemd/systemd-networkd",
    ]);
    let networkd_enabled = networkd && enabled("systemd-networkd.service");
    let ifcfg = tree.has_any(&[
        "/etc/sysconfig/network-scripts/ifup-eth",
        "/etc/init.d/network",
        "/etc/rc.d/init.d/network",
    ]) && tree.has("/etc/sysconfig/network-scripts");
    let mut order = Vec::new();
    for (applies, renderer) in [
        (netplan && netplan_files, Renderer::Netplan),
        (ifupdown && ifupdown_cards, Renderer::Ifupdown),
        (manager_enabled, Renderer::NetworkManager),
        (networkd_enabled, Renderer::Networkd),
        (ifcfg, Renderer::Ifcfg),
        (netplan, Renderer::Netplan),
        (manager, Renderer::NetworkManager),
        (ifupdown, Renderer::Ifupdown),
    ] {
        if applies && !order.contains(&renderer) {
            order.push(renderer);
        }
    }
    order
}
