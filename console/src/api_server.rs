//! The local API of a running console, on a Unix socket that only its owner may open.
//!
//! ```text
//! GET  /v1/console                       ConsoleInfo
//! GET  /v1/targets                       TargetList           GET  /v1/targets/{id}          TargetView
//! POST /v1/targets/{id}/approve|forget   TargetView           POST /v1/targets/{id}/rename   RenameRequest -> TargetView
//! POST /v1/targets/{id}/identify         IdentifyRequest -> TargetView
//! POST /v1/targets/{id}/wake             TargetView
//! GET  /v1/boot                          BootReport           POST /v1/boot/check            BootReport
//! POST /v1/boot/sync                     BootSync -> BootOrders
//! POST /v1/images/check                  CheckRequest -> ImageCheck
//! POST /v1/plan                          DeployRequest -> Plan
//! POST /v1/jobs                          CreateJob -> JobView GET  /v1/jobs                  JobList
//! GET  /v1/jobs/{id}                     JobView              GET  /v1/jobs/{id}/events      Event, one a line
//! POST /v1/jobs/{id}/start               StartRequest -> JobView
//! POST /v1/jobs/{id}/add-plan            AddPlan -> Plan      POST /v1/jobs/{id}/add         AddRequest -> JobView
//!                                                             POST /v1/jobs/{id}/cancel      CancelRequest -> JobView
//! POST /v1/jobs/{id}/retry               RetryRequest -> JobView
//! POST /v1/doctor                        DoctorOptions -> DoctorReport
//! GET  /v1/jobs/{id}/report              Report               GET  /v1/jobs/{id}/log         text
//! POST /v1/captures                      CaptureRequest -> JobView
//! POST /v1/targets/{id}/decline          TargetView           (a backup asked for at the target)
//! GET  /v1/offers                        OfferList            POST /v1/offers                OfferRequest -> Offer
//! POST /v1/offers/{name}/remove          Offer
//! GET  /v1/bindings                      BindingList          POST /v1/bindings/import       ImportRequest -> BindingList
//! POST /v1/bindings/{machine}/release    BindingList
//! GET  /v1/secrets                       SecretList           POST /v1/secrets               SecretRequest -> SecretView
//! POST /v1/secrets/{name}/remove         {}                   POST /v1/secrets/{name}/new-key SigningKeyView
//! GET  /v1/secrets/{name}/public-key     SigningKeyView       POST /v1/secrets/{name}/sign    SignRequest -> SignatureView
//! ```
//!
//! Owns the conversion of requests into calls, and of errors into `ApiError` with an HTTP status.
//! Makes no decisions.

use super::answer::{Answer, Failure};
use super::context::Console;
use super::first_start::with_first_start;
use super::job::folder::Folder;
use super::job::{self, Input};
use super::jobs::parse_id;
use api::doctor::DoctorReport;
use api::{
    ApiError, BootOrders, BootReport, CancelRequest, CheckRequest, CreateJob, DeployRequest,
    ErrorCode, Event, IdentifyRequest, ImageCheck, JobList, JobState, JobView, Offer, OfferList,
    Plan, RenameRequest, Report, RetryRequest, SCHEMA_VERSION, StartRequest, TargetList,
    TargetView,
};
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use jobs::view::summary_of;
use protocol::control::ConsoleMessage;
use serde::de::DeserializeOwned;
use std::io::ErrorKind;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UnixListener;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, oneshot};

/// Maximum number of lines that wait for a slow watcher.
const WATCH_QUEUE: usize = 64;

type Shared = State<Arc<Console>>;

/// Serves the socket; ends when the future is dropped.
///
/// # Errors
/// An error of the listener.
pub async fn serve(console: Arc<Console>, listener: UnixListener) -> std::io::Result<()> {
    axum::serve(listener, router(console)).await
}

