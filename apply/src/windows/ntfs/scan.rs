//! Search of the whole MFT for reasons to refuse the volume, and for descriptors stored with their
//! file.

use super::descriptor::{self, MachinePart};
use super::record::{Body, REFERENCE_NUMBER, Record, kind};
use super::stream::{Found, Mft};
use super::volume::{Volume, u16_at, u32_at, u64_at};
use super::{NtfsError, Planned, changed_record};
use std::collections::BTreeMap;

const MIRROR: u64 = 1;
const LOG_FILE: u64 = 2;
const VOLUME: u64 = 3;
const ROOT_FOLDER: u64 = 5;
/// Offset of the flags in `$VOLUME_INFORMATION`.
const VOLUME_FLAGS: usize = 0x0a;
const DIRTY: u16 = 1;
/// Bytes of the MFT that are read at once.
const WINDOW: usize = 1 << 20;
/// Most bytes of the MFT's bitmap: room for 512 million files.
const MOST_BITMAP_BYTES: u64 = 64 << 20;
/// Most bytes of a descriptor stored with its file; the same as the largest in `$SDS`.
const MOST_DESCRIPTOR_BYTES: u64 = 1 << 17;

/// Refuses a volume that is dirty or whose journal holds unfinished work.
pub(super) fn refuse_unclean(volume: &dyn Volume, mft: &Mft) -> Result<(), NtfsError> {
    let record = mft.record(volume, VOLUME)?;
    let found = mft.find(volume, &record, kind::VOLUME_INFORMATION, "")?;
    let Some(Found::Resident(number, range)) = found else {
        return Err(NtfsError::structure("$Volume", VOLUME, "it has no flags"));
    };
    let holder = mft.record(volume, number)?;
    let information = holder.bytes.get(range).unwrap_or_default();
    match u16_at(information, VOLUME_FLAGS) {
        Some(flags) if flags & DIRTY == 0 => {}
        Some(_) => return Err(NtfsError::Refused("its dirty flag is set")),
        None => return Err(NtfsError::structure("$Volume", VOLUME, "it has no flags")),
    }
    let record = mft.record(volume, LOG_FILE)?;
    let log = mft.stream(volume, &record, kind::DATA, "")?;
    let mut page = vec![0; usize::try_from(log.size.min(4096)).unwrap_or(0)];
    log.read(volume, 0, &mut page)?;
    if log_is_clean(&page) {
        Ok(())
    } else {
        Err(NtfsError::Refused("its journal holds unfinished work"))
    }
}

/// True if the first restart page of `$LogFile` is emptied (all ones), has no client, or is marked
/// clean.
fn log_is_clean(page: &[u8]) -> bool {
    if page.iter().all(|byte| *byte == 0xff) {
        return true;
    }
    if page.get(..4) != Some(b"RSTR") {
        return false;
    }
    let area = usize::from(u16_at(page, 0x18).unwrap_or(0));
    let (clients, flags) = (u16_at(page, area + 0x0c), u16_at(page, area + 0x0e));
    area >= 0x1e && (clients == Some(0xffff) || flags.is_some_and(|flags| flags & 2 != 0))
}

/// Visits every record in use: a hibernation file refuses the volume, descriptors stored in or with
/// the record are rewritten.
pub(super) fn own_descriptors(
    volume: &dyn Volume,
    mft: &Mft,
    old: &MachinePart,
    new: &MachinePart,
    records: &mut BTreeMap<u64, Record>,
    planned: &mut Planned,
) -> Result<(), NtfsError> {
    each_record(volume, mft, |record| {
        look_at(volume, mft, record, (old, new), records, planned)
    })
}

/// Calls `look` for every record in use, in order.
pub(super) fn each_record(
    volume: &dyn Volume,
    mft: &Mft,
    mut look: impl FnMut(&Record) -> Result<(), NtfsError>,
) -> Result<(), NtfsError> {
    let base = mft.record(volume, 0)?;
    let used = match mft.find(volume, &base, kind::BITMAP, "")? {
        Some(Found::Stream(stream)) => stream.read_all(volume, MOST_BITMAP_BYTES)?,
        Some(Found::Resident(_, range)) => base.bytes.get(range).unwrap_or_default().to_vec(),
        None => return Err(NtfsError::structure("$MFT", 0, "it has no bitmap")),
    };
    let in_use = |number: u64| {
        let byte = usize::try_from(number / 8).ok().and_then(|at| used.get(at));
        byte.is_some_and(|byte| byte >> (number % 8) & 1 != 0)
    };
    let size = mft.geometry.record;
    let mut first = 0;
    while first < mft.count() {
        let count = (mft.count() - first).min((WINDOW / size) as u64);
        let mut window = vec![0; usize::try_from(count).unwrap_or(0) * size];
        mft.stream.read(volume, first * size as u64, &mut window)?;
        for (number, raw) in (first..).zip(window.chunks_exact(size)) {
            if !in_use(number) {
                continue;
            }
            // The bitmap reserves records for the MFT's own growth: those were never formatted.
            let Some(record) = Record::decode(number, raw.to_vec()) else {
                if raw.get(..4) == Some(b"FILE") || raw.get(..4) == Some(b"BAAD") {
                    return Err(NtfsError::structure("MFT record", number, "it is torn"));
                }
                continue;
            };
            if record.in_use() {
                look(&record)?;
            }
        }
        first += count;
    }
    Ok(())
}

