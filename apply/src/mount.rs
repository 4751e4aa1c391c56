//! One mounted file system.
//!
//! Owns mounting and unmounting. ext, XFS, btrfs, FAT and exFAT are mounted by the kernel, NTFS by
//! `ntfs-3g`, which runs as a child process so that its end, and with it the last write, can be
//! waited for. Exit codes are never trusted: `ntfs-3g` exits with 0 and mounts read-only if Windows
//! is hibernated, so the options in `/proc/self/mountinfo` decide. Nothing of a guest is a device,
//! runs, or gains a privilege here (`nodev,noexec,nosuid`).

use crate::error::{At, Result, StepError};
use crate::program::{self, ProgramError, SHORT};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread::JoinHandle;
use template::step::FileSystem;

/// Mode in which a volume is to be mounted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Wanted {
    /// Writable rather than read-only.
    pub(crate) writable: bool,
    /// The plan discards the session in `hiberfil.sys`.
    pub(crate) discard_hibernation: bool,
}

/// A mounted file system; unmounted on drop.
#[derive(Debug)]
pub(crate) struct Mount {
    at: PathBuf,
    server: Option<Server>,
    mounted: bool,
}

/// The process that serves a FUSE volume.
#[derive(Debug)]
struct Server {
    child: Child,
    output: Vec<JoinHandle<String>>,
}

impl Server {
    /// Everything that it printed; waits for its end.
    fn said(self) -> String {
        let said = self.output.into_iter();
        let said = said.map(|reader| reader.join().unwrap_or_default());
        said.collect::<Vec<_>>().join("\n")
    }
}

impl Mount {
    /// Mounts a device at an existing folder.
    pub(crate) fn new(
        device: &Path,
        file_system: FileSystem,
        at: &Path,
        wanted: Wanted,
    ) -> Result<Self> {
        let mut this = Self {
            at: at.to_owned(),
            server: None,
            mounted: false,
        };
        match kernel_type(file_system) {
            Some(kind) => this.by_kernel(device, kind, wanted)?,
            None => this.by_ntfs_3g(device, wanted)?,
        }
        match mount_options(&this.at)? {
            None => Err(StepError::unexpected(
                device.display(),
                "it is not mounted after all",
            )),
            Some(options) if wanted.writable && !is_writable(&options) => Err(StepError::refused(
                "the volume can only be mounted read-only: Windows is hibernated or was shut down by fast startup, \
                 or the volume is damaged",
                "shut the master down fully and capture it again, or set windows.discard_hibernation",
            )),
            Some(_) => Ok(this),
        }
    }

    fn by_kernel(&mut self, device: &Path, kind: &str, wanted: Wanted) -> Result<()> {
        let mut flags =
            MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::NOSUID | MountFlags::NOATIME;
        if !wanted.writable {
            flags |= MountFlags::RDONLY;
        }
        mount(device, &self.at, kind, flags, None).map_err(|error| match error {
            Errno::ROFS | Errno::ACCESS => StepError::ReadOnly {
                place: device.display().to_string(),
            },
            Errno::NODEV => StepError::Unsupported(format!(
                "the kernel of the pre-OS does not know {kind}; its module is missing"
            )),
            _ => StepError::unexpected(
                format_args!(
                    "the {kind} volume cannot be mounted; is it sound? Check it on the master and capture it again"
                ),
                io::Error::from(error),
            ),
        })?;
        self.mounted = true;
        Ok(())
    }

    fn by_ntfs_3g(&mut self, device: &Path, wanted: Wanted) -> Result<()> {
        // norecover: a journal that Windows has to replay is not discarded here.
        let mut options =
            String::from("no_detach,norecover,noatime,nodev,nosuid,noexec,windows_names");
        options.push_str(if wanted.writable { ",rw" } else { ",ro" });
        if wanted.writable && wanted.discard_hibernation {
            options.push_str(",remove_hiberfile");
        }
        let device = device.display().to_string();
        let at = self.at.display().to_string();
        let mut child = program::spawn("ntfs-3g", &["-o", &options, &device, &at])?;
        let mut output = Vec::new();
        if let Some(pipe) = child.stdout.take() {
            output.push(std::thread::spawn(move || program::drain(pipe)));
        }
        if let Some(pipe) = child.stderr.take() {
            output.push(std::thread::spawn(move || program::drain(pipe)));
        }
        let mut server = Server { child, output };
        let mut ended = false;
        let path = self.at.clone();
        let up = program::until(SHORT, || {
            ended = matches!(server.child.try_wait(), Ok(Some(_)) | Err(_));
            ended || matches!(mount_options(&path), Ok(Some(_)))
        });
        if up && !ended {
            self.server = Some(server);
            self.mounted = true;
            return Ok(());
        }
        let _ = server.child.kill();
        let code = server.child.wait().ok().and_then(|status| status.code());
        let said = server.said();
        // The first lines say why; advice follows.
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        let said = said.chars().take(600).collect();
        let program = "ntfs-3g".to_owned();
        let error = match ended {
            true => ProgramError::Failed {
                program,
                code,
                said,
            },
            false => ProgramError::TimeLimit {
                program,
                limit: SHORT,
                said,
            },
        };
        Err(error).at("the volume cannot be mounted")
    }

