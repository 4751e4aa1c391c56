//! Names of content: what a chunk is, and what an image is.
//!
//! A [`ContentId`] is the BLAKE3 of a chunk's used bytes followed by its mask, the same however the chunk is
//! stored. In an encrypted image the hash is keyed: otherwise equal content would show through the password.

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::Mask;

/// BLAKE3-256 of the used bytes of a chunk and its mask bytes (keyed when the image is encrypted).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentId(pub [u8; 32]);

/// What an image is: covers geometry, META, TABLE and every chunk's number and content, but neither the order of
/// records, nor compression, nor the division into volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Root(pub [u8; 32]);

/// Key of the content ids of an encrypted image. Agents need it to check what they read back; it travels to them in
/// their own TLS connection and opens nothing else.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct IdKey([u8; 32]);

impl IdKey {
    /// A key from its 32 bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes. The caller wipes them after use.
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
                // blake3 parses 64 hex digits of either case without timing or panic traps.
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

/// Hashes a chunk piece by piece, for example run by run as it is read back from a disk.
#[derive(Clone)]
pub struct ContentHasher(blake3::Hasher);

impl ContentHasher {
    /// Starts a chunk; `id_key` is the image's when it is encrypted.
    #[must_use]
    pub fn new(id_key: Option<&IdKey>) -> Self {
        Self(match id_key {
            Some(key) => blake3::Hasher::new_keyed(&key.0),
            None => blake3::Hasher::new(),
        })
    }

    /// Takes the next used bytes.
    pub fn update(&mut self, used: &[u8]) {
        self.0.update(used);
    }

    /// Ends with the chunk's mask.
    #[must_use]
    pub fn finish(mut self, mask: &Mask) -> ContentId {
        // At most 128 bytes (4 MiB chunk), so on the stack's neighbour rather than worth a cache.
        self.0.update(&mask.to_bytes());
        ContentId(self.0.finalize().into())
    }
}

impl std::fmt::Debug for ContentHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ContentHasher")
    }
}

/// The id of a chunk whose used bytes lie together.
#[must_use]
pub fn content_id(id_key: Option<&IdKey>, mask: &Mask, used: &[u8]) -> ContentId {
    let mut hasher = ContentHasher::new(id_key);
    hasher.update(used);
    hasher.finish(mask)
}

/// BLAKE3-128 of bytes as they lie in the file: enough against decay, and it needs no key.
pub(crate) fn stored_hash(stored: &[u8]) -> [u8; 16] {
    let mut out = [0; 16];
    out.copy_from_slice(&blake3::hash(stored).as_bytes()[..16]);
    out
}
