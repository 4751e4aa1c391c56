//! Names and addresses: assigned to each machine, and kept for it.
//!
//! Pure: takes remembered bindings, present machines and taken names; gives bindings, or every
//! reason against them. Invariants: nothing is assigned twice, ignoring the case of letters;
//! a known machine keeps its number, name and address as long as the template still allows them;
//! the same input gives the same bindings.
//!
//! The console has already identified each machine by the rule of [`facts::identity`], and a
//! binding is found by the console's id. The same rule finds the bindings of machines that were
//! imported before they came, and of machines that were forgotten.

mod desk;
mod known;

use crate::import::Listed;
use crate::machine::Machine;
use crate::names::NameRules;
use crate::schema::Template;
use desk::{Desk, Given};
use facts::identity::{Evidence, Shared};
use facts::{Mac, Uuid};
use known::recognise;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;

/// Number, name, address and seed of one machine, stored by the console.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Binding {
    /// Network cards the machine is known by, the one it was first deployed through first.
    pub macs: Vec<Mac>,
    /// SMBIOS UUID, unless other machines share it.
    #[serde(default)]
    pub uuid: Option<Uuid>,
    /// Serial number, unless other machines share it.
    #[serde(default)]
    pub serial: Option<String>,
    /// The console's id of the machine; none while it was only imported.
    #[serde(default)]
    pub target: Option<String>,
    /// Name of the template that gave the machine its name.
    pub template: String,
    /// Number in the names of that template.
    #[serde(default)]
    pub number: Option<u32>,
    /// Name of the machine.
    #[serde(default)]
    pub name: Option<String>,
    /// Address of the machine.
    #[serde(default)]
    pub address: Option<Ipv4Addr>,
    /// Name and address were imported and are kept, even if a template's pattern and range would
    /// give others.
    #[serde(default)]
    pub imported: bool,
    /// Source of the SID and of other identities, drawn once.
    pub seed: [u8; 12],
}

impl Binding {
    /// Identity values of the binding's machine.
    pub fn evidence(&self) -> Evidence {
        Evidence {
            uuid: self.uuid,
            serial: self.serial.clone(),
            cards: self.macs.clone(),
            ..Evidence::default()
        }
    }

    fn title(&self) -> &str {
        self.name.as_deref().unwrap_or("a machine without a name")
    }
}

/// Input of [`bind`].
#[derive(Clone, Copy, Debug)]
pub struct BindRequest<'a> {
    /// The template.
    pub template: &'a Template,
    /// Name of the template.
    pub template_name: &'a str,
    /// Machines to bind, in the order in which they get numbers. A new machine keeps its `seed`.
    pub machines: &'a [Machine],
    /// Every binding of the store.
    pub existing: &'a [Binding],
    /// The list of `identity.list`.
    pub list: &'a [Listed],
    /// Addresses that are not assigned, with the reason: `console`, `answers to ARP`. Gateway and
    /// name servers of the template need not be among them.
    pub taken: &'a [(Ipv4Addr, String)],
    /// Names that are not assigned, such as those of other machines in the roster.
    pub taken_names: &'a [String],
    /// Naming rules of the image's system.
    pub rules: NameRules,
    /// Ids of every target of the console. A binding that belongs to one of them is never used for
    /// another machine.
    pub targets: &'a BTreeSet<String>,
    /// UUIDs, serial numbers and cards that several machines have in common.
    pub shared: &'a Shared,
}

/// The reason why a machine, or the whole request, cannot be bound.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct BindFault {
    /// Machine, by the console's name for it; `None` when the fault concerns all.
    pub machine: Option<String>,
    /// The fault, and what to do about it.
    pub message: String,
}

impl fmt::Display for BindFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.machine {
            Some(machine) => write!(f, "{machine}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

/// Assigns names and addresses to every machine of the request, in their order. The result replaces
/// the stored bindings of these machines.
///
/// # Errors
/// Every fault found; nothing is to be stored then.
pub fn bind(request: &BindRequest<'_>) -> Result<Vec<Binding>, Vec<BindFault>> {
    let mut faults = Vec::new();
    let known = recognise(request, &mut faults);
    let mut desk = Desk::new(request, &known);
    let mut given = vec![Given::default(); known.len()];
    // Reserved and remembered values come first, so that no new machine takes them.
    for (known, given) in known.iter().zip(&mut given) {
        desk.renew(known, given, &mut faults);
    }
    let missing = desk.addresses(&known, &mut given, &mut faults);
    if missing > 0 {
        faults.push(BindFault {
            machine: None,
            message: desk.exhausted(missing),
        });
    }
    for (known, given) in known.iter().zip(&mut given) {
        desk.name(known, given, &mut faults);
    }
    desk.longest(&known, &mut faults);
    if !faults.is_empty() {
        return Err(faults);
    }
    Ok(known
        .into_iter()
        .zip(given)
        .map(|(known, given)| known.binding(given, request))
        .collect())
}
