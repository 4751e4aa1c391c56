//! After an interruption at any byte, the continued image equals that of an uninterrupted capture.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::*;
use imagefmt::*;

/// Continues from the valid part of `bytes` and writes the rest; also returns the number of chunks
/// that were kept.
fn go_on(
    bytes: &[u8],
    geometry: &Geometry,
    chunks: &[Chunk],
    word: Option<&str>,
) -> (Vec<u8>, usize) {
    let password = word.map(Password::new);
    let unfinished =
        Unfinished::read(bytes, bytes.len() as u64, password.as_ref(), DEFAULT_LEVEL).unwrap();
    assert_eq!(unfinished.geometry(), *geometry);
    let end = usize::try_from(unfinished.end()).unwrap();
    let mut writer = unfinished.into_writer(bytes[..end].to_vec());
    let there: Vec<ChunkId> = writer.written().map(|(chunk, _)| chunk).collect();
    let used: u64 = chunks
        .iter()
        .filter(|chunk| there.contains(&chunk.id))
        .map(|chunk| u64::from(chunk.mask.used_bytes()))
        .sum();
    assert_eq!(writer.used_bytes(), used);
    if writer.description().is_none() {
        writer.meta(&meta(geometry)).unwrap();
    }
    if writer.table_regions().is_empty() {
        writer.table(&table(geometry)).unwrap();
    }
    let mut encoder = Encoder::new(3, writer.id_key()).unwrap();
    for chunk in chunks.iter().filter(|chunk| !there.contains(&chunk.id)) {
        let body = encoder.encode(&chunk.mask, &chunk.used).unwrap();
        writer.chunk(chunk.id, &chunk.mask, &body).unwrap();
    }
    (writer.finish().unwrap().sink, there.len())
}

#[test]
fn a_cut_at_any_byte_costs_only_what_lies_behind_it() {
    let (geometry, chunks) = small();
    for word in [None, Some("secret")] {
        let (whole, _) = write(geometry, &chunks, word);
        let ends: Vec<usize> = Records::walk(volume(&whole))
            .unwrap()
            .records()
            .iter()
            .filter(|record| record.kind == RecordKind::Chunk)
            .map(|record| usize::try_from(record.position.offset + record.bytes).unwrap())
            .collect();
        // The password is tried at each cut, which takes time, so there are fewer cuts.
        for cut in (4096..=whole.len()).step_by(if word.is_some() { 1601 } else { 37 }) {
            let (again, kept) = go_on(&whole[..cut], &geometry, &chunks, word);
            assert!(again == whole, "cut at {cut}");
            assert_eq!(
                kept,
                ends.iter().filter(|end| **end <= cut).count(),
                "cut at {cut}"
            );
        }
    }
}

#[test]
fn what_a_power_cut_left_in_the_middle_is_not_believed() {
    let (geometry, chunks) = small();
    let (whole, _) = write(geometry, &chunks, None);
    let mut torn = whole.clone();
    let second = Records::walk(volume(&whole)).unwrap().records()[3]
        .position
        .offset;
    let at = usize::try_from(second).unwrap();
    torn[at + 130..at + 140].fill(0xee);
    let (again, kept) = go_on(&torn, &geometry, &chunks, None);
    assert!(again == whole);
    assert_eq!(kept, 1, "what lies behind damage is written again");
}

#[test]
fn a_prologue_that_does_not_hold_is_an_error() {
    let (geometry, chunks) = small();
    let (whole, _) = write(geometry, &chunks, Some("secret"));
    let read = |bytes: &[u8], word: Option<&str>| {
        let password = word.map(Password::new);
        Unfinished::read(bytes, bytes.len() as u64, password.as_ref(), 3).map(|u| u.end())
    };
    assert!(matches!(
        read(&whole, None),
        Err(FormatError::PasswordNeeded)
    ));
    assert!(matches!(
        read(&whole, Some("x")),
        Err(FormatError::WrongPassword)
    ));
    assert!(read(&whole[..4000], Some("secret")).is_err());
    assert!(read(&[], None).is_err());
}
