//! What a step may use: volumes, secrets, payloads, the log.
//!
//! Owns: which partition is attached and mounted, and how. What always holds: a volume is mounted at most once and on
//! demand, read-only until a step really has something to change; nothing is left attached after [`Context::close`] or a drop.
#![expect(
    clippy::disallowed_methods,
    reason = "the edge: the disk itself is opened to look at it and to flush it"
)]

use crate::device::Loop;
use crate::guest::Guest;
use crate::mount::{Mount, Wanted};
use crate::{Payloads, Secrets, Slot, Target, Watcher};
use diskmap::ReadAt;
use diskmap::usedmap::{FsInfo, FsKind, identify};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use template::step::{Action, FileSystem, MachinePlan, Payload, SecretName};

/// What is asked of volumes now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// Read-only unless it is writable already.
    Check,
    /// Writable.
    Apply,
    /// Read-only, the device too.
    Verify,
}

/// A partition in use. Fields in the order they have to go: handle, mount, device.
#[derive(Debug, Default)]
struct Volume {
    guest: Option<Rc<Guest>>,
    mount: Option<Mount>,
    writable: bool,
    device: Option<Loop>,
}

/// What a step may use.
pub(crate) struct Context<'a> {
    target: &'a Target<'a>,
    secrets: &'a Secrets,
    payloads: &'a dyn Payloads,
    cancelled: &'a AtomicBool,
    watcher: &'a mut dyn Watcher,
    /// Partitions whose hibernated session the plan gives up.
    discard_hibernation: BTreeSet<u32>,
    volumes: BTreeMap<u32, Volume>,
    phase: Phase,
    notes: Vec<String>,
}

impl<'a> Context<'a> {
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

    // What a step may use.

    /// Root of a partition's file system, mounted on demand. Not to be kept after the call of the task that asked.
    pub(crate) fn root(&mut self, partition: u32) -> Result<Rc<Guest>, String> {
        let writable = self.phase == Phase::Apply;
        if let Some(volume) = self.volumes.get(&partition)
            && let Some(guest) = &volume.guest
            && (volume.writable || !writable)
        {
            return Ok(Rc::clone(guest));
        }
        self.unmount(partition)?;
        let file_system = self.file_system(partition)?.ok_or_else(|| {
            format!("partition {partition} holds no file system that can be mounted here")
        })?;
        let device = self.device(partition)?;
        let at = self.target.work.join(format!("partition-{partition}"));
        fs::create_dir_all(&at).map_err(|error| format!("{}: {error}", at.display()))?;
        let wanted = Wanted {
            writable,
            discard_hibernation: self.discard_hibernation.contains(&partition),
        };
        let mount = Mount::new(&device, file_system, &at, wanted)
            .map_err(|reason| format!("partition {partition}: {reason}"))?;
        let guest = Rc::new(Guest::new(mount.path())?);
        let volume = self.volumes.entry(partition).or_default();
        volume.mount = Some(mount);
        volume.guest = Some(Rc::clone(&guest));
        volume.writable = writable;
        Ok(guest)
    }

