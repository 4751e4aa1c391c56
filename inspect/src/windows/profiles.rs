//! Locations of the profiles of a machine's own accounts.
//!
//! Owns the search from SOFTWARE's list of profiles through junctions (`C:\Users` on another disk)
//! to the volume that holds them.

use super::link::Link;
use super::text;
use super::volume::Volume;
use hive::Hive;

/// Most profiles that are reported; the first one already refuses the master.
const MOST: usize = 16;
/// Most links on the way to one folder.
const MOST_LINKS: usize = 16;

/// Profiles of accounts of `machine` (`S-1-5-21-a-b-c`) that lie on another volume or on a share,
/// with the target if a link leads there.
pub(super) fn elsewhere(
    software: &Hive,
    machine: &str,
    volume: &Volume<'_>,
) -> Result<Vec<String>, String> {
    let version = r"Microsoft\Windows NT\CurrentVersion";
    let root = text(software, version, "SystemRoot");
    let drive = root.as_deref().and_then(drive_of).unwrap_or('C');
    let list = format!(r"{version}\ProfileList");
    let Ok(Some(key)) = software.find(&list) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for account in software.subkey_names(key).unwrap_or_default() {
        if !is_of(&account, machine) {
            continue;
        }
        let Some(folder) = text(software, &format!(r"{list}\{account}"), "ProfileImagePath") else {
            continue;
        };
        let folder = expanded(&folder, drive, root.as_deref());
        let mut look = |path: &[&str]| volume.link(path);
        match destination(&folder, drive, &mut look)? {
            Some(to) if to == folder => found.push(folder),
            Some(to) => found.push(format!("{folder}, which is {to}")),
            None => {}
        }
        if found.len() == MOST {
            break;
        }
    }
    Ok(found)
}

/// True for an account of the machine: `S-1-5-21-a-b-c-1001`, or the same with `.bak` at the end.
fn is_of(account: &str, machine: &str) -> bool {
    account
        .get(..machine.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(machine))
        && account
            .get(machine.len()..)
            .is_some_and(|rest| rest.starts_with('-'))
}

/// Drive letter of a path such as `C:\Windows`, in upper case.
fn drive_of(path: &str) -> Option<char> {
    let (letter, rest) = path.split_once(':')?;
    let mut letters = letter.chars();
    let one = letters.next().filter(char::is_ascii_alphabetic)?;
    let only = letters.next().is_none() && (rest.is_empty() || rest.starts_with('\\'));
    only.then_some(one.to_ascii_uppercase())
}

/// The path with the variables for the drive and the Windows folder replaced.
fn expanded(folder: &str, drive: char, root: Option<&str>) -> String {
    let drive = format!("{drive}:");
    let windows = root.map_or(format!(r"{drive}\Windows"), str::to_owned);
    for (variable, stands_for) in [
        ("%SystemDrive%", &drive),
        ("%SystemRoot%", &windows),
        ("%windir%", &windows),
    ] {
        let start = folder.get(..variable.len());
        if start.is_some_and(|start| start.eq_ignore_ascii_case(variable)) {
            let rest = folder.get(variable.len()..).unwrap_or_default();
            return format!("{stands_for}{rest}");
        }
    }
    folder.to_owned()
}

/// Function that returns the target of a folder that is a link.
type Look<'l> = dyn FnMut(&[&str]) -> Result<Option<Link>, String> + 'l;

/// Real location of a folder that is not on the drive `system`; `None` if it is. `look` reads the
/// links of that drive.
fn destination(folder: &str, system: char, look: &mut Look<'_>) -> Result<Option<String>, String> {
    let mut path = folder.to_owned();
    for _ in 0..MOST_LINKS {
        if drive_of(&path) != Some(system) {
            // An empty path, or one that begins with an unknown variable, is no location.
            let nowhere = path.is_empty() || path.starts_with('%');
            return Ok((!nowhere).then_some(path));
        }
        let names: Vec<&str> = path.split('\\').skip(1).filter(|n| !n.is_empty()).collect();
        let mut next = None;
        for depth in 1..=names.len() {
            let (above, rest) = names.split_at(depth);
            let base = match look(above)? {
                None => continue,
                Some(Link::Absolute(target)) => target,
                Some(Link::Relative(target)) => {
                    let folder = above.split_last().map_or(&[][..], |(_, folder)| folder);
                    joined(system, folder, &target)
                }
            };
            let tail: String = rest.iter().map(|name| format!(r"\{name}")).collect();
            next = Some(format!("{}{tail}", base.trim_end_matches('\\')));
            break;
        }
        match next {
            None => return Ok(None),
            Some(next) => path = next,
        }
    }
    Ok(Some(path))
}

/// Full path of a relative target, from the folder of its link.
fn joined(drive: char, folder: &[&str], target: &str) -> String {
    let mut names = folder.to_vec();
    for name in target.split('\\') {
        match name {
            "" | "." => {}
            ".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    let names: String = names.iter().map(|name| format!(r"\{name}")).collect();
    format!("{drive}:{names}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_drives_shares_and_what_links_lead_to_are_elsewhere() {
        let mut look = |path: &[&str]| {
            let absolute = |target: &str| Some(Link::Absolute(target.into()));
            Ok(match path.join("\\").as_str() {
                "Users" => absolute(r"C:\Home"),
                r"Home\far" => absolute(r"D:\Users\far"),
                "Volume" => absolute(r"Volume{6c2f}\"),
                r"Here\up" => Some(Link::Relative(r"..\Home\far".into())),
                r"Here\round" => Some(Link::Relative("round".into())),
                _ => None,
            })
        };
        let root = Some(r"C:\WINDOWS");
        for (folder, system, expected) in [
            (r"C:\Users\pat", 'C', None),
            (r"c:\users\pat", 'C', None),
            (r"D:\Users\pat", 'C', Some(r"D:\Users\pat")),
            (r"D:\Users\pat", 'D', Some(r"C:\Home\pat")),
            (r"D:\Profiles\pat", 'D', None),
            (
                r"\\server\profiles\pat",
                'C',
                Some(r"\\server\profiles\pat"),
            ),
            (r"%SystemDrive%\Documents and Settings\pat", 'C', None),
            (r"%systemroot%\system32\config\systemprofile", 'C', None),
            (r"C:\Users\far\deep", 'C', Some(r"D:\Users\far\deep")),
            (r"C:\Here\up\x", 'C', Some(r"D:\Users\far\x")),
            (r"C:\Volume\pat", 'C', Some(r"Volume{6c2f}\pat")),
            (r"C:\Here\round", 'C', Some(r"C:\Here\round")),
            ("", 'C', None),
            (r"%unknown%\pat", 'C', None),
        ] {
            let path = expanded(folder, system, root);
            let found = destination(&path, system, &mut look).unwrap();
            assert_eq!(found.as_deref(), expected, "{folder}");
        }
    }

    #[test]
    fn accounts_of_a_domain_are_not_the_machines() {
        let machine = "S-1-5-21-1-2-3";
        for (account, is) in [
            ("S-1-5-21-1-2-3-1001", true),
            ("s-1-5-21-1-2-3-1001.bak", true),
            ("S-1-5-21-1-2-33-1001", false),
            ("S-1-5-18", false),
        ] {
            assert_eq!(is_of(account, machine), is, "{account}");
        }
    }
}
