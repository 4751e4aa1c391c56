//! Describes disks: the facts of a block device in `/sys` and `/proc`, and its present users.
//!
//! Owns [`describe`] and [`list`]. Never opens a device for writing. A disk is described again each
//! time before it is written, because names change between boots and users come and go.

use super::{DiskError, blank, container, ground, survey};
use facts::target::{DiskFacts, PartitionFacts};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Prefixes of kernel block devices that are never a target: loops, memory, optical drives,
/// floppies, network blocks, device mapper and md.
const NEVER_LISTED: [&str; 8] = ["loop", "ram", "zram", "sr", "fd", "nbd", "dm-", "md"];

/// Sector size, in bytes, assumed for a regular file that stands for a disk.
pub const FILE_SECTOR: u32 = 512;

/// Facts of the disk at `path`, a block device or a regular file.
///
/// # Errors
/// The path does not exist, is neither, or cannot be opened for reading.
pub fn describe(path: &Path) -> Result<DiskFacts, DiskError> {
    let meta = look(path)?;
    if meta.is_file() {
        let (contents, partitions) = contents(path, meta.len(), FILE_SECTOR);
        return Ok(DiskFacts {
            path: path.display().to_string(),
            model: Some("regular file".into()),
            size: meta.len(),
            logical_sector: FILE_SECTOR,
            physical_sector: FILE_SECTOR,
            read_only: meta.permissions().readonly(),
            file_backed: true,
            holders: ground::loops_on(&meta)
                .into_iter()
                .map(|l| format!("loop device /dev/{l} is attached to it"))
                .collect(),
            contents,
            partitions,
            blank: is_blank(path, meta.len()),
            ..DiskFacts::default()
        });
    }
    let number = device_number(meta.rdev());
    let sys = fs::canonicalize(format!("/sys/dev/block/{number}"))
        .map_err(|e| DiskError::io("looking up in /sys", path, e))?;
    // A partition has the sectors, the name and the bus of its disk.
    let disk = disk_of(&sys);
    let logical = read_number(&disk.join("queue/logical_block_size")).unwrap_or(512);
    let logical_sector = u32::try_from(logical).unwrap_or(512);
    let size = read_number(&sys.join("size"))
        .unwrap_or(0)
        .saturating_mul(512);
    let (contents, partitions) = contents(path, size, logical_sector);
    Ok(DiskFacts {
        path: path.display().to_string(),
        model: model(&disk),
        serial: serial(&disk),
        size,
        logical_sector,
        physical_sector: read_number(&disk.join("queue/physical_block_size"))
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or(logical_sector),
        removable: is_removable(&disk),
        read_only: read_number(&sys.join("ro")) == Some(1),
        file_backed: false,
        controllers: pci_functions(&sys),
        holders: holders(&sys),
        contents,
        partitions,
        blank: is_blank(path, size),
    })
}

/// Metadata of a block device, or of a regular file that stands for a disk. The path is not opened:
/// opening a FIFO would wait for its writer.
///
/// # Errors
/// [`DiskError::Refused`] for anything else, and for a device that does not exist.
pub(super) fn look(path: &Path) -> Result<fs::Metadata, DiskError> {
    let meta = fs::metadata(path).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound if is_below_dev(path) => no_such_device(path),
        _ => DiskError::io("looking at", path, e),
    })?;
    if meta.is_dir() {
        return Err(container::refuse_folder(path));
    }
    if !meta.is_file() && !meta.file_type().is_block_device() {
        return Err(DiskError::refused(
            format!(
                "{} is neither a block device nor a regular file",
                path.display()
            ),
            "name a whole disk, such as /dev/sda",
        ));
    }
    Ok(meta)
}

/// The disks of this machine that could be a target, in kernel order. Loops, memory and optical
/// drives are left out.
pub fn list() -> Vec<DiskFacts> {
    let Ok(entries) = fs::read_dir("/sys/block") else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|e| e.file_name().into_string().ok())
        .collect();
    names.sort_by_key(|n| (n.len(), n.clone()));
    names
        .iter()
        .filter(|n| !NEVER_LISTED.iter().any(|prefix| n.starts_with(prefix)))
        .filter_map(|n| describe(&Path::new("/dev").join(n.replace('!', "/"))).ok())
        .filter(|d| d.size > 0)
        .collect()
}

