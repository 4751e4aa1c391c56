//! The reader of NTFS against the crate `ntfs`, an independent one: on a sound volume both find the
//! same, on a damaged one they never find different contents of a file. The crate panics on some
//! damaged volumes, which is caught; ours never does.

use std::fs;
use std::io::{Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};

use diskmap::Volume;
use diskmap::ntfs::{Mft, UpCase, kind};
use ntfs::Ntfs;
use ntfs::indexes::NtfsFileNameIndex;

use crate::ntfs::make;
use crate::support::*;

/// Largest content that is compared.
const MOST: u64 = 4 << 20;

/// Content of a file by our reader; the text of the error if there is one.
fn by_ours(bytes: &[u8], path: &[&str]) -> Result<Option<Vec<u8>>, String> {
    let volume = &Volume::new(&bytes, bytes.len() as u64);
    let told = |error: diskmap::ntfs::NtfsError| error.to_string();
    let mft = Mft::open(volume).map_err(told)?;
    let upcase = UpCase::read(&mft, volume).map_err(told)?;
    let Some(hit) = mft.path(volume, &upcase, path).map_err(told)? else {
        return Ok(None);
    };
    let Some(data) = mft
        .find(volume, &hit.record, kind::DATA, "")
        .map_err(told)?
    else {
        return Ok(None);
    };
    data.read(volume, 0, data.size().min(MOST))
        .map(Some)
        .map_err(told)
}

/// Content of a file by the crate; `None` as the error if it panics.
fn by_crate(bytes: &[u8], path: &[&str]) -> Result<Option<Vec<u8>>, Option<String>> {
    let read = || -> Result<Option<Vec<u8>>, ntfs::NtfsError> {
        let source = &mut Cursor::new(bytes);
        let mut volume = Ntfs::new(source)?;
        volume.read_upcase_table(source)?;
        let mut at = volume.root_directory(source)?;
        for name in path {
            let index = at.directory_index(source)?;
            let mut finder = index.finder();
            let Some(entry) = NtfsFileNameIndex::find(&mut finder, &volume, source, name) else {
                return Ok(None);
            };
            let next = entry?.file_reference().file_record_number();
            at = volume.file(source, next)?;
        }
        let Some(data) = at.data(source, "") else {
            return Ok(None);
        };
        let data = data?;
        let attribute = data.to_attribute()?;
        let value = attribute.value(source)?;
        let mut content = Vec::new();
        value
            .attach(source)
            .take(MOST)
            .read_to_end(&mut content)
            .map_err(ntfs::NtfsError::Io)?;
        Ok(Some(content))
    };
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(read) => read.map_err(|error| Some(error.to_string())),
        Err(_) => Err(None),
    }
}

#[test]
fn both_readers_find_the_same() {
    let bench = Bench::new();
    let image = make(&bench, 24 * MIB, &["-c", "1024"]);
    let mounted = Mounted::ntfs(&image, bench.path("mnt"), "rw");
    let folder = mounted.at.join("Windows/System32/config");
    fs::create_dir_all(&folder).unwrap();
    let names: Vec<_> = (0..60)
        .map(|index| format!("file number {index}"))
        .collect();
    for (index, name) in names.iter().enumerate() {
        fs::write(folder.join(name), noise(index as u64, index * 700)).unwrap();
    }
    mounted.unmount();
    let pristine = fs::read(&image).unwrap();
    let path = |name| ["WINDOWS", "system32", "Config", name];
    for (index, name) in names.iter().enumerate() {
        let found = by_ours(&pristine, &path(name));
        assert_eq!(found, Ok(Some(noise(index as u64, index * 700))), "{name}");
        assert!(
            by_crate(&pristine, &path(name)) == found.map_err(Some),
            "{name}"
        );
    }
    assert_eq!(by_ours(&pristine, &path("no such")), Ok(None));

    let areas: Vec<usize> = (0..pristine.len() / 512)
        .map(|sector| sector * 512)
        .filter(|at| [b"FILE", b"INDX"].contains(&pristine[*at..].first_chunk().unwrap()))
        .chain([0])
        .collect();
    let random = noise(11, 600 * 8);
    let (mut same, mut ours, mut theirs) = (0, 0, 0);
    let mut bytes = pristine.clone();
    for (round, random) in random.chunks_exact(8).enumerate() {
        let number = usize::from(u16::from_le_bytes([random[0], random[1]]));
        let at = areas[number % areas.len()]
            + usize::from(u16::from_le_bytes([random[2], random[3]])) % 512;
        bytes[at] ^= 1 << (random[4] % 8);
        let name = &names[round % names.len()];
        match (by_ours(&bytes, &path(name)), by_crate(&bytes, &path(name))) {
            (Ok(found), Ok(expected)) => {
                assert!(found == expected, "{name} with a bit flipped at {at}");
                same += 1;
            }
            (Err(_), _) => ours += 1,
            (Ok(_), Err(_)) => theirs += 1,
        }
        bytes[at] = pristine[at];
    }
    assert!(
        same > 400,
        "{same} the same, {ours} refused by us, {theirs} by the crate"
    );
}
