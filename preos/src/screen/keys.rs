//! Keys, and the marked choice. Pure.
//!
//! Owns: decoding keys from a terminal's bytes, and the marked choice. A serial line may carry
//! noise, so bytes that are no key have no effect, and a number only marks a choice: Enter confirms
//! it.

/// A key with a meaning here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Key {
    /// Arrow up.
    Up,
    /// Arrow down.
    Down,
    /// Enter.
    Enter,
    /// Escape.
    Escape,
    /// `1` to `9`.
    Number(usize),
}

/// The keys in the bytes of one read.
pub fn keys(bytes: &[u8]) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut rest = bytes;
    loop {
        rest = match rest {
            [] => return keys,
            [0x1b, b'[' | b'O', code, rest @ ..] => {
                match code {
                    b'A' => keys.push(Key::Up),
                    b'B' => keys.push(Key::Down),
                    // Other keys, `ESC [ 5 ~` and the like: the remaining bytes are no key either.
                    _ => {}
                }
                rest
            }
            [0x1b, rest @ ..] => {
                // A lone escape. With bytes after it, it is a key with Alt, which has no meaning
                // here.
                if rest.is_empty() {
                    keys.push(Key::Escape);
                }
                rest.get(1..).unwrap_or_default()
            }
            [b'\r' | b'\n', rest @ ..] => {
                keys.push(Key::Enter);
                rest
            }
            [digit @ b'1'..=b'9', rest @ ..] => {
                keys.push(Key::Number(usize::from(digit - b'0')));
                rest
            }
            [_, rest @ ..] => rest,
        };
    }
}

/// The marked choice, and the question it belongs to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Chooser {
    marked: usize,
    question: Option<u64>,
}

/// The result of a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pressed {
    /// This choice was confirmed.
    Chosen(usize),
    /// The person went back.
    Back,
}

impl Chooser {
    /// Index of the marked choice among `choices` under question `id`; a new question starts at its
    /// first choice.
    pub fn marked(&mut self, id: Option<u64>, choices: usize) -> usize {
        if self.question != id {
            *self = Self {
                marked: 0,
                question: id,
            };
        }
        self.marked = self.marked.min(choices.saturating_sub(1));
        self.marked
    }

    /// Handles a key.
    pub fn press(&mut self, id: Option<u64>, choices: usize, key: Key) -> Option<Pressed> {
        let marked = self.marked(id, choices);
        if choices == 0 {
            return None;
        }
        match key {
            Key::Up => self.marked = marked.checked_sub(1).unwrap_or(choices - 1),
            Key::Down => self.marked = (marked + 1) % choices,
            Key::Number(number) if number <= choices => self.marked = number - 1,
            Key::Number(_) => {}
            Key::Enter => return Some(Pressed::Chosen(marked)),
            Key::Escape => return Some(Pressed::Back),
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn arrows_numbers_enter_and_escape_are_keys() {
        assert_eq!(
            keys(b"\x1b[A\x1bOB2\r\n\x1b[5~x\x1b"),
            [
                Key::Up,
                Key::Down,
                Key::Number(2),
                Key::Enter,
                Key::Enter,
                Key::Escape
            ]
        );
    }

    #[test]
    fn a_new_question_begins_at_its_harmless_choice() {
        let mut chooser = Chooser::default();
        assert_eq!(chooser.press(Some(1), 2, Key::Down), None);
        assert_eq!(chooser.marked(Some(1), 2), 1);
        assert_eq!(
            chooser.press(Some(1), 2, Key::Enter),
            Some(Pressed::Chosen(1))
        );
        assert_eq!(
            chooser.press(Some(2), 2, Key::Enter),
            Some(Pressed::Chosen(0))
        );
        assert_eq!(chooser.press(Some(2), 2, Key::Up), None);
        assert_eq!(chooser.marked(Some(2), 2), 1);
        assert_eq!(chooser.press(Some(2), 2, Key::Escape), Some(Pressed::Back));
        assert_eq!(chooser.press(None, 0, Key::Enter), None);
    }

    proptest! {
        #[test]
        fn noise_marks_only_what_is_there(bytes in any::<Vec<u8>>(), choices in 1usize..5) {
            let mut chooser = Chooser::default();
            for key in keys(&bytes) {
                if let Some(Pressed::Chosen(index)) = chooser.press(Some(1), choices, key) {
                    prop_assert!(index < choices);
                }
            }
            prop_assert!(chooser.marked(Some(1), choices) < choices);
        }
    }
}
