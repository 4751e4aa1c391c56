//! The secrets a plan names, and the form in which each is sent.

use crate::step::{Action, FirstBootAction, MachinePlan, SecretName};

/// Form in which a secret is sent to the target.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SecretForm {
    /// Plain text: Windows hashes it itself.
    Password,
    /// Crypt hash made on the console: yescrypt where the image's login.defs says so, sha512
    /// otherwise.
    CryptHash,
    /// Offline-join blob of this machine, in base64.
    JoinBlob,
}

/// Name of the offline-join blob in plans.
pub fn join_blob_name() -> SecretName {
    SecretName("join.blob".into())
}

/// Every secret of the plan, in its order; one that is used twice is listed twice.
pub fn secrets(plan: &MachinePlan) -> Vec<(&SecretName, SecretForm)> {
    let mut needs = Vec::new();
    for step in &plan.steps {
        match &step.action {
            Action::LinuxUser { user, .. } => {
                needs.extend(
                    user.password
                        .iter()
                        .map(|name| (name, SecretForm::CryptHash)),
                );
            }
            Action::WindowsAnswerFile { answers, .. } => {
                let passwords = answers
                    .users
                    .iter()
                    .filter_map(|user| user.password.as_ref());
                needs.extend(passwords.map(|name| (name, SecretForm::Password)));
                needs.extend(
                    answers
                        .join_blob
                        .iter()
                        .map(|name| (name, SecretForm::JoinBlob)),
                );
            }
            Action::FirstBoot { job, .. } => {
                needs.extend(job.steps.iter().filter_map(|step| match &step.action {
                    FirstBootAction::User(user) => {
                        let name = user.password.as_ref()?;
                        Some((name, SecretForm::Password))
                    }
                    FirstBootAction::Join { blob } => Some((blob, SecretForm::JoinBlob)),
                    _ => None,
                }));
            }
            _ => {}
        }
    }
    needs
}