/// True for a flash or thin block device that accepts discards. False for anything else.
pub(super) fn discards(device: &fs::File) -> bool {
    let Ok(meta) = device.metadata() else {
        return false;
    };
    let sys = fs::canonicalize(format!("/sys/dev/block/{}", device_number(meta.rdev())));
    let Ok(queue) = sys.map(|sys| disk_of(&sys).join("queue")) else {
        return false;
    };
    read_number(&queue.join("rotational")) == Some(0)
        && read_number(&queue.join("discard_max_bytes")).is_some_and(|most| most > 0)
}

/// The disk of a partition; any other device itself. Both are paths in `/sys`.
fn disk_of(sys: &Path) -> PathBuf {
    match sys.parent() {
        Some(parent) if sys.join("partition").exists() => parent.to_owned(),
        _ => sys.to_owned(),
    }
}

/// True when a path is below the folder of device nodes, after following links as far as they
/// exist.
fn is_below_dev(path: &Path) -> bool {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::canonicalize(parent)
        .unwrap_or_else(|_| parent.to_owned())
        .starts_with("/dev")
}

/// Refuses to make a file among the device nodes: the name of a disk was mistyped, and a file there
/// would be in memory.
///
/// # Errors
/// [`DiskError::Refused`] with the existing disks.
pub fn refuse_new_device(path: &Path) -> Result<(), DiskError> {
    if is_below_dev(path) && !path.exists() {
        return Err(no_such_device(path));
    }
    Ok(())
}

/// Most disks that a message lists.
const NAMES_MAX: usize = 24;

fn no_such_device(path: &Path) -> DiskError {
    let names = names();
    DiskError::refused(
        format!("there is no device {}", path.display()),
        if names.is_empty() {
            "this machine has no disks".to_owned()
        } else {
            format!("there are {}", names.join(", "))
        },
    )
}

/// Device nodes of the disks of this machine with a size above zero.
fn names() -> Vec<String> {
    let entries = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| read_number(&entry.path().join("size")).is_some_and(|size| size > 0))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| {
            !["ram", "zram"]
                .iter()
                .any(|prefix| name.starts_with(prefix))
        })
        .map(|name| format!("/dev/{}", name.replace('!', "/")))
        .collect();
    names.sort_by_key(|name| (name.len(), name.clone()));
    names.truncate(NAMES_MAX);
    names
}

/// Text `major:minor` of a device id.
fn device_number(id: u64) -> String {
    format!("{}:{}", rustix::fs::major(id), rustix::fs::minor(id))
}

fn read_text(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?.trim().to_owned();
    (!text.is_empty()).then_some(text)
}

fn read_number(path: &Path) -> Option<u64> {
    read_text(path)?.parse().ok()
}

/// PCI functions on the way to a disk. A multipath disk is below none of them itself: its
/// controllers are those of its paths. The first path is enough, because they are of one kind.
fn pci_functions(sys: &Path) -> Vec<String> {
    let below = |path: &Path| -> Vec<String> {
        path.iter()
            .filter_map(|part| part.to_str())
            .filter(|part| is_pci_function(part))
            .map(str::to_owned)
            .collect()
    };
    let own = below(sys);
    if !own.is_empty() {
        return own;
    }
    let beside = sys
        .parent()
        .and_then(|subsystem| fs::read_dir(subsystem).ok());
    beside
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| fs::canonicalize(entry.path()).ok())
        .map(|path| below(&path))
        .find(|functions| !functions.is_empty())
        .unwrap_or_default()
}

/// True for a name in `/sys` of the form domain, bus, device and function: `0000:00:1f.2`. Domains
/// of VMD have five digits.
fn is_pci_function(name: &str) -> bool {
    let hex = |text: &str, digits: std::ops::RangeInclusive<usize>| {
        digits.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit())
    };
    let Some((place, function)) = name.rsplit_once('.') else {
        return false;
    };
    let parts: Vec<&str> = place.split(':').collect();
    matches!(parts.as_slice(), [domain, bus, device]
        if hex(domain, 4..=8) && hex(bus, 2..=2) && hex(device, 2..=2))
        && hex(function, 1..=1)
}

