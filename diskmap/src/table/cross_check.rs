//! Compares our reading of a table with the `gpt` and `mbrman` crates.
//!
//! Owns the comparison and the list of cases that those crates get wrong. They are not called in
//! these cases, because some of them are assertions. A difference is a note for the technician at
//! capture, never an error: our reader follows the kernel and is the one tested against sfdisk and
//! sgdisk.

use std::io::{self, Read, Seek, SeekFrom, Write};

use positioned_io::ReadAt;

use super::mbr::entries;
use super::{Layout, PartitionTable, Role};

/// The differences found by the other crates, in sentences; empty if they agree or cannot be
/// called.
#[must_use]
pub fn cross_check(table: &PartitionTable, dev: &dyn ReadAt) -> Vec<String> {
    let cursor = Cursor {
        dev,
        position: 0,
        size: table.sectors().saturating_mul(u64::from(table.sector_size)),
    };
    match &table.layout {
        // gpt 4.1 asserts entries of 128 bytes. If the primary header is not the classic 92 bytes,
        // it takes the backup, whatever its entry size. It fails on a good header with a damaged
        // array.
        Layout::Gpt(layout)
            if layout.primary_whole
                && layout.active.header.entry_size == 128
                && layout.active.header.header_size == 92 =>
        {
            check_gpt(table, cursor)
        }
        Layout::Mbr(_) if mbrman_can_read(table) => check_mbr(table, cursor),
        _ => Vec::new(),
    }
}

/// A partition in the terms of all three readers: number, first LBA, sectors.
type Line = (u64, u64, u64);

/// The partitions of our reader as [`Line`]s.
fn ours(table: &PartitionTable) -> Vec<Line> {
    let sector = u64::from(table.sector_size.max(1));
    table
        .partitions
        .iter()
        .map(|p| (u64::from(p.number), p.start / sector, p.length / sector))
        .collect()
}

fn check_gpt(table: &PartitionTable, cursor: Cursor<'_>) -> Vec<String> {
    let Ok(sector) = gpt::disk::LogicalBlockSize::try_from(u64::from(table.sector_size)) else {
        return Vec::new();
    };
    let config = gpt::GptConfig::new()
        .writable(false)
        .logical_block_size(sector);
    let disk = match config.open_from_device(cursor) {
        Ok(disk) => disk,
        Err(error) => return vec![format!("the gpt crate cannot read this table: {error}")],
    };
    let theirs = disk
        .partitions()
        .iter()
        .filter(|(_, partition)| partition.is_used())
        .map(|(number, partition)| {
            let last = partition.last_lba.saturating_sub(partition.first_lba);
            let sectors = last.saturating_add(1);
            (u64::from(*number), partition.first_lba, sectors)
        })
        .collect();
    differences("gpt", ours(table), theirs)
}

/// True if mbrman 0.6 can read the table.
///
/// It requires a chain with ascending positions and the link in the second entry; it adds positions
/// in 32 bits with an overflow check, follows types c5 and d5, and reads only the first extended
/// partition.
fn mbrman_can_read(table: &PartitionTable) -> bool {
    let Layout::Mbr(layout) = &table.layout else {
        return false;
    };
    // mbrman also decides by the type, where the kernel decides by the size, and it divides by the
    // starts it finds.
    let odd = |sector: &[u8]| {
        entries(sector).iter().any(|entry| {
            matches!(entry.type_id, 0xc5 | 0xd5)
                || entry.is_used() != (entry.type_id != 0)
                || (entry.is_used() && entry.start == 0)
        })
    };
    let odd = table.regions.iter().any(|region| odd(&region.bytes));
    let containers = table.partitions.iter().filter(|p| p.is_extended()).count();
    let rising = layout
        .ebrs
        .windows(2)
        .all(|pair| matches!(pair, [a, b] if a.lba < b.lba));
    let plain = table
        .regions
        .iter()
        .filter(|region| region.role == Role::Ebr)
        .all(|region| {
            let lba = region.offset / u64::from(table.sector_size.max(1));
            let [data, link, third, fourth] = entries(&region.bytes);
            let fits = lba + u64::from(data.start) <= u64::from(u32::MAX);
            let linked = if link.is_used() {
                link.is_extended()
            } else {
                link.start == 0
            };
            fits && linked && !data.is_extended() && !third.is_used() && !fourth.is_used()
        });
    !odd && containers <= 1 && rising && plain
}

fn check_mbr(table: &PartitionTable, mut cursor: Cursor<'_>) -> Vec<String> {
    let disk = match mbrman::MBR::read_from(&mut cursor, table.sector_size) {
        Ok(disk) => disk,
        Err(error) => return vec![format!("the mbrman crate cannot read this table: {error}")],
    };
    let theirs = disk
        .iter()
        .filter(|(_, partition)| partition.is_used())
        .map(|(number, partition)| {
            (
                number as u64,
                u64::from(partition.starting_lba),
                u64::from(partition.sectors),
            )
        })
        .collect();
    differences("mbrman", ours(table), theirs)
}

/// One sentence for each partition that only one side has.
fn differences(name: &str, ours: Vec<Line>, theirs: Vec<Line>) -> Vec<String> {
    let say =
        |(number, first, sectors): &Line| format!("{number} (LBA {first}, {sectors} sectors)");
    let missing = ours
        .iter()
        .filter(|line| !theirs.contains(line))
        .map(|line| format!("the {name} crate does not see partition {}", say(line)));
    let extra = theirs
        .iter()
        .filter(|line| !ours.contains(line))
        .map(|line| format!("only the {name} crate sees partition {}", say(line)));
    missing.chain(extra).collect()
}

/// A read-only device for crates that require `Read + Write + Seek`.
struct Cursor<'a> {
    dev: &'a dyn ReadAt,
    position: u64,
    size: u64,
}

impl std::fmt::Debug for Cursor<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cursor({}/{})", self.position, self.size)
    }
}

impl Read for Cursor<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.size.saturating_sub(self.position);
        let len = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let Some(buf) = buf.get_mut(..len) else {
            return Ok(0);
        };
        let done = self.dev.read_at(self.position, buf)?;
        self.position = self.position.saturating_add(done as u64);
        Ok(done)
    }
}

impl Write for Cursor<'_> {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::Error::from(io::ErrorKind::PermissionDenied))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Cursor<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = position.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}
