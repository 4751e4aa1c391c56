//! Signatures: who vouches for an image. ed25519 over the root and META's hash, in an optional SIG record between
//! index and trailer. An agent checks it before it wipes a disk, and then every chunk by its id.
//!
//! ```text
//! public key 32 | signature 64
//! ```
//!
//! The public key in the record only tells which key to look for; trust comes from the key the caller passes.

use ed25519_dalek::{Signature, Signer};

use crate::Manifest;
use crate::error::{FormatError, Result};
use crate::record::HEADER_BYTES;

/// Bytes of the record: header and body, padded.
pub(crate) const SIGNATURE_RECORD_BYTES: usize =
    (HEADER_BYTES + SIGNATURE_BYTES).next_multiple_of(64);
const SIGNATURE_BYTES: usize = 32 + 64;

/// The operator's private key.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(secret)")
    }
}

impl SigningKey {
    /// A key from its 32 secret bytes.
    #[must_use]
    pub fn from_bytes(secret: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(secret))
    }

    /// The key that verifies.
    #[must_use]
    pub fn public(&self) -> VerifyingKey {
        VerifyingKey(self.0.verifying_key().to_bytes())
    }

    pub(crate) fn sign(&self, manifest: &Manifest) -> Vec<u8> {
        let mut body = self.public().0.to_vec();
        body.extend_from_slice(&self.0.sign(&message(manifest)).to_bytes());
        body
    }
}

/// A public key, 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifyingKey(pub [u8; 32]);

impl VerifyingKey {
    pub(crate) fn verify(&self, manifest: &Manifest, body: &[u8]) -> Result<()> {
        let (Some(key), Some(signature)) = (
            body.first_chunk::<32>(),
            body.get(32..).and_then(|s| s.try_into().ok()),
        ) else {
            return Err(FormatError::BadSignature);
        };
        if *key != self.0 {
            return Err(FormatError::BadSignature);
        }
        let signature: [u8; 64] = signature;
        ed25519_dalek::VerifyingKey::from_bytes(&self.0)
            .and_then(|key| {
                key.verify_strict(&message(manifest), &Signature::from_bytes(&signature))
            })
            .map_err(|_| FormatError::BadSignature)
    }
}

/// What is signed. The context keeps the signature from meaning anything elsewhere.
fn message(manifest: &Manifest) -> Vec<u8> {
    let mut message = b"diskcast image signature 1\0".to_vec();
    message.extend_from_slice(&manifest.root().0);
    message.extend_from_slice(blake3::hash(manifest.meta_json()).as_bytes());
    message
}
