//! `image rebuild`: makes a new image from the undamaged chunks of a damaged one.
//!
//! Every chunk is proven by its content before it is copied. If nothing was lost, the new image has
//! the root of the old one. Otherwise the description of the new image records the loss: lost
//! chunks are holes, like bytes of a master that could not be read, so that they are not deployed
//! without consent. The damaged image is never written to.

use super::check::{describe, full_text};
use super::restore::{open_volumes, volume_paths};
use super::volumes::Volumes;
use super::{Cancelled, DiskError, OnProgress, ground, missing};
use diskmap::ExtentSet;
use imagefmt::{
    ChunkId, FormatError, Image, Manifest, Meta, Origin, Password, ReadAt, Rebuilt, Root, Summary,
};
use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Result of a rebuild.
#[derive(Debug)]
pub struct Rescued {
    /// Root of the new image.
    pub root: Root,
    /// Bytes of its files.
    pub file_bytes: u64,
    /// Number of chunks saved.
    pub chunks: u64,
    /// Number of chunks known to be lost.
    pub lost_chunks: u64,
    /// Lines about the losses, chunk by chunk; empty when the new image equals the old one.
    pub lost: Vec<String>,
}

/// Makes a new image at `new` from the valid chunks of the one at `image`.
///
/// # Errors
/// [`DiskError::Image`] when no prologue is left or the password is wrong; [`DiskError::Refused`]
/// when nothing can be saved or the new image exists already; [`DiskError::Io`] and
/// [`DiskError::Cancelled`]. No file is left then.
pub fn rebuild(
    image: &Path,
    new: &Path,
    password: Option<&str>,
    progress: OnProgress,
    cancelled: Cancelled,
) -> Result<Rescued, DiskError> {
    let wrong = |error| DiskError::image(image, error);
    let inputs = volume_paths(image);
    ground::keep_inputs(new, inputs.iter().map(PathBuf::as_path))?;
    let password = password.map(Password::new);
    let rebuilt = Image::rebuild_volumes(open_volumes(image)?, password.as_ref()).map_err(wrong)?;
    if cancelled() {
        return Err(DiskError::Cancelled);
    }
    let known = Image::<File>::summary(open_volumes(image)?).ok();
    let losses = Losses::of(&rebuilt, known.as_ref());
    let manifest = rebuilt.image.manifest();
    if manifest.entries.is_empty() && (rebuilt.meta_lost || !losses.is_none()) {
        return Err(DiskError::refused(
            format!("nothing of {} is left to save", image.display()),
            "copy it again from where it was stored, or capture the master again",
        ));
    }
    let changed = (!losses.is_none()).then(|| losses.describe(manifest));
    let (mut output, first) = Volumes::create(new, None)?;
    let total = manifest.entries.len() as u64;
    let written = copy(
        &rebuilt.image,
        changed.as_ref(),
        (&output, first),
        new,
        &|done| {
            progress(done, total);
            !cancelled()
        },
    );
    match written {
        Ok((root, file_bytes)) => {
            output.finish()?;
            Ok(Rescued {
                root,
                file_bytes,
                chunks: total,
                lost_chunks: losses.chunks.len() as u64,
                lost: losses.lines(manifest),
            })
        }
        Err(error) => {
            output.discard();
            Err(if cancelled() {
                DiskError::Cancelled
            } else {
                error
            })
        }
    }
}

fn copy<R: ReadAt>(
    image: &Image<R>,
    changed: Option<&Meta>,
    (output, first): (&Volumes, super::volumes::PartWriter),
    new: &Path,
    progress: &dyn Fn(u64) -> bool,
) -> Result<(Root, u64), DiskError> {
    let bad = |error| DiskError::image(new, error);
    let writer = match output.cut() {
        None => image.copy_writer(first),
        Some(cut) => image.copy_writer_divided(first, cut, output.sink()),
    };
    let mut writer = writer.map_err(bad)?;
    writer.copy(image, changed, progress).map_err(bad)?;
    let written = writer.finish().map_err(bad)?;
    Ok((written.root, written.bytes))
}

