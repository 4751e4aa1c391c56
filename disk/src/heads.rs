//! Hashes of the first bytes of a disk and of its partitions, before and after a capture.
//!
//! Mounting, writing or closing a file system changes its head: ext its superblock, FAT its dirty
//! bits, btrfs and XFS their superblocks, a partitioner the table. Comparing the heads therefore
//! finds changes that neither a claim nor the time of a file shows, such as those of another
//! machine on a shared disk.

use imagefmt::PartitionMeta;
use rustix::fs::Advice;
use std::fs::File;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;

/// Bytes of a head: superblocks are at 0, 1 KiB and 64 KiB.
const HEAD_BYTES: usize = 128 << 10;

/// A hash of each head, with the name of its disk or partition.
#[derive(Debug)]
pub(super) struct Heads(Vec<(String, blake3::Hash)>);

impl Heads {
    /// Reads the heads of a disk and of these partitions. Unreadable bytes count as zeros: they are
    /// unreadable afterwards too.
    pub(super) fn read(disk: &File, size: u64, partitions: &[PartitionMeta]) -> Self {
        let whole = std::iter::once(("its first bytes".to_owned(), 0));
        let parts = partitions
            .iter()
            .filter(|part| part.start > 0)
            .map(|part| (format!("the head of partition {}", part.number), part.start));
        let mut buffer = vec![0; HEAD_BYTES];
        let hash = |(what, start): (String, u64)| {
            let len = usize::try_from(size.saturating_sub(start))
                .unwrap_or(HEAD_BYTES)
                .min(HEAD_BYTES);
            // Cached pages are stale if another machine writes the disk; clean ones are dropped.
            let _ = rustix::fs::fadvise(
                disk,
                start,
                NonZeroU64::new(HEAD_BYTES as u64),
                Advice::DontNeed,
            );
            let head = buffer.get_mut(..len).unwrap_or_default();
            if disk.read_exact_at(head, start).is_err() {
                head.fill(0);
            }
            (what, blake3::hash(head))
        };
        Self(whole.chain(parts).map(hash).collect())
    }

    /// The name of the first head that differs.
    pub(super) fn difference(&self, other: &Self) -> Option<&str> {
        let mut pairs = self.0.iter().zip(&other.0);
        pairs
            .find(|(one, two)| one != two)
            .map(|((what, _), _)| what.as_str())
    }
}
