//! The probe of `diskcast doctor`: numbered packets that show how multicast arrives at a machine.
//!
//! ```text
//!  0        2     3      4      5     8      16       24
//!  | dc a7  | ver | lane | kind | 0.. | id   | number | zeroes up to the length of its kind ...
//! ```
//!
//! Owns: offsets, lengths, and counting. Pure: no socket, no clock; no call panics, whatever the
//! bytes. Invariants: a probe is never taken for a packet of a session, which has another magic
//! number (`dc a5`), and a packet of a session never for a probe; no content of a probe is written
//! anywhere. The id is random and is sent in the target's TLS connection, so that other packets are
//! not counted by accident.

use multicast::wire::PerLane;
use multicast::{Duration, Instant, Lane, PACKET_BYTES, PacketNumber, ReplayWindow};
use thiserror::Error;

/// Magic number: the first bytes of every probe.
pub const MAGIC: u16 = 0xdca7;
/// Version of the layout.
pub const VERSION: u8 = 1;
/// Length of the fields, and of a whole small probe, in bytes.
pub const SMALL_BYTES: usize = 24;
/// Length of a stream probe in bytes: that of a full packet of a session, 1476 bytes of IP.
pub const FULL_BYTES: usize = PACKET_BYTES;
/// Length of a jumbo probe in bytes: 9000 bytes of IP.
pub const JUMBO_BYTES: usize = 9000 - 28;

/// Pause after which a stream counts as stopped: losses on a wire are shorter.
pub const PAUSE: Duration = Duration::from_secs(1);

const AT_VERSION: usize = 2;
const AT_LANE: usize = AT_VERSION + 1;
const AT_KIND: usize = AT_LANE + 1;
const AT_ID: usize = 8;
const AT_NUMBER: usize = AT_ID + 8;
const _: () = assert!(AT_NUMBER + 8 == SMALL_BYTES);

/// The reason why bytes are not a probe.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// The packet is of another protocol or version.
    #[error("no probe of this version")]
    Foreign,
    /// The lane or kind is unknown, or the length is not that of the kind.
    #[error("probe is malformed")]
    Malformed,
}

/// Purpose of a probe.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A packet of the stream, as large as a session's packets.
    Stream,
    /// A packet of the least length, which passes where full ones are too large.
    Small,
    /// A jumbo packet, which passes only when the whole path carries jumbo frames.
    Jumbo,
    /// The end of the stream; its number is the count of the stream's packets.
    End,
}

impl Kind {
    const fn to_wire(self) -> u8 {
        match self {
            Self::Stream => 1,
            Self::Small => 2,
            Self::Jumbo => 3,
            Self::End => 4,
        }
    }

    /// Length of such a probe in bytes.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Stream => FULL_BYTES,
            Self::Small | Self::End => SMALL_BYTES,
            Self::Jumbo => JUMBO_BYTES,
        }
    }
}

/// A packet of the probe.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Probe {
    /// Id of the run.
    pub id: u64,
    /// Lane on which it was sent.
    pub lane: Lane,
    /// Purpose of the packet.
    pub kind: Kind,
    /// Number, counted from 0 within lane and kind.
    pub number: u64,
}

impl Probe {
    /// Parses a datagram.
    ///
    /// # Errors
    /// [`ProbeError`] with the reason.
    pub fn parse(datagram: &[u8]) -> Result<Self, ProbeError> {
        let fields: &[u8; SMALL_BYTES] = datagram.first_chunk().ok_or(ProbeError::Foreign)?;
        if fields[..AT_VERSION] != MAGIC.to_be_bytes() || fields[AT_VERSION] != VERSION {
            return Err(ProbeError::Foreign);
        }
        let lane = match fields[AT_LANE] {
            0 => Lane::Main,
            1 => Lane::Second,
            _ => return Err(ProbeError::Malformed),
        };
        let kind = [Kind::Stream, Kind::Small, Kind::Jumbo, Kind::End]
            .into_iter()
            .find(|kind| kind.to_wire() == fields[AT_KIND] && kind.bytes() == datagram.len())
            .ok_or(ProbeError::Malformed)?;
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&fields[at..at + 8]);
            u64::from_be_bytes(bytes)
        };
        Ok(Self {
            id: number(AT_ID),
            lane,
            kind,
            number: number(AT_NUMBER),
        })
    }

    /// Appends the datagram to `out`.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let mut fields = [0; SMALL_BYTES];
        fields[..AT_VERSION].copy_from_slice(&MAGIC.to_be_bytes());
        fields[AT_VERSION] = VERSION;
        fields[AT_LANE] = match self.lane {
            Lane::Main => 0,
            Lane::Second => 1,
        };
        fields[AT_KIND] = self.kind.to_wire();
        fields[AT_ID..AT_NUMBER].copy_from_slice(&self.id.to_be_bytes());
        fields[AT_NUMBER..].copy_from_slice(&self.number.to_be_bytes());
        out.extend_from_slice(&fields);
        out.resize(out.len() + self.kind.bytes() - SMALL_BYTES, 0);
    }
}

