//! `diskcast export`: the pre-OS for other boot servers, media and machines.
//!
//! Owns: the console that scripts name, the choice of the agent, and how progress is shown. The
//! content comes from `pxe::export`.

use super::Context;
use super::errors::PathError;
use super::paths::absolute;
use super::words::address;
use api::{ApiError, ConsoleInfo, ErrorCode};
use clap::{Args, Subcommand, ValueEnum};
use facts::units;
use net::tls::{Identity, Pin};
use pxe::bundle::{Bundle, BundleError, BundleOptions, PackageSource, Profile, Progress};
use pxe::export::words::checked_word;
use pxe::export::{BootFolder, ExportedAgent, FolderOptions, Iso, IsoOptions, Words, boot_folder};
use serde::Serialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use terminal::exit::{Ended, Exit, usage};
use terminal::output::Output;
use terminal::progress::Progress as Bar;

/// The default second lane (docs/operations.md), which scripts leave out.
const SECOND_LANE: &str = "239.254.1.2:5004";
/// Names of a static agent and of any agent, in this program's folder.
const STATIC_AGENT: &str = "diskcast-agent-static";
const AGENT: &str = "diskcast-agent";

/// `diskcast export ...`
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// A boot folder for another PXE server
    ///
    /// Kernel, initramfs, loaders and scripts, with settings for dnsmasq,
    /// Tftpd64 and the DHCP server of Windows. Made of Debian packages, which
    /// apt fetches once; nothing is installed. An older export is replaced.
    #[command(after_help = "\
Examples:
  diskcast export pxe /srv/tftp
  diskcast export pxe boot --profile desktop --console 10.0.0.1 --pin 4f2a...
  diskcast export pxe boot --from-debs packages/ --agent diskcast-agent-static")]
    Pxe(PxeArgs),
    /// One file for CD and USB stick, BIOS, UEFI and Secure Boot
    ///
    /// A machine started from it offers itself to the console. Needs xorriso
    /// and grub-mkimage on this machine; everything else comes from packages.
    #[command(after_help = "\
Examples:
  diskcast export iso diskcast.iso
  diskcast export iso lab.iso --console 10.0.0.1 --word diskcast.ip=dhcp
  dd if=diskcast.iso of=/dev/STICK bs=4M conv=fsync")]
    Iso(IsoArgs),
    /// The agent for a machine that already runs some Linux
    ///
    /// Writes the program, and FILE.sh that starts it for this console.
    #[command(after_help = "\
Examples:
  diskcast export agent diskcast-agent
  diskcast export agent /srv/www/agent --console 10.0.0.1")]
    Agent(AgentArgs),
}

/// Options for the content of the pre-OS.
#[derive(Debug, Args)]
#[command(next_help_heading = "Pre-OS")]
struct BundleArgs {
    /// Drivers in the pre-OS
    #[arg(long, value_enum, default_value_t = ProfileWord::Full)]
    profile: ProfileWord,
    /// Take Debian packages from this folder instead of from apt
    #[arg(long, value_name = "DIR")]
    from_debs: Option<PathBuf>,
    /// The agent to boot into [default: diskcast-agent-static beside this
    /// program, else diskcast-agent]
    #[arg(long, value_name = "FILE")]
    agent: Option<PathBuf>,
    /// Include a shell, started by the kernel word diskcast.shell
    #[arg(long)]
    shell: bool,
    /// Folder for packages and finished bundles [default: preos in the data
    /// directory]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
}

/// The console that the agent follows.
#[derive(Debug, Args)]
#[command(next_help_heading = "Console")]
struct ConsoleArgs {
    /// The console's address [default: that of the running console; without
    /// one agents find it by its beacon]
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = address)]
    console: Option<SocketAddr>,
    /// The console's pin [default: that of the console of the data directory]
    #[arg(long, value_name = "PIN")]
    pin: Option<Pin>,
    /// One more word for the kernel's command line, such as
    /// diskcast.log=debug; may be repeated
    #[arg(long, value_name = "WORD", value_parser = checked_word)]
    word: Vec<String>,
}

