//! Encryption of packets: authenticated encryption with the header as associated data.
//!
//! Owns the session's keys. Never interprets a symbol.
//!
//! - key  = BLAKE3 derive_key("diskcast multicast v1 key",  secret || session || epoch || suite)
//! - salt = the same input under "diskcast multicast v1 salt", first 4 bytes
//! - nonce = salt (4) || packet number (8), whose top bit is the lane
//!
//! The session is 4 bytes big endian, epoch and suite are one byte each. A number is never sealed
//! twice ([`Sealer`] refuses it), so a nonce is never used twice. Magic, version and session are
//! checked before any cryptography, so foreign packets cost almost nothing. All members of the
//! group share the group key: a packet that opens came from *some* member, and only the chunk
//! hashes prove that the bytes belong to the image.

use crate::block::layout::SYMBOL_BYTES;
use crate::packet::wire::{
    Epoch, HEADER_BYTES, Header, PACKET_BYTES, PacketKind, PacketNumber, PerLane, SessionId,
    TAG_BYTES, WireError,
};
use ring::aead::{AES_128_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop};

const KEY_CONTEXT: &str = "diskcast multicast v1 key";
const SALT_CONTEXT: &str = "diskcast multicast v1 salt";
const SALT_BYTES: usize = 4;
const AES_KEY_BYTES: usize = 16;

/// Largest number of packets of a lane under one key: 2^36 packets of 91 AES blocks are far below
/// the birthday bound of GCM, and carry 97 TB.
pub const MAX_KEY_PACKETS: u64 = 1 << 36;

/// The session's secret, made by the console and sent to each agent over its TLS connection.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SessionSecret([u8; 32]);

impl SessionSecret {
    /// Makes a secret from 32 random bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The secret's bytes, to be sent over a TLS connection.
    #[must_use]
    pub const fn to_bytes(&self) -> [u8; 32] {
        self.0
    }
}

impl std::fmt::Debug for SessionSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionSecret(..)")
    }
}

/// The cipher that seals packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Suite {
    /// AES-128-GCM, used if every agent has AES instructions: 225 ns for a packet.
    #[default]
    Aes128Gcm,
    /// ChaCha20-Poly1305, used if an agent has no AES instructions.
    ChaCha20Poly1305,
}

impl Suite {
    const fn to_byte(self) -> u8 {
        match self {
            Self::Aes128Gcm => 1,
            Self::ChaCha20Poly1305 => 2,
        }
    }
}

/// The reason why a packet cannot be sealed. Each is a mistake of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SealError {
    /// The payload is larger than a packet can carry.
    #[error("payload of {0} bytes, at most {SYMBOL_BYTES} fit")]
    Payload(usize),
    /// The header has another session or key epoch than the key.
    #[error("header of another session or epoch")]
    Session,
    /// The packet number is not above the last one of its lane, so its nonce could be used twice.
    #[error("packet number {0} is not above the last one sealed")]
    Number(u64),
    /// The key has sealed as many packets as it may.
    #[error("key sealed {MAX_KEY_PACKETS} packets; the session needs a new epoch")]
    KeySpent,
    /// The cryptography library returned an error.
    #[error("cipher refused")]
    Cipher,
}

/// The reason why a packet cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The bytes are not a diskcast packet, or its header is damaged.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The packet belongs to another session on the same group; this is normal.
    #[error("packet of session {0:#010x}")]
    OtherSession(u32),
    /// The packet was sealed with a key of another epoch.
    #[error("packet of key epoch {0}")]
    Epoch(u8),
    /// The packet is an announcement. It is not encrypted; [`crate::packet::wire::Beacon::parse`] reads it.
    #[error("announcement, not sealed")]
    Announce,
    /// A packet of this kind cannot have this length.
    #[error("packet of {0} bytes")]
    Length(usize),
    /// The authentication tag does not match: the packet is damaged or forged.
    #[error("seal of packet {0} does not match")]
    Forged(u64),
}

/// The console's side: seals packets.
pub struct Sealer {
    keys: Keys,
    /// One past the last counter sealed, for each lane.
    next: PerLane<u64>,
}

/// The agent's side: opens packets.
pub struct Opener {
    keys: Keys,
}

struct Keys {
    key: LessSafeKey,
    salt: [u8; SALT_BYTES],
    session: SessionId,
    epoch: Epoch,
}

impl Sealer {
    /// The sealer for one session and key epoch.
    ///
    /// # Errors
    /// [`SealError::Cipher`] if the cryptography library refuses the key, which is not expected.
    pub fn new(
        secret: &SessionSecret,
        suite: Suite,
        session: SessionId,
        epoch: Epoch,
    ) -> Result<Self, SealError> {
        Ok(Self {
            keys: Keys::derive(secret, suite, session, epoch).ok_or(SealError::Cipher)?,
            next: PerLane::default(),
        })
    }

