//! Context of a step: volumes, secrets, payloads, the log.
//!
//! Owns which partitions are attached and mounted, and how. A volume is mounted at most once and on
//! demand, read-only until a step has something to change; nothing is left attached after
//! [`Context::close`] or a drop.
#![expect(
    clippy::disallowed_methods,
    reason = "the edge: the disk itself is opened to look at it and to flush it"
)]

use crate::device::Loop;
use crate::error::{At, Result, StepError};
use crate::guest::Guest;
use crate::left_over;
use crate::mount::{Mount, Wanted};
use crate::{Payloads, Slot, Target, Watcher};
use diskmap::ReadAt;
use diskmap::usedmap::{FsInfo, FsKind, identify};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use template::first_start::FirstStart;
use template::fstab::{self, Name};
use template::secrets::Secrets;
use template::step::{Action, FileSystem, MachinePlan, Payload, SecretName};

/// Largest `/etc/fstab` that is read, in bytes.
const MAX_FSTAB: u64 = 1 << 20;

/// Phase of a run; it decides how volumes are mounted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// Read-only unless the volume is writable already.
    Check,
    /// Writable.
    Apply,
    /// Read-only, the loop device too.
    Verify,
}

/// A partition in use. The fields stand in the order in which they have to be dropped: handle,
/// mount, device.
#[derive(Debug, Default)]
struct Volume {
    guest: Option<Rc<Guest>>,
    /// Other partitions that a Linux system mounts below this root, with their numbers; `None`
    /// before the first request.
    inner: Option<Vec<(u32, Mount)>>,
    mount: Option<Mount>,
    writable: bool,
    device: Option<Loop>,
}

/// Context of a step.
pub(crate) struct Context<'a> {
    target: &'a Target<'a>,
    secrets: &'a Secrets,
    payloads: &'a dyn Payloads,
    cancelled: &'a AtomicBool,
    watcher: &'a mut dyn Watcher,
    /// Partitions whose hibernated session the plan discards.
    discard_hibernation: BTreeSet<u32>,
    volumes: BTreeMap<u32, Volume>,
    phase: Phase,
    notes: Vec<String>,
}

