//! Reads and writes firmware variables, and looks up facts on the disk: the part of this module
//! with effects.
//!
//! ```text
//! /sys/firmware/efi/efivars/NAME-GUID:  | attributes, 4, little endian | value |      written in one call
//! ```
//!
//! Owns the three things that are written: at most one `Boot####` of our own, `BootNext`, and the
//! flag that keeps a variable from being changed. BootOrder is never touched. The disk is only
//! read.

#![expect(
    clippy::disallowed_methods,
    reason = "variables and loaders are files, and partitions appear after a moment"
)]

use super::choose::{self, Choice, Disk};
use super::option::LoadOption;
use super::path::{HardDrive, Signature};
use crate::modules::load::Modules;
use crate::mounts::{self, EFI_VARIABLES};
use disk::{DiskError, device};
use diskmap::{Partition, PartitionTable, TableKind, TypeId, read_table};
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use rustix::mount::{MountFlags, UnmountFlags, unmount};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// `EFI_GLOBAL_VARIABLE` (UEFI 2.10 section 3.3).
const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// Attributes of new variables: kept over a restart, visible to boot services and to the running
/// system.
const ATTRIBUTES: u32 = 7;
/// Partition type of an EFI system partition, on GPT and on MBR.
const ESP: &str = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B";
const ESP_MBR: u8 = 0xef;
/// Mount point of the EFI system partition.
const PLACE: &str = "/run/diskcast/esp";
/// Time in which the kernel has to show the partitions of the table that was just written.
const PATIENCE: Duration = Duration::from_secs(3);
/// Most folders below `\EFI` that are searched.
const MAX_VENDORS: usize = 32;
/// Largest variable that is read, in bytes; the firmware's own limit is 32 or 64 KiB.
const MAX_VARIABLE: u64 = 64 << 10;

