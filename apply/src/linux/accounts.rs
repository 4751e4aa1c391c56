//! The account files as text: passwd, shadow, group, gshadow, subuid and subgid (passwd(5),
//! shadow(5), group(5)).
//!
//! Pure. A line of another account or group stays unchanged, byte for byte, and added text cannot
//! hold a separator.

use crate::error::{Result, StepError};
use std::collections::BTreeSet;

/// Settings of login.defs and related files for new accounts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Policy {
    /// First and last UID of ordinary users.
    pub(super) uids: (u32, u32),
    /// First and last GID of ordinary groups.
    pub(super) gids: (u32, u32),
    /// Each user gets a group of the same name.
    pub(super) own_group: bool,
    /// First subordinate id, and the number of ids for each account.
    pub(super) subordinate: (u64, u64),
    /// Mode of a home directory.
    pub(super) home_mode: u32,
    /// Primary group of accounts that have no group of their own.
    pub(super) common_group: u32,
}

impl Policy {
    /// Reads login.defs and `/etc/default/useradd`; missing settings have the defaults of
    /// shadow-utils.
    pub(super) fn new(login_defs: &str, useradd: &str) -> Self {
        let number = |key: &str, default: u32| {
            value(login_defs, key)
                .and_then(|text| text.parse().ok())
                .unwrap_or(default)
        };
        let large = |key: &str, default: u64| {
            value(login_defs, key)
                .and_then(|text| text.parse().ok())
                .unwrap_or(default)
        };
        let home_mode = value(login_defs, "HOME_MODE")
            .and_then(|text| u32::from_str_radix(text, 8).ok())
            .filter(|mode| *mode <= 0o777)
            .unwrap_or(0o700);
        let common_group = useradd
            .lines()
            .find_map(|line| line.trim().strip_prefix("GROUP="))
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(100);
        Self {
            uids: (number("UID_MIN", 1000), number("UID_MAX", 60_000)),
            gids: (number("GID_MIN", 1000), number("GID_MAX", 60_000)),
            own_group: value(login_defs, "USERGROUPS_ENAB") != Some("no"),
            subordinate: (
                large("SUB_UID_MIN", 100_000),
                large("SUB_UID_COUNT", 65_536),
            ),
            home_mode,
            common_group,
        }
    }
}

/// Value of a key in login.defs.
pub(super) fn value<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix(key))
        .filter(|rest| rest.starts_with([' ', '\t']))
        .filter_map(|rest| rest.split_whitespace().next())
        .next_back()
}

/// The fields of a passwd line that are used here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Account {
    /// UID.
    pub(super) uid: u32,
    /// GID of the primary group.
    pub(super) gid: u32,
    /// Home directory.
    pub(super) home: String,
}

/// Account of that name.
pub(super) fn account(passwd: &str, name: &str) -> Option<Account> {
    let fields: Vec<&str> = line_of(passwd, name)?.split(':').collect();
    match fields.as_slice() {
        [_, _, uid, gid, _, home, _] => Some(Account {
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
            home: (*home).to_owned(),
        }),
        _ => None,
    }
}

/// GID of the group of that name.
pub(super) fn group_id(group: &str, name: &str) -> Option<u32> {
    line_of(group, name)?.split(':').nth(2)?.parse().ok()
}

/// The first line whose first field is the name.
pub(super) fn line_of<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines()
        .find(|line| line.split(':').next() == Some(name))
}

/// Unused UID and GID; the same number for both if possible.
pub(super) fn free_ids(passwd: &str, group: &str, policy: &Policy) -> Result<(u32, u32)> {
    let third = |text: &str| -> BTreeSet<u32> {
        text.lines()
            .filter_map(|line| line.split(':').nth(2)?.parse().ok())
            .collect()
    };
    let (uids, gids) = (third(passwd), third(group));
    let next = |taken: &BTreeSet<u32>, (first, last): (u32, u32)| {
        let above = taken
            .range(first..=last.max(first))
            .next_back()
            .and_then(|highest| highest.checked_add(1))
            .unwrap_or(first);
        // The number after the highest one, as useradd chooses it; the lowest gap if that is out of
        // range.
        std::iter::once(above)
            .chain(first..=last)
            .find(|id| (first..=last).contains(id) && !taken.contains(id))
    };
    let (first, last) = policy.uids;
    if first > last {
        let fault = format!("it gives people UIDs from {first} to {last}");
        return Err(StepError::unexpected("/etc/login.defs", fault));
    }
    let both: BTreeSet<u32> = uids.union(&gids).copied().collect();
    if policy.own_group
        && let Some(id) = next(&both, policy.uids)
        && (policy.gids.0..=policy.gids.1).contains(&id)
    {
        return Ok((id, id));
    }
    let taken = |what: &str, (first, last): (u32, u32)| {
        StepError::refused(
            format!("no {what} from {first} to {last} is free"),
            "remove accounts on the master, or widen the range in its /etc/login.defs",
        )
    };
    let uid = next(&uids, policy.uids).ok_or_else(|| taken("UID", policy.uids))?;
    let gid = if policy.own_group {
        next(&gids, policy.gids).ok_or_else(|| taken("GID", policy.gids))?
    } else {
        policy.common_group
    };
    Ok((uid, gid))
}