fn router(console: Arc<Console>) -> Router {
    Router::new()
        .route(
            "/v1/console",
            get(async |State(console): Shared| Json(console.info())),
        )
        .route("/v1/targets", get(targets))
        .route("/v1/targets/{id}", get(target))
        .route("/v1/targets/{id}/approve", post(approve))
        .route("/v1/targets/{id}/forget", post(forget))
        .route("/v1/targets/{id}/rename", post(rename))
        .route("/v1/targets/{id}/identify", post(identify))
        .route("/v1/targets/{id}/wake", post(wake))
        .route(
            "/v1/boot",
            get(async |State(console): Shared| Json(console.boot_report(Vec::new(), Vec::new()))),
        )
        .route("/v1/boot/check", post(check_boot))
        .route("/v1/boot/sync", post(sync_boot))
        .route("/v1/images/check", post(check_image))
        .route("/v1/plan", post(plan))
        .route("/v1/doctor", post(doctor))
        .route("/v1/captures", post(capture))
        .route("/v1/targets/{id}/decline", post(decline))
        .route("/v1/offers", get(offers).post(add_offer))
        .route("/v1/offers/{name}/remove", post(remove_offer))
        .merge(super::personal::api())
        .route("/v1/jobs", get(jobs).post(create))
        .route("/v1/jobs/{id}", get(show))
        .route("/v1/jobs/{id}/events", get(events))
        .route("/v1/jobs/{id}/start", post(start))
        .route("/v1/jobs/{id}/add-plan", post(plan_add))
        .route("/v1/jobs/{id}/add", post(add))
        .route("/v1/jobs/{id}/cancel", post(cancel))
        .route("/v1/jobs/{id}/retry", post(retry))
        .route("/v1/jobs/{id}/report", get(report))
        .route("/v1/jobs/{id}/log", get(log))
        .fallback(async || {
            Failure(ApiError::new(
                ErrorCode::Usage,
                "the console has no such address",
            ))
        })
        .with_state(console)
}

/// Parses a body as JSON; an empty body counts as `{}`.
fn parse<T: DeserializeOwned>(body: &Bytes) -> Result<T, ApiError> {
    let json: &[u8] = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(json)
        .map_err(|error| ApiError::new(ErrorCode::Usage, format!("request body: {error}")))
}

async fn targets(State(console): Shared) -> Json<TargetList> {
    let first_starts = console.first_starts().await;
    let targets = console
        .roster
        .views()
        .into_iter()
        .map(|mut view| {
            view.asks = console.asks(&view);
            with_first_start(console.with_boot(view), &first_starts)
        })
        .collect();
    Json(TargetList {
        schema_version: SCHEMA_VERSION,
        targets,
        machines: console.strangers(),
    })
}

async fn target(State(console): Shared, Path(id): Path<String>) -> Answer<TargetView> {
    let known = console.roster.view(&id)?;
    console.refresh_facts(&format!("id:{}", known.id)).await;
    let mut view = console.roster.view(&known.id)?;
    view.asks = console.asks(&view);
    let first_starts = console.first_starts().await;
    Ok(Json(with_first_start(
        console.with_boot(view),
        &first_starts,
    )))
}

async fn wake(State(console): Shared, Path(id): Path<String>) -> Answer<TargetView> {
    Ok(Json(console.wake(&id)?))
}

async fn check_boot(State(console): Shared) -> Json<BootReport> {
    Json(console.check_boot().await)
}

async fn sync_boot(State(console): Shared, body: Bytes) -> Answer<BootOrders> {
    Ok(Json(console.boot_sync(parse(&body)?)))
}

async fn capture(State(console): Shared, body: Bytes) -> Answer<JobView> {
    Ok(Json(console.create_capture(parse(&body)?).await?))
}

async fn decline(State(console): Shared, Path(id): Path<String>) -> Answer<TargetView> {
    Ok(Json(console.decline(&id)?))
}

async fn offers(State(console): Shared) -> Json<OfferList> {
    Json(OfferList {
        schema_version: SCHEMA_VERSION,
        offers: console.offers.list(),
    })
}

async fn add_offer(State(console): Shared, body: Bytes) -> Answer<Offer> {
    Ok(Json(console.add_offer(parse(&body)?).await?))
}

async fn remove_offer(State(console): Shared, Path(name): Path<String>) -> Answer<Offer> {
    Ok(Json(console.remove_offer(&name).await?))
}

async fn approve(State(console): Shared, Path(id): Path<String>) -> Answer<TargetView> {
    let (row, link) = console.roster.approve(&id)?;
    let welcome = ConsoleMessage::Welcome {
        target: row.id.clone(),
        name: row.name.clone(),
        approved: true,
    };
    let id = row.id.clone();
    console.store.save_target(row).await.map_err(not_stored)?;
    if let Some(link) = link {
        link.send(welcome);
    }
    Ok(Json(console.roster.view(&id)?))
}

