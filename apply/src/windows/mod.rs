//! Steps on a Windows volume.

#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the step that uses it comes with the hives")
)]
mod ntfs;
#[cfg(test)]
#[path = "../../../inspect/tests/support/volume.rs"]
mod testing;

use crate::engine::Task;
use crate::guest::Guest;
use template::step::{Action, FirstBootJob};

/// What carries out a Windows step.
pub(crate) fn task(action: &Action) -> Result<Box<dyn Task + '_>, String> {
    let _ = action;
    Err("this build applies no Windows steps".into())
}

/// What leaves the first-boot job on a Windows volume.
pub(crate) fn first_boot(partition: u32, job: &FirstBootJob) -> Result<Box<dyn Task + '_>, String> {
    let _ = (partition, job);
    Err("this build applies no Windows steps".into())
}

/// Where `C:\Deploy\app.msi` lies below the root of the volume, spelt as the folders that exist are spelt.
pub(crate) fn guest_path(guest: &Guest, path: &str) -> Result<String, String> {
    let _ = guest;
    Err(format!("{path}: this build writes no Windows paths"))
}
