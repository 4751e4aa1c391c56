//! DHCP servers on an interface: one request, and the answers of all.
//!
//! ```text
//!  0    1     2     3      4     8    10      12 ...  16       ...  28     ...   236        240
//!  | op | hw | len | hops | xid | .. | flags | ciaddr | yiaddr | .. | chaddr | .. | 63825363 | options ...
//! ```
//!
//! Owns: one DHCPDISCOVER like that of a network boot (RFC 2131, option 60 `PXEClient`), and
//! parsing of offers. It never accepts an offer, so an address is reserved only as long as a server
//! keeps its offer open. Parsing is pure and safe with hostile bytes. Two servers that assign
//! addresses conflict; a second ProxyDHCP server boots machines into another system.

use super::clock::Clock;
use super::socket::wait_until_readable;
use facts::boot::DOCTOR;
use multicast::Instant;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

const CLIENT_PORT: u16 = 68;
const SERVER_PORT: u16 = 67;
const COOKIE: [u8; 4] = [0x63, 0x82, 0x53, 0x63];
const AT_XID: usize = 4;
const AT_FLAGS: usize = 10;
const AT_YIADDR: usize = 16;
const AT_CHADDR: usize = 28;
const AT_COOKIE: usize = 236;
const AT_OPTIONS: usize = 240;

const OPTION_PAD: u8 = 0;
const OPTION_USER_CLASS: u8 = 77;
const OPTION_ARCH: u8 = 93;
const OPTION_END: u8 = 255;
const OPTION_TYPE: u8 = 53;
const OPTION_SERVER: u8 = 54;
const OPTION_CLASS: u8 = 60;
const OFFER: u8 = 2;

/// Limit of servers that are remembered.
const MAX_SERVERS: usize = 16;

/// A server that answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DhcpServer {
    /// Address that the server states as its own.
    pub address: Ipv4Addr,
    /// It offers an address.
    pub leases: bool,
    /// It offers a network boot.
    pub boots: bool,
}

/// Sends the request and collects answers until the timeout. Blocks.
///
/// # Errors
/// `PermissionDenied` without the right to port 68 and the interface; `AddrInUse` while a DHCP
/// client holds the port.
pub fn ask(
    interface: &str,
    mac: [u8; 6],
    xid: u32,
    timeout: Duration,
) -> io::Result<Vec<DhcpServer>> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.set_broadcast(true)?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT).into())?;
    socket.set_nonblocking(true)?;
    let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, SERVER_PORT).into();
    socket.send_to(&discover(mac, xid), &to)?;
    let clock = Clock::start();
    let deadline = Instant::from_micros(u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX));
    let mut servers: Vec<DhcpServer> = Vec::new();
    let mut buffer = [0; 2048];
    loop {
        let left = clock.until(deadline);
        if left.is_zero() {
            return Ok(servers);
        }
        wait_until_readable(&socket, left.min(Duration::from_millis(100)))?;
        let mut reader = &socket;
        // The limit keeps a flood from delaying the deadline.
        for _ in 0..64 {
            let Ok(count) = reader.read(&mut buffer) else {
                break;
            };
            if let Some(server) = offer(buffer.get(..count).unwrap_or_default(), xid) {
                note(&mut servers, server);
            }
        }
    }
}

/// Adds an answer; a server with several answers has one entry.
fn note(servers: &mut Vec<DhcpServer>, server: DhcpServer) {
    if let Some(known) = servers.iter_mut().find(|s| s.address == server.address) {
        known.leases |= server.leases;
        known.boots |= server.boots;
    } else if servers.len() < MAX_SERVERS {
        servers.push(server);
    }
}

