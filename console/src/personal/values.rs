//! The secrets of one job, from its confirmation to its last target.

use super::crypt::crypt;
use super::vault::{Vault, VaultError};
use api::GivenSecrets;
use protocol::control::ApplyOrder;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use template::first_start::FirstStart;
use template::plan::SecretForm;
use template::secrets::Secrets;
use template::step::{MachinePlan, SecretName};
use zeroize::{Zeroize, Zeroizing};

/// Secrets of a job by name, and the password hash method of the image's system.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct JobSecrets {
    values: BTreeMap<SecretName, String>,
    /// Offline-join blobs by target id.
    #[serde(default)]
    blobs: BTreeMap<String, String>,
    /// `ENCRYPT_METHOD` of a Linux image.
    crypt_method: Option<String>,
}

impl Drop for JobSecrets {
    fn drop(&mut self) {
        self.values.values_mut().for_each(Zeroize::zeroize);
        self.blobs.values_mut().for_each(Zeroize::zeroize);
    }
}

impl fmt::Debug for JobSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

fn purpose(job: u64) -> String {
    format!("job {job}")
}

impl JobSecrets {
    /// Makes an empty set; `crypt_method` is the value in the image's login.defs.
    pub fn new(crypt_method: Option<String>) -> Self {
        Self {
            values: BTreeMap::new(),
            blobs: BTreeMap::new(),
            crypt_method,
        }
    }

    /// Adds the value of a secret.
    pub fn insert(&mut self, name: SecretName, value: &str) {
        self.values.insert(name, value.to_owned());
    }

    /// Returns the value of a secret.
    pub fn value(&self, name: &SecretName) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// Adds the join blob of a target.
    pub fn insert_blob(&mut self, target: &str, blob: String) {
        self.blobs.insert(target.to_owned(), blob);
    }

    /// Adds the secrets of targets that joined later. A present value stays: all targets of a job
    /// have the same.
    pub fn add(&mut self, others: &Self) {
        for (name, value) in &others.values {
            self.values
                .entry(name.clone())
                .or_insert_with(|| value.clone());
        }
        for (target, blob) in &others.blobs {
            self.blobs.insert(target.clone(), blob.clone());
        }
        if self.crypt_method.is_none() {
            self.crypt_method.clone_from(&others.crypt_method);
        }
    }

    /// Returns the values in the form of a request.
    pub fn given(&self) -> GivenSecrets {
        let named = |(name, value): (&SecretName, &String)| (name.0.clone(), value.clone());
        GivenSecrets(self.values.iter().map(named).collect())
    }

    /// Returns true if there is nothing to store.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty() && self.blobs.is_empty()
    }

    /// Seals the secrets for the store.
    ///
    /// # Errors
    /// The errors of [`Vault::seal`].
    pub fn seal(&self, vault: &Vault, job: u64) -> Result<Vec<u8>, VaultError> {
        // Maps of text always convert to JSON.
        let plain = Zeroizing::new(serde_json::to_vec(self).unwrap_or_default());
        vault.seal(&purpose(job), &plain)
    }

    /// Opens the secrets that an earlier console sealed.
    ///
    /// # Errors
    /// [`VaultError::Damaged`].
    pub fn unseal(vault: &Vault, job: u64, sealed: &[u8]) -> Result<Self, VaultError> {
        let plain = vault.unseal(&purpose(job), sealed)?;
        serde_json::from_slice(&plain).map_err(|_| VaultError::Damaged(purpose(job)))
    }

    /// Makes the order for one machine: its plan, the values of the secrets that the plan names,
    /// and the key for its report of the first start.
    ///
    /// Linux gets password hashes, never passwords.
    ///
    /// # Errors
    /// A text with the name of a missing secret, or a password that cannot be hashed.
    pub fn order(
        &self,
        target: &str,
        plan: &MachinePlan,
        report: impl FnOnce() -> FirstStart,
    ) -> Result<ApplyOrder, String> {
        let mut secrets = Secrets::default();
        for (name, form) in template::plan::secrets(plan) {
            let known = match form {
                SecretForm::JoinBlob => self.blobs.get(target),
                SecretForm::Password | SecretForm::CryptHash => self.values.get(name),
            };
            let value = known.ok_or_else(|| {
                format!(
                    "the value of secret {} is not known any more; deploy again",
                    name.0
                )
            })?;
            let value = match form {
                SecretForm::CryptHash => crypt(value, self.crypt_method.as_deref())?,
                SecretForm::Password | SecretForm::JoinBlob => value.clone(),
            };
            secrets.insert(name.clone(), value);
        }
        Ok(ApplyOrder {
            plan: plan.clone(),
            secrets,
            first_start: plan.reports_first_start().then(report),
        })
    }
}