/// Counts of one lane.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LaneTally {
    /// Packets of the stream, without duplicates.
    pub received: u64,
    /// Packets that arrived again.
    pub duplicates: u64,
    /// Packets that arrived after a later one.
    pub reordered: u64,
    /// Small packets.
    pub small: u64,
    /// Jumbo packets.
    pub jumbo: u64,
    /// Number of packets in the stream, known once its end has arrived.
    pub sent: Option<u64>,
    /// Total time without packets of the stream, in pauses of [`PAUSE`] or more.
    pub silent: Duration,
    highest: Option<u64>,
    last_at: Option<Instant>,
}

impl LaneTally {
    /// Ends a pause, at a packet of the stream or at the end of counting.
    fn pause_ends(&mut self, now: Instant) {
        if let Some(at) = self.last_at {
            let pause = now.saturating_since(at);
            if pause >= PAUSE {
                self.silent = self.silent + pause;
            }
        }
        self.last_at = Some(now);
    }
}

/// Counts the probes of one run.
#[derive(Debug)]
pub struct Tally {
    id: u64,
    lanes: PerLane<LaneTally>,
    seen: ReplayWindow,
}

impl Tally {
    /// A count of the run with this id; all other packets are ignored.
    pub fn new(id: u64) -> Self {
        Self {
            id,
            lanes: PerLane::default(),
            seen: ReplayWindow::new(),
        }
    }

    /// Counts a datagram that arrived on `lane`, when it is a probe of this run.
    pub fn take(&mut self, now: Instant, lane: Lane, datagram: &[u8]) {
        let Ok(probe) = Probe::parse(datagram) else {
            return;
        };
        if probe.id != self.id || probe.lane != lane {
            return;
        }
        let counted = self.lanes.get_mut(lane);
        match probe.kind {
            Kind::Small => counted.small = counted.small.saturating_add(1),
            Kind::Jumbo => counted.jumbo = counted.jumbo.saturating_add(1),
            Kind::End => counted.sent = Some(probe.number),
            // The window has 4096 packets. A packet that is overtaken by more counts as a
            // duplicate, but no network reorders that far.
            Kind::Stream => match self.seen.take(PacketNumber::new(lane, probe.number)) {
                Err(_) => counted.duplicates += 1,
                Ok(()) => {
                    counted.received += 1;
                    if counted
                        .highest
                        .is_some_and(|highest| probe.number < highest)
                    {
                        counted.reordered += 1;
                    }
                    counted.highest = counted.highest.max(Some(probe.number));
                    counted.pause_ends(now);
                }
            },
        }
    }

    /// Ends the count; the time since the last packet counts as a pause, too.
    pub fn finish(&mut self, now: Instant) {
        for lane in Lane::ALL {
            self.lanes.get_mut(lane).pause_ends(now);
        }
    }

    /// Counts of a lane so far.
    pub fn lane(&self, lane: Lane) -> &LaneTally {
        self.lanes.get(lane)
    }

