//! The template file, schema 1.
//!
//! Owns: what a template holds, reading it with every mistake at once ([`parse`]), writing it back ([`to_toml`]), its
//! JSON Schema, and its summary page. Top-level keys are the long options of `deploy`; `disk`, `grow`, `rate`, `start`,
//! `stall_limit` and `time_limit` keep the option's own text. Never holds a secret: see [`SecretRef`]. What always holds: what [`parse`]
//! returned is free of contradictions, and reading what [`to_toml`] wrote gives the same template.

mod check;
mod read;
mod reader;
mod secrets;
mod summary;
mod words;

pub use read::{Checks, parse, parse_with, set};
pub use secrets::{SecretUse, credential_name, password_name, share_name};
pub use summary::{Line, summary};
pub use words::{
    DriverMatch, End, JoinMethod, LinuxMethod, NetworkMode, Pace, Phase, Regenerate, Reuse,
    SidChoice,
};

use crate::names::{Case, Pattern};
use crate::step::{Group, OnError, OnExists};
use crate::values::{AddressRange, NicChoice, SecretRef, Timeout};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};

/// The schema this version reads and writes.
pub const SCHEMA: u32 = 1;

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A saved template: a master image, and what makes each machine itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// Version of this file format: 1.
    #[schemars(range(min = 1, max = 1))]
    pub schema: u32,
    /// Name of the template; the file's name otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Master image; beside the template unless absolute, or `//server/share/folder/name.dcimg`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Who asks the server, where the image lies on a share: `USER` or `DOMAIN\USER`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_user: Option<String>,
    /// Password of that account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_password: Option<SecretRef>,
    /// Disk of each machine: `first`, `largest`, `smallest`, `path:P` or `serial:S`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<String>,
    /// Partition that grows into the free space: `last` or its number; left out, none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "text_or_number")]
    pub grow: Option<String>,
    /// Partitions of the image that are deployed, by number; left out, all are. The others are left out of the table.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(inner(range(min = 1, max = 8192)))]
    pub partitions: BTreeSet<u32>,
    /// Partition of the disk that the one of `partitions` overwrites, while everything else on the disk stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 8192))]
    pub onto: Option<u32>,
    /// Whether the image is looked for on each machine's disk first.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reuse: Reuse,
    /// Whom the session waits for when disks differ.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pace: Pace,
    /// Most the multicast may take of the network: `400mbit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// When to start: `all`, `now`, a number of machines, `at=TIME`, `manual`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// A machine that makes no progress for this long has failed: `10m`; left out, 10 minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stall_limit: Option<String>,
    /// The job ends this long after its session began: `2h`; left out, it has no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_limit: Option<String>,
    /// An image is taken whose master could not be read everywhere.
    #[serde(default, skip_serializing_if = "is_default")]
    pub accept_holes: bool,
    /// What each machine does once everything else is done.
    #[serde(default)]
    pub end: End,
    /// Names.
    #[serde(default, skip_serializing_if = "is_default")]
    pub identity: Identity,
    /// Addresses.
    #[serde(default, skip_serializing_if = "is_default")]
    pub network: Network,
    /// Workgroup or domain.
    #[serde(default, skip_serializing_if = "is_default")]
    pub membership: Membership,
    /// What only Windows has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windows: Option<Windows>,
    /// What only Linux has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linux: Option<Linux>,
    /// What each machine tells this console once it has started by itself.
    #[serde(default, skip_serializing_if = "is_default")]
    pub first_start: FirstStart,
    /// Local accounts.
    #[serde(default, rename = "user", skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<User>,
    /// Windows driver packages.
    #[serde(default, rename = "driver", skip_serializing_if = "Vec::is_empty")]
    pub drivers: Vec<Driver>,
    /// Files that lie on each machine.
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
    /// True when machines get a name or an address from it, and so have to be bound.
    pub fn binds(&self) -> bool {
        self.identity.names() || self.network.mode == NetworkMode::Static
    }

    /// True when anything of the system on the image is to change. Without it a template is an image and a way to send it,
    /// and any image will do. `[windows]` and `[linux]` count when they are there, even with nothing but defaults. A report of the first
    /// start is made by the system, so asking for it counts too.
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
    /// The first number.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 999_999))]
    pub start: u32,
    /// Letters of the names.
    #[serde(default, skip_serializing_if = "is_default")]
    pub case: Case,
    /// CSV file beside the template: MAC or UUID, name, address. What it says wins over `hostname` and `range`.
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
    /// Where addresses come from.
    #[serde(default)]
    pub mode: NetworkMode,
    /// Addresses to hand out, both ends included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<AddressRange>,
    /// Bits of the network, 1 to 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 30))]
    pub prefix: Option<u8>,
    /// Router.
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
    /// Which network cards.
    #[serde(default, skip_serializing_if = "is_default")]
    pub nic: NicChoice,
}

