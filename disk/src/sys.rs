//! The ioctls, and the only `unsafe` code of this package.

#![expect(
    unsafe_code,
    reason = "ioctls have no safe wrapper; each block says what makes it sound"
)]

use rustix::fd::AsFd;
use rustix::ioctl::{Getter, NoArg, Setter, ioctl, opcode};
use std::ops::Range;

/// `BLKRRPART` (linux/fs.h): `_IO(0x12, 95)`.
const BLKRRPART: rustix::ioctl::Opcode = opcode::none(0x12, 95);

/// `BLKDISCARD` (linux/fs.h): `_IO(0x12, 119)`, with two 64-bit numbers: first byte, bytes.
const BLKDISCARD: rustix::ioctl::Opcode = opcode::none(0x12, 119);

/// `LOOP_GET_STATUS64` (linux/loop.h): `0x4C05`, which fills a `struct loop_info64`.
const LOOP_GET_STATUS64: rustix::ioctl::Opcode = opcode::none(0x4c, 5);

/// Length of `struct loop_info64` in 64-bit words: 5 numbers, 4 half ones, 160 bytes of names and
/// keys, 2 numbers.
const LOOP_INFO_WORDS: usize = 29;

/// Device and inode of the file behind a loop device.
///
/// # Errors
/// `ENXIO` for a loop device without a file, `ENOTTY` and others for other devices.
pub(super) fn loop_backing(device: impl AsFd) -> rustix::io::Result<(u64, u64)> {
    // SAFETY: LOOP_GET_STATUS64 writes one `struct loop_info64` behind the pointer, 232 bytes with
    // the alignment of a 64-bit number, which is what this array has; every bit pattern is a valid
    // number.
    let info = unsafe {
        ioctl(
            device,
            Getter::<LOOP_GET_STATUS64, [u64; LOOP_INFO_WORDS]>::new(),
        )
    }?;
    Ok((info[0], info[1]))
}

/// Tells a block device that `range` is not used any more.
///
/// # Errors
/// `EOPNOTSUPP` when the device accepts no discards, `EINVAL` for a range that is not made of its
/// sectors.
pub(super) fn discard(device: impl AsFd, range: Range<u64>) -> rustix::io::Result<()> {
    let argument = [range.start, range.end.saturating_sub(range.start)];
    // SAFETY: BLKDISCARD reads two 64-bit numbers behind the pointer and writes nothing to this
    // process; `Setter` passes a pointer to exactly that array, which lives until the call returns.
    unsafe { ioctl(device, Setter::<BLKDISCARD, [u64; 2]>::new(argument)) }
}

/// Makes the kernel read the partition table of a block device again.
///
/// # Errors
/// `EBUSY` while a partition is in use, `EINVAL` for a device that has no partitions.
pub(super) fn reread_partition_table(device: impl AsFd) -> rustix::io::Result<()> {
    // SAFETY: BLKRRPART takes no argument and touches no memory of this process, so an empty
    // argument is what the kernel expects; the descriptor is borrowed for the length of the call.
    unsafe { ioctl(device, NoArg::<BLKRRPART>::new()) }
}
