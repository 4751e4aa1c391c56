//! The packets of the session: parsing and emitting. `docs/protocol.md` shows the same bytes.
//!
//! ```text
//!  0       2   3   4           8                       16          20      22      24
//!  | magic |v|t| f |  session  |    packet number      |   block   | symbol|   k   | payload ...
//! ```
//!
//! Owns offsets, widths and the set of valid values. Never decrypts (that is [`crate::packet::seal`]) and
//! never decides anything. All numbers are in network byte order. No function panics, whatever the
//! bytes are. In a [`Header`] returned by [`Header::parse`] the symbol agrees with `k` and with the
//! kind of packet.

use crate::block::layout::{BlockKey, MAX_SOURCE_SYMBOLS, ObjectId, PARITY_SYMBOLS, SYMBOL_BYTES};
use thiserror::Error;

/// The first two bytes of every packet.
pub const MAGIC: u16 = 0xdca5;
/// Version of the packet layout.
pub const VERSION: u8 = 1;
/// Length of the header in bytes; the payload follows.
pub const HEADER_BYTES: usize = 24;
/// Length in bytes of the authentication tag, which follows the payload.
pub const TAG_BYTES: usize = 16;
/// Length of a full packet in bytes: the UDP payload.
pub const PACKET_BYTES: usize = HEADER_BYTES + SYMBOL_BYTES + TAG_BYTES;
/// Framing of the UDP payload on Ethernet in bytes: IP and UDP 28, Ethernet with its check
/// sequence, preamble and gap 38.
pub const FRAMING_BYTES: usize = 28 + 38;

const AT_MAGIC: usize = 0;
const AT_KIND: usize = AT_MAGIC + 2;
const AT_FLAGS: usize = AT_KIND + 1;
const AT_SESSION: usize = AT_FLAGS + 1;
const AT_NUMBER: usize = AT_SESSION + 4;
const AT_BLOCK: usize = AT_NUMBER + 8;
const AT_SYMBOL: usize = AT_BLOCK + 4;
const AT_K: usize = AT_SYMBOL + 2;
const AT_PAYLOAD: usize = AT_K + 2;
const _: () = assert!(AT_PAYLOAD == HEADER_BYTES);

const EPOCH_SHIFT: u32 = 6;
const LANE_BIT: u64 = 1 << 63;

/// The reason why bytes are not a valid packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WireError {
    /// The packet is shorter than a packet of its kind.
    #[error("packet of {got} bytes, {needed} needed")]
    Short {
        /// Length of the packet in bytes.
        got: usize,
        /// Shortest valid length in bytes.
        needed: usize,
    },
    /// The packet has another magic: it is not a diskcast packet.
    #[error("magic {0:#06x} is not ours")]
    Magic(u16),
    /// The version of the packet layout is unknown to this build.
    #[error("packet version {0}, this build knows {VERSION}")]
    Version(u8),
    /// The packet type is unknown to this build.
    #[error("packet type {0} is unknown")]
    Kind(u8),
    /// Symbol index and `k` cannot belong to a packet of this type.
    #[error("symbol {symbol} of a block of {k} cannot be in a packet of this type")]
    Symbol {
        /// Symbol index in the header.
        symbol: u16,
        /// `k` in the header.
        k: u16,
    },
    /// The beacon's name is too long, is not UTF-8 or contains control characters.
    #[error("beacon is malformed")]
    Beacon,
}

/// One of the two multicast groups of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// The main lane: source symbols of blocks sent for the first time, and their proactive parity.
    Main,
    /// The second lane: beacon, manifest, repair, and the slow lane (source symbols of blocks that
    /// were sent before).
    Second,
}

impl Lane {
    /// Both lanes, in a fixed order.
    pub const ALL: [Self; 2] = [Self::Main, Self::Second];
}

/// A value for each lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerLane<T> {
    /// The value of the main lane.
    pub main: T,
    /// The value of the second lane.
    pub second: T,
}

