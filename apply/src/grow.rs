//! A file system takes the room its partition has.

use crate::context::Context;
use crate::engine::{State, Task};
use template::step::FileSystem;

/// Grows one file system.
pub(crate) struct Grow {
    partition: u32,
    file_system: FileSystem,
}

impl Grow {
    pub(crate) fn new(partition: u32, file_system: FileSystem) -> Self {
        Self {
            partition,
            file_system,
        }
    }
}

impl Task for Grow {
    fn check(&mut self, context: &mut Context<'_>) -> Result<State, String> {
        let _ = context.identify(self.partition)?;
        Err(format!(
            "{:?} cannot be grown by this build",
            self.file_system
        ))
    }

    fn apply(&mut self, _: &mut Context<'_>) -> Result<(), String> {
        Ok(())
    }
}
