//! Hostile bytes: flipped bits in hives and logs. Nothing panics, loops or grows without bound; a
//! hive that opens and validates can be edited and is still sound; any other is not edited.

#[allow(dead_code, reason = "the fuzz targets use the rest")]
#[path = "support/script.rs"]
mod script;
mod support;

use hive::{Hive, HiveError};
use script::{
    NOW, Script, build, edit, get, make_dirty, new_log, old_log, read_all, seal, seal_log,
};
use support::{folder, unpack};

/// A generator of deterministic bytes.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).unwrap()).unwrap()
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next().to_le_bytes()[3]).collect()
    }

    /// Damages a few places, mostly at the start of a cell.
    fn damage(&mut self, bytes: &mut [u8]) {
        let signatures: [&[u8]; 8] = [b"nk", b"vk", b"sk", b"lf", b"lh", b"ri", b"db", b"hbin"];
        let starts = |at: &usize| {
            signatures
                .iter()
                .any(|letters| bytes[*at..].starts_with(letters))
        };
        let cells: Vec<usize> = (0..bytes.len()).step_by(4).filter(starts).collect();
        for _ in 0..=self.below(2) {
            let cell = match cells.get(self.below(cells.len())) {
                Some(cell) if self.below(8) > 0 => cell - 4 + self.below(88),
                _ => self.below(bytes.len()),
            };
            let at = cell.min(bytes.len() - 4);
            match self.below(4) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = [0, 0xff, 0x80, 8][self.below(4)],
                // One offset or count replaces another.
                _ => {
                    let from = self.below(bytes.len() - 4) & !3;
                    let from = cells.get(self.below(cells.len())).map_or(from, |cell| {
                        (cell + self.below(72)).min(bytes.len() - 4) & !3
                    });
                    bytes.copy_within(from..from + 4, at & !3);
                }
            }
        }
    }
}

#[derive(Default)]
struct Seen {
    refused: u32,
    faulty: u32,
    sound: u32,
}

/// Opens, reads, validates and edits arbitrary bytes.
fn exercise(bytes: Vec<u8>, logs: &[&[u8]], edits: &[u8], seen: &mut Seen) {
    let most = bytes.len() + logs.iter().map(|log| log.len()).sum::<usize>();
    let Ok((mut hive, _)) = Hive::open(bytes, logs) else {
        seen.refused += 1;
        return;
    };
    read_all(&hive, most);
    let mut script = Script(edits);
    let before = hive.clone().into_bytes(NOW);
    if hive.validate().is_err() {
        seen.faulty += 1;
        let refused = hive.create_key(hive.root(), "new", NOW);
        assert!(
            matches!(refused, Err(HiveError::Faulty { .. })),
            "{refused:?}"
        );
        assert!(hive.into_bytes(NOW) == before);
        return;
    }
    seen.sound += 1;
    while !script.is_over() {
        let before = hive.clone();
        let result = edit(&mut hive, &mut script);
        if let Err(faults) = hive.validate() {
            panic!("{result:?} left {faults:?}");
        }
        if result.is_err() {
            assert!(hive.clone().into_bytes(NOW) == before.into_bytes(NOW));
        }
    }
    let (again, _) = Hive::open(hive.into_bytes(NOW), &[]).unwrap();
    again.validate().unwrap();
}

#[test]
fn damaged_hives_neither_panic_nor_loop() {
    let mut numbers = Numbers(0x1234_5678_9abc_def1);
    let mut seen = Seen::default();
    for round in 0..1000 {
        let script = numbers.bytes(300);
        let mut bytes = build(&mut Script(&script)).into_bytes(NOW);
        if round % 10 != 0 {
            numbers.damage(&mut bytes);
            seal(&mut bytes);
        }
        let edits = numbers.bytes(60);
        exercise(bytes, &[], &edits, &mut seen);
    }
    let Seen {
        refused,
        faulty,
        sound,
    } = seen;
    assert!(
        refused > 60 && faulty > 100 && sound > 100,
        "{refused} {faulty} {sound}"
    );
}

#[test]
fn damaged_windows_hives_neither_panic_nor_loop() {
    let Some(folder) = folder() else { return };
    let mut numbers = Numbers(0xfeed_5678_9abc_def1);
    let mut seen = Seen::default();
    for name in [
        "bcd-efi/BCD",
        "win10plus-sam-aes/SAM",
        "nt-hive-testhive/testhive",
        "xp-m57-pat/SECURITY",
    ] {
        let whole = unpack(&folder, name);
        let used = 4096 + usize::try_from(get(&whole, 40)).unwrap();
        for _ in 0..150 {
            let mut bytes = whole.clone();
            numbers.damage(&mut bytes[..used]);
            seal(&mut bytes);
            let edits = numbers.bytes(40);
            exercise(bytes, &[], &edits, &mut seen);
        }
    }
    let Seen {
        refused,
        faulty,
        sound,
    } = seen;
    assert!(
        refused > 20 && faulty > 50 && sound > 20,
        "{refused} {faulty} {sound}"
    );
}

