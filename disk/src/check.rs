//! `image check` on all processors, cancellable; names each damaged place and the partition it
//! belongs to.
//!
//! The chunks of an image that opens are checked by its index, the bytes around the chunks by a
//! walk over the records' headers. The walk alone is used when the image does not open: it is
//! encrypted and no password was given, or index or trailer are damaged. The report then gives the
//! number of chunks that are still whole. Never writes.

mod pieces;
mod salvage;
mod words;

pub use words::{describe, full_text};

use super::restore::{open_volume, open_volumes, volume_path};
use super::{Cancelled, DiskError, OnProgress, missing};
use imagefmt::{ChunkId, FormatError, Image, Password, RecordKind, Records, Root, Volume};
use pieces::Subject;
use salvage::salvage;
use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Depth of a check.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Depth {
    /// Structure: prologue, trailer and, unless its password is missing, index.
    Quick,
    /// Every stored byte against its hash; needs no password.
    Standard,
    /// Every chunk decompressed and its content compared.
    Deep,
}

impl Depth {
    /// The word in `--json` and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Standard => "standard",
            Self::Deep => "deep",
        }
    }
}

/// Result of a check.
#[derive(Debug)]
pub struct Report {
    /// Root of the image, if index or trailer could be read.
    pub root: Option<Root>,
    /// Number of chunks checked.
    pub chunks: u64,
    /// Lines about the bytes of the master that could not be read; empty when the image's
    /// description cannot be read.
    pub holes: Vec<String>,
    /// Facts that are no damage but worth knowing: bytes behind the end, records of later versions.
    pub remarks: Vec<String>,
    /// Damage: first of the structure, then of chunks in disk order.
    pub faults: Vec<Fault>,
}

/// One damaged place.
#[derive(Debug)]
pub struct Fault {
    /// The chunk; `None` for damage outside chunks.
    pub chunk: Option<ChunkId>,
    /// Description of the damage; for a chunk also its place on the disk and its partition.
    pub text: String,
}

impl Report {
    /// Summary of the damage in words.
    pub fn damage(&self) -> String {
        let hit: BTreeSet<_> = self.faults.iter().filter_map(|fault| fault.chunk).collect();
        let whole = self.chunks.saturating_sub(hit.len() as u64);
        match (
            hit.len(),
            self.faults.iter().any(|fault| fault.chunk.is_none()),
        ) {
            (0, _) => format!(
                "its structure; all {} chunks found in it are whole",
                self.chunks
            ),
            (count, false) => format!("{count} of {} chunks", self.chunks),
            (_, true) => format!(
                "its structure; {whole} of {} chunks found in it are whole",
                self.chunks
            ),
        }
    }
}

/// Checks the image at `path`, with all its volumes, on `threads` threads.
///
/// # Errors
/// [`DiskError::Io`] for a file that cannot be read; [`DiskError::Image`] for one that is no image,
/// needs a password for this depth, or (quick) has a damaged structure; [`DiskError::Cancelled`].
/// Any other damage is no error but part of the report.
pub fn check(
    path: &Path,
    password: Option<&str>,
    depth: Depth,
    threads: usize,
    progress: OnProgress,
    cancelled: Cancelled,
) -> Result<Report, DiskError> {
    let volumes = || open_volumes(path);
    let password = password.map(Password::new);
    check_volumes(
        path,
        &volumes,
        password.as_ref(),
        depth,
        threads,
        (progress, cancelled),
    )
}

/// Checks an image whose files have no names yet: `parts` in order, of the image that will be at
/// `path`. No password.
///
/// # Errors
/// The errors of [`check`].
pub fn check_parts(
    path: &Path,
    parts: &[PathBuf],
    depth: Depth,
    threads: usize,
    progress: OnProgress,
    cancelled: Cancelled,
) -> Result<Report, DiskError> {
    let volumes = || parts.iter().map(|part| open_volume(part)).collect();
    check_volumes(path, &volumes, None, depth, threads, (progress, cancelled))
}

