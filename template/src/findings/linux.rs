//! What inspection says of a Linux system.

use super::{Arch, Obstacle};
use serde::{Deserialize, Serialize};

/// What configures the network of a Linux system.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Renderer {
    /// netplan.
    Netplan,
    /// NetworkManager.
    NetworkManager,
    /// systemd-networkd.
    Networkd,
    /// ifupdown, `/etc/network/interfaces`.
    Ifupdown,
    /// `/etc/sysconfig/network-scripts/ifcfg-*`.
    Ifcfg,
}

/// A Linux installation.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct LinuxFindings {
    /// Partition of its root.
    pub partition: u32,
    /// `ID` of os-release.
    pub id: String,
    /// `PRETTY_NAME`.
    pub pretty_name: String,
    /// `VERSION_ID`.
    #[serde(default)]
    pub version: String,
    /// Architecture, from the header of a program.
    pub arch: Arch,
    /// Name of the master.
    #[serde(default)]
    pub hostname: String,
    /// systemd is its first process.
    pub systemd: bool,
    /// What configures its network, the one in charge first; empty when nobody knows.
    #[serde(default)]
    pub renderers: Vec<Renderer>,
    /// cloud-init, when it is installed.
    #[serde(default)]
    pub cloud_init: Option<CloudInit>,
    /// `ENCRYPT_METHOD` of login.defs, lower case.
    #[serde(default)]
    pub encrypt_method: Option<String>,
    /// Group that may use sudo: `sudo` or `wheel`, when it exists.
    #[serde(default)]
    pub admin_group: Option<String>,
    /// SELinux is enforcing.
    #[serde(default)]
    pub selinux_enforcing: bool,
    /// An SSH server is installed.
    #[serde(default)]
    pub ssh_server: bool,
    /// Account names of passwd with a UID that login.defs gives to people, and root.
    #[serde(default)]
    pub accounts: Vec<String>,
    /// Programs for joining a domain that are installed: `realm`, `adcli`.
    #[serde(default)]
    pub join_tools: Vec<String>,
    /// A service that configures its network and is not written for: `wicked`.
    #[serde(default)]
    pub network_by: Option<String>,
    /// Files of the renderer in charge about bridges, bonds and VLANs.
    #[serde(default)]
    pub beyond_cards: Vec<String>,
    /// Names of its groups.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Accounts of passwd that are the system's own.
    #[serde(default)]
    pub system_accounts: Vec<String>,
    /// sudo, when it is installed.
    #[serde(default)]
    pub sudo: Option<Sudo>,
    /// udev names its network cards, also where systemd is not its first process.
    #[serde(default)]
    pub udev: bool,
    /// Something makes SSH host keys where there are none.
    #[serde(default)]
    pub host_keys: bool,
    /// Files with an id that no two machines may share, beside the machine id.
    #[serde(default)]
    pub host_ids: Vec<String>,
    /// `/etc/krb5.keytab` is there.
    #[serde(default)]
    pub keytab: bool,
    /// File systems that are mounted below its root.
    #[serde(default)]
    pub mounts: Vec<crate::fstab::Entry>,
    /// Bytes that are free in its volume; `None` when nobody knows.
    #[serde(default)]
    pub free_bytes: Option<u64>,
    /// Why it cannot be changed.
    #[serde(default)]
    pub obstacles: Vec<Obstacle>,
}

/// A setting of a file.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// File, and what in it, for people.
    pub place: String,
    /// Key.
    pub key: String,
    /// Value, where one matters: an account's name.
    #[serde(default)]
    pub value: String,
}

/// cloud-init as a system has it: what it would do at the next start to a name, addresses and accounts that are in place.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct CloudInit {
    /// What keeps it from running; `None` when it runs at every start.
    #[serde(default)]
    pub disabled_by: Option<String>,
    /// Settings that count more than a file `zzz-diskcast.cfg` in `/etc/cloud/cloud.cfg.d`, and say something else than it would.
    #[serde(default)]
    pub stronger: Vec<Setting>,
    /// Why a name in a seed would not be taken.
    #[serde(default)]
    pub name_loses: Vec<String>,
    /// Why addresses in a seed would not be taken.
    #[serde(default)]
    pub network_loses: Vec<String>,
    /// Accounts it makes at a start that it takes for the first of a new machine.
    #[serde(default)]
    pub accounts: Vec<String>,
    /// It has made its accounts on the master already, and makes them again only on what it takes for another machine.
    #[serde(default)]
    pub accounts_made: bool,
    /// Files of it that could not be judged, and why.
    #[serde(default)]
    pub unknown: Vec<String>,
}

/// What sudo lets administrators do.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Sudo {
    /// The group of administrators may do everything.
    pub grants: bool,
    /// Files of `/etc/sudoers.d` count.
    pub reads_folder: bool,
}
