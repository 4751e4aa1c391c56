//! Which part of an image goes onto a disk: all of it, some of its partitions, or one of them onto a partition that is there.
//!
//! Owns what a choice means for the chunks of an image. Pure. What always holds: a chunk that has a byte of what was chosen
//! is wanted; console and agent come to the same set and the same root from the same manifest.

use super::journal::Bitmap;
use crate::target::Choice;
use diskmap::{ExtentSet, KeepError, Partition, PartitionTable};
use imagefmt::{Manifest, Root};
use std::ops::Range;

/// A choice an image cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ChoiceError {
    /// The table cannot do without the others.
    #[error(transparent)]
    Keep(#[from] KeepError),
    /// One partition goes onto one.
    #[error(
        "onto partition {onto}: choose the one partition of the image that goes there, for example with --partitions 2"
    )]
    NotOne {
        /// The partition of the target.
        onto: u32,
    },
    /// There is no such partition.
    #[error("there is no partition {number} in the image; it has {}", list(.existing))]
    NoSuchPartition {
        /// The number.
        number: u32,
        /// Those there are.
        existing: Vec<u32>,
    },
    /// A container has no file system.
    #[error("partition {number} is an extended one: choose a logical partition in it")]
    Extended {
        /// Its number.
        number: u32,
    },
}

impl Choice {
    /// The image's table as it is when only what was chosen is left.
    ///
    /// # Errors
    /// [`ChoiceError`], with the numbers that exist.
    pub fn table(&self, table: &PartitionTable) -> Result<PartitionTable, ChoiceError> {
        // Where one goes onto another, the table of the disk stays: what the image's would be does not matter.
        if self.one(table)?.is_some() || self.partitions.is_empty() {
            return Ok(table.clone());
        }
        Ok(table.keep(&self.partitions)?)
    }

    /// The partition of the image that goes onto one of the target; none for a whole disk.
    ///
    /// # Errors
    /// As [`Choice::table`].
    pub fn one<'t>(&self, table: &'t PartitionTable) -> Result<Option<&'t Partition>, ChoiceError> {
        let Some(onto) = self.onto else {
            return Ok(None);
        };
        let (1, Some(number)) = (self.partitions.len(), self.partitions.first()) else {
            return Err(ChoiceError::NotOne { onto });
        };
        match table.partition(*number) {
            Some(partition) if partition.is_extended() => {
                Err(ChoiceError::Extended { number: *number })
            }
            Some(partition) => Ok(Some(partition)),
            None => Err(ChoiceError::NoSuchPartition {
                number: *number,
                existing: table.partitions.iter().map(|p| p.number).collect(),
            }),
        }
    }

    /// Entries of the manifest that have a byte of what was chosen. `table` is the image's own.
    pub fn wanted(&self, manifest: &Manifest, table: &PartitionTable) -> Bitmap {
        let mut wanted = Bitmap::empty(manifest.entries.len());
        let one = self.one(table).ok().flatten().map(Partition::range);
        let left_out = self.left_out(table);
        let is_wanted = |run: &Range<u64>| match &one {
            Some(one) => run.start < one.end && one.start < run.end,
            None => !left_out
                .iter()
                .any(|out| out.start <= run.start && run.end <= out.end),
        };
        for (index, entry) in manifest.entries.iter().enumerate() {
            let offset = manifest.geometry.chunk_offset(entry.chunk);
            let mut runs = entry
                .mask
                .runs()
                .map(|run| offset + u64::from(run.start)..offset + u64::from(run.end));
            if runs.any(|run| is_wanted(&run)) {
                wanted.insert(index);
            }
        }
        wanted
    }

    /// Where nothing is wanted: the other partitions, and the gap behind them when the last of all is among them.
    fn left_out(&self, table: &PartitionTable) -> ExtentSet {
        let mut left_out = ExtentSet::default();
        if self.partitions.is_empty() {
            return left_out;
        }
        let (mut last_kept, mut last) = (0, 0);
        for partition in table.partitions.iter().filter(|p| !p.is_extended()) {
            last = partition.end().max(last);
            if self.partitions.contains(&partition.number) || self.in_kept(table, partition) {
                last_kept = partition.end().max(last_kept);
            } else {
                left_out.insert(partition.range());
            }
        }
        if last_kept < last {
            left_out.insert(last_kept..u64::MAX);
        }
        left_out
    }

    /// A container stands for everything in it.
    fn in_kept(&self, table: &PartitionTable, partition: &Partition) -> bool {
        table.partitions.iter().any(|container| {
            container.is_extended()
                && self.partitions.contains(&container.number)
                && container.start <= partition.start
                && partition.end() <= container.end()
        })
    }
}

fn list(numbers: &[u32]) -> String {
    let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
    numbers.join(", ")
}

/// The root of these entries: what a target has to prove. Of all entries it is the image's.
pub fn root_of(manifest: &Manifest, wanted: &Bitmap) -> Root {
    manifest.root_of(
        manifest
            .entries
            .iter()
            .enumerate()
            .filter(|(index, _)| wanted.contains(*index))
            .map(|(_, entry)| (entry.chunk, entry.id)),
    )
}
