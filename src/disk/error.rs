//! What can go wrong with a disk or an image file, in sentences for a technician.

use std::path::{Path, PathBuf};

/// A failure of disk work. `source()` carries the cause.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    /// Opening, creating, reading facts.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was being done: `opening`, `creating`, ...
        doing: &'static str,
        /// File or device.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// Reading at a place.
    #[error("reading {} at byte {offset}", path.display())]
    Read {
        /// File or device.
        path: PathBuf,
        /// Byte offset.
        offset: u64,
        /// Cause.
        source: std::io::Error,
    },
    /// A master that cannot be read at a place.
    #[error("reading {} at byte {offset} ({place})", path.display())]
    Unreadable {
        /// Disk or file.
        path: PathBuf,
        /// Byte offset.
        offset: u64,
        /// Place of the byte in words (its partition, or outside the partitions), or the step that read it.
        place: String,
        /// Cause.
        source: std::io::Error,
    },
    /// A master that ends before the place where it ended when it was surveyed.
    #[error("{} became shorter while it was read: it ends before byte {end}", path.display())]
    Shrunk {
        /// Disk or file.
        path: PathBuf,
        /// Bytes it had.
        end: u64,
    },
    /// Writing at a place.
    #[error("writing {} at byte {offset}", path.display())]
    Write {
        /// File or device.
        path: PathBuf,
        /// Byte offset.
        offset: u64,
        /// Cause.
        source: std::io::Error,
    },
    /// The disk is mounted or held by something.
    #[error("{} is in use: {}", path.display(), holders.join(", "))]
    InUse {
        /// Device.
        path: PathBuf,
        /// Who holds it.
        holders: Vec<String>,
    },
    /// A plain refusal before anything was touched.
    #[error("{message}")]
    Refused {
        /// What and why.
        message: String,
        /// What to try.
        hint: Option<String>,
    },
    /// A master disk that would not be captured faithfully.
    #[error("{}", dirty_message(.0))]
    Dirty(Vec<DirtyPartition>),
    /// The table of the image does not go onto this disk.
    #[error("the image does not fit {}: {source}", path.display())]
    DoesNotFit {
        /// Target.
        path: PathBuf,
        /// Cause.
        source: diskmap::PatchError,
    },
    /// The partition table cannot be read.
    #[error("reading the partition table of {}", path.display())]
    Table {
        /// Disk.
        path: PathBuf,
        /// Cause.
        source: diskmap::TableError,
    },
    /// The partition table of a master cannot be followed.
    #[error("the partition table of {} cannot be followed", path.display())]
    SourceTable {
        /// Disk.
        path: PathBuf,
        /// Cause.
        source: diskmap::TableError,
    },
    /// The image is damaged, foreign or locked.
    #[error("image {}", path.display())]
    Image {
        /// Image.
        path: PathBuf,
        /// Cause.
        source: imagefmt::FormatError,
    },
    /// What was read back is not what was written.
    #[error("read-back of {} differs from the master image in chunk {chunk} (bytes {offset}..{end})", path.display())]
    Mismatch {
        /// Target.
        path: PathBuf,
        /// Chunk.
        chunk: u32,
        /// First byte of the chunk.
        offset: u64,
        /// End of the chunk.
        end: u64,
    },
    /// A place that was made zero, because a former file system would be found there, reads back as something else.
    #[error("read-back of {}: byte {offset} was made zero and is not, so what was there before would be found", path.display())]
    NotBlank {
        /// Target.
        path: PathBuf,
        /// Byte offset.
        offset: u64,
    },
    /// The table sectors did not read back as written.
    #[error("read-back of the partition table of {} differs at byte {offset}", path.display())]
    TableMismatch {
        /// Target.
        path: PathBuf,
        /// Byte offset.
        offset: u64,
    },
    /// Somebody asked to stop.
    #[error("cancelled")]
    Cancelled,
}

/// A partition whose file system is not in a state to be captured by its used blocks.
#[derive(Clone, Debug)]
pub struct DirtyPartition {
    /// Partition number.
    pub number: u32,
    /// File system.
    pub fs: String,
    /// What is wrong.
    pub reason: String,
    /// What to do.
    pub hint: String,
}

/// How to let go of a disk, by what holds it.
fn release(holders: &[String]) -> String {
    let held = |word: &str| holders.iter().any(|holder| holder.contains(word));
    let mut ways = Vec::new();
    if held("LVM") {
        ways.push("deactivate the volume group (vgchange -an)");
    }
    if held("encrypted volume") {
        ways.push("close it (cryptsetup close)");
    }
    if held("held by md") {
        ways.push("stop the array (mdadm --stop)");
    }
    if held("used as swap") {
        ways.push("end the use as swap (swapoff)");
    }
    if ways.is_empty() || held("mounted") {
        ways.insert(0, "unmount it");
    }
    format!("{}, or choose another disk", ways.join(", "))
}

