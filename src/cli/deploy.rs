//! `diskcast deploy`: gets the plan, shows it, has it confirmed, and watches the job.
//!
//! Decides nothing about targets or disks: the console plans, and refuses to start when the room
//! has changed between the plan and the confirmation.

use super::deploy_options::{DeployArgs, request, template};
use super::follow::{Show, follow, show_end};
use super::simulate::Deployment as Rehearsed;
use super::{Context, image_check, plan_text, table, template_file};
use api::confirm;
use api::{ApiError, CheckRequest, CreateJob, ErrorCode, JobView, Plan, SCHEMA_VERSION, StartRule};
use serde::Serialize;
use std::path::Path;
use terminal::exit::{Ended, Exit};
use terminal::output::Output;

/// Last line of `--detach --json`.
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
/// The failure, with the exit code that belongs to it.
pub(super) async fn run(args: DeployArgs, context: &Context) -> Ended {
    let found = template(&args, context)?;
    let request = request(&args, found.as_ref(), context)?;
    if args.rehearsal.targets().is_some() {
        let deployment = Rehearsed {
            image: Path::new(&request.image),
            password_file: args.password_file.as_deref(),
            rate: request.rate_bits_per_s,
            pace: request.pace,
            choice: &request.choice,
        };
        return super::simulate::run(&args.rehearsal, &deployment, context);
    }
    let out = &context.out;
    let client = context.client();
    let starts_by_hand = request.start == StartRule::Manual;
    let mut plan: Plan = client.post("/v1/plan", &request).await?;
    if plan.image.checked.is_none() && !request.no_check {
        image_check::checked(&client, &CheckRequest::of(&request), out).await?;
        // The check may have taken long, so the plan is made again with the disks of now.
        plan = client.post("/v1/plan", &request).await?;
    }
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
    out.confirm(&question(&plan), &number, args.yes)?;
    let job: JobView = client
        .post(
            "/v1/jobs",
            &CreateJob {
                request,
                expect_targets,
                expect_disks: confirm::disks(&plan),
            },
        )
        .await?;
    watch_new(&job, args.detach, starts_by_hand, context).await
}

/// Question the technician answers before the job starts: the disks to erase and write.
pub(super) fn question(plan: &Plan) -> String {
    let (taken, _) = plan_text::split(plan);
    let disks = table::count(taken.len(), "disk");
    let part = match plan.request.choice.onto {
        None => String::new(),
        Some(onto) => format!("partition {onto} of "),
    };
    let later = match plan_text::also_new(plan) {
        None => String::new(),
        Some(rule) => format!(", and {rule}"),
    };
    format!("Erase and write {part}{disks}{later}?")
}

/// Follows a new job, or says which command does.
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

/// The error with every refused target by name; nothing was touched.
pub(super) fn refusal(plan: &Plan) -> ApiError {
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

#[cfg(test)]
mod tests {
    use super::super::plan_text::tests::sample_plan;
    use super::*;

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
    use api::Event;
    use clap::Parser;
    use client::fake::{answer, console};
    use terminal::output::OutputOptions;
    use terminal::testing::captured;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: DeployArgs,
    }

    /// Runs `deploy` against a console that gives these answers. Returns the result, stdout,
    /// stderr, and the requests made.
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
            config: crate::cli::Config::default(),
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
            requests[1]
                .contains("\"expect_targets\":[\"1\",\"2\"],\"expect_disks\":{\"1\":\"/dev/"),
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
