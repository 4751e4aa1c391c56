//! Options by number, with typed access to their bytes.
//!
//! Always holds: an option of the wrong length reads as absent; no length from outside is trusted.

use super::{DhcpError, MessageType, bytes};
use facts::Uuid;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Numbers of options: RFC 2132, RFC 3046 (82), RFC 3004 (77), RFC 4578 (93, 94, 97), iPXE (175).
#[expect(missing_docs, reason = "the names are those of the RFCs")]
pub mod code {
    pub const PAD: u8 = 0;
    pub const SUBNET_MASK: u8 = 1;
    pub const ROUTERS: u8 = 3;
    pub const DNS: u8 = 6;
    pub const HOST_NAME: u8 = 12;
    pub const BROADCAST: u8 = 28;
    pub const VENDOR: u8 = 43;
    pub const REQUESTED_ADDRESS: u8 = 50;
    pub const LEASE_SECONDS: u8 = 51;
    pub const OVERLOAD: u8 = 52;
    pub const MESSAGE_TYPE: u8 = 53;
    pub const SERVER_ID: u8 = 54;
    pub const PARAMETERS: u8 = 55;
    pub const MESSAGE: u8 = 56;
    pub const MAX_SIZE: u8 = 57;
    pub const RENEW_SECONDS: u8 = 58;
    pub const REBIND_SECONDS: u8 = 59;
    pub const CLASS: u8 = 60;
    pub const CLIENT_ID: u8 = 61;
    pub const SERVER_NAME: u8 = 66;
    pub const BOOT_FILE: u8 = 67;
    pub const USER_CLASS: u8 = 77;
    pub const RELAY_AGENT: u8 = 82;
    pub const ARCH: u8 = 93;
    pub const UNDI: u8 = 94;
    pub const MACHINE_UUID: u8 = 97;
    pub const IPXE: u8 = 175;
    pub const END: u8 = 255;
}

/// Kind of firmware that asks (option 93; IANA "Processor Architecture Types").
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Arch {
    /// 0: x86 BIOS.
    Bios,
    /// 6: x86 UEFI of 32 bits.
    Uefi32,
    /// 7, or 9: 9 means EBC, but many x64 firmwares report it.
    Uefi,
    /// 16: x64 UEFI that boots by HTTP.
    UefiHttp,
    /// Every other number: ARM, RISC-V, old machines.
    Other(u16),
}

impl Arch {
    /// The kind for a number on the wire.
    pub fn from_number(number: u16) -> Self {
        match number {
            0 => Self::Bios,
            6 => Self::Uefi32,
            7 | 9 => Self::Uefi,
            16 => Self::UefiHttp,
            other => Self::Other(other),
        }
    }
}

impl std::fmt::Display for Arch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bios => f.write_str("BIOS"),
            Self::Uefi32 => f.write_str("UEFI 32-bit"),
            Self::Uefi => f.write_str("UEFI"),
            Self::UefiHttp => f.write_str("UEFI HTTP"),
            Self::Other(number) => write!(f, "type {number}"),
        }
    }
}

/// The options of a packet. A value longer than 255 bytes is kept as one value.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Options(BTreeMap<u8, Vec<u8>>);

impl Options {
    /// Parses a field of options, such as the one inside option 43 (RFC 2132 section 8.4) or 175.
    ///
    /// # Errors
    /// [`DhcpError::Cut`] when an option is cut off.
    pub fn parse(field: &[u8]) -> Result<Self, DhcpError> {
        let mut options = Self::default();
        bytes::read_options(&mut options, field)?;
        Ok(options)
    }

    /// The bytes of an option.
    pub fn get(&self, code: u8) -> Option<&[u8]> {
        self.0.get(&code).map(Vec::as_slice)
    }

    /// True when the option is present.
    pub fn has(&self, code: u8) -> bool {
        self.0.contains_key(&code)
    }

    /// Sets an option.
    pub fn set(&mut self, code: u8, value: &[u8]) {
        if !matches!(code, code::PAD | code::END) {
            self.0.insert(code, value.to_vec());
        }
    }

    pub(super) fn append(&mut self, code: u8, value: &[u8]) {
        self.0.entry(code).or_default().extend(value);
    }

    /// Removes an option.
    pub fn remove(&mut self, code: u8) {
        self.0.remove(&code);
    }

