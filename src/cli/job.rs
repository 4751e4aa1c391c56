//! `diskcast job`: running and past jobs of the console.

use super::deploy::watch_new;
use super::follow::{Show, follow, show_end};
use super::job_add::AddArgs;
use super::{Context, image_check, job_text, secret, share, table};
use api::confirm;
use api::select::{Selector, SelectorError};
use api::{
    ApiError, CancelRequest, CheckRequest, ErrorCode, GivenSecrets, JobList, JobState, JobTarget,
    JobView, Report, RetryRequest, StartRequest, TargetList,
};
use clap::{Args, Subcommand};
use client::segment;
use facts::target::TargetState;
use facts::units;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;
use terminal::exit::{Ended, Exit, usage};

/// `diskcast job ...`
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List jobs, newest first
    List,
    /// Show where a job stands
    Show(JobArgs),
    /// Watch a job until it is over
    ///
    /// Ctrl-C ends the watching, not the job. Exits 0 when every target is
    /// done, 3 when one is not.
    Watch(JobArgs),
    /// Wait for the end of a job without showing its progress
    #[command(after_help = "Examples:\n  diskcast job wait 7 --timeout 30m && echo proven")]
    Wait(WaitArgs),
    /// Confirm targets that came after a job was made, and add them to it
    ///
    /// Shows each disk and what is on it, and asks before anything is erased.
    #[command(
        after_help = "Examples:\n  diskcast job add 7 --targets lab-03\n  diskcast job add 7 --targets 'lab-*' --yes"
    )]
    Add(AddArgs),
    /// Start a job that waits
    ///
    /// One whose time was missed is shown, and asks first.
    Start(StartArgs),
    /// End a job, or take targets out of it
    ///
    /// A target that is being written stays plainly blank; one that writes its
    /// last sectors ends that first. Each says what its disk is in the end.
    #[command(
        after_help = "Examples:\n  diskcast job cancel 7\n  diskcast job cancel 7 --targets lab-03 --reason 'power supply died'"
    )]
    Cancel(CancelArgs),
    /// Deploy again to the targets of a job that did not end done
    #[command(
        after_help = "Examples:\n  diskcast job retry 7\n  diskcast job retry 7 --targets 'lab-0*' --yes"
    )]
    Retry(RetryArgs),
    /// Print the log of a job
    Log(JobArgs),
    /// Print the report of a job
    Report(JobArgs),
}

/// The job a command is about.
#[derive(Debug, Args)]
pub(super) struct JobArgs {
    /// Job number
    #[arg(value_name = "JOB")]
    id: String,
}

/// Options of `job start`.
#[derive(Debug, Args)]
pub(super) struct StartArgs {
    /// Job number
    #[arg(value_name = "JOB")]
    id: String,
    /// Do not ask for confirmation
    #[arg(short, long)]
    yes: bool,
}

/// Options of `job wait`.
#[derive(Debug, Args)]
pub(super) struct WaitArgs {
    /// Job number
    #[arg(value_name = "JOB")]
    id: String,
    /// Stop waiting after this long, with exit code 124; the job goes on
    #[arg(long, value_name = "DURATION", value_parser = units::parse_duration)]
    timeout: Option<Duration>,
}

/// Options of `job cancel`.
#[derive(Debug, Args)]
pub(super) struct CancelArgs {
    /// Job number
    #[arg(value_name = "JOB")]
    id: String,
    /// Only these targets; the job goes on for the others
    #[arg(long, value_name = "SELECTOR")]
    targets: Option<String>,
    /// Reason, for the log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Do not ask for confirmation
    #[arg(short, long)]
    yes: bool,
}

