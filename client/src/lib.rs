//! Client of the console's local API: HTTP/1.1 with JSON over a Unix socket.
//!
//! Owns: one connection for each request, limits of a response, and the messages when no console
//! answers. Holds no state and retries nothing; the caller decides about waiting for a console.

#[cfg(any(test, feature = "fake"))]
pub mod fake;

use api::{ApiError, ErrorCode, Event, SOCKET_NAME};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;

/// Size limit of a document or event line in bytes. A job of 1000 targets is about 1 MiB.
const MAX_BYTES: usize = 64 << 20;

/// Time limit of a request. A plan opens the image and, when it is encrypted, derives a key; on a
/// slow share this takes long.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);

/// Client of the console that uses a data directory.
#[derive(Clone, Debug)]
pub struct Client {
    data_dir: PathBuf,
}

/// Body of a request.
type Sent = Full<Bytes>;

impl Client {
    /// A client of the console with this data directory. It connects at each request.
    pub fn new(data_dir: &Path) -> Self {
        Self {
            data_dir: data_dir.to_path_buf(),
        }
    }

    /// Path of the console's socket.
    pub fn socket(&self) -> PathBuf {
        self.data_dir.join(SOCKET_NAME)
    }

    /// Sends `GET path`.
    ///
    /// # Errors
    /// `Unreachable` without a console, otherwise the error of the response.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        let bytes = self.document(Method::GET, path, Bytes::new()).await?;
        parse(path, &bytes)
    }

    /// Sends `GET path`; the response is plain text.
    ///
    /// # Errors
    /// Same as [`Client::get`].
    pub async fn text(&self, path: &str) -> Result<String, ApiError> {
        let bytes = self.document(Method::GET, path, Bytes::new()).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Sends `POST path` with a JSON body.
    ///
    /// # Errors
    /// Same as [`Client::get`].
    pub async fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, ApiError> {
        let body = serde_json::to_vec(body).map_err(|error| {
            ApiError::new(ErrorCode::Unexpected, format!("writing a request: {error}"))
        })?;
        let bytes = self.document(Method::POST, path, body.into()).await?;
        parse(path, &bytes)
    }

    /// Sends `GET path`; the response is a stream of events that ends with a summary.
    ///
    /// # Errors
    /// Same as [`Client::get`].
    pub async fn events(&self, path: &str) -> Result<Events, ApiError> {
        let response = within(self.send(Method::GET, path, Bytes::new())).await?;
        Ok(Events {
            body: accepted(response).await?.into_body(),
            buffer: Vec::new(),
            lines: VecDeque::new(),
        })
    }

    async fn document(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, ApiError> {
        within(async {
            let response = accepted(self.send(method, path, body).await?).await?;
            read_all(response.into_body()).await
        })
        .await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, ApiError> {
        let stream = UnixStream::connect(self.socket())
            .await
            .map_err(|error| self.no_console(&error))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake::<_, Sent>(TokioIo::new(stream))
                .await
                .map_err(cut)?;
        // The task ends when the response was read or dropped; the reader of the body gets its
        // error, too.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "diskcast")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|error| {
                ApiError::new(ErrorCode::Unexpected, format!("request {path}: {error}"))
            })?;
        sender.send_request(request).await.map_err(cut)
    }

    fn no_console(&self, error: &io::Error) -> ApiError {
        let data_dir = self.data_dir.display();
        match error.kind() {
            io::ErrorKind::NotFound
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::NotADirectory => ApiError::new(
                ErrorCode::Unreachable,
                format!("no console is running with the data directory {data_dir}"),
            )
            .hint("start one with `diskcast console run`, or name another with --data-dir"),
            io::ErrorKind::PermissionDenied => ApiError::new(
                ErrorCode::NotAuthorised,
                format!(
                    "not allowed to speak to the console at {}: {error}",
                    self.socket().display()
                ),
            )
            .hint("run this as the user that runs the console"),
            _ => ApiError::new(
                ErrorCode::Unreachable,
                format!("connecting to {}: {error}", self.socket().display()),
            ),
        }
    }
}

/// Events of a job, in order.
#[derive(Debug)]
pub struct Events {
    body: Incoming,
    /// Beginning of a line that is not complete yet.
    buffer: Vec<u8>,
    lines: VecDeque<Vec<u8>>,
}

impl Events {
    /// The next event; `None` when the console ended the stream. Cancel-safe.
    ///
    /// # Errors
    /// `Unreachable` when the connection broke, `Unexpected` for a line that is not an event.
    pub async fn next(&mut self) -> Option<Result<Event, ApiError>> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Some(parse("event", &line));
            }
            let frame = match self.body.frame().await? {
                Ok(frame) => frame,
                Err(error) => return Some(Err(cut(error))),
            };
            let Ok(data) = frame.into_data() else {
                continue;
            };
            for piece in data.split_inclusive(|byte| *byte == b'\n') {
                self.buffer.extend_from_slice(piece);
                if self.buffer.len() > MAX_BYTES {
                    return Some(Err(too_long()));
                }
                if piece.ends_with(b"\n") {
                    let line = std::mem::take(&mut self.buffer);
                    if !line.trim_ascii().is_empty() {
                        self.lines.push_back(line);
                    }
                }
            }
        }
    }
}

/// Encodes a path segment: all but letters, digits and `-_.~` become `%XX`.
pub fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

