//! IGMP as far as a session needs it: reading what is on the wire, and two packets of our own.
//!
//! ```text
//!  0        4            8         12       16       20          24     25      26        28
//!  | IPv4 header ... proto 2 | source | destination | Router Alert | type | max rt | checksum | group |
//! ```
//!
//! Owns: offsets, checksums, what is refused. Pure: no socket, no clock. No call panics, whatever the bytes are. Queries of IGMP
//! version 1 to 3 are understood (RFC 2236, RFC 3376); what we send is version 2, which every switch that snoops knows.

use std::net::Ipv4Addr;
use thiserror::Error;

/// Every host of the network: where general queries go.
pub const ALL_HOSTS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
/// Bytes of a packet of ours: IPv4 header with Router Alert, IGMP.
pub const PACKET_BYTES: usize = HEADER_BYTES + IGMP_BYTES;

const HEADER_BYTES: usize = 24;
const IGMP_BYTES: usize = 8;
const PROTOCOL: u8 = 2;
/// RFC 2113: routers look at the packet although it is not for them. RFC 2236 asks for it.
const ROUTER_ALERT: [u8; 4] = [0x94, 0x04, 0, 0];
/// Internetwork control, as every IGMP implementation marks it.
const TOS: u8 = 0xc0;

const QUERY: u8 = 0x11;
const REPORT_V1: u8 = 0x12;
const REPORT_V2: u8 = 0x16;
const LEAVE: u8 = 0x17;
const REPORT_V3: u8 = 0x22;

/// Why bytes are no IGMP packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Error)]
#[non_exhaustive]
pub enum IgmpError {
    /// Fewer bytes than its headers claim or need.
    #[error("IGMP packet of {got} bytes, {needed} needed")]
    Short {
        /// Bytes there.
        got: usize,
        /// Bytes needed.
        needed: usize,
    },
    /// Not IPv4, or not IGMP within.
    #[error("no IGMP in this packet")]
    Foreign,
    /// Damaged on the way, or made up.
    #[error("IGMP checksum does not match")]
    Checksum,
}

/// What an IGMP packet says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Message {
    /// Who is there? Of all groups when `group` is none. A switch keeps a port alive for the answers.
    Query {
        /// One group only.
        group: Option<Ipv4Addr>,
        /// IGMP version it is written in.
        version: u8,
    },
    /// A host wants groups.
    Report,
    /// A host has left a group.
    Leave,
    /// Anything else (PIM, DVMRP, what is to come).
    Other(u8),
}

/// An IGMP packet and who sent it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Packet {
    /// Sender; 0.0.0.0 when a switch asks for somebody else.
    pub source: Ipv4Addr,
    /// What it says.
    pub message: Message,
}

impl Packet {
    /// The querier, when this is a general query: the only kind that keeps all memberships alive.
    pub fn general_query(&self) -> Option<Ipv4Addr> {
        match self.message {
            Message::Query { group: None, .. } => Some(self.source),
            _ => None,
        }
    }
}

/// Reads an IPv4 packet as a raw socket delivers it.
///
/// # Errors
/// [`IgmpError`] says what is wrong with it.
pub fn parse(packet: &[u8]) -> Result<Packet, IgmpError> {
    let short = |needed| IgmpError::Short {
        got: packet.len(),
        needed,
    };
    let header: &[u8; 20] = packet.first_chunk().ok_or(short(20))?;
    let [first, ..] = *header;
    if first >> 4 != 4 || header[9] != PROTOCOL {
        return Err(IgmpError::Foreign);
    }
    let header_bytes = usize::from(first & 15) * 4;
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header_bytes < 20 || total < header_bytes + IGMP_BYTES {
        return Err(short(20 + IGMP_BYTES));
    }
    // Ethernet pads short packets; what follows the total length is nobody's.
    let igmp = packet.get(header_bytes..total).ok_or(short(total))?;
    if checksum(igmp) != 0 {
        return Err(IgmpError::Checksum);
    }
    let body: &[u8; IGMP_BYTES] = igmp.first_chunk().ok_or(short(total))?;
    let [kind, max_response, _, _, a, b, c, d] = *body;
    let group = Ipv4Addr::new(a, b, c, d);
    let source = Ipv4Addr::new(header[12], header[13], header[14], header[15]);
    let message = match kind {
        QUERY => Message::Query {
            group: (!group.is_unspecified()).then_some(group),
            version: match (igmp.len(), max_response) {
                (12.., _) => 3,
                (_, 0) => 1,
                _ => 2,
            },
        },
        REPORT_V1 | REPORT_V2 | REPORT_V3 => Message::Report,
        LEAVE => Message::Leave,
        other => Message::Other(other),
    };
    Ok(Packet { source, message })
}

