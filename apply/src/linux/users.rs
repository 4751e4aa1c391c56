//! Step that makes an account of a Linux system.
//!
//! The account files are not locked: the system that would lock them is not running.
#![expect(
    clippy::disallowed_methods,
    reason = "the edge: shadow keeps the day of a password"
)]

use super::accounts::{self, Account, Policy};
use super::edits::Edits;
use crate::context::Context;
use crate::error::{Result, StepError};
use crate::guest::{Kind, Owner};
use std::cell::Cell;
use template::step::{Group, OnExists, User};
use template::sudoers;

/// 2024-01-01 in days since 1970: an earlier clock is not set.
const CLOCK_IS_SET: u64 = 19_723;

/// File with sudo rights for a group that has none. The last of several lines for one group counts,
/// and files are read in the order of their names.
const SUDOERS: &str = "/etc/sudoers.d/zzz-diskcast";

/// Text of every file that an account appears in.
struct Files {
    passwd: String,
    shadow: String,
    group: String,
    gshadow: Option<String>,
    subuid: Option<String>,
    subgid: Option<String>,
}

/// Notes the missing changes. `created` is set once the account was found missing: from then on the
/// account is ours, and `on_exists` applies to accounts of the master only.
pub(super) fn missing(
    edits: &mut Edits<'_>,
    context: &mut Context<'_>,
    user: &User,
    created: &Cell<bool>,
) -> Result<()> {
    accounts::check_name(&user.name)?;
    if let Some(full_name) = &user.full_name {
        accounts::check_full_name(full_name)?;
    }
    let hash = user
        .password
        .as_ref()
        .map(|name| context.secret(name))
        .transpose()?;
    if let Some(hash) = hash {
        accounts::check_hash(hash)?;
    }
    let login_defs = match edits.text("/etc/login.defs")? {
        Some(text) => text,
        None => edits.text("/usr/etc/login.defs")?.unwrap_or_default(),
    };
    let policy = Policy::new(
        &login_defs,
        &edits.text("/etc/default/useradd")?.unwrap_or_default(),
    );
    let mut files = Files::read(edits)?;
    let found = accounts::account(&files.passwd, &user.name);
    if found.is_none() && accounts::line_of(&files.passwd, &user.name).is_some() {
        let fault = format!("the line of {} is damaged", user.name);
        return Err(StepError::unexpected("/etc/passwd", fault));
    }
    if found.is_none() {
        created.set(true);
    }
    if let Some(found) = &found {
        if found.uid != 0 && !(policy.uids.0..=policy.uids.1).contains(&found.uid) {
            return Err(StepError::refused(
                format!(
                    "{} is an account of the system itself (UID {})",
                    user.name, found.uid
                ),
                "choose another name in the template",
            ));
        }
        match user.on_exists {
            OnExists::Skip if !created.get() => {
                context.note(format!(
                    "the account {} is there already and stays as it is",
                    user.name
                ));
                return Ok(());
            }
            OnExists::Fail if !created.get() => {
                return Err(StepError::refused(
                    format!("the account {} is there already", user.name),
                    "choose another name, or on_exists = \"update\"",
                ));
            }
            OnExists::Update | OnExists::Skip | OnExists::Fail => {}
        }
    }
    let account = match found {
        Some(found) => found,
        None => files.add(edits, user, &policy)?,
    };
    if let Some(full_name) = &user.full_name {
        files.passwd = accounts::with_field(&files.passwd, &user.name, 4, full_name);
    }
    if let Some(hash) = hash {
        if accounts::line_of(&files.shadow, &user.name).is_none() {
            files.shadow =
                accounts::with_line(&files.shadow, &format!("{}:*::0:99999:7:::", user.name));
        }
        files.passwd = accounts::with_field(&files.passwd, &user.name, 1, "x");
        files.shadow = accounts::with_hash(&files.shadow, &user.name, hash, &today());
    }
    for group in &user.groups {
        files.join(edits, context, user, group)?;
    }
    files.write(edits)?;
    if created.get() && !edits.exists(&account.home)? {
        let owner = Owner {
            uid: account.uid,
            gid: account.gid,
            mode: policy.home_mode,
        };
        edits.copied_tree("/etc/skel", &account.home, owner)?;
    }
    Ok(())
}

/// Today in days since 1970; empty, which means no ageing, if the clock is not set.
fn today() -> String {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .ok()
        .map(|since| since.as_secs() / 86_400)
        .filter(|day| *day >= CLOCK_IS_SET)
        .map_or_else(String::new, |day| day.to_string())
}

impl Files {
    fn read(edits: &Edits<'_>) -> Result<Self> {
        let needed = |path: &str| {
            edits.text(path)?.ok_or_else(|| {
                let fault = "it is missing: no Linux system that accounts can be made on";
                StepError::unexpected(path, fault)
            })
        };
        Ok(Self {
            passwd: needed("/etc/passwd")?,
            shadow: needed("/etc/shadow")?,
            group: needed("/etc/group")?,
            gshadow: edits.text("/etc/gshadow")?,
            subuid: edits.text("/etc/subuid")?,
            subgid: edits.text("/etc/subgid")?,
        })
    }

