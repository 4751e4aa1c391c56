//! What was sent of each block of an object, and what is still asked of it.
//!
//! Owns: the *answered rule*. A receiver's deficit counts only when the same status shows
//! that it has seen a number at or past the last symbol sent for that block, on each lane
//! that carried any. A repair under way is therefore never ordered twice, and no timer is
//! needed to guess whether one is.
//!
//! Deficits of a block are gathered until every healthy receiver has spoken since its last
//! symbol, or a bounded hold is over; then the largest one, and a [`spare`] or two, goes
//! into the queue once for everyone. Waiting for the slowest report costs buffers at receivers, not
//! wire; answering each report by itself costs wire.
//!
//! Bounds: a block gets at most 256 parity symbols in one go (each index once) in at most
//! [`MAX_ROUNDS`] answers; what that does not mend goes back to the carousel or to bulk.
//! A block is in the queue at most once.

use crate::layout::PARITY_SYMBOLS;
use crate::sender::ReceiverId;
use crate::time::{Duration, Instant};
use crate::wire::{Lane, PerLane};
use std::collections::{BTreeMap, VecDeque};

/// Most symbols sent beyond the largest deficit, so that a repair which loses some itself
/// need not be repaired.
const MAX_SPARE: u16 = 2;
/// Most answers for a block in one go.
pub(crate) const MAX_ROUNDS: u8 = 16;

/// Highest packet counters that somebody has seen.
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
    /// First source symbol of this go.
    first: Option<(Lane, u64)>,
    last: Seen,
    /// Next parity index; goes on round from go to go, so that a go begins with symbols that
    /// receivers are least likely to have.
    parity_next: u16,
    /// Parity sent in this go.
    parity_used: u16,
    /// Symbols of the current answer not yet sent.
    pending: u16,
    rounds: u8,
    goes: u16,
    worst: Option<ReceiverId>,
    deficit: u16,
    /// Largest deficit of anybody but the worst.
    runner_up: u16,
}

/// Symbols to send beyond a deficit of `missing`: whoever lost `missing` of `k` loses about
/// `missing * missing / k` of the repair too. Below an eighth, a spare costs more than the
/// rare second round it saves.
fn spare(missing: u16, k: u16) -> u16 {
    let missing = u64::from(missing);
    let eighths = (missing * missing * 8)
        .checked_div(u64::from(k))
        .unwrap_or(0);
    u16::try_from(eighths.div_ceil(8))
        .unwrap_or(MAX_SPARE)
        .min(if eighths == 0 { 0 } else { MAX_SPARE })
}

/// What became of a deficit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It counts.
    Counted,
    /// It does not know yet what was sent.
    Early,
    /// No block, or more symbols than it has.
    Absurd,
    /// More than parity has left in this go.
    Spent,
}

/// One answer decided on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) k: u16,
    pub(crate) deficit: u16,
    pub(crate) runner_up: u16,
    pub(crate) worst: Option<ReceiverId>,
    /// First answer for the block in this go, and parity sent before it.
    pub(crate) first_after: Option<u16>,
}

/// A symbol to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Repair {
    pub(crate) block: u32,
    pub(crate) k: u16,
    pub(crate) parity: u16,
    /// The last of this answer.
    pub(crate) last: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    accounts: Vec<Account>,
    /// Blocks with deficits being gathered, and since when.
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

    /// Times the block's source symbols were sent.
    pub(crate) fn goes(&self, block: u32) -> u16 {
        self.account(block).map_or(0, |account| account.goes)
    }

    /// The block's source symbols go out from now on.
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

    /// All of this go is sent: deficits count from here on.
    pub(crate) fn end(&mut self, block: u32) {
        if let Some(account) = self.accounts.get_mut(block as usize) {
            account.stage = Stage::Sent;
        }
    }

    /// A symbol of the block went out.
    pub(crate) fn sent(&mut self, block: u32, lane: Lane, counter: u64) {
        if let Some(account) = self.accounts.get_mut(block as usize) {
            account.first.get_or_insert((lane, counter));
            *account.last.get_mut(lane) = Some(counter);
        }
    }

    /// The next unused parity index of the block in this go.
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

    /// Whether somebody who has seen that much has seen the block's last symbol.
    pub(crate) fn has_passed(&self, block: u32, seen: &Seen) -> bool {
        self.account(block).is_some_and(|account| {
            account.stage == Stage::Sent
                && Lane::ALL
                    .into_iter()
                    .all(|lane| seen.get(lane) >= account.last.get(lane))
        })
    }

    /// Whether somebody who has seen that much has seen something after the block's last symbol
    /// on the lane of its source: only then is a block it does not mention one it does not hold.
    pub(crate) fn has_left(&self, block: u32, seen: &Seen) -> bool {
        self.has_passed(block, seen)
            && self.account(block).is_some_and(|account| {
                account
                    .first
                    .is_none_or(|(lane, _)| seen.get(lane) > account.last.get(lane))
            })
    }

    /// Whether somebody who has seen that much has not seen the end of the block's source yet:
    /// all of it is still to come, or it is just going by and what it becomes is not said.
    pub(crate) fn is_coming(&self, block: u32, seen: &Seen) -> bool {
        self.account(block).is_some_and(|account| {
            account.first.is_some_and(|(lane, _)| {
                seen.get(lane).is_some_and(|seen| {
                    account.stage == Stage::Sending || Some(seen) <= *account.last.get(lane)
                })
            })
        })
    }

    /// Whether parity can still mend so much in this go.
    pub(crate) fn can_mend(&self, block: u32, missing: u16) -> bool {
        self.account(block).is_some_and(|account| {
            missing <= PARITY_SYMBOLS - account.parity_used.min(PARITY_SYMBOLS)
                && account.rounds < MAX_ROUNDS
        })
    }

    /// Takes down that `id`, having seen `seen`, needs `missing` more symbols of the block.
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
            // Said after all that was sent so far: what is pending must cover it.
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

    /// Decides which gathered deficits are answered now: those whose block everybody healthy
    /// has `spoken` about, those gathered for `hold`, or all in a `hurry`.
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

    /// Whether anything is queued, answered to the end or not.
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

    /// Whether a repair is queued.
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

    /// Whether nothing is gathered and nothing queued.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.waiting.is_empty() && !self.has_repair()
    }

    /// Whether deficits of the block are being gathered or were answered in this go.
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
        // Said before the repair was seen: answered already.
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
        // Sent as source once more, everything begins anew.
        ledger.begin(0);
        assert_eq!(ledger.claim(NOW, 0, A, 1, &all), Claim::Early);
        ledger.end(0);
        assert_eq!(ledger.claim(NOW, 0, A, 1, &all), Claim::Counted);
    }
}