    /// All options, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &[u8])> {
        self.0.iter().map(|(code, value)| (*code, value.as_slice()))
    }

    fn array<const N: usize>(&self, code: u8) -> Option<[u8; N]> {
        self.get(code)?.try_into().ok()
    }

    /// Reads an option that is one address: 1 mask, 28 broadcast, 50 requested address, 54 server.
    pub fn address(&self, code: u8) -> Option<Ipv4Addr> {
        self.array::<4>(code).map(Ipv4Addr::from)
    }

    /// Sets an option that is one address.
    pub fn set_address(&mut self, code: u8, address: Ipv4Addr) {
        self.set(code, &address.octets());
    }

    /// Reads an option that is a list of addresses: 3 routers, 6 name servers.
    pub fn addresses(&self, code: u8) -> Vec<Ipv4Addr> {
        let (addresses, _) = self.get(code).unwrap_or_default().as_chunks::<4>();
        addresses.iter().copied().map(Ipv4Addr::from).collect()
    }

    /// Sets an option that is a list of addresses.
    pub fn set_addresses(&mut self, code: u8, addresses: &[Ipv4Addr]) {
        let bytes: Vec<u8> = addresses.iter().flat_map(Ipv4Addr::octets).collect();
        self.set(code, &bytes);
    }

    /// Reads an option that is a time in seconds: 51 lease, 58 renewal, 59 rebinding.
    pub fn seconds(&self, code: u8) -> Option<u32> {
        self.array::<4>(code).map(u32::from_be_bytes)
    }

    /// Sets an option that is a time in seconds.
    pub fn set_seconds(&mut self, code: u8, seconds: u32) {
        self.set(code, &seconds.to_be_bytes());
    }

    /// Reads an option that is text: 12 host name, 56 message, 60 class, 66 server, 67 file. Bytes
    /// that are not UTF-8 are replaced; a zero byte ends it.
    pub fn text(&self, code: u8) -> Option<String> {
        self.get(code).and_then(text_of)
    }

    /// The type of the message (53).
    pub fn message_type(&self) -> Option<MessageType> {
        self.array::<1>(code::MESSAGE_TYPE)
            .and_then(|[number]| MessageType::from_number(number))
    }

    /// Sets the type of the message (53).
    pub fn set_message_type(&mut self, kind: MessageType) {
        self.set(code::MESSAGE_TYPE, &[kind.number()]);
    }

    /// Longest packet that the other side accepts (57), in bytes; RFC 2132 section 9.10 allows
    /// nothing below 576.
    pub fn max_size(&self) -> Option<u16> {
        self.array::<2>(code::MAX_SIZE)
            .map(u16::from_be_bytes)
            .filter(|size| *size >= 576)
    }

    /// Sets the longest packet that this side accepts (57), in bytes.
    pub fn set_max_size(&mut self, bytes: u16) {
        self.set(code::MAX_SIZE, &bytes.to_be_bytes());
    }

    /// Suboptions of option 43. A missing end mark is accepted.
    pub fn vendor(&self) -> Option<Options> {
        self.get(code::VENDOR)
            .and_then(|field| Self::parse(field).ok())
    }

    /// Sets option 43 from suboptions, followed by the end mark that PXE ROMs expect.
    pub fn set_vendor(&mut self, suboptions: &[(u8, &[u8])]) {
        let mut field = Vec::new();
        for (code, value) in suboptions {
            // No suboption of PXE is longer than 255 bytes; a longer value is cut to the length one
            // byte can express.
            let length = u8::try_from(value.len()).unwrap_or(u8::MAX);
            field.extend([*code, length]);
            field.extend(value.iter().take(usize::from(length)));
        }
        field.push(code::END);
        self.set(code::VENDOR, &field);
    }

    /// True when the vendor class (60) begins with `words`, as `PXEClient` does in
    /// `PXEClient:Arch:00007:UNDI:003016`.
    pub fn class_is(&self, words: &str) -> bool {
        self.get(code::CLASS)
            .is_some_and(|class| class.starts_with(words.as_bytes()))
    }

    /// True when the user class (77) names `program`. RFC 3004 puts a length before each class;
    /// iPXE and others do not.
    pub fn user_class_is(&self, program: &str) -> bool {
        let Some(mut rest) = self.get(code::USER_CLASS) else {
            return false;
        };
        if rest == program.as_bytes() {
            return true;
        }
        while let Some((&length, after)) = rest.split_first() {
            let Some((class, after)) = after.split_at_checked(usize::from(length)) else {
                return false;
            };
            if class == program.as_bytes() {
                return true;
            }
            rest = after;
        }
        false
    }

    /// True for packets of iPXE: the user class (77) says so, or its own options (175) are present.
    pub fn is_ipxe(&self) -> bool {
        self.has(code::IPXE) || self.user_class_is("iPXE")
    }

    /// Kinds of firmware that the client reports (93), the preferred one first.
    pub fn archs(&self) -> Vec<Arch> {
        let (numbers, _) = self.get(code::ARCH).unwrap_or_default().as_chunks::<2>();
        numbers
            .iter()
            .map(|bytes| Arch::from_number(u16::from_be_bytes(*bytes)))
            .collect()
    }

    /// UUID of the machine (97, type 0). Absent in the packets of some ROMs, and where the firmware
    /// has none.
    pub fn machine_uuid(&self) -> Option<Uuid> {
        match self.array::<17>(code::MACHINE_UUID)? {
            [0, uuid @ ..] => Uuid::from_firmware(uuid),
            _ => None,
        }
    }

    /// Sets the UUID of the machine (97).
    pub fn set_machine_uuid(&mut self, uuid: Uuid) {
        let mut value = vec![0];
        value.extend(uuid.to_firmware());
        self.set(code::MACHINE_UUID, &value);
    }
}

/// Text up to a zero byte; `None` when that is empty.
pub(super) fn text_of(bytes: &[u8]) -> Option<String> {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    (!text.is_empty()).then(|| String::from_utf8_lossy(text).into_owned())
}
