//! `diskcast image capture --target`: a capture of another machine's disk, done by its agent and
//! the console.
//!
//! Requests the job from the console and watches it. Ctrl-C ends the capture, as it does for one on
//! this machine; with `--detach` it goes on without the terminal. Decides nothing about disks.

use super::follow::{self, Show, exit_of, follow};
use super::image::{CaptureArgs, partition_lines, parts_line, password};
use super::{Context, deploy, table};
use api::{
    ApiError, CancelRequest, CaptureRequest, CaptureView, ErrorCode, JobState, JobView,
    SCHEMA_VERSION, Summary, TargetView,
};
use client::{Client, segment};
use disk::gaps::left_out_lines;
use disk::missing;
use facts::target::TargetState;
use facts::units;
use protocol::control::CaptureWishes;
use serde::Serialize;
use std::path::Path;
use std::time::Duration;
use terminal::exit::{Ended, Exit, usage};
use terminal::interrupt;
use terminal::output::Output;

/// Time in which a cancelled capture has to end; after it the command says that it may still run.
const CANCEL_WITHIN: Duration = Duration::from_secs(30);

/// Runs the command.
///
/// # Errors
/// The failure, with the exit code that belongs to it.
pub(super) async fn run(args: &CaptureArgs, context: &Context) -> Ended {
    let remote = &args.remote;
    let Some(target) = remote.target.clone() else {
        return Err(usage("--target names the master"));
    };
    let (out, client) = (&context.out, context.client());
    if remote.decline {
        let path = format!("/v1/targets/{}/decline", segment(&target));
        let view: TargetView = client.post(&path, &serde_json::json!({})).await?;
        out.note(format!("{}: declined", table::clean(&view.name)));
        return Ok(Exit::OK);
    }
    let word = password(args.password_file.as_deref())?;
    let request = CaptureRequest {
        target,
        disk: remote.disk.clone(),
        stall_limit_seconds: remote.stall_limit,
        time_limit_seconds: remote.time_limit,
        name: remote.name.clone(),
        note: args.note.clone(),
        set: args.set(),
        password: word.map(|word| word.to_string()),
        wishes: CaptureWishes {
            level: args.level,
            chunk_log2: args.chunk_size,
            raw_partitions: args.raw_partition.clone(),
            keep_page_files: args.keep_page_files,
            all_gaps: args.all_gaps,
            raw: args.raw,
            rescue: args.rescue,
            sector_size: args.sector_size,
            threads: args.threads,
        },
        end: remote.end.into(),
    };
    let job: JobView = client.post("/v1/captures", &request).await?;
    if remote.detach {
        deploy::started(&job, out);
        return Ok(Exit::OK);
    }
    let id = table::clean(&job.id);
    out.note(format!(
        "job {id}: `diskcast job watch {id}` shows it from elsewhere"
    ));
    let summary = match follow(&client, &job.id, out, Show::Everything, None).await {
        Err(error) if error.code == ErrorCode::Interrupted && !out.is_closed() => {
            return Err(cancelled(&client, &job.id, out).await);
        }
        ended => ended?,
    };
    show_end(&summary, out)
}

/// Handles Ctrl-C: cancels the capture and waits for its end. A second Ctrl-C ends the waiting.
async fn cancelled(client: &Client, id: &str, out: &Output) -> ApiError {
    let request = CancelRequest {
        targets: None,
        reason: Some("interrupted".to_owned()),
    };
    let path = format!("/v1/jobs/{}/cancel", segment(id));
    let ended = async {
        client.post::<_, JobView>(&path, &request).await?;
        // The console answers before the job has removed the data it received.
        follow::until_end(client, id, out, CANCEL_WITHIN).await
    };
    let ended = tokio::select! {
        ended = ended => ended,
        () = interrupt::wait() => {
            return ApiError::new(ErrorCode::Interrupted, format!("job {id} may still run"))
                .hint(format!("diskcast job watch {id}"));
        }
    };
    match ended {
        Ok(summary) if summary.state == JobState::Done => ApiError::new(
            ErrorCode::Interrupted,
            format!("job {id} was done before it could be cancelled; its image is there"),
        ),
        Ok(_) => ApiError::new(
            ErrorCode::Interrupted,
            format!("job {id} cancelled; no image was made"),
        ),
        Err(error) => error,
    }
}

