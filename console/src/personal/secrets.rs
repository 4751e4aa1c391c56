//! Secrets of templates: set, listed and looked up.

use super::vault::MAX_SECRET_BYTES;
use crate::context::Console;
use crate::jobs::store_error;
use crate::store::SecretRow;
use crate::time::now_text;
use api::{
    ApiError, ErrorCode, GivenSecrets, SCHEMA_VERSION, SecretList, SecretRequest, SecretView,
};
use disk::signing;
use std::path::Path;
use template::schema::{SecretUse, Template};
use template::values::SecretRef;
use tokio::io::AsyncReadExt;
use zeroize::Zeroizing;

fn purpose(name: &str) -> String {
    format!("secret {name}")
}

impl Console {
    /// Returns every secret, without its value.
    ///
    /// # Errors
    /// `Unexpected` if the store fails.
    pub async fn list_secrets(&self) -> Result<SecretList, ApiError> {
        let rows = self.store.secrets().await;
        Ok(SecretList {
            schema_version: SCHEMA_VERSION,
            secrets: rows
                .map_err(|error| store_error(&error))?
                .into_iter()
                .map(|row| SecretView {
                    name: row.name,
                    changed: row.changed,
                })
                .collect(),
        })
    }

    /// Sets a secret, or replaces it.
    ///
    /// # Errors
    /// `Usage` for an invalid name or length, `Unexpected` if the store fails.
    pub async fn set_secret(&self, request: SecretRequest) -> Result<SecretView, ApiError> {
        let value = Zeroizing::new(request.value);
        let (row, sealed) = self.seal_secret(&request.name, value.as_bytes())?;
        self.store
            .save_secret(row.clone(), sealed)
            .await
            .map_err(|error| store_error(&error))?;
        tracing::info!(secret = row.name, "secret set");
        Ok(SecretView {
            name: row.name,
            changed: row.changed,
        })
    }

    /// Stores a secret under an unused name; returns false if the name is in use.
    pub(super) async fn add_secret(&self, name: &str, value: &[u8]) -> Result<bool, ApiError> {
        let (row, sealed) = self.seal_secret(name, value)?;
        let added = self.store.add_secret(row, sealed).await;
        added.map_err(|error| store_error(&error))
    }

    fn seal_secret(&self, name: &str, value: &[u8]) -> Result<(SecretRow, Vec<u8>), ApiError> {
        let usage = |text: String| ApiError::new(ErrorCode::Usage, text);
        if !api::name::is_valid_name(name) {
            return Err(usage(format!("{name:?} is no name for a secret"))
                .hint("1 to 63 of letters, digits, -, _ and ."));
        }
        if value.is_empty() || value.len() > MAX_SECRET_BYTES {
            return Err(usage(format!("a secret has 1 to {MAX_SECRET_BYTES} bytes")));
        }
        let sealed = self
            .personal
            .vault
            .seal(&purpose(name), value)
            .map_err(|error| ApiError::new(ErrorCode::Unexpected, error.to_string()))?;
        let row = SecretRow {
            name: name.to_owned(),
            changed: now_text(),
        };
        Ok((row, sealed))
    }

    /// Deletes a secret.
    ///
    /// # Errors
    /// `NothingMatched` for an unknown secret, `Unexpected` if the store fails.
    pub async fn remove_secret(&self, name: &str) -> Result<(), ApiError> {
        let removed = self.store.delete_secret(name.to_owned()).await;
        if !removed.map_err(|error| store_error(&error))? {
            return Err(no_such_secret(name));
        }
        tracing::info!(secret = name, "secret removed");
        Ok(())
    }

