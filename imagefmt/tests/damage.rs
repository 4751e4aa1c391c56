//! Flipped bits, cuts and losses: all are detected, and intact chunks are saved.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::*;
use imagefmt::*;

/// The bits that are flipped one by one: all of them under `DISKCAST_TEST_FULL`, otherwise one of
/// each byte, and fewer in the empty parts of the prologue and its copy.
fn bits(bytes: &[u8]) -> Vec<(usize, u8)> {
    let full = std::env::var_os("DISKCAST_TEST_FULL").is_some();
    let copy = bytes.len() - 256 - 4096;
    let empty = |at: usize| {
        let mut heads = [0, copy].into_iter();
        heads.any(|head| (head + 512..head + 4064).contains(&at))
    };
    (0..bytes.len())
        .filter(|at| full || !empty(*at) || at % 32 == 0)
        .flat_map(|at| (0..8_u8).map(move |bit| (at, bit)))
        .filter(|(at, bit)| full || at % 8 == usize::from(*bit))
        .map(|(at, bit)| (at, 1 << bit))
        .collect()
}

#[test]
fn every_flipped_bit_is_noticed_without_a_password() {
    let (geometry, chunks) = small();
    for word in [None, Some("secret")] {
        let (mut bytes, _) = write(geometry, &chunks, word);
        assert!(passes_standard(&bytes));
        for (at, bit) in bits(&bytes) {
            bytes[at] ^= bit;
            assert!(!passes_standard(&bytes), "byte {at} of {}", bytes.len());
            bytes[at] ^= bit;
        }
    }
}

#[test]
fn no_flipped_bit_changes_what_is_read() {
    let (geometry, chunks) = small();
    for word in [None, Some("secret")] {
        let (mut bytes, _) = write(geometry, &chunks, word);
        let expected = contents(&open(&bytes, word).unwrap()).unwrap();
        for (at, bit) in bits(&bytes) {
            // A flipped cost in a key slot could make argon2 take seconds, or need more memory than
            // there is.
            if word.is_some() && (256..272).contains(&at) {
                continue;
            }
            bytes[at] ^= bit;
            if let Ok(image) = open(&bytes, word)
                && let Ok(found) = contents(&image)
            {
                assert_eq!(found, expected, "byte {at}");
            }
            bytes[at] ^= bit;
        }
    }
}

#[test]
fn a_walk_names_every_record_of_a_locked_image() {
    let (geometry, chunks) = small();
    let (mut bytes, written) = write(geometry, &chunks, Some("secret"));
    let walk = Records::walk(volume(&bytes)).unwrap();
    let kinds: Vec<_> = walk.records().iter().map(|r| (r.kind, r.chunk.0)).collect();
    use RecordKind as K;
    let expected = [
        (K::Meta, 0),
        (K::Table, 0),
        (K::Chunk, 0),
        (K::Chunk, 1),
        (K::Chunk, 2),
        (K::Index, 0),
        (K::Prologue, 0),
        (K::Trailer, 0),
    ];
    assert_eq!(kinds, expected);
    assert!(walk.encrypted());
    assert_eq!(walk.summary().unwrap().root, written.root);
    let hit = walk.records()[3].position;
    let (at, other) = (
        usize::try_from(hit.offset).unwrap(),
        walk.records()[4].position,
    );
    bytes[at + 130] ^= 1;
    let walk = Records::walk(volume(&bytes)).unwrap();
    let mut scratch = Vec::new();
    assert!(matches!(
        walk.check(hit, &mut scratch),
        Err(FormatError::ChunkDamaged {
            chunk: ChunkId(1),
            ..
        })
    ));
    walk.check(other, &mut scratch).unwrap();
    // An invalid header leaves a gap exactly in the place of the record.
    bytes[at + 20] ^= 1;
    let walk = Records::walk(volume(&bytes)).unwrap();
    assert_eq!(walk.gaps()[0].position, hit);
    assert_eq!(hit.offset + walk.gaps()[0].bytes, other.offset);
    assert_eq!(walk.records().len(), 7);
}

