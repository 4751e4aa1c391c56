//! `diskcast image label` and `image sign`: add labels and signatures to an existing image, without
//! touching its content.

use super::image::password;
use super::signing_key::{Asking, KeyPlace};
use super::words;
use api::{ApiError, SCHEMA_VERSION};
use clap::Args;
use disk::{DiskError, append::append, restore, signing};
use imagefmt::Labels;
use serde::Serialize;
use std::path::PathBuf;
use terminal::exit::usage;
use terminal::output::Output;

/// Options of `image label`.
#[derive(Debug, Args)]
pub struct LabelArgs {
    /// Image
    image: PathBuf,
    /// Labels to set; `NAME=` takes one away. Without any, they are shown
    #[arg(value_name = "NAME=TEXT", value_parser = words::label)]
    labels: Vec<(String, String)>,
    /// Password of an encrypted image
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

/// Options of `image sign`.
#[derive(Debug, Args)]
pub struct SignArgs {
    /// Image
    #[arg(required_unless_present = "new_key")]
    image: Option<PathBuf>,
    /// File with the key, or ref:NAME for a secret of the console
    #[arg(long, value_name = "KEY", required_unless_present = "new_key")]
    key: Option<KeyPlace>,
    /// Make a key in this file, or as this secret (ref:NAME), and show the
    /// public key that belongs to it
    #[arg(long, value_name = "KEY", conflicts_with_all = ["image", "key", "password_file"])]
    new_key: Option<KeyPlace>,
    /// Password of an encrypted image
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

pub(super) fn label(args: &LabelArgs, out: &Output) -> Result<(), ApiError> {
    let password = password(args.password_file.as_deref())?;
    let image = restore::open_image(&args.image, password.as_ref().map(|p| p.as_str()))?;
    let mut labels = image.labels().clone();
    for (name, text) in &args.labels {
        labels
            .set(name, text)
            .map_err(|error| usage(format!("label {name}: {error}")))?;
    }
    if labels != *image.labels() {
        let addition = image
            .with_labels(&labels)
            .map_err(|error| usage(error.to_string()))?;
        append(&args.image, &addition)?;
    }
    if out.json() {
        out.result_json(&LabelResult {
            schema_version: SCHEMA_VERSION,
            image: args.image.display().to_string(),
            root: image.root().to_string(),
            labels: &labels,
        });
        return Ok(());
    }
    for (name, text) in labels.iter() {
        out.line(format!("{name} = {text}"));
    }
    Ok(())
}

pub(super) fn sign(args: &SignArgs, out: &Output, context: Asking<'_>) -> Result<(), ApiError> {
    if let Some(place) = &args.new_key {
        let public = place.make(context)?;
        return done(out, None, &signing::public_text(&public));
    }
    let (Some(path), Some(key)) = (&args.image, &args.key) else {
        return Err(usage("a signature needs an image and a key"));
    };
    let password = password(args.password_file.as_deref())?;
    let image = restore::open_image(path, password.as_ref().map(|p| p.as_str()))?;
    let signature = key.sign(&image.root(), (path, image.signers()), context)?;
    let addition = image
        .with_signature(&signature)
        .map_err(|error| DiskError::image(path, error))?;
    append(path, &addition)?;
    let public = signing::public_text(&signature.key);
    done(out, Some(image.root().to_string()), &public)
}

fn done(out: &Output, root: Option<String>, public: &str) -> Result<(), ApiError> {
    if out.json() {
        out.result_json(&SignResult {
            schema_version: SCHEMA_VERSION,
            root,
            public_key: public.to_owned(),
        });
        return Ok(());
    }
    match root {
        Some(root) => out.line(format!("root {root} signed by {public}")),
        None => out.line(public),
    }
    Ok(())
}

#[derive(Serialize)]
struct LabelResult<'a> {
    schema_version: u32,
    image: String,
    root: String,
    labels: &'a Labels,
}

#[derive(Serialize)]
struct SignResult {
    schema_version: u32,
    root: Option<String>,
    public_key: String,
}