/// The text with one line added. A missing newline at the end is completed first.
pub(super) fn with_line(text: &str, line: &str) -> String {
    let mut text = text.to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(line);
    text.push('\n');
    text
}

/// The text with one field of the line of that name replaced.
pub(super) fn with_field(text: &str, name: &str, field: usize, value: &str) -> String {
    changed_line(text, name, |fields| {
        if let Some(place) = fields.get_mut(field) {
            *place = value.to_owned();
        }
    })
}

/// shadow with another hash and the day of the change; unchanged if it has that hash already.
pub(super) fn with_hash(shadow: &str, name: &str, hash: &str, day: &str) -> String {
    changed_line(shadow, name, |fields| {
        if fields.get(1).is_some_and(|old| old == hash) {
            return;
        }
        while fields.len() < 9 {
            fields.push(String::new());
        }
        for (field, value) in [(1, hash), (2, day)] {
            if let Some(place) = fields.get_mut(field) {
                *place = value.to_owned();
            }
        }
    })
}

/// group or gshadow with one member added to a group.
pub(super) fn with_member(text: &str, group: &str, member: &str) -> String {
    changed_line(text, group, |fields| {
        if let Some(members) = fields.get_mut(3)
            && !members.split(',').any(|name| name == member)
        {
            if !members.is_empty() {
                members.push(',');
            }
            members.push_str(member);
        }
    })
}

fn changed_line(text: &str, name: &str, change: impl Fn(&mut Vec<String>)) -> String {
    let mut done = false;
    let mut result = String::with_capacity(text.len().saturating_add(64));
    for line in text.split_inclusive('\n') {
        let (bare, end) = match line.strip_suffix('\n') {
            Some(bare) => (bare, "\n"),
            None => (line, ""),
        };
        if !done && bare.split(':').next() == Some(name) {
            let mut fields: Vec<String> = bare.split(':').map(str::to_owned).collect();
            change(&mut fields);
            result.push_str(&fields.join(":"));
            result.push_str(end);
            done = true;
        } else {
            result.push_str(line);
        }
    }
    result
}

/// subuid or subgid with a range for the account, after all other ranges.
pub(super) fn with_subordinate(text: &str, name: &str, policy: &Policy) -> String {
    if line_of(text, name).is_some() {
        return text.to_owned();
    }
    let (first, count) = policy.subordinate;
    let start = text
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':').skip(1);
            let start: u64 = fields.next()?.parse().ok()?;
            start.checked_add(fields.next()?.parse().ok()?)
        })
        .fold(first, u64::max);
    with_line(text, &format!("{name}:{start}:{count}"))
}

/// Checks that useradd would accept a login name.
pub(super) fn check_name(name: &str) -> Result<()> {
    let mut bytes = name.bytes();
    let begins = bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let goes_on = bytes.all(|byte| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-')
    });
    if !begins || !goes_on || name.len() > 32 {
        return Err(StepError::refused(
            format!("{name:?} cannot be a login name"),
            "choose one of a to z, digits, - and _, at most 32 characters, beginning with a letter or _",
        ));
    }
    Ok(())
}

/// Checks that a full name fits into the GECOS field.
pub(super) fn check_full_name(name: &str) -> Result<()> {
    if name.contains([':', ',', '=']) || name.chars().any(char::is_control) {
        return Err(StepError::refused(
            format!("{name:?} cannot be a full name"),
            "leave colons, commas, equals signs and control characters out of it",
        ));
    }
    Ok(())
}