/// Three states of one hive, each a few edits after the last.
fn states(numbers: &mut Numbers) -> [Vec<u8>; 3] {
    let script = numbers.bytes(200);
    let first = build(&mut Script(&script));
    let mut hive = first.clone();
    let mut later = || {
        let script = numbers.bytes(120);
        let mut script = Script(&script);
        while !script.is_over() {
            let _ = edit(&mut hive, &mut script);
        }
        hive.clone().into_bytes(NOW)
    };
    [later(), later(), first.into_bytes(NOW)].map(|mut bytes| {
        // All states have one number, as if Windows had never finished a write.
        bytes[4..12].copy_from_slice(&[9, 0, 0, 0, 9, 0, 0, 0]);
        seal(&mut bytes);
        bytes
    })
}

/// Checks the result of a replay.
fn assert_is(hive: Hive, expected: &[u8], number: u32) {
    let bytes = hive.into_bytes(NOW);
    assert!(bytes[4096..] == expected[4096..], "the bins");
    assert_eq!((get(&bytes, 4), get(&bytes, 8)), (number, number));
    assert_eq!(get(&bytes, 40), get(expected, 40));
    Hive::open(bytes, &[]).unwrap().0.validate().unwrap();
}

/// Hives that have grown since, in one log or two, in both formats: the replay leads to the logged
/// state.
#[test]
fn logs_of_both_formats_complete_a_hive() {
    let mut numbers = Numbers(0x5555_5678_9abc_def1);
    for _ in 0..40 {
        let [second, third, first] = states(&mut numbers);
        let mut dirty = first.clone();
        assert_eq!(make_dirty(&mut dirty), 10);

        let both = new_log(&[&first, &second, &third], 10);
        let (hive, recovery) = Hive::open(dirty.clone(), &[&both]).unwrap();
        assert_eq!((recovery.numbers, recovery.stopped), (Some((10, 11)), None));
        assert_is(hive, &third, 12);

        let one = new_log(&[&first, &second], 10);
        let two = new_log(&[&second, &third], 11);
        for logs in [[&one[..], &two], [&two, &one]] {
            assert_is(Hive::open(dirty.clone(), &logs).unwrap().0, &third, 12);
        }
        // The first entry is torn, so the entries in the second file are void.
        let mut torn = one.clone();
        torn[520] ^= 1;
        let refused = Hive::open(dirty.clone(), &[&torn, &two]).map(|(_, recovery)| recovery);
        assert!(
            matches!(refused, Err(HiveError::Dirty { .. })),
            "{refused:?}"
        );
        let far = new_log(&[&second, &third], 13);
        let (hive, recovery) = Hive::open(dirty.clone(), &[&one, &far]).unwrap();
        assert_eq!(
            (recovery.entries, recovery.stopped),
            (1, Some(hive::Stop::Gap))
        );
        assert_is(hive, &second, 11);

        // The base block was being written when the power failed.
        let mut torn_base = dirty.clone();
        torn_base[508] ^= 1;
        assert_is(
            Hive::open(torn_base.clone(), &[&both]).unwrap().0,
            &third,
            12,
        );
        torn_base[..512].fill(0);
        assert!(
            Hive::open(torn_base, &[&both]).is_err(),
            "not even a signature"
        );

        let old = old_log(&first, &third, 10);
        let (hive, recovery) = Hive::open(dirty.clone(), &[&old]).unwrap();
        assert_eq!(recovery.entries, 1);
        assert_is(hive, &third, 11);
        // Only the log with the same time counts.
        let mut older = old_log(&first, &second, 9);
        older[12] ^= 1;
        seal(&mut older);
        assert_is(
            Hive::open(dirty.clone(), &[&older, &old]).unwrap().0,
            &third,
            11,
        );
        let cut = Hive::open(dirty.clone(), &[&old[..old.len() - 1]]).map(|(_, recovery)| recovery);
        assert!(matches!(cut, Err(HiveError::Dirty { .. })), "{cut:?}");
        let mut other = old.clone();
        other[12] ^= 1;
        seal(&mut other);
        let other = Hive::open(dirty, &[&other]).map(|(_, recovery)| recovery);
        assert!(matches!(other, Err(HiveError::Dirty { .. })), "{other:?}");
    }
}

#[test]
fn damaged_logs_neither_panic_nor_loop() {
    let mut numbers = Numbers(0x7777_5678_9abc_def1);
    let mut seen = Seen::default();
    for round in 0..300 {
        let [second, third, first] = states(&mut numbers);
        let mut dirty = first.clone();
        make_dirty(&mut dirty);
        let mut log = match round % 3 {
            0 => old_log(&first, &third, 10),
            _ => new_log(&[&first, &second, &third], 10),
        };
        let reach = if round % 2 == 0 { 700 } else { log.len() };
        let reach = reach.min(log.len());
        numbers.damage(&mut log[..reach]);
        seal_log(&mut log);
        let edits = numbers.bytes(20);
        exercise(dirty, &[&log], &edits, &mut seen);
    }
    let Seen {
        refused,
        faulty,
        sound,
    } = seen;
    assert!(refused > 25 && sound > 50, "{refused} {faulty} {sound}");
}