    /// True when the end of both lanes has arrived.
    pub fn is_over(&self) -> bool {
        Lane::ALL.iter().all(|lane| self.lane(*lane).sent.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use multicast::{Beacon, Header, WireError};
    use proptest::prelude::*;

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(ms)
    }

    fn packet(lane: Lane, kind: Kind, number: u64) -> Vec<u8> {
        let mut out = Vec::new();
        Probe {
            id: 7,
            lane,
            kind,
            number,
        }
        .emit(&mut out);
        out
    }

    #[test]
    fn each_kind_has_its_length_and_comes_back() {
        for (kind, bytes) in [
            (Kind::Stream, 1448),
            (Kind::Small, 24),
            (Kind::Jumbo, 8972),
            (Kind::End, 24),
        ] {
            let bytes_out = packet(Lane::Second, kind, 99);
            assert_eq!(bytes_out.len(), bytes);
            let probe = Probe::parse(&bytes_out).unwrap();
            assert_eq!(
                (probe.id, probe.lane, probe.kind, probe.number),
                (7, Lane::Second, kind, 99)
            );
            assert!(Probe::parse(&bytes_out[..bytes - 1]).is_err());
        }
    }

    /// A probe must never reach a disk: for a session it is a foreign packet, and the other way
    /// round.
    #[test]
    fn a_session_does_not_know_probes_nor_probes_a_session() {
        for kind in [Kind::Stream, Kind::Small, Kind::Jumbo, Kind::End] {
            let probe = packet(Lane::Main, kind, 0);
            assert_eq!(Header::parse(&probe), Err(WireError::Magic(MAGIC)));
            assert!(Beacon::parse(&probe).is_err());
        }
        let beacon = Beacon {
            name: "c".into(),
            control_port: 1,
            bulk_port: 2,
            pin: [3; 32],
        };
        assert_eq!(Probe::parse(&beacon.emit()), Err(ProbeError::Foreign));
    }

    #[test]
    fn gaps_repeats_and_overtaking_are_counted() {
        let mut tally = Tally::new(7);
        for number in [0, 1, 3, 2, 3, 5] {
            tally.take(at(0), Lane::Main, &packet(Lane::Main, Kind::Stream, number));
        }
        tally.take(at(0), Lane::Second, &packet(Lane::Main, Kind::Stream, 9));
        tally.take(at(0), Lane::Second, &packet(Lane::Second, Kind::Stream, 0));
        tally.take(at(0), Lane::Main, &packet(Lane::Main, Kind::Small, 0));
        assert!(!tally.is_over());
        tally.take(at(0), Lane::Main, &packet(Lane::Main, Kind::End, 6));
        tally.take(at(0), Lane::Second, &packet(Lane::Second, Kind::End, 1));
        assert!(tally.is_over());
        let main = tally.lane(Lane::Main);
        assert_eq!(
            (
                main.received,
                main.duplicates,
                main.reordered,
                main.small,
                main.sent
            ),
            (5, 1, 1, 1, Some(6))
        );
        assert_eq!(tally.lane(Lane::Second).received, 1);
        let mut stranger = Tally::new(8);
        stranger.take(at(0), Lane::Main, &packet(Lane::Main, Kind::Stream, 0));
        assert_eq!(stranger.lane(Lane::Main), &LaneTally::default());
    }

    /// A switch forgets a member and learns it again: pauses are counted as time, not as packets.
    #[test]
    fn pauses_are_added_up() {
        let mut tally = Tally::new(7);
        for (number, ms) in [(0, 0), (1, 900), (2, 3_000), (3, 3_100)] {
            tally.take(
                at(ms),
                Lane::Main,
                &packet(Lane::Main, Kind::Stream, number),
            );
        }
        tally.finish(at(5_100));
        assert_eq!(
            tally.lane(Lane::Main).silent,
            Duration::from_millis(2_100 + 2_000)
        );
        assert_eq!(
            tally.lane(Lane::Second).silent,
            Duration::default(),
            "nothing came, nothing stopped"
        );
    }

    proptest! {
        #[test]
        fn any_bytes(bytes: Vec<u8>, place in 0usize..24, bits: u8) {
            let mut tally = Tally::new(7);
            tally.take(at(0), Lane::Main, &bytes);
            let mut bent = packet(Lane::Main, Kind::Stream, u64::MAX);
            bent[place] ^= bits;
            tally.take(at(0), Lane::Main, &bent);
        }
    }
}
