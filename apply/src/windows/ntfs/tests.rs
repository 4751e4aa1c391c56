//! Volumes made by mkntfs, filled through ntfs-3g, rewritten here, and audited by ntfs-3g's own
//! `ntfssecaudit`.

use super::*;
use crate::windows::testing::{Mounted, new_volume, new_volume_with};
use diskmap::ReadAt;
use diskmap::ntfs::{kind, number};
use rustix::fs::{XattrFlags, getxattr, setxattr};
use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

const OLD: MachinePart = [0x11, 1, 1, 1, 0x22, 2, 2, 2, 0x33, 3, 3, 3];
const NEW: MachinePart = [0x41, 4, 4, 4, 0x52, 5, 5, 5, 0x63, 6, 6, 6];
const OTHER: MachinePart = [0x77; 12];

/// The SID `S-1-5-21-part-rid`.
fn account(part: &MachinePart, rid: u32) -> Vec<u8> {
    let mut sid = vec![1, 5, 0, 0, 0, 0, 0, 5, 21, 0, 0, 0];
    sid.extend(part);
    sid.extend(rid.to_le_bytes());
    sid
}

/// A self-relative descriptor: owner, group, and one allowed account.
fn descriptor_of(owner: &[u8], allowed: &[u8]) -> Vec<u8> {
    let ace = 8 + allowed.len();
    let acl = 8 + ace;
    let (owner_at, group_at) = (20 + acl, 20 + acl + owner.len());
    let mut sd = vec![1, 0, 4, 0x80];
    for at in [owner_at, group_at, 0, 20] {
        sd.extend(u32::try_from(at).unwrap().to_le_bytes());
    }
    sd.extend([2, 0]);
    sd.extend(u16::try_from(acl).unwrap().to_le_bytes());
    sd.extend([1, 0, 0, 0, 0, 3]);
    sd.extend(u16::try_from(ace).unwrap().to_le_bytes());
    sd.extend(0x001f_01ff_u32.to_le_bytes());
    sd.extend(allowed);
    sd.extend(owner);
    sd.extend(owner);
    sd
}

fn acl_of(path: &Path) -> Vec<u8> {
    let mut buffer = vec![0; 65536];
    let length = getxattr(path, "system.ntfs_acl", &mut buffer[..]).unwrap();
    buffer.truncate(length);
    buffer
}

fn set_acl(path: &Path, sd: &[u8]) {
    setxattr(path, "system.ntfs_acl", sd, XattrFlags::empty()).unwrap();
}

fn audit_by_ntfs_3g(image: &Path) -> usize {
    let out = Command::new("ntfssecaudit")
        .arg("-a")
        .arg(image)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{text}");
    assert!(text.contains("No errors were found"), "{text}");
    assert!(text.contains("All keys are present in all lists"), "{text}");
    let line = text
        .lines()
        .find(|line| line.contains("entries in $SDS-1"))
        .unwrap();
    line.split(' ').next().unwrap().parse().unwrap()
}

fn open(image: &Path) -> File {
    File::options().read(true).write(true).open(image).unwrap()
}

fn holds(image: &Path, part: &MachinePart) -> usize {
    let bytes = std::fs::read(image).unwrap();
    descriptor::places(&bytes, part).count()
}

