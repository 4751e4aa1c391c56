//! Step that discards a session kept in `hiberfil.sys`.
//!
//! ntfs-3g mounts such a volume writable only after it has removed the file itself, and the context
//! has it do so if the plan has this step. The mount alone is therefore enough, except for a file
//! that ntfs-3g does not treat as a session.

use super::paths;
use crate::context::Context;
use crate::engine::{State, Task};
use crate::error::{At, Result};
use std::io;

/// First bytes of a file that holds a session: hibernated, or about to wake.
const SESSIONS: [&[u8; 4]; 2] = [b"hibr", b"wake"];

/// The step that removes the session.
pub(crate) struct Discard {
    partition: u32,
}

impl Discard {
    pub(crate) fn new(partition: u32) -> Self {
        Self { partition }
    }

    /// Path of the file if it holds a session.
    fn session(&self, context: &mut Context<'_>) -> Result<Option<String>> {
        let guest = context.root(self.partition)?;
        let path = paths::below(&guest, "", "hiberfil.sys")?;
        let Some(file) = guest.open(&path)? else {
            return Ok(None);
        };
        let mut magic = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(file, 4), &mut magic).at(&path)?;
        magic.make_ascii_lowercase();
        Ok(SESSIONS
            .iter()
            .any(|session| magic == *session)
            .then_some(path))
    }
}

impl Task for Discard {
    fn check(&mut self, context: &mut Context<'_>) -> Result<State> {
        Ok(match self.session(context)? {
            Some(path) => State::Needed(format!("{path} holds a session")),
            None => State::Done,
        })
    }

    fn apply(&mut self, context: &mut Context<'_>) -> Result<()> {
        match self.session(context)? {
            Some(path) => context.root(self.partition)?.remove(&path),
            None => Ok(()),
        }
    }
}
