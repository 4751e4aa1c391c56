//! Errors of steps, by cause.
//!
//! The cause says what can be done: a refusal ends with another template or another master, a
//! failed transfer with a second run, a failing disk with another disk. `Display` gives the whole
//! sentence, causes included; `source()` gives the cause for programs. No error holds a secret.

use crate::program::ProgramError;
use rustix::io::Errno;
use std::fmt::Display;
use std::io;

/// Result of everything a step does.
pub(crate) type Result<T, E = StepError> = std::result::Result<T, E>;

/// Any cause.
type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// The reason why a step cannot be carried out or does not hold.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// The master or the template does not allow what the step asks for. A second run does not
    /// help.
    #[error("{what}; {hint}")]
    Refused {
        /// The subject and the reason.
        what: String,
        /// The next step for the technician.
        hint: String,
    },
    /// The order of the console is not complete or contradicts itself.
    #[error("{0}")]
    Order(String),
    /// The pre-OS, or this program, cannot do it here.
    #[error("{0}")]
    Unsupported(String),
    /// Something on the volume is damaged, missing or of another kind than it has to be.
    #[error("{place}: {source}")]
    Unexpected {
        /// The file, hive or volume.
        place: String,
        /// The fault.
        source: AnyError,
    },
    /// A read or a write failed.
    #[error("{place}: {source}")]
    Io {
        /// The file or device, with the action where there are several.
        place: String,
        /// The cause.
        source: io::Error,
    },
    /// The volume is read-only although it was mounted to be written to.
    #[error("{place}: the volume is read-only; is the disk write-protected?")]
    ReadOnly {
        /// The file or device.
        place: String,
    },
    /// The volume is full, or would be.
    #[error(
        "{place}: {}; free some on the master, or let the partition grow",
        room.as_ref().map_or_else(|| "no room left on the volume".to_owned(), ToString::to_string)
    )]
    NoRoom {
        /// The file that does not fit, or the subject that needs the room.
        place: String,
        /// The numbers, if the lack was found before the first write.
        room: Option<Room>,
    },
    /// A volume is still held: what was written may not be on the disk yet, or is written later.
    #[error(
        "{place} is still in use after it was released ({source}); restart this machine before its next job"
    )]
    InUse {
        /// The mount point or device.
        place: String,
        /// The cause.
        source: io::Error,
    },
    /// A program of the pre-OS failed.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// A file of the console did not arrive.
    #[error("fetching {file} from the console: {source}")]
    Fetch {
        /// Name of the file.
        file: String,
        /// The cause.
        source: io::Error,
    },
    /// A file arrived that is not the one in the plan.
    #[error("{file} of the console {fault}; was it changed after the plan was made? Deploy again")]
    OtherFile {
        /// Name of the file.
        file: String,
        /// The difference.
        fault: String,
    },
    /// The step was applied, and its result is not on the disk.
    #[error("read back from the disk: {0}")]
    NotKept(String),
    /// The job was cancelled while the step ran.
    #[error("the job was cancelled")]
    Cancelled,
    /// An error with the place or the action it happened in.
    #[error("{place}: {source}")]
    Within {
        /// The partition, file or action.
        place: String,
        /// The error itself.
        source: Box<StepError>,
    },
}

/// Room on a volume, in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{needed} bytes are needed and the volume has {free} bytes free")]
pub struct Room {
    /// Bytes that are needed.
    pub needed: u64,
    /// Bytes that are free.
    pub free: u64,
}

impl StepError {
    pub(crate) fn refused(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Refused {
            what: what.into(),
            hint: hint.into(),
        }
    }

    pub(crate) fn unexpected(place: impl Display, fault: impl Into<AnyError>) -> Self {
        Self::Unexpected {
            place: place.to_string(),
            source: fault.into(),
        }
    }

    /// The error without the places around it.
    pub fn cause(&self) -> &Self {
        match self {
            Self::Within { source, .. } => source.cause(),
            other => other,
        }
    }
}

/// A cause that becomes a [`StepError`] when its place is known.
pub(crate) trait Cause {
    /// The error at that place.
    fn at(self, place: String) -> StepError;
}

