//! The host name, in every file where a distribution keeps it.
//!
//! Distributions are told apart as in libguestfs (`hostname.ml`): by the files that exist, not by
//! the name of the system.

use super::edits::Edits;
use crate::error::{Result, StepError};
use crate::guest::{Kind, Owner};

/// Notes the missing changes.
pub(super) fn missing(edits: &mut Edits<'_>, name: &str, fqdn: Option<&str>) -> Result<()> {
    plain_name(name)?;
    if let Some(fqdn) = fqdn {
        plain_name(fqdn)?;
    }
    let full = fqdn.unwrap_or(name);
    let readable = Owner::root(0o644);
    let old = old_name(edits)?.filter(|old| old != name);
    let old = old.as_deref();
    let hosts = match edits.exists("/etc/hosts")? {
        true => edits.text("/etc/hosts")?,
        false => None,
    };
    let hosts_now = hosts_with(hosts.as_deref().unwrap_or_default(), old, name, fqdn);
    if hosts.as_deref() != Some(&hosts_now) {
        edits.file("/etc/hosts", &hosts_now, readable)?;
    }
    for (path, key, value) in [
        ("/etc/machine-info", "PRETTY_HOSTNAME", name),
        ("/etc/sysconfig/network", "HOSTNAME", full),
        ("/etc/conf.d/hostname", "hostname", name),
    ] {
        if edits.is(path, Kind::File)?
            && let Some(text) = edits.text(path)?
            && let Some(changed) = with_assignment(&text, key, value)
        {
            edits.file(path, &changed, readable)?;
        }
    }
    if edits.is("/etc/HOSTNAME", Kind::File)? {
        edits.file("/etc/HOSTNAME", &format!("{full}\n"), readable)?;
    }
    if let Some(old) = old
        && edits.is("/etc/mailname", Kind::File)?
        && let Some(mail) = edits.text("/etc/mailname")?
        && names_host(mail.trim(), old)
    {
        edits.file("/etc/mailname", &format!("{full}\n"), readable)?;
    }
    // This file comes last, because the changes above depend on the old name in it.
    if edits.is("/etc/hostname", Kind::File)? {
        edits.file("/etc/hostname", &format!("{name}\n"), readable)
    } else {
        edits.exact_file("/etc/hostname", &format!("{name}\n"), readable)
    }
}

/// Checks for letters, digits, hyphens and dots only (RFC 1123), which have no special meaning in
/// any file that gets the name.
fn plain_name(name: &str) -> Result<()> {
    let plain = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'));
    if name.is_empty() || name.len() > 253 || !plain || name.starts_with(['-', '.']) {
        return Err(StepError::refused(
            format!("{name:?} is not a host name"),
            "use letters, digits, hyphens and dots alone, at most 253",
        ));
    }
    Ok(())
}

/// First word of a file, comment lines skipped.
fn first_word(text: &str) -> Option<&str> {
    text.lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with('#'))
        .and_then(|line| line.split_whitespace().next())
}

/// Name of the master, from the first file that has one.
fn old_name(edits: &Edits<'_>) -> Result<Option<String>> {
    // A dangling or circular link holds no old name.
    let text = |path: &str| match edits.exists(path)? {
        true => edits.text(path),
        false => Ok(None),
    };
    for path in ["/etc/hostname", "/etc/HOSTNAME"] {
        if let Some(old) = text(path)?.as_deref().and_then(first_word) {
            return Ok(Some(old.to_owned()));
        }
    }
    let network = text("/etc/sysconfig/network")?.unwrap_or_default();
    Ok(network
        .lines()
        .filter_map(|line| line.trim().strip_prefix("HOSTNAME="))
        .map(|value| value.trim_matches(['"', '\'']).to_owned())
        .rfind(|value| !value.is_empty()))
}

/// True for the name itself and for the name with any domain. Never true for a name of the loopback
/// device, which every machine has, whatever the master was called.
fn names_host(text: &str, host: &str) -> bool {
    let label = |name: &str| name.split('.').next().unwrap_or(name).to_ascii_lowercase();
    !names_loopback(text) && label(text) == label(host)
}

/// True for the names that distributions give to the loopback device (hosts(5), and the files of
/// Debian, Fedora and SUSE).
fn names_loopback(text: &str) -> bool {
    let label = text.split('.').next().unwrap_or(text);
    [
        "localhost",
        "localhost4",
        "localhost6",
        "ip6-localhost",
        "ipv6-localhost",
        "ip6-loopback",
        "ipv6-loopback",
    ]
    .iter()
    .any(|name| label.eq_ignore_ascii_case(name))
}

