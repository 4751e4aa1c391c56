//! Which secrets a plan names, and what the console has to send for each.

use crate::findings::{Findings, System};
use crate::schema::Template;
use crate::step::{Action, FirstBootAction, MachinePlan, SecretName, User};
use crate::values::SecretRef;

/// In which form a secret travels.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SecretForm {
    /// As it is: Windows hashes it itself.
    Password,
    /// As a crypt hash, made on the console: yescrypt where the image's login.defs says so, sha512 otherwise.
    CryptHash {
        /// yescrypt, rather than sha512.
        yescrypt: bool,
    },
    /// The offline-join blob of the machine, base64.
    JoinBlob,
}

/// One secret of a plan.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SecretNeed {
    /// The name the plan has for it.
    pub name: SecretName,
    /// Its form.
    pub form: SecretForm,
    /// Where it comes from; `None` for a join blob, which is of the machine and not of the template.
    pub source: Option<SecretRef>,
}

/// The plan's name for the join blob.
pub(super) fn join_blob() -> SecretName {
    SecretName("join.blob".into())
}

/// The plan's name for the password of an account.
pub(super) fn password(user: &str) -> SecretName {
    SecretName(format!("user.{user}.password"))
}

/// Every secret the plan names, once each, in the order of the plan.
pub fn secrets(plan: &MachinePlan, template: &Template, findings: &Findings) -> Vec<SecretNeed> {
    let mut needs: Vec<SecretNeed> = Vec::new();
    let mut need = |name: &SecretName, form| {
        if needs.iter().any(|need| need.name == *name) {
            return;
        }
        let source = template
            .users
            .iter()
            .find(|user| password(&user.name) == *name)
            .and_then(|user| user.password.clone());
        needs.push(SecretNeed {
            name: name.clone(),
            form,
            source,
        });
    };
    let of = |user: &User| user.password.clone();
    for step in &plan.steps {
        match &step.action {
            Action::LinuxUser { partition, user } => {
                let yescrypt = findings.systems.iter().any(|system| {
                    matches!(system, System::Linux(linux) if linux.partition == *partition
                        && linux.encrypt_method.as_deref() == Some("yescrypt"))
                });
                if let Some(name) = of(user) {
                    need(&name, SecretForm::CryptHash { yescrypt });
                }
            }
            Action::WindowsAnswerFile { answers, .. } => {
                for name in answers.users.iter().filter_map(of) {
                    need(&name, SecretForm::Password);
                }
                if let Some(name) = &answers.join_blob {
                    need(name, SecretForm::JoinBlob);
                }
            }
            Action::FirstBoot { job, .. } => {
                for step in &job.steps {
                    match &step.action {
                        FirstBootAction::User(user) => {
                            if let Some(name) = of(user) {
                                need(&name, SecretForm::Password);
                            }
                        }
                        FirstBootAction::Join { blob } => need(blob, SecretForm::JoinBlob),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    needs
}
