//! Options of `deploy`, and the request that they and a template make.

use super::share::{self, ShareArgs, image_path};
use super::simulate::SimulateArgs;
use super::template_file::{self, Found};
use super::words::{BadValue, key_value, limit, start_rule};
use super::{Context, secret};
use api::{ApiError, DeployRequest, StartRule};
use clap::{Args, ValueEnum};
use facts::disk_rule::DiskRule;
use facts::order::{EndAction, Grow, Reuse};
use facts::target::Choice;
use facts::units;
use multicast::Pace;
use std::path::{Path, PathBuf};
use template::schema;
use terminal::exit::usage;

/// Options of `deploy`.
#[derive(Debug, Args)]
#[command(after_help = "\
Targets: all, a name with * and ?, name:, id:, mac:, ip:CIDR, state:; a comma
adds, ! takes away: 'lab-*,!lab-07'. An empty selection is an error, never all.

Examples:
  diskcast deploy --image lab.dcimg --targets all --dry-run
  diskcast deploy --image lab.dcimg --targets 'lab-*' --grow last --end restart
  diskcast deploy --image lab.dcimg --targets all --partitions 3 --onto 3
  diskcast deploy --image lab.dcimg --targets all --start 20 --rate 400mbit
  diskcast deploy --image lab.dcimg --targets all --yes --json >events.ndjson
  diskcast deploy --image //fs1/images/lab.dcimg --targets all \\
      --share-user 'LAB\tech' --share-password ref:images
  diskcast deploy --template lab
  diskcast deploy --template lab --targets 'lab-0*' --set network.mode=dhcp
  diskcast deploy --image lab.dcimg --simulate 300 --loss 1% --slow 10")]
pub(super) struct DeployArgs {
    /// Master image to deploy; //server/share/folder/name.dcimg lies on a share
    #[arg(long, value_name = "FILE", required_unless_present = "template")]
    pub(super) image: Option<PathBuf>,
    #[command(flatten)]
    pub(super) share: ShareArgs,
    /// Saved template to deploy: its name, or the path of its file
    #[arg(long, value_name = "NAME")]
    pub(super) template: Option<String>,
    /// Set a key of the template for this deployment, for example
    /// identity.hostname=LAB-{nn}; more than once for more
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub(super) set: Vec<(String, String)>,
    /// Keep all of this as a template under this name
    #[arg(long, value_name = "NAME")]
    pub(super) save_template: Option<String>,
    /// Targets [default with a template: those that are ready now]
    #[arg(long, value_name = "SELECTOR", required_unless_present_any = ["simulate", "template"])]
    pub(super) targets: Option<String>,
    /// Disk of each target: first, largest, smallest, path:P or serial:S
    #[arg(long, value_name = "RULE")]
    pub(super) disk: Option<DiskRule>,
    /// Grow this partition into the free space: last or its number
    #[arg(long, value_name = "last|N")]
    pub(super) grow: Option<Grow>,
    /// Only these partitions of the image, for example 1,3; the others are left
    /// out of the table [default: all]
    #[arg(long, value_name = "N,...", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=i64::from(diskmap::PARTITIONS_MAX)))]
    pub(super) partitions: Vec<u32>,
    /// Overwrite this partition of each disk with the one of --partitions, and
    /// leave everything else on the disk as it is
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(diskmap::PARTITIONS_MAX)))]
    pub(super) onto: Option<u32>,
    /// When to start: all (all are ready), now, N (N are ready), at=TIME,
    /// manual [default: all]
    #[arg(long, value_name = "WHEN", value_parser = start_text)]
    pub(super) start: Option<String>,
    /// Time after TIME in which the job may begin by itself; later it is
    /// `missed` and asks [default: 15m]
    #[arg(long, value_name = "DURATION", value_parser = limit, requires = "start")]
    pub(super) start_window: Option<u32>,
    /// Erase blank disks of machines that match and come before the start too,
    /// without asking again
    #[arg(long, requires = "start")]
    pub(super) also_new: bool,
    /// Call a target failed that makes no progress for this long [default: 10m]
    #[arg(long, value_name = "DURATION", value_parser = limit)]
    pub(super) stall_limit: Option<u32>,
    /// End the job this long after its session began [default: no limit]
    #[arg(long, value_name = "DURATION", value_parser = limit)]
    pub(super) time_limit: Option<u32>,
    /// Most the multicast may take of the network, for example 400mbit
    #[arg(long, value_name = "RATE", env = "DISKCAST_RATE", hide_env_values = true, value_parser = units::parse_rate)]
    pub(super) rate: Option<u64>,
    /// Look for the image on each target's disk, and send only what differs
    /// [default: auto]
    #[arg(long, value_name = "WHEN")]
    pub(super) reuse: Option<ReuseWhen>,
    /// Whom the session waits for when disks differ [default: balanced]
    #[arg(long, value_name = "POLICY")]
    pub(super) pace: Option<PacePolicy>,
    /// Action of each machine after its deployment [default: none; a template's own
    /// default is shutdown]
    #[arg(long, value_name = "ACTION")]
    pub(super) end: Option<End>,
    /// File with the password of an encrypted image; - is stdin
    #[arg(
        long,
        value_name = "FILE",
        env = "DISKCAST_PASSWORD_FILE",
        hide_env_values = true
    )]
    pub(super) password_file: Option<PathBuf>,
    /// Send the image without checking it before any disk is touched
    #[arg(long)]
    pub(super) no_check: bool,
    /// Take an image with holes: its master could not be read everywhere
    #[arg(long)]
    pub(super) accept_holes: bool,
    /// Leave out targets that cannot take the image, instead of refusing
    #[arg(long)]
    pub(super) skip_refused: bool,
    /// Show the plan and touch nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Do not ask for confirmation
    #[arg(short, long)]
    pub(super) yes: bool,
    /// Start the job and return at once
    #[arg(long, conflicts_with = "dry_run")]
    pub(super) detach: bool,
    #[command(flatten)]
    pub(super) rehearsal: SimulateArgs,
}

