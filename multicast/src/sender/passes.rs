//! The periodic work of a sender: silence, the rate, and the end of a pass.

use super::{ReceiverId, Sender, SenderEvent, TICK};
use crate::block::layout::{BlockKey, ObjectId};
use crate::packet::status::status_interval;
use crate::sender::peer::SILENT;
use crate::sender::settle;
use crate::time::Instant;
use std::collections::BTreeMap;

impl Sender {
    pub(super) fn tick(&mut self, now: Instant) {
        self.next_tick = now + TICK;
        for (id, peer) in &mut self.peers {
            if !peer.silent && now.saturating_since(peer.last_status_at) >= SILENT {
                peer.silent = true;
                self.waiting = self.waiting.saturating_sub(usize::from(!peer.complete));
                self.manifest.wants.set_active(*id, false);
                self.image.wants.set_active(*id, false);
                self.rate.forget(*id);
                self.events.push_back(SenderEvent::ReceiverSilent(*id));
            }
        }
        if self.rate.evaluate(now, status_interval(self.peers.len())) {
            self.pacer.set_rate(self.rate.rate());
        }
        self.judge_standing(now);
        self.digest(now);
        self.settle(now);
    }

    /// Demotes receivers that skip too many blocks, and promotes those that keep up again.
    fn judge_standing(&mut self, now: Instant) {
        let healthy = self.peers.values().filter(|peer| peer.is_healthy()).count();
        let (sent, usual) = (self.sent, self.rate.usual_loss());
        let mut changes = Vec::new();
        for (id, peer) in &mut self.peers {
            if peer.silent || peer.complete || !peer.image_open {
                continue;
            }
            if let Some(change) = peer.standing.judge(now, sent, usual, healthy > 1) {
                changes.push((*id, change));
            }
        }
        for (id, change) in changes {
            self.standing_changed(id, change);
        }
    }

    /// Decides at the end of a pass which missing blocks go by bulk and which are sent again.
    fn settle(&mut self, now: Instant) {
        self.settle_object(now, ObjectId::Manifest);
        if self.image.has_source() {
            self.pass_open = true;
            return;
        }
        if self.pass_open {
            let restored: Vec<_> = self
                .peers
                .iter_mut()
                .filter_map(|(id, peer)| Some((*id, peer.standing.restore()?)))
                .collect();
            for (id, change) in restored {
                self.standing_changed(id, change);
            }
        }
        let again = self.settle_object(now, ObjectId::Image);
        // While a receiver still searches its disk, more blocks may be wanted at any time, so an
        // idle sender does not mean the end of the pass.
        let looking = self
            .peers
            .iter()
            .any(|(id, peer)| !peer.silent && self.image.wants.undecided_count(*id) > 0);
        if self.pass_open && (again > 0 || !looking && self.image.ledger.is_quiet()) {
            self.events.push_back(SenderEvent::PassEnded {
                pass: self.pass,
                again,
            });
            self.pass_open = false;
            if again > 0 {
                self.pass = self.pass.saturating_add(1);
            }
        }
    }

    fn settle_object(&mut self, now: Instant, id: ObjectId) -> u32 {
        let bulk_receivers = self.config.bulk_receivers;
        let object = match id {
            ObjectId::Manifest => &mut self.manifest,
            ObjectId::Image => &mut self.image,
        };
        if object.has_source() || !object.ledger.is_quiet() {
            return 0;
        }
        let settled = settle::settle(
            now,
            id,
            &self.peers,
            &object.wants,
            &object.ledger,
            bulk_receivers,
        );
        let mut bulk: BTreeMap<ReceiverId, Vec<BlockKey>> = BTreeMap::new();
        for (receiver, index) in settled.bulk {
            if object.wants.assign_bulk(receiver, index) {
                bulk.entry(receiver)
                    .or_default()
                    .push(BlockKey { object: id, index });
            }
        }
        for (receiver, index) in settled.again {
            object.wants.owe(receiver, index);
        }
        let again = object.wants.wanted().count();
        for (receiver, blocks) in bulk {
            self.use_bulk(receiver, blocks);
        }
        again
    }
}
