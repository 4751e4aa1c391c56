//! Hostile input: no bytes cause a panic, and nothing is returned unverified.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::*;
use imagefmt::*;
use proptest::prelude::*;

/// Calls everything that reads a file with these bytes.
fn try_all(bytes: &[u8], word: Option<&str>) {
    if let Ok(image) = open(bytes, word) {
        let _ = contents(&image);
        let _ = image.verify_signature(&VerifyingKey([1; 32]));
    }
    let _ = Image::summary(volume(bytes));
    passes_standard(bytes);
    if let Ok(rebuilt) = rebuild(bytes, word) {
        // Every chunk listed by a rebuild was verified.
        let listed = rebuilt.image.manifest().entries.len();
        assert_eq!(contents(&rebuilt.image).unwrap().len(), listed);
    }
}

fn edits() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..9000)) {
        try_all(&bytes, None);
        let _ = Manifest::decode(&bytes);
    }

    #[test]
    fn changed_image(edits in edits(), keep in any::<prop::sample::Index>(), cut in any::<bool>(), locked in any::<bool>()) {
        let word = locked.then_some("secret");
        let (geometry, chunks) = small();
        let (mut bytes, _) = write(geometry, &chunks, word);
        for (at, value) in edits {
            // The key slots are not changed, because argon2 could take seconds with a changed cost.
            let at = at.index(bytes.len());
            if !(256..2304).contains(&at) {
                bytes[at] = value;
            }
        }
        if cut {
            let keep = keep.index(bytes.len());
            bytes.truncate(keep);
        }
        try_all(&bytes, word);
        reseal(&mut bytes);
        try_all(&bytes, word);
    }

    #[test]
    fn changed_manifest(edits in edits()) {
        let (geometry, chunks) = small();
        let (_, written) = write(geometry, &chunks, None);
        let mut bytes = written.manifest.encode().unwrap();
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(manifest) = Manifest::decode(&bytes) {
            prop_assert_eq!(manifest.encode().unwrap(), bytes);
        }
    }

    #[test]
    fn any_body(
        body in prop::collection::vec(any::<u8>(), 0..6000),
        chunk in 0..4u32,
        range in (0..300_000u32, 0..20_000u32),
        codec in prop::sample::select(vec![Codec::Raw, Codec::Zstd, Codec::Zero]),
        len_fits in any::<bool>(),
        body_len in any::<u32>(),
    ) {
        let (geometry, _) = small();
        let mut mask = Mask::empty(geometry.chunk_len(ChunkId(chunk)));
        mask.set_range(range.0..range.0.saturating_add(range.1));
        let entry = Entry {
            chunk: ChunkId(chunk),
            codec,
            body_len: if len_fits { u32::try_from(body.len()).unwrap() } else { body_len },
            mask,
            id: ContentId([0; 32]),
        };
        let mut decoder = Decoder::new(None).unwrap();
        // No body with an id of zeros can be found.
        prop_assert!(decoder.decode(&geometry, &entry, &body, &mut Vec::new()).is_err());
    }

    #[test]
    fn any_used_blocks_come_back(
        ranges in prop::collection::vec((0..(1u32 << 18), 1..40_000u32), 1..6),
        seed in any::<u64>(),
        keyed in any::<bool>(),
    ) {
        let geometry = Geometry::new(1 << 18, 512, 18).unwrap();
        let mut mask = Mask::empty(1 << 18);
        for (start, len) in ranges {
            mask.set_range(start..start + len);
        }
        let used: Vec<u8> = Noise(seed).bytes(mask.used_bytes() as usize).iter().map(|b| b & 0x81).collect();
        let key = keyed.then(|| IdKey::from_bytes([4; 32]));
        let mut encoder = Encoder::new(1, key.clone()).unwrap();
        let body = encoder.encode(&mask, &used).unwrap();
        let entry = Entry {
            chunk: ChunkId(0),
            codec: body.codec,
            body_len: u32::try_from(body.bytes.len()).unwrap(),
            mask: mask.clone(),
            id: body.id,
        };
        let mut out = Vec::new();
        let mut decoder = Decoder::new(key).unwrap();
        prop_assert_eq!(decoder.decode(&geometry, &entry, body.bytes, &mut out).unwrap(), &used[..]);
        prop_assert!(Decoder::new(Some(IdKey::from_bytes([5; 32]))).unwrap()
            .decode(&geometry, &entry, body.bytes, &mut Vec::new()).is_err());
    }
}
