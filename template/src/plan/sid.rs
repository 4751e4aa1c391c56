//! The machine SID of a Windows: the choice whether it is rewritten, and the consequences.

use super::{Draft, identity, obstacles, partition_title};
use crate::findings::{Obstacle, WindowsFindings};
use crate::schema::{SidChoice, Windows};
use crate::step::Action;

/// First build (Windows 11 24H2, Server 2025) whose machines refuse each other when their SIDs are
/// equal.
const UNIQUE_SID_BUILD: u32 = 26_100;
/// Limit of profiles named in a refusal; further ones are refused without being named.
const NAMED_PROFILES: usize = 3;

/// Decides whether the SID is rewritten, with refusals and notes. Returns the old SID when it is.
pub(super) fn choice<'w>(
    draft: &mut Draft<'_>,
    windows: &'w WindowsFindings,
    settings: &Windows,
    title: &str,
) -> Option<&'w str> {
    if windows.generalised {
        if settings.sid == SidChoice::Rewrite {
            draft.note("the image is generalised: Windows Setup draws a new SID, nothing has to be rewritten");
        }
        return None;
    }
    match settings.sid {
        SidChoice::Sysprep => draft.refuse(format!(
            "{title}: windows.sid is sysprep, and the image is not generalised; run `sysprep /generalize /oobe /shutdown` on the \
             master and capture again, or use sid = \"rewrite\""
        )),
        SidChoice::Keep if settings.allow_duplicate_sid && windows.build >= UNIQUE_SID_BUILD => {
            draft.note("all copies share one SID: Windows 11 24H2 and Server 2025 refuse each other then (KB5065426)");
        }
        SidChoice::Keep if windows.build >= UNIQUE_SID_BUILD => draft.refuse(format!(
            "{title}: it is not generalised, and copies with one SID refuse each other since build {UNIQUE_SID_BUILD} (KB5065426); \
             leave windows.sid out (\"auto\"), use a generalised image, or set windows.allow_duplicate_sid = true"
        )),
        SidChoice::Keep if windows.is_domain_controller() => {}
        SidChoice::Keep => draft.note("all copies keep the SID of the master: windows.sid is \"keep\""),
        SidChoice::Auto | SidChoice::Rewrite if windows.is_domain_controller() => draft.refuse(format!(
            "{title}: it is a domain controller, whose SID is its domain's; use windows.sid = \"keep\""
        )),
        SidChoice::Auto | SidChoice::Rewrite => {
            let Some(old) = windows.machine_sid.as_deref() else {
                unreadable(draft, windows, settings, title);
                return None;
            };
            costs(draft, windows, title, old);
            return Some(old);
        }
    }
    None
}

/// The SID cannot be read. Refused when a rewrite was requested or this build needs unique SIDs;
/// otherwise a note says that the SID stays.
fn unreadable(draft: &mut Draft<'_>, windows: &WindowsFindings, settings: &Windows, title: &str) {
    let what = "its SID cannot be read from SAM and SECURITY, or they disagree";
    if settings.sid == SidChoice::Rewrite || windows.build >= UNIQUE_SID_BUILD {
        draft.refuse(format!(
            "{title}: {what}, so it cannot be rewritten; repair the master, generalise it, or use windows.sid = \"keep\""
        ));
    } else {
        draft.note(format!(
            "{what}: all copies keep what they have. windows.sid = \"rewrite\" refuses such a master"
        ));
    }
}

/// Refusals and notes about what a rewrite breaks, and what it does not reach.
fn costs(draft: &mut Draft<'_>, windows: &WindowsFindings, title: &str, old: &str) {
    if !windows.profiles_elsewhere.is_empty() {
        let named = windows.profiles_elsewhere.iter().take(NAMED_PROFILES);
        let named = named.cloned().collect::<Vec<_>>().join(", ");
        draft.refuse(format!(
            "{title}: profiles lie on another volume or a share, where the SID is not rewritten, and their users could not log on \
             to them ({named}); move them to the volume of Windows, generalise the master, or use windows.sid = \"keep\""
        ));
    }
    for obstacle in &windows.unchangeable_hives {
        let advice = match (obstacle, profile(obstacle)) {
            (Obstacle::DirtyHive { .. }, Some(who)) => format!(
                "start the master once, log on to the profile {who} and off again, shut it down with `shutdown /s /t 0` and capture \
                 again"
            ),
            (_, Some(who)) => {
                format!("repair or remove the profile {who} on the master and capture again")
            }
            (obstacle, None) => obstacles::advice(obstacle).to_owned(),
        };
        draft.refuse(format!(
            "{title}: the SID has to be rewritten in it, and {}; {advice}, or use windows.sid = \"keep\"",
            obstacles::what(obstacle)
        ));
    }
    draft.note(
        "the SID is rewritten offline: local accounts lose what they encrypted with DPAPI on the master (saved passwords, EFS files, \
         certificates), and store apps may have to be registered anew; Microsoft supports Sysprep only. windows.sid = \"keep\" leaves \
         the SID as it is",
    );
    let request = draft.request;
    let others = request.findings.partitions.iter();
    for other in others.filter(|other| other.number != windows.partition) {
        if other.sids.iter().any(|sid| sid == old) {
            draft.note(format!(
                "{} has files whose rights name {old}, and is left as it is: local accounts of the master lose what only they could \
                 open there until an administrator grants it anew (icacls)",
                partition_title(other)
            ));
        }
    }
}

/// Name of the profile a hive belongs to: the folder of NTUSER.DAT, or the folder above the
/// settings folder that holds UsrClass.dat.
fn profile(obstacle: &Obstacle) -> Option<&str> {
    let (Obstacle::DirtyHive { hive: path, .. }
    | Obstacle::DamagedHive { hive: path, .. }
    | Obstacle::Unreadable { what: path, .. }) = obstacle
    else {
        return None;
    };
    let mut names: Vec<&str> = path.split('\\').collect();
    let file = names.pop()?;
    if file.eq_ignore_ascii_case("UsrClass.dat") {
        let settings = ["AppData", "Local Settings"];
        let deep = names.iter().rposition(|name| {
            settings
                .iter()
                .any(|folder| folder.eq_ignore_ascii_case(name))
        });
        names.truncate(deep?);
    } else if !file
        .get(..7)
        .is_some_and(|start| start.eq_ignore_ascii_case("NTUSER."))
    {
        return None;
    }
    names.pop()
}

/// The step that rewrites the SID. The new SID is derived from the machine's seed, the same at
/// every run.
pub(super) fn rewrite(draft: &mut Draft<'_>, windows: &WindowsFindings, old: Option<&str>) {
    let Some(old) = old else { return };
    let new = identity::sid(&draft.seed(), old);
    draft.offline(
        "windows.sid",
        format!("its SID is {new} (experimental: untested on real Windows)"),
        Action::WindowsSid {
            partition: windows.partition,
            old: old.to_owned(),
            new,
        },
    );
}
