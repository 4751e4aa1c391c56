//! The result of a command, and its exit code.
//!
//! One documented list of exit codes (docs/operations.md); scripts rely on it. A failure that is not
//! yet shown is an `ApiError`; a result that the printed table or summary has shown already is an
//! [`Exit`].

use api::{ApiError, ErrorCode};

/// The list of exit codes as help shows it.
pub const EXIT_CODES_HELP: &str = "\
Exit codes: 0 all done; 1 unexpected; 2 usage or confirmation missing; 3 some
targets failed; 4 nothing matched; 5 refused before touching anything;
6 console unreachable or not authorised; 7 integrity; 124 timed out;
130 interrupted.";

/// A process exit code whose reason has been shown already.
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

/// The result of a command.
pub type Ended = Result<Exit, ApiError>;

/// A usage error: exit code 2.
pub fn usage(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::Usage, message)
}

/// A failure of this machine while doing `what`: exit code 1.
pub fn failed(what: impl std::fmt::Display, error: impl std::fmt::Display) -> ApiError {
    ApiError::new(ErrorCode::Unexpected, format!("{what}: {error}"))
}
