//! The unfinished image of a capture: `NAME.dcimg.partial`, with further parts where the size of a
//! file is limited.
//!
//! Owns every check between a frame from the network and the file. Invariants: a chunk is written
//! only if its bytes decode to the content that its id names, in device order, once, and within the
//! announced numbers; a refused chunk changes nothing. Blocks: call it where blocking is allowed.

use api::CaptureRequest;
use disk::DiskError;
use disk::capture::{new_image, refuse_shortage};
use disk::check::{Depth, check_parts};
use disk::volumes::{PartWriter, Volumes};
use facts::hex;
use imagefmt::{
    ChunkId, Decoder, Entry, FormatError, Geometry, Hole, Manifest, Meta, Password, RecordSealer,
    Region, Root, Unfinished, Writer,
};
use protocol::capture::hold;
use protocol::control::{CaptureBegin, CaptureBegun};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// zstd level of all records except chunks, which the agent compresses.
const LEVEL: i32 = imagefmt::DEFAULT_LEVEL;
/// Threads of the final check, few enough to leave the rest of the console responsive.
const CHECKERS: usize = 2;

/// Reason why the console refuses a part of an upload.
#[derive(Debug)]
pub enum Refused {
    /// Invalid data from the agent.
    Nonsense(String),
    /// Request at the wrong time; it may succeed later.
    Untimely(String),
    /// Fault of the console, such as a full disk or an existing image.
    Here(DiskError),
}

impl From<DiskError> for Refused {
    fn from(error: DiskError) -> Self {
        Self::Here(error)
    }
}

/// Properties of the image that a capture makes.
#[derive(Debug)]
pub struct Wanted {
    /// Path of the finished image.
    pub image: PathBuf,
    /// Date for the description, RFC 3339.
    pub created: String,
    /// Capture request, without its password.
    pub request: CaptureRequest,
    /// Password for encryption; `None` for a plain image.
    pub password: Option<Zeroizing<String>>,
}

/// An unfinished image that takes chunks.
#[derive(Debug)]
pub(super) struct Intake {
    image: PathBuf,
    volumes: Volumes,
    writer: Writer<PartWriter>,
    sealer: RecordSealer,
    decoder: Decoder,
    geometry: Geometry,
    last: Option<ChunkId>,
    chunks: u64,
    used: u64,
    digest: blake3::Hasher,
    plain: Vec<u8>,
    record: Vec<u8>,
    /// Announced number of chunks and used bytes; chunks are refused before.
    announced: Option<(u64, u64)>,
    /// Device bytes that the agent could not read.
    holes: Vec<Hole>,
}

/// A finished image.
#[derive(Debug)]
pub struct Finished {
    /// Root of the image.
    pub root: Root,
    /// Size of all files of the image in bytes.
    pub file_bytes: u64,
    /// Number of files.
    pub volumes: u32,
    /// Manifest of the image.
    pub manifest: Manifest,
}

impl Intake {
    /// Returns the unfinished image of an earlier upload; `None` if there is nothing to continue.
    ///
    /// # Errors
    /// [`DiskError::Refused`] if the image exists or another process writes it;
    /// [`DiskError::Image`] for a wrong password.
    pub(super) fn resume(wanted: &Wanted) -> Result<Option<Self>, DiskError> {
        let Some((volumes, mut output, reader, len)) = Volumes::reopen(&wanted.image)? else {
            return Ok(None);
        };
        let password = wanted
            .password
            .as_ref()
            .map(|word| Password::new(word.as_str()));
        let unfinished = match Unfinished::read(reader, len, password.as_ref(), LEVEL) {
            Ok(unfinished) => unfinished,
            Err(error @ (FormatError::PasswordNeeded | FormatError::WrongPassword)) => {
                return Err(DiskError::image(&wanted.image, error));
            }
            Err(error) => {
                tracing::info!(image = %wanted.image.display(), %error, "nothing to go on with");
                return Ok(None);
            }
        };
        output.cut(unfinished.end())?;
        let writer = unfinished.into_writer(output);
        // The table is written right before the first chunk, so without a chunk there is nothing to
        // continue.
        if writer.description().is_none() || writer.written().next().is_none() {
            return Ok(None);
        }
        if writer.id_key().is_some() != wanted.password.is_some() {
            return Ok(None);
        }
        Self::around(volumes, writer, &wanted.image).map(Some)
    }

