//! Messages of a capture, and of work that a person at the target starts (TCP 5001 and 5003).
//!
//! Values, and the frame of a chunk on its way to the console. Never touches a socket. Invariants:
//! a frame's lengths are checked against the disk's geometry before memory is allocated; a frame
//! that cannot be a chunk of that disk is refused.
//!
//! ```text
//! frame: chunk u32 BE | codec u8 | mask bytes u8 | 0 u16 | body bytes u32 BE | content id 32 | mask | body
//! ```

use crate::control::{BulkOrder, DiskOrder};
use imagefmt::{ChunkId, Codec, ContentId, Entry, Geometry, HOLES_MAX, Hole, Mask, Meta};
use serde::{Deserialize, Serialize};

/// Order to capture a disk: sent when the capture starts, and again after every reconnect.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CaptureOrder {
    /// Id of the job.
    pub job: String,
    /// Name of the image, for the target's screen.
    pub image: String,
    /// The disk to read.
    pub disk: DiskOrder,
    /// Options of the capture.
    #[serde(default)]
    pub wishes: CaptureWishes,
    /// Access to TCP 5003, valid for this capture only.
    pub bulk: BulkOrder,
}

/// Options of a capture, like those of `image capture`.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CaptureWishes {
    /// zstd level, 1 to 12.
    pub level: i32,
    /// Chunk size as a power of two, 18 to 22.
    pub chunk_log2: u8,
    /// Numbers of partitions to capture completely.
    pub raw_partitions: Vec<u32>,
    /// Keep the contents of page and hibernation files.
    pub keep_page_files: bool,
    /// Capture everything outside partitions that is not zero.
    pub all_gaps: bool,
    /// Capture the whole disk as one range of bytes.
    pub raw: bool,
    /// Continue where the disk cannot be read.
    pub rescue: bool,
    /// Logical sector size in bytes of a file that stands for a disk.
    pub sector_size: Option<u32>,
    /// Worker threads on the target; as many as its processors when absent.
    pub threads: Option<usize>,
}

impl Default for CaptureWishes {
    fn default() -> Self {
        Self {
            level: imagefmt::DEFAULT_LEVEL,
            chunk_log2: imagefmt::DEFAULT_CHUNK_LOG2,
            raw_partitions: Vec::new(),
            keep_page_files: false,
            all_gaps: false,
            raw: false,
            rescue: false,
            sector_size: None,
            threads: None,
        }
    }
}

/// Body of `POST /v1/captures/JOB/begin`: the result of the survey.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CaptureBegin {
    /// Hash over the whole survey, 64 hex digits. It stays the same as long as the disk does.
    pub survey: String,
    /// Size of the disk in bytes.
    pub disk_bytes: u64,
    /// Bytes of a logical sector.
    pub sector_size: u32,
    /// Chunk size as a power of two.
    pub chunk_log2: u8,
    /// Number of chunks that will be sent.
    pub chunks: u64,
    /// Device bytes in these chunks.
    pub used_bytes: u64,
    /// Expected size of the image in bytes.
    pub expected_bytes: u64,
    /// Description of the image; date and note are set by the console.
    pub meta: Meta,
    /// Sectors of the partition table.
    pub table: Vec<TableSectors>,
    /// The reason why chunks the console holds are not to be used.
    #[serde(default)]
    pub fresh: Option<String>,
}

/// Consecutive sectors of a partition table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TableSectors {
    /// Device offset of the first byte.
    pub offset: u64,
    /// Bytes of the sectors, as hex digits.
    pub bytes: String,
}

/// Answer to [`CaptureBegin`]: the place where the upload continues.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CaptureBegun {
    /// Number of this upload; it ends an earlier one.
    pub upload: u64,
    /// Number of chunks the console holds and has verified: the first ones, in device order.
    pub held: u64,
    /// BLAKE3 hash over number (u32 BE) and content id of each held chunk in order, 64 hex digits.
    pub held_digest: String,
    /// Key of content ids when the image is encrypted, 64 hex digits. It cannot decrypt anything;
    /// the image's own key and the password stay on the console.
    #[serde(default)]
    pub id_key: Option<String>,
    /// The reason why the upload begins anew, when an earlier one could have continued.
    #[serde(default)]
    pub note: Option<String>,
}

