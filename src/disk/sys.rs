//! The ioctls, and the only `unsafe` of this package.

#![expect(
    unsafe_code,
    reason = "ioctls have no safe wrapper; each block says what makes it sound"
)]

use rustix::fd::AsFd;
use rustix::ioctl::{NoArg, ioctl, opcode};

/// `BLKRRPART` (linux/fs.h): `_IO(0x12, 95)`.
const BLKRRPART: rustix::ioctl::Opcode = opcode::none(0x12, 95);

/// Asks the kernel to read the partition table of a block device again.
///
/// # Errors
/// `EBUSY` while a partition is in use, `EINVAL` for a device that takes no partitions.
pub(super) fn reread_partition_table(device: impl AsFd) -> rustix::io::Result<()> {
    // SAFETY: BLKRRPART takes no argument and touches no memory of this process, so an empty argument is what
    // the kernel expects; the descriptor is borrowed for the length of the call.
    unsafe { ioctl(device, NoArg::<BLKRRPART>::new()) }
}
