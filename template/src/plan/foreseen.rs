//! Obstacles on a Linux root that are known before anything is sent: mount points outside the disk,
//! and lack of space.

use super::Draft;
use crate::findings::LinuxFindings;
use crate::fstab::{Entry, Name};
use crate::step::{Action, FileSystem};

/// Block size of the file system in bytes, the least space a file takes.
const BLOCK: u64 = 4096;

/// Refuses steps that write to a place hidden by a mount, or more than the volume has room for.
pub(super) fn check(draft: &mut Draft<'_>, linux: &LinuxFindings, title: &str) {
    let away: Vec<&Entry> = linux
        .mounts
        .iter()
        .filter(|entry| !reachable(draft, linux, entry))
        .collect();
    let mut met: Vec<(&Entry, String)> = Vec::new();
    let mut bytes = 0_u64;
    for step in &draft.steps {
        let (path, what) = match &step.action {
            Action::CopyFile { to, payload, .. } => {
                if !linux.mounts.iter().any(|entry| below(to, entry)) {
                    let blocks = payload.bytes.div_ceil(BLOCK).max(1);
                    bytes = bytes.saturating_add(blocks.saturating_mul(BLOCK));
                }
                (to.clone(), to.clone())
            }
            Action::LinuxUser { user, .. } if !linux.accounts.contains(&user.name) => {
                let home = format!("/home/{}", user.name);
                let what = format!("the home of a new account, {home},");
                (home, what)
            }
            _ => continue,
        };
        met.extend(
            away.iter()
                .filter(|entry| below(&path, entry))
                .map(|entry| (*entry, what.clone())),
        );
    }
    if !draft.job.is_empty() {
        let path = "/var/lib/diskcast";
        let what = format!("what runs at first boot, in {path},");
        met.extend(
            away.iter()
                .filter(|entry| below(path, entry))
                .map(|entry| (*entry, what.clone())),
        );
    }
    for (entry, what) in &met {
        if entry.volume == Name::Memory {
            draft.refuse(format!(
                "{title}: {what} would lie below {}, which is in memory and empty at every start; choose a folder that stays, or \
                 take that line out of /etc/fstab on the master",
                entry.path
            ));
            continue;
        }
        draft.refuse(format!(
            "{title}: {what} would lie on {}, which is mounted at {} and is no ext or XFS partition that is deployed and named in \
             /etc/fstab by UUID or label; name it so on the master, or leave that out",
            volume(&entry.volume),
            entry.path
        ));
    }
    for entry in away {
        let small = matches!(entry.path.as_str(), "/boot" | "/boot/efi" | "/efi");
        // A file system in memory hides no files of the master that matter.
        let empty = entry.volume == Name::Memory;
        if !small && !empty && !met.iter().any(|(other, _)| *other == entry) {
            draft.note(format!(
                "{} lies on {} and stays as the master has it",
                entry.path,
                volume(&entry.volume)
            ));
        }
    }
    if let Some(free) = linux.free_bytes
        && draft.request.grown != Some(linux.partition)
        && bytes > free
    {
        draft.refuse(format!(
            "{title}: the files to be copied take {bytes} bytes, and {free} are free; copy less, make room on the master, or let \
             the partition grow"
        ));
    }
}

/// True when the agent can mount it: an ext or XFS partition of the disk that fstab names by UUID
/// or label.
fn reachable(draft: &Draft<'_>, linux: &LinuxFindings, entry: &Entry) -> bool {
    !entry.subvolume
        && draft.request.findings.partitions.iter().any(|partition| {
            let named = match &entry.volume {
                Name::Uuid(uuid) => partition
                    .uuid
                    .as_ref()
                    .is_some_and(|own| own.eq_ignore_ascii_case(uuid)),
                Name::Label(label) => partition.label.as_ref() == Some(label),
                Name::Other(_) | Name::Memory => false,
            };
            named
                && partition.number != linux.partition
                && matches!(
                    partition.file_system,
                    Some(FileSystem::Ext | FileSystem::Xfs)
                )
        })
}

fn below(path: &str, entry: &Entry) -> bool {
    path.strip_prefix(entry.path.as_str())
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn volume(name: &Name) -> String {
    match name {
        Name::Uuid(uuid) => format!("UUID={uuid}"),
        Name::Label(label) => format!("LABEL={label}"),
        Name::Other(device) => device.clone(),
        Name::Memory => "memory".into(),
    }
}
