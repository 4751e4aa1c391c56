//! File systems a Linux system mounts over its root: `/etc/fstab` (fstab(5)). Pure.

use serde::{Deserialize, Serialize};

/// A file system that is mounted when the system starts.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The source of the mount.
    pub volume: Name,
    /// Mount point, without a slash at the end.
    pub path: String,
    /// Only a part of the file system is mounted: a subvolume or a bind mount.
    pub subvolume: bool,
}

/// The source of a mount, as fstab names it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Name {
    /// UUID of the file system, as blkid writes it.
    Uuid(String),
    /// Label of the file system.
    Label(String),
    /// A device or network path, which does not identify a partition of the image.
    Other(String),
    /// No source: the file system is in memory, and empty at every start.
    Memory,
}

/// Limit of lines that are read, comments not counted.
const MAX_ENTRIES: usize = 256;

/// File systems mounted below the root, outer ones first. Each hides the files of the root that lie
/// below its mount point.
pub fn entries(fstab: &str) -> Vec<Entry> {
    let mut entries: Vec<Entry> = fstab
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'))
        .take(MAX_ENTRIES)
        .filter_map(entry)
        .collect();
    entries.sort_by_key(|entry| entry.path.len());
    entries
}

fn entry(line: &str) -> Option<Entry> {
    let mut words = line.split_whitespace();
    let (volume, path, kind) = (words.next()?, words.next()?, words.next()?);
    let options = words.next().unwrap_or_default();
    // Kernel file systems and swap hide no file that a deployment writes.
    let of_kernel = matches!(
        kind,
        "swap" | "proc" | "sysfs" | "devpts" | "devtmpfs" | "debugfs"
    );
    let path = unescaped(path);
    let path = path.trim_end_matches('/');
    if of_kernel || !path.starts_with('/') || options.split(',').any(|option| option == "noauto") {
        return None;
    }
    Some(Entry {
        volume: match kind {
            "tmpfs" | "ramfs" => Name::Memory,
            _ => name(&unescaped(volume)),
        },
        path: path.to_owned(),
        subvolume: options
            .split(',')
            .any(|option| option.starts_with("subvol") || option == "bind" || option == "rbind"),
    })
}

fn name(text: &str) -> Name {
    let bare = |value: &str| value.trim_matches('"').to_owned();
    for prefix in ["UUID=", "/dev/disk/by-uuid/"] {
        if let Some(value) = text.strip_prefix(prefix) {
            return Name::Uuid(bare(value));
        }
    }
    for prefix in ["LABEL=", "/dev/disk/by-label/"] {
        if let Some(value) = text.strip_prefix(prefix) {
            return Name::Label(bare(value));
        }
    }
    Name::Other(text.to_owned())
}

/// The text without the octal escapes of fstab(5).
fn unescaped(text: &str) -> String {
    text.replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hides_a_part_of_the_root() {
        let found = entries(
            "# /etc/fstab\nUUID=a / ext4 defaults 0 1\nLABEL=var\\040log /var/log/ ext4 defaults 0 2\n\
             UUID=b /var ext4 defaults 0 2\nUUID=c none swap sw 0 0\ntmpfs /tmp tmpfs x 0 0\nproc /proc proc x 0 0\n\
             /dev/mapper/x /home xfs defaults 0 0\nUUID=d /mnt/usb ext4 noauto 0 0\n\
             UUID=e /opt btrfs subvol=@opt 0 0\nbroken\n",
        );
        let paths: Vec<&str> = found.iter().map(|entry| entry.path.as_str()).collect();
        assert_eq!(paths, ["/var", "/tmp", "/opt", "/home", "/var/log"]);
        let volumes: Vec<&Name> = found.iter().map(|entry| &entry.volume).collect();
        assert_eq!(
            volumes,
            [
                &Name::Uuid("b".into()),
                &Name::Memory,
                &Name::Uuid("e".into()),
                &Name::Other("/dev/mapper/x".into()),
                &Name::Label("var log".into()),
            ]
        );
        assert!(found.get(2).unwrap().subvolume);
    }
}
