//! Which secrets a plan names, and in which form each travels.

use crate::step::{Action, FirstBootAction, MachinePlan, SecretName};

/// In which form a secret travels.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SecretForm {
    /// As it is: Windows hashes it itself.
    Password,
    /// As a crypt hash made on the console: yescrypt where the image's login.defs says so, sha512 otherwise.
    CryptHash,
    /// The offline-join blob of this machine, base64.
    JoinBlob,
}

/// What plans call the offline-join blob of their machine.
pub fn join_blob_name() -> SecretName {
    SecretName("join.blob".into())
}

/// Every secret the plan names, in its order; one that is used twice is named twice.
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