    /// Creates an image for a surveyed disk.
    ///
    /// # Errors
    /// [`Refused`] for an inconsistent survey, an existing image, or a disk without room.
    pub(super) fn create(wanted: &Wanted, begin: &CaptureBegin) -> Result<Self, Refused> {
        let bad = |error| DiskError::image(&wanted.image, error);
        let nonsense = |error: FormatError| Refused::Nonsense(error.to_string());
        let geometry = geometry(begin)?;
        let regions: Vec<Region> = begin
            .table
            .iter()
            .map(|sectors| {
                let bytes = hex::decode_any(&sectors.bytes)
                    .ok_or_else(|| Refused::Nonsense("table sectors that are no bytes".into()))?;
                Ok(Region {
                    offset: sectors.offset,
                    bytes,
                })
            })
            .collect::<Result<_, Refused>>()?;
        let meta = Meta {
            created: wanted.created.clone(),
            note: wanted.request.note.clone(),
            set: wanted.request.set.clone(),
            holes: Vec::new(),
            ..begin.meta.clone()
        };
        let (volumes, output) = Volumes::create(&wanted.image, None)?;
        if let Some(free) = volumes.free_bytes() {
            refuse_shortage(begin.expected_bytes, free, &wanted.image)?;
        }
        let password = wanted.password.as_ref().map(|word| word.as_str());
        let mut options = new_image(geometry, password)?;
        let writer = match volumes.cut() {
            None => Writer::create(output, options),
            Some(cut) => {
                options.volume_bytes = cut;
                Writer::create_divided(output, options, volumes.sink())
            }
        };
        let mut writer = writer.map_err(bad)?;
        writer.meta(&meta).map_err(nonsense)?;
        writer.table(&regions).map_err(nonsense)?;
        Ok(Self::around(volumes, writer, &wanted.image)?)
    }

    fn around(
        volumes: Volumes,
        writer: Writer<PartWriter>,
        image: &Path,
    ) -> Result<Self, DiskError> {
        let (mut digest, mut chunks, mut last) = (blake3::Hasher::new(), 0, None);
        for (chunk, id) in writer.written() {
            hold(&mut digest, chunk, id);
            chunks += 1;
            last = Some(chunk);
        }
        Ok(Self {
            decoder: Decoder::new(writer.id_key()).map_err(|e| DiskError::image(image, e))?,
            geometry: writer.geometry(),
            used: writer.used_bytes(),
            sealer: writer.sealer(),
            image: image.to_owned(),
            volumes,
            writer,
            last,
            chunks,
            digest,
            plain: Vec::new(),
            record: Vec::new(),
            announced: None,
            holes: Vec::new(),
        })
    }

    /// Accepts the chunks of this survey; they follow the ones that the image already holds.
    ///
    /// # Errors
    /// [`Refused::Nonsense`] for another disk size than before or impossible numbers.
    pub(super) fn announce(&mut self, begin: &CaptureBegin) -> Result<(), Refused> {
        if geometry(begin)? != self.geometry {
            return Err(Refused::Nonsense("another disk than before".into()));
        }
        let fits = begin.chunks <= u64::from(self.geometry.chunk_count())
            && begin.used_bytes <= self.geometry.disk_size
            && begin.chunks >= self.chunks
            && begin.used_bytes >= self.used;
        if !fits {
            return Err(Refused::Nonsense(
                "more chunks or bytes than the disk has".into(),
            ));
        }
        self.announced = Some((begin.chunks, begin.used_bytes));
        Ok(())
    }

    /// Returns the answer to the agent, which tells it where to continue.
    pub(super) fn begun(&self, upload: u64, note: Option<String>) -> CaptureBegun {
        CaptureBegun {
            upload,
            held: self.chunks,
            held_digest: self.digest.finalize().to_hex().to_string(),
            id_key: self
                .writer
                .id_key()
                .map(|key| hex::encode(Zeroizing::new(key.to_bytes()).as_slice())),
            note,
        }
    }