fn dirty_message(partitions: &[DirtyPartition]) -> String {
    partitions
        .iter()
        .map(|p| format!("partition {} ({}): {}", p.number, p.fs, p.reason))
        .collect::<Vec<_>>()
        .join("; ")
}

impl DiskError {
    pub(super) fn io(doing: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            doing,
            path: path.to_owned(),
            source,
        }
    }

    /// A failure of the image format, with the file or disk it is about.
    pub fn image(path: &Path, source: imagefmt::FormatError) -> Self {
        Self::Image {
            path: path.to_owned(),
            source,
        }
    }

    pub(super) fn refused(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Refused {
            message: message.into(),
            hint: Some(hint.into()),
        }
    }

    /// True for a disk that does not give its bytes, at whatever step that is met.
    pub fn is_of_reading(&self) -> bool {
        matches!(
            self,
            Self::Read { .. }
                | Self::Unreadable { .. }
                | Self::Shrunk { .. }
                | Self::Table {
                    source: diskmap::TableError::Io { .. },
                    ..
                }
                | Self::SourceTable {
                    source: diskmap::TableError::Io { .. },
                    ..
                }
        )
    }

    /// What to try next, where there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Refused { hint, .. } => hint.clone(),
            Self::SourceTable { source, .. } => Some(match source {
                diskmap::TableError::PastEnd { .. } => {
                    "the disk is shorter than its table says: a copy that was cut off, or one that is not whole; copy it \
                     again, or capture the whole disk as it is with --raw"
                }
                _ => "mend the table, or capture the whole disk as it is with --raw",
            }
            .into()),
            Self::InUse { holders, .. } => Some(release(holders)),
            Self::Shrunk { .. } => {
                Some("nothing may write to a disk or file while it is captured".into())
            }
            Self::Unreadable { .. } => Some(
                "the disk fails; --rescue reads on around what cannot be read, and the image says what is missing".into(),
            ),
            Self::Dirty(partitions) => Some(
                partitions
                    .iter()
                    .map(|p| p.hint.replace("NUMBER", &p.number.to_string()))
                    .collect::<Vec<_>>()
                    .join("; "),
            ),
            Self::Mismatch { .. } | Self::NotBlank { .. } | Self::TableMismatch { .. } => {
                Some("what was written does not start as it is; check its cable and health, then deploy again".into())
            }
            Self::Image { path, source } => match source {
                imagefmt::FormatError::VolumeMissing { number } => Some(format!(
                    "all parts of an image lie in one folder: {} is not there",
                    super::restore::volume_path(path, *number).display()
                )),
                imagefmt::FormatError::VolumeMismatch { expected: 1, .. } => {
                    Some("name the first part, which ends in .dcimg".into())
                }
                imagefmt::FormatError::Io { source, .. }
                    if source.kind() == std::io::ErrorKind::FileTooLarge =>
                {
                    Some("files may not grow so large there: --volume-size 4G cuts the image".into())
                }
                imagefmt::FormatError::Truncated { .. } => {
                    Some("the capture or copy did not finish; copy it again, or save what is there with `image rebuild`".into())
                }
                imagefmt::FormatError::PasswordNeeded => Some("give it with --password-file".into()),
                imagefmt::FormatError::WrongPassword => Some("check the password file".into()),
                _ => None,
            },
            _ => None,
        }
    }

    /// The error with its causes, in one line.
    pub fn full(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(next) = cause {
            let next_text = next.to_string();
            if !text.ends_with(&next_text) {
                text.push_str(": ");
                text.push_str(&next_text);
            }
            cause = next.source();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_in_use_says_how_to_let_go_of_it() {
        let hint = |holder: &str| {
            DiskError::InUse {
                path: "/dev/sda".into(),
                holders: vec![holder.to_owned()],
            }
            .hint()
            .unwrap_or_default()
        };
        assert!(hint("sda2 is held by dm-0 (LVM volume vg-root)").contains("vgchange -an"));
        assert!(hint("sda2 is held by md127").contains("mdadm --stop"));
        assert!(hint("sda3 is used as swap").starts_with("end the use as swap"));
        assert_eq!(
            hint("sda1 is mounted on /mnt"),
            "unmount it, or choose another disk"
        );
    }
}