/// The number of descriptors makes both trees have levels of blocks below their root, over both
/// halves of `$SDS`.
#[test]
fn every_descriptor_gets_the_new_sid_and_can_be_found_by_it() {
    const FILES: u32 = 3000;
    let dir = tempfile::tempdir().unwrap();
    let image = new_volume(dir.path(), 32 << 20);
    let administrators = [&[1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0][..], &[0x20, 2, 0, 0]].concat();
    let foreign = descriptor_of(&administrators, &account(&OTHER, 1001));
    {
        let mounted = Mounted::new(&image);
        for index in 0..FILES {
            let path = mounted.path().join(format!("f{index}"));
            File::create_new(&path).unwrap();
            set_acl(
                &path,
                &descriptor_of(&administrators, &account(&OLD, 1000 + index)),
            );
        }
        File::create_new(mounted.path().join("foreign")).unwrap();
        set_acl(&mounted.path().join("foreign"), &foreign);
    }
    // Descriptors stored with their file, as on volumes of NT 4: one in a record that the MFT's
    // mirror holds too, one in clusters.
    let volume = open(&image);
    plant_own_descriptors(
        &volume,
        &descriptor_of(&account(&OLD, 500), &account(&OLD, 501)),
    );
    let before = audit_by_ntfs_3g(&image);
    assert!(before > FILES as usize);

    let planned = plan(&volume, &OLD, &NEW).unwrap();
    assert_eq!(planned.shared, FILES as usize);
    assert_eq!(planned.own, 2);
    write(&volume, &planned, &OLD, &NEW).unwrap();

    assert_eq!(audit_by_ntfs_3g(&image), before);
    assert_eq!(
        holds(&image, &OLD),
        0,
        "no trace of the old SID anywhere on the volume"
    );
    assert!(
        plan(&volume, &OLD, &NEW).unwrap().is_empty(),
        "a second run has nothing to do"
    );
    {
        let mounted = Mounted::new(&image);
        for index in [0, 1, 77, FILES - 1] {
            let found = acl_of(&mounted.path().join(format!("f{index}")));
            let expected = descriptor_of(&administrators, &account(&NEW, 1000 + index));
            assert_eq!(found, expected, "f{index}");
        }
        assert_eq!(acl_of(&mounted.path().join("foreign")), foreign);
        // The driver looks a known descriptor up by hash in $SDH: with a tree in the wrong order it
        // would add another.
        for index in (0..FILES).step_by(7) {
            let path = mounted.path().join(format!("again{index}"));
            File::create_new(&path).unwrap();
            set_acl(
                &path,
                &descriptor_of(&administrators, &account(&NEW, 1000 + index)),
            );
        }
    }
    assert_eq!(
        audit_by_ntfs_3g(&image),
        before,
        "every descriptor was found again by its hash"
    );
    let clean = Command::new("ntfsfix")
        .arg("-n")
        .arg(&image)
        .output()
        .unwrap();
    assert!(
        clean.status.success(),
        "{}",
        String::from_utf8_lossy(&clean.stdout)
    );
}

/// Clusters smaller and larger than an index block, records of 4096 bytes; with large clusters the
/// MFT's mirror holds `$Secure` too.
#[test]
fn every_size_of_clusters_and_records() {
    for options in [
        &["-s", "512", "-c", "512"][..],
        &["-s", "512", "-c", "65536"],
        &["-s", "4096"],
    ] {
        let dir = tempfile::tempdir().unwrap();
        let image = new_volume_with(dir.path(), 24 << 20, options);
        {
            let mounted = Mounted::new(&image);
            for index in 0..200 {
                let path = mounted.path().join(format!("f{index}"));
                File::create_new(&path).unwrap();
                set_acl(
                    &path,
                    &descriptor_of(&account(&OLD, 1), &account(&OLD, index)),
                );
            }
        }
        let before = audit_by_ntfs_3g(&image);
        let volume = open(&image);
        let planned = plan(&volume, &OLD, &NEW).unwrap();
        assert_eq!(planned.shared, 200, "{options:?}");
        write(&volume, &planned, &OLD, &NEW).unwrap();
        assert_eq!(audit_by_ntfs_3g(&image), before, "{options:?}");
        assert_eq!(holds(&image, &OLD), 0, "{options:?}");
        // ntfsfix compares the MFT with its mirror.
        let clean = Command::new("ntfsfix")
            .arg("-n")
            .arg(&image)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&clean.stdout);
        assert!(clean.status.success(), "{options:?}: {said}");
        let mounted = Mounted::new(&image);
        let found = acl_of(&mounted.path().join("f7"));
        assert_eq!(
            found,
            descriptor_of(&account(&NEW, 1), &account(&NEW, 7)),
            "{options:?}"
        );
    }
}

