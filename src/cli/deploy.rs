//! `diskcast deploy`: ask for the plan, show it, confirm it, watch it.
//!
//! Decides nothing about targets or disks: the console plans, and refuses to start when the room changed between the
//! plan and the confirmation.

use super::exit::{Ended, Exit, usage};
use super::follow::{Show, follow, show_end};
use super::output::Output;
use super::simulate::{Deployment as Rehearsed, SimulateArgs};
use super::template::key_value;
use super::template_file::{self, Found};
use super::{Context, paths, plan_text, secret, table};
use crate::console::api::{
    ApiError, CreateJob, DeployRequest, ErrorCode, JobView, Plan, SCHEMA_VERSION, StartRule,
};
use crate::net::control::{EndAction, Reuse};
use crate::units;
use clap::{Args, ValueEnum};
use multicast::Pace;
use serde::Serialize;
use std::path::{Path, PathBuf};
use template::schema;

/// Options of `deploy`.
#[derive(Debug, Args)]
#[command(after_help = "\
Targets: all, a name with * and ?, name:, id:, mac:, ip:CIDR, state:; a comma
adds, ! takes away: 'lab-*,!lab-07'. An empty selection is an error, never all.

Examples:
  diskcast deploy --image lab.dcimg --targets all --dry-run
  diskcast deploy --image lab.dcimg --targets 'lab-*' --grow last --end restart
  diskcast deploy --image lab.dcimg --targets all --start 20 --rate 400mbit
  diskcast deploy --image lab.dcimg --targets all --yes --json >events.ndjson
  diskcast deploy --template lab
  diskcast deploy --template lab --targets 'lab-0*' --set network.mode=dhcp
  diskcast deploy --image lab.dcimg --simulate 300 --loss 1% --slow 10")]
pub(super) struct DeployArgs {
    /// Master image to deploy
    #[arg(long, value_name = "FILE", required_unless_present = "template")]
    image: Option<PathBuf>,
    /// Saved template to deploy: its name, or the path of its file
    #[arg(long, value_name = "NAME")]
    template: Option<String>,
    /// Set a key of the template for this deployment, for example
    /// identity.hostname=LAB-{nn}; more than once for more
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
    /// Keep all of this as a template under this name
    #[arg(long, value_name = "NAME")]
    save_template: Option<String>,
    /// Which targets [default with a template: those that are ready now]
    #[arg(long, value_name = "SELECTOR", required_unless_present_any = ["simulate", "template"])]
    targets: Option<String>,
    /// Disk of each target: first, largest, smallest, path:P or serial:S
    #[arg(long, value_name = "RULE")]
    disk: Option<String>,
    /// Grow this partition into the free space: last or its number
    #[arg(long, value_name = "last|N", value_parser = grow)]
    grow: Option<String>,
    /// When to start: all (all are ready), now, N (N are ready), at=TIME,
    /// manual [default: all]
    #[arg(long, value_name = "WHEN", value_parser = start_text)]
    start: Option<String>,
    /// Most the multicast may take of the network, for example 400mbit
    #[arg(long, value_name = "RATE", env = "DISKCAST_RATE", hide_env_values = true, value_parser = units::parse_rate)]
    rate: Option<u64>,
    /// Look for the image on each target's disk, and send only what differs
    /// [default: auto]
    #[arg(long, value_name = "WHEN")]
    reuse: Option<ReuseWhen>,
    /// Whom the session waits for when disks differ [default: balanced]
    #[arg(long, value_name = "POLICY")]
    pace: Option<PacePolicy>,
    /// What each machine does once it is done [default: none; a template's own
    /// default is shutdown]
    #[arg(long, value_name = "ACTION")]
    end: Option<End>,
    /// File with the password of an encrypted image; - is stdin
    #[arg(
        long,
        value_name = "FILE",
        env = "DISKCAST_PASSWORD_FILE",
        hide_env_values = true
    )]
    password_file: Option<PathBuf>,
    /// Leave out targets that cannot take the image, instead of refusing
    #[arg(long)]
    skip_refused: bool,
    /// Show the plan and touch nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask for confirmation
    #[arg(short, long)]
    yes: bool,
    /// Start the job and return at once
    #[arg(long, conflicts_with = "dry_run")]
    detach: bool,
    #[command(flatten)]
    rehearsal: SimulateArgs,
}

