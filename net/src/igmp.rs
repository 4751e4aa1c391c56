//! IGMP as far as a session needs it: parsing packets, and building two kinds.
//!
//! ```text
//!  0        4            8         12       16       20          24     25      26        28
//!  | IPv4 header ... proto 2 | source | destination | Router Alert | type | max rt | checksum | group |
//! ```
//!
//! Owns: offsets, checksums, and reasons to refuse a packet. Pure: no socket, no clock. No call
//! panics, whatever the bytes. Queries of IGMP version 1 to 3 are understood (RFC 2236, RFC 3376);
//! packets are sent in version 2, which every snooping switch knows.

use std::net::Ipv4Addr;
use thiserror::Error;

/// Group of all hosts, to which general queries are sent.
pub const ALL_HOSTS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
/// Length of a packet from here in bytes: IPv4 header with Router Alert, IGMP.
pub const PACKET_BYTES: usize = HEADER_BYTES + IGMP_BYTES;

const HEADER_BYTES: usize = 24;
const IGMP_BYTES: usize = 8;
const PROTOCOL: u8 = 2;
/// Option of RFC 2113: routers inspect the packet although it is not addressed to them. RFC 2236
/// requires it.
const ROUTER_ALERT: [u8; 4] = [0x94, 0x04, 0, 0];
/// Type of service "internetwork control", which every IGMP implementation uses.
const TOS: u8 = 0xc0;

const QUERY: u8 = 0x11;
const REPORT_V1: u8 = 0x12;
const REPORT_V2: u8 = 0x16;
const LEAVE: u8 = 0x17;
const REPORT_V3: u8 = 0x22;

/// The reason why bytes are not an IGMP packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Error)]
#[non_exhaustive]
pub enum IgmpError {
    /// The packet is shorter than its headers state or need.
    #[error("IGMP packet of {got} bytes, {needed} needed")]
    Short {
        /// Length of the packet in bytes.
        got: usize,
        /// Needed length in bytes.
        needed: usize,
    },
    /// The packet is not IPv4, or contains no IGMP.
    #[error("no IGMP in this packet")]
    Foreign,
    /// The packet was damaged or made up.
    #[error("IGMP checksum does not match")]
    Checksum,
}

/// Content of an IGMP packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Message {
    /// A query for members, of all groups when `group` is `None`. A switch keeps a port's
    /// memberships alive by the reports.
    Query {
        /// The only group that is queried.
        group: Option<Ipv4Addr>,
        /// IGMP version of the packet.
        version: u8,
    },
    /// A host reports its groups.
    Report,
    /// A host leaves a group.
    Leave,
    /// Any other type (PIM, DVMRP, future ones).
    Other(u8),
}

/// An IGMP packet with its source.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Packet {
    /// Source address; 0.0.0.0 for a switch that queries on behalf of others.
    pub source: Ipv4Addr,
    /// Content of the packet.
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

/// Parses an IPv4 packet as a raw socket delivers it.
///
/// # Errors
/// [`IgmpError`] with the reason.
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
    // Ethernet pads short packets, so bytes after the total length do not belong to the packet.
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

/// Builds a general query; hosts spread their reports over `max_response_tenths` of a second.
pub fn query(source: Ipv4Addr, max_response_tenths: u8) -> [u8; PACKET_BYTES] {
    emit(
        source,
        ALL_HOSTS,
        QUERY,
        max_response_tenths,
        Ipv4Addr::UNSPECIFIED,
    )
}

/// Builds an unsolicited report: this host is a member of `group`.
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
    // The time to live keeps the packet in this network: beyond a router, other hosts would answer
    // the query.
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

/// Internet checksum (RFC 1071); zero over bytes that contain a correct one.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        let high = pair.first().copied().unwrap_or(0);
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u32::from(u16::from_be_bytes([high, low]));
        // Carries are folded at once, so that no length of input can overflow.
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
        // The bytes as RFC 2236 and tcpdump show them: `igmp query v2`, checksum ee9b for 10 s.
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
