//! The Windows program for the first start: found on the console, sent like any other file.

use super::files::Hashes;
use api::{ApiError, ErrorCode, PlannedFile};
use std::path::{Path, PathBuf};
use template::findings::{Findings, System};
use template::step::{Action, MachinePlan, Payload};

/// File name of the program, beside `diskcast` or in the data directory.
const NAME: &str = "diskcast-firstboot.exe";

/// Finds the program beside `diskcast`, then in the data directory. `None` if it is missing or the
/// image has no Windows.
pub(super) fn find(
    findings: &Findings,
    data_dir: &Path,
    hashes: &Hashes,
) -> Result<Option<PlannedFile>, ApiError> {
    let windows = |system: &System| matches!(system, System::Windows(_));
    if !findings.systems.iter().any(windows) {
        return Ok(None);
    }
    let beside = std::env::current_exe().ok();
    let beside = beside.as_deref().and_then(Path::parent).map(Path::to_owned);
    let found: Option<PathBuf> = beside
        .into_iter()
        .chain([data_dir.to_owned()])
        .map(|folder| folder.join(NAME))
        .find(|path| path.is_file());
    let Some(path) = found else { return Ok(None) };
    let payload = hashes.payload(&path)?;
    Ok(Some(PlannedFile { path, payload }))
}

/// Names the program in the plan of a Windows machine; returns true if the plan needs it.
///
/// # Errors
/// `Refused` if the plan needs the program and the console does not have it.
pub(super) fn complete(
    plan: &mut MachinePlan,
    findings: &Findings,
    program: Option<&Payload>,
) -> Result<bool, ApiError> {
    let windows: Vec<u32> = findings
        .systems
        .iter()
        .filter_map(|system| match system {
            System::Windows(windows) => Some(windows.partition),
            System::Linux(_) => None,
        })
        .collect();
    let mut used = false;
    for step in &mut plan.steps {
        let Action::FirstBoot {
            partition,
            executable,
            ..
        } = &mut step.action
        else {
            continue;
        };
        if windows.contains(partition) {
            let program = program.ok_or_else(|| {
                ApiError::new(
                    ErrorCode::Refused,
                    format!("the template has steps for the first start of Windows, and the console has no {NAME}"),
                )
                .hint("cargo xtask firstboot makes it; it lies beside diskcast or in the data directory")
            })?;
            *executable = Some(program.clone());
            used = true;
        }
    }
    Ok(used)
}