/// `--reuse`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ReuseWhen {
    /// Where a sample of it is there
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

/// What `--detach --json` ends with.
#[derive(Serialize)]
struct Started<'a> {
    r#type: &'static str,
    schema_version: u32,
    job: &'a str,
    view: &'a JobView,
}

/// Runs the command.
///
/// # Errors
/// As the exit codes say.
pub(super) async fn run(args: DeployArgs, context: &Context) -> Ended {
    let found = template(&args, context)?;
    let request = request(&args, found.as_ref(), context)?;
    if args.rehearsal.targets().is_some() {
        let deployment = Rehearsed {
            image: Path::new(&request.image),
            password_file: args.password_file.as_deref(),
            rate: request.rate_bits_per_s,
            pace: request.pace,
        };
        return super::simulate::run(&args.rehearsal, &deployment, context);
    }
    let out = &context.out;
    let client = context.client();
    let starts_by_hand = request.start == StartRule::Manual;
    let plan: Plan = client.post("/v1/plan", &request).await?;
    if out.json() {
        out.result_json(&plan);
    } else {
        out.line(plan_text::plan_text(&plan));
    }
    if let (Some(name), Some(found)) = (&args.save_template, &found) {
        let path = template_file::save(context, name, &found.template, false)?;
        out.note(format!("saved as {}", path.display()));
    }
    let (taken, refused) = plan_text::split(&plan);
    if args.dry_run {
        return Ok(if refused.is_empty() {
            Exit::OK
        } else {
            ErrorCode::Refused.into()
        });
    }
    if taken.is_empty() || (!refused.is_empty() && !args.skip_refused) {
        return Err(refusal(&plan));
    }
    let expect_targets: Vec<String> = taken.iter().map(|target| target.id.clone()).collect();
    let number = expect_targets.len().to_string();
    out.confirm(
        &format!(
            "Erase and write {}?",
            table::count(expect_targets.len(), "disk")
        ),
        &number,
        args.yes,
    )?;
    let job: JobView = client
        .post(
            "/v1/jobs",
            &CreateJob {
                request,
                expect_targets,
            },
        )
        .await?;
    watch_new(&job, args.detach, starts_by_hand, context).await
}

/// Follows a job that was just made, or says how to.
pub(super) async fn watch_new(
    job: &JobView,
    detach: bool,
    waits_for_start: bool,
    context: &Context,
) -> Ended {
    let out = &context.out;
    if detach {
        started(job, out);
        return Ok(Exit::OK);
    }
    out.note(format!(
        "job {}: `diskcast job watch {}` shows it from elsewhere",
        table::clean(&job.id),
        table::clean(&job.id)
    ));
    if waits_for_start {
        out.note(format!(
            "it waits for `diskcast job start {}`",
            table::clean(&job.id)
        ));
    }
    let summary = follow(&context.client(), &job.id, out, Show::Everything, None).await?;
    show_end(&summary, out)
}

pub(super) fn started(job: &JobView, out: &Output) {
    if out.json() {
        out.result_json(&Started {
            r#type: "job",
            schema_version: SCHEMA_VERSION,
            job: &job.id,
            view: job,
        });
    } else {
        out.line(format!("job {}", table::clean(&job.id)));
        out.note(format!(
            "`diskcast job watch {}` shows it",
            table::clean(&job.id)
        ));
    }
}