fn look_at(
    volume: &dyn Volume,
    mft: &Mft,
    record: &Record,
    (old, new): (&MachinePart, &MachinePart),
    records: &mut BTreeMap<u64, Record>,
    planned: &mut Planned,
) -> Result<(), NtfsError> {
    for attribute in record.attributes()? {
        match (attribute.kind, &attribute.body) {
            (kind::FILE_NAME, Body::Resident(range)) if record.is_base() => {
                let name = record.bytes.get(range.clone()).unwrap_or_default();
                if is_hibernation_file(name) && holds_session(volume, mft, record)? {
                    let why = "hiberfil.sys holds a session: shut the master down fully, or set discard_hibernation";
                    return Err(NtfsError::Refused(why));
                }
            }
            (kind::SECURITY_DESCRIPTOR, Body::Resident(range)) => {
                let mut text = record.bytes.get(range.clone()).unwrap_or_default().to_vec();
                if descriptor::replace(&mut text, old, new) > 0 {
                    let record = changed_record(volume, mft, records, record.number)?;
                    if let Some(place) = record.bytes.get_mut(range.clone()) {
                        place.copy_from_slice(&text);
                    }
                    planned.own += 1;
                }
            }
            (kind::SECURITY_DESCRIPTOR, Body::NonResident { first: 0, .. }) => {
                rewrite_in_clusters(volume, mft, record, (old, new), planned)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Rewrites a descriptor that is too large for its record.
fn rewrite_in_clusters(
    volume: &dyn Volume,
    mft: &Mft,
    record: &Record,
    (old, new): (&MachinePart, &MachinePart),
    planned: &mut Planned,
) -> Result<(), NtfsError> {
    let number = match u64_at(&record.bytes, 0x20).unwrap_or(0) {
        0 => record.number,
        base => base & REFERENCE_NUMBER,
    };
    let base = mft.record(volume, number)?;
    let stream = mft.stream(volume, &base, kind::SECURITY_DESCRIPTOR, "")?;
    let mut text = stream.read_all(volume, MOST_DESCRIPTOR_BYTES)?;
    if descriptor::replace(&mut text, old, new) == 0 {
        return Ok(());
    }
    let mut done = 0;
    for (place, length) in stream.pieces(0, text.len())? {
        let place = place.ok_or_else(|| {
            NtfsError::structure("MFT record", number, "a descriptor lies in a hole")
        })?;
        planned.push(
            place,
            text.get(done..done + length).unwrap_or_default().to_vec(),
        )?;
        done += length;
    }
    planned.own += 1;
    Ok(())
}

/// True for the `$FILE_NAME` of `hiberfil.sys` in the root folder.
fn is_hibernation_file(name: &[u8]) -> bool {
    let parent = u64_at(name, 0).unwrap_or(0) & REFERENCE_NUMBER;
    let length = usize::from(name.get(0x40).copied().unwrap_or(0)) * 2;
    let text = name.get(0x42..0x42 + length).unwrap_or_default();
    parent == ROOT_FOLDER
        && length == 24
        && text
            .chunks_exact(2)
            .zip(b"hiberfil.sys")
            .all(|(unit, byte)| unit[1] == 0 && unit[0].eq_ignore_ascii_case(byte))
}

/// True if the file begins with the mark of a hibernated (`hibr`) or waking (`wake`) session.
fn holds_session(volume: &dyn Volume, mft: &Mft, record: &Record) -> Result<bool, NtfsError> {
    let mut magic = [0; 4];
    match mft.find(volume, record, kind::DATA, "")? {
        Some(Found::Stream(stream)) if stream.size >= 4 => {
            stream.read(volume, 0, &mut magic)?;
        }
        Some(Found::Resident(number, range)) => {
            let record = mft.record(volume, number)?;
            let start = u32_at(&record.bytes, range.start).filter(|_| range.len() >= 4);
            magic = start.unwrap_or(0).to_le_bytes();
        }
        _ => {}
    }
    magic.make_ascii_lowercase();
    Ok(&magic == b"hibr" || &magic == b"wake")
}

/// Plans the writes of changed records and of their copies in `$MFTMirr`.
pub(super) fn write_records(
    volume: &dyn Volume,
    mft: &Mft,
    records: &BTreeMap<u64, Record>,
    planned: &mut Planned,
) -> Result<(), NtfsError> {
    if records.is_empty() {
        return Ok(());
    }
    let size = mft.geometry.record;
    let base = mft.record(volume, MIRROR)?;
    let mirror = mft.stream(volume, &base, kind::DATA, "")?;
    for record in records.values() {
        let offset = record.number * size as u64;
        let bytes = record.encode();
        let mut streams = vec![&mft.stream];
        if offset + size as u64 <= mirror.size {
            streams.push(&mirror);
        }
        for stream in streams {
            let mut done = 0;
            for (place, length) in stream.pieces(offset, size)? {
                let place = place.ok_or_else(|| {
                    NtfsError::structure("MFT record", record.number, "it lies in a hole")
                })?;
                planned.push(
                    place,
                    bytes.get(done..done + length).unwrap_or_default().to_vec(),
                )?;
                done += length;
            }
        }
    }
    Ok(())
}
