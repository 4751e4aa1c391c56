//! Adding targets to a job that was made: they are planned and confirmed like those it began with.

use super::api::{
    AddPlan, AddRequest, ApiError, DeployRequest, ErrorCode, JobView, Plan, StartRule,
};
use super::confirm;
use super::context::Console;
use super::job::{Input, JobHandle};
use super::plan;
use std::sync::Arc;
use tokio::sync::oneshot;

impl Console {
    /// Plans the addition of these targets to a job; changes nothing.
    ///
    /// # Errors
    /// `Refused` for a job that is over, a capture, and one whose template makes each machine itself.
    pub async fn plan_add(&self, id: u64, asked: AddPlan) -> Result<Plan, ApiError> {
        let handle = self.open_job(id).await?;
        self.plan_of_added(&handle, asked.targets).await
    }

    /// Adds targets to a job, when the plan still comes to the ones, and to the disks, that were confirmed.
    ///
    /// # Errors
    /// The errors of [`Self::plan_add`]; `Refused` also when the plan has changed since it was confirmed.
    pub async fn add_to_job(&self, id: u64, asked: AddRequest) -> Result<JobView, ApiError> {
        let handle = self.open_job(id).await?;
        let plan = self.plan_of_added(&handle, asked.targets).await?;
        confirm::check(&plan, &asked.expect_targets, &asked.expect_disks)?;
        let targets = plan
            .targets
            .into_iter()
            .filter(|target| target.refused.is_none())
            .collect();
        let over = || ApiError::new(ErrorCode::Refused, format!("job {id} is over"));
        let (answer, answered) = oneshot::channel();
        handle
            .inputs
            .send(Input::Add(targets, answer))
            .await
            .map_err(|_| over())?;
        answered.await.map_err(|_| over())??;
        Ok(handle.shared.view())
    }

    async fn open_job(&self, id: u64) -> Result<JobHandle, ApiError> {
        match self.jobs.handle(id) {
            Some(handle) => Ok(handle),
            None => {
                // Says so when there is no such job at all.
                self.job_row(id).await?;
                Err(ApiError::new(
                    ErrorCode::Refused,
                    format!("job {id} is over"),
                ))
            }
        }
    }

    async fn plan_of_added(&self, handle: &JobHandle, targets: String) -> Result<Plan, ApiError> {
        let shared = Arc::clone(&handle.shared);
        let id = shared.id;
        let Some(image) = shared.image() else {
            return Err(ApiError::new(
                ErrorCode::Refused,
                format!("job {id} is a capture: it has one target"),
            ));
        };
        let asked = &shared.plan.request;
        if let Some(template) = &asked.template
            && shared.plan.targets.iter().any(|one| one.personal.is_some())
        {
            let name = &template.name;
            return Err(ApiError::new(
                ErrorCode::Refused,
                format!("job {id} makes each machine itself by template {name}, and has no name for others"),
            )
            .hint(format!(
                "give them a job of their own: diskcast deploy --template {name} --targets {targets}"
            )));
        }
        let request = DeployRequest {
            targets,
            also_new: false,
            // They are confirmed as they are now: who is not connected cannot be.
            start: StartRule::Now,
            ..asked.clone()
        };
        let fresh = self.refresh_facts(&request.targets).await;
        let here = shared.view().targets;
        let mut candidates = self.roster.candidates();
        candidates.retain(|candidate| here.iter().all(|place| place.id != candidate.view.id));
        let part = image.chosen(&request.choice)?;
        let mut plan = plan::make(&request, &part, &candidates, None)?;
        self.date_facts(&mut plan, &fresh);
        Ok(plan)
    }
}
