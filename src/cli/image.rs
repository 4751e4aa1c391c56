//! `diskcast image`: capture, inspect, check and restore master images on this machine.

use super::deploy_options::End;
use super::secret::read_password;
use super::signing_key::Asking;
use super::words::{chunk_log2, limit, set_name, volume_size};
use super::{image_info, image_rebuild, image_restore, image_verify, image_words};
use api::{ApiError, ErrorCode, SCHEMA_VERSION};
use clap::{Args, Subcommand};
use disk::capture::{CaptureOptions, capture};
use disk::gaps::left_out_lines;
use disk::partition_words::partition_line;
use disk::survey::SurveyOptions;
use disk::{missing, restore};
use facts::disk_rule::DiskRule;
use facts::units;
use imagefmt::{DiskSet, Meta};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use terminal::interrupt::Interrupt;
use terminal::output::Output;
use zeroize::Zeroizing;

/// `diskcast image ...`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Capture a master disk into an image
    ///
    /// Reads only what its file systems use. A disk that was not shut down
    /// cleanly is refused by name, because an image of it would lose data.
    ///
    /// With --target the master is another machine that runs the agent: it
    /// reads and compresses, the console takes the image into its image
    /// folder. A capture that was cut goes on where it was.
    #[command(
        after_help = "Examples:\n  diskcast image capture /dev/sda lab.dcimg\n  diskcast image capture --target lab-01 --disk first --name lab-master\n  diskcast image capture disk.raw lab.dcimg --note \"Lab A, spring\"\n  diskcast image capture /dev/sda - | ssh store 'cat > lab.dcimg'"
    )]
    Capture(CaptureArgs),
    /// Show what an image holds
    Info(image_info::InfoArgs),
    /// Check that an image is undamaged
    ///
    /// Without an option every stored byte is read and compared with its hash;
    /// no password is needed for that.
    Check(image_verify::CheckArgs),
    /// Show or change the labels of an image
    ///
    /// Labels are words that may change later: the root of the image stays.
    #[command(
        after_help = "Examples:\n  diskcast image label lab.dcimg room='Lab A' state=tested\n  diskcast image label lab.dcimg state="
    )]
    Label(image_words::LabelArgs),
    /// Sign an image, or make a key for that
    #[command(
        after_help = "Examples:\n  diskcast image sign --new-key lab.key\n  diskcast image sign lab.dcimg --key lab.key\n  diskcast image sign --new-key ref:lab\n  diskcast image sign lab.dcimg --key ref:lab\n  diskcast image check lab.dcimg --signed-by dcpk1-..."
    )]
    Sign(image_words::SignArgs),
    /// Save what a damaged image still holds into a new one
    ///
    /// Every chunk is proven by its content first. Where nothing is lost the new
    /// image is the old one; otherwise what is lost is named, is zeros in the new
    /// image and is listed there.
    Rebuild(image_rebuild::RebuildArgs),
    /// Restore an image onto a disk or file of this machine
    #[command(
        after_help = "Examples:\n  diskcast image restore lab.dcimg /dev/sdb\n  diskcast image restore lab.dcimg copy.raw --yes\n  diskcast image restore lab.dcimg /dev/sdb --partitions 3 --onto 3"
    )]
    Restore(image_restore::RestoreArgs),
}

