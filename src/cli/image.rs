//! `diskcast image`: capture, look at, check and restore master images on this machine.

use super::deploy_options::{End, limit};
use super::interrupt::Interrupt;
use super::output::Output;
use super::secret::read_password;
use super::{image_locked, image_rebuild, image_restore, image_words};
use crate::console::api::{ApiError, ErrorCode, SCHEMA_VERSION};
use crate::disk::DiskError;
use crate::disk::capture::{CaptureOptions, capture};
use crate::disk::check::{Depth, check};
use crate::disk::gaps::left_out_lines;
use crate::disk::survey::SurveyOptions;
use crate::disk::volumes::VOLUME_MIN;
use crate::disk::{leftovers, missing, restore, signing};
use crate::partition_words::partition_line;
use crate::units;
use clap::{Args, Subcommand};
use imagefmt::{FormatError, Labels, Meta};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
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
    Info(InfoArgs),
    /// Check that an image is undamaged
    ///
    /// Without an option every stored byte is read and compared with its hash;
    /// no password is needed for that.
    Check(CheckArgs),
    /// Show or change the labels of an image
    ///
    /// Labels are words that may change later: the root of the image stays.
    #[command(
        after_help = "Examples:\n  diskcast image label lab.dcimg room='Lab A' state=tested\n  diskcast image label lab.dcimg state="
    )]
    Label(image_words::LabelArgs),
    /// Sign an image, or make a key for that
    #[command(
        after_help = "Examples:\n  diskcast image sign --new-key lab.key\n  diskcast image sign lab.dcimg --key lab.key\n  diskcast image check lab.dcimg --signed-by dcpk1-..."
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
    pub(super) disk: Option<String>,
    /// Name of the image in the console's image folder
    #[arg(long, value_name = "NAME", requires = "target")]
    pub(super) name: Option<String>,
    /// What the machine does once the image is stored
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