/// Parts that are not in the new image.
struct Losses {
    /// Chunks known to be lost.
    chunks: BTreeSet<ChunkId>,
    /// True when the set of chunks cannot be known: no index is left, and the trailer counts more
    /// than were found or is gone.
    unknown: bool,
    meta: bool,
    table: bool,
    /// Root of the damaged image, if its trailer is readable.
    root: Option<Root>,
}

impl Losses {
    fn of<R: ReadAt>(rebuilt: &Rebuilt<R>, known: Option<&Summary>) -> Self {
        let saved = rebuilt.image.manifest().entries.len() as u64;
        let listed = rebuilt.missing.iter().flatten();
        Self {
            chunks: rebuilt.damaged.iter().chain(listed).copied().collect(),
            unknown: rebuilt.missing.is_none() && known.map(|known| known.chunks) != Some(saved),
            meta: rebuilt.meta_lost,
            table: rebuilt.table_lost,
            root: known.map(|known| known.root),
        }
    }

    fn is_none(&self) -> bool {
        self.chunks.is_empty() && !self.unknown && !self.meta && !self.table
    }

    /// The description of the new image.
    fn describe(&self, manifest: &Manifest) -> Meta {
        let mut meta = manifest.meta.clone();
        meta.lineage.push(Origin {
            by: "rebuild".into(),
            root: self.root.map(|root| root.to_string()),
            tool: concat!("diskcast ", env!("CARGO_PKG_VERSION")).into(),
            time: None,
        });
        meta.warnings.push(
            "rebuilt from a damaged image: what was lost of it is listed as not readable".into(),
        );
        let mut holes: Vec<_> = meta
            .holes
            .iter()
            .map(|hole| hole.start..hole.start.saturating_add(hole.length))
            .collect();
        let geometry = manifest.geometry;
        let range = |chunk| {
            let start = geometry.chunk_offset(chunk);
            start..start + u64::from(geometry.chunk_len(chunk))
        };
        holes.extend(self.chunks.iter().copied().map(range));
        if self.unknown {
            let absent = (0..geometry.chunk_count()).map(ChunkId);
            let absent = absent.filter(|chunk| manifest.find(*chunk).is_none());
            holes.extend(absent.map(range));
        }
        holes.sort_by_key(|range| range.start);
        let holes = holes
            .into_iter()
            .fold(ExtentSet::default(), |mut set, range| {
                set.insert(range);
                set
            });
        meta.holes = missing::listed(holes);
        meta
    }

    fn lines(&self, manifest: &Manifest) -> Vec<String> {
        let mut lines = Vec::new();
        if self.meta {
            lines.push("the description (META) is lost".to_owned());
        }
        if self.table {
            lines.push("the partition table (TABLE) is lost: the new image has none".to_owned());
        }
        if self.unknown {
            lines.push(
                "no index is left to say which chunks there were: every place without one counts as lost"
                    .to_owned(),
            );
        }
        lines.extend(self.chunks.iter().map(|&chunk| {
            let error = FormatError::ChunkDamaged {
                chunk,
                reason: "no whole record of it is left",
            };
            format!(
                "{}: {}",
                full_text(&error),
                describe(manifest.geometry, Some(manifest), chunk)
            )
        }));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Depth, check};
    use imagefmt::{Encoder, Geometry, Mask, RecordKind, Records, Region, Writer, WriterOptions};
    use std::fs;

    fn image(path: &Path) -> Root {
        let geometry = Geometry::new(4 << 18, 512, 18).unwrap();
        let options = WriterOptions::new(geometry, [7; 16]);
        let file = File::options().write(true).create_new(true).open(path);
        let mut writer = Writer::create(file.unwrap(), options).unwrap();
        let mut encoder = Encoder::new(1, None).unwrap();
        writer.meta(&Meta::default()).unwrap();
        writer
            .table(&[Region {
                offset: 0,
                bytes: vec![1; 512],
            }])
            .unwrap();
        let mask = Mask::full(1 << 18);
        for chunk in 1..4_u8 {
            let mut used = vec![0; 1 << 18];
            blake3::Hasher::new_keyed(&[chunk; 32])
                .finalize_xof()
                .fill(&mut used);
            let body = encoder.encode(&mask, &used).unwrap();
            writer.chunk(ChunkId(chunk.into()), &mask, &body).unwrap();
        }
        writer.finish().unwrap().root
    }

