//! Names inside packages: cleaned, and in the merged-/usr form.
//!
//! One package may name `./sbin/e2fsck`, another `./usr/sbin/e2fsck`: on a running system they are
//! the same file, because `/bin`, `/sbin` and `/lib*` are links into `/usr`. The pre-OS has the
//! same links, so one form is enough. Pure. Never panics.

/// Longest name accepted, in bytes (Linux `PATH_MAX`).
const LONGEST: usize = 4096;
/// Folders that are links into `/usr`.
const MERGED: [&str; 5] = ["bin", "sbin", "lib", "lib32", "lib64"];

/// Cleans a name: no leading `/` or `./`, no empty or `.` components, and under `/usr` where
/// systems are merged. `None` for names that are empty, leave their root by `..`, or are not text.
pub(crate) fn clean(name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    if name.len() > LONGEST || name.contains('\0') {
        return None;
    }
    let parts: Vec<&str> = name
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    if parts.is_empty() || parts.contains(&"..") {
        return None;
    }
    Some(merged(parts.join("/")))
}

/// The target of a link found at `from` (a clean name); `None` when it leaves the root or is no
/// text.
pub(crate) fn follow(from: &str, target: &str) -> Option<String> {
    if target.len() > LONGEST {
        return None;
    }
    let mut parts: Vec<&str> = if target.starts_with('/') {
        Vec::new()
    } else {
        let folder = from.rsplit_once('/').map_or("", |(folder, _)| folder);
        folder.split('/').filter(|part| !part.is_empty()).collect()
    };
    for part in target.split('/') {
        match part {
            "" | "." => {}
            // The kernel treats `..` of the root as the root; a package has no reason for it.
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| merged(parts.join("/")))
}

/// The part of a name after the last `/`.
pub(crate) fn base(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, base)| base)
}

fn merged(path: String) -> String {
    let first = path.split('/').next().unwrap_or_default();
    if MERGED.contains(&first) {
        format!("usr/{path}")
    } else {
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cleaned_and_merged() {
        for (name, clean_name) in [
            ("./usr/bin/x", Some("usr/bin/x")),
            ("/sbin//e2fsck", Some("usr/sbin/e2fsck")),
            ("./lib64/ld.so", Some("usr/lib64/ld.so")),
            ("./lib", Some("usr/lib")),
            ("libs/x", Some("libs/x")),
            ("./", None),
            ("", None),
            ("a/../b", None),
            ("../etc/passwd", None),
            ("a\0b", None),
        ] {
            assert_eq!(clean(name.as_bytes()).as_deref(), clean_name, "{name:?}");
        }
        assert_eq!(clean(&[0xff, b'a']), None);
        assert_eq!(clean(&vec![b'a'; LONGEST + 1]), None);
    }

    #[test]
    fn links_stay_inside() {
        for (from, target, to) in [
            ("usr/lib/a.so.1", "a.so.1.2", Some("usr/lib/a.so.1.2")),
            (
                "usr/lib64/ld.so.2",
                "/lib/x/ld.so.2",
                Some("usr/lib/x/ld.so.2"),
            ),
            ("usr/lib/x/a", "../../bin/b", Some("usr/bin/b")),
            ("usr/a", "../../etc", None),
            ("usr/a", "..", None),
            ("a", "/", None),
        ] {
            assert_eq!(follow(from, target).as_deref(), to, "{from} -> {target}");
        }
    }
}
