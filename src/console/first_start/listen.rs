//! Connections of machines that report, beside the TLS connections of TCP 5003.
//!
//! Owns: how many there are, how long each may take, and what is said of those that are refused. What always holds: the newest is let
//! in and the oldest of [`MAX_REPORTS`] is closed, each ends within [`HANDSHAKE_TIMEOUT`], and none takes a place of a bulk connection.
//!
//! [`HANDSHAKE_TIMEOUT`]: crate::console::handshakes::HANDSHAKE_TIMEOUT

use super::Refusal;
use crate::console::context::Console;
use crate::console::handshakes::Handshakes;
use firstboot::report::{self, MAX_BYTES};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// What a report begins with, and no TLS connection does.
pub const FIRST_BYTE: u8 = b'd';
/// Connections at once: a room of 200 machines reports within seconds, each in milliseconds.
const MAX_REPORTS: usize = 64;
/// Refusals logged in a [`QUIET`].
const MAX_LINES: u32 = 10;
/// After it, refusals are logged again.
const QUIET: Duration = Duration::from_secs(60);

/// Takes reports.
#[derive(Clone)]
pub struct Listener {
    console: Arc<Console>,
    waiting: Handshakes,
    lines: Arc<Mutex<Lines>>,
}

impl Listener {
    /// For the reports of this console's machines.
    pub fn new(console: Arc<Console>) -> Self {
        Self {
            console,
            waiting: Handshakes::of(MAX_REPORTS),
            lines: Arc::default(),
        }
    }

    /// Reads one report, answers and closes.
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

/// The bytes of a message: to the end of its last line, the end of the stream, or one more than a message has.
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

/// How many refusals were logged lately.
#[derive(Default)]
struct Lines {
    since: Option<Instant>,
    said: u32,
    left_out: u32,
}

#[derive(Debug, Eq, PartialEq)]
enum Say {
    Line {
        /// Refusals since the last line that were not logged.
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
