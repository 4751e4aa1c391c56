//! Machines that come after a job was confirmed.
//!
//! Invariant: none of them joins without a confirmation. A newcomer waits, with the reason, until a
//! technician has seen its disk and confirms it (`job add`). With `--also-new` the job's
//! confirmation covers a machine whose disk is blank, and it joins; with anything on the disk it
//! waits like the others. The order to its agent also requires a blank disk, and the agent checks
//! that again.

use super::JobRun;
use crate::job::{Addition, ConfirmedBy};
use crate::jobs::store_error;
use crate::personal::JobSecrets;
use api::{ApiError, ErrorCode, JobState, Newcomer, Plan, PlannedTarget};
use facts::look;
use facts::target::TargetState;
use jobs::plan;
use jobs::row::JobTargetRow;
use jobs::run::place::Place;
use std::sync::Arc;

/// State of a machine with a blank disk that `--also-new` matches.
pub(super) enum ByRule {
    /// Its plan is being made.
    Planned,
    /// It could not be added; the reason.
    Refused(String),
}

impl JobRun {
    /// Finds connected machines that match and were not confirmed.
    pub(super) async fn look_for_newcomers(&mut self) {
        let mut waiting = Vec::new();
        let unconfirmed = self.unconfirmed();
        // A machine that has gone is examined again when it comes back.
        self.by_rule.retain(|id, state| {
            matches!(state, ByRule::Planned) || unconfirmed.iter().any(|one| one.id == *id)
        });
        for target in unconfirmed {
            let Some(disk) = target.disk.as_ref() else {
                continue;
            };
            let why = match self.by_rule.get(&target.id) {
                _ if !self.core.row.request.also_new => "it came after the confirmation",
                Some(ByRule::Planned) => continue,
                Some(ByRule::Refused(reason)) => reason,
                None if disk.blank => {
                    self.take_by_rule(target.id);
                    continue;
                }
                None => "its disk is not blank",
            };
            let (id, name) = (&self.core.id_text, &target.name);
            waiting.push(Newcomer {
                id: target.id.clone(),
                name: name.clone(),
                disk: disk.title(),
                contents: look::contents(disk),
                reason: format!(
                    "waits for confirmation: {why}; diskcast job add {id} --targets {name} confirms it"
                ),
            });
        }
        if waiting == self.newcomers {
            return;
        }
        let news: Vec<String> = waiting
            .iter()
            .filter(|one| !self.newcomers.iter().any(|known| known.id == one.id))
            .map(|one| {
                format!(
                    "{} {} ({}: {})",
                    one.name, one.reason, one.disk, one.contents
                )
            })
            .collect();
        self.newcomers = waiting;
        news.into_iter().for_each(|line| self.core.log(line));
        self.show_progress();
    }

    /// Plans a machine that `--also-new` matches; the plan arrives as an [`Addition`].
    ///
    /// A task of its own does this, because a template may request an account from the domain.
    fn take_by_rule(&mut self, id: String) {
        let Some(handle) = self.core.console.jobs.handle(self.core.id) else {
            return;
        };
        self.by_rule.insert(id.clone(), ByRule::Planned);
        let console = Arc::clone(&self.core.console);
        tokio::spawn(async move { console.add_by_rule(handle, id).await });
    }

    /// Records why a machine was not added; it waits like the others.
    pub(super) fn not_added(&mut self, target: String, reason: String) {
        self.by_rule.insert(target, ByRule::Refused(reason));
    }

    /// Updates the view and sends it to watchers.
    pub(super) fn show_progress(&self) {
        self.show();
        self.core.publish_progress();
    }

