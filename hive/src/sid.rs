//! Security identifiers: text form, binary form, and the part that identifies a machine.
//!
//! ```text
//! 1, count, authority (6, big-endian), count x sub-authority (4, little-endian)
//! S-1-5-21-a-b-c-RID = 01 05 | 00 00 00 00 00 05 | 15 00 00 00 | a b c (12 bytes: the machine) | RID
//! ```
//!
//! The machine part is replaced only if the bytes before it identify it as one, or if the caller
//! gives its position: twelve bytes alone could be anything.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::scan::Scan;

/// Largest number of sub-authorities of a SID.
const COUNT_MAX: usize = 15;
/// Authority 5 and the first sub-authority 21, which precede the part of a machine or domain.
const BEFORE_MACHINE: [u8; 10] = [0, 0, 0, 0, 0, 5, 21, 0, 0, 0];
/// Length of the machine part in bytes.
pub const MACHINE_LEN: usize = 12;

/// The error for a text that is not a SID.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{text:?} is not a SID of the form S-1-5-21-..")]
pub struct NotASid {
    /// The text.
    pub text: String,
}

/// A security identifier of revision 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sid {
    authority: u64,
    subs: Vec<u32>,
}

impl Sid {
    /// Reads the SID at the start of `bytes`; returns it with its length in bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<(Sid, usize)> {
        let mut scan = Scan(bytes);
        let &[1, count] = scan.take(2)? else {
            return None;
        };
        let count = usize::from(count);
        let authority = scan
            .take(6)?
            .iter()
            .fold(0, |all, byte| all << 8 | u64::from(*byte));
        if count > COUNT_MAX {
            return None;
        }
        let subs = (0..count).map(|_| scan.u32()).collect::<Option<_>>()?;
        Some((Sid { authority, subs }, 8 + count * 4))
    }

    /// The stored form of the SID.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let count = u8::try_from(self.subs.len()).unwrap_or(0);
        let mut bytes = vec![1, count];
        bytes.extend(self.authority.to_be_bytes().iter().skip(2));
        bytes.extend(self.subs.iter().flat_map(|sub| sub.to_le_bytes()));
        bytes
    }

    /// The machine part of a SID `S-1-5-21-a-b-c`, with or without the number of a user or group
    /// behind it.
    #[must_use]
    pub fn machine(&self) -> Option<Machine> {
        match self.subs.as_slice() {
            [21, a, b, c] | [21, a, b, c, _] if self.authority == 5 => Some(Machine([*a, *b, *c])),
            _ => None,
        }
    }

    /// The last number (RID), which identifies a user or group within a machine.
    #[must_use]
    pub fn rid(&self) -> Option<u32> {
        self.subs.last().copied()
    }
}

impl FromStr for Sid {
    type Err = NotASid;

    fn from_str(text: &str) -> Result<Sid, NotASid> {
        let number = |text: &str| -> Option<u64> {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse().ok()).flatten()
        };
        let parse = || {
            let rest = text
                .strip_prefix("S-1-")
                .or_else(|| text.strip_prefix("s-1-"))?;
            let mut parts = rest.split('-');
            let authority = number(parts.next()?).filter(|authority| *authority < 1 << 48)?;
            let subs = parts.map(|part| u32::try_from(number(part)?).ok());
            let subs: Vec<u32> = subs.collect::<Option<_>>()?;
            (subs.len() <= COUNT_MAX).then_some(Sid { authority, subs })
        };
        parse().ok_or_else(|| NotASid {
            text: text.to_owned(),
        })
    }
}

impl fmt::Display for Sid {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "S-1-{}", self.authority)?;
        self.subs.iter().try_for_each(|sub| write!(to, "-{sub}"))
    }
}

/// The machine (or domain) part of a SID: `a-b-c` of `S-1-5-21-a-b-c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Machine(pub [u32; 3]);

impl Machine {
    /// Reads the machine part from 12 bytes, as stored by SAM at the end of `Account`'s value `V`.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; MACHINE_LEN]) -> Machine {
        let mut scan = Scan(bytes);
        Machine([(); 3].map(|()| scan.u32().unwrap_or(0)))
    }

    /// The 12 bytes of the machine part.
    #[must_use]
    pub fn to_bytes(self) -> [u8; MACHINE_LEN] {
        let mut bytes = [0; MACHINE_LEN];
        let parts = self.0.iter().flat_map(|part| part.to_le_bytes());
        bytes
            .iter_mut()
            .zip(parts)
            .for_each(|(place, byte)| *place = byte);
        bytes
    }

    /// The SID of the machine itself.
    #[must_use]
    pub fn sid(self) -> Sid {
        let [a, b, c] = self.0;
        Sid {
            authority: 5,
            subs: vec![21, a, b, c],
        }
    }

    /// The SID of a user or group of the machine.
    #[must_use]
    pub fn user(self, rid: u32) -> Sid {
        let mut sid = self.sid();
        sid.subs.push(rid);
        sid
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.sid().fmt(to)
    }
}

