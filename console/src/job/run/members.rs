//! The targets of a running job: orders, reconnects, outcomes, and losses.

use super::{JobRun, receiver};
use crate::job::order::{Member, Session};
use crate::time::now_text;
use api::JobState;
use facts::disk_rule::titles;
use facts::look::Look;
use facts::same_disk::same_disk;
use facts::target::{DiskFacts, TargetState};
use jobs::run::connect::{self, Answer, Claim};
use jobs::run::patience::{self, Limits, Overdue};
use jobs::run::place::{Heard, Leave};
use protocol::control::{ConsoleMessage, Outcome};
use template::first_start::FirstStart;
use template::step::MachinePlan;

impl JobRun {
    /// Sends a target its order. `resumed` is the state in which it continues after a reconnect.
    pub(super) async fn order(&mut self, i: usize, resumed: Option<TargetState>) {
        if let Some(text) = self.session_view.damage.clone() {
            return self.end(i, TargetState::Failed, &text).await;
        }
        let now = self.core.now();
        let id = self.places[i].id().to_owned();
        let Some((link, instance, held)) = self.core.console.roster.connection(&id) else {
            self.places[i].gone_since.get_or_insert(now);
            return;
        };
        let (disk, look) = match self.disk_of(i, resumed.is_some()) {
            Ok(found) => found,
            Err(reason) => return self.end(i, TargetState::Failed, &reason).await,
        };
        let Some(session) = &self.session else { return };
        let receivers = self.places.iter().filter(|place| !place.is_final()).count();
        let (plan, secrets) = (self.core.shared.plan(), self.core.shared.secrets());
        let report = |plan: &MachinePlan| FirstStart {
            consoles: plan.consoles.clone(),
            job: self.core.id,
            target: id.clone(),
            key: self.core.console.personal.vault.report_key(
                self.core.id,
                &self.core.row.created,
                &id,
            ),
        };
        let apply = match plan
            .personal(&id)
            .map(|plan| secrets.order(&id, plan, || report(plan)))
            .transpose()
        {
            Ok(apply) => apply,
            Err(reason) => return self.end(i, TargetState::Failed, &reason).await,
        };
        let member = Member {
            job: self.core.id,
            place: i,
            disk: &disk,
            look,
            bulk_port: self.core.console.settings.bulk_port,
            receivers,
            grow: self.core.row.request.grow,
            choice: self.core.row.request.choice.clone(),
            reuse: self.core.row.request.reuse,
            apply,
        };
        let (order, secret) = match session.order(&self.image, member) {
            Ok(order) => order,
            Err(reason) => return self.end(i, TargetState::Failed, &reason).await,
        };
        if let Some(other) = held.filter(|held| *held != self.core.id_text) {
            let reason = format!("job {} takes its place", self.core.id);
            link.send(ConsoleMessage::Cancel { job: other, reason });
        }
        self.core.shared.set_token(i, &secret);
        let place = &mut self.places[i];
        place.row.instance = Some(instance);
        place.began.get_or_insert(now);
        place.stall.begin(now);
        place.ordered = link.send(ConsoleMessage::Order(Box::new(order)));
        place.gone_since = if place.ordered { None } else { Some(now) };
        place.row.view.state = resumed.unwrap_or(TargetState::Joined);
        place.row.view.disk_now = None;
        if place.ordered
            && let Some(sending) = session.sending()
        {
            sending.add_receiver(receiver(i));
            place.deaf = false;
        }
        self.changed(i).await;
    }

    /// Returns the confirmed disk and its permitted contents, if the machine still reports that
    /// disk in that state.
    ///
    /// A target that resumes is not checked here: its agent knows the disk better, and looks at it
    /// again in any case.
    pub(super) fn disk_of(&self, i: usize, resumed: bool) -> Result<(DiskFacts, Look), String> {
        let place = &self.places[i];
        let disk = place.row.disk.clone().ok_or("the plan names no disk")?;
        let view = self
            .core
            .console
            .roster
            .view(place.id())
            .map_err(|error| error.message)?;
        let look = match &place.row.instance {
            None => Look::planned(&disk),
            // It had an order before, so the former contents of its disk may be gone.
            Some(_) => Look::Resumed {
                partitions: disk.partitions.clone(),
                image: self.image.partitions(),
            },
        };
        if resumed {
            return Ok((disk, look));
        }
        if let Some(now) = same_disk(&view.facts.disks, (&disk).into()) {
            return match look.refusal(now) {
                None => Ok((now.clone(), look)),
                Some(reason) => Err(reason),
            };
        }
        let has = titles(&view.facts.disks);
        Err(format!(
            "the disk that was confirmed ({}) is not there any more; the machine has: {has}",
            disk.title()
        ))
    }

