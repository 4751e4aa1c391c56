//! Hives, edits and logs generated from arbitrary bytes, for random tests and the fuzzer.

use hive::{FileTime, Hive, HiveError, KeyId};

pub(crate) const NOW: FileTime = FileTime(133_000_000_000_000_000);

/// A source of decisions from bytes; zeros after the end.
pub(crate) struct Script<'a>(pub(crate) &'a [u8]);

impl Script<'_> {
    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        let number = u32::from_le_bytes([self.byte(), self.byte(), self.byte(), 0]);
        usize::try_from(number).unwrap() % end.max(1)
    }

    fn small(&mut self, end: u8) -> usize {
        usize::from(self.byte() % end)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// A few names, so that they often collide.
    fn name(&mut self) -> String {
        let names = [
            "a",
            "B",
            "sub",
            "SUB",
            "longer-than-the-others",
            "ä",
            "日本",
            "",
        ];
        let name = names[self.small(8)];
        if self.byte().is_multiple_of(4) {
            format!("{name}{}", self.byte())
        } else {
            name.to_owned()
        }
    }

    fn data(&mut self) -> Vec<u8> {
        let lens = [0, 1, 4, 5, 8, 60, 300, 4092, 9000, 16_344, 16_345, 33_000];
        vec![self.byte(); lens[self.small(12)]]
    }

    /// Selects a key by a walk down from the root; fails if the hive is damaged on the way.
    fn key(&mut self, hive: &Hive) -> Result<KeyId, HiveError> {
        let mut key = hive.root();
        for _ in 0..self.small(6) {
            let below = hive.subkeys(key)?;
            match below.get(self.small(16) % below.len().max(1)) {
                Some(next) => key = *next,
                None => break,
            }
        }
        Ok(key)
    }
}

/// Applies one edit; a refused edit changes nothing.
pub(crate) fn edit(hive: &mut Hive, script: &mut Script<'_>) -> Result<(), HiveError> {
    let key = script.key(hive)?;
    let name = script.name();
    match script.small(16) {
        0..5 => hive.create_key(key, &name, NOW).map(|_| ()),
        5 => hive
            .create_path(key, &format!(r"{name}\x\{name}"), NOW)
            .map(|_| ()),
        6 => hive.rename_key(key, &name, NOW).map(|_| ()),
        7 => hive.delete_key(key),
        8 | 9 => hive.delete_value(key, &name, NOW).map(|_| ()),
        10 => {
            let with = script.byte();
            let flip = &mut |bytes: &mut [u8]| match bytes.last_mut() {
                Some(last) => {
                    *last ^= with;
                    true
                }
                None => false,
            };
            hive.rewrite_security(flip).map(|_| ())
        }
        11 => {
            let mut descriptor = hive.security(key)?;
            descriptor.resize(20 + script.small(60), 0);
            descriptor[1] = script.byte();
            hive.set_security(key, &descriptor, NOW).map(|_| ())
        }
        kind => {
            let data = script.data();
            hive.set_value(key, &name, u32::try_from(kind).unwrap(), &data, NOW)
                .map(|_| ())
        }
    }
}

/// Builds a sound hive with some edits.
pub(crate) fn build(script: &mut Script<'_>) -> Hive {
    let minor = if script.byte() & 1 == 0 { 3 } else { 5 };
    let mut hive = Hive::empty(minor, "root", NOW).unwrap();
    for _ in 0..script.small(40) {
        // Refused edits count as no edit.
        let _ = edit(&mut hive, script);
    }
    hive
}

/// Reads everything readable below the root and returns the number of keys, which is limited by the
/// size of the hive.
pub(crate) fn read_all(hive: &Hive, len: usize) -> usize {
    let mut waiting = vec![hive.root()];
    let mut keys = 0;
    while let Some(key) = waiting.pop() {
        keys += 1;
        assert!(keys <= len / 80, "the walk does not end");
        let _ = (hive.name(key), hive.class_name(key), hive.security(key));
        // Damaged parts give errors one by one.
        let values = hive.values(key).unwrap_or_default();
        assert!(values.iter().map(|value| value.data.len()).sum::<usize>() <= len);
        if let Some(value) = values.first() {
            assert!(hive.value(key, &value.name).is_ok());
        }
        waiting.extend(hive.subkeys(key).unwrap_or_default());
    }
    keys
}

fn put(bytes: &mut [u8], at: usize, field: u32) {
    if let Some(place) = bytes.get_mut(at..at + 4) {
        place.copy_from_slice(&field.to_le_bytes());
    }
}

pub(crate) fn get(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..at + 4)
        .map_or(0, |field| u32::from_le_bytes(field.try_into().unwrap()))
}

/// Corrects the checksum of a base block.
pub(crate) fn seal(bytes: &mut [u8]) {
    if bytes.len() < 512 {
        return;
    }
    let sum = bytes[..508]
        .chunks_exact(4)
        .fold(0, |sum, word| sum ^ get(word, 0));
    put(
        bytes,
        508,
        match sum {
            0 => 1,
            u32::MAX => u32::MAX - 1,
            sum => sum,
        },
    );
}

