//! The blocks that each receiver lacks, for one object.
//!
//! Owns four sets of blocks for each receiver. *Missing* blocks are those it does not have; the
//! other three are subsets of them. *Owed* blocks must be sent as source symbols for it: it was not
//! there when they were sent, skipped them, or parity could not repair them. *Bulk* blocks come
//! over its own connection and are not sent by multicast. *Undecided* blocks are searched for on
//! its own disk, so nothing is sent for it alone, but it may still store packets sent for others.
//! The module also counts for each block the receivers that it is owed to; the carousel uses this.
//!
//! Always holds: owed, bulk and undecided are disjoint subsets of missing; `wanted` holds
//! exactly the blocks owed to at least one active receiver.

use crate::block::blockset::BlockSet;
use crate::sender::ReceiverId;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
struct PeerWants {
    missing: BlockSet,
    owed: BlockSet,
    bulk: BlockSet,
    undecided: BlockSet,
    active: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Wants {
    len: u32,
    peers: BTreeMap<ReceiverId, PeerWants>,
    owed_to: Vec<u32>,
    wanted: BlockSet,
}

impl Wants {
    pub(crate) fn new(len: u32) -> Self {
        Self {
            len,
            peers: BTreeMap::new(),
            owed_to: vec![0; len as usize],
            wanted: BlockSet::empty(len),
        }
    }

    /// Replaces a receiver's sets: it has the blocks `have` and searches for `undecided`. All
    /// others are owed, except blocks that are begun or on their way according to `offered`.
    pub(crate) fn reset(
        &mut self,
        id: ReceiverId,
        have: &BlockSet,
        mut undecided: BlockSet,
        offered: impl Fn(u32) -> bool,
    ) {
        self.remove(id);
        let missing = have.complement();
        undecided.intersect(&missing);
        let mut owed = missing.clone();
        owed.subtract(&undecided);
        for block in owed.clone().iter().filter(|block| offered(*block)) {
            owed.remove(block);
        }
        for block in owed.iter() {
            add_owed(&mut self.owed_to, &mut self.wanted, block);
        }
        self.peers.insert(
            id,
            PeerWants {
                missing,
                owed,
                bulk: BlockSet::empty(self.len),
                undecided,
                active: true,
            },
        );
    }

    /// Sets the blocks that a receiver still searches for. Returns the missing blocks that it does
    /// not search for any more; they are wanted from now on, but not yet owed.
    pub(crate) fn decide(&mut self, id: ReceiverId, mut undecided: BlockSet) -> BlockSet {
        let Some(peer) = self.peers.get_mut(&id) else {
            return BlockSet::empty(self.len);
        };
        undecided.intersect(&peer.missing);
        undecided.subtract(&peer.bulk);
        let mut owed_before = peer.owed.clone();
        owed_before.intersect(&undecided);
        let mut decided = std::mem::replace(&mut peer.undecided, undecided);
        decided.subtract(&peer.undecided);
        decided.intersect(&peer.missing);
        for block in owed_before.iter() {
            self.clear_owed(id, block);
        }
        decided
    }

    pub(crate) fn remove(&mut self, id: ReceiverId) {
        self.set_active(id, false);
        self.peers.remove(&id);
    }

    /// Sets if a receiver is active. An inactive receiver's sets are kept, but nothing is sent for
    /// it.
    pub(crate) fn set_active(&mut self, id: ReceiverId, active: bool) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if peer.active == active {
            return;
        }
        peer.active = active;
        for block in peer.owed.iter() {
            if active {
                add_owed(&mut self.owed_to, &mut self.wanted, block);
            } else {
                drop_owed(&mut self.owed_to, &mut self.wanted, block);
            }
        }
    }

    /// Records that the receiver has the block; true if it lacked it before.
    pub(crate) fn complete(&mut self, id: ReceiverId, block: u32) -> bool {
        self.clear_owed(id, block);
        let Some(peer) = self.peers.get_mut(&id) else {
            return false;
        };
        peer.bulk.remove(block);
        peer.undecided.remove(block);
        peer.missing.remove(block)
    }

    /// Records that the receiver lacks the block again, and gives the block to bulk; true if it was
    /// not given to bulk before.
    pub(crate) fn lose_to_bulk(&mut self, id: ReceiverId, block: u32) -> bool {
        match self.peers.get_mut(&id) {
            Some(peer) if block < self.len => {
                peer.missing.insert(block);
                self.assign_bulk(id, block)
            }
            _ => false,
        }
    }

