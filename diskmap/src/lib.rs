//! The contents of a disk: its partition table, and its bytes in use.
//!
//! Two main parts share [`extents::ExtentSet`]; four smaller parts stand beside them:
//!
//! - [`table`] reads GPT and MBR tables, keeps the raw sectors they came from, and plans the writes
//!   that put them on a target ([`plan_commit`]): values in, a list of writes out.
//! - [`usedmap`] reads the allocation map of a file system to find the bytes of a partition that
//!   hold data.
//! - [`signature`] finds signatures that claim a whole disk beside its partition table.
//! - [`ntfs`] reads NTFS: records, streams, indexes, files by path. The used map is one of its users.
//! - [`onto`] checks one partition that replaces a partition of another disk.
//! - [`boot_sector`] adjusts a boot sector to the new start of its partition.
//!
//! The crate owns the meaning of on-disk bytes. It never opens or writes a device and has no clock:
//! a disk is a [`ReadAt`], and a plan is a value that the caller carries out. Every byte read may
//! be damaged or hostile. The crate never panics or loops endlessly on it, and never allocates by a
//! declared size before that size was compared with the real one.
//! The table of a disk, and what its only partition uses. A slice is a disk; so is a file:
//!
//! ```
//! use diskmap::usedmap::{FsKind, MapOptions, Mapping, Window, map_partition};
//! use diskmap::{TableKind, read_table};
//!
//! // An MBR with one partition of type 0x82, from 1 MiB to 2 MiB, with empty swap space in it.
//! let mut disk = vec![0; 2 << 20];
//! disk[446 + 4] = 0x82;
//! disk[446 + 8..446 + 12].copy_from_slice(&2048u32.to_le_bytes());
//! disk[446 + 12..446 + 16].copy_from_slice(&2048u32.to_le_bytes());
//! disk[510..512].copy_from_slice(&[0x55, 0xaa]);
//! let swap = &mut disk[1 << 20..];
//! swap[1024..1028].copy_from_slice(&1u32.to_le_bytes());
//! swap[1028..1032].copy_from_slice(&255u32.to_le_bytes());
//! swap[4086..4096].copy_from_slice(b"SWAPSPACE2");
//!
//! let table = read_table(&disk, disk.len() as u64, 512)?;
//! assert_eq!(table.kind, TableKind::Mbr);
//! let partition = &table.partitions[0];
//! assert_eq!(partition.range(), 1 << 20..2 << 20);
//!
//! let window = Window::new(&disk, partition.start, partition.length);
//! let Mapping::Used(map) = map_partition(&window, partition.length, &MapOptions::default())? else {
//!     panic!("swap space is understood");
//! };
//! assert_eq!(map.fs.kind, FsKind::Swap);
//! // The first page describes the space, and what was swapped out is of no use to another machine. The end
//! // comes along because other things keep their copies there.
//! assert_eq!(map.extents.first(), Some(&(0..4096)));
//! assert!(map.used_bytes() < partition.length / 8);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

pub mod boot_sector;
pub mod extents;
pub mod guid;
pub mod ntfs;
pub mod onto;
pub mod signature;
pub mod table;
pub mod usedmap;
mod volume;

pub use boot_sector::{boot_sector_copy, boot_sector_is_last_too, relocate_boot_sector};
pub use extents::ExtentSet;
pub use guid::Guid;
pub use onto::{OntoError, refuse_onto, refuse_sectors};
pub use positioned_io::ReadAt;
pub use table::{
    CommitPlan, GptFault, Grow, KeepError, PARTITIONS_MAX, Partition, PartitionKind,
    PartitionTable, PatchError, Region, Role, TableError, TableKind, TypeId, cross_check,
    is_dynamic, other_sector_size, plan_commit, read_table, table_from_regions, without_table,
    without_table_from_regions,
};
pub use volume::{ReadError, Volume};
