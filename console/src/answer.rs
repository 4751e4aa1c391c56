//! An answer of the local API: a document, or an error with its HTTP status.

use api::{ApiError, ErrorCode};
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

/// Error in the form of an HTTP response.
pub(super) struct Failure(pub(super) ApiError);

/// Result of a handler: a document, or an error.
pub(super) type Answer<T> = Result<Json<T>, Failure>;

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = match self.0.code {
            ErrorCode::Usage => StatusCode::BAD_REQUEST,
            ErrorCode::NothingMatched => StatusCode::NOT_FOUND,
            ErrorCode::Refused | ErrorCode::TargetsFailed => StatusCode::CONFLICT,
            ErrorCode::Integrity => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorCode::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            ErrorCode::NotAuthorised => StatusCode::FORBIDDEN,
            ErrorCode::Unreachable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::Unexpected | ErrorCode::Interrupted => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(self.0)).into_response()
    }
}
