//! What a Linux system mounts over its root: `/etc/fstab` (fstab(5)). Pure.

use serde::{Deserialize, Serialize};

/// A file system the system mounts at its start.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// How it is found.
    pub volume: Name,
    /// Where, without a slash at the end.
    pub path: String,
    /// A part of it only is mounted there.
    pub subvolume: bool,
}

/// How a file system is told.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Name {
    /// As blkid writes it.
    Uuid(String),
    /// Its label.
    Label(String),
    /// By a device or a network path, which says nothing here.
    Other(String),
    /// Not at all: it is made in memory, and empty at every start.
    Memory,
}

/// Most lines that are looked at.
const MAX_ENTRIES: usize = 256;

/// File systems below the root that hide what lies there at every start; outer ones first.
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
    // The kernel's own hide nothing that anybody writes to a disk.
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

/// Blanks are written in octal.
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
