//! `diskcast job add`: shows machines that came after a job was confirmed, and has them confirmed
//! on their own.

use super::deploy::{question, refusal};
use super::{Context, job_text, plan_text, table};
use api::confirm;
use api::{AddPlan, AddRequest, JobView, Newcomer, Plan};
use clap::Args;
use client::segment;
use terminal::exit::{Ended, Exit};

/// Options of `job add`.
#[derive(Debug, Args)]
pub(super) struct AddArgs {
    /// Job number
    #[arg(value_name = "JOB")]
    id: String,
    /// Targets that are not in the job
    #[arg(long, value_name = "SELECTOR")]
    targets: String,
    /// Leave out targets that cannot take the image, instead of refusing
    #[arg(long)]
    skip_refused: bool,
    /// Do not ask for confirmation
    #[arg(short, long)]
    yes: bool,
}

/// Runs the command.
///
/// # Errors
/// The failure, with the exit code that belongs to it.
pub(super) async fn run(args: AddArgs, context: &Context) -> Ended {
    let out = &context.out;
    let client = context.client();
    let path = |rest: &str| format!("/v1/jobs/{}/{rest}", segment(&args.id));
    let asked = AddPlan {
        targets: args.targets.clone(),
    };
    let plan: Plan = client.post(&path("add-plan"), &asked).await?;
    if out.json() {
        out.result_json(&plan);
    } else {
        out.line(plan_text::plan_text(&plan));
    }
    let (taken, refused) = plan_text::split(&plan);
    if taken.is_empty() || (!refused.is_empty() && !args.skip_refused) {
        return Err(refusal(&plan));
    }
    out.confirm(&question(&plan), &taken.len().to_string(), args.yes)?;
    let request = confirmed(&plan, args.targets);
    let view: JobView = client.post(&path("add"), &request).await?;
    if out.json() {
        out.result_json(&view);
    } else {
        out.line(job_text::job_text(&view));
    }
    Ok(Exit::OK)
}

/// The request after the disks of a plan are confirmed; `targets` is the selector that was planned.
pub(super) fn confirmed(plan: &Plan, targets: String) -> AddRequest {
    let (taken, _) = plan_text::split(plan);
    AddRequest {
        targets,
        expect_targets: taken.iter().map(|target| target.id.clone()).collect(),
        expect_disks: confirm::disks(plan),
    }
}

/// One line for a machine that waits beside a job.
pub(super) fn newcomer_line(newcomer: &Newcomer) -> String {
    table::clean(&format!(
        "{}: {} ({}: {})",
        newcomer.name, newcomer.reason, newcomer.disk, newcomer.contents
    ))
}
