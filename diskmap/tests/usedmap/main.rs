//! Used-block maps compared with the tools of the file systems themselves.
//!
//! The strongest test is the same for all: create a file system on a device full of 0x5A, fill it,
//! copy only the mapped ranges to a device full of 0xA5, and let the file system's own checker and
//! a file-by-file comparison find missing data. A missing tool fails the test by name.

#![allow(
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    reason = "tests open the images they made, and know their sizes"
)]

mod boot_sector;
mod exfat;
mod ext;
mod fat;
mod hostile;
mod ntfs;
mod ntfs_crafted;
mod ntfs_files;
mod ntfs_oracle;
mod opaque;
mod support;
mod swap;