/// Replaces the machine part in every binary SID in `buffer`, at any position. Returns the number
/// of replacements.
pub fn replace(buffer: &mut [u8], old: Machine, new: Machine) -> usize {
    let (old, new) = (old.to_bytes(), new.to_bytes());
    let before = 2 + BEFORE_MACHINE.len();
    let mut count = 0;
    let mut at = 0;
    while let Some(sid) = buffer.get_mut(at..at + before + MACHINE_LEN) {
        let (head, machine) = sid.split_at_mut(before);
        // Four sub-authorities identify the machine itself, five a user or group of it.
        if matches!(head, [1, 4 | 5, rest @ ..] if *rest == BEFORE_MACHINE) && *machine == old {
            machine.copy_from_slice(&new);
            count += 1;
            at += before + MACHINE_LEN;
        } else {
            at += 1;
        }
    }
    count
}

/// The machine parts of all binary SIDs in `buffer`, at any position; repeated ones are repeated.
pub fn machines(buffer: &[u8]) -> impl Iterator<Item = Machine> {
    let before = 2 + BEFORE_MACHINE.len();
    buffer
        .windows(before + MACHINE_LEN)
        .filter_map(move |sid| match sid.split_at_checked(before) {
            Some(([1, 4 | 5, rest @ ..], machine)) if *rest == BEFORE_MACHINE => {
                Some(Machine::from_bytes(machine.first_chunk()?))
            }
            _ => None,
        })
}

/// The forms a hive's bytes name a machine in: its binary SID, and its text in one byte or two a letter. The first letter of the text
/// is left out, because it may be of either case. They spare opening the many hives that have none of them.
#[derive(Clone, Debug)]
pub struct Marks([Vec<u8>; 3]);

impl Marks {
    /// Returns the marks of a machine.
    #[must_use]
    pub fn of(machine: Machine) -> Self {
        let text = machine.to_string();
        let narrow = text.get(1..).unwrap_or_default().as_bytes().to_vec();
        let wide = narrow.iter().flat_map(|byte| [*byte, 0]).collect();
        Self([machine.to_bytes().to_vec(), narrow, wide])
    }

    /// Bytes of the longest: what two parts of one file have to overlap by, and one more.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.0.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// One of them is in `bytes`.
    #[must_use]
    pub fn are_in(&self, bytes: &[u8]) -> bool {
        self.0.iter().any(|mark| contains(bytes, mark))
    }
}

fn contains(bytes: &[u8], mark: &[u8]) -> bool {
    let Some(first) = mark.first() else {
        return false;
    };
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| byte == first) {
        let Some(found) = rest.get(at..) else {
            return false;
        };
        if found.starts_with(mark) {
            return true;
        }
        rest = found.get(1..).unwrap_or_default();
    }
    false
}

/// Replaces the machine part at a position of `buffer` given by the caller. Returns false and
/// changes nothing if another part is there.
pub fn replace_at(buffer: &mut [u8], at: usize, old: Machine, new: Machine) -> bool {
    let end = at.checked_add(MACHINE_LEN);
    match end.and_then(|end| buffer.get_mut(at..end)) {
        Some(place) if *place == old.to_bytes() => {
            place.copy_from_slice(&new.to_bytes());
            true
        }
        _ => false,
    }
}

