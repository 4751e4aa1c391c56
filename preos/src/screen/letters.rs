//! Large letters, five rows high, made of full blocks: readable from across a room with any console
//! font.
//!
//! Owns the glyphs of capitals, digits, `%` and `-`; every other character is a gap.

/// Rows of a letter.
pub const ROWS: usize = 5;

/// Glyphs of five rows and five columns each, `#` for a filled cell.
const GLYPHS: [(char, [&str; ROWS]); 38] = [
    ('A', [" ### ", "#   #", "#####", "#   #", "#   #"]),
    ('B', ["#### ", "#   #", "#### ", "#   #", "#### "]),
    ('C', [" ####", "#    ", "#    ", "#    ", " ####"]),
    ('D', ["#### ", "#   #", "#   #", "#   #", "#### "]),
    ('E', ["#####", "#    ", "#### ", "#    ", "#####"]),
    ('F', ["#####", "#    ", "#### ", "#    ", "#    "]),
    ('G', [" ####", "#    ", "#  ##", "#   #", " ####"]),
    ('H', ["#   #", "#   #", "#####", "#   #", "#   #"]),
    ('I', ["#####", "  #  ", "  #  ", "  #  ", "#####"]),
    ('J', ["#####", "   # ", "   # ", "#  # ", " ##  "]),
    ('K', ["#   #", "#  # ", "###  ", "#  # ", "#   #"]),
    ('L', ["#    ", "#    ", "#    ", "#    ", "#####"]),
    ('M', ["#   #", "## ##", "# # #", "#   #", "#   #"]),
    ('N', ["#   #", "##  #", "# # #", "#  ##", "#   #"]),
    ('O', [" ### ", "#   #", "#   #", "#   #", " ### "]),
    ('P', ["#### ", "#   #", "#### ", "#    ", "#    "]),
    ('Q', [" ### ", "#   #", "# # #", "#  # ", " ## #"]),
    ('R', ["#### ", "#   #", "#### ", "#  # ", "#   #"]),
    ('S', [" ####", "#    ", " ### ", "    #", "#### "]),
    ('T', ["#####", "  #  ", "  #  ", "  #  ", "  #  "]),
    ('U', ["#   #", "#   #", "#   #", "#   #", " ### "]),
    ('V', ["#   #", "#   #", "#   #", " # # ", "  #  "]),
    ('W', ["#   #", "#   #", "# # #", "## ##", "#   #"]),
    ('X', ["#   #", " # # ", "  #  ", " # # ", "#   #"]),
    ('Y', ["#   #", " # # ", "  #  ", "  #  ", "  #  "]),
    ('Z', ["#####", "   # ", "  #  ", " #   ", "#####"]),
    ('0', [" ### ", "#  ##", "# # #", "##  #", " ### "]),
    ('1', ["  #  ", " ##  ", "  #  ", "  #  ", " ### "]),
    ('2', ["#### ", "    #", " ### ", "#    ", "#####"]),
    ('3', ["#### ", "    #", " ### ", "    #", "#### "]),
    ('4', ["#  # ", "#  # ", "#####", "   # ", "   # "]),
    ('5', ["#####", "#    ", "#### ", "    #", "#### "]),
    ('6', [" ### ", "#    ", "#### ", "#   #", " ### "]),
    ('7', ["#####", "   # ", "  #  ", " #   ", "#    "]),
    ('8', [" ### ", "#   #", " ### ", "#   #", " ### "]),
    ('9', [" ### ", "#   #", " ####", "    #", " ### "]),
    ('%', ["#   #", "   # ", "  #  ", " #   ", "#   #"]),
    ('-', ["     ", "     ", "#####", "     ", "     "]),
];

/// The rows of `text` in large letters; `None` when they are wider than `columns`.
pub fn large(text: &str, columns: usize) -> Option<[String; ROWS]> {
    let mut rows: [String; ROWS] = Default::default();
    for letter in text.chars() {
        let glyph = GLYPHS.iter().find(|(known, _)| *known == letter);
        for (index, row) in rows.iter_mut().enumerate() {
            let ink = glyph
                .and_then(|(_, glyph)| glyph.get(index))
                .copied()
                .unwrap_or("  ");
            row.extend(ink.chars().map(|dot| if dot == '#' { '█' } else { ' ' }));
            row.push(' ');
        }
    }
    let fits = rows.iter().all(|row| row.chars().count() <= columns);
    fits.then_some(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_of_one_size_and_stay_on_the_screen() {
        for (letter, glyph) in GLYPHS {
            assert!(glyph.iter().all(|row| row.len() == 5), "{letter}");
        }
        let rows = large("63 %", 40).unwrap();
        assert_eq!(rows[2], "████   ███       █   ");
        assert_eq!(large("RESTARTING", 40), None);
    }
}