/// `--reuse`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum ReuseWhen {
    /// If a sample of it is there
    Auto,
    /// In any case
    Always,
    /// Send and write everything
    Never,
}

impl From<ReuseWhen> for Reuse {
    fn from(when: ReuseWhen) -> Self {
        match when {
            ReuseWhen::Auto => Self::Auto,
            ReuseWhen::Always => Self::Always,
            ReuseWhen::Never => Self::Never,
        }
    }
}

/// `--pace`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum PacePolicy {
    /// For nobody, while anybody has room
    Fastest,
    /// For the slower half; a slow few get the rest afterwards
    Balanced,
    /// For the slowest
    Everyone,
}

impl From<PacePolicy> for Pace {
    fn from(policy: PacePolicy) -> Self {
        match policy {
            PacePolicy::Fastest => Self::Fastest,
            PacePolicy::Balanced => Self::Balanced,
            PacePolicy::Everyone => Self::Everyone,
        }
    }
}

/// `--end`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum End {
    /// Stay in the pre-OS
    None,
    /// Restart from the disk
    Restart,
    /// Power off
    Shutdown,
}

impl From<End> for EndAction {
    fn from(end: End) -> Self {
        match end {
            End::None => Self::None,
            End::Restart => Self::Restart,
            End::Shutdown => Self::Shutdown,
        }
    }
}

/// The template to deploy: a saved one, or one made of the options when they are to be saved or
/// keys are set.
pub(super) fn template(args: &DeployArgs, context: &Context) -> Result<Option<Found>, ApiError> {
    let mut set = args.set.clone();
    if let Some(image) = &args.image {
        set.push(("image".to_owned(), text_of(&image_path(image)?)?));
    }
    let options = [
        ("disk", args.disk.as_ref().map(DiskRule::to_string)),
        ("grow", args.grow.map(|grow| grow.to_string())),
        ("start", args.start.clone()),
        ("rate", args.rate.map(|rate| format!("{rate}bit"))),
        ("reuse", args.reuse.map(word)),
        ("pace", args.pace.map(word)),
        ("end", args.end.map(word)),
        (
            "stall_limit",
            args.stall_limit.map(|limit| format!("{limit}s")),
        ),
        (
            "time_limit",
            args.time_limit.map(|limit| format!("{limit}s")),
        ),
    ];
    // Quoted, so that text that looks like a number stays text.
    let quoted = |value: String| toml::Value::String(value).to_string();
    set.extend(
        options
            .into_iter()
            .chain(args.share.keys()?)
            .filter_map(|(key, value)| Some((key.to_owned(), quoted(value?)))),
    );
    if !args.partitions.is_empty() {
        set.push(("partitions".to_owned(), format!("{:?}", args.partitions)));
    }
    set.extend(args.onto.map(|onto| ("onto".to_owned(), onto.to_string())));
    if args.accept_holes {
        set.push(("accept_holes".to_owned(), "true".to_owned()));
    }
    if let Some(name) = &args.template {
        return template_file::load(context, name, &set).map(Some);
    }
    if args.set.is_empty() && args.save_template.is_none() {
        return Ok(None);
    }
    if args.end.is_none() {
        set.push(("end".to_owned(), word(End::None)));
    }
    template_file::of_options(args.save_template.as_deref(), &set).map(Some)
}

fn word(choice: impl ValueEnum) -> String {
    choice
        .to_possible_value()
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default()
}

fn text_of(path: &Path) -> Result<String, ApiError> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| usage(format!("path {} is not UTF-8", path.display())))
}