/// Marks `bytes` as the start of a write that never ends; returns its number.
pub(crate) fn make_dirty(bytes: &mut [u8]) -> u32 {
    let number = get(bytes, 4) + 1;
    put(bytes, 4, number);
    seal(bytes);
    number
}

fn log_head(bytes: &[u8], kind: u32, number: u32) -> Vec<u8> {
    let mut head = bytes[..512].to_vec();
    put(&mut head, 4, number);
    put(&mut head, 8, number);
    put(&mut head, 28, kind);
    seal(&mut head);
    head
}

/// The pages of this length in which the bins of two hives differ.
fn pages(before: &[u8], after: &[u8], len: usize) -> Vec<usize> {
    let ends = (4096..after.len()).step_by(len);
    let ends = ends.filter(|at| before.get(*at..at + len) != after.get(*at..at + len));
    ends.map(|at| at - 4096).collect()
}

/// Makes a log of the new format, with an entry for each step from one hive to the next, numbered
/// from `number` on.
pub(crate) fn new_log(steps: &[&[u8]], number: u32) -> Vec<u8> {
    let mut log = log_head(steps[0], 6, number);
    for (number, step) in (number..).zip(steps.windows(2)) {
        let pages = pages(step[0], step[1], 4096);
        let mut entry = b"HvLE".to_vec();
        let count = u32::try_from(pages.len()).unwrap();
        for field in [0, 0, number, get(step[1], 40), count, 0, 0, 0, 0] {
            entry.extend_from_slice(&u32::to_le_bytes(field));
        }
        for page in &pages {
            entry.extend_from_slice(&u32::try_from(*page).unwrap().to_le_bytes());
            entry.extend_from_slice(&4096_u32.to_le_bytes());
        }
        pages
            .iter()
            .for_each(|page| entry.extend_from_slice(&step[1][4096 + page..][..4096]));
        entry.resize(entry.len().next_multiple_of(512), 0);
        let len = u32::try_from(entry.len()).unwrap();
        put(&mut entry, 4, len);
        seal_entry(&mut entry);
        log.extend_from_slice(&entry);
    }
    log
}

/// Corrects both hashes of a log entry.
fn seal_entry(entry: &mut [u8]) {
    let hash = marvin32(&entry[40..]);
    entry[24..32].copy_from_slice(&hash.to_le_bytes());
    let hash = marvin32(&entry[..32]);
    entry[32..40].copy_from_slice(&hash.to_le_bytes());
}

/// Corrects the base block and all hashes of a log, as far as its entries can be recognised.
pub(crate) fn seal_log(log: &mut [u8]) {
    seal(log);
    let mut at = 512;
    while let Some(entry) = log.get_mut(at..).filter(|entry| entry.starts_with(b"HvLE")) {
        let len = usize::try_from(get(entry, 4)).unwrap();
        let Some(entry) = entry.get_mut(..len).filter(|entry| entry.len() >= 40) else {
            return;
        };
        seal_entry(entry);
        at += len;
    }
}

/// Makes a log of the old format that leads from one hive to the other.
pub(crate) fn old_log(before: &[u8], after: &[u8], number: u32) -> Vec<u8> {
    let mut log = log_head(after, 1, number);
    log[12..20].copy_from_slice(&before[12..20]);
    seal(&mut log);
    log.extend_from_slice(b"DIRT");
    let start = log.len();
    log.resize(start + (after.len() - 4096) / 4096, 0);
    // Windows marks whole pages: each byte of the vector stands for 4096 bytes.
    let pages = pages(before, after, 4096);
    pages
        .iter()
        .for_each(|page| log[start + page / 4096] = 0xff);
    log.resize(log.len().next_multiple_of(512), 0);
    pages
        .iter()
        .for_each(|page| log.extend_from_slice(&after[4096 + page..][..4096]));
    log
}

/// The hash of log entries; the function of the crate is not public.
fn marvin32(bytes: &[u8]) -> u64 {
    fn mix((low, high): (u32, u32)) -> (u32, u32) {
        let high = high ^ low;
        let low = low.rotate_left(20).wrapping_add(high);
        let high = high.rotate_left(9) ^ low;
        let low = low.rotate_left(27).wrapping_add(high);
        (low, high.rotate_left(19))
    }
    let (mut low, mut high) = (0x7a4e_55c5_u32, 0x82ef_4d88_u32);
    let mut padded = bytes.to_vec();
    padded.push(0x80);
    padded.resize(padded.len().next_multiple_of(4), 0);
    for word in padded.chunks_exact(4) {
        (low, high) = mix((low.wrapping_add(get(word, 0)), high));
    }
    (low, high) = mix((low, high));
    u64::from(high) << 32 | u64::from(low)
}
