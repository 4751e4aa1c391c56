//! Every packet of the session, as parse and emit. `docs/protocol.md` shows the same bytes.
//!
//! ```text
//!  0       2   3   4           8                       16          20      22      24
//!  | magic |v|t| f |  session  |    packet number      |   block   | symbol|   k   | payload ...
//! ```
//!
//! Owns: offsets, widths, what values are possible. Never decrypts ([`crate::seal`] does) and
//! never decides anything. Network byte order throughout. No call here panics, whatever the
//! bytes are. A [`Header`] that [`Header::parse`] returned holds no nonsense: its symbol
//! agrees with its `k` and its kind.

use crate::layout::{BlockKey, MAX_SOURCE_SYMBOLS, ObjectId, PARITY_SYMBOLS, SYMBOL_BYTES};
use thiserror::Error;

/// First bytes of every packet.
pub const MAGIC: u16 = 0xdca5;
/// Version of the packet layout.
pub const VERSION: u8 = 1;
/// Bytes before the payload.
pub const HEADER_BYTES: usize = 24;
/// Bytes of the authentication tag after the payload.
pub const TAG_BYTES: usize = 16;
/// Bytes of a full packet: the UDP payload.
pub const PACKET_BYTES: usize = HEADER_BYTES + SYMBOL_BYTES + TAG_BYTES;
/// Bytes around the UDP payload on Ethernet: IP and UDP 28, Ethernet with its check
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

/// Why bytes are not a packet of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WireError {
    /// Fewer bytes than a packet of that kind has.
    #[error("packet of {got} bytes, {needed} needed")]
    Short {
        /// Bytes there.
        got: usize,
        /// Bytes needed.
        needed: usize,
    },
    /// Somebody else's packet.
    #[error("magic {0:#06x} is not ours")]
    Magic(u16),
    /// A packet layout this build does not know.
    #[error("packet version {0}, this build knows {VERSION}")]
    Version(u8),
    /// A type this build does not know.
    #[error("packet type {0} is unknown")]
    Kind(u8),
    /// A block, symbol and k that cannot belong together.
    #[error("symbol {symbol} of a block of {k} cannot be in a packet of this type")]
    Symbol {
        /// Symbol index claimed.
        symbol: u16,
        /// Source symbols claimed.
        k: u16,
    },
    /// A beacon whose fields do not fit, or a console name that is not plain text.
    #[error("beacon is malformed")]
    Beacon,
}

/// Which of the two groups a packet travels in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Source symbols of the image, and proactive parity.
    Main,
    /// Beacon, manifest and on-demand parity.
    Second,
}

impl Lane {
    /// Both lanes, in a fixed order.
    pub const ALL: [Self; 2] = [Self::Main, Self::Second];
}

/// A value for each lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerLane<T> {
    /// The main lane's.
    pub main: T,
    /// The second lane's.
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

    /// The value of `lane`, to change it.
    pub fn get_mut(&mut self, lane: Lane) -> &mut T {
        match lane {
            Lane::Main => &mut self.main,
            Lane::Second => &mut self.second,
        }
    }
}

/// Which session a packet belongs to: random for each run of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u32);

/// A packet's place among all packets of its lane: nonce, replay check and loss meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketNumber(u64);

impl PacketNumber {
    /// The `counter`th packet of `lane`; counters stay below 2^63.
    #[must_use]
    pub const fn new(lane: Lane, counter: u64) -> Self {
        let bit = match lane {
            Lane::Main => 0,
            Lane::Second => LANE_BIT,
        };
        Self(bit | (counter & !LANE_BIT))
    }

    /// The lane: the top bit.
    #[must_use]
    pub const fn lane(self) -> Lane {
        if self.0 & LANE_BIT == 0 {
            Lane::Main
        } else {
            Lane::Second
        }
    }

    /// The number `count` packets later in the lane.
    #[must_use]
    pub const fn later(self, count: u64) -> Self {
        Self::new(self.lane(), self.counter().saturating_add(count))
    }

