//! Templates, names and secrets as the local API speaks of them.

use crate::{ApiError, ErrorCode};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use template::bind::Binding;
use template::step::Payload;
use template::values::SecretRef;

/// A template as it comes with a request: its text, because the file may change meanwhile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TemplateUse {
    /// Name in lists and reports.
    pub name: String,
    /// The file as it was read, with what the command line set.
    pub text: String,
    /// Absolute folder that its paths begin in.
    pub folder: PathBuf,
}

/// Values of secrets that a command brought along, by reference (`ask:labadmin`, `env:NAME`). Never stored in the clear, never shown.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GivenSecrets(pub BTreeMap<String, String>);

impl fmt::Debug for GivenSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Who asks a server for the share an image lies on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ShareAccount {
    /// `USER` or `DOMAIN\USER`; anonymous when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Where its password comes from; a `file:` has an absolute path. Never the password itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretRef>,
}

/// An account for an image that lies on no share: one of both is a slip.
pub fn no_share(image: &str) -> ApiError {
    ApiError::new(
        ErrorCode::Usage,
        format!("there is an account for a share, and {image} lies on none"),
    )
    .hint("name the image //server/share/folder/name.dcimg, or leave the account out")
}

/// A file the machines of a job get.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedFile {
    /// Where it lies on the console's machine.
    pub path: PathBuf,
    /// What it is known by.
    pub payload: Payload,
}

/// `GET /v1/bindings`; `POST /v1/bindings/import` answers with those it set.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BindingList {
    /// `SCHEMA_VERSION`.
    pub schema_version: u32,
    /// By name.
    pub bindings: Vec<Binding>,
}

/// `POST /v1/bindings/import`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ImportRequest {
    /// The list: mac or uuid, name, address.
    pub text: String,
}

/// `GET /v1/secrets`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SecretList {
    /// `SCHEMA_VERSION`.
    pub schema_version: u32,
    /// By name; values are never shown.
    pub secrets: Vec<SecretView>,
}

/// A secret, without its value.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SecretView {
    /// Name; templates write `ref:NAME`.
    pub name: String,
    /// When it was set, RFC 3339.
    pub changed: String,
}

/// `POST /v1/secrets`; the answer is the `SecretView`.
#[derive(Clone, Serialize, Deserialize)]
pub struct SecretRequest {
    /// Name.
    pub name: String,
    /// Value.
    pub value: String,
}

impl fmt::Debug for SecretRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretRequest")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Public key of a key that signs images and is kept as a secret: `POST /v1/secrets/{name}/new-key` makes one,
/// `GET /v1/secrets/{name}/public-key` asks for one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SigningKeyView {
    /// `SCHEMA_VERSION`.
    pub schema_version: u32,
    /// Name of the secret.
    pub name: String,
    /// `dcpk1-` and 64 hexadecimal digits.
    pub public_key: String,
}

/// `POST /v1/secrets/{name}/sign`; the answer is the `SignatureView`. The key stays in the console.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SignRequest {
    /// Root of the image, 64 hexadecimal digits.
    pub root: String,
}

/// A signature over the root of an image.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SignatureView {
    /// `SCHEMA_VERSION`.
    pub schema_version: u32,
    /// Public key it holds under.
    pub public_key: String,
    /// 128 hexadecimal digits.
    pub signature: String,
}
