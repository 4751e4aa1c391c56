//! Passwords and encryption.
//!
//! A random image key is made once. Each password slot holds it, encrypted (wrapped) with a key
//! that argon2id derives from the password, so passwords can be added or changed without a change
//! to any record. BLAKE3 derives from the image key the key of the records, the key of the content
//! ids and the key of the nonces.
//!
//! A nonce is a keyed hash of everything that will be encrypted (chunk number, content id and the
//! bytes). The same input gives the same bytes, and different inputs never share a nonce, whatever
//! the order in which threads work. Random bytes (salt, image key, nonce of the slot) are
//! arguments: this crate has no source of them.
//!
//! Slot layout, 256 bytes:
//!
//! ```text
//!    0  kind u32 (0 empty, 1 argon2id; others are passed over), memory KiB u32, passes u32, lanes u32
//!   16  salt 16
//!   32  nonce 24
//!   56  image key, encrypted 32
//!   88  tag 16                    XChaCha20-Poly1305; associated data: identity hash ++ bytes 0..32
//!  104  reserved 152
//! ```

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::{AeadInOut, KeyInit, Tag, XChaCha20Poly1305, XNonce};
use unicode_normalization::UnicodeNormalization;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::IdKey;
use crate::bytes::Fields;
use crate::error::{FormatError, Result, at_most, unknown};
use crate::names::{Class, Names};
use crate::prologue::named;

/// Number of key slots in a prologue.
pub(crate) const SLOTS: usize = 8;
/// Length of a slot in bytes.
pub(crate) const SLOT_BYTES: usize = 256;
/// Number of bytes that encryption adds to a record.
pub(crate) const TAG_BYTES: usize = 16;
/// Length of a nonce in bytes.
pub(crate) const NONCE_BYTES: usize = 24;

/// Kind of an unused slot.
const KIND_EMPTY: u32 = 0;
const KIND_ARGON2ID: u32 = 1;
/// Largest argon2 memory in KiB that is accepted from a file: 1 GiB.
const MEMORY_MAX_KIB: u64 = 1 << 20;
/// Largest number of argon2 passes that is accepted from a file.
const PASSES_MAX: u64 = 16;
/// Largest number of argon2 lanes that is accepted from a file; lanes run one after another here.
const LANES_MAX: u64 = 16;

/// A password typed by the operator. It is wiped on drop and never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Password(String);

impl Password {
    /// Takes the password as typed, removes the line end, and composes it (Unicode NFC), because
    /// keyboards and systems encode the same letter in different ways.
    #[must_use]
    pub fn new(password: &str) -> Self {
        // The capacity is enough for the longest form (NFC needs at most three times the bytes), so
        // no part of the password is left in memory by a reallocation.
        let mut composed = String::with_capacity(password.len().saturating_mul(3));
        composed.extend(password.nfc());
        Self(composed)
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(secret)")
    }
}

/// The cost parameters of argon2id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KdfCost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Number of passes over the memory.
    pub passes: u32,
    /// Number of lanes.
    pub lanes: u32,
}

impl Default for KdfCost {
    /// The default cost is 64 MiB, 3 passes, 1 lane: 0.3 s on the measured machines, and little
    /// enough memory for an agent.
    fn default() -> Self {
        Self {
            memory_kib: 64 << 10,
            passes: 3,
            lanes: 1,
        }
    }
}

/// A password for a new image, with the random bytes it needs. Key and seed are wiped on drop and
/// never printed, because options that contain them are logged.
#[derive(Clone)]
pub struct NewPassword {
    /// The password.
    pub password: Password,
    /// 16 random bytes.
    pub salt: [u8; 16],
    /// The image key: 32 random bytes, never used for another image.
    pub key: [u8; 32],
    /// 32 random bytes for the nonce of the wrapped key.
    pub nonce_seed: [u8; 32],
}

impl Drop for NewPassword {
    fn drop(&mut self) {
        self.key.zeroize();
        self.nonce_seed.zeroize();
    }
}

impl std::fmt::Debug for NewPassword {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NewPassword(secret)")
    }
}

/// One key slot: a way to obtain the image key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeySlot {
    /// A slot that a password opens.
    Password(PasswordSlot),
    /// A slot of an unknown kind or an empty slot: it is kept unchanged and skipped.
    Other(u32, Box<[u8; SLOT_BYTES]>),
}

