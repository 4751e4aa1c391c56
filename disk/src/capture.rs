//! From a master disk to an image: survey, then read, compress and write in parallel.
//!
//! Workers claim chunks in device order, read their used blocks, compress and hash; the calling
//! thread writes records in order ([`pipeline`]). [`MasterDisk`] decides the content of the image.

use super::master::{MasterDisk, MasterOptions};
use super::output::keep_source;
use super::pipeline;
use super::survey::SurveyOptions;
use super::volumes::{PartWriter, Volumes};
use super::{Cancelled, DiskError, OnProgress, device};
use imagefmt::{
    DiskSet, EncodedChunk, Encoder, Geometry, Meta, NewPassword, Password, Root, Writer,
    WriterOptions,
};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use zeroize::Zeroizing;

/// Options of a capture.
#[derive(Clone, Debug)]
pub struct CaptureOptions {
    /// Options of the survey, which select the captured bytes.
    pub survey: SurveyOptions,
    /// zstd level, 1 to 12.
    pub level: i32,
    /// Chunk size as a power of two, 18 to 22.
    pub chunk_log2: u8,
    /// Logical sector size; needed only for a regular file that holds the copy of a
    /// 4096-byte-sector disk.
    pub sector_size: Option<u32>,
    /// Note of the technician, kept in the image.
    pub note: Option<String>,
    /// Place of the disk among those of its machine.
    pub set: Option<DiskSet>,
    /// Password to encrypt with, if any.
    pub password: Option<Zeroizing<String>>,
    /// Date for the description, in RFC 3339.
    pub created: String,
    /// Number of worker threads.
    pub threads: usize,
    /// Size in bytes at which the image is cut into files. Without it the image is cut only if the
    /// file system limits file sizes.
    pub volume_bytes: Option<u64>,
}

/// Result of a capture.
#[derive(Clone, Debug)]
pub struct Captured {
    /// Root of the image.
    pub root: Root,
    /// Bytes of the image, all its files together.
    pub file_bytes: u64,
    /// Number of its files.
    pub volumes: u32,
    /// Device bytes that the image holds.
    pub used_bytes: u64,
    /// Size of the master disk, in bytes.
    pub disk_bytes: u64,
    /// The description as it was written.
    pub meta: Meta,
}

/// Captures the disk at `source` into a new image at `image` (`-` is standard output). While the
/// disk is surveyed, `progress` gets a total of zero.
///
/// # Errors
/// Every error of [`MasterDisk::open`]; [`DiskError::Refused`] when the image exists or would not
/// fit; [`DiskError::Write`] and others when a medium fails. Then no final file exists.
pub fn capture(
    source: &Path,
    image: &Path,
    options: &CaptureOptions,
    progress: OnProgress,
    cancelled: Cancelled,
) -> Result<Captured, DiskError> {
    keep_source(source, image)?;
    let disk = MasterDisk::open(
        source,
        &MasterOptions {
            survey: options.survey.clone(),
            chunk_log2: options.chunk_log2,
            sector_size: options.sector_size,
        },
        progress,
        cancelled,
    )?;
    let meta = Meta {
        created: options.created.clone(),
        note: options.note.clone(),
        set: options.set.clone(),
        ..disk.meta().clone()
    };
    if image != Path::new("-") {
        device::refuse_new_device(image)?;
    }
    let (mut output, first) = Volumes::create(image, options.volume_bytes)?;
    match write(
        &disk,
        &meta,
        (&output, first),
        image,
        options,
        progress,
        cancelled,
    ) {
        Ok((root, file_bytes, meta)) => {
            let volumes = output.finish()?;
            Ok(Captured {
                volumes,
                root,
                file_bytes,
                used_bytes: disk.used_bytes(),
                disk_bytes: disk.geometry().disk_size,
                meta,
            })
        }
        Err(error) => {
            output.discard();
            Err(error)
        }
    }
}

