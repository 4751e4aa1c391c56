//! The contents of a disk: its partition table, and its bytes in use.
//!
//! Two main parts share [`extents::ExtentSet`]; two small parts stand beside them:
//!
//! - [`table`] reads GPT and MBR tables, keeps the raw sectors they came from, and plans the writes
//!   that put them on a target ([`plan_commit`]): values in, a list of writes out.
//! - [`usedmap`] reads the allocation map of a file system to find the bytes of a partition that
//!   hold data.
//! - [`signature`] finds signatures that claim a whole disk beside its partition table.
//! - [`boot_sector`] adjusts a boot sector to the new start of its partition.
//!
//! The crate owns the meaning of on-disk bytes. It never opens or writes a device and has no clock:
//! a disk is a [`ReadAt`], and a plan is a value that the caller carries out. Every byte read may
//! be damaged or hostile. The crate never panics or loops endlessly on it, and never allocates by a
//! declared size before that size was compared with the real one.

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
