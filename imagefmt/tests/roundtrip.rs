//! Written images are read back unchanged in every size and form, and the root does not depend on
//! the form.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::*;
use imagefmt::*;

fn check(geometry: Geometry, chunks: &[Chunk], word: Option<&str>) -> Root {
    let (bytes, written) = write(geometry, chunks, word);
    let image = open(&bytes, word).unwrap();
    assert_eq!(image.root(), written.root);
    assert_eq!(image.manifest().meta, meta(&geometry));
    assert_eq!(image.manifest().table, table(&geometry));
    assert_eq!(image.manifest(), &written.manifest);
    assert_eq!(
        Manifest::decode(&image.manifest().encode().unwrap()).unwrap(),
        *image.manifest()
    );
    let mut expected: Vec<_> = chunks.iter().map(|c| (c.id, c.used.clone())).collect();
    expected.sort();
    assert_eq!(contents(&image).unwrap(), expected);
    let read_back = chunks
        .iter()
        .map(|c| (c.id, content_id(image.id_key(), &c.mask, &c.used)));
    assert_eq!(image.manifest().root_of(read_back), written.root);
    written.root
}

#[test]
fn every_chunk_and_sector_size_with_a_short_last_chunk() {
    for log2 in MIN_CHUNK_LOG2..=MAX_CHUNK_LOG2 {
        for sector in [512, 4096] {
            let geometry =
                Geometry::new((3 << log2) + 3 * u64::from(sector), sector, log2).unwrap();
            for word in [None, Some("secret")] {
                check(geometry, &mixed(&geometry), word);
            }
        }
    }
}

#[test]
fn image_without_chunks_and_disk_of_one_sector() {
    let geometry = Geometry::new(1 << 30, 512, 20).unwrap();
    check(geometry, &[], None);
    check(geometry, &[], Some("x"));
    let tiny = Geometry::new(8192, 512, 20).unwrap();
    let blank_front = |n| [vec![0; 1536], text(n - 1536)].concat();
    check(tiny, &[Chunk::new(0, Mask::full(8192), blank_front)], None);
}

#[test]
fn codec_follows_content() {
    let geometry = Geometry::new((3 << 20) + 512, 512, 20).unwrap();
    let (bytes, _) = write(geometry, &mixed(&geometry), None);
    let image = open(&bytes, None).unwrap();
    let forms: Vec<_> = image
        .manifest()
        .entries
        .iter()
        .map(|e| (e.codec, e.body_len))
        .collect();
    assert_eq!(forms[0].0, Codec::Zstd);
    assert_eq!(forms[1], (Codec::Raw, 3 * 4096 + 32));
    assert_eq!(forms[2], (Codec::Zero, 32));
    assert_eq!(forms[3], (Codec::Zero, 0));
}

#[test]
fn root_is_independent_of_order_level_and_volumes_but_not_of_content() {
    let geometry = Geometry::new((3 << 20) + 512, 512, 20).unwrap();
    let mut chunks = mixed(&geometry);
    let root = check(geometry, &chunks, None);
    chunks.reverse();
    assert_eq!(check(geometry, &chunks, None), root);
    chunks[0].used[0] = 1;
    assert_ne!(check(geometry, &chunks, None), root);
    // The same content with a password has other ids, so that equal content is not visible.
    chunks[0].used[0] = 0;
    assert_ne!(check(geometry, &chunks, Some("x")), root);
}

