//! `diskcast image rebuild`: makes a new image from the undamaged chunks of a damaged one.

use super::image::password;
use api::{ApiError, ErrorCode, SCHEMA_VERSION};
use clap::Args;
use disk::rebuild::rebuild;
use facts::units;
use serde::Serialize;
use std::path::PathBuf;
use terminal::interrupt::Interrupt;
use terminal::output::Output;

/// Options of `image rebuild`.
#[derive(Debug, Args)]
pub struct RebuildArgs {
    /// Damaged image; it is only read
    image: PathBuf,
    /// Image to make
    new: PathBuf,
    /// Password of an encrypted image; the new one has the same
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

pub(super) fn run(args: &RebuildArgs, out: &Output) -> Result<(), ApiError> {
    let password = password(args.password_file.as_deref())?;
    let interrupt = Interrupt::listen();
    let progress = out.progress("rebuild", None);
    let made = rebuild(
        &args.image,
        &args.new,
        password.as_ref().map(|p| p.as_str()),
        &|done, total| {
            progress.set_total(total);
            progress.set(done);
        },
        &|| interrupt.asked(),
    )?;
    progress.finish("rebuilt");
    if out.json() {
        out.result_json(&RebuildResult {
            r#type: "summary",
            schema_version: SCHEMA_VERSION,
            image: args.new.display().to_string(),
            ok: made.lost.is_empty(),
            root: made.root.to_string(),
            file_bytes: made.file_bytes,
            chunks: made.chunks,
            lost_chunks: made.lost_chunks,
            lost: made.lost.clone(),
        });
    } else {
        out.line(format!(
            "{}: {} chunks saved, {} on disk, root {}",
            args.new.display(),
            made.chunks,
            units::bytes(made.file_bytes),
            made.root
        ));
    }
    if made.lost.is_empty() {
        return Ok(());
    }
    for line in &made.lost {
        out.warn(line);
    }
    let text = format!("{} is not all there was", args.new.display());
    Err(ApiError::new(ErrorCode::Integrity, text)
        .hint("what is lost is zeros in it; deploy and restore take it with --accept-holes"))
}

#[derive(Serialize)]
struct RebuildResult {
    r#type: &'static str,
    schema_version: u32,
    image: String,
    ok: bool,
    root: String,
    file_bytes: u64,
    chunks: u64,
    lost_chunks: u64,
    lost: Vec<String>,
}
