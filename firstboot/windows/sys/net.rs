//! Network cards.

use super::{registry_has_text, registry_number, status};
use std::ffi::{c_void, CStr};
use std::io;
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

    /// Where Windows keeps its addresses.
    pub(crate) fn key(&self) -> String {
        format!(
            r"SYSTEM\CurrentControlSet\Services\Tcpip\Parameters\Interfaces\{}",
            self.guid
        )
    }

    /// It asks a DHCP server already: `netsh` calls it a failure to be told so again.
    pub(crate) fn has_dhcp(&self) -> bool {
        self.number("EnableDHCP") == Some(1)
    }

    /// It has name servers of its own.
    pub(crate) fn has_name_servers(&self) -> bool {
        registry_has_text(&self.key(), "NameServer")
    }
}

/// The beginning of IP_ADAPTER_ADDRESSES_LH, as far as it is read.
#[repr(C)]
struct Adapter {
    length: u32,
    index: u32,
    next: *const Adapter,
    name: *const c_char,
    unicast: *const c_void,
    anycast: *const c_void,
    multicast: *const c_void,
    dns_servers: *const c_void,
    dns_suffix: *const u16,
    description: *const u16,
    friendly_name: *const u16,
    address: [u8; 8],
    address_length: u32,
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

pub(crate) fn cards() -> io::Result<Vec<Card>> {
    const AF_UNSPEC: u32 = 0;
    /// Without addresses and name servers: cards only.
    const FLAGS: u32 = 0x1 | 0x2 | 0x4 | 0x8;
    const ERROR_BUFFER_OVERFLOW: u32 = 111;
    const ERROR_NO_DATA: u32 = 232;
    let mut bytes = 32_768_u32;
    for _ in 0..5 {
        // Of u64, so that the structures in it are aligned.
        let mut buffer = vec![0_u64; (bytes as usize) / 8 + 1];
        bytes = (buffer.len() * 8) as u32;
        // SAFETY: the buffer is ours and as long as said.
        let code = unsafe {
            GetAdaptersAddresses(
                AF_UNSPEC,
                FLAGS,
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
        let mut cards = Vec::new();
        let mut next = buffer.as_ptr().cast::<Adapter>();
        while !next.is_null() {
            // SAFETY: the list lies in the buffer, which lives, and was filled by the system; every structure is longer than
            // the part that is declared here.
            let adapter = unsafe { &*next };
            next = adapter.next;
            if adapter.address_length == 6 && !adapter.name.is_null() {
                // SAFETY: the name is zero-ended ASCII in the same buffer.
                let guid = unsafe { CStr::from_ptr(adapter.name) };
                let [a, b, c, d, e, f, _, _] = adapter.address;
                cards.push(Card {
                    index: adapter.index,
                    mac: [a, b, c, d, e, f],
                    guid: guid.to_string_lossy().into_owned(),
                });
            }
        }
        return Ok(cards);
    }
    Err(io::Error::from_raw_os_error(ERROR_BUFFER_OVERFLOW as i32))
}
