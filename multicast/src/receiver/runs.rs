//! Packets in a row, taken together.
//!
//! A burst is mostly consecutive symbols of one block under consecutive numbers. Taking them as
//! one costs what one packet costs, which is what lets a rehearsal run hundreds of receivers on
//! one core. Always the same as taking them one by one.

use super::{Disposition, Receiver, Stored};
use crate::time::Instant;
use crate::wire::{Flags, Header, Lane};

impl Receiver {
    /// The same as [`Receiver::handle_packet`] for `count` packets whose numbers and symbols go
    /// up by one from those of `header` and which are otherwise like it. `store` hears what goes
    /// into which slot, in order; the rest is ignored.
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

    /// Takes as many of the packets as can be taken without looking at each; 0 when the next one
    /// needs a look.
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
            // The last symbol a block needs is looked at by itself.
            let missing = self
                .slots
                .filling(block)
                .map_or(0, |filling| filling.missing());
            most.min(missing.saturating_sub(1))
        };
        let Some(end) = header.symbol.checked_add(row) else {
            return 0;
        };
        if row == 0 || end > header.k.saturating_add(crate::layout::PARITY_SYMBOLS) {
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
