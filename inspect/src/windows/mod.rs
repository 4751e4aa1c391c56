//! A Windows installation in an NTFS volume.
//!
//! Owns the findings from its hives and a few of its files. Never writes. A hive is used only if it
//! is complete (its logs applied) and its validator finds no fault; otherwise it is an obstacle
//! with its name.
//!
//! `volume` finds files, `system` reads SYSTEM, `identity` reads SAM and SECURITY, `product`
//! determines the edition and version of Windows.

mod identity;
mod link;
mod named_hives;
mod product;
mod profiles;
mod system;
mod volume;

use crate::source::Source;
use crate::unreadable;
use hive::files::{LOG_SUFFIXES, MOST_HIVE_BYTES, MOST_LOG_BYTES, Unsound};
use hive::{Hive, HiveError};
use template::answers::xml::MOST_BYTES;
use template::answers::{AnswerFileFound, PLACES, base};
use template::findings::{Obstacle, PartitionFindings, ProductType, WindowsFindings};
use volume::Volume;

/// Inspects the system in the volume; `None` if there is none. Unreadable files are noted with the
/// partition.
pub(crate) fn inspect(
    source: Source,
    partition: &mut PartitionFindings,
) -> Option<WindowsFindings> {
    let number = partition.number;
    let mut obstacles = Vec::new();
    let mut sids = Vec::new();
    let found = look(&source, number, &mut obstacles, &mut sids);
    partition.obstacles.append(&mut obstacles);
    partition.sids = sids;
    match found {
        Ok(found) => found,
        Err(reason) => {
            partition
                .obstacles
                .push(unreadable("the NTFS volume", &reason));
            None
        }
    }
}

fn look(
    source: &Source,
    number: u32,
    obstacles: &mut Vec<Obstacle>,
    sids: &mut Vec<String>,
) -> Result<Option<WindowsFindings>, String> {
    let volume = Volume::open(source)?;
    sids.extend(volume.machines()?.iter().map(ToString::to_string));
    if volume.is_dirty()? {
        obstacles.push(Obstacle::DirtyVolume);
    }
    if volume.is_hibernated()? {
        obstacles.push(Obstacle::Hibernated);
    }
    let Some(folder) = volume
        .spelling(&["Windows"])?
        .or(volume.spelling(&["WINNT"])?)
    else {
        return Ok(None);
    };
    let mut found = WindowsFindings {
        partition: number,
        folder,
        product: String::new(),
        edition: None,
        version: (0, 0),
        build: 0,
        arch: template::findings::Arch::Other,
        generalised: false,
        control_set: 1,
        last_known_good: None,
        computer_name: String::new(),
        domain: None,
        product_type: ProductType::Workstation,
        suites: 0,
        machine_sid: None,
        profiles_elsewhere: Vec::new(),
        unchangeable_hives: Vec::new(),
        accounts: Vec::new(),
        groups: Vec::new(),
        interfaces: Vec::new(),
        storage_services: Vec::new(),
        driver_database: false,
        answer_file: None,
        registered_answer_file: None,
        obstacles: Vec::new(),
    };
    let Some(system) = volume.read(&config(&found.folder, "SYSTEM"), MOST_HIVE_BYTES)? else {
        return Ok(None);
    };
    let system = open_hive(&volume, &mut found, "SYSTEM", system)?;
    let software = read_hive(&volume, &mut found, "SOFTWARE")?;
    let sam = read_hive(&volume, &mut found, "SAM")?;
    let security = read_hive(&volume, &mut found, "SECURITY")?;
    let set = system
        .as_ref()
        .and_then(|system| system::fill(system, &mut found));
    product::fill(
        &volume,
        system.as_ref().zip(set),
        software.as_ref(),
        &mut found,
    )?;
    identity::fill(sam.as_ref(), security.as_ref(), &mut found);
    if let (Some(software), Some(machine)) = (&software, &found.machine_sid) {
        found.profiles_elsewhere = profiles::elsewhere(software, machine, &volume)?;
    }
    // Nothing is rewritten in a generalised image or in a domain controller.
    if !found.generalised && !found.is_domain_controller() {
        named_hives::look(&volume, &mut found)?;
    }
    found.answer_file = answer_file(&volume, &found.folder)?;
    Ok(Some(found))
}

