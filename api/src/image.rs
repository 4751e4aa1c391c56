//! The check of an image before it is sent.

use crate::{DeployRequest, GivenSecrets, ShareAccount};
use facts::target::Choice;
use serde::{Deserialize, Serialize};

/// `POST /v1/images/check`: the answer, an `ImageCheck`, comes within about a second; who waits asks again.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CheckRequest {
    /// As in a `DeployRequest`.
    pub image: String,
    /// Who asks the server, where the image lies on a share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<ShareAccount>,
    /// Password of an encrypted image. Never stored, never logged.
    #[serde(default)]
    pub password: Option<String>,
    /// Which part of it has to be whole.
    #[serde(default)]
    pub choice: Choice,
    /// Value of the secret the share refers to, when the command knows it.
    #[serde(default)]
    pub secrets: GivenSecrets,
}

impl CheckRequest {
    /// The check of the image a deployment is for.
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

/// How far the check of an image is; damage is an error with the code `integrity`.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum ImageCheck {
    /// Every stored byte was held against its hash.
    Checked {
        /// When, RFC 3339.
        checked: String,
    },
    /// Under way.
    Checking {
        /// Stored bytes looked at.
        done_bytes: u64,
        /// Stored bytes there are.
        total_bytes: u64,
    },
}
