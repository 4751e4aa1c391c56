//! Machines that come after a job was confirmed.
//!
//! Invariant: none of them is let in by itself. It waits, with the reason, until a technician has seen its disk and
//! confirms it (`job add`). Where the confirmation itself named the rule (`--also-new`), a machine joins when its disk is blank:
//! with anything on it, it waits like the others. The order to its agent says `blank` too, and the agent looks again.

use super::JobRun;
use crate::console::api::{ApiError, ErrorCode, Event, JobState, Newcomer, PlannedTarget};
use crate::console::confirm;
use crate::console::job::place::Place;
use crate::console::jobs::place_row;
use crate::console::plan;
use crate::look;
use crate::target::TargetState;

impl JobRun {
    /// Looks who is there that matches and was not confirmed.
    pub(super) async fn look_for_newcomers(&mut self) {
        let mut waiting = Vec::new();
        for target in self.unconfirmed() {
            let Some(disk) = target.disk.as_ref() else {
                continue;
            };
            if self.row.request.also_new && disk.blank && self.admit(&target).is_ok() {
                let (name, rule) = (target.name.clone(), self.row.request.targets.clone());
                self.log(format!(
                    "{name} joins with a blank disk, as --also-new said: it matches {rule}"
                ));
                self.changed(self.places.len() - 1).await;
                continue;
            }
            let why = if self.row.request.also_new {
                "its disk is not blank"
            } else {
                "it came after the confirmation"
            };
            let (id, name) = (&self.id_text, &target.name);
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
        news.into_iter().for_each(|line| self.log(line));
        self.show();
        self.shared.events.publish(Event::Progress {
            job: self.id_text.clone(),
            view: Box::new(self.shared.view()),
        });
    }

    /// Machines that are there, match, could take the image, and are not in the job.
    fn unconfirmed(&self) -> Vec<PlannedTarget> {
        let Ok(image) = self.image.chosen(&self.row.request.choice) else {
            return Vec::new();
        };
        let candidates: Vec<_> = self
            .console
            .roster
            .candidates()
            .into_iter()
            .filter(|candidate| {
                candidate.view.connected && !self.index.contains_key(&candidate.view.id)
            })
            .collect();
        let plan = plan::make(&self.row.request, &image, &candidates, None);
        let targets = plan.map(|plan| plan.targets).unwrap_or_default();
        targets
            .into_iter()
            .filter(|target| target.refused.is_none())
            .collect()
    }

    /// Takes a target into the job. What it holds of its disk is what was seen.
    fn admit(&mut self, target: &PlannedTarget) -> Result<(), ApiError> {
        self.console.roster.claim(
            &self.id_text,
            std::slice::from_ref(&target.id),
            TargetState::Ready,
        )?;
        let total = self.shared.plan.image.used_bytes;
        let mut row = place_row(target, total);
        row.view.state = TargetState::Ready;
        self.index.insert(target.id.clone(), self.places.len());
        self.places.push(Place::new(row));
        Ok(())
    }

    /// A technician confirmed these targets.
    pub(super) async fn add(&mut self, targets: Vec<PlannedTarget>) -> Result<(), ApiError> {
        let open = self.is_before_start() || self.state == JobState::Running;
        if self.cancelled || !open {
            return Err(ApiError::new(
                ErrorCode::Refused,
                format!("job {} takes no more targets", self.id),
            ));
        }
        if let Some(known) = targets.iter().find(|one| self.index.contains_key(&one.id)) {
            return Err(ApiError::new(
                ErrorCode::Refused,
                format!("{} is in job {} already", known.name, self.id),
            ));
        }
        for target in targets {
            self.admit(&target)?;
            let i = self.places.len() - 1;
            let disk = target.disk.as_ref().map(confirm::shown).unwrap_or_default();
            self.newcomers.retain(|one| one.id != target.id);
            self.log(format!(
                "{} joins: confirmed by a technician, {disk}",
                target.name
            ));
            self.changed(i).await;
            if self.state == JobState::Running {
                self.order(i, None).await;
            }
        }
        Ok(())
    }
}
