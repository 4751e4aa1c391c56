//! The rule: compares two machines, and finds a sighted machine among all known ones.

use super::evidence::{Evidence, Shared, Value};
use crate::Mac;

/// Result of comparing one kind of value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Match {
    Agrees,
    Differs,
    Missing,
}

/// Result of comparing a known machine with a sighting.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Relation {
    /// They have no deciding value in common.
    None,
    /// The same machine: this many kinds of values agree and none differs.
    Same(u8),
    /// Perhaps the same machine; a person has to decide.
    Doubt,
    /// Another machine, which has these values, too.
    Other(Vec<Value>),
}

/// Compares a known machine with a sighting by the table of [`crate::identity`].
pub fn relate(known: &Evidence, seen: &Evidence, shared: &Shared) -> Relation {
    relate_with(known, seen, &|value| shared.has(value))
}

fn relate_with(known: &Evidence, seen: &Evidence, shared: &dyn Fn(&Value) -> bool) -> Relation {
    use Match::{Agrees, Differs, Missing};
    if known.files != seen.files {
        return Relation::None;
    }
    let kinds = compare(known, seen, shared);
    let [uuid, serial, cards] = kinds;
    let agreeing = kinds.iter().filter(|kind| **kind == Agrees).count();
    if !seen.files.is_empty() {
        // Files tell the agents on one machine apart. The machine itself is known by the first
        // value it has, because a container or a network namespace gives its agent a new card each
        // time.
        return match kinds.iter().find(|kind| **kind != Missing) {
            Some(Agrees) => Relation::Same(1),
            Some(_) => Relation::None,
            None if known.says_the_same(seen) => Relation::Same(0),
            None => Relation::None,
        };
    }
    match (uuid, serial, cards) {
        (_, _, _) if agreeing == 0 => match known.says_the_same(seen) {
            // Only a host name is known: it is the machine that had this name before.
            true if seen.values().next().is_none() => Relation::Same(0),
            // Both machines have exactly the same values, all of them shared.
            true => Relation::Doubt,
            false => Relation::None,
        },
        (Agrees, Agrees, Differs)
        | (Agrees, Differs, Agrees | Missing)
        | (Agrees, Missing, Differs)
        | (Differs, Agrees, Agrees)
        | (Missing, Agrees, Differs) => Relation::Doubt,
        (Differs, _, _) | (_, Differs, _) => Relation::Other(known.common(seen)),
        _ => Relation::Same(u8::try_from(agreeing).unwrap_or(u8::MAX)),
    }
}

/// Compares UUID, serial number and cards.
fn compare(known: &Evidence, seen: &Evidence, shared: &dyn Fn(&Value) -> bool) -> [Match; 3] {
    let serial = single(known.serial.as_ref(), seen.serial.as_ref(), |serial| {
        shared(&Value::Serial((*serial).clone()))
    });
    [
        single(known.uuid, seen.uuid, |uuid| shared(&Value::Uuid(*uuid))),
        serial,
        cards(&known.cards, &seen.cards, &|mac| shared(&Value::Card(mac))),
    ]
}

/// Compares card and UUID of a booting machine with a known one. Returns how many agree, and true
/// when one differs.
///
/// A boot packet has no serial number. So when the card agrees and the UUID differs, it may be a
/// new board as well as a dock.
pub(super) fn compare_boot(known: &Evidence, seen: &Evidence, shared: &Shared) -> (u8, bool) {
    let [uuid, _, cards] = compare(known, seen, &|value| shared.has(value));
    let agreeing = [uuid, cards]
        .iter()
        .filter(|kind| **kind == Match::Agrees)
        .count();
    let differs = uuid == Match::Differs || cards == Match::Differs;
    (u8::try_from(agreeing).unwrap_or(u8::MAX), differs)
}

