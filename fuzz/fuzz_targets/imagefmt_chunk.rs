//! Fuzz target: any body under any entry. The decoder refuses it or verifies it, and decoding
//! returns the encoder's input.
//!
//! Input: codec, chunk number, mask range (start u16, length u16, in 8-byte units), then the body.
#![no_main]

use imagefmt::{ChunkId, Codec, ContentId, Decoder, Encoder, Entry, Geometry, Mask};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&[form, chunk, s0, s1, l0, l1], body)) = data.split_first_chunk::<6>() else {
        return;
    };
    let geometry = Geometry::new((2 << 18) + 5120, 512, 18).expect("a valid geometry");
    let chunk = ChunkId(u32::from(chunk % 4));
    let start = u32::from(u16::from_le_bytes([s0, s1])) * 8;
    let mut mask = Mask::empty(geometry.chunk_len(chunk));
    mask.set_range(start..start + u32::from(u16::from_le_bytes([l0, l1])) * 8);
    let codec = match form % 3 {
        0 => Codec::Raw,
        1 => Codec::Zstd,
        _ => Codec::Zero,
    };
    let mut decoder = Decoder::new(None).expect("memory");
    let mut out = Vec::new();
    let Ok(body_len) = u32::try_from(body.len()) else {
        return;
    };
    let entry = Entry {
        chunk,
        codec,
        body_len,
        mask: mask.clone(),
        id: ContentId([0; 32]),
    };
    // No content has an id of all zeros.
    assert!(decoder.decode(&geometry, &entry, body, &mut out).is_err());

    if mask.is_empty() || body.is_empty() {
        return;
    }
    let used: Vec<u8> = body
        .iter()
        .copied()
        .cycle()
        .take(mask.used_bytes() as usize)
        .collect();
    let mut encoder = Encoder::new(1, None).expect("memory");
    let made = encoder
        .encode(&mask, &used)
        .expect("the bytes fit their mask");
    let body_len = u32::try_from(made.bytes.len()).expect("no longer than a chunk");
    let entry = Entry {
        chunk,
        codec: made.codec,
        body_len,
        mask,
        id: made.id,
    };
    assert_eq!(
        decoder
            .decode(&geometry, &entry, made.bytes, &mut out)
            .expect("own body"),
        used
    );
});
