//! TCP 5003: blocks for targets that multicast does not reach, by HTTP/1.1 with the console's TLS
//! identity.
//!
//! ```text
//! GET /v1/jobs/J/manifest             the encoded manifest
//! GET /v1/jobs/J/blocks?ranges=0-3,7  [u32 BE index][u32 BE length][bytes] ... in the order asked, at most 4096 blocks
//! GET /v1/jobs/J/files/HASH?from=N     a file of the job's template, by its BLAKE3, from byte N on
//! POST /v1/captures/J/begin|chunks|end    see [`super::capture`]
//! Authorization: Bearer TOKEN         one for each target and job, compared in constant time
//! ```
//!
//! A connection whose first byte cannot begin a TLS record brings a machine's report of its first
//! start: [`super::first_start`].
//!
//! Invariants: [`MAX_BLOCKS_IN_MEMORY`] bounds the blocks in memory, for any number and speed of
//! readers; a target has at most [`MAX_REQUESTS_PER_TARGET`] requests under way; a reader that
//! takes no data for a minute is disconnected.

use super::context::Console;
use super::first_start;
use super::handshakes::Handshakes;
use super::job::{Input, JobShared};
use super::jobs::parse_id;
use super::master::MasterImage;
use super::personal::PartOf;
use super::throttle::SLICE_BYTES;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Extension, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use multicast::BlockKey;
use net::sending::BlockSource;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

/// Maximum number of blocks of one request.
pub const MAX_BLOCKS: u32 = 4096;
/// Maximum number of blocks that are read and not yet handed to the kernel, over all targets: 64
/// MiB.
const MAX_BLOCKS_IN_MEMORY: usize = 64;
/// Maximum number of requests of one target under way.
const MAX_REQUESTS_PER_TARGET: u32 = 2;
/// Maximum number of connections at once.
const MAX_CONNECTIONS: usize = 1024;
/// Longest time without taking data before a reader is disconnected.
const STALL: Duration = Duration::from_secs(60);
/// Longest time to wait for a request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause after a failed accept, for example without free file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[derive(Clone)]
struct Bulk {
    console: Arc<Console>,
    memory: Arc<Semaphore>,
}

/// Token that ends the connection of a request.
#[derive(Clone)]
struct Hangup(CancellationToken);

/// Serves targets; ends when the future is dropped.
pub async fn serve(console: Arc<Console>, listener: TcpListener, tls: TlsAcceptor) {
    let uploads = Arc::clone(&console);
    let reports = first_start::Listener::new(Arc::clone(&console));
    let bulk = Bulk {
        console,
        memory: Arc::new(Semaphore::new(MAX_BLOCKS_IN_MEMORY)),
    };
    let app = Router::new()
        .route("/v1/jobs/{job}/manifest", get(manifest))
        .route("/v1/jobs/{job}/blocks", get(blocks))
        .route("/v1/jobs/{job}/files/{blake3}", get(file))
        .with_state(bulk)
        .merge(super::capture::routes(uploads));
    let handshakes = Handshakes::default();
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept bulk connections");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (app, tls, unfinished) = (app.clone(), tls.clone(), handshakes.begin());
        let connections = Arc::clone(&connections);
        let reports = reports.clone();
        tokio::spawn(async move {
            let stream = match unfinished.run(handshake(stream, tls)).await {
                Some(Ok(Arrived::Bulk(stream))) => stream,
                Some(Ok(Arrived::Report(stream))) => return reports.serve(stream, address).await,
                Some(Err(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
                    tracing::warn!(%address, %error, "bulk connection closed: the peer speaks nonsense");
                    return;
                }
                Some(Err(error)) => {
                    return tracing::debug!(%address, %error, "bulk connection ended at once");
                }
                None => {
                    return tracing::warn!(%address, "bulk connection closed: no handshake in time");
                }
            };
            let Ok(_place) = connections.try_acquire_owned() else {
                return tracing::warn!(%address, "bulk connection closed: {MAX_CONNECTIONS} are open");
            };
            let hangup = CancellationToken::new();
            let service = TowerToHyperService::new(app.layer(Extension(Hangup(hangup.clone()))));
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                result = connection => if let Err(error) = result {
                    if error.is_parse() {
                        tracing::warn!(%address, %error, "bulk connection closed: the peer speaks nonsense");
                    } else {
                        tracing::debug!(%address, %error, "bulk connection ended");
                    }
                },
                () = hangup.cancelled() => tracing::warn!(%address, "bulk connection closed: it took nothing for {STALL:?}"),
            }
        });
    }
}

