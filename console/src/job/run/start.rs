//! A job before its session: start rules and the start itself.

use super::JobRun;
use crate::job::order::Session;
use crate::time::{now, now_text};
use api::{ApiError, DeployRequest, ErrorCode, JobState, StartRequest, StartRule};
use facts::target::TargetState;
use facts::units;
use jobs::confirm;
use jobs::run::course::{self, Start};
use jobs::run::place::Place;
use jobs::run::stall::in_words;
use jobs::schedule::window_of;

impl JobRun {
    pub(super) async fn wait(&mut self) {
        for i in 0..self.places.len() {
            let connected = self
                .core
                .console
                .roster
                .connection(self.places[i].id())
                .is_some();
            let state = if connected {
                TargetState::Ready
            } else {
                TargetState::Discovered
            };
            if !self.places[i].is_final() && self.places[i].state() != state {
                self.places[i].row.view.state = state;
                self.changed(i).await;
            }
        }
        // Once a second is often enough to notice a machine that was switched on.
        if self.core.ticks.is_multiple_of(4) {
            self.look_for_newcomers().await;
        }
        let request = &self.core.row.request;
        let (state, now) = (self.core.state, now());
        let decided = course::start(request, state, &self.places, self.start_asked, now);
        let (at, window) = (planned(request).to_owned(), in_words(window_of(request)));
        match decided {
            Start::Wait => {}
            Start::Begin { late } => {
                if let Some(late) = late {
                    self.core.log(format!(
                        "begins {} late: the console did not run at {at}, by its clock ({}), and may begin the job within {window}",
                        units::span(late.as_secs_f64()),
                        now_text()
                    ));
                }
                self.begin().await;
            }
            Start::Miss => {
                let id = self.core.id;
                self.core.log(format!(
                    "missed: {at} passed more than {window} ago by the console's clock ({}) and the job had not begun; \
                     nothing was touched, and diskcast job start {id} starts it now",
                    now_text()
                ));
                self.becomes(JobState::Missed).await;
            }
            Start::WaitAgain => {
                self.core.log(format!(
                    "the console's clock was put right ({}): the job waits for {at}",
                    now_text()
                ));
                self.becomes(JobState::Waiting).await;
            }
        }
    }

    async fn becomes(&mut self, state: JobState) {
        self.core.state = state;
        self.store_job().await;
        self.show_progress();
    }

    pub(super) async fn start_by_hand(&mut self, confirmed: &StartRequest) -> Result<(), ApiError> {
        if !self.is_before_start() {
            let message = format!("job {} is not waiting for its start", self.core.id);
            return Err(ApiError::new(ErrorCode::Refused, message));
        }
        if self.core.state == JobState::Missed {
            let rows = self.places.iter().map(|place| &place.row);
            confirm::check_missed(self.core.id, rows, confirmed)?;
        }
        let ready = |place: &Place| {
            !place.is_final() && self.core.console.roster.connection(place.id()).is_some()
        };
        if !self.places.iter().any(ready) {
            return Err(ApiError::new(
                ErrorCode::Refused,
                format!("no target of job {} is ready", self.core.id),
            )
            .hint("diskcast target list shows who is connected"));
        }
        self.begin().await;
        Ok(())
    }

    /// Starts the session with every connected target. A target of the plan that comes later still
    /// joins.
    pub(super) async fn begin(&mut self) {
        self.start_asked = true;
        if !self.may_order().await {
            return;
        }
        self.core.state = JobState::Running;
        self.begun_at = self.core.now();
        self.newcomers.clear();
        self.core.started = Some(now_text());
        self.store_job().await;
        if !self.open_session().await {
            return;
        }
        // The confirmation may be old, so the present contents of the disks are read before any
        // order to write.
        let ids: Vec<String> = self
            .places
            .iter()
            .filter(|place| !place.is_final())
            .map(|place| place.id().to_owned())
            .collect();
        self.core.console.renew_facts(&ids).await;
        for i in 0..self.places.len() {
            if !self.places[i].is_final() {
                self.order(i, None).await;
            }
        }
    }

    /// Opens the session. Returns false after a failure, which fails all targets.
    pub(super) async fn open_session(&mut self) -> bool {
        let roster = &self.core.console.roster;
        let facts: Vec<_> = self
            .places
            .iter()
            .filter_map(|place| roster.view(place.id()).ok())
            .map(|view| view.facts)
            .collect();
        match Session::open(
            &self.core.console,
            &self.image,
            &self.core.row.request,
            &facts,
        ) {
            Ok((session, fault)) => {
                let (main, second) = (session.main, session.second);
                match fault {
                    None => self.core.log(format!("session on {main} and {second}")),
                    Some(fault) => self.core.log(format!(
                        "no multicast ({fault}); targets are served over TCP 5003"
                    )),
                }
                if let Some(warning) = self.core.console.igmp.warning() {
                    self.core.log(warning);
                }
                self.session = Some(session);
                true
            }
            Err(reason) => {
                self.core.log(format!("the session cannot start: {reason}"));
                for i in 0..self.places.len() {
                    self.end(
                        i,
                        TargetState::Failed,
                        &format!("the session could not start: {reason}"),
                    )
                    .await;
                }
                false
            }
        }
    }
}

/// Returns the time that a job is scheduled for; empty if it is not.
fn planned(request: &DeployRequest) -> &str {
    match &request.start {
        StartRule::At(time) => time,
        _ => "",
    }
}
