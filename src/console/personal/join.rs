//! Offline-join blobs, one for each machine, found or made on the console: no administrator's password ever reaches a target.

use super::{JobSecrets, Personalised};
use crate::console::api::{ApiError, ErrorCode, Plan};
use crate::console::context::Console;
use std::path::PathBuf;
use template::plan::{SecretForm, secrets};
use template::schema::JoinMethod;

/// Largest blob; real ones have a few kilobytes.
const MAX_BLOB: u64 = 64 << 10;

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
                JoinMethod::Blob => blob_file(personal, name).await.map_err(refused)?,
                JoinMethod::Samba => {
                    return Err(refused("blobs made by Samba are not there yet".to_owned()));
                }
            };
            found.insert_blob(&target.id, blob);
        }
        Ok(())
    }
}

/// `NAME.blob` or `NAME.txt`, whatever the case of the name.
async fn blob_file(personal: &Personalised, name: &str) -> Result<String, String> {
    let folder = personal.template.membership.blobs.as_deref();
    let folder = folder.ok_or("the template names no folder of blobs")?;
    let folder = personal.source.folder.join(folder);
    let candidates: Vec<PathBuf> = [name.to_owned(), name.to_lowercase(), name.to_uppercase()]
        .iter()
        .flat_map(|name| ["blob", "txt"].map(|kind| folder.join(format!("{name}.{kind}"))))
        .collect();
    for path in &candidates {
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        match tokio::fs::metadata(path).await {
            Ok(metadata) if metadata.len() > MAX_BLOB => {
                return Err(format!(
                    "{} is no join blob: it is too large",
                    path.display()
                ));
            }
            Ok(_) => {
                let bytes = tokio::fs::read(path).await.map_err(failed)?;
                return blob_text(&bytes).ok_or_else(|| {
                    format!("{} is no join blob: djoin writes base64", path.display())
                });
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Err(format!(
        "there is no join blob {}.blob in {}; make it with djoin /provision /machine {name}",
        name,
        folder.display()
    ))
}

/// What `djoin /savefile` writes is UTF-16 with a mark; what Samba writes is ASCII.
fn blob_text(bytes: &[u8]) -> Option<String> {
    let text = match bytes.strip_prefix(&[0xff, 0xfe]) {
        Some(wide) => {
            let units: Vec<u16> = wide
                .chunks_exact(2)
                .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
                .collect();
            String::from_utf16(&units).ok()?
        }
        None => String::from_utf8(bytes.to_vec()).ok()?,
    };
    let text: String = text.trim_end_matches('\0').split_whitespace().collect();
    let base64 = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
    (!text.is_empty() && text.bytes().all(base64)).then_some(text)
}
