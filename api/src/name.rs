//! Names that a technician may give to a target, an offer, a secret or an image.

/// Length limit of a name in characters, that of a DNS label.
pub const MAX_NAME_CHARS: usize = 63;

/// True for a valid name: 1 to [`MAX_NAME_CHARS`] valid characters, and not `all`.
pub fn is_valid_name(name: &str) -> bool {
    (1..=MAX_NAME_CHARS).contains(&name.len()) && name.chars().all(is_name_char) && name != "all"
}

/// True for a character that a name may have.
pub fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}
