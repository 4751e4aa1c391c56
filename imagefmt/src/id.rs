//! Hashes that identify the content of a chunk and of an image.
//!
//! A [`ContentId`] is the BLAKE3 of a chunk's used bytes followed by its mask. It does not depend
//! on the stored form of the chunk. In an encrypted image the hash is keyed, because otherwise
//! equal content could be recognised without the password.

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::Mask;

/// Id of a chunk's content: BLAKE3-256 of its used bytes and its mask bytes (keyed if the image is
/// encrypted).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentId(pub [u8; 32]);

/// Id of an image. It covers geometry, META, TABLE and the number and content of every chunk, but
/// neither the order of records, nor compression, nor the division into volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Root(pub [u8; 32]);

/// Key of the content ids of an encrypted image. Agents need it to check the bytes they read back.
/// It is sent to each agent over its TLS connection and decrypts nothing else.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct IdKey([u8; 32]);

impl IdKey {
    /// Makes a key from its 32 bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes of the key. The caller must wipe them after use.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0
    }
}

impl std::fmt::Debug for IdKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdKey(secret)")
    }
}

macro_rules! hex_display {
    ($type:ty) => {
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl std::str::FromStr for $type {
            type Err = crate::FormatError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                // blake3 parses 64 hex digits of either case and does not panic.
                let hash =
                    blake3::Hash::from_hex(text).map_err(|_| crate::FormatError::Damaged {
                        what: "hash",
                        offset: 0,
                        reason: "it is not 64 hexadecimal digits",
                    })?;
                Ok(Self(hash.into()))
            }
        }
    };
}
hex_display!(ContentId);
hex_display!(Root);

/// Hashes a chunk in parts, for example range by range as it is read back from a disk.
#[derive(Clone)]
pub struct ContentHasher(blake3::Hasher);

impl ContentHasher {
    /// Starts the hash of a chunk. `id_key` is the key of the image's ids if the image is
    /// encrypted.
    #[must_use]
    pub fn new(id_key: Option<&IdKey>) -> Self {
        Self(match id_key {
            Some(key) => blake3::Hasher::new_keyed(&key.0),
            None => blake3::Hasher::new(),
        })
    }

    /// Adds the next used bytes.
    pub fn update(&mut self, used: &[u8]) {
        self.0.update(used);
    }

    /// Adds the chunk's mask and returns the id.
    #[must_use]
    pub fn finish(mut self, mask: &Mask) -> ContentId {
        // The mask is at most 128 bytes long (4 MiB chunk), so this short-lived allocation is
        // cheap.
        self.0.update(&mask.to_bytes());
        ContentId(self.0.finalize().into())
    }
}

impl std::fmt::Debug for ContentHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ContentHasher")
    }
}

/// Computes the id of a chunk from its used bytes in one slice.
#[must_use]
pub fn content_id(id_key: Option<&IdKey>, mask: &Mask, used: &[u8]) -> ContentId {
    let mut hasher = ContentHasher::new(id_key);
    hasher.update(used);
    hasher.finish(mask)
}

/// BLAKE3-128 of bytes as stored in the file. It detects decay and needs no key.
pub(crate) fn stored_hash(stored: &[u8]) -> [u8; 16] {
    let mut out = [0; 16];
    out.copy_from_slice(&blake3::hash(stored).as_bytes()[..16]);
    out
}
