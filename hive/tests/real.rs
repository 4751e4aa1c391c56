//! Hives written by Windows: they validate unchanged, and still do after edits.

mod support;

use hive::sid::{self, Machine};
use hive::{FileTime, Hive, KeyId};
use support::{HIVES, folder, open, unpack, walk};

const NOW: FileTime = FileTime(133_000_000_000_000_000);

#[test]
fn hives_that_windows_wrote_are_sound_and_come_back_as_they_were() {
    let Some(folder) = folder() else { return };
    for (name, _) in HIVES {
        let hive = open(&folder, name);
        let census = hive
            .validate()
            .unwrap_or_else(|faults| panic!("{name}: {faults:?}"));
        assert!(census.keys > 0, "{name}");
        if !hive.is_changed() {
            assert!(hive.into_bytes(NOW) == unpack(&folder, name), "{name}");
        }
    }
}

/// Every list of every hive accepts a key and gives it back: `lf`, `lh`, `li`, with and without an
/// `ri` above.
#[test]
fn every_list_windows_wrote_takes_a_key_and_gives_it_back() {
    let Some(folder) = folder() else { return };
    for (name, _) in HIVES.iter().filter(|(name, _)| !name.starts_with("win10-")) {
        let mut hive = open(&folder, name);
        let before = (walk(&hive), hive.validate().unwrap());
        let mut keys = vec![hive.root()];
        let mut seen = 0;
        while let Some(key) = keys.get(seen) {
            seen += 1;
            keys.extend(hive.subkeys(*key).unwrap());
        }
        // Not all 30,000 lists of the largest hive are tested: every list above some length, and a
        // tenth of the rest.
        let chosen = |(place, key): &(usize, KeyId)| {
            place % 10 == 0
                || hive
                    .subkeys(*key)
                    .is_ok_and(|children| children.len() > 100)
        };
        let keys: Vec<KeyId> = keys
            .into_iter()
            .enumerate()
            .filter(chosen)
            .map(|(_, key)| key)
            .collect();
        let add = |hive: &mut Hive, key| hive.create_key(key, "Middle of it", NOW).unwrap();
        let added: Vec<KeyId> = keys.into_iter().map(|key| add(&mut hive, key)).collect();
        let census = hive
            .validate()
            .unwrap_or_else(|faults| panic!("{name}: {faults:?}"));
        assert_eq!(
            census.keys,
            before.1.keys + u32::try_from(added.len()).unwrap(),
            "{name}"
        );
        for key in added.into_iter().rev() {
            let values = [("", 4), ("Big", 17_000), ("big", 40)];
            for (value, len) in values {
                hive.set_value(key, value, 3, &vec![7; len], NOW).unwrap();
            }
            let key = hive
                .rename_key(key, "A longer name of the same key", NOW)
                .unwrap();
            hive.delete_key(key).unwrap();
        }
        let after = (walk(&hive), hive.validate().unwrap());
        assert_eq!(before.0, after.0, "{name}");
        assert_eq!(before.1.lost_cells, after.1.lost_cells, "{name}");
        assert_eq!(before.1.securities, after.1.securities, "{name}");
    }
}

/// A few descriptors grant access to the machine of these hives; their lengths do not change.
#[test]
fn descriptors_change_their_machine() {
    let Some(folder) = folder() else { return };
    let old = Machine([1_292_428_093, 1_645_522_239, 1_547_161_642]);
    let new = Machine([11, 22, 33]);
    let mut hive = open(&folder, "xp-m57-pat/SYSTEM");
    let census = hive.validate().unwrap();
    let replace = |hive: &mut Hive, from, to| {
        hive.rewrite_security(&mut |bytes| sid::replace(bytes, from, to) > 0)
            .unwrap()
    };
    assert_eq!(replace(&mut hive, old, new), 8);
    assert_eq!(replace(&mut hive, old, new), 0);
    assert_eq!(hive.validate().unwrap(), census);
    assert_eq!(replace(&mut hive, new, old), 8);
    let back = hive.into_bytes(NOW);
    let original = unpack(&folder, "xp-m57-pat/SYSTEM");
    assert!(
        back[512 + 4096..] == original[512 + 4096..],
        "all but the base block and the first time"
    );
}

/// Class names are deleted with their keys; here four of them hold the boot key.
#[test]
fn a_deleted_key_takes_its_class_name_along() {
    let Some(folder) = folder() else { return };
    let mut hive = open(&folder, "xp-m57-pat/SYSTEM");
    let before = hive.validate().unwrap();
    let lsa = hive.find(r"ControlSet001\Control\Lsa").unwrap().unwrap();
    let part = hive.find_below(lsa, "JD").unwrap().unwrap();
    let class = hive.class_name(part).unwrap();
    let part = hive
        .rename_key(part, "JD under another and longer name", NOW)
        .unwrap();
    assert_eq!(hive.class_name(part).unwrap(), class);
    hive.delete_key(lsa).unwrap();
    let after = hive.validate().unwrap();
    assert_eq!(after.classes, before.classes - 4);
    assert_eq!(after.lost_cells, before.lost_cells);
}
