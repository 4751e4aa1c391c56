//! The objects behind a path: one file or one block device, and everything below it that holds the
//! same bytes.
//!
//! Owns the test whether two paths share bytes, so that no command writes over its own input. Files
//! are compared by device and inode and block devices by their numbers, never by name: symlinks,
//! hard links, loop devices, partitions and device-mapper volumes are followed. Never writes.

use super::{DiskError, sys};
use std::collections::BTreeSet;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Most devices stacked on each other that are followed.
const DEPTH_MAX: usize = 16;

/// One object that holds bytes.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Layer {
    /// A regular file: device of its file system, and inode.
    File(u64, u64),
    /// A block device: number of the whole disk, and of the partition if it is one.
    Block(u64, Option<u64>),
}

/// All objects whose bytes change when a file or device is written, or the other way round.
#[derive(Debug, Default)]
pub struct Ground(BTreeSet<Layer>);

impl Ground {
    /// The file or device itself, and the objects it consists of: the file behind a loop device,
    /// the disks below a volume.
    ///
    /// # Errors
    /// The path cannot be examined.
    pub fn of(path: &Path) -> io::Result<Self> {
        let mut ground = Self::default();
        ground.add(&fs::metadata(path)?, false, DEPTH_MAX);
        Ok(ground)
    }

    /// The objects of [`Ground::of`], and also the disks with the file system that contains the
    /// file.
    ///
    /// # Errors
    /// The path cannot be examined.
    pub fn below(path: &Path) -> io::Result<Self> {
        let mut ground = Self::default();
        let meta = fs::metadata(path)?;
        ground.add(&meta, true, DEPTH_MAX);
        // Some file systems (btrfs, overlay) have no device number of their own; the device is then
        // taken from their mount.
        if rustix::fs::major(meta.dev()) == 0
            && let Some(source) = mount_source(path)
            && let Ok(meta) = fs::metadata(source)
            && meta.file_type().is_block_device()
        {
            ground.add_block(meta.rdev(), true, DEPTH_MAX);
        }
        Ok(ground)
    }

    /// True when writing to one of the two may change the other.
    pub fn shares(&self, other: &Self) -> bool {
        self.0.iter().any(|mine| {
            other.0.iter().any(|theirs| match (mine, theirs) {
                (Layer::Block(one, part), Layer::Block(two, other)) => {
                    one == two && (part.is_none() || other.is_none() || part == other)
                }
                (mine, theirs) => mine == theirs,
            })
        })
    }

    fn add(&mut self, meta: &Metadata, storage: bool, depth: usize) {
        let kind = meta.file_type();
        if kind.is_block_device() {
            self.add_block(meta.rdev(), storage, depth);
            return;
        }
        if kind.is_file() {
            self.0.insert(Layer::File(meta.dev(), meta.ino()));
        }
        if storage && rustix::fs::major(meta.dev()) != 0 {
            self.add_block(meta.dev(), storage, depth);
        }
    }

    fn add_block(&mut self, number: u64, storage: bool, depth: usize) {
        let Some(depth) = depth.checked_sub(1) else {
            return;
        };
        let Some(sys) = sys_folder(number) else {
            self.0.insert(Layer::Block(number, None));
            return;
        };
        let partition = sys.join("partition").exists();
        let whole = if partition {
            sys.parent().map(Path::to_owned).unwrap_or_default()
        } else {
            sys.clone()
        };
        let disk = number_of(&whole).unwrap_or(number);
        self.0
            .insert(Layer::Block(disk, partition.then_some(number)));
        if let Some(backing) = loop_backing(&whole) {
            match backing {
                Backing::Known(meta) => self.add(&meta, storage, depth),
                Backing::Unseen { dev, inode } => {
                    self.0.insert(Layer::File(dev, inode));
                    if storage && rustix::fs::major(dev) != 0 {
                        self.add_block(dev, storage, depth);
                    }
                }
            }
        }
        let slaves = fs::read_dir(sys.join("slaves")).into_iter().flatten();
        for slave in slaves.flatten() {
            if let Some(number) = number_of(&slave.path()) {
                self.add_block(number, storage, depth);
            }
        }
    }
}

