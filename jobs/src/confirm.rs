//! Comparison of a technician's confirmation with the present disks and their contents.
//!
//! Pure; `api::confirm` makes the text by which a disk is confirmed. Invariant: a target joins a
//! job only with a disk and contents that a technician saw.

use crate::row::JobTargetRow;
use api::confirm::{disks, shown};
use api::{ApiError, ErrorCode, Plan, StartRequest};
use facts::look::Look;
use facts::target::PartitionFacts;
use std::collections::{BTreeMap, BTreeSet};

/// Compares a fresh plan with the confirmation.
///
/// # Errors
/// `Refused` if the plan has other targets, other disks, or disks with other contents.
pub fn check(
    plan: &Plan,
    targets: &[String],
    disks_seen: &BTreeMap<String, String>,
) -> Result<(), ApiError> {
    let now = disks(plan);
    let planned: BTreeSet<&str> = now.keys().map(String::as_str).collect();
    let expected: BTreeSet<&str> = targets.iter().map(String::as_str).collect();
    let again = |message| {
        Err(ApiError::new(ErrorCode::Refused, message)
            .hint("look at the plan again and confirm it"))
    };
    if planned.is_empty() {
        return Err(all_refused(plan));
    }
    if planned != expected {
        return again(changed_since(plan, &planned, &expected));
    }
    let other: Vec<String> = now
        .iter()
        .filter(|(id, disk)| disks_seen.get(*id) != Some(disk))
        .map(|(id, disk)| {
            let name = name(plan, id);
            match disks_seen.get(id) {
                Some(seen) => format!("{name}: the plan showed {seen}; now it is {disk}"),
                None => format!("{name}: the disk was not confirmed; it is {disk}"),
            }
        })
        .collect();
    if !other.is_empty() {
        return again(format!(
            "the disks changed since the plan was confirmed: {}",
            other.join("; ")
        ));
    }
    Ok(())
}

/// Compares the disks of a missed job with a new confirmation.
///
/// # Errors
/// `Refused` if the confirmation has other targets or other disks.
pub fn check_missed<'r>(
    job: u64,
    rows: impl Iterator<Item = &'r JobTargetRow>,
    confirmed: &StartRequest,
) -> Result<(), ApiError> {
    let open = rows.filter(|row| !row.view.state.is_final());
    let disks: BTreeMap<&str, String> = open
        .filter_map(|row| Some((row.view.id.as_str(), shown(row.disk.as_ref()?))))
        .collect();
    let seen = confirmed.expect_disks.iter();
    let seen: BTreeMap<&str, String> = seen.map(|(id, disk)| (id.as_str(), disk.clone())).collect();
    let targets: BTreeSet<&str> = confirmed
        .expect_targets
        .iter()
        .map(String::as_str)
        .collect();
    if disks == seen && disks.keys().copied().eq(targets) {
        return Ok(());
    }
    Err(ApiError::new(
        ErrorCode::Refused,
        format!("the time of job {job} was missed: the disks it erases have to be confirmed again"),
    )
    .hint(format!("diskcast job start {job} shows them and asks")))
}

/// Refuses the targets of a retry whose disk is not the confirmed one with permitted contents.
pub fn hold_to(seen: &[JobTargetRow], image: &[PartitionFacts], plan: &mut Plan) {
    for target in &mut plan.targets {
        let Some(now) = target.disk.as_ref().filter(|_| target.refused.is_none()) else {
            continue;
        };
        let before = seen.iter().find(|row| row.view.id == target.id);
        let refused = match before.and_then(|row| Some((row, row.disk.as_ref()?))) {
            None => Some("no disk of it was shown with this job; deploy to it anew".to_owned()),
            Some((_, disk)) if !disk.is_same(now) => Some(format!(
                "{} was confirmed, and now it would be {}; deploy again to see it and confirm it",
                disk.title(),
                now.title()
            )),
            Some((row, disk)) => match row.instance {
                None => Look::planned(disk).refusal(now),
                Some(_) => Look::Resumed {
                    partitions: disk.partitions.clone(),
                    image: image.to_vec(),
                }
                .refusal(now),
            },
        };
        target.refused = refused;
    }
}

fn name(plan: &Plan, id: &str) -> String {
    plan.targets
        .iter()
        .find(|target| target.id == id)
        .map_or(id, |target| target.name.as_str())
        .to_owned()
}

/// Returns the error for a plan in which every target is refused.
pub fn all_refused(plan: &Plan) -> ApiError {
    let reasons: Vec<String> = plan
        .targets
        .iter()
        .filter_map(|target| {
            target
                .refused
                .as_ref()
                .map(|reason| format!("{}: {reason}", target.name))
        })
        .collect();
    ApiError::new(
        ErrorCode::Refused,
        format!("no target can take the image: {}", reasons.join("; ")),
    )
}

fn changed_since(plan: &Plan, planned: &BTreeSet<&str>, expected: &BTreeSet<&str>) -> String {
    let list = |ids: Vec<&&str>| {
        ids.into_iter()
            .map(|id| name(plan, id))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let mut text = "the targets changed since the plan was confirmed:".to_owned();
    let new = list(planned.difference(expected).collect());
    let gone = list(expected.difference(planned).collect());
    if !new.is_empty() {
        text.push_str(&format!(" new: {new};"));
    }
    if !gone.is_empty() {
        text.push_str(&format!(" gone: {gone};"));
    }
    text.trim_end_matches(';').to_owned()
}
