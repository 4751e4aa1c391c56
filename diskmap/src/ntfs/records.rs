//! All records of a volume, in order.

use super::record::Record;
use super::{Mft, NtfsError, kind, number};
use crate::volume::Volume;

/// Bytes of the table that are read at once.
const WINDOW: u64 = 1 << 20;
/// Most bytes of the table's bitmap: room for 512 million files.
const MOST_BITMAP_BYTES: u64 = 64 << 20;

impl Mft {
    /// Calls `look` for every record in use, in order: with the record, or with the fault of one
    /// that is torn.
    ///
    /// # Errors
    ///
    /// The table or its bitmap cannot be read, or `look` returned an error.
    pub fn each_record<E: From<NtfsError>>(
        &self,
        volume: &Volume<'_>,
        mut look: impl FnMut(Result<Record, NtfsError>) -> Result<(), E>,
    ) -> Result<(), E> {
        let base = self.record(volume, number::MFT)?;
        let used = self
            .find(volume, &base, kind::BITMAP, "")?
            .ok_or(NtfsError::record(number::MFT, "$MFT has no bitmap"))?
            .read_all(volume, MOST_BITMAP_BYTES)?;
        let in_use = |number: u64| {
            let byte = usize::try_from(number / 8).ok().and_then(|at| used.get(at));
            byte.is_some_and(|byte| byte >> (number % 8) & 1 != 0)
        };
        let bytes = self.geometry().record_bytes();
        // Records have at most 64 KiB.
        let size = usize::try_from(bytes).unwrap_or(usize::MAX);
        let mut first = 0;
        while first < self.count() {
            let count = (self.count() - first).min(WINDOW / bytes);
            let window = self.stream().read(volume, first * bytes, count * bytes)?;
            for (number, raw) in (first..).zip(window.chunks_exact(size)) {
                // The bitmap reserves records for the table's own growth: those were never
                // formatted.
                let formatted = raw.starts_with(b"FILE") || raw.starts_with(b"BAAD");
                if !in_use(number) || !formatted {
                    continue;
                }
                match Record::parse(number, raw.to_vec()) {
                    Ok(record) if !record.in_use() => {}
                    found => look(found)?,
                }
            }
            first += count;
        }
        Ok(())
    }
}
