//! A step that consists of hive edits alone.
//!
//! Check, apply and verify make the same edits in memory; only apply writes them. An edit whose
//! result holds already changes nothing.

use super::hives::Hives;
use crate::context::Context;
use crate::engine::{State, Task};
use crate::error::Result;

/// Task that edits the hives of a volume.
pub(crate) struct Registry<F> {
    partition: u32,
    edit: F,
}

impl<F: Fn(&mut Hives) -> Result<()>> Registry<F> {
    pub(crate) fn new(partition: u32, edit: F) -> Self {
        Self { partition, edit }
    }

    fn edited(&self, context: &mut Context<'_>) -> Result<Hives> {
        let mut hives = Hives::new(context.root(self.partition)?)?;
        (self.edit)(&mut hives)?;
        Ok(hives)
    }
}

impl<F: Fn(&mut Hives) -> Result<()>> Task for Registry<F> {
    fn check(&mut self, context: &mut Context<'_>) -> Result<State> {
        Ok(self.edited(context)?.state())
    }

    fn apply(&mut self, context: &mut Context<'_>) -> Result<()> {
        self.edited(context)?.save()
    }
}
