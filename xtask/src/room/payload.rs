//! Content for the targets: an incompressible disk, and a real NTFS disk for us and for the peer.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use crate::scratch::Scratch;
use crate::shell::{Failure, bash};

/// The programs under measurement.
pub(crate) struct Programs {
    pub(crate) diskcast: PathBuf,
    pub(crate) agent: PathBuf,
}

/// A master image, and the disk that a local restore of it makes.
#[derive(Clone)]
pub(crate) struct Image {
    pub(crate) path: PathBuf,
    /// Size of the image file, in bytes, all of which have to be sent.
    pub(crate) bytes: u64,
    pub(crate) disk_bytes: u64,
    pub(crate) reference: PathBuf,
}

impl Image {
    /// Captures `disk` and restores it again beside it.
    pub(crate) fn capture(programs: &Programs, disk: &Path) -> Result<Self, Failure> {
        let path = disk.with_extension("dcimg");
        let reference = disk.with_extension("reference");
        let disk_bytes = size(disk)?;
        bash(&format!(
            "{program} image capture {disk} {path} -q > /dev/null
             truncate -s {disk_bytes} {reference}
             {program} image restore {path} {reference} --yes -q > /dev/null",
            program = programs.diskcast.display(),
            disk = disk.display(),
            path = path.display(),
            reference = reference.display(),
        ))?;
        Ok(Self {
            bytes: size(&path)?,
            path,
            disk_bytes,
            reference,
        })
    }
}

/// Makes a disk of random bytes, of which nothing can be compressed or left out.
pub(crate) fn random(
    scratch: &Scratch,
    programs: &Programs,
    name: &str,
    bytes: u64,
) -> Result<Image, Failure> {
    let disk = PathBuf::from(scratch.file(name));
    bash(&format!(
        "head -c {bytes} /dev/urandom > {}",
        disk.display()
    ))?;
    Image::capture(programs, &disk)
}

/// Makes a copy of the disk with `chunks` of its pieces of `chunk_bytes` replaced, spread evenly.
pub(crate) fn changed(
    scratch: &Scratch,
    programs: &Programs,
    first: &Image,
    chunk_bytes: u64,
    chunks: u64,
) -> Result<Image, Failure> {
    let disk = PathBuf::from(scratch.file("changed.raw"));
    let step = first.disk_bytes / chunk_bytes / chunks.max(1);
    bash(&format!(
        "cp {from} {to}
         for i in $(seq 0 {last}); do
           head -c {chunk_bytes} /dev/urandom |
             dd of={to} bs={chunk_bytes} seek=$((i * {step} + {step} / 2)) iflag=fullblock conv=notrunc status=none
         done",
        from = first.reference.display(),
        to = disk.display(),
        last = chunks.max(1) - 1,
    ))?;
    Image::capture(programs, &disk)
}

/// The peer's image of the same partition.
#[derive(Clone)]
pub(crate) struct PeerImage {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    pub(crate) reference: PathBuf,
}

