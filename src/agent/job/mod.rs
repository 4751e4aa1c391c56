//! One job on one target, from order to outcome.
//!
//! Owns the thread that walks the states, and the handle by which the link reaches it. Everything that happens comes
//! to that thread as an event, so there is one place that knows where the target stands.
//!
//! ```text
//! joined ---- manifest proven, disk named and free, wiped ----> receiving <--> repairing (TCP 5003)
//!                                                                  | every block written
//!                                             verifying -> applying (template) -> committing -> done
//!   anything wrong, at any point: failed, with a reason; the disk stays without a partition table (the partition without a file system)
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
use crate::disk::deployment::Deployment;
use crate::disk::readback::ReadBack;
use crate::net::control::{AgentMessage, EndAction, Order, Outcome, Unfinished};
use crate::net::receiving::{InjectedLoss, Receiving, ReceivingEvent};
use crate::net::sources::Sources;
use crate::target::{DiskFacts, DiskNow, TargetState};
use multicast::{BlockSet, Layout};
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

/// Block buffers of a session: 64 MiB, about half a second of a gigabit link.
const BUFFERS: u16 = 64;
/// Blocks asked for over TCP 5003 at once.
const BATCH: usize = 16;
/// A block that does not match the manifest so many times is damaged at the console.
const CORRUPT_TRIES: u32 = 3;
/// Longest manifest accepted: 16 TiB of used 1 MiB chunks.
const MAX_MANIFEST: u64 = 1 << 30;
/// Seconds without a new block after which a batch of what is missing is fetched over TCP 5003: whatever the session
/// waits for, this machine does not wait with it for ever.
const STALL_SECONDS: f64 = 30.0;
/// Threads that restore, decompress and write: two more than processors, since a direct write keeps its thread waiting.
const MAX_WRITERS: usize = 6;
/// Threads that read back.
const MAX_READERS: usize = 2;

/// The link's handle on a job.
pub(super) struct Job {
    id: String,
    events: Sender<Event>,
    cancelled: Arc<AtomicBool>,
    shared: Arc<Mutex<Shared>>,
    recorded: Option<EndAction>,
    /// The disk the order named.
    disk: PathBuf,
}

/// What the link may know of a running job.
pub(super) struct Shared {
    pub(super) state: TargetState,
    root: String,
    /// Why the console wants it to leave the job.
    leave: Option<String>,
    pub(super) outcome: Option<Outcome>,
}

/// How a job ended, once the console recorded it.
pub(super) struct JobEnd {
    pub(super) done: bool,
    pub(super) after: EndAction,
    /// The disk the order named.
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
    /// Starts work on an order.
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

    /// For the hello of a new connection.
    pub(super) fn unfinished(&self) -> Unfinished {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        Unfinished {
            job: self.id.clone(),
            root: shared.root.clone(),
            state: shared.state,
            outcome: shared.outcome.clone(),
        }
    }

    /// The console (perhaps a new one after a restart) sent the order again: go on with what is there.
    pub(super) fn order_again(&mut self, order: Order, console: SocketAddr) {
        let _ = self.events.send(Event::Order(Box::new(order), console));
    }

    /// Asks it to leave the job. What has begun to commit ends that first: either way its outcome is the answer.
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

    /// Present once the outcome was recorded by the console.
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

/// The image once its manifest is proven and the disk is wiped for it.
struct Open {
    deployment: Arc<Deployment>,
    layout: Arc<Layout>,
    writers: Writers,
    read_back: Arc<ReadBack>,
    load: Arc<Load>,
    /// The counters at the last look at them.
    mark: Mark,
    search: Search,
    done: BlockSet,
    written: u64,
    kept_bytes: u64,
    /// Ends when the free space is discarded; the commit waits for it.
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
    /// Counts sessions: events of an earlier one are stale.
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
    /// Who sends on the session.
    sources: Sources,
    /// When the last block came, in seconds of the job.
    news_at: f64,
    /// State of the disk as of the last write.
    disk_now: DiskNow,
    /// The disk by model, serial and size, once it was looked at.
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
        // Leave the groups before anything slow.
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

    /// A partition that was overwritten has no table to hold back: what ended before its commit shows nothing of it.
    fn blank_again(&mut self) {
        let Some(image) = self
            .image
            .as_ref()
            .filter(|_| self.disk_now == DiskNow::PartitionBlank)
        else {
            return;
        };
        // Why it failed is what the technician has to know; that it could not be undone comes beside it.
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
            // A session that was replaced: its buffers die with its thread.
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

    /// Everything is written and most of it read back: the rest, and then the sectors that make the disk bootable.
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
            // It ends by itself, and what it failed at is nothing that was asked for.
            let _ = discard.join();
        }
        let deployment = Arc::clone(&image.deployment);
        self.make_itself(&deployment)?;
        // From here on nobody can have it back: the console waits for what becomes of the disk.
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

    /// Twice a second: what holds this machine back, for its row and for the sender.
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
    /// A job that has just begun.
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
