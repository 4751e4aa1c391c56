//! Finds parts of the image that the disk holds already: from an earlier deployment, or from before
//! a restart in the middle of this one.
//!
//! ```text
//! journal of this image ----> its chunks are searched for, the others requested at once     (resume)
//! a sample matches ---------> every chunk is searched for, missing ones are requested       (reuse)
//! neither ------------------> everything is requested
//! ```
//!
//! A search reads and hashes ([`disk::readback`]), in the background and in the order of the
//! disk; chunks found count as read back. Owns the set of blocks still being searched. Always
//! holds: a block counts as kept only when every chunk in it was found.

use super::{Open, Runner};
use disk::deployment::Deployment;
use disk::journal::Bitmap;
use facts::order::Reuse;
use imagefmt::Codec;
use multicast::{BlockKey, BlockSet, Layout};
use std::collections::HashMap;

/// Number of chunks in the sample that decides whether a search is worth it.
const SAMPLES: usize = 16;
/// Number of them that must be on the disk.
const SAMPLES_FOUND: usize = 2;

/// Blocks being searched, and the number of their undecided chunks.
#[derive(Default)]
pub(super) struct Search {
    /// Entries to search for, ascending.
    pub(super) entries: Vec<usize>,
    /// Number of undecided chunks of each block.
    open: HashMap<u32, u32>,
    /// Blocks that need no search: the first MiB is in memory already.
    pub(super) kept: Vec<u32>,
    /// Blocks of partitions that were not chosen.
    pub(super) unwanted: Vec<u32>,
}

impl Search {
    /// Plans a search for those `wanted` entries that are `believed`; those in `held` are known to
    /// be there.
    fn new(
        layout: &Layout,
        wanted: impl Fn(usize) -> bool,
        believed: impl Fn(usize) -> bool,
        held: impl Fn(usize) -> bool,
    ) -> Self {
        let mut search = Self::default();
        for block in 0..layout.block_count() {
            let pieces = || {
                let pieces = layout.parts(block).map(|part| part.piece as usize);
                pieces.filter(|piece| wanted(*piece))
            };
            if pieces().next().is_none() {
                search.unwanted.push(block);
                continue;
            }
            if !pieces().all(|piece| believed(piece) || held(piece)) {
                continue;
            }
            let mut open = 0;
            for piece in pieces().filter(|piece| !held(*piece)) {
                open += 1;
                // A chunk larger than a block comes up once for each of its blocks.
                if search.entries.last() != Some(&piece) {
                    search.entries.push(piece);
                }
            }
            if open == 0 {
                search.kept.push(block);
            } else {
                search.open.insert(block, open);
            }
        }
        search
    }

    /// The blocks that are not decided yet.
    pub(super) fn undecided(&self, blocks: u32) -> BlockSet {
        let mut set = BlockSet::empty(blocks);
        for block in self.open.keys() {
            set.insert(*block);
        }
        set
    }

    /// Records that a chunk of the block was found or not. Returns true when the block is kept,
    /// false when it is wanted, `None` while undecided.
    fn decide(&mut self, block: u32, there: bool) -> Option<bool> {
        let open = self.open.get_mut(&block)?;
        *open = open.saturating_sub(1);
        if there && *open > 0 {
            return None;
        }
        self.open.remove(&block);
        Some(there)
    }
}

impl Runner {
    /// Plans the search on a disk of which only the table was wiped.
    pub(super) fn search(
        &self,
        deployment: &Deployment,
        layout: &Layout,
        journal: Option<&Bitmap>,
    ) -> Search {
        let journal = journal.filter(|journal| journal.count() > 0);
        let reuse = self.order.reuse;
        let wanted = |entry| deployment.wants(entry);
        if let Some(journal) = journal.filter(|_| reuse != Reuse::Never) {
            return Search::new(layout, wanted, |entry| journal.contains(entry), |_| false);
        }
        let look = match reuse {
            Reuse::Never => false,
            Reuse::Always => true,
            Reuse::Auto => worth_looking(deployment),
        };
        if !look {
            return Search::new(layout, wanted, |_| false, |_| false);
        }
        let front = deployment.front_entries();
        let mut held = Bitmap::empty(front.end);
        for entry in front.clone().filter(|entry| wanted(*entry)) {
            // A chunk that cannot be read counts as absent.
            if deployment.keep_front(entry).unwrap_or(false) {
                held.insert(entry);
            }
        }
        Search::new(
            layout,
            wanted,
            |entry| !front.contains(&entry),
            |entry| held.contains(entry),
        )
    }

