//! A [`View`] as the rows of a text screen. Pure.
//!
//! Owns the layout. Rows are never wider than the screen, and never more than it has; what does not
//! fit is left out from the bottom up, the menu last, because a question that is not visible cannot
//! be answered. Text from outside (names, models, reasons) is shown without its control characters.

use super::letters;
use super::view::{Bar, Menu, Tone, View};

/// The style of a row.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Paint {
    /// The terminal's default.
    Plain,
    /// The colour of the view's tone.
    Mood(Tone),
    /// Bright.
    Strong,
    /// Dark on light: the marked choice.
    Marked,
}

/// One row of the screen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Row {
    /// Its style.
    pub paint: Paint,
    /// Its text.
    pub text: String,
}

const MARGIN: usize = 2;

struct Page {
    columns: usize,
    rows: Vec<Row>,
}

impl Page {
    fn put(&mut self, paint: Paint, text: &str) {
        let text: String = text
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(self.columns.saturating_sub(MARGIN))
            .collect();
        let text = if text.trim().is_empty() {
            String::new()
        } else {
            format!("{}{text}", " ".repeat(MARGIN.min(self.columns)))
        };
        self.rows.push(Row { paint, text });
    }

    fn wrap(&mut self, paint: Paint, first: &str, next: &str, text: &str) {
        let width = self.columns.saturating_sub(MARGIN + first.chars().count());
        for (index, line) in wrapped(text, width.max(10)).iter().enumerate() {
            let head = if index == 0 { first } else { next };
            self.put(paint, &format!("{head}{line}"));
        }
    }

    fn gap(&mut self) {
        self.put(Paint::Plain, "");
    }
}

/// The rows of a screen of `columns` by `lines`.
pub fn render(view: &View, menu: Option<&Menu>, columns: usize, lines: usize) -> Vec<Row> {
    let page = |columns| Page {
        columns,
        rows: Vec::new(),
    };
    let mood = Paint::Mood(view.tone);
    let mut top = page(columns);
    top.put(
        Paint::Plain,
        concat!("diskcast ", env!("CARGO_PKG_VERSION")),
    );
    // Large letters are used only if enough lines are left for the content.
    match letters::large(&view.headline, columns.saturating_sub(2 * MARGIN)) {
        Some(letters) if lines >= 20 => {
            top.gap();
            for row in letters {
                top.put(mood, &row);
            }
            top.gap();
        }
        _ => top.put(mood, &view.headline),
    }
    top.wrap(Paint::Strong, "", "", &view.caption);
    if let Some(bar) = &view.bar {
        top.put(mood, &bar_row(bar, columns.saturating_sub(2 * MARGIN)));
        top.put(Paint::Plain, &bar.text());
    }
    for advice in &view.advice {
        top.wrap(mood, "! ", "  ", advice);
    }
    let mut asked = page(columns);
    if let Some(menu) = menu {
        asked.gap();
        asked.wrap(Paint::Strong, "", "", &menu.question.title);
        for line in &menu.question.lines {
            asked.wrap(Paint::Plain, "", "", line);
        }
        for (index, choice) in menu.question.choices.iter().enumerate() {
            let paint = if index == menu.marked {
                Paint::Marked
            } else {
                Paint::Plain
            };
            asked.put(paint, &format!(" {} {} ", index + 1, choice.label));
        }
        asked.put(
            Paint::Plain,
            "Arrow keys or numbers choose, Enter confirms, Esc goes back.",
        );
    }
    let mut bottom = page(columns);
    bottom.gap();
    for (name, value) in &view.facts {
        bottom.wrap(Paint::Plain, &format!("{name:<12}"), &" ".repeat(12), value);
    }
    for remark in &view.remarks {
        bottom.wrap(Paint::Plain, "- ", "  ", remark);
    }
    let room = lines.saturating_sub(asked.rows.len());
    let mut rows = top.rows;
    rows.truncate(room);
    bottom.rows.truncate(room.saturating_sub(rows.len()));
    rows.extend(bottom.rows);
    rows.extend(asked.rows);
    rows.truncate(lines);
    rows
}

fn bar_row(bar: &Bar, width: usize) -> String {
    let filled = u128::from(bar.done.min(bar.total)) * width as u128 / u128::from(bar.total.max(1));
    let filled = usize::try_from(filled).unwrap_or(width).min(width);
    format!("{}{}", "█".repeat(filled), "░".repeat(width - filled))
}