/// The reason no boot entry was set.
#[derive(Debug, thiserror::Error)]
pub enum EfiError {
    /// The variables cannot be accessed.
    #[error("the firmware's variables are out of reach: {0}")]
    Variables(#[source] rustix::io::Errno),
    /// The disk cannot be opened or examined.
    #[error("looking at the disk: {}", .0.full())]
    Disk(#[from] DiskError),
    /// The partition table cannot be read.
    #[error("reading the disk's partition table: {0}")]
    Table(String),
    /// No loader and no entry of the firmware fits.
    #[error("no EFI loader was found on it, and the firmware has no entry for its controller")]
    NoEntry,
    /// A variable cannot be written.
    #[error("writing {name}: {source}")]
    Write {
        /// Name of the variable.
        name: String,
        /// The cause.
        source: io::Error,
    },
}

/// Makes the firmware start `disk` next. Returns a description of what was done, or `None` on a
/// machine without UEFI.
///
/// # Errors
/// [`EfiError`]; the machine then starts in the order its firmware is set to.
pub fn boot_next(disk: &Path, modules: &Modules) -> Result<Option<String>, EfiError> {
    if !Path::new("/sys/firmware/efi").exists() {
        return Ok(None);
    }
    modules.load_by_any_name("efivarfs");
    mounts::add("efivarfs", "efivarfs", EFI_VARIABLES, MountFlags::NOSUID)
        .map_err(EfiError::Variables)?;
    for module in ["vfat", "nls_cp437", "nls_iso8859-1", "nls_ascii"] {
        modules.load_by_any_name(module);
    }
    let (entries, taken) = entries();
    let known = look_at(disk)?;
    tracing::debug!(?known, "looking for its boot entry");
    let number = match choose::choose(&known, &entries, &taken).ok_or(EfiError::NoEntry)? {
        Choice::Use(number) => number,
        Choice::Write(number, entry) => {
            let value = entry.emit().ok_or(EfiError::NoEntry)?;
            write(&format!("Boot{number:04X}"), &value)?;
            number
        }
    };
    write("BootNext", &number.to_le_bytes())?;
    Ok(Some(format!(
        "the firmware starts entry Boot{number:04X} next"
    )))
}

/// All boot entries that can be parsed, and all numbers in use.
fn entries() -> (Vec<(u16, LoadOption)>, Vec<u16>) {
    let mut entries = Vec::new();
    let mut taken = Vec::new();
    for file in fs::read_dir(EFI_VARIABLES).into_iter().flatten().flatten() {
        let name = file.file_name();
        let Some(number) = name.to_str().and_then(number) else {
            continue;
        };
        taken.push(number);
        let small = file
            .metadata()
            .is_ok_and(|facts| facts.len() <= MAX_VARIABLE);
        if let (true, Ok(bytes)) = (small, fs::read(file.path()))
            && let Some(entry) = bytes.get(4..).and_then(LoadOption::parse)
        {
            entries.push((number, entry));
        }
    }
    entries.sort_by_key(|entry| entry.0);
    (entries, taken)
}

/// The number of an entry, from a name such as `Boot0003-8be4df61-...`.
fn number(name: &str) -> Option<u16> {
    let (head, guid) = name.strip_prefix("Boot")?.split_at_checked(4)?;
    let digits = head.chars().all(|c| matches!(c, '0'..='9' | 'A'..='F'));
    (digits && guid.strip_prefix('-') == Some(GLOBAL))
        .then(|| u16::from_str_radix(head, 16).ok())
        .flatten()
}

fn write(name: &str, value: &[u8]) -> Result<(), EfiError> {
    let path = PathBuf::from(format!("{EFI_VARIABLES}/{name}-{GLOBAL}"));
    let failed = |source| EfiError::Write {
        name: name.to_owned(),
        source,
    };
    // As a protection against `rm -rf`, the kernel marks variables it does not know as immutable.
    // Ours are standard ones, so clearing the flag breaks no firmware.
    if let Ok(file) = File::open(&path)
        && let Ok(flags) = ioctl_getflags(&file)
        && flags.contains(IFlags::IMMUTABLE)
    {
        ioctl_setflags(&file, flags - IFlags::IMMUTABLE).map_err(|e| failed(e.into()))?;
    }
    let mut bytes = ATTRIBUTES.to_le_bytes().to_vec();
    bytes.extend(value);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(failed)?;
    // One write is one SetVariable call.
    match file.write(&bytes) {
        Ok(len) if len == bytes.len() => Ok(()),
        Ok(_) => Err(failed(io::ErrorKind::WriteZero.into())),
        Err(error) => Err(failed(error)),
    }
}

fn look_at(disk: &Path) -> Result<Disk, EfiError> {
    let facts = device::describe(disk)?;
    let file = File::open(disk).map_err(|source| DiskError::Io {
        doing: "opening",
        path: disk.to_owned(),
        source,
    })?;
    let table = read_table(&file, facts.size, facts.logical_sector)
        .map_err(|error| EfiError::Table(error.to_string()))?;
    let name = disk
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let partitions = table
        .partitions
        .iter()
        .filter(|partition| is_esp(partition))
        .filter_map(|partition| {
            let loaders = node(name, partition.number).map(|node| loaders_on(&node));
            Some((drive(&table, partition)?, loaders.unwrap_or_default()))
        })
        .collect();
    Ok(Disk {
        partitions,
        pci: pci_chain(name),
    })
}

fn is_esp(partition: &Partition) -> bool {
    match partition.type_id {
        TypeId::Gpt(guid) => guid.to_string().eq_ignore_ascii_case(ESP),
        TypeId::Mbr(id) => id == ESP_MBR,
    }
}

fn drive(table: &PartitionTable, partition: &Partition) -> Option<HardDrive> {
    let sector = u64::from(table.sector_size.max(1));
    let signature = match table.kind {
        TableKind::Gpt => Signature::Guid(partition.unique.map(|guid| guid.0)?),
        TableKind::Mbr => Signature::Mbr(table.disk_signature?),
        TableKind::None => return None,
    };
    Some(HardDrive {
        number: partition.number,
        start_lba: partition.start / sector,
        sectors: partition.length / sector,
        signature,
    })
}

/// The device of a partition, once the kernel shows it.
fn node(disk: &str, number: u32) -> Option<PathBuf> {
    let began = Instant::now();
    loop {
        for entry in fs::read_dir(format!("/sys/block/{disk}")).ok()?.flatten() {
            let text = fs::read_to_string(entry.path().join("partition")).unwrap_or_default();
            let device = Path::new("/dev").join(entry.file_name());
            if text.trim().parse() == Ok(number) && device.exists() {
                return Some(device);
            }
        }
        if began.elapsed() > PATIENCE {
            return None;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Loaders on an EFI system partition, the best first. Empty when it cannot be read: the deployment
/// does not depend on it.
fn loaders_on(device: &Path) -> Vec<String> {
    if let Err(error) = fs::create_dir_all(PLACE) {
        tracing::warn!(%error, "no place to look at {}", device.display());
        return Vec::new();
    }
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    if let Err(error) = rustix::mount::mount(device, PLACE, "vfat", flags, None::<&std::ffi::CStr>)
    {
        tracing::warn!(device = %device.display(), %error, "the EFI system partition cannot be read");
        return Vec::new();
    }
    let found = loaders_in(Path::new(PLACE));
    if unmount(PLACE, UnmountFlags::empty()).is_err() {
        let _ = unmount(PLACE, UnmountFlags::DETACH);
    }
    found
}

/// Loaders in a folder. The fallback path comes first: an image's maker puts there the loader that
/// starts the system on any machine.
fn loaders_in(root: &Path) -> Vec<String> {
    let mut wanted = vec![
        "EFI/BOOT/BOOTX64.EFI".to_owned(),
        "EFI/Microsoft/Boot/bootmgfw.efi".to_owned(),
    ];
    let mut vendors: Vec<String> = fs::read_dir(root.join("EFI"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .take(MAX_VENDORS)
        .collect();
    vendors.sort();
    for vendor in &vendors {
        for loader in ["shimx64.efi", "grubx64.efi", "systemd-bootx64.efi"] {
            wanted.push(format!("EFI/{vendor}/{loader}"));
        }
    }
    wanted
        .into_iter()
        .filter(|file| root.join(file).is_file())
        .map(|file| format!("\\{}", file.replace('/', "\\")))
        .collect()
}

/// Device and function of each PCI function on the way to a disk, from its path in `/sys`.
fn pci_chain(disk: &str) -> Vec<(u8, u8)> {
    fs::canonicalize(format!("/sys/block/{disk}"))
        .ok()
        .iter()
        .flat_map(|path| path.iter())
        .filter_map(|part| pci_function(part.to_str()?))
        .collect()
}

/// Parses a PCI address: `0000:00:1f.2` is device 31, function 2.
fn pci_function(text: &str) -> Option<(u8, u8)> {
    let (address, function) = text.split_once('.')?;
    let mut parts = address.split(':');
    let (Some(domain), Some(_bus), Some(device), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    (domain.len() == 4).then_some(())?;
    Some((u8::from_str_radix(device, 16).ok()?, function.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_variables_and_of_functions() {
        assert_eq!(number(&format!("Boot00A3-{GLOBAL}")), Some(0xa3));
        for other in ["BootNext", "BootOrder", "Boot00a3", "Boot000", "Bootééé"] {
            assert_eq!(number(&format!("{other}-{GLOBAL}")), None, "{other}");
        }
        assert_eq!(
            number("Boot0001-00000000-0000-0000-0000-000000000000"),
            None
        );
        assert_eq!(pci_function("0000:00:1f.2"), Some((0x1f, 2)));
        assert_eq!(pci_function("0000:00:1f"), None);
        assert_eq!(pci_function("1.2"), None);
    }

    #[test]
    fn loaders_are_those_that_are_there_the_usual_place_first() {
        let root = tempfile::tempdir().unwrap();
        for file in [
            "EFI/debian/grubx64.efi",
            "EFI/debian/shimx64.efi",
            "EFI/BOOT/BOOTX64.EFI",
        ] {
            let file = root.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, b"MZ").unwrap();
        }
        assert_eq!(
            loaders_in(root.path()),
            [
                "\\EFI\\BOOT\\BOOTX64.EFI",
                "\\EFI\\debian\\shimx64.efi",
                "\\EFI\\debian\\grubx64.efi"
            ]
        );
    }
}