    /// Returns the value that a template refers to. Errors name the reference, never the value.
    pub(crate) async fn secret_value(
        &self,
        wanted: &SecretUse<'_>,
        given: &GivenSecrets,
        folder: &Path,
    ) -> Result<Zeroizing<String>, ApiError> {
        if let Some(value) = given.0.get(&wanted.name.0) {
            return Ok(Zeroizing::new(value.clone()));
        }
        match wanted.reference {
            SecretRef::Ref(name) => self.secret_for_a_target(name).await,
            SecretRef::File(path) => file_secret(&folder.join(path)).await,
            SecretRef::Env(_) | SecretRef::Ask => Err(ApiError::new(
                ErrorCode::Refused,
                format!("{} was not given", wanted.what),
            )
            .hint("diskcast deploy asks for it; an offer or a retry after a restart of the console cannot: keep it with diskcast secret set, and write ref:NAME")),
        }
    }

    /// Returns a secret that may be sent to a target; a key that signs images is refused.
    async fn secret_for_a_target(&self, name: &str) -> Result<Zeroizing<String>, ApiError> {
        let value = self.stored_secret(name).await?;
        if signing::secret_key(&value).is_some() {
            let text =
                format!("secret {name} is a key that signs images: it never leaves the console");
            return Err(
                ApiError::new(ErrorCode::Refused, text).hint("name another secret in the template")
            );
        }
        Ok(value)
    }

    pub(super) async fn stored_secret(&self, name: &str) -> Result<Zeroizing<String>, ApiError> {
        let sealed = self
            .store
            .sealed_secret(name.to_owned())
            .await
            .map_err(|error| store_error(&error))?
            .ok_or_else(|| no_such_secret(name))?;
        let value = self
            .personal
            .vault
            .unseal(&purpose(name), &sealed)
            .map_err(|error| ApiError::new(ErrorCode::Refused, error.to_string()))?;
        let text = std::str::from_utf8(&value)
            .map_err(|_| ApiError::new(ErrorCode::Refused, format!("secret {name} is not text")))?;
        Ok(Zeroizing::new(text.to_owned()))
    }

    /// Checks before a confirmation that every stored secret and file of a template exists and is
    /// valid. Values that a person gives later are not checked.
    pub(super) async fn check_secrets(
        &self,
        template: &Template,
        folder: &Path,
    ) -> Result<(), ApiError> {
        for wanted in template.secrets() {
            let value = match wanted.reference {
                SecretRef::Ref(name) => self.secret_for_a_target(name).await?,
                SecretRef::File(path) => file_secret(&folder.join(path)).await?,
                SecretRef::Env(_) | SecretRef::Ask => continue,
            };
            if let Some(fault) = wanted.fault(&value) {
                let text = format!("{}: {fault}", wanted.what);
                return Err(ApiError::new(ErrorCode::Refused, text));
            }
        }
        Ok(())
    }
}

/// Returns the secret in a file, without its final line break.
async fn file_secret(path: &Path) -> Result<Zeroizing<String>, ApiError> {
    let refused =
        |error: String| ApiError::new(ErrorCode::Refused, format!("{}: {error}", path.display()));
    // Reading a pipe without a writer would never end.
    let found = tokio::fs::metadata(path)
        .await
        .map_err(|error| refused(error.to_string()))?;
    if !found.is_file() {
        return Err(refused("not a regular file".to_owned()));
    }
    let file = tokio::fs::File::open(path)
        .await
        .map_err(|error| refused(error.to_string()))?;
    // The whole size is reserved, so that no copy is left behind where the buffer grew.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_SECRET_BYTES + 1));
    file.take(MAX_SECRET_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .await
        .map_err(|error| refused(error.to_string()))?;
    if bytes.len() > MAX_SECRET_BYTES {
        return Err(refused(format!("longer than {MAX_SECRET_BYTES} bytes")));
    }
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| refused("the secret in it is not UTF-8".to_owned()))?;
    let line = text.strip_suffix('\n').unwrap_or(text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return Err(refused("it is empty".to_owned()));
    }
    Ok(Zeroizing::new(line.to_owned()))
}

fn no_such_secret(name: &str) -> ApiError {
    ApiError::new(
        ErrorCode::NothingMatched,
        format!("the console has no secret {name}"),
    )
    .hint(format!("diskcast secret set {name}"))
}
