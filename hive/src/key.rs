//! Keys (`nk` cells), regf "Key node".
//!
//! ```text
//!  0 "nk"  2 flags   4 time of last write  12 access bits  16 parent
//! 20 subkeys  24 volatile subkeys  28 their list  32 volatile list
//! 36 values   40 their list   44 security   48 class name
//! 52 longest subkey name (low 16 bits; Windows keeps flags above)  56 longest class below
//! 60 longest value name  64 largest value  68 unused  72 name bytes  74 class bytes  76 name
//! ```
//!
//! Fields about volatile subkeys are left over from a running Windows; they are ignored and kept.

use crate::cells::Cells;
use crate::error::{HiveError, damaged};
use crate::name::Name;
use crate::scan::Scan;

pub(crate) mod flag {
    /// The key is the root of a hive.
    pub(crate) const ROOT: u16 = 0x0004;
    /// Windows does not delete the key; set for the root.
    pub(crate) const NO_DELETE: u16 = 0x0008;
    /// The name is stored with one byte for each unit.
    pub(crate) const COMPRESSED: u16 = 0x0020;
}

/// Offsets of the fields, for code that writes them.
pub(crate) mod field {
    pub(crate) const FLAGS: usize = 2;
    pub(crate) const TIME: usize = 4;
    pub(crate) const PARENT: usize = 16;
    pub(crate) const SUBKEYS: usize = 20;
    pub(crate) const SUBKEY_LIST: usize = 28;
    pub(crate) const VOLATILE_LIST: usize = 32;
    pub(crate) const VALUES: usize = 36;
    pub(crate) const VALUE_LIST: usize = 40;
    pub(crate) const SECURITY: usize = 44;
    pub(crate) const CLASS: usize = 48;
    pub(crate) const LONGEST_SUBKEY: usize = 52;
    pub(crate) const LONGEST_CLASS: usize = 56;
    pub(crate) const LONGEST_VALUE: usize = 60;
    pub(crate) const LARGEST_DATA: usize = 64;
    pub(crate) const NAME_LEN: usize = 72;
    pub(crate) const NAME: usize = 76;
}

/// The fields and the name of a key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key<'a> {
    pub(crate) flags: u16,
    pub(crate) parent: u32,
    pub(crate) subkeys: u32,
    pub(crate) subkey_list: u32,
    pub(crate) values: u32,
    pub(crate) value_list: u32,
    pub(crate) security: u32,
    pub(crate) class: u32,
    /// Length in bytes, as UTF-16, of the longest subkey name.
    pub(crate) longest_subkey: u16,
    pub(crate) longest_class: u32,
    pub(crate) longest_value: u32,
    pub(crate) largest_data: u32,
    pub(crate) class_len: u16,
    pub(crate) name: Name<'a>,
}

impl<'a> Key<'a> {
    fn parse(cell: &'a [u8]) -> Option<Key<'a>> {
        let mut scan = Scan(cell);
        scan.signature(*b"nk")?;
        let flags = scan.u16()?;
        scan.take(12)?;
        let parent = scan.u32()?;
        let subkeys = scan.u32()?;
        scan.take(4)?;
        let subkey_list = scan.u32()?;
        scan.take(4)?;
        let values = scan.u32()?;
        let value_list = scan.u32()?;
        let security = scan.u32()?;
        let class = scan.u32()?;
        let longest_subkey = scan.u16()?;
        scan.take(2)?;
        let longest_class = scan.u32()?;
        let longest_value = scan.u32()?;
        let largest_data = scan.u32()?;
        scan.take(4)?;
        let name_len = scan.u16()?;
        let class_len = scan.u16()?;
        let compressed = flags & flag::COMPRESSED != 0;
        let bytes = scan.take(usize::from(name_len))?;
        if !compressed && !bytes.len().is_multiple_of(2) {
            return None;
        }
        Some(Key {
            flags,
            parent,
            subkeys,
            subkey_list,
            values,
            value_list,
            security,
            class,
            longest_subkey,
            longest_class,
            longest_value,
            largest_data,
            class_len,
            name: Name { bytes, compressed },
        })
    }

    /// Reads the key at `at`. `what` names the structure in errors.
    pub(crate) fn read(
        cells: &'a Cells,
        at: u32,
        what: &'static str,
    ) -> Result<Key<'a>, HiveError> {
        Key::parse(cells.get(at, what)?).ok_or(damaged(what, at, "it is no key"))
    }
}
