//! Who a target is: a stable identity and a unique name out of what an agent says about its machine.
//!
//! Owns: which facts identify a machine, which values of them are nonsense, and cleaning facts before anything keeps
//! or shows them. Pure. What always holds: the same machine gets the same key on every boot; cleaned facts carry no
//! control character (they reach terminals) and a bounded number of short strings (they reach the store).

use crate::target::Facts;

/// Longest text kept from any fact, in characters. Real models and serial numbers stay under 64.
const MAX_FACT_CHARS: usize = 256;
/// Disks, interfaces, and lines below them that are kept of one machine.
const MAX_FACT_ENTRIES: usize = 128;
/// Longest name: a DNS label.
const MAX_NAME_CHARS: usize = 63;

/// Serial numbers that firmware makers forgot to fill in, in lower case.
const NONSENSE_SERIALS: [&str; 14] = [
    "to be filled by o.e.m.",
    "default string",
    "system serial number",
    "not specified",
    "not applicable",
    "not available",
    "none",
    "n/a",
    "unknown",
    "invalid",
    "empty",
    "oem",
    "0123456789",
    "123456789",
];

/// Facts with control characters taken out and lengths and numbers of entries bounded.
pub fn clean(mut facts: Facts) -> Facts {
    clean_text(&mut facts.hostname);
    clean_text(&mut facts.firmware);
    for text in [&mut facts.uuid, &mut facts.serial, &mut facts.model]
        .into_iter()
        .flatten()
    {
        clean_text(text);
    }
    facts.nics.truncate(MAX_FACT_ENTRIES);
    for nic in &mut facts.nics {
        clean_text(&mut nic.name);
        clean_text(&mut nic.mac);
        nic.addresses.truncate(MAX_FACT_ENTRIES);
        nic.addresses.iter_mut().for_each(clean_text);
    }
    facts.disks.truncate(MAX_FACT_ENTRIES);
    for disk in &mut facts.disks {
        // Paths may be longer than other facts, and a shortened path would name another file: such a disk is left out.
        let whole = disk.path.len();
        disk.path.retain(|c| !c.is_control());
        if disk.path.len() != whole || whole > 4096 {
            disk.path.clear();
        }
        for text in [&mut disk.model, &mut disk.serial].into_iter().flatten() {
            clean_text(text);
        }
        for lines in [&mut disk.holders, &mut disk.contents] {
            lines.truncate(MAX_FACT_ENTRIES);
            lines.iter_mut().for_each(clean_text);
        }
    }
    facts.disks.retain(|disk| !disk.path.is_empty());
    facts
}

fn clean_text(text: &mut String) {
    text.retain(|c| !c.is_control());
    if let Some((cut, _)) = text.char_indices().nth(MAX_FACT_CHARS) {
        text.truncate(cut);
    }
}

/// One line from a peer, fit for a log: no control characters, at most `max` characters.
pub fn clean_line(text: &str, max: usize) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(max)
        .collect()
}

/// What makes the machine this machine: SMBIOS UUID, else serial number, else first MAC address, else host name.
/// File-backed disks add their paths, because then several agents live on one machine.
pub fn machine_key(facts: &Facts) -> String {
    let mut key = if let Some(uuid) = facts.uuid.as_deref().and_then(useful_uuid) {
        format!("uuid:{uuid}")
    } else if let Some(serial) = facts.serial.as_deref().and_then(useful_serial) {
        format!("serial:{serial}")
    } else if let Some(mac) = first_mac(facts) {
        format!("mac:{mac}")
    } else {
        format!("host:{}", facts.hostname)
    };
    let mut files: Vec<&str> = facts
        .disks
        .iter()
        .filter(|disk| disk.file_backed)
        .map(|disk| disk.path.as_str())
        .collect();
    files.sort_unstable();
    for file in files {
        // A path holds no NUL, so two lists of paths never run together into one key.
        key.push('\0');
        key.push_str(file);
    }
    key
}

/// The identity shown in lists: `t-` and 12 hex digits; `copy` > 1 tells machines apart that claim the same key.
pub fn target_id(key: &str, copy: u32) -> String {
    let hash = blake3::hash(key.as_bytes()).to_hex();
    let short: String = hash.chars().take(12).collect();
    if copy <= 1 {
        format!("t-{short}")
    } else {
        format!("t-{short}-{copy}")
    }
}

/// First real MAC address, lower case with colons.
pub fn first_mac(facts: &Facts) -> Option<String> {
    facts
        .nics
        .iter()
        .map(|nic| nic.mac.to_ascii_lowercase().replace('-', ":"))
        .find(|mac| {
            let digits: Vec<char> = mac.chars().filter(|c| *c != ':').collect();
            digits.len() == 12
                && digits.iter().all(char::is_ascii_hexdigit)
                && digits.iter().any(|c| *c != digits[0])
        })
}

fn useful_uuid(uuid: &str) -> Option<String> {
    let digits: String = uuid
        .chars()
        .filter(|c| *c != '-')
        .collect::<String>()
        .to_ascii_lowercase();
    let first = digits.chars().next()?;
    let real = digits.len() == 32
        && digits.chars().all(|c| c.is_ascii_hexdigit())
        && digits.chars().any(|c| c != first)
        // AMI's sample value, on thousands of boards.
        && digits != "03000200040005000006000700080009";
    real.then_some(digits)
}

