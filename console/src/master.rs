//! The master image in the form that a session sends.
//!
//! Owns the open image file, the encoded manifest (object 0), and the division of the chunk bodies,
//! in the manifest's order, into blocks (object 1). The multicast thread and the bulk service read
//! blocks here at the same time. Never writes. Invariants: a block comes from an image whose stored
//! hashes match; memory holds the manifest and one block per reader, whatever the image's size.

use super::image_check::FileStamp;
use super::shares::ImagePlace;
use api::{ApiError, ErrorCode, ImageSummary};
use disk::DiskError;
use disk::check::{describe, full_text};
use disk::choice::{self, ChoiceError, root_of};
use disk::fit::{file_system, table_of};
use disk::gaps::left_out_lines;
use disk::partition_words::partition_line;
use disk::restore::open_volumes;
use disk::share::mount::Mounted;
use disk::signing::public_text;
use diskmap::PartitionTable;
use facts::hex;
use facts::target::{Choice, PartitionFacts};
use imagefmt::{ChunkId, FormatError, Image, Password};
use jobs::plan::Chosen;
use multicast::{BlockKey, Layout, ObjectId};
use net::sending::BlockSource;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio_util::bytes::Bytes;

/// An image that is ready to be sent.
pub struct MasterImage {
    image: Arc<Image<File>>,
    manifest: Bytes,
    manifest_layout: Layout,
    image_layout: Layout,
    summary: ImageSummary,
    table: PartitionTable,
    /// The same files opened again, to query their present state.
    volumes: Vec<File>,
    /// Mount of the share with the image; `None` for a local file.
    mounted: Option<Mounted>,
}

/// Fault of a chunk, or of the whole image, that prevents sending it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}")]
pub struct ChunkFault {
    /// The damaged chunk; `None` for the image as a whole.
    pub chunk: Option<ChunkId>,
    /// Text such as `image damaged, chunk 19: ...`, with place on the disk and partition.
    pub text: String,
    index: Option<usize>,
}

impl ChunkFault {
    /// Makes the fault of the image as a whole.
    pub fn of_image(text: String) -> Self {
        Self {
            chunk: None,
            text,
            index: None,
        }
    }
}

impl MasterImage {
    /// Opens the image at `path` with all its volumes.
    ///
    /// Reads the index; deriving a key from a password takes time: call it where blocking is
    /// allowed.
    ///
    /// # Errors
    /// `Usage` for a missing password, `NotAuthorised` for a wrong one, `Refused` for an unreadable
    /// file, `Integrity` for an incomplete or damaged image.
    pub fn open(path: &Path, password: Option<&str>) -> Result<Self, ApiError> {
        Self::open_place(ImagePlace::here(path), password)
    }

    /// Opens an image that may be on a share, and keeps the mount. Errors show the path that people
    /// use.
    ///
    /// # Errors
    /// The errors of [`Self::open`].
    pub fn open_place(place: ImagePlace, password: Option<&str>) -> Result<Self, ApiError> {
        let opened = Self::opened(&place, password).map_err(|mut error| {
            let (real, shown) = (place.real.to_string_lossy(), place.shown.to_string_lossy());
            error.message = error.message.replace(&*real, &shown);
            error
        });
        Ok(Self {
            mounted: place.mounted,
            ..opened?
        })
    }

    fn opened(place: &ImagePlace, password: Option<&str>) -> Result<Self, ApiError> {
        let path = place.shown.as_path();
        let unreadable = |error: io::Error| {
            ApiError::new(
                ErrorCode::Refused,
                format!("image {}: {error}", path.display()),
            )
            .hint(match place.mounted {
                None => "the path is one on the console's machine, readable by the console",
                Some(_) => "the share is there; is the path below it right, and may the account read the file?",
            })
        };
        let volumes = open_volumes(&place.real).map_err(|error| match error {
            DiskError::Io { source, .. } => unreadable(source),
            other => other.into(),
        })?;
        let again = volumes.iter().map(|volume| volume.reader.try_clone());
        let files = again.collect::<io::Result<_>>().map_err(unreadable)?;
        let password = password.map(Password::new);
        let image = Image::open_volumes(volumes, password.as_ref())
            .map_err(|error| of_image(path, error))?;
        Self::of(image, files, path)
    }