    /// Mount point.
    pub(crate) fn path(&self) -> &Path {
        &self.at
    }

    /// Unmounts the file system after everything is written.
    pub(crate) fn unmount(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        if self.mounted {
            // A process that only reads the volume for a moment (a disk monitor, udev) releases it
            // soon.
            let mut last = Ok(());
            program::until(std::time::Duration::from_secs(10), || {
                last = unmount(&self.at, UnmountFlags::NOFOLLOW);
                last != Err(Errno::BUSY)
            });
            if let Err(error) = last {
                // The mount is detached from the tree, whatever still holds it; the caller gets an
                // error all the same.
                let _ = unmount(&self.at, UnmountFlags::DETACH);
                self.mounted = false;
                return Err(StepError::InUse {
                    place: self.at.display().to_string(),
                    source: error.into(),
                });
            }
            self.mounted = false;
        }
        if let Some(mut server) = self.server.take() {
            // Its last writes are not on the device until the process has ended.
            let status = program::wait(&mut server.child, SHORT);
            if status.is_none() {
                let _ = server.child.kill();
                let _ = server.child.wait();
            }
            let program = "ntfs-3g".to_owned();
            let error = match status {
                Some(status) if status.success() => return Ok(()),
                Some(status) => ProgramError::Failed {
                    program,
                    code: status.code(),
                    said: program::last_words(&server.said()),
                },
                None => ProgramError::TimeLimit {
                    program,
                    limit: SHORT,
                    said: program::last_words(&server.said()),
                },
            };
            return Err(error).at("the end of the volume's server");
        }
        Ok(())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::warn!("{error}");
        }
    }
}

/// The kernel's name of a file system; `None` for NTFS, which `ntfs-3g` serves.
fn kernel_type(file_system: FileSystem) -> Option<&'static str> {
    match file_system {
        FileSystem::Ext => Some("ext4"),
        FileSystem::Fat => Some("vfat"),
        FileSystem::Exfat => Some("exfat"),
        FileSystem::Xfs => Some("xfs"),
        FileSystem::Btrfs => Some("btrfs"),
        FileSystem::Ntfs => None,
    }
}

/// Options of the file system mounted at a path: those of the mount and of the super block. `None`
/// if nothing is mounted there.
fn mount_options(at: &Path) -> Result<Option<Vec<String>>> {
    #[expect(clippy::disallowed_methods, reason = "the edge: the kernel's own list")]
    let file = fs::File::open("/proc/self/mountinfo");
    let text = file
        .and_then(io::read_to_string)
        .at("/proc/self/mountinfo")?;
    Ok(options_of(&text, &at.to_string_lossy()))
}

/// All mount points at or below a folder, in the order in which they were mounted.
pub(crate) fn mounts_below(folder: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|at| PathBuf::from(at.replace("\\040", " ").replace("\\134", "\\")))
        .filter(|at| at.starts_with(folder))
        .collect()
}

/// Options from the last line of mountinfo whose fifth field is the path: mount options, and super
/// options after ` - type source`.
fn options_of(mountinfo: &str, at: &str) -> Option<Vec<String>> {
    let escaped = at.replace('\\', "\\134").replace(' ', "\\040");
    let line = mountinfo
        .lines()
        .rev()
        .find(|line| line.split(' ').nth(4) == Some(escaped.as_str()))?;
    let own = line.split(' ').nth(5)?;
    let superblock = line.split(" - ").nth(1)?.split(' ').nth(2)?;
    Some(
        own.split(',')
            .chain(superblock.split(','))
            .map(str::to_owned)
            .collect(),
    )
}

fn is_writable(options: &[String]) -> bool {
    !options.iter().any(|option| option == "ro")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_tells_the_last_mount_of_a_path() {
        let text = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
                    40 22 7:0 / /a\\040b rw,nosuid - fuseblk /dev/loop0 ro,user_id=0\n\
                    41 22 7:1 / /c rw - ext4 /dev/loop1 rw\n";
        let options = options_of(text, "/a b").unwrap();
        assert!(!is_writable(&options), "{options:?}");
        assert!(is_writable(&options_of(text, "/c").unwrap()));
        assert_eq!(options_of(text, "/nowhere"), None);
    }
}
