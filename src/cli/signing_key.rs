//! Keys that sign images, in the form options name them: a file, or `ref:NAME` for a secret of the
//! console.

use super::{Context, block_on};
use api::{ApiError, ErrorCode, SignRequest, SignatureView, SigningKeyView};
use client::segment;
use disk::signing;
use facts::hex;
use imagefmt::{Root, RootSignature, VerifyingKey};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};

/// Makes the context of a command, once the command turns out to need the console.
pub(super) type Asking<'a> = &'a dyn Fn() -> Result<Context, ApiError>;

/// Place of a private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KeyPlace {
    /// A secret of the console, by its name.
    Secret(String),
    /// A file.
    File(PathBuf),
}

impl From<&str> for KeyPlace {
    fn from(text: &str) -> Self {
        match text.strip_prefix("ref:") {
            Some(name) => Self::Secret(name.to_owned()),
            None => Self::File(PathBuf::from(text)),
        }
    }
}

impl KeyPlace {
    /// Makes a key in this place; returns its public key.
    ///
    /// # Errors
    /// `Refused` when there is one; an error of the console or the file.
    pub(super) fn make(&self, context: Asking<'_>) -> Result<VerifyingKey, ApiError> {
        match self {
            Self::File(path) => signing::make_key(path).map_err(ApiError::from),
            Self::Secret(name) => {
                let view: SigningKeyView = post(context, name, "new-key", &serde_json::json!({}))?;
                signing::public_key(&view.public_key).map_err(ApiError::from)
            }
        }
    }

    /// The public key of the key in this place.
    ///
    /// # Errors
    /// An error of the console or the file.
    fn public(&self, context: Asking<'_>) -> Result<VerifyingKey, ApiError> {
        match self {
            Self::File(path) => Ok(signing::read_key(path)?.public()),
            Self::Secret(name) => {
                let client = context()?.client();
                let path = format!("/v1/secrets/{}/public-key", segment(name));
                let view: SigningKeyView = block_on(client.get(&path))?;
                signing::public_key(&view.public_key).map_err(ApiError::from)
            }
        }
    }

    /// Signs a root; a key of the console stays there. `signers` have signed already.
    ///
    /// # Errors
    /// `Refused` when this key is one of `signers`; an error of the console or the file.
    pub(super) fn sign(
        &self,
        root: &Root,
        (image, signers): (&Path, &[VerifyingKey]),
        context: Asking<'_>,
    ) -> Result<RootSignature, ApiError> {
        if signers.contains(&self.public(context)?) {
            let text = format!("{} is signed by this key already", image.display());
            return Err(ApiError::new(ErrorCode::Refused, text));
        }
        match self {
            Self::File(path) => Ok(signing::read_key(path)?.sign(root)),
            Self::Secret(name) => {
                let request = SignRequest {
                    root: root.to_string(),
                };
                let view: SignatureView = post(context, name, "sign", &request)?;
                let unexpected = |_| {
                    let text = "the console answered with what is no signature";
                    ApiError::new(ErrorCode::Unexpected, text)
                };
                Ok(RootSignature {
                    key: signing::public_key(&view.public_key)?,
                    bytes: hex::decode(&view.signature).map_err(unexpected)?,
                })
            }
        }
    }
}

/// Reads the public key that an option names: its text, a file with it, or `ref:NAME` for that of a
/// secret.
///
/// # Errors
/// An error of the console or the file.
pub(super) fn public_key(text: &str, context: Asking<'_>) -> Result<VerifyingKey, ApiError> {
    match KeyPlace::from(text) {
        place @ KeyPlace::Secret(_) => place.public(context),
        KeyPlace::File(_) => signing::public_key(text).map_err(ApiError::from),
    }
}

fn post<B: Serialize, T: DeserializeOwned>(
    context: Asking<'_>,
    name: &str,
    verb: &str,
    body: &B,
) -> Result<T, ApiError> {
    let client = context()?.client();
    let path = format!("/v1/secrets/{}/{verb}", segment(name));
    block_on(client.post(&path, body))
}
