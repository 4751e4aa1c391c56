//! Tables, and text from other machines.
//!
//! Owns: the plain column layout of every list (no rules, no box glyphs: it is read on serial
//! consoles and by `awk`), and [`clean`]. Names, models, labels and reasons come from machines in
//! the room, so none of their control characters may reach a technician's terminal.

use comfy_table::{Cell, CellAlignment, Table, presets};

/// A table under construction: every cell is cleaned.
pub(super) struct Columns {
    table: Table,
}

/// Alignment of a column.
#[derive(Clone, Copy)]
pub(super) enum Align {
    Left,
    /// To the right, for numbers.
    Right,
}

impl Columns {
    /// A table with these headings.
    pub(super) fn new(headings: &[(&str, Align)]) -> Self {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(headings.iter().map(|(heading, _)| *heading));
        for (index, (_, align)) in headings.iter().enumerate() {
            if let Some(column) = table.column_mut(index) {
                column.set_padding((0, 2));
                column.set_cell_alignment(match align {
                    Align::Left => CellAlignment::Left,
                    Align::Right => CellAlignment::Right,
                });
            }
        }
        Self { table }
    }

    /// Adds a row. A line break in a cell is kept, every other control character is replaced.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.table.add_row(
            cells
                .into_iter()
                .map(|cell| Cell::new(cell.split('\n').map(clean).collect::<Vec<_>>().join("\n"))),
        );
    }

    /// The table as text, without spaces at line ends and without a last line break.
    pub(super) fn text(&self) -> String {
        self.table
            .lines()
            .map(|line| line.trim_end().to_owned())
            .collect::<Vec<_>>()
            .join("\n")
    }
}

/// The text with every control character (escape sequences begin with one) and every bidirectional
/// override replaced by `?`.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') { '?' } else { c }).collect()
}

/// The text, or a dash if there is none.
pub(super) fn or_dash(text: Option<&str>) -> String {
    text.map(str::trim)
        .filter(|text| !text.is_empty())
        .unwrap_or("-")
        .to_owned()
}

/// A number with its noun: `1 target`, `3 targets`.
pub(super) fn count(number: usize, noun: &str) -> String {
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{number} {noun}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_hostile_text_is_harmless() {
        let mut columns = Columns::new(&[
            ("NAME", Align::Left),
            ("SIZE", Align::Right),
            ("NOW", Align::Left),
        ]);
        columns.row(["pc-01".into(), "256 GB".into(), "gpt\n1 EFI".into()]);
        columns.row(["\x1b[2Jpc\t2\u{202e}".into(), "1 B".into(), "-".into()]);
        assert_eq!(
            columns.text(),
            "NAME         SIZE  NOW\n\
             pc-01      256 GB  gpt\n\
             \u{20}                  1 EFI\n\
             ?[2Jpc?2?     1 B  -"
        );
    }

    #[test]
    fn small_words() {
        assert_eq!(
            (count(1, "target"), count(0, "target")),
            ("1 target".into(), "0 targets".into())
        );
        assert_eq!(
            (or_dash(None), or_dash(Some("  ")), or_dash(Some(" x "))),
            ("-".into(), "-".into(), "x".into())
        );
    }
}