fn check_volumes(
    path: &Path,
    volumes: &dyn Fn() -> Result<Vec<Volume<File>>, DiskError>,
    password: Option<&Password>,
    depth: Depth,
    threads: usize,
    (progress, cancelled): (OnProgress, Cancelled),
) -> Result<Report, DiskError> {
    let wrong = |error| DiskError::image(path, error);
    let (image, damage) = match Image::open_volumes(volumes()?, password) {
        Ok(image) => (Some(image), None),
        Err(FormatError::PasswordNeeded) if depth != Depth::Deep => (None, None),
        Err(error) if depth != Depth::Quick && is_damage(&error) => (None, Some(error)),
        Err(error) => return Err(wrong(error)),
    };
    if depth == Depth::Quick {
        let known = Image::summary(volumes()?).map_err(wrong)?;
        return Ok(Report {
            root: Some(known.root),
            chunks: known.chunks,
            holes: holes_of(image.as_ref()),
            remarks: Vec::new(),
            faults: lost_prologues(&known.damaged_prologues),
        });
    }
    if let (Some(damage), Depth::Deep) = (&damage, depth) {
        let rescued = salvage(volumes()?, password, damage, progress, cancelled)?;
        return rescued
            .map(|mut report| {
                report.faults.extend(missing_part(path, damage));
                report
            })
            .map_err(wrong);
    }
    // Without a valid prologue there is nothing to check: the answer is the reason the image does
    // not open.
    let records = match (Records::walk(volumes()?), damage.as_ref()) {
        (Ok(records), _) => records,
        (Err(error), _) => return Err(wrong(damage.unwrap_or(error))),
    };
    let subject = Subject {
        image: image.as_ref(),
        records: &records,
        depth,
    };
    let mut faults = subject.structure(damage.as_ref());
    faults.extend(lost_prologues(&records.damaged_prologues()));
    faults.extend(damage.as_ref().and_then(|error| missing_part(path, error)));
    faults.extend(subject.check(threads, progress, cancelled)?);
    faults.sort_by_key(|fault| fault.chunk);
    let summary = records.summary();
    let chunks = match &image {
        Some(image) => image.manifest().entries.len() as u64,
        // Chunks that the trailer counts may be missing, so the records are counted.
        None => chunk_records(&records),
    };
    Ok(Report {
        root: summary.ok().map(|summary| summary.root),
        chunks,
        holes: holes_of(image.as_ref()),
        remarks: remarks(&records),
        faults,
    })
}

fn chunk_records(records: &Records<File>) -> u64 {
    let is_chunk = |record: &&imagefmt::Record| record.kind == RecordKind::Chunk;
    records.records().iter().filter(is_chunk).count() as u64
}

/// Faults for volumes whose prologue had to be read from elsewhere.
fn lost_prologues(volumes: &[u32]) -> Vec<Fault> {
    let fault = |number: &u32| Fault {
        chunk: None,
        text: format!(
            "the prologue of volume {} is damaged; a copy of it was used",
            number.saturating_add(1)
        ),
    };
    volumes.iter().map(fault).collect()
}

/// Remarks of a check about a whole image.
fn remarks(records: &Records<File>) -> Vec<String> {
    let mut remarks = Vec::new();
    if records.trailing() > 0 {
        remarks.push(format!(
            "{} bytes behind the end belong to nothing: it was copied in whole blocks, or something was added",
            records.trailing()
        ));
    }
    for (number, name, count) in records.passed_over() {
        remarks.push(format!(
            "{count} of its records are of type {number}{name}, which this program does not know and does not need"
        ));
    }
    remarks
}

/// The fault for the file of a missing part.
fn missing_part(path: &Path, error: &FormatError) -> Option<Fault> {
    let FormatError::VolumeMissing { number } = error else {
        return None;
    };
    let part = volume_path(path, *number);
    Some(Fault {
        chunk: None,
        text: format!("{} is not there", part.display()),
    })
}

fn holes_of(image: Option<&Image<File>>) -> Vec<String> {
    image.map_or_else(Vec::new, |image| missing::lines(&image.manifest().meta))
}