/// The template that is deployed: a saved one, or what the options come to when they are to be saved or set keys.
fn template(args: &DeployArgs, context: &Context) -> Result<Option<Found>, ApiError> {
    let mut set = args.set.clone();
    if let Some(image) = &args.image {
        set.push(("image".to_owned(), text_of(&paths::absolute(image)?)?));
    }
    let options = [
        ("disk", args.disk.clone()),
        ("grow", args.grow.clone()),
        ("start", args.start.clone()),
        ("rate", args.rate.map(|rate| format!("{rate}bit"))),
        ("reuse", args.reuse.map(word)),
        ("pace", args.pace.map(word)),
        ("end", args.end.map(word)),
    ];
    // Text stays text, also where it looks like a number.
    let quoted = |value: String| toml::Value::String(value).to_string();
    set.extend(
        options
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), quoted(value?)))),
    );
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

fn request(
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
        // The file was checked when it was read.
        Some(text) => units::parse_rate(text).map(Some).map_err(usage),
        None => Ok(None),
    };
    let targets = |usual: &str| args.targets.clone().unwrap_or_else(|| usual.to_owned());
    let password = password.map(|password| password.to_string());
    let Some(found) = found else {
        let image = args.image.as_deref().unwrap_or(Path::new(""));
        return Ok(DeployRequest {
            image: text_of(&paths::absolute(image)?)?,
            password,
            targets: targets(""),
            disk: args.disk.clone(),
            grow: args.grow.clone(),
            reuse: args.reuse.map(Into::into).unwrap_or_default(),
            pace: args.pace.unwrap_or(PacePolicy::Balanced).into(),
            start: start_of(args.start.as_deref())?,
            rate_bits_per_s: args.rate.map_or_else(usual_rate, |rate| Ok(Some(rate)))?,
            end: args.end.unwrap_or(End::None).into(),
            ..DeployRequest::default()
        });
    };
    let mut request = template_request(found, usual_rate()?)?;
    // The machines connected now, not those of the last run.
    request.targets = targets("state:ready");
    request.password = password;
    if !args.dry_run {
        request.secrets = found.secrets(context)?;
    }
    Ok(request)
}