    /// Gives a missing block to bulk; true if it was not given to bulk before.
    pub(crate) fn assign_bulk(&mut self, id: ReceiverId, block: u32) -> bool {
        self.clear_owed(id, block);
        self.peers.get_mut(&id).is_some_and(|peer| {
            peer.undecided.remove(block);
            peer.missing.contains(block) && peer.bulk.insert(block)
        })
    }

    /// Gives all missing blocks to bulk, except undecided ones; returns those that were not given
    /// to bulk before.
    pub(crate) fn assign_all_to_bulk(&mut self, id: ReceiverId) -> Vec<u32> {
        let missing: Vec<u32> = self.peers.get(&id).map_or_else(Vec::new, |peer| {
            let mut missing = peer.missing.clone();
            missing.subtract(&peer.undecided);
            missing.iter().collect()
        });
        missing
            .into_iter()
            .filter(|block| self.assign_bulk(id, *block))
            .collect()
    }

    /// Makes all blocks given to bulk owed again, because the bulk connection does not work.
    pub(crate) fn return_bulk(&mut self, id: ReceiverId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let returned = std::mem::replace(&mut peer.bulk, BlockSet::empty(self.len));
        for block in returned.iter() {
            self.owe(id, block);
        }
    }

    /// Makes a missing block owed, unless it is given to bulk or undecided.
    pub(crate) fn owe(&mut self, id: ReceiverId, block: u32) {
        if let Some(peer) = self.peers.get_mut(&id)
            && peer.missing.contains(block)
            && !peer.bulk.contains(block)
            && !peer.undecided.contains(block)
            && peer.owed.insert(block)
            && peer.active
        {
            add_owed(&mut self.owed_to, &mut self.wanted, block);
        }
    }

    /// Records that the block's source symbols are being sent: no active receiver is owed it any
    /// more.
    pub(crate) fn offered(&mut self, block: u32) {
        for peer in self.peers.values_mut().filter(|peer| peer.active) {
            peer.owed.remove(block);
        }
        if let Some(count) = self.owed_to.get_mut(block as usize) {
            *count = 0;
        }
        self.wanted.remove(block);
    }

    /// The blocks owed to at least one active receiver.
    pub(crate) fn wanted(&self) -> &BlockSet {
        &self.wanted
    }

    pub(crate) fn knows(&self, id: ReceiverId) -> bool {
        self.peers.contains_key(&id)
    }

    /// True if the receiver lacks the block and the block is not given to bulk.
    pub(crate) fn lacks(&self, id: ReceiverId, block: u32) -> bool {
        self.peers
            .get(&id)
            .is_some_and(|peer| peer.missing.contains(block) && !peer.bulk.contains(block))
    }

    /// Number of blocks that the receiver lacks, bulk included.
    pub(crate) fn missing_count(&self, id: ReceiverId) -> u32 {
        self.peers.get(&id).map_or(0, |peer| peer.missing.count())
    }

    /// Number of blocks that the receiver needs from the session: neither given to bulk nor
    /// undecided.
    pub(crate) fn open_count(&self, id: ReceiverId) -> u32 {
        self.peers.get(&id).map_or(0, |peer| {
            peer.missing
                .count()
                .saturating_sub(peer.bulk.count())
                .saturating_sub(peer.undecided.count())
        })
    }

    /// Number of blocks that the receiver still searches for on its own disk.
    pub(crate) fn undecided_count(&self, id: ReceiverId) -> u32 {
        self.peers.get(&id).map_or(0, |peer| peer.undecided.count())
    }

    /// The missing blocks that are neither given to bulk nor owed nor undecided: they were sent and
    /// are still not complete.
    pub(crate) fn offered_missing(&self, id: ReceiverId) -> Vec<u32> {
        self.peers.get(&id).map_or_else(Vec::new, |peer| {
            let mut offered = peer.missing.clone();
            offered.subtract(&peer.bulk);
            offered.subtract(&peer.owed);
            offered.subtract(&peer.undecided);
            offered.iter().collect()
        })
    }

    fn clear_owed(&mut self, id: ReceiverId, block: u32) {
        if let Some(peer) = self.peers.get_mut(&id)
            && peer.owed.remove(block)
            && peer.active
        {
            drop_owed(&mut self.owed_to, &mut self.wanted, block);
        }
    }
}

