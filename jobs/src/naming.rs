//! Ids and names of targets, made from the facts that agents report.
//!
//! Owns ids, names, and the cleaning of facts before they are stored or shown; [`facts::identity`]
//! decides which machine is which. Pure. Invariant: cleaned texts have no control characters,
//! because terminals show them, and a bounded length, because the store keeps them.

use api::name::{MAX_NAME_CHARS, is_name_char, is_valid_name};
use facts::Mac;
use facts::identity::{Evidence, Shared, Value};
use facts::target::Facts;

/// Longest text kept from a fact, in characters. Real models and serial numbers have fewer than 64.
const MAX_FACT_CHARS: usize = 256;
/// Maximum number of disks, interfaces, and lines of each that are kept for one machine.
const MAX_FACT_ENTRIES: usize = 128;

/// Removes control characters from facts, and bounds lengths and numbers of entries.
pub fn clean(mut facts: Facts) -> Facts {
    clean_text(&mut facts.hostname);
    clean_text(&mut facts.firmware);
    let texts = [
        &mut facts.uuid,
        &mut facts.serial,
        &mut facts.asset,
        &mut facts.model,
    ];
    texts.into_iter().flatten().for_each(clean_text);
    facts.nics.truncate(MAX_FACT_ENTRIES);
    for nic in &mut facts.nics {
        clean_text(&mut nic.name);
        clean_text(&mut nic.mac);
        nic.addresses.truncate(MAX_FACT_ENTRIES);
        nic.addresses.iter_mut().for_each(clean_text);
    }
    facts.disks.truncate(MAX_FACT_ENTRIES);
    for disk in &mut facts.disks {
        // Paths may be longer than other facts, and a shortened path would name another file: a
        // disk with a bad path is left out.
        let whole = disk.path.len();
        disk.path.retain(|c| !c.is_control());
        if disk.path.len() != whole || whole > 4096 {
            disk.path.clear();
        }
        for text in [&mut disk.model, &mut disk.serial].into_iter().flatten() {
            clean_text(text);
        }
        disk.partitions.truncate(MAX_FACT_ENTRIES);
        for lines in [&mut disk.controllers, &mut disk.holders, &mut disk.contents] {
            lines.truncate(MAX_FACT_ENTRIES);
            lines.iter_mut().for_each(clean_text);
        }
    }
    facts.disks.retain(|disk| !disk.path.is_empty());
    facts.pci.truncate(MAX_FACT_ENTRIES);
    for device in &mut facts.pci {
        clean_text(&mut device.address);
    }
    facts
}

fn clean_text(text: &mut String) {
    text.retain(|c| !c.is_control());
    if let Some((cut, _)) = text.char_indices().nth(MAX_FACT_CHARS) {
        text.truncate(cut);
    }
}

/// Makes a text of a peer fit for a log: one line, without control characters, at most `max`
/// characters.
pub fn clean_line(text: &str, max: usize) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(max)
        .collect()
}

/// Returns the identity values that a machine reports. Agents with files as disks differ by the
/// paths of those files.
pub fn evidence(facts: &Facts) -> Evidence {
    let cards = facts.nics.iter().map(|nic| nic.mac.as_str());
    let files = facts.disks.iter().filter(|disk| disk.file_backed);
    Evidence::read(facts.uuid.as_deref(), facts.serial.as_deref(), cards)
        .with_files(files.map(|disk| disk.path.as_str()))
        .or_host(&facts.hostname)
}

/// Returns the text that a new id is made from: the first value that only this machine has, and its
/// files.
pub fn machine_key(evidence: &Evidence, shared: &Shared) -> String {
    let own = evidence.values().find(|value| !shared.has(value));
    let mut key = match own {
        Some(Value::Uuid(uuid)) => format!("uuid:{}", uuid.to_string().replace('-', "")),
        Some(Value::Serial(serial)) => format!("serial:{serial}"),
        Some(Value::Card(mac)) => format!("mac:{mac}"),
        None => format!("host:{}", evidence.host.as_deref().unwrap_or_default()),
    };
    for file in &evidence.files {
        // A path has no NUL, so different lists of paths never give the same key.
        key.push('\0');
        key.push_str(file);
    }
    key
}