/// Workgroup or domain; neither keeps what the image has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Membership {
    /// Windows workgroup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workgroup: Option<String>,
    /// DNS name of the domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Where new machine accounts go: `OU=Labs,DC=corp,DC=example`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ou: Option<String>,
    /// Where the offline-join blob of each machine comes from.
    #[serde(default, skip_serializing_if = "is_default")]
    pub method: JoinMethod,
    /// Folder of `NAME.blob` files, beside the template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blobs: Option<String>,
    /// Password for making machine accounts; only the console uses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<SecretRef>,
}

/// What only Windows has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Windows {
    /// Partition of the system, where an image has more than one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub partition: Option<u32>,
    /// The machine SID.
    #[serde(default)]
    pub sid: SidChoice,
    /// Go on although Windows 11 24H2 and Server 2025 refuse each other with equal SIDs.
    #[serde(default, skip_serializing_if = "is_default")]
    pub allow_duplicate_sid: bool,
    /// MachineGuid, update, telemetry and DHCPv6 identities are drawn anew.
    #[serde(default = "yes")]
    pub regenerate_ids: bool,
    /// Throw away the session of a hibernated image.
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

/// What only Linux has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Linux {
    /// Partition of the system's root, where an image has more than one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub partition: Option<u32>,
    /// How the system is made itself.
    #[serde(default)]
    pub method: LinuxMethod,
    /// What is drawn anew.
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

/// What each machine tells this console once it has started by itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FirstStart {
    /// Each machine reports what came of its first start: done or the step that failed, its name, identity and addresses. Left out, it
    /// does where it has something to do at its first start anyway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<bool>,
    /// Further addresses of this console, `10.1.0.5:5003`, for machines that start in another network. The address by which a machine
    /// was deployed is tried first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>", length(max = 4))]
    pub console: Vec<SocketAddrV4>,
}

/// Most further addresses of the console: each is tried in turn while the machine waits.
pub(crate) const MAX_CONSOLES: usize = 4;

/// A local account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Login name.
    pub name: String,
    /// Name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_name: Option<String>,
    /// `administrators`, `users`, `power-users`, `remote-desktop`, or names of the image's own groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "group_names")]
    #[schemars(with = "Vec<String>")]
    pub groups: Vec<Group>,
    /// Where its password comes from; left out, it cannot log in by password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretRef>,
    /// What happens when the account is there already.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_exists: OnExists,
}

/// Groups as their names in the file.
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

/// A group by its name in the file, in any case; the English names of Windows mean the same groups.
pub(crate) fn group(name: String) -> Group {
    match name.to_lowercase().as_str() {
        "administrators" => Group::Administrators,
        "users" => Group::Users,
        "power-users" | "power users" => Group::PowerUsers,
        "remote-desktop" | "remote desktop users" => Group::RemoteDesktop,
        _ => Group::Named(name),
    }
}

/// The name of a group in the file.
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
    /// Folder with the `.inf` and what it names, beside the template.
    pub path: String,
    /// Without it the machine does not start: it is put in offline.
    #[serde(default, skip_serializing_if = "is_default")]
    pub boot_critical: bool,
    /// Where it goes.
    #[serde(default, rename = "match", skip_serializing_if = "is_default")]
    pub when: DriverMatch,
}

/// A file or folder that lies on each machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Copy {
    /// File or folder of the console, beside the template unless absolute.
    pub from: String,
    /// Where it lies on the machine: `C:\Deploy\app.msi`, `/opt/app.deb`.
    pub to: String,
    /// Run it at first boot, after everything is there.
    #[serde(default, skip_serializing_if = "is_default")]
    pub execute: bool,
    /// What it is run with.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub arguments: String,
}

/// A program that runs on each machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// When.
    #[serde(default)]
    pub phase: Phase,
    /// Command line, for `cmd.exe /c` on Windows and `/bin/sh -c` on Linux.
    pub command: String,
    /// After this long it is ended, and has failed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub timeout: Timeout,
    /// Exit codes that are success.
    #[serde(default = "ok_codes")]
    pub ok_codes: Vec<i32>,
    /// Exit codes after which the machine restarts and goes on.
    #[serde(default = "reboot_codes")]
    pub reboot_codes: Vec<i32>,
    /// What a failure does to what follows.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_error: OnError,
}

/// 3010 is `ERROR_SUCCESS_REBOOT_REQUIRED`, what every Windows installer ends with that wants a restart. No Linux program
/// can end with it.
pub(crate) fn ok_codes() -> Vec<i32> {
    vec![0, 3010]
}

/// See [`ok_codes`].
pub(crate) fn reboot_codes() -> Vec<i32> {
    vec![3010]
}

/// The template as a file.
pub fn to_toml(template: &Template) -> String {
    // Keys are names of fields and values are text, small numbers, booleans and lists of them: all of TOML's.
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