/// Options of `job retry`.
#[derive(Debug, Args)]
pub(super) struct RetryArgs {
    /// Job number
    #[arg(value_name = "JOB")]
    id: String,
    /// Only these of the targets that did not end done
    #[arg(long, value_name = "SELECTOR")]
    targets: Option<String>,
    /// File with the password of an encrypted image; - is stdin
    #[arg(
        long,
        value_name = "FILE",
        env = "DISKCAST_PASSWORD_FILE",
        hide_env_values = true
    )]
    password_file: Option<PathBuf>,
    /// Do not ask for confirmation
    #[arg(short, long)]
    yes: bool,
    /// Start the job and return at once
    #[arg(long)]
    detach: bool,
}

/// Runs the command.
///
/// # Errors
/// The failure, with the exit code that belongs to it.
pub(super) async fn run(command: Command, context: &Context) -> Ended {
    let out = &context.out;
    let client = context.client();
    match command {
        Command::List => {
            let list: JobList = client.get("/v1/jobs").await?;
            match (out.json(), list.jobs.is_empty()) {
                (true, _) => out.result_json(&list),
                (false, true) => out.note("no jobs yet; `diskcast deploy` makes one"),
                (false, false) => out.line(job_text::job_table(&list.jobs)),
            }
            Ok(Exit::OK)
        }
        Command::Show(args) => show(&client.get(&path(&args.id, "")).await?, context),
        Command::Watch(args) => {
            let summary = follow(&client, &args.id, out, Show::Everything, None).await?;
            show_end(&summary, out)
        }
        Command::Wait(args) => {
            let summary = follow(&client, &args.id, out, Show::End, args.timeout).await?;
            show_end(&summary, out)
        }
        Command::Add(args) => super::job_add::run(args, context).await,
        Command::Start(args) => start(args, context).await,
        Command::Cancel(args) => cancel(args, context).await,
        Command::Retry(args) => retry(args, context).await,
        Command::Log(args) => {
            let text = client.text(&path(&args.id, "/log")).await?;
            if out.json() {
                out.result_json(&serde_json::json!({"type": "log", "job": args.id, "lines": text.lines().collect::<Vec<_>>()}));
            } else {
                text.lines().for_each(|line| out.line(table::clean(line)));
            }
            Ok(Exit::OK)
        }
        Command::Report(args) => {
            let report: Report = client.get(&path(&args.id, "/report")).await?;
            if out.json() {
                out.result_json(&report);
                return Ok(Exit::OK);
            }
            match &report.summary {
                Some(summary) if summary.capture.is_some() => return show_end(summary, out),
                Some(summary) => {
                    out.line(super::plan_text::plan_text(&report.plan));
                    out.line("");
                    show_end(summary, out)?;
                }
                None => out.line(job_text::job_text(&report.job)),
            }
            Ok(Exit::OK)
        }
    }
}

fn path(id: &str, rest: &str) -> String {
    format!("/v1/jobs/{}{rest}", segment(id))
}

fn show(view: &JobView, context: &Context) -> Ended {
    if context.out.json() {
        context.out.result_json(view);
    } else {
        context.out.line(job_text::job_text(view));
    }
    Ok(Exit::OK)
}

async fn start(args: StartArgs, context: &Context) -> Ended {
    let (out, client) = (&context.out, context.client());
    let view: JobView = client.get(&path(&args.id, "")).await?;
    let mut confirmed = StartRequest::default();
    if view.state == JobState::Missed {
        let report: Report = client.get(&path(&args.id, "/report")).await?;
        let open = view.targets.iter().filter(|one| !one.state.is_final());
        let open: BTreeSet<&str> = open.map(|target| target.id.as_str()).collect();
        let mut disks = confirm::disks(&report.plan);
        disks.retain(|id, _| open.contains(id.as_str()));
        if !out.json() {
            out.line(job_text::job_text(&view));
            for target in &report.plan.targets {
                if let Some(disk) = disks.get(&target.id) {
                    let name = table::clean(&target.name);
                    out.line(format!("erases   {name}  {}", table::clean(disk)));
                }
            }
        }
        let number = disks.len();
        confirmed = StartRequest {
            expect_targets: disks.keys().cloned().collect(),
            expect_disks: disks,
        };
        let question = format!(
            "The time of job {} was missed. Erase and write {} now?",
            table::clean(&view.id),
            table::count(number, "disk")
        );
        out.confirm(&question, &number.to_string(), args.yes)?;
    }
    let view: JobView = client.post(&path(&args.id, "/start"), &confirmed).await?;
    show(&view, context)
}

