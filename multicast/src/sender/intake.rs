//! Processing of statuses: it updates the blocks each receiver lacks, the deficits of each block,
//! the demotions and the hold.
//!
//! Everything in a status is only a claim: impossible values are ignored, and no list is read past
//! its bound.

use super::object::Object;
use super::{Pace, ReceiverId, Sender, SenderEvent};
use crate::block::blockset::BlockSet;
use crate::block::layout::{BlockKey, ObjectId};
use crate::packet::status::{MAX_BAD, MAX_DEFICITS, MAX_RANGES, Status, status_interval};
use crate::packet::wire::PerLane;
use crate::sender::ledger::{Answer, Claim, Seen};
use crate::sender::peer::MAX_BAD_BLOCKS;
use crate::sender::room::HOLD_LIMIT;
use crate::sender::standing::Change;
use crate::time::{Duration, Instant};

/// Deficits are answered at once if a healthy receiver has fewer free buffers than this. Pools are
/// at least twice as large.
const HURRY_BUFFERS: u32 = 8;

/// Shortest time between two digests, for each receiver: 4 ms with a thousand.
const DIGEST_REST: Duration = Duration::from_micros(4);

impl Sender {
    /// Processes a receiver's status. Everything in it is only a claim: impossible values are
    /// ignored.
    pub fn handle_status(&mut self, now: Instant, id: ReceiverId, status: &Status) {
        let Some(peer) = self.peers.get_mut(&id) else {
            self.counters.statuses_refused += 1;
            return;
        };
        let known = peer.sequence.is_some();
        let newer = peer.sequence.is_none_or(|last| status.sequence > last);
        if !(status.full || known && newer) {
            self.counters.statuses_refused += 1;
            return;
        }
        self.counters.statuses += 1;
        let opened = status.image_open && (status.full || !peer.image_open);
        let progressed = peer.take(now, status, &self.next_number);
        let seen = peer.seen;
        if peer.silent {
            peer.silent = false;
            self.waiting += usize::from(!peer.complete);
            self.manifest.wants.set_active(id, true);
            self.image.wants.set_active(id, true);
            self.events.push_back(SenderEvent::ReceiverBack(id));
        }
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.image_open = status.image_open || (peer.image_open && !status.full);
            if known {
                peer.standing
                    .count(progressed.received, progressed.lost, progressed.skipped);
            }
            if peer.is_healthy() && known {
                self.rate.sample(
                    now,
                    id,
                    progressed.received,
                    progressed.lost,
                    progressed.kernel,
                );
            }
        }
        if status.full || !known {
            self.take_picture(ObjectId::Manifest, id, status, &seen);
            if self.peers.get(&id).is_some_and(|peer| peer.bulk_only) {
                self.all_to_bulk(ObjectId::Manifest, id);
            }
        }
        if opened {
            self.take_picture(ObjectId::Image, id, status, &seen);
            if self.peers.get(&id).is_some_and(|peer| peer.is_deaf(now)) {
                self.all_to_bulk(ObjectId::Image, id);
            }
        } else if status.full {
            // The receiver restarted and has not read the manifest yet.
            self.image.wants.remove(id);
        }
        self.take_completed(id, status);
        if !opened {
            self.take_undecided(now, id, status, &seen);
        }
        self.take_bad(id, status);
        self.take_deficits(now, id, &seen);
        self.check_complete(id);
        self.news = true;
    }

    /// Acts on the statuses since the last digest: answers deficits and judges the free buffers. It
    /// goes over all receivers, so in a large room it does not run for each status.
    pub(super) fn digest(&mut self, now: Instant) {
        self.news = false;
        self.digest_at = now + DIGEST_REST.times(self.peers.len() as u64);
        self.answer(now);
        self.judge_room(now);
    }

    /// Replaces the record of a receiver's blocks by the full status: the blocks it has, and the
    /// missing ones it has begun or will see soon.
    fn take_picture(&mut self, object: ObjectId, id: ReceiverId, status: &Status, seen: &Seen) {
        let Some(peer) = self.peers.get(&id) else {
            return;
        };
        let deficits = peer.deficits.clone();
        let held = peer.clone();
        let Object { wants, ledger, .. } = self.object_mut(object);
        let mut have = BlockSet::empty(ledger.len());
        for range in status.completed.iter().take(MAX_RANGES) {
            if range.object() == Some(object) {
                have.insert_range(range.blocks());
            }
        }
        let undecided = undecided(object, ledger.len(), status);
        wants.reset(id, &have, undecided, |index| {
            let key = BlockKey { object, index };
            deficits.contains_key(&key) || held.holds(key) || ledger.is_coming(index, seen)
        });
    }

    /// Updates the blocks that a receiver still searches for on its disk.
    ///
    /// A missing block that it does not search for any more becomes owed, unless the receiver has
    /// begun it or will see it soon.
    fn take_undecided(&mut self, now: Instant, id: ReceiverId, status: &Status, seen: &Seen) {
        let object = ObjectId::Image;
        let Some(peer) = self.peers.get(&id) else {
            return;
        };
        let Object { wants, ledger, .. } = &mut self.image;
        if status.undecided.is_empty() && wants.undecided_count(id) == 0 {
            return;
        }
        let decided = wants.decide(id, undecided(object, ledger.len(), status));
        let mut bulk = Vec::new();
        for index in decided.iter() {
            let block = BlockKey { object, index };
            if peer.is_deaf(now) {
                if wants.assign_bulk(id, index) {
                    bulk.push(block);
                }
            } else if !(peer.deficits.contains_key(&block)
                || peer.holds(block)
                || ledger.is_coming(index, seen))
            {
                wants.owe(id, index);
            }
        }
        self.use_bulk(id, bulk);
    }

    fn take_completed(&mut self, id: ReceiverId, status: &Status) {
        // Overlapping ranges are false; the budget allows two visits of each block.
        let mut budget = u64::from(self.manifest.ledger.len())
            .saturating_add(u64::from(self.image.ledger.len()))
            .saturating_mul(2);
        for range in status.completed.iter().take(MAX_RANGES) {
            let Some(object) = range.object() else {
                continue;
            };
            let object = self.object_mut(object);
            let blocks = range.blocks();
            for index in blocks.start..blocks.end.min(object.ledger.len()) {
                if budget == 0 {
                    return;
                }
                budget -= 1;
                object.wants.complete(id, index);
            }
        }
    }

    fn take_bad(&mut self, id: ReceiverId, status: &Status) {
        let mut blocks = Vec::new();
        for range in status.bad.iter().take(MAX_BAD) {
            let Some(object) = range.object() else {
                continue;
            };
            let index = range.blocks().start;
            let Some(peer) = self.peers.get_mut(&id) else {
                return;
            };
            if peer.bad_blocks >= MAX_BAD_BLOCKS {
                return;
            }
            peer.bad_blocks += 1;
            let wants = &mut self.object_mut(object).wants;
            if wants.lose_to_bulk(id, index) {
                blocks.push(BlockKey { object, index });
            }
        }
        self.use_bulk(id, blocks);
    }

    fn take_deficits(&mut self, now: Instant, id: ReceiverId, seen: &Seen) {
        let Some(peer) = self.peers.get(&id) else {
            return;
        };
        // A lossy receiver's deficits count only while no pass would be delayed by them.
        if peer.standing.is_lossy() && self.image.has_source() {
            return;
        }
        let claims: Vec<(BlockKey, u16)> = peer
            .deficits
            .iter()
            .take(MAX_DEFICITS)
            .map(|(block, missing)| (*block, *missing))
            .collect();
        for (block, missing) in claims {
            let object = self.object_mut(block.object);
            let claim = if object.wants.lacks(id, block.index) {
                object.ledger.claim(now, block.index, id, missing, seen)
            } else {
                Claim::Absurd
            };
            match claim {
                Claim::Counted => {}
                Claim::Early => self.counters.deficits_early += 1,
                Claim::Absurd => self.counters.deficits_absurd += 1,
                Claim::Spent => self.counters.deficits_spent += 1,
            }
        }
    }

    fn check_complete(&mut self, id: ReceiverId) {
        let done = self.manifest.wants.missing_count(id) == 0
            && self.image.wants.knows(id)
            && self.image.wants.missing_count(id) == 0;
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let done = done && peer.image_open;
        if done && !peer.complete {
            self.events.push_back(SenderEvent::ReceiverComplete(id));
            self.rate.forget(id);
        }
        if done != peer.complete && !peer.silent {
            if done {
                self.waiting = self.waiting.saturating_sub(1);
            } else {
                self.waiting += 1;
            }
        }
        peer.complete = done;
    }

    /// The packet counters that every healthy receiver with open blocks of the object has seen.
    fn spoken(&self, object: &Object) -> Seen {
        let mut spoken: Option<Seen> = None;
        for (id, peer) in &self.peers {
            if !peer.is_healthy() || !peer.wants(object.id) || object.wants.open_count(*id) == 0 {
                continue;
            }
            spoken = Some(spoken.map_or(peer.seen, |so_far| PerLane {
                main: so_far.main.min(peer.seen.main),
                second: so_far.second.min(peer.seen.second),
            }));
        }
        spoken.unwrap_or_default()
    }

    pub(super) fn answer(&mut self, now: Instant) {
        let hold = self.hold();
        let hurry = self
            .peers
            .values()
            .any(|peer| peer.is_healthy() && peer.image_open && peer.free_buffers < HURRY_BUFFERS);
        let spoken = self.spoken(&self.image);
        let answers = self.image.ledger.answer(now, &spoken, hold, hurry);
        for answer in answers {
            self.take_answer(answer);
        }
        self.proactive.judge(&self.image.ledger, &spoken);
        let spoken = self.spoken(&self.manifest);
        let answers = self.manifest.ledger.answer(now, &spoken, hold, false);
        self.counters.answers += answers.len() as u64;
    }

    fn take_answer(&mut self, answer: Answer) {
        self.counters.answers += 1;
        if let Some(before) = answer.first_after {
            self.proactive.needed(answer.deficit.saturating_add(before));
        }
        // A receiver that is alone slows nobody.
        let healthy = self.peers.values().filter(|peer| peer.is_healthy()).count();
        if healthy < 2 {
            return;
        }
        let gap = answer.deficit.saturating_sub(answer.runner_up);
        let usual = self.rate.usual_loss();
        if let Some(worst) = answer.worst
            && let Some(peer) = self.peers.get_mut(&worst)
            && let Some(change) = peer.standing.strike(gap, answer.k, usual)
        {
            self.standing_changed(worst, change);
        }
    }

    /// Reports the demotion or promotion of a receiver.
    pub(super) fn standing_changed(&mut self, receiver: ReceiverId, change: Change) {
        self.events.push_back(match change {
            Change::Demoted(reason) => {
                self.rate.forget(receiver);
                SenderEvent::Demoted { receiver, reason }
            }
            Change::Promoted => SenderEvent::Promoted(receiver),
        });
    }

    /// Longest time for which the deficits of a block are collected: every receiver reports within
    /// one and a half intervals.
    fn hold(&self) -> Duration {
        let interval = status_interval(self.peers.len());
        interval + Duration::from_micros(interval.as_micros() * 6 / 10)
    }

    pub(super) fn judge_room(&mut self, now: Instant) {
        let Self {
            peers, room, image, ..
        } = self;
        let everyone = self.config.pace == Pace::Everyone;
        let mut estimates = Vec::with_capacity(peers.len());
        for (id, peer) in peers.iter_mut() {
            if peer.silent || !peer.image_open || image.wants.open_count(*id) == 0 {
                continue;
            }
            let free = room.estimate(peer.free_buffers, &peer.seen);
            // A receiver without a free buffer for the length of a hold has a disk that hangs. The
            // pace `Everyone` does not wait for it, nor for a lossy receiver, whose buffers wait
            // for repair that is not sent.
            let since = (free == 0).then(|| peer.full_since.unwrap_or(now));
            peer.full_since = since;
            let hangs = since.is_some_and(|since| now.saturating_since(since) >= HOLD_LIMIT);
            if !(everyone && (hangs || peer.standing.is_lossy())) {
                estimates.push(free);
            }
        }
        room.judge(now, estimates.into_iter());
    }

    pub(super) fn all_to_bulk(&mut self, object: ObjectId, id: ReceiverId) {
        let blocks = self.object_mut(object).wants.assign_all_to_bulk(id);
        let blocks = blocks
            .into_iter()
            .map(|index| BlockKey { object, index })
            .collect();
        self.use_bulk(id, blocks);
    }

    pub(super) fn use_bulk(&mut self, receiver: ReceiverId, blocks: Vec<BlockKey>) {
        if !blocks.is_empty() {
            self.events
                .push_back(SenderEvent::UseBulk { receiver, blocks });
        }
    }
}

/// The blocks of an object that a status lists as undecided. Ranges that do not ascend are invalid
/// and ignored, so hostile lists cost no more than honest ones.
fn undecided(object: ObjectId, len: u32, status: &Status) -> BlockSet {
    let mut set = BlockSet::empty(len);
    let mut from = 0;
    for range in status.undecided.iter().take(MAX_RANGES) {
        let blocks = range.blocks();
        if range.object() == Some(object) && blocks.start >= from {
            from = blocks.end;
            set.insert_range(blocks);
        }
    }
    set
}
