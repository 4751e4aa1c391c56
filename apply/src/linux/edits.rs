//! Missing changes in a guest: found first, carried out afterwards.
//!
//! Each method describes a wanted state and notes a change only if it does not hold. The result
//! depends on the guest alone, so a second search after [`Edits::carry_out`] finds nothing.

use crate::engine::State;
use crate::error::{Result, StepError};
use crate::guest::{Guest, Kind, Owner};

/// Largest configuration file that is read, in bytes.
const MAX_TEXT: u64 = 8 << 20;

/// Deepest level of a tree that is copied or removed.
const MAX_DEPTH: usize = 16;

/// Most files in one tree.
const MAX_TREE: usize = 10_000;

/// Folder for configuration of the master that would conflict with ours.
pub(super) const SET_ASIDE: &str = "/etc/diskcast/set-aside";

/// One change.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Change {
    Directories {
        path: String,
        owner: Owner,
    },
    Write {
        path: String,
        content: Vec<u8>,
        owner: Owner,
    },
    Link {
        path: String,
        target: String,
    },
    Move {
        from: String,
        to: String,
    },
    Remove {
        path: String,
    },
    Own {
        path: String,
        owner: Owner,
    },
}

/// Changes found so far.
pub(crate) struct Edits<'g> {
    guest: &'g Guest,
    changes: Vec<Change>,
}

impl<'g> Edits<'g> {
    pub(super) fn new(guest: &'g Guest) -> Self {
        Self {
            guest,
            changes: Vec::new(),
        }
    }

    // Reading.

    /// Text of a configuration file; `None` if there is none.
    pub(super) fn text(&self, path: &str) -> Result<Option<String>> {
        let Some(content) = self.guest.read(path, MAX_TEXT)? else {
            return Ok(None);
        };
        String::from_utf8(content).map(Some).map_err(|_| {
            let fault = "it is not UTF-8 and would be damaged; convert it on the master";
            StepError::unexpected(path, fault)
        })
    }

    pub(super) fn exists(&self, path: &str) -> Result<bool> {
        self.guest.exists(path)
    }

    pub(super) fn is(&self, path: &str, kind: Kind) -> Result<bool> {
        Ok(self
            .guest
            .metadata(path)?
            .is_some_and(|found| found.kind == kind))
    }

    pub(super) fn list(&self, folder: &str) -> Result<Vec<String>> {
        self.guest.list(folder)
    }

    /// True if systemd is the system's first process.
    pub(super) fn has_systemd(&self) -> Result<bool> {
        Ok(self.exists("/usr/lib/systemd/systemd")? || self.exists("/lib/systemd/systemd")?)
    }

    // Wanted states.

    /// The file has this content. An existing file keeps owner and mode.
    pub(super) fn file(&mut self, path: &str, content: &str, new: Owner) -> Result<()> {
        if self.text(path)?.as_deref() != Some(content) {
            self.folder_of(path)?;
            self.write(path, content.as_bytes().to_vec(), new)?;
        }
        Ok(())
    }

    /// The path is a regular file with this content, owner and mode.
    pub(super) fn exact_file(&mut self, path: &str, content: &str, owner: Owner) -> Result<()> {
        let found = self.guest.metadata(path)?;
        let regular = found.is_some_and(|found| found.kind == Kind::File);
        let same = regular && self.text(path)?.as_deref() == Some(content);
        if !same {
            self.folder_of(path)?;
            self.write(path, content.as_bytes().to_vec(), owner)?;
        }
        if !same || found.is_some_and(|found| found.owner != owner) {
            self.push(Change::Own {
                path: path.to_owned(),
                owner,
            })?;
        }
        Ok(())
    }

    /// The folder exists.
    pub(super) fn folder(&mut self, path: &str, owner: Owner) -> Result<()> {
        if !self.exists(path)? {
            self.push(Change::Directories {
                path: path.to_owned(),
                owner,
            })?;
        }
        Ok(())
    }

    /// The path is a symbolic link with this target.
    pub(super) fn link(&mut self, path: &str, target: &str) -> Result<()> {
        if self.guest.link_target(path)?.as_deref() != Some(target) {
            self.folder_of(path)?;
            self.push(Change::Link {
                path: path.to_owned(),
                target: target.to_owned(),
            })?;
        }
        Ok(())
    }

