//! Consecutive packets, handled together.
//!
//! A burst is mostly consecutive symbols of one block with consecutive packet numbers. Handled as
//! one row they cost as much as one packet, so a rehearsal can run hundreds of receivers on one
//! core. The result is always the same as with single packets.

use super::{Disposition, Receiver, Stored};
use crate::packet::wire::{Flags, Header, Lane};
use crate::time::Instant;

impl Receiver {
    /// Does the same as [`Receiver::handle_packet`] for `count` packets.
    ///
    /// Their numbers and symbols go up by one from those of `header`; all other fields are equal.
    /// `store` is called with the symbols to store and their slot, in order; all other packets are
    /// ignored.
    pub fn handle_packets(
        &mut self,
        now: Instant,
        header: &Header,
        count: u16,
        mut store: impl FnMut(Stored),
    ) {
        let mut at = 0;
        while at < count {
            let next = Header {
                number: header.number.later(u64::from(at)),
                symbol: header.symbol.saturating_add(at),
                ..*header
            };
            let row = self.take_row(now, &next, count - at, &mut store);
            if row == 0
                && let Disposition::Store { slot, first } = self.handle_packet(now, &next)
            {
                store(Stored {
                    slot,
                    first,
                    symbols: next.symbol..next.symbol.saturating_add(1),
                });
            }
            at = at.saturating_add(row.max(1));
        }
    }

    /// Handles as many packets as possible as one row; 0 if the next one must be handled by itself.
    fn take_row(
        &mut self,
        now: Instant,
        header: &Header,
        most: u16,
        store: &mut impl FnMut(Stored),
    ) -> u16 {
        let Some(block) = header.block_key() else {
            return 0;
        };
        let lane = header.number.lane();
        let source = lane == Lane::Main || header.flags.has(Flags::SLOW_LANE);
        if header.session != self.session || source && self.coming != Some(block) {
            return 0;
        }
        let Some(object) = self.object(block.object) else {
            return 0;
        };
        if object.symbol_counts.get(block.index as usize) != Some(&header.k) {
            return 0;
        }
        let counter = header.number.counter();
        let unwanted = object.complete.contains(block.index) || self.slots.is_whole(block);
        let row = if unwanted {
            most
        } else {
            // The symbol that completes a block is handled by itself.
            let missing = self
                .slots
                .filling(block)
                .map_or(0, |filling| filling.missing());
            most.min(missing.saturating_sub(1))
        };
        let Some(end) = header.symbol.checked_add(row) else {
            return 0;
        };
        if row == 0
            || end
                > header
                    .k
                    .saturating_add(crate::block::layout::PARITY_SYMBOLS)
        {
            return 0;
        }
        let meter = self.meters.get(lane);
        if meter.status().seen.and_then(|seen| seen.checked_add(1)) != Some(counter) {
            return 0;
        }
        if unwanted {
            self.counters.duplicate += u64::from(row);
        } else {
            let symbols = header.symbol..end;
            let Some(slot) = self.slots.take_row(now, block, header.k, symbols.clone()) else {
                return 0;
            };
            self.counters.stored += u64::from(row);
            store(Stored {
                slot,
                first: false,
                symbols,
            });
        }
        self.meters
            .get_mut(lane)
            .count_next(counter, u64::from(row));
        self.last_heard = Some(now);
        self.last_symbol_at = Some(now);
        row
    }
}
