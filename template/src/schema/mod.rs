//! The template file, schema 1.
//!
//! Owns: the types of a template, reading it with every mistake at once ([`parse`]), writing it
//! back ([`to_toml`]), its JSON Schema, and its summary page. Top-level keys are the long options
//! of `deploy`; `disk`, `grow`, `rate`, `start`, `stall_limit` and `time_limit` keep the text of
//! the option. Never holds a secret: see [`SecretRef`]. Invariants: a template from [`parse`] is
//! free of contradictions, and reading the text of [`to_toml`] gives the same template.

mod check;
mod read;
mod reader;
mod secrets;
mod summary;
mod words;

pub use read::{Checked, Checks, parse, parse_with, set};
pub use secrets::{SecretUse, credential_name, password_name, share_name};
pub use summary::{Line, summary};
pub use words::{
    DriverMatch, End, JoinMethod, LinuxMethod, NetworkMode, Pace, Phase, Regenerate, Reuse,
    SidChoice,
};

use crate::names::{Case, Pattern};
use crate::step::{Group, OnError, OnExists};
use crate::values::{AddressRange, NicChoice, SecretRef, Timeout};
use facts::disk_rule::DiskRule;
use facts::order::Grow;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};

/// Version of the schema that this program reads and writes.
pub const SCHEMA: u32 = 1;

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A saved template: a master image, and the settings of each machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// Version of this file format: 1.
    #[schemars(range(min = 1, max = 1))]
    pub schema: u32,
    /// Name of the template; left out, the name of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Master image: a path relative to the template or absolute, or
    /// `//server/share/folder/name.dcimg`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Account for the server, when the image lies on a share: `USER` or `DOMAIN\USER`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_user: Option<String>,
    /// Password of that account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_password: Option<SecretRef>,
    /// Disk of each machine: `first`, `largest`, `smallest`, `path:P` or `serial:S`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub disk: Option<DiskRule>,
    /// Partition that grows into the free space: `last` or its number; left out, none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "text_or_number")]
    pub grow: Option<Grow>,
    /// Partitions of the image that are deployed, by number; left out, all are. The partition table
    /// has only these.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(inner(range(min = 1, max = 8192)))]
    pub partitions: BTreeSet<u32>,
    /// Partition of the disk that the one of `partitions` overwrites; everything else on the disk
    /// stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 8192))]
    pub onto: Option<u32>,
    /// Search for the image on each machine's disk before it is sent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reuse: Reuse,
    /// Machines that the session waits for when their disks differ in speed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pace: Pace,
    /// Limit of the multicast rate on the network: `400mbit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// Start of the transmission: `all`, `now`, a number of machines, `at=TIME`, `manual`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// Time without progress after which a machine has failed: `10m`; left out, 10 minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stall_limit: Option<String>,
    /// Time after the start of its session when the job ends: `2h`; left out, it has no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_limit: Option<String>,
    /// Accept an image whose master could not be read completely.
    #[serde(default, skip_serializing_if = "is_default")]
    pub accept_holes: bool,
    /// Action of each machine when everything else is done.
    #[serde(default)]
    pub end: End,
    /// Names of the machines.
    #[serde(default, skip_serializing_if = "is_default")]
    pub identity: Identity,
    /// Addresses of the machines.
    #[serde(default, skip_serializing_if = "is_default")]
    pub network: Network,
    /// Workgroup or domain.
    #[serde(default, skip_serializing_if = "is_default")]
    pub membership: Membership,
    /// Settings for Windows only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windows: Option<Windows>,
    /// Settings for Linux only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linux: Option<Linux>,
    /// Report of each machine's first start to this console.
    #[serde(default, skip_serializing_if = "is_default")]
    pub first_start: FirstStart,
    /// Local accounts.
    #[serde(default, rename = "user", skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<User>,
    /// Windows driver packages.
    #[serde(default, rename = "driver", skip_serializing_if = "Vec::is_empty")]
    pub drivers: Vec<Driver>,
    /// Files that are copied to each machine.
    #[serde(default, rename = "copy", skip_serializing_if = "Vec::is_empty")]
    pub copies: Vec<Copy>,
    /// Programs that run on each machine.
    #[serde(default, rename = "run", skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<Run>,
}

impl Default for Template {
    fn default() -> Self {
        Self {
            schema: SCHEMA,
            name: None,
            image: None,
            share_user: None,
            share_password: None,
            disk: None,
            grow: None,
            partitions: BTreeSet::new(),
            onto: None,
            reuse: Reuse::default(),
            pace: Pace::default(),
            rate: None,
            start: None,
            stall_limit: None,
            time_limit: None,
            accept_holes: false,
            end: End::default(),
            identity: Identity::default(),
            network: Network::default(),
            membership: Membership::default(),
            windows: None,
            linux: None,
            first_start: FirstStart::default(),
            users: Vec::new(),
            drivers: Vec::new(),
            copies: Vec::new(),
            runs: Vec::new(),
        }
    }
}