    /// The partition as a block device that ends where it ends, for work below the file system; unmounted first. Writable
    /// except while verifying.
    pub(crate) fn device(&mut self, partition: u32) -> Result<PathBuf, String> {
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

    /// Unmounts a partition, everything written; not mounted is fine.
    pub(crate) fn unmount(&mut self, partition: u32) -> Result<(), String> {
        let Some(volume) = self.volumes.get_mut(&partition) else {
            return Ok(());
        };
        volume.guest = None;
        volume.writable = false;
        match volume.mount.take() {
            None => Ok(()),
            Some(mount) => {
                let at = mount.path().to_owned();
                mount
                    .unmount()
                    .map_err(|reason| format!("partition {partition}: {reason}"))?;
                remove_folder(&at);
                Ok(())
            }
        }
    }

    /// What lies in a partition now, read from the disk; `None` when nobody knows.
    pub(crate) fn identify(&self, partition: u32) -> Result<Option<FsInfo>, String> {
        let slot = self.slot(partition)?;
        let disk = File::open(self.target.disk)
            .map_err(|error| format!("{}: {error}", self.target.disk.display()))?;
        let slice = Slice { disk, slot };
        identify(&slice, slot.length).map_err(|error| format!("partition {partition}: {error}"))
    }

    /// The kind of file system in a partition, of those that can be changed.
    pub(crate) fn file_system(&self, partition: u32) -> Result<Option<FileSystem>, String> {
        Ok(self.identify(partition)?.and_then(|info| match info.kind {
            FsKind::Ext2 | FsKind::Ext3 | FsKind::Ext4 => Some(FileSystem::Ext),
            FsKind::Ntfs => Some(FileSystem::Ntfs),
            FsKind::Fat12 | FsKind::Fat16 | FsKind::Fat32 => Some(FileSystem::Fat),
            FsKind::ExFat => Some(FileSystem::Exfat),
            FsKind::Xfs => Some(FileSystem::Xfs),
            FsKind::Btrfs => Some(FileSystem::Btrfs),
            _ => None,
        }))
    }

    /// True for an NTFS volume: paths of steps on it are Windows paths.
    pub(crate) fn is_ntfs(&self, partition: u32) -> Result<bool, String> {
        Ok(self.file_system(partition)? == Some(FileSystem::Ntfs))
    }

    /// Place of a partition.
    pub(crate) fn slot(&self, partition: u32) -> Result<Slot, String> {
        self.target
            .partitions
            .iter()
            .copied()
            .find(|slot| slot.number == partition)
            .ok_or_else(|| format!("the disk has no partition {partition}"))
    }

    /// Value of a secret. Never to be put into an error, a log line or an argument of a program.
    pub(crate) fn secret(&self, name: &SecretName) -> Result<&'a str, String> {
        self.secrets
            .get(name)
            .ok_or_else(|| format!("the secret {} did not come with the order", name.0))
    }

    /// A file of the console. Whoever reads it holds it against its hash.
    pub(crate) fn payload(&self, payload: &Payload) -> Result<Box<dyn Read + 'a>, String> {
        self.payloads
            .open(payload)
            .map_err(|error| format!("fetching {} from the console: {error}", payload.name))
    }

    /// Folder for temporary files; steps remove theirs.
    pub(crate) fn work(&self) -> &'a Path {
        self.target.work
    }

    /// True when the job was cancelled: long work should end.
    pub(crate) fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// A line for the job's log, without secrets.
    pub(crate) fn log(&mut self, line: &str) {
        self.watcher.log(line);
    }

    /// Something the technician should know, kept in the report.
    pub(crate) fn note(&mut self, line: String) {
        if !self.notes.contains(&line) {
            self.watcher.log(&line);
            self.notes.push(line);
        }
    }

    // What the engine uses.

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

    /// Unmounts and detaches everything, flushes the disk and drops what its cache holds of the partitions.
    pub(crate) fn close(&mut self) -> Result<(), String> {
        let mut first = Ok(());
        let mut keep = |result: Result<(), String>| {
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
            remove_folder(self.target.work);
        }
        first
    }

    fn flush(&self) -> Result<(), String> {
        let told = |error: io::Error| format!("flushing {}: {error}", self.target.disk.display());
        let disk = File::open(self.target.disk).map_err(told)?;
        disk.sync_all().map_err(told)?;
        for slot in self.target.partitions {
            let length = std::num::NonZeroU64::new(slot.length);
            rustix::fs::fadvise(&disk, slot.offset, length, rustix::fs::Advice::DontNeed)
                .map_err(|error| told(error.into()))?;
        }
        Ok(())
    }
}

impl Drop for Context<'_> {
    fn drop(&mut self) {
        if let Err(reason) = self.close() {
            tracing::warn!("{reason}");
        }
    }
}

/// Best effort: a folder that is not empty holds something of somebody else's.
fn remove_folder(folder: &Path) {
    let _ = fs::remove_dir(folder);
}

/// A partition of the open disk.
struct Slice {
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
