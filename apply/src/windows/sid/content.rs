//! The SID in one hive: values, names of keys and values, security descriptors.
//!
//! Only whole SIDs are replaced, so never `S-1-5-21-1-2-3` within `S-1-5-21-1-2-34`. Data that is
//! not text keeps its length.

use crate::windows::hives::all_keys;
use hive::sid::{self, Machine};
use hive::{FileTime, Hive, HiveError, KeyId, kind};

/// Key in which SAM keeps the machine's numbers without a SID around them.
const SAM_ACCOUNT: &str = r"SAM\Domains\Account";

/// The value that ends with the machine's numbers: key, value, numbers.
pub(super) fn account(sam: &Hive) -> Result<Option<(KeyId, hive::Value, Machine)>, HiveError> {
    let Some(key) = sam.find(SAM_ACCOUNT)? else {
        return Ok(None);
    };
    let Some(value) = sam.value(key, "V")? else {
        return Ok(None);
    };
    let part: Option<[u8; 12]> = value.data.last_chunk().copied();
    Ok(part.map(|part| (key, value, Machine::from_bytes(&part))))
}

/// Replaces the SID in a hive; returns the number of places.
pub(super) fn rewrite(
    hive: &mut Hive,
    old: Machine,
    new: Machine,
    now: FileTime,
) -> Result<usize, HiveError> {
    let mut count = 0;
    if let Some((key, mut value, machine)) = account(hive)?
        && machine == old
    {
        let at = value.data.len().saturating_sub(12);
        sid::replace_at(&mut value.data, at, old, new);
        hive.set_value(key, "V", value.kind, &value.data, now)?;
        count += 1;
    }
    let keys = all_keys(hive)?;
    for key in &keys {
        for value in hive.values(*key)? {
            let data = replaced(&value, old, new);
            let name = sid::replace_text(&value.name, old, new);
            if data.is_none() && name.is_none() {
                continue;
            }
            count += 1;
            let data = data.unwrap_or(value.data);
            if let Some(name) = &name {
                hive.delete_value(*key, &value.name, now)?;
                hive.set_value(*key, name, value.kind, &data, now)?;
            } else {
                hive.set_value(*key, &value.name, value.kind, &data, now)?;
            }
        }
    }
    // Children first: a renamed key gets another id.
    for key in keys.iter().rev() {
        if let Some(name) = sid::replace_text(&hive.name(*key)?, old, new) {
            hive.rename_key(*key, &name, now)?;
            count += 1;
        }
    }
    let mut descriptor = |bytes: &mut [u8]| sid::replace(bytes, old, new) > 0;
    count += usize::try_from(hive.rewrite_security(&mut descriptor)?).unwrap_or(usize::MAX);
    Ok(count)
}

/// The data with the new SID; `None` if it does not name the old one.
fn replaced(value: &hive::Value, old: Machine, new: Machine) -> Option<Vec<u8>> {
    let mut data = value.data.clone();
    let binary = sid::replace(&mut data, old, new) > 0;
    let textual = match value.kind {
        kind::SZ | kind::EXPAND_SZ | kind::MULTI_SZ => replaced_text(&data, old, new),
        _ => replaced_in_place(&data, old, new),
    };
    textual.or(binary.then_some(data))
}

/// Replaces the SID in UTF-16 text, whose length may change.
fn replaced_text(data: &[u8], old: Machine, new: Machine) -> Option<Vec<u8>> {
    let units: Vec<u16> = data
        .chunks_exact(2)
        .map(|u| u16::from_le_bytes([u[0], u[1]]))
        .collect();
    // Broken UTF-16 is left alone, because decoding and encoding would change it.
    let text = String::from_utf16(&units).ok()?;
    let text = sid::replace_text(&text, old, new)?;
    Some(text.encode_utf16().flat_map(u16::to_le_bytes).collect())
}

