//! The prologue, the first 4 KiB of every volume: format, disk and key slots.
//!
//! It is written once before everything else and never patched, so an image can be written to a
//! pipe. Only a change of password rewrites it, and the image's root does not depend on the key
//! slots: [`identity`] covers only the fields that identify the image.
//!
//! ```text
//!    0  magic 8                    89 44 43 49 0D 0A 1A 0A ("DCI": high bit, CR LF, ^Z, LF as PNG does)
//!    8  major u16, minor u16       1, 0
//!   12  prologue length u32        4096
//!   16  compatible u64             unknown bits may be ignored
//!   24  read-only compatible u64   unknown bits forbid writing
//!   32  incompatible u64           unknown bits forbid reading
//!   40  image UUID 16
//!   56  volume number u32          0 is the first
//!   60  chunk exponent u8, key slots in use u8
//!   62  hash u8 (1 BLAKE3-256), used-block exponent u8 (12)
//!   64  sector size u32, reserved 4
//!   72  disk size u64
//!   80  reserved 176
//!  256  key slots 8 * 256
//! 2304  names 24 * 32           see `names`
//! 3072  reserved 992
//! 4064  BLAKE3 of bytes 0..4064
//! ```

use crate::Geometry;
use crate::MASK_BLOCK;
use crate::bytes::Fields;
use crate::error::{FormatError, Result, unknown};
use crate::names::{Class, NAMES_BYTES, Names};
use crate::seal::{KeySlot, SLOT_BYTES, SLOTS};

/// Length of the prologue in bytes.
pub(crate) const PROLOGUE_BYTES: usize = 4096;
/// The first eight bytes of every volume.
pub const MAGIC: [u8; 8] = *b"\x89DCI\r\n\x1a\n";
/// Newest major version that this program reads; it is also the one it writes.
pub(crate) const MAJOR: u16 = 1;
const MINOR: u16 = 0;

/// Feature bit: further volumes may follow this one.
pub(crate) const COMPAT_VOLUMES: u64 = 1;
/// Feature bit: records are encrypted and ids are keyed.
pub(crate) const INCOMPAT_ENCRYPTED: u64 = 1;
const INCOMPAT_KNOWN: u64 = INCOMPAT_ENCRYPTED;

/// Number of BLAKE3-256 in every field that names the hash of ids.
pub(crate) const HASH_BLAKE3: u8 = 1;
/// Size of a used block as a power of two: 4 KiB.
pub(crate) const BLOCK_LOG2: u8 = 12;
const _: () = assert!(1 << BLOCK_LOG2 == MASK_BLOCK);

const UUID_AT: usize = 40;
const VOLUME_AT: usize = 56;
const SLOTS_AT: usize = 256;
const NAMES_AT: usize = SLOTS_AT + SLOTS * SLOT_BYTES;
const HASH_AT: usize = PROLOGUE_BYTES - 32;

/// A checked prologue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Prologue {
    pub(crate) geometry: Geometry,
    pub(crate) image_uuid: [u8; 16],
    pub(crate) volume: u32,
    pub(crate) divided: bool,
    /// The key slots; empty if the image is not encrypted.
    pub(crate) slots: Vec<KeySlot>,
    /// Names of features of later versions.
    pub(crate) names: Names,
    /// Content unknown to this version; `None` in an image made by this version.
    pub(crate) beyond: Option<Box<Beyond>>,
}

/// The bytes of a prologue of a later minor version, with volume number and hash set to zero.
/// Additions to the image repeat them unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Beyond {
    bytes: [u8; PROLOGUE_BYTES],
    /// The read-only compatible feature bits.
    read_only: u64,
}

impl Prologue {
    pub(crate) fn encrypted(&self) -> bool {
        !self.slots.is_empty()
    }

    /// The same prologue as in the first volume.
    pub(crate) fn as_first(&self) -> Self {
        Self {
            volume: 0,
            ..self.clone()
        }
    }

    /// Refuses additions to an image with features that a writer must understand.
    ///
    /// # Errors
    /// [`FormatError::ReadOnly`] if there are such features.
    pub(crate) fn may_grow(&self) -> Result<()> {
        match &self.beyond {
            Some(beyond) if beyond.read_only != 0 => Err(FormatError::ReadOnly {
                names: self.names.features(Class::ReadOnly, beyond.read_only),
            }),
            _ => Ok(()),
        }
    }

    pub(crate) fn to_bytes(&self) -> [u8; PROLOGUE_BYTES] {
        let mut bytes = match &self.beyond {
            Some(beyond) => beyond.bytes,
            None => self.own_bytes(),
        };
        bytes[VOLUME_AT..VOLUME_AT + 4].copy_from_slice(&self.volume.to_le_bytes());
        let hash = blake3::hash(&bytes[..HASH_AT]);
        bytes[HASH_AT..].copy_from_slice(hash.as_bytes());
        bytes
    }

