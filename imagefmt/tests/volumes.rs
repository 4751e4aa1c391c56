//! Divided images: they are cut between records, opened as a whole, and errors name the missing
//! volume.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::sync::{Arc, Mutex};

use common::*;
use imagefmt::*;

/// An image with chunks of 4 MiB noise in volumes of 16 MiB, three chunks in each volume.
fn divided(chunks: u8, word: Option<&str>) -> (Vec<Vec<u8>>, Root) {
    let geometry = Geometry::new(u64::from(chunks) << 22, 512, 22).unwrap();
    let finished = Arc::new(Mutex::new(Vec::new()));
    let shelf = Arc::clone(&finished);
    let sink = move |volume: Vec<u8>, number: u32| {
        let mut shelf = shelf.lock().unwrap();
        shelf.push(volume);
        assert_eq!(number as usize, shelf.len() + 1);
        Ok(Vec::new())
    };
    let options = WriterOptions {
        volume_bytes: 16 << 20,
        ..options(geometry, word)
    };
    let mut writer = Writer::create_divided(Vec::new(), options, sink).unwrap();
    let mut encoder = Encoder::new(1, writer.id_key()).unwrap();
    writer.meta(&meta(&geometry)).unwrap();
    writer.table(&table(&geometry)).unwrap();
    let mut used = Noise(3).bytes(1 << 22);
    let mask = Mask::full(1 << 22);
    for chunk in 0..chunks {
        used[0] = chunk;
        // Sectors 0 and 2 belong to the table.
        if chunk == 0 {
            used[..2048].fill(0);
        }
        let body = encoder.encode(&mask, &used).unwrap();
        assert_eq!(body.codec, Codec::Raw);
        writer.chunk(ChunkId(chunk.into()), &mask, &body).unwrap();
    }
    let written = writer.finish().unwrap();
    let mut volumes = finished.lock().unwrap().clone();
    volumes.push(written.sink);
    assert_eq!(written.volumes as usize, volumes.len());
    (volumes, written.root)
}

fn list(volumes: &[Vec<u8>]) -> Vec<Volume<&[u8]>> {
    volumes.iter().flat_map(|bytes| volume(bytes)).collect()
}

#[test]
fn volumes_open_together_and_only_together() {
    let (volumes, root) = divided(7, None);
    assert_eq!(volumes.len(), 3);
    assert!(volumes.iter().all(|volume| volume.len() <= 16 << 20));
    let image = Image::open_volumes(list(&volumes), None).unwrap();
    assert_eq!(image.root(), root);
    assert_eq!(contents(&image).unwrap().len(), 7);
    let walk = Records::walk(list(&volumes)).unwrap();
    assert!(walk.gaps().is_empty());
    assert_eq!(walk.summary().unwrap().root, root);

    // Each prologue can replace any other.
    let ours = |volumes: &[Vec<u8>]| {
        let image = Image::open_volumes(list(volumes), None).unwrap();
        assert_eq!(image.root(), root);
        image.damaged_prologues()
    };
    for number in 0..3 {
        let mut hurt = volumes.clone();
        hurt[number][..4096].fill(0);
        assert_eq!(ours(&hurt), [u32::try_from(number).unwrap()]);
    }
    let mut hurt = volumes.clone();
    hurt[0][..4096].fill(0);
    let end = hurt[2].len() - 256;
    hurt[2][end - 4224..end].fill(0);
    assert_eq!(ours(&hurt), [0]);
    let mut grown = volumes.clone();
    for volume in &mut grown {
        volume.resize(volume.len() + 70_000, 0);
    }
    assert!(ours(&grown).is_empty());
    let walk = Records::walk(list(&grown)).unwrap();
    assert!(walk.gaps().is_empty());
    assert_eq!(walk.trailing(), 210_000);

    assert!(matches!(
        Image::open_volumes(list(&volumes[..2]), None),
        Err(FormatError::VolumeMissing { number: 3 })
    ));
    let mut swapped = list(&volumes);
    swapped.swap(1, 2);
    assert!(matches!(
        Image::open_volumes(swapped, None),
        Err(FormatError::VolumeMismatch {
            expected: 2,
            found: 3
        })
    ));
    assert!(matches!(
        Image::open_volumes(list(&volumes[1..]), None),
        Err(FormatError::VolumeMismatch {
            expected: 1,
            found: 2
        })
    ));
}

#[test]
fn without_its_last_volume_the_rest_survives() {
    let (volumes, root) = divided(4, Some("secret"));
    let password = Password::new("secret");
    let rebuilt = Image::rebuild_volumes(list(&volumes[..1]), Some(&password)).unwrap();
    assert_eq!(rebuilt.image.manifest().entries.len(), 3);
    assert_eq!(contents(&rebuilt.image).unwrap().len(), 3);
    assert_ne!(rebuilt.image.root(), root);
    assert_eq!(rebuilt.missing, None);
}

#[test]
fn names_of_volumes() {
    assert_eq!(volume_name("a.dcimg", 1), "a.dcimg");
    assert_eq!(volume_name("a.dcimg", 2), "a.dcimg.002");
    assert_eq!(volume_name("a.dcimg", 1000), "a.dcimg.1000");
}