/// Options of `export pxe`.
#[derive(Debug, Args)]
pub(super) struct PxeArgs {
    /// The folder to write
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    #[command(flatten)]
    console: ConsoleArgs,
    #[command(flatten)]
    bundle: BundleArgs,
    /// Take undionly.kpxe, snponly.efi and ipxe.efi from here where they are
    /// there: an iPXE newer than the package
    #[arg(long, value_name = "DIR")]
    ipxe_dir: Option<PathBuf>,
}

/// Options of `export iso`.
#[derive(Debug, Args)]
pub(super) struct IsoArgs {
    /// The file to write
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    console: ConsoleArgs,
    #[command(flatten)]
    bundle: BundleArgs,
}

/// Options of `export agent`.
#[derive(Debug, Args)]
pub(super) struct AgentArgs {
    /// The file to write
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The console's address [default: that of the running console; without
    /// one the agent finds it by its beacon]
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = address)]
    console: Option<SocketAddr>,
    /// The console's pin [default: that of the console of the data directory]
    #[arg(long, value_name = "PIN")]
    pin: Option<Pin>,
    /// The agent to export [default: diskcast-agent-static beside this
    /// program, else diskcast-agent]
    #[arg(long, value_name = "FILE")]
    agent: Option<PathBuf>,
}

/// [`Profile`] as a value of clap.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ProfileWord {
    /// Every wired network card, disk controller and keyboard
    Full,
    /// Common PCs; smaller
    Desktop,
    /// Virtual machines; smallest and quickest
    Vm,
}