    /// Returns the plans of connected machines that match, could take the image, and are not in the
    /// job.
    fn unconfirmed(&self) -> Vec<PlannedTarget> {
        let Ok(image) = self.image.chosen(&self.core.row.request.choice) else {
            return Vec::new();
        };
        let candidates: Vec<_> = self
            .core
            .console
            .roster
            .candidates()
            .into_iter()
            .filter(|candidate| {
                candidate.view.connected && !self.index.contains_key(&candidate.view.id)
            })
            .collect();
        let plan = plan::make(&self.core.row.request, &image, &candidates, None);
        let targets = plan.map(|plan| plan.targets).unwrap_or_default();
        targets
            .into_iter()
            .filter(|target| target.refused.is_none())
            .collect()
    }

    /// Adds confirmed targets to the job.
    pub(super) async fn add(&mut self, addition: Addition) -> Result<(), ApiError> {
        let open = self.is_before_start() || self.core.state == JobState::Running;
        if self.core.cancelled || !open {
            return Err(ApiError::new(
                ErrorCode::Refused,
                format!("job {} takes no more targets", self.core.id),
            ));
        }
        let targets = &addition.targets;
        if let Some(known) = targets.iter().find(|one| self.index.contains_key(&one.id)) {
            return Err(ApiError::new(
                ErrorCode::Refused,
                format!("{} is in job {} already", known.name, self.core.id),
            ));
        }
        let ids: Vec<String> = targets.iter().map(|target| target.id.clone()).collect();
        let roster = &self.core.console.roster;
        roster.claim(&self.core.id_text, &ids, TargetState::Ready)?;
        if let Err(error) = self.extend(&addition).await {
            let roster = &self.core.console.roster;
            ids.iter()
                .for_each(|id| roster.release(id, &self.core.id_text));
            return Err(error);
        }
        for target in &addition.targets {
            self.admit(target, addition.by).await;
        }
        self.show_progress();
        Ok(())
    }

    /// Adds the new targets to the plan and the secrets of the job, and stores both, because the
    /// next console needs them to personalize the targets.
    async fn extend(&self, addition: &Addition) -> Result<(), ApiError> {
        let mut plan = Plan::clone(&self.core.shared.plan());
        plan.targets.extend_from_slice(&addition.targets);
        plan.targets
            .sort_by(|a, b| a.name.cmp(&b.name).then_with(|| a.id.cmp(&b.id)));
        for file in &addition.files {
            if plan.file(&file.payload.blake3).is_none() {
                plan.files.push(file.clone());
            }
        }
        let mut secrets = JobSecrets::clone(&self.core.shared.secrets());
        secrets.add(&addition.secrets);
        self.core
            .console
            .keep_secrets(self.core.id, &secrets)
            .await?;
        let stored = self
            .core
            .console
            .store
            .save_plan(self.core.id, plan.clone())
            .await;
        stored.map_err(|error| store_error(&error))?;
        self.core.shared.confirm(plan, secrets);
        Ok(())
    }

    /// Gives a claimed target its place in the job, with the disk that was confirmed.
    async fn admit(&mut self, target: &PlannedTarget, by: ConfirmedBy) {
        let total = self.core.shared.plan().image.used_bytes;
        let mut row = JobTargetRow::planned(target, total);
        row.view.state = TargetState::Ready;
        let i = self.places.len();
        self.index.insert(target.id.clone(), i);
        self.places.push(Place::new(row));
        self.newcomers.retain(|one| one.id != target.id);
        self.by_rule.remove(&target.id);
        let own = target.personal.as_ref();
        let own = own.and_then(|plan| plan.hostname.as_ref());
        let own = own.map(|name| format!(" as {name}")).unwrap_or_default();
        let disk = target
            .disk
            .as_ref()
            .map(api::confirm::shown)
            .unwrap_or_default();
        let (name, rule) = (&target.name, &self.core.row.request.targets);
        self.core.log(match by {
            ConfirmedBy::Technician => {
                format!("{name} joins{own}: confirmed by a technician, {disk}")
            }
            ConfirmedBy::Rule => format!(
                "{name} joins{own} with a blank disk, as --also-new said: it matches {rule}"
            ),
        });
        self.changed(i).await;
        if self.core.state == JobState::Running {
            self.order(i, None).await;
        }
    }
}
