//! Transaction logs: compared with Windows' own recovery, and damaged in every way a lost write can
//! damage them.

mod support;

use hive::{FileTime, Hive, HiveError, Recovery, Stop};
use support::{folder, unpack, walk};

/// A primary file and its two logs.
struct Case {
    primary: Vec<u8>,
    logs: [Vec<u8>; 2],
}

impl Case {
    fn load(folder: &std::path::Path, name: &str) -> Case {
        let log = |number| unpack(folder, &format!("{name}.LOG{number}"));
        Case {
            primary: unpack(folder, name),
            logs: [log(1), log(2)],
        }
    }

    fn open(&self) -> Result<(Hive, Recovery), HiveError> {
        Hive::open(self.primary.clone(), &[&self.logs[0], &self.logs[1]])
    }
}

#[test]
fn a_replay_is_byte_for_byte_what_windows_10_makes_of_it() {
    let Some(folder) = folder() else { return };
    let case = Case::load(&folder, "log-replay-1/NewDirtyHive");
    let windows = unpack(&folder, "log-replay-1/RecoveredHive_Windows10");
    let (hive, recovery) = case.open().unwrap();
    assert_eq!(recovery.numbers, Some((3, 5)));
    assert_eq!((recovery.entries, recovery.stopped), (3, None));
    assert!(hive.is_changed(), "the file is to be written");
    assert!(hive.into_bytes(FileTime(1)) == windows);

    // The order of the logs does not matter, and entries before the number of the primary file
    // change nothing.
    let turned = Hive::open(case.primary.clone(), &[&case.logs[1], &case.logs[0]]).unwrap();
    assert!(turned.0.into_bytes(FileTime(1)) == windows);
    let second = Hive::open(case.primary, &[&case.logs[1]]).unwrap();
    assert!(second.0.into_bytes(FileTime(1)) == windows);
}

#[test]
fn the_keys_that_only_the_logs_hold_are_there() {
    let Some(folder) = folder() else { return };
    let case = Case::load(&folder, "win10-16299-dirty-desktop-pm6c56d/SYSTEM");
    let (hive, recovery) = case.open().unwrap();
    assert_eq!(recovery.numbers, Some((2107, 2130)));
    assert_eq!(walk(&hive).0, 35_595);

    // The file alone has 33,123 keys; marked as complete, it opens with these.
    let mut alone = case.primary.clone();
    alone.copy_within(4..8, 8);
    let sum = alone[..508]
        .chunks(4)
        .map(|word| u32::from_le_bytes(word.try_into().unwrap()));
    let sum = sum.fold(0, |sum, word| sum ^ word).to_le_bytes();
    alone[508..512].copy_from_slice(&sum);
    let (hive, recovery) = Hive::open(alone, &[&case.logs[0], &case.logs[1]]).unwrap();
    assert_eq!(
        recovery,
        Recovery::default(),
        "logs of a complete hive are ignored"
    );
    assert_eq!(walk(&hive).0, 33_123);
}

#[test]
fn a_dirty_hive_without_its_logs_is_refused() {
    let Some(folder) = folder() else { return };
    let case = Case::load(&folder, "log-replay-1/NewDirtyHive");
    let refused = |logs: &[&[u8]]| match Hive::open(case.primary.clone(), logs) {
        Err(HiveError::Dirty { why }) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&[]), "there is no valid log");
    assert_eq!(refused(&[b"", b""]), "there is no valid log");
    assert_eq!(
        refused(&[&case.logs[0]]),
        "no log entry follows its last write"
    );
    let mut head = case.logs[1].clone();
    head[100] ^= 1;
    assert_eq!(
        refused(&[&case.logs[0], &head]),
        "no log entry follows its last write",
        "its base block"
    );
}

/// LOG2 holds entries 3, 4 and 5 at 512, 8192 and 32768. A flipped bit or a cut in one ends the
/// replay there: Windows applies the entries before it (regf, "New format" note 7).
#[test]
fn entries_count_up_to_the_first_that_does_not_hold() {
    let Some(folder) = folder() else { return };
    let case = Case::load(&folder, "log-replay-1/NewDirtyHive");
    let ends = [(512, None), (8192, Some(3)), (32_768, Some(4))];
    for (start, last) in ends {
        // Offsets of size, number, length of bins, count, both hashes, a reference, and bytes of
        // the page.
        for at in [4, 12, 16, 20, 24, 32, 40, 47, 600, 4000] {
            let mut torn = case.logs[1].clone();
            torn[start + at] ^= 0x10;
            check(
                Hive::open(case.primary.clone(), &[&case.logs[0], &torn]),
                last,
                at,
            );
        }
        let cut = &case.logs[1][..start + 4500];
        check(
            Hive::open(case.primary.clone(), &[&case.logs[0], cut]),
            last,
            0,
        );
    }

    fn check(opened: Result<(Hive, Recovery), HiveError>, last: Option<u32>, at: usize) {
        match (opened, last) {
            (Err(HiveError::Dirty { .. }), None) => {}
            (Ok((_, recovery)), Some(last)) => {
                assert_eq!(recovery.numbers, Some((3, last)), "at {at}");
                assert_eq!(recovery.stopped, Some(Stop::Torn), "at {at}");
            }
            (opened, _) => panic!("at {at}: {opened:?}"),
        }
    }
}
