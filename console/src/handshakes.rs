//! Connections whose handshake is not finished.
//!
//! Owns a bounded queue of unfinished handshakes on one port. A thousand silent connections must
//! not block an agent, so a new one is always accepted and the oldest is closed: an honest
//! handshake takes milliseconds, and ends long before 256 others have come. Finished handshakes do
//! not count here.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Maximum number of unfinished handshakes at once: 256 file descriptors and their TLS buffers,
/// about 10 MiB.
pub const MAX_UNFINISHED: usize = 256;
/// Longest time for a handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

struct Inner {
    most: usize,
    next: u64,
    waiting: VecDeque<(u64, CancellationToken)>,
}

/// The unfinished handshakes of a port.
#[derive(Clone)]
pub struct Handshakes {
    inner: Arc<Mutex<Inner>>,
}

impl Default for Handshakes {
    fn default() -> Self {
        Self::of(MAX_UNFINISHED)
    }
}

/// An unfinished handshake; dropping it frees its place.
pub struct Unfinished {
    number: u64,
    of: Handshakes,
    /// Cancelled when a newer connection takes the place.
    pub shed: CancellationToken,
}

impl Handshakes {
    /// Makes a queue of at most `most` unfinished handshakes.
    pub fn of(most: usize) -> Self {
        Self {
            inner: Arc::new(Mutex::new(Inner {
                most,
                next: 0,
                waiting: VecDeque::new(),
            })),
        }
    }

    /// Adds an accepted connection; closes the oldest one if the queue is full.
    pub fn begin(&self) -> Unfinished {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.waiting.len() >= inner.most
            && let Some((_, oldest)) = inner.waiting.pop_front()
        {
            oldest.cancel();
        }
        let number = inner.next;
        inner.next += 1;
        let shed = CancellationToken::new();
        inner.waiting.push_back((number, shed.clone()));
        Unfinished {
            number,
            of: self.clone(),
            shed,
        }
    }
}

impl Unfinished {
    /// Runs the handshake; `None` if it took too long or its place was taken.
    pub async fn run<T>(self, handshake: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            () = self.shed.cancelled() => None,
            result = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake) => result.ok(),
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let mut inner = self.of.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(at) = inner
            .waiting
            .binary_search_by_key(&self.number, |(number, _)| *number)
        {
            inner.waiting.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_silent_connection_makes_room() {
        let handshakes = Handshakes::default();
        let first = handshakes.begin();
        let second = handshakes.begin();
        let others: Vec<_> = (0..MAX_UNFINISHED).map(|_| handshakes.begin()).collect();
        assert!(first.shed.is_cancelled() && second.shed.is_cancelled());
        assert!(others.iter().all(|other| !other.shed.is_cancelled()));
        assert_eq!(first.run(std::future::pending::<()>()).await, None);
        drop(others);
        assert!(handshakes.inner.lock().unwrap().waiting.is_empty());
        assert_eq!(handshakes.begin().run(async { 7 }).await, Some(7));
    }
}