/// Refuses a hash that crypt(5) does not know; the error does not show it. Clear text in place of a
/// hash is found here, before it gets into shadow, where nobody could log in with it.
pub(super) fn check_hash(hash: &str) -> Result<()> {
    const KNOWN: [&str; 8] = ["$y$", "$gy$", "$7$", "$2b$", "$2y$", "$2a$", "$6$", "$5$"];
    let plain = hash
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b':' | b'*' | b'!' | b'\\' | b';'));
    let parts = hash.split('$').filter(|part| !part.is_empty()).count();
    let known = KNOWN.iter().any(|prefix| hash.starts_with(prefix));
    // bcrypt has its salt and hash in one part; the shortest hash is SHA-256 with 43 characters.
    if !known || !plain || parts < 3 || !(50..=384).contains(&hash.len()) {
        return Err(StepError::Order(
            "the secret is not a password hash that crypt(5) knows ($y$, $6$, $5$, $2b$); it has to be hashed on the \
             console"
                .into(),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nann:x:1000:1000:Ann:/home/ann:/bin/sh\nnobody:x:65534:65534::/:/x";
    const GROUP: &str = "root:x:0:\nsudo:x:27:ann\nann:x:1000:\nextra:x:1001:\n";

    #[test]
    fn ids_are_free_in_both_files() {
        let policy = Policy::new("", "");
        assert_eq!(free_ids(PASSWD, GROUP, &policy).unwrap(), (1002, 1002));
        let tight = Policy::new("UID_MIN 1000\nUID_MAX\t1001\n", "");
        assert_eq!(free_ids(PASSWD, GROUP, &tight).unwrap(), (1001, 1002));
        let full = Policy::new("UID_MIN 1000\nUID_MAX 1000\n", "");
        assert!(free_ids(PASSWD, GROUP, &full).is_err());
        let odd = Policy::new("UID_MIN 5\nUID_MAX 1\n", "");
        assert!(free_ids(PASSWD, GROUP, &odd).is_err());
        let common = Policy::new("USERGROUPS_ENAB no\n", "# GROUP=1\nGROUP=100\n");
        assert_eq!(free_ids(PASSWD, GROUP, &common).unwrap(), (1001, 100));
    }

    #[test]
    fn only_the_line_that_is_meant_changes() {
        let changed = with_field(PASSWD, "ann", 4, "Ann B");
        assert_eq!(changed, PASSWD.replace(":Ann:", ":Ann B:"));
        assert_eq!(with_field(PASSWD, "an", 4, "x"), PASSWD);
        assert_eq!(
            with_member(GROUP, "sudo", "bob"),
            GROUP.replace("27:ann", "27:ann,bob")
        );
        assert_eq!(with_member(GROUP, "sudo", "ann"), GROUP);
        assert_eq!(
            with_member(GROUP, "ann", "bob"),
            GROUP.replace("1000:\n", "1000:bob\n")
        );
    }

    #[test]
    fn a_hash_is_set_once_with_its_day() {
        let shadow = "root:*:19000:0:99999:7:::\nann:old:1:0:99999:7:::\n";
        let changed = with_hash(shadow, "ann", "$6$s$h", "20000");
        assert_eq!(
            changed,
            "root:*:19000:0:99999:7:::\nann:$6$s$h:20000:0:99999:7:::\n"
        );
        assert_eq!(with_hash(&changed, "ann", "$6$s$h", "30000"), changed);
    }

    #[test]
    fn subordinate_ids_come_after_all_others() {
        let policy = Policy::new("", "");
        assert_eq!(with_subordinate("", "bob", &policy), "bob:100000:65536\n");
        let text = "ann:165536:65536\nold:100000:65536\n";
        let changed = with_subordinate(text, "bob", &policy);
        assert_eq!(changed, format!("{text}bob:231072:65536\n"));
        assert_eq!(with_subordinate(&changed, "bob", &policy), changed);
    }

    #[test]
    fn a_last_line_without_an_end_is_not_glued() {
        assert_eq!(with_line("a:x", "b:y"), "a:x\nb:y\n");
    }

    #[test]
    fn what_is_no_hash_is_refused_and_not_shown() {
        for bad in [
            "hunter2",
            "",
            "!",
            "$6$salt",
            "$9$abc$aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        ] {
            let error = check_hash(bad).unwrap_err().to_string();
            assert!(
                bad.is_empty() || bad == "!" || !error.contains(bad),
                "{error}"
            );
        }
        let colon = format!("$6$saltsalt${}:0:0", "a".repeat(86));
        assert!(check_hash(&colon).is_err());
        assert!(check_hash(&format!("$6$saltsaltsalt${}", "a".repeat(86))).is_ok());
        assert!(check_hash(&format!("$2b$12${}", "a".repeat(53))).is_ok());
        assert!(check_hash(&format!("$y$j9T$saltsaltsalt$${}", "a".repeat(43))).is_ok());
    }

    #[test]
    fn names() {
        assert!(check_name("lab_admin-2").is_ok());
        for bad in ["", "Ann", "2a", "a:b", "a\nb", "-a", "a b", &"a".repeat(33)] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
        assert!(check_full_name("Ann B. Müller").is_ok());
        assert!(check_full_name("a:b").is_err());
    }
}
