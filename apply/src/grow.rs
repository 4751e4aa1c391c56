//! Growth of a file system to the size of its partition.
//!
//! ext is grown by `e2fsck` and `resize2fs`, NTFS by `ntfsresize`, both unmounted; XFS and btrfs by
//! their own programs, mounted. FAT and exFAT cannot be grown in place: they stay as they are, and
//! the report says so. The check reads the size that the file system itself records.

use crate::context::Context;
use crate::engine::{State, Task};
use crate::error::{At, Result, StepError};
use crate::program::{self, LONG, SHORT};
use diskmap::ReadAt;
use template::step::FileSystem;

/// Largest unused space, in bytes, at the end of a partition whose file system counts as grown:
/// NTFS keeps its backup boot sector there, ext ends on a whole block, btrfs on 64 KiB and a whole
/// sector of its own, XFS leaves the tail of an allocation group that would be too small.
const SLACK: u64 = 4 << 20;

/// The step that grows one file system.
pub(crate) struct Grow {
    partition: u32,
    file_system: FileSystem,
}

impl Grow {
    pub(crate) fn new(partition: u32, file_system: FileSystem) -> Self {
        Self {
            partition,
            file_system,
        }
    }

    /// Size in bytes that the file system itself records.
    fn size(&self, context: &Context<'_>) -> Result<u64> {
        let found = context.file_system(self.partition)?;
        if found != Some(self.file_system) {
            let holds = found.map_or_else(
                || "nothing that is known".to_owned(),
                |found| format!("{found:?}"),
            );
            return Err(StepError::refused(
                format!(
                    "partition {} holds {holds} and not {:?}",
                    self.partition, self.file_system
                ),
                "inspect the image again and deploy with a new plan",
            ));
        }
        let bytes = context.bytes(self.partition)?;
        let field = |at: u64, length: usize| {
            let mut field = [0_u8; 8];
            let place = field.get_mut(..length).unwrap_or_default();
            bytes
                .read_exact_at(at, place)
                .at(format_args!("partition {}", self.partition))?;
            Ok::<_, StepError>(field)
        };
        match self.file_system {
            // sb_blocksize (4 bytes) at 4 and sb_dblocks at 8, big-endian.
            FileSystem::Xfs => {
                let block = u64::from_be_bytes(field(4, 4)?) >> 32;
                Ok(u64::from_be_bytes(field(8, 8)?).saturating_mul(block))
            }
            // total_bytes of the superblock at 64 KiB.
            FileSystem::Btrfs => Ok(u64::from_le_bytes(field(0x1_0000 + 0x70, 8)?)),
            _ => {
                let info = context.identify(self.partition)?;
                info.map(|info| info.size).ok_or_else(|| {
                    let place = format!("partition {}", self.partition);
                    StepError::unexpected(place, "it holds nothing that is known")
                })
            }
        }
    }
}

impl Task for Grow {
    fn check(&mut self, context: &mut Context<'_>) -> Result<State> {
        // Data of a mounted volume may not be on the disk yet.
        context.unmount(self.partition)?;
        if matches!(self.file_system, FileSystem::Fat | FileSystem::Exfat) {
            context.note(format!(
                "partition {}: {:?} cannot be grown in place; the rest of the partition stays unused",
                self.partition, self.file_system
            ));
            return Ok(State::Done);
        }
        let size = self.size(context)?;
        let room = context.slot(self.partition)?.length;
        let unused = room.saturating_sub(size);
        // A block of NTFS or of ext with 64 KiB clusters is far below the slack; a whole allocation
        // group of XFS is not.
        Ok(if unused <= SLACK {
            State::Done
        } else {
            State::Needed(format!(
                "partition {}: the file system has {size} bytes of {room}",
                self.partition
            ))
        })
    }

    fn apply(&mut self, context: &mut Context<'_>) -> Result<()> {
        match self.file_system {
            FileSystem::Ext => self.ext(context),
            FileSystem::Ntfs => self.ntfs(context),
            FileSystem::Xfs => self.mounted(context, "xfs_growfs", &["-d"]),
            FileSystem::Btrfs => self.mounted(context, "btrfs", &["filesystem", "resize", "max"]),
            FileSystem::Fat | FileSystem::Exfat => Ok(()),
        }
    }
}

impl Grow {
    fn ext(&self, context: &mut Context<'_>) -> Result<()> {
        let device = context.device(self.partition)?.display().to_string();
        // e2fsck(8): 0 clean, 1 corrected; resize2fs requires a check that is newer than the last
        // mount.
        let done = program::run("e2fsck", &["-f", "-p", &device], LONG)?;
        if !matches!(done.code, Some(0 | 1)) {
            return Err(StepError::unexpected(
                format_args!(
                    "partition {}: the file system is damaged; repair it on the master and capture it again",
                    self.partition
                ),
                done.failure("e2fsck"),
            ));
        }
        program::run("resize2fs", &[&device], LONG)?
            .success("resize2fs")
            .map(drop)
    }

    fn ntfs(&self, context: &mut Context<'_>) -> Result<()> {
        let device = context.device(self.partition)?.display().to_string();
        // A trial run first: it finds what would stop the real one half-way (bad clusters, an
        // unclean volume). `--force` twice: no questions, and no stop at the check that an earlier
        // resize has scheduled.
        for arguments in [
            [
                "--force",
                "--force",
                "--no-progress-bar",
                "--no-action",
                &device,
            ]
            .as_slice(),
            ["--force", "--force", "--no-progress-bar", &device].as_slice(),
        ] {
            program::run("ntfsresize", arguments, LONG)?.success("ntfsresize")?;
        }
        context.note(format!(
            "partition {}: Windows checks the volume once at its first start, because it was resized",
            self.partition
        ));
        Ok(())
    }

    fn mounted(&self, context: &mut Context<'_>, program: &str, arguments: &[&str]) -> Result<()> {
        drop(context.root(self.partition)?);
        let at = context.mounted_at(self.partition)?.display().to_string();
        let mut arguments = arguments.to_vec();
        arguments.push(&at);
        program::run(program, &arguments, SHORT)?
            .success(program)
            .map(drop)
    }
}
