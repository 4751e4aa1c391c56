//! Bookkeeping for each block of an object: the symbols sent, and the symbols still requested.
//!
//! Owns the *answered rule*: a receiver's deficit counts only if the same status shows that the
//! receiver has seen a packet number at or past the last symbol sent for that block, on each lane
//! that carried any. This way a repair that is still under way is never ordered twice, and no timer
//! is needed.
//!
//! The deficits of a block are collected until every healthy receiver has reported since the
//! block's last symbol, or until a bounded hold is over. Then the largest deficit, and a [`spare`]
//! or two, is queued once for everyone. Waiting for the slowest report costs buffers at the
//! receivers but no bandwidth; a separate answer to each report would cost bandwidth.
//!
//! A *go* is one transmission of a block's source symbols with everything that follows until the
//! source is sent again. Bounds: in one go a block gets at most 256 parity symbols (each index
//! once) in at most [`MAX_ROUNDS`] answers; a receiver that still lacks the block gets it from the
//! carousel again or by bulk. A block is in the queue at most once.

use crate::block::layout::PARITY_SYMBOLS;
use crate::packet::wire::{Lane, PerLane};
use crate::sender::ReceiverId;
use crate::time::{Duration, Instant};
use std::collections::{BTreeMap, VecDeque};

/// Largest number of symbols sent beyond the largest deficit, so that the loss of some repair
/// symbols does not need another repair.
const MAX_SPARE: u16 = 2;
/// Largest number of answers for a block in one go.
pub(crate) const MAX_ROUNDS: u8 = 16;

/// The highest packet counter that a receiver has seen, for each lane.
pub(crate) type Seen = PerLane<Option<u64>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Unsent,
    Sending,
    Sent,
}

#[derive(Clone, Debug)]
struct Account {
    k: u16,
    stage: Stage,
    /// Lane and packet counter of the first source symbol of this go.
    first: Option<(Lane, u64)>,
    last: Seen,
    /// Next parity index. It continues from go to go, so that a go begins with the symbols that
    /// receivers are least likely to have.
    parity_next: u16,
    /// Number of parity symbols sent in this go.
    parity_used: u16,
    /// Number of symbols of the current answer that are not sent yet.
    pending: u16,
    rounds: u8,
    goes: u16,
    worst: Option<ReceiverId>,
    deficit: u16,
    /// Largest deficit of any receiver but the worst.
    runner_up: u16,
}

/// Number of symbols to send beyond a deficit of `missing`.
///
/// A receiver that lost `missing` of `k` loses about `missing * missing / k` of the repair too.
/// Below an eighth of a symbol, a spare costs more than the rare second answer it saves.
fn spare(missing: u16, k: u16) -> u16 {
    let missing = u64::from(missing);
    let eighths = (missing * missing * 8)
        .checked_div(u64::from(k))
        .unwrap_or(0);
    u16::try_from(eighths.div_ceil(8))
        .unwrap_or(MAX_SPARE)
        .min(if eighths == 0 { 0 } else { MAX_SPARE })
}

/// The sender's verdict on a deficit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// The deficit is valid and will be answered.
    Counted,
    /// The receiver had not seen everything sent for the block yet: see the answered rule.
    Early,
    /// The block does not exist, or the deficit is zero or larger than the block.
    Absurd,
    /// More symbols than parity has left in this go, or too many answers already.
    Spent,
}

/// One answer: the parity of one block to be sent for all receivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) k: u16,
    pub(crate) deficit: u16,
    pub(crate) runner_up: u16,
    pub(crate) worst: Option<ReceiverId>,
    /// For the first answer in this go: the number of parity symbols sent before it. `None` for
    /// later answers.
    pub(crate) first_after: Option<u16>,
}

/// One parity symbol to send as repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Repair {
    pub(crate) block: u32,
    pub(crate) k: u16,
    pub(crate) parity: u16,
    /// True for the last symbol of this answer.
    pub(crate) last: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    accounts: Vec<Account>,
    /// Blocks whose deficits are being collected, and the time of the first deficit.
    waiting: BTreeMap<u32, Instant>,
    queue: VecDeque<u32>,
}

