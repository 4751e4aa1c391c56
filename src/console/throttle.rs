//! How much of the wire the bulk service may take while sessions run.
//!
//! The technician's cap is for everything the console sends. So while multicast goes out, TCP 5003 gets what
//! multicast leaves free under the cap, and a tenth of the cap in any case, so that a target without multicast always goes
//! forward. (A floor in bytes, say 20 MB/s, would fill a 200 Mbit/s link on its own and make everyone else lose packets.)
//! When no cap is known there is nothing to keep to, and TCP's own congestion control shares the wire.
//!
//! Owns: the limits of running sessions and the time at which the next bytes may go. Takes turns in slices, so that a hundred
//! waiting targets each see a byte every few seconds.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Bytes that go out between two looks at the limit.
pub const SLICE_BYTES: usize = 64 << 10;
/// The least a limit comes down to: with less, agents would take silence for a dead console.
const MIN_BYTES_PER_S: u64 = 256 << 10;

#[derive(Default)]
struct Inner {
    limits: BTreeMap<u64, u64>,
    next: Option<Instant>,
}

/// Shared by every bulk request.
#[derive(Default)]
pub struct Throttle {
    inner: Mutex<Inner>,
}

impl Throttle {
    /// What a running session leaves for bulk.
    pub fn set(&self, job: u64, cap_bytes_per_s: Option<u64>, multicast_bytes_per_s: u64) {
        let Some(cap) = cap_bytes_per_s else { return };
        let limit = cap
            .saturating_sub(multicast_bytes_per_s)
            .max(cap / 10)
            .max(MIN_BYTES_PER_S);
        self.lock().limits.insert(job, limit);
    }

    /// The session is over.
    pub fn clear(&self, job: u64) {
        self.lock().limits.remove(&job);
    }

    /// Waits until `bytes` more may go.
    pub async fn take(&self, bytes: usize) {
        if let Some(wait) = self.reserve(Instant::now(), bytes) {
            tokio::time::sleep(wait).await;
        }
    }

    fn reserve(&self, now: Instant, bytes: usize) -> Option<Duration> {
        let mut inner = self.lock();
        let limit = *inner.limits.values().min()?;
        let begin = inner.next.map_or(now, |next| next.max(now));
        // A limit is at least MIN_BYTES_PER_S, so this is no division by zero and a slice takes a quarter second at most.
        let takes = Duration::from_micros((bytes as u64).saturating_mul(1_000_000) / limit.max(1));
        inner.next = Some(begin + takes);
        Some(begin.saturating_duration_since(now)).filter(|wait| !wait.is_zero())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bulk_takes_what_multicast_leaves() {
        let throttle = Throttle::default();
        let now = Instant::now();
        assert_eq!(throttle.reserve(now, 1 << 30), None, "no session, no limit");
        throttle.set(1, None, 500);
        assert_eq!(
            throttle.reserve(now, 1 << 30),
            None,
            "no cap known, no limit"
        );
        // 25 MB/s cap, 24 MB/s multicast: a tenth of the cap is left, 2.5 MB/s.
        throttle.set(1, Some(25_000_000), 24_000_000);
        assert_eq!(throttle.reserve(now, 2_500_000), None);
        assert_eq!(throttle.reserve(now, 1), Some(Duration::from_secs(1)));
        // Multicast pauses: nearly the whole cap.
        throttle.set(1, Some(25_000_000), 0);
        let later = now + Duration::from_secs(10);
        assert_eq!(throttle.reserve(later, 25_000_000), None);
        assert_eq!(throttle.reserve(later, 1), Some(Duration::from_secs(1)));
        throttle.clear(1);
        assert_eq!(throttle.reserve(later, 1), None);
    }
}