impl<'a> Context<'a> {
    /// Address and key for the report of the first start.
    pub(crate) fn first_start(&self) -> Option<&'a FirstStart> {
        self.target.first_start
    }

    pub(crate) fn new(
        target: &'a Target<'a>,
        plan: &MachinePlan,
        secrets: &'a Secrets,
        payloads: &'a dyn Payloads,
        cancelled: &'a AtomicBool,
        watcher: &'a mut dyn Watcher,
    ) -> Self {
        let discard_hibernation = plan
            .steps
            .iter()
            .filter_map(|step| match step.action {
                Action::WindowsDiscardHibernation { partition } => Some(partition),
                _ => None,
            })
            .collect();
        Self {
            target,
            secrets,
            payloads,
            cancelled,
            watcher,
            discard_hibernation,
            volumes: BTreeMap::new(),
            phase: Phase::Check,
            notes: Vec::new(),
        }
    }

    // Used by steps.

    /// Root of a partition's file system, mounted on demand. The caller must not keep it after the
    /// call of its task.
    pub(crate) fn root(&mut self, partition: u32) -> Result<Rc<Guest>> {
        let writable = self.phase == Phase::Apply;
        if let Some(volume) = self.volumes.get(&partition)
            && let Some(guest) = &volume.guest
            && (volume.writable || !writable)
        {
            return Ok(Rc::clone(guest));
        }
        self.unmount(partition)?;
        let file_system = self.file_system(partition)?.ok_or_else(|| {
            StepError::Unsupported(format!(
                "partition {partition} holds no file system that can be mounted here"
            ))
        })?;
        let device = self.device(partition)?;
        let at = self.target.work.join(format!("partition-{partition}"));
        // The path as the kernel spells it in its list of mounts.
        let at = fs::create_dir_all(&at)
            .and_then(|()| fs::canonicalize(&at))
            .at(at.display())?;
        let wanted = Wanted {
            writable,
            discard_hibernation: self.discard_hibernation.contains(&partition),
        };
        let mount = Mount::new(&device, file_system, &at, wanted)
            .inspect_err(|_| remove_folder(&at))
            .at(format_args!("partition {partition}"))?;
        let guest = Rc::new(Guest::new(mount.path())?);
        let volume = self.volumes.entry(partition).or_default();
        volume.mount = Some(mount);
        volume.guest = Some(Rc::clone(&guest));
        volume.writable = writable;
        Ok(guest)
    }

    /// Block device that covers exactly the partition, for work below the file system. The
    /// partition is unmounted first; the device is writable except in the verification.
    pub(crate) fn device(&mut self, partition: u32) -> Result<PathBuf> {
        self.unmount(partition)?;
        let slot = self.slot(partition)?;
        let read_only = self.phase == Phase::Verify;
        let volume = self.volumes.entry(partition).or_default();
        if let Some(device) = &volume.device {
            return Ok(device.path().to_owned());
        }
        let device = Loop::attach(self.target, slot, read_only)?;
        let path = device.path().to_owned();
        volume.device = Some(device);
        Ok(path)
    }

    /// Root of a Linux system, with the other partitions it mounts (`/var`, `/home`) in their
    /// places.
    pub(crate) fn linux_root(&mut self, partition: u32) -> Result<Rc<Guest>> {
        let guest = self.root(partition)?;
        let root = self.mounted_at(partition)?;
        if let Some(volume) = self.volumes.get(&partition)
            && volume.inner.is_some()
        {
            return Ok(guest);
        }
        let mut covered = Vec::new();
        let mut inner = Vec::new();
        if let Err(error) = self.mount_inner(partition, &guest, &root, &mut covered, &mut inner) {
            // The innermost first: an inner mount keeps the outer one busy.
            while inner.pop().is_some() {}
            return Err(error);
        }
        let guest = Rc::new(guest.with_covered(covered)?);
        let volume = self.volumes.entry(partition).or_default();
        volume.inner = Some(inner);
        volume.guest = Some(Rc::clone(&guest));
        Ok(guest)
    }

    fn mount_inner(
        &mut self,
        partition: u32,
        guest: &Guest,
        root: &Path,
        covered: &mut Vec<String>,
        inner: &mut Vec<(u32, Mount)>,
    ) -> Result<()> {
        let fstab = guest.read("/etc/fstab", MAX_FSTAB)?.unwrap_or_default();
        for entry in fstab::entries(&String::from_utf8_lossy(&fstab)) {
            let found = match entry.subvolume {
                true => None,
                false => self.volume_named(&entry.volume)?,
            };
            let Some((number, file_system)) = found else {
                covered.push(entry.path);
                continue;
            };
            let at = match guest.real_folder(&entry.path)? {
                Some(at) if number != partition && at.starts_with(root) && at != root => at,
                _ => continue,
            };
            if inner.iter().any(|(mounted, _)| *mounted == number) {
                continue;
            }
            let device = self.device(number)?;
            let wanted = Wanted {
                writable: self.phase == Phase::Apply,
                discard_hibernation: false,
            };
            let mount = Mount::new(&device, file_system, &at, wanted)
                .at(format_args!("partition {number}, {}", entry.path))?;
            inner.push((number, mount));
        }
        Ok(())
    }

    /// Finds the partition whose file system has this name, among those the kernel mounts for
    /// Linux.
    fn volume_named(&self, name: &Name) -> Result<Option<(u32, FileSystem)>> {
        for slot in self.target.partitions {
            let Some(info) = self.identify(slot.number)? else {
                continue;
            };
            let same = match name {
                Name::Uuid(uuid) => info
                    .uuid
                    .as_ref()
                    .is_some_and(|own| own.eq_ignore_ascii_case(uuid)),
                Name::Label(label) => info.label.as_ref() == Some(label),
                Name::Other(_) | Name::Memory => false,
            };
            if let (true, Some(kind @ (FileSystem::Ext | FileSystem::Xfs))) =
                (same, changeable(info.kind))
            {
                return Ok(Some((slot.number, kind)));
            }
        }
        Ok(None)
    }

    /// Mount point of a partition, for programs that work on mounted volumes.
    pub(crate) fn mounted_at(&self, partition: u32) -> Result<PathBuf> {
        self.volumes
            .get(&partition)
            .and_then(|volume| volume.mount.as_ref())
            .map(|mount| mount.path().to_owned())
            .ok_or_else(|| {
                StepError::unexpected(format_args!("partition {partition}"), "it is not mounted")
            })
    }

    /// Unmounts a partition with everything written; no error if it is not mounted.
    pub(crate) fn unmount(&mut self, partition: u32) -> Result<()> {
        let hosts: Vec<u32> = self
            .volumes
            .iter()
            .filter(|(_, volume)| {
                volume
                    .inner
                    .iter()
                    .flatten()
                    .any(|(inner, _)| *inner == partition)
            })
            .map(|(host, _)| *host)
            .collect();
        for host in hosts {
            self.unmount_one(host)?;
        }
        self.unmount_one(partition)
    }

    fn unmount_one(&mut self, partition: u32) -> Result<()> {
        let Some(volume) = self.volumes.get_mut(&partition) else {
            return Ok(());
        };
        volume.guest = None;
        volume.writable = false;
        let mut first = Ok(());
        for (number, mount) in volume.inner.take().unwrap_or_default().into_iter().rev() {
            let result = mount.unmount();
            if first.is_ok() {
                first = result.at(format_args!("partition {number}"));
            }
        }
        if let Some(mount) = volume.mount.take() {
            let at = mount.path().to_owned();
            let result = mount.unmount();
            remove_folder(&at);
            if first.is_ok() {
                first = result.at(format_args!("partition {partition}"));
            }
        }
        first
    }

    /// File system of a partition, read from the disk; `None` if it is not recognised.
    pub(crate) fn identify(&self, partition: u32) -> Result<Option<FsInfo>> {
        let slice = self.bytes(partition)?;
        let length = slice.slot.length;
        identify(&slice, length).at(format_args!("partition {partition}"))
    }

    /// Reader of a partition's bytes as they are on the disk now.
    pub(crate) fn bytes(&self, partition: u32) -> Result<Slice> {
        let slot = self.slot(partition)?;
        let disk = File::open(self.target.disk).at(self.target.disk.display())?;
        Ok(Slice { disk, slot })
    }

    /// Kind of file system in a partition, among those that can be changed.
    pub(crate) fn file_system(&self, partition: u32) -> Result<Option<FileSystem>> {
        Ok(self
            .identify(partition)?
            .and_then(|info| changeable(info.kind)))
    }

    /// True for an NTFS volume: paths of steps on it are Windows paths.
    pub(crate) fn is_ntfs(&self, partition: u32) -> Result<bool> {
        Ok(self.file_system(partition)? == Some(FileSystem::Ntfs))
    }

    /// Position of a partition.
    pub(crate) fn slot(&self, partition: u32) -> Result<Slot> {
        self.target
            .partitions
            .iter()
            .copied()
            .find(|slot| slot.number == partition)
            .ok_or_else(|| StepError::Order(format!("the disk has no partition {partition}")))
    }

    /// Value of a secret. It must never get into an error, a log line or an argument of a program.
    pub(crate) fn secret(&self, name: &SecretName) -> Result<&'a str> {
        self.secrets.get(name).ok_or_else(|| {
            StepError::Order(format!("the secret {} did not come with the order", name.0))
        })
    }

    /// Opens a file of the console. The caller compares its content with its hash.
    pub(crate) fn payload(&self, payload: &Payload) -> Result<Box<dyn Read + 'a>> {
        self.payloads
            .open(payload)
            .map_err(|source| StepError::Fetch {
                file: payload.name.clone(),
                source,
            })
    }

    /// True if the job was cancelled: long work should end.
    pub(crate) fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Writes a line to the job's log; the line holds no secrets.
    pub(crate) fn log(&mut self, line: &str) {
        self.watcher.log(line);
    }

    /// Adds a remark for the technician to the report.
    pub(crate) fn note(&mut self, line: String) {
        if !self.notes.contains(&line) {
            self.watcher.log(&line);
            self.notes.push(line);
        }
    }

    // Used by the engine.

    pub(crate) fn begin(&mut self, index: usize, count: usize, what: &str) {
        self.watcher.step(index, count, what);
    }

    pub(crate) fn read_only(&mut self) {
        self.phase = Phase::Check;
    }

    pub(crate) fn writable(&mut self) {
        self.phase = Phase::Apply;
    }

    pub(crate) fn verifying(&mut self) {
        self.phase = Phase::Verify;
    }

    pub(crate) fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// Unmounts and detaches everything, flushes the disk, and drops the cached contents of the
    /// partitions.
    pub(crate) fn close(&mut self) -> Result<()> {
        let mut first = Ok(());
        let mut keep = |result: Result<()>| {
            if first.is_ok() {
                first = result;
            }
        };
        let partitions: Vec<u32> = self.volumes.keys().copied().collect();
        for partition in &partitions {
            keep(self.unmount(*partition));
        }
        for (_, volume) in std::mem::take(&mut self.volumes) {
            if let Some(device) = volume.device {
                keep(device.detach());
            }
        }
        if !partitions.is_empty() {
            keep(self.flush());
            left_over::forget(self.target.work);
            remove_folder(self.target.work);
        }
        first
    }

    fn flush(&self) -> Result<()> {
        let flushing = format!("flushing {}", self.target.disk.display());
        let disk = File::open(self.target.disk).at(&flushing)?;
        disk.sync_all().at(&flushing)?;
        for slot in self.target.partitions {
            let length = std::num::NonZeroU64::new(slot.length);
            rustix::fs::fadvise(&disk, slot.offset, length, rustix::fs::Advice::DontNeed)
                .at(&flushing)?;
        }
        Ok(())
    }
}

