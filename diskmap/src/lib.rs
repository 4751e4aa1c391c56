//! What is on a disk: its partition table, and which of its bytes are in use.
//!
//! Two halves that share [`extents::ExtentSet`], and two small parts:
//!
//! - [`table`] reads GPT and MBR tables, keeps the raw sectors they came from, and plans how to put
//!   them back on a target ([`plan_commit`]): values in, a list of writes out.
//! - [`usedmap`] asks a file system which bytes of a partition hold data.
//! - [`signature`] finds what claims a whole disk beside its partition table.
//! - [`boot_sector`] tells a file system where its partition starts now.
//!
//! The crate owns the meaning of on-disk bytes. It never opens a device, never writes one, and has
//! no clock: a disk is a [`ReadAt`], a plan is a value the caller carries out. Every byte that is
//! read may be damaged or hostile: nothing here panics on it, loops on it, or allocates by a size
//! it declares before that size was held against what is really there.

#![forbid(unsafe_code)]

pub mod boot_sector;
pub mod extents;
pub mod guid;
pub mod signature;
pub mod table;
pub mod usedmap;

pub use boot_sector::{boot_sector_copy, boot_sector_is_last_too, relocate_boot_sector};
pub use extents::ExtentSet;
pub use guid::Guid;
pub use positioned_io::ReadAt;
pub use table::{
    CommitPlan, GptFault, Grow, KeepError, PARTITIONS_MAX, Partition, PartitionKind,
    PartitionTable, PatchError, Region, Role, TableError, TableKind, TypeId, cross_check,
    is_dynamic, other_sector_size, plan_commit, read_table, table_from_regions, without_table,
    without_table_from_regions,
};
