//! How a command ends, as the shell sees it.
//!
//! One documented list of exit codes (DESIGN section 10); scripts rely on it. A failure that still has to be told is
//! an `ApiError`; an end that the printed table or summary has told already is an [`Exit`].

use crate::console::api::{ApiError, ErrorCode};

/// The list as help shows it.
pub(super) const EXIT_CODES_HELP: &str = "\
Exit codes: 0 all done; 1 unexpected; 2 usage or confirmation missing; 3 some
targets failed; 4 nothing matched; 5 refused before touching anything;
6 console unreachable or not authorised; 7 integrity; 124 timed out;
130 interrupted.";

/// A process exit code whose reason was already shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Exit(pub u8);

impl Exit {
    /// All done.
    pub const OK: Self = Self(0);
}

impl From<ErrorCode> for Exit {
    fn from(code: ErrorCode) -> Self {
        Self(code.exit_code())
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.0)
    }
}

/// What a command comes to.
pub type Ended = Result<Exit, ApiError>;

/// A usage error: exit code 2.
pub(super) fn usage(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::Usage, message)
}

/// A failure of this machine while doing `what`: exit code 1.
pub(super) fn failed(what: impl std::fmt::Display, error: impl std::fmt::Display) -> ApiError {
    ApiError::new(ErrorCode::Unexpected, format!("{what}: {error}"))
}
