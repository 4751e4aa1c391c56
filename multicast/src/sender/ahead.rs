//! A forecast of the next blocks, for a shell that reads ahead.

use super::Sender;
use crate::block::layout::{BlockKey, ObjectId};

/// A block that will be needed soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upcoming {
    /// The block.
    pub block: BlockKey,
    /// True if its source symbols will be needed.
    pub source: bool,
    /// True if its parity will be needed.
    pub parity: bool,
}

impl Sender {
    /// The blocks to be sent next, as far as known now: queued repairs, the block being sent, and
    /// up to `most` blocks of each object after it. The soonest come first.
    #[must_use]
    pub fn upcoming(&self, most: usize) -> Vec<Upcoming> {
        let mut upcoming = Vec::new();
        for object in [&self.manifest, &self.image] {
            let blocks = object.ledger.queued().take(most);
            upcoming.extend(blocks.map(|index| Upcoming {
                block: BlockKey {
                    object: object.id,
                    index,
                },
                source: false,
                parity: true,
            }));
        }
        for object in [&self.manifest, &self.image] {
            if let Some(run) = &object.run {
                upcoming.push(Upcoming {
                    block: BlockKey {
                        object: object.id,
                        index: run.block,
                    },
                    source: true,
                    parity: run.proactive > 0,
                });
            }
            let parity =
                object.id == ObjectId::Manifest || self.proactive.symbols(self.waiting) > 0;
            let blocks = object.carousel.upcoming(object.wants.wanted()).take(most);
            upcoming.extend(blocks.map(|index| Upcoming {
                block: BlockKey {
                    object: object.id,
                    index,
                },
                source: true,
                parity,
            }));
        }
        upcoming
    }
}
