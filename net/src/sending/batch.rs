//! Packets of one size to one group, sent in one call.
//!
//! A packet is sealed where it is sent from: each symbol is copied once, from its block to the
//! batch.

use multicast::PACKET_BYTES;

/// Limit of packets in one call: that of segmentation offload (40 x 1448 < 64 KiB), and one burst
/// of the pacer.
pub(super) const BATCH: usize = 40;

pub(super) struct Batch {
    packets: Vec<[u8; PACKET_BYTES]>,
    lane: usize,
    count: usize,
    /// Length of all packets in bytes; only the last may be shorter than a full one, and none
    /// follows it.
    len: usize,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self {
            packets: vec![[0; PACKET_BYTES]; BATCH],
            lane: 0,
            count: 0,
            len: 0,
        }
    }

    /// True when a packet to this lane may be added.
    pub(super) fn takes(&self, lane: usize) -> bool {
        self.count == 0
            || (self.lane == lane && self.count < BATCH && self.len == self.count * PACKET_BYTES)
    }

    /// Buffer for the next packet; `None` when the batch is full.
    pub(super) fn room(&mut self) -> Option<&mut [u8; PACKET_BYTES]> {
        self.packets.get_mut(self.count)
    }

    /// Adds the packet in that buffer, of `len` bytes.
    pub(super) fn push(&mut self, lane: usize, len: usize) {
        self.lane = lane;
        self.count += 1;
        self.len += len;
    }

    pub(super) fn lane(&self) -> usize {
        self.lane
    }

    pub(super) fn contents(&self) -> &[u8] {
        self.packets
            .as_flattened()
            .get(..self.len)
            .unwrap_or_default()
    }

    /// Size in bytes of each packet but the last.
    pub(super) fn segment(&self) -> usize {
        self.len.min(PACKET_BYTES)
    }

    pub(super) fn clear(&mut self) {
        (self.count, self.len) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(batch: &mut Batch, lane: usize, len: usize, byte: u8) {
        batch.room().unwrap()[..len].fill(byte);
        batch.push(lane, len);
    }

    #[test]
    fn a_batch_holds_one_group_and_ends_with_a_shorter_packet() {
        let mut batch = Batch::new();
        assert!(batch.takes(0) && batch.takes(1));
        push(&mut batch, 0, PACKET_BYTES, 1);
        assert!(batch.takes(0) && !batch.takes(1));
        push(&mut batch, 0, 40, 2);
        assert!(!batch.takes(0), "nothing follows a shorter packet");
        assert_eq!(batch.segment(), PACKET_BYTES);
        assert_eq!(batch.contents().len(), PACKET_BYTES + 40);
        assert_eq!(batch.contents()[PACKET_BYTES - 1..=PACKET_BYTES], [1, 2]);
        batch.clear();
        push(&mut batch, 1, 40, 3);
        assert_eq!((batch.segment(), batch.contents()), (40, &[3; 40][..]));
        assert!(!batch.takes(1), "nothing longer than the first");
    }

    #[test]
    fn a_batch_is_never_longer_than_one_call_takes() {
        let mut batch = Batch::new();
        let mut packets = 0;
        while batch.takes(0) {
            push(&mut batch, 0, PACKET_BYTES, 0);
            packets += 1;
        }
        assert_eq!(packets, BATCH);
        assert!(batch.room().is_none());
        assert!(batch.contents().len() < 1 << 16);
    }
}