async fn within<T>(work: impl Future<Output = Result<T, ApiError>>) -> Result<T, ApiError> {
    tokio::time::timeout(ANSWER_WITHIN, work)
        .await
        .unwrap_or_else(|_| {
            let seconds = ANSWER_WITHIN.as_secs();
            Err(ApiError::new(
                ErrorCode::Unreachable,
                format!("the console did not answer within {seconds} s"),
            )
            .hint("see its log; it may wait for a disk or a share"))
        })
}

/// The response, or the error in its body.
async fn accepted(response: Response<Incoming>) -> Result<Response<Incoming>, ApiError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let bytes = read_all(response.into_body()).await?;
    Err(serde_json::from_slice(&bytes).unwrap_or_else(|_| {
        ApiError::new(
            ErrorCode::Unexpected,
            format!("the console answered {status} without a reason"),
        )
        .hint("console and command line may be of different versions")
    }))
}

async fn read_all(mut body: Incoming) -> Result<Bytes, ApiError> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(cut)?.into_data() {
            if bytes.len() + data.len() > MAX_BYTES {
                return Err(too_long());
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes.into())
}

fn parse<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(bytes).map_err(|error| {
        ApiError::new(
            ErrorCode::Unexpected,
            format!("the console's answer to {what} is not understood: {error}"),
        )
        .hint("console and command line may be of different versions")
    })
}

fn cut(error: hyper::Error) -> ApiError {
    ApiError::new(
        ErrorCode::Unreachable,
        format!("the console ended the connection: {error}"),
    )
    .hint("see whether it still runs: `diskcast console show`")
}

fn too_long() -> ApiError {
    ApiError::new(
        ErrorCode::Unexpected,
        format!("the console's answer is longer than {MAX_BYTES} bytes"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{answer, console};
    use serde_json::{Value, json};
    use tokio::net::UnixListener;

    #[tokio::test]
    async fn documents_and_errors() {
        let folder = tempfile::tempdir().unwrap();
        let refused = r#"{"code":"refused","message":"disk is mounted","hint":"unmount it"}"#;
        let answers = vec![
            answer("200 OK", r#"{"a":1}"#),
            answer("409 Conflict", refused),
            answer("502 Bad Gateway", "<html>"),
            answer("200 OK", "{"),
            answer("200 OK", "a log\n"),
        ];
        let served = console(folder.path(), answers);
        let client = Client::new(folder.path());

        assert_eq!(
            client
                .post::<_, Value>("/v1/jobs", &json!({"x": 2}))
                .await
                .unwrap(),
            json!({"a": 1})
        );
        let error = client.get::<Value>("/v1/targets").await.unwrap_err();
        assert_eq!(
            (error.code, error.message.as_str(), error.hint.as_deref()),
            (ErrorCode::Refused, "disk is mounted", Some("unmount it"))
        );
        let error = client.get::<Value>("/v1/targets").await.unwrap_err();
        assert!(error.message.contains("502"), "{}", error.message);
        let error = client.get::<Value>("/v1/targets").await.unwrap_err();
        assert!(
            error.message.contains("/v1/targets is not understood"),
            "{}",
            error.message
        );
        assert_eq!(client.text("/v1/jobs/1/log").await.unwrap(), "a log\n");

        let requests = served.await.unwrap();
        assert!(
            requests[0].starts_with("POST /v1/jobs HTTP/1.1\r\n")
                && requests[0].ends_with("{\"x\":2}"),
            "{}",
            requests[0]
        );
        assert!(requests[1].starts_with("GET /v1/targets HTTP/1.1\r\n"));
    }

    #[tokio::test]
    async fn events_cut_anywhere() {
        let folder = tempfile::tempdir().unwrap();
        let line = |n: u32| {
            format!("{{\"type\":\"log\",\"job\":\"1\",\"time\":\"t\",\"text\":\"{n}\"}}\n")
        };
        let body = format!("{}{}\n{}", line(1), line(2), line(3));
        let mut pieces = vec![b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec()];
        for part in body.as_bytes().chunks(7) {
            pieces.push([format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat());
        }
        // There is no last chunk: the console was killed.
        let served = console(folder.path(), vec![pieces]);
        let mut events = Client::new(folder.path())
            .events("/v1/jobs/1/events")
            .await
            .unwrap();
        for n in 1..=3 {
            let Some(Ok(Event::Log { text, .. })) = events.next().await else {
                panic!("event {n} is missing")
            };
            assert_eq!(text, n.to_string());
        }
        served.await.unwrap();
        let error = events.next().await.unwrap().unwrap_err();
        assert_eq!(error.code, ErrorCode::Unreachable);
    }

    #[tokio::test]
    async fn without_a_console_the_error_says_how_to_start_one() {
        let folder = tempfile::tempdir().unwrap();
        for dir in [folder.path().to_path_buf(), folder.path().join("none")] {
            let error = Client::new(&dir)
                .get::<Value>("/v1/console")
                .await
                .unwrap_err();
            assert_eq!(error.code, ErrorCode::Unreachable);
            assert!(error.message.contains(&dir.display().to_string()));
            assert!(error.hint.unwrap().contains("diskcast console run"));
        }
        // The socket of a killed console refuses connections.
        drop(UnixListener::bind(folder.path().join(SOCKET_NAME)).unwrap());
        let error = Client::new(folder.path())
            .get::<Value>("/v1/console")
            .await
            .unwrap_err();
        assert!(error.hint.unwrap().contains("diskcast console run"));
    }

    #[test]
    fn path_segments() {
        assert_eq!(segment("pc-01.lab_a~"), "pc-01.lab_a~");
        assert_eq!(segment("../a b?"), "..%2Fa%20b%3F");
    }
}
