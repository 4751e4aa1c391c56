//! Personalisation of the machines of a deployment: the console's side.
//!
//! ```text
//! template text -> lint -> image inspected -> files hashed -> names and addresses -> one plan a machine   (personalise)
//! confirmed -> secrets and join blobs looked up -> bindings kept -> sealed with the job                  (settle)
//! order to a machine = its plan + the values of just the secrets it names                               (JobSecrets)
//! ```
//!
//! Owns the connection of the pure parts with files, store and secrets. Decides nothing about a
//! system: `template` does. Invariant: planning changes nothing and hands nothing out.

mod bindings;
mod crypt;
mod files;
mod first_boot;
mod image_disk;
mod inspection;
mod join;
mod payloads;
mod routes;
mod secrets;
mod signing;
mod values;
mod vault;

pub use files::{Hashes, PartOf};
pub use payloads::missing_files;
pub use routes::api;
pub use values::JobSecrets;
pub use vault::{Vault, VaultError};

use super::context::Console;
use super::jobs::store_error;
use super::master::MasterImage;
use api::{ApiError, DeployRequest, ErrorCode, GivenSecrets, Plan, PlannedTarget, TemplateUse};
use bindings::machine_of;
use jobs::plan::Chosen;
use std::path::Path;
use std::sync::Arc;
use template::bind::Binding;
use template::findings::{Findings, System};
use template::machine::{Files, Machine};
use template::plan::PlanRequest;
use template::schema::{Template, parse};
use template::values::SecretRef;

/// State for templates in a running console.
pub struct Personal {
    /// Encryption of stored secrets.
    pub vault: Vault,
    /// Hashes of the files read so far.
    pub hashes: Arc<Hashes>,
    /// Lock that allows one inspection of an image at a time.
    pub inspecting: tokio::sync::Mutex<()>,
    /// Lock that allows one user of the bindings at a time.
    pub binding: tokio::sync::Mutex<()>,
}

impl Personal {
    /// Opens the state with the key in `data_dir`.
    ///
    /// # Errors
    /// The errors of [`Vault::open`].
    pub fn open(data_dir: &Path) -> Result<Self, VaultError> {
        Ok(Self {
            vault: Vault::open(&data_dir.join("secrets.key"))?,
            hashes: Arc::default(),
            inspecting: tokio::sync::Mutex::default(),
            binding: tokio::sync::Mutex::default(),
        })
    }
}

/// Results of planning that carrying it out needs.
pub struct Personalised {
    template: Template,
    source: TemplateUse,
    findings: Findings,
    bindings: Vec<Binding>,
}

impl Console {
    /// Adds the personal plan of each target. Returns `None` if the request has no template, or one
    /// that changes nothing.
    pub(super) async fn personalise(
        &self,
        request: &DeployRequest,
        image: &Arc<MasterImage>,
        plan: &mut Plan,
    ) -> Result<Option<Personalised>, ApiError> {
        let Some(source) = &request.template else {
            return self.grow_only(request, image, plan).await.map(|()| None);
        };
        let template = read(source)?;
        let part = image.chosen(&request.choice)?;
        let grown = request.grow.and_then(|grow| part.grown(grow));
        if !template.personalises() && grown.is_none() {
            return Ok(None);
        }
        let findings = within(self.inspect(image).await?, &part);
        let (files, mut planned_files) = self.files_of(&template, &source.folder).await?;
        let program = first_boot::find(&findings, &self.settings.data_dir, &self.personal.hashes)?;
        let mut program_used = false;
        let chosen: Vec<usize> = (0..plan.targets.len())
            .filter(|i| plan.targets.get(*i).is_some_and(|t| t.refused.is_none()))
            .collect();
        let mut machines = Vec::new();
        for target in chosen.iter().filter_map(|i| plan.targets.get(*i)) {
            machines.push(self.machine(target)?);
        }
        let bindings = if template.binds() {
            self.bind(&template, source, &machines, &findings, plan)
                .await?
        } else {
            Vec::new()
        };
        self.check_secrets(&template, &source.folder).await?;
        for (at, (index, machine)) in chosen.iter().zip(&machines).enumerate() {
            let mut own = template::plan::plan(&PlanRequest {
                template: &template,
                machine,
                binding: bindings.get(at),
                findings: &findings,
                files: &files,
                grown,
            });
            let payload = program.as_ref().map(|program| &program.payload);
            program_used |= first_boot::complete(&mut own, &findings, payload)?;
            let Some(target) = plan.targets.get_mut(*index) else {
                continue;
            };
            if !own.refused.is_empty() {
                target.refused = Some(own.refused.join("; "));
            }
            target.personal = Some(own);
        }
        join::foresee(&template, source, plan).await?;
        planned_files.extend(program.filter(|_| program_used));
        plan.files = planned_files;
        Ok(Some(Personalised {
            template,
            source: source.clone(),
            findings,
            bindings,
        }))
    }