/// The file behind a loop device.
enum Backing {
    /// The file can be reached by its path.
    Known(Metadata),
    /// It has no path here: another mount namespace, or it was deleted.
    Unseen { dev: u64, inode: u64 },
}

/// The file behind the block device of this folder in `/sys`, if it is a loop device in use. The
/// device and inode come from the kernel too: the path in `/sys` may be one of another mount
/// namespace.
fn loop_backing(sys: &Path) -> Option<Backing> {
    let path = fs::read_to_string(sys.join("loop/backing_file")).ok()?;
    let meta = fs::metadata(path.trim_end_matches('\n'));
    let name = sys.file_name()?;
    let numbers = OpenOptions::new()
        .read(true)
        .open(Path::new("/dev").join(name))
        .ok()
        .and_then(|device| sys::loop_backing(&device).ok());
    match (meta, numbers) {
        (Ok(meta), None) => Some(Backing::Known(meta)),
        (Ok(meta), Some((dev, inode)))
            if meta.file_type().is_block_device() || (meta.dev(), meta.ino()) == (dev, inode) =>
        {
            Some(Backing::Known(meta))
        }
        (_, Some((dev, inode))) => Some(Backing::Unseen { dev, inode }),
        (Err(_), None) => None,
    }
}

/// Files that hold the bytes of a block device, as far as they can be reached by their paths.
pub(super) fn backing_files(device: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut number = fs::metadata(device).ok().map(|meta| meta.rdev());
    // A file on a loop device on a file: followed as long as each lies whole on the next.
    for _ in 0..DEPTH_MAX {
        let Some(sys) = number.and_then(sys_folder) else {
            break;
        };
        let whole = match sys.parent() {
            Some(parent) if sys.join("partition").exists() => parent.to_owned(),
            _ => sys,
        };
        let Ok(path) = fs::read_to_string(whole.join("loop/backing_file")) else {
            break;
        };
        let path = PathBuf::from(path.trim_end_matches('\n'));
        let Some(Backing::Known(meta)) = loop_backing(&whole) else {
            break;
        };
        number = meta.file_type().is_block_device().then(|| meta.rdev());
        if meta.is_file() {
            found.push(path);
        }
    }
    found
}

/// True when two block devices are the same, or one is a partition of the other.
pub(super) fn same_disk(one: u64, other: u64) -> bool {
    let whole = |number| {
        let sys = sys_folder(number)?;
        let parent = sys.parent().filter(|_| sys.join("partition").exists());
        parent.map_or(Some(number), number_of)
    };
    one == other
        || (whole(one) == Some(other) && other != 0)
        || (whole(other) == Some(one) && one != 0)
}