impl Ledger {
    pub(crate) fn new(symbol_counts: &[u16]) -> Self {
        Self {
            accounts: symbol_counts
                .iter()
                .map(|k| Account {
                    k: *k,
                    stage: Stage::Unsent,
                    first: None,
                    last: PerLane::default(),
                    parity_next: 0,
                    parity_used: 0,
                    pending: 0,
                    rounds: 0,
                    goes: 0,
                    worst: None,
                    deficit: 0,
                    runner_up: 0,
                })
                .collect(),
            waiting: BTreeMap::new(),
            queue: VecDeque::new(),
        }
    }

    pub(crate) fn len(&self) -> u32 {
        u32::try_from(self.accounts.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn k(&self, block: u32) -> u16 {
        self.account(block).map_or(0, |account| account.k)
    }

    /// Number of times the block's source symbols were sent.
    pub(crate) fn goes(&self, block: u32) -> u16 {
        self.account(block).map_or(0, |account| account.goes)
    }

    /// Begins a go: the block's source symbols are sent from now on.
    pub(crate) fn begin(&mut self, block: u32) {
        self.waiting.remove(&block);
        if let Some(account) = self.accounts.get_mut(block as usize) {
            account.stage = Stage::Sending;
            account.first = None;
            account.parity_used = 0;
            account.pending = 0;
            account.rounds = 0;
            account.goes = account.goes.saturating_add(1);
            account.worst = None;
            account.deficit = 0;
            account.runner_up = 0;
        }
    }

    /// Ends the sending part of a go: deficits count from now on.
    pub(crate) fn end(&mut self, block: u32) {
        if let Some(account) = self.accounts.get_mut(block as usize) {
            account.stage = Stage::Sent;
        }
    }

    /// Records the packet number of a symbol of the block.
    pub(crate) fn sent(&mut self, block: u32, lane: Lane, counter: u64) {
        if let Some(account) = self.accounts.get_mut(block as usize) {
            account.first.get_or_insert((lane, counter));
            *account.last.get_mut(lane) = Some(counter);
        }
    }

    /// Takes the next unused parity index of the block; `None` if all were used in this go.
    pub(crate) fn take_parity(&mut self, block: u32) -> Option<u16> {
        let account = self.accounts.get_mut(block as usize)?;
        if account.parity_used >= PARITY_SYMBOLS {
            return None;
        }
        let index = account.parity_next;
        account.parity_next = (index + 1) % PARITY_SYMBOLS;
        account.parity_used += 1;
        Some(index)
    }

    /// True if a receiver that has seen `seen` has seen the block's last symbol.
    pub(crate) fn has_passed(&self, block: u32, seen: &Seen) -> bool {
        self.account(block).is_some_and(|account| {
            account.stage == Stage::Sent
                && Lane::ALL
                    .into_iter()
                    .all(|lane| seen.get(lane) >= account.last.get(lane))
        })
    }

    /// True if a receiver that has seen `seen` has seen a packet after the block's last symbol on
    /// the lane of its source.
    ///
    /// Only then does the absence of the block in a status mean that the receiver does not hold it.
    pub(crate) fn has_left(&self, block: u32, seen: &Seen) -> bool {
        self.has_passed(block, seen)
            && self.account(block).is_some_and(|account| {
                account
                    .first
                    .is_none_or(|(lane, _)| seen.get(lane) > account.last.get(lane))
            })
    }

    /// True if a receiver that has seen `seen` has not reached the end of the block's source
    /// symbols: they are still to come, or are arriving and their result is not reported yet.
    pub(crate) fn is_coming(&self, block: u32, seen: &Seen) -> bool {
        self.account(block).is_some_and(|account| {
            account.first.is_some_and(|(lane, _)| {
                seen.get(lane).is_some_and(|seen| {
                    account.stage == Stage::Sending || Some(seen) <= *account.last.get(lane)
                })
            })
        })
    }

    /// True if parity can still repair `missing` symbols in this go.
    pub(crate) fn can_mend(&self, block: u32, missing: u16) -> bool {
        self.account(block).is_some_and(|account| {
            missing <= PARITY_SYMBOLS - account.parity_used.min(PARITY_SYMBOLS)
                && account.rounds < MAX_ROUNDS
        })
    }

    /// Records that `id`, having seen `seen`, needs `missing` more symbols of the block.
    pub(crate) fn claim(
        &mut self,
        now: Instant,
        block: u32,
        id: ReceiverId,
        missing: u16,
        seen: &Seen,
    ) -> Claim {
        let (can_mend, has_passed) = (self.can_mend(block, missing), self.has_passed(block, seen));
        let Some(account) = self.accounts.get_mut(block as usize) else {
            return Claim::Absurd;
        };
        if missing == 0 || missing > account.k {
            return Claim::Absurd;
        }
        if !has_passed {
            return Claim::Early;
        }
        if !can_mend {
            return Claim::Spent;
        }
        if account.pending > 0 {
            // The report came after everything sent so far, so the pending symbols must cover it.
            let left = PARITY_SYMBOLS - account.parity_used;
            let wanted = missing + spare(missing, account.k);
            account.pending = account.pending.max(wanted.min(left));
            return Claim::Counted;
        }
        if account.worst == Some(id) {
            account.deficit = account.deficit.max(missing);
        } else if missing > account.deficit {
            account.runner_up = account.deficit;
            account.deficit = missing;
            account.worst = Some(id);
        } else {
            account.runner_up = account.runner_up.max(missing);
        }
        self.waiting.entry(block).or_insert(now);
        Claim::Counted
    }

    /// Selects the blocks to answer now: those that all healthy receivers have seen the end of
    /// (`spoken`), those collected for `hold`, or all of them in a `hurry`.
    pub(crate) fn answer(
        &mut self,
        now: Instant,
        spoken: &Seen,
        hold: Duration,
        hurry: bool,
    ) -> Vec<Answer> {
        let due: Vec<u32> = self
            .waiting
            .iter()
            .filter(|(block, since)| {
                hurry || now.saturating_since(**since) >= hold || self.has_passed(**block, spoken)
            })
            .map(|(block, _)| *block)
            .collect();
        let mut answers = Vec::with_capacity(due.len());
        for block in due {
            self.waiting.remove(&block);
            let Some(account) = self.accounts.get_mut(block as usize) else {
                continue;
            };
            let left = PARITY_SYMBOLS - account.parity_used.min(PARITY_SYMBOLS);
            answers.push(Answer {
                k: account.k,
                deficit: account.deficit,
                runner_up: account.runner_up,
                worst: account.worst,
                first_after: (account.rounds == 0).then_some(account.parity_used),
            });
            let spare = spare(account.deficit, account.k);
            account.pending = account.deficit.saturating_add(spare).min(left);
            account.rounds = account.rounds.saturating_add(1);
            account.worst = None;
            account.deficit = 0;
            account.runner_up = 0;
            if account.pending > 0 {
                self.queue.push_back(block);
            }
        }
        answers
    }

    /// True if a block is in the queue, even one without pending symbols.
    pub(crate) fn is_repairing(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Blocks with repair queued, oldest answer first.
    pub(crate) fn queued(&self) -> impl Iterator<Item = u32> + '_ {
        self.queue.iter().copied().filter(|block| {
            self.account(*block)
                .is_some_and(|account| account.pending > 0 && account.stage == Stage::Sent)
        })
    }

    /// True if a repair symbol can be sent; removes finished blocks from the head of the queue.
    pub(crate) fn has_repair(&mut self) -> bool {
        while let Some(block) = self.queue.front() {
            match self.accounts.get(*block as usize) {
                Some(account) if account.pending > 0 && account.stage == Stage::Sent => {
                    return true;
                }
                _ => self.queue.pop_front(),
            };
        }
        false
    }

    /// The next repair symbol, oldest answer first.
    pub(crate) fn next_repair(&mut self) -> Option<Repair> {
        if !self.has_repair() {
            return None;
        }
        let block = *self.queue.front()?;
        let Some(parity) = self.take_parity(block) else {
            self.queue.pop_front();
            return None;
        };
        let account = self.accounts.get_mut(block as usize)?;
        account.pending = account.pending.saturating_sub(1);
        let (k, last) = (account.k, account.pending == 0);
        if last {
            self.queue.pop_front();
        }
        Some(Repair {
            block,
            k,
            parity,
            last,
        })
    }

    /// True if no deficits are being collected and no repair is queued.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.waiting.is_empty() && !self.has_repair()
    }

    /// True if deficits of the block are being collected or were answered in this go.
    pub(crate) fn was_claimed(&self, block: u32) -> bool {
        self.waiting.contains_key(&block)
            || self
                .account(block)
                .is_some_and(|account| account.rounds > 0)
    }

    fn account(&self, block: u32) -> Option<&Account> {
        self.accounts.get(block as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ReceiverId = ReceiverId(1);
    const B: ReceiverId = ReceiverId(2);
    const NOW: Instant = Instant::ZERO;
    const HOLD: Duration = Duration::from_millis(100);

    fn seen(main: u64, second: u64) -> Seen {
        PerLane {
            main: Some(main),
            second: Some(second),
        }
    }

    fn sent_block() -> Ledger {
        let mut ledger = Ledger::new(&[10]);
        ledger.begin(0);
        for counter in 0..10 {
            ledger.sent(0, Lane::Main, counter);
        }
        ledger.end(0);
        ledger
    }

    #[test]
    fn the_largest_deficit_is_answered_once_for_everyone() {
        let mut ledger = sent_block();
        assert_eq!(ledger.claim(NOW, 0, A, 2, &seen(9, 0)), Claim::Counted);
        assert!(ledger.answer(NOW, &seen(8, 0), HOLD, false).is_empty());
        assert_eq!(ledger.claim(NOW, 0, B, 4, &seen(9, 0)), Claim::Counted);
        let answers = ledger.answer(NOW, &seen(9, 0), HOLD, false);
        assert_eq!(answers.len(), 1);
        assert_eq!((answers[0].deficit, answers[0].runner_up), (4, 2));
        let mut parity = Vec::new();
        while let Some(repair) = ledger.next_repair() {
            ledger.sent(0, Lane::Second, u64::from(repair.parity));
            parity.push(repair.parity);
        }
        assert_eq!(parity, [0, 1, 2, 3, 4, 5]);
        assert!(ledger.is_quiet());
        // This report was made before the repair was seen, so it is answered already.
        assert_eq!(ledger.claim(NOW, 0, A, 2, &seen(50, 4)), Claim::Early);
        assert_eq!(ledger.claim(NOW, 0, A, 1, &seen(50, 5)), Claim::Counted);
    }

    #[test]
    fn spares_follow_the_loss() {
        assert_eq!(
            [1, 9, 10, 16, 28, 29, 200].map(|d| spare(d, 745)),
            [0, 0, 1, 1, 1, 2, 2]
        );
        assert_eq!((spare(1, 1), spare(1, 0), spare(u16::MAX, 1)), (1, 0, 2));
    }

    #[test]
    fn a_hold_ends_by_itself() {
        let mut ledger = sent_block();
        ledger.claim(NOW, 0, A, 2, &seen(9, 0));
        assert_eq!(
            ledger
                .answer(NOW + HOLD, &Seen::default(), HOLD, false)
                .len(),
            1
        );
    }

    #[test]
    fn absurd_claims_are_refused_and_answers_bounded() {
        let mut ledger = sent_block();
        assert_eq!(ledger.claim(NOW, 0, A, 11, &seen(9, 0)), Claim::Absurd);
        assert_eq!(ledger.claim(NOW, 0, A, 0, &seen(9, 0)), Claim::Absurd);
        assert_eq!(ledger.claim(NOW, 7, A, 1, &seen(9, 0)), Claim::Absurd);
        let mut sent = 0;
        let all = seen(u64::MAX, u64::MAX);
        while ledger.claim(NOW, 0, A, 10, &all) == Claim::Counted {
            ledger.answer(NOW, &all, HOLD, true);
            while ledger.next_repair().is_some() {
                sent += 1;
            }
        }
        assert!(sent <= 12 * u32::from(MAX_ROUNDS) && sent <= u32::from(PARITY_SYMBOLS));
        assert_eq!(ledger.claim(NOW, 0, A, 10, &all), Claim::Spent);
        // A new transmission of the source starts a new account.
        ledger.begin(0);
        assert_eq!(ledger.claim(NOW, 0, A, 1, &all), Claim::Early);
        ledger.end(0);
        assert_eq!(ledger.claim(NOW, 0, A, 1, &all), Claim::Counted);
    }
}