/// Breaks a text into lines of at most `width` characters, at blanks where possible.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut used = 0;
    for word in text.split(' ') {
        let mut word: Vec<char> = word.chars().collect();
        if used > 0 && used + 1 + word.len() > width {
            lines.push(std::mem::take(&mut line));
            used = 0;
        }
        while word.len() > width {
            let rest = word.split_off(width);
            lines.push(word.into_iter().collect());
            word = rest;
        }
        if used > 0 {
            line.push(' ');
            used += 1;
        }
        used += word.len();
        line.extend(word);
    }
    lines.push(line);
    lines
}

/// The bytes that paint `rows` on a screen of `columns` by `lines`, from its upper left corner,
/// without scrolling it.
pub fn ansi(rows: &[Row], columns: usize, lines: usize) -> String {
    let mut out = String::from("\x1b[?25l\x1b[H");
    for index in 0..lines {
        let (paint, text) = rows
            .get(index)
            .map_or((Paint::Plain, ""), |row| (row.paint, row.text.as_str()));
        let code = match paint {
            Paint::Plain => "0;37",
            Paint::Strong => "0;1;37",
            Paint::Marked => "0;30;47",
            Paint::Mood(Tone::Calm) => "0;1;36",
            Paint::Mood(Tone::Busy) => "0;1;33",
            Paint::Mood(Tone::Good) => "0;1;32",
            Paint::Mood(Tone::Bad) => "0;1;31",
        };
        let text: String = text.chars().take(columns).collect();
        // Erased before the text: after a row as wide as the screen the cursor still is on its last
        // column, and erasing from there would remove the last letter.
        out.push_str(&format!(
            "\x1b[{};1H\x1b[0m\x1b[2K\x1b[{code}m{text}\x1b[0m",
            index + 1
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent::desk::{Choice, Question};
    use proptest::prelude::*;

    fn view() -> View {
        View {
            tone: Tone::Busy,
            headline: "63 %".into(),
            caption: "Receiving and writing.".into(),
            bar: Some(Bar {
                done: 63,
                total: 100,
                rate: Some(10),
            }),
            facts: vec![
                ("Name", "pc-07".into()),
                ("Disk", "/dev/sda, X, 64 GB".into()),
            ],
            advice: Vec::new(),
            remarks: Vec::new(),
        }
    }

    fn text(rows: &[Row]) -> String {
        rows.iter().map(|row| format!("{}\n", row.text)).collect()
    }

    #[test]
    fn a_screen_as_it_looks() {
        let expected = format!(
            concat!(
                "  diskcast {}\n",
                "\n",
                "   ███  ████     █   █ \n",
                "  █         █       █  \n",
                "  ████   ███       █   \n",
                "  █   █     █     █    \n",
                "   ███  ████     █   █ \n",
                "\n",
                "  Receiving and writing.\n",
                "  █████████████████████████░░░░░░░░░░░░░░░\n",
                "  63 B of 100 B   10 B/s   0:04 left\n",
                "\n",
                "  Name        pc-07\n",
                "  Disk        /dev/sda, X, 64 GB\n",
            ),
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(text(&render(&view(), None, 44, 25)), expected);
    }

    #[test]
    fn a_question_stays_when_the_screen_is_small() {
        let menu = Menu {
            question: Question {
                title: "Erase /dev/sda?".into(),
                lines: vec!["Everything on it is lost.".into()],
                choices: vec![Choice::new("no", "Keep it"), Choice::new("yes", "Erase it")],
            },
            marked: 0,
            id: Some(1),
        };
        let rows = render(&view(), Some(&menu), 44, 9);
        assert_eq!(rows.len(), 9);
        let shown = text(&rows);
        assert!(
            shown.contains("Erase /dev/sda?") && shown.contains("2 Erase it"),
            "{shown}"
        );
        assert!(
            rows.iter()
                .any(|row| row.paint == Paint::Marked && row.text.contains("Keep it"))
        );
    }

    proptest! {
        #[test]
        fn any_text_stays_within_any_screen(headline in any::<String>(), advice in any::<String>(), columns in 0usize..90, lines in 0usize..40) {
            let view = View { headline, advice: vec![advice], ..view() };
            let rows = render(&view, None, columns, lines);
            prop_assert!(rows.len() <= lines);
            for row in &rows {
                prop_assert!(row.text.chars().count() <= columns, "{:?}", row.text);
                prop_assert!(!row.text.contains(|c: char| c.is_control()));
            }
        }
    }
}