/// True when an error means that bytes have changed since they were written, rather than that the
/// file or the password is the wrong one.
fn is_damage(error: &FormatError) -> bool {
    use FormatError as E;
    matches!(
        error,
        E::Truncated { .. }
            | E::Damaged { .. }
            | E::ChunkDamaged { .. }
            | E::LimitExceeded { .. }
            | E::Meta(_)
            | E::NotMultiple { .. }
            | E::BadSignature
            | E::VolumeMissing { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use imagefmt::{Encoder, Geometry, KdfCost, Mask, Meta, NewPassword, Writer, WriterOptions};
    use std::fs;

    /// Writes an image of three chunks of noise to `path`; returns the offset of each record.
    fn image(path: &Path, word: Option<&str>) -> Vec<u64> {
        let geometry = Geometry::new(3 << 18, 512, 18).unwrap();
        let options = WriterOptions {
            password: word.map(|word| NewPassword {
                password: Password::new(word),
                salt: [1; 16],
                key: [2; 32],
                nonce_seed: [3; 32],
            }),
            kdf: KdfCost {
                memory_kib: 8,
                passes: 1,
                lanes: 1,
            },
            ..WriterOptions::new(geometry, [7; 16])
        };
        let mut writer = Writer::create(
            fs::File::options()
                .write(true)
                .create(true)
                .truncate(true)
                .open(path)
                .unwrap(),
            options,
        )
        .unwrap();
        let mut encoder = Encoder::new(1, writer.id_key()).unwrap();
        writer.meta(&Meta::default()).unwrap();
        writer
            .table(&[imagefmt::Region {
                offset: 0,
                bytes: vec![0; 512],
            }])
            .unwrap();
        let mask = Mask::full(1 << 18);
        for chunk in 0..3_u8 {
            let mut used = vec![0; 1 << 18];
            blake3::Hasher::new_keyed(&[chunk; 32])
                .finalize_xof()
                .fill(&mut used);
            if chunk == 0 {
                used[..512].fill(0);
            }
            let body = encoder.encode(&mask, &used).unwrap();
            writer.chunk(ChunkId(chunk.into()), &mask, &body).unwrap();
        }
        writer.finish().unwrap();
        let records = Records::walk(open_volumes(path).unwrap()).unwrap();
        records
            .records()
            .iter()
            .map(|record| record.position.offset)
            .collect()
    }

    fn run(path: &Path, word: Option<&str>, depth: Depth) -> Result<Report, DiskError> {
        check(path, word, depth, 2, &|_, _| {}, &|| false)
    }

    fn damage(path: &Path, at: u64) {
        let mut bytes = fs::read(path).unwrap();
        bytes[usize::try_from(at).unwrap()] ^= 1;
        fs::write(path, bytes).unwrap();
    }

    /// The console may store images whose password only the operator has. Their damage must be
    /// found all the same.
    #[test]
    fn a_locked_image_is_checked_without_its_password() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.dcimg");
        let records = image(&path, Some("secret"));
        for depth in [Depth::Quick, Depth::Standard] {
            let report = run(&path, None, depth).unwrap();
            assert_eq!((report.faults.len(), report.chunks), (0, 3));
            assert_eq!(report.root, run(&path, Some("secret"), depth).unwrap().root);
        }
        let locked = run(&path, None, Depth::Deep);
        assert!(matches!(
            locked,
            Err(DiskError::Image {
                source: FormatError::PasswordNeeded,
                ..
            })
        ));
        assert!(
            run(&path, Some("secret"), Depth::Deep)
                .unwrap()
                .faults
                .is_empty()
        );
        damage(&path, records[3] + 5000);
        for word in [None, Some("secret")] {
            let report = run(&path, word, Depth::Standard).unwrap();
            let hit: Vec<_> = report.faults.iter().map(|fault| fault.chunk).collect();
            assert_eq!(hit, [Some(ChunkId(1))]);
            assert!(
                report.faults[0].text.contains("disk bytes 262144..524288"),
                "{}",
                report.faults[0].text
            );
            assert_eq!(report.damage(), "1 of 3 chunks");
        }
    }

    #[test]
    fn a_cut_image_says_what_survives() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.dcimg");
        for word in [None, Some("secret")] {
            let records = image(&path, word);
            let whole = fs::read(&path).unwrap();
            fs::write(&path, &whole[..usize::try_from(records[4] + 1000).unwrap()]).unwrap();
            assert!(run(&path, word, Depth::Quick).is_err());
            for depth in [Depth::Standard, Depth::Deep] {
                let report = run(&path, word, depth).unwrap();
                assert_eq!(
                    report.damage(),
                    "its structure; all 2 chunks found in it are whole"
                );
                assert!(
                    report.faults[0].text.contains("cut short"),
                    "{}",
                    report.faults[0].text
                );
            }
        }
    }

    #[test]
    fn a_damaged_header_is_named_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.dcimg");
        let records = image(&path, None);
        damage(&path, records[2] + 30);
        for depth in [Depth::Standard, Depth::Deep] {
            let report = run(&path, None, depth).unwrap();
            let hit: Vec<_> = report.faults.iter().map(|fault| fault.chunk).collect();
            assert_eq!(hit, [Some(ChunkId(0))]);
        }
        // The description has a second copy in the index, so the image opens; the check reports the
        // damage nevertheless.
        image(&path, None);
        damage(&path, records[0] + 30);
        let report = run(&path, None, Depth::Standard).unwrap();
        assert_eq!(report.faults.len(), 1);
        assert_eq!(
            report.damage(),
            "its structure; all 3 chunks found in it are whole"
        );
    }
}
