//! Bindings: the names and addresses that were handed out, and their machines.

use crate::context::Console;
use crate::jobs::store_error;
use api::{ApiError, BindingList, ErrorCode, Plan, SCHEMA_VERSION, TemplateUse};
use facts::identity::{self, Evidence, Shared, Verdict};
use facts::target::{DiskFacts, Facts, PciFacts};
use facts::{Mac, Uuid};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use template::bind::{BindRequest, Binding, bind};
use template::findings::{Findings, System};
use template::import::{ListKey, Listed, parse_list};
use template::machine::{Firmware, Machine, PciDevice};
use template::names::NameRules;
use template::schema::Template;

/// Base class of storage controllers in the PCI Code and ID Assignment Specification.
const CLASS_STORAGE: u32 = 1;

/// Returns a machine in the form that templates use.
///
/// `address` is that of its control connection: the card with this address is the one that it was
/// booted through. A `disk` that is a file is on no controller of the machine, so no storage
/// controller needs a driver then.
pub(super) fn machine_of(
    name: &str,
    facts: &Facts,
    disk: Option<&DiskFacts>,
    address: Option<&str>,
    seed: [u8; 12],
) -> Machine {
    let rehearsal = disk.is_some_and(|disk| disk.file_backed);
    let leads_to_disk =
        |device: &PciFacts| disk.is_some_and(|disk| disk.controllers.contains(&device.address));
    let host = address.map(host_of);
    let boot = facts
        .nics
        .iter()
        .find(|nic| host.is_some_and(|host| nic.addresses.iter().any(|own| own == host)));
    let mac = |text: &str| text.parse().ok().filter(|mac: &Mac| mac.is_card());
    Machine {
        id: name.to_owned(),
        target: None,
        uuid: facts.uuid.clone(),
        serial: facts.serial.clone(),
        asset: facts.asset.clone(),
        model: facts.model.clone(),
        firmware: match facts.firmware.as_str() {
            "uefi" => Firmware::Uefi,
            "bios" => Firmware::Bios,
            _ => Firmware::Unknown,
        },
        macs: facts.nics.iter().filter_map(|nic| mac(&nic.mac)).collect(),
        boot_mac: boot.and_then(|nic| mac(&nic.mac)),
        pci: facts
            .pci
            .iter()
            .filter(|device| !(rehearsal && device.class >> 16 == CLASS_STORAGE))
            .map(|device| PciDevice {
                vendor: device.vendor,
                device: device.device,
                class: device.class,
                subsystem: device.subsystem,
                target_disk: leads_to_disk(device),
            })
            .collect(),
        seed,
    }
}

/// Returns an address without its port.
fn host_of(address: &str) -> &str {
    match address.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !host.contains(':') => {
            host
        }
        _ => address,
    }
}

/// Returns the rules for names: those of Windows if an image has a Windows system or none that is
/// known, else those of DNS.
fn rules(findings: &Findings) -> NameRules {
    let linux_only = !findings.systems.is_empty()
        && findings
            .systems
            .iter()
            .all(|system| matches!(system, System::Linux(_)));
    if linux_only {
        NameRules::Dns
    } else {
        NameRules::Windows
    }
}

fn usage(message: String) -> ApiError {
    ApiError::new(ErrorCode::Usage, message)
}

fn listed(text: &str, name: &str) -> Result<Vec<Listed>, ApiError> {
    parse_list(text).map_err(|mistakes| {
        let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        usage(format!("{name}: {}", lines.join("; ")))
    })
}

