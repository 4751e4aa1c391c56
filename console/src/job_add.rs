//! Adding targets to an existing job: they are planned and confirmed like its first ones.
//!
//! Invariant: a machine joins only if the job's template can personalise it, with a name and an
//! address of its own where the template gives them.

use super::context::Console;
use super::job::{Addition, ConfirmedBy, Input, JobHandle};
use super::personal::{JobSecrets, Personalised};
use api::{AddPlan, AddRequest, ApiError, DeployRequest, ErrorCode, JobView, Plan, StartRule};
use jobs::confirm;
use jobs::plan;
use tokio::sync::oneshot;

/// A plan of targets that would join a job, and the data to carry it out.
struct Planned {
    request: DeployRequest,
    plan: Plan,
    personal: Option<Personalised>,
}

impl Console {
    /// Plans the addition of these targets to a job; changes nothing.
    ///
    /// # Errors
    /// `Refused` for an ended job or a capture, for faults of the template, and if it has no names
    /// left.
    pub async fn plan_add(&self, id: u64, asked: AddPlan) -> Result<Plan, ApiError> {
        let handle = self.open_job(id).await?;
        let planned = self.plan_of_added(&handle, asked.targets).await?;
        Ok(planned.plan)
    }

    /// Adds targets to a job if the plan still has the confirmed targets and disks.
    ///
    /// # Errors
    /// The errors of [`Self::plan_add`]; `Refused` also if the plan has changed since its
    /// confirmation.
    pub async fn add_to_job(&self, id: u64, asked: AddRequest) -> Result<JobView, ApiError> {
        let handle = self.open_job(id).await?;
        let _turn = self.personal.binding.lock().await;
        let planned = self.plan_of_added(&handle, asked.targets).await?;
        confirm::check(&planned.plan, &asked.expect_targets, &asked.expect_disks)?;
        self.join(&handle, planned, ConfirmedBy::Technician).await?;
        Ok(handle.shared.view())
    }

    /// Adds a machine that `--also-new` matches, if its disk is blank. On failure the job gets the
    /// reason.
    pub(super) async fn add_by_rule(&self, handle: JobHandle, target: String) {
        let added = async {
            let _turn = self.personal.binding.lock().await;
            let planned = self.plan_of_added(&handle, format!("id:{target}")).await?;
            if let Some(reason) = planned.plan.targets.iter().find_map(|one| {
                let blank = one.disk.as_ref().is_some_and(|disk| disk.blank);
                let refused = one.refused.clone();
                refused.or_else(|| (!blank).then(|| "its disk is not blank".to_owned()))
            }) {
                return Err(ApiError::new(ErrorCode::Refused, reason));
            }
            self.join(&handle, planned, ConfirmedBy::Rule).await
        };
        if let Err(error) = added.await {
            let reason = error.message;
            // A job that has ended needs no answer.
            let _ = handle.inputs.send(Input::NotAdded { target, reason }).await;
        }
    }

    /// Carries out the plan and passes the targets to the job.
    async fn join(
        &self,
        handle: &JobHandle,
        planned: Planned,
        by: ConfirmedBy,
    ) -> Result<(), ApiError> {
        let Planned {
            mut request,
            plan,
            personal,
        } = planned;
        // Values that a person gave for the job are used again.
        request.secrets = handle.shared.secrets().given();
        let secrets = match personal {
            Some(personal) => self.settle(&request, &plan, personal).await?,
            None => JobSecrets::default(),
        };
        let addition = Addition {
            by,
            targets: plan
                .targets
                .into_iter()
                .filter(|target| target.refused.is_none())
                .collect(),
            files: plan.files,
            secrets,
        };
        let id = handle.shared.id;
        let (answer, answered) = oneshot::channel();
        handle
            .inputs
            .send(Input::Add(Box::new(addition), answer))
            .await
            .map_err(|_| over(id))?;
        answered.await.map_err(|_| over(id))?
    }

    async fn open_job(&self, id: u64) -> Result<JobHandle, ApiError> {
        match self.jobs.handle(id) {
            Some(handle) => Ok(handle),
            None => {
                // Returns the error for an unknown job.
                self.job_row(id).await?;
                Err(over(id))
            }
        }
    }

    async fn plan_of_added(
        &self,
        handle: &JobHandle,
        targets: String,
    ) -> Result<Planned, ApiError> {
        let shared = &handle.shared;
        let Some(image) = shared.image() else {
            return Err(ApiError::new(
                ErrorCode::Refused,
                format!("job {} is a capture: it has one target", shared.id),
            ));
        };
        let request = DeployRequest {
            targets,
            also_new: false,
            // Their present disks are confirmed, so unconnected targets are refused.
            start: StartRule::Now,
            ..shared.plan().request.clone()
        };
        let fresh = self.refresh_facts(&request.targets).await;
        let here = shared.view().targets;
        let mut candidates = self.roster.candidates();
        candidates.retain(|candidate| here.iter().all(|place| place.id != candidate.view.id));
        let part = image.chosen(&request.choice)?;
        let mut plan = plan::make(&request, &part, &candidates, None)?;
        self.refuse_untrusted(image, &mut plan);
        self.date_facts(&mut plan, &fresh);
        let personal = self.personalise(&request, image, &mut plan).await?;
        Ok(Planned {
            request,
            plan,
            personal,
        })
    }
}

fn over(id: u64) -> ApiError {
    ApiError::new(ErrorCode::Refused, format!("job {id} is over"))
}
