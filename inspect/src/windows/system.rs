//! Findings from the SYSTEM hive.

use super::{number, text};
use hive::{Hive, KeyId};
use template::findings::{Arch, ProductType, StorageService, WindowsFindings, WindowsInterface};

/// Setup class of network adapters.
const NETWORK_CLASS: &str = "{4D36E972-E325-11CE-BFC1-08002BE10318}";
/// Groups of services that start disk controllers.
const STORAGE_GROUPS: [&str; 2] = ["scsi miniport", "scsi class"];
/// Services of controllers, and of buses that controllers are attached to, of any group.
const STORAGE_SERVICES: [&str; 15] = [
    "ahcix64s",
    "atapi",
    "iastorac",
    "iastorv",
    "iastoravc",
    "iastorvd",
    "intelide",
    "msahci",
    "pciide",
    "storahci",
    "stornvme",
    "storflt",
    "storvsc",
    "vmbus",
    "vmd",
];

/// `VER_SUITE_TERMINAL` and `VER_SUITE_SINGLEUSERTS`.
const TERMINAL: u32 = 0x10;
const SINGLE_USER_TERMINAL: u32 = 0x100;
/// Names in `ProductSuite` with their flags `VER_SUITE_*`.
const SUITES: [(&str, u32); 14] = [
    ("Small Business", 0x1),
    ("Enterprise", 0x2),
    ("BackOffice", 0x4),
    ("CommunicationServer", 0x8),
    ("Terminal Server", TERMINAL),
    ("Small Business(Restricted)", 0x20),
    ("EmbeddedNT", 0x40),
    ("DataCenter", 0x80),
    ("Personal", 0x200),
    ("Blade", 0x400),
    ("Embedded(Restricted)", 0x800),
    ("Security Appliance", 0x1000),
    ("Storage Server", 0x2000),
    ("Compute Server", 0x4000),
];

/// Fills in the findings from SYSTEM; returns the path of the control set that starts.
pub(super) fn fill(hive: &Hive, found: &mut WindowsFindings) -> Option<String> {
    let current = number(hive, "Select", "Current").unwrap_or(1);
    let set = control_set(hive, current)?;
    found.control_set = current;
    found.last_known_good = number(hive, "Select", "LastKnownGood")
        .filter(|good| *good != current && control_set(hive, *good).is_some());
    let parameters = format!(r"{set}\Services\Tcpip\Parameters");
    found.computer_name = text(
        hive,
        &format!(r"{set}\Control\ComputerName\ComputerName"),
        "ComputerName",
    )
    .or_else(|| text(hive, &parameters, "Hostname"))
    .unwrap_or_default();
    let options = format!(r"{set}\Control\ProductOptions");
    found.product_type = match text(hive, &options, "ProductType") {
        Some(kind) if kind.eq_ignore_ascii_case("LanmanNT") => ProductType::DomainController,
        Some(kind) if kind.eq_ignore_ascii_case("ServerNT") => ProductType::Server,
        _ => ProductType::Workstation,
    };
    found.suites = suites(hive, &set);
    // A workgroup machine may have a suffix too; only members have Netlogon started. SECURITY
    // decides.
    let member = number(hive, &format!(r"{set}\Services\Netlogon"), "Start") == Some(2);
    found.domain = text(hive, &parameters, "Domain")
        .or_else(|| text(hive, &parameters, "NV Domain"))
        .filter(|domain| member && !domain.is_empty());
    let environment = format!(r"{set}\Control\Session Manager\Environment");
    found.arch = match text(hive, &environment, "PROCESSOR_ARCHITECTURE") {
        Some(arch) if arch.eq_ignore_ascii_case("x86") => Arch::X86,
        Some(arch) if arch.eq_ignore_ascii_case("AMD64") => Arch::X64,
        Some(arch) if arch.eq_ignore_ascii_case("ARM64") => Arch::Arm64,
        _ => Arch::Other,
    };
    found.registered_answer_file =
        text(hive, "Setup", "UnattendFile").filter(|file| !file.is_empty());
    found.driver_database = matches!(hive.find("DriverDatabase"), Ok(Some(_)));
    found.interfaces = interfaces(hive, &set).unwrap_or_default();
    found.storage_services = storage_services(hive, &set).unwrap_or_default();
    Some(set)
}

