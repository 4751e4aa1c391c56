//! Connections of machines that report their first start, beside the TLS connections of TCP 5003.
//!
//! Owns the number of these connections, their time limit, and the log of refusals. Invariants: a
//! new connection is always accepted, and the oldest of [`MAX_REPORTS`] is closed for it; each ends
//! within [`HANDSHAKE_TIMEOUT`]; none takes the place of a bulk connection.
//!
//! [`HANDSHAKE_TIMEOUT`]: crate::handshakes::HANDSHAKE_TIMEOUT

use super::Refusal;
use crate::context::Console;
use crate::handshakes::Handshakes;
use firstboot::report::{self, MAX_BYTES};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// First byte of every report; no TLS connection begins with it.
pub const FIRST_BYTE: u8 = b'd';
/// Maximum number of connections at once. A room of 200 machines reports within seconds, and each
/// report takes milliseconds.
const MAX_REPORTS: usize = 64;
/// Maximum number of refusals logged within [`QUIET`].
const MAX_LINES: u32 = 10;
/// Time after which refusals are logged again.
const QUIET: Duration = Duration::from_secs(60);

/// Receiver of reports.
#[derive(Clone)]
pub struct Listener {
    console: Arc<Console>,
    waiting: Handshakes,
    lines: Arc<Mutex<Lines>>,
}

impl Listener {
    /// Makes the receiver for reports of this console's machines.
    pub fn new(console: Arc<Console>) -> Self {
        Self {
            console,
            waiting: Handshakes::of(MAX_REPORTS),
            lines: Arc::default(),
        }
    }

    /// Reads one report, answers it and closes the connection.
    pub async fn serve(&self, stream: TcpStream, address: SocketAddr) {
        match self.waiting.begin().run(self.talk(stream)).await {
            Some(Ok(Ok(()))) => {}
            Some(Ok(Err(refusal))) => self.log(address, &refusal.to_string()),
            Some(Err(error)) => tracing::debug!(%address, %error, "report of a first start ended"),
            None => self.log(address, "it did not come in time"),
        }
    }

    async fn talk(&self, mut stream: TcpStream) -> std::io::Result<Result<(), Refusal>> {
        let bytes = read(&mut stream).await?;
        let taken = self.console.take_report(&bytes).await;
        let answer = match &taken {
            Ok(answer) => Some(answer.clone()),
            Err(refusal) if refusal.is_final() => Some(report::refused()),
            Err(_) => None,
        };
        if let Some(answer) = answer {
            stream.write_all(answer.as_bytes()).await?;
        }
        stream.shutdown().await?;
        Ok(taken.map(drop))
    }

    fn log(&self, address: SocketAddr, why: &str) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        match lines.next(Instant::now()) {
            Say::Line { left_out: 0 } => {
                tracing::warn!(%address, "report of a first start refused: {why}");
            }
            Say::Line { left_out } => {
                tracing::warn!(%address, left_out, "report of a first start refused: {why}");
            }
            Say::Nothing => {}
        }
    }
}

/// Reads a message: up to the end of its last line, the end of the stream, or more bytes than a
/// message may have.
async fn read(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut piece = [0; 1024];
    while bytes.len() <= MAX_BYTES && !report::is_whole(&bytes) {
        let count = stream.read(&mut piece).await?;
        if count == 0 {
            break;
        }
        bytes.extend_from_slice(piece.get(..count).unwrap_or_default());
    }
    Ok(bytes)
}

/// Count of refusals logged in the present period.
#[derive(Default)]
struct Lines {
    since: Option<Instant>,
    said: u32,
    left_out: u32,
}

#[derive(Debug, Eq, PartialEq)]
enum Say {
    Line {
        /// Number of refusals since the last line that were not logged.
        left_out: u32,
    },
    Nothing,
}

impl Lines {
    fn next(&mut self, now: Instant) -> Say {
        let fresh = self.since.is_none_or(|since| now >= since + QUIET);
        if fresh {
            self.since = Some(now);
            self.said = 0;
        }
        if self.said >= MAX_LINES {
            self.left_out = self.left_out.saturating_add(1);
            return Say::Nothing;
        }
        self.said += 1;
        Say::Line {
            left_out: std::mem::take(&mut self.left_out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_is_counted() {
        let mut lines = Lines::default();
        let now = Instant::now();
        for _ in 0..MAX_LINES {
            assert_eq!(lines.next(now), Say::Line { left_out: 0 });
        }
        for _ in 0..500 {
            assert_eq!(lines.next(now), Say::Nothing);
        }
        let later = now + QUIET;
        assert_eq!(lines.next(later), Say::Line { left_out: 500 });
        assert_eq!(lines.next(later), Say::Line { left_out: 0 });
    }
}