    fn run(from: &Path, to: &Path) -> Result<Rescued, DiskError> {
        rebuild(from, to, None, &|_, _| {}, &|| false)
    }

    fn place(path: &Path, kind: RecordKind) -> usize {
        let records = Records::walk(open_volumes(path).unwrap()).unwrap();
        let found = records.records().iter().find(|record| record.kind == kind);
        usize::try_from(found.unwrap().position.offset).unwrap()
    }

    fn holds(path: &Path) -> bool {
        let report = check(path, None, Depth::Deep, 2, &|_, _| {}, &|| false).unwrap();
        report.faults.is_empty()
    }

    /// Damage that costs no chunk gives the same image again, wherever it is.
    #[test]
    fn what_lost_no_chunk_is_the_same_image_again() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (
            folder.path().join("old.dcimg"),
            folder.path().join("new.dcimg"),
        );
        let root = image(&old);
        let whole = fs::read(&old).unwrap();
        let index = place(&old, RecordKind::Index);
        for change in 0..4 {
            let mut bytes = whole.clone();
            match change {
                0 => bytes[..4096].fill(0),
                1 => bytes[4096 + 130] ^= 1,
                2 => bytes[index + 200] ^= 1,
                _ => bytes.extend([0; 9000]),
            }
            fs::write(&old, bytes).unwrap();
            let made = run(&old, &new).unwrap();
            assert_eq!((made.root, made.lost.len()), (root, 0), "{:?}", made.lost);
            assert_eq!(fs::read(&new).unwrap(), whole);
            fs::remove_file(&new).unwrap();
        }
    }

    #[test]
    fn what_is_lost_is_named_and_kept_as_holes() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (
            folder.path().join("old.dcimg"),
            folder.path().join("new.dcimg"),
        );
        let root = image(&old);
        let whole = fs::read(&old).unwrap();
        let mut bytes = whole.clone();
        bytes[place(&old, RecordKind::Chunk) + 5000] ^= 1;
        fs::write(&old, bytes).unwrap();
        let made = run(&old, &new).unwrap();
        assert_eq!((made.chunks, made.lost_chunks), (2, 1));
        assert!(
            made.lost[0].starts_with("chunk 1 is damaged")
                && made.lost[0].contains("262144..524288"),
            "{:?}",
            made.lost
        );
        assert!(holds(&new));
        let holes = |path: &Path| {
            let image = Image::open_volumes(open_volumes(path).unwrap(), None).unwrap();
            let holes = image.manifest().meta.holes.clone();
            holes
                .iter()
                .map(|hole| (hole.start, hole.length))
                .collect::<Vec<_>>()
        };
        assert_eq!(holes(&new), [(1 << 18, 1 << 18)]);
        let image = Image::open_volumes(open_volumes(&new).unwrap(), None).unwrap();
        let [origin] = &image.manifest().meta.lineage[..] else {
            panic!("it says what it was made from");
        };
        assert_eq!(origin.root, Some(root.to_string()));
        assert!(run(&old, &new).is_err(), "an image is never overwritten");
        fs::remove_file(&new).unwrap();

        // Cut in the second chunk: the chunks behind it are unknown.
        fs::write(
            &old,
            &whole[..place(&old, RecordKind::Chunk) + (1 << 18) + 900],
        )
        .unwrap();
        let made = run(&old, &new).unwrap();
        assert_eq!((made.chunks, made.lost_chunks), (1, 0));
        assert!(made.lost[0].contains("no index is left"), "{:?}", made.lost);
        assert_eq!(holes(&new), [(0, 1 << 18), (2 << 18, 2 << 18)]);
        assert!(holds(&new));
        fs::remove_file(&new).unwrap();

        fs::write(&old, &whole[..4096]).unwrap();
        assert!(matches!(run(&old, &new), Err(DiskError::Refused { .. })));
        assert!(!new.exists() && !super::super::output::partial_of(&new).exists());
    }
}
