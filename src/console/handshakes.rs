//! Connections that have not yet said who they are.
//!
//! Owns: a bounded queue of unfinished handshakes on one port. A thousand connections that say nothing must not keep an agent
//! out, so the newest is always let in and the oldest is closed: an honest handshake takes milliseconds and is over long before
//! 256 others came after it. Finished ones are not counted here.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Unfinished handshakes at once: 256 file descriptors and their TLS buffers, about 10 MiB.
pub const MAX_UNFINISHED: usize = 256;
/// A handshake that takes longer is given up.
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

/// One of them; dropping it makes room.
pub struct Unfinished {
    number: u64,
    of: Handshakes,
    /// Cancelled when newer connections need the place.
    pub shed: CancellationToken,
}

impl Handshakes {
    /// At most so many at once.
    pub fn of(most: usize) -> Self {
        Self {
            inner: Arc::new(Mutex::new(Inner {
                most,
                next: 0,
                waiting: VecDeque::new(),
            })),
        }
    }

    /// A connection was accepted.
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
    /// Runs the handshake: `None` when it took too long or was shed.
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