/// Compares a single value. Agreement on a shared value counts as missing; a difference still means
/// two machines.
fn single<T: PartialEq>(known: Option<T>, seen: Option<T>, shared: impl Fn(&T) -> bool) -> Match {
    match (known, seen) {
        (Some(known), Some(seen)) if known != seen => Match::Differs,
        (Some(value), Some(_)) if !shared(&value) => Match::Agrees,
        _ => Match::Missing,
    }
}

fn cards(known: &[Mac], seen: &[Mac], moves: &dyn Fn(Mac) -> bool) -> Match {
    let in_common = || seen.iter().filter(|card| known.contains(card));
    if in_common().any(|card| !moves(*card)) {
        return Match::Agrees;
    }
    // Cards that move say neither that it is the same machine nor that it is another.
    let says_nothing =
        known.is_empty() || seen.iter().all(|card| moves(*card)) || in_common().next().is_some();
    if says_nothing {
        Match::Missing
    } else {
        Match::Differs
    }
}

/// A known machine, for [`judge`].
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Identity values of the machine.
    pub evidence: &'a Evidence,
    /// The machine is connected now, so a sighting is another machine.
    pub live: bool,
}

/// Result of a sighting.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Index of the known machine that was seen.
    Known(usize),
    /// A machine that was never seen before.
    New,
    /// Indexes of machines it may be; a person has to decide.
    Doubt(Vec<usize>),
}

/// Identifies a sighted machine. Also returns values that turn out to be shared, each with the
/// index of the known machine that has it, too.
pub fn judge(
    known: &[Known<'_>],
    seen: &Evidence,
    shared: &Shared,
) -> (Verdict, Vec<(Value, usize)>) {
    let mut marks: Vec<(Value, usize)> = Vec::new();
    // Machines that it certainly is not come first: a card that one of them has, too, moves between
    // machines, and decides nothing about the others.
    for (index, other) in known.iter().enumerate() {
        if let Relation::Other(values) = relate(other.evidence, seen, shared) {
            marks.extend(values.into_iter().map(|value| (value, index)));
        }
    }
    let moves: Shared = marks.iter().map(|(value, _)| value.clone()).collect();
    let (mut same, mut doubts) = (Vec::new(), Vec::new());
    for (index, other) in known.iter().enumerate() {
        let relation = relate_with(other.evidence, seen, &|value| {
            shared.has(value) || moves.has(value)
        });
        let apart = || {
            let values = other.evidence.common(seen);
            values.into_iter().map(move |value| (value, index))
        };
        match relation {
            Relation::Same(_) if other.live => {
                // A card is in one machine only: this machine was restarted before the console
                // noticed, or runs a second agent.
                let mut cards = seen.cards.iter();
                let one_card = cards.any(|card| other.evidence.cards.contains(card));
                if !one_card && !other.evidence.says_the_same(seen) && seen.files.is_empty() {
                    marks.extend(apart());
                }
            }
            Relation::Same(strength) => same.push((strength, index)),
            Relation::Doubt if other.live => marks.extend(apart()),
            Relation::Doubt => doubts.push(index),
            Relation::Other(_) | Relation::None => {}
        }
    }
    marks.retain(|(value, _)| !shared.has(value));
    let best = same.iter().map(|(strength, _)| *strength).max();
    same.retain(|(strength, _)| Some(*strength) == best);
    let evidence = |index: usize| known.get(index).map(|known| known.evidence);
    // Among machines that are equally similar, the one with exactly these values is chosen.
    let exactly = |index: &usize| evidence(*index).is_some_and(|own| own.says_the_same(seen));
    let same: Vec<usize> = same.into_iter().map(|(_, index)| index).collect();
    let verdict = match (same.iter().copied().find(exactly), same.as_slice()) {
        (Some(index), _) => Verdict::Known(index),
        (None, [index]) => Verdict::Known(*index),
        (None, []) if doubts.is_empty() => Verdict::New,
        (None, []) => Verdict::Doubt(doubts),
        (None, several) => Verdict::Doubt(several.to_vec()),
    };
    (verdict, marks)
}
