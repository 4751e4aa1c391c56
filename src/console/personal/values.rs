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

/// Values by name, and how the image's system stores passwords.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct JobSecrets {
    values: BTreeMap<SecretName, String>,
    /// Offline-join blobs, by target.
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
    /// None yet; `crypt_method` as the image's login.defs has it.
    pub fn new(crypt_method: Option<String>) -> Self {
        Self {
            values: BTreeMap::new(),
            blobs: BTreeMap::new(),
            crypt_method,
        }
    }

    /// Adds one.
    pub fn insert(&mut self, name: SecretName, value: &str) {
        self.values.insert(name, value.to_owned());
    }

    /// One of them.
    pub fn value(&self, name: &SecretName) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// Adds the join blob of a target.
    pub fn insert_blob(&mut self, target: &str, blob: String) {
        self.blobs.insert(target.to_owned(), blob);
    }

    /// Adds those of targets that joined later. A value that is there stays: all targets of a job have the same.
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

    /// As a request brings them along.
    pub fn given(&self) -> GivenSecrets {
        let named = |(name, value): (&SecretName, &String)| (name.0.clone(), value.clone());
        GivenSecrets(self.values.iter().map(named).collect())
    }

    /// True when there is nothing to keep.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty() && self.blobs.is_empty()
    }

    /// As it is kept for the next console.
    ///
    /// # Errors
    /// As [`Vault::seal`].
    pub fn seal(&self, vault: &Vault, job: u64) -> Result<Vec<u8>, VaultError> {
        // Maps of text always become JSON.
        let plain = Zeroizing::new(serde_json::to_vec(self).unwrap_or_default());
        vault.seal(&purpose(job), &plain)
    }

    /// As an earlier console kept it.
    ///
    /// # Errors
    /// [`VaultError::Damaged`].
    pub fn unseal(vault: &Vault, job: u64, sealed: &[u8]) -> Result<Self, VaultError> {
        let plain = vault.unseal(&purpose(job), sealed)?;
        serde_json::from_slice(&plain).map_err(|_| VaultError::Damaged(purpose(job)))
    }

    /// The order for one machine: its plan with the values of just those secrets it names, and what signs its report of the first start.
    /// Linux gets hashes, never passwords.
    ///
    /// # Errors
    /// A secret that is missing, by name; a password that cannot be hashed.
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
