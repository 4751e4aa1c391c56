//! Security descriptors as bytes: the machine's SIDs in them, and the hash under which NTFS finds
//! them.

/// The three numbers after `S-1-5-21`, as 12 bytes; they differ from machine to machine.
pub(crate) type MachinePart = [u8; 12];

/// Bytes between header and machine part: identifier authority 5, first sub-authority 21.
const AUTHORITY: [u8; 10] = [0, 0, 0, 0, 0, 5, 21, 0, 0, 0];
/// Bytes before the authority: revision and count of sub-authorities.
const HEADER: usize = 2;
/// Bytes from a SID's revision to the end of its machine part.
const SID_TO_PART: usize = HEADER + AUTHORITY.len() + 12;

/// Offsets in `bytes` of every machine part equal to `part` that follows a whole SID header.
pub(crate) fn places<'a>(
    bytes: &'a [u8],
    part: &'a MachinePart,
) -> impl Iterator<Item = usize> + 'a {
    bytes
        .windows(SID_TO_PART)
        .enumerate()
        .filter_map(|(at, sid)| {
            // Revision 1; 21 and three numbers are at least four sub-authorities, and a SID has at
            // most 15.
            let header = sid[0] == 1 && (4..=15).contains(&sid[1]);
            let same = header && sid[HEADER..].starts_with(&AUTHORITY) && sid.ends_with(part);
            same.then_some(at + SID_TO_PART - part.len())
        })
}

/// Replaces every machine part `old` by `new`; returns how many there were.
pub(crate) fn replace(bytes: &mut [u8], old: &MachinePart, new: &MachinePart) -> usize {
    let found: Vec<_> = places(bytes, old).collect();
    for at in &found {
        if let Some(part) = bytes.get_mut(*at..*at + new.len()) {
            part.copy_from_slice(new);
        }
    }
    found.len()
}

/// Hash of a descriptor in `$SDS`, `$SII` and `$SDH`: the sum is rotated left by three bits before
/// each word is added.
pub(crate) fn hash(descriptor: &[u8]) -> u32 {
    descriptor.chunks_exact(4).fold(0, |sum: u32, word| {
        let word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        sum.rotate_left(3).wrapping_add(word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: MachinePart = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    const NEW: MachinePart = [0xff; 12];

    #[test]
    fn only_a_whole_sid_is_replaced() {
        let mut sid = vec![1, 5];
        sid.extend(AUTHORITY);
        sid.extend(OLD);
        sid.extend(500u32.to_le_bytes());
        let mut naked = OLD.to_vec();
        assert_eq!(
            replace(&mut naked, &OLD, &NEW),
            0,
            "no SID header before it"
        );
        let mut twice = [sid.clone(), sid.clone()].concat();
        assert_eq!(replace(&mut twice, &OLD, &NEW), 2);
        assert_eq!(places(&twice, &OLD).count(), 0);
        assert_eq!(places(&twice, &NEW).collect::<Vec<_>>(), [12, 40]);
        sid[1] = 3;
        assert_eq!(
            replace(&mut sid, &OLD, &NEW),
            0,
            "too few sub-authorities for it"
        );
    }

    #[test]
    fn hash_turns_and_adds() {
        assert_eq!(hash(&[]), 0);
        assert_eq!(hash(&[1, 0, 0, 0, 2, 0, 0, 0]), 8 + 2);
        assert_eq!(hash(&[0, 0, 0, 0x80, 0, 0, 0, 0]), 4);
    }
}
