//! Templates, names and secrets in the local API.

use crate::{ApiError, ErrorCode};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use template::bind::Binding;
use template::step::Payload;
use template::values::SecretRef;

/// A template in a request. It carries the text, because the file may change meanwhile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TemplateUse {
    /// Name of the template in lists and reports.
    pub name: String,
    /// Text of the file, with settings of the command line applied.
    pub text: String,
    /// Absolute path of the folder to which its paths are relative.
    pub folder: PathBuf,
}

/// Values of secrets that a command sends, by reference (`ask:labadmin`, `env:NAME`). Never stored
/// unencrypted, never shown.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GivenSecrets(pub BTreeMap<String, String>);

impl fmt::Debug for GivenSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Account for the server of the share an image lies on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ShareAccount {
    /// `USER` or `DOMAIN\USER`; anonymous when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Source of the password, never the password itself; the path of a `file:` is absolute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretRef>,
}

/// The error of an account that is given for an image on no share: one of the two is a mistake.
pub fn no_share(image: &str) -> ApiError {
    ApiError::new(
        ErrorCode::Usage,
        format!("there is an account for a share, and {image} lies on none"),
    )
    .hint("name the image //server/share/folder/name.dcimg, or leave the account out")
}

/// A file that the machines of a job get.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedFile {
    /// Path on the console's machine.
    pub path: PathBuf,
    /// Name, hash and size of the file.
    pub payload: Payload,
}

/// Answer to `GET /v1/bindings`; `POST /v1/bindings/import` answers with the bindings it has set.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BindingList {
    /// `SCHEMA_VERSION`.
    pub schema_version: u32,
    /// Bindings, sorted by name.
    pub bindings: Vec<Binding>,
}

/// Body of `POST /v1/bindings/import`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ImportRequest {
    /// The list: MAC address or UUID, name, address.
    pub text: String,
}

/// Answer to `GET /v1/secrets`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SecretList {
    /// `SCHEMA_VERSION`.
    pub schema_version: u32,
    /// Secrets, sorted by name; values are never shown.
    pub secrets: Vec<SecretView>,
}

/// A secret, without its value.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SecretView {
    /// Name of the secret; templates refer to it by `ref:NAME`.
    pub name: String,
    /// Time when it was set, RFC 3339.
    pub changed: String,
}

/// Body of `POST /v1/secrets`; the answer is the `SecretView`.
#[derive(Clone, Serialize, Deserialize)]
pub struct SecretRequest {
    /// Name of the secret.
    pub name: String,
    /// Value of the secret.
    pub value: String,
}

impl fmt::Debug for SecretRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretRequest")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Public key of a signing key that is kept as a secret: `POST /v1/secrets/{name}/new-key` makes a
/// key, `GET /v1/secrets/{name}/public-key` returns its public key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SigningKeyView {
    /// `SCHEMA_VERSION`.
    pub schema_version: u32,
    /// Name of the secret.
    pub name: String,
    /// Public key: `dcpk1-` and 64 hexadecimal digits.
    pub public_key: String,
}

/// Body of `POST /v1/secrets/{name}/sign`; the answer is the `SignatureView`. The key stays in the
/// console.
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
    /// Public key that verifies it.
    pub public_key: String,
    /// The signature, 128 hexadecimal digits.
    pub signature: String,
}