    pub(super) async fn connected(&mut self, target: &str, claim: Claim) {
        let Some(&i) = self.index.get(target) else {
            if claim.unfinished.is_some() {
                self.core.refuse(target, "this target is not in the job");
            }
            return;
        };
        if self.is_before_start() {
            return;
        }
        if claim.may_be_ordered(&self.places[i]) && !self.may_order().await {
            return self.wait_for_image(i, target, claim).await;
        }
        match connect::connected(&mut self.places[i], claim, &self.core.row.root) {
            Answer::Nothing => {}
            Answer::Outcome(outcome) => self.outcome(i, *outcome).await,
            Answer::Recorded => self.recorded(i),
            Answer::Refuse(reason) => self.core.refuse(target, &reason),
            Answer::End {
                refuse,
                state,
                reason,
            } => {
                if let Some(refusal) = refuse {
                    self.core.refuse(target, &refusal);
                }
                self.end(i, state, &reason).await;
            }
            Answer::Order => {
                if self.have_session().await {
                    self.order(i, None).await;
                }
            }
            Answer::Resume(state) => self.resume(i, state).await,
            Answer::Restart => self.restarted(i).await,
        }
    }

    /// Orders a target whose machine restarted and holds nothing of the job; it requests only the
    /// chunks that its disk lacks.
    ///
    /// Applies also to a target that became lost meanwhile, since booting takes longer than the
    /// limit for a lost connection.
    async fn restarted(&mut self, i: usize) {
        let id = self.places[i].id().to_owned();
        let claimed = self.core.console.roster.claim(
            &self.core.id_text,
            std::slice::from_ref(&id),
            TargetState::Joined,
        );
        if claimed.is_err() || !self.have_session().await {
            return;
        }
        self.places[i].restarts += 1;
        self.places[i].row.view.reason = None;
        self.places[i].row.view.step = None;
        let name = self.places[i].name().to_owned();
        self.core.log(format!(
            "{name} was started again; it goes on with what its disk holds"
        ));
        self.order(i, None).await;
    }

    /// Resumes a target in the state that it reports, even if it had become lost, as long as the
    /// job runs.
    pub(super) async fn resume(&mut self, i: usize, state: TargetState) {
        let id = self.places[i].id().to_owned();
        if self
            .core
            .console
            .roster
            .claim(&self.core.id_text, std::slice::from_ref(&id), state)
            .is_err()
        {
            return self.core.refuse(&id, "the target is in another job now");
        }
        if !self.have_session().await {
            return;
        }
        let name = self.places[i].name().to_owned();
        self.places[i].row.view.reason = None;
        self.core.log(format!("{name} is back"));
        self.order(i, Some(state)).await;
    }

    /// Returns true if a session is open. After a restart of the console, opens one for the first
    /// target that needs it.
    pub(super) async fn have_session(&mut self) -> bool {
        if self.session.is_some() {
            return true;
        }
        self.core.state = JobState::Running;
        self.begun_at = self.core.now();
        self.core.started.get_or_insert_with(now_text);
        self.store_job().await;
        self.open_session().await
    }

    pub(super) fn disconnected(&mut self, target: &str) {
        let now = self.core.now();
        if let Some(&i) = self.index.get(target)
            && !self.places[i].is_final()
            && !self.is_before_start()
            // The message of a reconnect may arrive before the message of the disconnect.
            && self.core.console.roster.connection(target).is_none()
        {
            self.places[i].gone(now);
            // The session must not wait for it; after a reconnect it reports its missing blocks
            // again.
            if let Some(sending) = self.session.as_ref().and_then(Session::sending) {
                sending.remove_receiver(receiver(i));
            }
        }
    }