fn write(
    disk: &MasterDisk,
    meta: &Meta,
    (output, first): (&Volumes, PartWriter),
    image: &Path,
    options: &CaptureOptions,
    progress: OnProgress,
    cancelled: Cancelled,
) -> Result<(Root, u64, Meta), DiskError> {
    let used = disk.used_bytes();
    if let Some(free) = output.free_bytes().filter(|free| *free < used) {
        refuse_shortage(disk.estimate(options.level)?, free, image)?;
    }
    let bad = |e| DiskError::image(image, e);
    let password = options.password.as_ref().map(|word| word.as_str());
    let mut wanted = new_image(disk.geometry(), password)?;
    let writer = match output.cut() {
        None => Writer::create(first, wanted),
        Some(cut) => {
            wanted.volume_bytes = cut;
            Writer::create_divided(first, wanted, output.sink())
        }
    };
    let mut writer = writer.map_err(bad)?;
    writer.meta(meta).map_err(bad)?;
    writer.table(&disk.regions()).map_err(bad)?;
    let sealer = writer.sealer();
    let done = AtomicU64::new(0);
    let worker = || {
        let mut encoder = Encoder::new(options.level, sealer.id_key().cloned())
            .map_err(|error| DiskError::image(disk.path(), error))?;
        let mut buffer = Vec::new();
        let (sealer, done) = (&sealer, &done);
        Ok(move |index: usize| {
            let wrong = |error| DiskError::image(disk.path(), error);
            disk.read_chunk(index, &mut buffer)?;
            let (chunk, mask) = &disk.chunks()[index];
            let body = encoder.encode(mask, &buffer).map_err(wrong)?;
            let sealed = sealer.seal(*chunk, mask, &body).map_err(wrong)?;
            let bytes = buffer.len() as u64;
            progress(done.fetch_add(bytes, Ordering::Relaxed) + bytes, used);
            Ok(sealed)
        })
    };
    let take = |_, sealed: EncodedChunk| {
        writer.write(&sealed).map_err(bad)?;
        if cancelled() {
            return Err(DiskError::Cancelled);
        }
        Ok(())
    };
    pipeline::in_order(0..disk.chunks().len(), options.threads, worker, take)?;
    disk.confirm_unchanged()?;
    let mut meta = meta.clone();
    meta.holes = disk.holes();
    if !meta.holes.is_empty() {
        writer.meta(&meta).map_err(bad)?;
    }
    let written = writer.finish().map_err(bad)?;
    Ok((written.root, written.bytes, meta))
}

/// Refuses an image that will not fit. The size is estimated from a sample, so only a shortage of
/// more than a quarter is refused.
pub fn refuse_shortage(expected: u64, free: u64, image: &Path) -> Result<(), DiskError> {
    if expected / 4 * 3 <= free {
        return Ok(());
    }
    Err(DiskError::refused(
        format!(
            "the image needs about {expected} bytes, {} has {free} free",
            image.display()
        ),
        "free some space, or write it elsewhere",
    ))
}

/// Options of a new image of this geometry: an identity and, with a password, a key of its own.
pub fn new_image(geometry: Geometry, password: Option<&str>) -> Result<WriterOptions, DiskError> {
    let mut image_uuid = [0u8; 16];
    random(&mut image_uuid)?;
    let password = match password {
        None => None,
        Some(password) => {
            let (mut salt, mut key, mut nonce_seed) = ([0u8; 16], [0u8; 32], [0u8; 32]);
            random(&mut salt)?;
            random(&mut key)?;
            random(&mut nonce_seed)?;
            Some(NewPassword {
                password: Password::new(password),
                salt,
                key,
                nonce_seed,
            })
        }
    };
    Ok(WriterOptions {
        password,
        ..WriterOptions::new(geometry, image_uuid)
    })
}

/// Fills `bytes` with random bytes from the kernel.
pub(super) fn random(bytes: &mut [u8]) -> Result<(), DiskError> {
    let source = |error| std::io::Error::other(error);
    getrandom::fill(bytes).map_err(|e| {
        DiskError::io(
            "drawing random bytes from",
            Path::new("the kernel"),
            source(e),
        )
    })
}