/// The answer file that Windows Setup would find first, and the parts of it that are lost in a
/// merge.
fn answer_file(volume: &Volume<'_>, folder: &str) -> Result<Option<AnswerFileFound>, String> {
    for place in PLACES {
        let mut parts = vec![folder];
        parts.extend(place);
        if !volume.exists(&parts)? {
            continue;
        }
        let most = u64::try_from(MOST_BYTES).unwrap_or(u64::MAX);
        let read = match volume.read(&parts, most) {
            Ok(Some(bytes)) => base(&bytes).map_err(|fault| fault.to_string()),
            Ok(None) => Err("it is no file".to_owned()),
            Err(reason) => Err(reason),
        };
        let (dropped, fault) = match read {
            Ok((_, dropped)) => (dropped, None),
            Err(fault) => (Vec::new(), Some(fault)),
        };
        return Ok(Some(AnswerFileFound {
            path: parts.join("\\"),
            dropped,
            fault,
        }));
    }
    Ok(None)
}

fn config<'a>(folder: &'a str, name: &'a str) -> [&'a str; 4] {
    [folder, "System32", "config", name]
}

/// Reads a hive beside SYSTEM if it exists and is sound.
fn read_hive(
    volume: &Volume<'_>,
    found: &mut WindowsFindings,
    name: &str,
) -> Result<Option<Hive>, String> {
    match volume.read(&config(&found.folder, name), MOST_HIVE_BYTES) {
        Ok(Some(bytes)) => open_hive(volume, found, name, bytes),
        Ok(None) => Ok(None),
        Err(reason) => {
            found.obstacles.push(unreadable(name, &reason));
            Ok(None)
        }
    }
}

/// Completes a hive from its logs and validates it; on failure `None`, and an obstacle in the
/// findings.
fn open_hive(
    volume: &Volume<'_>,
    found: &mut WindowsFindings,
    name: &str,
    bytes: Vec<u8>,
) -> Result<Option<Hive>, String> {
    let mut logs = Vec::new();
    for suffix in LOG_SUFFIXES {
        let log = format!("{name}{suffix}");
        logs.extend(volume.read(&config(&found.folder, &log), MOST_LOG_BYTES)?);
    }
    match judged(name, bytes, &logs) {
        Ok(hive) => Ok(Some(hive)),
        Err(obstacle) => {
            found.obstacles.push(obstacle);
            Ok(None)
        }
    }
}

/// The hive, completed from its logs and validated; or an obstacle with this name.
fn judged(name: &str, bytes: Vec<u8>, logs: &[Vec<u8>]) -> Result<Hive, Obstacle> {
    let logs: Vec<&[u8]> = logs.iter().map(Vec::as_slice).collect();
    let hive = name.to_owned();
    Hive::open_sound(bytes, &logs).map_err(|unsound| match unsound {
        Unsound::Hive(HiveError::Dirty { why }) => Obstacle::DirtyHive {
            hive,
            reason: why.to_owned(),
        },
        Unsound::Faults(reason) => Obstacle::DamagedHive { hive, reason },
        other => Obstacle::DamagedHive {
            hive,
            reason: other.to_string(),
        },
    })
}

/// String of a value; `None` if it is missing or no string.
fn text(hive: &Hive, path: &str, name: &str) -> Option<String> {
    let key = hive.find(path).ok()??;
    hive.value(key, name).ok()??.as_string()
}

/// Number of a value; `None` if it is missing or no number.
fn number(hive: &Hive, path: &str, name: &str) -> Option<u32> {
    let key = hive.find(path).ok()??;
    hive.value(key, name).ok()??.as_u32()
}

/// Data of a key's default value.
fn default_data(hive: &Hive, path: &str) -> Option<Vec<u8>> {
    let key = hive.find(path).ok()??;
    Some(hive.value(key, "").ok()??.data)
}
