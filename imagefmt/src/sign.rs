//! Signatures of an image. There may be any number of SIG records between index and trailer, each
//! over the root, which covers META, TABLE and content. The console checks them before a job's
//! first order. An agent trusts the console whose pin it has, gets the root from it, and checks
//! every chunk against that root.
//!
//! ```text
//! algorithm u16 (1 ed25519) | key length u16 | signature length u16 | reserved 2 | public key | signature
//! ```
//!
//! The public key in the record only identifies the key; trust comes from the key that the caller
//! passes.

use ed25519_dalek::{Signature, Signer};

use crate::Root;
use crate::bytes::Fields;
use crate::error::{FormatError, Result};

const ED25519: u16 = 1;
const KEY_BYTES: usize = 32;
const SIGNATURE_BYTES: usize = 64;

/// The operator's private key.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(secret)")
    }
}

impl SigningKey {
    /// Makes a key from its 32 secret bytes.
    #[must_use]
    pub fn from_bytes(secret: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(secret))
    }

    /// The public key that verifies its signatures.
    #[must_use]
    pub fn public(&self) -> VerifyingKey {
        VerifyingKey(self.0.verifying_key().to_bytes())
    }

    /// Signs the root of an image.
    #[must_use]
    pub fn sign(&self, root: &Root) -> RootSignature {
        RootSignature {
            key: self.public(),
            bytes: self.0.sign(&message(root)).to_bytes(),
        }
    }
}

/// A signature over the root of an image, and the key that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootSignature {
    /// Public key that verifies the signature.
    pub key: VerifyingKey,
    /// The signature.
    pub bytes: [u8; SIGNATURE_BYTES],
}

impl RootSignature {
    /// Encodes the body of a SIG record.
    pub(crate) fn to_body(self) -> Vec<u8> {
        let mut body = Vec::new();
        for field in [ED25519, 32, 64, 0] {
            body.extend_from_slice(&field.to_le_bytes());
        }
        body.extend_from_slice(&self.key.0);
        body.extend_from_slice(&self.bytes);
        body
    }
}

/// A public key, 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifyingKey(pub [u8; 32]);

/// Checks the body of a SIG record against the root with the key it contains; `None` for an
/// algorithm of a later version.
pub(crate) fn check(body: &[u8], root: &Root) -> Result<Option<VerifyingKey>> {
    let mut fields = Fields::new(body, "signature record");
    if fields.u16()? != ED25519 {
        return Ok(None);
    }
    let lengths = (fields.u16()?, fields.u16()?);
    fields.zeros(2)?;
    if (usize::from(lengths.0), usize::from(lengths.1)) != (KEY_BYTES, SIGNATURE_BYTES) {
        return Err(fields.damaged("its lengths are not those of ed25519"));
    }
    let key = fields.array()?;
    let signature = Signature::from_bytes(&fields.array()?);
    fields.end()?;
    ed25519_dalek::VerifyingKey::from_bytes(&key)
        .and_then(|key| key.verify_strict(&message(root), &signature))
        .map_err(|_| FormatError::BadSignature)?;
    Ok(Some(VerifyingKey(key)))
}

/// The bytes that are signed. The context text makes the signature useless for any other purpose.
fn message(root: &Root) -> Vec<u8> {
    let mut message = b"diskcast image signature 1\0".to_vec();
    message.extend_from_slice(&root.0);
    message
}