impl Template {
    /// True when the template gives machines a name or an address, so that they have to be bound.
    pub fn binds(&self) -> bool {
        self.identity.names() || self.network.mode == NetworkMode::Static
    }

    /// True when the template changes anything of the system on the image. Without that it fits any
    /// image: it names an image and a way to send it. `[windows]` and `[linux]` count when they are
    /// present, even with defaults only. A required report of the first start counts too, because
    /// the system makes it.
    pub fn personalises(&self) -> bool {
        self.binds()
            || self.network.mode != NetworkMode::Keep
            || self.network.suffix.is_some()
            || self.membership != Membership::default()
            || self.windows.is_some()
            || self.linux.is_some()
            || self.first_start.report == Some(true)
            || !self.users.is_empty()
            || !self.drivers.is_empty()
            || !self.copies.is_empty()
            || !self.runs.is_empty()
    }
}

/// Names of the machines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Pattern of the names: `LAB-{nn}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<Pattern>,
    /// Number of the first machine.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 999_999))]
    pub start: u32,
    /// Case of the letters in names.
    #[serde(default, skip_serializing_if = "is_default")]
    pub case: Case,
    /// CSV file, relative to the template: MAC or UUID, name, address. It overrides `hostname` and
    /// `range`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list: Option<String>,
}

fn one() -> u32 {
    1
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            hostname: None,
            start: 1,
            case: Case::default(),
            list: None,
        }
    }
}

impl Identity {
    /// True when machines get a name.
    pub fn names(&self) -> bool {
        self.hostname.is_some() || self.list.is_some()
    }
}

/// Addresses of the machines.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Source of addresses.
    #[serde(default)]
    pub mode: NetworkMode,
    /// Range of addresses to assign, both ends included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<AddressRange>,
    /// Prefix length of the network in bits, 1 to 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 30))]
    pub prefix: Option<u8>,
    /// Default gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub gateway: Option<Ipv4Addr>,
    /// Name servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub dns: Vec<Ipv4Addr>,
    /// DNS suffix of the machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suffix: Option<String>,
    /// DNS search list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Network cards that are configured.
    #[serde(default, skip_serializing_if = "is_default")]
    pub nic: NicChoice,
}

/// Workgroup or domain; without either, the image's own stays.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Membership {
    /// Windows workgroup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workgroup: Option<String>,
    /// DNS name of the domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Organisational unit of new machine accounts: `OU=Labs,DC=corp,DC=example`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ou: Option<String>,
    /// Source of each machine's offline-join blob.
    #[serde(default, skip_serializing_if = "is_default")]
    pub method: JoinMethod,
    /// Folder of `NAME.blob` files, relative to the template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blobs: Option<String>,
    /// Password of the account that makes machine accounts; only the console uses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<SecretRef>,
}

/// Settings for Windows only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Windows {
    /// Partition of the system, for images with several systems.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub partition: Option<u32>,
    /// Choice of the machine SID.
    #[serde(default)]
    pub sid: SidChoice,
    /// Allow equal SIDs, although Windows 11 24H2 and Server 2025 refuse each other then.
    #[serde(default, skip_serializing_if = "is_default")]
    pub allow_duplicate_sid: bool,
    /// Make new MachineGuid, update, telemetry and DHCPv6 identities.
    #[serde(default = "yes")]
    pub regenerate_ids: bool,
    /// Discard the session of a hibernated image.
    #[serde(default, skip_serializing_if = "is_default")]
    pub discard_hibernation: bool,
    /// Language and formats of a generalised image: `en-US`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
}

fn yes() -> bool {
    true
}

impl Default for Windows {
    fn default() -> Self {
        Self {
            partition: None,
            sid: SidChoice::default(),
            allow_duplicate_sid: false,
            regenerate_ids: true,
            discard_hibernation: false,
            locale: None,
        }
    }
}

/// Settings for Linux only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Linux {
    /// Partition of the root file system, for images with several systems.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub partition: Option<u32>,
    /// The way in which settings are applied.
    #[serde(default)]
    pub method: LinuxMethod,
    /// Identities that are made new on each machine.
    #[serde(default = "everything")]
    pub regenerate: Vec<Regenerate>,
}

fn everything() -> Vec<Regenerate> {
    vec![Regenerate::MachineId, Regenerate::SshHostKeys]
}

