//! Messages about obstacles to changing a system, with advice.

use super::Draft;
use crate::findings::Obstacle;

/// Describes an obstacle.
pub(super) fn what(obstacle: &Obstacle) -> String {
    match obstacle {
        Obstacle::BitLocker => "the volume is encrypted by BitLocker".into(),
        Obstacle::Luks => "the volume is encrypted by LUKS".into(),
        Obstacle::Hibernated => {
            "Windows is hibernated in it, or was shut down with fast startup".into()
        }
        Obstacle::DirtyVolume => "the volume was not closed cleanly".into(),
        Obstacle::DirtyHive { hive, reason } => {
            format!("the hive {hive} was not closed cleanly, and its logs do not apply: {reason}")
        }
        Obstacle::DamagedHive { hive, reason } => format!("the hive {hive} is damaged: {reason}"),
        Obstacle::Unreadable { what, reason } => format!("{what} cannot be read: {reason}"),
    }
}

/// Advice on how to remove an obstacle.
pub(super) fn advice(obstacle: &Obstacle) -> &'static str {
    match obstacle {
        Obstacle::BitLocker => {
            "turn BitLocker off on the master (manage-bde -off C:), wait until it is decrypted, and capture again"
        }
        Obstacle::Luks => "capture a master without encryption; the key is not known here",
        Obstacle::Hibernated => {
            "shut the master down with `shutdown /s /t 0` and capture again, or set windows.discard_hibernation = true, \
             which throws that session away"
        }
        Obstacle::DirtyVolume => {
            "check the volume on the master (chkdsk /f, fsck), shut it down and capture again"
        }
        Obstacle::DirtyHive { .. } => {
            "start the master once, shut it down with `shutdown /s /t 0` and capture again"
        }
        Obstacle::DamagedHive { .. } => {
            "repair the master (sfc /scannow, or a restore point) and capture again"
        }
        Obstacle::Unreadable { .. } => "check the file system on the master and capture again",
    }
}

/// Refuses a system that cannot be changed. Returns true when it can. `discard` ignores a
/// hibernated session.
pub(super) fn passes(
    draft: &mut Draft<'_>,
    title: &str,
    partition: u32,
    own: &[Obstacle],
    discard: bool,
) -> bool {
    let volume = draft
        .request
        .findings
        .partitions
        .iter()
        .filter(|found| found.number == partition)
        .flat_map(|found| &found.obstacles);
    let mut met: Vec<&Obstacle> = Vec::new();
    for obstacle in volume.chain(own) {
        if !(met.contains(&obstacle) || (discard && *obstacle == Obstacle::Hibernated)) {
            met.push(obstacle);
        }
    }
    let passes = met.is_empty();
    for obstacle in met {
        draft.refuse(format!("{title}: {}; {}", what(obstacle), advice(obstacle)));
    }
    passes
}

/// True when the volume or the system holds a hibernated session.
pub(super) fn hibernated(draft: &Draft<'_>, partition: u32, own: &[Obstacle]) -> bool {
    own.contains(&Obstacle::Hibernated)
        || draft.request.findings.partitions.iter().any(|found| {
            found.number == partition && found.obstacles.contains(&Obstacle::Hibernated)
        })
}