impl KeySlot {
    pub(crate) fn parse(bytes: &[u8; SLOT_BYTES]) -> Result<Self> {
        match Fields::new(bytes, "key slot").u32()? {
            KIND_ARGON2ID => PasswordSlot::parse(bytes).map(Self::Password),
            kind => Ok(Self::Other(kind, Box::new(*bytes))),
        }
    }

    pub(crate) fn to_bytes(&self) -> [u8; SLOT_BYTES] {
        match self {
            Self::Password(slot) => slot.to_bytes(),
            Self::Other(_, bytes) => **bytes,
        }
    }
}

/// The image key, encrypted with the key that argon2id derives from a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PasswordSlot {
    cost: KdfCost,
    salt: [u8; 16],
    nonce: [u8; NONCE_BYTES],
    wrapped: [u8; 32],
    tag: [u8; TAG_BYTES],
}

impl PasswordSlot {
    /// Encrypts the image key for one password.
    pub(crate) fn wrap(new: &NewPassword, cost: KdfCost, identity: &[u8; 32]) -> Result<Self> {
        let mut slot = Self {
            cost,
            salt: new.salt,
            nonce: [0; NONCE_BYTES],
            wrapped: new.key,
            tag: [0; TAG_BYTES],
        };
        // The salt is included, so one seed used for two slots by mistake still gives two nonces.
        let seed = blake3::keyed_hash(&new.nonce_seed, &new.salt);
        slot.nonce.copy_from_slice(&seed.as_bytes()[..NONCE_BYTES]);
        let cipher = slot.cipher(&new.password)?;
        let tag = cipher
            .encrypt_inout_detached(
                &XNonce::from(slot.nonce),
                &slot.aad(identity),
                slot.wrapped.as_mut_slice().into(),
            )
            .map_err(|_| FormatError::Unwritable {
                what: "the image key could not be encrypted",
            })?;
        slot.tag.copy_from_slice(&tag);
        Ok(slot)
    }

    /// Decrypts the image key; `None` if the password does not fit.
    pub(crate) fn unwrap(
        &self,
        password: &Password,
        identity: &[u8; 32],
    ) -> Result<Option<Zeroizing<[u8; 32]>>> {
        let mut key = Zeroizing::new(self.wrapped);
        let opened = self.cipher(password)?.decrypt_inout_detached(
            &XNonce::from(self.nonce),
            &self.aad(identity),
            key.as_mut_slice().into(),
            &Tag::from(self.tag),
        );
        Ok(opened.is_ok().then_some(key))
    }

    fn cipher(&self, password: &Password) -> Result<XChaCha20Poly1305> {
        let cost = self.cost;
        at_most(
            "password memory (KiB)",
            cost.memory_kib.into(),
            MEMORY_MAX_KIB,
        )?;
        at_most("password passes", cost.passes.into(), PASSES_MAX)?;
        at_most("password lanes", cost.lanes.into(), LANES_MAX)?;
        let bad = |reason| FormatError::Damaged {
            what: "key slot",
            offset: 0,
            reason,
        };
        let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32))
            .map_err(|_| bad("its argon2 parameters make no sense"))?;
        let mut key = Zeroizing::new([0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(password.0.as_bytes(), &self.salt, key.as_mut_slice())
            .map_err(|error| match error {
                argon2::Error::OutOfMemory => FormatError::Io {
                    offset: 0,
                    source: std::io::ErrorKind::OutOfMemory.into(),
                },
                _ => bad("argon2 refuses its parameters"),
            })?;
        Ok(XChaCha20Poly1305::new((&*key).into()))
    }

    fn aad(&self, identity: &[u8; 32]) -> Vec<u8> {
        let mut aad = identity.to_vec();
        aad.extend_from_slice(&self.to_bytes()[..32]);
        aad
    }

    fn to_bytes(&self) -> [u8; SLOT_BYTES] {
        let mut out = [0; SLOT_BYTES];
        out[0..4].copy_from_slice(&KIND_ARGON2ID.to_le_bytes());
        out[4..8].copy_from_slice(&self.cost.memory_kib.to_le_bytes());
        out[8..12].copy_from_slice(&self.cost.passes.to_le_bytes());
        out[12..16].copy_from_slice(&self.cost.lanes.to_le_bytes());
        out[16..32].copy_from_slice(&self.salt);
        out[32..56].copy_from_slice(&self.nonce);
        out[56..88].copy_from_slice(&self.wrapped);
        out[88..104].copy_from_slice(&self.tag);
        out
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let mut fields = Fields::new(bytes, "key slot");
        let _kind = fields.u32()?;
        let cost = KdfCost {
            memory_kib: fields.u32()?,
            passes: fields.u32()?,
            lanes: fields.u32()?,
        };
        Ok(Self {
            cost,
            salt: fields.array()?,
            nonce: fields.array()?,
            wrapped: fields.array()?,
            tag: fields.array()?,
        })
    }
}