impl<T> PerLane<T> {
    /// The value of `lane`.
    pub fn get(&self, lane: Lane) -> &T {
        match lane {
            Lane::Main => &self.main,
            Lane::Second => &self.second,
        }
    }

    /// The value of `lane`, mutable.
    pub fn get_mut(&mut self, lane: Lane) -> &mut T {
        match lane {
            Lane::Main => &mut self.main,
            Lane::Second => &mut self.second,
        }
    }
}

/// The id of a session, random for each run of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u32);

/// The number of a packet among all packets of its lane, used for the nonce, the replay check and
/// the loss count. The lane is part of the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketNumber(u64);

impl PacketNumber {
    /// The number of packet `counter` of `lane`. Counters stay below 2^63.
    #[must_use]
    pub const fn new(lane: Lane, counter: u64) -> Self {
        let bit = match lane {
            Lane::Main => 0,
            Lane::Second => LANE_BIT,
        };
        Self(bit | (counter & !LANE_BIT))
    }

    /// The lane, which is the top bit.
    #[must_use]
    pub const fn lane(self) -> Lane {
        if self.0 & LANE_BIT == 0 {
            Lane::Main
        } else {
            Lane::Second
        }
    }

    /// The number of the packet `count` packets later in the same lane.
    #[must_use]
    pub const fn later(self, count: u64) -> Self {
        Self::new(self.lane(), self.counter().saturating_add(count))
    }

    /// The count within the lane, from 0.
    #[must_use]
    pub const fn counter(self) -> u64 {
        self.0 & !LANE_BIT
    }

    /// The eight bytes of the number on the wire, as an integer.
    #[must_use]
    pub const fn raw(self) -> u64 {
        self.0
    }
}

/// The type of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PacketKind {
    /// A source symbol of the image.
    Data,
    /// A parity symbol of the image.
    Parity,
    /// An announcement of the console's address, not encrypted: a [`Beacon`].
    Announce,
    /// A symbol of the manifest, source or parity.
    Manifest,
    /// A packet number without a symbol. It shows receivers that packets before it are lost.
    Heartbeat,
}

impl PacketKind {
    const fn to_wire(self) -> u8 {
        match self {
            Self::Data => 1,
            Self::Parity => 2,
            Self::Announce => 3,
            Self::Manifest => 4,
            Self::Heartbeat => 5,
        }
    }

    const fn from_wire(value: u8) -> Option<Self> {
        match value {
            1 => Some(Self::Data),
            2 => Some(Self::Parity),
            3 => Some(Self::Announce),
            4 => Some(Self::Manifest),
            5 => Some(Self::Heartbeat),
            _ => None,
        }
    }
}

/// Hints about a packet. None of them changes the meaning of its symbol; unknown bits are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u8);

impl Flags {
    /// No hint.
    pub const NONE: Self = Self(0);
    /// Parity that a receiver requested.
    pub const REPAIR: Self = Self(1);
    /// Parity sent before anyone requested it.
    pub const PROACTIVE: Self = Self(1 << 1);
    /// A block that was sent before, sent again for receivers that still lack it.
    pub const SLOW_LANE: Self = Self(1 << 2);
    /// The last symbol of this block for now: symbols missing after it are lost.
    pub const LAST_OF_BLOCK: Self = Self(1 << 3);
    /// No source symbol will follow unless a receiver requests it.
    pub const END_OF_PASS: Self = Self(1 << 4);

    const MASK: u8 = (1 << EPOCH_SHIFT) - 1;

    /// The union of these hints and `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// True if all hints of `other` are set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// The key epoch, two bits: the number of the key within a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u8);

impl Epoch {
    /// The epoch `value` modulo 4.
    #[must_use]
    pub const fn new(value: u8) -> Self {
        Self(value & 3)
    }

