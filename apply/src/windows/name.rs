//! Steps that set the computer's name and its workgroup.

use super::hives::{Hives, sz};
use super::registry::Registry;
use crate::engine::Task;
use crate::error::{At, Result, StepError};
use hive::kind;

/// Step that sets computer name and DNS host name in every control set from which Windows may
/// start.
pub(crate) fn task<'a>(
    partition: u32,
    name: &'a str,
    dns_name: &'a str,
    suffix: Option<&'a str>,
) -> Box<dyn Task + 'a> {
    Box::new(Registry::new(partition, move |hives: &mut Hives| {
        for set in hives.control_sets()? {
            let computer = format!(r"{set}\Control\ComputerName\ComputerName");
            hives.set("SYSTEM", &computer, "ComputerName", sz(name))?;
            let tcpip = format!(r"{set}\Services\Tcpip\Parameters");
            for value in ["Hostname", "NV Hostname"] {
                hives.set("SYSTEM", &tcpip, value, sz(dns_name))?;
            }
            for value in ["Domain", "NV Domain"] {
                if let Some(suffix) = suffix {
                    hives.set("SYSTEM", &tcpip, value, sz(suffix))?;
                }
            }
        }
        Ok(())
    }))
}

/// Step that sets the workgroup of a machine that is in no domain.
pub(crate) fn workgroup(partition: u32, name: &str) -> Box<dyn Task + '_> {
    Box::new(Registry::new(partition, move |hives: &mut Hives| {
        let security = hives.get("SECURITY")?;
        let domain = security.find(r"Policy\PolPrDmS").at("SECURITY")?;
        let sid = match domain {
            Some(key) => security.value(key, "").at("SECURITY")?,
            None => None,
        };
        // A domain SID has 24 bytes here; without a domain the value is missing or empty.
        if sid.is_some_and(|sid| sid.data.len() >= 24 && sid.data.first() == Some(&1)) {
            return Err(StepError::refused(
                "the master is a member of a domain: a workgroup cannot be set over it",
                "take the master out of its domain and capture it again",
            ));
        }
        hives.set(
            "SECURITY",
            r"Policy\PolPrDmN",
            "",
            (kind::NONE, counted(name)?),
        )
    }))
}

/// A string of LSA: length, capacity and offset, then UTF-16; the capacity counts a zero that is
/// not stored.
fn counted(name: &str) -> Result<Vec<u8>> {
    let text: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let length = u16::try_from(text.len()).map_err(|_| {
        StepError::refused(format!("{name}: too long a name"), "choose a shorter one")
    })?;
    let mut data = Vec::new();
    data.extend(length.to_le_bytes());
    data.extend(length.saturating_add(2).to_le_bytes());
    data.extend(8_u32.to_le_bytes());
    data.extend(text);
    Ok(data)
}
