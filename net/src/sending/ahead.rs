//! Blocks and their parity for the send thread, prepared ahead of need by a second thread.
//!
//! The send thread names the next blocks and finds them ready; it waits only when the image's disk
//! is slower than the wire. Used blocks are kept for a while, because repairs go a few blocks back.
//! Memory does not depend on the size of the image.
//!
//! Only requested blocks are read. A block that cannot be read is an error when it is needed, not
//! before.

use super::BlockSource;
use multicast::{BlockKey, Encoder, Parity, Upcoming};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Number of blocks of each object that are requested ahead of the present one: 70 ms at 1 Gb/s, a
/// short stall of a busy disk.
pub(super) const AHEAD: usize = 8;
/// Limit of blocks that are kept, those ahead and those just sent, for repairs: 32 MiB.
const KEPT_BLOCKS: usize = 32;
/// Limit of blocks whose parity is kept, 360 kB each: repairs of a lossy pass reach back about half
/// a second. 23 MiB.
const KEPT_PARITY: usize = 64;

/// Blocks and parity that are ready, most recently used first, and requests, soonest first.
#[derive(Default)]
struct Shelf {
    blocks: VecDeque<(BlockKey, Arc<Vec<u8>>)>,
    parity: VecDeque<(BlockKey, Arc<Parity>)>,
    asked: VecDeque<Upcoming>,
    failed: Option<(BlockKey, String)>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    shelf: Mutex<Shelf>,
    asked: Condvar,
    ready: Condvar,
}

/// The send thread's side.
pub(super) struct ReadAhead {
    shared: Arc<Shared>,
    /// The last requests, so that a repetition costs nothing.
    asked: Vec<Upcoming>,
    block: Option<(BlockKey, Arc<Vec<u8>>)>,
    parity: Option<(BlockKey, Arc<Parity>)>,
}

impl ReadAhead {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system cannot start a thread.
    pub(super) fn start(source: Arc<dyn BlockSource>) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let its = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("read-ahead".into())
            .spawn(move || its.read(source.as_ref()))?;
        Ok(Self {
            shared,
            asked: Vec::new(),
            block: None,
            parity: None,
        })
    }

    /// Requests the blocks that will be needed, soonest first. Replaces earlier requests.
    pub(super) fn ask(&mut self, upcoming: Vec<Upcoming>) {
        if upcoming == self.asked {
            return;
        }
        let mut shelf = self.shared.lock();
        shelf.asked = upcoming.iter().copied().collect();
        drop(shelf);
        self.shared.asked.notify_one();
        self.asked = upcoming;
    }

    /// The bytes of a block.
    ///
    /// # Errors
    /// The reason why it cannot be read.
    pub(super) fn block(&mut self, key: BlockKey) -> Result<&[u8], String> {
        let kept = match self.block.take() {
            Some((at, bytes)) if at == key => bytes,
            _ => self.shared.wait(
                Upcoming {
                    block: key,
                    source: true,
                    parity: false,
                },
                |shelf| use_first(&mut shelf.blocks, key),
            )?,
        };
        Ok(&self.block.insert((key, kept)).1)
    }

    /// The parity of a block.
    ///
    /// # Errors
    /// The reason why it cannot be made.
    pub(super) fn parity(&mut self, key: BlockKey) -> Result<&Parity, String> {
        let kept = match self.parity.take() {
            Some((at, parity)) if at == key => parity,
            _ => self.shared.wait(
                Upcoming {
                    block: key,
                    source: false,
                    parity: true,
                },
                |shelf| use_first(&mut shelf.parity, key),
            )?,
        };
        Ok(&self.parity.insert((key, kept)).1)
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.asked.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a block that is needed now, ahead of all requests.
    fn wait<T>(
        &self,
        need: Upcoming,
        mut find: impl FnMut(&mut Shelf) -> Option<T>,
    ) -> Result<T, String> {
        let mut shelf = self.lock();
        let mut asked = false;
        loop {
            if let Some(found) = find(&mut shelf) {
                return Ok(found);
            }
            match &shelf.failed {
                Some((key, reason)) if *key == need.block => {
                    return Err(reason.clone());
                }
                _ => {}
            }
            if shelf.closed {
                return Err("the thread that reads the image has ended".into());
            }
            if !asked {
                asked = true;
                shelf.failed = None;
                shelf.asked.push_front(need);
                self.asked.notify_one();
            }
            shelf = self
                .ready
                .wait(shelf)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The thread: prepares requested blocks until the send thread's side is dropped.
    fn read(&self, source: &dyn BlockSource) {
        // When the thread ends in any way, a waiting send thread is woken.
        let _end = Ending(self);
        let mut encoder = Encoder::new();
        let mut shelf = self.lock();
        loop {
            if shelf.closed {
                return;
            }
            let Some(need) = shelf.next_need() else {
                shelf = self
                    .asked
                    .wait(shelf)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let kept = shelf.block(need.block);
            let spare = match kept {
                Some(_) => Vec::new(),
                None => shelf.spare(),
            };
            drop(shelf);
            let made = make(source, &mut encoder, need, kept, spare);
            shelf = self.lock();
            match made {
                Ok((bytes, parity)) => shelf.put(need.block, bytes, parity),
                Err(reason) => shelf.failed = Some((need.block, reason)),
            }
            self.ready.notify_all();
        }
    }
}

/// Wakes a waiting send thread when the reading thread ends, even by a panic of the source.
struct Ending<'a>(&'a Shared);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.ready.notify_all();
    }
}

