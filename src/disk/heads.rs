//! The heads of a disk and of its partitions, before and after a capture.
//!
//! Mounting, writing or closing a file system changes its head: ext its superblock, FAT its dirty bits, btrfs and XFS
//! their superblocks, a partitioner the table. So heads that are the same afterwards catch what neither a claim nor the time
//! of a file shows, such as another machine on a shared disk.

use imagefmt::PartitionMeta;
use rustix::fs::Advice;
use std::fs::File;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;

/// Bytes of a head: superblocks lie at 0, 1 KiB and 64 KiB.
const HEAD_BYTES: usize = 128 << 10;

/// A hash of each head, by what it is the head of.
#[derive(Debug)]
pub(super) struct Heads(Vec<(String, blake3::Hash)>);

impl Heads {
    /// Reads the heads of a disk and of these partitions. What cannot be read counts as zeros: it cannot be read afterwards
    /// either.
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
            // Pages of a disk that another machine writes are stale: they are dropped where they are clean.
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

    /// The first head that is not the same in both.
    pub(super) fn difference(&self, other: &Self) -> Option<&str> {
        let mut pairs = self.0.iter().zip(&other.0);
        pairs
            .find(|(one, two)| one != two)
            .map(|((what, _), _)| what.as_str())
    }
}
