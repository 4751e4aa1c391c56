//! `diskcast demo`: the whole main job on this machine, without privileges.
//!
//! Nothing is simulated: the real console, four real agents with files as disks, the real groups
//! and ports on the loopback interface, and one agent that loses one packet in a hundred.

use super::follow::{Show, follow, show_end};
use agent::{AgentOptions, DiskOffer};
use api::confirm;
use api::{ApiError, ConsoleInfo, CreateJob, DeployRequest, ErrorCode, JobView, Plan, TargetList};
use clap::Args;
use client::Client;
use console::serve::{self, Approval, ConsoleOptions};
use disk::capture::{CaptureOptions, Captured, capture};
use disk::deployment::Deployment;
use disk::fit::Fit;
use disk::survey::SurveyOptions;
use disk::{check, restore};
use facts::target::TargetState;
use facts::units;
use net::receiving::InjectedLoss;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use terminal::exit::{Ended, failed, usage};
use terminal::output::Output;
use tokio::task::JoinHandle;

/// The master disk of the demo; `fixtures/README.md` describes it.
const MASTER: &[u8] = include_bytes!("../../fixtures/demo-disk.raw.zst");
/// Number of agents.
const AGENTS: usize = 4;
/// Share of packets the last agent loses.
const LOSS: f64 = 0.01;
/// Time in which the agents have to appear.
const PATIENCE: Duration = Duration::from_secs(20);
/// File that marks a folder as the demo's own, so that nothing else is ever removed.
const MARK: &str = ".diskcast-demo";

/// Options of `diskcast demo`.
#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// Folder to work in [default: diskcast-demo in the temporary folder]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// TCP port of the console's control channel
    #[arg(long, default_value_t = 5001, value_name = "PORT")]
    control_port: u16,
    /// TCP port of the console's bulk service
    #[arg(long, default_value_t = 5003, value_name = "PORT")]
    bulk_port: u16,
}

/// Runs the command.
///
/// # Errors
/// The failure, with the exit code that belongs to it; a busy port is named.
pub(super) fn run(args: DemoArgs, out: &Output) -> Ended {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| failed("starting", error))?;
    let ended = runtime.block_on(demo(args, out));
    runtime.shutdown_background();
    ended
}

async fn demo(args: DemoArgs, out: &Output) -> Ended {
    let folder = folder(args.dir)?;
    let master = folder.join("master.disk");
    let image = folder.join("demo.dcimg");

    out.note(format!("1. a master disk, {}", master.display()));
    unpack(&master)?;

    out.note("2. capture and check it");
    let captured = blocking({
        let (master, image) = (master.clone(), image.clone());
        move || capture_and_check(&master, &image)
    })
    .await?;
    out.note(format!(
        "   {} used of {}, {} in {}",
        units::bytes(captured.used_bytes),
        units::bytes(captured.disk_bytes),
        units::bytes(captured.file_bytes),
        image.display()
    ));

    out.note(
        "3. a console and four agents on the loopback interface; the last loses 1 % of its packets",
    );
    let data_dir = folder.join("console");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let console = tokio::spawn(serve::run(
        console_options(&data_dir, args.control_port, args.bulk_port),
        async move {
            let _ = stopped.await;
        },
    ));
    let client = Client::new(&data_dir);
    let (info, console) = console_ready(&client, console).await?;
    let agents = start_agents(&folder, &info, captured.disk_bytes)?;
    wait_for_agents(&client).await?;

    out.note("4. deploy");
    let exit = deploy_to_all(&client, &image, out).await?;
    for agent in agents {
        agent
            .await
            .map_err(|error| failed("waiting for an agent", error))?
            .map_err(|e| failed("an agent", e))?;
    }

    out.note("5. compare each disk with a local restore, byte by byte");
    blocking({
        let folder = folder.clone();
        move || compare(&folder, &image)
    })
    .await?;
    out.line(format!(
        "every disk equals a local restore of the image; all files are in {}",
        folder.display()
    ));
    let _ = stop.send(());
    console
        .await
        .map_err(|error| failed("ending the console", error))??;
    Ok(exit)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| failed("working", error))?
}

