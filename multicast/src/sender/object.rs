//! The sender's state of one object: missing blocks, deficits, order, and the block being sent.

use crate::block::layout::ObjectId;
use crate::packet::wire::Lane;
use crate::sender::carousel::Carousel;
use crate::sender::ledger::Ledger;
use crate::sender::wants::Wants;

/// The block whose symbols are being sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) block: u32,
    pub(super) k: u16,
    pub(super) next: u16,
    pub(super) proactive: u16,
    pub(super) lane: Lane,
}

#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) id: ObjectId,
    pub(super) wants: Wants,
    pub(super) ledger: Ledger,
    pub(super) carousel: Carousel,
    pub(super) run: Option<Run>,
}

impl Object {
    pub(super) fn new(id: ObjectId, symbol_counts: &[u16]) -> Self {
        let ledger = Ledger::new(symbol_counts);
        Self {
            id,
            wants: Wants::new(ledger.len()),
            ledger,
            carousel: Carousel::default(),
            run: None,
        }
    }

    pub(super) fn has_source(&self) -> bool {
        self.run.is_some() || !self.wants.wanted().is_empty()
    }

    /// Begins to send a block's source symbols and `proactive` parity symbols.
    pub(super) fn start(&mut self, block: u32, proactive: u16, lane: Lane) {
        self.wants.offered(block);
        self.ledger.begin(block);
        self.run = Some(Run {
            block,
            k: self.ledger.k(block),
            next: 0,
            proactive,
            lane,
        });
    }
}