async fn cancel(args: CancelArgs, context: &Context) -> Ended {
    let client = context.client();
    let view: JobView = client.get(&path(&args.id, "")).await?;
    if view.state.is_final() {
        return Err(ApiError::new(
            ErrorCode::Refused,
            format!("job {} is already {}", view.id, view.state.as_str()),
        ));
    }
    let what = match &args.targets {
        Some(targets) => format!("take {targets} out of job {}", view.id),
        None => format!(
            "end job {} ({})",
            view.id,
            job_text::state_counts(&view.targets)
        ),
    };
    let what = table::clean(&what);
    let question = if view.capture.is_some() {
        format!("{what}: what was captured so far is removed.")
    } else {
        format!("{what}: targets being written stay blank.")
    };
    context.out.confirm(&question, &view.id, args.yes)?;
    let request = CancelRequest {
        targets: args.targets,
        reason: args.reason,
    };
    show(
        &client.post(&path(&args.id, "/cancel"), &request).await?,
        context,
    )
}

async fn retry(args: RetryArgs, context: &Context) -> Ended {
    let out = &context.out;
    let client = context.client();
    let view: JobView = client.get(&path(&args.id, "")).await?;
    let mut again: Vec<&JobTarget> = view
        .targets
        .iter()
        .filter(|target| target.state != TargetState::Done)
        .collect();
    if again.is_empty() {
        return Err(ApiError::new(
            ErrorCode::NothingMatched,
            format!("every target of job {} is done", view.id),
        ));
    }
    if let Some(selector) = &args.targets {
        // Only for showing and counting: the console selects, and plans again.
        let fits: Selector = selector
            .parse()
            .map_err(|error: SelectorError| usage(error.to_string()))?;
        let known: TargetList = client.get("/v1/targets").await?;
        again.retain(|target| {
            known
                .targets
                .iter()
                .any(|view| view.id == target.id && fits.matches(view))
        });
        if again.is_empty() {
            return Err(ApiError::new(
                ErrorCode::NothingMatched,
                format!(
                    "no target of job {} that is not done fits {selector}",
                    view.id
                ),
            ));
        }
    }
    if !out.json() {
        out.line(format!("image   {}", table::clean(&view.image)));
        out.line(format!("        root {}", table::clean(&view.root)));
        for target in &again {
            out.line(format!(
                "        {}  {}",
                table::clean(&target.name),
                table::clean(&target.disk)
            ));
        }
    }
    if view.capture.is_none() {
        let question = format!(
            "Erase and write {} again?",
            table::count(again.len(), "disk")
        );
        out.confirm(&question, &again.len().to_string(), args.yes)?;
    }
    let password = args
        .password_file
        .as_deref()
        .map(secret::read_password)
        .transpose()?;
    let mut secrets = GivenSecrets::default();
    if view.capture.is_none() {
        let report: Report = client.get(&path(&args.id, "/report")).await?;
        secrets = share::given(report.plan.request.share.as_ref(), context)?;
        let wanted = CheckRequest {
            password: password.as_ref().map(|password| password.to_string()),
            secrets: secrets.clone(),
            ..CheckRequest::of(&report.plan.request)
        };
        image_check::checked(&client, &wanted, out).await?;
    }
    let request = RetryRequest {
        password: password.map(|password| password.to_string()),
        targets: args.targets,
        secrets,
    };
    let job: JobView = client.post(&path(&args.id, "/retry"), &request).await?;
    watch_new(&job, args.detach, false, context).await
}
