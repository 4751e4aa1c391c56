//! The part of an image that goes onto a disk: all of it, some of its partitions, or one of them
//! onto an existing partition.
//!
//! Owns the meaning of a choice for the chunks of an image. Pure. Always holds: a chunk with a byte
//! of the chosen part is wanted; console and agent derive the same set and the same root from the
//! same manifest.

use super::journal::Bitmap;
use diskmap::{ExtentSet, KeepError, Partition, PartitionTable};
use facts::target::Choice;
use imagefmt::{Manifest, Root};
use std::ops::Range;

/// The reason an image cannot serve a choice.
#[derive(Debug, thiserror::Error)]
pub enum ChoiceError {
    /// The table cannot be reduced to the chosen partitions.
    #[error(transparent)]
    Keep(#[from] KeepError),
    /// Exactly one partition of the image has to be chosen.
    #[error(
        "onto partition {onto}: choose the one partition of the image that goes there, for example with --partitions 2"
    )]
    NotOne {
        /// Number of the partition on the target.
        onto: u32,
    },
    /// The image has no such partition.
    #[error("there is no partition {number} in the image; it has {}", list(.existing))]
    NoSuchPartition {
        /// The number.
        number: u32,
        /// The numbers of the image's partitions.
        existing: Vec<u32>,
    },
    /// An extended partition has no file system.
    #[error("partition {number} is an extended one: choose a logical partition in it")]
    Extended {
        /// Its number.
        number: u32,
    },
}

/// The image's table, reduced to the chosen partitions.
///
/// # Errors
/// [`ChoiceError`], with the existing numbers.
pub fn table(choice: &Choice, table: &PartitionTable) -> Result<PartitionTable, ChoiceError> {
    // When one partition goes onto another, the table of the disk stays, and the image's is not
    // used.
    if one(choice, table)?.is_some() || choice.partitions.is_empty() {
        return Ok(table.clone());
    }
    Ok(table.keep(&choice.partitions)?)
}

/// The partition of the image that goes onto one of the target; `None` when a whole disk is
/// written.
///
/// # Errors
/// The errors of [`table`].
pub fn one<'t>(
    choice: &Choice,
    table: &'t PartitionTable,
) -> Result<Option<&'t Partition>, ChoiceError> {
    let Some(onto) = choice.onto else {
        return Ok(None);
    };
    let (1, Some(number)) = (choice.partitions.len(), choice.partitions.first()) else {
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

/// Entries of the manifest with a byte of the chosen part. `table` is the image's own.
pub fn wanted(choice: &Choice, manifest: &Manifest, table: &PartitionTable) -> Bitmap {
    let mut wanted = Bitmap::empty(manifest.entries.len());
    let one = one(choice, table).ok().flatten().map(Partition::range);
    let left_out = left_out(choice, table);
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

/// Ranges that are not wanted: the other partitions, and the gap behind them if the last one of
/// all is among them.
fn left_out(choice: &Choice, table: &PartitionTable) -> ExtentSet {
    let mut left_out = ExtentSet::default();
    if choice.partitions.is_empty() {
        return left_out;
    }
    let (mut last_kept, mut last) = (0, 0);
    for partition in table.partitions.iter().filter(|p| !p.is_extended()) {
        last = partition.end().max(last);
        if choice.partitions.contains(&partition.number) || in_kept(choice, table, partition) {
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

/// True for a partition in a chosen container: a container stands for all its logical
/// partitions.
fn in_kept(choice: &Choice, table: &PartitionTable, partition: &Partition) -> bool {
    table.partitions.iter().any(|container| {
        container.is_extended()
            && choice.partitions.contains(&container.number)
            && container.start <= partition.start
            && partition.end() <= container.end()
    })
}

fn list(numbers: &[u32]) -> String {
    let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
    numbers.join(", ")
}

/// The root of these entries, which a target has to prove. For all entries it equals the image's.
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