/// Replaces the machine part in every SID written in `text`, such as the name of a key; `None` if
/// there is none. `S-1-5-21-1-2-3` does not match `S-1-5-21-1-2-34`.
#[must_use]
pub fn replace_text(text: &str, old: Machine, new: Machine) -> Option<String> {
    let (old, new) = (old.to_string(), new.to_string());
    let mut result = String::new();
    let mut done = 0;
    // ASCII letters have the same length in both cases, so positions are the same.
    for (at, found) in text.to_ascii_uppercase().match_indices(&old) {
        let end = at + found.len();
        let (before, behind) = (text.get(..at)?, text.get(end..)?);
        if behind.starts_with(|next: char| next.is_ascii_digit())
            || before.ends_with(|last: char| last.is_ascii_alphanumeric())
        {
            continue;
        }
        result.push_str(text.get(done..at)?);
        result.push_str(&new);
        done = end;
    }
    result.push_str(text.get(done..)?);
    (done > 0).then_some(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Machine = Machine([1_292_428_093, 1_645_522_239, 1_547_161_642]);
    const NEW: Machine = Machine([1, 2, u32::MAX]);

    #[test]
    fn text_and_bytes_say_the_same() {
        let text = "S-1-5-21-1292428093-1645522239-1547161642-1003";
        let sid: Sid = text.parse().unwrap();
        assert_eq!(sid.to_string(), text);
        assert_eq!((sid.machine(), sid.rid()), (Some(OLD), Some(1003)));
        assert_eq!(sid, OLD.user(1003));
        let bytes = sid.to_bytes();
        assert_eq!(bytes[..8], [1, 5, 0, 0, 0, 0, 0, 5]);
        assert_eq!(bytes.len(), 28);
        assert_eq!(
            Sid::from_bytes(&[&bytes[..], b"more"].concat()),
            Some((sid, 28))
        );
        assert_eq!(Sid::from_bytes(&bytes[..27]), None);
        let part: [u8; 12] = bytes[12..24].try_into().unwrap();
        assert_eq!(Machine::from_bytes(&part), OLD);
        let everyone: Sid = "S-1-1-0".parse().unwrap();
        assert_eq!((everyone.to_bytes().len(), everyone.machine()), (12, None));
    }

    #[test]
    fn machines_are_found_wherever_they_lie() {
        let bytes = [
            &[9, 1, 5][..],
            &OLD.user(500).to_bytes(),
            &"S-1-5-32-544".parse::<Sid>().unwrap().to_bytes(),
            &NEW.sid().to_bytes(),
        ]
        .concat();
        assert_eq!(machines(&bytes).collect::<Vec<_>>(), [OLD, NEW]);
        assert_eq!(machines(&bytes[..26]).collect::<Vec<_>>(), []);
    }

    #[test]
    fn what_is_no_sid_is_refused() {
        let many = format!("S-1-5{}", "-1".repeat(16));
        for text in [
            "",
            "S-1",
            "S-1-",
            "S-2-5-21",
            "S-1-5-",
            "S-1-5-+1",
            "S-1-5-4294967296",
            &many,
        ] {
            assert!(text.parse::<Sid>().is_err(), "{text}");
        }
        assert_eq!(Sid::from_bytes(&[2, 0, 0, 0, 0, 0, 0, 5]), None);
        assert_eq!(Sid::from_bytes(&[1, 16].repeat(50)), None);
    }

    #[test]
    fn a_machine_is_replaced_where_it_is_one() {
        let user = OLD.user(500).to_bytes();
        let mut buffer = [b"x", &user[..], &OLD.sid().to_bytes(), &OLD.to_bytes()].concat();
        let end = buffer.len() - 12;
        assert_eq!(replace(&mut buffer, OLD, NEW), 2);
        assert_eq!(buffer[1..29], NEW.user(500).to_bytes());
        assert_eq!(buffer[29..53], NEW.sid().to_bytes());
        assert_eq!(
            buffer[end..],
            OLD.to_bytes(),
            "twelve bytes alone may be anything"
        );
        assert!(!replace_at(&mut buffer, end - 1, OLD, NEW));
        assert!(replace_at(&mut buffer, end, OLD, NEW));
        assert!(!replace_at(&mut buffer, end + 1, OLD, NEW));
        assert!(!replace_at(&mut buffer, usize::MAX, OLD, NEW));
        assert_eq!(replace(&mut buffer, OLD, NEW), 0);
    }

    #[test]
    fn bytes_that_may_name_a_machine_are_found() {
        assert!(contains(b"aab", b"ab") && contains(b"ab", b"ab") && !contains(b"aa", b"ab"));
        assert!(!contains(b"", b"a") && !contains(b"a", b""));
        let marks = Marks::of(OLD);
        let text = format!("x{OLD}-500").to_lowercase();
        let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        for bytes in [OLD.user(7).to_bytes(), text.into_bytes(), wide] {
            assert!(marks.are_in(&bytes), "{bytes:?}");
        }
        assert!(!marks.are_in(&NEW.user(7).to_bytes()));
    }

    #[test]
    fn a_machine_is_replaced_in_names() {
        let (old, new) = (Machine([1, 2, 3]), Machine([7, 8, 9]));
        let name = |text| replace_text(text, old, new);
        assert_eq!(name("S-1-5-21-1-2-3").unwrap(), "S-1-5-21-7-8-9");
        assert_eq!(
            name("s-1-5-21-1-2-3-1003_Classes").unwrap(),
            "S-1-5-21-7-8-9-1003_Classes"
        );
        assert_eq!(
            name("ä S-1-5-21-1-2-3;S-1-5-21-1-2-34").unwrap(),
            "ä S-1-5-21-7-8-9;S-1-5-21-1-2-34"
        );
        assert_eq!(name("S-1-5-21-1-2-34"), None);
        assert_eq!(name("S-1-5-18"), None);
    }
}