async fn rename(State(console): Shared, Path(id): Path<String>, body: Bytes) -> Answer<TargetView> {
    let request: RenameRequest = parse(&body)?;
    let row = console.roster.rename(&id, &request.name)?;
    let id = row.id.clone();
    console.store.save_target(row).await.map_err(not_stored)?;
    Ok(Json(console.roster.view(&id)?))
}

async fn identify(
    State(console): Shared,
    Path(id): Path<String>,
    body: Bytes,
) -> Answer<TargetView> {
    let request: IdentifyRequest = parse(&body)?;
    let identified = console.roster.identify(&id, request.is.as_deref())?;
    let id = identified.row.id.clone();
    let kept = async {
        let store = &console.store;
        store.save_target(identified.row).await?;
        store.save_identities(identified.identity).await
    };
    let kept = kept.await;
    // The agent reconnects at once, under its right target.
    if let Some(link) = identified.close {
        link.close.cancel();
    }
    kept.map_err(not_stored)?;
    Ok(Json(console.roster.view(&id)?))
}

async fn forget(State(console): Shared, Path(id): Path<String>) -> Answer<TargetView> {
    let view = console.roster.forget(&id)?;
    console
        .store
        .delete_target(view.id.clone())
        .await
        .map_err(not_stored)?;
    Ok(Json(view))
}

fn not_stored(error: super::store::StoreError) -> ApiError {
    ApiError::new(
        ErrorCode::Unexpected,
        format!("done, but it will not survive a restart: {error}"),
    )
    .hint("is the disk of the data directory full?")
}

async fn plan(State(console): Shared, body: Bytes) -> Answer<Plan> {
    let request: DeployRequest = parse(&body)?;
    Ok(Json(console.plan(request).await?))
}

async fn check_image(State(console): Shared, body: Bytes) -> Answer<ImageCheck> {
    let request: CheckRequest = parse(&body)?;
    Ok(Json(console.check_image(request).await?))
}

async fn doctor(State(console): Shared, body: Bytes) -> Answer<DoctorReport> {
    Ok(Json(console.examine(parse(&body)?).await?))
}

async fn create(State(console): Shared, body: Bytes) -> Answer<JobView> {
    let request: CreateJob = parse(&body)?;
    Ok(Json(console.create_job(request).await?))
}

async fn jobs(State(console): Shared) -> Answer<JobList> {
    Ok(Json(JobList {
        schema_version: SCHEMA_VERSION,
        jobs: console.job_views().await?,
    }))
}

async fn show(State(console): Shared, Path(id): Path<String>) -> Answer<JobView> {
    Ok(Json(console.job_view(parse_id(&id)?).await?))
}

async fn report(State(console): Shared, Path(id): Path<String>) -> Answer<Report> {
    Ok(Json(console.report(parse_id(&id)?).await?))
}

async fn retry(State(console): Shared, Path(id): Path<String>, body: Bytes) -> Answer<JobView> {
    let request: RetryRequest = parse(&body)?;
    Ok(Json(console.retry_job(parse_id(&id)?, request).await?))
}

/// Sends a request to a job's task and waits for the answer.
async fn ask(
    console: &Console,
    id: u64,
    question: impl FnOnce(oneshot::Sender<Result<(), ApiError>>) -> Input,
) -> Result<JobView, ApiError> {
    let over = || ApiError::new(ErrorCode::Refused, format!("job {id} is over"));
    let Some(handle) = console.jobs.handle(id) else {
        // Returns the error for an unknown job.
        console.job_row(id).await?;
        return Err(over());
    };
    let (answer, answered) = oneshot::channel();
    handle
        .inputs
        .send(question(answer))
        .await
        .map_err(|_| over())?;
    answered.await.map_err(|_| over())??;
    Ok(handle.shared.view())
}

async fn start(State(console): Shared, Path(id): Path<String>, body: Bytes) -> Answer<JobView> {
    let confirmed: StartRequest = parse(&body)?;
    ask(&console, parse_id(&id)?, |answer| {
        Input::Start(confirmed, answer)
    })
    .await
    .map(Json)
    .map_err(Failure)
}

async fn plan_add(State(console): Shared, Path(id): Path<String>, body: Bytes) -> Answer<Plan> {
    let asked = parse(&body)?;
    Ok(Json(console.plan_add(parse_id(&id)?, asked).await?))
}

async fn add(State(console): Shared, Path(id): Path<String>, body: Bytes) -> Answer<JobView> {
    let asked = parse(&body)?;
    Ok(Json(console.add_to_job(parse_id(&id)?, asked).await?))
}