/// Names of the loop devices whose bytes are in this file.
pub(super) fn loops_on(file: &Metadata) -> Vec<String> {
    let entries = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    entries
        .filter(|entry| {
            loop_backing(&entry.path()).is_some_and(|backing| {
                let numbers = match backing {
                    Backing::Known(meta) => (meta.dev(), meta.ino()),
                    Backing::Unseen { dev, inode } => (dev, inode),
                };
                numbers == (file.dev(), file.ino())
            })
        })
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

fn sys_folder(number: u64) -> Option<PathBuf> {
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()
}

/// Device number of a folder in `/sys`.
fn number_of(sys: &Path) -> Option<u64> {
    let text = fs::read_to_string(sys.join("dev")).ok()?;
    let (major, minor) = text.trim().split_once(':')?;
    Some(rustix::fs::makedev(
        major.parse().ok()?,
        minor.parse().ok()?,
    ))
}

/// Source of the deepest mount that contains this path.
fn mount_source(path: &Path) -> Option<PathBuf> {
    let path = fs::canonicalize(path).ok()?;
    let text = fs::read_to_string("/proc/self/mountinfo").ok()?;
    text.lines()
        .filter_map(|line| {
            let (mount, source) = line.split_once(" - ")?;
            let place = super::device::unescape(mount.split(' ').nth(4)?);
            let source = super::device::unescape(source.split(' ').nth(1)?);
            path.starts_with(&place)
                .then(|| (place.len(), PathBuf::from(source)))
        })
        .max_by_key(|(length, _)| *length)
        .map(|(_, source)| source)
}

/// Refuses an `output` that shares bytes with one of `inputs`, by whatever names.
///
/// # Errors
/// [`DiskError::Refused`] with both names.
pub fn keep_inputs<'a>(
    output: &Path,
    inputs: impl IntoIterator<Item = &'a Path>,
) -> Result<(), DiskError> {
    let Ok(written) = Ground::of(output) else {
        // The output does not exist yet.
        return Ok(());
    };
    for input in inputs {
        if Ground::of(input).is_ok_and(|read| read.shares(&written)) {
            return Err(DiskError::refused(
                format!(
                    "{} is {} itself: it would be overwritten while it is read",
                    output.display(),
                    input.display()
                ),
                "name another place to write to",
            ));
        }
        if Ground::below(input).is_ok_and(|read| read.shares(&written)) {
            return Err(DiskError::refused(
                format!(
                    "{} lies on {}, which would be overwritten",
                    input.display(),
                    output.display()
                ),
                "copy it to another disk first, or choose another disk",
            ));
        }
    }
    Ok(())
}

/// Refuses an image file as a disk to write to. A disk never begins with the signature of an image,
/// and a person who swaps image and disk would lose the image.
///
/// # Errors
/// [`DiskError::Refused`] with the name.
pub fn refuse_image_as_disk(path: &Path) -> Result<(), DiskError> {
    // Opening a FIFO would block.
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let is_image = fs::metadata(path).is_ok_and(|meta| meta.is_file())
        && OpenOptions::new()
            .read(true)
            .custom_flags(nonblock)
            .open(path)
            .is_ok_and(|file| has_signature(&file));
    if is_image {
        return Err(DiskError::refused(
            format!(
                "{} is a diskcast image, not a disk to write to",
                path.display()
            ),
            "the image comes first, then the disk; remove the file if it is not needed any more",
        ));
    }
    Ok(())
}

/// True when a file begins with the signature that every volume of an image has.
pub(super) fn has_signature(file: &File) -> bool {
    let mut head = [0; imagefmt::SIGNATURE.len()];
    file.read_exact_at(&mut head, 0).is_ok() && head == imagefmt::SIGNATURE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_every_name() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        fs::write(place("disk"), [1; 4096]).unwrap();
        fs::write(place("other"), [1; 4096]).unwrap();
        fs::hard_link(place("disk"), place("hard")).unwrap();
        std::os::unix::fs::symlink(place("disk"), place("soft")).unwrap();
        let disk = place("disk");
        for name in ["disk", "hard", "soft"] {
            let error = keep_inputs(&place(name), [disk.as_path()]).unwrap_err();
            assert!(error.to_string().contains("itself"), "{name}: {error}");
        }
        keep_inputs(&place("other"), [disk.as_path()]).unwrap();
        keep_inputs(&place("missing"), [disk.as_path()]).unwrap();
    }

    #[test]
    fn partitions_share_bytes_with_their_disk_and_not_with_each_other() {
        let ground = |part| Ground(BTreeSet::from([Layer::Block(8, part)]));
        let (disk, one, two) = (ground(None), ground(Some(1)), ground(Some(2)));
        assert!(disk.shares(&one) && one.shares(&disk) && one.shares(&one));
        assert!(!one.shares(&two));
    }

    #[test]
    fn an_image_is_no_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.dcimg");
        fs::write(&path, imagefmt::SIGNATURE).unwrap();
        assert!(refuse_image_as_disk(&path).is_err());
        fs::write(&path, [0; 512]).unwrap();
        refuse_image_as_disk(&path).unwrap();
    }
}