/// Body of `POST /v1/captures/JOB/end`: everything was sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CaptureEnd {
    /// Unreadable device bytes, ascending and not touching each other. Some are found only while
    /// chunks are read, so they are reported at the end. Empty unless the order requires a rescue.
    #[serde(default)]
    pub holes: Vec<Hole>,
}

/// Size limit of a [`CaptureEnd`] in bytes: as many holes as an image may list, 64 bytes for each
/// with the longest numbers.
pub const END_MAX_BYTES: usize = (64 << 16) + 64;

impl CaptureEnd {
    /// Checks the holes against the order and the disk.
    ///
    /// # Errors
    /// [`FrameRefused`] for holes without a rescue, too many, out of order or outside the disk.
    pub fn check(&self, wishes: &CaptureWishes, geometry: &Geometry) -> Result<(), FrameRefused> {
        if self.holes.is_empty() {
            return Ok(());
        }
        if !wishes.rescue {
            return Err(FrameRefused("holes without a rescue"));
        }
        if self.holes.len() as u64 > HOLES_MAX {
            return Err(FrameRefused("more holes than an image lists"));
        }
        let mut at = 0;
        for hole in &self.holes {
            let end = hole.start.checked_add(hole.length);
            match end.filter(|end| *end <= geometry.disk_size && hole.length > 0) {
                Some(end) if hole.start >= at => at = end,
                _ => return Err(FrameRefused("a hole that cannot be")),
            }
        }
        Ok(())
    }
}

/// Adds a chunk to the digest of held chunks.
pub fn hold(digest: &mut blake3::Hasher, chunk: ChunkId, id: ContentId) {
    digest.update(&chunk.0.to_be_bytes());
    digest.update(&id.0);
}

/// Choices of a person at a target.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Menu {
    /// Offers that this machine may take now.
    #[serde(default)]
    pub offers: Vec<MenuOffer>,
    /// Disks that may be backed up.
    #[serde(default)]
    pub disks: Vec<MenuDisk>,
}

/// An offer as one target sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MenuOffer {
    /// Name of the offer.
    pub name: String,
    /// Description in one line.
    pub text: String,
    /// The disk that would be erased.
    pub disk: MenuDisk,
}

/// A disk with its name for people.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MenuDisk {
    /// The disk.
    pub disk: DiskOrder,
    /// Path, model, serial number and size in one line.
    pub title: String,
    /// Contents of the disk, one line for each partition.
    #[serde(default)]
    pub contents: Vec<String>,
}

/// Request "Back up this computer": nothing is read before a technician confirms it on the console.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BackupRequest {
    /// The disk that the person chose.
    pub disk: DiskOrder,
    /// Suggested name of the image.
    #[serde(default)]
    pub name: Option<String>,
}

/// Request "Deploy this here", confirmed by the person at the target.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TakeOffer {
    /// Name of the offer.
    pub offer: String,
    /// The disk that the person confirmed, as the menu named it.
    pub disk: DiskOrder,
}

/// Result of a choice.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ChoiceAnswer {
    /// The choice was accepted.
    pub accepted: bool,
    /// One sentence for the person.
    pub text: String,
}

/// Length of a frame's head in bytes, before mask and body.
pub const FRAME_HEAD_BYTES: usize = 44;

/// Head of a frame, checked against the disk it belongs to.
#[derive(Clone, Debug)]
pub struct FrameHead {
    chunk: ChunkId,
    chunk_len: u32,
    codec: Codec,
    mask_len: usize,
    body_len: u32,
    id: ContentId,
}

/// The reason why a frame is not a chunk of the disk.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct FrameRefused(pub &'static str);

