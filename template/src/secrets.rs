//! Values of secrets, kept only while steps are applied.

use crate::step::SecretName;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Values of secrets by name. Never shown: neither by `Debug` nor in an error.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secrets(BTreeMap<SecretName, String>);

impl Secrets {
    /// Adds a secret.
    pub fn insert(&mut self, name: SecretName, value: String) {
        self.0.insert(name, value);
    }

    /// Value of a secret.
    pub fn get(&self, name: &SecretName) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// True when there are no secrets.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