fn model(sys: &Path) -> Option<String> {
    let vendor =
        read_text(&sys.join("device/vendor")).filter(|v| v != "ATA" && !v.starts_with("0x"));
    match (vendor, read_text(&sys.join("device/model"))) {
        (Some(vendor), Some(model)) => Some(format!("{vendor} {model}")),
        (None, Some(model)) => Some(model),
        (_, None) => None,
    }
}

/// Serial number. NVMe and virtio have it beside the device; SATA and SAS disks have it in VPD page
/// 0x80.
fn serial(sys: &Path) -> Option<String> {
    read_text(&sys.join("serial"))
        .or_else(|| read_text(&sys.join("device/serial")))
        .or_else(|| {
            let page = fs::read(sys.join("device/vpd_pg80")).ok()?;
            let text = String::from_utf8_lossy(page.get(4..)?)
                .trim_matches(['\0', ' '])
                .to_owned();
            (!text.is_empty()).then_some(text)
        })
}

fn is_removable(sys: &Path) -> bool {
    read_number(&sys.join("removable")) == Some(1) || sys.to_string_lossy().contains("/usb")
}

/// Everything that uses a disk or one of its partitions: mounts, swap, and devices stacked on it in
/// the kernel.
fn holders(sys: &Path) -> Vec<String> {
    let mut devices = vec![sys.to_owned()];
    // A user of a whole disk uses its partitions too.
    if disk_of(sys) != sys {
        devices.push(disk_of(sys));
    }
    if let Ok(entries) = fs::read_dir(sys) {
        devices.extend(
            entries
                .flatten()
                .map(|e| e.path())
                .filter(|p| p.join("partition").exists()),
        );
    }
    let mut found = BTreeSet::new();
    for device in devices {
        let Some(name) = device.file_name().map(|n| n.to_string_lossy().into_owned()) else {
            continue;
        };
        if let Ok(stacked) = fs::read_dir(device.join("holders")) {
            for holder in stacked.flatten() {
                found.insert(format!("{name} is held by {}", holder_name(&holder.path())));
            }
        }
        if let Some(number) = read_text(&device.join("dev")) {
            for mount in mounts_of(&number) {
                found.insert(format!("{name} is mounted on {mount}"));
            }
        }
        if swap_devices().iter().any(|s| s == &name) {
            found.insert(format!("{name} is used as swap"));
        }
    }
    found.into_iter().collect()
}

/// The name of a device stacked on another, with its kind if device mapper knows it.
fn holder_name(holder: &Path) -> String {
    let name = holder
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let field = |field: &str| read_text(&holder.join("dm").join(field)).unwrap_or_default();
    match mapped(&field("uuid"), &field("name")) {
        Some(what) => format!("{name} ({what})"),
        None => name,
    }
}

/// Description of a device mapper device, by the prefix of its UUID, which names the program that
/// made it.
fn mapped(uuid: &str, name: &str) -> Option<String> {
    if uuid.starts_with("LVM-") {
        Some(format!("LVM volume {name}"))
    } else if uuid.starts_with("CRYPT-") {
        Some(format!("encrypted volume {name}"))
    } else {
        None
    }
}

/// Mount points of a device number, from `/proc/self/mountinfo` (proc(5): field 3 is major:minor,
/// field 5 the mount point).
fn mounts_of(number: &str) -> Vec<String> {
    let Ok(text) = fs::read_to_string("/proc/self/mountinfo") else {
        return Vec::new();
    };
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            (fields.nth(2)? == number).then(|| fields.nth(1).map(unescape))?
        })
        .collect()
}

/// Decodes `\ooo`, the form in which mountinfo writes space, tab, newline and backslash.
pub(super) fn unescape(text: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (code, plain)| {
        text.replace(code, plain)
    })
}

fn swap_devices() -> Vec<String> {
    let Ok(text) = fs::read_to_string("/proc/swaps") else {
        return Vec::new();
    };
    text.lines()
        .skip(1)
        .filter_map(|l| {
            Path::new(l.split_whitespace().next()?)
                .file_name()?
                .to_str()
                .map(str::to_owned)
        })
        .collect()
}