/// Last line of a capture under `--json`: the fields of a local capture, and the machine it came
/// from.
#[derive(Serialize)]
struct CaptureResult<'a> {
    r#type: &'static str,
    schema_version: u32,
    job: &'a str,
    target: &'a str,
    image: &'a str,
    root: &'a str,
    file_bytes: u64,
    volumes: u32,
    used_bytes: u64,
    disk_bytes: u64,
    received_bytes: u64,
    received_chunks: u64,
    kept_chunks: u64,
    seconds: f64,
    meta: Option<&'a imagefmt::Meta>,
}

/// Shows how a capture ended.
///
/// # Errors
/// `Refused` when nothing was read, `TargetsFailed` when it ended early.
pub(super) fn show_end(summary: &Summary, out: &Output) -> Ended {
    let (Some(target), Some(view)) = (summary.targets.first(), &summary.capture) else {
        return Ok(exit_of(summary));
    };
    if target.state != TargetState::Done {
        return Err(failure(summary));
    }
    if out.json() {
        out.result_json(&CaptureResult {
            r#type: "summary",
            schema_version: SCHEMA_VERSION,
            job: &summary.job,
            target: &target.name,
            image: &summary.image,
            root: &summary.root,
            file_bytes: view.file_bytes,
            volumes: view.volumes,
            used_bytes: view.used_bytes,
            disk_bytes: view.disk_bytes,
            received_bytes: view.received_bytes,
            received_chunks: view.received_chunks,
            kept_chunks: view.kept_chunks,
            seconds: target.seconds,
            meta: view.meta.as_ref(),
        });
        return Ok(Exit::OK);
    }
    out.note(end_line(summary, view));
    if let Some(meta) = &view.meta {
        // The text comes from another machine: no control characters may reach the terminal.
        for line in partition_lines(meta) {
            out.line(table::clean(&line));
        }
        let (holes, left_out) = (missing::lines(meta), left_out_lines(meta));
        for warning in meta.warnings.iter().chain(&holes).chain(&left_out) {
            out.warn(table::clean(warning));
        }
    }
    out.line(format!("image {}", table::clean(&summary.image)));
    if let Some(line) = parts_line(Path::new(&summary.image), view.volumes) {
        out.line(table::clean(&line));
    }
    out.line(format!("root {}", table::clean(&summary.root)));
    Ok(Exit::OK)
}

/// The result in one line.
pub(super) fn end_line(summary: &Summary, view: &CaptureView) -> String {
    let Some(target) = summary.targets.first() else {
        return String::new();
    };
    let kept = if view.kept_chunks > 0 {
        format!(
            ", {} of them were there from before",
            table::count(count(view.kept_chunks), "chunk")
        )
    } else {
        String::new()
    };
    format!(
        "captured {} of {} in {}, {} on disk, read back: {}{kept}",
        units::bytes(view.used_bytes),
        table::clean(&target.name),
        units::span(target.seconds),
        units::bytes(view.file_bytes),
        table::count(count(view.chunks), "chunk"),
    )
}

fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The error for a job without an image, with the next step.
fn failure(summary: &Summary) -> ApiError {
    let Some(target) = summary.targets.first() else {
        return ApiError::new(ErrorCode::TargetsFailed, "the capture had no target");
    };
    let reason = table::clean(target.reason.as_deref().unwrap_or("no reason was given"));
    let name = table::clean(&target.name);
    let id = table::clean(&summary.job);
    if target.step == Some(TargetState::Joined) {
        return ApiError::new(ErrorCode::Refused, format!("{name}: {reason}"))
            .hint("nothing was captured");
    }
    let hint = match target.done_bytes {
        0 => format!("nothing was captured; diskcast job retry {id} tries it again"),
        _ => format!("what was taken in is kept: diskcast job retry {id} goes on with it"),
    };
    let text = format!("{name}: {}: {reason}", target.state);
    ApiError::new(ErrorCode::TargetsFailed, text).hint(hint)
}