type Made = (Arc<Vec<u8>>, Option<Arc<Parity>>);

fn make(
    source: &dyn BlockSource,
    encoder: &mut Encoder,
    need: Upcoming,
    kept: Option<Arc<Vec<u8>>>,
    mut spare: Vec<u8>,
) -> Result<Made, String> {
    let bytes = match kept {
        Some(bytes) => bytes,
        None => {
            source
                .read_block(need.block, &mut spare)
                .map_err(|e| e.to_string())?;
            Arc::new(spare)
        }
    };
    let parity = match need.parity {
        true => Some(Arc::new(encoder.encode(&bytes).map_err(|e| e.to_string())?)),
        false => None,
    };
    Ok((bytes, parity))
}

impl Shelf {
    /// The first request that is not ready and did not fail.
    fn next_need(&mut self) -> Option<Upcoming> {
        while let Some(need) = self.asked.pop_front() {
            let failed = self
                .failed
                .as_ref()
                .is_some_and(|(key, _)| *key == need.block);
            let source = need.source && !self.blocks.iter().any(|(key, _)| *key == need.block);
            let parity = need.parity && !self.parity.iter().any(|(key, _)| *key == need.block);
            if !failed && (source || parity) {
                return Some(Upcoming {
                    source,
                    parity,
                    ..need
                });
            }
        }
        None
    }

    fn block(&self, key: BlockKey) -> Option<Arc<Vec<u8>>> {
        let kept = self.blocks.iter().find(|(kept, _)| *kept == key);
        kept.map(|(_, bytes)| Arc::clone(bytes))
    }

    /// The buffer of the least recently used block, when the limit is reached.
    fn spare(&mut self) -> Vec<u8> {
        if self.blocks.len() < KEPT_BLOCKS {
            return Vec::new();
        }
        self.blocks
            .pop_back()
            .and_then(|(_, bytes)| Arc::try_unwrap(bytes).ok())
            .unwrap_or_default()
    }

    fn put(&mut self, key: BlockKey, bytes: Arc<Vec<u8>>, parity: Option<Arc<Parity>>) {
        if !self.blocks.iter().any(|(kept, _)| *kept == key) {
            self.blocks.truncate(KEPT_BLOCKS - 1);
            self.blocks.push_front((key, bytes));
        }
        if let Some(parity) = parity {
            self.parity.truncate(KEPT_PARITY - 1);
            self.parity.push_front((key, parity));
        }
    }
}

