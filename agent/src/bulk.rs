//! TCP 5003 from the agent's side: data that multicast did not bring, fetched by block ranges over
//! the console's TLS identity.
//!
//! One request at a time on one connection, which is made again when it breaks. Lengths that the
//! console declares are checked against the largest possible block before anything is allocated.

use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use multicast::BLOCK_BYTES;
use net::tls;
use protocol::control::BulkOrder;
use rustls::ClientConfig;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// Longest silence of a console before the connection counts as lost.
const SILENCE: Duration = Duration::from_secs(15);

/// Longest time that sent data may stay unacknowledged before the kernel ends the connection.
const STALL: Duration = Duration::from_secs(60);

/// Bytes in front of each block: index and length.
const FRAME_HEAD: usize = 8;

/// The reason a fetch failed. The caller tries again.
#[derive(Debug, thiserror::Error)]
pub(super) enum BulkError {
    /// No connection to TCP 5003.
    #[error("connecting to {address}")]
    Connect {
        /// Address of the service.
        address: SocketAddr,
        /// The cause.
        source: std::io::Error,
    },
    /// HTTP failed on the way.
    #[error("talking to the console's bulk service")]
    Http(#[from] hyper::Error),
    /// The console refused.
    #[error("the console's bulk service answered {0}")]
    Status(StatusCode),
    /// The answer breaks the protocol.
    #[error("the console's bulk service sent {0}")]
    Nonsense(&'static str),
    /// Nothing came for [`SILENCE`].
    #[error("the console's bulk service went silent")]
    Silent,
}

/// A client of the bulk service for one job.
pub(super) struct BulkClient {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
    token: String,
    job: String,
    connection: Option<SendRequest<Empty<Bytes>>>,
}

impl BulkClient {
    /// A client for one job of the console at `console` (its control address). Connects when first
    /// used.
    pub(super) fn new(
        console: SocketAddr,
        tls: Arc<ClientConfig>,
        order: &BulkOrder,
        job: &str,
    ) -> Self {
        let address = SocketAddr::new(console.ip(), order.port);
        Self {
            address,
            tls,
            token: order.token.clone(),
            job: job.to_owned(),
            connection: None,
        }
    }

    /// Fetches the encoded manifest; the caller checks its digest.
    ///
    /// # Errors
    /// [`BulkError`]; the next call connects again.
    pub(super) async fn manifest(&mut self, bytes: u64) -> Result<Vec<u8>, BulkError> {
        let path = format!("/v1/jobs/{}/manifest", self.job);
        let mut body = self.get(&path).await?.into_body();
        let mut manifest = Vec::new();
        while let Some(data) = next(&mut body).await? {
            manifest.extend_from_slice(&data);
            if manifest.len() as u64 > bytes {
                return Err(BulkError::Nonsense("a manifest longer than announced"));
            }
        }
        Ok(manifest)
    }

    /// Fetches image blocks and hands over each one when it is complete.
    ///
    /// # Errors
    /// [`BulkError`]; blocks handed over before stay valid.
    pub(super) async fn blocks(
        &mut self,
        ranges: &[RangeInclusive<u32>],
        mut take: impl FnMut(u32, Vec<u8>),
    ) -> Result<(), BulkError> {
        let list: Vec<String> = ranges
            .iter()
            .map(|r| format!("{}-{}", r.start(), r.end()))
            .collect();
        let path = format!("/v1/jobs/{}/blocks?ranges={}", self.job, list.join(","));
        let mut body = self.get(&path).await?.into_body();
        let mut buffer: Vec<u8> = Vec::new();
        let mut expected = ranges.iter().cloned().flatten();
        loop {
            let Some(data) = next(&mut body).await? else {
                break;
            };
            buffer.extend_from_slice(&data);
            while let Some((index, len)) = frame_head(&buffer)? {
                if buffer.len() < FRAME_HEAD + len {
                    break;
                }
                if expected.next() != Some(index) {
                    return Err(BulkError::Nonsense("a block that was not asked for"));
                }
                let rest = buffer.split_off(FRAME_HEAD + len);
                buffer.drain(..FRAME_HEAD);
                take(index, std::mem::replace(&mut buffer, rest));
            }
        }
        if buffer.is_empty() && expected.next().is_none() {
            Ok(())
        } else {
            Err(BulkError::Nonsense("fewer blocks than were asked for"))
        }
    }

    /// Fetches a file of the job from byte `from` on, piece by piece, until the receiver of the
    /// pieces is dropped. That receiver checks the file's hash.
    ///
    /// # Errors
    /// [`BulkError`]; pieces handed over before stay valid.
    pub(super) async fn file(
        &mut self,
        blake3: &str,
        from: u64,
        pieces: &mpsc::Sender<Result<Bytes, BulkError>>,
    ) -> Result<(), BulkError> {
        let path = format!("/v1/jobs/{}/files/{blake3}?from={from}", self.job);
        let mut body = self.get(&path).await?.into_body();
        while let Some(data) = next(&mut body).await? {
            if pieces.send(Ok(data)).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    async fn get(&mut self, path: &str) -> Result<Response<Incoming>, BulkError> {
        let mut connection = match self.connection.take().filter(|c| !c.is_closed()) {
            Some(connection) => connection,
            None => connect(self.address, &self.tls).await?,
        };
        let request = Request::get(path)
            .header(header::HOST, "diskcast")
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .body(Empty::new())
            .map_err(|_| BulkError::Nonsense("a job name that is no path"))?;
        let answer = timed(async {
            connection.ready().await?;
            connection.send_request(request).await
        })
        .await??;
        if answer.status() != StatusCode::OK {
            return Err(BulkError::Status(answer.status()));
        }
        self.connection = Some(connection);
        Ok(answer)
    }
}

/// Connects to the console's bulk service.
///
/// # Errors
/// [`BulkError`] when the connection or TLS fails.
pub(super) async fn connect<B>(
    address: SocketAddr,
    tls: &Arc<ClientConfig>,
) -> Result<SendRequest<B>, BulkError>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let failed = |source| BulkError::Connect { address, source };
    let stream = timed(TcpStream::connect(address)).await?.map_err(failed)?;
    // The kernel notices a console that vanished, whatever is being sent.
    let _ = socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(STALL));
    let connector = tokio_rustls::TlsConnector::from(Arc::clone(tls));
    let stream = timed(connector.connect(tls::server_name(), stream))
        .await?
        .map_err(failed)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "bulk connection ended");
        }
    });
    Ok(sender)
}

