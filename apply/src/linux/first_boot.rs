//! First boot of a Linux machine: a script, and the unit that runs it.

use super::edits::Edits;
use super::identity::UNITS;
use super::script::{self, FOLDER, SCRIPT, UNIT};
use crate::error::{Result, StepError};
use crate::guest::Owner;
use template::first_start::FirstStart;
use template::step::{FirstBootEnd, FirstBootJob};

/// Notes the missing changes. A repeated order may name other addresses of the console: the script
/// is then written anew, with the same key.
pub(super) fn missing(
    edits: &mut Edits<'_>,
    job: &FirstBootJob,
    first_start: Option<&FirstStart>,
) -> Result<()> {
    if job.steps.is_empty() && job.end == FirstBootEnd::None && !job.report {
        return Ok(());
    }
    if !edits.has_systemd()? {
        return Err(StepError::refused(
            "the image has no systemd, so nothing would run the first-boot job",
            "leave [[run]] out of the template",
        ));
    }
    edits.folder(FOLDER, Owner::root(0o700))?;
    // Left by the first boot of the master: its marks would be taken for this machine's.
    for folder in ["done", "begun", "report"] {
        edits.gone_where(&format!("{FOLDER}/{folder}"), |_| true)?;
    }
    edits.gone(&format!("{FOLDER}/failed"))?;
    edits.exact_file(
        SCRIPT,
        &script::script(job, first_start)?,
        Owner::root(0o700),
    )?;
    let unit = format!("{UNITS}/{UNIT}");
    edits.exact_file(&unit, &script::unit(), Owner::root(0o644))?;
    edits.link(&format!("{UNITS}/multi-user.target.wants/{UNIT}"), &unit)
}