/// On old volumes the attributes of `$Secure` do not fit into one record any more: an attribute
/// list names the others.
#[test]
fn trees_in_another_record_are_found_through_the_attribute_list() {
    let dir = tempfile::tempdir().unwrap();
    let image = small_volume(dir.path());
    let before = audit_by_ntfs_3g(&image);
    let volume = open(&image);
    move_trees(&volume, 12);
    assert_eq!(
        audit_by_ntfs_3g(&image),
        before,
        "ntfs-3g reads what was crafted"
    );
    let planned = plan(&volume, &OLD, &NEW).unwrap();
    assert_eq!(planned.shared, 120);
    write(&volume, &planned, &OLD, &NEW).unwrap();
    assert_eq!(audit_by_ntfs_3g(&image), before);
    assert_eq!(holds(&image, &OLD), 0);
    let mounted = Mounted::new(&image);
    let found = acl_of(&mounted.path().join("f7"));
    assert_eq!(
        found,
        descriptor_of(&account(&NEW, 7), &account(&NEW, 1007))
    );
}

/// Moves the indexes of `$Secure` into record `to`, one of those reserved for such use.
fn move_trees(volume: &File, to: u64) {
    let disk = volume_of(volume).unwrap();
    let mft = Mft::open(&disk).unwrap();
    let mut base = mft.record(&disk, number::SECURE).unwrap();
    let mut other = mft.record(&disk, to).unwrap();
    let at = usize::from(u16::from_le_bytes(
        base.bytes()[0x14..0x16].try_into().unwrap(),
    ));
    let long = |bytes: &[u8], at: usize| {
        usize::try_from(u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())).unwrap()
    };
    let reference = |record: &Record| record.number() | u64::from(record.sequence()) << 48;
    let (mut stay, mut go, mut list) = (Vec::new(), Vec::new(), Vec::new());
    let mut next = at;
    while long(base.bytes(), next) != 0xffff_ffff {
        let attribute = base.bytes()[next..next + long(base.bytes(), next + 4)].to_vec();
        next += attribute.len();
        let moved = attribute[0] >= 0x90;
        let name_len = usize::from(attribute[9]);
        let name_at = usize::from(attribute[10]);
        let mut entry = attribute[..4].to_vec();
        let length = (26 + name_len * 2).next_multiple_of(8);
        entry.extend(u16::try_from(length).unwrap().to_le_bytes());
        entry.extend([attribute[9], 26]);
        entry.extend([0; 8]);
        entry.extend(reference(if moved { &other } else { &base }).to_le_bytes());
        entry.extend(&attribute[14..16]);
        entry.extend(&attribute[name_at..name_at + name_len * 2]);
        entry.resize(length, 0);
        list.extend(entry);
        if moved { &mut go } else { &mut stay }.push(attribute);
    }
    // Resident, nameless, behind $STANDARD_INFORMATION: attributes are in the order of their types.
    let mut own = vec![0x20, 0, 0, 0];
    own.extend(u32::try_from(24 + list.len()).unwrap().to_le_bytes());
    own.extend([0, 0, 24, 0, 0, 0, 0x70, 0]);
    own.extend(u32::try_from(list.len()).unwrap().to_le_bytes());
    own.extend([24, 0, 0, 0]);
    own.extend(list);
    stay.insert(1, own);
    let base_reference = reference(&base);
    other.bytes_mut()[0x20..0x28].copy_from_slice(&base_reference.to_le_bytes());
    other.bytes_mut()[0x12..0x14].copy_from_slice(&[0, 0]);
    for (record, attributes) in [(&mut base, stay), (&mut other, go)] {
        let mut bytes = attributes.concat();
        bytes.extend([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
        let used = u32::try_from(at + bytes.len()).unwrap();
        record.bytes_mut()[at..at + bytes.len()].copy_from_slice(&bytes);
        record.bytes_mut()[0x18..0x1c].copy_from_slice(&used.to_le_bytes());
        record.bytes_mut()[0x28..0x2a].copy_from_slice(&[0x71, 0]);
    }
    let planned = writes_of(&disk, &mft, [base, other]);
    for (place, bytes) in planned.writes {
        volume.write_all_at(&bytes, place).unwrap();
    }
}

/// Puts `sd` in place of the descriptors that mkntfs gave `$Volume` (without its group) and the
/// root folder.
fn plant_own_descriptors(volume: &File, sd: &[u8]) {
    let disk = volume_of(volume).unwrap();
    let mft = Mft::open(&disk).unwrap();
    let (mut resident, mut in_clusters) = (false, false);
    for number in [number::VOLUME, number::ROOT] {
        let mut record = mft.record(&disk, number).unwrap();
        let found = mft.find(&disk, &record, kind::SECURITY_DESCRIPTOR, "");
        let Some(stream) = found.unwrap() else {
            continue;
        };
        if let Some(own) = stream.resident() {
            assert_eq!(own.record, number);
            let length = own.range.len().min(sd.len());
            let start = own.range.start;
            record.bytes_mut()[start..start + length].copy_from_slice(&sd[..length]);
            let planned = writes_of(&disk, &mft, [record]);
            assert_eq!(planned.writes.len(), 2, "with its mirror");
            for (place, bytes) in planned.writes {
                volume.write_all_at(&bytes, place).unwrap();
            }
            resident = true;
        } else {
            let place = stream.pieces(0, sd.len() as u64).unwrap()[0].place;
            volume.write_all_at(sd, place.unwrap()).unwrap();
            in_clusters = true;
        }
    }
    assert!(resident && in_clusters, "mkntfs made both kinds");
}

/// The writes that put changed records on a volume.
fn writes_of(
    volume: &diskmap::Volume<'_>,
    mft: &Mft,
    records: impl IntoIterator<Item = Record>,
) -> Planned {
    let records = records.into_iter().map(|record| (record.number(), record));
    let changed = Changed {
        volume,
        mft,
        records: records.collect(),
    };
    let mut planned = Planned::default();
    changed.write(&mut planned).unwrap();
    planned
}

fn small_volume(dir: &Path) -> std::path::PathBuf {
    let image = new_volume(dir, 3 << 20);
    let mounted = Mounted::new(&image);
    for index in 0..120 {
        let path = mounted.path().join(format!("f{index}"));
        File::create_new(&path).unwrap();
        set_acl(
            &path,
            &descriptor_of(&account(&OLD, index), &account(&OLD, 1000 + index)),
        );
    }
    image
}

fn refused(volume: &dyn Device) -> String {
    match plan(volume, &OLD, &NEW) {
        Ok(_) => panic!("it has to be refused"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn unclean_volumes_are_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let image = small_volume(dir.path());
    let pristine = std::fs::read(&image).unwrap();

    // A session in hiberfil.sys, in any spelling of the name.
    {
        let mounted = Mounted::new(&image);
        std::fs::write(mounted.path().join("HiberFil.sys"), b"HIBR and more").unwrap();
    }
    let error = refused(&open(&image));
    assert!(error.contains("hiberfil.sys holds a session"), "{error}");
    {
        // ntfs-3g mounts it read-only now, so the test goes on with the copy.
        std::fs::write(&image, &pristine).unwrap();
        let mounted = Mounted::new(&image);
        std::fs::write(mounted.path().join("hiberfil.sys"), vec![0; 8192]).unwrap();
    }
    plan(&open(&image), &OLD, &NEW).unwrap();

    // ntfsfix sets the dirty flag, so that Windows checks the volume.
    let fix = Command::new("ntfsfix").arg(&image).output().unwrap();
    assert!(fix.status.success(), "{fix:?}");
    let error = refused(&open(&image));
    assert!(error.contains("dirty flag"), "{error}");

    let memory = Memory(RefCell::new(pristine));
    memory.0.borrow_mut()[3..11].copy_from_slice(b"-FVE-FS-");
    assert!(refused(&memory).contains("BitLocker"));
}

/// A volume in memory that counts its writes.
struct Memory(RefCell<Vec<u8>>);

impl ReadAt for Memory {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.borrow().as_slice().read_at(offset, buffer)
    }
}

impl Device for Memory {
    fn length(&self) -> io::Result<u64> {
        Ok(self.0.borrow().len() as u64)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let at = usize::try_from(offset).unwrap();
        self.0.borrow_mut()[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A volume that loses every write from the one with this number on.
struct Forgetful(Memory, std::cell::Cell<usize>);

impl ReadAt for Forgetful {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(offset, buffer)
    }
}

impl Device for Forgetful {
    fn length(&self) -> io::Result<u64> {
        self.0.length()
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let Some(left) = self.1.get().checked_sub(1) else {
            return Ok(());
        };
        self.1.set(left);
        self.0.write_at(offset, bytes)
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A device that accepts writes and keeps none, or only the first ones, is detected: every write is
/// read back.
#[test]
fn a_device_that_loses_writes_is_found_out() {
    let dir = tempfile::tempdir().unwrap();
    let pristine = std::fs::read(small_volume(dir.path())).unwrap();
    let memory = Memory(RefCell::new(pristine.clone()));
    let planned = plan(&memory, &OLD, &NEW).unwrap();
    let count = planned.writes.len();
    for kept in [0, 1, count / 2, count - 1] {
        let forgetful = Forgetful(Memory(RefCell::new(pristine.clone())), kept.into());
        let error = write(&forgetful, &planned, &OLD, &NEW).unwrap_err();
        assert!(
            matches!(error, NtfsError::ReadBack { .. }),
            "{kept} of {count}: {error}"
        );
    }
    let forgetful = Forgetful(Memory(RefCell::new(pristine)), count.into());
    write(&forgetful, &planned, &OLD, &NEW).unwrap();
}

/// Flips bits in the boot sector, MFT records, `$SDS` and index blocks. The code never panics or
/// loops for ever; a volume that is not refused gives a plan that stays inside the volume and whose
/// result passes the audit.
#[test]
fn damaged_structures_are_refused_or_rewritten_whole() {
    let dir = tempfile::tempdir().unwrap();
    let pristine = std::fs::read(small_volume(dir.path())).unwrap();
    let interesting: Vec<usize> = {
        let memory = Memory(RefCell::new(pristine.clone()));
        let mft = Mft::open(&volume_of(&memory).unwrap()).unwrap();
        let at = usize::try_from(mft.geometry().mft_at()).unwrap();
        let blocks = pristine.windows(4).enumerate();
        let blocks = blocks.filter_map(|(at, magic)| (magic == b"INDX").then_some(at));
        blocks
            .chain((at..at + 10 * 1024).step_by(1024))
            .chain([0])
            .collect()
    };
    assert!(interesting.len() > 13, "there are index blocks");
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    let (mut refused, mut rewritten) = (0, 0);
    let memory = Memory(RefCell::new(pristine.clone()));
    for round in 0..1500 {
        let area = interesting[random(interesting.len())];
        // Headers of records and blocks are dense at their beginning.
        let at = area + random(if round % 2 == 0 { 0x60 } else { 1024 });
        let flipped = pristine[at] ^ 1 << random(8);
        memory.0.borrow_mut()[at] = flipped;
        match plan(&memory, &OLD, &NEW) {
            Err(_) => refused += 1,
            Ok(planned) => {
                rewritten += 1;
                if round % 50 == 0 {
                    write(&memory, &planned, &OLD, &NEW).unwrap();
                    memory.0.borrow_mut().copy_from_slice(&pristine);
                }
            }
        }
        memory.0.borrow_mut()[at] = pristine[at];
        assert!(*memory.0.borrow() == pristine, "planning writes nothing");
    }
    assert!(
        refused > 100 && rewritten > 100,
        "{refused} refused, {rewritten} not"
    );
}
