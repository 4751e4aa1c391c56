//! The probe of `diskcast doctor`: numbered packets that show what multicast brings to a machine.
//!
//! ```text
//!  0        2     3      4      5     8      16       24
//!  | dc a7  | ver | lane | kind | 0.. | id   | number | zeroes up to the length of its kind ...
//! ```
//!
//! Owns: offsets, lengths, and counting. Pure: no socket, no clock; no call panics, whatever the bytes are. What always holds: a probe is
//! never taken for a packet of a session, whose magic is another (`dc a5`), nor a session's packet for a probe; nothing in
//! a probe is written anywhere. The id is random and travels in the target's TLS connection, so that a stranger's packets are
//! not counted by accident.

use multicast::wire::PerLane;
use multicast::{Duration, Instant, Lane, PACKET_BYTES, PacketNumber, ReplayWindow};
use thiserror::Error;

/// First bytes of every probe.
pub const MAGIC: u16 = 0xdca7;
/// Version of the layout.
pub const VERSION: u8 = 1;
/// Bytes of the fields, and of a whole small probe.
pub const SMALL_BYTES: usize = 24;
/// As large as a full packet of a session: 1476 bytes of IP.
pub const FULL_BYTES: usize = PACKET_BYTES;
/// 9000 bytes of IP.
pub const JUMBO_BYTES: usize = 9000 - 28;

/// A stream that rests so long was stopped: losses of a wire are shorter.
pub const PAUSE: Duration = Duration::from_secs(1);

const AT_VERSION: usize = 2;
const AT_LANE: usize = AT_VERSION + 1;
const AT_KIND: usize = AT_LANE + 1;
const AT_ID: usize = 8;
const AT_NUMBER: usize = AT_ID + 8;
const _: () = assert!(AT_NUMBER + 8 == SMALL_BYTES);

/// Why bytes are no probe.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// Somebody else's packet, or a newer console's.
    #[error("no probe of this version")]
    Foreign,
    /// A lane or kind that does not exist, or a length that is not its kind's.
    #[error("probe is malformed")]
    Malformed,
}

/// What a probe is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// One of the stream, as large as a session's packets.
    Stream,
    /// As small as can be: passes where full ones are too large.
    Small,
    /// Passes only where everything between carries jumbo frames.
    Jumbo,
    /// Its number is how many the stream had.
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

    /// Bytes of such a probe.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Stream => FULL_BYTES,
            Self::Small | Self::End => SMALL_BYTES,
            Self::Jumbo => JUMBO_BYTES,
        }
    }
}

/// One probe.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Probe {
    /// Which run of doctor.
    pub id: u64,
    /// Group it was sent to.
    pub lane: Lane,
    /// What for.
    pub kind: Kind,
    /// Counts up from 0 within lane and kind.
    pub number: u64,
}

impl Probe {
    /// Reads a datagram.
    ///
    /// # Errors
    /// [`ProbeError`] says what is wrong with it.
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

/// What came of one lane.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LaneTally {
    /// Packets of the stream, each once.
    pub received: u64,
    /// Packets that came again.
    pub duplicates: u64,
    /// Packets that a later one overtook.
    pub reordered: u64,
    /// Small ones.
    pub small: u64,
    /// Jumbo ones.
    pub jumbo: u64,
    /// How long the stream was, once its end has come.
    pub sent: Option<u64>,
    /// Time without any packet of the stream, in pauses of [`PAUSE`] or more.
    pub silent: Duration,
    highest: Option<u64>,
    last_at: Option<Instant>,
}

impl LaneTally {
    /// Something of the stream came, or it is over.
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
    /// Of the run with this id; everything else is ignored.
    pub fn new(id: u64) -> Self {
        Self {
            id,
            lanes: PerLane::default(),
            seen: ReplayWindow::new(),
        }
    }

    /// Counts a datagram that came in on `lane`, when it is a probe of this run.
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
            // The window is 4096 packets: what is overtaken by more counts as a duplicate, and no network reorders so far.
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

    /// Nothing more is counted: the time since the last packet was silence, too.
    pub fn finish(&mut self, now: Instant) {
        for lane in Lane::ALL {
            self.lanes.get_mut(lane).pause_ends(now);
        }
    }

    /// What came of a lane so far.
    pub fn lane(&self, lane: Lane) -> &LaneTally {
        self.lanes.get(lane)
    }

    /// Both ends have come.
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

    /// A probe must never reach a disk: to a session it is somebody else's packet, and the other way round.
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

    /// A switch that forgets a member and is reminded: pauses are time, not packets.
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