    /// Handles the result for one chunk.
    pub(super) fn looked(&mut self, entry: usize, there: bool) {
        let Some(image) = &mut self.image else { return };
        let piece = u32::try_from(entry).unwrap_or(u32::MAX);
        for block in image.layout.blocks_of(piece) {
            match image.search.decide(block, there) {
                None => {}
                Some(true) => {
                    let kept = image.keep(block);
                    self.reporter.kept(image.written + image.kept_bytes, kept);
                    if let Some(receiving) = &self.receiving {
                        receiving.kept(BlockKey::image(block));
                    }
                }
                Some(false) => {
                    if let Some(receiving) = &self.receiving {
                        receiving.wanted(BlockKey::image(block));
                    }
                    if !self.heard && !image.done.contains(block) {
                        self.bulk_wanted.insert(block);
                    }
                }
            }
        }
    }
}

impl Open {
    /// Marks a block as present on the disk; true if it was not marked before.
    pub(super) fn keep(&mut self, block: u32) -> bool {
        let news = self.done.insert(block);
        if news {
            self.kept_bytes += self
                .layout
                .parts(block)
                .filter(|part| part.piece_offset == 0)
                .map(|part| self.deployment.entry_bytes(part.piece as usize))
                .sum::<u64>();
        }
        news
    }
}

/// True when a sample of chunks, spread over the image, is on the disk. Chunks of zeros are not
/// used because every new disk has them, and those of the first MiB because they were just wiped.
fn worth_looking(deployment: &Deployment) -> bool {
    let manifest = deployment.manifest();
    let front = deployment.front_entries().end;
    let candidates: Vec<usize> = (front..manifest.entries.len())
        .filter(|index| deployment.wants(*index))
        .filter(|index| {
            manifest
                .entries
                .get(*index)
                .is_some_and(|entry| entry.codec != Codec::Zero)
        })
        .collect();
    let step = candidates.len().div_ceil(SAMPLES).max(1);
    let samples: Vec<usize> = candidates.into_iter().step_by(step).collect();
    let mut buffer = disk::buffer::AlignedBuffer::new(manifest.geometry.chunk_size() as usize);
    let needed = SAMPLES_FOUND.min(samples.len()).max(1);
    let found = samples
        .into_iter()
        .filter(|index| matches!(deployment.read_back(*index, buffer.bytes_mut()), Ok(true)))
        .take(needed)
        .count();
    found >= needed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_kept_when_all_its_chunks_are_found_and_wanted_at_the_first_that_is_not() {
        // Two blocks of two chunks, then a chunk of two blocks.
        let layout = multicast::pack([500_000, 500_000, 500_000, 500_000, 2_000_000]);
        assert_eq!(layout.block_count(), 4);
        let mut search = Search::new(&layout, |_| true, |entry| entry != 3, |_| false);
        assert_eq!(search.entries, [0, 1, 4]);
        assert_eq!(search.undecided(4).iter().collect::<Vec<_>>(), [0, 2, 3]);
        assert_eq!(search.decide(0, true), None);
        assert_eq!(search.decide(0, true), Some(true));
        assert_eq!(search.decide(0, true), None, "decided once");
        assert_eq!(search.decide(2, false), Some(false));
        assert_eq!(search.decide(1, true), None, "never looked for");
        assert_eq!(search.undecided(4).iter().collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn what_is_held_in_memory_needs_no_looking() {
        let layout = multicast::pack([1_000_000, 1_000_000]);
        let search = Search::new(&layout, |_| true, |entry| entry > 0, |entry| entry == 0);
        assert_eq!((search.kept, search.entries), (vec![0], vec![1]));
    }

    #[test]
    fn what_was_not_chosen_is_never_looked_for() {
        // Two chunks in one block, then one of two blocks, then one more.
        let layout = multicast::pack([400_000, 400_000, 2_000_000, 1_000_000]);
        assert_eq!(layout.block_count(), 4);
        let search = Search::new(
            &layout,
            |entry| entry == 1 || entry == 3,
            |_| true,
            |_| false,
        );
        assert_eq!(search.entries, [1, 3]);
        assert_eq!(search.unwanted, [1, 2]);
        assert_eq!(search.undecided(4).iter().collect::<Vec<_>>(), [0, 3]);
    }
}
