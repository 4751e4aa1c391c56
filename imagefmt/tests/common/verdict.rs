//! The results of this crate for an image, as values that can be stored and compared with those of
//! another reader.

use super::common::{contents, volume};
use imagefmt::*;
use serde_json::{Value, json};

/// The files of an image as volumes.
pub fn volumes(files: &[Vec<u8>]) -> Vec<Volume<&[u8]>> {
    files.iter().flat_map(|bytes| volume(bytes)).collect()
}

pub fn open_files<'a>(files: &'a [Vec<u8>], word: Option<&str>) -> Result<Image<&'a [u8]>> {
    let password = word.map(Password::new);
    Image::open_volumes(volumes(files), password.as_ref())
}

/// The results for the image in these files.
pub fn verdict(files: &[Vec<u8>], word: Option<&str>) -> Value {
    let Ok(image) = open_files(files, word) else {
        return json!({ "opens": false });
    };
    let manifest = image.manifest();
    let mut disk = vec![0; manifest.geometry.disk_size as usize];
    let chunks = contents(&image).ok();
    for (entry, (_, used)) in manifest.entries.iter().zip(chunks.iter().flatten()) {
        let base = manifest.geometry.chunk_offset(entry.chunk) as usize;
        let mut rest = used.as_slice();
        for run in entry.mask.runs() {
            let (piece, tail) = rest.split_at((run.end - run.start) as usize);
            disk[base + run.start as usize..base + run.end as usize].copy_from_slice(piece);
            rest = tail;
        }
    }
    for region in &manifest.table {
        let start = region.offset as usize;
        disk[start..start + region.bytes.len()].copy_from_slice(&region.bytes);
    }
    let records = Records::walk(volumes(files)).unwrap();
    let behind = records.trailing();
    let mut scratch = Vec::new();
    let whole = records.gaps().is_empty()
        && records.damaged_prologues().is_empty()
        && records.faults().is_empty()
        && image.disagreements(&records).is_empty()
        && chunks.is_some()
        && records
            .records()
            .iter()
            .all(|record| records.check(record.position, &mut scratch).is_ok());
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let labels: serde_json::Map<_, _> = image
        .labels()
        .iter()
        .map(|(name, text)| (name.to_owned(), text.into()))
        .collect();
    json!({
        "opens": true,
        "root": image.root().to_string(),
        "content": manifest.content_root().to_string(),
        "chunks": manifest.entries.len(),
        "used": manifest.used_bytes(),
        "signers": image.signers().iter().map(|key| hex(&key.0)).collect::<Vec<_>>(),
        "labels": labels,
        "disk": chunks.map(|_| blake3::hash(&disk).to_string()),
        "whole": whole,
        // In a damaged image there are other kinds of gaps.
        "behind": if whole { behind } else { 0 },
    })
}

/// Password of the encrypted fixtures in decomposed form; readers must compose it.
pub const WORD: &str = "pa\u{308}ss word";

/// The images in the folder of fixtures, each with its files and its password.
pub fn fixtures() -> Vec<(String, Vec<std::path::PathBuf>, Option<&'static str>)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/image");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let mut images: Vec<(String, Vec<_>, _)> = Vec::new();
    for path in files {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        match images.last_mut() {
            Some((first, paths, _)) if name.starts_with(&format!("{first}.0")) => paths.push(path),
            _ => {
                let word = name.contains("locked").then_some(WORD);
                images.push((name, vec![path], word));
            }
        }
    }
    images
}
