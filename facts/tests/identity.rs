//! Identity of machines: tables of rooms, and properties of every room.

use facts::identity::{Evidence, Record, Register, Relation, Shared, Value, relate};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const A: &str = "4c4c4544-0042-3510-8052-b4c04f564431";
const B: &str = "4c4c4544-0042-3510-8052-b4c04f564432";
const C: &str = "4c4c4544-0042-3510-8052-b4c04f564433";
/// A UUID that many boards have.
const TWIN: &str = "03020100-0504-0706-0809-0a0b0c0d0e0f";
const JUNK: &str = "To be filled by O.E.M.";

fn card(number: u8) -> String {
    format!("52:54:00:00:00:{number:02x}")
}

/// The values of a machine; `-` stands for a missing one.
fn says(uuid: &str, serial: &str, cards: &[u8]) -> Evidence {
    let given = |text: &'static str| (text != "-").then_some(text);
    let cards: Vec<String> = cards.iter().map(|number| card(*number)).collect();
    // The leak is small: a few short texts of a test.
    let uuid: &'static str = Box::leak(uuid.to_owned().into_boxed_str());
    let serial: &'static str = Box::leak(serial.to_owned().into_boxed_str());
    Evidence::read(given(uuid), given(serial), cards.iter().map(String::as_str))
}

/// A room: machines come and go, and the console is restarted.
#[derive(Default)]
struct Room {
    register: Register,
    live: BTreeSet<String>,
    given: u32,
    told: Vec<Value>,
}

impl Room {
    fn join(&mut self, seen: &Evidence) -> String {
        let (live, given) = (&self.live, &mut self.given);
        let sighting = self.register.sight(seen, &|id| live.contains(id), |_| {
            *given += 1;
            format!("t{given}")
        });
        assert!(
            self.live.insert(sighting.id.clone()),
            "two live machines are {}",
            sighting.id
        );
        self.told
            .extend(sighting.change.marks.into_iter().map(|mark| mark.value));
        sighting.id
    }

    fn leave(&mut self, id: &str) {
        assert!(self.live.remove(id), "{id} is not here");
    }

    /// Restarts the console while every machine is off; only stored records remain.
    fn restart(&mut self) {
        self.live.clear();
        let ids = (1..=self.given).map(|n| format!("t{n}"));
        let kept: BTreeMap<String, Record> = ids
            .filter_map(|id| Some((id.clone(), self.register.record(&id)?.clone())))
            .collect();
        // The store keeps records as text, too.
        let text = serde_json::to_string(&kept).unwrap();
        let kept: BTreeMap<String, Record> = serde_json::from_str(&text).unwrap();
        let shared = serde_json::to_string(self.register.shared()).unwrap();
        self.register = Register::new(kept, serde_json::from_str(&shared).unwrap());
    }

    fn doubts(&self, id: &str) -> Vec<String> {
        self.register.record(id).unwrap().doubts.clone()
    }
}

#[test]
fn every_pair_of_machines() {
    let known = says(A, "SER1", &[1]);
    let of =
        |uuid, serial, cards: &[u8]| relate(&known, &says(uuid, serial, cards), &Shared::default());
    let other = |relation: Relation| match relation {
        Relation::Other(values) => values.len(),
        relation => panic!("{relation:?}"),
    };
    for (uuid, serial, cards, agreeing) in [
        (A, "SER1", &[1][..], 3),
        (A, "SER1", &[], 2),
        (A, "-", &[1], 2),
        ("-", "ser1 ", &[1, 9], 2),
        (A, "-", &[], 1),
        ("-", "SER1", &[], 1),
        ("-", "-", &[1], 1),
    ] {
        assert_eq!(
            of(uuid, serial, cards),
            Relation::Same(agreeing),
            "{uuid} {serial} {cards:?}"
        );
    }
    for (uuid, serial, cards) in [
        (A, "SER1", &[2][..]),
        (A, "-", &[2]),
        ("-", "SER1", &[2]),
        (A, "SER2", &[1]),
        (A, "SER2", &[]),
        (B, "SER1", &[1]),
    ] {
        assert_eq!(
            of(uuid, serial, cards),
            Relation::Doubt,
            "{uuid} {serial} {cards:?}"
        );
    }
    for (uuid, serial, cards) in [
        (A, "SER2", &[2][..]),
        (B, "SER1", &[2]),
        (B, "SER1", &[]),
        (B, "SER2", &[1]),
        (B, "-", &[1]),
        ("-", "SER2", &[1]),
    ] {
        assert_eq!(
            other(of(uuid, serial, cards)),
            1,
            "{uuid} {serial} {cards:?}"
        );
    }
    for (uuid, serial, cards) in [
        (B, "SER2", &[2][..]),
        (B, "-", &[2]),
        ("-", "-", &[2]),
        ("-", "-", &[]),
    ] {
        assert_eq!(
            of(uuid, serial, cards),
            Relation::None,
            "{uuid} {serial} {cards:?}"
        );
    }
    // Filler counts as missing, without a list of known values.
    for filler in ["", " ", "00000000", "FFFFFFFF", "----", "0-0-0"] {
        assert_eq!(says(A, filler, &[]).serial, None, "{filler:?}");
    }
    let nothing = says("ffffffff-ffff-ffff-ffff-ffffffffffff", "0000", &[]);
    assert_eq!(nothing.values().count(), 0);
    assert_eq!(
        Evidence::read(
            None,
            None,
            [
                "00:00:00:00:00:00",
                "ff:ff:ff:ff:ff:ff",
                "01:00:5e:00:00:01"
            ]
        )
        .cards,
        []
    );
}