    /// The epoch as a number, 0 to 3.
    #[must_use]
    pub const fn value(self) -> u8 {
        self.0
    }
}

/// The header of a packet, 24 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Type of the packet.
    pub kind: PacketKind,
    /// Hints.
    pub flags: Flags,
    /// Epoch of the key that seals the packet.
    pub epoch: Epoch,
    /// The session of the packet.
    pub session: SessionId,
    /// Lane and number of the packet.
    pub number: PacketNumber,
    /// Index of the block in the object; in a heartbeat, the number of the pass.
    pub block: u32,
    /// Index of the symbol: a source symbol below `k`, a parity symbol from `k` on.
    pub symbol: u16,
    /// Number of source symbols of the block; 0 if the packet carries no symbol.
    pub k: u16,
}

impl Header {
    /// Reads and checks the header of a packet.
    ///
    /// # Errors
    /// [`WireError`] says what is wrong; [`WireError::Magic`] means that it is not a diskcast
    /// packet.
    pub fn parse(packet: &[u8]) -> Result<Self, WireError> {
        let header: &[u8; HEADER_BYTES] = packet.first_chunk().ok_or(WireError::Short {
            got: packet.len(),
            needed: HEADER_BYTES,
        })?;
        let magic = u16::from_be_bytes(field(header, AT_MAGIC));
        if magic != MAGIC {
            return Err(WireError::Magic(magic));
        }
        let [kind] = field(header, AT_KIND);
        if kind >> 4 != VERSION {
            return Err(WireError::Version(kind >> 4));
        }
        let kind = PacketKind::from_wire(kind & 15).ok_or(WireError::Kind(kind & 15))?;
        let [flags] = field(header, AT_FLAGS);
        let parsed = Self {
            kind,
            flags: Flags(flags & Flags::MASK),
            epoch: Epoch(flags >> EPOCH_SHIFT),
            session: SessionId(u32::from_be_bytes(field(header, AT_SESSION))),
            number: PacketNumber(u64::from_be_bytes(field(header, AT_NUMBER))),
            block: u32::from_be_bytes(field(header, AT_BLOCK)),
            symbol: u16::from_be_bytes(field(header, AT_SYMBOL)),
            k: u16::from_be_bytes(field(header, AT_K)),
        };
        if parsed.symbol_fits() {
            Ok(parsed)
        } else {
            Err(WireError::Symbol {
                symbol: parsed.symbol,
                k: parsed.k,
            })
        }
    }

    /// The header as bytes.
    #[must_use]
    pub fn emit(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        put(&mut out, AT_MAGIC, MAGIC.to_be_bytes());
        put(&mut out, AT_KIND, [VERSION << 4 | self.kind.to_wire()]);
        put(
            &mut out,
            AT_FLAGS,
            [self.epoch.0 << EPOCH_SHIFT | self.flags.0 & Flags::MASK],
        );
        put(&mut out, AT_SESSION, self.session.0.to_be_bytes());
        put(&mut out, AT_NUMBER, self.number.0.to_be_bytes());
        put(&mut out, AT_BLOCK, self.block.to_be_bytes());
        put(&mut out, AT_SYMBOL, self.symbol.to_be_bytes());
        put(&mut out, AT_K, self.k.to_be_bytes());
        out
    }

    /// The block whose symbol this packet carries; `None` if it carries none.
    #[must_use]
    pub fn block_key(&self) -> Option<BlockKey> {
        let object = match self.kind {
            PacketKind::Data | PacketKind::Parity => ObjectId::Image,
            PacketKind::Manifest => ObjectId::Manifest,
            PacketKind::Announce | PacketKind::Heartbeat => return None,
        };
        Some(BlockKey {
            object,
            index: self.block,
        })
    }

    /// True if the packet carries parity.
    #[must_use]
    pub fn is_parity(&self) -> bool {
        self.k > 0 && self.symbol >= self.k
    }

    fn symbol_fits(&self) -> bool {
        let k_fits = (1..=MAX_SOURCE_SYMBOLS).contains(&self.k);
        match self.kind {
            PacketKind::Data => k_fits && self.symbol < self.k,
            PacketKind::Parity => {
                k_fits && self.symbol >= self.k && self.symbol - self.k < PARITY_SYMBOLS
            }
            PacketKind::Manifest => {
                k_fits && u32::from(self.symbol) < u32::from(self.k) + u32::from(PARITY_SYMBOLS)
            }
            PacketKind::Announce | PacketKind::Heartbeat => self.k == 0 && self.symbol == 0,
        }
    }
}