/// Options of `image capture`.
#[derive(Debug, Args)]
pub struct CaptureArgs {
    /// Master disk: a block device, or a file that holds a whole disk
    #[arg(required_unless_present = "target", conflicts_with = "target")]
    source: Option<PathBuf>,
    /// Image to make; `-` writes to standard output
    #[arg(required_unless_present = "target")]
    image: Option<PathBuf>,
    #[command(flatten)]
    pub(super) remote: RemoteArgs,
    /// Compression, 1 (fast) to 12 (small)
    #[arg(long, default_value_t = imagefmt::DEFAULT_LEVEL, value_parser = clap::value_parser!(i32).range(1..=12), value_name = "N")]
    pub(super) level: i32,
    /// Capture this partition whole, whatever is in it (may be repeated)
    #[arg(long, value_name = "N")]
    pub(super) raw_partition: Vec<u32>,
    /// Capture the whole disk byte for byte, whatever its partition table or
    /// its file systems are; it fits no smaller disk
    #[arg(long, conflicts_with = "raw_partition")]
    pub(super) raw: bool,
    /// Keep the contents of Windows page and hibernation files
    #[arg(long)]
    pub(super) keep_page_files: bool,
    /// Take everything that is not zero outside partitions
    ///
    /// Without it that is what lies before the first partition, up to 64 MiB,
    /// and in the first and last MiB of every other gap. What is left out is
    /// named.
    #[arg(long)]
    pub(super) all_gaps: bool,
    /// Read on where the disk fails: what cannot be read is zeros, and the image
    /// lists it
    #[arg(long)]
    pub(super) rescue: bool,
    /// Cut the image into files of at most this size, for example 4G; on FAT32,
    /// and under a file size limit, that is done anyway
    #[arg(long, value_name = "SIZE", value_parser = volume_size, conflicts_with = "target")]
    volume_size: Option<u64>,
    /// A remark kept in the image
    #[arg(long, value_name = "TEXT")]
    pub(super) note: Option<String>,
    /// Name that the images of all disks of one machine share
    #[arg(long, value_name = "ID", value_parser = set_name, requires = "disk_number")]
    set: Option<String>,
    /// Number of this disk in its machine, from 1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), requires = "set")]
    disk_number: Option<u32>,
    /// Encrypt with the password in this file
    #[arg(long, value_name = "FILE")]
    pub(super) password_file: Option<PathBuf>,
    /// Bytes of a piece that is hashed and written alone: 256K, 512K, 1M, 2M or 4M
    #[arg(long, default_value = "1M", value_parser = chunk_log2, value_name = "SIZE")]
    pub(super) chunk_size: u8,
    /// Logical sector size of the disk a file was copied from
    #[arg(long, value_parser = clap::value_parser!(u32), value_name = "BYTES")]
    pub(super) sector_size: Option<u32>,
    /// Worker threads [default: all processors]
    #[arg(long, value_name = "N")]
    pub(super) threads: Option<usize>,
}

/// Options of `image capture` from another machine.
#[derive(Debug, Args)]
#[command(next_help_heading = "From another machine")]
pub struct RemoteArgs {
    /// The master: exactly one target of the console
    #[arg(long, value_name = "SELECTOR")]
    pub(super) target: Option<String>,
    /// Its disk: first, largest, smallest, path:P or serial:S [default: first,
    /// or what was asked for at the target]
    #[arg(long, value_name = "RULE", requires = "target")]
    pub(super) disk: Option<DiskRule>,
    /// Name of the image in the console's image folder
    #[arg(long, value_name = "NAME", requires = "target")]
    pub(super) name: Option<String>,
    /// Action of the machine after the image is stored
    #[arg(
        long,
        value_name = "ACTION",
        default_value = "none",
        requires = "target"
    )]
    pub(super) end: End,
    /// Give up when it makes no progress for this long [default: 10m]
    #[arg(long, value_name = "DURATION", value_parser = limit, requires = "target")]
    pub(super) stall_limit: Option<u32>,
    /// Give up this long after it began [default: no limit]
    #[arg(long, value_name = "DURATION", value_parser = limit, requires = "target")]
    pub(super) time_limit: Option<u32>,
    /// Start the capture and return at once
    #[arg(long, requires = "target")]
    pub(super) detach: bool,
    /// Say no to the backup that is asked for at the target
    #[arg(long, requires = "target", conflicts_with_all = ["disk", "name", "detach"])]
    pub(super) decline: bool,
}

/// Runs the command.
///
/// # Errors
/// The failure, with the exit code that belongs to it (docs/operations.md).
pub(super) fn run(command: Command, out: &Output, context: Asking<'_>) -> Result<(), ApiError> {
    match command {
        Command::Capture(args) => run_capture(&args, out),
        Command::Info(args) => image_info::run(&args, out),
        Command::Check(args) => image_verify::run(&args, out, context),
        Command::Label(args) => image_words::label(&args, out),
        Command::Sign(args) => image_words::sign(&args, out, context),
        Command::Rebuild(args) => image_rebuild::run(&args, out),
        Command::Restore(args) => image_restore::run(&args, out),
    }
}

impl Command {
    /// The options of a capture that the console has to do.
    pub(super) fn remote(&self) -> Option<&CaptureArgs> {
        match self {
            Self::Capture(args) if args.remote.target.is_some() => Some(args),
            _ => None,
        }
    }
}

impl CaptureArgs {
    /// Place of the disk among those of its machine, if given.
    pub(super) fn set(&self) -> Option<DiskSet> {
        let (id, disk) = (self.set.clone()?, self.disk_number?);
        Some(DiskSet { id, disk })
    }
}