/// A general query; hosts spread their answers over `max_response_tenths` of a second.
pub fn query(source: Ipv4Addr, max_response_tenths: u8) -> [u8; PACKET_BYTES] {
    emit(
        source,
        ALL_HOSTS,
        QUERY,
        max_response_tenths,
        Ipv4Addr::UNSPECIFIED,
    )
}

/// A report that nobody asked for: this host still wants `group`.
pub fn report(source: Ipv4Addr, group: Ipv4Addr) -> [u8; PACKET_BYTES] {
    emit(source, group, REPORT_V2, 0, group)
}

fn emit(
    source: Ipv4Addr,
    destination: Ipv4Addr,
    kind: u8,
    max_response: u8,
    group: Ipv4Addr,
) -> [u8; PACKET_BYTES] {
    let mut igmp = [0; IGMP_BYTES];
    igmp[0] = kind;
    igmp[1] = max_response;
    igmp[4..].copy_from_slice(&group.octets());
    let sum = checksum(&igmp);
    igmp[2..4].copy_from_slice(&sum.to_be_bytes());

    let mut packet = [0; PACKET_BYTES];
    packet[0] = 4 << 4 | 6;
    packet[1] = TOS;
    packet[3] = 32;
    // Never leaves the network: a query that crossed a router would make strangers answer.
    packet[8] = 1;
    packet[9] = PROTOCOL;
    packet[12..16].copy_from_slice(&source.octets());
    packet[16..20].copy_from_slice(&destination.octets());
    packet[20..24].copy_from_slice(&ROUTER_ALERT);
    packet[24..].copy_from_slice(&igmp);
    let sum = checksum(&packet[..HEADER_BYTES]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// Internet checksum (RFC 1071): zero over bytes that hold a right one.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        let high = pair.first().copied().unwrap_or(0);
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u32::from(u16::from_be_bytes([high, low]));
        // Folded at once, so that no length of input can overflow it.
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OWN: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

    #[test]
    fn what_we_send_is_understood() {
        let packet = query(OWN, 100);
        assert_eq!(
            parse(&packet),
            Ok(Packet {
                source: OWN,
                message: Message::Query {
                    group: None,
                    version: 2
                }
            })
        );
        assert_eq!(checksum(&packet[..24]), 0);
        // The bytes as RFC 2236 and tcpdump have them: `igmp query v2`, checksum ee9b for 10 s.
        assert_eq!(packet[24..], [0x11, 100, 0xee, 0x9b, 0, 0, 0, 0]);
        let group = Ipv4Addr::new(239, 254, 1, 1);
        let packet = report(OWN, group);
        assert_eq!(parse(&packet).unwrap().message, Message::Report);
        assert_eq!(
            (&packet[16..20], &packet[28..]),
            (&[239, 254, 1, 1][..], &[239, 254, 1, 1][..])
        );
    }

    /// A version 3 query as a Linux bridge sends it, padded by Ethernet.
    #[test]
    fn version_three_and_padding() {
        let mut igmp = vec![0x11, 20, 0, 0, 0, 0, 0, 0, 2, 10, 0, 0];
        let sum = checksum(&igmp).to_be_bytes();
        igmp[2..4].copy_from_slice(&sum);
        let mut packet = query(OWN, 1)[..24].to_vec();
        packet[3] = 36;
        packet.extend(&igmp);
        packet.extend([0xff; 10]);
        let read = parse(&packet).unwrap();
        assert_eq!(
            read.message,
            Message::Query {
                group: None,
                version: 3
            }
        );
        assert_eq!(read.general_query(), Some(OWN));
        packet[30] ^= 1;
        assert_eq!(parse(&packet), Err(IgmpError::Checksum));
        assert!(matches!(
            parse(&packet[..30]),
            Err(IgmpError::Short { needed: 36, .. })
        ));
        assert_eq!(parse(&[0x60; 40]), Err(IgmpError::Foreign));
    }

    proptest! {
        #[test]
        fn any_bytes(bytes: Vec<u8>, flips: Vec<(usize, u8)>) {
            let _ = parse(&bytes);
            let mut packet = query(OWN, 100);
            for (at, bits) in flips {
                packet[at % PACKET_BYTES] ^= bits;
            }
            let _ = parse(&packet);
        }
    }
}