impl Console {
    /// Returns names and addresses for these machines, in their order. Stores nothing.
    pub(super) async fn bind(
        &self,
        template: &Template,
        source: &TemplateUse,
        machines: &[Machine],
        findings: &Findings,
        plan: &Plan,
    ) -> Result<Vec<Binding>, ApiError> {
        let existing = self.store.bindings().await;
        let existing = existing.map_err(|error| store_error(&error))?;
        let list = match &template.identity.list {
            None => Vec::new(),
            Some(list) => {
                let path = source.folder.join(list);
                let text = tokio::fs::read_to_string(&path).await.map_err(|error| {
                    ApiError::new(
                        ErrorCode::Refused,
                        format!("list of names {}: {error}", path.display()),
                    )
                })?;
                listed(&text, &path.display().to_string())?
            }
        };
        let mut taken: Vec<(Ipv4Addr, String)> =
            vec![(self.settings.interface_address, "this console".to_owned())];
        if let IpAddr::V4(address) = self.settings.listen
            && !address.is_unspecified()
        {
            taken.push((address, "this console".to_owned()));
        }
        let (known, shared) = self.roster.identities();
        bind(&BindRequest {
            template,
            template_name: &source.name,
            machines,
            existing: &existing,
            list: &list,
            taken: &taken,
            taken_names: &[],
            rules: rules(findings),
            targets: &known.into_keys().collect(),
            shared: &shared,
        })
        .map_err(|faults| {
            let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
            ApiError::new(
                ErrorCode::Refused,
                format!("{}: {}", plan.image.path, lines.join("; ")),
            )
            .hint("nothing was handed out; diskcast binding list shows who has which name")
        })
    }

    /// Returns every binding, by name.
    ///
    /// # Errors
    /// `Unexpected` if the store fails.
    pub async fn list_bindings(&self) -> Result<BindingList, ApiError> {
        let bindings = self.store.bindings().await;
        Ok(list_of(bindings.map_err(|error| store_error(&error))?))
    }

    /// Imports names and addresses from a list, all or none.
    ///
    /// # Errors
    /// `Usage` for an invalid list; `Refused` if another machine has a name or address, or a line
    /// may mean several machines; `Unexpected` if the store fails.
    pub async fn import_bindings(&self, text: &str) -> Result<BindingList, ApiError> {
        let _turn = self.personal.binding.lock().await;
        let list = listed(text, "the list")?;
        let mut all = self
            .store
            .bindings()
            .await
            .map_err(|error| store_error(&error))?;
        let (_, shared) = self.roster.identities();
        let mut changed = Vec::new();
        for line in list {
            let (macs, uuid) = match line.key {
                ListKey::Mac(mac) => (vec![mac], None),
                ListKey::Uuid(uuid) => (Vec::new(), Some(uuid)),
            };
            let known = whose(&line, &all, &shared)?;
            for (index, other) in all.iter().enumerate() {
                if Some(index) == known {
                    continue;
                }
                let same_name = match (&line.name, &other.name) {
                    (Some(new), Some(old)) => new.eq_ignore_ascii_case(old),
                    _ => false,
                };
                if same_name || line.address.is_some() && line.address == other.address {
                    let who = other.name.clone().unwrap_or_default();
                    return Err(ApiError::new(
                        ErrorCode::Refused,
                        format!("line {}: {who} has this name or address already", line.line),
                    )
                    .hint(format!("diskcast binding release {who} gives it back")));
                }
            }
            let mut binding = match known.and_then(|index| all.get(index)) {
                Some(old) => old.clone(),
                None => {
                    let mut seed = [0; 12];
                    getrandom::fill(&mut seed)
                        .map_err(|error| ApiError::new(ErrorCode::Unexpected, error.to_string()))?;
                    Binding {
                        macs,
                        uuid,
                        seed,
                        ..Binding::default()
                    }
                }
            };
            binding.name = line.name.or(binding.name);
            binding.address = line.address.or(binding.address);
            binding.imported = true;
            match known.and_then(|index| all.get_mut(index)) {
                Some(place) => *place = binding.clone(),
                None => all.push(binding.clone()),
            }
            changed.push(binding);
        }
        self.store
            .save_bindings(changed.clone())
            .await
            .map_err(|error| store_error(&error))?;
        tracing::info!(machines = changed.len(), "names and addresses imported");
        Ok(list_of(changed))
    }

