//! Secrets that a template refers to.

use super::Template;
use crate::step::SecretName;
use crate::values::SecretRef;

/// A secret with its source and purpose.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SecretUse<'t> {
    /// Name of the secret in steps.
    pub name: SecretName,
    /// Purpose, for messages: `password of labadmin`.
    pub what: String,
    /// Source of the secret.
    pub reference: &'t SecretRef,
}

impl SecretUse<'_> {
    /// The fault of a value for this use, which is not shown; `None` when it is fine.
    pub fn fault(&self, value: &str) -> Option<&'static str> {
        let whole = value
            .split_once('%')
            .is_some_and(|(user, password)| !user.trim().is_empty() && !password.is_empty());
        (self.name == credential_name() && !whole)
            .then_some("it is not USER%PASSWORD, as Samba writes an account and its password")
    }
}

/// Name of an account's password in steps.
pub fn password_name(user: &str) -> SecretName {
    SecretName(format!("user.{user}.password"))
}

/// The console's name for the password that makes machine accounts; no step names it.
pub fn credential_name() -> SecretName {
    SecretName("membership.credential".to_owned())
}

/// The console's name for the password of an image's share; no step names it, and no machine gets
/// it.
pub fn share_name() -> SecretName {
    SecretName("share.password".to_owned())
}

impl Template {
    /// Every secret of the template except the password of a share, which only opens the image:
    /// accounts in their order, then the credential.
    pub fn secrets(&self) -> Vec<SecretUse<'_>> {
        let passwords = self.users.iter().filter_map(|user| {
            Some(SecretUse {
                name: password_name(&user.name),
                what: format!("password of {}", user.name),
                reference: user.password.as_ref()?,
            })
        });
        let credential = self
            .membership
            .credential
            .as_ref()
            .map(|reference| SecretUse {
                name: credential_name(),
                what: "credential for making machine accounts".to_owned(),
                reference,
            });
        passwords.chain(credential).collect()
    }
}