/// Possible writers of the disk or file at `path` during a read: mounts and all other users, or a
/// loop device on it. A loop device without users is no danger to a reader.
pub fn writers_of(path: &Path) -> Vec<String> {
    let Ok(meta) = fs::metadata(path) else {
        return Vec::new();
    };
    if meta.is_file() {
        let loops = ground::loops_on(&meta).into_iter();
        return loops
            .flat_map(|name| holders(&Path::new("/sys/block").join(name)))
            .collect();
    }
    fs::canonicalize(format!("/sys/dev/block/{}", device_number(meta.rdev())))
        .map(|sys| holders(&sys))
        .unwrap_or_default()
}

/// One line for each partition, for the person who is about to erase it, and the facts of the
/// partitions. Best effort: the line of an unreadable disk says so.
fn contents(path: &Path, size: u64, sector: u32) -> (Vec<String>, Vec<PartitionFacts>) {
    let Ok(file) = fs::OpenOptions::new().read(true).open(path) else {
        return (vec!["cannot be read without privileges".into()], Vec::new());
    };
    if size == 0 {
        return Default::default();
    }
    let lines = survey::glance(&file, size, sector);
    (
        lines.unwrap_or_else(|error| vec![format!("unreadable: {error}")]),
        survey::partitions(&file, size, sector),
    )
}

/// True when the disk is blank. A disk that cannot be read does not count as blank.
fn is_blank(path: &Path, size: u64) -> bool {
    fs::OpenOptions::new()
        .read(true)
        .open(path)
        .and_then(|disk| blank::is_blank(&disk, size))
        .unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_regular_file_is_a_disk_for_rehearsals() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(3 << 20).unwrap();
        let facts = describe(file.path()).unwrap();
        assert!(facts.file_backed);
        assert_eq!(facts.size, 3 << 20);
        assert_eq!(facts.holders, Vec::<String>::new());
    }

    #[test]
    fn a_directory_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let error = describe(dir.path()).unwrap_err();
        assert!(error.to_string().contains("is a folder"), "{error}");
        fs::write(dir.path().join("clonezilla-img"), "").unwrap();
        let error = describe(dir.path()).unwrap_err();
        assert!(error.to_string().contains("Clonezilla"), "{error}");
    }

    #[test]
    fn a_partition_takes_what_its_disk_says() {
        let sys = tempfile::tempdir().unwrap();
        let part = sys.path().join("sda/sda1");
        fs::create_dir_all(&part).unwrap();
        assert_eq!(disk_of(&part), part);
        fs::write(part.join("partition"), "1").unwrap();
        assert_eq!(disk_of(&part), sys.path().join("sda"));
    }

    #[test]
    fn what_device_mapper_made_is_named() {
        assert_eq!(
            mapped("LVM-AbC", "vg-root").as_deref(),
            Some("LVM volume vg-root")
        );
        assert_eq!(
            mapped("CRYPT-LUKS2-1", "home").as_deref(),
            Some("encrypted volume home")
        );
        assert_eq!(mapped("", "mpatha"), None);
    }

    #[test]
    fn pci_functions_are_read_off_the_place_in_sys() {
        let place = Path::new(
            "/sys/devices/pci0000:00/0000:00:0e.0/pci10000:e0/10000:e1:00.0/nvme/nvme0/nvme0n1",
        );
        assert_eq!(pci_functions(place), ["0000:00:0e.0", "10000:e1:00.0"]);
        assert!(!is_pci_function("0:0:0:0") && !is_pci_function("00:1f.2"));

        // The devices of a multipath disk's paths are beside it.
        let sys = tempfile::tempdir().unwrap();
        let path = sys
            .path()
            .join("pci0000:00/0000:00:1d.0/0000:02:00.0/nvme/nvme0");
        let head = sys.path().join("virtual/nvme-subsys0/nvme0n1");
        fs::create_dir_all(&path).unwrap();
        fs::create_dir_all(&head).unwrap();
        std::os::unix::fs::symlink(&path, head.parent().unwrap().join("nvme0")).unwrap();
        assert_eq!(pci_functions(&head), ["0000:00:1d.0", "0000:02:00.0"]);
        assert!(pci_functions(Path::new("/sys/devices/virtual/block/zram0")).is_empty());
    }

    #[test]
    fn mount_points_with_spaces_are_readable() {
        assert_eq!(unescape("/mnt/my\\040disk"), "/mnt/my disk");
    }

    #[test]
    fn swap_and_mounts_do_not_fail_on_this_machine() {
        let _ = swap_devices();
        assert!(!mounts_of("0:0").iter().any(String::is_empty));
    }
}