/// A school boots its laptops one after the other through the same dock of an office. All of them
/// became LAB-01.
#[test]
fn three_laptops_on_one_dock_are_three() {
    for serials in [["S1", "S2", "S3"], ["-", "-", "-"]] {
        let laptops: Vec<Evidence> = [A, B, C]
            .iter()
            .zip(serials)
            .map(|(uuid, serial)| says(uuid, serial, &[7]))
            .collect();
        let mut room = Room::default();
        let mut ids = Vec::new();
        for laptop in &laptops {
            let id = room.join(laptop);
            assert_eq!(room.doubts(&id), [] as [String; 0]);
            room.leave(&id);
            ids.push(id);
        }
        assert_eq!(ids, ["t1", "t2", "t3"]);
        assert_eq!(
            room.told,
            [Value::Card(card(7).parse().unwrap())],
            "said once"
        );
        room.restart();
        for at in [2, 0, 1, 1, 0] {
            let id = room.join(&laptops[at]);
            assert_eq!(id, ids[at]);
            room.leave(&id);
        }
        // A second dock is used: machines known by two values need no further question.
        if serials[0] == "S1" {
            let first = room.join(&says(A, "S1", &[8]));
            assert_eq!(room.doubts(&first), ["t1"], "a card nobody has seen");
            room.leave(&first);
            room.register.is(&first, "t1").unwrap();
            for at in [1, 0, 2] {
                let id = room.join(&says([A, B, C][at], serials[at], &[8]));
                assert_eq!(id, ids[at], "dock 2");
                room.leave(&id);
            }
        }
    }
}

#[test]
fn two_boards_with_one_uuid_do_not_swap() {
    for (serial_1, serial_2) in [(JUNK, JUNK), ("S1", "S2"), ("-", "-"), (JUNK, "-")] {
        let (one, two) = (says(TWIN, serial_1, &[1]), says(TWIN, serial_2, &[2]));
        for order in [[&one, &two], [&two, &one]] {
            let mut room = Room::default();
            assert_eq!(room.join(order[0]), "t1");
            assert_eq!(room.join(order[1]), "t2");
            assert_eq!(
                room.doubts("t2"),
                [] as [String; 0],
                "both are here, so they are two"
            );
            assert!(room.told.contains(&Value::Uuid(TWIN.parse().unwrap())));
            let told = room.told.len();
            // Console and machines were restarted, and the second machine comes first; once alone,
            // once together.
            for _ in 0..2 {
                room.restart();
                assert_eq!(room.join(order[1]), "t2");
                assert_eq!(room.join(order[0]), "t1");
            }
            room.restart();
            assert_eq!(room.join(order[1]), "t2");
            room.leave("t2");
            assert_eq!(room.join(order[0]), "t1");
            assert_eq!(room.told.len(), told, "said once");
        }
    }
}

