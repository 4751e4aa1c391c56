//! Security descriptors (`sk` cells), regf "Key security".
//!
//! ```text
//! 0 "sk"  4 next  8 previous  12 keys that use it  16 descriptor bytes  20 descriptor
//! ```
//!
//! All descriptors of a hive form one ring. Each has a count of the keys that use it.

use std::collections::BTreeSet;

use crate::FileTime;
use crate::cells::Cells;
use crate::error::{HiveError, damaged};
use crate::hive::{Hive, KeyId};
use crate::key;
use crate::scan::{Scan, index};

/// Offsets of the fields, for code that writes them.
mod field {
    pub(super) const NEXT: usize = 4;
    pub(super) const PREVIOUS: usize = 8;
    pub(super) const USES: usize = 12;
    pub(super) const DESCRIPTOR: usize = 20;
}

/// A descriptor and its place in the ring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Security<'a> {
    pub(crate) next: u32,
    pub(crate) previous: u32,
    pub(crate) uses: u32,
    pub(crate) descriptor: &'a [u8],
}

impl<'a> Security<'a> {
    pub(crate) fn read(cells: &'a Cells, at: u32) -> Result<Security<'a>, HiveError> {
        let parse = |cell| {
            let mut scan = Scan(cell);
            scan.signature(*b"sk")?;
            scan.take(2)?;
            let (next, previous, uses) = (scan.u32()?, scan.u32()?, scan.u32()?);
            let len = scan.u32()?;
            Some(Security {
                next,
                previous,
                uses,
                descriptor: scan.take(index(len))?,
            })
        };
        let cell = cells.get(at, "security descriptor")?;
        parse(cell).ok_or(damaged("security descriptor", at, "it is none"))
    }
}

/// True if the bytes begin like a self-relative descriptor: revision 1 and the self-relative flag.
pub(crate) fn is_descriptor(bytes: &[u8]) -> bool {
    bytes.len() >= 20
        && bytes.first() == Some(&1)
        && bytes.get(3).is_some_and(|flags| flags & 0x80 != 0)
}

/// The descriptors in the ring that contains `start`.
pub(crate) fn ring(cells: &Cells, start: u32) -> Result<Vec<u32>, HiveError> {
    let mut seen = BTreeSet::new();
    let mut ring = Vec::new();
    let mut at = start;
    while seen.insert(at) {
        ring.push(at);
        at = Security::read(cells, at)?.next;
    }
    if at == start {
        Ok(ring)
    } else {
        Err(damaged(
            "security descriptor",
            at,
            "the ring does not close",
        ))
    }
}

/// Adds a use to the descriptor at `at`.
pub(crate) fn share(cells: &mut Cells, at: u32) -> Result<(), HiveError> {
    let uses = Security::read(cells, at)?.uses;
    cells.put_u32(at, field::USES, uses.checked_add(1).ok_or(HiveError::Full)?)
}

/// Removes a use from the descriptor at `at`, and deletes it with the last use.
pub(crate) fn drop_use(cells: &mut Cells, at: u32) -> Result<(), HiveError> {
    let Security {
        next,
        previous,
        uses,
        ..
    } = Security::read(cells, at)?;
    if uses > 1 {
        return cells.put_u32(at, field::USES, uses - 1);
    }
    cells.put_u32(previous, field::NEXT, next)?;
    cells.put_u32(next, field::PREVIOUS, previous)?;
    cells.release(at)
}

/// Makes the bytes of a new `sk` that is used by one key.
fn bytes(next: u32, previous: u32, descriptor: &[u8]) -> Result<Vec<u8>, HiveError> {
    let len = u32::try_from(descriptor.len()).map_err(|_| HiveError::Full)?;
    let mut bytes = b"sk\0\0".to_vec();
    for field in [next, previous, 1, len] {
        bytes.extend_from_slice(&field.to_le_bytes());
    }
    bytes.extend_from_slice(descriptor);
    Ok(bytes)
}

/// Stores the first descriptor of a hive: a ring of one.
pub(crate) fn first(cells: &mut Cells, descriptor: &[u8]) -> Result<u32, HiveError> {
    let at = cells.store(&bytes(0, 0, descriptor)?)?;
    cells.put_u32(at, field::NEXT, at)?;
    cells.put_u32(at, field::PREVIOUS, at)?;
    Ok(at)
}

/// Finds the descriptor with these bytes in the ring of `near`, or adds a new one. It gains a use.
fn obtain(cells: &mut Cells, near: u32, descriptor: &[u8]) -> Result<u32, HiveError> {
    for at in ring(cells, near)? {
        if Security::read(cells, at)?.descriptor == descriptor {
            share(cells, at)?;
            return Ok(at);
        }
    }
    let next = Security::read(cells, near)?.next;
    let at = cells.store(&bytes(next, near, descriptor)?)?;
    cells.put_u32(near, field::NEXT, at)?;
    cells.put_u32(next, field::PREVIOUS, at)?;
    Ok(at)
}

impl Hive {
    /// Sets the security descriptor of one key, self-relative. Keys below it keep theirs. Returns
    /// true if anything was changed.
    ///
    /// # Errors
    /// [`HiveError`] if the hive is not sound, the key does not exist or the bytes are not a
    /// descriptor. Nothing is changed then.
    pub fn set_security(
        &mut self,
        key: KeyId,
        descriptor: &[u8],
        now: FileTime,
    ) -> Result<bool, HiveError> {
        if !is_descriptor(descriptor) || descriptor.len() > usize::from(u16::MAX) {
            return Err(HiveError::NotADescriptor);
        }
        self.edit(|hive| {
            let old = hive.key(key)?.security;
            if Security::read(&hive.cells, old)?.descriptor == descriptor {
                return Ok(false);
            }
            let new = obtain(&mut hive.cells, old, descriptor)?;
            hive.cells.put_u32(key.0, key::field::SECURITY, new)?;
            drop_use(&mut hive.cells, old)?;
            hive.touch(key, now)?;
            Ok(true)
        })
    }

    /// Passes every security descriptor to `f`, which may change its bytes in place and returns
    /// true if it did. Returns the number of changed descriptors.
    ///
    /// # Errors
    /// [`HiveError`] if the hive is not sound. Nothing is changed then.
    pub fn rewrite_security(
        &mut self,
        f: &mut dyn FnMut(&mut [u8]) -> bool,
    ) -> Result<u32, HiveError> {
        self.edit(|hive| {
            let root = hive.key(hive.root())?.security;
            let mut changed = 0;
            for at in ring(&hive.cells, root)? {
                let old = Security::read(&hive.cells, at)?.descriptor;
                let mut new = old.to_vec();
                if f(&mut new) && new != old {
                    hive.cells.put(at, field::DESCRIPTOR, &new)?;
                    changed += 1;
                }
            }
            Ok(changed)
        })
    }
}
