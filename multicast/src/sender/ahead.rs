//! What is likely to be sent next, for a shell that reads ahead.

use super::Sender;
use crate::layout::{BlockKey, ObjectId};

/// A block that will be needed soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upcoming {
    /// Which.
    pub block: BlockKey,
    /// Its source symbols will be needed.
    pub source: bool,
    /// Its parity will be needed.
    pub parity: bool,
}

impl Sender {
    /// The blocks that are sent next, soonest first, as far as can be said now: repairs that are
    /// queued, what is going out, and `most` blocks of each object after it.
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
        let healthy = self.peers.values().filter(|peer| peer.is_healthy()).count();
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
            let parity = object.id == ObjectId::Manifest || self.proactive.symbols(healthy) > 0;
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
