//! Test support: a console in this process, and agents that consist of a control connection only.

use super::context::Patience;
use super::serve::{self, ConsoleOptions};
use api::{AddPlan, AddRequest, CreateJob, DeployRequest, JobState, JobView, Plan, Summary};
use api::{ApiError, ConsoleInfo};
use client::Client;
use facts::order::EndAction;
use facts::target::{DiskFacts, Facts, TargetState};
use imagefmt::Meta;
use net::frames::{self, FrameReader, FrameWriter};
use net::tls;
use protocol::control::{
    AgentMessage, CONTROL_VERSION, ConsoleMessage, Counters, Hello, Order, Outcome, Unfinished,
};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Longest time for any step of these tests; only a step that hangs exceeds it, however slow the
/// machine is.
pub(super) const LIMIT: Duration = Duration::from_secs(120);
pub(super) const DISK_BYTES: u64 = 8 << 20;

/// A running console.
pub(super) struct Room {
    pub(super) info: ConsoleInfo,
    pub(super) client: Client,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), ApiError>>,
}

/// Options of a console with long limits, so that it waits for its agents on a slow machine too.
pub(super) fn options(data_dir: &Path) -> ConsoleOptions {
    ConsoleOptions {
        data_dir: data_dir.to_owned(),
        iface: Some("lo".to_owned()),
        listen: Ipv4Addr::LOCALHOST.into(),
        control_port: 0,
        bulk_port: 0,
        patience: Patience {
            lost_after: LIMIT,
            recover_after: LIMIT,
            answer_within: LIMIT,
        },
        ..ConsoleOptions::default()
    }
}

/// Time limit of a console in tests whose agent does not come back or answer.
const SOON: Duration = Duration::from_secs(1);

impl Room {
    pub(super) async fn open(data_dir: &Path) -> Self {
        Self::with(options(data_dir)).await
    }

    /// Opens a console that soon counts a disconnected agent as lost.
    pub(super) async fn losing(data_dir: &Path) -> Self {
        let mut options = options(data_dir);
        options.patience.lost_after = SOON;
        Self::with(options).await
    }

    /// Opens a console that soon gives up an agent that does not answer.
    pub(super) async fn impatient(data_dir: &Path) -> Self {
        let mut options = options(data_dir);
        options.patience.answer_within = SOON;
        Self::with(options).await
    }

    pub(super) async fn with(mut options: ConsoleOptions) -> Self {
        let (ready, is_ready) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let client = Client::new(&options.data_dir);
        options.on_ready = Some(Box::new(move |info| ready.send(info.clone()).unwrap()));
        let task = tokio::spawn(serve::run(options, async {
            let _ = stopped.await;
        }));
        let info = tokio::time::timeout(LIMIT, is_ready)
            .await
            .unwrap()
            .unwrap();
        Self {
            info,
            client,
            stop,
            task,
        }
    }

    pub(super) async fn close(self) {
        let _ = self.stop.send(());
        tokio::time::timeout(LIMIT, self.task)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }

    pub(super) fn control(&self) -> SocketAddr {
        self.info.control.parse().unwrap()
    }

    /// Plans a deployment, confirms the plan, and makes the job.
    pub(super) async fn deploy(&self, request: &DeployRequest) -> Result<JobView, ApiError> {
        let plan: Plan = self.client.post("/v1/plan", request).await?;
        let expect_disks = api::confirm::disks(&plan);
        let expect_targets = plan
            .targets
            .iter()
            .filter(|target| target.refused.is_none())
            .map(|target| target.id.clone())
            .collect();
        self.client
            .post(
                "/v1/jobs",
                &CreateJob {
                    request: request.clone(),
                    expect_targets,
                    expect_disks,
                },
            )
            .await
    }

    /// Plans to add targets to a job, confirms the plan, and adds them.
    pub(super) async fn add(&self, id: &str, targets: &str) -> Result<JobView, ApiError> {
        let asked = AddPlan {
            targets: targets.to_owned(),
        };
        let path = |rest: &str| format!("/v1/jobs/{id}/{rest}");
        let plan: Plan = self.client.post(&path("add-plan"), &asked).await?;
        let expect_disks = api::confirm::disks(&plan);
        let request = AddRequest {
            targets: asked.targets,
            expect_targets: expect_disks.keys().cloned().collect(),
            expect_disks,
        };
        self.client.post(&path("add"), &request).await
    }

    pub(super) async fn job(&self, id: &str) -> JobView {
        self.client.get(&format!("/v1/jobs/{id}")).await.unwrap()
    }