/// Replaces the SID as text inside binary data, in UTF-16 or bytes, where the length must not
/// change.
fn replaced_in_place(data: &[u8], old: Machine, new: Machine) -> Option<Vec<u8>> {
    let (from, to) = (old.to_string(), new.to_string());
    if from.len() != to.len() {
        return None;
    }
    let wide = |text: &str| -> Vec<u8> { text.bytes().flat_map(|byte| [byte, 0]).collect() };
    let mut data = data.to_vec();
    let mut found = false;
    for (from, to, step) in [
        (wide(&from), wide(&to), 2),
        (from.clone().into_bytes(), to.clone().into_bytes(), 1),
    ] {
        let mut at = 0;
        while let Some(place) = data.get(at..at + from.len()) {
            let digit = data.get(at + from.len()).is_some_and(u8::is_ascii_digit);
            if place.eq_ignore_ascii_case(&from) && !digit {
                // The first letter keeps its case.
                if let Some(place) = data.get_mut(at + step..at + from.len()) {
                    place.copy_from_slice(to.get(step..).unwrap_or_default());
                }
                found = true;
            }
            at += 1;
        }
    }
    found.then_some(data)
}

/// Places in a hive that still hold the SID: values, names and descriptors.
pub(super) fn traces(hive: &Hive, old: Machine) -> Result<Vec<String>, HiveError> {
    let nothing = Machine([0; 3]);
    let mut found = Vec::new();
    for key in all_keys(hive)? {
        let name = hive.name(key)?;
        if sid::replace_text(&name, old, nothing).is_some() {
            found.push(format!("key {name}"));
        }
        for value in hive.values(key)? {
            let mut data = value.data.clone();
            let text = sid::replace_text(&value.name, old, nothing).is_some()
                || replaced_text(&value.data, old, nothing).is_some();
            if text || sid::replace(&mut data, old, nothing) > 0 {
                found.push(format!("value {} of {name}", value.name));
            }
        }
        if sid::replace(&mut hive.security(key)?, old, nothing) > 0 {
            found.push(format!("security descriptor of {name}"));
        }
    }
    if let Some((_, _, machine)) = account(hive)?
        && machine == old
    {
        found.push("the account domain of SAM".into());
    }
    Ok(found)
}

/// Binary values that hold the SID as text of another length: replacing it could break other fields
/// of the data.
pub(super) fn unreplaced(hive: &Hive, old: Machine) -> Result<Vec<String>, HiveError> {
    let mut found = Vec::new();
    for key in all_keys(hive)? {
        for value in hive.values(key)? {
            let text = matches!(value.kind, kind::SZ | kind::EXPAND_SZ | kind::MULTI_SZ);
            if !text && replaced_in_place(&value.data, old, old).is_some() {
                found.push(format!("{} of {}", value.name, hive.name(key)?));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Machine = Machine([11, 22, 33]);

    #[test]
    fn text_in_binary_data_keeps_its_length() {
        let wide =
            |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
        for form in [wide, |text: &str| text.as_bytes().to_vec()] {
            let data = [vec![1, 2, 3], form("s-1-5-21-11-22-33-500"), vec![9]].concat();
            let expected = [vec![1, 2, 3], form("s-1-5-21-44-55-66-500"), vec![9]].concat();
            assert_eq!(
                replaced_in_place(&data, OLD, Machine([44, 55, 66])),
                Some(expected)
            );
            assert_eq!(replaced_in_place(&data, OLD, Machine([444, 55, 66])), None);
            let other = form("S-1-5-21-11-22-334");
            assert_eq!(replaced_in_place(&other, OLD, Machine([44, 55, 66])), None);
        }
    }

    #[test]
    fn text_of_strings_may_change_its_length() {
        let data = hive::multi_sz(&[
            "a S-1-5-21-11-22-33",
            "S-1-5-21-11-22-334",
            "S-1-5-21-11-22-33-7",
        ]);
        let expected =
            hive::multi_sz(&["a S-1-5-21-4-5-6", "S-1-5-21-11-22-334", "S-1-5-21-4-5-6-7"]);
        assert_eq!(
            replaced_text(&data, OLD, Machine([4, 5, 6])),
            Some(expected)
        );
        // Decoding and encoding would change broken UTF-16.
        let broken = [data.as_slice(), &[0, 0xd8]].concat();
        assert_eq!(replaced_text(&broken, OLD, Machine([4, 5, 6])), None);
    }
}
