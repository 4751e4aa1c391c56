//! Partitions as loop devices: the table that would make them partitions is not written yet.
//!
//! Owns attaching and detaching. A device that was attached here is detached when its value is
//! dropped, and its last byte is the partition's last byte, so no program that works on it can
//! reach a neighbouring partition.

use crate::error::{At, Result, StepError};
use crate::left_over;
use crate::program::{self, SHORT};
use crate::{Slot, Target};
use std::io;
use std::path::{Path, PathBuf};

/// An attached loop device.
#[derive(Debug)]
pub(crate) struct Loop {
    path: PathBuf,
}

impl Loop {
    /// Attaches a loop device to a partition's range of the disk.
    pub(crate) fn attach(target: &Target<'_>, slot: Slot, read_only: bool) -> Result<Self> {
        let disk = target.disk.to_str().ok_or_else(|| {
            StepError::Unsupported(format!("{}: the path is not UTF-8", target.disk.display()))
        })?;
        left_over::record(target.work, target.disk, slot.offset)?;
        let offset = slot.offset.to_string();
        let length = slot.length.to_string();
        let sector = target.sector_size.to_string();
        let mut arguments = vec![
            "--find",
            "--show",
            "--offset",
            &offset,
            "--sizelimit",
            &length,
            "--sector-size",
            &sector,
        ];
        if read_only {
            arguments.push("--read-only");
        }
        // Bypasses the page cache if the backing store allows it (tmpfs and odd offsets do not).
        let mut direct = arguments.clone();
        direct.push("--direct-io=on");
        direct.push(disk);
        arguments.push(disk);
        let said = program::run("losetup", &direct, SHORT)?
            .success("losetup")
            .or_else(|_| program::run("losetup", &arguments, SHORT)?.success("losetup"))
            .at(format_args!(
                "partition {} of {disk} cannot be reached as a loop device",
                slot.number
            ))?;
        let path = said.trim();
        if !path.starts_with("/dev/loop") {
            let fault = format!("it named no device: {path:?}");
            return Err(StepError::unexpected("losetup", fault));
        }
        Ok(Self { path: path.into() })
    }

    /// Path of the device, `/dev/loopN`.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Detaches the device; an error if that fails.
    pub(crate) fn detach(mut self) -> Result<()> {
        let path = std::mem::take(&mut self.path);
        detach(&path)
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty()
            && let Err(error) = detach(&self.path)
        {
            tracing::warn!("{error}");
        }
    }
}

/// Detaches a loop device. A process that has it open at that moment (udev, a listing of disks)
/// delays the detaching, so this waits for it.
pub(crate) fn detach(path: &Path) -> Result<()> {
    let text = path.display().to_string();
    let before = backing(path);
    program::run("losetup", &["--detach", &text], SHORT)?.success("losetup --detach")?;
    // The number may belong to another program's device by then.
    if program::until(SHORT, || backing(path) != before || before.is_none()) {
        return Ok(());
    }
    Err(StepError::InUse {
        place: text,
        source: io::ErrorKind::ResourceBusy.into(),
    })
}

/// File and offset behind a loop device.
pub(crate) fn backing(path: &Path) -> Option<(String, String)> {
    let folder = Path::new("/sys/block").join(path.file_name()?).join("loop");
    let read = |name| std::fs::read_to_string(folder.join(name)).ok();
    Some((read("backing_file")?, read("offset")?))
}
