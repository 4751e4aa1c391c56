//! TCP 5003, the routes of a capture: they pass untrusted bytes to [`Upload`].
//!
//! ```text
//! POST /v1/captures/J/begin             CaptureBegin -> CaptureBegun
//! POST /v1/captures/J/chunks?upload=N   frames, for as long as they come
//! POST /v1/captures/J/end?upload=N
//! Authorization: Bearer TOKEN           of this capture alone
//! 403 token not valid (any more); 409 wrong time; 422 invalid data; 507 fault of the console
//! ```
//!
//! Invariants: one chunk per connection is in memory at a time; a connection that sends nothing for
//! a minute is closed; a token has at most two requests under way.

use super::intake::Refused;
use super::upload::Upload;
use crate::bulk_server::{NO, Refusal, admit_to_job};
use crate::context::Console;
use crate::job::{JobShared, Turn};
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use http_body_util::{BodyExt, Limited};
use jobs::naming::clean_line;
use protocol::capture::{CaptureEnd, END_MAX_BYTES, FRAME_HEAD_BYTES, FrameHead};
use protocol::control::CaptureBegin;
use std::sync::Arc;
use std::time::Duration;

/// Longest time without data before a sender counts as gone.
const STALL: Duration = Duration::from_secs(60);
/// Largest body of `begin` in bytes: description and table sectors as text, 16 MiB of META and 4
/// MiB of table in hex.
const MAX_BEGIN_BYTES: usize = 26 << 20;
/// Maximum number of requests under way for one capture: a stream, and the start of its successor.
const MAX_REQUESTS: u32 = 2;
/// Maximum number of bytes read from a stream after its refusal.
const DRAIN_BYTES: usize = 16 << 20;
const DRAIN_WITHIN: Duration = Duration::from_secs(5);
/// Longest reason in a refusal, in characters.
const MAX_TEXT: usize = 500;

/// Returns the routes, to be merged into those of the bulk service.
pub fn routes(console: Arc<Console>) -> Router {
    Router::new()
        .route("/v1/captures/{job}/begin", post(begin))
        .route("/v1/captures/{job}/chunks", post(chunks))
        .route("/v1/captures/{job}/end", post(end))
        .with_state(console)
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Self::Nonsense(text) => (StatusCode::UNPROCESSABLE_ENTITY, text),
            Self::Untimely(text) => (StatusCode::CONFLICT, text),
            Self::Here(error) => {
                let text = match error.hint() {
                    Some(hint) => format!("the console: {} ({hint})", error.full()),
                    None => format!("the console: {}", error.full()),
                };
                (StatusCode::INSUFFICIENT_STORAGE, text)
            }
        };
        (status, format!("{}\n", clean_line(&text, MAX_TEXT))).into_response()
    }
}

/// Returns the capture that the request's token belongs to.
fn admit(
    console: &Console,
    job: &str,
    headers: &HeaderMap,
) -> Result<(Arc<JobShared>, Arc<Upload>, Turn), Refusal> {
    let (job, place) = admit_to_job(console, job, headers)?;
    let upload = job.upload().cloned().ok_or(NO)?;
    let turn = job.begin_answer(place, MAX_REQUESTS).ok_or((
        StatusCode::TOO_MANY_REQUESTS,
        "requests are under way already\n",
    ))?;
    Ok((job, upload, turn))
}

/// Runs disk work on a blocking thread. A panic there is reported as a refusal.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refused> + Send + 'static,
) -> Result<T, Refused> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Refused::Untimely(error.to_string())))
}

async fn begin(
    State(console): State<Arc<Console>>,
    Path(job): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let (job, upload, _turn) = match admit(&console, &job, &headers) {
        Ok(admitted) => admitted,
        Err(refusal) => return refusal.into_response(),
    };
    let begin: CaptureBegin = match document(body, MAX_BEGIN_BYTES).await {
        Ok(begin) => begin,
        Err(stop) => return stop.answer(&job),
    };
    let opening = Arc::clone(&upload);
    let begun = match blocking(move || opening.begin(&begin)).await {
        Ok(begun) => begun,
        Err(refused) => return refuse(&job, refused),
    };
    // Stored before the first chunk: after a restart the console must know the survey of its file.
    if let Err(error) = super::record(&console, &job).await {
        tracing::error!(job = job.id, %error, "survey not recorded");
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "the console's store fails\n",
        )
            .into_response();
    }
    if let Some(note) = &begun.note {
        let target = job.view().targets.first().map(|place| place.id.clone());
        if let (Some(handle), Some(target)) = (console.jobs.handle(job.id), target) {
            super::say(&handle, &target, note.clone());
        }
    }
    Json(begun).into_response()
}

#[derive(serde::Deserialize)]
struct Turns {
    upload: u64,
}

async fn chunks(
    State(console): State<Arc<Console>>,
    Path(job): Path<String>,
    Query(turn): Query<Turns>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let (job, upload, _turn) = match admit(&console, &job, &headers) {
        Ok(admitted) => admitted,
        Err(refusal) => return refusal.into_response(),
    };
    let mut stream = Stream {
        body,
        piece: Bytes::new(),
    };
    match take_chunks(&upload, turn.upload, &mut stream).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(stop) => {
            if matches!(stop, Stop::Refused(_)) {
                stream.drain().await;
            }
            stop.answer(&job)
        }
    }
}

