//! Packet pacing: keeps the send rate and limits the length of bursts.
//!
//! A token bucket stored as one number: the time at which everything sent so far would have left at
//! exactly the configured rate. A packet may be sent while that time is less than one burst ahead
//! of now.
//!
//! Bursts are short because cheap switches share 100 kB to 1 MB of buffer between all ports: 40
//! packets x 1514 bytes = 60 kB, and 40 is one batched system call.

use crate::packet::wire::{FRAMING_BYTES, PACKET_BYTES};
use crate::time::{Duration, Instant};

/// Size of a full packet on the wire, in bytes: 1448 + 28 + 38.
pub const WIRE_BYTES: u64 = (PACKET_BYTES + FRAMING_BYTES) as u64;
/// Largest burst in packets.
pub const MAX_BURST_PACKETS: u64 = 40;
/// Number of packets that justify a wake-up: at 1 Gb/s one wake-up every 0.24 ms, with half a burst
/// in reserve.
const WAKE_PACKETS: u64 = 20;
/// Longest wait for a full batch at a low rate.
const WAKE_LIMIT: Duration = Duration::from_millis(2);

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// The pacer: decides when the next packet may be sent.
#[derive(Clone, Debug)]
pub struct Pacer {
    rate: u64,
    /// Time at which everything sent would have left at exactly the rate, in nanoseconds.
    drained_ns: u64,
}

impl Pacer {
    /// A pacer for `rate_bytes_per_s` wire bytes a second; 0 is treated as 1.
    #[must_use]
    pub fn new(rate_bytes_per_s: u64) -> Self {
        Self {
            rate: rate_bytes_per_s.max(1),
            drained_ns: 0,
        }
    }

    /// Changes the rate for all packets sent from now on.
    pub fn set_rate(&mut self, rate_bytes_per_s: u64) {
        self.rate = rate_bytes_per_s.max(1);
    }

    /// True if a full packet may be sent now.
    #[must_use]
    pub fn is_ready(&self, now: Instant) -> bool {
        self.drained_ns.saturating_add(self.cost_ns(WIRE_BYTES)) <= self.horizon_ns(now)
    }

    /// Accounts for a packet of `wire_bytes` that is sent now.
    pub fn spend(&mut self, now: Instant, wire_bytes: u64) {
        let now_ns = nanos(now);
        self.drained_ns = self
            .drained_ns
            .max(now_ns)
            .saturating_add(self.cost_ns(wire_bytes));
    }

    /// The time to call again: a batch may be sent then, or at least one packet.
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
        // Rounded up, so that the rate is never exceeded.
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