    fn of(image: Image<File>, volumes: Vec<File>, path: &Path) -> Result<Self, ApiError> {
        let manifest = image.manifest();
        let encoded = manifest.encode().map_err(|error| of_image(path, error))?;
        let manifest_len = u32::try_from(encoded.len()).map_err(|_| {
            ApiError::new(
                ErrorCode::Integrity,
                format!(
                    "the manifest of {} has {} bytes",
                    path.display(),
                    encoded.len()
                ),
            )
        })?;
        let geometry = manifest.geometry;
        let table = table_of(manifest).map_err(|error| {
            ApiError::new(
                ErrorCode::Integrity,
                format!("partition table in {}: {error}", path.display()),
            )
            .hint("diskcast image check says more")
        })?;
        let summary = ImageSummary {
            path: path.display().to_string(),
            root: image.root().to_string(),
            file_bytes: image.bytes(),
            disk_bytes: geometry.disk_size,
            sector_size: geometry.sector_size,
            used_bytes: manifest.used_bytes(),
            wire_bytes: manifest.body_bytes().saturating_add(encoded.len() as u64),
            created: manifest.meta.created.clone(),
            partitions: manifest
                .meta
                .partitions
                .iter()
                .map(partition_line)
                .collect(),
            chosen_root: None,
            set: manifest.meta.set.clone(),
            signed_by: image.signers().iter().map(public_text).collect(),
            checked: None,
        };
        Ok(Self {
            manifest_layout: Layout::single(manifest_len),
            image_layout: multicast::pack(manifest.entries.iter().map(|entry| entry.body_len)),
            manifest: Bytes::from(encoded),
            summary,
            table,
            volumes,
            mounted: None,
            image: Arc::new(image),
        })
    }

    /// Returns the summary that plans show.
    pub fn summary(&self) -> &ImageSummary {
        &self.summary
    }

    /// Returns the opened image.
    pub fn image(&self) -> &Arc<Image<File>> {
        &self.image
    }

    /// Returns the partition table, for size checks.
    pub fn table(&self) -> &PartitionTable {
        &self.table
    }

    /// Returns the partitions that can hold a file system, as a disk with this image shows them.
    pub fn partitions(&self) -> Vec<PartitionFacts> {
        let all = self.table.partitions.iter();
        all.filter(|partition| !partition.is_extended())
            .map(|partition| PartitionFacts {
                number: partition.number,
                start: partition.start,
                length: partition.length,
            })
            .collect()
    }

    /// Returns the part of the image that a choice deploys.
    ///
    /// # Errors
    /// `Usage` for a choice that does not fit the image.
    pub fn chosen(&self, choice: &Choice) -> Result<Chosen, ApiError> {
        let usage = |error: ChoiceError| {
            let text = format!("image {}: {error}", self.summary.path);
            ApiError::new(ErrorCode::Usage, text)
                .hint("diskcast image info shows the partitions of an image")
        };
        let table = choice::table(choice, &self.table).map_err(usage)?;
        let onto = choice::one(choice, &self.table).map_err(usage)?.cloned();
        let mut summary = self.summary.clone();
        // A single partition needs nothing outside it.
        let mut notes = match onto {
            Some(_) => Vec::new(),
            None => left_out_lines(&self.image.manifest().meta),
        };
        if !choice.is_whole() {
            let manifest = self.image.manifest();
            let wanted = choice::wanted(choice, manifest, &self.table);
            let entries = || {
                let all = manifest.entries.iter().enumerate();
                all.filter(|(index, _)| wanted.contains(*index))
                    .map(|(_, entry)| entry)
            };
            summary.chosen_root = Some(root_of(manifest, &wanted).to_string());
            summary.used_bytes = entries().map(|e| u64::from(e.mask.used_bytes())).sum();
            summary.wire_bytes =
                entries().map(|e| u64::from(e.body_len)).sum::<u64>() + self.manifest.len() as u64;
            let left_out = |number: &u32| table.partition(*number).is_none();
            let started = self.table.starting_partitions();
            for number in started.iter().filter(|n| onto.is_none() && left_out(n)) {
                notes.push(format!(
                    "partition {number} is what the master starts from, and it is left out: the machines may not start"
                ));
            }
        }
        Ok(Chosen {
            summary,
            table,
            onto_fs: onto
                .as_ref()
                .and_then(|source| file_system(self.image.manifest(), source.number)),
            onto: onto.zip(choice.onto),
            notes,
        })
    }

    /// Returns the root in 64 hex digits.
    pub fn root(&self) -> &str {
        &self.summary.root
    }

    /// Returns the encoded manifest: object 0.
    pub fn manifest(&self) -> &[u8] {
        &self.manifest
    }

    /// Returns the encoded manifest as a shared reference.
    pub fn shared_manifest(&self) -> Bytes {
        self.manifest.clone()
    }

    /// Returns the BLAKE3 hash of the encoded manifest in 64 hex digits.
    pub fn manifest_digest(&self) -> String {
        blake3::hash(&self.manifest).to_string()
    }

    /// Returns true if the image needs a password.
    pub fn encrypted(&self) -> bool {
        self.image.encrypted()
    }

    /// Returns the key of content ids for agents in 64 hex digits; it is sent only in their TLS
    /// connections.
    pub fn id_key(&self) -> Option<String> {
        self.image.id_key().map(|key| {
            let bytes = zeroize::Zeroizing::new(key.to_bytes());
            hex::encode(bytes.as_slice())
        })
    }