    /// Seals a packet into `out` and returns its length in bytes: 1448 with a full symbol.
    ///
    /// # Errors
    /// [`SealError`]; `out` must not be sent then.
    pub fn seal(
        &mut self,
        header: &Header,
        payload: &[u8],
        out: &mut [u8; PACKET_BYTES],
    ) -> Result<usize, SealError> {
        if header.session != self.keys.session || header.epoch != self.keys.epoch {
            return Err(SealError::Session);
        }
        if payload.len() > SYMBOL_BYTES {
            return Err(SealError::Payload(payload.len()));
        }
        let counter = header.number.counter();
        let next = self.next.get_mut(header.number.lane());
        if counter < *next {
            return Err(SealError::Number(counter));
        }
        if counter >= MAX_KEY_PACKETS {
            return Err(SealError::KeySpent);
        }
        *next = counter + 1;

        let end = HEADER_BYTES + payload.len();
        let head = header.emit();
        let (out_head, body) = out.split_at_mut(HEADER_BYTES);
        out_head.copy_from_slice(&head);
        let Some((body, rest)) = body.split_at_mut_checked(payload.len()) else {
            return Err(SealError::Payload(payload.len()));
        };
        body.copy_from_slice(payload);
        let tag = self
            .keys
            .key
            .seal_in_place_separate_tag(self.keys.nonce(header.number), Aad::from(head), body)
            .map_err(|_| SealError::Cipher)?;
        match rest.first_chunk_mut::<TAG_BYTES>() {
            Some(at) if tag.as_ref().len() == TAG_BYTES => at.copy_from_slice(tag.as_ref()),
            _ => return Err(SealError::Cipher),
        }
        Ok(end + TAG_BYTES)
    }
}

impl Opener {
    /// The opener for one session and key epoch.
    ///
    /// # Errors
    /// [`SealError::Cipher`] if the cryptography library refuses the key, which is not expected.
    pub fn new(
        secret: &SessionSecret,
        suite: Suite,
        session: SessionId,
        epoch: Epoch,
    ) -> Result<Self, SealError> {
        Ok(Self {
            keys: Keys::derive(secret, suite, session, epoch).ok_or(SealError::Cipher)?,
        })
    }

    /// Opens a packet in place and returns its header and payload.
    ///
    /// A packet with a symbol is exactly 1448 bytes long; a heartbeat may be shorter. Replays are
    /// not detected here; [`crate::ReplayWindow`] does that.
    ///
    /// # Errors
    /// [`OpenError`] if the packet is foreign, belongs to another session or epoch, or is not
    /// genuine. The contents of `packet` may be destroyed then.
    pub fn open<'a>(&self, packet: &'a mut [u8]) -> Result<(Header, &'a [u8]), OpenError> {
        let header = Header::parse(packet)?;
        if header.kind == PacketKind::Announce {
            return Err(OpenError::Announce);
        }
        if header.session != self.keys.session {
            return Err(OpenError::OtherSession(header.session.0));
        }
        if header.epoch != self.keys.epoch {
            return Err(OpenError::Epoch(header.epoch.value()));
        }
        let len = packet.len();
        let length_fits = match header.kind {
            PacketKind::Heartbeat => (HEADER_BYTES + TAG_BYTES..=PACKET_BYTES).contains(&len),
            _ => len == PACKET_BYTES,
        };
        if !length_fits {
            return Err(OpenError::Length(len));
        }
        let (head, body) = packet
            .split_at_mut_checked(HEADER_BYTES)
            .ok_or(OpenError::Length(len))?;
        let payload = self
            .keys
            .key
            .open_in_place(self.keys.nonce(header.number), Aad::from(head), body)
            .map_err(|_| OpenError::Forged(header.number.raw()))?;
        Ok((header, payload))
    }
}

impl Keys {
    fn derive(
        secret: &SessionSecret,
        suite: Suite,
        session: SessionId,
        epoch: Epoch,
    ) -> Option<Self> {
        let mut input = [0; 38];
        let (at_secret, rest) = input.split_at_mut(32);
        at_secret.copy_from_slice(&secret.0);
        let (at_session, rest) = rest.split_at_mut(4);
        at_session.copy_from_slice(&session.0.to_be_bytes());
        rest.copy_from_slice(&[epoch.value(), suite.to_byte()]);

        let mut key = blake3::derive_key(KEY_CONTEXT, &input);
        let mut salt = blake3::derive_key(SALT_CONTEXT, &input);
        let unbound = match suite {
            Suite::Aes128Gcm => UnboundKey::new(&AES_128_GCM, key.first_chunk::<AES_KEY_BYTES>()?),
            Suite::ChaCha20Poly1305 => UnboundKey::new(&CHACHA20_POLY1305, &key),
        };
        let keys = Self {
            key: LessSafeKey::new(unbound.ok()?),
            salt: *salt.first_chunk()?,
            session,
            epoch,
        };
        input.zeroize();
        key.zeroize();
        salt.zeroize();
        Some(keys)
    }