#[test]
fn a_new_card_or_a_twin_board_is_asked_about() {
    for serial in [JUNK, "SER1", "-"] {
        let mut room = Room::default();
        room.join(&says(TWIN, serial, &[1]));
        room.leave("t1");
        let second = room.join(&says(TWIN, serial, &[2]));
        assert_eq!(
            (second.as_str(), room.doubts("t2")),
            ("t2", vec!["t1".to_owned()])
        );
        // Nothing is merged or forgotten meanwhile, in any order.
        room.restart();
        assert_eq!(room.join(&says(TWIN, serial, &[2])), "t2");
        assert_eq!(room.doubts("t2"), ["t1"]);
        room.leave("t2");
        assert_eq!(room.join(&says(TWIN, serial, &[1])), "t1");
        room.leave("t1");

        // It is the same PC with another card: both cards identify it from now on.
        let mut same = Room {
            register: room.register.clone(),
            given: 2,
            ..Room::default()
        };
        let change = same.register.is("t2", "t1").unwrap();
        assert!(change.gone.contains("t2") && change.marks.is_empty());
        assert_eq!(same.join(&says(TWIN, serial, &[2])), "t1");
        same.leave("t1");
        assert_eq!(same.join(&says(TWIN, serial, &[1])), "t1");

        // It is another PC: the third one with this UUID needs no question.
        let mut other = Room {
            register: room.register.clone(),
            given: 2,
            ..Room::default()
        };
        let change = other.register.is_new("t2").unwrap();
        assert!(
            change
                .marks
                .iter()
                .any(|mark| mark.value == Value::Uuid(TWIN.parse().unwrap()))
        );
        assert_eq!(other.doubts("t2"), [] as [String; 0]);
        assert_eq!(other.join(&says(TWIN, serial, &[3])), "t3");
        assert_eq!(other.doubts("t3"), [] as [String; 0]);
        assert_eq!(other.join(&says(TWIN, serial, &[1])), "t1");

        // Or both are seen at the same time, which answers the question.
        assert_eq!(room.join(&says(TWIN, serial, &[1])), "t1");
        assert_eq!(room.join(&says(TWIN, serial, &[2])), "t2");
        assert_eq!(room.doubts("t2"), [] as [String; 0]);
    }
}

#[test]
fn a_changed_board_is_asked_about() {
    let mut room = Room::default();
    room.join(&says(A, "SER1", &[1]));
    room.leave("t1");
    let id = room.join(&says(B, "SER1", &[1]));
    assert_eq!(room.doubts(&id), ["t1"]);
    room.leave(&id);
    room.register.is(&id, "t1").unwrap();
    assert_eq!(room.join(&says(B, "SER1", &[1])), "t1");
    assert_eq!(
        room.register
            .boots(card(1).parse().unwrap(), B.parse().ok())
            .known,
        ["t1"]
    );
}

#[test]
fn what_was_taken_apart_can_be_put_together() {
    // New board and new card at once: only a serial number agrees, which may be shared, so a person
    // has to decide.
    let mut room = Room::default();
    room.join(&says(A, "SER1", &[1]));
    room.leave("t1");
    let id = room.join(&says(B, "SER1", &[2]));
    assert_eq!((id.as_str(), room.doubts("t2").len()), ("t2", 0));
    room.leave("t2");
    let change = room.register.is("t2", "t1").unwrap();
    assert_eq!(change.own_again, [Value::Serial("ser1".to_owned())]);
    room.restart();
    assert_eq!(room.join(&says(B, "SER1", &[])), "t1");
    assert_eq!(
        room.register.is("t1", "t1").unwrap_err().to_string(),
        "t1 is the same target"
    );
    assert!(room.register.is("t9", "t1").is_err() && room.register.is("t1", "t9").is_err());
}

#[test]
fn agents_with_files_differ_by_path() {
    let file = |name: &str, cards: &[u8]| says(A, JUNK, cards).with_files([name]);
    let mut room = Room::default();
    assert_eq!(room.join(&file("/a", &[1])), "t1");
    assert_eq!(room.join(&file("/b", &[2])), "t2");
    // A namespace gives its agent a new card each time.
    room.leave("t1");
    assert_eq!(room.join(&file("/a", &[9])), "t1");
    // Two agents with the same file are two targets, and no value is marked as shared.
    assert_eq!(room.join(&file("/a", &[9])), "t3");
    assert_eq!(room.told, []);
    assert!(room.register.is("t2", "t1").is_err());
}

#[test]
fn nothing_but_a_host_name() {
    let mut room = Room::default();
    let (one, two) = (
        says("-", "-", &[]).or_host("pc"),
        says("-", "-", &[]).or_host("pc-2"),
    );
    assert_eq!(room.join(&one), "t1");
    assert_eq!(room.join(&two), "t2");
    assert_eq!(room.join(&one), "t3");
    room.restart();
    assert_eq!(room.join(&two), "t2");
    assert_eq!(room.join(&one), "t1");
}

