//! The secrets a template refers to.

use super::Template;
use crate::step::SecretName;
use crate::values::SecretRef;

/// A secret, where it comes from and what it is for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SecretUse<'t> {
    /// What steps call it.
    pub name: SecretName,
    /// For people: `password of labadmin`.
    pub what: String,
    /// Where it comes from.
    pub reference: &'t SecretRef,
}

impl SecretUse<'_> {
    /// What is wrong with a value for this use; it is not repeated.
    pub fn fault(&self, value: &str) -> Option<&'static str> {
        let whole = value
            .split_once('%')
            .is_some_and(|(user, password)| !user.trim().is_empty() && !password.is_empty());
        (self.name == credential_name() && !whole)
            .then_some("it is not USER%PASSWORD, as Samba writes an account and its password")
    }
}

/// What steps call the password of an account.
pub fn password_name(user: &str) -> SecretName {
    SecretName(format!("user.{user}.password"))
}

/// What the console calls the password machine accounts are made with; no step names it.
pub fn credential_name() -> SecretName {
    SecretName("membership.credential".to_owned())
}

/// What the console calls the password of the share an image lies on; no step names it, and it goes to no machine.
pub fn share_name() -> SecretName {
    SecretName("share.password".to_owned())
}

impl Template {
    /// Every secret its steps refer to, in their order. The password of a share is none of them: it opens the image.
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
