//! TCP 5003 from the side of a capture: begin, a stream of chunks, end; HTTP/1.1 over the console's
//! TLS identity.
//!
//! One request at a time on one connection, which is made again when it breaks. Decides nothing
//! about the content.

use super::super::bulk;
use super::Access;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::client::conn::http1::SendRequest;
use hyper::{Request, StatusCode, header};
use protocol::capture::CaptureEnd;
use protocol::control::{CaptureBegin, CaptureBegun};
use rustls::ClientConfig;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::Receiver;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

/// Longest wait for an answer: the console syncs nothing before it answers.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// Longest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// The reason a request failed.
#[derive(Debug)]
pub(super) enum UploadError {
    /// Try again: the connection broke, or the console does not know this upload (yet, or any
    /// more).
    Lost(String),
    /// The console refused, and would refuse again.
    Refused(String),
}

type Sent = UnsyncBoxBody<Bytes, Infallible>;

/// The connection to the console for one capture.
pub(super) struct Uploader {
    access: Access,
    tls: Arc<ClientConfig>,
    job: String,
    connection: Option<SendRequest<Sent>>,
}

impl Uploader {
    /// A client that connects when first used.
    pub(super) fn new(access: Access, tls: Arc<ClientConfig>, job: &str) -> Self {
        Self {
            access,
            tls,
            job: job.to_owned(),
            connection: None,
        }
    }

    /// Sends the result of the survey; returns the point to go on from.
    pub(super) async fn begin(
        &mut self,
        begin: &CaptureBegin,
    ) -> Result<CaptureBegun, UploadError> {
        let body = serde_json::to_vec(begin).map_err(|e| UploadError::Refused(e.to_string()))?;
        let answer = self.post("begin", Full::new(body.into()).boxed_unsync());
        let answer = timed(answer).await?;
        serde_json::from_slice(&answer)
            .map_err(|error| UploadError::Lost(format!("the console's answer: {error}")))
    }

    /// Sends frames until their channel ends. No time limit: the kernel ends a connection without
    /// progress.
    pub(super) async fn chunks(
        &mut self,
        upload: u64,
        frames: Receiver<Bytes>,
    ) -> Result<(), UploadError> {
        let frames = ReceiverStream::new(frames).map(|bytes| Ok(Frame::data(bytes)));
        let body = StreamBody::new(frames).boxed_unsync();
        self.post(&format!("chunks?upload={upload}"), body)
            .await
            .map(drop)
    }

    /// Tells the console that everything was sent.
    pub(super) async fn end(&mut self, upload: u64, end: &CaptureEnd) -> Result<(), UploadError> {
        let body = serde_json::to_vec(end).map_err(|e| UploadError::Refused(e.to_string()))?;
        let path = format!("end?upload={upload}");
        let answer = self.post(&path, Full::new(body.into()).boxed_unsync());
        timed(answer).await.map(drop)
    }

    async fn post(&mut self, what: &str, body: Sent) -> Result<Bytes, UploadError> {
        let lost = |error: &dyn std::fmt::Display| UploadError::Lost(error.to_string());
        let mut connection = match self.connection.take().filter(|c| !c.is_closed()) {
            Some(connection) => connection,
            None => bulk::connect(self.access.address, &self.tls)
                .await
                .map_err(|error| match std::error::Error::source(&error) {
                    Some(cause) => UploadError::Lost(format!("{error}: {cause}")),
                    None => lost(&error),
                })?,
        };
        let request = Request::post(format!("/v1/captures/{}/{what}", self.job))
            .header(header::HOST, "diskcast")
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(
                header::AUTHORIZATION,
                format!("Bearer {}", self.access.token),
            )
            .body(body)
            .map_err(|_| UploadError::Refused("a job name that is no path".into()))?;
        connection.ready().await.map_err(|e| lost(&e))?;
        let answer = connection
            .send_request(request)
            .await
            .map_err(|e| lost(&e))?;
        let status = answer.status();
        let text = Limited::new(answer.into_body(), MAX_ANSWER_BYTES)
            .collect()
            .await
            .map_err(|e| lost(&e))?
            .to_bytes();
        if status == StatusCode::OK {
            self.connection = Some(connection);
            return Ok(text);
        }
        let said = String::from_utf8_lossy(&text).trim().to_owned();
        match status {
            // Another upload took over, or the order for this one has not reached the bulk service
            // yet.
            StatusCode::FORBIDDEN
            | StatusCode::UNAUTHORIZED
            | StatusCode::CONFLICT
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::SERVICE_UNAVAILABLE => {
                Err(UploadError::Lost(format!("{status}: {said}")))
            }
            _ => Err(UploadError::Refused(said)),
        }
    }
}

async fn timed<T>(work: impl Future<Output = Result<T, UploadError>>) -> Result<T, UploadError> {
    tokio::time::timeout(ANSWER_WITHIN, work)
        .await
        .unwrap_or_else(|_| Err(UploadError::Lost("the console does not answer".into())))
}
