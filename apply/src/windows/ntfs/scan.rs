//! Search of the whole MFT for reasons to refuse the volume, and for descriptors stored with their
//! file.

use super::descriptor::{self, MachinePart};
use super::{Changed, NtfsError, Planned, parts, system_stream};
use diskmap::Volume;
use diskmap::ntfs::{Body, FileName, Log, Mft, Record, VolumeInformation, kind, number};

/// Most bytes of a descriptor stored with its file; the same as the largest in `$SDS`.
const MOST_DESCRIPTOR_BYTES: u64 = 1 << 17;

/// Refuses a volume that is dirty or whose journal holds unfinished work.
pub(super) fn refuse_unclean(volume: &Volume<'_>, mft: &Mft) -> Result<(), NtfsError> {
    if mft.information(volume)?.flags & VolumeInformation::DIRTY != 0 {
        return Err(NtfsError::Refused("its dirty flag is set"));
    }
    match Log::read(mft, volume)? {
        Log::Empty => Ok(()),
        Log::Page(page) if !page.is_open => Ok(()),
        Log::Page(_) | Log::Unreadable => {
            Err(NtfsError::Refused("its journal holds unfinished work"))
        }
    }
}

/// Visits every record in use: a hibernation file refuses the volume, descriptors stored in or with
/// the record are rewritten.
pub(super) fn own_descriptors(
    changed: &mut Changed<'_>,
    old: &MachinePart,
    new: &MachinePart,
    planned: &mut Planned,
) -> Result<(), NtfsError> {
    let (volume, mft) = (changed.volume, changed.mft);
    mft.each_record(volume, |record| {
        look_at(&record?, changed, (old, new), planned)
    })
}

fn look_at(
    record: &Record,
    changed: &mut Changed<'_>,
    (old, new): (&MachinePart, &MachinePart),
    planned: &mut Planned,
) -> Result<(), NtfsError> {
    for attribute in record.attributes()? {
        match (attribute.kind, &attribute.body) {
            (kind::FILE_NAME, Body::Resident { value, .. })
                if record.base().is_none()
                    && is_hibernation_file(value)
                    && holds_session(changed, record)? =>
            {
                let why = "hiberfil.sys holds a session: shut the master down fully, or set discard_hibernation";
                return Err(NtfsError::Refused(why));
            }
            (kind::SECURITY_DESCRIPTOR, Body::Resident { value, range }) => {
                let mut text = value.to_vec();
                if descriptor::replace(&mut text, old, new) > 0 {
                    let record = changed.record(record.number())?;
                    if let Some(place) = record.bytes_mut().get_mut(range.clone()) {
                        place.copy_from_slice(&text);
                    }
                    planned.own += 1;
                }
            }
            (kind::SECURITY_DESCRIPTOR, Body::Clusters(clusters)) if clusters.lowest == 0 => {
                rewrite_in_clusters(record, changed, (old, new), planned)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Rewrites a descriptor that is too large for its record.
fn rewrite_in_clusters(
    record: &Record,
    changed: &Changed<'_>,
    (old, new): (&MachinePart, &MachinePart),
    planned: &mut Planned,
) -> Result<(), NtfsError> {
    let (volume, mft) = (changed.volume, changed.mft);
    let base = mft.record(volume, record.file())?;
    let stream = system_stream(mft, volume, &base, kind::SECURITY_DESCRIPTOR, "")?;
    let mut text = stream.read_all(volume, MOST_DESCRIPTOR_BYTES)?;
    if descriptor::replace(&mut text, old, new) == 0 {
        return Ok(());
    }
    for (place, part) in parts(&stream, 0, &text)? {
        planned.push(place, part)?;
    }
    planned.own += 1;
    Ok(())
}

/// True for the `$FILE_NAME` of `hiberfil.sys` in the root folder.
fn is_hibernation_file(name: &[u8]) -> bool {
    FileName::parse(name).is_some_and(|name| {
        name.folder.number == number::ROOT && name.text().eq_ignore_ascii_case("hiberfil.sys")
    })
}

/// True if the file begins with the mark of a hibernated (`hibr`) or waking (`wake`) session.
fn holds_session(changed: &Changed<'_>, record: &Record) -> Result<bool, NtfsError> {
    let content = changed.mft.find(changed.volume, record, kind::DATA, "")?;
    let Some(content) = content.filter(|content| content.size() >= 4) else {
        return Ok(false);
    };
    let mut magic = content.read(changed.volume, 0, 4)?;
    magic.make_ascii_lowercase();
    Ok(magic == b"hibr" || magic == b"wake")
}
