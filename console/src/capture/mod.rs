//! Captures from targets: jobs that receive an image instead of sending one.
//!
//! ```text
//! image capture --target --> create --> job (waiting: target connects) --order--> agent
//!                                        |                                          | TCP 5003: begin, chunks, end
//!                             run (task) <--- Upload (turn) <--- routes <------------+
//!                                        |            Intake: prove, write NAME.dcimg.partial
//!                                        +-- all there: sync, read back, rename --> done
//! ```
//!
//! Owns the choice of target and disk, the folder of images, and the recovery of the last console's
//! captures. Invariants: an image is never overwritten; a target is in one job; a password is kept
//! in memory only, so an encrypted capture needs `job retry` after a restart of the console.

mod intake;
mod requests;
mod routes;
mod run;
mod upload;

#[cfg(test)]
mod tests;

pub use requests::{Asked, NotTaken, Requests};
pub use routes::routes;
pub use upload::Upload;

use super::context::Console;
use super::job::{INPUT_QUEUE, Input, JobHandle, JobShared, Recovery, Work};
use super::jobs::store_error;
use super::personal::JobSecrets;
use super::store::StoreError;
use super::time::now_text;
use api::select::Selector;
use api::{
    ApiError, CaptureRequest, DeployRequest, ErrorCode, ImageSummary, JobState, JobView, Plan,
    PlannedTarget, SCHEMA_VERSION, TargetView,
};
use disk::output::refuse_existing;
use facts::disk_rule::DiskRule;
use facts::target::{DiskFacts, TargetState};
use intake::Wanted;
use jobs::naming;
use jobs::row::{CaptureRecord, JobRow, JobTargetRow, NewJob};
use run::CaptureRun;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::mpsc;
use zeroize::Zeroizing;

/// Name of the image folder in the data directory.
pub const IMAGE_FOLDER: &str = "images";
/// Extension of an image file.
const EXTENSION: &str = ".dcimg";

impl Console {
    /// Returns the folder of captured images.
    pub fn image_folder(&self) -> PathBuf {
        self.settings.data_dir.join(IMAGE_FOLDER)
    }

    /// Creates and starts a capture.
    ///
    /// # Errors
    /// `Usage` for an invalid or missing name and other invalid parts; `NothingMatched` if no
    /// target matches; `Refused` if the target is not approved or in a job, its disk is in use, or
    /// the image exists.
    pub async fn create_capture(
        self: &Arc<Self>,
        mut request: CaptureRequest,
    ) -> Result<JobView, ApiError> {
        self.refresh_facts(&request.target).await;
        let target = self.the_target(&request.target)?;
        if let Some(asked) = self.requests.of(&target.id) {
            // The choices of the person at the target apply where the technician gave none.
            request.name = request.name.or(asked.name);
            request.disk = request.disk.or(Some(asked.disk));
        }
        let Some(name) = request.name.clone() else {
            return Err(ApiError::new(ErrorCode::Usage, "the image needs a name")
                .hint("for example --name lab-master"));
        };
        let image = self.image_path(&name)?;
        request.name = Some(name);
        request.target = format!("id:{}", target.id);
        self.make_capture(request, &target, image, None).await
    }

    /// Repeats a capture in a new job, which continues the unfinished image.
    pub(super) async fn retry_capture(
        self: &Arc<Self>,
        row: JobRow,
        mut request: CaptureRequest,
        password: Option<String>,
    ) -> Result<JobView, ApiError> {
        if row.job.state == JobState::Done {
            return Err(ApiError::new(
                ErrorCode::NothingMatched,
                format!("job {} is done: {} is there", row.id, row.job.request.image),
            ));
        }
        if row.job.encrypted && password.is_none() {
            return Err(ApiError::new(ErrorCode::Usage, "the capture is encrypted")
                .hint("give its password again with --password-file: it is never stored"));
        }
        request.password = password;
        self.refresh_facts(&request.target).await;
        let target = self.the_target(&request.target)?;
        let image = PathBuf::from(&row.job.request.image);
        let id = row.id;
        let view = self.make_capture(request, &target, image, Some(id)).await?;
        if row.job.state == JobState::Interrupted {
            self.close_interrupted(row, &view.id).await;
        }
        Ok(view)
    }

