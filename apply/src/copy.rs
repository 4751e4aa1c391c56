//! Step that puts a file of the console on a volume.
//!
//! A file gets its name only if its BLAKE3 hash is the one in the plan; until then it has a
//! temporary name. Free space is checked first.

use crate::context::Context;
use crate::engine::{State, Task};
use crate::error::{At, Result, Room, StepError};
use crate::guest::{Guest, Owner};
use crate::windows;
use std::io::{Read, Write};
use std::rc::Rc;
use template::step::Payload;

/// Bytes that stay free beside a file, for the file system's own records.
const SPARE: u64 = 1 << 20;

/// The step that copies one file.
pub(crate) struct Copy<'a> {
    partition: u32,
    payload: &'a Payload,
    to: &'a str,
}

impl<'a> Copy<'a> {
    pub(crate) fn new(partition: u32, payload: &'a Payload, to: &'a str) -> Self {
        Self {
            partition,
            payload,
            to,
        }
    }

    /// Root of the volume, and the path below it.
    fn place(&self, context: &mut Context<'_>) -> Result<(Rc<Guest>, String)> {
        if context.is_ntfs(self.partition)? {
            let guest = context.root(self.partition)?;
            let path = windows::guest_path(&guest, self.to)?;
            return Ok((guest, path));
        }
        if !self.to.starts_with('/') {
            return Err(StepError::refused(
                format!("{}: a path on Linux begins with /", self.to),
                "change the template",
            ));
        }
        let guest = context.linux_root(self.partition)?;
        guest.check_reachable(self.to)?;
        Ok((guest, self.to.to_owned()))
    }
}

impl Task for Copy<'_> {
    fn check(&mut self, context: &mut Context<'_>) -> Result<State> {
        let (guest, path) = self.place(context)?;
        Ok(match lies_there(&guest, &path, self.payload)? {
            true => State::Done,
            false => State::Needed(format!("{} is not there, or is another one", self.to)),
        })
    }

    fn apply(&mut self, context: &mut Context<'_>) -> Result<()> {
        let (guest, path) = self.place(context)?;
        let mode = if path.starts_with("/etc/") {
            0o600
        } else {
            0o755
        };
        let rights = match context.is_ntfs(self.partition)? {
            true => Some(windows::Rights::prepare(&guest, &path)?),
            false => None,
        };
        let source = context.payload(self.payload)?;
        put(
            &guest,
            &path,
            self.payload,
            source,
            Owner::root(mode),
            &|| context.cancelled(),
        )?;
        match rights {
            Some(rights) => rights.give(&guest, &path),
            None => Ok(()),
        }
    }
}

/// True if the file exists with that content.
pub(crate) fn lies_there(guest: &Guest, path: &str, payload: &Payload) -> Result<bool> {
    let Some(mut file) = guest.open(path)? else {
        return Ok(false);
    };
    let length = file.metadata().at(path)?.len();
    if length != payload.bytes {
        return Ok(false);
    }
    let mut hasher = blake3::Hasher::new();
    hasher
        .update_reader(&mut file)
        .at(format_args!("reading {path}"))?;
    Ok(same_hash(&hasher, payload))
}

/// Writes a payload to a path; missing folders are created.
pub(crate) fn put(
    guest: &Guest,
    path: &str,
    payload: &Payload,
    source: Box<dyn Read + '_>,
    owner: Owner,
    cancelled: &dyn Fn() -> bool,
) -> Result<()> {
    let folder = match path.rsplit_once('/') {
        Some(("", _)) | None => "/",
        Some((folder, _)) => folder,
    };
    guest.create_directories(folder, Owner::root(0o755))?;
    let free = guest.free_bytes(folder)?;
    let needed = payload.bytes.saturating_add(SPARE);
    if free < needed {
        return Err(StepError::NoRoom {
            place: path.to_owned(),
            room: Some(Room { needed, free }),
        });
    }
    let other = |fault: String| StepError::OtherFile {
        file: payload.name.clone(),
        fault,
    };
    let mut new = guest.create(path, owner)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0_u8; 256 * 1024];
    let mut left = payload.bytes;
    // One byte more than declared is read, so that a longer file is noticed and not cut.
    let mut source = source.take(payload.bytes.saturating_add(1));
    loop {
        if cancelled() {
            return Err(StepError::Cancelled);
        }
        let count = source.read(&mut buffer).map_err(|source| {
            // The source gives up when the job is cancelled.
            if cancelled() {
                return StepError::Cancelled;
            }
            StepError::Fetch {
                file: payload.name.clone(),
                source,
            }
        })?;
        if count == 0 {
            break;
        }
        let part = buffer.get(..count).unwrap_or_default();
        let length = u64::try_from(count).unwrap_or(u64::MAX);
        left = left.checked_sub(length).ok_or_else(|| {
            other(format!(
                "is longer than the {} bytes the plan names",
                payload.bytes
            ))
        })?;
        hasher.update(part);
        new.file.write_all(part).at(path)?;
    }
    if left != 0 {
        return Err(other(format!("ended {left} bytes early")));
    }
    if !same_hash(&hasher, payload) {
        return Err(other(format!(
            "is not the file the plan names: its BLAKE3 is {} instead of {}",
            hasher.finalize().to_hex(),
            payload.blake3
        )));
    }
    new.finish()
}

fn same_hash(hasher: &blake3::Hasher, payload: &Payload) -> bool {
    hasher.finalize().to_hex().as_str() == payload.blake3.to_ascii_lowercase()
}
