//! Offsets of NTFS structures, each computed from the one before.
//!
//! ```text
//!   boot sector   jump | "NTFS    " | sector, cluster | ... | sectors, $MFT, mirror | sizes | serial
//!   record        FILE | update sequence | log | sequence, links, first attribute, flags | used ...
//!   attribute     type, length | resident? | name | flags, id | value  or  VCNs, mapping pairs, sizes
//!   list entry    type, length | name | lowest VCN | record | id
//!   $FILE_NAME    folder | four times | two sizes | flags | length, kind | name
//!   index root    type, collation, block length | header        block   INDX | ... | own VCN | header
//!   index entry   record (or data) | length, key length | flags | key ... | child VCN in the last 8
//! ```

/// The boot sector, whose fields are used from its first 512 bytes.
pub(super) mod boot {
    pub(crate) const AT_JUMP: usize = 0;
    pub(crate) const AT_OEM: usize = AT_JUMP + 3;
    pub(crate) const AT_SECTOR_BYTES: usize = AT_OEM + 8;
    pub(crate) const AT_CLUSTER_SECTORS: usize = AT_SECTOR_BYTES + 2;
    const AT_MEDIA: usize = AT_CLUSTER_SECTORS + 1;
    pub(crate) const AT_SECTORS: usize = AT_MEDIA + 26;
    pub(crate) const AT_MFT: usize = AT_SECTORS + 8;
    const AT_MIRROR: usize = AT_MFT + 8;
    pub(crate) const AT_RECORD_BYTES: usize = AT_MIRROR + 8;
    const AT_INDEX_BYTES: usize = AT_RECORD_BYTES + 4;
    pub(crate) const AT_SERIAL: usize = AT_INDEX_BYTES + 4;
    const AT_CHECKSUM: usize = AT_SERIAL + 8;
    const AT_CODE: usize = AT_CHECKSUM + 4;
    pub(crate) const AT_MARK: usize = AT_CODE + 426;
    pub(crate) const BYTES: usize = AT_MARK + 2;
    const _: () = assert!(BYTES == 512);
}

/// Header shared by records, index blocks and restart pages.
pub(super) mod block {
    pub(crate) const AT_MAGIC: usize = 0;
    pub(crate) const AT_SEQUENCE: usize = AT_MAGIC + 4;
    pub(crate) const AT_SEQUENCE_COUNT: usize = AT_SEQUENCE + 2;
    pub(crate) const AT_LOG: usize = AT_SEQUENCE_COUNT + 2;
    pub(crate) const BYTES: usize = AT_LOG + 8;
}

/// A file record.
pub(super) mod record {
    pub(crate) const AT_SEQUENCE_NUMBER: usize = super::block::BYTES;
    pub(crate) const AT_LINKS: usize = AT_SEQUENCE_NUMBER + 2;
    pub(crate) const AT_ATTRIBUTES: usize = AT_LINKS + 2;
    pub(crate) const AT_FLAGS: usize = AT_ATTRIBUTES + 2;
    pub(crate) const AT_USED: usize = AT_FLAGS + 2;
    const AT_ALLOCATED: usize = AT_USED + 4;
    pub(crate) const AT_BASE: usize = AT_ALLOCATED + 4;
    const _: () = assert!(AT_BASE == 0x20);
}

/// An attribute in a record.
pub(super) mod attribute {
    pub(crate) const AT_KIND: usize = 0;
    pub(crate) const AT_LENGTH: usize = AT_KIND + 4;
    pub(crate) const AT_NON_RESIDENT: usize = AT_LENGTH + 4;
    pub(crate) const AT_NAME_LENGTH: usize = AT_NON_RESIDENT + 1;
    pub(crate) const AT_NAME: usize = AT_NAME_LENGTH + 1;
    pub(crate) const AT_FLAGS: usize = AT_NAME + 2;
    pub(crate) const AT_ID: usize = AT_FLAGS + 2;
    const AT_BODY: usize = AT_ID + 2;
    // Resident.
    pub(crate) const AT_VALUE_LENGTH: usize = AT_BODY;
    pub(crate) const AT_VALUE: usize = AT_VALUE_LENGTH + 4;
    /// Length of the shortest attribute, with padding.
    pub(crate) const SHORTEST: usize = AT_VALUE + 4;
    // In clusters.
    pub(crate) const AT_LOWEST: usize = AT_BODY;
    pub(crate) const AT_HIGHEST: usize = AT_LOWEST + 8;
    pub(crate) const AT_PAIRS: usize = AT_HIGHEST + 8;
    pub(crate) const AT_UNIT: usize = AT_PAIRS + 2;
    const AT_ALLOCATED: usize = AT_UNIT + 6;
    pub(crate) const AT_SIZE: usize = AT_ALLOCATED + 8;
    pub(crate) const AT_INITIALISED: usize = AT_SIZE + 8;
    const _: () = assert!(SHORTEST == 24 && AT_INITIALISED == 0x38);
}

