//! The ioctls, and the only `unsafe` of this package.

#![expect(
    unsafe_code,
    reason = "ioctls have no safe wrapper; each block says what makes it sound"
)]

use rustix::fd::AsFd;
use rustix::ioctl::{NoArg, Setter, ioctl, opcode};
use std::ops::Range;

/// `BLKRRPART` (linux/fs.h): `_IO(0x12, 95)`.
const BLKRRPART: rustix::ioctl::Opcode = opcode::none(0x12, 95);

/// `BLKDISCARD` (linux/fs.h): `_IO(0x12, 119)`, with two 64-bit numbers: first byte, bytes.
const BLKDISCARD: rustix::ioctl::Opcode = opcode::none(0x12, 119);

/// Tells a block device that nothing is stored in `range` any more.
///
/// # Errors
/// `EOPNOTSUPP` where the device takes no discards, `EINVAL` for a range that is not made of its sectors.
pub(super) fn discard(device: impl AsFd, range: Range<u64>) -> rustix::io::Result<()> {
    let argument = [range.start, range.end.saturating_sub(range.start)];
    // SAFETY: BLKDISCARD reads two 64-bit numbers behind the pointer and writes nothing to this process; `Setter`
    // passes a pointer to exactly that array, which lives until the call returns.
    unsafe { ioctl(device, Setter::<BLKDISCARD, [u64; 2]>::new(argument)) }
}

/// Asks the kernel to read the partition table of a block device again.
///
/// # Errors
/// `EBUSY` while a partition is in use, `EINVAL` for a device that takes no partitions.
pub(super) fn reread_partition_table(device: impl AsFd) -> rustix::io::Result<()> {
    // SAFETY: BLKRRPART takes no argument and touches no memory of this process, so an empty argument is what
    // the kernel expects; the descriptor is borrowed for the length of the call.
    unsafe { ioctl(device, NoArg::<BLKRRPART>::new()) }
}
