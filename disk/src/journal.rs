//! The record of a deployment's written chunks, kept on the target disk itself, so that a machine
//! that restarts half-way requests only the rest.
//!
//! ```text
//! 0        64 KiB          544 KiB         1 MiB
//! | blank  | slot A        | slot B        |
//!          | 4 KiB head | bitmap, one bit a manifest entry |
//! ```
//!
//! Owns the two slots. Each save goes to the older one, so a save that is cut leaves the one before
//! it. The bitmap is a hint and never a proof: every chunk it names is read and hashed again before
//! it is used ([`super::readback`]), so a journal may be stale, and a save needs no flush. Always
//! holds: a journal is only used for the very image, disk size and manifest it was made for, and
//! its bytes match their BLAKE3.

use super::target_disk::TargetDisk;
use super::{DiskError, front};
use imagefmt::{Manifest, Root};
use std::ops::Range;

/// Offset of the first slot, in bytes: behind everything a partition table may need at the start of
/// a disk.
const FIRST_SLOT: u64 = 64 << 10;
/// Bytes of a slot; two of them reach to the end of the first MiB.
const SLOT_BYTES: usize = 480 << 10;
const _: () = assert!(FIRST_SLOT + 2 * SLOT_BYTES as u64 == front::FRONT_BYTES);
/// Bytes of the head: a 4 KiB block of its own, whatever the sector size.
const HEAD_BYTES: usize = 4096;
const MAGIC: &[u8; 8] = b"DCJOURN1";
const HASH: Range<usize> = 72..104;
/// Most entries of a slot: 3.7 TiB of used chunks of 1 MiB. A larger image has no journal.
const MAX_ENTRIES: usize = (SLOT_BYTES - HEAD_BYTES) * 8;

/// Range of the journal on a disk of `size` bytes; `None` on a disk smaller than twice the first
/// MiB.
pub fn area(size: u64) -> Option<Range<u64>> {
    (size >= 2 * front::FRONT_BYTES).then_some(FIRST_SLOT..front::FRONT_BYTES)
}

/// A set of manifest entries, as bits.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bitmap {
    words: Vec<u64>,
    len: usize,
}

impl Bitmap {
    /// A set for `len` entries, none of them included.
    pub fn empty(len: usize) -> Self {
        Self {
            words: vec![0; len.div_ceil(64)],
            len,
        }
    }

    /// True when an entry is included; false beyond the end.
    pub fn contains(&self, entry: usize) -> bool {
        entry < self.len
            && self
                .words
                .get(entry / 64)
                .is_some_and(|word| word >> (entry % 64) & 1 == 1)
    }

    /// Adds an entry; false when it was included already, or is beyond the end.
    pub fn insert(&mut self, entry: usize) -> bool {
        let fresh = entry < self.len && !self.contains(entry);
        if fresh && let Some(word) = self.words.get_mut(entry / 64) {
            *word |= 1 << (entry % 64);
        }
        fresh
    }

    /// Number of entries included.
    pub fn count(&self) -> usize {
        self.words
            .iter()
            .map(|word| word.count_ones() as usize)
            .sum()
    }

    fn to_bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|w| w.to_le_bytes()).collect()
    }

    fn from_bytes(bytes: &[u8], len: usize) -> Self {
        let mut bitmap = Self::empty(len);
        for (word, bytes) in bitmap.words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_le_bytes(bytes.try_into().unwrap_or_default());
        }
        // Bits beyond the end would be counted.
        if let (Some(last), used @ 1..) = (bitmap.words.last_mut(), len % 64) {
            *last &= (1 << used) - 1;
        }
        bitmap
    }
}

/// The journal of one deployment.
pub struct Journal {
    root: Root,
    entries: usize,
    generation: u64,
}

impl Journal {
    /// Loads the set of chunks that an earlier deployment of this very image has written, if the
    /// disk has a journal. Reads only.
    pub fn load(target: &TargetDisk, manifest: &Manifest) -> Option<Bitmap> {
        area(target.size())?;
        (0..2)
            .filter_map(|slot| {
                let mut bytes = vec![0; SLOT_BYTES];
                target.read_at(slot_offset(slot), &mut bytes).ok()?;
                parse(
                    &bytes,
                    manifest.root(),
                    target.size(),
                    manifest.entries.len(),
                )
            })
            .max_by_key(|(generation, _)| *generation)
            .map(|(_, bitmap)| bitmap)
    }

    /// Begins the journal of a deployment; earlier ones become void. `None` when it has no room.
    ///
    /// # Errors
    /// [`DiskError::Write`].
    pub fn begin(target: &TargetDisk, manifest: &Manifest) -> Result<Option<Self>, DiskError> {
        let entries = manifest.entries.len();
        let Some(area) = area(target.size()).filter(|_| entries <= MAX_ENTRIES) else {
            return Ok(None);
        };
        target.zero(area)?;
        Ok(Some(Self {
            root: manifest.root(),
            entries,
            generation: 0,
        }))
    }