/// Options of `image info`.
#[derive(Debug, Args)]
pub struct InfoArgs {
    /// Image
    image: PathBuf,
    /// Password of an encrypted image
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

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
    /// Public key that has to have signed the image, or the file with it (may be
    /// repeated)
    #[arg(long, value_name = "KEY")]
    signed_by: Vec<String>,
    /// Worker threads [default: all processors]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

/// Runs the command.
///
/// # Errors
/// As the exit codes of DESIGN section 10 say.
pub fn run(command: Command, out: &Output) -> Result<(), ApiError> {
    match command {
        Command::Capture(args) => run_capture(&args, out),
        Command::Info(args) => run_info(&args, out),
        Command::Check(args) => run_check(&args, out),
        Command::Label(args) => image_words::label(&args, out),
        Command::Sign(args) => image_words::sign(&args, out),
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
    )
    .map_err(api_error)?;
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

fn run_info(args: &InfoArgs, out: &Output) -> Result<(), ApiError> {
    let password = password(args.password_file.as_deref())?;
    let opened = restore::open_image(&args.image, password.as_ref().map(|p| p.as_str()));
    if let Err(DiskError::Image {
        source: FormatError::PasswordNeeded,
        ..
    }) = opened
    {
        return image_locked::show(&args.image, out);
    }
    let image = opened.map_err(api_error)?;
    let manifest = image.manifest();
    let meta = &manifest.meta;
    let file_bytes = image.bytes();
    if out.json() {
        out.result_json(&InfoResult {
            schema_version: SCHEMA_VERSION,
            image: args.image.display().to_string(),
            root: image.root().to_string(),
            file_bytes,
            disk_bytes: manifest.geometry.disk_size,
            sector_size: manifest.geometry.sector_size,
            chunk_bytes: manifest.geometry.chunk_size(),
            chunks: manifest.entries.len(),
            used_bytes: manifest.used_bytes(),
            encrypted: image.id_key().is_some(),
            content_root: manifest.content_root().to_string(),
            signed_by: image.signers().iter().map(signing::public_text).collect(),
            labels: image.labels(),
            meta,
        });
        return Ok(());
    }
    out.line(format!("image      {}", args.image.display()));
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
        units::bytes(manifest.geometry.disk_size),
        manifest.geometry.sector_size,
        meta.table_kind
    ));
    out.line(format!(
        "holds      {} in {} chunks, {} in the file{}",
        units::bytes(manifest.used_bytes()),
        manifest.entries.len(),
        units::bytes(file_bytes),
        if image.id_key().is_some() {
            ", encrypted"
        } else {
            ""
        }
    ));
    out.line(format!("root       {}", image.root()));
    out.line(format!("content    {}", manifest.content_root()));
    if let Some(set) = &meta.set {
        out.line(format!("set        {}, disk {}", set.id, set.disk));
    }
    for origin in &meta.lineage {
        let root = origin.root.as_deref().unwrap_or("an image without its end");
        out.line(format!("made by    {} of {root}", origin.by));
    }
    for key in image.signers() {
        out.line(format!("signed by  {}", signing::public_text(key)));
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

#[derive(Serialize)]
struct InfoResult<'a> {
    schema_version: u32,
    image: String,
    root: String,
    file_bytes: u64,
    disk_bytes: u64,
    sector_size: u32,
    chunk_bytes: u32,
    chunks: usize,
    used_bytes: u64,
    encrypted: bool,
    content_root: String,
    signed_by: Vec<String>,
    labels: &'a Labels,
    meta: &'a Meta,
}

/// One line a partition, the same in `info`, `capture` and plans.
pub fn partition_lines(meta: &Meta) -> Vec<String> {
    meta.partitions.iter().map(partition_line).collect()
}

/// One line about the files of a divided image; none for one in a single file.
pub(super) fn parts_line(image: &Path, volumes: u32) -> Option<String> {
    let last = restore::volume_path(image, volumes);
    (volumes > 1).then(|| {
        format!(
            "in {volumes} files, to {}; they belong together",
            last.display()
        )
    })
}

fn run_check(args: &CheckArgs, out: &Output) -> Result<(), ApiError> {
    let depth = match (args.quick, args.deep) {
        (true, _) => Depth::Quick,
        (_, true) => Depth::Deep,
        _ => Depth::Standard,
    };
    let password = password(args.password_file.as_deref())?;
    refuse_unsigned(args)?;
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
    )
    .map_err(api_error)?;
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

/// Refuses an image that one of the keys asked for has not signed. No password is needed for that.
fn refuse_unsigned(args: &CheckArgs) -> Result<(), ApiError> {
    if args.signed_by.is_empty() {
        return Ok(());
    }
    let keys = args.signed_by.iter().map(|text| signing::public_key(text));
    let keys = keys.collect::<Result<Vec<_>, _>>().map_err(api_error)?;
    let known = restore::summary(&args.image).map_err(api_error)?;
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

/// A disk failure with its exit code.
pub fn api_error(error: DiskError) -> ApiError {
    let code = match &error {
        DiskError::InUse { .. }
        | DiskError::Refused { .. }
        | DiskError::Dirty(_)
        | DiskError::DoesNotFit { .. }
        | DiskError::Table { .. }
        | DiskError::SourceTable { .. } => ErrorCode::Refused,
        DiskError::Image { source, .. } => match source {
            FormatError::PasswordNeeded => ErrorCode::Usage,
            FormatError::WrongPassword => ErrorCode::Unreachable,
            FormatError::UnsupportedVersion { .. }
            | FormatError::UnknownFeature { .. }
            | FormatError::Unknown { .. } => ErrorCode::Refused,
            FormatError::Io { .. } | FormatError::Compressor(_) => ErrorCode::Unexpected,
            _ => ErrorCode::Integrity,
        },
        DiskError::Mismatch { .. }
        | DiskError::NotBlank { .. }
        | DiskError::TableMismatch { .. } => ErrorCode::Integrity,
        DiskError::Cancelled => ErrorCode::Interrupted,
        _ => ErrorCode::Unexpected,
    };
    let hint = error.hint();
    let api = ApiError::new(code, error.full());
    match hint {
        Some(hint) => api.hint(hint),
        None => api,
    }
}

pub(super) fn password(file: Option<&Path>) -> Result<Option<Zeroizing<String>>, ApiError> {
    file.map(read_password).transpose()
}

pub(super) fn threads(asked: Option<usize>) -> usize {
    asked
        .filter(|n| *n > 0)
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(2, usize::from))
}

fn chunk_log2(text: &str) -> Result<u8, String> {
    let bytes = units::parse_size(text)?;
    (imagefmt::MIN_CHUNK_LOG2..=imagefmt::MAX_CHUNK_LOG2)
        .find(|log2| bytes == 1 << log2)
        .ok_or_else(|| "expected 256K, 512K, 1M, 2M or 4M".into())
}

fn volume_size(text: &str) -> Result<u64, String> {
    let bytes = units::parse_size(text)?;
    if bytes < VOLUME_MIN {
        return Err("a part has at least 16M".into());
    }
    Ok(bytes)
}