/// Makes a GPT disk with one NTFS partition, filled with `files` bytes from this machine, some
/// deleted again. The peer's image is made on request.
pub(crate) fn ntfs(
    scratch: &Scratch,
    programs: &Programs,
    files: u64,
    with_peer: bool,
) -> Result<(Image, Option<PeerImage>), Failure> {
    let file = |name: &str| scratch.file(name);
    let (disk, mount, device) = (file("ntfs.raw"), file("mount"), file("device"));
    let mib = (files >> 20) * 7 / 4 + 256;
    let said = bash(&format!(
        "truncate -s {total}M {disk}
         sgdisk -n 1:2048:+{mib}M -t 1:0700 {disk} > /dev/null
         dev=$(losetup --find --show --offset 1048576 --sizelimit $(({mib} << 20)) {disk})
         echo $dev > {device}
         mkntfs -Q -F -L Windows -H 255 -S 63 -p 2048 $dev > /dev/null 2>&1
         mkdir -p {mount}; ntfs-3g -o big_writes,noatime $dev {mount}
         trap 'umount {mount}' EXIT
         head -c {junk} /dev/urandom > {mount}/junk
         set +o pipefail
         find /usr/lib /usr/share -xdev -type f -size -64M -printf '%s %p\\0' | LC_ALL=C sort -z -k 2 \
           | awk -v left={files} 'BEGIN {{ RS = \"\\0\"; ORS = \"\\0\" }} {{ n = $1; sub(/^[0-9]+ /, \"\"); if (n <= left) {{ left -= n; print }} }}' \
           | (cd /; tar --null -T - -c 2>/dev/null || true) | tar -x --no-same-owner --no-same-permissions -C {mount}
         rm {mount}/junk
         sync; df --output=used -B1 {mount} | tail -n 1",
        total = mib + 4,
        junk = files / 8,
    ))?;
    let used: u64 = said
        .trim()
        .parse()
        .map_err(|_| Failure::new(format!("df said {said}")))?;
    if used < files / 10 * 9 {
        return Err(Failure::new(format!(
            "only {} of {} MiB found under /usr/lib and /usr/share: choose a smaller --files",
            used >> 20,
            files >> 20
        )));
    }
    let peer = if with_peer {
        let (path, reference, log) = (
            file("ntfs.zst"),
            file("ntfs.restored"),
            file("partclone.log"),
        );
        bash(&format!(
            "partclone.ntfs -f 1 -c -s $(cat {device}) -O - -L {log} 2>/dev/null | zstd -q -3 -T2 -o {path}
             zstd -dcq {path} | partclone.restore -f 1 -C -W -s - -o {reference} -L {log} 2>/dev/null"
        ))?;
        Some(PeerImage {
            bytes: size(Path::new(&path))?,
            path: path.into(),
            reference: reference.into(),
        })
    } else {
        None
    };
    bash(&format!("losetup --detach $(cat {device})"))?;
    Ok((Image::capture(programs, Path::new(&disk))?, peer))
}

pub(crate) fn size(path: &Path) -> Result<u64, Failure> {
    fs::metadata(path)
        .map(|meta| meta.len())
        .map_err(|error| Failure::new(format!("{}: {error}", path.display())))
}

/// Compares two files: `None` when they are equal, otherwise a description of the difference.
pub(crate) fn difference(expected: &Path, found: &Path) -> Option<String> {
    let at = |error: std::io::Error, path: &Path| format!("{}: {error}", path.display());
    let compare = || -> Result<Option<String>, String> {
        let open = |path: &Path| File::open(path).map_err(|error| at(error, path));
        let (mut left, mut right) = (open(expected)?, open(found)?);
        let (mut one, mut other) = (vec![0; 1 << 20], vec![0; 1 << 20]);
        let mut offset = 0u64;
        loop {
            let n = fill(&mut left, &mut one).map_err(|error| at(error, expected))?;
            let m = fill(&mut right, &mut other).map_err(|error| at(error, found))?;
            if one[..n] != other[..m] {
                return Ok(Some(format!(
                    "{} differs from a local restore in the MiB at {offset}",
                    found.display()
                )));
            }
            if n == 0 {
                return Ok(None);
            }
            offset += n as u64;
        }
    };
    compare().unwrap_or_else(Some)
}

fn fill(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_and_one_missing_byte_are_differences() {
        let scratch = Scratch::new(&std::env::temp_dir(), "difference").unwrap();
        let path = |name: &str| PathBuf::from(scratch.file(name));
        let mut bytes = vec![7u8; (1 << 20) + 3];
        fs::write(path("a"), &bytes).unwrap();
        fs::write(path("same"), &bytes).unwrap();
        fs::write(path("short"), &bytes[1..]).unwrap();
        bytes[1 << 20] = 8;
        fs::write(path("other"), &bytes).unwrap();
        assert_eq!(difference(&path("a"), &path("same")), None);
        assert!(difference(&path("a"), &path("other")).is_some());
        assert!(difference(&path("a"), &path("short")).is_some());
        assert!(difference(&path("a"), &path("absent")).is_some());
    }
}
