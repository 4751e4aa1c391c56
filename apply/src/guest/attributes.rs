//! Extended attributes: SELinux labels, and the security descriptors of ntfs-3g.

use super::Guest;
use crate::error::{At, Result};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{Mode, OFlags, XattrFlags};

/// Extended attribute with the SELinux label.
const LABEL: &str = "security.selinux";

/// Largest extended attribute that is carried over, in bytes (the kernel's own limit is 64 KiB).
const MAX_XATTR: usize = 64 * 1024;

impl Guest {
    /// Value of an extended attribute of a file or directory; `None` if there is no such attribute.
    pub(crate) fn attribute(&self, path: &str, name: &str) -> Result<Option<Vec<u8>>> {
        let file = self
            .openat2(path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())
            .at(path)?;
        Ok(attribute_of(file.as_fd(), name))
    }

    /// Sets an extended attribute of a file or directory.
    pub(crate) fn set_attribute(&self, path: &str, name: &str, value: &[u8]) -> Result<()> {
        let file = self
            .openat2(path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())
            .at(path)?;
        rustix::fs::fsetxattr(&file, name, value, XattrFlags::empty())
            .and_then(|()| rustix::fs::fsync(&file))
            .at(format_args!("{path}: attribute {name}"))
    }
}

pub(super) fn attribute_names(file: BorrowedFd<'_>) -> Vec<String> {
    let mut buffer = vec![0_u8; MAX_XATTR];
    let Ok(length) = rustix::fs::flistxattr(file, &mut buffer[..]) else {
        return Vec::new();
    };
    buffer
        .get(..length)
        .unwrap_or_default()
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .filter_map(|name| std::str::from_utf8(name).ok().map(str::to_owned))
        .collect()
}

pub(super) fn attribute_of(file: BorrowedFd<'_>, name: &str) -> Option<Vec<u8>> {
    let mut buffer = vec![0_u8; MAX_XATTR];
    let length = rustix::fs::fgetxattr(file, name, &mut buffer[..]).ok()?;
    buffer.truncate(length);
    Some(buffer)
}

/// Copies the SELinux label of the folder to a new entry, which is right for most of `/etc`; an
/// enforcing system relabels itself besides.
pub(super) fn label_like(folder: &impl AsFd, new: &impl AsFd) {
    if let Some(label) = attribute_of(folder.as_fd(), LABEL) {
        let _ = rustix::fs::fsetxattr(new, LABEL, &label, XattrFlags::empty());
    }
}
