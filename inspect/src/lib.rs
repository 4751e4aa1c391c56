//! What system lies in a partition, read without a mount.
//!
//! Owns: readers over the bytes of partitions that fill in [`template::findings::Findings`]. Never writes, never mounts,
//! and believes nothing it reads.