impl From<ProfileWord> for Profile {
    fn from(word: ProfileWord) -> Self {
        match word {
            ProfileWord::Full => Self::Full,
            ProfileWord::Desktop => Self::Desktop,
            ProfileWord::Vm => Self::Vm,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// `Usage` when no console is known that scripts could name; `Refused` for a place that is not
/// ours, or for packages that cannot be found.
pub(super) async fn run(command: Command, context: &Context) -> Ended {
    match command {
        Command::Pxe(args) => pxe_folder(args, context).await,
        Command::Iso(args) => iso_file(args, context).await,
        Command::Agent(args) => agent_file(args, context).await,
    }
}

/// Makes the boot folder that this console serves, with the default settings, if there is none. The
/// scripts in it are for other servers; this console makes its own.
///
/// # Errors
/// The errors of `export pxe`.
pub(super) fn ensure_boot_folder(target: &Path, context: &Context) -> Result<(), ApiError> {
    if target.exists() {
        return Ok(());
    }
    let failed = |error: &dyn std::fmt::Display| {
        ApiError::new(
            ErrorCode::Refused,
            format!("boot folder {}: {error}", target.display()),
        )
    };
    // The console makes the same identity when it starts.
    let identity = Identity::load_or_create(&context.data_dir.join("identity"))
        .map_err(|error| failed(&error))?;
    let options = FolderOptions {
        bundle: BundleOptions {
            profile: Profile::Full,
            agent: agent(None)?,
            shell: false,
            source: PackageSource::Apt,
            cache: context.data_dir.join("preos"),
        },
        words: Words {
            pin: identity.pin().to_string(),
            ..Words::default()
        },
        ipxe: None,
    };
    let folder = target.display();
    context.out.note(format!(
        "making the boot folder {folder}: packages are fetched once, which may take a minute"
    ));
    let done = with_bars(&context.out, |report| boot_folder(target, &options, report)).map_err(|mut error| {
        error.hint.get_or_insert_with(|| format!("`diskcast export pxe {folder}` has options for other drivers, packages and agents"));
        error
    })?;
    tell_bundle(&context.out, &done.bundle);
    Ok(())
}

async fn iso_file(args: IsoArgs, context: &Context) -> Ended {
    let out = &context.out;
    let target = absolute(&args.file)?;
    let options = IsoOptions {
        words: words(args.console, context).await?,
        bundle: bundle_options(args.bundle, context)?,
    };
    let done = with_bars(out, |report| pxe::export::iso(&target, &options, report))?;
    tell_bundle(out, &done.bundle);
    if out.json() {
        out.result_json(&IsoLine {
            r#type: "summary",
            iso: &done,
            words: options.words.line(),
        });
    } else {
        out.line(format!(
            "ISO         {}, {}\n{}{}",
            done.file.display(),
            units::bytes(done.bytes),
            bundle_lines(&done.bundle),
            console_lines(&options.words)
        ));
    }
    Ok(Exit::OK)
}

#[derive(Serialize)]
struct IsoLine<'a> {
    r#type: &'static str,
    #[serde(flatten)]
    iso: &'a Iso,
    words: String,
}

async fn agent_file(args: AgentArgs, context: &Context) -> Ended {
    let out = &context.out;
    let target = absolute(&args.file)?;
    let console = ConsoleArgs {
        console: args.console,
        pin: args.pin,
        word: Vec::new(),
    };
    let words = words(console, context).await?;
    let agent = agent(args.agent)?;
    let done = pxe::export::agent(&target, &agent, &words)?;
    if !done.static_agent {
        out.warn(
            "this agent needs the libraries of this machine; `cargo xtask agent` builds one that needs none",
        );
    }
    if out.json() {
        out.result_json(&AgentLine {
            r#type: "summary",
            agent: &done,
            pin: &words.pin,
            console: words.console.map(|console| console.to_string()),
        });
    } else {
        out.line(format!(
            "agent       {}, {}\nscript      {}\n{}",
            done.file.display(),
            units::bytes(done.bytes),
            done.script.display(),
            console_lines(&words)
        ));
    }
    Ok(Exit::OK)
}

#[derive(Serialize)]
struct AgentLine<'a> {
    r#type: &'static str,
    #[serde(flatten)]
    agent: &'a ExportedAgent,
    pin: &'a str,
    console: Option<String>,
}

async fn pxe_folder(args: PxeArgs, context: &Context) -> Ended {
    let out = &context.out;
    let target = absolute(&args.folder)?;
    let words = words(args.console, context).await?;
    let options = FolderOptions {
        bundle: bundle_options(args.bundle, context)?,
        words,
        ipxe: args.ipxe_dir,
    };
    let done = with_bars(out, |report| boot_folder(&target, &options, report))?;
    tell_bundle(out, &done.bundle);
    if out.json() {
        out.result_json(&FolderLine {
            r#type: "summary",
            folder: &done,
            words: options.words.line(),
        });
    } else {
        out.line(folder_text(&done, &options.words));
    }
    Ok(Exit::OK)
}

#[derive(Serialize)]
struct FolderLine<'a> {
    r#type: &'static str,
    #[serde(flatten)]
    folder: &'a BootFolder,
    words: String,
}

fn folder_text(done: &BootFolder, words: &Words) -> String {
    let width = done.files.iter().map(|file| file.name.len()).max();
    let width = width.unwrap_or(0);
    let mut text = format!("boot folder {}\n", done.folder.display());
    for file in &done.files {
        text.push_str(&format!(
            "  {:width$}  {:>9}\n",
            file.name,
            units::bytes(file.bytes)
        ));
    }
    text.push_str(&bundle_lines(&done.bundle));
    text.push_str(&console_lines(words));
    text
}

fn bundle_lines(bundle: &Bundle) -> String {
    let agent = if bundle.static_agent {
        "static"
    } else {
        "with its libraries"
    };
    format!(
        "kernel      {} with {} modules, {} firmware files\nagent       {agent}\n",
        bundle.kernel_version, bundle.modules, bundle.firmware
    )
}

fn console_lines(words: &Words) -> String {
    let console = words
        .console
        .map_or_else(|| "found by its beacon".to_owned(), |c| c.to_string());
    format!("console     {console}\npin         {}", words.pin)
}

/// Notes on parts missing in the pre-OS.
fn tell_bundle(out: &Output, bundle: &Bundle) {
    for note in bundle.notes() {
        out.note(note);
    }
}