    /// Releases a machine's name and address; returns the former binding.
    ///
    /// # Errors
    /// `NothingMatched` if no binding has this name, card or UUID, `Usage` if several have it;
    /// `Unexpected` if the store fails.
    pub async fn release_binding(&self, machine: &str) -> Result<BindingList, ApiError> {
        let _turn = self.personal.binding.lock().await;
        let mac = machine.parse::<Mac>().ok();
        let all = self
            .store
            .bindings()
            .await
            .map_err(|error| store_error(&error))?;
        let uuid = machine.parse::<Uuid>().ok();
        let mut found = all.into_iter().filter(|binding| {
            mac.is_some_and(|mac| binding.macs.contains(&mac))
                || uuid.is_some() && binding.uuid == uuid
                || binding
                    .name
                    .as_deref()
                    .is_some_and(|name| name.eq_ignore_ascii_case(machine))
        });
        let (found, another) = (found.next(), found.next());
        if let (Some(one), Some(two)) = (&found, &another) {
            let name = |of: &Binding| of.name.clone().unwrap_or_default();
            return Err(usage(format!(
                "{machine} is a card of {} and {}",
                name(one),
                name(two)
            ))
            .hint("say the name of the machine that is meant"));
        }
        let binding = found.ok_or_else(|| {
            ApiError::new(
                ErrorCode::NothingMatched,
                format!("no machine {machine:?} has a name or an address from here"),
            )
            .hint("diskcast binding list shows them")
        })?;
        self.store
            .delete_binding(binding.clone())
            .await
            .map_err(|error| store_error(&error))?;
        tracing::info!(machine, "name and address released");
        Ok(list_of(vec![binding]))
    }
}

/// Returns the index of the binding whose machine the line names; `None` for a new machine.
fn whose(line: &Listed, all: &[Binding], shared: &Shared) -> Result<Option<usize>, ApiError> {
    let said = line.evidence();
    let refused = |why: String| {
        let error = ApiError::new(ErrorCode::Refused, format!("line {}: {why}", line.line));
        Err(error.hint("name the machine by another card, or by its UUID"))
    };
    if let Some(value) = said.values().find(|value| shared.has(value)) {
        return refused(format!("several machines have {value}"));
    }
    let evidence: Vec<Evidence> = all.iter().map(Binding::evidence).collect();
    let known: Vec<identity::Known<'_>> = evidence
        .iter()
        .map(|evidence| identity::Known {
            evidence,
            live: false,
        })
        .collect();
    match identity::judge(&known, &said, shared).0 {
        Verdict::Known(index) => Ok(Some(index)),
        Verdict::New => Ok(None),
        Verdict::Doubt(several) => {
            let names = several.into_iter().filter_map(|index| all.get(index));
            let names: BTreeSet<&str> = names.filter_map(|old| old.name.as_deref()).collect();
            let names: Vec<&str> = names.into_iter().collect();
            refused(format!("it may mean {}", names.join(" or ")))
        }
    }
}

fn list_of(mut bindings: Vec<Binding>) -> BindingList {
    bindings.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| a.macs.cmp(&b.macs)));
    BindingList {
        schema_version: SCHEMA_VERSION,
        bindings,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(disk: &DiskFacts) -> Machine {
        let device = |address: &str, class| PciFacts {
            address: address.into(),
            class,
            subsystem: Some((0x1028, 0x0001)),
            ..PciFacts::default()
        };
        let facts = Facts {
            pci: vec![
                device("0000:00:0e.0", 0x01_0400),
                device("0000:00:17.0", 0x01_0601),
                device("0000:00:1f.6", 0x02_0000),
                device("10000:e1:00.0", 0x01_0802),
            ],
            ..Facts::default()
        };
        machine_of("pc-1", &facts, Some(disk), None, [0; 12])
    }

    #[test]
    fn the_controllers_on_the_way_to_the_disk_are_known() {
        let disk = DiskFacts {
            controllers: vec!["0000:00:0e.0".into(), "10000:e1:00.0".into()],
            ..DiskFacts::default()
        };
        let machine = machine(&disk);
        let on_the_way: Vec<u32> = machine
            .pci
            .iter()
            .filter(|device| device.target_disk)
            .map(|device| device.class)
            .collect();
        assert_eq!(on_the_way, [0x01_0400, 0x01_0802]);
        assert!(machine.pci.iter().all(|d| d.subsystem == Some((0x1028, 1))));
    }

    #[test]
    fn a_file_hangs_on_no_controller() {
        let disk = DiskFacts {
            file_backed: true,
            ..DiskFacts::default()
        };
        let classes: Vec<u32> = machine(&disk).pci.iter().map(|d| d.class).collect();
        assert_eq!(classes, [0x02_0000]);
    }
}