    /// Ends the targets that have exceeded a limit of time, and the job if it has exceeded its own.
    pub(super) async fn look_at_limits(&mut self) {
        let now = self.core.now();
        let patience = self.core.console.settings.patience;
        let limits = Limits {
            back_within: self.grace,
            answer_within: patience.answer_within,
            progress_within: patience::stall_limit(&self.core.row.request),
        };
        let others_work = patience::any_works(&self.places);
        for i in 0..self.places.len() {
            match self.places[i].overdue(now, &limits, others_work) {
                None => {}
                Some(Overdue::Lost(reason)) => self.end(i, TargetState::Lost, &reason).await,
                Some(Overdue::Stalled(reason)) => {
                    // If its agent recovers, it leaves the job, and its outcome is recorded then.
                    self.core.refuse(self.places[i].id(), &reason);
                    self.end(i, TargetState::Failed, &reason).await;
                }
            }
        }
        if now > patience.recover_after {
            self.grace = patience.lost_after;
        }
        let running = self.core.now().saturating_sub(self.begun_at);
        if let Some(reason) = patience::time_limit(&self.core.row.request, running) {
            for i in 0..self.places.len() {
                if self.places[i].ends_with_time() {
                    self.ask_to_leave(i, TargetState::Failed, &reason).await;
                }
            }
        }
    }

    /// Sends an agent `recorded`.
    pub(super) fn recorded(&self, i: usize) {
        let place = &self.places[i];
        self.core.recorded(place.id(), place.state());
    }

    pub(super) async fn outcome(&mut self, i: usize, outcome: Outcome) {
        let root = self.core.shared.plan().image.proof_root().to_owned();
        match self.places[i].hear(outcome, &root) {
            Heard::Owed => return,
            Heard::Again => return self.recorded(i),
            Heard::News => {}
        }
        let row = self.places[i].row.clone();
        match self
            .core
            .console
            .store
            .save_job_target(self.core.id, i, row)
            .await
        {
            Ok(()) => self.recorded(i),
            // The agent keeps its outcome until it is stored.
            Err(error) => {
                self.places[i].owed = true;
                self.core.log(format!(
                    "{}: the result could not be stored, which is tried again: {error}",
                    self.places[i].name()
                ));
            }
        }
        self.announce(i);
        self.left(i);
    }

    /// Stores outcomes whose first write failed, and sends `recorded` to their agents.
    pub(super) async fn store_again(&mut self) {
        for i in 0..self.places.len() {
            if !self.places[i].owed {
                continue;
            }
            let row = self.places[i].row.clone();
            if self
                .core
                .console
                .store
                .save_job_target(self.core.id, i, row)
                .await
                .is_ok()
            {
                self.places[i].owed = false;
                self.recorded(i);
            }
        }
    }

    /// Takes a place out of the job. A working agent is asked to leave and reports the state of its
    /// disk; any other place ends at once.
    pub(super) async fn ask_to_leave(&mut self, i: usize, state: TargetState, reason: &str) {
        let now = self.core.now();
        match self.places[i].leave(now, state, reason) {
            Leave::Nothing => return,
            Leave::End => {
                // An agent that came back with this job waits for an order that it will not get.
                let id = self.places[i].id().to_owned();
                let connection = self.core.console.roster.connection(&id);
                if connection.is_some_and(|(_, _, held)| held.as_ref() == Some(&self.core.id_text))
                {
                    self.core.refuse(&id, reason);
                }
                return self.end(i, state, reason).await;
            }
            Leave::Ask => {}
        }
        self.core.refuse(self.places[i].id(), reason);
        if let Some(sending) = self.session.as_ref().and_then(Session::sending) {
            sending.remove_receiver(receiver(i));
        }
        self.changed(i).await;
    }

    /// Ends a place without an outcome from its agent.
    pub(super) async fn end(&mut self, i: usize, state: TargetState, reason: &str) {
        if self.places[i].is_final() {
            return;
        }
        let now = self.core.now();
        self.places[i].end(now, state, reason);
        self.changed(i).await;
        self.left(i);
    }

    /// Releases the resources of a final place: token, session membership, and roster claim.
    pub(super) fn left(&mut self, i: usize) {
        let place = &mut self.places[i];
        place.ordered = false;
        self.core.shared.drop_token(i);
        if let Some(sending) = self.session.as_ref().and_then(Session::sending) {
            sending.remove_receiver(receiver(i));
        }
        self.core
            .console
            .roster
            .release(self.places[i].id(), &self.core.id_text);
    }
}
