//! Packets to bytes and back: the fixed part, options that overflow into it (option 52), options
//! longer than 255 bytes (RFC 3396).

use super::{DhcpError, MAX_BYTES, Mac, Op, Options, Packet, code};
use std::net::Ipv4Addr;

const AT_XID: usize = 4;
const AT_SECS: usize = AT_XID + 4;
const AT_FLAGS: usize = AT_SECS + 2;
const AT_CIADDR: usize = AT_FLAGS + 2;
const AT_YIADDR: usize = AT_CIADDR + 4;
const AT_SIADDR: usize = AT_YIADDR + 4;
const AT_GIADDR: usize = AT_SIADDR + 4;
const AT_CHADDR: usize = AT_GIADDR + 4;
const AT_SNAME: usize = AT_CHADDR + 16;
const AT_FILE: usize = AT_SNAME + 64;
const AT_COOKIE: usize = AT_FILE + 128;
const AT_OPTIONS: usize = AT_COOKIE + 4;

const COOKIE: [u8; 4] = [0x63, 0x82, 0x53, 0x63];
const BROADCAST: u16 = 0x8000;
const ETHERNET: u8 = 1;
/// Hardware type IEEE 802, which some firmware reports for Ethernet.
const IEEE_802: u8 = 6;
/// The smallest packet a BOOTP relay has to pass on (RFC 1542 section 2.1), in bytes. Some firmware
/// drops shorter ones too.
const MIN_BYTES: usize = 300;

impl Packet {
    /// Parses a datagram.
    ///
    /// # Errors
    /// [`DhcpError`] for bytes that are no DHCP packet of an Ethernet card.
    pub fn parse(bytes: &[u8]) -> Result<Self, DhcpError> {
        if bytes.len() > MAX_BYTES {
            return Err(DhcpError::Long(bytes.len()));
        }
        let Some((fixed, rest)) = bytes.split_first_chunk::<AT_OPTIONS>() else {
            return Err(DhcpError::Short(bytes.len()));
        };
        if fixed[AT_COOKIE..] != COOKIE {
            return Err(DhcpError::NoCookie);
        }
        let op = match fixed[0] {
            1 => Op::Request,
            2 => Op::Reply,
            other => return Err(DhcpError::Op(other)),
        };
        let (kind, length) = (fixed[1], fixed[2]);
        if !matches!(kind, ETHERNET | IEEE_802) || length != 6 {
            return Err(DhcpError::Hardware { kind, length });
        }
        let address = |at: usize| Ipv4Addr::from(four(fixed, at));
        let flags = u16::from_be_bytes([fixed[AT_FLAGS], fixed[AT_FLAGS + 1]]);
        let mut mac = [0; 6];
        mac.copy_from_slice(&fixed[AT_CHADDR..AT_CHADDR + 6]);
        let (sname, file) = (&fixed[AT_SNAME..AT_FILE], &fixed[AT_FILE..AT_COOKIE]);
        let mut packet = Self::question(Mac(mac), u32::from_be_bytes(four(fixed, AT_XID)));
        packet.op = op;
        packet.hops = fixed[3];
        packet.secs = u16::from_be_bytes([fixed[AT_SECS], fixed[AT_SECS + 1]]);
        packet.broadcast = flags & BROADCAST != 0;
        packet.ciaddr = address(AT_CIADDR);
        packet.yiaddr = address(AT_YIADDR);
        packet.siaddr = address(AT_SIADDR);
        packet.giaddr = address(AT_GIADDR);
        read_options(&mut packet.options, rest)?;
        // Options continue in the other two fields: first `file`, then `sname` (RFC 3396 section
        // 5).
        let overload = match packet.options.get(code::OVERLOAD) {
            Some([bits]) => *bits,
            _ => 0,
        };
        // Only once: an overload inside an overloaded field has no meaning (RFC 2132 section 9.3).
        packet.options.remove(code::OVERLOAD);
        if overload & 1 != 0 {
            read_options(&mut packet.options, file)?;
        } else {
            packet.file = until_zero(file);
        }
        if overload & 2 != 0 {
            read_options(&mut packet.options, sname)?;
        } else {
            packet.server_name = until_zero(sname);
        }
        packet.options.remove(code::OVERLOAD);
        Ok(packet)
    }

