//! Results of inspecting a Linux system.

use super::{Arch, Obstacle};
use serde::{Deserialize, Serialize};

/// The software that configures the network of a Linux system.
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
    /// Partition of the root file system.
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
    /// Host name of the master.
    #[serde(default)]
    pub hostname: String,
    /// The first process is systemd.
    pub systemd: bool,
    /// Software that configures the network, the one in charge first; empty when it is unknown.
    #[serde(default)]
    pub renderers: Vec<Renderer>,
    /// cloud-init, when it is installed.
    #[serde(default)]
    pub cloud_init: Option<CloudInit>,
    /// `ENCRYPT_METHOD` of login.defs, in lower case.
    #[serde(default)]
    pub encrypt_method: Option<String>,
    /// Group whose members may use sudo: `sudo` or `wheel`, when it exists.
    #[serde(default)]
    pub admin_group: Option<String>,
    /// SELinux is enforcing.
    #[serde(default)]
    pub selinux_enforcing: bool,
    /// An SSH server is installed.
    #[serde(default)]
    pub ssh_server: bool,
    /// Accounts of passwd with a UID that login.defs gives to people, and root.
    #[serde(default)]
    pub accounts: Vec<String>,
    /// Installed programs for joining a domain: `realm`, `adcli`.
    #[serde(default)]
    pub join_tools: Vec<String>,
    /// A network service that diskcast does not support: `wicked`.
    #[serde(default)]
    pub network_by: Option<String>,
    /// Files of the renderer in charge that configure bridges, bonds and VLANs.
    #[serde(default)]
    pub beyond_cards: Vec<String>,
    /// Names of groups.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Accounts of passwd that belong to the system.
    #[serde(default)]
    pub system_accounts: Vec<String>,
    /// sudo, when it is installed.
    #[serde(default)]
    pub sudo: Option<Sudo>,
    /// Network cards are named by udev, also where systemd is not the first process.
    #[serde(default)]
    pub udev: bool,
    /// Some program makes SSH host keys when there are none.
    #[serde(default)]
    pub host_keys: bool,
    /// Files, besides the machine id, with an id that no two machines may share.
    #[serde(default)]
    pub host_ids: Vec<String>,
    /// `/etc/krb5.keytab` exists.
    #[serde(default)]
    pub keytab: bool,
    /// File systems mounted below the root.
    #[serde(default)]
    pub mounts: Vec<crate::fstab::Entry>,
    /// Free bytes of the root volume; `None` when unknown.
    #[serde(default)]
    pub free_bytes: Option<u64>,
    /// Reasons why the system cannot be changed.
    #[serde(default)]
    pub obstacles: Vec<Obstacle>,
}

/// A setting of a configuration file.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// The file and the place in it, for messages.
    pub place: String,
    /// Key.
    pub key: String,
    /// Value, where it matters: the name of an account.
    #[serde(default)]
    pub value: String,
}

/// Configuration of cloud-init: its effect at the next start on an existing name, on addresses and
/// accounts.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct CloudInit {
    /// The setting that disables it; `None` when it runs at every start.
    #[serde(default)]
    pub disabled_by: Option<String>,
    /// Settings that override a file `zzz-diskcast.cfg` in `/etc/cloud/cloud.cfg.d`, and contradict
    /// it.
    #[serde(default)]
    pub stronger: Vec<Setting>,
    /// Reasons why a name in a seed would be ignored.
    #[serde(default)]
    pub name_loses: Vec<String>,
    /// Reasons why addresses in a seed would be ignored.
    #[serde(default)]
    pub network_loses: Vec<String>,
    /// Accounts it makes at the first start of an instance.
    #[serde(default)]
    pub accounts: Vec<String>,
    /// It has made its accounts on the master already, and makes them again only for a new instance
    /// id.
    #[serde(default)]
    pub accounts_made: bool,
    /// Configuration files that could not be judged, with the reason.
    #[serde(default)]
    pub unknown: Vec<String>,
}

/// Rights that sudo gives to administrators.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Sudo {
    /// The administrators' group may run everything.
    pub grants: bool,
    /// Files of `/etc/sudoers.d` are read.
    pub reads_folder: bool,
}
