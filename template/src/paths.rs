//! Where a file may lie on a machine: paths as the system on the image writes them.
//!
//! Text only; nothing is looked up. What always holds: a path that passes stays below the root of the system's volume,
//! and names a file that the system itself can open.

use std::fmt;

/// Whose path it is.
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

/// Why a path is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum PathFault {
    /// Neither system writes paths so.
    #[error("write a whole path: C:\\Deploy\\app.msi for Windows, /opt/app.deb for Linux")]
    Shapeless,
    /// Another drive: which partition that is is only known to the running system.
    #[error("drive {0}: is not the system's own; only C: can be written")]
    Drive(char),
    /// It leads upward or nowhere.
    #[error("the path has an empty, `.` or `..` part, and would leave its place")]
    Escapes,
    /// Windows cannot open it.
    #[error("Windows cannot have {0:?} in a path")]
    Unnameable(String),
    /// What is written there is gone at the next start, or was never a file.
    #[error(
        "{0} is empty again at every start of the machine; choose a folder that stays, such as /opt or /var/lib"
    )]
    Volatile(&'static str),
    /// Longer than the system takes.
    #[error("the path is longer than {0} characters")]
    Long(usize),
}

/// Folders of Linux that are in memory, made by the kernel, or emptied when the system starts (hier(7), file-hierarchy(7)).
const VOLATILE: [&str; 7] = [
    "/tmp",
    "/run",
    "/var/run",
    "/var/lock",
    "/dev",
    "/proc",
    "/sys",
];
/// Longest Windows path without the `\\?\` form, and what programs cope with.
const MAX_WINDOWS: usize = 259;
/// Linux `PATH_MAX` without its closing zero.
const MAX_LINUX: usize = 4095;
/// Longest part of a path on both.
const MAX_PART: usize = 255;

/// Whose path it is, when it may be written.
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

/// Windows drops dots and spaces at the end of a name, reads `:` as a stream, and keeps the names of old devices
/// ("Naming files, paths, and namespaces").
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

    /// Such a file was written, proven, and gone at the first start.
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