    /// Writes the datagram: at least 300 bytes, never with option 52. The caller keeps the options
    /// short enough for an MTU.
    pub fn emit(&self) -> Vec<u8> {
        let mut fixed = [0; AT_OPTIONS];
        fixed[0] = match self.op {
            Op::Request => 1,
            Op::Reply => 2,
        };
        fixed[1..4].copy_from_slice(&[ETHERNET, 6, self.hops]);
        let mut put = |at: usize, bytes: &[u8]| {
            for (to, from) in fixed.iter_mut().skip(at).zip(bytes) {
                *to = *from;
            }
        };
        put(AT_XID, &self.xid.to_be_bytes());
        put(AT_SECS, &self.secs.to_be_bytes());
        let flags = if self.broadcast { BROADCAST } else { 0 };
        put(AT_FLAGS, &flags.to_be_bytes());
        put(AT_CIADDR, &self.ciaddr.octets());
        put(AT_YIADDR, &self.yiaddr.octets());
        put(AT_SIADDR, &self.siaddr.octets());
        put(AT_GIADDR, &self.giaddr.octets());
        put(AT_CHADDR, &self.mac.0);
        put(AT_SNAME, &self.server_name);
        put(AT_FILE, &self.file);
        put(AT_COOKIE, &COOKIE);
        let mut bytes = fixed.to_vec();
        // Clients look for these two first; some read no further than they must.
        let first = [code::MESSAGE_TYPE, code::SERVER_ID];
        let leading = first
            .iter()
            .filter_map(|code| Some((*code, self.options.get(*code)?)));
        let others = self
            .options
            .iter()
            .filter(|(code, _)| !first.contains(code) && *code != code::RELAY_AGENT);
        // The relay agent's option comes last (RFC 3046 section 2.1).
        let relay = self
            .options
            .get(code::RELAY_AGENT)
            .map(|value| (code::RELAY_AGENT, value));
        for (code, value) in leading.chain(others).chain(relay) {
            write_option(&mut bytes, code, value);
        }
        bytes.push(code::END);
        bytes.resize(bytes.len().max(MIN_BYTES), code::PAD);
        bytes
    }
}

/// Four bytes of the fixed part; `at` is one of the offsets above.
fn four(fixed: &[u8; AT_OPTIONS], at: usize) -> [u8; 4] {
    [fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]
}

fn until_zero(field: &[u8]) -> Vec<u8> {
    field
        .iter()
        .copied()
        .take_while(|byte| *byte != 0)
        .collect()
}

/// Reads a field of options. A second occurrence of an option continues the first (RFC 3396 section
/// 7). A missing end mark is accepted, because some firmware forgets it.
pub(super) fn read_options(options: &mut Options, mut rest: &[u8]) -> Result<(), DhcpError> {
    while let Some((&code, after)) = rest.split_first() {
        rest = match code {
            code::PAD => after,
            code::END => break,
            _ => {
                let (&length, after) = after.split_first().ok_or(DhcpError::Cut(code))?;
                let (value, after) = after
                    .split_at_checked(usize::from(length))
                    .ok_or(DhcpError::Cut(code))?;
                options.append(code, value);
                after
            }
        };
    }
    Ok(())
}

fn write_option(bytes: &mut Vec<u8>, code: u8, value: &[u8]) {
    let mut put = |part: &[u8]| {
        // `chunks` gives at most 255 bytes.
        bytes.extend([code, u8::try_from(part.len()).unwrap_or(u8::MAX)]);
        bytes.extend(part);
    };
    if value.is_empty() {
        put(&[]);
    }
    value.chunks(255).for_each(put);
}
