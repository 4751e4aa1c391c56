//! The output on serial consoles: plain lines, only when there is something new. Pure.

use super::view::{Menu, View};
use facts::units;

/// Remembers the lines already written.
#[derive(Debug, Default)]
pub struct Teller {
    said: Vec<String>,
    decile: Option<u8>,
    asked: Option<Option<u64>>,
}

impl Teller {
    /// The lines to write now.
    pub fn tell(&mut self, view: &View, menu: Option<&Menu>) -> Vec<String> {
        let mut lines = Vec::new();
        // Numbers change all the time: a line is new after another tenth of the progress, not after
        // another second.
        let mut state = vec![without_digits(&view.headline), view.caption.clone()];
        state.extend(view.advice.iter().map(|advice| without_digits(advice)));
        let decile = view
            .bar
            .as_ref()
            .map(|bar| units::percent(bar.done, bar.total.max(1)) / 10);
        if state != self.said || decile != self.decile {
            lines.push(view.line());
            for (advice, new) in view.advice.iter().zip(state.iter().skip(2)) {
                if !self.said.contains(new) {
                    lines.push(format!("  ! {advice}"));
                }
            }
        }
        (self.said, self.decile) = (state, decile);
        let asked = menu.map(|menu| menu.id);
        if let Some(menu) = menu.filter(|_| asked != self.asked) {
            lines.push(format!("? {}", menu.question.title));
            lines.extend(menu.question.lines.iter().map(|line| format!("  {line}")));
            for (index, choice) in menu.question.choices.iter().enumerate() {
                lines.push(format!("  {}) {}", index + 1, choice.label));
            }
            lines.push("  number, then Enter".to_owned());
        }
        self.asked = asked;
        lines
    }
}

fn without_digits(text: &str) -> String {
    text.chars().filter(|c| !c.is_ascii_digit()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::screen::view::{Bar, Tone};

    #[test]
    fn a_tenth_of_the_way_is_news_and_a_second_is_not() {
        let view = |done| View {
            tone: Tone::Busy,
            headline: format!("{done} %"),
            caption: "Receiving.".into(),
            bar: Some(Bar {
                done,
                total: 100,
                rate: None,
            }),
            facts: Vec::new(),
            advice: vec![format!("No beacon for {done} s.")],
            remarks: Vec::new(),
        };
        let mut teller = Teller::default();
        let said: Vec<usize> = (0..40)
            .map(|done| teller.tell(&view(done), None).len())
            .collect();
        assert_eq!(said[0], 2, "the advice comes once");
        assert_eq!(said.iter().sum::<usize>(), 2 + 3);
    }
}