/// Returns the id shown in lists: `t-` and 12 hex digits; `copy` > 1 separates machines with the
/// same key.
pub fn target_id(key: &str, copy: u32) -> String {
    let hash = blake3::hash(key.as_bytes()).to_hex();
    let short: String = hash.chars().take(12).collect();
    if copy <= 1 {
        format!("t-{short}")
    } else {
        format!("t-{short}-{copy}")
    }
}

/// Returns the first real MAC address, in lower case with colons.
pub fn first_mac(facts: &Facts) -> Option<String> {
    let cards = facts.nics.iter().filter_map(|nic| nic.mac.parse().ok());
    cards
        .filter(|mac: &Mac| mac.is_card())
        .map(|mac| mac.to_string())
        .next()
}

/// Returns a unique name: the requested one, else the host name, else `target-N`; numbered if
/// taken.
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
    // Default host names of a pre-OS are not used.
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
    use facts::target::{DiskFacts, NicFacts, PciFacts};

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
    fn an_id_comes_from_the_first_value_of_its_own() {
        let mac = "52:54:00:aa:bb:cc";
        let real = "4C4C4544-0042-3510-8052-B4C04F564433";
        let shared: Shared = [Value::Serial("default string".to_owned())]
            .into_iter()
            .collect();
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
            ("Not Settable", "0000000", "mac:52:54"),
        ] {
            let key = machine_key(&evidence(&facts(uuid, serial, mac)), &shared);
            assert!(key.starts_with(expected), "{uuid} {serial}: {key}");
        }
        let nothing = evidence(&facts("", "", "00:00:00:00:00:00"));
        assert_eq!(machine_key(&nothing, &shared), "host:h");
    }

    #[test]
    fn files_tell_agents_on_one_machine_apart() {
        let disk = |path: &str| DiskFacts {
            path: path.to_owned(),
            file_backed: true,
            ..DiskFacts::default()
        };
        let key = |facts: &Facts| machine_key(&evidence(facts), &Shared::default());
        let mut a = facts("", "ABC1234", "");
        let mut b = a.clone();
        a.disks = vec![disk("/a"), disk("/b")];
        b.disks = vec![disk("/b"), disk("/a")];
        assert_eq!(target_id(&key(&a), 1), target_id(&key(&b), 1));
        b.disks = vec![disk("/b")];
        assert_ne!(target_id(&key(&a), 1), target_id(&key(&b), 1));
        // A real disk does not identify a machine: it may be replaced.
        let whole = key(&facts("", "ABC1234", ""));
        b.disks = vec![DiskFacts {
            path: "/dev/sda".to_owned(),
            ..DiskFacts::default()
        }];
        assert_eq!(key(&b), whole);
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
        let wild = || "\x1b[2J\u{9b}".repeat(1000);
        bad.asset = Some(wild());
        bad.model = Some(wild());
        bad.firmware = wild();
        let device = PciFacts {
            address: wild(),
            ..PciFacts::default()
        };
        bad.pci = vec![device; 1000];
        bad.nics[0].name = wild();
        bad.nics[0].addresses = vec![wild(); 1000];
        let disk = &mut bad.disks[1];
        disk.partitions = vec![Default::default(); 1000];
        for lines in [&mut disk.controllers, &mut disk.holders, &mut disk.contents] {
            *lines = vec![wild(); 1000];
        }
        let clean = clean(bad);
        assert_eq!(clean.hostname.chars().count(), MAX_FACT_CHARS);
        assert_eq!(clean.serial.as_deref(), Some("[31mred"));
        assert_eq!(clean.disks.len(), MAX_FACT_ENTRIES - 1);
        bounded(&serde_json::to_value(&clean).unwrap());
    }

    /// Asserts that every text and list in a value is cleaned and cut.
    fn bounded(value: &serde_json::Value) {
        match value {
            serde_json::Value::String(text) => {
                assert!(!text.contains(char::is_control), "{text:?}");
                assert!(text.chars().count() <= MAX_FACT_CHARS, "{text}");
            }
            serde_json::Value::Array(entries) => {
                assert!(entries.len() <= MAX_FACT_ENTRIES, "{value}");
                entries.iter().for_each(bounded);
            }
            serde_json::Value::Object(fields) => fields.values().for_each(bounded),
            _ => {}
        }
    }
}
