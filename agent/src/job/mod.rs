//! One job on one target, from order to outcome.
//!
//! Owns the thread that walks through the states, and the handle that the link uses. All events go
//! to that thread, so one place knows the state of the target.
//!
//! ```text
//! joined ---- manifest proven, disk named and free, wiped ----> receiving <--> repairing (TCP 5003)
//!                                                                  | every block written
//!                                             verifying -> applying (template) -> committing -> done
//!   any error, at any point: failed, with a reason; the disk stays without a partition table
//!                            (an overwritten partition without a file system)
//! ```

mod blocks;
mod manifest;
pub(super) mod personal;
mod reuse;
mod session;

use super::AgentOptions;
use super::desk::Work;
use super::failure::Failure;
use super::fetch::{Fetched, Fetcher};
use super::load::{Load, Mark};
use super::progress::Reporter;
use super::pulse::Pulse;
use super::writers::{Finished, Writers};
use disk::deployment::Deployment;
use disk::readback::ReadBack;
use facts::order::EndAction;
use facts::target::{DiskFacts, DiskNow, TargetState};
use multicast::{BlockSet, Layout};
use net::receiving::{InjectedLoss, Receiving, ReceivingEvent};
use net::sources::Sources;
use protocol::control::{AgentMessage, Order, Outcome, Unfinished};
use reuse::Search;
use rustls::ClientConfig;
use std::collections::{BTreeSet, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;

/// Number of block buffers of a session: 64 MiB, about half a second of a gigabit link.
const BUFFERS: u16 = 64;
/// Most blocks in one request over TCP 5003.
const BATCH: usize = 16;
/// Mismatches with the manifest after which a block counts as damaged at the console.
const CORRUPT_TRIES: u32 = 3;
/// Longest manifest accepted, in bytes: 16 TiB of used 1 MiB chunks.
const MAX_MANIFEST: u64 = 1 << 30;
/// Seconds without a new block after which a batch of the missing ones is fetched over TCP 5003.
/// The session may wait for another machine; this one goes on.
const STALL_SECONDS: f64 = 30.0;
/// Most threads that restore, decompress and write. There are two more than processors, since a
/// direct write blocks its thread.
const MAX_WRITERS: usize = 6;
/// Most threads that read back.
const MAX_READERS: usize = 2;

/// Handle on a job, for the link.
pub(super) struct Job {
    id: String,
    events: Sender<Event>,
    cancelled: Arc<AtomicBool>,
    shared: Arc<Mutex<Shared>>,
    recorded: Option<EndAction>,
    /// Path of the disk in the order.
    disk: PathBuf,
}

/// State of a running job that the link reads.
pub(super) struct Shared {
    pub(super) state: TargetState,
    root: String,
    /// The reason for which the console wants this target to leave the job.
    leave: Option<String>,
    pub(super) outcome: Option<Outcome>,
}

/// The end of a job that the console has recorded.
pub(super) struct JobEnd {
    pub(super) done: bool,
    pub(super) after: EndAction,
    /// Path of the disk in the order.
    pub(super) disk: PathBuf,
}

enum Event {
    Receiving(u64, ReceivingEvent),
    Written(Finished),
    Looked(usize, bool),
    Fetched(u64, Fetched),
    Order(Box<Order>, SocketAddr),
    UseBulk(Vec<u32>),
    Cancel(String),
}

impl Job {
    /// Starts the job that an order describes.
    pub(super) fn start(
        order: Order,
        console: SocketAddr,
        tls: Arc<ClientConfig>,
        options: &AgentOptions,
        outbox: UnboundedSender<AgentMessage>,
    ) -> Self {
        let (events, inbox) = channel();
        let cancelled = Arc::new(AtomicBool::new(false));
        let shared = Arc::new(Mutex::new(Shared::new(order.root.clone())));
        let id = order.job.clone();
        let disk = PathBuf::from(&order.disk.path);
        let desk = options.desk.clone();
        desk.tell(|standing| {
            standing.work = Some(Work {
                image: order.image.clone(),
                disk: order.disk.path.clone(),
                progress: None,
                outcome: None,
            });
        });
        let reporter = Arc::new(Reporter::new(
            order.job.clone(),
            outbox.clone(),
            Arc::clone(&shared),
            desk,
        ));
        let runner = Runner {
            order,
            console,
            tls,
            runtime: tokio::runtime::Handle::current(),
            offers: options.offers(),
            interface: options.interface,
            inject: options.inject,
            outbox,
            events: events.clone(),
            inbox,
            cancelled: Arc::clone(&cancelled),
            reporter,
            receiving: None,
            generation: 0,
            fetcher: None,
            image: None,
            manifest_bytes: Vec::new(),
            manifest_blocks: 0,
            heard: true,
            manifest_asked: false,
            bulk_wanted: BTreeSet::new(),
            bulk_flying: BTreeSet::new(),
            corrupt: HashMap::new(),
            sources: Sources::default(),
            news_at: 0.0,
            disk_now: DiskNow::Untouched,
            title: String::new(),
            shared: Arc::clone(&shared),
        };
        let job = Self {
            id,
            events,
            cancelled,
            shared,
            recorded: None,
            disk,
        };
        let spawned = std::thread::Builder::new()
            .name("job".into())
            .spawn(move || runner.run());
        if let Err(error) = spawned {
            tracing::error!(%error, "no thread for the job");
        }
        job
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// The job's entry in the hello of a new connection.
    pub(super) fn unfinished(&self) -> Unfinished {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        Unfinished {
            job: self.id.clone(),
            root: shared.root.clone(),
            state: shared.state,
            outcome: shared.outcome.clone(),
        }
    }

    /// Handles the same order from the console (perhaps from a new one after a restart): the job
    /// goes on.
    pub(super) fn order_again(&mut self, order: Order, console: SocketAddr) {
        let _ = self.events.send(Event::Order(Box::new(order), console));
    }

    /// Asks the target to leave the job. A commit that has begun is completed first; in both cases
    /// the outcome is the answer.
    pub(super) fn cancel(&self, reason: &str) {
        self.shared
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .leave = Some(reason.to_owned());
        self.cancelled.store(true, Ordering::Relaxed);
        let _ = self.events.send(Event::Cancel(reason.to_owned()));
    }

    pub(super) fn use_bulk(&self, blocks: Vec<u32>) {
        let _ = self.events.send(Event::UseBulk(blocks));
    }

    pub(super) fn recorded(&mut self, after: EndAction) {
        self.recorded = Some(after);
    }

    /// The end, once the console has recorded the outcome.
    pub(super) fn end(&self) -> Option<JobEnd> {
        let after = self.recorded?;
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = shared.outcome.as_ref()?;
        Some(JobEnd {
            done: outcome.state == TargetState::Done,
            after,
            disk: self.disk.clone(),
        })
    }
}

/// The image, once its manifest is proven and the disk is wiped for it.
struct Open {
    deployment: Arc<Deployment>,
    layout: Arc<Layout>,
    writers: Writers,
    read_back: Arc<ReadBack>,
    load: Arc<Load>,
    /// Counters at the last judgement of the load.
    mark: Mark,
    search: Search,
    done: BlockSet,
    written: u64,
    kept_bytes: u64,
    /// Thread that discards the free space; the commit waits for it.
    discard: Option<std::thread::JoinHandle<()>>,
}

struct Runner {
    order: Order,
    console: SocketAddr,
    tls: Arc<ClientConfig>,
    runtime: tokio::runtime::Handle,
    offers: Option<Vec<DiskFacts>>,
    interface: Option<Ipv4Addr>,
    inject: InjectedLoss,
    outbox: UnboundedSender<AgentMessage>,
    events: Sender<Event>,
    inbox: Receiver<Event>,
    cancelled: Arc<AtomicBool>,
    reporter: Arc<Reporter>,
    receiving: Option<Receiving>,
    /// Number of the present session; events of an earlier one are ignored.
    generation: u64,
    fetcher: Option<Fetcher>,
    image: Option<Open>,
    manifest_bytes: Vec<u8>,
    manifest_blocks: u32,
    heard: bool,
    manifest_asked: bool,
    bulk_wanted: BTreeSet<u32>,
    bulk_flying: BTreeSet<u32>,
    corrupt: HashMap<u32, u32>,
    /// Senders seen on the session.
    sources: Sources,
    /// Time of the last block, in seconds of the job.
    news_at: f64,
    /// State of the disk after the last write.
    disk_now: DiskNow,
    /// Path, model, serial and size of the disk, once it was examined.
    title: String,
    shared: Arc<Mutex<Shared>>,
}

impl Runner {
    fn run(mut self) {
        let result = self.work();
        let leave = self
            .shared
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .leave
            .clone();
        // The groups are left before anything slow.
        self.receiving = None;
        // A discard still under way must not keep the disk from the next job.
        self.cancelled.store(true, Ordering::Relaxed);
        let written = self.image.as_ref().map_or(0, |image| image.written);
        if result.is_err() {
            self.blank_again();
        }
        let (state, reason, root) = match (result, leave) {
            (Ok(root), _) => (TargetState::Done, None, Some(root)),
            (Err(_), Some(reason)) => (TargetState::Dropped, Some(reason), None),
            (Err(failure), None) => (TargetState::Failed, Some(failure.reason()), None),
        };
        let outcome = Outcome {
            job: self.order.job.clone(),
            state,
            step: reason.is_some().then(|| self.reporter.state()),
            reason,
            disk: self.title.clone(),
            disk_now: Some(self.disk_now),
            bytes_written: written,
            seconds: self.reporter.seconds(),
            root,
            counters: self.reporter.counters(),
        };
        self.reporter.outcome(outcome);
    }

    /// Blanks a partition whose job ended before the commit. It has no table of its own to hold
    /// back, so its content is removed.
    fn blank_again(&mut self) {
        let Some(image) = self
            .image
            .as_ref()
            .filter(|_| self.disk_now == DiskNow::PartitionBlank)
        else {
            return;
        };
        // The technician needs the reason of the failure; a failure to blank is logged beside it.
        if let Err(error) = image.deployment.give_up() {
            self.disk_now = DiskNow::Unknown;
            self.reporter.log(format!(
                "the partition could not be blanked: {}",
                error.full()
            ));
        }
    }

    fn work(&mut self) -> Result<String, Failure> {
        if self.order.manifest_bytes == 0 || self.order.manifest_bytes > MAX_MANIFEST {
            return Err(Failure::Other(format!(
                "the order has a manifest of {} bytes",
                self.order.manifest_bytes
            )));
        }
        self.reporter.state_is(TargetState::Joined);
        self.join_session()?;
        loop {
            match self.inbox.recv_timeout(Duration::from_millis(250)) {
                Ok(event) => self.handle(event)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::Other("the agent is ending".into()));
                }
            }
            self.fetch_more();
            self.judge_load();
            self.reporter.tick();
            if let Some(image) = &self.image {
                if let Some(error) = image.read_back.take_failure() {
                    return Err(error.into());
                }
                if image.done.is_full() {
                    return self.prove_and_commit();
                }
            }
        }
    }

    fn handle(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Receiving(generation, event) if generation == self.generation => {
                self.received(event)?
            }
            // The session was replaced: its buffers are freed with its thread.
            Event::Receiving(..) => {}
            Event::Written(finished) => self.written(finished)?,
            Event::Looked(entry, there) => self.looked(entry, there),
            Event::Fetched(generation, fetched) if generation == self.generation => {
                self.fetched(fetched)?
            }
            Event::Fetched(..) => {}
            Event::Order(order, console) => self.rejoin(*order, console)?,
            Event::UseBulk(blocks) => self.want_bulk(blocks),
            Event::Cancel(reason) => return Err(Failure::Other(format!("cancelled: {reason}"))),
        }
        Ok(())
    }

    /// Reads back the rest, applies the plan's steps, and writes the sectors that make the disk
    /// bootable. Returns the root.
    fn prove_and_commit(&mut self) -> Result<String, Failure> {
        self.receiving = None;
        self.fetcher = None;
        let Some(image) = &mut self.image else {
            return Err(Failure::Other("there is no image".into()));
        };
        self.reporter.state_is(TargetState::Verifying);
        let reporter = &self.reporter;
        let proof = image
            .read_back
            .finish(&|done, _| reporter.verified(done), &|| {
                self.cancelled.load(Ordering::Relaxed)
            })?;
        // From here on minutes may pass without a byte to count.
        let _pulse = Pulse::of_this_thread(&self.reporter, image.deployment.target().path());
        if let Some(discard) = image.discard.take() {
            // The thread ends by itself, and a failed discard is no failure of the job.
            let _ = discard.join();
        }
        let deployment = Arc::clone(&image.deployment);
        self.make_itself(&deployment)?;
        // From here on the job cannot be cancelled: the console waits for its outcome.
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(Failure::Other("cancelled".into()));
        }
        self.disk_now = DiskNow::Unknown;
        self.reporter.state_is(TargetState::Committing);
        deployment.commit(&proof)?;
        self.disk_now = DiskNow::Whole;
        for note in deployment.notes() {
            let _ = self.outbox.send(AgentMessage::Log {
                job: Some(self.order.job.clone()),
                text: note.clone(),
            });
        }
        Ok(proof.root().to_string())
    }

    /// Judges twice a second which part slows this machine down, for its row and for the sender.
    fn judge_load(&mut self) {
        let Some(image) = &mut self.image else { return };
        if !image.mark.is_due() {
            return;
        }
        let judgement = image
            .load
            .judge(&mut image.mark, self.reporter.counters().packets_received);
        self.reporter.bottleneck(judgement.bottleneck);
        if let Some(receiving) = &self.receiving {
            receiving.disk_rate(judgement.takes_bytes_per_s);
        }
    }
}

impl Shared {
    /// State of a job that has just started.
    pub(super) fn new(root: String) -> Self {
        Self {
            state: TargetState::Joined,
            root,
            leave: None,
            outcome: None,
        }
    }

    pub(super) fn conclude(&mut self, outcome: Outcome) {
        self.state = outcome.state;
        self.outcome = Some(outcome);
    }
}
