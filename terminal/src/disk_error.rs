//! The error of a disk or an image as an error of a command.

use api::{ApiError, ErrorCode};
use disk::DiskError;
use imagefmt::FormatError;

/// Converts a disk error, with its exit code.
pub fn api_error(error: DiskError) -> ApiError {
    let code = match &error {
        DiskError::InUse { .. }
        | DiskError::Refused { .. }
        | DiskError::Shrunk { .. }
        | DiskError::Dirty(_)
        | DiskError::DoesNotFit { .. }
        | DiskError::Table { .. }
        | DiskError::SourceTable { .. } => ErrorCode::Refused,
        DiskError::Image { source, .. } => match source {
            FormatError::PasswordNeeded => ErrorCode::Usage,
            FormatError::WrongPassword => ErrorCode::Unreachable,
            FormatError::UnsupportedVersion { .. }
            | FormatError::UnknownFeature { .. }
            | FormatError::ReadOnly { .. }
            | FormatError::Unknown { .. } => ErrorCode::Refused,
            FormatError::Io { .. } | FormatError::Compressor(_) => ErrorCode::Unexpected,
            _ => ErrorCode::Integrity,
        },
        DiskError::Mismatch { .. }
        | DiskError::NotBlank { .. }
        | DiskError::TableMismatch { .. } => ErrorCode::Integrity,
        DiskError::Cancelled => ErrorCode::Interrupted,
        _ => ErrorCode::Unexpected,
    };
    let hint = error.hint();
    let api = ApiError::new(code, error.full());
    match hint {
        Some(hint) => api.hint(hint),
        None => api,
    }
}