    /// The count within the lane, from 0.
    #[must_use]
    pub const fn counter(self) -> u64 {
        self.0 & !LANE_BIT
    }

    /// The eight bytes on the wire, as a number.
    #[must_use]
    pub const fn raw(self) -> u64 {
        self.0
    }
}

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PacketKind {
    /// A source symbol of the image.
    Data,
    /// A parity symbol of the image.
    Parity,
    /// The console's address hint, in the clear.
    Announce,
    /// A symbol of the manifest, source or parity.
    Manifest,
    /// Only a number, so that a receiver can tell that the packets before it are lost.
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

/// Hints about a packet; none changes what its symbol means. Unknown bits are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u8);

impl Flags {
    /// No hint.
    pub const NONE: Self = Self(0);
    /// Parity that somebody asked for.
    pub const REPAIR: Self = Self(1);
    /// Parity sent before anybody asked.
    pub const PROACTIVE: Self = Self(1 << 1);
    /// Source of a block that went out before, for those who lack it still.
    pub const SLOW_LANE: Self = Self(1 << 2);
    /// The last symbol of this block for now: what is missing after it is lost.
    pub const LAST_OF_BLOCK: Self = Self(1 << 3);
    /// No source symbol will follow unless somebody asks.
    pub const END_OF_PASS: Self = Self(1 << 4);

    const MASK: u8 = (1 << EPOCH_SHIFT) - 1;

    /// These hints and `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all hints of `other` are among these.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Key epoch, two bits: a session changes keys when a receiver is put out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u8);

impl Epoch {
    /// Epoch `value` modulo 4.
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

/// The 24 bytes before the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the packet is.
    pub kind: PacketKind,
    /// Hints.
    pub flags: Flags,
    /// Which key it is sealed with.
    pub epoch: Epoch,
    /// Which session it belongs to.
    pub session: SessionId,
    /// Lane and count within it.
    pub number: PacketNumber,
    /// Block of the object; of a heartbeat, the pass.
    pub block: u32,
    /// Below `k` a source symbol, from `k` on parity.
    pub symbol: u16,
    /// Source symbols of the block; 0 when the packet carries no symbol.
    pub k: u16,
}

impl Header {
    /// Reads and checks the header of a packet.
    ///
    /// # Errors
    /// [`WireError`] says what is wrong with it; [`WireError::Magic`] means not ours.
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

    /// The header's bytes.
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

    /// The block whose symbol this packet carries, if it carries one.
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

    /// Whether the packet carries parity.
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

/// Where a console is, for agents that know nothing yet.
///
/// In the clear and unauthenticated: only an address hint. The agent trusts the console it
/// finds there only after the TLS handshake matched a pin it was given, or by the site's
/// enrolment rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beacon {
    /// The console's name for people, at most [`Beacon::MAX_NAME_BYTES`].
    pub name: String,
    /// TCP port of the control channel.
    pub control_port: u16,
    /// TCP port of the bulk channel.
    pub bulk_port: u16,
    /// SHA-256 of the console's public key, as the technician sees it.
    pub pin: [u8; 32],
}

const BEACON_AT_BULK: usize = 2;
const BEACON_AT_PIN: usize = BEACON_AT_BULK + 2;
const BEACON_AT_NAME_LEN: usize = BEACON_AT_PIN + 32;
const BEACON_AT_NAME: usize = BEACON_AT_NAME_LEN + 1;

impl Beacon {
    /// Longest console name, in bytes of UTF-8.
    pub const MAX_NAME_BYTES: usize = 64;

    /// The packet. A name too long is cut at a character.
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

    /// Reads a whole packet as a beacon. Bytes after the name are a newer console's and left
    /// unread.
    ///
    /// # Errors
    /// [`WireError`] says why it is none; [`WireError::Kind`] when it is another packet.
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
        // The name goes to a terminal: no escape sequences from strangers.
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

/// `N` bytes at a constant offset. Every caller's offset and width are constants inside the
/// constant length, so the copy is always whole.
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