fn run_capture(args: &CaptureArgs, out: &Output) -> Result<(), ApiError> {
    let (Some(source), Some(target)) = (&args.source, &args.image) else {
        return Err(ApiError::new(
            ErrorCode::Usage,
            "a capture needs a master disk and an image",
        ));
    };
    let to_pipe = target == Path::new("-");
    if to_pipe && args.volume_size.is_some() {
        return Err(ApiError::new(
            ErrorCode::Usage,
            "standard output is one stream: --volume-size needs a file",
        ));
    }
    if to_pipe && out.json() {
        return Err(ApiError::new(
            ErrorCode::Usage,
            "the image and --json cannot both go to standard output",
        ));
    }
    let options = CaptureOptions {
        survey: SurveyOptions {
            raw_partitions: args.raw_partition.clone(),
            keep_page_files: args.keep_page_files,
            all_gaps: args.all_gaps,
            raw: args.raw,
            rescue: args.rescue,
        },
        level: args.level,
        chunk_log2: args.chunk_size,
        sector_size: args.sector_size,
        note: args.note.clone(),
        set: args.set(),
        password: password(args.password_file.as_deref())?,
        created: jiff::Timestamp::now()
            .strftime("%Y-%m-%dT%H:%M:%SZ")
            .to_string(),
        threads: threads(args.threads),
        volume_bytes: args.volume_size,
    };
    let interrupt = Interrupt::listen();
    let survey = out.progress("survey", None);
    let progress = OnceLock::new();
    let foremost = AtomicU64::new(0);
    let captured = capture(
        source,
        target,
        &options,
        &|done, total| {
            if total == 0 {
                return survey.set(done);
            }
            let progress = progress.get_or_init(|| {
                survey.finish("");
                out.progress("capture", Some(total))
            });
            progress.set_total(total);
            progress.set(foremost.fetch_max(done, Ordering::Relaxed).max(done));
        },
        &|| interrupt.asked(),
    )?;
    survey.finish("");
    let progress = progress.get_or_init(|| out.progress("capture", Some(captured.used_bytes)));
    let seconds = survey.seconds();
    progress.finish(format!(
        "captured {} in {}, {} on disk",
        units::bytes(captured.used_bytes),
        units::span(seconds),
        units::bytes(captured.file_bytes)
    ));
    if out.json() {
        out.result_json(&CaptureResult {
            r#type: "summary",
            schema_version: SCHEMA_VERSION,
            image: target.display().to_string(),
            root: captured.root.to_string(),
            file_bytes: captured.file_bytes,
            volumes: captured.volumes,
            used_bytes: captured.used_bytes,
            disk_bytes: captured.disk_bytes,
            seconds,
            meta: &captured.meta,
        });
        return Ok(());
    }
    let say = |line: String| {
        if to_pipe {
            out.note(line)
        } else {
            out.line(line)
        }
    };
    for line in partition_lines(&captured.meta) {
        say(line);
    }
    if let Some(line) = parts_line(target, captured.volumes) {
        say(line);
    }
    say(format!("root {}", captured.root));
    let holes = missing::lines(&captured.meta);
    for warning in captured.meta.warnings.iter().chain(&holes) {
        out.warn(warning);
    }
    for line in left_out_lines(&captured.meta) {
        out.warn(line);
    }
    Ok(())
}

#[derive(Serialize)]
struct CaptureResult<'a> {
    r#type: &'static str,
    schema_version: u32,
    image: String,
    root: String,
    file_bytes: u64,
    volumes: u32,
    used_bytes: u64,
    disk_bytes: u64,
    seconds: f64,
    meta: &'a Meta,
}

/// One line for each partition, the same in `info`, `capture` and plans.
pub fn partition_lines(meta: &Meta) -> Vec<String> {
    meta.partitions.iter().map(partition_line).collect()
}

/// One line about the files of a divided image; `None` for an image in a single file.
pub(super) fn parts_line(image: &Path, volumes: u32) -> Option<String> {
    let last = restore::volume_path(image, volumes);
    (volumes > 1).then(|| {
        format!(
            "in {volumes} files, to {}; they belong together",
            last.display()
        )
    })
}

pub(super) fn password(file: Option<&Path>) -> Result<Option<Zeroizing<String>>, ApiError> {
    Ok(file.map(read_password).transpose()?)
}

pub(super) fn threads(asked: Option<usize>) -> usize {
    asked
        .filter(|n| *n > 0)
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(2, usize::from))
}
