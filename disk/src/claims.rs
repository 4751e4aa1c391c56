//! Claims on a whole master disk beside its partition table (RAID, LVM and the like), in the words
//! of a capture.
//!
//! Owns a capture's rules for them: everything is captured if the claim may have data anywhere;
//! metadata of a mirror behind the partitions stays with the disk.

use super::DiskError;
use diskmap::signature::{Claim, Needs, beside_table};
use diskmap::usedmap::FsKind;
use diskmap::{PartitionTable, ReadAt};
use std::path::Path;

/// The claims on a disk.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// One sentence for each claim.
    pub(super) warnings: Vec<String>,
    /// The reason every byte of the disk has to be captured, if there is one.
    pub(super) everything: Option<String>,
    /// True when data behind the last partition is part of an array, so that it has to stay with
    /// the disk.
    pub(super) pinned: bool,
}

impl Claims {
    /// Looks for claims.
    ///
    /// # Errors
    /// [`DiskError::Read`] when the disk cannot be read.
    pub(super) fn look(
        dev: &dyn ReadAt,
        table: &PartitionTable,
        path: &Path,
    ) -> Result<Self, DiskError> {
        let found = beside_table(dev, table).map_err(|source| DiskError::Read {
            path: path.to_owned(),
            offset: 0,
            source,
        })?;
        let mut claims = Self::default();
        for claim in found {
            claims.add(&claim, path);
        }
        Ok(claims)
    }

    fn add(&mut self, claim: &Claim, path: &Path) {
        let what = name(claim.kind);
        let disk = path.display();
        let found = format!(
            "beside the partition table {disk} has the signature of {what} at byte {}",
            claim.at
        );
        match claim.needs {
            Needs::Everything => {
                self.warnings.push(format!(
                    "{found}: the whole disk is captured; if it is a leftover, remove it (wipefs --all --types {} {disk}) \
                     and capture again",
                    blkid_type(claim.kind)
                ));
                self.everything = Some(format!(
                    "the whole disk has the signature of {what} at byte {}",
                    claim.at
                ));
            }
            Needs::Signature if claim.kind == FsKind::Swap => {
                self.warnings.push(format!("{found}: a leftover"));
            }
            Needs::Signature => {
                self.warnings.push(format!(
                    "{found}: a member of a mirror; a copy is one only on a disk of the same size"
                ));
                self.pinned = true;
            }
        }
    }
}

fn name(kind: FsKind) -> &'static str {
    match kind {
        FsKind::MdRaid => "an md array",
        FsKind::LvmPv => "an LVM physical volume",
        FsKind::Zfs => "a ZFS pool",
        FsKind::Luks => "LUKS",
        FsKind::BiosRaid => "a RAID made by the firmware",
        other => other.name(),
    }
}

/// The name that wipefs uses for it.
fn blkid_type(kind: FsKind) -> &'static str {
    match kind {
        FsKind::MdRaid => "linux_raid_member",
        FsKind::LvmPv => "LVM2_member",
        FsKind::Zfs => "zfs_member",
        FsKind::Luks => "crypto_LUKS",
        FsKind::BiosRaid => "isw_raid_member,ddf_raid_member",
        other => other.name(),
    }
}
