//! A master disk during a survey: bytes read are counted and reported, and after a cancellation the
//! next read fails. A survey therefore ends at once, anywhere in a file system's maps.

use super::{Cancelled, OnProgress};
use diskmap::ReadAt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A disk or file whose reads are counted and may be cancelled.
pub(super) struct Watched<'a> {
    dev: &'a dyn ReadAt,
    progress: OnProgress<'a>,
    cancelled: Cancelled<'a>,
    read: AtomicU64,
    stopped: AtomicBool,
}

impl<'a> Watched<'a> {
    /// Reports the bytes read to `progress`, with a total of zero, because the total is unknown.
    pub(super) fn new(
        dev: &'a dyn ReadAt,
        progress: OnProgress<'a>,
        cancelled: Cancelled<'a>,
    ) -> Self {
        Self {
            dev,
            progress,
            cancelled,
            read: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        }
    }

    /// True after a cancellation.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed) || (self.cancelled)()
    }
}

impl ReadAt for Watched<'_> {
    fn read_at(&self, pos: u64, buf: &mut [u8]) -> io::Result<usize> {
        if self.is_stopped() {
            self.stopped.store(true, Ordering::Relaxed);
            return Err(io::Error::other("cancelled"));
        }
        let count = self.dev.read_at(pos, buf)?;
        let before = self.read.fetch_add(count as u64, Ordering::Relaxed);
        (self.progress)(before + count as u64, 0);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DiskError;
    use crate::master::{MasterDisk, MasterOptions};
    use crate::survey::SurveyOptions;
    use std::os::unix::fs::FileExt;

    #[test]
    fn a_survey_tells_what_it_reads_and_ends_at_the_next_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let size = 64 << 20;
        let mut disk = vec![0u8; 1 << 20];
        disk[446 + 4] = 0x83;
        disk[446 + 8..446 + 16].copy_from_slice(&[0, 0, 1, 0, 0, 8, 0, 0]);
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        file.as_file().set_len(size).unwrap();
        // Before its only partition, at 32 MiB, some bytes have to be read.
        for at in [0, 4 << 20, 8 << 20, 12 << 20] {
            disk[1000] = 1;
            file.as_file().write_all_at(&disk, at).unwrap();
        }
        // A file that another program has open for writing is no master.
        let file = file.into_temp_path();
        let options = MasterOptions {
            survey: SurveyOptions::default(),
            chunk_log2: 20,
            sector_size: None,
        };
        let open = |most: u64| {
            let read = AtomicU64::new(0);
            let opened = MasterDisk::open(
                &file,
                &options,
                &|done, total| {
                    assert_eq!(total, 0);
                    read.store(done, Ordering::Relaxed);
                },
                &|| read.load(Ordering::Relaxed) > most,
            );
            (opened.map(drop), read.load(Ordering::Relaxed))
        };
        let (opened, all) = open(u64::MAX);
        opened.unwrap();
        assert!((3 << 20..32 << 20).contains(&all), "{all} bytes read");
        let (opened, read) = open(1 << 20);
        assert!(matches!(opened, Err(DiskError::Cancelled)), "{opened:?}");
        assert!(read <= 3 << 20, "{read} bytes read after the wish to stop");
    }
}
