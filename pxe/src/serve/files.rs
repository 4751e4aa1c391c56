//! The boot folder in memory.
//!
//! Owns: the list of names that are served (those of the contract, nothing else), and the check for
//! replaced files. Always holds: a file is served whole, as it was read at one time; a name that is
//! not in the list is never looked up on the disk.

use bytes::Bytes;
use facts::boot::Stage;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};
use std::time::SystemTime;

/// Names that are served from the folder. Scripts are not among them: they are made for each
/// machine.
pub const NAMES: [&str; 8] = [
    "vmlinuz",
    "initrd.img",
    "undionly.kpxe",
    "snponly.efi",
    "ipxe.efi",
    "shimx64.efi",
    "grubx64.efi",
    "mmx64.efi",
];
/// Names without which no machine boots.
pub const ESSENTIAL: [&str; 2] = ["vmlinuz", "initrd.img"];
/// Largest file that is held, in bytes. The largest pre-OS has 60 MB.
const MAX_BYTES: u64 = 1 << 30;

/// The reason the boot folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// A file of the pre-OS is missing.
    #[error("{name} is not in the boot folder {}", folder.display())]
    Missing {
        /// Name of the file.
        name: &'static str,
        /// The folder.
        folder: PathBuf,
    },
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file is larger than is served.
    #[error("{} has {bytes} bytes, at most {MAX_BYTES} are served", path.display())]
    Large {
        /// The file.
        path: PathBuf,
        /// Its length, in bytes.
        bytes: u64,
    },
}

#[derive(Clone, Debug)]
struct Held {
    bytes: Bytes,
    modified: Option<SystemTime>,
    /// The inode changes when a file is replaced by renaming, even if length and time are set to
    /// the same values.
    inode: u64,
}

/// The files of the boot folder, held in memory.
#[derive(Debug)]
pub struct Files {
    folder: PathBuf,
    held: RwLock<BTreeMap<&'static str, Held>>,
}

impl Files {
    /// Reads the folder.
    ///
    /// # Errors
    /// [`FileError`] when the pre-OS is missing, a file is too large, or something cannot be read.
    pub fn load(folder: &Path) -> Result<Self, FileError> {
        let mut held = BTreeMap::new();
        for name in NAMES {
            match read(folder, name, None)? {
                Some(file) => {
                    held.insert(name, file);
                }
                None if ESSENTIAL.contains(&name) => {
                    let folder = folder.to_path_buf();
                    return Err(FileError::Missing { name, folder });
                }
                None => {}
            }
        }
        Ok(Self {
            folder: folder.to_path_buf(),
            held: RwLock::new(held),
        })
    }

    /// Names of the list that are not in the folder.
    pub fn missing(&self) -> Vec<&'static str> {
        NAMES
            .into_iter()
            .filter(|name| self.get(name).is_none())
            .collect()
    }

    /// The content of a file, by its name.
    pub fn get(&self, name: &str) -> Option<Bytes> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.get(name).map(|file| file.bytes.clone())
    }

    /// Reads changed files again. A file that cannot be read is served with its former content.
    pub fn refresh(&self) {
        for name in NAMES {
            let known = {
                let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
                held.get(name).cloned()
            };
            match read(&self.folder, name, known.as_ref()) {
                Ok(Some(file)) => {
                    tracing::info!(name, bytes = file.bytes.len(), "boot file changed");
                    let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
                    held.insert(name, file);
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "boot file"),
            }
        }
    }
}

/// Reads a file. `None` when it does not exist, or has not changed since `known`.
fn read(
    folder: &Path,
    name: &'static str,
    known: Option<&Held>,
) -> Result<Option<Held>, FileError> {
    let path = folder.join(name);
    let failed = |source| FileError::Read {
        path: path.clone(),
        source,
    };
    let facts = match std::fs::metadata(&path) {
        Ok(facts) => facts,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let modified = facts.modified().ok();
    if known.is_some_and(|known| {
        known.bytes.len() as u64 == facts.len()
            && known.modified == modified
            && known.inode == facts.ino()
    }) {
        return Ok(None);
    }
    if facts.len() > MAX_BYTES {
        let bytes = facts.len();
        return Err(FileError::Large { path, bytes });
    }
    let bytes = Bytes::from(std::fs::read(&path).map_err(failed)?);
    let inode = facts.ino();
    Ok(Some(Held {
        bytes,
        modified,
        inode,
    }))
}

/// The stage of a machine that has fetched this file.
pub(super) fn stage_of(name: &str) -> Option<Stage> {
    match name {
        "vmlinuz" => Some(Stage::Kernel),
        "initrd.img" => Some(Stage::Initramfs),
        "undionly.kpxe" | "snponly.efi" | "ipxe.efi" | "shimx64.efi" => Some(Stage::Loader),
        _ => None,
    }
}

/// The plain form of a name that a client wrote: no leading slash, backslashes turned into slashes.
/// `None` when it contains `..`.
pub(super) fn plain_name(name: &str) -> Option<String> {
    // Some ROMs put an 0xff behind the name that the answer gave them.
    let name = name.trim_end_matches(['\u{fffd}', ' ']).replace('\\', "/");
    let parts: Vec<&str> = name
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    (!parts.contains(&"..") && !parts.is_empty()).then(|| parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_names_of_the_contract_are_served() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(
            Files::load(folder.path()),
            Err(FileError::Missing {
                name: "vmlinuz",
                ..
            })
        ));
        for name in ["vmlinuz", "initrd.img", "secret", "boot.ipxe"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        let files = Files::load(folder.path()).unwrap();
        assert_eq!(files.get("vmlinuz").as_deref(), Some(&b"vmlinuz"[..]));
        for name in [
            "secret",
            "boot.ipxe",
            "./vmlinuz",
            "../vmlinuz",
            "",
            "VMLINUZ",
        ] {
            assert_eq!(files.get(name), None, "{name}");
        }
        assert!(files.missing().contains(&"shimx64.efi"));
        // Replaced by renaming, the way an export replaces it.
        std::fs::write(folder.path().join("new"), "a newer kernel").unwrap();
        std::fs::rename(folder.path().join("new"), folder.path().join("vmlinuz")).unwrap();
        std::fs::write(folder.path().join("shimx64.efi"), "shim").unwrap();
        files.refresh();
        assert_eq!(
            files.get("vmlinuz").as_deref(),
            Some(&b"a newer kernel"[..])
        );
        assert!(!files.missing().contains(&"shimx64.efi"));
        // Missing for a moment while it is being replaced: the former content is served.
        std::fs::remove_file(folder.path().join("vmlinuz")).unwrap();
        files.refresh();
        assert!(files.get("vmlinuz").is_some());
    }

    #[test]
    fn names_in_one_form() {
        for (name, plain) in [
            ("/grub/grub.cfg", Some("grub/grub.cfg")),
            ("\\grubx64.efi", Some("grubx64.efi")),
            ("//./shimx64.efi", Some("shimx64.efi")),
            ("undionly.kpxe\u{fffd}", Some("undionly.kpxe")),
            ("../etc/shadow", None),
            ("grub/..\\..\\x", None),
            ("/", None),
        ] {
            assert_eq!(plain_name(name).as_deref(), plain, "{name}");
        }
    }
}