#[test]
fn worker_threads_seal_and_one_thread_writes() {
    let geometry = Geometry::new((3 << 20) + 512, 512, 20).unwrap();
    let chunks = mixed(&geometry);
    let (_, expected) = write(geometry, &chunks, Some("pw"));
    let mut writer = Writer::create(Vec::new(), options(geometry, Some("pw"))).unwrap();
    writer.meta(&meta(&geometry)).unwrap();
    writer.table(&table(&geometry)).unwrap();
    let (send, receive) = std::sync::mpsc::channel::<EncodedChunk>();
    for chunk in chunks {
        let (sealer, send, key) = (writer.sealer(), send.clone(), writer.id_key());
        std::thread::spawn(move || {
            let mut encoder = Encoder::new(1, key).unwrap();
            let body = encoder.encode(&chunk.mask, &chunk.used).unwrap();
            send.send(sealer.seal(chunk.id, &chunk.mask, &body).unwrap())
                .unwrap();
        });
    }
    drop(send);
    for sealed in receive {
        writer.write(&sealed).unwrap();
        assert!(writer.write(&sealed).is_err(), "a chunk twice is refused");
    }
    assert_eq!(writer.finish().unwrap().root, expected.root);
}

#[test]
fn what_cannot_be_read_again_is_not_written() {
    let geometry = Geometry::new(3 << 20, 512, 20).unwrap();
    let mut encoder = Encoder::new(3, None).unwrap();
    let full = Mask::full(1 << 20);
    assert!(encoder.encode(&Mask::empty(1 << 20), &[]).is_err());
    assert!(encoder.encode(&full, &[1; 5]).is_err());
    let used = text(1 << 20);
    let body = encoder.encode(&full, &used).unwrap();
    let mut writer = Writer::create(Vec::new(), options(geometry, None)).unwrap();
    assert!(
        writer.chunk(ChunkId(3), &full, &body).is_err(),
        "beyond the disk"
    );
    assert!(
        writer.chunk(ChunkId(0), &Mask::full(4096), &body).is_err(),
        "mask of another length"
    );
    assert!(
        writer
            .table(&[Region {
                offset: 3 << 20,
                bytes: vec![1; 512]
            }])
            .is_err()
    );
    assert!(
        writer
            .table(&[
                Region {
                    offset: 0,
                    bytes: vec![1; 1024]
                },
                Region {
                    offset: 512,
                    bytes: vec![1; 512]
                }
            ])
            .is_err()
    );
    assert!(writer.finish().is_err(), "META is missing");
    assert!(Encoder::new(13, None).is_err() && Encoder::new(0, None).is_err());
}

#[test]
fn a_chunk_sealed_for_another_image_is_refused() {
    let geometry = Geometry::new(3 << 20, 512, 20).unwrap();
    let own = options(geometry, Some("pw"));
    let mut writer = Writer::create(Vec::new(), own.clone()).unwrap();
    let (mask, used) = (Mask::full(1 << 20), text(1 << 20));
    let strangers = [
        options(geometry, None),
        WriterOptions {
            image_uuid: [7; 16],
            ..own.clone()
        },
        WriterOptions {
            geometry: Geometry::new(2 << 20, 512, 20).unwrap(),
            ..own
        },
    ];
    for options in strangers {
        let other = Writer::create(Vec::new(), options).unwrap();
        let mut encoder = Encoder::new(1, other.id_key()).unwrap();
        let body = encoder.encode(&mask, &used).unwrap();
        let sealed = other.sealer().seal(ChunkId(0), &mask, &body).unwrap();
        assert!(matches!(
            writer.write(&sealed),
            Err(FormatError::Unwritable { .. })
        ));
    }
}

/// Story: the options of a capture are logged. `NewPassword` once derived `Debug`, which would have
/// put the image key into the log.
#[test]
fn secrets_are_not_printed() {
    let geometry = Geometry::new(3 << 20, 512, 20).unwrap();
    let secret = NewPassword {
        password: Password::new("hunter2"),
        salt: [1; 16],
        key: [0xab; 32],
        nonce_seed: [0xcd; 32],
    };
    let options = WriterOptions {
        password: Some(secret),
        ..WriterOptions::new(geometry, [0; 16])
    };
    let printed = format!("{options:?}");
    for part in ["171", "205", "hunter2", "104, 117"] {
        assert!(!printed.contains(part), "{printed}");
    }
}

