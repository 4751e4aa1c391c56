//! Any series of edits is compared with a plain tree: after each one the hive is sound and equals
//! the tree, and the written file gives the same when it is read again.

use std::collections::BTreeMap;

use hive::{FileTime, Hive, HiveError, KeyId};
use proptest::prelude::*;

const NOW: FileTime = FileTime(133_000_000_000_000_000);

/// The expected content of a key. Names are found by their upper case.
#[derive(Clone, Debug, Default, PartialEq)]
struct Node {
    name: String,
    values: BTreeMap<String, (String, u32, Vec<u8>)>,
    children: BTreeMap<String, Node>,
}

impl Node {
    fn of(hive: &Hive, key: KeyId) -> Node {
        let values = hive.values(key).unwrap().into_iter();
        let children = hive.subkeys(key).unwrap().into_iter();
        Node {
            name: hive.name(key).unwrap(),
            values: values
                .map(|v| (v.name.to_uppercase(), (v.name, v.kind, v.data)))
                .collect(),
            children: children
                .map(|child| {
                    (
                        hive.name(child).unwrap().to_uppercase(),
                        Node::of(hive, child),
                    )
                })
                .collect(),
        }
    }

    /// The paths of all keys, the root first.
    fn paths(&self) -> Vec<Vec<String>> {
        let below = self.children.values().flat_map(|child| {
            child.paths().into_iter().map(|mut path| {
                path.insert(0, child.name.clone());
                path
            })
        });
        std::iter::once(Vec::new()).chain(below).collect()
    }

    fn at(&mut self, path: &[String]) -> &mut Node {
        path.iter().fold(self, |node, name| {
            node.children.get_mut(&name.to_uppercase()).unwrap()
        })
    }
}

#[derive(Clone, Debug)]
enum Edit {
    Create(String),
    Rename(String),
    Delete,
    Set(String, u32, usize),
    Unset(String),
    Guard(u8),
}

const NAMES: [&str; 10] = [
    "a",
    "A",
    "b",
    "Bb",
    "bB",
    "a-much-longer-name-than-the-others",
    "ä",
    "Ä",
    "日本",
    "z",
];

/// A few names, so that they often collide, in both cases, narrow and wide.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => prop::sample::select(&NAMES[..]).prop_map(str::to_owned),
        1 => "[a-z]{1,12}",
    ]
}

fn len() -> impl Strategy<Value = usize> {
    prop_oneof![
        4 => 0..64_usize,
        2 => prop::sample::select(&[4, 5, 16_343, 16_344, 16_345, 32_688, 32_689, 70_000][..]),
        1 => 0..40_000_usize,
    ]
}

fn edit() -> impl Strategy<Value = Edit> {
    let value = || prop_oneof![1 => Just(String::new()), 4 => name()];
    prop_oneof![
        6 => name().prop_map(Edit::Create),
        2 => name().prop_map(Edit::Rename),
        1 => Just(Edit::Delete),
        6 => (value(), 0..12_u32, len()).prop_map(|(name, kind, len)| Edit::Set(name, kind, len)),
        2 => value().prop_map(Edit::Unset),
        1 => (0..4_u8).prop_map(Edit::Guard),
    ]
}

fn data(len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| u8::try_from((at * 7 + len) % 251).unwrap())
        .collect()
}

/// Applies one edit to both. Both refuse the same edits.
fn apply(hive: &mut Hive, model: &mut Node, path: &[String], edit: &Edit) {
    let key = hive.find(&path.join("\\")).unwrap().unwrap();
    let before = hive.clone().into_bytes(NOW);
    let node = model.at(path);
    let same = match edit {
        Edit::Create(name) => {
            hive.create_key(key, name, NOW).unwrap();
            let there = node.children.entry(name.to_uppercase());
            there.or_insert_with(|| Node {
                name: name.clone(),
                ..Node::default()
            });
            false
        }
        Edit::Set(name, kind, len) => {
            let data = data(*len);
            let changed = hive.set_value(key, name, *kind, &data, NOW).unwrap();
            let there = node.values.entry(name.to_uppercase());
            let there = there.or_insert_with(|| (name.clone(), u32::MAX, Vec::new()));
            let new = (there.0.clone(), *kind, data);
            assert_eq!(changed, *there != new);
            *there = new;
            assert!(
                !hive.set_value(key, name, *kind, &there.2, NOW).unwrap(),
                "set twice"
            );
            !changed
        }
        Edit::Unset(name) => {
            let deleted = hive.delete_value(key, name, NOW).unwrap();
            assert_eq!(deleted, node.values.remove(&name.to_uppercase()).is_some());
            !deleted
        }
        Edit::Guard(kind) => {
            let mut descriptor = hive.security(hive.root()).unwrap();
            descriptor[1] = *kind;
            let changed = hive.set_security(key, &descriptor, NOW).unwrap();
            assert_eq!(hive.security(key).unwrap(), descriptor);
            !changed
        }
        Edit::Rename(_) | Edit::Delete if path.is_empty() => {
            let refused = match edit {
                Edit::Rename(name) => hive.rename_key(key, name, NOW).map(|_| ()),
                _ => hive.delete_key(key),
            };
            assert_eq!(refused, Err(HiveError::Root));
            true
        }
        Edit::Delete => {
            hive.delete_key(key).unwrap();
            let (last, above) = path.split_last().unwrap();
            model
                .at(above)
                .children
                .remove(&last.to_uppercase())
                .unwrap();
            false
        }
        Edit::Rename(name) => {
            let (last, above) = path.split_last().unwrap();
            let above = model.at(above);
            let taken = name.to_uppercase() != last.to_uppercase()
                && above.children.contains_key(&name.to_uppercase());
            let renamed = hive.rename_key(key, name, NOW);
            assert_eq!(renamed.is_err(), taken);
            if !taken {
                let mut node = above.children.remove(&last.to_uppercase()).unwrap();
                node.name = name.clone();
                above.children.insert(name.to_uppercase(), node);
            }
            taken
        }
    };
    if same {
        assert!(
            before == hive.clone().into_bytes(NOW),
            "nothing to change: {edit:?}"
        );
    }
}