/// Builds the DHCPDISCOVER of a machine that boots over the network.
pub fn discover(mac: [u8; 6], xid: u32) -> Vec<u8> {
    let mut packet = vec![0; AT_OPTIONS];
    packet[..3].copy_from_slice(&[1, 1, 6]);
    packet[AT_XID..AT_XID + 4].copy_from_slice(&xid.to_be_bytes());
    // The machine has no address for a unicast answer, so the flag requests a broadcast.
    packet[AT_FLAGS] = 0x80;
    packet[AT_CHADDR..AT_CHADDR + 6].copy_from_slice(&mac);
    packet[AT_COOKIE..].copy_from_slice(&COOKIE);
    packet.extend([OPTION_TYPE, 1, 1]);
    packet.extend([55, 4, 1, 3, 54, 60]);
    let class = b"PXEClient:Arch:00007:UNDI:003016";
    packet.extend([OPTION_CLASS, 32]);
    packet.extend(class);
    // The architecture is UEFI x64, because no boot service answers without one. The user class
    // tells a diskcast console that no machine boots here.
    packet.extend([OPTION_ARCH, 2, 0, 7]);
    packet.extend([OPTION_USER_CLASS, u8::try_from(DOCTOR.len()).unwrap_or(0)]);
    packet.extend(DOCTOR.as_bytes());
    packet.push(OPTION_END);
    // BOOTP relays and some servers drop packets shorter than 300 bytes.
    packet.resize(packet.len().max(300), OPTION_PAD);
    packet
}

/// The server of an offer with this `xid`; `None` when the bytes are not such an offer.
pub fn offer(packet: &[u8], xid: u32) -> Option<DhcpServer> {
    let fields: &[u8; AT_OPTIONS] = packet.first_chunk()?;
    if fields[0] != 2
        || fields[AT_XID..AT_XID + 4] != xid.to_be_bytes()
        || fields[AT_COOKIE..] != COOKIE
    {
        return None;
    }
    let (mut kind, mut server, mut boots) = (None, None, false);
    let mut rest = &packet[AT_OPTIONS..];
    while let Some((code, after)) = rest.split_first() {
        match *code {
            OPTION_PAD => {
                rest = after;
                continue;
            }
            OPTION_END => break,
            _ => {}
        }
        let (length, after) = after.split_first()?;
        let value = after.get(..usize::from(*length))?;
        rest = after.get(usize::from(*length)..)?;
        match (*code, value) {
            (OPTION_TYPE, [value]) => kind = Some(*value),
            (OPTION_SERVER, [a, b, c, d]) => server = Some(Ipv4Addr::new(*a, *b, *c, *d)),
            (OPTION_CLASS, class) => boots = class.starts_with(b"PXEClient"),
            _ => {}
        }
    }
    let leases = fields[AT_YIADDR..AT_YIADDR + 4] != [0; 4];
    (kind == Some(OFFER)).then_some(DhcpServer {
        address: server?,
        leases,
        boots,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answer(xid: u32, yiaddr: [u8; 4], options: &[u8]) -> Vec<u8> {
        let mut packet = discover([2; 6], xid);
        packet.truncate(AT_OPTIONS);
        packet[0] = 2;
        packet[AT_YIADDR..AT_YIADDR + 4].copy_from_slice(&yiaddr);
        packet.extend(options);
        packet
    }

    #[test]
    fn offers_are_told_from_everything_else() {
        let lease = answer(
            9,
            [10, 0, 0, 50],
            &[53, 1, 2, 0, 54, 4, 10, 0, 0, 1, 255, 54],
        );
        assert_eq!(
            offer(&lease, 9),
            Some(DhcpServer {
                address: Ipv4Addr::new(10, 0, 0, 1),
                leases: true,
                boots: false
            })
        );
        assert_eq!(offer(&lease, 8), None, "an answer to somebody else");
        let proxy = answer(
            9,
            [0; 4],
            b"\x35\x01\x02\x36\x04\x0a\x00\x00\x02\x3c\x09PXEClient\xff",
        );
        let proxy = offer(&proxy, 9).unwrap();
        assert_eq!((proxy.leases, proxy.boots), (false, true));
        for options in [
            &[53, 1, 5, 54, 4, 10, 0, 0, 1][..],
            &[53, 1, 2],
            &[53, 200, 2],
            &[54, 4, 1],
        ] {
            assert_eq!(offer(&answer(9, [1; 4], options), 9), None, "{options:?}");
        }
        let question = discover([2, 0, 0, 0, 0, 1], 9);
        assert_eq!((offer(&question, 9), question.len() >= 300), (None, true));
    }

    proptest! {
        #[test]
        fn any_bytes(bytes: Vec<u8>, options: Vec<u8>) {
            let _ = offer(&bytes, 9);
            let _ = offer(&answer(9, [1; 4], &options), 9);
        }
    }
}
