//! Safety checks on the machines, made from outside with separate state.

use multicast::status::{MAX_DEFICITS, MAX_RANGES};
use multicast::{
    BlockKey, Epoch, Flags, Header, Lane, ObjectId, SessionId, Status, Stored, Transmit,
    TransmitKind,
};

/// A description of a violated rule.
pub(crate) type Wrong = &'static str;

/// Checks the packets of one life of a sender.
#[derive(Debug)]
pub(crate) struct SenderWatch {
    session: SessionId,
    epoch: Epoch,
    next_number: [u64; 2],
    /// Parity indexes sent since the source of a block was last sent, for each object.
    parity: [Vec<[u64; 4]>; 2],
}

impl SenderWatch {
    pub(crate) fn new(session: SessionId, epoch: Epoch, manifest: usize, image: usize) -> Self {
        Self {
            session,
            epoch,
            next_number: [0; 2],
            parity: [vec![[0; 4]; manifest], vec![[0; 4]; image]],
        }
    }

    pub(crate) fn check(&mut self, transmit: &Transmit) -> Result<(), Wrong> {
        let lane = transmit.packet_number.lane();
        let next = match lane {
            Lane::Main => &mut self.next_number[0],
            Lane::Second => &mut self.next_number[1],
        };
        if transmit.packet_number.counter() != *next || lane != transmit.lane {
            return Err("packet numbers do not go up by one");
        }
        *next += 1;
        let header = transmit.header(self.session, self.epoch);
        if Header::parse(&header.emit()) != Ok(header) {
            return Err("a header does not parse");
        }
        if transmit.kind == TransmitKind::Heartbeat {
            if transmit.k != 0 || transmit.flags.has(Flags::REPAIR) {
                return Err("a heartbeat with a symbol");
            }
            return Ok(());
        }
        let object = match transmit.block.object {
            ObjectId::Manifest => &mut self.parity[0],
            ObjectId::Image => &mut self.parity[1],
        };
        let Some(parity) = object.get_mut(transmit.block.index as usize) else {
            return Err("a symbol of no block");
        };
        match transmit.symbol.checked_sub(transmit.k) {
            None if transmit.kind != TransmitKind::Source => Err("repair that is source"),
            None => {
                if transmit.symbol == 0 {
                    *parity = [0; 4];
                }
                Ok(())
            }
            Some(_) if transmit.kind == TransmitKind::Source => Err("source past k"),
            Some(index) => {
                let Some(word) = parity.get_mut(usize::from(index / 64)) else {
                    return Err("a parity index that is none");
                };
                let bit = 1 << (index % 64);
                if *word & bit != 0 {
                    return Err("a parity index twice in a go");
                }
                *word |= bit;
                Ok(())
            }
        }
    }
}

/// The content of one slot of a receiver, tracked separately from the receiver's own state.
#[derive(Clone, Debug, Default)]
pub(crate) struct SlotWatch {
    block: Option<BlockKey>,
    symbols: [u64; 16],
}

impl SlotWatch {
    pub(crate) fn store(&mut self, block: BlockKey, stored: &Stored) -> Result<(), Wrong> {
        if stored.first {
            *self = Self {
                block: Some(block),
                symbols: [0; 16],
            };
        }
        if self.block != Some(block) {
            return Err("a symbol stored in another block's slot");
        }
        let (start, end) = (stored.symbols.start, stored.symbols.end);
        for symbol in (start..end).step_by(64) {
            // Sixty-four symbols from here on are in two words at most.
            let upto = end.min(symbol.saturating_add(64));
            for word in symbol / 64..=(upto - 1) / 64 {
                let from = symbol.max(word * 64) - word * 64;
                let to = upto.min(word * 64 + 64) - word * 64;
                let mask = u64::MAX << from & u64::MAX >> (64 - to);
                let Some(have) = self.symbols.get_mut(usize::from(word)) else {
                    return Err("a symbol that no block has");
                };
                if *have & mask != 0 {
                    return Err("a symbol stored twice");
                }
                *have |= mask;
            }
        }
        Ok(())
    }

    pub(crate) fn ready(&self, block: BlockKey, k: u16) -> Result<(), Wrong> {
        let distinct: u32 = self.symbols.iter().map(|word| word.count_ones()).sum();
        if self.block == Some(block) && distinct == u32::from(k) {
            Ok(())
        } else {
            Err("a block is ready without k distinct symbols")
        }
    }
}

pub(crate) fn status(status: &Status, buffers: u16) -> Result<(), Wrong> {
    let bounded = status.deficits.len() <= MAX_DEFICITS
        && status.completed.len() <= MAX_RANGES
        && status.held.len() <= MAX_RANGES
        && status.undecided.len() <= MAX_RANGES
        && status.free_buffers <= u32::from(buffers);
    if bounded {
        Ok(())
    } else {
        Err("a status beyond its bounds")
    }
}
