//! Spacing packets so that what leaves is the rate asked for and bursts stay short.
//!
//! A token bucket kept as one number: the moment at which everything sent so far would have
//! left at exactly the rate. Sending is allowed while that moment is less than a burst ahead
//! of now.
//!
//! Bursts are short because cheap switches share 100 kB to 1 MB between all ports:
//! 40 packets x 1514 = 60 kB, and 40 is one batched system call.

use crate::time::{Duration, Instant};
use crate::wire::{FRAMING_BYTES, PACKET_BYTES};

/// Bytes on the wire of a full packet: 1448 + 28 + 38.
pub const WIRE_BYTES: u64 = (PACKET_BYTES + FRAMING_BYTES) as u64;
/// Most packets that may leave at once.
pub const MAX_BURST_PACKETS: u64 = 40;
/// Packets worth waking for: at 1 Gb/s a wake-up each 0.24 ms, and still a burst in reserve.
const WAKE_PACKETS: u64 = 20;
/// A slow rate does not wait longer than this for its batch.
const WAKE_LIMIT: Duration = Duration::from_millis(2);

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Decides when the next packet may leave.
#[derive(Clone, Debug)]
pub struct Pacer {
    rate: u64,
    /// When all that was sent would have left at exactly the rate, in nanoseconds.
    drained_ns: u64,
}

impl Pacer {
    /// A pacer at `rate` wire bytes a second; 0 is taken as 1.
    #[must_use]
    pub fn new(rate_bytes_per_s: u64) -> Self {
        Self {
            rate: rate_bytes_per_s.max(1),
            drained_ns: 0,
        }
    }

    /// Changes the rate for what is sent from now on.
    pub fn set_rate(&mut self, rate_bytes_per_s: u64) {
        self.rate = rate_bytes_per_s.max(1);
    }

    /// Whether a full packet may leave now.
    #[must_use]
    pub fn is_ready(&self, now: Instant) -> bool {
        self.drained_ns.saturating_add(self.cost_ns(WIRE_BYTES)) <= self.horizon_ns(now)
    }

    /// Counts a packet of `wire_bytes` that leaves now.
    pub fn spend(&mut self, now: Instant, wire_bytes: u64) {
        let now_ns = nanos(now);
        self.drained_ns = self
            .drained_ns
            .max(now_ns)
            .saturating_add(self.cost_ns(wire_bytes));
    }

    /// When it is worth asking again: a batch may leave then, or at least a packet.
    #[must_use]
    pub fn ready_at(&self) -> Instant {
        let packet = self.cost_ns(WIRE_BYTES);
        let burst = packet.saturating_mul(MAX_BURST_PACKETS);
        let first = self.drained_ns.saturating_add(packet).saturating_sub(burst);
        let batch = packet
            .saturating_mul(WAKE_PACKETS - 1)
            .min(WAKE_LIMIT.as_micros().saturating_mul(1000));
        Instant::from_micros(first.saturating_add(batch).div_ceil(1000))
    }

    fn cost_ns(&self, wire_bytes: u64) -> u64 {
        // Rounded up: the rate is a promise to the switch.
        wire_bytes
            .saturating_mul(NANOS_PER_SECOND)
            .div_ceil(self.rate)
    }

    fn horizon_ns(&self, now: Instant) -> u64 {
        nanos(now).saturating_add(self.cost_ns(WIRE_BYTES).saturating_mul(MAX_BURST_PACKETS))
    }
}

fn nanos(at: Instant) -> u64 {
    at.as_micros().saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(pacer: &mut Pacer, now: Instant) -> u64 {
        let mut sent = 0;
        while pacer.is_ready(now) {
            pacer.spend(now, WIRE_BYTES);
            sent += 1;
        }
        sent
    }

    #[test]
    fn a_burst_is_forty_packets_even_after_a_long_rest() {
        let mut pacer = Pacer::new(125_000_000);
        assert_eq!(drain(&mut pacer, Instant::ZERO), MAX_BURST_PACKETS);
        let later = Instant::from_micros(10_000_000);
        assert_eq!(drain(&mut pacer, later), MAX_BURST_PACKETS);
    }

    #[test]
    fn the_rate_is_kept_over_a_second() {
        for rate in [1_000_000, 11_900_000, 125_000_000, 1_250_000_000] {
            let mut pacer = Pacer::new(rate);
            let mut now = Instant::ZERO;
            let mut bytes = 0;
            let mut wakes = 0;
            while now < Instant::from_micros(1_000_000) {
                bytes += drain(&mut pacer, now) * WIRE_BYTES;
                assert!(pacer.ready_at() > now);
                now = pacer.ready_at();
                wakes += 1;
            }
            let most = rate + MAX_BURST_PACKETS * WIRE_BYTES;
            assert!((rate * 99 / 100..=most).contains(&bytes), "{rate} {bytes}");
            assert!(wakes < 50_000);
        }
    }

    #[test]
    fn no_rate_is_no_panic() {
        let mut pacer = Pacer::new(0);
        pacer.spend(Instant::from_micros(u64::MAX), u64::MAX);
        assert!(!pacer.is_ready(Instant::ZERO));
    }
}