    /// Returns the number of chunks and used bytes that the image holds.
    pub(super) fn held(&self) -> (u64, u64) {
        (self.chunks, self.used)
    }

    /// Returns the sizes of disk, sectors and chunks.
    pub(super) fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Decodes a chunk to prove it, and writes it.
    ///
    /// # Errors
    /// After [`Refused::Nonsense`] nothing has changed. After [`Refused::Here`] the file must be
    /// read again before it takes another chunk.
    pub(super) fn store(&mut self, entry: Entry, body: &[u8]) -> Result<(), Refused> {
        let nonsense = |text: String| Err(Refused::Nonsense(text));
        let chunk = entry.chunk;
        let used = u64::from(entry.mask.used_bytes());
        let Some((chunks, bytes)) = self.announced else {
            return Err(Refused::Untimely("no survey came before".into()));
        };
        if self.last.is_some_and(|last| chunk <= last) {
            return nonsense(format!("chunk {chunk} came twice or out of order"));
        }
        if self.chunks >= chunks || self.used.saturating_add(used) > bytes {
            return nonsense(format!("chunk {chunk} is more than was announced"));
        }
        let id = entry.id;
        if let Err(error) = self
            .decoder
            .decode(&self.geometry, &entry, body, &mut self.plain)
        {
            return nonsense(error.to_string());
        }
        let record = std::mem::take(&mut self.record);
        let bad = |error| Refused::Here(DiskError::image(&self.image, error));
        let sealed = self.sealer.seal_entry(entry, body, record).map_err(bad)?;
        self.writer.write(&sealed).map_err(bad)?;
        self.record = sealed.into_buffer();
        hold(&mut self.digest, chunk, id);
        self.last = Some(chunk);
        self.chunks += 1;
        self.used += used;
        Ok(())
    }

    /// Returns true if the image holds all announced chunks and bytes.
    pub(super) fn is_complete(&self) -> bool {
        self.announced == Some((self.chunks, self.used))
    }

    /// Records the unreadable ranges of the master disk, which the agent reports at the end.
    pub(super) fn has_holes(&mut self, holes: Vec<Hole>) {
        self.holes = holes;
    }

    /// Writes the description again if it lists other unreadable ranges.
    fn describe_holes(&mut self) -> Result<(), FormatError> {
        let known = self.writer.description();
        match known.filter(|known| known.holes != self.holes) {
            None => Ok(()),
            Some(mut meta) => {
                meta.holes = std::mem::take(&mut self.holes);
                self.writer.meta(&meta)
            }
        }
    }

    /// Completes the image, reads it back against its stored hashes, and renames it to its final
    /// name.
    ///
    /// # Errors
    /// [`DiskError`]; the unfinished file stays, unless it does not read back as it was written:
    /// then it is removed.
    pub(super) fn finish(
        mut self,
        progress: disk::OnProgress,
        cancelled: disk::Cancelled,
    ) -> Result<Finished, DiskError> {
        self.describe_holes()
            .map_err(|error| DiskError::image(&self.image, error))?;
        let image = self.image;
        let written = self
            .writer
            .finish()
            .map_err(|error| DiskError::image(&image, error))?;
        let mut volumes = self.volumes;
        volumes.sync()?;
        let parts = volumes.unnamed();
        let report = check_parts(
            &image,
            &parts,
            Depth::Standard,
            CHECKERS,
            progress,
            cancelled,
        )?;
        if let Some(fault) = report.faults.first() {
            let text = fault.text.clone();
            volumes.discard();
            return Err(DiskError::Refused {
                message: format!(
                    "{} does not read back as it was written: {text}",
                    image.display()
                ),
                hint: Some("check the console's disk, then capture again".to_owned()),
            });
        }
        let volumes = volumes.finish()?;
        Ok(Finished {
            root: written.root,
            file_bytes: written.bytes,
            volumes,
            manifest: written.manifest,
        })
    }
}

fn geometry(begin: &CaptureBegin) -> Result<Geometry, Refused> {
    Geometry::new(begin.disk_bytes, begin.sector_size, begin.chunk_log2)
        .map_err(|error| Refused::Nonsense(error.to_string()))
}