async fn timed<T>(work: impl Future<Output = T>) -> Result<T, BulkError> {
    tokio::time::timeout(SILENCE, work)
        .await
        .map_err(|_| BulkError::Silent)
}

async fn next<B: Body<Data = Bytes, Error = hyper::Error> + Unpin>(
    body: &mut B,
) -> Result<Option<Bytes>, BulkError> {
    loop {
        match timed(body.frame()).await? {
            None => return Ok(None),
            Some(frame) => {
                if let Ok(data) = frame?.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// Index and length of the block at the start of `buffer`, once both have arrived.
fn frame_head(buffer: &[u8]) -> Result<Option<(u32, usize)>, BulkError> {
    let (Some(index), Some(len)) = (
        buffer.first_chunk::<4>(),
        buffer.get(4..).and_then(|b| b.first_chunk::<4>()),
    ) else {
        return Ok(None);
    };
    let len = u32::from_be_bytes(*len);
    if len > BLOCK_BYTES {
        return Err(BulkError::Nonsense("a block longer than blocks are"));
    }
    Ok(Some((u32::from_be_bytes(*index), len as usize)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declared_length_is_held_against_what_blocks_are() {
        assert!(matches!(
            frame_head(&[0, 0, 0, 7, 0, 0, 0, 9]),
            Ok(Some((7, 9)))
        ));
        assert!(matches!(frame_head(&[0, 0, 0, 7, 0, 0, 0]), Ok(None)));
        assert!(frame_head(&[0, 0, 0, 7, 0xff, 0xff, 0xff, 0xff]).is_err());
    }
}