    /// Waits until the job is in this state; returns its view.
    pub(super) async fn reaches(&self, id: &str, state: JobState) -> JobView {
        let work = async {
            loop {
                let view = self.job(id).await;
                if view.state == state {
                    return view;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(LIMIT, work).await.unwrap()
    }

    /// Watches a job to its end; returns its summary.
    /// Waits until the job is over: its result is in the store, and nothing of it is in memory. A
    /// view shows the final state a little earlier.
    pub(super) async fn ends(&self, id: &str, state: JobState) -> JobView {
        assert_eq!(self.summary(id).await.state, state);
        self.job(id).await
    }

    pub(super) async fn summary(&self, id: &str) -> Summary {
        let work = async {
            let mut events = self
                .client
                .events(&format!("/v1/jobs/{id}/events"))
                .await
                .unwrap();
            while let Some(event) = events.next().await {
                if let api::Event::Summary(summary) = event.unwrap() {
                    return *summary;
                }
            }
            panic!("the events ended without a summary");
        };
        tokio::time::timeout(LIMIT, work).await.unwrap()
    }
}

/// A control connection that plays an agent. It answers pings and requests for facts by itself.
pub(super) struct FakeAgent {
    heard: mpsc::UnboundedReceiver<ConsoleMessage>,
    said: mpsc::UnboundedSender<AgentMessage>,
    pub(super) target: String,
    /// Facts that the agent reports; with `None` it does not answer.
    pub(super) facts: Arc<Mutex<Option<Facts>>>,
}

pub(super) fn hello(number: u8) -> Hello {
    Hello {
        version: CONTROL_VERSION,
        agent_version: "test".to_owned(),
        instance: format!("{number:032x}"),
        name: Some(format!("pc-{number}")),
        facts: Facts {
            serial: Some(format!("SERIAL-{number}")),
            aes: true,
            disks: vec![DiskFacts {
                path: "/dev/sda".to_owned(),
                size: DISK_BYTES,
                logical_sector: 512,
                ..DiskFacts::default()
            }],
            ..Facts::default()
        },
        beacon_heard: true,
        job: None,
    }
}

impl FakeAgent {
    pub(super) async fn join(room: &Room, hello: Hello) -> Self {
        let work = async {
            let stream = TcpStream::connect(room.control()).await.unwrap();
            let config = tls::client_config(room.info.pin.parse().unwrap()).unwrap();
            let stream = TlsConnector::from(config)
                .connect(tls::server_name(), stream)
                .await
                .unwrap();
            let (mut reader, mut writer): (
                FrameReader<TlsStream<TcpStream>, ConsoleMessage>,
                FrameWriter<TlsStream<TcpStream>, AgentMessage>,
            ) = frames::split(stream);
            let (said, mut outbox) = mpsc::unbounded_channel();
            let (inbox, heard) = mpsc::unbounded_channel();
            let facts = Arc::new(Mutex::new(Some(hello.facts.clone())));
            let own = Arc::clone(&facts);
            tokio::spawn(async move {
                loop {
                    let reply = tokio::select! {
                        said = outbox.recv() => match said {
                            Some(message) => Some(message),
                            None => break,
                        },
                        heard = reader.recv() => match heard {
                            Ok(Some(ConsoleMessage::Ping)) => Some(AgentMessage::Pong),
                            Ok(Some(ConsoleMessage::AskFacts)) => {
                                let facts = own.lock().unwrap().clone();
                                facts.map(|facts| AgentMessage::Facts(Box::new(facts)))
                            }
                            Ok(Some(message)) => {
                                let _ = inbox.send(message);
                                None
                            }
                            Ok(None) | Err(_) => break,
                        },
                    };
                    if let Some(reply) = reply
                        && writer.send(&reply).await.is_err()
                    {
                        break;
                    }
                }
            });
            let mut agent = Self {
                heard,
                said,
                target: String::new(),
                facts,
            };
            agent.send(AgentMessage::Hello(Box::new(hello))).await;
            match agent.next().await {
                Some(ConsoleMessage::Welcome { target, .. }) => agent.target = target,
                other => panic!("no welcome but {other:?}"),
            }
            agent
        };
        tokio::time::timeout(LIMIT, work).await.unwrap()
    }

    pub(super) async fn send(&mut self, message: AgentMessage) {
        self.said.send(message).unwrap();
    }

    /// Returns the next message that it does not answer by itself; `None` if the console closed the
    /// connection.
    pub(super) async fn next(&mut self) -> Option<ConsoleMessage> {
        tokio::time::timeout(LIMIT, self.heard.recv())
            .await
            .unwrap()
    }

    /// Returns true if no message waits that it does not answer by itself.
    pub(super) fn heard_nothing(&mut self) -> bool {
        self.heard.try_recv().is_err()
    }

    pub(super) async fn order(&mut self) -> Order {
        match self.next().await {
            Some(ConsoleMessage::Order(order)) => *order,
            other => panic!("no order but {other:?}"),
        }
    }

    pub(super) async fn recorded(&mut self) -> EndAction {
        match self.next().await {
            Some(ConsoleMessage::Recorded { after, .. }) => after,
            other => panic!("not recorded but {other:?}"),
        }
    }

    pub(super) async fn finish(&mut self, job: &str, root: &str) {
        let outcome = outcome(job, root);
        self.send(AgentMessage::Outcome(Box::new(outcome))).await;
    }
}

pub(super) fn outcome(job: &str, root: &str) -> Outcome {
    Outcome {
        job: job.to_owned(),
        state: TargetState::Done,
        reason: None,
        step: None,
        disk: "/dev/sda".to_owned(),
        disk_now: None,
        bytes_written: 1 << 20,
        seconds: 1.5,
        root: Some(root.to_owned()),
        counters: Counters::default(),
    }
}

pub(super) fn unfinished(order: &Order, outcome: Option<Outcome>) -> Unfinished {
    Unfinished {
        job: order.job.clone(),
        root: order.root.clone(),
        state: TargetState::Receiving,
        outcome,
    }
}

pub(super) fn request(image: &Path) -> DeployRequest {
    DeployRequest {
        image: image.display().to_string(),
        targets: "all".to_owned(),
        rate_bits_per_s: Some(80_000_000),
        ..DeployRequest::default()
    }
}

/// Writes a small image of a disk without a partition table; `word` is its password.
pub(super) fn image(folder: &Path, word: Option<&str>) -> PathBuf {
    image_of(folder, word, Vec::new())
}

/// Writes such an image with unreadable ranges of the master disk.
pub(super) fn image_of(folder: &Path, word: Option<&str>, holes: Vec<imagefmt::Hole>) -> PathBuf {
    let meta = Meta {
        created: "2030-01-01T00:00:00Z".to_owned(),
        table_kind: "none".to_owned(),
        holes,
        ..Meta::default()
    };
    image_from(folder, word, &meta, [0; 512])
}

/// Writes such an image of a disk with one Linux partition, number 1, in an MBR.
pub(super) fn partitioned_image(folder: &Path) -> PathBuf {
    let meta = Meta {
        created: "2030-01-01T00:00:00Z".to_owned(),
        table_kind: "mbr".to_owned(),
        ..Meta::default()
    };
    let mut sector = [0; 512];
    sector[450] = 0x83;
    sector[454..458].copy_from_slice(&2048_u32.to_le_bytes());
    sector[458..462].copy_from_slice(&8192_u32.to_le_bytes());
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    image_from(folder, None, &meta, sector)
}

fn image_from(folder: &Path, word: Option<&str>, meta: &Meta, sector: [u8; 512]) -> PathBuf {
    use imagefmt::{
        ChunkId, Encoder, Geometry, KdfCost, Mask, NewPassword, Password, Writer, WriterOptions,
    };
    let geometry = Geometry::new(DISK_BYTES, 512, 20).unwrap();
    let mut options = WriterOptions::new(geometry, [7; 16]);
    options.kdf = KdfCost {
        memory_kib: 64,
        passes: 1,
        lanes: 1,
    };
    options.password = word.map(|word| NewPassword {
        password: Password::new(word),
        salt: [1; 16],
        key: [2; 32],
        nonce_seed: [3; 32],
    });
    let mut writer = Writer::create(Vec::new(), options).unwrap();
    writer.meta(meta).unwrap();
    writer
        .table(&[imagefmt::Region {
            offset: 0,
            bytes: sector.to_vec(),
        }])
        .unwrap();
    let mut encoder = Encoder::new(1, writer.id_key()).unwrap();
    for chunk in 1..6_u32 {
        let len = geometry.chunk_len(ChunkId(chunk));
        let mut used = Vec::new();
        // Bytes that do not compress, so that the image has several blocks.
        let mut state = blake3::Hasher::new()
            .update(&chunk.to_le_bytes())
            .finalize_xof();
        used.resize(len as usize, 0);
        state.fill(&mut used);
        let mask = Mask::full(len);
        let body = encoder.encode(&mask, &used).unwrap();
        writer.chunk(ChunkId(chunk), &mask, &body).unwrap();
    }
    let written = writer.finish().unwrap();
    let path = folder.join(if word.is_some() {
        "secret.dcimg"
    } else {
        "plain.dcimg"
    });
    std::fs::write(&path, written.sink).unwrap();
    path
}

/// Simulates a full disk: until it is dropped, no row of a job can be written.
pub(super) struct FullDisk(rusqlite::Connection);

impl FullDisk {
    pub(super) fn of(data: &Path) -> Self {
        let full = Self(rusqlite::Connection::open(data.join("console.db")).unwrap());
        full.run(
            "CREATE TRIGGER full_targets BEFORE INSERT ON job_target BEGIN SELECT RAISE(ABORT, 'disk is full'); END;
             CREATE TRIGGER full_jobs BEFORE UPDATE ON job BEGIN SELECT RAISE(ABORT, 'disk is full'); END;",
        );
        full
    }

    /// Makes the store forget which agents were sent an order, as if the disk had been full then.
    pub(super) fn forget_orders(&self) {
        self.run("UPDATE job_target SET instance = NULL, state = 'ready';");
    }

    fn run(&self, sql: &str) {
        let patience = std::time::Duration::from_secs(10);
        self.0.busy_timeout(patience).unwrap();
        self.0.execute_batch(sql).unwrap();
    }
}

impl Drop for FullDisk {
    fn drop(&mut self) {
        self.run("DROP TRIGGER full_targets; DROP TRIGGER full_jobs;");
    }
}