    /// Adds the plans for `--grow` without a template, which also enlarge the content of the
    /// partition.
    ///
    /// A file in place of a disk is written without privileges, so its file system keeps its size.
    async fn grow_only(
        &self,
        request: &DeployRequest,
        image: &Arc<MasterImage>,
        plan: &mut Plan,
    ) -> Result<(), ApiError> {
        let real = |target: &PlannedTarget| {
            target.refused.is_none() && target.disk.as_ref().is_some_and(|d| !d.file_backed)
        };
        let part = image.chosen(&request.choice)?;
        let grown = request.grow.and_then(|grow| part.grown(grow));
        if grown.is_none() || !plan.targets.iter().any(real) {
            return Ok(());
        }
        let findings = within(self.inspect(image).await?, &part);
        for target in plan.targets.iter_mut().filter(|target| real(target)) {
            target.personal = Some(template::plan::plan(&PlanRequest {
                template: &Template::default(),
                machine: &Machine::default(),
                binding: None,
                findings: &findings,
                files: &Files::default(),
                grown,
            }));
        }
        Ok(())
    }

    /// Refuses a template for an offer if its secrets would have to be typed, since no technician
    /// is present when an offer is taken.
    pub(super) async fn check_offered(&self, source: &TemplateUse) -> Result<(), ApiError> {
        let template = read(source)?;
        for wanted in template.secrets() {
            if matches!(wanted.reference, SecretRef::Env(_) | SecretRef::Ask) {
                let text = format!("{} would have to be typed at each start", wanted.what);
                return Err(ApiError::new(ErrorCode::Refused, text)
                    .hint("keep it with diskcast secret set, and write ref:NAME"));
            }
        }
        self.check_secrets(&template, &source.folder).await
    }

    /// Returns a planned target in the form that templates use.
    fn machine(&self, target: &PlannedTarget) -> Result<Machine, ApiError> {
        let view = self.roster.view(&target.id)?;
        let seed = self.personal.vault.seed(&view.id);
        let machine = machine_of(
            &target.name,
            &view.facts,
            target.disk.as_ref(),
            view.address.as_deref(),
            seed,
        );
        Ok(Machine {
            target: Some(view.id),
            ..machine
        })
    }

    /// Carries out a confirmed plan before the first order: looks up secrets, makes join blobs, and
    /// stores the bindings.
    pub(super) async fn settle(
        &self,
        request: &DeployRequest,
        plan: &Plan,
        personal: Personalised,
    ) -> Result<JobSecrets, ApiError> {
        let method = personal.findings.systems.iter().find_map(|system| {
            let System::Linux(linux) = system else {
                return None;
            };
            linux.encrypt_method.clone()
        });
        let mut secrets = JobSecrets::new(method);
        let Personalised {
            template, source, ..
        } = &personal;
        for use_of in template.secrets() {
            let value = self
                .secret_value(&use_of, &request.secrets, &source.folder)
                .await?;
            secrets.insert(use_of.name, &value);
        }
        self.join_blobs(&personal, plan, &mut secrets).await?;
        self.store
            .save_bindings(personal.bindings)
            .await
            .map_err(|error| store_error(&error))?;
        Ok(secrets)
    }

    /// Stores the secrets of a job for a later console.
    pub(super) async fn keep_secrets(
        &self,
        job: u64,
        secrets: &JobSecrets,
    ) -> Result<(), ApiError> {
        if secrets.is_empty() {
            return Ok(());
        }
        let sealed = secrets
            .seal(&self.personal.vault, job)
            .map_err(|error| ApiError::new(ErrorCode::Unexpected, error.to_string()))?;
        self.store
            .save_job_secrets(job, sealed)
            .await
            .map_err(|error| store_error(&error))
    }

    /// Returns the secrets that an earlier console stored with a job.
    pub(super) async fn secrets_of_job(&self, job: u64) -> Result<JobSecrets, String> {
        let sealed = self.store.job_secrets(job).await;
        match sealed.map_err(|error| error.to_string())? {
            None => Ok(JobSecrets::default()),
            Some(sealed) => JobSecrets::unseal(&self.personal.vault, job, &sealed)
                .map_err(|error| error.to_string()),
        }
    }

    /// Returns the secrets of a job as given values for its retry; none if they cannot be read.
    pub(super) async fn given_to_job(&self, job: u64) -> GivenSecrets {
        match self.secrets_of_job(job).await {
            Ok(secrets) => secrets.given(),
            Err(reason) => {
                tracing::warn!(job, reason, "secrets of the job are not there any more");
                GivenSecrets::default()
            }
        }
    }
}

fn read(source: &TemplateUse) -> Result<Template, ApiError> {
    parse(&source.text).map_err(|mistakes| {
        let list: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        let text = format!("template {}: {}", source.name, list.join("; "));
        ApiError::new(ErrorCode::Usage, text)
    })
}

/// Removes the findings of partitions that are left out.
fn within(mut findings: Findings, chosen: &Chosen) -> Findings {
    findings
        .partitions
        .retain(|found| chosen.holds(found.number));
    findings.systems.retain(|system| {
        chosen.holds(match system {
            System::Windows(windows) => windows.partition,
            System::Linux(linux) => linux.partition,
        })
    });
    findings
}
