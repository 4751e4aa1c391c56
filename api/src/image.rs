//! The check of an image before it is sent.

use crate::{DeployRequest, GivenSecrets, ShareAccount};
use facts::target::Choice;
use serde::{Deserialize, Serialize};

/// Body of `POST /v1/images/check`. The answer, an `ImageCheck`, comes within about a second; a
/// client that waits repeats the request.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CheckRequest {
    /// Path of the image, like in a `DeployRequest`.
    pub image: String,
    /// Account for the server, when the image lies on a share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<ShareAccount>,
    /// Password of an encrypted image. Never stored, never logged.
    #[serde(default)]
    pub password: Option<String>,
    /// Part of the image that is checked.
    #[serde(default)]
    pub choice: Choice,
    /// Value of the secret that the share refers to, when the command knows it.
    #[serde(default)]
    pub secrets: GivenSecrets,
}

impl CheckRequest {
    /// A check of the image of a deployment.
    pub fn of(request: &DeployRequest) -> Self {
        Self {
            image: request.image.clone(),
            share: request.share.clone(),
            password: request.password.clone(),
            choice: request.choice.clone(),
            secrets: request.secrets.clone(),
        }
    }
}

/// Progress of an image check. Damage is an error with the code `integrity`.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum ImageCheck {
    /// Every stored byte matched its hash.
    Checked {
        /// Time of the check, RFC 3339.
        checked: String,
    },
    /// The check is in progress.
    Checking {
        /// Stored bytes checked so far.
        done_bytes: u64,
        /// Stored bytes in total.
        total_bytes: u64,
    },
}
