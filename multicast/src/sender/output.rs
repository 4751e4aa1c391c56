//! The outputs of a sender: packets, events and counters.

use super::config::ReceiverId;
use crate::block::layout::{BlockKey, ObjectId};
use crate::packet::wire::{
    Epoch, FRAMING_BYTES, Flags, HEADER_BYTES, Header, Lane, PacketKind, PacketNumber, SessionId,
    TAG_BYTES,
};
use crate::sender::pacer::WIRE_BYTES;
use crate::sender::standing::Demotion;

/// The reason why a packet is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TransmitKind {
    /// A source symbol.
    Source,
    /// A parity symbol sent before anyone requested it.
    Proactive,
    /// A parity symbol that a receiver requested.
    Repair,
    /// A packet number without a symbol.
    Heartbeat,
}

/// One packet to send now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// The reason for the packet.
    pub kind: TransmitKind,
    /// The group to send to.
    pub lane: Lane,
    /// The block; in a heartbeat, the index is the number of the pass.
    pub block: BlockKey,
    /// Index of the symbol: source symbols are below `k`, parity symbol `symbol - k` from `k` on.
    pub symbol: u16,
    /// Number of source symbols of the block; 0 for a heartbeat, which has no payload.
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

    /// Size of the packet on the wire in bytes, framing included.
    #[must_use]
    pub fn wire_bytes(&self) -> u64 {
        match self.kind {
            TransmitKind::Heartbeat => (HEADER_BYTES + TAG_BYTES + FRAMING_BYTES) as u64,
            _ => WIRE_BYTES,
        }
    }
}

/// An event for the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SenderEvent {
    /// The receiver has all blocks of manifest and image.
    ReceiverComplete(ReceiverId),
    /// The shell must tell the receiver to fetch these blocks over its own connection.
    UseBulk {
        /// The receiver.
        receiver: ReceiverId,
        /// The blocks, ascending.
        blocks: Vec<BlockKey>,
    },
    /// The receiver is demoted, because it costs the others too much: until it does better or the
    /// pass is over.
    Demoted {
        /// The receiver.
        receiver: ReceiverId,
        /// The reason.
        reason: Demotion,
    },
    /// The receiver is no longer demoted.
    Promoted(ReceiverId),
    /// The receiver sent no status for three seconds: nothing is sent for it until it reports
    /// again.
    ReceiverSilent(ReceiverId),
    /// A silent receiver sent a status again.
    ReceiverBack(ReceiverId),
    /// All owed blocks were sent; blocks still missing are sent in another pass.
    PassEnded {
        /// Number of the pass, from 0.
        pass: u32,
        /// Number of blocks in the next pass.
        again: u32,
    },
}

/// Counters of a sender since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SenderCounters {
    /// Source packets of the image, slow lane included.
    pub source: u64,
    /// Packets of the slow lane, included in `source`: blocks that had been sent before.
    pub slow_lane: u64,
    /// Source, proactive and repair packets of the manifest.
    pub manifest: u64,
    /// Proactive parity packets.
    pub proactive: u64,
    /// Repair packets of the image.
    pub repair: u64,
    /// Heartbeats.
    pub heartbeats: u64,
    /// Bytes on the wire, framing included.
    pub wire_bytes: u64,
    /// Statuses processed.
    pub statuses: u64,
    /// Statuses of unknown receivers, and those older than one already processed.
    pub statuses_refused: u64,
    /// Deficits reported before everything sent for the block was seen: answered already.
    pub deficits_early: u64,
    /// Deficits that are impossible.
    pub deficits_absurd: u64,
    /// Deficits that parity could not repair any more.
    pub deficits_spent: u64,
    /// Answers given.
    pub answers: u64,
    /// Times the rate fell.
    pub rate_falls: u64,
    /// Microseconds for which blocks were held back because receivers had no free buffer.
    pub held_us: u64,
}

/// The progress of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Number of blocks of the image.
    pub blocks: u32,
    /// Number of blocks still owed to an active receiver.
    pub owed: u32,
    /// Number of the pass, from 0.
    pub pass: u32,
    /// Number of receivers in the session.
    pub receivers: u32,
    /// Number of receivers that have everything.
    pub complete: u32,
}
