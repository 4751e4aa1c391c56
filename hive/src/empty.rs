//! A hive with only a root key, for callers without a hive of Windows to copy, mainly tests.

use crate::FileTime;
use crate::base;
use crate::cells::{Cells, NOWHERE};
use crate::edit::{check_name, key_bytes};
use crate::error::HiveError;
use crate::hive::Hive;
use crate::key::{Key, field, flag};
use crate::security;

/// Security descriptor with full access for SYSTEM and the administrators, inherited by subkeys:
/// `O:BAG:SYD:P(A;CI;KA;;;SY)(A;CI;KA;;;BA)`.
#[rustfmt::skip]
const DESCRIPTOR: [u8; 100] = [
    // Revision 1, self-relative with a protected DACL; owner at 72, group at 88, DACL at 20.
    1, 0, 0x04, 0x90, 72, 0, 0, 0, 88, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0,
    // The DACL: revision 2, 52 bytes, two entries.
    2, 0, 52, 0, 2, 0, 0, 0,
    // Allow, inherited by keys, 20 bytes, all access, S-1-5-18.
    0, 2, 20, 0, 0x3f, 0, 0x0f, 0, 1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0,
    // Allow, inherited by keys, 24 bytes, all access, S-1-5-32-544.
    0, 2, 24, 0, 0x3f, 0, 0x0f, 0, 1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 0x20, 2, 0, 0,
    // Owner and group.
    1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 0x20, 2, 0, 0,
    1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0,
];

impl Hive {
    /// Makes an empty hive of this minor version: 3, as in Windows for users and boot
    /// configurations, or 5, as for SYSTEM and SOFTWARE.
    ///
    /// # Errors
    /// [`HiveError`] if the version is neither of these, or the root's name is not valid.
    pub fn empty(minor: u32, root: &str, now: FileTime) -> Result<Hive, HiveError> {
        if !matches!(minor, 3 | 5) {
            return Err(HiveError::NotAHive {
                why: "its version is neither 1.3 nor 1.5",
            });
        }
        check_name(root)?;
        let mut cells = Cells::empty(base::new_block(minor, now));
        let at = cells.store(&key_bytes(NOWHERE, NOWHERE, root, now)?)?;
        let flags = Key::read(&cells, at, "root key")?.flags | flag::ROOT | flag::NO_DELETE;
        cells.put_u16(at, field::FLAGS, flags)?;
        let security = security::first(&mut cells, &DESCRIPTOR)?;
        cells.put_u32(at, field::SECURITY, security)?;
        cells.commit();
        base::seal(&mut cells.bytes, 1);
        Hive::open(cells.bytes, &[]).map(|(hive, _)| hive)
    }
}
