//! Images that keep or break a rule of the format, in a technician's hands.

use super::*;

fn fixture(name: &str) -> String {
    format!("{}/fixtures/image/{name}.dcimg", env!("CARGO_MANIFEST_DIR"))
}

/// Exit code and both outputs.
fn said(words: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(DISKCAST).args(words).output().unwrap();
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    (output.status.code(), text)
}

#[test]
fn a_check_names_the_rule_an_image_breaks() {
    for (name, code, words) in [
        ("whole", 0, "no damage found"),
        ("signed", 0, "no damage found"),
        ("padded-copy", 0, "42368 bytes behind the end"),
        ("optional-record", 0, "type 130 (parity)"),
        (
            "without-its-first-bytes",
            7,
            "the prologue of volume 1 is damaged",
        ),
        ("unknown-feature", 5, "bit 5 (delta chunks), bit 9"),
        ("mandatory-record", 7, "record type 9 (delta) is not known"),
        ("unknown-codec", 7, "codec 11 (lz) is not known"),
        ("disk-of-half-a-sector", 7, "no multiple of 512"),
        ("table-without-sector-0", 7, "does not hold sector 0"),
        (
            "trailer-counts-99-chunks",
            7,
            "all 2 chunks found in it are whole",
        ),
        ("chunk-record-twice", 7, "it is there twice"),
        ("meta-differs", 7, "not the one in the index"),
        ("bad-signature", 7, "signature does not match"),
    ] {
        let (found, text) = said(&["image", "check", &fixture(name)]);
        assert_eq!(found, Some(code), "{name}: {text}");
        assert!(text.contains(words), "{name}: {text}");
    }
    let (found, text) = said(&[
        "image",
        "check",
        "--deep",
        &fixture("table-bytes-in-a-chunk"),
    ]);
    assert_eq!(found, Some(7), "{text}");
    assert!(
        text.contains("where the partition table (TABLE) lies"),
        "{text}"
    );
}

#[test]
fn a_restore_that_is_refused_or_fails_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("disk.raw");
    let to = target.to_str().unwrap();
    for (name, code) in [
        ("table-bytes-in-a-chunk", 7),
        ("bad-signature", 7),
        ("unknown-feature", 5),
    ] {
        let (found, text) = said(&["image", "restore", &fixture(name), to]);
        assert_eq!(found, Some(code), "{name}: {text}");
        assert!(!target.exists(), "{name} left a file");
    }
    for name in ["whole", "padded-copy", "without-its-first-bytes"] {
        let (found, text) = said(&["image", "restore", &fixture(name), to]);
        assert_eq!(found, Some(0), "{name}: {text}");
        assert_eq!(std::fs::metadata(&target).unwrap().len(), 794_624);
        std::fs::remove_file(&target).unwrap();
    }
}

#[test]
fn a_rebuild_saves_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let (hurt, new) = (
        folder.path().join("hurt.dcimg"),
        folder.path().join("new.dcimg"),
    );
    let (from, to) = (hurt.to_str().unwrap(), new.to_str().unwrap());
    let whole = std::fs::read(fixture("whole")).unwrap();
    std::fs::write(&hurt, &whole[..whole.len() - 100]).unwrap();
    let (code, text) = said(&["image", "check", from]);
    assert_eq!(code, Some(7), "{text}");
    assert!(text.contains("image rebuild"), "{text}");
    let (code, text) = said(&["image", "rebuild", from, to]);
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = said(&["image", "check", "--deep", to]);
    assert_eq!(code, Some(0), "{text}");
    let (code, _) = said(&["image", "rebuild", from, to]);
    assert_eq!(code, Some(5), "never over an image");

    std::fs::remove_file(&new).unwrap();
    let mut bytes = whole;
    bytes[6000] ^= 1;
    std::fs::write(&hurt, bytes).unwrap();
    let (code, text) = said(&["image", "rebuild", from, to]);
    assert_eq!(code, Some(7), "{text}");
    assert!(
        text.contains("chunk 0 is damaged") && text.contains("--accept-holes"),
        "{text}"
    );
    let raw = folder.path().join("disk.raw");
    let (code, _) = said(&["image", "restore", to, raw.to_str().unwrap()]);
    assert_eq!(code, Some(5));
    assert!(!raw.exists());
}

#[test]
fn labels_and_signatures_leave_the_root_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.dcimg");
    let image = path.to_str().unwrap();
    let root = |image: &str| {
        let (code, text) = said(&["image", "info", image]);
        assert_eq!(code, Some(0), "{text}");
        let line = text
            .lines()
            .find(|line| line.starts_with("root"))
            .unwrap()
            .to_owned();
        (line, text)
    };
    fs::copy(fixture("padded-copy"), &path).unwrap();
    let (before, _) = root(image);
    let (code, text) = said(&["image", "label", image, "room=Lab A", "state=new"]);
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = said(&["image", "label", image, "state="]);
    assert_eq!((code, text.trim()), (Some(0), "room = Lab A"));
    let (code, _) = said(&["image", "label", image, "Bad Name=x"]);
    assert_eq!(code, Some(2));

    let key = folder.path().join("key");
    let (code, public) = said(&["image", "sign", "--new-key", key.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{public}");
    let public = public.trim();
    let by = |key: &str| said(&["image", "check", image, "--signed-by", key]);
    let (code, text) = by(public);
    assert_eq!(code, Some(7), "{text}");
    assert!(text.contains("nobody signed it"), "{text}");
    let sign = ["image", "sign", image, "--key", key.to_str().unwrap()];
    assert_eq!(said(&sign).0, Some(0));
    assert_eq!(said(&sign).0, Some(5), "once is enough");
    assert_eq!(by(public).0, Some(0));
    let (code, text) = by(&format!("dcpk1-{}", "0".repeat(64)));
    assert_eq!(code, Some(7), "{text}");
    assert!(text.contains(public), "{text}");
    assert_eq!(by(key.to_str().unwrap()).0, Some(5), "that key signs");
    let (code, text) = by("nonsense");
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("no public key"), "{text}");
    let (code, text) = said(&["image", "sign", "--new-key", key.to_str().unwrap()]);
    assert_eq!(code, Some(5), "{text}");
    assert!(text.contains("never overwritten"), "{text}");

    let (after, text) = root(image);
    assert_eq!(after, before);
    assert!(
        text.contains("label      room = Lab A") && text.contains(public),
        "{text}"
    );
    // The padding is gone, and nothing else is wrong.
    let (code, text) = said(&["image", "check", image]);
    assert_eq!(code, Some(0), "{text}");
    assert!(!text.contains("behind the end"), "{text}");
}
