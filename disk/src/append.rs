//! Adds labels and signatures to an existing image: bytes are written behind its end only.

use super::restore::volume_path;
use super::{DiskError, output};
use imagefmt::Addition;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Writes `addition` to the image at `image` and syncs it. The image is whole before, after, and
/// when the write is cut.
///
/// # Errors
/// [`DiskError::Refused`] while another process writes the image; [`DiskError::Io`], after which
/// the image is as it was before, if the medium allows it.
pub fn append(image: &Path, addition: &Addition) -> Result<(), DiskError> {
    let path = volume_path(image, addition.volume.saturating_add(1));
    let io = |doing, error| DiskError::io(doing, &path, error);
    let file = OpenOptions::new()
        .write(true)
        .open(&path)
        .map_err(|e| io("opening", e))?;
    output::lock_alone(&file, &path)?;
    // Bytes behind the image's end, left by an interrupted copy, are no part of it.
    file.set_len(addition.offset)
        .map_err(|e| io("cutting", e))?;
    let written = file
        .write_all_at(&addition.bytes, addition.offset)
        .and_then(|()| file.sync_all());
    written.map_err(|error| {
        if let Err(error) = file.set_len(addition.offset) {
            tracing::warn!(file = %path.display(), %error, "could not take back what was added");
        }
        io("writing", error)
    })
}