    /// Writes the bitmap into the older slot.
    ///
    /// # Errors
    /// [`DiskError::Write`].
    pub fn save(&mut self, target: &TargetDisk, written: &Bitmap) -> Result<(), DiskError> {
        self.generation += 1;
        let bytes = emit(
            self.generation,
            self.root,
            target.size(),
            self.entries,
            written,
        );
        target.write_at(slot_offset(self.generation % 2), &bytes)
    }
}

fn slot_offset(slot: u64) -> u64 {
    FIRST_SLOT + slot * SLOT_BYTES as u64
}

fn emit(generation: u64, root: Root, disk: u64, entries: usize, written: &Bitmap) -> Vec<u8> {
    let bitmap = written.to_bytes();
    let len = (HEAD_BYTES + bitmap.len()).next_multiple_of(HEAD_BYTES);
    let mut bytes = Vec::with_capacity(len);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&generation.to_le_bytes());
    bytes.extend_from_slice(&root.0);
    bytes.extend_from_slice(&disk.to_le_bytes());
    bytes.extend_from_slice(&(entries as u64).to_le_bytes());
    bytes.extend_from_slice(&(bitmap.len() as u64).to_le_bytes());
    bytes.resize(HEAD_BYTES, 0);
    bytes.extend_from_slice(&bitmap);
    bytes.resize(len, 0);
    let hash = digest(&bytes);
    if let Some(place) = bytes.get_mut(HASH) {
        place.copy_from_slice(hash.as_bytes());
    }
    bytes
}

/// Generation and bitmap of a slot, if it is whole and belongs to this image on a disk of `disk`
/// bytes. The bytes may be anything.
pub fn parse(bytes: &[u8], root: Root, disk: u64, entries: usize) -> Option<(u64, Bitmap)> {
    let number = |at: usize| -> Option<u64> {
        Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
    };
    let ours = bytes.get(..8)? == MAGIC
        && bytes.get(16..48)? == root.0
        && number(48)? == disk
        && number(56)? == entries as u64
        && number(64)? == (entries.div_ceil(64) * 8) as u64;
    if !ours {
        return None;
    }
    let end = HEAD_BYTES.checked_add(entries.div_ceil(64) * 8)?;
    let bytes = bytes.get(..end.next_multiple_of(HEAD_BYTES))?;
    (digest(bytes).as_bytes() == bytes.get(HASH)?).then_some(())?;
    let bitmap = Bitmap::from_bytes(bytes.get(HEAD_BYTES..end)?, entries);
    Some((number(8)?, bitmap))
}

/// BLAKE3 of a slot without the field of the hash itself.
fn digest(bytes: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(bytes.get(..HASH.start).unwrap_or_default());
    hasher.update(bytes.get(HASH.end..).unwrap_or_default());
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bitmap(len: usize, set: &[usize]) -> Bitmap {
        let mut bitmap = Bitmap::empty(len);
        for entry in set {
            assert!(bitmap.insert(*entry));
        }
        bitmap
    }

    #[test]
    fn a_slot_says_what_was_saved_and_only_to_whom_it_belongs() {
        let (root, disk) = (Root([7; 32]), 8 << 20);
        let written = bitmap(70, &[0, 3, 69]);
        let slot = emit(5, root, disk, 70, &written);
        assert!(slot.len().is_multiple_of(HEAD_BYTES));
        assert_eq!(parse(&slot, root, disk, 70), Some((5, written)));
        assert_eq!(parse(&slot, Root([8; 32]), disk, 70), None);
        assert_eq!(parse(&slot, root, disk + 512, 70), None);
        assert_eq!(parse(&slot, root, disk, 71), None);
        assert_eq!(parse(&slot[..HEAD_BYTES], root, disk, 70), None);
        assert_eq!(parse(&[], root, disk, 70), None);
    }

    #[test]
    fn every_flipped_byte_is_noticed() {
        let (root, disk) = (Root([7; 32]), 8 << 20);
        let slot = emit(1, root, disk, 9, &bitmap(9, &[4]));
        for at in 0..slot.len() {
            let mut torn = slot.clone();
            torn[at] ^= 0x10;
            assert_eq!(parse(&torn, root, disk, 9), None, "byte {at}");
        }
    }

    #[test]
    fn bits_beyond_the_end_do_not_count() {
        let full = Bitmap::from_bytes(&[0xff; 16], 70);
        assert_eq!(full.count(), 70);
        assert!(!full.contains(70));
        assert!(!Bitmap::empty(70).insert(70));
        assert_eq!(Bitmap::from_bytes(&[], 0).count(), 0);
    }

    #[test]
    fn a_slot_holds_the_largest_bitmap() {
        let bytes = emit(
            1,
            Root([0; 32]),
            0,
            MAX_ENTRIES,
            &Bitmap::empty(MAX_ENTRIES),
        );
        assert_eq!(bytes.len(), SLOT_BYTES);
        assert_eq!(area(1 << 20), None);
        assert_eq!(area(1 << 30), Some(FIRST_SLOT..1 << 20));
    }
}
