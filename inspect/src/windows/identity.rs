//! Contents of SAM and SECURITY: the machine SID, accounts, the domain.

use super::{default_data, text};
use hive::Hive;
use template::findings::{WindowsFindings, WindowsGroup};

/// Length in bytes of the SID `S-1-5-21` with three numbers.
const SID_BYTES: usize = 24;

/// Fills in the findings from the two hives.
pub(super) fn fill(sam: Option<&Hive>, security: Option<&Hive>, found: &mut WindowsFindings) {
    let by_sam = sam.and_then(|sam| {
        let account = sam.find(r"SAM\Domains\Account").ok()??;
        let data = sam.value(account, "V").ok()??.data;
        let part: [u8; 12] = data.last_chunk().copied()?;
        Some(part)
    });
    let by_security = security.and_then(|security| {
        let data = default_data(security, r"Policy\PolAcDmS")?;
        let sid: [u8; SID_BYTES] = data.first_chunk().copied()?;
        machine_part(&sid)
    });
    found.machine_sid = match (by_sam, by_security) {
        (Some(sam), Some(security)) if sam == security => Some(written(&sam)),
        _ => None,
    };
    if let Some(sam) = sam
        && let Ok(Some(names)) = sam.find(r"SAM\Domains\Account\Users\Names")
    {
        found.accounts = sam.subkey_names(names).unwrap_or_default();
    }
    if let Some(sam) = sam {
        for domain in ["Builtin", "Account"] {
            found.groups.extend(groups(sam, domain).unwrap_or_default());
        }
    }
    if let Some(security) = security {
        let sid = default_data(security, r"Policy\PolPrDmS").unwrap_or_default();
        let member = sid.len() >= SID_BYTES && sid.first() == Some(&1);
        found.domain = match member {
            true => dns_name(security)
                .or(found.domain.take())
                .or(Some("(unnamed)".into())),
            false => None,
        };
    }
}

/// Local groups of a domain in SAM: each name is a key whose default value has the group's number
/// as its type.
fn groups(sam: &Hive, domain: &str) -> Option<Vec<WindowsGroup>> {
    let names = sam
        .find(&format!(r"SAM\Domains\{domain}\Aliases\Names"))
        .ok()??;
    let mut found = Vec::new();
    for key in sam.subkeys(names).ok()? {
        if let (Ok(name), Ok(Some(value))) = (sam.name(key), sam.value(key, "")) {
            found.push(WindowsGroup {
                name,
                id: value.kind,
            });
        }
    }
    Some(found)
}

/// The three numbers after `S-1-5-21`.
fn machine_part(sid: &[u8; SID_BYTES]) -> Option<[u8; 12]> {
    let header = [1, 4, 0, 0, 0, 0, 0, 5, 21, 0, 0, 0];
    sid.starts_with(&header)
        .then(|| sid.last_chunk().copied())?
}

fn written(part: &[u8; 12]) -> String {
    let numbers = part.chunks_exact(4);
    let numbers = numbers.map(|n| u32::from_le_bytes([n[0], n[1], n[2], n[3]]).to_string());
    format!("S-1-5-21-{}", numbers.collect::<Vec<_>>().join("-"))
}

/// DNS name of the primary domain, or its NetBIOS name.
fn dns_name(security: &Hive) -> Option<String> {
    ["PolDnDDN", "PolPrDmN"]
        .iter()
        .filter_map(|key| default_data(security, &format!(r"Policy\{key}")))
        .filter_map(|data| counted_text(&data))
        .find(|name| !name.is_empty())
}

/// Decodes a string of LSA: length, capacity and offset in 8 bytes, then UTF-16 without a zero.
pub(super) fn counted_text(data: &[u8]) -> Option<String> {
    let (header, text) = data.split_at_checked(8)?;
    let length = usize::from(u16::from_le_bytes([header[0], header[1]]));
    let units = text.get(..length)?.chunks_exact(2);
    let units: Vec<u16> = units
        .map(|unit| u16::from_le_bytes([unit[0], unit[1]]))
        .collect();
    Some(String::from_utf16_lossy(&units))
}

/// `ImageState` of SOFTWARE.
pub(super) fn image_state(software: &Hive) -> Option<String> {
    text(
        software,
        r"Microsoft\Windows\CurrentVersion\Setup\State",
        "ImageState",
    )
}