/// What a template alone asks for; whom it is for is the caller's to say.
///
/// # Errors
/// `Usage` when it names no image.
pub(super) fn template_request(
    found: &Found,
    usual_rate: Option<u64>,
) -> Result<DeployRequest, ApiError> {
    let template = &found.template;
    let image = template.image.as_deref().ok_or_else(|| {
        usage(format!("template {} names no image", found.name)).hint("say which with --image FILE")
    })?;
    let rate = template.rate.as_deref().map(units::parse_rate);
    Ok(DeployRequest {
        image: text_of(&found.folder.join(image))?,
        disk: template.disk.clone(),
        grow: template.grow.clone(),
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
        rate_bits_per_s: match rate {
            Some(rate) => Some(rate.map_err(usage)?),
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

fn start_of(text: Option<&str>) -> Result<StartRule, ApiError> {
    text.map_or(Ok(StartRule::All), |text| start_rule(text).map_err(usage))
}

/// The text of a start rule that can be read.
fn start_text(text: &str) -> Result<String, String> {
    start_rule(text).map(|_| text.to_owned())
}

/// Every refusal by name; nothing was touched.
fn refusal(plan: &Plan) -> ApiError {
    let (taken, refused) = plan_text::split(plan);
    let list: Vec<String> = refused
        .iter()
        .map(|target| plan_text::refusal(target))
        .collect();
    let message = format!(
        "{} of {} cannot take the image: {}",
        refused.len(),
        table::count(plan.targets.len(), "target"),
        list.join("; ")
    );
    let error = ApiError::new(ErrorCode::Refused, message);
    if taken.is_empty() {
        error
    } else {
        error.hint("nothing was touched; --skip-refused deploys to the others")
    }
}

pub(super) fn grow(text: &str) -> Result<String, String> {
    if text == "last" || text.parse::<u32>().is_ok_and(|number| number > 0) {
        Ok(text.to_owned())
    } else {
        Err("write `last` or a partition number".to_owned())
    }
}

pub(super) fn start_rule(text: &str) -> Result<StartRule, String> {
    if let Some(time) = text.strip_prefix("at=") {
        return start_time(time).map(StartRule::At);
    }
    match text {
        "all" => Ok(StartRule::All),
        "now" => Ok(StartRule::Now),
        "manual" => Ok(StartRule::Manual),
        _ => match text.parse() {
            Ok(number) if number > 0 => Ok(StartRule::Count(number)),
            _ => Err("write all, now, manual, a number of targets, or at=TIME".to_owned()),
        },
    }
}

/// RFC 3339 from RFC 3339, or from a local time without an offset.
pub(super) fn start_time(text: &str) -> Result<String, String> {
    let bad =
        |_| format!("`{text}` is not a time; write it as 2026-01-31T18:30 or 2026-01-31T18:30:00Z");
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(time.to_string());
    }
    let local: jiff::civil::DateTime = text.parse().map_err(bad)?;
    let zoned = local.to_zoned(jiff::tz::TimeZone::system()).map_err(bad)?;
    Ok(zoned.timestamp().to_string())
}

#[cfg(test)]
mod tests {
    use super::super::plan_text::tests::sample_plan;
    use super::*;

    #[test]
    fn start_rules() {
        assert_eq!(start_rule("all"), Ok(StartRule::All));
        assert_eq!(start_rule("now"), Ok(StartRule::Now));
        assert_eq!(start_rule("manual"), Ok(StartRule::Manual));
        assert_eq!(start_rule("20"), Ok(StartRule::Count(20)));
        assert_eq!(
            start_rule("at=2026-01-31T18:30:00+01:00"),
            Ok(StartRule::At("2026-01-31T17:30:00Z".into()))
        );
        let Ok(StartRule::At(local)) = start_rule("at=2026-01-31T18:30") else {
            panic!("a local time is a time")
        };
        assert!(local.parse::<jiff::Timestamp>().is_ok());
        for text in [
            "",
            "0",
            "-1",
            "soon",
            "at=",
            "at=tomorrow",
            "at=2026-13-01T00:00",
        ] {
            assert!(start_rule(text).is_err(), "{text}");
        }
    }

    #[test]
    fn grow_rules() {
        assert!(grow("last").is_ok() && grow("3").is_ok());
        assert!(grow("0").is_err() && grow("first").is_err() && grow("-1").is_err());
    }

    #[test]
    fn a_refusal_names_each_target_and_its_disk() {
        let mut plan = sample_plan();
        let error = refusal(&plan);
        assert_eq!(
            error.message,
            "1 of 3 targets cannot take the image: pc-03 (/dev/sda, X9, 10.0 GB): disk is too small"
        );
        assert!(error.hint.unwrap().contains("--skip-refused"));
        plan.targets.retain(|target| target.refused.is_some());
        assert_eq!(refusal(&plan).hint, None, "nobody is left to deploy to");
    }

    use super::super::job_text::tests::sample_summary;
    use super::super::output::{OutputOptions, tests::captured};
    use crate::console::api::Event;
    use crate::console::client::tests::{answer, console};
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: DeployArgs,
    }

    /// Runs `deploy` against a console with these answers: how it ended, stdout, stderr, and the requests made.
    async fn deploy(
        options: OutputOptions,
        line: &str,
        answers: Vec<String>,
    ) -> (Ended, String, String, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let served = console(
            folder.path(),
            answers.iter().map(|body| answer("200 OK", body)).collect(),
        );
        let (out, results, notes) = captured(options);
        let context = Context {
            out,
            data_dir: folder.path().to_path_buf(),
            config: paths::Config::default(),
        };
        let args = Line::try_parse_from(line.split(' ')).unwrap().args;
        let ended = run(args, &context).await;
        let requests = if served.is_finished() {
            served.await.unwrap()
        } else {
            Vec::new()
        };
        (ended, results.text(), notes.text(), requests)
    }

    fn json(value: &impl Serialize) -> String {
        serde_json::to_string(value).unwrap()
    }

    fn job_view() -> String {
        json(&super::super::job_text::tests::sample_view())
    }

    #[tokio::test]
    async fn json_is_the_plan_then_events_then_the_summary() {
        let log = Event::Log {
            job: "7".into(),
            time: "t".into(),
            text: "hello".into(),
        };
        let events = format!(
            "{}\n{}\n",
            json(&log),
            json(&Event::Summary(Box::new(sample_summary())))
        );
        let options = OutputOptions {
            json: true,
            ..Default::default()
        };
        let line =
            "deploy --image lab.dcimg --targets all --yes --skip-refused --rate 25MB --end restart";
        let (ended, results, notes, requests) = deploy(
            options,
            line,
            vec![json(&sample_plan()), job_view(), events],
        )
        .await;
        assert_eq!(ended.unwrap(), Exit(3));
        let types: Vec<String> = results
            .lines()
            .map(|line| {
                serde_json::from_str::<serde_json::Value>(line).unwrap()["type"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            })
            .collect();
        assert_eq!(types, ["plan", "log", "summary"]);
        assert!(
            requests[0].contains("\"rate_bits_per_s\":200000000")
                && requests[0].contains("\"end\":\"restart\""),
            "{}",
            requests[0]
        );
        assert!(
            requests[1].ends_with("\"expect_targets\":[\"1\",\"2\"]}"),
            "{}",
            requests[1]
        );
        assert!(requests[2].starts_with("GET /v1/jobs/7/events "));
        assert!(notes.contains("job watch 7"));
    }

    #[tokio::test]
    async fn one_refused_target_stops_all_before_anything_is_touched() {
        let (ended, results, _, requests) = deploy(
            OutputOptions::default(),
            "deploy --image lab.dcimg --targets all --yes",
            vec![json(&sample_plan())],
        )
        .await;
        assert_eq!(ended.unwrap_err().code, ErrorCode::Refused);
        assert!(results.contains("1 target cannot take the image:"));
        assert_eq!(requests.len(), 1, "no job was made");
    }

    #[tokio::test]
    async fn a_dry_run_ends_with_0_or_5_and_makes_no_job() {
        let line = "deploy --image lab.dcimg --targets all --dry-run";
        let mut plan = sample_plan();
        let (ended, ..) = deploy(OutputOptions::default(), line, vec![json(&plan)]).await;
        assert_eq!(ended.unwrap(), Exit(5));
        plan.targets.retain(|target| target.refused.is_none());
        let (ended, _, _, requests) =
            deploy(OutputOptions::default(), line, vec![json(&plan)]).await;
        assert_eq!((ended.unwrap(), requests.len()), (Exit::OK, 1));
    }

    #[tokio::test]
    async fn without_yes_and_without_a_terminal_nothing_starts() {
        let line = "deploy --image lab.dcimg --targets all --skip-refused";
        let (ended, ..) = deploy(OutputOptions::default(), line, vec![json(&sample_plan())]).await;
        assert_eq!(ended.unwrap_err().code, ErrorCode::Usage);
    }

    #[tokio::test]
    async fn detached_it_says_which_job() {
        let line = "deploy --image lab.dcimg --targets all --skip-refused --yes --detach";
        let options = OutputOptions {
            quiet: true,
            ..Default::default()
        };
        let (ended, results, notes, _) =
            deploy(options, line, vec![json(&sample_plan()), job_view()]).await;
        assert_eq!(ended.unwrap(), Exit::OK);
        assert!(results.ends_with("\njob 7\n"), "{results}");
        assert_eq!(notes, "");
    }
}
