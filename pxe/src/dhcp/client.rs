//! The questions of a client, and the lease in an answer (RFC 2131 sections 3.1 and 4.4).
//!
//! Never keeps state and never sends: the pre-OS runs the exchange. Whoever sends decides the address: questions go to 255.255.255.255 port 67, a renewal
//! to the server itself.

use super::{MessageType, Op, Packet, code};
use facts::{Mac, Uuid};
use std::net::Ipv4Addr;

/// What a client wants to know: mask, routers, name servers, name, broadcast, lease times.
const WANTED: [u8; 8] = [
    code::SUBNET_MASK,
    code::ROUTERS,
    code::DNS,
    code::HOST_NAME,
    code::BROADCAST,
    code::LEASE_SECONDS,
    code::RENEW_SECONDS,
    code::REBIND_SECONDS,
];
/// What a client says it takes, in bytes: an Ethernet frame.
const MAX_SIZE: u16 = 1500;
/// A lease without a time: an hour, so that it is renewed and not believed for ever.
const DEFAULT_SECONDS: u32 = 3600;

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// The card.
    pub mac: Mac,
    /// The machine.
    pub uuid: Option<Uuid>,
    /// Name to tell the server.
    pub host_name: Option<&'a str>,
    /// Vendor class (60).
    pub class: &'a str,
}

/// What an OFFER or ACK gives.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// Length of the prefix; that of the address's class where the server says none.
    pub prefix: u8,
    /// Who gave it.
    pub server: Ipv4Addr,
    /// Ways out, best first.
    pub routers: Vec<Ipv4Addr>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// Name the server has for the client.
    pub host_name: Option<String>,
    /// How long it is good for, in seconds.
    pub seconds: u32,
    /// When to renew it, in seconds since it was given.
    pub renew_seconds: u32,
    /// When to ask every server, in seconds since it was given.
    pub rebind_seconds: u32,
}

impl Client<'_> {
    fn question(&self, kind: MessageType, xid: u32, secs: u16) -> Packet {
        let mut packet = Packet::question(self.mac, xid);
        packet.secs = secs;
        let options = &mut packet.options;
        options.set_message_type(kind);
        if let Some(uuid) = self.uuid {
            options.set_machine_uuid(uuid);
        }
        if let Some(name) = self.host_name {
            options.set(code::HOST_NAME, name.as_bytes());
        }
        options.set(code::CLASS, self.class.as_bytes());
        options.set(code::PARAMETERS, &WANTED);
        options.set_max_size(MAX_SIZE);
        packet
    }

    /// Who is there? `secs` since the client began. The answer comes by broadcast, as there is no address yet.
    pub fn discover(&self, xid: u32, secs: u16) -> Packet {
        let mut packet = self.question(MessageType::Discover, xid, secs);
        packet.broadcast = true;
        packet
    }

    /// Takes an offer.
    pub fn request(&self, xid: u32, secs: u16, offer: &Lease) -> Packet {
        let mut packet = self.question(MessageType::Request, xid, secs);
        packet.broadcast = true;
        packet
            .options
            .set_address(code::REQUESTED_ADDRESS, offer.address);
        packet.options.set_address(code::SERVER_ID, offer.server);
        packet
    }

    /// Asks for more time for an address in use: to `lease.server` at first, to everyone when that one is silent.
    pub fn renew(&self, xid: u32, secs: u16, lease: &Lease) -> Packet {
        let mut packet = self.question(MessageType::Request, xid, secs);
        packet.ciaddr = lease.address;
        packet
    }

    /// The address is in use by somebody else.
    pub fn decline(&self, xid: u32, lease: &Lease) -> Packet {
        let mut packet = Packet::question(self.mac, xid);
        packet.options.set_message_type(MessageType::Decline);
        packet
            .options
            .set_address(code::REQUESTED_ADDRESS, lease.address);
        packet.options.set_address(code::SERVER_ID, lease.server);
        packet
    }
}

impl Lease {
    /// The lease in an OFFER or ACK to `mac` and `xid`; nothing when the packet is no such answer, or offers no address (a ProxyDHCP server's does not).
    pub fn read(packet: &Packet, mac: Mac, xid: u32) -> Option<Self> {
        let kind = packet.message_type()?;
        let ours = packet.op == Op::Reply && packet.mac == mac && packet.xid == xid;
        if !ours || !matches!(kind, MessageType::Offer | MessageType::Ack) {
            return None;
        }
        let address = packet.yiaddr;
        if address.is_unspecified()
            || address.is_broadcast()
            || address.is_multicast()
            || address.is_loopback()
        {
            return None;
        }
        let options = &packet.options;
        let seconds = options
            .seconds(code::LEASE_SECONDS)
            .unwrap_or(DEFAULT_SECONDS);
        // RFC 2131 section 4.4.5: half and seven eighths, unless told; and never in another order.
        let rebind = options
            .seconds(code::REBIND_SECONDS)
            .unwrap_or(seconds / 8 * 7)
            .min(seconds);
        let renew = options
            .seconds(code::RENEW_SECONDS)
            .unwrap_or(seconds / 2)
            .min(rebind);
        Some(Self {
            address,
            prefix: prefix(options.address(code::SUBNET_MASK), address),
            server: options.address(code::SERVER_ID)?,
            routers: options.addresses(code::ROUTERS),
            dns: options.addresses(code::DNS),
            host_name: options.text(code::HOST_NAME),
            seconds,
            renew_seconds: renew,
            rebind_seconds: rebind,
        })
    }
}

/// Length of a mask; a mask with holes, or none, is the class of the address.
fn prefix(mask: Option<Ipv4Addr>, address: Ipv4Addr) -> u8 {
    let bits = mask.map_or(0, Ipv4Addr::to_bits);
    let ones = bits.leading_ones();
    if ones > 0 && ones == bits.count_ones() {
        return u8::try_from(ones).unwrap_or(32);
    }
    match address.octets()[0] {
        0..=127 => 8,
        128..=191 => 16,
        _ => 24,
    }
}