/// Opens the first slot that the password fits. Slots that cannot be tried are skipped.
pub(crate) fn open_slots(
    slots: &[KeySlot],
    names: &Names,
    password: Option<&Password>,
    identity: &[u8; 32],
) -> Result<Zeroizing<[u8; 32]>> {
    let by_password: Vec<&PasswordSlot> = slots
        .iter()
        .filter_map(|slot| match slot {
            KeySlot::Password(slot) => Some(slot),
            KeySlot::Other(..) => None,
        })
        .collect();
    let other = slots.iter().find_map(|slot| match slot {
        KeySlot::Other(kind, _) if *kind != KIND_EMPTY => Some(*kind),
        _ => None,
    });
    if by_password.is_empty() {
        return Err(match other {
            Some(kind) => named(unknown(Class::KeySlot, kind), Class::KeySlot, names),
            None => FormatError::Damaged {
                what: "prologue",
                offset: 0,
                reason: "no key slot opens the image",
            },
        });
    }
    let password = password.ok_or(FormatError::PasswordNeeded)?;
    let mut refused = None;
    for slot in by_password {
        match slot.unwrap(password, identity) {
            Ok(Some(key)) => return Ok(key),
            Ok(None) => {}
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    Err(refused.unwrap_or(FormatError::WrongPassword))
}

/// The keys of an open image.
#[derive(Clone)]
pub(crate) struct Keys {
    pub(crate) id: IdKey,
    nonce: Zeroizing<[u8; 32]>,
    cipher: XChaCha20Poly1305,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(secret)")
    }
}

impl Keys {
    pub(crate) fn derive(image: &Zeroizing<[u8; 32]>) -> Self {
        let derive = |context| Zeroizing::new(blake3::derive_key(context, image.as_slice()));
        let record = derive("diskcast image record key 1");
        Self {
            id: IdKey::from_bytes(*derive("diskcast image content id key 1")),
            nonce: derive("diskcast image nonce key 1"),
            cipher: XChaCha20Poly1305::new((&*record).into()),
        }
    }

    /// The nonce for this record header (with a nonce field of zeros) and body.
    pub(crate) fn nonce(&self, header: &[u8], body: &[u8]) -> [u8; NONCE_BYTES] {
        let mut hasher = blake3::Hasher::new_keyed(&self.nonce);
        hasher.update(header);
        hasher.update(body);
        let mut nonce = [0; NONCE_BYTES];
        hasher.finalize_xof().fill(&mut nonce);
        nonce
    }

    /// Encrypts in place and returns the tag.
    pub(crate) fn seal(
        &self,
        nonce: &[u8; NONCE_BYTES],
        aad: &[u8],
        body: &mut [u8],
    ) -> Result<[u8; TAG_BYTES]> {
        self.cipher
            .encrypt_inout_detached(&XNonce::from(*nonce), aad, body.into())
            .map(Into::into)
            .map_err(|_| FormatError::Unwritable {
                what: "a record is too long to encrypt",
            })
    }

    /// Decrypts `ciphertext ++ tag` in place and removes the tag; false if it is not authentic.
    pub(crate) fn open(&self, nonce: &[u8; NONCE_BYTES], aad: &[u8], sealed: &mut Vec<u8>) -> bool {
        self.cipher
            .decrypt_in_place(&XNonce::from(*nonce), aad, sealed)
            .is_ok()
    }
}