impl Drop for Context<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::warn!("{error}");
        }
    }
}

/// Maps a file system to the kind that steps can change; `None` for all others.
fn changeable(kind: FsKind) -> Option<FileSystem> {
    match kind {
        FsKind::Ext2 | FsKind::Ext3 | FsKind::Ext4 => Some(FileSystem::Ext),
        FsKind::Ntfs => Some(FileSystem::Ntfs),
        FsKind::Fat12 | FsKind::Fat16 | FsKind::Fat32 => Some(FileSystem::Fat),
        FsKind::ExFat => Some(FileSystem::Exfat),
        FsKind::Xfs => Some(FileSystem::Xfs),
        FsKind::Btrfs => Some(FileSystem::Btrfs),
        _ => None,
    }
}

/// Best effort: a folder that is not empty holds files of another program.
fn remove_folder(folder: &Path) {
    let _ = fs::remove_dir(folder);
}

/// A partition of the open disk.
pub(crate) struct Slice {
    disk: File,
    slot: Slot,
}

impl ReadAt for Slice {
    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.slot.length.saturating_sub(position);
        let room = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let place = self
            .slot
            .offset
            .checked_add(position)
            .ok_or(io::ErrorKind::InvalidInput)?;
        let buffer = buffer.get_mut(..room).unwrap_or_default();
        std::os::unix::fs::FileExt::read_at(&self.disk, buffer, place)
    }
}
