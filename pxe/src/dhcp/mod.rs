//! BOOTP and DHCPv4 packets as values (RFC 2131, 2132, 3396, 4578), for the server and for the
//! pre-OS's client.
//!
//! ```text
//!  0    1       2      3      4     8      10      12       16       20       24       28       44      108    236        240
//!  | op | htype | hlen | hops | xid | secs | flags | ciaddr | yiaddr | siaddr | giaddr | chaddr | sname | file | 63825363 | options ...
//! ```
//!
//! Owns: the bytes, and nothing else; `decide` and `lease` decide the content of answers. Never
//! panics, whatever the bytes are, and holds at most one datagram's worth. Always holds: a packet
//! that parses is Ethernet and has the cookie; `parse` after `emit` gives the packet back.
//!
//! | module | content |
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

/// UDP port of servers.
pub const SERVER_PORT: u16 = 67;
/// UDP port of clients.
pub const CLIENT_PORT: u16 = 68;
/// UDP port on which PXE firmware asks for its first file (PXE 2.1 section 2.2.4).
pub const PXE_PORT: u16 = 4011;
/// Longest packet that is read, in bytes: more than any link without jumbo frames carries.
pub const MAX_BYTES: usize = 4096;
/// Longest boot file name of the fixed field, in bytes; the 128th byte is the end mark.
pub const FILE_BYTES: usize = 127;
/// Longest server name of the fixed field, in bytes.
pub const SERVER_NAME_BYTES: usize = 63;

/// The direction of a packet (field `op`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Op {
    /// A client, or a relay agent for it.
    Request,
    /// A server.
    Reply,
}

/// Type of a message (option 53, RFC 2132 section 9.6).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MessageType {
    /// A client looks for servers.
    Discover,
    /// A server offers an address.
    Offer,
    /// A client takes an offer, or renews its lease.
    Request,
    /// A client refuses an address that is in use already.
    Decline,
    /// A server confirms a lease.
    Ack,
    /// A server refuses a request.
    Nak,
    /// A client gives its address back.
    Release,
    /// A client that has an address asks for the other settings.
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

    /// The type for a number on the wire; `None` for an unknown number.
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

/// The reason bytes are no packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DhcpError {
    /// Ends before the options begin.
    #[error("{0} bytes are too few for a DHCP packet")]
    Short(usize),
    /// Longer than [`MAX_BYTES`].
    #[error("{0} bytes are too many for a DHCP packet")]
    Long(usize),
    /// The cookie is missing: BOOTP from before DHCP, or another protocol on the port.
    #[error("no DHCP: the magic cookie is missing")]
    NoCookie,
    /// The operation is neither a question nor an answer.
    #[error("operation {0} is neither a question nor an answer")]
    Op(u8),
    /// The hardware is no Ethernet: InfiniBand, Token Ring, or nonsense.
    #[error("hardware type {kind} with addresses of {length} bytes is no Ethernet")]
    Hardware {
        /// `htype`.
        kind: u8,
        /// `hlen`.
        length: u8,
    },
    /// An option extends beyond its field.
    #[error("option {0} is cut off")]
    Cut(u8),
}

/// A BOOTP or DHCP packet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Packet {
    /// The direction.
    pub op: Op,
    /// Number of relay agents it has passed.
    pub hops: u8,
    /// Transaction id: an answer has that of its question.
    pub xid: u32,
    /// Seconds since the client started.
    pub secs: u16,
    /// True when the client cannot be reached by its address yet, so the answer is broadcast.
    pub broadcast: bool,
    /// Address that the client has and answers on.
    pub ciaddr: Ipv4Addr,
    /// Address that the client is given.
    pub yiaddr: Ipv4Addr,
    /// Server of the next step: the one with the boot file.
    pub siaddr: Ipv4Addr,
    /// Relay agent that the answer goes back through; unspecified if there is none.
    pub giaddr: Ipv4Addr,
    /// MAC address of the client's card.
    pub mac: Mac,
    server_name: Vec<u8>,
    file: Vec<u8>,
    /// Its options.
    pub options: Options,
}

impl Packet {
    /// A question without options. A client that has no address should ask for a broadcast answer.
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

    /// An answer to this question without further options. It copies the fields that tie the two
    /// together (RFC 2131 section 4.3.1, table 3), including the relay agent's own option, which
    /// has to go back to that agent (RFC 3046 section 2.2).
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

    /// Type of the message; `None` for BOOTP and for unknown numbers.
    pub fn message_type(&self) -> Option<MessageType> {
        self.options.message_type()
    }

    /// Name of the boot file: from option 67, else from the fixed field.
    pub fn boot_file(&self) -> Option<String> {
        self.options
            .text(code::BOOT_FILE)
            .or_else(|| options::text_of(&self.file))
    }

    /// Sets the name of the boot file: in the fixed field, which is all that old ROMs read, or in
    /// option 67 if it is too long for that.
    pub fn set_boot_file(&mut self, name: &str) {
        self.file.clear();
        self.options.remove(code::BOOT_FILE);
        if name.len() <= FILE_BYTES {
            self.file = name.as_bytes().to_vec();
        } else {
            self.options.set(code::BOOT_FILE, name.as_bytes());
        }
    }

    /// Name of the boot server: from option 66, else from the fixed field.
    pub fn server_name(&self) -> Option<String> {
        self.options
            .text(code::SERVER_NAME)
            .or_else(|| options::text_of(&self.server_name))
    }

    /// Sets the name of the boot server: in the fixed field, or in option 66 if it is too long for
    /// that.
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