fn add_owed(owed_to: &mut [u32], wanted: &mut BlockSet, block: u32) {
    if let Some(count) = owed_to.get_mut(block as usize) {
        *count = count.saturating_add(1);
        wanted.insert(block);
    }
}

fn drop_owed(owed_to: &mut [u32], wanted: &mut BlockSet, block: u32) {
    if let Some(count) = owed_to.get_mut(block as usize) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            wanted.remove(block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ReceiverId = ReceiverId(1);
    const B: ReceiverId = ReceiverId(2);

    fn wanted(wants: &Wants) -> Vec<u32> {
        wants.wanted().iter().collect()
    }

    #[test]
    fn owed_until_offered_missing_until_complete() {
        let mut wants = Wants::new(4);
        wants.reset(A, &BlockSet::empty(4), BlockSet::empty(4), |_| false);
        wants.reset(B, &BlockSet::empty(4), BlockSet::empty(4), |block| {
            block == 3
        });
        assert_eq!(wanted(&wants), [0, 1, 2, 3]);
        wants.offered(0);
        assert!(wants.complete(A, 1));
        assert_eq!(wanted(&wants), [1, 2, 3]);
        assert!(wants.complete(A, 3));
        assert_eq!(wanted(&wants), [1, 2]);
        assert_eq!(wants.offered_missing(A), [0]);
        assert_eq!(wants.offered_missing(B), [0, 3]);
        wants.owe(B, 3);
        assert_eq!(wanted(&wants), [1, 2, 3]);
        wants.remove(B);
        assert_eq!(wanted(&wants), [2]);
    }

    #[test]
    fn bulk_takes_a_block_out_and_its_failure_brings_it_back() {
        let mut wants = Wants::new(2);
        wants.reset(A, &BlockSet::empty(2), BlockSet::empty(2), |_| false);
        assert!(wants.assign_bulk(A, 0));
        assert!(!wants.assign_bulk(A, 0));
        assert_eq!(wanted(&wants), [1]);
        assert!(!wants.lacks(A, 0));
        wants.return_bulk(A);
        assert_eq!(wanted(&wants), [0, 1]);
        assert!(wants.complete(A, 0));
        assert!(wants.lose_to_bulk(A, 0));
        assert!(!wants.lose_to_bulk(A, 9));
        assert_eq!((wants.missing_count(A), wants.open_count(A)), (2, 1));
    }

    fn set(len: u32, blocks: &[u32]) -> BlockSet {
        let mut set = BlockSet::empty(len);
        for block in blocks {
            set.insert(*block);
        }
        set
    }

    #[test]
    fn what_is_looked_for_is_owed_only_when_it_is_not_there() {
        let mut wants = Wants::new(6);
        wants.reset(A, &set(6, &[0]), set(6, &[0, 1, 2, 3]), |_| false);
        assert_eq!(wanted(&wants), [4, 5]);
        assert_eq!((wants.missing_count(A), wants.open_count(A)), (5, 2));
        // Block 1 is found, 2 is not there, 3 is still searched for; 4, which was owed, is searched
        // for after all.
        assert!(wants.complete(A, 1));
        let decided = wants.decide(A, set(6, &[0, 3, 4]));
        assert_eq!(decided.iter().collect::<Vec<_>>(), [2]);
        assert_eq!(wanted(&wants), [5]);
        wants.owe(A, 2);
        wants.owe(A, 3);
        assert_eq!(wanted(&wants), [2, 5]);
        wants.offered(2);
        assert_eq!(wants.offered_missing(A), [2]);
        // Only needed blocks are given to bulk; undecided ones are decided first.
        assert_eq!(wants.assign_all_to_bulk(A), [2, 5]);
        assert_eq!(wants.undecided_count(A), 2);
        assert!(wants.assign_bulk(A, 3));
        let decided = wants.decide(A, set(6, &[2, 3, 4]));
        assert!(decided.is_empty());
        assert_eq!(wants.undecided_count(A), 1);
        assert!(wants.decide(B, set(6, &[1])).is_empty());
    }

    #[test]
    fn the_silent_are_not_sent_to() {
        let mut wants = Wants::new(3);
        wants.reset(A, &BlockSet::empty(3), BlockSet::empty(3), |_| false);
        wants.set_active(A, false);
        wants.set_active(A, false);
        assert!(wants.wanted().is_empty());
        wants.offered(1);
        wants.set_active(A, true);
        assert_eq!(wanted(&wants), [0, 1, 2]);
    }
}