impl Cause for io::Error {
    fn at(self, place: String) -> StepError {
        match self.kind() {
            io::ErrorKind::StorageFull => StepError::NoRoom { place, room: None },
            io::ErrorKind::ReadOnlyFilesystem => StepError::ReadOnly { place },
            _ => StepError::Io {
                place,
                source: self,
            },
        }
    }
}

impl Cause for Errno {
    fn at(self, place: String) -> StepError {
        io::Error::from(self).at(place)
    }
}

impl Cause for hive::HiveError {
    fn at(self, place: String) -> StepError {
        StepError::unexpected(place, self)
    }
}

impl Cause for hive::files::Unsound {
    fn at(self, place: String) -> StepError {
        StepError::unexpected(place, self)
    }
}

impl Cause for ProgramError {
    fn at(self, place: String) -> StepError {
        StepError::from(self).at(place)
    }
}

impl Cause for StepError {
    fn at(self, place: String) -> StepError {
        match self {
            // A place adds nothing to it.
            Self::Cancelled => Self::Cancelled,
            other => Self::Within {
                place,
                source: Box::new(other),
            },
        }
    }
}

/// Adds the place to an error.
pub(crate) trait At<T> {
    /// The result with the place in its error: a path, `partition 3`, `flushing /dev/sda`.
    fn at(self, place: impl Display) -> Result<T>;
}

impl<T, E: Cause> At<T> for Result<T, E> {
    fn at(self, place: impl Display) -> Result<T> {
        self.map_err(|error| error.at(place.to_string()))
    }
}

/// The error that stopped a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// The plan refuses this machine.
    #[error("this machine is refused: {0}")]
    Refused(String),
    /// The job was cancelled.
    #[error("the job was cancelled")]
    Cancelled,
    /// A step failed, or its result is not on the disk.
    #[error("step {step}: {source}")]
    Step {
        /// Id of the step.
        step: String,
        /// The cause.
        source: StepError,
    },
    /// The volumes could not be unmounted, detached and flushed.
    #[error("unmounting the volumes: {0}")]
    Unmount(#[source] StepError),
}

impl ApplyError {
    pub(crate) fn of_step(step: &str, source: StepError) -> Self {
        match source.cause() {
            StepError::Cancelled => Self::Cancelled,
            _ => Self::Step {
                step: step.to_owned(),
                source,
            },
        }
    }

    /// The cause, for a run that failed.
    pub fn cause(&self) -> Option<&StepError> {
        match self {
            Self::Step { source, .. } | Self::Unmount(source) => Some(source.cause()),
            Self::Refused(_) | Self::Cancelled => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_or_write_protected_volume_is_told_from_a_failing_one() {
        let at = |errno: Errno| Err::<(), _>(errno).at("/etc/hosts").unwrap_err();
        assert!(matches!(
            at(Errno::NOSPC),
            StepError::NoRoom { room: None, .. }
        ));
        assert_eq!(
            at(Errno::NOSPC).to_string(),
            "/etc/hosts: no room left on the volume; free some on the master, or let the partition grow"
        );
        assert!(matches!(at(Errno::ROFS), StepError::ReadOnly { .. }));
        let StepError::Io { source, .. } = at(Errno::IO) else {
            panic!("{}", at(Errno::IO));
        };
        assert_eq!(source.raw_os_error(), Some(Errno::IO.raw_os_error()));
    }

    #[test]
    fn places_go_around_a_cause_and_leave_it_what_it_is() {
        let full = Err::<(), _>(Errno::NOSPC).at("/etc/hosts");
        let error = full.at(format_args!("partition {}", 3)).unwrap_err();
        assert!(error.to_string().starts_with("partition 3: /etc/hosts: no"));
        assert!(matches!(error.cause(), StepError::NoRoom { .. }));
        let error = ApplyError::of_step("name", error);
        assert!(matches!(error.cause(), Some(StepError::NoRoom { .. })));
        let cancelled = Err::<(), _>(StepError::Cancelled).at("a file").unwrap_err();
        let cancelled = ApplyError::of_step("copy", cancelled);
        assert!(matches!(cancelled, ApplyError::Cancelled));
    }
}
