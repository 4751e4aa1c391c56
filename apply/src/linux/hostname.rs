//! The name of a machine, wherever a distribution keeps it.
//!
//! The switch between distributions is libguestfs' (`hostname.ml`): by the files that exist, not by the name of the system.

use super::edits::Edits;
use crate::guest::{Kind, Owner};

/// Notes what is missing.
pub(super) fn missing(edits: &mut Edits<'_>, name: &str, fqdn: Option<&str>) -> Result<(), String> {
    plain_name(name)?;
    if let Some(fqdn) = fqdn {
        plain_name(fqdn)?;
    }
    let full = fqdn.unwrap_or(name);
    let readable = Owner::root(0o644);
    // A link that leads nowhere (or round in a circle) has no old name to tell.
    let old = match edits.exists("/etc/hostname")? {
        true => edits.text("/etc/hostname")?,
        false => None,
    };
    let old = old
        .as_deref()
        .and_then(first_word)
        .filter(|old| *old != name);
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
    if edits.exists("/etc/cloud/cloud.cfg")? {
        edits.file(
            "/etc/cloud/cloud.cfg.d/99-diskcast-hostname.cfg",
            "# Written by diskcast: the name comes from /etc/hostname.\npreserve_hostname: true\n",
            readable,
        )?;
    }
    // Last: the old name in it is what the lines above go by.
    if edits.is("/etc/hostname", Kind::File)? {
        edits.file("/etc/hostname", &format!("{name}\n"), readable)
    } else {
        edits.exact_file("/etc/hostname", &format!("{name}\n"), readable)
    }
}

/// Letters, digits, hyphens and dots (RFC 1123): nothing that means something to a file it is written into.
fn plain_name(name: &str) -> Result<(), String> {
    let plain = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'));
    if name.is_empty() || name.len() > 253 || !plain || name.starts_with(['-', '.']) {
        return Err(format!("{name:?} is not a host name"));
    }
    Ok(())
}

/// First word of a file that may have comments.
fn first_word(text: &str) -> Option<&str> {
    text.lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with('#'))
        .and_then(|line| line.split_whitespace().next())
}

/// True for the name itself and for the name with any domain.
fn names_host(text: &str, host: &str) -> bool {
    let label = host.split('.').next().unwrap_or(host);
    text == host || text.split('.').next() == Some(label)
}

/// `/etc/hosts` where 127.0.1.1 is the machine's own name, and where the master's name is gone from loopback lines. A line
/// of another address that names the master stays: it may be how a server is found.
fn hosts_with(text: &str, old: Option<&str>, name: &str, fqdn: Option<&str>) -> String {
    let own = match fqdn.filter(|fqdn| *fqdn != name) {
        Some(fqdn) => format!("127.0.1.1\t{fqdn} {name}"),
        None => format!("127.0.1.1\t{name}"),
    };
    let mut lines: Vec<String> = Vec::new();
    let mut placed = false;
    for line in text.lines() {
        let bare = line.split('#').next().unwrap_or_default();
        let mut words = bare.split_whitespace();
        let address = words.next().unwrap_or_default();
        if address == "127.0.1.1" {
            if !placed {
                lines.push(own.clone());
                placed = true;
            }
            continue;
        }
        let loopback = address.starts_with("127.") || address == "::1";
        let names: Vec<&str> = words.collect();
        match old {
            Some(old) if loopback && names.iter().any(|word| names_host(word, old)) => {
                let kept: Vec<&str> = names
                    .into_iter()
                    .filter(|word| !names_host(word, old))
                    .collect();
                if !kept.is_empty() {
                    lines.push(format!("{address}\t{}", kept.join(" ")));
                }
            }
            _ => lines.push(line.to_owned()),
        }
    }
    if !placed {
        let has_loopback = |line: &String| line.split_whitespace().next() == Some("127.0.0.1");
        if !lines.iter().any(has_loopback) {
            lines.insert(0, "127.0.0.1\tlocalhost".into());
        }
        let place = lines
            .iter()
            .position(has_loopback)
            .map_or(0, |at| at.saturating_add(1));
        lines.insert(place.min(lines.len()), own);
    }
    lines.join("\n") + "\n"
}

/// A file of shell assignments with one of them changed; `None` when it has no such line.
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