    /// The bytes that this version writes, with volume number and hash set to zero.
    fn own_bytes(&self) -> [u8; PROLOGUE_BYTES] {
        let mut out = Vec::with_capacity(PROLOGUE_BYTES);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&MAJOR.to_le_bytes());
        out.extend_from_slice(&MINOR.to_le_bytes());
        out.extend_from_slice(&4096u32.to_le_bytes());
        out.extend_from_slice(&if self.divided { COMPAT_VOLUMES } else { 0 }.to_le_bytes());
        out.extend_from_slice(&0u64.to_le_bytes());
        out.extend_from_slice(
            &if self.encrypted() {
                INCOMPAT_ENCRYPTED
            } else {
                0
            }
            .to_le_bytes(),
        );
        debug_assert_eq!(out.len(), UUID_AT);
        out.extend_from_slice(&self.image_uuid);
        debug_assert_eq!(out.len(), VOLUME_AT);
        out.extend_from_slice(&[0; 4]);
        out.push(self.geometry.chunk_log2);
        out.push(u8::try_from(self.slots.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(&[HASH_BLAKE3, BLOCK_LOG2]);
        out.extend_from_slice(&self.geometry.sector_size.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.geometry.disk_size.to_le_bytes());
        out.resize(SLOTS_AT, 0);
        for slot in self.slots.iter().take(SLOTS) {
            out.extend_from_slice(&slot.to_bytes());
        }
        out.resize(NAMES_AT, 0);
        out.extend_from_slice(&self.names.to_bytes());
        out.resize(PROLOGUE_BYTES, 0);
        let mut bytes = [0; PROLOGUE_BYTES];
        bytes.copy_from_slice(&out);
        bytes
    }

    /// Parses the first bytes of a volume. Fewer than 4 KiB give an error of their own.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let mut fields = Fields::new(bytes, "prologue");
        if bytes.len() < MAGIC.len() || fields.array()? != MAGIC {
            return Err(FormatError::NotAnImage);
        }
        if bytes.len() < PROLOGUE_BYTES {
            return Err(FormatError::Truncated {
                len: bytes.len() as u64,
            });
        }
        // The version is checked first, because a later layout may have its hash elsewhere.
        let major = fields.u16()?;
        let _minor = fields.u16()?;
        if major != MAJOR {
            return Err(FormatError::UnsupportedVersion {
                found: major,
                supported: MAJOR,
            });
        }
        let (covered, hash) = bytes.split_at(HASH_AT);
        if blake3::hash(covered).as_bytes()[..] != hash[..32] {
            return Err(FormatError::Damaged {
                what: "prologue",
                offset: 0,
                reason: "its hash does not match",
            });
        }
        if fields.u32()? as usize != PROLOGUE_BYTES {
            return Err(fields.damaged("its length is not 4096"));
        }
        let compat = fields.u64()?;
        let read_only = fields.u64()?;
        let incompat = fields.u64()?;
        let names = Names::parse(&bytes[NAMES_AT..NAMES_AT + NAMES_BYTES]);
        let bits = incompat & !INCOMPAT_KNOWN;
        if bits != 0 {
            return Err(FormatError::UnknownFeature {
                bits,
                names: names.features(Class::Incompatible, bits),
            });
        }
        let image_uuid = fields.array()?;
        let volume = fields.u32()?;
        let chunk_log2 = fields.u8()?;
        let slot_count = usize::from(fields.u8()?);
        let hash = fields.u8()?;
        if hash != HASH_BLAKE3 {
            return Err(named(unknown(Class::Hash, hash), Class::Hash, &names));
        }
        let block_log2 = fields.u8()?;
        if block_log2 != BLOCK_LOG2 {
            return Err(FormatError::LimitExceeded {
                what: "used-block size exponent",
                value: block_log2.into(),
                limit: BLOCK_LOG2.into(),
            });
        }
        let sector_size = fields.u32()?;
        let _reserved = fields.u32()?;
        let geometry = Geometry::new(fields.u64()?, sector_size, chunk_log2)?;
        if slot_count > SLOTS {
            return Err(fields.damaged("it declares more than 8 key slots"));
        }
        if (incompat & INCOMPAT_ENCRYPTED != 0) != (slot_count > 0) {
            return Err(fields.damaged("encryption flag and key slots disagree"));
        }
        fields.take(SLOTS_AT - 80)?;
        let slots = (0..slot_count)
            .map(|_| KeySlot::parse(&fields.array()?))
            .collect::<Result<_>>()?;
        let mut prologue = Self {
            geometry,
            image_uuid,
            volume,
            divided: compat & COMPAT_VOLUMES != 0,
            slots,
            names,
            beyond: None,
        };
        let mut bytes = [0; PROLOGUE_BYTES];
        bytes[..HASH_AT].copy_from_slice(&covered[..HASH_AT]);
        bytes[VOLUME_AT..VOLUME_AT + 4].fill(0);
        if prologue.own_bytes() != bytes {
            prologue.beyond = Some(Box::new(Beyond { bytes, read_only }));
        }
        Ok(prologue)
    }

    pub(crate) fn identity(&self) -> [u8; 32] {
        identity(&self.geometry, &self.image_uuid, self.encrypted())
    }
}

/// Adds the image's name for the unknown number to the error.
pub(crate) fn named(error: FormatError, class: Class, names: &Names) -> FormatError {
    match error {
        FormatError::Unknown { what, number, .. } if what == class.word() => FormatError::Unknown {
            what,
            number,
            name: names.name(class, number),
        },
        other => other,
    }
}

/// Hash of the fields that distinguish two images, independent of passwords and volumes: the
/// "prologue hash" of the root.
pub(crate) fn identity(geometry: &Geometry, image_uuid: &[u8; 16], keyed: bool) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("diskcast image identity 1");
    hasher.update(image_uuid);
    hasher.update(&geometry.disk_size.to_le_bytes());
    hasher.update(&geometry.sector_size.to_le_bytes());
    hasher.update(&[geometry.chunk_log2, u8::from(keyed)]);
    hasher.finalize().into()
}
