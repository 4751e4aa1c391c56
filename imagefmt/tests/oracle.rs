//! A second reader, written in Python from the document alone (`reader.py`), gives the same results
//! for every image.
//!
//! It reads every fixture, images that this crate writes in many forms, and images with a flipped
//! bit.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "a test; it says what it was not held against"
)]

mod common;
#[path = "common/forge.rs"]
#[allow(dead_code, unreachable_pub, reason = "other tests use the rest")]
mod forge;

#[path = "common/verdict.rs"]
#[allow(dead_code, unreachable_pub, reason = "other tests use the rest")]
mod verdict;

use common::*;
use forge::{Forge, plain_record, signature};
use imagefmt::*;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use verdict::{fixtures, verdict};

const MODULES: &str = "blake3, zstandard, nacl.signing, argon2.low_level";

/// The Python interpreter for the reader, if it has the needed modules; the one named by
/// `DISKCAST_PYTHON` must have them.
fn python() -> Option<String> {
    let named = std::env::var("DISKCAST_PYTHON").ok();
    let must = named.is_some();
    let python = named.unwrap_or_else(|| "python3".into());
    let import = format!("import {MODULES}");
    let has = Command::new(&python).args(["-c", &import]).output();
    if !has.is_ok_and(|out| out.status.success()) {
        assert!(!must, "DISKCAST_PYTHON: {python} does not have {MODULES}");
        println!("not held against {MODULES}: {python} does not have them (see DISKCAST_PYTHON)");
        return None;
    }
    Some(python)
}

/// Runs the other reader on all of these files and compares each result with ours.
fn compare(python: &str, word: Option<&str>, images: &[(String, Vec<PathBuf>)]) {
    let reader = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reader.py");
    let out = Command::new(python)
        .arg(reader)
        .args(word.iter().flat_map(|word| ["--password", word]))
        .args(images.iter().map(|(_, paths)| {
            let paths: Vec<_> = paths.iter().map(|path| path.to_str().unwrap()).collect();
            paths.join(",")
        }))
        .output()
        .unwrap();
    let said = String::from_utf8(out.stdout).unwrap();
    let told = String::from_utf8_lossy(&out.stderr);
    assert_eq!(said.lines().count(), images.len(), "{told}");
    for ((name, paths), line) in images.iter().zip(said.lines()) {
        let theirs: Value = serde_json::from_str(line).unwrap();
        let files: Vec<_> = paths
            .iter()
            .map(|path| std::fs::read(path).unwrap())
            .collect();
        let ours = verdict(&files, word);
        let mut held = theirs.clone();
        if let Some(fields) = held.as_object_mut() {
            fields.remove("why");
            fields.remove("uuid");
            if let Some(faults) = fields.remove("faults") {
                let whole = faults == json!([]);
                fields.insert("whole".into(), whole.into());
                if !whole {
                    fields.insert("behind".into(), 0.into());
                }
            }
        }
        assert_eq!(held, ours, "{name}: it says {theirs}");
    }
}

fn put(folder: &Path, name: &str, bytes: &[u8]) -> (String, Vec<PathBuf>) {
    let path = folder.join(format!("{name}.dcimg"));
    std::fs::write(&path, bytes).unwrap();
    (name.to_owned(), vec![path])
}

#[test]
fn every_fixture() {
    let Some(python) = python() else {
        return;
    };
    let (locked, open): (Vec<_>, Vec<_>) = fixtures().into_iter().partition(|f| f.2.is_some());
    assert!(open.len() > 45 && locked.len() > 2);
    for (word, images) in [(None, open), (Some(verdict::WORD), locked)] {
        let images: Vec<_> = images
            .into_iter()
            .map(|(name, paths, _)| (name, paths))
            .collect();
        compare(&python, word, &images);
    }
}

#[test]
fn images_of_every_form() {
    let Some(python) = python() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    // The password is written in decomposed form; both readers must compose it.
    for word in [None, Some("pa\u{308}ss word")] {
        let mut images = Vec::new();
        for (sector, log2) in [(512, 18), (1024, 18), (4096, 20)] {
            let geometry = Geometry::new((3 << log2) + 4096, sector, log2).unwrap();
            let mut chunks = mixed(&geometry);
            chunks.reverse();
            let (bytes, _) = write(geometry, &chunks, word);
            let name = format!("{sector}-{log2}-{}", word.is_some());
            images.push(put(folder.path(), &name, &bytes));
        }
        let (geometry, chunks) = small();
        let (mut bytes, _) = write(geometry, &chunks, word);
        let mut labels = Labels::default();
        labels.set("room", "Lab Ä").unwrap();
        for step in 0..3 {
            let image = open(&bytes, word).unwrap();
            let addition = match step {
                0 => image.with_labels(&labels).unwrap(),
                _ => image
                    .with_signature(&SigningKey::from_bytes(&[step; 32]).sign(&image.root()))
                    .unwrap(),
            };
            bytes.extend_from_slice(&addition.bytes);
        }
        let name = format!("labelled-and-signed-{}", word.is_some());
        images.push(put(folder.path(), &name, &bytes));
        compare(&python, word, &images);
        if word.is_some() {
            compare(&python, Some("another word"), &images[..1]);
            compare(&python, None, &images[..1]);
        }
    }
}

#[test]
fn images_with_a_flipped_bit() {
    let Some(python) = python() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (geometry, chunks) = small();
    let signed = {
        let mut forge = Forge::default();
        let (body, _) = signature([5; 32], forge.root());
        forge.behind.push(plain_record(5, &body));
        forge.bytes()
    };
    let locked = write(geometry, &chunks, Some("secret")).0;
    for (name, bytes, word) in [("plain", signed, None), ("locked", locked, Some("secret"))] {
        let mut images = Vec::new();
        for at in (0..bytes.len() * 8).step_by(1201) {
            // A flipped cost in a key slot could make argon2 take seconds, or need more memory than
            // there is.
            if (256 * 8..512 * 8).contains(&at) {
                continue;
            }
            let mut hurt = bytes.clone();
            hurt[at / 8] ^= 1 << (at % 8);
            images.push(put(folder.path(), &format!("{name}-bit-{at}"), &hurt));
        }
        compare(&python, word, &images);
    }
}
