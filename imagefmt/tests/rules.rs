//! Every rule of the format as a small image that keeps or breaks it, with the expected results of
//! a reader.
//!
//! The images are made by a separate writer (`common/forge.rs`) and stored in `fixtures/image/`,
//! byte for byte, for readers in other languages and for every later version.
//! `DISKCAST_MAKE_FIXTURES=1` writes missing ones; existing ones never change.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test"
)]

mod common;
#[path = "common/forge.rs"]
#[allow(dead_code, unreachable_pub, reason = "other tests use the rest")]
mod forge;

use common::*;
use forge::{Forge, Piece, UUID, chunk_record, plain_record, record, signature, with_header_byte};
use imagefmt::*;
use std::path::Path;

/// The results of readers for an image: the error of opening it, the findings of a check, and the
/// error of reading all chunks.
fn verdict(bytes: &[u8]) -> Vec<String> {
    let image = open(bytes, None);
    let mut said = Vec::new();
    if let Err(error) = &image {
        said.push(format!("open: {error}"));
    }
    match Records::walk(volume(bytes)) {
        Err(error) => said.push(format!("check: {error}")),
        Ok(records) => {
            let mut faults: Vec<String> = records.faults().iter().map(full).collect();
            faults.extend(records.refused().iter().map(|(_, error)| full(error)));
            if let Ok(image) = &image {
                faults.extend(image.disagreements(&records).iter().map(full));
            }
            let prologues = records.damaged_prologues();
            faults.extend(
                prologues
                    .iter()
                    .map(|n| format!("prologue of volume {}", n + 1)),
            );
            let mut scratch = Vec::new();
            faults.extend(records.records().iter().filter_map(|record| {
                records
                    .check(record.position, &mut scratch)
                    .err()
                    .map(|e| full(&e))
            }));
            if records.trailing() > 0 {
                faults.push(format!("{} bytes behind the end", records.trailing()));
            }
            for (number, name, count) in records.passed_over() {
                faults.push(format!(
                    "passed over: {count} of record type {number}{name}"
                ));
            }
            faults.dedup();
            said.extend(faults.into_iter().map(|fault| format!("check: {fault}")));
        }
    }
    if let Ok(image) = &image
        && let Err(error) = contents(image)
    {
        said.push(format!("read: {error}"));
    }
    said
}

fn full(error: &FormatError) -> String {
    error.to_string()
}

/// A name, an image, and the expected results.
type Case = (&'static str, Vec<u8>, Vec<&'static str>);

fn room() -> Labels {
    let mut labels = Labels::default();
    labels.set("room", "Lab Ä").unwrap();
    labels
}

/// An image with an addition behind its end.
fn added(add: &dyn Fn(&Image<&[u8]>) -> Addition) -> Vec<u8> {
    let mut bytes = Forge::default().bytes();
    let addition = add(&open(&bytes, None).unwrap());
    assert_eq!(addition.offset, bytes.len() as u64);
    bytes.extend(addition.bytes);
    bytes
}