/// Empties the demo's folder except for the mark. A folder that is not the demo's is refused.
fn folder(asked: Option<PathBuf>) -> Result<PathBuf, ApiError> {
    let folder = asked.unwrap_or_else(|| std::env::temp_dir().join("diskcast-demo"));
    let mark = folder.join(MARK);
    let doing = |error: std::io::Error| failed(format!("preparing {}", folder.display()), error);
    if folder.exists() {
        let empty = std::fs::read_dir(&folder).map_err(doing)?.next().is_none();
        if !empty && !mark.exists() {
            return Err(usage(format!(
                "{} exists and is not a folder of the demo",
                folder.display()
            ))
            .hint("name another with --dir"));
        }
        std::fs::remove_dir_all(&folder).map_err(doing)?;
    }
    std::fs::create_dir_all(&folder).map_err(doing)?;
    std::fs::write(&mark, "made by `diskcast demo`; removed by its next run\n").map_err(doing)?;
    std::fs::canonicalize(&folder).map_err(doing)
}

/// Unpacks the master disk as a sparse file.
fn unpack(path: &Path) -> Result<(), ApiError> {
    let doing = |error: std::io::Error| failed(format!("unpacking {}", path.display()), error);
    let mut reader = zstd::Decoder::new(MASTER).map_err(doing)?;
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(doing)?;
    let mut block = vec![0u8; 1 << 20];
    let mut at = 0u64;
    loop {
        let mut len = 0;
        while len < block.len() {
            match reader.read(&mut block[len..]).map_err(doing)? {
                0 => break,
                read => len += read,
            }
        }
        if len == 0 {
            break;
        }
        if block[..len].iter().any(|byte| *byte != 0) {
            std::os::unix::fs::FileExt::write_all_at(&file, &block[..len], at).map_err(doing)?;
        }
        at += len as u64;
    }
    file.set_len(at).map_err(doing)
}

fn capture_and_check(master: &Path, image: &Path) -> Result<Captured, ApiError> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let options = CaptureOptions {
        survey: SurveyOptions::default(),
        level: imagefmt::DEFAULT_LEVEL,
        chunk_log2: imagefmt::DEFAULT_CHUNK_LOG2,
        sector_size: None,
        note: Some("diskcast demo".into()),
        set: None,
        password: None,
        created: jiff::Timestamp::now()
            .strftime("%Y-%m-%dT%H:%M:%SZ")
            .to_string(),
        threads,
        volume_bytes: None,
    };
    let captured = capture(master, image, &options, &|_, _| {}, &|| false)?;
    let report = check::check(
        image,
        None,
        check::Depth::Deep,
        threads,
        &|_, _| {},
        &|| false,
    )?;
    match report.faults.first() {
        None => Ok(captured),
        Some(fault) => Err(ApiError::new(ErrorCode::Integrity, fault.text.clone())),
    }
}

fn console_options(data_dir: &Path, control_port: u16, bulk_port: u16) -> ConsoleOptions {
    ConsoleOptions {
        data_dir: data_dir.to_owned(),
        iface: Some("lo".into()),
        listen: Ipv4Addr::LOCALHOST.into(),
        control_port,
        bulk_port,
        approval: Approval::Auto,
        ..ConsoleOptions::default()
    }
}

type Console = JoinHandle<Result<(), ApiError>>;

