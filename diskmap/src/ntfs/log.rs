//! The state of `$LogFile`, the journal of a volume.
//!
//! Its first two pages are restart pages, written in turn: the newer one counts, and one of them may
//! be torn. Drivers other than Windows empty the journal instead: all bytes are ones.

use super::layout::{block, log};
use super::{Mft, NtfsError, fixup, kind, number};
use crate::volume::{Fields, Volume};

/// The first bytes of an emptied page.
const EMPTY: [u8; 4] = [0xFF; 4];
/// Length of a page if the first one is emptied.
const USUAL_PAGE: u64 = 4096;
const NO_CLIENT: u16 = 0xFFFF;
const CLEAN: u16 = 2;

/// The state of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Log {
    /// Both restart pages are emptied: nothing is pending.
    Empty,
    /// The newest restart page.
    Page(RestartPage),
    /// No restart page can be read.
    Unreadable,
}

/// A restart page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartPage {
    lsn: u64,
    /// Version of the journal: major and minor. Windows uses 2.0 while a volume is mounted, and
    /// returns to 1.1 when it is closed.
    pub version: (u16, u16),
    /// True if a driver has the journal open, or had it open when the power failed.
    pub is_open: bool,
}

impl Log {
    /// Reads the restart pages.
    ///
    /// # Errors
    ///
    /// `$LogFile` is no plain file, or its pages make no sense.
    pub fn read(mft: &Mft, volume: &Volume<'_>) -> Result<Self, NtfsError> {
        let record = mft.record(volume, number::LOG_FILE)?;
        let stream = mft
            .find(volume, &record, kind::DATA, "")?
            .filter(super::Stream::is_plain)
            .ok_or(NtfsError::record(
                number::LOG_FILE,
                "$LogFile has no plain data",
            ))?;
        let head = stream.read_metadata(volume, 0, 512)?;
        let page_bytes = match head.starts_with(&EMPTY) {
            true => USUAL_PAGE,
            false => u64::from(Fields(&head).u32(log::AT_PAGE_BYTES)?),
        };
        if !page_bytes.is_power_of_two() || !(512..=64 << 10).contains(&page_bytes) {
            return Err(NtfsError::record(
                number::LOG_FILE,
                "the pages of $LogFile have no size",
            ));
        }
        let mut latest: Option<RestartPage> = None;
        let mut empty = 0;
        for at in [0, page_bytes] {
            let page = stream.read_metadata(volume, at, page_bytes)?;
            if page.starts_with(&EMPTY) {
                empty += 1;
            } else if let Some(page) = RestartPage::parse(page)?
                && latest.is_none_or(|best| page.lsn > best.lsn)
            {
                latest = Some(page);
            }
        }
        Ok(match latest {
            Some(page) => Self::Page(page),
            None if empty == 2 => Self::Empty,
            None => Self::Unreadable,
        })
    }
}

impl RestartPage {
    /// Parses a page; `None` if it is torn or no restart page.
    fn parse(mut page: Vec<u8>) -> Result<Option<Self>, NtfsError> {
        // A check of the volume marks the pages with other letters.
        let magic = match page.starts_with(b"CHKD") {
            true => b"CHKD",
            false => b"RSTR",
        };
        if fixup::undo(&mut page, magic).is_err() {
            return Ok(None);
        }
        let page = Fields(&page);
        let area = usize::from(page.u16(log::AT_AREA)?);
        if area < block::BYTES {
            return Ok(None);
        }
        let client = page.u16(area + log::AT_CLIENT)?;
        let flags = page.u16(area + log::AT_AREA_FLAGS)?;
        Ok(Some(Self {
            lsn: page.u64(area + log::AT_LSN)?,
            version: (page.u16(log::AT_MAJOR)?, page.u16(log::AT_MINOR)?),
            is_open: client != NO_CLIENT && flags & CLEAN == 0,
        }))
    }
}