/// An entry of an attribute list.
pub(super) mod list {
    pub(crate) const AT_KIND: usize = 0;
    pub(crate) const AT_LENGTH: usize = AT_KIND + 4;
    pub(crate) const AT_NAME_LENGTH: usize = AT_LENGTH + 2;
    pub(crate) const AT_NAME: usize = AT_NAME_LENGTH + 1;
    const AT_LOWEST: usize = AT_NAME + 1;
    pub(crate) const AT_RECORD: usize = AT_LOWEST + 8;
    pub(crate) const AT_ID: usize = AT_RECORD + 8;
    /// Length of an entry without a name, without padding.
    pub(crate) const SHORTEST: usize = AT_ID + 2;
    const _: () = assert!(SHORTEST == 26);
}

/// A `$FILE_NAME`, which is also the key of a folder's index.
pub(super) mod file_name {
    pub(crate) const AT_FOLDER: usize = 0;
    const AT_TIMES: usize = AT_FOLDER + 8;
    const AT_SIZES: usize = AT_TIMES + 4 * 8;
    pub(crate) const AT_FLAGS: usize = AT_SIZES + 2 * 8;
    const AT_EXTENDED: usize = AT_FLAGS + 4;
    pub(crate) const AT_LENGTH: usize = AT_EXTENDED + 4;
    pub(crate) const AT_SPACE: usize = AT_LENGTH + 1;
    pub(crate) const AT_NAME: usize = AT_SPACE + 1;
    const _: () = assert!(AT_NAME == 0x42);
}

/// Index roots, blocks, the header of a node, and entries.
pub(super) mod index {
    const AT_ROOT_KIND: usize = 0;
    const AT_ROOT_COLLATION: usize = AT_ROOT_KIND + 4;
    pub(crate) const AT_ROOT_BLOCK_BYTES: usize = AT_ROOT_COLLATION + 4;
    const AT_ROOT_BLOCK_CLUSTERS: usize = AT_ROOT_BLOCK_BYTES + 4;
    /// The header in the value of an index root.
    pub(crate) const AT_ROOT_HEADER: usize = AT_ROOT_BLOCK_CLUSTERS + 4;

    pub(crate) const AT_BLOCK_VCN: usize = super::block::BYTES;
    /// The header in an index block.
    pub(crate) const AT_BLOCK_HEADER: usize = AT_BLOCK_VCN + 8;
    const _: () = assert!(AT_ROOT_HEADER == 0x10 && AT_BLOCK_HEADER == 0x18);

    // From the start of a header.
    pub(crate) const AT_FIRST: usize = 0;
    pub(crate) const AT_LENGTH: usize = AT_FIRST + 4;
    const AT_ALLOCATED: usize = AT_LENGTH + 4;
    const AT_FLAGS: usize = AT_ALLOCATED + 4;
    pub(crate) const HEADER_BYTES: usize = AT_FLAGS + 4;

    pub(crate) const AT_ENTRY_RECORD: usize = 0;
    pub(crate) const AT_ENTRY_LENGTH: usize = AT_ENTRY_RECORD + 8;
    pub(crate) const AT_ENTRY_KEY_LENGTH: usize = AT_ENTRY_LENGTH + 2;
    pub(crate) const AT_ENTRY_FLAGS: usize = AT_ENTRY_KEY_LENGTH + 2;
    pub(crate) const AT_ENTRY_KEY: usize = AT_ENTRY_FLAGS + 4;
    const _: () = assert!(AT_ENTRY_KEY == 0x10);
}

/// `$VOLUME_INFORMATION`.
pub(super) mod volume {
    const AT_RESERVED: usize = 0;
    pub(crate) const AT_MAJOR: usize = AT_RESERVED + 8;
    pub(crate) const AT_MINOR: usize = AT_MAJOR + 1;
    pub(crate) const AT_FLAGS: usize = AT_MINOR + 1;
}

/// A restart page of `$LogFile`, and the restart area in it.
pub(super) mod log {
    const AT_CHECK: usize = super::block::AT_LOG;
    pub(crate) const AT_PAGE_BYTES: usize = AT_CHECK + 8;
    const AT_LOG_PAGE_BYTES: usize = AT_PAGE_BYTES + 4;
    pub(crate) const AT_AREA: usize = AT_LOG_PAGE_BYTES + 4;
    pub(crate) const AT_MINOR: usize = AT_AREA + 2;
    pub(crate) const AT_MAJOR: usize = AT_MINOR + 2;

    // From the start of the area.
    pub(crate) const AT_LSN: usize = 0;
    const AT_CLIENTS: usize = AT_LSN + 8;
    const AT_FREE_CLIENT: usize = AT_CLIENTS + 2;
    pub(crate) const AT_CLIENT: usize = AT_FREE_CLIENT + 2;
    pub(crate) const AT_AREA_FLAGS: usize = AT_CLIENT + 2;
    const _: () = assert!(AT_MAJOR == 28 && AT_AREA_FLAGS == 14);
}
