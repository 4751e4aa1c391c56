//! Network cards.

use super::{registry_has_text, registry_number, status};
use firstboot::job::Mac;
use firstboot::report::Address;
use std::ffi::{c_void, CStr};
use std::io;
use std::net::IpAddr;
use std::os::raw::c_char;

/// A card with a MAC address.
pub(crate) struct Card {
    pub(crate) index: u32,
    pub(crate) mac: [u8; 6],
    /// `{GUID}`.
    pub(crate) guid: String,
}

impl Card {
    fn number(&self, name: &str) -> Option<u32> {
        registry_number(&self.key(), name)
    }

    /// Registry key with the card's addresses.
    pub(crate) fn key(&self) -> String {
        format!(
            r"SYSTEM\CurrentControlSet\Services\Tcpip\Parameters\Interfaces\{}",
            self.guid
        )
    }

    /// True if the card uses DHCP already: `netsh` fails if DHCP is set again.
    pub(crate) fn has_dhcp(&self) -> bool {
        self.number("EnableDHCP") == Some(1)
    }

    /// True if the card has name servers of its own.
    pub(crate) fn has_name_servers(&self) -> bool {
        registry_has_text(&self.key(), "NameServer")
    }
}

/// The beginning of IP_ADAPTER_ADDRESSES_LH, up to the last field that is read.
#[repr(C)]
struct Adapter {
    length: u32,
    index: u32,
    next: *const Adapter,
    name: *const c_char,
    unicast: *const Unicast,
    anycast: *const c_void,
    multicast: *const c_void,
    dns_servers: *const c_void,
    dns_suffix: *const u16,
    description: *const u16,
    friendly_name: *const u16,
    address: [u8; 8],
    address_length: u32,
}

/// Layout of SOCKET_ADDRESS.
#[repr(C)]
struct SocketAddress {
    start: *const u8,
    bytes: i32,
}

/// Layout of IP_ADAPTER_UNICAST_ADDRESS_LH.
#[repr(C)]
struct Unicast {
    length: u32,
    flags: u32,
    next: *const Unicast,
    address: SocketAddress,
    prefix_origin: i32,
    suffix_origin: i32,
    dad_state: i32,
    valid_lifetime: u32,
    preferred_lifetime: u32,
    lease_lifetime: u32,
    prefix: u8,
}

#[link(name = "iphlpapi")]
extern "system" {
    fn GetAdaptersAddresses(
        family: u32,
        flags: u32,
        reserved: *mut c_void,
        addresses: *mut c_void,
        bytes: *mut u32,
    ) -> u32;
}

/// Lists the cards with a MAC address.
pub(crate) fn cards() -> io::Result<Vec<Card>> {
    const SKIP_UNICAST: u32 = 1;
    adapters(SKIP_UNICAST, |cards, adapter, mac| {
        if !adapter.name.is_null() {
            // SAFETY: the name is zero-ended ASCII in the buffer of the list, which lives.
            let guid = unsafe { CStr::from_ptr(adapter.name) };
            cards.push(Card {
                index: adapter.index,
                mac,
                guid: guid.to_string_lossy().into_owned(),
            });
        }
    })
}

/// Lists the addresses of these cards.
pub(crate) fn addresses() -> io::Result<Vec<Address>> {
    adapters(0, |addresses, adapter, mac| {
        let mut next = adapter.unicast;
        while !next.is_null() {
            // SAFETY: the list lies in the buffer of the adapters, which lives, and was filled by
            // the system.
            let unicast = unsafe { &*next };
            next = unicast.next;
            let bytes = usize::try_from(unicast.address.bytes).unwrap_or(0);
            if unicast.address.start.is_null() {
                continue;
            }
            // SAFETY: the socket address lies in the same buffer and has the given number of bytes.
            let raw = unsafe { std::slice::from_raw_parts(unicast.address.start, bytes) };
            if let Some(ip) = ip_of(raw) {
                addresses.push(Address {
                    mac: Mac(mac),
                    ip,
                    prefix: unicast.prefix,
                });
            }
        }
    })
}

/// Reads a SOCKADDR_IN or SOCKADDR_IN6.
fn ip_of(raw: &[u8]) -> Option<IpAddr> {
    const AF_INET: u16 = 2;
    const AF_INET6: u16 = 23;
    let family = u16::from_le_bytes(raw.get(..2)?.try_into().ok()?);
    match family {
        AF_INET => Some(IpAddr::from(<[u8; 4]>::try_from(raw.get(4..8)?).ok()?)),
        AF_INET6 => Some(IpAddr::from(<[u8; 16]>::try_from(raw.get(8..24)?).ok()?)),
        _ => None,
    }
}

/// Collects values from every adapter with a MAC address.
fn adapters<T>(
    flags: u32,
    mut collect: impl FnMut(&mut Vec<T>, &Adapter, [u8; 6]),
) -> io::Result<Vec<T>> {
    const AF_UNSPEC: u32 = 0;
    /// Flags that leave out anycast and multicast addresses and name servers.
    const SKIP: u32 = 0x2 | 0x4 | 0x8;
    const ERROR_BUFFER_OVERFLOW: u32 = 111;
    const ERROR_NO_DATA: u32 = 232;
    let mut bytes = 32_768_u32;
    for _ in 0..5 {
        // Elements of u64, so that the structures in it are aligned.
        let mut buffer = vec![0_u64; (bytes as usize) / 8 + 1];
        bytes = (buffer.len() * 8) as u32;
        // SAFETY: the buffer is ours and has the given length.
        let code = unsafe {
            GetAdaptersAddresses(
                AF_UNSPEC,
                flags | SKIP,
                std::ptr::null_mut(),
                buffer.as_mut_ptr().cast(),
                &mut bytes,
            )
        };
        match code {
            ERROR_BUFFER_OVERFLOW => continue,
            ERROR_NO_DATA => return Ok(Vec::new()),
            code => status(code)?,
        }
        let mut collected = Vec::new();
        let mut next = buffer.as_ptr().cast::<Adapter>();
        while !next.is_null() {
            // SAFETY: the list lies in the buffer, which lives, and was filled by the system; every
            // structure is longer than the part that is declared here.
            let adapter = unsafe { &*next };
            next = adapter.next;
            if adapter.address_length == 6 {
                let [a, b, c, d, e, f, _, _] = adapter.address;
                collect(&mut collected, adapter, [a, b, c, d, e, f]);
            }
        }
        return Ok(collected);
    }
    Err(io::Error::from_raw_os_error(ERROR_BUFFER_OVERFLOW as i32))
}
