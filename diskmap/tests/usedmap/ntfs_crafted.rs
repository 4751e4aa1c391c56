//! NTFS volumes with records that no Linux tool makes: a bitmap of several runs, one behind an
//! attribute list, bad clusters.

use std::path::Path;

use diskmap::extents::ExtentSet;

use crate::ntfs::{check_copy, make, place, populate};
use crate::support::*;

/// Undoes the update sequence of a 1 KiB record; `fix` applies it again.
fn unfix(record: &mut [u8]) {
    for stride in 0..2 {
        let original = [record[0x30 + 2 + stride * 2], record[0x30 + 3 + stride * 2]];
        record[stride * 512 + 510..stride * 512 + 512].copy_from_slice(&original);
    }
}

fn fix(record: &mut [u8]) {
    let mark = [record[0x30], record[0x31]];
    for stride in 0..2 {
        let at = stride * 512 + 510;
        let original = [record[at], record[at + 1]];
        record[0x32 + stride * 2..0x34 + stride * 2].copy_from_slice(&original);
        record[at..at + 2].copy_from_slice(&mark);
    }
}

fn u16_at(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

fn attribute_at(record: &[u8], kind: u8) -> (usize, usize) {
    let mut at = u16_at(record, 0x14);
    while record[at] != kind {
        at += u16_at(record, at + 4);
    }
    (at, u16_at(record, at + 4))
}

fn signed_run(len: u64, delta: i64) -> Vec<u8> {
    let mut run = vec![0x44];
    run.extend(&len.to_le_bytes()[..4]);
    run.extend(&delta.to_le_bytes()[..4]);
    run
}

/// Moves all but the first cluster of $Bitmap elsewhere: the bitmap then has two runs, as on a
/// volume that was grown. Returns the record without fixups, and its position.
fn two_runs(image: &Path) -> (Vec<u8>, u64) {
    let at = place(image, "0") + 6 * 1024;
    let mut record = peek(image, at, 1024);
    unfix(&mut record);
    let (data, len) = attribute_at(&record, 0x80);
    let first = place(image, "6");
    let clusters = u16_at(&record, data + 24) as u64 + 1;
    assert!(
        clusters > 1,
        "the volume needs a bitmap of several clusters"
    );
    // Free space in the middle, which ntfs-3g has not used yet; it is marked used below.
    let target = 5000u64;
    for cluster in 1..clusters {
        let bytes = peek(image, first + cluster * 512, 512);
        patch(image, (target + cluster) * 512, &bytes);
        let bit = target + cluster;
        let byte_at = |first: u64, bit: u64| {
            let byte = bit / 8;
            if byte < 512 {
                first + byte
            } else {
                (target + byte / 512) * 512 + byte % 512
            }
        };
        let byte = peek(image, byte_at(first, bit), 1)[0];
        patch(image, byte_at(first, bit), &[byte | 1 << (bit % 8)]);
    }
    let runs_at = data + u16_at(&record, data + 32);
    let mut runs = signed_run(1, i64::try_from(first / 512).unwrap());
    runs.extend(signed_run(
        clusters - 1,
        i64::try_from(target + 1).unwrap() - i64::try_from(first / 512).unwrap(),
    ));
    runs.push(0);
    let mut grown = record[..runs_at].to_vec();
    grown.extend(&runs);
    grown.resize((grown.len() + 7) & !7, 0);
    let new_len = grown.len() - data;
    grown[data + 4..data + 8].copy_from_slice(&(new_len as u32).to_le_bytes());
    grown.extend(&record[data + len..]);
    grown.truncate(1024);
    grown.resize(1024, 0);
    let in_use = u16_at(&record, 0x18) - len + new_len;
    grown[0x18..0x1C].copy_from_slice(&(in_use as u32).to_le_bytes());
    let plain = grown.clone();
    fix(&mut grown);
    patch(image, at, &grown);
    (plain, at)
}

#[test]
fn a_fragmented_bitmap_and_one_behind_an_attribute_list() {
    let bench = Bench::new();
    let image = make(&bench, 24 * MIB, &["-c", "512"]);
    let before = ExtentSet::from(used(&image).extents);
    let tree = populate(&bench, &image);
    let filled = ExtentSet::from(used(&image).extents);
    assert!(before.total() < filled.total());
    let (mut record, at) = two_runs(&image);
    let map = used(&image);
    assert!(ExtentSet::from(map.extents.clone()).contains(5001 * 512..5002 * 512));
    check_copy(&bench, &image, &map, &tree);

    // The data attribute moves to record 16, which is reached through an attribute list.
    let (data, len) = attribute_at(&record, 0x80);
    let attribute = record[data..data + len].to_vec();
    let mut extension = record[..u16_at(&record, 0x14)].to_vec();
    extension[0x10..0x12].copy_from_slice(&1u16.to_le_bytes());
    let sequence = u16_at(&record, 0x10) as u64;
    extension[0x20..0x28].copy_from_slice(&(6 | sequence << 48).to_le_bytes());
    extension[0x2C..0x30].copy_from_slice(&16u32.to_le_bytes());
    extension.extend(&attribute);
    extension.extend([0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0]);
    let in_use = extension.len() as u32;
    extension[0x18..0x1C].copy_from_slice(&in_use.to_le_bytes());
    extension.resize(1024, 0);
    fix(&mut extension);
    patch(&image, at + 10 * 1024, &extension);

    let mut entry = vec![0u8; 32];
    entry[0] = 0x80;
    entry[4] = 32;
    entry[7] = 26;
    entry[16..24].copy_from_slice(&(16 | 1u64 << 48).to_le_bytes());
    entry[24..26].copy_from_slice(&attribute[14..16]);
    let mut list = vec![0u8; 24];
    list[0] = 0x20;
    list[4] = 56;
    list[10] = 24;
    list[14] = 9;
    list[16] = 32;
    list[20] = 24;
    list.extend(&entry);
    // The list takes the place of the data attribute (readers of records do not check the order of
    // types).
    let mut rest = record[data + len..].to_vec();
    record.truncate(data);
    record.extend(&list);
    record.append(&mut rest);
    record.resize(1024, 0);
    fix(&mut record);
    patch(&image, at, &record);
    let listed = used(&image);
    assert_eq!(listed.extents, map.extents);
}

/// The named attribute of this kind.
fn named_attribute_at(record: &[u8], kind: u8) -> (usize, usize) {
    let mut at = u16_at(record, 0x14);
    while record[at] != kind || record[at + 9] == 0 {
        at += u16_at(record, at + 4);
    }
    (at, u16_at(record, at + 4))
}

#[test]
fn bad_clusters_are_left_out() {
    let bench = Bench::new();
    let image = make(&bench, 24 * MIB, &["-c", "4096"]);
    let tree = populate(&bench, &image);
    let clusters = 24 * MIB / 4096 - 1;
    let taken = ExtentSet::from(used(&image).extents);
    let free = |cluster: &u64| !taken.intersects(cluster * 4096..(cluster + 1) * 4096);
    let bad = (1000..clusters).find(free).expect("a free cluster");
    // A cluster found unreadable by a drive: a run of one in $Bad, and its bit in $Bitmap.
    let at = place(&image, "0") + 8 * 1024;
    let mut record = peek(&image, at, 1024);
    unfix(&mut record);
    let (data, len) = named_attribute_at(&record, 0x80);
    let runs_at = data + u16_at(&record, data + 32);
    let word = |number: u64| u16::try_from(number).unwrap().to_le_bytes();
    let mut runs = vec![0x02];
    runs.extend(word(bad));
    runs.extend([0x21, 1]);
    runs.extend(word(bad));
    runs.push(0x02);
    runs.extend(word(clusters - bad - 1));
    runs.push(0);
    let mut changed = record[..runs_at].to_vec();
    changed.extend(&runs);
    changed.resize((changed.len() + 7) & !7, 0);
    let new_len = changed.len() - data;
    changed[data + 4..data + 8].copy_from_slice(&(new_len as u32).to_le_bytes());
    changed.extend(&record[data + len..]);
    changed.resize(1024, 0);
    let in_use = u16_at(&record, 0x18) - len + new_len;
    changed[0x18..0x1C].copy_from_slice(&(in_use as u32).to_le_bytes());
    fix(&mut changed);
    patch(&image, at, &changed);
    let bit = place(&image, "6") + bad / 8;
    let byte = peek(&image, bit, 1)[0];
    patch(&image, bit, &[byte | 1 << (bad % 8)]);

    let map = used(&image);
    assert_eq!(map.excluded.len(), 1, "{:?}", map.excluded);
    assert_eq!(map.excluded[0].what, "bad blocks");
    assert_eq!(map.excluded[0].range, bad * 4096..(bad + 1) * 4096);
    assert!(!ExtentSet::from(map.extents.clone()).intersects(bad * 4096..(bad + 1) * 4096));
    check_copy(&bench, &image, &map, &tree);
}
