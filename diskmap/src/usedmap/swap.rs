//! Linux swap space: only its header is kept.
//!
//! The label and UUID in the first page must be kept; the pages behind it have no meaning after
//! power-off, unless the machine was hibernated: then the signature says so, and the pages are its
//! memory. Always holds: nothing is dropped unless signature, version and page size agree.

use super::bits::Used;
use super::stop::Stop;
use super::{Found, FsInfo, FsKind, MapOptions, Reader};
use crate::volume::{Fields, Volume};

/// Page sizes of Linux in bytes; the signature is at the end of the first page.
const PAGE_SIZES: [u32; 5] = [4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10];

/// The signature at the end of the first page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Signature {
    pub(super) page_size: u32,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// `SWAPSPACE2`: a header with a UUID and a label.
    Version1,
    /// `SWAP-SPACE`: from before Linux 2.2, no header.
    Version0,
    /// A hibernation image, by any of the names that systems have used.
    Hibernated,
}

/// Finds a swap signature at the end of a first page of any size.
pub(super) fn signature(head: &[u8]) -> Option<Signature> {
    PAGE_SIZES.iter().find_map(|page_size| {
        let end = usize::try_from(*page_size).ok()?;
        let mark = head.get(end.checked_sub(10)?..end)?;
        let state = match mark {
            b"SWAPSPACE2" => State::Version1,
            b"SWAP-SPACE" => State::Version0,
            b"LINHIB0001" => State::Hibernated,
            _ if mark.starts_with(b"S1SUSPEND")
                || mark.starts_with(b"S2SUSPEND")
                || mark.starts_with(b"ULSUSPEND")
                // The signature of TuxOnIce.
                || mark.starts_with(b"\xED\xC3\x02\xE9\x98\x56\xE5\x0C") =>
            {
                State::Hibernated
            }
            _ => return None,
        };
        Some(Signature {
            page_size: *page_size,
            state,
        })
    })
}

/// A swap area.
pub(super) struct Swap {
    info: FsInfo,
    signature: Signature,
}

impl Reader for Swap {
    fn open(volume: &Volume<'_>) -> Result<Self, Stop> {
        let head = volume.read_available(0, 64 << 10)?;
        let signature =
            signature(&head).ok_or_else(|| Stop::raw("no swap signature in the first page"))?;
        let mut info = FsInfo {
            kind: FsKind::Swap,
            label: None,
            uuid: None,
            block_size: signature.page_size,
            size: volume.length(),
        };
        if signature.state != State::Version0 {
            let header = Fields(&head);
            let version = header.u32(1024)?;
            if version != 1 {
                return Err(Stop::raw(format!("swap header version {version}")));
            }
            let pages = u64::from(header.u32(1028)?) + 1;
            info.size = pages * u64::from(signature.page_size);
            if info.size > volume.length() {
                return Err(Stop::raw(format!(
                    "swap area of {} bytes in a partition of {} bytes",
                    info.size,
                    volume.length()
                )));
            }
            info.uuid = header.uuid(1036)?;
            info.label = header.label(1052, 16)?;
        }
        Ok(Self { info, signature })
    }

    fn info(&self) -> FsInfo {
        self.info.clone()
    }

    fn used(&self, _volume: &Volume<'_>, _options: &MapOptions) -> Result<Found, Stop> {
        if self.signature.state == State::Hibernated {
            return Err(Stop::refused(
                "the swap area holds a hibernated system",
                "boot it and shut it down (not hibernate)",
            ));
        }
        let mut used = Used::new();
        used.add(0..u64::from(self.signature.page_size));
        Ok(Found {
            used,
            excluded: Vec::new(),
        })
    }
}