    fn write(&self, edits: &mut Edits<'_>) -> Result<()> {
        // Owner and mode stay: Debian has shadow as root:shadow 0640, Fedora as root:root 0000.
        edits.file("/etc/group", &self.group, Owner::root(0o644))?;
        if let Some(gshadow) = &self.gshadow {
            edits.file("/etc/gshadow", gshadow, Owner::root(0o600))?;
        }
        for (path, text) in [("/etc/subuid", &self.subuid), ("/etc/subgid", &self.subgid)] {
            if let Some(text) = text {
                edits.file(path, text, Owner::root(0o644))?;
            }
        }
        edits.file("/etc/shadow", &self.shadow, Owner::root(0o600))?;
        edits.file("/etc/passwd", &self.passwd, Owner::root(0o644))
    }

    /// Adds an account without a password, with its group, home path and subordinate ids.
    fn add(&mut self, edits: &Edits<'_>, user: &User, policy: &Policy) -> Result<Account> {
        let name = &user.name;
        let (uid, mut gid) = accounts::free_ids(&self.passwd, &self.group, policy)?;
        if policy.own_group {
            match accounts::group_id(&self.group, name) {
                Some(there) => gid = there,
                None => {
                    self.group = accounts::with_line(&self.group, &format!("{name}:x:{gid}:"));
                    if let Some(gshadow) = &mut self.gshadow {
                        *gshadow = accounts::with_line(gshadow, &format!("{name}:!::"));
                    }
                }
            }
        }
        let home = format!("/home/{name}");
        let shell = if edits.exists("/bin/bash")? {
            "/bin/bash"
        } else {
            "/bin/sh"
        };
        self.passwd = accounts::with_line(
            &self.passwd,
            &format!("{name}:x:{uid}:{gid}::{home}:{shell}"),
        );
        // `*`: no password fits, but the account is not locked for keys.
        if accounts::line_of(&self.shadow, name).is_none() {
            self.shadow =
                accounts::with_line(&self.shadow, &format!("{name}:*:{}:0:99999:7:::", today()));
        }
        for subordinate in [&mut self.subuid, &mut self.subgid].into_iter().flatten() {
            *subordinate = accounts::with_subordinate(subordinate, name, policy);
        }
        Ok(Account { uid, gid, home })
    }

    fn join(
        &mut self,
        edits: &mut Edits<'_>,
        context: &mut Context<'_>,
        user: &User,
        group: &Group,
    ) -> Result<()> {
        let known = |name: &&str| accounts::line_of(&self.group, name).is_some();
        let name = match group {
            Group::Administrators => match ["sudo", "wheel"].iter().copied().find(known) {
                Some(name) => {
                    may_use_sudo(edits, &format!("%{name}"))?;
                    name
                }
                None => return may_use_sudo(edits, &user.name),
            },
            Group::Users => match Some("users").filter(known) {
                Some(name) => name,
                None => return Ok(()),
            },
            Group::PowerUsers | Group::RemoteDesktop => {
                context.note(format!(
                    "{}: a Linux system has no group of power users or remote desktop users",
                    user.name
                ));
                return Ok(());
            }
            Group::Named(name) if known(&name.as_str()) => name,
            Group::Named(name) => {
                return Err(StepError::refused(
                    format!("the image has no group {name}"),
                    "make it on the master, or name another one in the template",
                ));
            }
        };
        self.group = accounts::with_member(&self.group, name, &user.name);
        if let Some(gshadow) = &mut self.gshadow {
            *gshadow = accounts::with_member(gshadow, name, &user.name);
        }
        Ok(())
    }
}

/// Makes sure that sudo lets `who` (`%group` or an account) do everything with the caller's own
/// password. Arch has `wheel` and gives it no rights; openSUSE requires the password of root.
fn may_use_sudo(edits: &mut Edits<'_>, who: &str) -> Result<()> {
    let main = match edits.text("/etc/sudoers")? {
        Some(text) => Some(text),
        None => edits.text("/usr/etc/sudoers")?,
    };
    let Some(main) = main else {
        return Err(StepError::refused(
            format!("the image has no sudo: {who} could not act as an administrator"),
            "install sudo on the master, or leave \"administrators\" out of the groups",
        ));
    };
    let mut all = main.clone();
    for name in edits.list("/etc/sudoers.d")? {
        let path = format!("/etc/sudoers.d/{name}");
        if path != SUDOERS && sudoers::is_read(&name) && edits.is(&path, Kind::File)? {
            all.push('\n');
            all.push_str(&edits.text(&path)?.unwrap_or_default());
        }
    }
    let mut lines = Vec::new();
    if !sudoers::grants(&all, who) {
        lines.push(format!("{who} ALL=(ALL:ALL) ALL"));
    }
    if sudoers::asks_other_password(&all) {
        lines.push(format!("Defaults:{who} !targetpw, !rootpw, !runaspw"));
    }
    if lines.is_empty() {
        return Ok(());
    }
    if !sudoers::reads_folder(&main) {
        return Err(StepError::refused(
            format!("/etc/sudoers does not read /etc/sudoers.d and does not let {who} use sudo"),
            "add `@includedir /etc/sudoers.d` to it on the master",
        ));
    }
    let mut text = edits.text(SUDOERS)?.unwrap_or_default();
    for line in lines {
        if !text.lines().any(|have| have == line) {
            text = accounts::with_line(&text, &line);
        }
    }
    edits.exact_file(SUDOERS, &text, Owner::root(0o440))
}