/// Waits until the console answers; its error is passed on.
async fn console_ready(
    client: &Client,
    mut console: Console,
) -> Result<(ConsoleInfo, Console), ApiError> {
    for _ in 0..200 {
        if let Ok(info) = client.get::<ConsoleInfo>("/v1/console").await {
            return Ok((info, console));
        }
        tokio::select! {
            ended = &mut console => {
                ended.map_err(|error| failed("starting the console", error))??;
                return Err(failed("starting the console", "it ended at once"));
            }
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
    }
    Err(failed("starting the console", "it does not answer"))
}

fn disk_of(folder: &Path, agent: usize) -> PathBuf {
    folder.join(format!("pc-{agent}.disk"))
}

type Agent = JoinHandle<Result<agent::Ended, agent::AgentError>>;

fn start_agents(
    folder: &Path,
    info: &ConsoleInfo,
    disk_bytes: u64,
) -> Result<Vec<Agent>, ApiError> {
    let pin = info
        .pin
        .parse()
        .map_err(|error| failed("reading the console's pin", error))?;
    let second: SocketAddrV4 = info
        .second
        .parse()
        .map_err(|error| failed("reading the second lane", error))?;
    Ok((1..=AGENTS)
        .map(|number| {
            tokio::spawn(agent::run(AgentOptions {
                console: Some(info.control.clone()),
                pin,
                disks: vec![DiskOffer {
                    path: disk_of(folder, number),
                    size: Some(disk_bytes),
                }],
                once: true,
                power: false,
                interface: Some(Ipv4Addr::LOCALHOST),
                name: Some(format!("pc-{number}")),
                second,
                desk: Default::default(),
                on_end: None,
                inject: InjectedLoss {
                    share: if number == AGENTS { LOSS } else { 0.0 },
                    ..InjectedLoss::NONE
                },
            }))
        })
        .collect())
}

async fn wait_for_agents(client: &Client) -> Result<(), ApiError> {
    let ready = async {
        loop {
            let list: TargetList = client.get("/v1/targets").await?;
            if list
                .targets
                .iter()
                .filter(|target| target.state == TargetState::Ready)
                .count()
                == AGENTS
            {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ready)
        .await
        .map_err(|_| failed("waiting for the agents", "not all appeared"))?
}

async fn deploy_to_all(client: &Client, image: &Path, out: &Output) -> Ended {
    let request = DeployRequest {
        image: image.display().to_string(),
        targets: "all".into(),
        ..DeployRequest::default()
    };
    let plan: Plan = client.post("/v1/plan", &request).await?;
    let expect_disks = confirm::disks(&plan);
    let expect_targets = plan
        .targets
        .iter()
        .map(|target| target.id.clone())
        .collect();
    let job: JobView = client
        .post(
            "/v1/jobs",
            &CreateJob {
                request,
                expect_targets,
                expect_disks,
            },
        )
        .await?;
    let summary = follow(client, &job.id, out, Show::Everything, None).await?;
    show_end(&summary, out)
}

/// Restores the image to a file and compares every agent's disk with it.
fn compare(folder: &Path, image_path: &Path) -> Result<(), ApiError> {
    let local = folder.join("local-restore.disk");
    let image = restore::open_image(image_path, None)?;
    let facts = restore::target_facts(&local, image.manifest().geometry.disk_size)?;
    let manifest = Arc::new(image.manifest().clone());
    let deployment = std::sync::Arc::new(Deployment::prepare(
        &facts,
        manifest,
        None,
        &Fit::default(),
    )?);
    restore::restore(&image, image_path, &deployment, 2, &|_, _, _| {}, &|| false)?;
    let expected = digest(&local)?;
    for number in 1..=AGENTS {
        let disk = disk_of(folder, number);
        if digest(&disk)? != expected {
            return Err(ApiError::new(
                ErrorCode::Integrity,
                format!("{} differs from {}", disk.display(), local.display()),
            ));
        }
    }
    Ok(())
}

fn digest(path: &Path) -> Result<blake3::Hash, ApiError> {
    let doing = |error: std::io::Error| failed(format!("reading {}", path.display()), error);
    let mut file = std::fs::OpenOptions::new()
        .read(true)
        .open(path)
        .map_err(doing)?;
    let mut hasher = blake3::Hasher::new();
    std::io::copy(&mut file, &mut hasher).map_err(doing)?;
    Ok(hasher.finalize())
}