/// Connection of a known kind.
enum Arrived {
    /// Connection after its TLS handshake.
    Bulk(Box<TlsStream<TcpStream>>),
    /// Connection of a machine that reports its first start.
    Report(TcpStream),
}

async fn handshake(stream: TcpStream, tls: TlsAcceptor) -> std::io::Result<Arrived> {
    stream.set_nodelay(true)?;
    // The kernel detects a peer that vanished without closing.
    socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(STALL))?;
    let mut first = [0];
    if stream.peek(&mut first).await? == 1 && first == [first_start::FIRST_BYTE] {
        return Ok(Arrived::Report(stream));
    }
    tls.accept(stream).await.map(Box::new).map(Arrived::Bulk)
}

pub(super) type Refusal = (StatusCode, &'static str);

/// Refusal of a wrong job or token; it does not reveal which.
pub(super) const NO: Refusal = (StatusCode::FORBIDDEN, "this token does not open this job\n");

/// Returns the job, and the place in it that the request's token belongs to.
pub(super) fn admit_to_job(
    console: &Console,
    job: &str,
    headers: &HeaderMap,
) -> Result<(Arc<JobShared>, usize), Refusal> {
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .ok_or((StatusCode::UNAUTHORIZED, "a bearer token is needed\n"))?;
    let handle = parse_id(job)
        .ok()
        .and_then(|id| console.jobs.handle(id))
        .ok_or(NO)?;
    let place = handle.shared.place_of_token(token).ok_or(NO)?;
    Ok((handle.shared, place))
}

/// Returns job, image and place of a request, for a job that sends an image.
fn admit(
    bulk: &Bulk,
    job: &str,
    headers: &HeaderMap,
) -> Result<(Arc<JobShared>, Arc<MasterImage>, usize), Refusal> {
    let (job, place) = admit_to_job(&bulk.console, job, headers)?;
    let image = job.image().cloned().ok_or(NO)?;
    Ok((job, image, place))
}

async fn manifest(
    State(bulk): State<Bulk>,
    Extension(hangup): Extension<Hangup>,
    Path(job): Path<String>,
    headers: HeaderMap,
) -> Response {
    match admit(&bulk, &job, &headers) {
        Ok((job, image, place)) => respond(bulk, job, image, place, hangup, Wanted::Manifest),
        Err(refusal) => refusal.into_response(),
    }
}

#[derive(serde::Deserialize)]
struct BlocksQuery {
    ranges: String,
}

async fn blocks(
    State(bulk): State<Bulk>,
    Extension(hangup): Extension<Hangup>,
    Path(job): Path<String>,
    Query(query): Query<BlocksQuery>,
    headers: HeaderMap,
) -> Response {
    let (job, image, place) = match admit(&bulk, &job, &headers) {
        Ok(admitted) => admitted,
        Err(refusal) => return refusal.into_response(),
    };
    match parse_ranges(&query.ranges, image.image_blocks()) {
        Ok(wanted) => respond(bulk, job, image, place, hangup, Wanted::Blocks(wanted)),
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    }
}

#[derive(serde::Deserialize)]
struct FileQuery {
    #[serde(default)]
    from: u64,
}

async fn file(
    State(bulk): State<Bulk>,
    Extension(hangup): Extension<Hangup>,
    Path((job, blake3)): Path<(String, String)>,
    Query(query): Query<FileQuery>,
    headers: HeaderMap,
) -> Response {
    let (job, image, place) = match admit(&bulk, &job, &headers) {
        Ok(admitted) => admitted,
        Err(refusal) => return refusal.into_response(),
    };
    // Only files that the plan of this job names are served; a path never comes from the request.
    let plan = job.plan();
    let Some(planned) = plan.file(&blake3) else {
        return (StatusCode::NOT_FOUND, "the job has no such file\n").into_response();
    };
    match PartOf::open(&planned.path, planned.payload.bytes, query.from).await {
        Ok(part) => respond(bulk, job, image, place, hangup, Wanted::File(part)),
        Err(error) => {
            tracing::error!(job = job.id, file = %planned.path.display(), %error, "file of the template cannot be read");
            (StatusCode::GONE, format!("{error}\n")).into_response()
        }
    }
}

/// Errors of a list of block ranges.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RangeError {
    /// The text is not a list of numbers with `-` and `,`.
    #[error("{0:?} is no range of blocks")]
    Malformed(String),
    /// A block is beyond the end of the image.
    #[error("block {block} asked for, the image has {blocks}")]
    Beyond {
        /// Number of the block.
        block: u32,
        /// Number of blocks in the image.
        blocks: u32,
    },
    /// The list has more blocks than one request may have.
    #[error("more than {MAX_BLOCKS} blocks in one request")]
    TooMany,
}

