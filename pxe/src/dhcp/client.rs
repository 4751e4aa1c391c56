//! Questions of a client, and the lease in an answer (RFC 2131 sections 3.1 and 4.4).
//!
//! Never keeps state and never sends: the pre-OS runs the exchange. The sender chooses the address:
//! questions go to 255.255.255.255 port 67, a renewal to the server itself.

use super::{MessageType, Op, Packet, code};
use facts::{Mac, Uuid};
use std::net::Ipv4Addr;

/// Options a client requests (55): mask, routers, name servers, name, broadcast, lease times.
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
/// Longest packet a client accepts (57), in bytes: one Ethernet frame.
const MAX_SIZE: u16 = 1500;
/// Term in seconds of a lease without one: an hour, so that it is renewed and not used for ever.
const DEFAULT_SECONDS: u32 = 3600;

/// The client that asks.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// MAC address of the card.
    pub mac: Mac,
    /// UUID of the machine, if known.
    pub uuid: Option<Uuid>,
    /// Name the client tells the server.
    pub host_name: Option<&'a str>,
    /// Vendor class that the client sends (60).
    pub class: &'a str,
}

/// A lease as an OFFER or ACK describes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lease {
    /// The address given.
    pub address: Ipv4Addr,
    /// Length of the network prefix; that of the address's class if the server gives no usable
    /// mask.
    pub prefix: u8,
    /// Address of the server that gave it.
    pub server: Ipv4Addr,
    /// Routers, best first.
    pub routers: Vec<Ipv4Addr>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// Name that the server has for the client.
    pub host_name: Option<String>,
    /// Term, in seconds.
    pub seconds: u32,
    /// Time of renewal, in seconds since the lease was given.
    pub renew_seconds: u32,
    /// Time from which every server is asked, in seconds since the lease was given.
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

    /// Builds a DISCOVER. `secs` counts from the client's start. The answer comes by broadcast, as
    /// the client has no address yet.
    pub fn discover(&self, xid: u32, secs: u16) -> Packet {
        let mut packet = self.question(MessageType::Discover, xid, secs);
        packet.broadcast = true;
        packet
    }

    /// Builds a REQUEST that takes an offer.
    pub fn request(&self, xid: u32, secs: u16, offer: &Lease) -> Packet {
        let mut packet = self.question(MessageType::Request, xid, secs);
        packet.broadcast = true;
        packet
            .options
            .set_address(code::REQUESTED_ADDRESS, offer.address);
        packet.options.set_address(code::SERVER_ID, offer.server);
        packet
    }

    /// Builds a REQUEST for more time for the address in use: to `lease.server` at first, to all
    /// servers when that one does not answer.
    pub fn renew(&self, xid: u32, secs: u16, lease: &Lease) -> Packet {
        let mut packet = self.question(MessageType::Request, xid, secs);
        packet.ciaddr = lease.address;
        packet
    }

    /// Builds a DECLINE: the address is in use by another machine.
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
    /// Reads the lease in an OFFER or ACK to `mac` and `xid`. `None` when the packet is no such
    /// answer, or offers no address, as a ProxyDHCP server's does not.
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
        // RFC 2131 section 4.4.5: half and seven eighths of the term by default, and never in
        // another order.
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

/// Prefix length of a mask. With no mask, or one with holes, the class of the address decides.
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
