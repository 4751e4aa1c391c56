//! Offline-join blobs for each machine, read or made on the console, so that no administrator's
//! password reaches a target.

use super::{JobSecrets, Personalised};
use crate::context::Console;
use api::{ApiError, ErrorCode, Plan, PlannedTarget, TemplateUse};
use domain::{Blob, Credential, Provision, blob_of, is_installed};
use std::path::{Path, PathBuf};
use std::time::Duration;
use template::plan::{SecretForm, secrets};
use template::schema::{JoinMethod, Template, credential_name};

/// Longest time to wait for a domain controller.
const LIMIT: Duration = Duration::from_secs(60);
/// Name of Samba's program that makes blobs, found by `PATH`.
const NET: &str = "net";

/// Returns true if the target's plan uses a blob.
fn joins(target: &PlannedTarget) -> bool {
    let wants = |form: &SecretForm| *form == SecretForm::JoinBlob;
    target.refused.is_none()
        && target
            .personal
            .as_ref()
            .is_some_and(|own| secrets(own).iter().any(|(_, form)| wants(form)))
}

/// Returns the name with which the machine joins the domain.
fn name_of(target: &PlannedTarget) -> Result<String, String> {
    let own = target.personal.as_ref();
    let name = own.and_then(|own| own.hostname.clone());
    name.ok_or_else(|| "a machine that joins a domain needs a name".to_owned())
}

/// Refuses the machines of a plan that could not join: their blob is missing or unusable, or the
/// console lacks the program that makes blobs.
pub(super) async fn foresee(
    template: &Template,
    source: &TemplateUse,
    plan: &mut Plan,
) -> Result<(), ApiError> {
    if !plan.targets.iter().any(joins) {
        return Ok(());
    }
    let names: Vec<Result<String, String>> = plan
        .targets
        .iter()
        .filter(|target| joins(target))
        .map(name_of)
        .collect();
    let method = template.membership.method;
    let folder = blob_folder(template, source);
    let looked = tokio::task::spawn_blocking(move || -> Vec<Result<(), String>> {
        let samba = method == JoinMethod::Samba && is_installed(Path::new(NET));
        let look = |name: Result<String, String>| match method {
            JoinMethod::Blob => blob_file(&folder, &name?).map(drop),
            JoinMethod::Samba if samba => name.map(drop),
            JoinMethod::Samba => Err(format!(
                "a join blob is to be made here, and the program `{NET}` is missing on the console; apt-get install samba-common-bin"
            )),
        };
        names.into_iter().map(look).collect()
    });
    let looked = looked
        .await
        .map_err(|error| ApiError::new(ErrorCode::Unexpected, error.to_string()))?;
    let targets = plan.targets.iter_mut().filter(|target| joins(target));
    for (target, found) in targets.zip(looked) {
        target.refused = found.err();
    }
    Ok(())
}

impl Console {
    /// Adds the blob of every machine whose plan uses one, read from a file or made by Samba.
    pub(super) async fn join_blobs(
        &self,
        personal: &Personalised,
        plan: &Plan,
        found: &mut JobSecrets,
    ) -> Result<(), ApiError> {
        let mut made = Vec::new();
        for target in plan.targets.iter().filter(|target| joins(target)) {
            let refused = |text: String| {
                let error = ApiError::new(ErrorCode::Refused, format!("{}: {text}", target.name));
                match made.is_empty() {
                    true => error,
                    // The passwords of these accounts are new, and only the blobs of this job hold
                    // them.
                    false => error.hint(format!(
                        "accounts were made anew before that: deploy {} again, or they are out of the domain",
                        made.join(", ")
                    )),
                }
            };
            let name = name_of(target).map_err(refused)?;
            let blob = match personal.template.membership.method {
                JoinMethod::Blob => {
                    let (folder, name) = (
                        blob_folder(&personal.template, &personal.source),
                        name.clone(),
                    );
                    tokio::task::spawn_blocking(move || blob_file(&folder, &name))
                        .await
                        .map_err(|error| error.to_string())
                        .flatten()
                }
                JoinMethod::Samba => samba(personal, &name, found).await,
            };
            let blob = blob.map_err(refused)?;
            if personal.template.membership.method == JoinMethod::Samba {
                made.push(name);
            }
            found.insert_blob(&target.id, blob.text().to_owned());
        }
        Ok(())
    }
}

/// Returns the folder of blobs that the template names.
fn blob_folder(template: &Template, source: &TemplateUse) -> PathBuf {
    let folder = template.membership.blobs.as_deref();
    source.folder.join(folder.unwrap_or_default())
}

fn blob_file(folder: &Path, name: &str) -> Result<Blob, String> {
    blob_of(folder, name).map_err(|error| error.to_string())
}

/// Requests a machine account from the domain with Samba's `net` on this console.
async fn samba(personal: &Personalised, name: &str, found: &JobSecrets) -> Result<Blob, String> {
    let membership = &personal.template.membership;
    let domain = membership.domain.clone().unwrap_or_default();
    let credential = found
        .value(&credential_name())
        .ok_or("the template names no credential for making machine accounts")?;
    // Samba's own notation; a password may contain `%`.
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
        program: PathBuf::from(NET),
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