/// Parses ranges such as `0-3,7` into block numbers, in their order. The count is checked before
/// memory is used.
///
/// # Errors
/// [`RangeError`] for a malformed list, a block beyond the image, or too many blocks.
pub fn parse_ranges(text: &str, blocks: u32) -> Result<Vec<u32>, RangeError> {
    let mut wanted: Vec<u32> = Vec::new();
    for part in text.split(',') {
        let malformed = || RangeError::Malformed(part.chars().take(40).collect());
        let number = |text: &str| {
            // `parse` would accept a sign.
            if text.bytes().all(|b| b.is_ascii_digit()) {
                text.parse::<u32>().ok()
            } else {
                None
            }
        };
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first = number(first).ok_or_else(malformed)?;
        let last = number(last).ok_or_else(malformed)?;
        if last < first {
            return Err(malformed());
        }
        if last >= blocks {
            return Err(RangeError::Beyond {
                block: last,
                blocks,
            });
        }
        let count = u64::from(last - first) + 1;
        if wanted.len() as u64 + count > u64::from(MAX_BLOCKS) {
            return Err(RangeError::TooMany);
        }
        wanted.extend(first..=last);
    }
    Ok(wanted)
}

enum Wanted {
    Manifest,
    Blocks(Vec<u32>),
    File(PartOf),
}