#[test]
fn amended_description_counts() {
    let geometry = Geometry::new(3 << 20, 512, 20).unwrap();
    let mut writer = Writer::create(Vec::new(), options(geometry, None)).unwrap();
    writer.meta(&meta(&geometry)).unwrap();
    let last = Meta {
        warnings: vec!["sector 7 was unreadable".into()],
        ..meta(&geometry)
    };
    writer.meta(&last).unwrap();
    writer.table(&table(&geometry)).unwrap();
    let bytes = writer.finish().unwrap().sink;
    assert_eq!(open(&bytes, None).unwrap().manifest().meta, last);
}

#[test]
fn decode_into_a_buffer_of_ones_own() {
    let geometry = Geometry::new((3 << 20) + 512, 512, 20).unwrap();
    let chunks = mixed(&geometry);
    let (bytes, _) = write(geometry, &chunks, None);
    let image = open(&bytes, None).unwrap();
    let mut decoder = image.decoder().unwrap();
    let mut body = Vec::new();
    for (i, entry) in image.manifest().entries.iter().enumerate() {
        image.read_body(i, &mut body).unwrap();
        let mut buffer = vec![0xaa; Decoder::buffer_len(entry) + 10];
        let len = decoder
            .decode_into(&geometry, entry, &body, &mut buffer)
            .unwrap();
        assert_eq!(buffer[..len], chunks[i].used);
        let short = &mut buffer[..Decoder::buffer_len(entry) - 1];
        assert!(decoder.decode_into(&geometry, entry, &body, short).is_err());
    }
}

#[test]
fn password_is_asked_for_and_checked() {
    let geometry = Geometry::new((3 << 20) + 512, 512, 20).unwrap();
    let (bytes, written) = write(geometry, &mixed(&geometry), Some("right"));
    assert!(matches!(
        open(&bytes, None),
        Err(FormatError::PasswordNeeded)
    ));
    assert!(matches!(
        open(&bytes, Some("wrong")),
        Err(FormatError::WrongPassword)
    ));
    let summary = Image::summary(vec![Volume {
        reader: bytes.as_slice(),
        len: bytes.len() as u64,
    }])
    .unwrap();
    assert!(summary.encrypted);
    assert_eq!((summary.root, summary.chunks), (written.root, 4));
    for secret in [b"the quick brown".as_slice(), b"/dev/sda", b"diskcast test"] {
        assert!(!bytes.windows(secret.len()).any(|window| window == secret));
    }
}

#[test]
fn signature_binds_the_image_to_a_key() {
    let geometry = Geometry::new(3 << 20, 512, 20).unwrap();
    let key = SigningKey::from_bytes(&[9; 32]);
    let mut writer = Writer::create(Vec::new(), options(geometry, None)).unwrap();
    writer.meta(&meta(&geometry)).unwrap();
    writer.table(&table(&geometry)).unwrap();
    let bytes = writer.finish_signed(&key).unwrap().sink;
    let image = open(&bytes, None).unwrap();
    image.verify_signature(&key.public()).unwrap();
    let other = SigningKey::from_bytes(&[8; 32]).public();
    assert!(matches!(
        image.verify_signature(&other),
        Err(FormatError::BadSignature)
    ));
    let (unsigned, _) = write(geometry, &[], None);
    assert!(matches!(
        open(&unsigned, None).unwrap().verify_signature(&other),
        Err(FormatError::NotSigned)
    ));
}

/// One letter has several encodings, and the user cannot choose which of them a keyboard produces.
#[test]
fn a_password_is_the_same_however_its_letters_are_composed() {
    let geometry = Geometry::new(1 << 18, 512, 18).unwrap();
    let (bytes, _) = write(geometry, &[], Some("p\u{e4}ss w\u{f6}rd"));
    open(&bytes, Some("pa\u{308}ss wo\u{308}rd")).unwrap();
    for other in ["pass word", "P\u{e4}ss w\u{f6}rd", "p\u{e4}ss w\u{f6}rd "] {
        assert!(matches!(
            open(&bytes, Some(other)),
            Err(FormatError::WrongPassword)
        ));
    }
}
