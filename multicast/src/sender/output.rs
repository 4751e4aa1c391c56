//! What a sender gives out: packets, events, figures.

use super::config::ReceiverId;
use crate::layout::{BlockKey, ObjectId};
use crate::pacer::WIRE_BYTES;
use crate::standing::Demotion;
use crate::wire::{
    Epoch, FRAMING_BYTES, Flags, HEADER_BYTES, Header, Lane, PacketKind, PacketNumber, SessionId,
    TAG_BYTES,
};

/// Why a packet is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TransmitKind {
    /// A source symbol.
    Source,
    /// Parity nobody asked for yet.
    Proactive,
    /// Parity somebody asked for.
    Repair,
    /// No symbol.
    Heartbeat,
}

/// One packet to send now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Why.
    pub kind: TransmitKind,
    /// Which group.
    pub lane: Lane,
    /// The block; of a heartbeat, the pass as index.
    pub block: BlockKey,
    /// Below `k` a source symbol, from `k` on parity `symbol - k`.
    pub symbol: u16,
    /// Source symbols of the block; 0 for a heartbeat, which has no payload.
    pub k: u16,
    /// Hints for the header.
    pub flags: Flags,
    /// Number for the header.
    pub packet_number: PacketNumber,
}

impl Transmit {
    /// The packet's header.
    #[must_use]
    pub fn header(&self, session: SessionId, epoch: Epoch) -> Header {
        let kind = match (self.kind, self.block.object) {
            (TransmitKind::Heartbeat, _) => PacketKind::Heartbeat,
            (_, ObjectId::Manifest) => PacketKind::Manifest,
            (_, ObjectId::Image) if self.symbol < self.k => PacketKind::Data,
            (_, ObjectId::Image) => PacketKind::Parity,
        };
        Header {
            kind,
            flags: self.flags,
            epoch,
            session,
            number: self.packet_number,
            block: self.block.index,
            symbol: self.symbol,
            k: self.k,
        }
    }

    /// Bytes of the packet on the wire, framing included.
    #[must_use]
    pub fn wire_bytes(&self) -> u64 {
        match self.kind {
            TransmitKind::Heartbeat => (HEADER_BYTES + TAG_BYTES + FRAMING_BYTES) as u64,
            _ => WIRE_BYTES,
        }
    }
}

/// What the shell must know or do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SenderEvent {
    /// The receiver has everything.
    ReceiverComplete(ReceiverId),
    /// Tell the receiver to fetch these blocks over its own connection.
    UseBulk {
        /// Who.
        receiver: ReceiverId,
        /// What, ascending.
        blocks: Vec<BlockKey>,
    },
    /// It would cost the others too much and is set aside until it does better or the pass is
    /// over.
    Demoted {
        /// Who.
        receiver: ReceiverId,
        /// Why.
        reason: Demotion,
    },
    /// It counts like the others again.
    Promoted(ReceiverId),
    /// It said nothing for three seconds: nothing is sent for it alone.
    ReceiverSilent(ReceiverId),
    /// It speaks again.
    ReceiverBack(ReceiverId),
    /// Everything owed was sent; blocks still lacking after it go out in another pass.
    PassEnded {
        /// The pass, from 0.
        pass: u32,
        /// Blocks of the next pass.
        again: u32,
    },
}

/// What was sent and heard, counted from the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SenderCounters {
    /// Source packets of the image, slow lane included.
    pub source: u64,
    /// Of those, packets of the slow lane: blocks that had gone out before.
    pub slow_lane: u64,
    /// Source and repair packets of the manifest.
    pub manifest: u64,
    /// Proactive parity packets.
    pub proactive: u64,
    /// Repair packets of the image.
    pub repair: u64,
    /// Heartbeats.
    pub heartbeats: u64,
    /// Bytes on the wire, framing included.
    pub wire_bytes: u64,
    /// Statuses taken.
    pub statuses: u64,
    /// Statuses of nobody we know, or older than one already taken.
    pub statuses_refused: u64,
    /// Deficits that did not know yet what was sent: answered already.
    pub deficits_early: u64,
    /// Deficits that cannot be.
    pub deficits_absurd: u64,
    /// Deficits that parity could not mend any more.
    pub deficits_spent: u64,
    /// Answers given.
    pub answers: u64,
    /// Times the rate fell.
    pub rate_falls: u64,
    /// Microseconds for which blocks were held back for want of room.
    pub held_us: u64,
}

/// How far the session is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Blocks of the image.
    pub blocks: u32,
    /// Blocks that some active receiver is still owed.
    pub owed: u32,
    /// The pass, from 0.
    pub pass: u32,
    /// Receivers in the session.
    pub receivers: u32,
    /// Receivers that have everything.
    pub complete: u32,
}

/// How far one receiver is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceiverProgress {
    /// Blocks of the image that it lacks, those left to bulk included.
    pub missing: u32,
    /// Of those, blocks it still looks for on its own disk.
    pub undecided: u32,
    /// It has everything.
    pub complete: bool,
    /// It said nothing for a while.
    pub silent: bool,
    /// It is set aside.
    pub demoted: bool,
    /// Blocks that it passed over for want of a buffer.
    pub skipped: u64,
    /// Its free buffers.
    pub free_buffers: u32,
    /// Its disk, in bytes a second; 0 when not known.
    pub disk_bytes_per_s: u64,
}