/// Shows each stage of the work as a bar of its own.
fn with_bars<T>(
    out: &Output,
    work: impl FnOnce(&mut dyn FnMut(Progress<'_>)) -> Result<T, BundleError>,
) -> Result<T, ApiError> {
    let mut now: Option<(String, Bar)> = None;
    let done = work(&mut |progress| {
        let label = match progress.step {
            // The last step writes many small files, so it has one bar.
            pxe::bundle::Step::Writing => progress.step.word().to_owned(),
            step => format!("{} {}", step.word(), progress.what),
        };
        if now.as_ref().is_none_or(|(of, _)| *of != label) {
            if let Some((_, bar)) = now.take() {
                bar.finish("");
            }
            out.detail(&label);
            now = Some((label.clone(), out.progress(&label, progress.total)));
        }
        if let Some((_, bar)) = &now {
            progress.total.inspect(|total| bar.set_total(*total));
            bar.set(progress.done);
        }
    });
    if let Some((_, bar)) = now.take().filter(|_| done.is_ok()) {
        bar.finish("");
    }
    done.map_err(ApiError::from)
}

fn bundle_options(args: BundleArgs, context: &Context) -> Result<BundleOptions, ApiError> {
    let source = match args.from_debs {
        Some(folder) => PackageSource::Folder(folder),
        None => PackageSource::Apt,
    };
    Ok(BundleOptions {
        profile: args.profile.into(),
        agent: agent(args.agent)?,
        shell: args.shell,
        source,
        cache: match args.cache {
            Some(folder) => absolute(&folder)?,
            None => context.data_dir.join("preos"),
        },
    })
}

/// The agent to boot into: the named one, else a static one beside this program, else any agent
/// beside it.
fn agent(named: Option<PathBuf>) -> Result<PathBuf, ApiError> {
    if let Some(path) = named {
        // Looked at before packages are fetched, which takes minutes.
        std::fs::metadata(&path).map_err(PathError::of("reading", &path))?;
        return Ok(path);
    }
    let here = std::env::current_exe().ok();
    let folder = here.as_deref().and_then(Path::parent);
    folder
        .into_iter()
        .flat_map(|folder| [folder.join(STATIC_AGENT), folder.join(AGENT)])
        .find(|path| path.is_file())
        .ok_or_else(|| {
            usage("no agent to boot into: none is beside this program")
                .hint("name one with --agent; `cargo xtask agent` builds it")
        })
}

/// The console that the agent follows: the one in the options, else the running one, else the one
/// of the data directory.
async fn words(args: ConsoleArgs, context: &Context) -> Result<Words, ApiError> {
    let mut words = Words {
        more: args.word,
        ..Words::default()
    };
    let mut pin = args.pin;
    words.console = args.console;
    // A given pin may belong to another console than the one that runs here.
    if pin.is_none() {
        match context.client().get::<ConsoleInfo>("/v1/console").await {
            Ok(info) => {
                pin = info.pin.parse().ok();
                let control = info.control.parse::<SocketAddr>().ok();
                words.console = words
                    .console
                    .or(control.filter(|a| !a.ip().is_unspecified()));
                if info.second != SECOND_LANE {
                    words.second = info.second.parse().ok();
                }
            }
            Err(_) => pin = stored_pin(&context.data_dir),
        }
    }
    let Some(pin) = pin else {
        return Err(usage(format!(
            "no console to bake in: none runs with {}, and none ever did",
            context.data_dir.display()
        ))
        .hint("start it once with `diskcast console run`, or give --pin (and --console)"));
    };
    words.pin = pin.to_string();
    if words.console.is_none() {
        context
            .out
            .note("no console address is baked in: agents will listen for its beacon");
    }
    Ok(words)
}

/// The pin of the console with this data directory; never makes an identity.
fn stored_pin(data_dir: &Path) -> Option<Pin> {
    let folder = data_dir.join("identity");
    let there = std::fs::read_dir(&folder).ok()?.next().is_some();
    let identity = there.then(|| Identity::load_or_create(&folder).ok())??;
    Some(identity.pin())
}
