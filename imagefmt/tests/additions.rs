//! Labels and signatures are added behind the end of an image and change neither root.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test"
)]

mod common;

use common::*;
use imagefmt::*;

fn added(bytes: &[u8], addition: &Addition) -> Vec<u8> {
    assert_eq!(addition.volume, 0);
    let mut out = bytes[..addition.offset as usize].to_vec();
    out.extend_from_slice(&addition.bytes);
    out
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    let mut labels = Labels::default();
    for (name, text) in pairs {
        labels.set(name, text).unwrap();
    }
    labels
}

#[test]
fn labels_change_and_the_roots_do_not() {
    let (geometry, chunks) = small();
    for word in [None, Some("secret")] {
        let (bytes, written) = write(geometry, &chunks, word);
        let mut now = bytes.clone();
        for text in ["spring", "autumn", ""] {
            let image = open(&now, word).unwrap();
            let mut labels = image.labels().clone();
            labels.set("season", text).unwrap();
            labels.set("room", "Lab A").unwrap();
            let addition = image.with_labels(&labels).unwrap();
            assert_eq!(addition.offset as usize, now.len());
            let changed = added(&now, &addition);
            assert!(passes_standard(&changed), "{text}");
            let image = open(&changed, word).unwrap();
            assert_eq!(image.labels(), &labels);
            assert_eq!(image.root(), written.root);
            let content = written.manifest.content_root();
            assert_eq!(image.manifest().content_root(), content);
            assert_eq!(contents(&image).unwrap().len(), 3);
            // If the addition is cut at any point, the image is as before.
            for cut in (now.len()..changed.len()).step_by(if word.is_some() { 1500 } else { 61 }) {
                let before = open(&changed[..cut], word).unwrap();
                assert_eq!(before.labels(), open(&now, word).unwrap().labels(), "{cut}");
                assert_eq!(before.root(), written.root);
            }
            now = changed;
        }
        assert_eq!(
            open(&now, word)
                .unwrap()
                .labels()
                .iter()
                .collect::<Vec<_>>(),
            [("room", "Lab A")]
        );
        let hidden = now.windows(5).any(|window| window == b"Lab A");
        assert_eq!(
            hidden,
            word.is_none(),
            "labels of a locked image are locked"
        );
    }
}

#[test]
fn padding_is_cut_off_before_something_is_added() {
    let (geometry, chunks) = small();
    let (bytes, _) = write(geometry, &chunks, None);
    let mut padded = bytes.clone();
    padded.resize(bytes.len() + 5000, 0);
    let addition = open(&padded, None)
        .unwrap()
        .with_labels(&labels(&[("a", "b")]))
        .unwrap();
    assert_eq!(addition.offset as usize, bytes.len());
    assert!(passes_standard(&added(&padded, &addition)));
}

#[test]
fn several_sign_and_a_copy_keeps_what_fits() {
    let (geometry, chunks) = small();
    for word in [None, Some("secret")] {
        let (bytes, written) = write(geometry, &chunks, word);
        let keys = [1, 2].map(|byte| SigningKey::from_bytes(&[byte; 32]));
        let mut now = bytes;
        for key in &keys {
            let image = open(&now, word).unwrap();
            let addition = image.with_signature(&key.sign(&image.root())).unwrap();
            now = added(&now, &addition);
        }
        let addition = open(&now, word)
            .unwrap()
            .with_labels(&labels(&[("room", "7")]))
            .unwrap();
        now = added(&now, &addition);
        let public = keys.map(|key| key.public());
        let image = open(&now, word).unwrap();
        assert_eq!(image.signers(), public);
        assert_eq!(Image::summary(volume(&now)).unwrap().signers, public);
        assert!(passes_standard(&now));

        // A rebuild of the same image keeps the signatures; one that lost a chunk has another root
        // and no signature.
        now.truncate(now.len() - 1);
        let rebuilt = rebuild(&now, word).unwrap();
        assert_eq!(rebuilt.image.root(), written.root);
        let mut writer = rebuilt.image.copy_writer(Vec::new()).unwrap();
        writer.copy(&rebuilt.image, None, |_| true).unwrap();
        let copy = writer.finish().unwrap().sink;
        let image = open(&copy, word).unwrap();
        assert_eq!(image.signers(), public);
        assert_eq!(image.labels(), &labels(&[("room", "7")]));
        assert!(passes_standard(&copy));
        let other = meta(&geometry);
        let changed = Meta {
            note: Some("less".into()),
            ..other
        };
        let mut writer = rebuilt.image.copy_writer(Vec::new()).unwrap();
        writer
            .copy(&rebuilt.image, Some(&changed), |_| true)
            .unwrap();
        let copy = writer.finish().unwrap().sink;
        assert!(open(&copy, word).unwrap().signers().is_empty());
    }
}

#[test]
fn labels_have_bounds() {
    let mut labels = Labels::default();
    for name in ["", "A", "a b", "ä", &"x".repeat(65)] {
        assert!(labels.set(name, "text").is_err(), "{name:?}");
    }
    assert!(labels.set("a", &"x".repeat(4097)).is_err());
    for number in 0..LABELS_MAX {
        labels.set(&format!("n{number}"), "x").unwrap();
    }
    assert!(labels.set("one-more", "x").is_err());
    assert_eq!(labels.iter().count() as u64, LABELS_MAX);
}