    /// Returns the number of blocks of the image object.
    pub fn image_blocks(&self) -> u32 {
        self.image_layout.block_count()
    }

    /// Returns the length of an image block in bytes, without reading it.
    pub fn block_len(&self, index: u32) -> Option<u32> {
        self.image_layout
            .blocks()
            .get(index as usize)
            .map(|shape| shape.len)
    }

    /// Returns the stamps of its files now; an empty list, which matches no record, if one cannot
    /// be read.
    pub fn files(&self) -> Vec<FileStamp> {
        let stamps = self.volumes.iter().map(File::metadata);
        stamps
            .map(|metadata| {
                let stamp = FileStamp::of(&metadata?);
                Ok::<_, io::Error>(match self.mounted {
                    None => stamp,
                    Some(_) => stamp.on_share(),
                })
            })
            .collect::<Result<_, _>>()
            .unwrap_or_default()
    }

    /// Reads the body of an entry in the form that is sent.
    ///
    /// # Errors
    /// A chunk whose stored bytes do not match their hash, or cannot be read.
    pub fn read_chunk_body(&self, index: usize, body: &mut Vec<u8>) -> Result<(), ChunkFault> {
        self.image
            .read_body(index, body)
            .map_err(|error| self.fault(index, &error))
    }

    fn fault(&self, index: usize, error: &FormatError) -> ChunkFault {
        let manifest = self.image.manifest();
        let what = match error {
            FormatError::Io { .. } => "image cannot be read",
            _ => "image damaged",
        };
        let chunk = manifest.entries.get(index).map(|entry| entry.chunk);
        let text = match (chunk, error) {
            (None, _) => format!("{what}: {}", full_text(error)),
            (Some(chunk), FormatError::ChunkDamaged { reason, .. }) => {
                let place = describe(manifest.geometry, Some(manifest), chunk);
                format!("{what}, chunk {chunk}: {reason}: {place}")
            }
            (Some(chunk), _) => {
                let place = describe(manifest.geometry, Some(manifest), chunk);
                format!("{what}, chunk {chunk}: {}: {place}", full_text(error))
            }
        };
        ChunkFault {
            chunk,
            text,
            index: Some(index),
        }
    }

    /// Describes the faults in the parts of a choice: the first, and the number of others. `None`
    /// if no fault is in them.
    pub fn damage_of(&self, choice: &Choice, faults: &[ChunkFault]) -> Option<String> {
        let wanted = (!choice.is_whole())
            .then(|| choice::wanted(choice, self.image.manifest(), &self.table));
        let mut hit = faults.iter().filter(|fault| match (&wanted, fault.index) {
            (Some(wanted), Some(index)) => wanted.contains(index),
            _ => true,
        });
        let first = hit.next()?;
        Some(match hit.count() {
            0 => first.text.clone(),
            1 => format!("{}; and another chunk", first.text),
            more => format!("{}; and {more} more chunks", first.text),
        })
    }

    fn read_image_block(&self, index: u32, out: &mut Vec<u8>) -> io::Result<()> {
        let mut body = Vec::new();
        for part in self.image_layout.parts(index) {
            self.read_chunk_body(part.piece as usize, &mut body)
                .map_err(io::Error::other)?;
            let from = part.piece_offset as usize;
            let bytes = from
                .checked_add(part.len as usize)
                .and_then(|to| body.get(from..to));
            out.extend_from_slice(bytes.ok_or_else(|| wrong_block(index))?);
        }
        Ok(())
    }
}

impl BlockSource for MasterImage {
    fn layout(&self, object: ObjectId) -> &Layout {
        match object {
            ObjectId::Manifest => &self.manifest_layout,
            ObjectId::Image => &self.image_layout,
        }
    }

    fn read_block(&self, key: BlockKey, out: &mut Vec<u8>) -> io::Result<()> {
        out.clear();
        let layout = self.layout(key.object);
        let shape = layout
            .blocks()
            .get(key.index as usize)
            .ok_or_else(|| wrong_block(key.index))?;
        match key.object {
            ObjectId::Manifest => {
                let from = shape.offset_in_first as usize;
                let bytes = from
                    .checked_add(shape.len as usize)
                    .and_then(|to| self.manifest.get(from..to));
                out.extend_from_slice(bytes.ok_or_else(|| wrong_block(key.index))?);
            }
            ObjectId::Image => self.read_image_block(key.index, out)?,
        }
        if out.len() == shape.len as usize {
            Ok(())
        } else {
            Err(wrong_block(key.index))
        }
    }
}

/// The error of an image that cannot be sent.
fn of_image(path: &Path, error: FormatError) -> ApiError {
    let mut error = ApiError::from(DiskError::image(path, error));
    if error.code == ErrorCode::Integrity {
        error
            .hint
            .get_or_insert_with(|| "diskcast image check says which part is damaged".to_owned());
    }
    error
}

fn wrong_block(index: u32) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("block {index} is not in the image as its index says"),
    )
}