    async fn make_capture(
        self: &Arc<Self>,
        mut request: CaptureRequest,
        target: &TargetView,
        image: PathBuf,
        retry_of: Option<u64>,
    ) -> Result<JobView, ApiError> {
        check_wishes(&request)?;
        let rule = request.disk.clone().unwrap_or_default();
        let disk = match target.connected {
            true => Some(choose_disk(&rule, target)?),
            false => None,
        };
        refuse_existing(&image).map_err(|error| {
            ApiError::new(ErrorCode::Refused, error.to_string())
                .hint("choose another name: images are never overwritten")
        })?;
        let same = |handle: &JobHandle| {
            handle
                .shared
                .upload()
                .is_some_and(|upload| upload.wanted().image == image)
        };
        if let Some(other) = self.jobs.running().iter().find(|handle| same(handle)) {
            let id = other.shared.id;
            return Err(ApiError::new(
                ErrorCode::Refused,
                format!("job {id} is capturing {} already", image.display()),
            )
            .hint(format!("diskcast job watch {id}")));
        }
        let text = image.display().to_string();
        let known = self
            .store
            .last_capture(text.clone())
            .await
            .map_err(|error| store_error(&error))?;
        let password = request.password.take().map(Zeroizing::new);
        let draft = self.jobs.draft();
        let ids = [target.id.clone()];
        self.roster.claim(&draft, &ids, target.state)?;
        let encrypted = password.is_some();
        let deploy = DeployRequest {
            image: text,
            targets: request.target.clone(),
            disk: request.disk.clone(),
            end: request.end,
            ..DeployRequest::default()
        };
        let planned = PlannedTarget {
            id: target.id.clone(),
            name: target.name.clone(),
            mac: naming::first_mac(&target.facts),
            disk,
            refused: None,
            facts_age_seconds: None,
            personal: None,
        };
        let place = JobTargetRow::planned(&planned, 0);
        let job = NewJob {
            capture: Some(CaptureRecord {
                request,
                survey: known.and_then(|record| record.survey),
                view: api::CaptureView {
                    encrypted,
                    ..Default::default()
                },
            }),
            targets: vec![place.clone()],
            ..new_job(deploy, planned, encrypted, retry_of)
        };
        let id = match self.store.create_job(job.clone()).await {
            Ok(id) => id,
            Err(error) => {
                self.roster.release(&target.id, &draft);
                return Err(store_error(&error));
            }
        };
        self.roster.rename_claim(&draft, &id.to_string());
        self.requests.answered(&target.id);
        let row = JobRow {
            id,
            job,
            started: None,
            ended: None,
            session: Default::default(),
        };
        Ok(self
            .spawn_capture(row, place, password, Recovery::New)
            .view())
    }

    fn spawn_capture(
        self: &Arc<Self>,
        row: JobRow,
        place: JobTargetRow,
        password: Option<Zeroizing<String>>,
        recovery: Recovery,
    ) -> Arc<JobShared> {
        let record = row.job.capture.clone();
        let (request, survey) =
            record.map_or_else(Default::default, |record| (record.request, record.survey));
        let wanted = Wanted {
            image: PathBuf::from(&row.job.request.image),
            created: row.job.created.clone(),
            request,
            password,
        };
        let upload = Arc::new(Upload::new(wanted, survey));
        let shared = Arc::new(JobShared::new(
            &row,
            Work::Capture(Arc::clone(&upload)),
            JobSecrets::default(),
        ));
        let (inputs, inbox) = mpsc::channel(INPUT_QUEUE);
        let handle = JobHandle {
            shared: Arc::clone(&shared),
            inputs,
        };
        let id = row.id;
        let (console, seen) = (Arc::clone(self), Arc::clone(&shared));
        let run = CaptureRun::new(console, row, place, seen, upload, inbox, recovery);
        self.jobs.start(id, handle, run.run());
        shared
    }

    /// Continues a capture of the last console, unless it needs a password, which is lost.
    pub(super) async fn recover_capture(self: &Arc<Self>, row: JobRow) -> Result<(), String> {
        if row.job.encrypted {
            let session = row.session.clone();
            if let Err(error) = self
                .store
                .update_job(row.id, JobState::Interrupted, None, None, session)
                .await
            {
                tracing::error!(job = row.id, %error, "state not recorded");
            }
            return Err("the image has a password, which is never stored".to_owned());
        }
        let Some(place) = row.job.targets.first().cloned() else {
            return Err("it has no target".to_owned());
        };
        let ids = [place.view.id.clone()];
        self.roster
            .claim(&row.id.to_string(), &ids, place.view.state)
            .map_err(|error| error.message)?;
        let recovery = if row.job.state == JobState::Waiting {
            Recovery::New
        } else {
            Recovery::Interrupted
        };
        self.spawn_capture(row, place, None, recovery);
        Ok(())
    }

    /// Returns the only target that a selector matches.
    fn the_target(&self, text: &str) -> Result<TargetView, ApiError> {
        let selector: Selector = text
            .parse()
            .map_err(|error| ApiError::new(ErrorCode::Usage, format!("--target: {error}")))?;
        let mut found: Vec<_> = self
            .roster
            .candidates()
            .into_iter()
            .filter(|candidate| selector.matches(&candidate.view))
            .collect();
        found.sort_by(|a, b| a.view.name.cmp(&b.view.name));
        match found.as_slice() {
            [] => Err(ApiError::new(
                ErrorCode::NothingMatched,
                format!("no target matches {text:?}"),
            )
            .hint("diskcast target list shows the targets; start the master with the agent first")),
            [one] if !one.approved => Err(ApiError::new(
                ErrorCode::Refused,
                format!("{} is not approved yet", one.view.name),
            )
            .hint(format!("diskcast target approve {}", one.view.name))),
            [one] => match &one.view.job {
                Some(job) => Err(ApiError::new(
                    ErrorCode::Refused,
                    format!("{} is in job {job}", one.view.name),
                )
                .hint(format!(
                    "diskcast job watch {job}, or diskcast job cancel {job}"
                ))),
                None => Ok(one.view.clone()),
            },
            several => {
                let names: Vec<&str> = several.iter().map(|c| c.view.name.as_str()).collect();
                Err(ApiError::new(
                    ErrorCode::Usage,
                    format!(
                        "{text:?} means {} targets: {}",
                        names.len(),
                        names.join(", ")
                    ),
                )
                .hint("a capture reads one master: name it"))
            }
        }
    }

