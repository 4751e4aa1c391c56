//! Texts by which a disk is confirmed: the plan shows them, the technician's answer repeats them,
//! and the console compares.

use crate::Plan;
use facts::look;
use facts::target::DiskFacts;
use std::collections::BTreeMap;

/// The text of a disk in a plan: identity and contents.
pub fn shown(disk: &DiskFacts) -> String {
    format!("{}: {}", disk.title(), look::contents(disk))
}

/// Disks that a plan asks to confirm: the disk of each target that would be written, by target id.
pub fn disks(plan: &Plan) -> BTreeMap<String, String> {
    plan.targets
        .iter()
        .filter(|target| target.refused.is_none())
        .filter_map(|target| Some((target.id.clone(), shown(target.disk.as_ref()?))))
        .collect()
}
