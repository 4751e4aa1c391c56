//! Rights of sudoers(5), as far as needed to find who may run everything.
//!
//! Pure. Invariants: a right that is not understood counts as not granted.

/// Keys of `Defaults` that make sudo require another user's password.
const OTHER_PASSWORD: [&str; 3] = ["targetpw", "rootpw", "runaspw"];

/// Tags before a command that take no right away.
const TAGS: [&str; 5] = [
    "NOPASSWD:",
    "PASSWD:",
    "SETENV:",
    "LOG_INPUT:",
    "LOG_OUTPUT:",
];

/// True when a line gives `who` (`%group` or an account) every command as root, on every machine.
pub fn grants(sudoers: &str, who: &str) -> bool {
    lines(sudoers).any(|line| {
        let Some((first, rest)) = line.split_once([' ', '\t']) else {
            return false;
        };
        let Some((hosts, rest)) = rest.split_once('=') else {
            return false;
        };
        let mut rest = rest.trim();
        if let Some(inner) = rest.strip_prefix('(') {
            let Some((as_whom, commands)) = inner.split_once(')') else {
                return false;
            };
            let user = as_whom.split(':').next().unwrap_or_default().trim();
            if !matches!(user, "ALL" | "root") {
                return false;
            }
            rest = commands.trim();
        }
        while let Some(tag) = TAGS.iter().find(|tag| rest.starts_with(**tag)) {
            rest = rest.strip_prefix(tag).unwrap_or(rest).trim();
        }
        first == who && hosts.trim() == "ALL" && rest == "ALL"
    })
}

/// True when sudo requires the password of another user than the caller, as on openSUSE.
pub fn asks_other_password(sudoers: &str) -> bool {
    lines(sudoers).any(|line| {
        line.strip_prefix("Defaults")
            .filter(|rest| rest.starts_with([' ', '\t']))
            .is_some_and(|rest| {
                rest.split([',', ' ', '\t'])
                    .any(|key| OTHER_PASSWORD.contains(&key))
            })
    })
}

/// True when the files of `/etc/sudoers.d` are read.
pub fn reads_folder(sudoers: &str) -> bool {
    // The older form `#includedir` looks like a comment.
    sudoers.lines().map(str::trim).any(|line| {
        let folder = line
            .strip_prefix("@includedir")
            .or_else(|| line.strip_prefix("#includedir"));
        folder.is_some_and(|folder| folder.trim().trim_end_matches('/') == "/etc/sudoers.d")
    })
}

/// True when sudo reads a file of that name in the folder: names with a dot, or with a tilde at the
/// end, are skipped.
pub fn is_read(name: &str) -> bool {
    !name.contains('.') && !name.ends_with('~')
}

fn lines(text: &str) -> impl Iterator<Item = String> {
    text.replace("\\\n", " ")
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim().to_owned())
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_give_everything() {
        for line in [
            "%sudo\tALL=(ALL:ALL) ALL",
            "%sudo ALL = (ALL) NOPASSWD: ALL # all of it",
            "%sudo ALL=(root) NOPASSWD:SETENV: ALL",
            "%sudo ALL=\\\n ALL",
        ] {
            assert!(
                grants(&format!("root ALL=(ALL) ALL\n{line}\n"), "%sudo"),
                "{line}"
            );
        }
    }

    /// The first four lines once counted as full rights, and the account could do nothing.
    #[test]
    fn lines_that_give_less() {
        for line in [
            "%sudo ALL=(www-data) ALL",
            "%sudo ALL=(ALL) /bin/ls, !ALL",
            "%sudo ALL=(ALL) NOEXEC: ALL",
            "%sudo ALL=(ALL) /bin/ls ALL",
            "# %sudo ALL=(ALL:ALL) ALL",
            "%sudoers ALL=(ALL:ALL) ALL",
            "%sudo web=(ALL) ALL",
            "%sudo",
            "%sudo ALL=(ALL",
        ] {
            assert!(!grants(line, "%sudo"), "{line}");
        }
    }

    #[test]
    fn whose_password_and_whose_files() {
        assert!(asks_other_password(
            "Defaults targetpw   # ask for root's\n"
        ));
        assert!(asks_other_password("Defaults env_reset, rootpw\n"));
        assert!(!asks_other_password(
            "# Defaults targetpw\nDefaults !targetpw\nDefaults:ann targetpw\n"
        ));
        assert!(
            reads_folder("#includedir /etc/sudoers.d\n")
                && reads_folder("@includedir /etc/sudoers.d/\n")
        );
        assert!(!reads_folder(
            "# includedir /etc/sudoers.d\n@includedir /usr/etc/sudoers.d\n"
        ));
        assert!(is_read("10_lab") && !is_read("README.txt") && !is_read("a~"));
    }
}