/// Flags of the names in `ProductSuite`.
fn suites(hive: &Hive, set: &str) -> u32 {
    let options = hive.find(&format!(r"{set}\Control\ProductOptions"));
    let value = match options {
        Ok(Some(options)) => hive.value(options, "ProductSuite").ok().flatten(),
        _ => None,
    };
    let names = value
        .and_then(|value| value.as_multi_string())
        .unwrap_or_default();
    let flag = |name: &String| {
        SUITES
            .iter()
            .find(|(suite, _)| suite.eq_ignore_ascii_case(name))
            .map_or(0, |(_, flag)| *flag)
    };
    let suites = names.iter().map(flag).fold(0, |all, flag| all | flag);
    // Terminal services are Remote Desktop for one person, unless the machine is a terminal server
    // for applications.
    let terminal = format!(r"{set}\Control\Terminal Server");
    let shared = number(hive, &terminal, "TSAppCompat") == Some(1);
    match suites & TERMINAL != 0 && !shared {
        true => suites | SINGLE_USER_TERMINAL,
        false => suites,
    }
}

fn control_set(hive: &Hive, number: u32) -> Option<String> {
    let name = format!("ControlSet{number:03}");
    matches!(hive.find(&name), Ok(Some(_))).then_some(name)
}

/// Cards with a TCP/IP configuration, in the order of their keys.
fn interfaces(hive: &Hive, set: &str) -> Option<Vec<WindowsInterface>> {
    let network = hive
        .find(&format!(r"{set}\Control\Network\{NETWORK_CLASS}"))
        .ok()??;
    let tcpip = format!(r"{set}\Services\Tcpip\Parameters\Interfaces");
    let mut found = Vec::new();
    for key in hive.subkeys(network).ok()? {
        let Ok(guid) = hive.name(key) else { continue };
        let configured = matches!(hive.find(&format!(r"{tcpip}\{guid}")), Ok(Some(_)));
        let Ok(Some(connection)) = hive.find_below(key, "Connection") else {
            continue;
        };
        if !configured || !guid.starts_with('{') {
            continue;
        }
        let value = |name| hive.value(connection, name).ok()??.as_string();
        let instance = value("PnpInstanceID");
        found.push(WindowsInterface {
            guid,
            name: value("Name").unwrap_or_default(),
            mac: instance.as_deref().and_then(mac_of),
            instance,
        });
    }
    Some(found)
}

/// MAC address from a plug and play instance: the serial number of a PCIe card is made of it, with
/// FF-FF in the middle and 00 at the end.
pub(super) fn mac_of(instance: &str) -> Option<String> {
    let serial = instance.rsplit('\\').next()?;
    if serial.len() != 18 || !serial.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let (maker, rest) = serial.split_at_checked(6)?;
    let (middle, rest) = rest.split_at_checked(4)?;
    let (own, end) = rest.split_at_checked(6)?;
    if !middle.eq_ignore_ascii_case("FFFF") || end != "00" {
        return None;
    }
    let digits = format!("{maker}{own}").to_ascii_lowercase();
    let pairs: Vec<&str> = (0..6)
        .filter_map(|pair| digits.get(pair * 2..pair * 2 + 2))
        .collect();
    // No card has an address of zeros, and a card's own address is never a group address.
    let first = u8::from_str_radix(pairs.first()?, 16).ok()?;
    (first & 1 == 0 && digits != "000000000000").then(|| pairs.join(":"))
}

fn storage_services(hive: &Hive, set: &str) -> Option<Vec<StorageService>> {
    let services = hive.find(&format!(r"{set}\Services")).ok()??;
    let mut found = Vec::new();
    for key in hive.subkeys(services).ok()? {
        let Ok(name) = hive.name(key) else { continue };
        let value = |name: &str| hive.value(key, name).ok().flatten();
        let Some(start) = value("Start").and_then(|value| value.as_u32()) else {
            continue;
        };
        let group = value("Group")
            .and_then(|value| value.as_string())
            .unwrap_or_default();
        let driver = value("Type").and_then(|value| value.as_u32()) == Some(1);
        let storage = STORAGE_GROUPS.contains(&group.to_ascii_lowercase().as_str())
            || STORAGE_SERVICES.contains(&name.to_ascii_lowercase().as_str());
        if driver && storage {
            found.push(StorageService {
                overridden: is_overridden(hive, key),
                name,
                start,
            });
        }
    }
    Some(found)
}

/// True if a value of `StartOverride` other than 0 disables the service.
fn is_overridden(hive: &Hive, service: KeyId) -> bool {
    let Ok(Some(key)) = hive.find_below(service, "StartOverride") else {
        return false;
    };
    let values = hive.values(key).unwrap_or_default();
    values
        .iter()
        .any(|value| value.as_u32().is_some_and(|start| start != 0))
}
