//! Offline-join blobs, one for each machine, found or made on the console: no administrator's password ever reaches a target.

use super::{JobSecrets, Personalised};
use crate::console::context::Console;
use api::{ApiError, ErrorCode, Plan};
use domain::{Blob, Credential, Provision, validate_blob};
use std::path::PathBuf;
use std::time::Duration;
use template::plan::{SecretForm, secrets};
use template::schema::{JoinMethod, credential_name};

/// Largest file that is read for a blob; real ones have a few kilobytes.
const MAX_BLOB: u64 = 256 << 10;
/// A domain controller that has not answered by then does not.
const LIMIT: Duration = Duration::from_secs(60);

impl Console {
    /// The blob of every machine whose plan names one.
    pub(super) async fn join_blobs(
        &self,
        personal: &Personalised,
        plan: &Plan,
        found: &mut JobSecrets,
    ) -> Result<(), ApiError> {
        for target in &plan.targets {
            let Some(own) = &target.personal else {
                continue;
            };
            let joins = secrets(own)
                .iter()
                .any(|(_, form)| *form == SecretForm::JoinBlob);
            if !joins || target.refused.is_some() {
                continue;
            }
            let refused = |text: String| {
                ApiError::new(ErrorCode::Refused, format!("{}: {text}", target.name))
            };
            let name = own
                .hostname
                .as_deref()
                .ok_or_else(|| refused("a machine that joins a domain needs a name".to_owned()))?;
            let blob = match personal.template.membership.method {
                JoinMethod::Blob => blob_file(personal, name).await,
                JoinMethod::Samba => samba(personal, name, found).await,
            };
            let blob = blob.map_err(refused)?;
            if !blob.is_for(name) {
                return Err(refused(format!(
                    "the join blob for {name} is another machine's"
                )));
            }
            found.insert_blob(&target.id, blob.text().to_owned());
        }
        Ok(())
    }
}

/// `NAME.blob` or `NAME.txt`, whatever the case of the name.
async fn blob_file(personal: &Personalised, name: &str) -> Result<Blob, String> {
    let folder = personal.template.membership.blobs.as_deref();
    let folder = folder.ok_or("the template names no folder of blobs")?;
    let folder = personal.source.folder.join(folder);
    let candidates: Vec<PathBuf> = [name.to_owned(), name.to_lowercase(), name.to_uppercase()]
        .iter()
        .flat_map(|name| ["blob", "txt"].map(|kind| folder.join(format!("{name}.{kind}"))))
        .collect();
    for path in &candidates {
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        match tokio::fs::metadata(path).await {
            Ok(metadata) if metadata.len() > MAX_BLOB => {
                return Err(failed(&"too large for a join blob"));
            }
            Ok(_) => {
                let bytes = tokio::fs::read(path)
                    .await
                    .map_err(|error| failed(&error))?;
                return validate_blob(&bytes).map_err(|error| failed(&error));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(&error)),
        }
    }
    Err(format!(
        "there is no {name}.blob in {}; djoin /provision /machine {name} /savefile makes one",
        folder.display()
    ))
}

/// Asks the domain for an account, by Samba's `net` on this console.
async fn samba(personal: &Personalised, name: &str, found: &JobSecrets) -> Result<Blob, String> {
    let membership = &personal.template.membership;
    let domain = membership.domain.clone().unwrap_or_default();
    let credential = found
        .value(&credential_name())
        .ok_or("the template names no credential for making machine accounts")?;
    // As Samba writes it; a password may have a % in it.
    let (user, password) = credential
        .split_once('%')
        .ok_or("the credential for making machine accounts is not USER%PASSWORD")?;
    let provision = Provision {
        domain,
        machine: name.to_owned(),
        ou: membership.ou.clone(),
        dc: None,
        credential: Credential {
            user: user.to_owned(),
            password: password.to_owned(),
        },
        program: PathBuf::from("net"),
        limit: LIMIT,
    };
    tokio::task::spawn_blocking(move || provision.run())
        .await
        .map_err(|error| error.to_string())?
        .map_err(|error| {
            let mut text = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(source) = cause {
                text.push_str(&format!(": {source}"));
                cause = source.source();
            }
            text
        })
}
