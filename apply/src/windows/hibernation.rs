//! A session kept in `hiberfil.sys` is given up.
//!
//! ntfs-3g mounts such a volume writable only after it has removed the file itself; the context asks it to when the plan has
//! this step. So mounting is all there is to do, unless the file is one ntfs-3g does not mind.

use super::paths;
use crate::context::Context;
use crate::engine::{State, Task};
use std::io;

/// Bytes at the beginning of a file that holds a session: hibernated, or about to wake.
const SESSIONS: [&[u8; 4]; 2] = [b"hibr", b"wake"];

/// Removes the session.
pub(crate) struct Discard {
    partition: u32,
}

impl Discard {
    pub(crate) fn new(partition: u32) -> Self {
        Self { partition }
    }

    /// The file, when it holds a session.
    fn session(&self, context: &mut Context<'_>) -> Result<Option<String>, String> {
        let guest = context.root(self.partition)?;
        let path = paths::below(&guest, "", "hiberfil.sys")?;
        let Some(file) = guest.open(&path)? else {
            return Ok(None);
        };
        let mut magic = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(file, 4), &mut magic)
            .map_err(|error| format!("{path}: {error}"))?;
        magic.make_ascii_lowercase();
        Ok(SESSIONS
            .iter()
            .any(|session| magic == *session)
            .then_some(path))
    }
}

impl Task for Discard {
    fn check(&mut self, context: &mut Context<'_>) -> Result<State, String> {
        Ok(match self.session(context)? {
            Some(path) => State::Needed(format!("{path} holds a session")),
            None => State::Done,
        })
    }

    fn apply(&mut self, context: &mut Context<'_>) -> Result<(), String> {
        match self.session(context)? {
            Some(path) => context.root(self.partition)?.remove(&path),
            None => Ok(()),
        }
    }
}
