//! `diskcast image restore`: writes an image to a disk or file of this machine.

use super::image::{password, threads};
use api::{ApiError, ErrorCode, SCHEMA_VERSION};
use clap::Args;
use disk::deployment::Deployment;
use disk::fit::{Disk, Fit};
use disk::gaps::left_out_lines;
use disk::partition_words::is_about;
use disk::restore::{self, Stage};
use disk::{DiskError, device, fit, ground, missing};
use diskmap::Grow;
use facts::target::Choice;
use facts::units;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use terminal::interrupt::Interrupt;
use terminal::output::Output;

/// Options of `image restore`.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// Image
    image: PathBuf,
    /// Disk to overwrite, or file to make
    target: PathBuf,
    /// Grow this partition's entry into free space: `last` or a number
    #[arg(long, value_name = "WHICH")]
    grow: Option<Grow>,
    /// Only these partitions of the image, for example 1,3; the others are
    /// left out of the table
    #[arg(long, value_name = "N,...", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=i64::from(diskmap::PARTITIONS_MAX)))]
    partitions: Vec<u32>,
    /// Overwrite this partition of the disk with the one of --partitions, and
    /// leave everything else on the disk as it is
    #[arg(long, value_name = "N", requires = "partitions", value_parser = clap::value_parser!(u32).range(1..=i64::from(diskmap::PARTITIONS_MAX)))]
    onto: Option<u32>,
    /// Do it without asking
    #[arg(short, long)]
    yes: bool,
    /// Take an image with holes: its master could not be read everywhere
    #[arg(long)]
    accept_holes: bool,
    /// Password of an encrypted image
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Logical sector size of a file that stands for a disk [default: the image's]
    #[arg(long, value_name = "BYTES")]
    sector_size: Option<u32>,
    /// Worker threads [default: all processors]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

pub(super) fn run(args: &RestoreArgs, out: &Output) -> Result<(), ApiError> {
    let password = password(args.password_file.as_deref())?;
    let image = restore::open_image(&args.image, password.as_ref().map(|p| p.as_str()))?;
    let geometry = image.manifest().geometry;
    let holes = missing::lines(&image.manifest().meta);
    for line in &holes {
        out.warn(line);
    }
    if !holes.is_empty() && !args.accept_holes {
        let text = format!("{} has holes: {}", args.image.display(), missing::SHORT);
        return Err(ApiError::new(ErrorCode::Refused, text).hint(missing::HINT));
    }
    let is_new = !args.target.exists();
    let volumes = restore::volume_paths(&args.image);
    let inputs = volumes.iter().chain(&args.password_file);
    ground::keep_inputs(&args.target, inputs.map(PathBuf::as_path))?;
    ground::refuse_image_as_disk(&args.target)?;
    let fit = Fit {
        sector_size: args.sector_size,
        grow: args.grow,
        choice: Choice {
            partitions: args.partitions.iter().copied().collect(),
            onto: args.onto,
        },
    };
    if is_new {
        device::refuse_new_device(&args.target)?;
        if args.onto.is_some() {
            let text = format!(
                "{} is not there: --onto needs a disk",
                args.target.display()
            );
            return Err(ApiError::new(ErrorCode::Refused, text)
                .hint("lsblk shows the disks of this machine"));
        }
        // Checked first, so that no file is made for a restore that would be refused.
        let disk = Disk {
            path: &args.target,
            size: geometry.disk_size,
            sector_size: args.sector_size.unwrap_or(geometry.sector_size),
        };
        fit::check(image.manifest(), disk, &fit)?;
    } else {
        let facts = device::describe(&args.target)?;
        // An impossible restore is refused before the question.
        let sector = if facts.file_backed {
            args.sector_size.unwrap_or(geometry.sector_size)
        } else {
            facts.logical_sector
        };
        let disk = Disk {
            path: &args.target,
            size: facts.size,
            sector_size: sector,
        };
        fit::check(image.manifest(), disk, &fit)?;
        if !facts.holders.is_empty() {
            return Err(ApiError::from(DiskError::InUse {
                path: args.target.clone(),
                holders: facts.holders,
            }));
        }
        let lost = match args.onto {
            None => format!("Everything on {}", args.target.display()),
            Some(onto) => format!(
                "Everything in partition {onto} of {}",
                args.target.display()
            ),
        };
        out.note(match args.onto {
            None => format!("This erases {}.", facts.title()),
            Some(onto) => format!("This erases partition {onto} of {}.", facts.title()),
        });
        let own = |line: &&String| match args.onto {
            None => true,
            Some(onto) => is_about(line, onto),
        };
        for line in facts.contents.iter().filter(own) {
            out.note(format!("  on it now: {line}"));
        }
        out.confirm(&format!("{lost} will be lost."), "yes", args.yes)?;
    }
    if args.onto.is_none() {
        for line in left_out_lines(&image.manifest().meta) {
            out.note(line);
        }
    }
    let facts = restore::target_facts(&args.target, geometry.disk_size)?;
    let mut made = MadeFile(is_new.then(|| args.target.clone()));
    let deployment = Arc::new(Deployment::prepare(
        &facts,
        Arc::new(image.manifest().clone()),
        image.id_key().cloned(),
        &fit,
    )?);
    let interrupt = Interrupt::listen();
    let stage_bar: Mutex<Option<(Stage, terminal::progress::Progress)>> = Mutex::new(None);
    let started = out.progress("restore", None);
    let restored = restore::restore(
        &image,
        &args.image,
        &deployment,
        threads(args.threads),
        &|stage, done, total| {
            let mut slot = stage_bar
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            if slot.as_ref().is_none_or(|(shown, _)| *shown != stage) {
                let label = match stage {
                    Stage::Writing => "write",
                    Stage::Verifying => "read back",
                    Stage::Committing => "commit",
                };
                *slot = Some((stage, out.progress(label, Some(total))));
            }
            if let Some((_, bar)) = slot.as_ref() {
                bar.set(done);
            }
        },
        &|| interrupt.asked(),
    );
    drop(stage_bar);
    let restored = restored.map_err(|error| {
        let error = ApiError::from(error);
        if is_new || error.hint.is_some() {
            error
        } else {
            let now = match args.onto {
                None => "has no partition table now".to_owned(),
                Some(onto) => format!("has no file system in partition {onto} now"),
            };
            error.hint(format!("{} {now}; restore again", args.target.display()))
        }
    })?;
    made.0 = None;
    for note in &restored.notes {
        out.note(note);
    }
    started.finish(format!(
        "restored and read back in {}",
        units::span(started.seconds())
    ));
    if out.json() {
        out.result_json(&RestoreResult {
            r#type: "summary",
            schema_version: SCHEMA_VERSION,
            target: args.target.display().to_string(),
            root: restored.root.to_string(),
            bytes_written: restored.bytes_written,
            seconds: started.seconds(),
        });
    } else {
        out.line(format!(
            "{}: {} written and read back, root {}",
            args.target.display(),
            units::bytes(restored.bytes_written),
            restored.root
        ));
    }
    Ok(())
}

/// File that a restore has made. It is removed again unless the restore succeeds, because its
/// content is no disk yet.
struct MadeFile(Option<PathBuf>);

impl Drop for MadeFile {
    fn drop(&mut self) {
        if let Some(path) = &self.0
            && let Err(error) = std::fs::remove_file(path)
        {
            tracing::warn!(file = %path.display(), %error, "could not remove the unfinished file");
        }
    }
}

#[derive(Serialize)]
struct RestoreResult {
    r#type: &'static str,
    schema_version: u32,
    target: String,
    root: String,
    bytes_written: u64,
    seconds: f64,
}