async fn cancel(State(console): Shared, Path(id): Path<String>, body: Bytes) -> Answer<JobView> {
    let request: CancelRequest = parse(&body)?;
    let id = parse_id(&id)?;
    if console.jobs.handle(id).is_none() && request.targets.is_none() {
        let reason = request
            .reason
            .unwrap_or_else(|| "dropped by a technician".to_owned());
        return Ok(Json(console.cancel_interrupted(id, &reason).await?));
    }
    ask(&console, id, |answer| Input::Cancel(request, answer))
        .await
        .map(Json)
        .map_err(Failure)
}

async fn log(State(console): Shared, Path(id): Path<String>) -> Result<Response, Failure> {
    let id = parse_id(&id)?;
    console.job_row(id).await?;
    let path = Folder::of(&console.settings.data_dir, id).log();
    let plain = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    match tokio::fs::File::open(&path).await {
        Ok(file) => Ok((
            plain,
            Body::from_stream(tokio_util::io::ReaderStream::new(file)),
        )
            .into_response()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Ok((plain, String::new()).into_response())
        }
        Err(error) => Err(ApiError::new(
            ErrorCode::Unexpected,
            format!("{}: {error}", path.display()),
        )
        .into()),
    }
}

// ---- events ----

type Lines = mpsc::Sender<std::io::Result<Bytes>>;

async fn events(State(console): Shared, Path(id): Path<String>) -> Result<Response, Failure> {
    let id = parse_id(&id)?;
    let (lines, waiting) = mpsc::channel(WATCH_QUEUE);
    match console.jobs.shared(id) {
        Some(shared) => {
            tokio::spawn(async move { watch(&shared, &lines).await });
        }
        None => {
            let view = console.job_view(id).await?;
            let folder = Folder::of(&console.settings.data_dir, id);
            tokio::spawn(async move { replay(&view, &folder, &lines).await });
        }
    }
    let body = Body::from_stream(tokio_stream::wrappers::ReceiverStream::new(waiting));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

/// Sends one event as a line; `None` if the watcher has disconnected.
async fn send(lines: &Lines, event: &Event) -> Option<()> {
    let mut line = serde_json::to_vec(event).ok()?;
    line.push(b'\n');
    lines.send(Ok(line.into())).await.ok()
}

async fn picture(shared: &job::JobShared, lines: &Lines) -> Option<()> {
    let view = shared.view();
    let event = Event::Progress {
        job: view.id.clone(),
        view: Box::new(view),
    };
    send(lines, &event).await
}

async fn watch(shared: &job::JobShared, lines: &Lines) -> Option<()> {
    let (past, live) = shared.events.watch();
    for event in past {
        send(lines, &event).await?;
    }
    let mut live = live?;
    // A waiting job sends no events, so the present view comes first.
    picture(shared, lines).await?;
    let mut summarised = false;
    loop {
        match live.recv().await {
            Ok(event) => {
                summarised = matches!(*event, Event::Summary(_));
                send(lines, &event).await?;
            }
            // The watcher was too slow; the present view replaces the events it missed.
            Err(RecvError::Lagged(_)) => picture(shared, lines).await?,
            Err(RecvError::Closed) => break,
        }
    }
    if !summarised && let Some(last) = shared.events.watch().0.last() {
        // The summary was among the missed events.
        if matches!(**last, Event::Summary(_)) {
            send(lines, last).await?;
        }
    }
    Some(())
}

/// Sends the stored events of a job without a task, then its summary.
async fn replay(view: &JobView, folder: &Folder, lines: &Lines) -> Option<()> {
    if let Ok(file) = tokio::fs::File::open(folder.events()).await {
        let mut reader = BufReader::new(file).split(b'\n');
        while let Ok(Some(mut line)) = reader.next_segment().await {
            // A late outcome may be newer than a summary in the file.
            if !line.is_empty() && !line.starts_with(br#"{"type":"summary""#) {
                line.push(b'\n');
                lines.send(Ok(line.into())).await.ok()?;
            }
        }
    }
    if view.state == JobState::Interrupted {
        let text = format!(
            "interrupted; diskcast job retry {} goes on with it",
            view.id
        );
        send(lines, &job::log_event(&view.id, text)).await?;
    }
    send(
        lines,
        &Event::Summary(Box::new(summary_of(view, &folder.report()))),
    )
    .await
}
