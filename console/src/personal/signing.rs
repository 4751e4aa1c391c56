//! Keys that sign images, stored as secrets: creation, public key, and signatures.
//!
//! Invariants: a key never leaves the console; a new key never replaces another.

use crate::context::Console;
use api::{ApiError, ErrorCode, SCHEMA_VERSION, SignRequest, SignatureView, SigningKeyView};
use disk::signing;
use facts::hex;
use imagefmt::{Root, SigningKey};

impl Console {
    /// Makes a signing key under an unused name.
    ///
    /// # Errors
    /// `Usage` for an invalid name, `Refused` if a secret has it.
    pub async fn new_signing_key(&self, name: &str) -> Result<SigningKeyView, ApiError> {
        let (text, public) = signing::new_key()
            .map_err(|error| ApiError::new(ErrorCode::Unexpected, error.full()))?;
        if !self.add_secret(name, text.as_bytes()).await? {
            let message = format!("the console has a secret {name} already");
            return Err(ApiError::new(ErrorCode::Refused, message)
                .hint("choose another name: a key is never overwritten"));
        }
        Ok(view(name, signing::public_text(&public)))
    }

    /// Returns the public key of a signing key.
    ///
    /// # Errors
    /// `NothingMatched` if no secret has that name, `Refused` if it is not a signing key.
    pub async fn signing_key(&self, name: &str) -> Result<SigningKeyView, ApiError> {
        let key = self.key_that_signs(name).await?;
        Ok(view(name, signing::public_text(&key.public())))
    }

    /// Signs the root of an image.
    ///
    /// # Errors
    /// `Usage` for an invalid root; the errors of [`Console::signing_key`].
    pub async fn sign_root(
        &self,
        name: &str,
        request: &SignRequest,
    ) -> Result<SignatureView, ApiError> {
        let root = hex::decode::<32>(&request.root)
            .map_err(|_| ApiError::new(ErrorCode::Usage, "a root is 64 hexadecimal digits"))?;
        let signature = self.key_that_signs(name).await?.sign(&Root(root));
        tracing::info!(secret = name, root = request.root, "image signed");
        Ok(SignatureView {
            schema_version: SCHEMA_VERSION,
            public_key: signing::public_text(&signature.key),
            signature: hex::encode(&signature.bytes),
        })
    }

    async fn key_that_signs(&self, name: &str) -> Result<SigningKey, ApiError> {
        let text = self.stored_secret(name).await?;
        signing::secret_key(&text).ok_or_else(|| {
            let message = format!("secret {name} is no key that signs images");
            ApiError::new(ErrorCode::Refused, message)
                .hint("diskcast image sign --new-key ref:NAME makes one")
        })
    }
}

fn view(name: &str, public_key: String) -> SigningKeyView {
    SigningKeyView {
        schema_version: SCHEMA_VERSION,
        name: name.to_owned(),
        public_key,
    }
}