/// The announcement of a console, for agents that are not configured.
///
/// It is neither encrypted nor authenticated, so it is only an address hint. The agent trusts the
/// console at that address only after the TLS handshake matched a given pin, or by the site's
/// enrolment rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beacon {
    /// The console's name for people, at most [`Beacon::MAX_NAME_BYTES`] bytes.
    pub name: String,
    /// TCP port of the control channel.
    pub control_port: u16,
    /// TCP port of the bulk channel.
    pub bulk_port: u16,
    /// SHA-256 of the console's public key, in the form shown to the technician.
    pub pin: [u8; 32],
}

const BEACON_AT_BULK: usize = 2;
const BEACON_AT_PIN: usize = BEACON_AT_BULK + 2;
const BEACON_AT_NAME_LEN: usize = BEACON_AT_PIN + 32;
const BEACON_AT_NAME: usize = BEACON_AT_NAME_LEN + 1;

impl Beacon {
    /// Longest console name, in bytes of UTF-8.
    pub const MAX_NAME_BYTES: usize = 64;

    /// The beacon as a packet. A name that is too long is cut at a character boundary.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let header = Header {
            kind: PacketKind::Announce,
            flags: Flags::NONE,
            epoch: Epoch::default(),
            session: SessionId(0),
            number: PacketNumber::new(Lane::Second, 0),
            block: 0,
            symbol: 0,
            k: 0,
        };
        let mut end = self.name.len().min(Self::MAX_NAME_BYTES);
        while !self.name.is_char_boundary(end) {
            end -= 1;
        }
        let name = self.name.get(..end).unwrap_or_default();
        let mut out = header.emit().to_vec();
        out.extend(self.control_port.to_be_bytes());
        out.extend(self.bulk_port.to_be_bytes());
        out.extend(self.pin);
        out.push(u8::try_from(name.len()).unwrap_or_default());
        out.extend(name.as_bytes());
        out
    }

    /// Reads a whole packet as a beacon. Bytes after the name come from a newer console and are
    /// ignored.
    ///
    /// # Errors
    /// [`WireError`] says what is wrong; [`WireError::Kind`] means that it is a packet of another
    /// type.
    pub fn parse(packet: &[u8]) -> Result<Self, WireError> {
        let header = Header::parse(packet)?;
        if header.kind != PacketKind::Announce {
            return Err(WireError::Kind(header.kind.to_wire()));
        }
        let payload = packet.get(HEADER_BYTES..).unwrap_or_default();
        let fixed: &[u8; BEACON_AT_NAME] = payload.first_chunk().ok_or(WireError::Short {
            got: packet.len(),
            needed: HEADER_BYTES + BEACON_AT_NAME,
        })?;
        let [name_len] = field(fixed, BEACON_AT_NAME_LEN);
        let name_len = usize::from(name_len);
        if name_len > Self::MAX_NAME_BYTES {
            return Err(WireError::Beacon);
        }
        let name = payload
            .get(BEACON_AT_NAME..BEACON_AT_NAME + name_len)
            .ok_or(WireError::Short {
                got: packet.len(),
                needed: HEADER_BYTES + BEACON_AT_NAME + name_len,
            })?;
        let name = std::str::from_utf8(name).map_err(|_| WireError::Beacon)?;
        // The name is shown on a terminal, so escape sequences are refused.
        if name.chars().any(char::is_control) {
            return Err(WireError::Beacon);
        }
        Ok(Self {
            name: name.to_owned(),
            control_port: u16::from_be_bytes(field(fixed, 0)),
            bulk_port: u16::from_be_bytes(field(fixed, BEACON_AT_BULK)),
            pin: field(fixed, BEACON_AT_PIN),
        })
    }
}