/// Builds the request for the console.
///
/// # Errors
/// `Usage` for options that cannot be parsed, and for values that a template lacks.
pub(super) fn request(
    args: &DeployArgs,
    found: Option<&Found>,
    context: &Context,
) -> Result<DeployRequest, ApiError> {
    let password = args
        .password_file
        .as_deref()
        .map(secret::read_password)
        .transpose()?;
    let usual_rate = || match &context.config.rate {
        // The text from the file was checked when the file was read.
        Some(text) => units::parse_rate(text).map(Some),
        None => Ok(None),
    };
    let targets = |usual: &str| args.targets.clone().unwrap_or_else(|| usual.to_owned());
    let password = password.map(|password| password.to_string());
    let Some(found) = found else {
        let image = args.image.as_deref().unwrap_or(Path::new(""));
        let share = args.share.account()?;
        let image = text_of(&image_path(image)?)?;
        args.share.check(&image)?;
        return Ok(DeployRequest {
            image,
            secrets: share::given(share.as_ref(), context)?,
            share,
            password,
            targets: targets(""),
            disk: args.disk.clone(),
            grow: args.grow,
            choice: Choice {
                partitions: args.partitions.iter().copied().collect(),
                onto: args.onto,
            },
            reuse: args.reuse.map(Into::into).unwrap_or_default(),
            pace: args.pace.unwrap_or(PacePolicy::Balanced).into(),
            start: start_of(args.start.as_deref())?,
            also_new: args.also_new,
            start_window_seconds: args.start_window,
            stall_limit_seconds: args.stall_limit,
            time_limit_seconds: args.time_limit,
            rate_bits_per_s: args.rate.map_or_else(usual_rate, |rate| Ok(Some(rate)))?,
            end: args.end.unwrap_or(End::None).into(),
            no_check: args.no_check,
            accept_holes: args.accept_holes,
            ..DeployRequest::default()
        });
    };
    let mut request = template_request(found, usual_rate()?)?;
    args.share.check(&request.image)?;
    if args.image.is_some() && !share::lies_on_share(&request.image) {
        // The account belongs to the image in the template, not to this one.
        request.share = None;
    }
    // The machines connected now, not those of the template's last run.
    request.targets = targets("state:ready");
    request.also_new = args.also_new;
    request.start_window_seconds = args.start_window;
    request.password = password;
    request.no_check = args.no_check;
    if !args.dry_run {
        request.secrets = found.secrets(context)?;
    }
    // The console opens the image for a plan too.
    let of_share = share::given(request.share.as_ref(), context)?;
    request.secrets.0.extend(of_share.0);
    Ok(request)
}

/// Builds the request of a template alone; the caller sets the targets.
///
/// # Errors
/// `Usage` when the template names no image.
pub(super) fn template_request(
    found: &Found,
    usual_rate: Option<u64>,
) -> Result<DeployRequest, ApiError> {
    let template = &found.template;
    let image = template.image.as_deref().ok_or_else(|| {
        usage(format!("template {} names no image", found.name)).hint("say which with --image FILE")
    })?;
    let rate = template.rate.as_deref().map(units::parse_rate);
    let seconds = |text: &Option<String>| text.as_deref().map(limit).transpose();
    Ok(DeployRequest {
        image: text_of(&image_path(&image_in(&found.folder, image))?)?,
        share: share::account(
            template.share_user.as_deref(),
            template.share_password.as_ref(),
            &found.folder,
        )?,
        disk: template.disk.clone(),
        grow: template.grow,
        choice: Choice {
            partitions: template.partitions.clone(),
            onto: template.onto,
        },
        reuse: match template.reuse {
            schema::Reuse::Auto => Reuse::Auto,
            schema::Reuse::Always => Reuse::Always,
            schema::Reuse::Never => Reuse::Never,
        },
        pace: match template.pace {
            schema::Pace::Fastest => Pace::Fastest,
            schema::Pace::Balanced => Pace::Balanced,
            schema::Pace::Everyone => Pace::Everyone,
        },
        start: start_of(template.start.as_deref())?,
        stall_limit_seconds: seconds(&template.stall_limit)?,
        time_limit_seconds: seconds(&template.time_limit)?,
        accept_holes: template.accept_holes,
        rate_bits_per_s: match rate {
            Some(rate) => Some(rate?),
            None => usual_rate,
        },
        end: match template.end {
            schema::End::Shutdown => EndAction::Shutdown,
            schema::End::Restart => EndAction::Restart,
            schema::End::None => EndAction::None,
        },
        template: Some(found.to_use()),
        ..DeployRequest::default()
    })
}

/// The path of an image in a template: relative to the template's folder, unless it lies on a
/// share.
fn image_in(folder: &Path, image: &str) -> PathBuf {
    disk::share::normal(Path::new(image)).unwrap_or_else(|| folder.join(image))
}

fn start_of(text: Option<&str>) -> Result<StartRule, ApiError> {
    Ok(text.map_or(Ok(StartRule::All), start_rule)?)
}

/// Checks the text of a start rule, which a template keeps.
fn start_text(text: &str) -> Result<String, BadValue> {
    start_rule(text).map(|_| text.to_owned())
}