#[test]
fn cut_anywhere_what_is_whole_survives() {
    let (geometry, chunks) = small();
    for word in [None, Some("secret")] {
        let (bytes, written) = write(geometry, &chunks, word);
        let all = contents(&open(&bytes, word).unwrap()).unwrap();
        let walk = Records::walk(volume(&bytes)).unwrap();
        for record in walk.records() {
            let start = usize::try_from(record.position.offset).unwrap();
            let end = start + usize::try_from(record.bytes).unwrap();
            for keep in [start, start + 1, start + 64, start + 128, end - 1] {
                let cut = &bytes[..keep];
                assert!(!passes_standard(cut));
                assert!(matches!(
                    open(cut, word),
                    Err(FormatError::Truncated { .. })
                ));
                let rebuilt = rebuild(cut, word).unwrap();
                let whole = walk.records().iter().filter(|r| {
                    r.kind == RecordKind::Chunk && r.position.offset + r.bytes <= keep as u64
                });
                let whole: Vec<_> = whole.map(|r| r.chunk).collect();
                let saved = contents(&rebuilt.image).unwrap();
                let expected: Vec<_> = all
                    .iter()
                    .filter(|(c, _)| whole.contains(c))
                    .cloned()
                    .collect();
                assert_eq!(saved, expected, "cut at {keep}");
                assert_eq!(rebuilt.meta_lost, record.kind == RecordKind::Meta);
                if !matches!(record.kind, RecordKind::Meta | RecordKind::Table) {
                    assert_eq!(rebuilt.image.manifest().table, table(&geometry));
                    assert_eq!(rebuilt.image.root() == written.root, whole.len() == 3);
                }
                let knows = matches!(record.kind, RecordKind::Prologue | RecordKind::Trailer);
                assert_eq!(rebuilt.missing, knows.then(Vec::new), "cut at {keep}");
            }
        }
    }
}

#[test]
fn cut_within_the_prologue_says_what_it_is() {
    let (geometry, chunks) = small();
    let (bytes, _) = write(geometry, &chunks, None);
    assert!(matches!(open(&[], None), Err(FormatError::NotAnImage)));
    for keep in [1, 7, 8, 100, 4095] {
        for outcome in [
            open(&bytes[..keep], None).map(drop),
            rebuild(&bytes[..keep], None).map(drop),
        ] {
            assert!(
                matches!(outcome, Err(FormatError::Truncated { .. })),
                "{keep}"
            );
        }
    }
}

#[test]
fn bytes_lost_or_added_cost_one_chunk() {
    let (geometry, chunks) = small();
    for word in [None, Some("secret")] {
        let (bytes, _) = write(geometry, &chunks, word);
        let walk = Records::walk(volume(&bytes)).unwrap();
        let at = usize::try_from(walk.records()[2].position.offset).unwrap();
        // A sector of the first chunk's body is missing, or was written twice. Later records stay
        // on multiples of 64, as on a medium that loses whole sectors.
        let mut shorter = bytes.clone();
        shorter.drain(at + 512..at + 1024);
        let mut longer = bytes.clone();
        longer.splice(at + 512..at + 512, bytes[at + 512..at + 1024].to_vec());
        for changed in [shorter, longer] {
            let rebuilt = rebuild(&changed, word).unwrap();
            let saved: Vec<_> = rebuilt
                .image
                .manifest()
                .entries
                .iter()
                .map(|e| e.chunk)
                .collect();
            assert_eq!(saved, [ChunkId(1), ChunkId(2)]);
            assert_eq!(rebuilt.damaged, [ChunkId(0)]);
            assert_eq!(rebuilt.missing, Some(vec![ChunkId(0)]));
            assert_eq!(contents(&rebuilt.image).unwrap().len(), 2);
            assert!(!rebuilt.meta_lost && !rebuilt.table_lost);
        }
    }
}

#[test]
fn a_damaged_index_loses_nothing_but_itself() {
    let (geometry, chunks) = small();
    let (mut bytes, written) = write(geometry, &chunks, Some("secret"));
    let walk = Records::walk(volume(&bytes)).unwrap();
    let at = usize::try_from(walk.records()[5].position.offset).unwrap();
    bytes[at + 128] ^= 1;
    assert!(matches!(
        open(&bytes, Some("secret")),
        Err(FormatError::Damaged { what: "index", .. })
    ));
    assert!(matches!(
        rebuild(&bytes, None),
        Err(FormatError::PasswordNeeded)
    ));
    assert!(matches!(
        rebuild(&bytes, Some("wrong")),
        Err(FormatError::WrongPassword)
    ));
    let rebuilt = rebuild(&bytes, Some("secret")).unwrap();
    assert_eq!(rebuilt.image.root(), written.root);
    assert_eq!(rebuilt.image.manifest(), &written.manifest);
    assert_eq!(rebuilt.missing, None);
}

#[test]
fn description_and_table_come_from_the_index_when_their_records_are_gone() {
    let (geometry, chunks) = small();
    let (mut bytes, written) = write(geometry, &chunks, None);
    let walk = Records::walk(volume(&bytes)).unwrap();
    let first = usize::try_from(walk.records()[2].position.offset).unwrap();
    bytes[4096..first].fill(0);
    let rebuilt = rebuild(&bytes, None).unwrap();
    assert!(!rebuilt.meta_lost && !rebuilt.table_lost);
    assert_eq!(rebuilt.image.root(), written.root);
    assert_eq!(rebuilt.gaps.len(), 1);
    // The image still opens with its index; the check reports the gap.
    assert_eq!(open(&bytes, None).unwrap().root(), written.root);
    assert!(!passes_standard(&bytes));
}
