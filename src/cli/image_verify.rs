//! `diskcast image check`: compares every stored byte with its hash, and shows who signed the
//! image.

use super::image::{password, threads};
use super::signing_key::{Asking, public_key};
use api::{ApiError, ErrorCode, SCHEMA_VERSION};
use clap::Args;
use disk::check::{Depth, check};
use disk::{restore, signing};
use serde::Serialize;
use std::path::PathBuf;
use terminal::interrupt::Interrupt;
use terminal::output::Output;

/// Options of `image check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Image
    image: PathBuf,
    /// Structure only: seconds, whatever the size
    #[arg(long, conflicts_with = "deep")]
    quick: bool,
    /// Decompress every chunk and compare its content hash
    #[arg(long)]
    deep: bool,
    /// Password of an encrypted image, for --quick and --deep
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Public key that has to have signed the image, the file with it, or
    /// ref:NAME for a secret of the console (may be repeated)
    #[arg(long, value_name = "KEY")]
    signed_by: Vec<String>,
    /// Worker threads [default: all processors]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

/// Runs the command.
///
/// # Errors
/// `Integrity` for a damaged image, or for one without the signature of a given key.
pub(super) fn run(args: &CheckArgs, out: &Output, context: Asking<'_>) -> Result<(), ApiError> {
    let depth = match (args.quick, args.deep) {
        (true, _) => Depth::Quick,
        (_, true) => Depth::Deep,
        _ => Depth::Standard,
    };
    let password = password(args.password_file.as_deref())?;
    refuse_unsigned(args, context)?;
    let interrupt = Interrupt::listen();
    let progress = out.progress("check", None);
    let report = check(
        &args.image,
        password.as_ref().map(|p| p.as_str()),
        depth,
        threads(args.threads),
        &|done, total| {
            progress.set_total(total);
            progress.set(done);
        },
        &|| interrupt.asked(),
    )?;
    progress.finish("checked");
    for line in report.holes.iter().chain(&report.remarks) {
        out.warn(line);
    }
    if out.json() {
        out.result_json(&CheckResult {
            r#type: "summary",
            schema_version: SCHEMA_VERSION,
            image: args.image.display().to_string(),
            depth: depth.as_str(),
            ok: report.faults.is_empty(),
            root: report.root.as_ref().map(ToString::to_string),
            chunks: report.chunks,
            holes: report.holes.clone(),
            remarks: report.remarks.clone(),
            damaged: report.faults.iter().map(|f| f.text.clone()).collect(),
        });
    }
    if report.faults.is_empty() {
        if !out.json() {
            out.line(format!(
                "{}: no damage found ({} check, {} chunks)",
                args.image.display(),
                depth.as_str(),
                report.chunks
            ));
        }
        return Ok(());
    }
    for fault in &report.faults {
        out.warn(&fault.text);
    }
    Err(ApiError::new(
        ErrorCode::Integrity,
        format!("{} is damaged: {}", args.image.display(), report.damage()),
    )
    .hint("copy it again from where it was stored; `image rebuild` saves what it still holds"))
}

/// Refuses an image that lacks the signature of one of the given keys. No password is needed for
/// that.
fn refuse_unsigned(args: &CheckArgs, context: Asking<'_>) -> Result<(), ApiError> {
    if args.signed_by.is_empty() {
        return Ok(());
    }
    let keys = args.signed_by.iter().map(|text| public_key(text, context));
    let keys = keys.collect::<Result<Vec<_>, _>>()?;
    let known = restore::summary(&args.image)?;
    let Some(absent) = keys.iter().find(|key| !known.signers.contains(key)) else {
        return Ok(());
    };
    let text = format!(
        "{} is not signed by {}",
        args.image.display(),
        signing::public_text(absent)
    );
    let signers: Vec<_> = known.signers.iter().map(signing::public_text).collect();
    Err(
        ApiError::new(ErrorCode::Integrity, text).hint(match signers.as_slice() {
            [] => "nobody signed it".to_owned(),
            signers => format!("it is signed by {}", signers.join(", ")),
        }),
    )
}

#[derive(Serialize)]
struct CheckResult {
    r#type: &'static str,
    schema_version: u32,
    image: String,
    depth: &'static str,
    ok: bool,
    root: Option<String>,
    chunks: u64,
    holes: Vec<String>,
    remarks: Vec<String>,
    damaged: Vec<String>,
}
