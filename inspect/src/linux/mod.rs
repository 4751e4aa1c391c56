//! A Linux root in an ext file system.
//!
//! The system is identified by its files, not by the name of the distribution: installed programs,
//! enabled units, configuration.

mod cloud_init;
mod network;
mod parse;
mod tree;

use crate::source::Source;
use crate::unreadable;
use template::findings::{Arch, LinuxFindings, Obstacle, PartitionFindings, Sudo};
use template::{fstab, salt, sudoers};
use tree::Tree;

/// Inspects the system in the volume; `None` if there is none. Unreadable files are noted with the
/// partition.
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
    let mounts = fstab::entries(&tree.text("/etc/fstab").unwrap_or_default());
    if mounts.iter().any(|entry| entry.path == "/usr") {
        partition.obstacles.push(unreadable(
            "/usr",
            &"it is a volume of its own, and the programs that tell what the system needs lie there; only a system with /usr on its \
              root is changed",
        ));
    }
    let release = tree
        .text("/etc/os-release")
        .or_else(|| tree.text("/usr/lib/os-release"));
    // Red Hat 6 and related systems have no os-release.
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
    let network = network::inspect(&tree);
    let admin_group = ["sudo", "wheel"]
        .into_iter()
        .find(|name| parse::has_name(&group, name));
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
        renderers: network.renderers,
        network_by: network.unknown,
        beyond_cards: network.beyond,
        cloud_init: cloud_init::inspect(&tree),
        encrypt_method: parse::login_def(&login_defs, "ENCRYPT_METHOD").map(str::to_lowercase),
        admin_group: admin_group.map(str::to_owned),
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
        groups: parse::names(&group),
        system_accounts: parse::system_accounts(&passwd, &login_defs),
        sudo: sudo(&tree, admin_group),
        udev: tree.has("/lib/systemd/systemd-udevd"),
        host_keys: host_keys(&tree),
        host_ids: host_ids(&tree),
        keytab: tree.has("/etc/krb5.keytab"),
        mounts,
        free_bytes: Some(tree.free_bytes),
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

/// Architecture, from the header of a program that every start needs.
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

/// Files, besides the machine id, with an id that two machines must not share.
const HOST_IDS: [&str; 5] = [
    "/etc/iscsi/initiatorname.iscsi",
    "/etc/nvme/hostnqn",
    "/etc/nvme/hostid",
    "/etc/salt/minion_id",
    "/etc/salt/pki/minion/minion.pem",
];

/// Files with such an id, in this tree.
fn host_ids(tree: &Tree) -> Vec<String> {
    let own = HOST_IDS.iter().filter(|path| tree.has(path));
    let own = own.map(|path| (*path).to_owned());
    let further = tree.list(salt::FOLDER).into_iter();
    let further = further.filter(|name| name.ends_with(".conf"));
    let further = further.map(|name| format!("{}/{name}", salt::FOLDER));
    let minions = std::iter::once(salt::MAIN.to_owned()).chain(further);
    let minions = minions.filter(|path| {
        tree.text(path)
            .is_some_and(|text| salt::without_id(&text).is_some())
    });
    own.chain(minions).collect()
}

/// Rights that sudo gives to the group of administrators.
fn sudo(tree: &Tree, group: Option<&str>) -> Option<Sudo> {
    if !tree.has_any(&["/usr/bin/sudo", "/bin/sudo", "/usr/sbin/sudo"]) {
        return None;
    }
    let own = ["/etc/sudoers", "/usr/etc/sudoers"];
    let main = own.iter().find_map(|path| tree.text(path))?;
    let mut all = main.clone();
    for name in tree.list("/etc/sudoers.d") {
        if sudoers::is_read(&name) {
            all.push('\n');
            all.push_str(
                &tree
                    .text(&format!("/etc/sudoers.d/{name}"))
                    .unwrap_or_default(),
            );
        }
    }
    Some(Sudo {
        grants: group.is_some_and(|group| sudoers::grants(&all, &format!("%{group}"))),
        reads_folder: sudoers::reads_folder(&main),
    })
}

/// True if new SSH host keys will be made: by a unit of ours, or by the start script of OpenRC.
fn host_keys(tree: &Tree) -> bool {
    let systemd = tree.has_any(&["/usr/lib/systemd/systemd", "/lib/systemd/systemd"]);
    let script = || {
        tree.text("/etc/init.d/sshd")
            .is_some_and(|text| text.contains("ssh-keygen"))
    };
    tree.has("/usr/bin/ssh-keygen") && (systemd || script())
}

fn hostname(tree: &Tree) -> String {
    let from_file = |path| tree.text(path).and_then(|text| parse::first_word(&text));
    from_file("/etc/hostname")
        .or_else(|| from_file("/etc/HOSTNAME"))
        .or_else(|| parse::assignment(&tree.text("/etc/sysconfig/network")?, "HOSTNAME"))
        .unwrap_or_default()
}