/// True if two free cells are adjacent in a bin; they should have been joined.
fn has_free_neighbours(bytes: &[u8]) -> bool {
    let word = |at: usize| i32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let mut bin = 4096;
    while bin < bytes.len() {
        let end = bin + usize::try_from(word(bin + 8)).unwrap();
        let (mut at, mut last_free) = (bin + 32, false);
        while at < end {
            let size = word(at);
            if size > 0 && last_free {
                return true;
            }
            last_free = size > 0;
            at += usize::try_from(size.unsigned_abs()).unwrap();
        }
        bin = end;
    }
    false
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn edits_do_what_they_say_and_nothing_else(
        minor in prop::sample::select(&[3_u32, 5][..]),
        edits in prop::collection::vec((any::<prop::sample::Index>(), edit()), 1..60),
    ) {
        let mut hive = Hive::empty(minor, "root", NOW).unwrap();
        let mut model = Node { name: "root".to_owned(), ..Node::default() };
        for (target, edit) in edits {
            let paths = model.paths();
            let path: &Vec<String> = target.get(&paths);
            apply(&mut hive, &mut model, path, &edit);
            let census = hive.validate().map_err(|faults| {
                TestCaseError::fail(format!("after {edit:?}: {faults:?}"))
            })?;
            prop_assert_eq!(census.note_count, 0, "{:?}", census.notes);
        }
        prop_assert!(!has_free_neighbours(&hive.clone().into_bytes(NOW)));
        prop_assert_eq!(&Node::of(&hive, hive.root()), &model);
        let (again, _) = Hive::open(hive.clone().into_bytes(NOW), &[]).unwrap();
        prop_assert_eq!(&Node::of(&again, again.root()), &model);
        prop_assert!(again.into_bytes(NOW) == hive.into_bytes(NOW));
    }
}