impl Default for Linux {
    fn default() -> Self {
        Self {
            partition: None,
            method: LinuxMethod::default(),
            regenerate: everything(),
        }
    }
}

/// Report of each machine's first start to this console.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FirstStart {
    /// Each machine reports the result of its first start: done or the step that failed, its name,
    /// identity and addresses. Left out, it reports if it has something to do at first start
    /// anyway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<bool>,
    /// Further addresses of this console, `10.1.0.5:5003`, for machines that start in another
    /// network. The address by which a machine was deployed is tried first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>", length(max = 4))]
    pub console: Vec<SocketAddrV4>,
}

/// Limit of further addresses of the console: each is tried in turn while the machine waits.
pub(crate) const MAX_CONSOLES: usize = 4;

/// A local account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Login name.
    pub name: String,
    /// Full name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_name: Option<String>,
    /// `administrators`, `users`, `power-users`, `remote-desktop`, or names of the image's own groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "group_names")]
    #[schemars(with = "Vec<String>")]
    pub groups: Vec<Group>,
    /// Source of the password; left out, the account cannot log in by password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretRef>,
    /// Action when the account exists already.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_exists: OnExists,
}

/// Groups in a template file, by name.
mod group_names {
    use super::{Group, group, group_name};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        groups: &[Group],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let names: Vec<&str> = groups.iter().map(group_name).collect();
        names.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<Group>, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        Ok(names.into_iter().map(group).collect())
    }
}

/// The group with this name in a template file, ignoring case. English names of Windows groups are
/// accepted, too.
pub(crate) fn group(name: String) -> Group {
    match name.to_lowercase().as_str() {
        "administrators" => Group::Administrators,
        "users" => Group::Users,
        "power-users" | "power users" => Group::PowerUsers,
        "remote-desktop" | "remote desktop users" => Group::RemoteDesktop,
        _ => Group::Named(name),
    }
}

/// The name of a group in a template file.
pub fn group_name(group: &Group) -> &str {
    match group {
        Group::Administrators => "administrators",
        Group::Users => "users",
        Group::PowerUsers => "power-users",
        Group::RemoteDesktop => "remote-desktop",
        Group::Named(name) => name,
    }
}

/// A Windows driver package.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Driver {
    /// Folder with the `.inf` and the files it names, relative to the template.
    pub path: String,
    /// The machine does not start without it: it is installed offline.
    #[serde(default, skip_serializing_if = "is_default")]
    pub boot_critical: bool,
    /// Machines that get the package.
    #[serde(default, rename = "match", skip_serializing_if = "is_default")]
    pub when: DriverMatch,
}

/// A file or folder that is copied to each machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Copy {
    /// File or folder on the console, relative to the template or absolute.
    pub from: String,
    /// Path on the machine: `C:\Deploy\app.msi`, `/opt/app.deb`.
    pub to: String,
    /// Run it at first boot, after all files are in place.
    #[serde(default, skip_serializing_if = "is_default")]
    pub execute: bool,
    /// Arguments for the run.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub arguments: String,
}

/// A program that runs on each machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Time of the run.
    #[serde(default)]
    pub phase: Phase,
    /// Command line, for `cmd.exe /c` on Windows and `/bin/sh -c` on Linux.
    pub command: String,
    /// Time limit; after it the program is ended, and has failed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub timeout: Timeout,
    /// Exit codes that mean success.
    #[serde(default = "ok_codes")]
    pub ok_codes: Vec<i32>,
    /// Exit codes after which the machine restarts and continues.
    #[serde(default = "reboot_codes")]
    pub reboot_codes: Vec<i32>,
    /// Effect of a failure on the programs that follow.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_error: OnError,
}

/// Default of `ok_codes`. 3010 is `ERROR_SUCCESS_REBOOT_REQUIRED`, with which Windows installers
/// end that need a restart. No Linux program can end with it.
pub(crate) fn ok_codes() -> Vec<i32> {
    vec![0, 3010]
}

/// Default of `reboot_codes`: see [`ok_codes`].
pub(crate) fn reboot_codes() -> Vec<i32> {
    vec![3010]
}

/// The template as TOML text.
pub fn to_toml(template: &Template) -> String {
    // Keys are names of fields; values are text, small numbers, booleans and lists of them. TOML
    // can express all of these.
    toml::to_string(template).expect("a template holds nothing TOML cannot say")
}

fn text_or_number(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": ["string", "integer"] })
}

/// JSON Schema of the file, for editors.
pub fn json_schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(Template);
    schema.insert("title".into(), "diskcast template".into());
    schema.to_value()
}