#[test]
fn network_boot_is_sure_or_starts_the_agent() {
    let mut room = Room::default();
    room.join(&says(TWIN, JUNK, &[1]));
    let mac = |number| card(number).parse().unwrap();
    let uuid = |text: &str| text.parse().ok();
    let boots = |room: &Room, number, text| {
        let found = room.register.boots(mac(number), uuid(text));
        (found.known.join(","), found.unsure.join(","))
    };
    let sure = |ids: &str| (ids.to_owned(), String::new());
    let unsure = |ids: &str| (String::new(), ids.to_owned());
    assert_eq!(boots(&room, 1, TWIN), sure("t1"));
    assert_eq!(boots(&room, 1, "-"), sure("t1"), "a ROM that says no UUID");
    assert_eq!(boots(&room, 2, TWIN), unsure("t1"), "a new card, or a twin");
    assert_eq!(boots(&room, 1, A), unsure("t1"), "a new board, or a dock");
    assert_eq!(boots(&room, 2, A), sure(""));
    room.join(&says(TWIN, JUNK, &[2]));
    assert_eq!(boots(&room, 1, TWIN), sure("t1"));
    assert_eq!(boots(&room, 2, TWIN), sure("t2"));
    assert_eq!(boots(&room, 3, TWIN), sure(""), "a third board");
    // Cards on docks are marked as shared.
    room.join(&says(A, "S1", &[7]));
    room.leave("t3");
    room.join(&says(B, "S2", &[7]));
    assert_eq!(boots(&room, 7, A), sure("t3"));
    assert_eq!(boots(&room, 7, B), sure("t4"));
    assert_eq!(boots(&room, 7, C), sure(""));
    assert_eq!(boots(&room, 7, "-"), sure(""));
    // A machine in doubt boots the agent until a person has answered.
    room.leave("t4");
    let asked = room.join(&says(B, "S2", &[8]));
    assert_eq!(room.doubts(&asked), ["t4"]);
    assert_eq!(boots(&room, 8, B), unsure("t4,t5"));
}

/// Machines as they are bought: some have a UUID, a serial number and cards of their own, some do
/// not, some share them.
fn machines() -> impl Strategy<Value = Vec<Evidence>> {
    let kind = (0..4_u8, 0..4_u8, 0..3_u8);
    proptest::collection::vec(kind, 1..9).prop_map(|kinds| {
        (1_u8..)
            .zip(kinds)
            .map(|(number, (uuid, serial, cards))| {
                let uuid = match uuid {
                    0 => "-".to_owned(),
                    1 => TWIN.to_owned(),
                    _ => format!("{}{number:02x}", &A[..34]),
                };
                let serial = match serial {
                    0 => "-".to_owned(),
                    1 => JUNK.to_owned(),
                    _ => format!("SER-{number}"),
                };
                // Each has a card of its own, or it could not boot; some have a second one.
                let cards = if cards == 0 {
                    vec![number, 100 + number]
                } else {
                    vec![number]
                };
                says(&uuid, &serial, &cards)
            })
            .collect()
    })
}

proptest! {
    /// After a room was on together, every machine keeps its id, in any order of return and after
    /// any number of restarts of the console.
    #[test]
    fn a_room_that_was_on_together_never_swaps(
        (machines, orders) in machines().prop_flat_map(|machines| {
            let indices: Vec<usize> = (0..machines.len()).collect();
            let orders = proptest::collection::vec(Just(indices).prop_shuffle(), 2..5);
            (Just(machines), orders)
        }),
        alone: bool,
    ) {
        let mut room = Room::default();
        let mut ids = vec![String::new(); machines.len()];
        for at in &orders[0] {
            ids[*at] = room.join(&machines[*at]);
        }
        let told = room.told.len();
        prop_assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
        for id in &ids {
            prop_assert!(room.doubts(id).is_empty(), "{} is in doubt", id);
        }
        for order in &orders[1..] {
            room.restart();
            for at in order {
                let id = room.join(&machines[*at]);
                prop_assert_eq!(&id, &ids[*at]);
                if alone {
                    room.leave(&id);
                }
            }
        }
        prop_assert_eq!(room.told.len(), told, "said once");
    }

    /// A machine never gets the id of another one, in any order of events.
    #[test]
    fn no_machine_is_ever_taken_for_another(
        machines in machines(),
        steps in proptest::collection::vec((0..9_usize, 0..4_u8), 1..60),
    ) {
        let mut room = Room::default();
        // Ids of a machine: more than one while a question is open.
        let mut owner: BTreeMap<String, usize> = BTreeMap::new();
        let mut here: BTreeMap<usize, String> = BTreeMap::new();
        for (at, what) in steps {
            let at = at % machines.len();
            match (what, here.get(&at).cloned()) {
                (0, _) => {
                    room.restart();
                    here.clear();
                }
                (_, Some(id)) => {
                    room.leave(&id);
                    here.remove(&at);
                }
                (_, None) => {
                    let id = room.join(&machines[at]);
                    let was = *owner.entry(id.clone()).or_insert(at);
                    prop_assert_eq!(was, at, "{} is two machines", id);
                    here.insert(at, id);
                }
            }
        }
    }
}