impl FrameHead {
    /// Parses a head. Never panics, whatever the bytes.
    ///
    /// # Errors
    /// [`FrameRefused`] when it cannot be a chunk of a disk of this geometry.
    pub fn parse(
        bytes: &[u8; FRAME_HEAD_BYTES],
        geometry: &Geometry,
    ) -> Result<Self, FrameRefused> {
        let [a, b, c, d, codec, mask_len, z0, z1, e, f, g, h, id @ ..] = *bytes;
        let chunk = ChunkId(u32::from_be_bytes([a, b, c, d]));
        let chunk_len = geometry.chunk_len(chunk);
        if chunk_len == 0 {
            return Err(FrameRefused("a chunk beyond the end of the disk"));
        }
        let codec = match codec {
            0 => Codec::Raw,
            1 => Codec::Zstd,
            2 => Codec::Zero,
            _ => return Err(FrameRefused("a codec that does not exist")),
        };
        let mask_len = usize::from(mask_len);
        if (mask_len != 0 && mask_len != Mask::byte_len(chunk_len)) || (z0, z1) != (0, 0) {
            return Err(FrameRefused("a mask that does not fit the chunk"));
        }
        let body_len = u32::from_be_bytes([e, f, g, h]);
        // A body that does not shrink is sent uncompressed, so none is longer than the chunk and
        // its mask.
        if body_len as usize > chunk_len as usize + mask_len {
            return Err(FrameRefused("a body longer than its chunk"));
        }
        Ok(Self {
            chunk,
            chunk_len,
            codec,
            mask_len,
            body_len,
            id: ContentId(id),
        })
    }

    /// Length of mask and body, which follow the head, in bytes.
    pub fn rest(&self) -> usize {
        self.mask_len + self.body_len as usize
    }

    /// The entry and body of this frame; `rest` holds [`FrameHead::rest`] bytes.
    ///
    /// # Errors
    /// [`FrameRefused`] for a mask with bits outside the chunk, or an empty one.
    pub fn entry(self, rest: &[u8]) -> Result<(Entry, &[u8]), FrameRefused> {
        let (mask, body) = rest
            .split_at_checked(self.mask_len)
            .ok_or(FrameRefused("a frame that ends early"))?;
        let mask = if mask.is_empty() {
            Mask::full(self.chunk_len)
        } else {
            Mask::from_bytes(self.chunk_len, mask)
                .ok()
                .filter(|mask| !mask.is_empty() && !mask.is_full())
                .ok_or(FrameRefused("a mask that does not fit the chunk"))?
        };
        let entry = Entry {
            chunk: self.chunk,
            codec: self.codec,
            body_len: self.body_len,
            mask,
            id: self.id,
        };
        Ok((entry, body))
    }
}