/// Long lists: leaves are split below an `ri`, and everything is freed again.
#[test]
fn thousands_of_subkeys_split_their_list_and_give_all_of_it_back() {
    for minor in [3, 5] {
        let mut hive = Hive::empty(minor, "root", NOW).unwrap();
        let start = hive.clone().into_bytes(NOW).len();
        let key = hive.create_key(hive.root(), "many", NOW).unwrap();
        let mut number = 1_u32;
        for _ in 0..1500 {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            hive.create_key(key, &format!("{number:08x}"), NOW).unwrap();
        }
        hive.validate().unwrap();
        let names = hive.subkey_names(key).unwrap();
        assert_eq!(names.len(), 1500);
        assert!(names.is_sorted(), "digits and letters of one case");
        let full = hive.clone().into_bytes(NOW);
        assert!(full.windows(2).any(|bytes| bytes == b"ri"));

        let mut other = hive.clone();
        for name in names.iter().step_by(2) {
            let child = other.find_below(key, name).unwrap().unwrap();
            other.delete_key(child).unwrap();
        }
        other.validate().unwrap();
        assert_eq!(other.subkeys(key).unwrap().len(), 750);

        hive.delete_key(key).unwrap();
        let census = hive.validate().unwrap();
        assert_eq!((census.keys, census.lost_cells), (1, 0));
        let headers = (full.len() - 4096) / 4096 * 32;
        let used = full.len() - 4096 - usize::try_from(census.free_bytes).unwrap();
        assert!(
            used <= headers + start,
            "{used} bytes of {} are still in use",
            full.len()
        );
    }
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let mut hive = Hive::empty(3, "root", NOW).unwrap();
    let root = hive.root();
    let key = hive.create_path(root, r"one\two", NOW).unwrap();
    let before = hive.clone().into_bytes(NOW);
    let long = "n".repeat(256);
    for name in ["", "a\\b", "a\0b", &long] {
        assert!(matches!(
            hive.create_key(root, name, NOW),
            Err(HiveError::Name { .. })
        ));
        assert!(matches!(
            hive.rename_key(key, name, NOW),
            Err(HiveError::Name { .. })
        ));
    }
    assert!(
        hive.create_path(root, &format!(r"new\{long}"), NOW)
            .is_err()
    );
    assert!(matches!(
        hive.set_value(root, &"n".repeat(16_384), 1, b"", NOW),
        Err(HiveError::Name { .. })
    ));
    let data = vec![1; 1 << 20];
    assert!(matches!(
        hive.set_value(root, "v", 3, &data, NOW),
        Err(HiveError::TooLong { .. })
    ));
    assert_eq!(
        hive.set_security(key, b"none", NOW),
        Err(HiveError::NotADescriptor)
    );
    hive.create_key(root, "three", NOW).unwrap();
    let three = hive.find("three").unwrap().unwrap();
    assert!(matches!(
        hive.rename_key(three, "ONE", NOW),
        Err(HiveError::Exists { .. })
    ));
    hive.delete_key(three).unwrap();
    assert!(matches!(hive.name(three), Err(HiveError::NoSuchKey { .. })));
    assert!(hive.find("three").unwrap().is_none());
    assert_eq!(hive.find("one").unwrap().is_some(), before.len() > 4096);

    // 512 levels are allowed and not one more; a path that fails in its middle leaves nothing
    // behind.
    let deep = vec!["d"; 512].join("\\");
    hive.create_path(root, &deep, NOW).unwrap();
    let before = hive.clone().into_bytes(NOW);
    assert_eq!(
        hive.create_path(root, &format!(r"{deep}\e"), NOW),
        Err(HiveError::TooDeep)
    );
    let other = format!(r"x\{deep}");
    assert_eq!(hive.create_path(root, &other, NOW), Err(HiveError::TooDeep));
    assert!(hive.clone().into_bytes(NOW) == before);
    hive.validate().unwrap();
    let top = hive.find("d").unwrap().unwrap();
    hive.delete_key(top).unwrap();
    hive.validate().unwrap();
}

/// No available hive has an `li`; Windows 2000 wrote them. An `lh` of three keys is turned into
/// one.
#[test]
fn a_list_without_hashes_is_read_and_edited() {
    let mut hive = Hive::empty(5, "root", NOW).unwrap();
    for name in ["a", "c", "d"] {
        hive.create_key(hive.root(), name, NOW).unwrap();
    }
    let mut bytes = hive.into_bytes(NOW);
    let at = bytes
        .windows(4)
        .position(|head| head == b"lh\x03\x00")
        .unwrap();
    bytes[at + 1] = b'i';
    for entry in 1..3 {
        bytes.copy_within(at + 4 + entry * 8..at + 8 + entry * 8, at + 4 + entry * 4);
    }
    let mut hive = Hive::open(bytes, &[]).unwrap().0;
    hive.validate().unwrap();
    let middle = hive.create_key(hive.root(), "B", NOW).unwrap();
    hive.validate().unwrap();
    assert_eq!(
        hive.subkey_names(hive.root()).unwrap(),
        ["a", "B", "c", "d"]
    );
    hive.rename_key(middle, "e", NOW).unwrap();
    let first = hive.find("A").unwrap().unwrap();
    hive.delete_key(first).unwrap();
    hive.validate().unwrap();
    assert_eq!(hive.subkey_names(hive.root()).unwrap(), ["c", "d", "e"]);
    assert!(
        hive.into_bytes(NOW)
            .windows(4)
            .any(|head| head == b"li\x03\x00")
    );
}

/// Freed space is used again in any order: the file does not grow.
#[test]
fn a_thousand_rewrites_do_not_lengthen_the_file() {
    let mut hive = Hive::empty(5, "root", NOW).unwrap();
    let root = hive.root();
    let round = |hive: &mut Hive, round: usize| {
        for value in 0..8_usize {
            let len = (round * 7919 + value * 104_729) % 40_000;
            hive.set_value(root, &format!("v{value}"), 3, &data(len), NOW)
                .unwrap();
        }
        let key = hive.create_path(root, r"some\path", NOW).unwrap();
        hive.set_value(key, "v", 1, &data(round % 300), NOW)
            .unwrap();
        let key = hive.find("some").unwrap().unwrap();
        hive.delete_key(key).unwrap();
    };
    (0..20).for_each(|number| round(&mut hive, number));
    let early = hive.clone().into_bytes(NOW).len();
    (20..150).for_each(|number| round(&mut hive, number));
    let census = hive.validate().unwrap();
    let late = hive.into_bytes(NOW).len();
    assert!(late <= early * 2, "{early} bytes became {late}");
    assert_eq!(census.lost_cells, 0);
}