fn cases() -> Vec<Case> {
    let good = Forge::default;
    let forged = |change: &dyn Fn(&mut Forge)| {
        let mut forge = good();
        change(&mut forge);
        forge.bytes()
    };
    let first = good().pieces[0].clone();
    let strange = |kind| record(kind, 9, 0, [7; 32], b"from a later version");
    let signed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut forge = good();
        let (mut body, _) = signature([9; 32], forge.root());
        change(&mut body);
        forge.behind.push(plain_record(5, &body));
        forge.bytes()
    };
    let padded = {
        let mut bytes = good().bytes();
        bytes.resize(bytes.len().next_multiple_of(65536), 0);
        bytes
    };
    let junk_behind = {
        let mut bytes = good().bytes();
        bytes.extend(Noise(3).bytes(5001));
        bytes
    };
    let without_head = {
        let mut bytes = good().bytes();
        bytes[..4096].fill(0);
        bytes
    };
    vec![
        // Images that a reader accepts.
        ("whole", good().bytes(), vec![]),
        ("signed", signed(&|_| ()), vec![]),
        (
            "signed-by-a-later-algorithm",
            signed(&|body| body[0] = 7),
            vec![],
        ),
        (
            "optional-record",
            forged(&|f| {
                f.names.push((4, 130, "parity"));
                f.before.push(strange(130));
                f.behind.push(strange(200));
            }),
            vec![
                "check: passed over: 1 of record type 130 (parity)",
                "check: passed over: 1 of record type 200",
            ],
        ),
        (
            "meta-again",
            forged(&|f| {
                let last = f.meta.replace("forge", "forge again");
                f.before.push(plain_record(1, last.as_bytes()));
                f.index_meta = Some(last);
            }),
            vec![],
        ),
        (
            "padded-copy",
            padded,
            vec!["check: 42368 bytes behind the end"],
        ),
        (
            "bytes-behind-the-end",
            junk_behind,
            vec!["check: 5001 bytes behind the end"],
        ),
        (
            "without-its-first-bytes",
            without_head,
            vec!["check: prologue of volume 1"],
        ),
        (
            "later-minor-version",
            forged(&|f| {
                f.head = vec![
                    (10, vec![7]),
                    (16, vec![0x80]),
                    (68, vec![1, 2, 3, 4]),
                    (80, b"said by a later version".to_vec()),
                    (256, vec![0x5a; 256]),
                    (2304, b"\x63\x01a class nobody knows".to_vec()),
                    (2336, b"\x04\x82\xff\xfe no text".to_vec()),
                    (3072, b"and more".to_vec()),
                ];
            }),
            vec![],
        ),
        (
            "read-only-feature",
            forged(&|f| {
                f.head = vec![(24, vec![8])];
                f.names.push((2, 3, "sums of volumes"));
            }),
            vec![],
        ),
        (
            "optional-record-that-says-more",
            forged(&|f| {
                f.before.push(with_header_byte(strange(130), 115, 1));
                f.before.push(with_header_byte(strange(131), 10, 9));
                f.before.push(with_header_byte(strange(132), 12, 9));
            }),
            vec![
                "check: passed over: 1 of record type 130",
                "check: passed over: 1 of record type 131",
                "check: passed over: 1 of record type 132",
            ],
        ),
        (
            "labels",
            forged(&|f| {
                f.behind
                    .push(plain_record(8, "{\"room\":\"Lab Ä\"}".as_bytes()));
            }),
            vec![],
        ),
        (
            "labels-that-make-no-sense",
            forged(&|f| {
                f.behind.push(plain_record(8, br#"{"room":"Lab A"}"#));
                f.behind.push(plain_record(8, br#"["no object"]"#));
            }),
            vec![],
        ),
        (
            "labels-added",
            added(&|image| image.with_labels(&room()).unwrap()),
            vec![],
        ),
        (
            "signature-added",
            added(&|image| {
                let key = SigningKey::from_bytes(&[9; 32]);
                image.with_signature(&key.sign(&image.root())).unwrap()
            }),
            vec![],
        ),
        (
            "addition-that-was-cut",
            {
                let mut bytes = added(&|image| image.with_labels(&room()).unwrap());
                bytes.truncate(bytes.len() - 100);
                bytes
            },
            vec![
                "check: addition behind the end at byte 23168 is damaged: labels or a signature were cut or are damaged, and count for nothing; add them again",
                "check: 4572 bytes behind the end",
            ],
        ),
        // Images that a reader refuses to open.
        (
            "another-major-version",
            forged(&|f| f.head = vec![(8, vec![2])]),
            vec![
                "open: image format 2 is newer than 1, the newest this program reads",
                "check: image format 2 is newer than 1, the newest this program reads",
            ],
        ),
        (
            "another-hash-of-ids",
            forged(&|f| {
                f.head = vec![(62, vec![2])];
                f.names.push((7, 2, "sha3"));
            }),
            vec![
                "open: hash 2 (sha3) is not known to this program; use a newer one",
                "check: hash 2 (sha3) is not known to this program; use a newer one",
            ],
        ),
        (
            "another-block-size",
            forged(&|f| f.head = vec![(63, vec![13])]),
            vec![
                "open: used-block size exponent is 13, the limit is 12",
                "check: used-block size exponent is 13, the limit is 12",
            ],
        ),
        (
            "unknown-feature",
            forged(&|f| {
                f.incompatible = 1 << 5 | 1 << 9;
                f.names.push((3, 5, "delta chunks"));
            }),
            vec![
                "open: image needs features this program does not have: bit 5 (delta chunks), bit 9; use a newer one",
                "check: image needs features this program does not have: bit 5 (delta chunks), bit 9; use a newer one",
            ],
        ),
        (
            "disk-of-half-a-sector",
            forged(&|f| f.disk_size += 100),
            vec![
                "open: disk size is 794724, which is no multiple of 512",
                "check: disk size is 794724, which is no multiple of 512",
            ],
        ),
        (
            "table-without-sector-0",
            forged(&|f| f.table[0].0 = 512),
            vec!["open: partition table (TABLE) at byte 0 is damaged: it does not hold sector 0"],
        ),
        (
            "table-of-half-a-sector",
            forged(&|f| f.table[0].1.truncate(500)),
            vec!["open: length of a table region is 500, which is no multiple of 512"],
        ),
        (
            "table-between-sectors",
            forged(&|f| f.table.push((1100, vec![1; 512]))),
            vec!["open: offset of a table region is 1100, which is no multiple of 512"],
        ),
        (
            "table-regions-overlap",
            forged(&|f| {
                f.table[0].1.resize(1024, 1);
                f.table.push((512, vec![1; 512]));
            }),
            vec![
                "open: partition table (TABLE) at byte 512 is damaged: regions are empty, overlap or are out of order",
            ],
        ),
        (
            "index-lists-a-chunk-twice",
            forged(&|f| f.listed = vec![0, 0, 1]),
            vec![
                "open: manifest at byte 750 is damaged: its chunks do not ascend",
                "check: trailer at byte 22976 is damaged: it counts other chunks than there are chunk records",
            ],
        ),
        (
            "index-lists-a-chunk-without-blocks",
            forged(&|f| {
                f.pieces[1].blocks = 0;
                f.pieces[1].used.clear();
            }),
            vec![
                "open: chunk 2 is damaged: it has no used blocks",
                "check: record header at byte 13440 is damaged: it has no used blocks",
            ],
        ),
        (
            "trailer-counts-99-chunks",
            forged(&|f| f.chunks = Some(99)),
            vec![
                "open: index at byte 17728 is damaged: its counts are not those in the trailer",
                "check: trailer at byte 22912 is damaged: it counts other chunks than there are chunk records",
            ],
        ),
        (
            "trailer-counts-other-bytes",
            forged(&|f| f.used_bytes = Some(1)),
            vec![
                "open: index at byte 17728 is damaged: its counts are not those in the trailer",
                "check: trailer at byte 22912 is damaged: it counts other used bytes than the chunks have",
            ],
        ),
        (
            "bad-signature",
            signed(&|body| body[50] ^= 1),
            vec!["open: signature does not match this image and key"],
        ),
        (
            "signature-of-another-image",
            {
                let mut forge = good();
                let (body, _) = signature([9; 32], [1; 32]);
                forge.behind.push(plain_record(5, &body));
                forge.bytes()
            },
            vec!["open: signature does not match this image and key"],
        ),
        // Images with faults that a check finds.
        (
            "mandatory-record",
            forged(&|f| {
                f.names.push((4, 9, "delta"));
                f.before.push(strange(9));
            }),
            vec!["check: record type 9 (delta) is not known to this program; use a newer one"],
        ),
        (
            "unknown-codec",
            forged(&|f| {
                let wrong = with_header_byte(chunk_record(&first), 9, 0x8b);
                f.names.push((5, 11, "lz"));
                f.before.push(wrong);
            }),
            vec!["check: codec 11 (lz) is not known to this program; use a newer one"],
        ),
        (
            "unknown-cipher",
            forged(&|f| {
                f.before.push(with_header_byte(chunk_record(&first), 10, 5));
            }),
            vec!["check: cipher 5 is not known to this program; use a newer one"],
        ),
        (
            "unknown-hash",
            forged(&|f| {
                f.before.push(with_header_byte(chunk_record(&first), 11, 2));
            }),
            vec!["check: hash 2 is not known to this program; use a newer one"],
        ),
        (
            "chunk-record-twice",
            forged(&|f| f.before.push(chunk_record(&first))),
            vec![
                "check: chunk 0 is damaged: it is there twice",
                "check: trailer at byte 31296 is damaged: it counts other chunks than there are chunk records",
                "check: chunk 0 is damaged: the index does not list it",
            ],
        ),
        (
            "chunk-the-index-does-not-list",
            forged(&|f| {
                f.before.push(chunk_record(&Piece {
                    number: 1,
                    ..f.pieces[1].clone()
                }));
            }),
            vec![
                "check: trailer at byte 27200 is damaged: it counts other chunks than there are chunk records",
                "check: chunk 1 is damaged: the index does not list it",
            ],
        ),
        (
            "meta-differs",
            forged(&|f| f.index_meta = Some(f.meta.replace("forge", "forgo"))),
            vec![
                "check: description record (META) at byte 4096 is damaged: it is not the one in the index",
            ],
        ),
        (
            "table-differs",
            forged(&|f| f.index_table = Some(vec![(0, vec![9; 512])])),
            vec![
                "check: partition table record (TABLE) at byte 4352 is damaged: it is not the one in the index",
            ],
        ),
        (
            "meta-is-not-first",
            forged(&|f| f.first.push(strange(130))),
            vec![
                "check: record of an unknown type at byte 4096 is damaged: the first record is not the description (META)",
                "check: passed over: 1 of record type 130",
            ],
        ),
        (
            "two-indexes",
            forged(&|f| f.before.push(plain_record(4, b"another"))),
            vec!["check: index at byte 17920 is damaged: an image has one"],
        ),
        (
            "two-tables",
            forged(&|f| {
                let mut body = 1u32.to_le_bytes().to_vec();
                body.extend_from_slice(&0u64.to_le_bytes());
                body.extend_from_slice(&512u32.to_le_bytes());
                body.extend_from_slice(&f.table[0].1);
                f.before.push(plain_record(2, &body));
            }),
            vec![
                "check: partition table record (TABLE) at byte 17728 is damaged: an image has one",
            ],
        ),
        (
            "chunk-behind-the-index",
            forged(&|f| {
                f.behind.push(chunk_record(&Piece {
                    number: 1,
                    ..f.pieces[1].clone()
                }));
            }),
            vec![
                "check: chunk 1 is damaged: it lies behind the index",
                "check: trailer at byte 27200 is damaged: it counts other chunks than there are chunk records",
                "check: chunk 1 is damaged: the index does not list it",
            ],
        ),
        (
            "meta-with-a-chunk-number",
            forged(&|f| {
                let meta = plain_record(1, f.meta.as_bytes());
                f.before.push(with_header_byte(meta, 12, 1));
            }),
            vec![
                "check: record header at byte 17728 is damaged: it has a chunk number and is no chunk",
            ],
        ),
        (
            "nonce-without-a-cipher",
            forged(&|f| {
                f.before.push(with_header_byte(chunk_record(&first), 41, 1));
            }),
            vec![
                "check: record header at byte 17728 is damaged: it has a nonce and is not encrypted",
            ],
        ),
        (
            "without-a-copy-of-the-prologue",
            forged(&|f| f.with_copy = false),
            vec!["check: trailer at byte 18688 is damaged: no copy of the prologue lies before it"],
        ),
        // Images with faults that appear when chunks are read.
        (
            "table-bytes-in-a-chunk",
            forged(&|f| f.pieces[0].used[511] = 1),
            vec!["read: chunk 0 is damaged: it is not zero where the partition table (TABLE) lies"],
        ),
    ]
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/image")
}

#[test]
fn every_rule_is_kept_or_said_to_be_broken() {
    let make = std::env::var_os("DISKCAST_MAKE_FIXTURES").is_some();
    let mut wrong = Vec::new();
    for (name, bytes, expected) in cases() {
        let path = folder().join(format!("{name}.dcimg"));
        // Existing files are frozen.
        if make && !path.exists() {
            std::fs::write(&path, &bytes).unwrap();
        }
        let stored = std::fs::read(&path).unwrap_or_default();
        if stored != bytes {
            wrong.push(format!("{name}: its fixture is another file"));
        }
        let said = verdict(&stored);
        if said != expected {
            wrong.push(format!("{name}: {said:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_whole_reads_the_same_however_it_ends() {
    let expected = contents(&open(&Forge::default().bytes(), None).unwrap()).unwrap();
    for (name, bytes, said) in cases() {
        if said
            .iter()
            .all(|line| !line.starts_with("open:") && !line.starts_with("read:"))
        {
            let image = open(&bytes, None).unwrap();
            assert_eq!(contents(&image).unwrap(), expected, "{name}");
        }
    }
}

#[test]
fn keys_of_signatures_are_told() {
    let mut forge = Forge::default();
    let (one, first) = signature([1; 32], forge.root());
    let (two, second) = signature([2; 32], forge.root());
    forge.behind = vec![plain_record(5, &one), plain_record(5, &two)];
    let bytes = forge.bytes();
    let image = open(&bytes, None).unwrap();
    assert_eq!(image.signers(), [first, second]);
    let summary = Image::summary(volume(&bytes)).unwrap();
    assert_eq!(summary.signers, [first, second]);
    let other = SigningKey::from_bytes(&[3; 32]).public();
    assert!(matches!(
        image.verify_signature(&other),
        Err(FormatError::BadSignature)
    ));
    // A damaged signature is ignored, and nothing else is lost.
    let at = bytes.len() - 256 - 4224 - 256 + 140;
    let mut decayed = bytes.clone();
    decayed[at] ^= 1;
    assert_eq!(open(&decayed, None).unwrap().signers(), [first]);
    assert!(!passes_standard(&decayed));
}

/// An encrypted image with its slots changed by `change`, and with a valid prologue in both places.
fn with_slots(change: impl Fn(&mut [u8])) -> Vec<u8> {
    let (geometry, chunks) = small();
    let (mut bytes, _) = write(geometry, &chunks, Some("secret"));
    let mut head = bytes[..4096].to_vec();
    change(&mut head);
    bytes[..4096].copy_from_slice(&head);
    let copy = bytes.len() - 256 - 4096;
    bytes[copy..copy + 4064].copy_from_slice(&head[..4064]);
    let hash = blake3::hash(&head[..4064]);
    bytes[copy + 4064..copy + 4096].copy_from_slice(hash.as_bytes());
    let body: [u8; 4096] = bytes[copy..copy + 4096].try_into().unwrap();
    bytes[copy - 64..copy - 32].copy_from_slice(blake3::hash(&body).as_bytes());
    reseal(&mut bytes);
    bytes
}

#[test]
fn a_key_slot_of_another_kind_stands_in_nobodys_way() {
    let foreign = |head: &mut [u8]| {
        // The password's slot moves behind a slot of a later version.
        head.copy_within(256..512, 512);
        head[256..512].fill(0x5a);
        head[256..260].copy_from_slice(&9u32.to_le_bytes());
        head[61] = 2;
    };
    let bytes = with_slots(foreign);
    assert_eq!(
        contents(&open(&bytes, Some("secret")).unwrap())
            .unwrap()
            .len(),
        3
    );
    assert!(passes_standard(&bytes));
    assert!(matches!(
        open(&bytes, Some("wrong")),
        Err(FormatError::WrongPassword)
    ));
    assert!(matches!(
        open(&bytes, None),
        Err(FormatError::PasswordNeeded)
    ));
    // A slot that was cleared.
    let bytes = with_slots(|head| {
        foreign(head);
        head[256..512].fill(0);
    });
    assert!(open(&bytes, Some("secret")).is_ok());
    // This version cannot open it, and the message names the kind of the slot.
    let alone = with_slots(|head| {
        head[256..260].copy_from_slice(&9u32.to_le_bytes());
        head[2304..2309].copy_from_slice(b"\x08\x09tpm");
    });
    for word in [None, Some("secret")] {
        assert_eq!(
            open(&alone, word).unwrap_err().to_string(),
            "key slot kind 9 (tpm) is not known to this program; use a newer one"
        );
    }
    let none = with_slots(|head| head[256..512].fill(0));
    assert_eq!(
        open(&none, Some("secret")).unwrap_err().to_string(),
        "prologue at byte 0 is damaged: no key slot opens the image"
    );
}

#[test]
fn equal_chunks_of_an_encrypted_image_look_different() {
    let geometry = Geometry::new(2 << 18, 512, 18).unwrap();
    let mut mask = Mask::empty(1 << 18);
    mask.set_range(8192..12288);
    let chunks = [0, 1].map(|number| Chunk::new(number, mask.clone(), |n| Noise(4).bytes(n)));
    let ids = |word| {
        let (bytes, written) = write(geometry, &chunks, word);
        let entries = &written.manifest.entries;
        assert_eq!(entries[0].id, entries[1].id, "the manifest names content");
        let records = Records::walk(volume(&bytes)).unwrap();
        let chunks = records.records().iter();
        let chunks = chunks.filter(|record| record.kind == RecordKind::Chunk);
        chunks
            .map(|record| {
                let at = record.position.offset as usize;
                bytes[at + 64..at + 96].to_vec()
            })
            .collect::<Vec<_>>()
    };
    let plain = ids(None);
    assert_eq!(plain[0], plain[1]);
    let sealed = ids(Some("secret"));
    assert_ne!(sealed[0], sealed[1]);
}

#[test]
fn an_unfinished_image_of_a_later_version_is_not_cut() {
    let mut forge = Forge::default();
    forge.before.push(record(130, 9, 0, [7; 32], b"later"));
    let bytes = forge.bytes();
    let records = Records::walk(volume(&bytes)).unwrap();
    let index = records
        .records()
        .iter()
        .find(|r| r.kind == RecordKind::Index);
    let end = index.unwrap().position.offset;
    let read = |bytes: &[u8]| Unfinished::read(bytes, bytes.len() as u64, None, 3);
    assert_eq!(read(&bytes).unwrap().end(), end);
    forge.before[0] = record(20, 9, 0, [7; 32], b"later");
    assert!(matches!(
        read(&forge.bytes()),
        Err(FormatError::Unknown { number: 20, .. })
    ));
}

#[test]
fn copies_of_the_prologue_stand_in_for_the_first() {
    let (geometry, chunks) = small();
    for word in [None, Some("secret")] {
        let (bytes, written) = write(geometry, &chunks, word);
        for damage in [0..8, 8..16, 40..56, 256..300, 4064..4096, 0..4096] {
            let mut hurt = bytes.clone();
            hurt[damage.clone()].fill(0xee);
            let image = open(&hurt, word).unwrap();
            assert_eq!(image.root(), written.root, "{damage:?}");
            assert_eq!(contents(&image).unwrap().len(), 3);
            assert!(!passes_standard(&hurt));
            let rebuilt = rebuild(&hurt, word).unwrap();
            assert_eq!(rebuilt.image.root(), written.root);
            // The loss of the copy alone is harmless too.
            let copy = bytes.len() - 256 - 4096;
            let mut other = bytes.clone();
            other[copy + damage.start..copy + damage.end].fill(0xee);
            assert_eq!(open(&other, word).unwrap().root(), written.root);
            assert!(!passes_standard(&other));
        }
    }
    assert_eq!(UUID, *b"0123456789abcdef");
}

#[test]
fn a_rebuild_lists_no_chunk_that_cannot_be_read() {
    let bytes = std::fs::read(folder().join("table-bytes-in-a-chunk.dcimg")).unwrap();
    let rebuilt = rebuild(&bytes, None).unwrap();
    let before = open(&bytes, None).unwrap().manifest().entries.len();
    assert_eq!(rebuilt.damaged, [ChunkId(0)]);
    assert_eq!(rebuilt.image.manifest().entries.len(), before - 1);
    assert_eq!(contents(&rebuilt.image).unwrap().len(), before - 1);
}

/// Additions to an image of a later minor version repeat its prologue unchanged; nothing is added
/// if that is forbidden.
#[test]
fn a_later_version_is_not_made_this_one_by_adding_to_it() {
    let read = |name: &str| std::fs::read(folder().join(format!("{name}.dcimg"))).unwrap();
    let mut bytes = read("later-minor-version");
    let addition = open(&bytes, None).unwrap().with_labels(&room()).unwrap();
    bytes.extend(addition.bytes);
    let copy = bytes.len() - 256 - 4096;
    assert!(
        bytes[..4096] == bytes[copy..copy + 4096],
        "another prologue"
    );
    assert!(passes_standard(&bytes));
    let mut without_head = bytes.clone();
    without_head[..4096].fill(0);
    let image = open(&without_head, None).unwrap();
    assert_eq!(image.labels(), &room());

    let bytes = read("read-only-feature");
    let error = open(&bytes, None).unwrap().with_labels(&room());
    assert_eq!(
        error.unwrap_err().to_string(),
        "image may be read but not changed: it has features this program does not have: bit 3 (sums of volumes); use a newer one"
    );
    let unfinished = Unfinished::read(bytes.as_slice(), bytes.len() as u64, None, 3);
    assert!(matches!(unfinished, Err(FormatError::ReadOnly { .. })));
    // A copy is an image of this version.
    let image = open(&bytes, None).unwrap();
    let mut writer = image.copy_writer(Vec::new()).unwrap();
    writer.copy(&image, None, |_| true).unwrap();
    let copy = writer.finish().unwrap().sink;
    let copy = open(&copy, None).unwrap();
    assert_eq!(copy.root(), image.root());
    copy.with_labels(&room()).unwrap();
}

/// The worked example in the document equals the fixture byte for byte.
#[test]
fn the_hex_in_the_document_is_that_of_the_fixture() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/image-format.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, example) = page.split_once("## A tiny image").unwrap();
    let example = example.split("```").nth(1).unwrap();
    let whole = Forge::default().bytes();
    let mut lines = 0;
    for line in example.lines().filter(|line| line.starts_with(' ')) {
        let mut words = line.split_whitespace();
        let at: usize = words.next().unwrap().parse().unwrap();
        let bytes: Vec<u8> = line[8..line.len().min(55)]
            .split_whitespace()
            .map(|word| u8::from_str_radix(word, 16).unwrap())
            .collect();
        assert_eq!(bytes, whole[at..at + bytes.len()], "{line}");
        lines += 1;
    }
    assert!(lines > 40, "{lines}");
}
