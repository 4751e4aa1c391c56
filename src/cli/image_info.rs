//! `diskcast image info`: the description of an image. For an encrypted image without its password,
//! only the part that is not encrypted.

use super::image::{partition_lines, password};
use api::{ApiError, SCHEMA_VERSION};
use clap::Args;
use disk::gaps::left_out_lines;
use disk::{DiskError, leftovers, missing, restore, signing};
use facts::units;
use imagefmt::{FormatError, Geometry, Labels, Meta};
use serde::Serialize;
use std::path::{Path, PathBuf};
use terminal::output::Output;

/// Options of `image info`.
#[derive(Debug, Args)]
pub struct InfoArgs {
    /// Image
    image: PathBuf,
    /// Password of an encrypted image
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

/// Fields of `image info --json`; those that need the password are null without it.
#[derive(Serialize)]
struct InfoResult<'a> {
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
    labels: Option<&'a Labels>,
    meta: Option<&'a Meta>,
}

impl InfoResult<'_> {
    /// The fields that need no password.
    fn of(path: &Path, root: String, geometry: &Geometry) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            image: path.display().to_string(),
            root,
            file_bytes: 0,
            disk_bytes: geometry.disk_size,
            sector_size: geometry.sector_size,
            chunk_bytes: geometry.chunk_size(),
            chunks: 0,
            used_bytes: 0,
            encrypted: false,
            content_root: None,
            signed_by: Vec::new(),
            labels: None,
            meta: None,
        }
    }

    fn holds_line(&self) -> String {
        let locked = if self.encrypted { ", encrypted" } else { "" };
        format!(
            "holds      {} in {} chunks, {} in the file{locked}",
            units::bytes(self.used_bytes),
            self.chunks,
            units::bytes(self.file_bytes)
        )
    }
}

/// Runs the command.
///
/// # Errors
/// The errors of opening the image. Without the password of an encrypted image less is shown.
pub(super) fn run(args: &InfoArgs, out: &Output) -> Result<(), ApiError> {
    let password = password(args.password_file.as_deref())?;
    let opened = restore::open_image(&args.image, password.as_ref().map(|p| p.as_str()));
    if let Err(DiskError::Image {
        source: FormatError::PasswordNeeded,
        ..
    }) = opened
    {
        return show_locked(&args.image, out);
    }
    let image = opened?;
    let manifest = image.manifest();
    let meta = &manifest.meta;
    let known = InfoResult {
        file_bytes: image.bytes(),
        chunks: manifest.entries.len() as u64,
        used_bytes: manifest.used_bytes(),
        encrypted: image.id_key().is_some(),
        content_root: Some(manifest.content_root().to_string()),
        signed_by: image.signers().iter().map(signing::public_text).collect(),
        labels: Some(image.labels()),
        meta: Some(meta),
        ..InfoResult::of(&args.image, image.root().to_string(), &manifest.geometry)
    };
    if out.json() {
        out.result_json(&known);
        return Ok(());
    }
    out.line(format!("image      {}", known.image));
    out.line(format!("captured   {} by {}", meta.created, meta.tool));
    if let Some(note) = &meta.note {
        out.line(format!("note       {note}"));
    }
    let source = [
        meta.source.path.as_str(),
        &meta.source.model,
        &meta.source.serial,
    ]
    .into_iter()
    .filter(|part| !part.is_empty())
    .collect::<Vec<_>>()
    .join(", ");
    out.line(format!("master     {source}"));
    out.line(format!(
        "disk       {}, sectors of {} bytes, {} table",
        units::bytes(known.disk_bytes),
        known.sector_size,
        meta.table_kind
    ));
    out.line(known.holds_line());
    out.line(format!("root       {}", known.root));
    out.line(format!("content    {}", manifest.content_root()));
    if let Some(set) = &meta.set {
        out.line(format!("set        {}, disk {}", set.id, set.disk));
    }
    for origin in &meta.lineage {
        let root = origin.root.as_deref().unwrap_or("an image without its end");
        out.line(format!("made by    {} of {root}", origin.by));
    }
    for key in &known.signed_by {
        out.line(format!("signed by  {key}"));
    }
    for (name, text) in image.labels().iter() {
        out.line(format!("label      {name} = {text}"));
    }
    for line in partition_lines(meta) {
        out.line(line);
    }
    if let Some(line) = leftovers::line(meta) {
        out.line(format!("leftovers  {line}"));
    }
    for warning in meta.warnings.iter().chain(&missing::lines(meta)) {
        out.line(format!("warning    {warning}"));
    }
    for line in left_out_lines(meta) {
        out.line(format!("warning    {line}"));
    }
    Ok(())
}

fn show_locked(path: &Path, out: &Output) -> Result<(), ApiError> {
    let summary = restore::summary(path)?;
    let known = InfoResult {
        file_bytes: summary.bytes,
        chunks: summary.chunks,
        used_bytes: summary.used_bytes,
        encrypted: summary.encrypted,
        signed_by: summary.signers.iter().map(signing::public_text).collect(),
        ..InfoResult::of(path, summary.root.to_string(), &summary.geometry)
    };
    if out.json() {
        out.result_json(&known);
        return Ok(());
    }
    out.line(format!("image      {}", known.image));
    out.line(format!(
        "disk       {}, sectors of {} bytes",
        units::bytes(known.disk_bytes),
        known.sector_size
    ));
    out.line(known.holds_line());
    out.line(format!("root       {}", known.root));
    for key in &known.signed_by {
        out.line(format!("signed by  {key}"));
    }
    out.note("master, partitions, notes and labels are encrypted: --password-file FILE shows them");
    Ok(())
}