/// Reads a body of at most `most` bytes as JSON.
async fn document<T: serde::de::DeserializeOwned>(body: Body, most: usize) -> Result<T, Stop> {
    let nonsense = |text: String| Stop::Refused(Refused::Nonsense(text));
    let read = Limited::new(body, most).collect();
    let bytes = tokio::time::timeout(STALL, read)
        .await
        .map_err(|_| Stop::Stalled)?
        .map_err(|error| nonsense(error.to_string()))?;
    serde_json::from_slice(&bytes.to_bytes()).map_err(|error| nonsense(error.to_string()))
}

async fn end(
    State(console): State<Arc<Console>>,
    Path(job): Path<String>,
    Query(turn): Query<Turns>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let (job, upload, _turn) = match admit(&console, &job, &headers) {
        Ok(admitted) => admitted,
        Err(refusal) => return refusal.into_response(),
    };
    let end: CaptureEnd = match document(body, END_MAX_BYTES).await {
        Ok(end) => end,
        Err(stop) => return stop.answer(&job),
    };
    match upload.end(turn.upload, end) {
        Ok(()) => StatusCode::OK.into_response(),
        Err(refused) => refuse(&job, refused),
    }
}

fn refuse(job: &JobShared, refused: Refused) -> Response {
    if let Refused::Nonsense(text) = &refused {
        let text = clean_line(text, MAX_TEXT);
        tracing::warn!(job = job.id, text, "upload refused");
    }
    refused.into_response()
}

/// Reason why reading a request ended early.
enum Stop {
    Refused(Refused),
    Gone(String),
    Stalled,
}

impl Stop {
    /// Returns the answer to the agent.
    fn answer(self, job: &JobShared) -> Response {
        match self {
            Self::Refused(refused) => refuse(job, refused),
            Self::Gone(error) => {
                tracing::debug!(job = job.id, error, "upload cut");
                StatusCode::BAD_REQUEST.into_response()
            }
            Self::Stalled => {
                (StatusCode::REQUEST_TIMEOUT, "nothing came for a minute\n").into_response()
            }
        }
    }
}

impl From<Refused> for Stop {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

async fn take_chunks(upload: &Arc<Upload>, turn: u64, stream: &mut Stream) -> Result<(), Stop> {
    let geometry = upload.geometry(turn)?;
    let nonsense = |text: &str| Stop::Refused(Refused::Nonsense(text.to_owned()));
    let mut rest = Vec::new();
    loop {
        let mut head = [0; FRAME_HEAD_BYTES];
        match stream.fill(&mut head).await? {
            0 => return Ok(()),
            FRAME_HEAD_BYTES => {}
            _ => return Err(Stop::Gone("in the head of a frame".to_owned())),
        }
        let head = FrameHead::parse(&head, &geometry).map_err(|error| nonsense(error.0))?;
        // The size is at most that of a chunk, because the head was checked against the geometry.
        rest.resize(head.rest(), 0);
        if stream.fill(&mut rest).await? != rest.len() {
            return Err(Stop::Gone("in the middle of a chunk".to_owned()));
        }
        let upload = Arc::clone(upload);
        rest = blocking(move || {
            let (entry, body) = head
                .entry(&rest)
                .map_err(|error| Refused::Nonsense(error.0.to_owned()))?;
            upload.store(turn, entry, body)?;
            Ok(rest)
        })
        .await?;
    }
}

/// Request body as a stream of bytes.
struct Stream {
    body: Body,
    piece: Bytes,
}

impl Stream {
    /// Reads data that is already on its way, within limits, so that a sender can finish and read
    /// the refusal.
    async fn drain(&mut self) {
        let mut left = DRAIN_BYTES;
        let work = async {
            while let Some(Ok(frame)) = self.body.frame().await {
                let taken = frame.data_ref().map_or(0, Bytes::len);
                left = left.saturating_sub(taken);
                if left == 0 {
                    break;
                }
            }
        };
        // The connection of a slower sender is cut.
        let _ = tokio::time::timeout(DRAIN_WITHIN, work).await;
    }

    /// Fills the buffer and returns the number of bytes, which is smaller only at the end of the
    /// body.
    async fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, Stop> {
        let mut filled = 0;
        while let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) {
            if self.piece.is_empty() {
                let frame = tokio::time::timeout(STALL, self.body.frame()).await;
                match frame.map_err(|_| Stop::Stalled)? {
                    None => break,
                    Some(Err(error)) => return Err(Stop::Gone(error.to_string())),
                    Some(Ok(frame)) => {
                        self.piece = frame.into_data().unwrap_or_default();
                        continue;
                    }
                }
            }
            let count = room.len().min(self.piece.len());
            let from = self.piece.split_to(count);
            if let Some(to) = room.get_mut(..count) {
                to.copy_from_slice(&from);
            }
            filled += count;
        }
        Ok(filled)
    }
}
