//! `image info` of an image whose password was not given: what its prologue and trailer say.

use super::image::api_error;
use super::output::Output;
use crate::console::api::{ApiError, SCHEMA_VERSION};
use crate::disk::{restore, signing};
use crate::units;
use serde::Serialize;
use std::path::Path;

/// Fields as `image info` has them; what the password hides is null.
#[derive(Serialize)]
struct LockedResult {
    schema_version: u32,
    image: String,
    root: String,
    file_bytes: u64,
    disk_bytes: u64,
    sector_size: u32,
    chunk_bytes: u32,
    chunks: u64,
    used_bytes: u64,
    encrypted: bool,
    content_root: Option<String>,
    signed_by: Vec<String>,
    labels: Option<()>,
    meta: Option<()>,
}

pub(super) fn show(path: &Path, out: &Output) -> Result<(), ApiError> {
    let known = restore::summary(path).map_err(api_error)?;
    let signed_by: Vec<_> = known.signers.iter().map(signing::public_text).collect();
    if out.json() {
        out.result_json(&LockedResult {
            schema_version: SCHEMA_VERSION,
            image: path.display().to_string(),
            root: known.root.to_string(),
            file_bytes: known.bytes,
            disk_bytes: known.geometry.disk_size,
            sector_size: known.geometry.sector_size,
            chunk_bytes: known.geometry.chunk_size(),
            chunks: known.chunks,
            used_bytes: known.used_bytes,
            encrypted: known.encrypted,
            content_root: None,
            signed_by,
            labels: None,
            meta: None,
        });
        return Ok(());
    }
    out.line(format!("image      {}", path.display()));
    out.line(format!(
        "disk       {}, sectors of {} bytes",
        units::bytes(known.geometry.disk_size),
        known.geometry.sector_size
    ));
    out.line(format!(
        "holds      {} in {} chunks, {} in the file, encrypted",
        units::bytes(known.used_bytes),
        known.chunks,
        units::bytes(known.bytes)
    ));
    out.line(format!("root       {}", known.root));
    for key in signed_by {
        out.line(format!("signed by  {key}"));
    }
    out.note("master, partitions, notes and labels are encrypted: --password-file FILE shows them");
    Ok(())
}
