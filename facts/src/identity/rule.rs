//! The rule: one machine against another, and a sighting among all that are known.

use super::evidence::{Evidence, Shared, Value};
use crate::Mac;

/// How one kind of value compares.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Match {
    Agrees,
    Differs,
    Missing,
}

/// Result of comparing a known machine with a sighting.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Relation {
    /// Nothing in common that decides anything.
    None,
    /// The same machine: so many kinds of values agree and none differs.
    Same(u8),
    /// Perhaps the same; a person has to say.
    Doubt,
    /// Another machine, which has these values too.
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
        // The files tell agents on one machine apart, and the machine is known by the first value it has: a container or a
        // network namespace gives the agent a new card each time.
        return match kinds.iter().find(|kind| **kind != Missing) {
            Some(Agrees) => Relation::Same(1),
            Some(_) => Relation::None,
            None if known.says_the_same(seen) => Relation::Same(0),
            None => Relation::None,
        };
    }
    match (uuid, serial, cards) {
        (_, _, _) if agreeing == 0 => match known.says_the_same(seen) {
            // Nothing to go by but a host name: the machine that called itself so before.
            true if seen.values().next().is_none() => Relation::Same(0),
            // Machines that say exactly the same, all of it shared.
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

/// UUID, serial number and cards.
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

/// Compares card and UUID of a booting machine with a known one: how many of them agree, and whether one differs. No boot packet
/// carries the serial number, so a card that agrees beside a UUID that differs may be a new board as well as a dock.
pub(super) fn compare_boot(known: &Evidence, seen: &Evidence, shared: &Shared) -> (u8, bool) {
    let [uuid, _, cards] = compare(known, seen, &|value| shared.has(value));
    let agreeing = [uuid, cards]
        .iter()
        .filter(|kind| **kind == Match::Agrees)
        .count();
    let differs = uuid == Match::Differs || cards == Match::Differs;
    (u8::try_from(agreeing).unwrap_or(u8::MAX), differs)
}

/// That several machines have a value takes away what its agreement says. A difference still says that these are two machines.
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
    /// It is connected now, so whoever else is seen is another machine.
    pub live: bool,
}

/// Who was seen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// This known machine.
    Known(usize),
    /// A machine never seen before.
    New,
    /// Perhaps one of these; a person has to say.
    Doubt(Vec<usize>),
}

/// Says who was seen, and which values turn out to be of several machines (with the known machine that has it too).
pub fn judge(
    known: &[Known<'_>],
    seen: &Evidence,
    shared: &Shared,
) -> (Verdict, Vec<(Value, usize)>) {
    let mut marks: Vec<(Value, usize)> = Vec::new();
    // First who it certainly is not: a card that such a machine has too is one that moves, and says nothing about the others either.
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
                // One card is in one machine: this one started again before the console noticed, or it is a second agent.
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
    // Between machines that are equally like it, the one that says exactly this.
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
