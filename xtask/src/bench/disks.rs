//! The disks that `bench peers` measures with.

use crate::scratch::Scratch;
use crate::shell::{Failure, bash};

/// A disk in a file: GPT with one ext4 partition.
pub(super) struct Disk {
    pub(super) path: String,
    /// Size in bytes.
    pub(super) size: u64,
    /// Offset of the partition's first byte.
    pub(super) start: u64,
    /// Length of the partition, in bytes.
    pub(super) length: u64,
    /// Bytes used by its file system.
    pub(super) used: u64,
}

/// Makes a disk with one ext4 of `mib` MiB and runs the shell lines of `fill` with it mounted at
/// `$MOUNT`.
fn make(scratch: &Scratch, name: &str, mib: u64, fill: &str) -> Result<Disk, Failure> {
    let path = scratch.file(name);
    let mount = scratch.file("mount");
    let total = mib + 4;
    let said = bash(&format!(
        "truncate -s {total}M {path}
         sgdisk -n 1:2048:+{mib}M -t 1:8300 {path} > /dev/null
         dev=$(losetup --find --show --offset 1048576 --sizelimit $(({mib} << 20)) {path})
         MOUNT={mount}
         trap 'umount $MOUNT 2>/dev/null; losetup --detach $dev' EXIT
         mke2fs -q -F -t ext4 -E lazy_itable_init=0,lazy_journal_init=0,nodiscard $dev
         mkdir -p $MOUNT; mount -t ext4 $dev $MOUNT
         {fill}
         sync; df --output=used -B1 $MOUNT | tail -n 1"
    ))?;
    let used = said
        .trim()
        .parse()
        .map_err(|_| Failure::new(format!("df said {said}")))?;
    Ok(Disk {
        path,
        size: total << 20,
        start: 1 << 20,
        length: mib << 20,
        used,
    })
}

/// Makes a disk with files of this machine's `/usr`, `size` bytes of them on a partition of about
/// twice that, some deleted again.
pub(super) fn files(scratch: &Scratch, size: u64) -> Result<Disk, Failure> {
    eprintln!("bench: making a disk with {} MiB of files", size >> 20);
    let disk = make(
        scratch,
        "files",
        (size >> 20) * 2 + 256,
        &format!(
            "head -c {junk} /dev/urandom > $MOUNT/junk
             set +o pipefail
             find /usr/lib /usr/share -xdev -type f -size -64M -printf '%s %p\\0' | LC_ALL=C sort -z -k 2 \
               | awk -v left={size} 'BEGIN {{ RS = \"\\0\"; ORS = \"\\0\" }} {{ n = $1; sub(/^[0-9]+ /, \"\"); if (n <= left) {{ left -= n; print }} }}' \
               | (cd /; tar --null -T - -c 2>/dev/null || true) | tar -x -C $MOUNT
             rm $MOUNT/junk",
            junk = size / 8,
        ),
    )?;
    if disk.used < size / 2 {
        return Err(Failure::new(format!(
            "only {} of {} MiB found under /usr/lib and /usr/share: choose a smaller --size",
            disk.used >> 20,
            size >> 20
        )));
    }
    Ok(disk)
}

/// Makes a disk with one file of this many extents of one block, as in an old mail store or a
/// database: every second block is punched out.
pub(super) fn small_extents(scratch: &Scratch, extents: u64) -> Result<Disk, Failure> {
    eprintln!("bench: making a disk with {extents} extents of one block");
    let bytes = extents * 2 * 4096;
    make(
        scratch,
        "extents",
        (bytes >> 20) * 5 / 4 + 64,
        &format!(
            "head -c {bytes} /dev/urandom > $MOUNT/file; sync
             seq 0 8192 $(({bytes} - 8192)) | sed 's/.*/fpunch & 4096/' | xfs_io $MOUNT/file > /dev/null"
        ),
    )
}
