//! Reports of machines about their first start (docs/protocol.md, First start).
//!
//! ```text
//! TCP 5003, first byte d -> listen -> parse -> asked? -> HMAC -> held against the plan -> stored -> heard
//!                                                                                      '-> job, its log, its report
//! ```
//!
//! Invariants: before its HMAC is verified, nothing of a report is believed or stored, and only its
//! job and target are looked up; one report per target and job is stored, and no other replaces it;
//! a report never changes a target's state in its job.

mod listen;

pub use listen::{FIRST_BYTE, Listener};

use super::context::Console;
use super::job::folder::{Folder, Journal};
use super::job::{self, Input};
use super::store::StoreError;
use super::time::now_text;
use api::{ApiError, FirstStart, TargetView};
use facts::hex;
use facts::target::TargetState;
use firstboot::report::{self, ReportError};
use ring::hmac;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Result of storing a report with a valid signature.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Taken {
    /// The report is the first and was stored.
    New,
    /// The same report was stored before.
    Again,
    /// Another report was stored before.
    Another,
}

/// Record of a target that was asked to report.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Asked {
    /// Creation time of its job, RFC 3339.
    pub created: String,
    /// HMAC of the stored report; `None` before it.
    pub hmac: Option<String>,
}

/// Reason why a report is refused.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("no report: {0}")]
    NotAReport(#[from] ReportError),
    #[error("target {target} of job {job} is asked for no report")]
    NotAsked { job: u64, target: String },
    #[error("wrong key for target {target} of job {job}")]
    WrongKey { job: u64, target: String },
    #[error("target {target} of job {job} has reported already, and otherwise")]
    Another { job: u64, target: String },
    /// The store failed; the machine tries again.
    #[error("the report is not stored: {0}")]
    NotStored(#[from] StoreError),
    /// The job could not be read; the machine tries again.
    #[error("the report is not stored: {0}")]
    NotKnown(#[from] ApiError),
}

impl Refusal {
    /// Returns false if the machine may try again.
    fn is_final(&self) -> bool {
        !matches!(self, Self::NotStored(_) | Self::NotKnown(_))
    }
}

impl Console {
    /// Takes a report; returns the signed answer for the machine.
    async fn take_report(self: &Arc<Self>, bytes: &[u8]) -> Result<String, Refusal> {
        let message = report::parse(bytes)?;
        let (id, target) = (message.report.job, message.report.target.clone());
        let Some(asked) = self.store.first_start_asked(id, target.clone()).await? else {
            return Err(Refusal::NotAsked { job: id, target });
        };
        let key = self.personal.vault.report_key(id, &asked.created, &target);
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.bytes());
        // `hmac::verify` compares in constant time.
        let fits = hex::decode::<32>(message.digits)
            .is_ok_and(|tag| hmac::verify(&key, message.signed, &tag).is_ok());
        if !fits {
            return Err(Refusal::WrongKey { job: id, target });
        }
        let digits = message.digits.to_owned();
        let taken = match asked.hmac {
            Some(known) if known == digits => Taken::Again,
            Some(_) => Taken::Another,
            None => {
                let row = self.job_row(id).await?;
                let plan = row.job.plan.personal(&target);
                let view = jobs::first_start::judged(&message.report, plan, now_text());
                let taken = self
                    .store
                    .hear_first_start(id, target.clone(), digits.clone(), view.clone())
                    .await?;
                if taken == Taken::New {
                    let console = Arc::clone(self);
                    let target = target.clone();
                    // The answer to the machine does not wait for files.
                    tokio::spawn(async move { console.show_first_start(id, target, view).await });
                }
                taken
            }
        };
        if taken == Taken::Another {
            return Err(Refusal::Another { job: id, target });
        }
        let tag = hmac::sign(&key, report::heard_signed(&digits).as_bytes());
        Ok(report::heard(&hex::encode(tag.as_ref())))
    }

    /// Passes a report to its job and to watchers; for a job that is over, adds a line to its log
    /// and writes its report again.
    pub(crate) async fn show_first_start(
        self: Arc<Self>,
        id: u64,
        target: String,
        view: FirstStart,
    ) {
        tracing::info!(job = id, target, "{}", view.line());
        if let Some(handle) = self.jobs.handle(id) {
            let report = Box::new(view.clone());
            let target = target.clone();
            let told = Input::FirstStart { target, report };
            if handle.inputs.send(told).await.is_ok() {
                return;
            }
        }
        if let Some(shared) = self.jobs.shared(id) {
            let mut shown = shared.view();
            for place in shown.targets.iter_mut().filter(|place| place.id == target) {
                place.first_start = Some(view.clone());
            }
            shared.set_view(shown);
        }
        let folder = Folder::of(&self.settings.data_dir, id);
        let written = match self.report(id).await {
            Ok(report) => {
                let mut journal = Journal::start(folder.clone());
                let mut places = report.job.targets.iter();
                let name = places.find(|place| place.id == target);
                let name = name.map_or(target.as_str(), |place| place.name.as_str());
                let line = format!("{name}: {}", view.line());
                journal.write(&job::log_event(&report.job.id, line));
                journal.close().await;
                folder.write_report(&report).await
            }
            Err(error) => Err(std::io::Error::other(error)),
        };
        if let Err(error) = written {
            tracing::warn!(job = id, %error, "the report could not be written");
        }
    }

    /// Returns the first start of each target after the last job that wrote its disk.
    pub async fn first_starts(&self) -> BTreeMap<String, FirstStart> {
        match self.store.first_starts_of_targets().await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "first starts of targets are not known");
                BTreeMap::new()
            }
        }
    }
}

/// Adds the known first start to a target that is in no job, or done in it.
pub(super) fn with_first_start(
    mut view: TargetView,
    known: &BTreeMap<String, FirstStart>,
) -> TargetView {
    if view.job.is_none() || view.state == TargetState::Done {
        view.first_start = known.get(&view.id).cloned();
    }
    view
}
