//! Destination paths on a machine, as the system on the image writes them.
//!
//! Text only; no file system is consulted. Invariants: a path that passes stays below the
//! root of the system's volume, and names a file that the system itself can open.

use std::fmt;

/// The system whose paths have this shape.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Shape {
    /// `C:\Deploy\app.msi`
    Windows,
    /// `/opt/app.deb`
    Linux,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Windows => "Windows",
            Self::Linux => "Linux",
        })
    }
}

/// The reason why a path is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum PathFault {
    /// The path is absolute on neither system.
    #[error("write a whole path: C:\\Deploy\\app.msi for Windows, /opt/app.deb for Linux")]
    Shapeless,
    /// The path names another drive. Only the running system knows which partition that is.
    #[error("drive {0}: is not the system's own; only C: can be written")]
    Drive(char),
    /// The path has an empty, `.` or `..` part, or a part that is too long or has a NUL.
    #[error("the path has an empty, `.` or `..` part, and would leave its place")]
    Escapes,
    /// Windows cannot open this name.
    #[error("Windows cannot have {0:?} in a path")]
    Unnameable(String),
    /// The folder is emptied at every start, or never holds files on a disk.
    #[error(
        "{0} is empty again at every start of the machine; choose a folder that stays, such as /opt or /var/lib"
    )]
    Volatile(&'static str),
    /// The path is longer than the system accepts.
    #[error("the path is longer than {0} characters")]
    Long(usize),
}

/// Folders of Linux that are in memory, made by the kernel, or emptied when the system starts
/// (hier(7), file-hierarchy(7)).
const VOLATILE: [&str; 7] = [
    "/tmp",
    "/run",
    "/var/run",
    "/var/lock",
    "/dev",
    "/proc",
    "/sys",
];
/// Length limit of a Windows path without the `\\?\` form, in UTF-16 units; programs may not accept
/// longer ones.
const MAX_WINDOWS: usize = 259;
/// Length limit of a Linux path, in bytes: `PATH_MAX` without its closing zero.
const MAX_LINUX: usize = 4095;
/// Length limit of a part of a path, in bytes, on both systems.
const MAX_PART: usize = 255;

/// The system a path belongs to, when it may be written.
pub(crate) fn check_path(path: &str) -> Result<Shape, PathFault> {
    if let Some(rest) = path.strip_prefix('/') {
        if path.len() > MAX_LINUX {
            return Err(PathFault::Long(MAX_LINUX));
        }
        check_parts(rest.split('/'))?;
        let below = |folder: &&&str| {
            path.strip_prefix(**folder)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        return match VOLATILE.iter().find(below) {
            Some(folder) => Err(PathFault::Volatile(folder)),
            None => Ok(Shape::Linux),
        };
    }
    let mut letters = path.chars();
    let (Some(drive), Some(':'), Some('\\' | '/')) =
        (letters.next(), letters.next(), letters.next())
    else {
        return Err(PathFault::Shapeless);
    };
    if !drive.is_ascii_alphabetic() {
        return Err(PathFault::Shapeless);
    }
    if !drive.eq_ignore_ascii_case(&'c') {
        return Err(PathFault::Drive(drive));
    }
    if path.encode_utf16().count() > MAX_WINDOWS {
        return Err(PathFault::Long(MAX_WINDOWS));
    }
    let parts = || letters.as_str().split(['\\', '/']);
    check_parts(parts())?;
    match parts().find(|part| !windows_can_name(part)) {
        Some(bad) => Err(PathFault::Unnameable(bad.to_owned())),
        None => Ok(Shape::Windows),
    }
}

fn check_parts<'p>(mut parts: impl Iterator<Item = &'p str>) -> Result<(), PathFault> {
    if parts
        .any(|part| matches!(part, "" | "." | "..") || part.len() > MAX_PART || part.contains('\0'))
    {
        return Err(PathFault::Escapes);
    }
    Ok(())
}

/// Checks a part of a path: Windows drops dots and spaces at the end of a name, reads `:` as a
/// stream, and reserves the names of old devices ("Naming files, paths, and namespaces").
fn windows_can_name(part: &str) -> bool {
    let stem = part.split('.').next().unwrap_or_default().trim_end();
    let upper = stem.to_ascii_uppercase();
    let device = matches!(
        upper.as_str(),
        "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$"
    ) || upper
        .strip_prefix("COM")
        .or_else(|| upper.strip_prefix("LPT"))
        .is_some_and(|rest| rest.len() == 1 && rest.bytes().all(|b| b.is_ascii_digit()));
    !device
        && !part.ends_with(['.', ' '])
        && !part
            .chars()
            .any(|c| c.is_control() || r#"<>:"|?*"#.contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        assert_eq!(check_path(r"C:\Deploy\app.msi"), Ok(Shape::Windows));
        assert_eq!(check_path("c:/Deploy/app.msi"), Ok(Shape::Windows));
        assert_eq!(check_path("/opt/app.deb"), Ok(Shape::Linux));
        assert_eq!(check_path("opt/app.deb"), Err(PathFault::Shapeless));
        assert_eq!(check_path("C:app.msi"), Err(PathFault::Shapeless));
        assert_eq!(check_path(r"\\server\share\x"), Err(PathFault::Shapeless));
        assert_eq!(check_path(r"D:\x"), Err(PathFault::Drive('D')));
    }

    #[test]
    fn nothing_leaves_its_place() {
        for path in [
            "/",
            "/opt/../etc/passwd",
            "/opt//x",
            "/./x",
            "/opt/",
            r"C:\",
            r"C:\a\..\b",
            r"C:\a\\b",
            "/a\0b",
        ] {
            assert_eq!(check_path(path), Err(PathFault::Escapes), "{path}");
        }
        assert!(matches!(
            check_path(&format!("/{}", "a/".repeat(3000))),
            Err(PathFault::Long(_))
        ));
        assert!(matches!(
            check_path(&format!(r"C:\{}", "a\\".repeat(200))),
            Err(PathFault::Long(_))
        ));
    }

    /// Such a file was once written and verified, and was gone at the first start.
    #[test]
    fn nothing_goes_where_a_start_removes_it() {
        for (path, folder) in [
            ("/tmp", "/tmp"),
            ("/tmp/app.deb", "/tmp"),
            ("/run/x", "/run"),
            ("/var/run/x", "/var/run"),
            ("/var/lock/x", "/var/lock"),
            ("/dev/shm/x", "/dev"),
            ("/proc/x", "/proc"),
            ("/sys/x", "/sys"),
        ] {
            assert_eq!(check_path(path), Err(PathFault::Volatile(folder)), "{path}");
        }
        for path in ["/tmpfiles/x", "/var/tmp/x", "/opt/tmp/x", "/system/x"] {
            assert_eq!(check_path(path), Ok(Shape::Linux), "{path}");
        }
    }

    #[test]
    fn what_windows_cannot_name() {
        for part in [
            "con", "NUL.txt", "com1", "lpt9.log", "a.", "a ", "a:b", "a*", "a?", "a|b", "a\"b",
            "aux .x",
        ] {
            assert_eq!(
                check_path(&format!(r"C:\x\{part}")),
                Err(PathFault::Unnameable(part.into())),
                "{part}"
            );
        }
        for part in ["console", "com10", "a.b", ".x", "nul-l"] {
            assert_eq!(
                check_path(&format!(r"C:\x\{part}")),
                Ok(Shape::Windows),
                "{part}"
            );
        }
    }
}