/// Finds an entry of a block and moves it to the front.
fn use_first<T>(kept: &mut VecDeque<(BlockKey, Arc<T>)>, key: BlockKey) -> Option<Arc<T>> {
    let at = kept.iter().position(|(kept, _)| *kept == key)?;
    let found = kept.remove(at)?;
    let shared = Arc::clone(&found.1);
    kept.push_front(found);
    Some(shared)
}

#[cfg(test)]
mod tests {
    use super::*;
    use multicast::{Layout, ObjectId};

    /// Blocks filled with their own number; block 13 cannot be read. Records which blocks were
    /// read, and by which thread.
    struct Numbered {
        layout: Layout,
        reads: Mutex<Vec<(u32, Option<String>)>>,
    }

    impl BlockSource for Numbered {
        fn layout(&self, _: ObjectId) -> &Layout {
            &self.layout
        }

        fn read_block(&self, key: BlockKey, block: &mut Vec<u8>) -> io::Result<()> {
            let name = std::thread::current().name().map(str::to_owned);
            self.reads.lock().unwrap().push((key.index, name));
            if key.index == 13 {
                return Err(io::Error::other("bad sector"));
            }
            block.clear();
            block.resize(3_000, u8::try_from(key.index % 251).unwrap());
            Ok(())
        }
    }

    fn started() -> (Arc<Numbered>, ReadAhead) {
        let source = Arc::new(Numbered {
            layout: Layout::single(1),
            reads: Mutex::default(),
        });
        let ahead = ReadAhead::start(Arc::<Numbered>::clone(&source)).unwrap();
        (source, ahead)
    }

    fn soon(index: u32, parity: bool) -> Upcoming {
        Upcoming {
            block: BlockKey::image(index),
            source: true,
            parity,
        }
    }

    #[test]
    fn blocks_come_in_order_are_read_once_and_never_by_who_asks() {
        let (source, mut ahead) = started();
        for index in 0..12 {
            ahead.ask((index..index + 4).map(|at| soon(at, at % 2 == 0)).collect());
            let key = BlockKey::image(index);
            let byte = u8::try_from(index).unwrap();
            assert_eq!(ahead.block(key).unwrap(), vec![byte; 3_000]);
            let parity = Encoder::new().encode(&vec![byte; 3_000]).unwrap();
            assert_eq!(*ahead.parity(key).unwrap(), parity);
            // Repairs go back to earlier blocks.
            assert_eq!(
                ahead.block(BlockKey::image(index / 2)).unwrap().len(),
                3_000
            );
        }
        drop(ahead);
        let reads = source.reads.lock().unwrap();
        let mut once: Vec<u32> = reads.iter().map(|(index, _)| *index).collect();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), reads.len());
        assert!(
            reads
                .iter()
                .all(|(_, name)| name.as_deref() == Some("read-ahead"))
        );
    }

    #[test]
    fn a_block_that_cannot_be_read_fails_when_it_is_needed() {
        let (_, mut ahead) = started();
        ahead.ask((11..16).map(|at| soon(at, true)).collect());
        for index in [11, 12, 14, 15] {
            assert!(ahead.block(BlockKey::image(index)).is_ok());
        }
        for _ in 0..2 {
            let failure = ahead.block(BlockKey::image(13)).unwrap_err();
            assert_eq!(failure, "bad sector");
        }
        assert!(ahead.parity(BlockKey::image(12)).is_ok());
    }

    #[test]
    fn no_more_is_kept_than_was_agreed() {
        let (_, mut ahead) = started();
        for index in (0..400).filter(|index| *index != 13) {
            ahead.ask(vec![soon(index, true), soon(index + 500, false)]);
            ahead.block(BlockKey::image(index)).unwrap();
            ahead.parity(BlockKey::image(index)).unwrap();
            let shelf = ahead.shared.lock();
            assert!(shelf.blocks.len() <= KEPT_BLOCKS && shelf.parity.len() <= KEPT_PARITY);
        }
    }
}
