//! BOOTP and DHCPv4 packets as values (RFC 2131, 2132, 3396, 4578), for the server and for the pre-OS's client.
//!
//! ```text
//!  0    1       2      3      4     8      10      12       16       20       24       28       44      108    236        240
//!  | op | htype | hlen | hops | xid | secs | flags | ciaddr | yiaddr | siaddr | giaddr | chaddr | sname | file | 63825363 | options ...
//! ```
//!
//! Owns: the bytes, and nothing else: what an answer ought to be is decided in `decide` and `lease`. Never panics whatever the bytes are, and holds at
//! most what a datagram holds. What always holds: a packet that parses is Ethernet and has the cookie; `parse` after `emit` gives the packet back.
//!
//! | module | what it is |
//! |---|---|
//! | [`options`] | options by number, typed |
//! | [`client`] | questions a client asks, and the lease in an answer |

mod bytes;
pub mod client;
pub mod options;
#[cfg(test)]
mod tests;

pub use client::Lease;
pub use options::{Arch, Options, code};

use facts::Mac;
use std::net::Ipv4Addr;

/// Port of servers.
pub const SERVER_PORT: u16 = 67;
/// Port of clients.
pub const CLIENT_PORT: u16 = 68;
/// Port PXE firmware asks for its first file on (PXE 2.1 section 2.2.4).
pub const PXE_PORT: u16 = 4011;
/// Longest packet that is read: more than any link without jumbo frames carries.
pub const MAX_BYTES: usize = 4096;
/// Longest boot file name the fixed field carries; its 128th byte is the end mark.
pub const FILE_BYTES: usize = 127;
/// Longest server name the fixed field carries.
pub const SERVER_NAME_BYTES: usize = 63;

/// Who speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Op {
    /// A client, or a relay agent for it.
    Request,
    /// A server.
    Reply,
}

/// What a packet says (option 53, RFC 2132 section 9.6).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MessageType {
    /// Who is there?
    Discover,
    /// This could be yours.
    Offer,
    /// I take it.
    Request,
    /// I cannot: somebody has that address already.
    Decline,
    /// It is yours.
    Ack,
    /// It is not.
    Nak,
    /// I need it no longer.
    Release,
    /// I have an address; tell me the rest.
    Inform,
}

impl MessageType {
    const ALL: [Self; 8] = [
        Self::Discover,
        Self::Offer,
        Self::Request,
        Self::Decline,
        Self::Ack,
        Self::Nak,
        Self::Release,
        Self::Inform,
    ];

    /// From the number on the wire.
    pub fn from_number(number: u8) -> Option<Self> {
        let index = usize::from(number).checked_sub(1)?;
        Self::ALL.get(index).copied()
    }

    /// The number on the wire.
    pub fn number(self) -> u8 {
        match self {
            Self::Discover => 1,
            Self::Offer => 2,
            Self::Request => 3,
            Self::Decline => 4,
            Self::Ack => 5,
            Self::Nak => 6,
            Self::Release => 7,
            Self::Inform => 8,
        }
    }
}

/// Why bytes are no packet, or a packet has no bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DhcpError {
    /// Cut before the options begin.
    #[error("{0} bytes are too few for a DHCP packet")]
    Short(usize),
    /// Longer than [`MAX_BYTES`].
    #[error("{0} bytes are too many for a DHCP packet")]
    Long(usize),
    /// BOOTP from before DHCP, or something else on the port.
    #[error("no DHCP: the magic cookie is missing")]
    NoCookie,
    /// Neither a question nor an answer.
    #[error("operation {0} is neither a question nor an answer")]
    Op(u8),
    /// InfiniBand, Token Ring, or nonsense.
    #[error("hardware type {kind} with addresses of {length} bytes is no Ethernet")]
    Hardware {
        /// `htype`.
        kind: u8,
        /// `hlen`.
        length: u8,
    },
    /// An option reaches beyond its field.
    #[error("option {0} is cut off")]
    Cut(u8),
}

/// A packet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Packet {
    /// Who speaks.
    pub op: Op,
    /// Relay agents on the way.
    pub hops: u8,
    /// What ties answers to a question.
    pub xid: u32,
    /// Seconds since the client began.
    pub secs: u16,
    /// The client cannot be reached by its address yet: broadcast the answer.
    pub broadcast: bool,
    /// Address the client has and answers on.
    pub ciaddr: Ipv4Addr,
    /// Address the client is given.
    pub yiaddr: Ipv4Addr,
    /// Server of the next step: where the boot file is.
    pub siaddr: Ipv4Addr,
    /// Relay agent the answer goes back through; unspecified without one.
    pub giaddr: Ipv4Addr,
    /// The client's card.
    pub mac: Mac,
    server_name: Vec<u8>,
    file: Vec<u8>,
    /// Options.
    pub options: Options,
}

impl Packet {
    /// A question with nothing in it yet. A client that has no address should ask for a broadcast.
    pub fn question(mac: Mac, xid: u32) -> Self {
        Self {
            op: Op::Request,
            hops: 0,
            xid,
            secs: 0,
            broadcast: false,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            siaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: Ipv4Addr::UNSPECIFIED,
            mac,
            server_name: Vec::new(),
            file: Vec::new(),
            options: Options::default(),
        }
    }

    /// An answer to this question with nothing in it yet: it has what ties the two together (RFC 2131 section 4.3.1, table 3), including the relay
    /// agent's own option, which has to come back to it (RFC 3046 section 2.2).
    pub fn answer(&self, kind: MessageType, server: Ipv4Addr) -> Self {
        let mut answer = Self::question(self.mac, self.xid);
        answer.op = Op::Reply;
        answer.broadcast = self.broadcast;
        answer.giaddr = self.giaddr;
        answer.options.set_message_type(kind);
        answer.options.set_address(code::SERVER_ID, server);
        if let Some(relay) = self.options.get(code::RELAY_AGENT) {
            answer.options.set(code::RELAY_AGENT, relay);
        }
        answer
    }

    /// What it says; nothing for BOOTP and for numbers nobody defined.
    pub fn message_type(&self) -> Option<MessageType> {
        self.options.message_type()
    }

    /// Name of the boot file: option 67, or the fixed field.
    pub fn boot_file(&self) -> Option<String> {
        self.options
            .text(code::BOOT_FILE)
            .or_else(|| options::text_of(&self.file))
    }

    /// Names the boot file: in the fixed field, which is all that old ROMs read, and where it is too long for that in option 67.
    pub fn set_boot_file(&mut self, name: &str) {
        self.file.clear();
        self.options.remove(code::BOOT_FILE);
        if name.len() <= FILE_BYTES {
            self.file = name.as_bytes().to_vec();
        } else {
            self.options.set(code::BOOT_FILE, name.as_bytes());
        }
    }

    /// Name of the boot server: option 66, or the fixed field.
    pub fn server_name(&self) -> Option<String> {
        self.options
            .text(code::SERVER_NAME)
            .or_else(|| options::text_of(&self.server_name))
    }

    /// Names the boot server: in the fixed field, and where it is too long for that in option 66.
    pub fn set_server_name(&mut self, name: &str) {
        self.server_name.clear();
        self.options.remove(code::SERVER_NAME);
        if name.len() <= SERVER_NAME_BYTES {
            self.server_name = name.as_bytes().to_vec();
        } else {
            self.options.set(code::SERVER_NAME, name.as_bytes());
        }
    }
}
