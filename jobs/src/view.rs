//! The API view of a stored job, and the summary of an ended one.

use crate::row::JobRow;
use crate::schedule;
use api::{JobView, SCHEMA_VERSION, SessionView, Summary};
use facts::target::TargetState;
use std::path::Path;

/// Returns the API view of a stored job.
pub fn view_of(row: &JobRow) -> JobView {
    let mut targets: Vec<_> = row
        .job
        .targets
        .iter()
        .map(|target| target.view.clone())
        .collect();
    targets.sort_by(|a, b| a.name.cmp(&b.name));
    JobView {
        id: row.id.to_string(),
        state: row.job.state,
        created: row.job.created.clone(),
        started: row.started.clone(),
        ended: row.ended.clone(),
        image: row.job.request.image.clone(),
        root: row.job.root.clone(),
        chosen_root: row.job.plan.image.chosen_root.clone(),
        retry_of: row.job.retry_of.map(|id| id.to_string()),
        targets,
        newcomers: Vec::new(),
        session: row.session.clone(),
        start_note: schedule::note(&row.job.request, row.job.state, row.started.as_deref()),
        unchecked: row.job.plan.unchecked(),
        image_check: None,
        capture: row
            .job
            .capture
            .as_ref()
            .map(|capture| Box::new(capture.view.clone())),
    }
}

/// Returns the summary of a job that is over; `report` is the path of its report.
pub fn summary_of(view: &JobView, report: &Path) -> Summary {
    let done = view
        .targets
        .iter()
        .filter(|target| target.state == TargetState::Done)
        .count();
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let began = view.started.as_ref().unwrap_or(&view.created);
    Summary {
        schema_version: SCHEMA_VERSION,
        job: view.id.clone(),
        state: view.state,
        image: view.image.clone(),
        root: view.root.clone(),
        chosen_root: view.chosen_root.clone(),
        targets: view.targets.clone(),
        unchecked: view.unchecked,
        done: count(done),
        failed: count(view.targets.len() - done),
        seconds: view
            .ended
            .as_ref()
            .map_or(0.0, |ended| schedule::seconds_between(began, ended)),
        session: SessionView {
            rate_bytes_per_s: 0,
            ..view.session.clone()
        },
        capture: view.capture.clone(),
        report: report.display().to_string(),
    }
}