/// A block in memory with its permit; the permit is returned when the last slice was sent.
struct Held {
    bytes: Vec<u8>,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn respond(
    bulk: Bulk,
    job: Arc<JobShared>,
    image: Arc<MasterImage>,
    place: usize,
    hangup: Hangup,
    wanted: Wanted,
) -> Response {
    let Some(turn) = job.begin_answer(place, MAX_REQUESTS_PER_TARGET) else {
        return (
            StatusCode::TOO_MANY_REQUESTS,
            "answers are under way already\n",
        )
            .into_response();
    };
    let (slices, waiting) = mpsc::channel::<std::io::Result<Bytes>>(1);
    tokio::spawn(async move {
        let answer = Answer {
            bulk,
            job,
            image,
            place,
            slices,
        };
        let stalled = match wanted {
            Wanted::Manifest => answer.manifest().await,
            Wanted::Blocks(blocks) => answer.blocks(&blocks).await,
            Wanted::File(part) => answer.file(part).await,
        };
        if stalled.is_err() {
            hangup.0.cancel();
        }
        drop(turn);
    });
    let body = Body::from_stream(tokio_stream::wrappers::ReceiverStream::new(waiting));
    ([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response()
}

/// Error of a reader that takes no more data.
struct Stalled;

struct Answer {
    bulk: Bulk,
    job: Arc<JobShared>,
    image: Arc<MasterImage>,
    place: usize,
    slices: mpsc::Sender<std::io::Result<Bytes>>,
}

impl Answer {
    async fn manifest(&self) -> Result<(), Stalled> {
        self.send(self.image.shared_manifest()).await.map(drop)
    }

    async fn blocks(&self, blocks: &[u32]) -> Result<(), Stalled> {
        for index in blocks {
            // A permit becomes free when another reader is served or disconnected.
            let Ok(permit) = Arc::clone(&self.bulk.memory).acquire_owned().await else {
                return Ok(());
            };
            let (image, index) = (Arc::clone(&self.image), *index);
            let reading = tokio::task::spawn_blocking(move || {
                let mut bytes = Vec::new();
                image
                    .read_block(BlockKey::image(index), &mut bytes)
                    .map(|()| bytes)
            });
            let bytes = match reading.await {
                Ok(Ok(bytes)) => bytes,
                Ok(Err(error)) => return self.unreadable(error).await,
                Err(error) => return self.unreadable(std::io::Error::other(error)).await,
            };
            let mut head = Vec::with_capacity(8);
            head.extend_from_slice(&index.to_be_bytes());
            head.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
            if !self.send(Bytes::from(head)).await? {
                return Ok(());
            }
            if !self
                .send(Bytes::from_owner(Held {
                    bytes,
                    _permit: permit,
                }))
                .await?
            {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn file(&self, mut part: PartOf) -> Result<(), Stalled> {
        loop {
            match part.next().await {
                Ok(None) => return Ok(()),
                Ok(Some(bytes)) => {
                    if !self.send(bytes).await? {
                        return Ok(());
                    }
                }
                Err(error) => {
                    tracing::error!(job = self.job.id, place = self.place, %error, "file of the template cannot be read");
                    return self.broken(error).await;
                }
            }
        }
    }

    /// Reports a damaged image to the job, which then fails its targets, and ends the answer.
    async fn unreadable(&self, error: std::io::Error) -> Result<(), Stalled> {
        if let Some(handle) = self.bulk.console.jobs.handle(self.job.id) {
            // A job that has just ended needs no image.
            let _ = handle
                .inputs
                .send(Input::Unreadable(error.to_string()))
                .await;
        }
        self.broken(error).await
    }

    /// Ends the connection in the middle of an answer, so that no reader takes a part for the
    /// whole.
    async fn broken(&self, error: std::io::Error) -> Result<(), Stalled> {
        tracing::debug!(job = self.job.id, place = self.place, %error, "answer cut short");
        let _ = self.slices.send_timeout(Err(error), STALL).await;
        Ok(())
    }

    /// Sends bytes in slices at the rate of the throttle; returns false if the reader has
    /// disconnected.
    async fn send(&self, mut bytes: Bytes) -> Result<bool, Stalled> {
        while !bytes.is_empty() {
            let slice = bytes.split_to(bytes.len().min(SLICE_BYTES));
            let len = slice.len();
            self.bulk.console.throttle.take(len).await;
            match self.slices.send_timeout(Ok(slice), STALL).await {
                Ok(()) => {}
                Err(mpsc::error::SendTimeoutError::Closed(_)) => return Ok(false),
                Err(mpsc::error::SendTimeoutError::Timeout(_)) => return Err(Stalled),
            }
            self.job.bulk_bytes.fetch_add(len as u64, Ordering::Relaxed);
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_bounded_before_they_are_made() {
        assert_eq!(parse_ranges("0-3,7", 8).unwrap(), [0, 1, 2, 3, 7]);
        assert_eq!(parse_ranges("7,0", 8).unwrap(), [7, 0]);
        assert_eq!(
            parse_ranges("0-8", 8),
            Err(RangeError::Beyond {
                block: 8,
                blocks: 8
            })
        );
        assert_eq!(
            parse_ranges("0-4294967295", u32::MAX),
            Err(RangeError::Beyond {
                block: u32::MAX,
                blocks: u32::MAX
            })
        );
        assert_eq!(
            parse_ranges("0-4294967294", u32::MAX),
            Err(RangeError::TooMany)
        );
        assert_eq!(
            parse_ranges(&"0-4095,".repeat(3), 5000).unwrap_err(),
            RangeError::TooMany
        );
        assert_eq!(parse_ranges("0-4095", 5000).unwrap().len(), 4096);
        for bad in [
            "",
            ",",
            "-",
            "3-1",
            "+1",
            "1-",
            "-1",
            "a",
            "1-2-3",
            "0x1",
            "99999999999",
            " 1",
        ] {
            assert!(
                matches!(parse_ranges(bad, 100), Err(RangeError::Malformed(_))),
                "{bad:?}"
            );
        }
        assert!(matches!(
            parse_ranges("0", 0),
            Err(RangeError::Beyond { .. })
        ));
    }
}
