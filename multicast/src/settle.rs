//! What happens to blocks that are still lacking when a pass is over.
//!
//! A receiver that was offered a block, has seen past its last symbol, and neither has it nor
//! works on it nor can be mended by parity, needs its source symbols once more. When few need
//! a block, their own connections bring it; when many do, it goes out again.
//!
//! A receiver that multicast does not reach gets everything by bulk and is not waited for.
//!
//! Never decides about a block while somebody's answer on it is still on its way.

use crate::layout::{BlockKey, ObjectId};
use crate::ledger::Ledger;
use crate::peer::Peer;
use crate::sender::ReceiverId;
use crate::time::Instant;
use crate::wants::Wants;
use std::collections::BTreeMap;

/// Times a block is sent as source before whoever still lacks it must use bulk.
pub(crate) const MAX_GOES: u16 = 8;

/// What was decided, block by block.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    pub(crate) bulk: Vec<(ReceiverId, u32)>,
    pub(crate) again: Vec<(ReceiverId, u32)>,
}

enum Need {
    /// Somebody's answer is on its way, or it works on it.
    Open,
    /// These need its source symbols.
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
