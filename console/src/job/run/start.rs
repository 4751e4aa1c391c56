//! A job before its session: start rules and the start itself.

use super::JobRun;
use crate::confirm;
use crate::job::order::Session;
use crate::job::place::Place;
use crate::job::stall::in_words;
use crate::schedule::{Due, judge, late_by, window_of};
use crate::time::{now, now_text};
use api::{ApiError, ErrorCode, JobState, StartRequest, StartRule};
use facts::target::TargetState;
use facts::units;

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
        let waiting = self.places.iter().filter(|place| !place.is_final());
        let ready = self
            .places
            .iter()
            .filter(|place| place.state() == TargetState::Ready)
            .count();
        let start = self.core.row.request.start.clone();
        let due = match &start {
            StartRule::All => ready == waiting.count(),
            StartRule::Now => true,
            StartRule::Count(count) => ready >= usize::try_from(*count).unwrap_or(usize::MAX),
            StartRule::At(time) => self.is_due(time).await,
            StartRule::Manual => false,
        };
        if due {
            self.begin().await;
        }
    }

    /// Returns true if the start time of a scheduled job has come. A job whose start window has
    /// passed is missed, and starts by hand only.
    async fn is_due(&mut self, at: &str) -> bool {
        // The start was due, and the image is being checked.
        if self.start_asked {
            return true;
        }
        let window = window_of(&self.core.row.request);
        let now = now();
        // An unreadable time is never stored; if there is one, the job waits for a technician.
        let due = at.parse().map_or(Due::Missed, |at| judge(now, at, window));
        match (due, self.core.state) {
            (Due::Now, JobState::Waiting) => {
                if let Some(late) = at.parse().ok().and_then(|at| late_by(now, at)) {
                    self.core.log(format!(
                        "begins {} late: the console did not run at {at}, by its clock ({}), and may begin the job within {}",
                        units::span(late.as_secs_f64()),
                        now_text(),
                        in_words(window)
                    ));
                }
                return true;
            }
            (Due::Missed, JobState::Waiting) => {
                let id = self.core.id;
                self.core.log(format!(
                    "missed: {at} passed more than {} ago by the console's clock ({}) and the job had not begun; \
                     nothing was touched, and diskcast job start {id} starts it now",
                    in_words(window),
                    now_text()
                ));
                self.becomes(JobState::Missed).await;
            }
            (Due::Early, JobState::Missed) => {
                self.core.log(format!(
                    "the console's clock was put right ({}): the job waits for {at}",
                    now_text()
                ));
                self.becomes(JobState::Waiting).await;
            }
            _ => {}
        }
        false
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
