//! Names that a technician may give to a target, an offer, a secret or an image.

/// Longest name, in characters: a DNS label.
pub const MAX_NAME_CHARS: usize = 63;

/// True for a name a technician may give.
pub fn is_valid_name(name: &str) -> bool {
    (1..=MAX_NAME_CHARS).contains(&name.len()) && name.chars().all(is_name_char) && name != "all"
}

/// True for a character of a name.
pub fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}