    /// No file or symbolic link has this path. A directory stays.
    pub(super) fn gone(&mut self, path: &str) -> Result<()> {
        match self.guest.metadata(path)? {
            Some(found) if found.kind != Kind::Directory => self.push(Change::Remove {
                path: path.to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// No file in the folder has a name that matches.
    pub(super) fn gone_where(&mut self, folder: &str, fits: impl Fn(&str) -> bool) -> Result<()> {
        for name in self.list(folder)? {
            if fits(&name) {
                self.gone(&format!("{folder}/{name}"))?;
            }
        }
        Ok(())
    }

    /// A file of the master is moved out of the way, below [`SET_ASIDE`].
    pub(super) fn set_aside(&mut self, path: &str) -> Result<()> {
        match self.guest.metadata(path)? {
            None => Ok(()),
            Some(found) if found.kind == Kind::Directory => Ok(()),
            Some(_) => {
                let to = format!("{SET_ASIDE}{path}");
                self.folder_of(&to)?;
                self.push(Change::Move {
                    from: path.to_owned(),
                    to,
                })
            }
        }
    }

    /// A new folder has the content of another one, with one owner for everything. Modes are those
    /// of the source, except for the folder itself. Symbolic links are copied unchanged; other
    /// entries than files and folders are left out.
    pub(super) fn copied_tree(&mut self, from: &str, to: &str, owner: Owner) -> Result<()> {
        self.folder(to, owner)?;
        self.push(Change::Own {
            path: to.to_owned(),
            owner,
        })?;
        let mut folders = vec![(from.to_owned(), to.to_owned(), 0_usize)];
        let mut count = 0_usize;
        while let Some((from, to, depth)) = folders.pop() {
            for name in self.list(&from)? {
                count = count.saturating_add(1);
                if count > MAX_TREE || depth > MAX_DEPTH {
                    return Err(StepError::refused(
                        format!("{from} is too large a tree to copy"),
                        format!(
                            "leave at most {MAX_TREE} files and {MAX_DEPTH} levels in it on the master"
                        ),
                    ));
                }
                let (source, path) = (format!("{from}/{name}"), format!("{to}/{name}"));
                let Some(found) = self.guest.metadata(&source)? else {
                    continue;
                };
                let owner = Owner {
                    mode: found.owner.mode & 0o777,
                    ..owner
                };
                match found.kind {
                    Kind::File => {
                        let content = self.guest.read(&source, MAX_TEXT)?.unwrap_or_default();
                        self.write(&path, content, owner)?;
                    }
                    Kind::Directory => {
                        self.push(Change::Directories {
                            path: path.clone(),
                            owner,
                        })?;
                        folders.push((source, path, depth.saturating_add(1)));
                    }
                    Kind::Link => {
                        let target = self.guest.link_target(&source)?.unwrap_or_default();
                        self.push(Change::Link { path, target })?;
                    }
                    Kind::Other => {}
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, path: &str, content: Vec<u8>, owner: Owner) -> Result<()> {
        self.push(Change::Write {
            path: path.to_owned(),
            content,
            owner,
        })
    }

    fn folder_of(&mut self, path: &str) -> Result<()> {
        match path.rsplit_once('/') {
            None | Some(("", _)) => Ok(()),
            Some((folder, _)) => self.folder(folder, Owner::root(0o755)),
        }
    }

    fn push(&mut self, change: Change) -> Result<()> {
        self.guest.check_reachable(change.path())?;
        if !self.changes.contains(&change) {
            self.changes.push(change);
        }
        Ok(())
    }

    // Results.

    /// `Needed` with the first change if there is any, else `Done`.
    pub(super) fn state(&self) -> State {
        match self.changes.first() {
            None => State::Done,
            Some(first) => State::Needed(match self.changes.len() {
                1 => first.describe(),
                count => format!("{} and {} more", first.describe(), count.saturating_sub(1)),
            }),
        }
    }

    /// Carries out the changes.
    pub(super) fn carry_out(mut self) -> Result<()> {
        if !self.changes.is_empty() && self.relabels()? && !self.exists("/.autorelabel")? {
            self.changes.insert(
                0,
                Change::Write {
                    path: "/.autorelabel".into(),
                    content: Vec::new(),
                    owner: Owner::root(0o644),
                },
            );
        }
        for change in &self.changes {
            change.carry_out(self.guest)?;
        }
        Ok(())
    }

    /// True if SELinux is enforcing: new files have a guessed label, and the system sets the right
    /// ones at its next start.
    fn relabels(&self) -> Result<bool> {
        let config = self.text("/etc/selinux/config")?.unwrap_or_default();
        Ok(config.lines().any(|line| {
            line.trim()
                .strip_prefix("SELINUX=")
                .is_some_and(|value| value.trim().eq_ignore_ascii_case("enforcing"))
        }))
    }
}

impl Change {
    fn path(&self) -> &str {
        match self {
            Self::Directories { path, .. }
            | Self::Write { path, .. }
            | Self::Link { path, .. }
            | Self::Remove { path }
            | Self::Own { path, .. } => path,
            Self::Move { from, .. } => from,
        }
    }

    /// Description for the log, without the content.
    fn describe(&self) -> String {
        match self {
            Self::Directories { path, .. } => format!("{path} is missing"),
            Self::Write { path, .. } => format!("{path} says something else"),
            Self::Link { path, target } => format!("{path} does not point to {target}"),
            Self::Move { from, .. } => format!("{from} is in the way"),
            Self::Remove { path } => format!("{path} is there"),
            Self::Own { path, owner } => format!(
                "{path} does not belong to {}:{} with mode {:o}",
                owner.uid, owner.gid, owner.mode
            ),
        }
    }

    fn carry_out(&self, guest: &Guest) -> Result<()> {
        match self {
            Self::Directories { path, owner } => guest.create_directories(path, *owner),
            Self::Write {
                path,
                content,
                owner,
            } => guest.write(path, content, *owner),
            Self::Link { path, target } => guest.link(path, target),
            Self::Move { from, to } => guest.rename(from, to),
            Self::Remove { path } => guest.remove(path),
            Self::Own { path, owner } => guest.own(path, *owner),
        }
    }
}