    /// Returns the path of the image with this name, and creates the image folder.
    fn image_path(&self, name: &str) -> Result<PathBuf, ApiError> {
        let bare = name.strip_suffix(EXTENSION).unwrap_or(name);
        if !api::name::is_valid_name(bare) || bare.starts_with('.') {
            return Err(ApiError::new(
                ErrorCode::Usage,
                format!("{name:?} is no name for an image"),
            )
            .hint(
                "1 to 63 of letters, digits, -, _ and . (it goes to the console's image folder)",
            ));
        }
        let folder = self.image_folder();
        std::fs::create_dir_all(&folder).map_err(|error| {
            ApiError::new(
                ErrorCode::Refused,
                format!("image folder {}: {error}", folder.display()),
            )
        })?;
        Ok(folder.join(format!("{bare}{EXTENSION}")))
    }
}

/// Checks the parts of a request that do not depend on the disk.
fn check_wishes(request: &CaptureRequest) -> Result<(), ApiError> {
    let wishes = &request.wishes;
    let chunks = imagefmt::MIN_CHUNK_LOG2..=imagefmt::MAX_CHUNK_LOG2;
    if !(1..=12).contains(&wishes.level) || !chunks.contains(&wishes.chunk_log2) {
        return Err(ApiError::new(
            ErrorCode::Usage,
            "a level is 1 to 12, a chunk 256K to 4M",
        ));
    }
    if let Some(set) = &request.set
        && (!api::name::is_valid_name(&set.id) || set.disk == 0)
    {
        return Err(ApiError::new(
            ErrorCode::Usage,
            "a set has a name of 1 to 63 letters, digits, -, _ and ., and numbers its disks from 1",
        ));
    }
    Ok(())
}

/// Returns the disk that a rule names on this target, if it can be read.
fn choose_disk(rule: &DiskRule, target: &TargetView) -> Result<DiskFacts, ApiError> {
    let refused =
        |text: String| ApiError::new(ErrorCode::Refused, format!("{}: {text}", target.name));
    let disk = rule
        .choose_master(&target.facts.disks)
        .map_err(|reason| refused(reason.to_string()))?;
    let busy: Vec<&str> = disk.holders.iter().map(String::as_str).collect();
    // A loop device on a file is safe to read; the agent checks it again.
    if !busy.is_empty() && !disk.file_backed {
        return Err(
            refused(format!("{} is in use: {}", disk.title(), busy.join(", ")))
                .hint("start the master from the network, so that nothing uses its disk"),
        );
    }
    Ok(disk.clone())
}

/// Makes the job of a capture; fields for deployments stay empty.
fn new_job(
    deploy: DeployRequest,
    planned: PlannedTarget,
    encrypted: bool,
    retry_of: Option<u64>,
) -> NewJob {
    let image = ImageSummary {
        path: deploy.image.clone(),
        root: String::new(),
        file_bytes: 0,
        disk_bytes: 0,
        sector_size: 0,
        used_bytes: 0,
        wire_bytes: 0,
        created: String::new(),
        partitions: Vec::new(),
        signed_by: Vec::new(),
        set: None,
        chosen_root: None,
        checked: None,
    };
    NewJob {
        state: JobState::Waiting,
        plan: Plan {
            r#type: "plan".to_owned(),
            schema_version: SCHEMA_VERSION,
            request: deploy.clone(),
            image,
            targets: vec![planned],
            expected_seconds: None,
            files: Vec::new(),
            notes: Vec::new(),
        },
        request: deploy,
        root: String::new(),
        encrypted,
        created: now_text(),
        retry_of,
        targets: Vec::new(),
        capture: None,
    }
}

/// Stores the present record of a capture.
pub(super) async fn record(console: &Console, job: &JobShared) -> Result<(), StoreError> {
    match job.upload() {
        Some(upload) => {
            let record = upload.record();
            console
                .store
                .save_capture(job.id, String::new(), record)
                .await
        }
        None => Ok(()),
    }
}

/// Sends a log line of a target to its job.
pub(super) fn say(job: &JobHandle, target: &str, text: String) {
    let target = target.to_owned();
    // A line is dropped if the job's queue is full.
    let _ = job.inputs.try_send(Input::Log { target, text });
}

/// Returns true for the states that a target of a capture may report.
fn believable(state: TargetState) -> bool {
    matches!(state, TargetState::Joined | TargetState::Capturing)
}