/// Returns `N` bytes at a constant offset. At every call offset and width are constants within the
/// constant length, so all bytes are copied.
fn field<const N: usize, const L: usize>(bytes: &[u8; L], at: usize) -> [u8; N] {
    let mut out = [0; N];
    if let Some(from) = bytes.get(at..at + N) {
        out.copy_from_slice(from);
    }
    out
}

fn put<const N: usize>(out: &mut [u8; HEADER_BYTES], at: usize, bytes: [u8; N]) {
    if let Some(to) = out.get_mut(at..at + N) {
        to.copy_from_slice(&bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> Header {
        Header {
            kind: PacketKind::Parity,
            flags: Flags::REPAIR.with(Flags::LAST_OF_BLOCK),
            epoch: Epoch::new(2),
            session: SessionId(0x0102_0304),
            number: PacketNumber::new(Lane::Second, 0x0506),
            block: 0x0708_090a,
            symbol: 0x02f0,
            k: 0x02e9,
        }
    }

    #[test]
    fn golden_header() {
        let expected = [
            0xdc, 0xa5, 0x12, 0x89, 1, 2, 3, 4, 0x80, 0, 0, 0, 0, 0, 5, 6, 7, 8, 9, 10, 2, 0xf0, 2,
            0xe9,
        ];
        assert_eq!(header().emit(), expected);
        assert_eq!(Header::parse(&expected), Ok(header()));
    }

    #[test]
    fn nonsense_is_refused_with_its_reason() {
        let good = header().emit();
        assert!(matches!(
            Header::parse(&good[..23]),
            Err(WireError::Short { got: 23, .. })
        ));
        let with = |at: usize, value: u8| {
            let mut bad = good;
            bad[at] = value;
            Header::parse(&bad)
        };
        assert_eq!(with(0, 0), Err(WireError::Magic(0x00a5)));
        assert_eq!(with(2, 0x22), Err(WireError::Version(2)));
        assert_eq!(with(2, 0x1f), Err(WireError::Kind(15)));
        assert!(matches!(with(22, 3), Err(WireError::Symbol { .. })));
        assert!(matches!(with(2, 0x11), Err(WireError::Symbol { .. })));
        assert!(matches!(with(2, 0x15), Err(WireError::Symbol { .. })));
    }

    #[test]
    fn beacon_comes_back_and_newer_bytes_are_left_unread() {
        let beacon = Beacon {
            name: "Raum 3".into(),
            control_port: 5001,
            bulk_port: 5003,
            pin: [7; 32],
        };
        let mut packet = beacon.emit();
        assert_eq!(Beacon::parse(&packet), Ok(beacon.clone()));
        for cut in 0..packet.len() {
            assert!(Beacon::parse(&packet[..cut]).is_err());
        }
        packet.extend([1, 2, 3]);
        assert_eq!(Beacon::parse(&packet), Ok(beacon));
    }

    #[test]
    fn a_beacon_name_cannot_move_the_cursor() {
        let packet = Beacon {
            name: "a\u{1b}[2Jb".into(),
            control_port: 1,
            bulk_port: 2,
            pin: [0; 32],
        }
        .emit();
        assert_eq!(Beacon::parse(&packet), Err(WireError::Beacon));
    }

    #[test]
    fn a_long_beacon_name_is_cut_at_a_character() {
        let packet = Beacon {
            name: "ü".repeat(40),
            control_port: 1,
            bulk_port: 2,
            pin: [0; 32],
        }
        .emit();
        assert_eq!(Beacon::parse(&packet).unwrap().name, "ü".repeat(32));
    }

    proptest! {
        #[test]
        fn any_bytes_parse_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..128)) {
            let _ = Header::parse(&bytes);
            let _ = Beacon::parse(&bytes);
        }

        #[test]
        fn what_parses_is_what_was_emitted(mut bytes in any::<[u8; HEADER_BYTES]>()) {
            bytes[..2].copy_from_slice(&MAGIC.to_be_bytes());
            bytes[2] = VERSION << 4 | bytes[2] & 7;
            if let Ok(header) = Header::parse(&bytes) {
                prop_assert_eq!(header.emit(), bytes);
            }
        }
    }
}
