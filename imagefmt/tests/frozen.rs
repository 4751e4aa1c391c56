//! Format version 1 is frozen: its fixtures never change, and every later version reads them like
//! the first one.
//!
//! `fixtures/image-version-1.json` contains the BLAKE3 of each file and the results of a reader. A
//! fixture may be added (`DISKCAST_MAKE_FIXTURES=1` writes it and its line); existing ones never
//! change.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test"
)]

mod common;
#[path = "common/forge.rs"]
#[allow(dead_code, unreachable_pub, reason = "other tests use the rest")]
mod forge;
#[path = "common/verdict.rs"]
#[allow(unreachable_pub, reason = "other tests use it too")]
mod verdict;

use common::*;
use forge::Forge;
use imagefmt::*;
use serde_json::{Map, Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use verdict::{WORD, fixtures, open_files, verdict, volumes};

fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fixtures")
        .join(name)
}

/// Images made by the writer of this crate. Their bytes depend on the version of zstd, so they are
/// written once.
fn written() -> Vec<(&'static str, Vec<u8>)> {
    let (geometry, chunks) = small();
    let locked = write(geometry, &chunks, Some(WORD)).0;
    let mut labels = Labels::default();
    labels.set("room", "Lab Ä").unwrap();
    let mut added = locked.clone();
    for step in 0..2 {
        let image = open(&added, Some(WORD)).unwrap();
        let addition = match step {
            0 => image.with_labels(&labels).unwrap(),
            _ => {
                let key = SigningKey::from_bytes(&[9; 32]);
                image.with_signature(&key.sign(&image.root())).unwrap()
            }
        };
        added.extend_from_slice(&addition.bytes);
    }
    let mut foreign = locked.clone();
    let mut head = locked[..4096].to_vec();
    head.copy_within(256..512, 512);
    head[256..512].fill(0x5a);
    head[256..260].copy_from_slice(&9u32.to_le_bytes());
    head[61] = 2;
    let hash = blake3::hash(&head[..4064]);
    head[4064..].copy_from_slice(hash.as_bytes());
    let copy = foreign.len() - 256 - 4096;
    foreign[..4096].copy_from_slice(&head);
    foreign[copy..copy + 4096].copy_from_slice(&head);
    foreign[copy - 64..copy - 32].copy_from_slice(blake3::hash(&head).as_bytes());
    reseal(&mut foreign);
    let large = Geometry::new((3 << 18) + 4096, 4096, 18).unwrap();
    let mut reversed = mixed(&large);
    reversed.reverse();
    // A zstd frame with a checksum and without the size of its content.
    let mut frame = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
    frame.include_checksum(true).unwrap();
    let mut other = Forge::default();
    frame.write_all(&other.pieces[1].plain()).unwrap();
    other.pieces[1].frame = Some(frame.finish().unwrap());
    vec![
        ("written-zstd-of-another-writer.dcimg", other.bytes()),
        ("written.dcimg", write(geometry, &chunks, None).0),
        (
            "written-backwards-sectors-of-4096.dcimg",
            write(large, &reversed, None).0,
        ),
        ("written-locked.dcimg", locked),
        ("written-locked-labelled-signed.dcimg", added),
        ("written-locked-slot-of-another-kind.dcimg", foreign),
    ]
}

fn make() {
    let [one, two] = Forge::default().divided();
    let divided = [("divided.dcimg", one), ("divided.dcimg.002", two)];
    for (name, bytes) in written().into_iter().chain(divided) {
        let path = place("image").join(name);
        if !path.exists() {
            std::fs::write(path, bytes).unwrap();
        }
    }
}

fn read(paths: &[PathBuf]) -> Vec<Vec<u8>> {
    paths.iter().map(|p| std::fs::read(p).unwrap()).collect()
}

#[test]
fn every_fixture_is_as_it_was_and_reads_as_it_did() {
    let list = place("image-version-1.json");
    let make_new = std::env::var_os("DISKCAST_MAKE_FIXTURES").is_some();
    let text = std::fs::read_to_string(&list).unwrap_or_else(|_| "{}".to_owned());
    let mut known: Map<String, Value> = serde_json::from_str(&text).unwrap();
    if make_new {
        make();
    }
    let mut wrong = Vec::new();
    let images = fixtures();
    for (name, paths, word) in &images {
        let files = read(paths);
        let hashes: Vec<_> = files.iter().map(|f| blake3::hash(f).to_string()).collect();
        let found = json!({ "blake3": hashes, "password": word, "reads": verdict(&files, *word) });
        match known.get(name) {
            None if make_new => {
                known.insert(name.clone(), found);
            }
            frozen if frozen == Some(&found) => {}
            frozen => wrong.push(format!("{name}: frozen as {frozen:?}, is {found}")),
        }
    }
    for name in known.keys() {
        if !images.iter().any(|(there, ..)| there == name) {
            wrong.push(format!("{name} is gone"));
        }
    }
    if make_new {
        let text = serde_json::to_string_pretty(&known).unwrap();
        std::fs::write(&list, text + "\n").unwrap();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(images.len() > 50, "{}", images.len());
}

/// The records of chunks as stored in the files.
fn chunk_records(files: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let records = Records::walk(volumes(files)).unwrap();
    let mut kept: Vec<_> = records
        .records()
        .iter()
        .filter(|r| r.kind == RecordKind::Chunk)
        .map(|r| {
            let at = r.position.offset as usize;
            files[r.position.volume as usize][at..at + r.bytes as usize].to_vec()
        })
        .collect();
    kept.sort();
    kept
}

/// The writer copies every readable fixture: the same root, the same bytes of every chunk, and the
/// same file both times.
#[test]
fn what_is_whole_is_written_again_as_it_was() {
    let mut count = 0;
    for (name, paths, word) in fixtures() {
        let files = read(&paths);
        let Ok(image) = open_files(&files, word) else {
            continue;
        };
        let Ok(content) = contents(&image) else {
            continue;
        };
        let again = || {
            let mut writer = image.copy_writer(Vec::new()).unwrap();
            writer.copy(&image, None, |_| true).unwrap();
            writer.finish().unwrap().sink
        };
        let copy = vec![again()];
        assert!(copy[0] == again(), "{name}: two copies differ");
        let copied = open_files(&copy, word).unwrap();
        assert_eq!(copied.root(), image.root(), "{name}");
        assert_eq!(contents(&copied).unwrap(), content, "{name}");
        assert_eq!(copied.signers(), image.signers(), "{name}");
        assert_eq!(copied.labels(), image.labels(), "{name}");
        if verdict(&files, word)["whole"] == true {
            assert!(
                chunk_records(&copy) == chunk_records(&files),
                "{name}: other bytes"
            );
        }
        count += 1;
    }
    assert!(count > 20, "{count}");
}
