//! Steps on a Linux root.

use crate::engine::Task;
use template::step::{Action, FirstBootJob};

/// What carries out a Linux step.
pub(crate) fn task(action: &Action) -> Result<Box<dyn Task + '_>, String> {
    let _ = action;
    Err("this build applies no Linux steps".into())
}

/// What leaves the first-boot unit on a Linux root.
pub(crate) fn first_boot(partition: u32, job: &FirstBootJob) -> Box<dyn Task + '_> {
    let _ = (partition, job);
    Box::new(crate::grow::Grow::new(
        partition,
        template::step::FileSystem::Ext,
    ))
}
