//! The decision on blocks that are still missing when a pass is over.
//!
//! A receiver needs a block's source symbols again if it has seen a packet after the block's last
//! symbol, does not have the block, does not hold all its symbols, and cannot be helped by parity.
//! If few receivers need a block, they fetch it over their own connections; if many do, it is sent
//! again by multicast.
//!
//! A receiver that multicast does not reach gets everything by bulk, and the session does not wait
//! for it.
//!
//! Never decides on a block while a receiver's report on it is still to come.

use crate::block::layout::{BlockKey, ObjectId};
use crate::sender::ReceiverId;
use crate::sender::ledger::Ledger;
use crate::sender::peer::Peer;
use crate::sender::wants::Wants;
use crate::time::Instant;
use std::collections::BTreeMap;

/// Number of times a block is sent as source before receivers that still lack it must use bulk.
pub(crate) const MAX_GOES: u16 = 8;

/// The decisions: pairs of receiver and block, sorted by block except for receivers without
/// multicast.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    pub(crate) bulk: Vec<(ReceiverId, u32)>,
    pub(crate) again: Vec<(ReceiverId, u32)>,
}

enum Need {
    /// A receiver's report is still to come, or it works on the block.
    Open,
    /// These receivers need the block's source symbols.
    By(Vec<ReceiverId>),
}

pub(crate) fn settle(
    now: Instant,
    object: ObjectId,
    peers: &BTreeMap<ReceiverId, Peer>,
    wants: &Wants,
    ledger: &Ledger,
    bulk_receivers: usize,
) -> Settled {
    let mut settled = Settled::default();
    let mut needs: BTreeMap<u32, Need> = BTreeMap::new();
    for (id, peer) in peers {
        if peer.silent || !peer.wants(object) {
            continue;
        }
        for index in wants.offered_missing(*id) {
            let block = BlockKey { object, index };
            if peer.is_deaf(now) {
                if !peer.holds(block) {
                    settled.bulk.push((*id, index));
                }
                continue;
            }
            let mendable = peer
                .deficits
                .get(&block)
                .map(|missing| ledger.can_mend(index, *missing));
            let open =
                !ledger.has_left(index, &peer.seen) || peer.holds(block) || mendable == Some(true);
            let need = needs.entry(index).or_insert_with(|| Need::By(Vec::new()));
            match need {
                Need::By(_) if open => *need = Need::Open,
                Need::By(ids) => ids.push(*id),
                Need::Open => {}
            }
        }
    }
    for (index, need) in needs {
        let Need::By(ids) = need else { continue };
        let bulk = ids.len() <= bulk_receivers || ledger.goes(index) >= MAX_GOES;
        let list = if bulk {
            &mut settled.bulk
        } else {
            &mut settled.again
        };
        list.extend(ids.into_iter().map(|id| (id, index)));
    }
    settled
}