fn useful_serial(serial: &str) -> Option<String> {
    let serial = serial.trim().to_ascii_lowercase();
    let first = serial.chars().next()?;
    let real = serial.chars().count() >= 4
        && serial.chars().any(|c| c != first)
        && !NONSENSE_SERIALS.contains(&serial.as_str());
    real.then_some(serial)
}

/// True for a name a technician may give.
pub fn is_valid_name(name: &str) -> bool {
    (1..=MAX_NAME_CHARS).contains(&name.len()) && name.chars().all(is_name_char) && name != "all"
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

/// A name nobody else has: the one asked for, else the host name, else `target-N`; numbered when taken.
pub fn unique_name(asked: Option<&str>, hostname: &str, taken: impl Fn(&str) -> bool) -> String {
    let usable = |text: &str| {
        let name: String = text
            .trim()
            .chars()
            .filter(|c| is_name_char(*c))
            .take(MAX_NAME_CHARS - 6)
            .collect();
        (is_valid_name(&name)).then_some(name)
    };
    // Every pre-OS calls itself one of these until someone says otherwise.
    let host =
        Some(hostname).filter(|h| !matches!(*h, "localhost" | "localhost.localdomain" | "(none)"));
    if let Some(base) = asked.and_then(usable).or_else(|| host.and_then(usable)) {
        if !taken(&base) {
            return base;
        }
        numbered(&base, 2, taken)
    } else {
        numbered("target", 1, taken)
    }
}

fn numbered(base: &str, first: u32, taken: impl Fn(&str) -> bool) -> String {
    // The roster is bounded well below u32::MAX, so some number is free.
    (first..=u32::MAX)
        .map(|n| format!("{base}-{n}"))
        .find(|name| !taken(name))
        .unwrap_or_else(|| base.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::{DiskFacts, NicFacts};

    fn facts(uuid: &str, serial: &str, mac: &str) -> Facts {
        Facts {
            hostname: "h".to_owned(),
            uuid: Some(uuid.to_owned()),
            serial: Some(serial.to_owned()),
            nics: vec![NicFacts {
                mac: mac.to_owned(),
                ..NicFacts::default()
            }],
            ..Facts::default()
        }
    }

    #[test]
    fn nonsense_falls_through_to_the_next_fact() {
        let mac = "52:54:00:aa:bb:cc";
        let real = "4C4C4544-0042-3510-8052-B4C04F564433";
        for (uuid, serial, expected) in [
            (real, "ABC1234", "uuid:4c4c454400423510"),
            (
                "00000000-0000-0000-0000-000000000000",
                "ABC1234",
                "serial:abc1234",
            ),
            (
                "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
                "Default string",
                "mac:52:54",
            ),
            (
                "03000200-0400-0500-0006-000700080009",
                "To be filled by O.E.M.",
                "mac:52:54",
            ),
            ("Not Settable", "0000000", "mac:52:54"),
        ] {
            let key = machine_key(&facts(uuid, serial, mac));
            assert!(key.starts_with(expected), "{uuid} {serial}: {key}");
        }
        assert_eq!(machine_key(&facts("", "", "00:00:00:00:00:00")), "host:h");
    }

    #[test]
    fn files_tell_agents_on_one_machine_apart() {
        let disk = |path: &str| DiskFacts {
            path: path.to_owned(),
            file_backed: true,
            ..DiskFacts::default()
        };
        let mut a = facts("", "ABC1234", "");
        let mut b = a.clone();
        a.disks = vec![disk("/a"), disk("/b")];
        b.disks = vec![disk("/b"), disk("/a")];
        assert_eq!(
            target_id(&machine_key(&a), 1),
            target_id(&machine_key(&b), 1)
        );
        b.disks = vec![disk("/b")];
        assert_ne!(
            target_id(&machine_key(&a), 1),
            target_id(&machine_key(&b), 1)
        );
        // A real disk says nothing: it may be swapped and the machine stays the machine.
        let whole = machine_key(&facts("", "ABC1234", ""));
        b.disks = vec![DiskFacts {
            path: "/dev/sda".to_owned(),
            ..DiskFacts::default()
        }];
        assert_eq!(machine_key(&b), whole);
    }

    #[test]
    fn names_are_unique_and_plain() {
        let none = |_: &str| false;
        assert_eq!(unique_name(Some("desk 7"), "h", none), "desk7");
        assert_eq!(unique_name(None, "lab-pc", none), "lab-pc");
        assert_eq!(
            unique_name(None, "lab-pc", |n| n == "lab-pc" || n == "lab-pc-2"),
            "lab-pc-3"
        );
        assert_eq!(unique_name(None, "localhost", none), "target-1");
        assert_eq!(
            unique_name(Some("all"), "", |n| n == "target-1"),
            "target-2"
        );
        assert!(is_valid_name(&unique_name(
            Some(&"x".repeat(500)),
            "h",
            |n| !n.contains('-')
        )));
    }

    #[test]
    fn hostile_facts_are_cut_and_cleaned() {
        let mut bad = facts("u", "\x1b[31mred", "");
        bad.hostname = "é".repeat(10_000);
        bad.disks = (0..1000)
            .map(|_| DiskFacts {
                path: "/dev/x".to_owned(),
                ..DiskFacts::default()
            })
            .collect();
        bad.disks[0].path = "/dev/\nsda".to_owned();
        let clean = clean(bad);
        assert_eq!(clean.hostname.chars().count(), MAX_FACT_CHARS);
        assert_eq!(clean.serial.as_deref(), Some("[31mred"));
        assert_eq!(clean.disks.len(), MAX_FACT_ENTRIES - 1);
    }
}