/// `/etc/hosts` in which 127.0.0.1 is localhost, 127.0.1.1 is the machine's own name, and loopback
/// lines no longer have the master's name. A line of another address that names the master stays: a
/// server may be found by it.
fn hosts_with(text: &str, old: Option<&str>, name: &str, fqdn: Option<&str>) -> String {
    let own = match fqdn.filter(|fqdn| *fqdn != name) {
        Some(fqdn) => format!("127.0.1.1\t{fqdn} {name}"),
        None => format!("127.0.1.1\t{name}"),
    };
    let mut lines: Vec<String> = Vec::new();
    let mut own_at = None;
    let mut localhost_at = None;
    for line in text.lines() {
        let mut words = line
            .split('#')
            .next()
            .unwrap_or_default()
            .split_whitespace();
        let address = words.next().unwrap_or_default();
        if address == "127.0.1.1" {
            if own_at.is_none() {
                own_at = Some(lines.len());
                lines.push(own.clone());
            }
            continue;
        }
        let loopback = address.starts_with("127.") || address == "::1";
        let names: Vec<&str> = words.collect();
        let of_master = |word: &&str| old.is_some_and(|old| names_host(word, old));
        let kept: Vec<&str> = names
            .iter()
            .copied()
            .filter(|word| !of_master(word))
            .collect();
        if !loopback || kept.len() == names.len() {
            lines.push(line.to_owned());
        } else if kept.is_empty() {
            continue;
        } else {
            lines.push(format!("{address}\t{}", kept.join(" ")));
        }
        if address == "127.0.0.1"
            && kept
                .iter()
                .any(|word| word.eq_ignore_ascii_case("localhost"))
        {
            localhost_at.get_or_insert(lines.len().saturating_sub(1));
        }
    }
    let localhost_at = match localhost_at {
        Some(at) => at,
        None => {
            lines.insert(0, "127.0.0.1\tlocalhost".into());
            0
        }
    };
    if own_at.is_none() {
        lines.insert(localhost_at.saturating_add(1).min(lines.len()), own);
    }
    lines.join("\n") + "\n"
}

/// A file of shell assignments with one of them changed; `None` if it has no such line.
fn with_assignment(text: &str, key: &str, value: &str) -> Option<String> {
    let mut found = false;
    let lines: Vec<String> = text
        .lines()
        .map(|line| match line.trim_start().strip_prefix(key) {
            Some(rest) if rest.starts_with('=') => {
                found = true;
                format!("{key}=\"{value}\"")
            }
            _ => line.to_owned(),
        })
        .collect();
    found.then(|| lines.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_debian_line_is_replaced_and_nothing_else() {
        let before = "127.0.0.1\tlocalhost\n127.0.1.1\tmaster.lab master\n\n# v6\n::1 localhost ip6-localhost\n";
        let after = hosts_with(before, Some("master"), "pc-07", Some("pc-07.lab.example"));
        assert_eq!(
            after,
            "127.0.0.1\tlocalhost\n127.0.1.1\tpc-07.lab.example pc-07\n\n# v6\n::1 localhost ip6-localhost\n"
        );
        let again = hosts_with(&after, None, "pc-07", Some("pc-07.lab.example"));
        assert_eq!(again, after);
    }

    #[test]
    fn the_old_name_goes_from_loopback_lines_only() {
        let before = "127.0.0.1 localhost master master.lab\n::1 master\n10.0.0.1 master\n";
        let after = hosts_with(before, Some("master"), "pc", None);
        assert_eq!(
            after,
            "127.0.0.1\tlocalhost\n127.0.1.1\tpc\n10.0.0.1 master\n"
        );
    }

    /// Regression: a master that was never named is called `localhost.localdomain`. Its name was
    /// removed from every loopback line, and localhost could no longer be resolved.
    #[test]
    fn localhost_stays_whatever_the_master_was_called() {
        let red_hat = "127.0.0.1   localhost localhost.localdomain localhost4 localhost4.localdomain4\n\
                       ::1         localhost localhost.localdomain localhost6 localhost6.localdomain6\n";
        for old in [
            "localhost.localdomain",
            "localhost",
            "Localhost",
            "localhost4",
            "ip6-localhost",
        ] {
            let after = hosts_with(red_hat, Some(old), "pc", None);
            let (first, rest) = red_hat.split_once('\n').unwrap();
            assert_eq!(after, format!("{first}\n127.0.1.1\tpc\n{rest}"), "{old}");
            assert_eq!(hosts_with(&after, Some(old), "pc", None), after, "{old}");
        }
        // localhost stood on the line of the machine's own name.
        for before in [
            "127.0.1.1 master localhost\n",
            "127.0.0.1 master\n",
            "127.0.0.2 localhost\n127.0.1.1 master\n",
        ] {
            let after = hosts_with(before, Some("master"), "pc", None);
            assert!(after.starts_with("127.0.0.1\tlocalhost\n"), "{after}");
            assert!(
                !after.contains("master") && after.contains("127.0.1.1\tpc\n"),
                "{after}"
            );
        }
    }

    #[test]
    fn an_empty_file_gets_both_lines() {
        assert_eq!(
            hosts_with("", None, "pc", None),
            "127.0.0.1\tlocalhost\n127.0.1.1\tpc\n"
        );
    }

    #[test]
    fn assignments_are_changed_in_place() {
        assert_eq!(
            with_assignment("NETWORKING=yes\nHOSTNAME=old\n", "HOSTNAME", "new").as_deref(),
            Some("NETWORKING=yes\nHOSTNAME=\"new\"\n")
        );
        assert_eq!(with_assignment("HOSTNAMES=x\n", "HOSTNAME", "new"), None);
    }

    #[test]
    fn names_that_would_break_a_file_are_refused() {
        for bad in ["", "a b", "a\nb", "-a", "a$(x)", ".a"] {
            assert!(plain_name(bad).is_err(), "{bad:?}");
        }
        assert!(plain_name("PC-07.lab.example").is_ok());
    }
}