    fn nonce(&self, number: PacketNumber) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        let (salt, counter) = nonce.split_at_mut(SALT_BYTES);
        salt.copy_from_slice(&self.salt);
        counter.copy_from_slice(&number.raw().to_be_bytes());
        Nonce::assume_unique_for_key(nonce)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::wire::{Flags, Lane};

    const SESSION: SessionId = SessionId(77);

    fn pair(suite: Suite) -> (Sealer, Opener) {
        let secret = SessionSecret::from_bytes([9; 32]);
        (
            Sealer::new(&secret, suite, SESSION, Epoch::default()).unwrap(),
            Opener::new(&secret, suite, SESSION, Epoch::default()).unwrap(),
        )
    }

    fn header(counter: u64) -> Header {
        Header {
            kind: PacketKind::Data,
            flags: Flags::NONE,
            epoch: Epoch::default(),
            session: SESSION,
            number: PacketNumber::new(Lane::Main, counter),
            block: 3,
            symbol: 4,
            k: 5,
        }
    }

    #[test]
    fn opens_what_was_sealed() {
        for suite in [Suite::Aes128Gcm, Suite::ChaCha20Poly1305] {
            let (mut sealer, opener) = pair(suite);
            let mut packet = [0; PACKET_BYTES];
            let payload = [0x5a; SYMBOL_BYTES];
            assert_eq!(sealer.seal(&header(0), &payload, &mut packet), Ok(1448));
            assert_ne!(packet[HEADER_BYTES..][..SYMBOL_BYTES], payload);
            let (parsed, opened) = opener.open(&mut packet).unwrap();
            assert_eq!(parsed, header(0));
            assert_eq!(opened, payload);
        }
    }

    #[test]
    fn golden_packet() {
        // This test fails if key schedule, nonce or associated data change.
        let expected = [
            (
                Suite::Aes128Gcm,
                include_str!("../../tests/golden/seal-aes.txt"),
            ),
            (
                Suite::ChaCha20Poly1305,
                include_str!("../../tests/golden/seal-chacha.txt"),
            ),
        ];
        for (suite, golden) in expected {
            let (mut sealer, _) = pair(suite);
            let mut packet = [0; PACKET_BYTES];
            sealer
                .seal(&header(1), &[1; SYMBOL_BYTES], &mut packet)
                .unwrap();
            assert_eq!(blake3::hash(&packet).to_string(), golden.trim());
        }
    }

    #[test]
    fn no_bit_can_be_changed() {
        let (mut sealer, opener) = pair(Suite::Aes128Gcm);
        let mut packet = [0; PACKET_BYTES];
        sealer
            .seal(&header(0), &[0; SYMBOL_BYTES], &mut packet)
            .unwrap();
        for at in (0..HEADER_BYTES).chain([24, 700, 1431, 1432, 1447]) {
            let mut bad = packet;
            bad[at] ^= 1;
            assert!(opener.open(&mut bad).is_err(), "byte {at}");
        }
        for len in [0, 23, 24, 39, 40, 1447] {
            assert!(opener.open(&mut { packet }[..len]).is_err());
        }
        assert!(matches!(
            pair(Suite::ChaCha20Poly1305).1.open(&mut packet),
            Err(OpenError::Forged(0))
        ));
    }

    #[test]
    fn heartbeats_are_short_and_strangers_cheap() {
        let (mut sealer, opener) = pair(Suite::Aes128Gcm);
        let mut packet = [0; PACKET_BYTES];
        let beat = Header {
            kind: PacketKind::Heartbeat,
            symbol: 0,
            k: 0,
            ..header(0)
        };
        assert_eq!(sealer.seal(&beat, &[], &mut packet), Ok(40));
        assert_eq!(opener.open(&mut packet[..40]).unwrap().0, beat);
        let other = Header {
            session: SessionId(1),
            ..header(1)
        };
        assert_eq!(
            sealer.seal(&other, &[], &mut packet),
            Err(SealError::Session)
        );
        let mut stranger = [0; PACKET_BYTES];
        stranger[..HEADER_BYTES].copy_from_slice(&other.emit());
        assert_eq!(opener.open(&mut stranger), Err(OpenError::OtherSession(1)));
    }

    #[test]
    fn a_nonce_is_never_used_twice() {
        let (mut sealer, _) = pair(Suite::Aes128Gcm);
        let mut packet = [0; PACKET_BYTES];
        sealer.seal(&header(5), &[], &mut packet).unwrap();
        for counter in [5, 4] {
            assert_eq!(
                sealer.seal(&header(counter), &[], &mut packet),
                Err(SealError::Number(counter))
            );
        }
        assert_eq!(
            sealer.seal(&header(MAX_KEY_PACKETS), &[], &mut packet),
            Err(SealError::KeySpent)
        );
    }
}
