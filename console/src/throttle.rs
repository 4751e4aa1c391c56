//! Rate limit of the bulk service while sessions run.
//!
//! The technician's cap is for all traffic of the console. While multicast is sent, TCP 5003 gets
//! the rate that multicast leaves free under the cap, and at least a tenth of the cap, so that a
//! target without multicast always makes progress. (A floor in bytes, say 20 MB/s, would fill a 200
//! Mbit/s link on its own and make all others lose packets.) Without a known cap there is no limit,
//! and TCP's own congestion control shares the wire.
//!
//! Owns the limits of running sessions, and the time at which the next bytes may be sent. Bytes are
//! sent in slices, so that many waiting targets take turns.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Bytes sent between two checks of the limit.
pub const SLICE_BYTES: usize = 64 << 10;
/// Lowest limit in bytes per second; with less, agents would take the silence for a dead console.
const MIN_BYTES_PER_S: u64 = 256 << 10;

#[derive(Default)]
struct Inner {
    limits: BTreeMap<u64, u64>,
    next: Option<Instant>,
}

/// Rate limit that all bulk requests share.
#[derive(Default)]
pub struct Throttle {
    inner: Mutex<Inner>,
}

impl Throttle {
    /// Sets the rate that a running session leaves for the bulk service.
    pub fn set(&self, job: u64, cap_bytes_per_s: Option<u64>, multicast_bytes_per_s: u64) {
        let Some(cap) = cap_bytes_per_s else { return };
        let limit = cap
            .saturating_sub(multicast_bytes_per_s)
            .max(cap / 10)
            .max(MIN_BYTES_PER_S);
        self.lock().limits.insert(job, limit);
    }

    /// Removes the limit of a session that has ended.
    pub fn clear(&self, job: u64) {
        self.lock().limits.remove(&job);
    }

    /// Waits until `bytes` more may be sent.
    pub async fn take(&self, bytes: usize) {
        if let Some(wait) = self.reserve(Instant::now(), bytes) {
            tokio::time::sleep(wait).await;
        }
    }

    fn reserve(&self, now: Instant, bytes: usize) -> Option<Duration> {
        let mut inner = self.lock();
        let limit = *inner.limits.values().min()?;
        let begin = inner.next.map_or(now, |next| next.max(now));
        // A limit is at least MIN_BYTES_PER_S, so there is no division by zero, and a slice takes
        // at most a quarter of a second.
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
        // Cap 25 MB/s, multicast 24 MB/s: bulk gets a tenth of the cap, 2.5 MB/s.
        throttle.set(1, Some(25_000_000), 24_000_000);
        assert_eq!(throttle.reserve(now, 2_500_000), None);
        assert_eq!(throttle.reserve(now, 1), Some(Duration::from_secs(1)));
        // Multicast pauses, so bulk gets nearly the whole cap.
        throttle.set(1, Some(25_000_000), 0);
        let later = now + Duration::from_secs(10);
        assert_eq!(throttle.reserve(later, 25_000_000), None);
        assert_eq!(throttle.reserve(later, 1), Some(Duration::from_secs(1)));
        throttle.clear(1);
        assert_eq!(throttle.reserve(later, 1), None);
    }
}
