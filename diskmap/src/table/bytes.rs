//! Access to little-endian fields of a sector.
//!
//! Never panics: a field outside the slice reads as zero and is not written. Callers pass whole
//! sectors (at least 512 bytes) and check lengths that come from the disk, so neither happens. The
//! output of the patcher is parsed again before it leaves the crate.

/// The `N` bytes at `at`.
pub(super) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes
        .get(at..)
        .and_then(|tail| tail.first_chunk::<N>())
        .copied()
        .unwrap_or([0; N])
}

/// The byte at `at`.
pub(super) fn u8_at(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or_default()
}

/// The little-endian 32-bit field at `at`.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

/// The little-endian 64-bit field at `at`.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

/// Sets `length` bytes at `at` to zero.
pub(super) fn zero(bytes: &mut [u8], at: usize, length: usize) {
    if let Some(place) = bytes.get_mut(at..).and_then(|tail| tail.get_mut(..length)) {
        place.fill(0);
    }
}

/// Overwrites the bytes at `at`.
pub(super) fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    if let Some(place) = bytes
        .get_mut(at..)
        .and_then(|tail| tail.get_mut(..field.len()))
    {
        place.copy_from_slice(field);
    }
}
