//! Errors of disks and image files, as sentences for a technician.

use facts::failure::{ErrorCode, Failure, full_text};
use imagefmt::FormatError;
use std::path::{Path, PathBuf};

/// A failure of disk work. `source()` returns the cause.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    /// A file or device cannot be opened, created or examined.
    #[error("{doing} {}", path.display())]
    Io {
        /// The action: `opening`, `creating`, ...
        doing: &'static str,
        /// The file or device.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A read failed.
    #[error("reading {} at byte {offset}", path.display())]
    Read {
        /// The file or device.
        path: PathBuf,
        /// Byte offset of the read.
        offset: u64,
        /// The cause.
        source: std::io::Error,
    },
    /// A master cannot be read at a place.
    #[error("reading {} at byte {offset} ({place})", path.display())]
    Unreadable {
        /// The disk or file.
        path: PathBuf,
        /// Byte offset of the place.
        offset: u64,
        /// The place in words (its partition, or outside the partitions), or the step that read it.
        place: String,
        /// The cause.
        source: std::io::Error,
    },
    /// A master is now shorter than when it was surveyed.
    #[error("{} became shorter while it was read: it ends before byte {end}", path.display())]
    Shrunk {
        /// The disk or file.
        path: PathBuf,
        /// Its former size, in bytes.
        end: u64,
    },
    /// A write failed.
    #[error("writing {} at byte {offset}", path.display())]
    Write {
        /// The file or device.
        path: PathBuf,
        /// Byte offset of the write.
        offset: u64,
        /// The cause.
        source: std::io::Error,
    },
    /// The disk is mounted or otherwise in use.
    #[error("{} is in use: {}", path.display(), holders.join(", "))]
    InUse {
        /// The device.
        path: PathBuf,
        /// Descriptions of its users.
        holders: Vec<String>,
    },
    /// A refusal before anything was touched.
    #[error("{message}")]
    Refused {
        /// The subject and the reason.
        message: String,
        /// The next step for the technician.
        hint: Option<String>,
    },
    /// A value that makes no sense.
    #[error("{message}")]
    Usage {
        /// The value and the fault.
        message: String,
        /// The accepted form.
        hint: Option<String>,
    },
    /// A master disk that could not be captured faithfully.
    #[error("{}", dirty_message(.0))]
    Dirty(Vec<DirtyPartition>),
    /// The table of the image does not fit this disk.
    #[error("the image does not fit {}: {source}", path.display())]
    DoesNotFit {
        /// The target.
        path: PathBuf,
        /// The cause.
        source: diskmap::PatchError,
    },
    /// The partition table cannot be read.
    #[error("reading the partition table of {}", path.display())]
    Table {
        /// The disk.
        path: PathBuf,
        /// The cause.
        source: diskmap::TableError,
    },
    /// The partition table of a master makes no sense.
    #[error("the partition table of {} cannot be followed", path.display())]
    SourceTable {
        /// The disk.
        path: PathBuf,
        /// The cause.
        source: diskmap::TableError,
    },
    /// The image is damaged, of another kind, or locked.
    #[error("image {}", path.display())]
    Image {
        /// The image.
        path: PathBuf,
        /// The cause.
        source: FormatError,
    },
    /// A chunk read back differs from the bytes written.
    #[error("read-back of {} differs from the master image in chunk {chunk} (bytes {offset}..{end})", path.display())]
    Mismatch {
        /// The target.
        path: PathBuf,
        /// Index of the chunk.
        chunk: u32,
        /// Offset of the chunk's first byte.
        offset: u64,
        /// Offset of the chunk's end.
        end: u64,
    },
    /// A range that was zeroed, because a former file system would be found there, reads back as
    /// something else.
    #[error("read-back of {}: byte {offset} was made zero and is not, so what was there before would be found", path.display())]
    NotBlank {
        /// The target.
        path: PathBuf,
        /// Byte offset of the first other byte.
        offset: u64,
    },
    /// The table sectors did not read back as written.
    #[error("read-back of the partition table of {} differs at byte {offset}", path.display())]
    TableMismatch {
        /// The target.
        path: PathBuf,
        /// Byte offset of the difference.
        offset: u64,
    },
    /// The work was cancelled.
    #[error("cancelled")]
    Cancelled,
}

/// A partition whose file system cannot be captured by its used blocks in its present state.
#[derive(Clone, Debug)]
pub struct DirtyPartition {
    /// Number of the partition.
    pub number: u32,
    /// Name of the file system.
    pub fs: String,
    /// The problem.
    pub reason: String,
    /// The next step for the technician.
    pub hint: String,
}

/// Advice for freeing a disk, by the kind of its users.
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

    /// Wraps a failure of the image format with the path of its file or disk.
    pub fn image(path: &Path, source: FormatError) -> Self {
        Self::Image {
            path: path.to_owned(),
            source,
        }
    }

    pub(super) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Usage {
            message: message.into(),
            hint: Some(hint.into()),
        }
    }

    pub(super) fn refused(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Refused {
            message: message.into(),
            hint: Some(hint.into()),
        }
    }

    /// True when a disk could not be read, in any step.
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

    /// The next thing to try, if there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Refused { hint, .. } | Self::Usage { hint, .. } => hint.clone(),
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
                FormatError::VolumeMissing { number } => Some(format!(
                    "all parts of an image lie in one folder: {} is not there",
                    super::restore::volume_path(path, *number).display()
                )),
                FormatError::VolumeMismatch { expected: 1, .. } => {
                    Some("name the first part, which ends in .dcimg".into())
                }
                FormatError::Io { source, .. }
                    if source.kind() == std::io::ErrorKind::FileTooLarge =>
                {
                    Some("files may not grow so large there: --volume-size 4G cuts the image".into())
                }
                FormatError::Truncated { .. } => {
                    Some("the capture or copy did not finish; copy it again, or save what is there with `image rebuild`".into())
                }
                FormatError::PasswordNeeded => Some("give it with --password-file".into()),
                FormatError::WrongPassword => Some("check the password file".into()),
                _ => None,
            },
            _ => None,
        }
    }

    /// The error with its causes, in one line.
    pub fn full(&self) -> String {
        full_text(self)
    }
}

impl Failure for DiskError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Usage { .. } => ErrorCode::Usage,
            Self::InUse { .. }
            | Self::Refused { .. }
            | Self::Shrunk { .. }
            | Self::Dirty(_)
            | Self::DoesNotFit { .. }
            | Self::Table { .. }
            | Self::SourceTable { .. } => ErrorCode::Refused,
            Self::Io { source, .. } => ErrorCode::of_path(source),
            Self::Read { .. } | Self::Unreadable { .. } | Self::Write { .. } => {
                ErrorCode::Unexpected
            }
            Self::Image { source, .. } => match source {
                FormatError::PasswordNeeded => ErrorCode::Usage,
                FormatError::WrongPassword => ErrorCode::NotAuthorised,
                FormatError::UnsupportedVersion { .. }
                | FormatError::UnknownFeature { .. }
                | FormatError::ReadOnly { .. }
                | FormatError::Unknown { .. } => ErrorCode::Refused,
                FormatError::Io { .. } | FormatError::Compressor(_) => ErrorCode::Unexpected,
                _ => ErrorCode::Integrity,
            },
            Self::Mismatch { .. } | Self::NotBlank { .. } | Self::TableMismatch { .. } => {
                ErrorCode::Integrity
            }
            Self::Cancelled => ErrorCode::Interrupted,
        }
    }

    fn hint(&self) -> Option<String> {
        self.hint()
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
