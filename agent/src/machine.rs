//! Facts of this machine, which the agent sends when it connects.
//!
//! Reads `/sys`, `/proc` and the interface list. Best effort: a fact that cannot be read is left
//! out, and never keeps an agent from joining.

use disk::device;
use facts::target::{DiskFacts, Facts, NicFacts, PciFacts};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// SMBIOS strings that boards have in place of a real value.
const PLACEHOLDERS: [&str; 7] = [
    "To be filled by O.E.M.",
    "Default string",
    "System Serial Number",
    "Not Specified",
    "None",
    "0",
    "123456789",
];

/// Facts of this machine with these disks on offer; `None` offers every disk the kernel lists.
pub fn gather(disks: Option<Vec<DiskFacts>>) -> Facts {
    Facts {
        hostname: text("/proc/sys/kernel/hostname").unwrap_or_default(),
        uuid: dmi("product_uuid").map(|uuid| uuid.to_lowercase()),
        serial: dmi("product_serial"),
        asset: dmi("chassis_asset_tag"),
        model: match (dmi("sys_vendor"), dmi("product_name")) {
            (Some(vendor), Some(product)) => Some(format!("{vendor} {product}")),
            (vendor, product) => vendor.or(product),
        },
        firmware: if Path::new("/sys/firmware/efi").exists() {
            "uefi"
        } else {
            "bios"
        }
        .into(),
        memory_bytes: memory_bytes().unwrap_or(0),
        cpus: std::thread::available_parallelism()
            .map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
        aes: fs::read_to_string("/proc/cpuinfo").is_ok_and(|info| {
            info.lines()
                .any(|l| l.starts_with("flags") && l.split_whitespace().any(|flag| flag == "aes"))
        }),
        nics: nics(),
        disks: disks.unwrap_or_else(device::list),
        pci: pci(),
    }
}

/// Devices of the classes that templates have drivers for: mass storage, network, display.
fn pci() -> Vec<PciFacts> {
    let mut found: Vec<PciFacts> = Vec::new();
    for entry in fs::read_dir("/sys/bus/pci/devices")
        .into_iter()
        .flatten()
        .flatten()
    {
        let number = |name: &str| {
            let text = fs::read_to_string(entry.path().join(name)).ok()?;
            u32::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()
        };
        let short = |name: &str| number(name).and_then(|id| u16::try_from(id).ok());
        if let (Some(vendor), Some(device), Some(class)) =
            (short("vendor"), short("device"), number("class"))
            && (1..=3).contains(&(class >> 16))
        {
            found.push(PciFacts {
                address: entry.file_name().to_string_lossy().into_owned(),
                vendor,
                device,
                class,
                subsystem: short("subsystem_vendor").zip(short("subsystem_device")),
            });
        }
    }
    found.sort_by(|a, b| a.address.cmp(&b.address));
    // No real machine has more devices, and the hello has a size limit.
    found.truncate(256);
    found
}

fn text(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?.trim().to_owned();
    (!text.is_empty()).then_some(text)
}

fn dmi(name: &str) -> Option<String> {
    text(&format!("/sys/class/dmi/id/{name}"))
        .filter(|value| !PLACEHOLDERS.contains(&value.as_str()))
}

fn memory_bytes() -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find(|l| l.starts_with("MemTotal:"))?;
    line.split_whitespace()
        .nth(1)?
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

/// Interfaces that are up, by name; the loopback interface only when there is no other.
fn nics() -> Vec<NicFacts> {
    let mut found: BTreeMap<String, NicFacts> = BTreeMap::new();
    for interface in if_addrs::get_if_addrs().unwrap_or_default() {
        let nic = found
            .entry(interface.name.clone())
            .or_insert_with(|| NicFacts {
                mac: text(&format!("/sys/class/net/{}/address", interface.name))
                    .unwrap_or_default(),
                speed_mbit_per_s: speed(&interface.name),
                name: interface.name.clone(),
                addresses: Vec::new(),
            });
        nic.addresses.push(interface.ip().to_string());
    }
    if found.len() > 1 {
        found.remove("lo");
    }
    found.into_values().collect()
}

/// Speed of an interface. `None` for virtual ones, which report an invented speed: veth says 10000
/// on any link.
fn speed(name: &str) -> Option<u32> {
    if !Path::new(&format!("/sys/class/net/{name}/device")).exists() {
        return None;
    }
    text(&format!("/sys/class/net/{name}/speed"))?
        .parse()
        .ok()
        .filter(|speed| *speed > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_memory_processors_and_an_interface() {
        let facts = gather(Some(Vec::new()));
        assert!(facts.memory_bytes > 1 << 20);
        assert!(facts.cpus > 0);
        assert!(!facts.nics.is_empty());
        assert!(facts.disks.is_empty());
    }
}
