//! Configures cards in the kernel by rtnetlink: up, address, route.
//!
//! Owns one socket and the three kinds of requests the pre-OS makes; each is acknowledged before
//! the next. The packets are `netlink-packet-route`'s.

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::fd::OwnedFd;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily as Family, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recvfrom,
    send, socket_with, sockopt,
};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// Longest wait for an acknowledgement. It normally comes within the request's own call; this
/// covers a lost one.
const PATIENCE: Duration = Duration::from_secs(5);

/// A netlink connection to the kernel.
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// Opens the connection.
    ///
    /// # Errors
    /// The kernel has no rtnetlink.
    pub fn open() -> io::Result<Self> {
        let socket = socket_with(Family::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        connect(&socket, &SocketAddrNetlink::new(0, 0))?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Switches a card on.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn up(&mut self, index: u32) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.header.flags = LinkFlags::Up;
        link.header.change_mask = LinkFlags::Up;
        self.ask(RouteNetlinkMessage::SetLink(link), 0)
    }

    /// Gives a card an address; one it has already gets its new lifetime.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn add_address(&mut self, index: u32, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
        self.ask(
            RouteNetlinkMessage::NewAddress(address_message(index, address, prefix)),
            NLM_F_CREATE | NLM_F_REPLACE,
        )
    }

    /// Removes an address.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn remove_address(&mut self, index: u32, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
        self.ask(
            RouteNetlinkMessage::DelAddress(address_message(index, address, prefix)),
            0,
        )
    }

    /// Makes `gateway` the default route of a card. With several cards the one with the lower index
    /// is used.
    ///
    /// # Errors
    /// The kernel's error; a gateway outside the card's network is unreachable.
    pub fn set_gateway(&mut self, index: u32, gateway: Ipv4Addr) -> io::Result<()> {
        let mut route = RouteMessage::default();
        route.header.address_family = AddressFamily::Inet;
        route.header.table = RouteHeader::RT_TABLE_MAIN;
        route.header.protocol = RouteProtocol::Dhcp;
        route.header.scope = RouteScope::Universe;
        route.header.kind = RouteType::Unicast;
        route.attributes = vec![
            RouteAttribute::Gateway(RouteAddress::Inet(gateway)),
            RouteAttribute::Oif(index),
            RouteAttribute::Priority(index),
        ];
        self.ask(
            RouteNetlinkMessage::NewRoute(route),
            NLM_F_CREATE | NLM_F_REPLACE,
        )
    }

    fn ask(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.sequence += 1;
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        send(&self.socket, &bytes, SendFlags::empty())?;
        let mut buffer = [0; 4096];
        // A few answers to earlier, abandoned requests may still be queued.
        for _ in 0..16 {
            let (_, len, _) = recvfrom(&self.socket, &mut buffer[..], RecvFlags::empty())?;
            let answer = buffer.get(..len).unwrap_or_default();
            let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(answer)
                .map_err(io::Error::other)?;
            if answer.header.sequence_number != self.sequence {
                continue;
            }
            if let NetlinkPayload::Error(error) = answer.payload {
                return match error.code {
                    None => Ok(()),
                    Some(code) => Err(io::Error::from_raw_os_error(code.get().saturating_abs())),
                };
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }
}

fn address_message(index: u32, address: Ipv4Addr, prefix: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = prefix;
    message.header.index = index;
    message.attributes = vec![
        AddressAttribute::Local(IpAddr::V4(address)),
        AddressAttribute::Address(IpAddr::V4(address)),
    ];
    if prefix < 31 {
        let host = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
        message
            .attributes
            .push(AddressAttribute::Broadcast(Ipv4Addr::from_bits(
                address.to_bits() | host,
            )));
    }
    message
}