/// Encodes a chunk as a frame.
pub fn frame(entry: &Entry, body: &[u8]) -> Vec<u8> {
    let mask = if entry.mask.is_full() {
        Vec::new()
    } else {
        entry.mask.to_bytes()
    };
    let mut out = Vec::with_capacity(FRAME_HEAD_BYTES + mask.len() + body.len());
    out.extend_from_slice(&entry.chunk.0.to_be_bytes());
    out.push(match entry.codec {
        Codec::Raw => 0,
        Codec::Zstd => 1,
        Codec::Zero => 2,
    });
    // The mask has at most 128 bytes: 4 MiB of 4 KiB blocks.
    out.push(u8::try_from(mask.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&entry.body_len.to_be_bytes());
    out.extend_from_slice(&entry.id.0);
    out.extend_from_slice(&mask);
    out.extend_from_slice(body);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use imagefmt::Encoder;

    fn geometry() -> Geometry {
        Geometry::new((2 << 20) + 8192, 512, 20).unwrap()
    }

    fn parse(bytes: &[u8]) -> Result<(Entry, Vec<u8>), FrameRefused> {
        let head = bytes.first_chunk().ok_or(FrameRefused("short"))?;
        let head = FrameHead::parse(head, &geometry())?;
        let rest = bytes
            .get(FRAME_HEAD_BYTES..FRAME_HEAD_BYTES + head.rest())
            .ok_or(FrameRefused("short"))?;
        head.entry(rest).map(|(entry, body)| (entry, body.to_vec()))
    }

    #[test]
    fn what_was_made_is_read_again() {
        let geometry = geometry();
        let mut encoder = Encoder::new(3, None).unwrap();
        for (chunk, used, byte) in [(0u32, 0..1 << 20, 7u8), (1, 4096..8192, 0), (2, 0..8192, 9)] {
            let chunk = ChunkId(chunk);
            let mut mask = Mask::empty(geometry.chunk_len(chunk));
            mask.set_range(used);
            let plain = vec![byte; mask.used_bytes() as usize];
            let body = encoder.encode(&mask, &plain).unwrap();
            let entry = Entry {
                chunk,
                codec: body.codec,
                body_len: u32::try_from(body.bytes.len()).unwrap(),
                mask: mask.clone(),
                id: body.id,
            };
            let (read, bytes) = parse(&frame(&entry, body.bytes)).unwrap();
            assert_eq!((&read, bytes.as_slice()), (&entry, body.bytes));
        }
    }

    #[test]
    fn holes_are_those_of_this_disk_and_of_a_rescue() {
        let hole = |start, length| Hole { start, length };
        let ends = |rescue, holes: Vec<Hole>| {
            let wishes = CaptureWishes {
                rescue,
                ..CaptureWishes::default()
            };
            CaptureEnd { holes }.check(&wishes, &geometry()).is_ok()
        };
        assert!(ends(false, vec![]) && ends(true, vec![]));
        assert!(ends(
            true,
            vec![hole(0, 512), hole(512, 512), hole(2 << 20, 8192)]
        ));
        assert!(!ends(false, vec![hole(0, 512)]), "nobody asked");
        for wrong in [
            vec![hole(512, 512), hole(0, 512)],
            vec![hole(0, 1024), hole(512, 512)],
            vec![hole(2 << 20, 8193)],
            vec![hole(u64::MAX, 2)],
            vec![hole(512, 0)],
        ] {
            assert!(!ends(true, wrong.clone()), "{wrong:?}");
        }
        let most = u64::MAX - 1;
        let all = CaptureEnd {
            holes: vec![hole(most, most); usize::try_from(HOLES_MAX).unwrap()],
        };
        assert!(serde_json::to_vec(&all).unwrap().len() <= END_MAX_BYTES);
        let many = (0..=HOLES_MAX).map(|n| hole(n * 16, 8)).collect();
        assert!(!ends(true, many));
    }

    #[test]
    fn what_is_no_chunk_of_the_disk_is_refused_before_it_is_believed() {
        let head = |chunk: u32, codec: u8, mask: u8, body: u32| {
            let mut bytes = [0; FRAME_HEAD_BYTES];
            bytes[..4].copy_from_slice(&chunk.to_be_bytes());
            (bytes[4], bytes[5]) = (codec, mask);
            bytes[8..12].copy_from_slice(&body.to_be_bytes());
            FrameHead::parse(&bytes, &geometry()).map(|head| head.rest())
        };
        assert_eq!(head(0, 1, 32, 1 << 20), Ok((1 << 20) + 32));
        for (chunk, codec, mask, body) in [
            (3, 1, 0, 1),
            (u32::MAX, 1, 0, 1),
            (0, 3, 0, 1),
            (0, 1, 31, 1),
            (2, 1, 32, 1),
            (0, 1, 0, (1 << 20) + 1),
            (0, 0, 32, u32::MAX),
        ] {
            assert!(
                head(chunk, codec, mask, body).is_err(),
                "{chunk} {codec} {mask} {body}"
            );
        }
        let mut frame = vec![0; FRAME_HEAD_BYTES + 32];
        frame[5] = 32;
        assert!(parse(&frame).is_err(), "an empty mask");
        frame[FRAME_HEAD_BYTES..].fill(0xff);
        assert!(parse(&frame).is_err(), "a full one is not sent");
    }
}
