//! One job on one target, from order to outcome.
//!
//! Owns the thread that walks the states, and the handle by which the link reaches it. Everything that happens comes
//! to that thread as an event, so there is one place that knows where the target stands.
//!
//! ```text
//! joined ---- manifest proven, disk named and free, wiped ----> receiving <--> repairing (TCP 5003)
//!                                                                  | every block written
//!                                                               verifying -> committing -> done
//!   anything wrong, at any point: failed, with a reason; the disk stays without a partition table
//! ```

use super::AgentOptions;
use super::bulk::BulkClient;
use super::fetch::{Fetched, Fetcher};
use super::progress::Reporter;
use super::writers::{BlockFailure, Finished, Source, Work, Writers};
use crate::disk::deployment::{Deployment, parse_grow};
use crate::disk::{DiskError, device};
use crate::net::control::{AgentMessage, EndAction, Order, Outcome, Unfinished};
use crate::net::hex;
use crate::net::receiving::{Receiving, ReceivingEvent, ReceivingSpec};
use crate::net::socket;
use crate::target::{DiskFacts, TargetState};
use imagefmt::{IdKey, Manifest};
use multicast::{
    BLOCK_BYTES, BlockBuffer, BlockKey, BlockOutcome, BlockSet, Decoder, Epoch, ImageBlocks,
    Layout, ObjectId, SessionId, SessionSecret,
};
use rustls::ClientConfig;
use std::collections::{BTreeSet, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
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
/// Threads that restore, decompress and write.
const MAX_WRITERS: usize = 4;

/// The link's handle on a job.
pub(super) struct Job {
    id: String,
    events: Sender<Event>,
    cancelled: Arc<AtomicBool>,
    shared: Arc<Mutex<Shared>>,
    recorded: Option<EndAction>,
}

/// What the link may know of a running job.
pub(super) struct Shared {
    pub(super) state: TargetState,
    root: String,
    outcome: Option<Outcome>,
}

/// How a job ended, once the console recorded it.
pub(super) struct JobEnd {
    pub(super) done: bool,
    pub(super) after: EndAction,
}

enum Event {
    Receiving(u64, ReceivingEvent),
    Written(Finished),
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
        let shared = Arc::new(Mutex::new(Shared {
            state: TargetState::Joined,
            root: order.root.clone(),
            outcome: None,
        }));
        let id = order.job.clone();
        let reporter = Reporter::new(order.job.clone(), outbox.clone(), Arc::clone(&shared));
        let runner = Runner {
            order,
            console,
            tls,
            runtime: tokio::runtime::Handle::current(),
            offers: options.offers(),
            interface: options.interface,
            inject_loss: options.inject_loss,
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
        };
        let job = Self {
            id,
            events,
            cancelled,
            shared,
            recorded: None,
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

    pub(super) fn cancel(&self, reason: &str) {
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
        })
    }
}

/// Why a job ended without being done.
enum Failure {
    Disk(DiskError),
    Other(String),
}

impl From<DiskError> for Failure {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

impl Failure {
    fn reason(&self) -> String {
        match self {
            Self::Other(text) => text.clone(),
            Self::Disk(error) => match error.hint() {
                Some(hint) => format!("{} ({hint})", error.full()),
                None => error.full(),
            },
        }
    }
}

/// The image once its manifest is proven and the disk is wiped for it.
struct Open {
    deployment: Arc<Deployment>,
    layout: Arc<Layout>,
    writers: Writers,
    done: BlockSet,
    written: u64,
}

struct Runner {
    order: Order,
    console: SocketAddr,
    tls: Arc<ClientConfig>,
    runtime: tokio::runtime::Handle,
    offers: Option<Vec<DiskFacts>>,
    interface: Option<Ipv4Addr>,
    inject_loss: f64,
    outbox: UnboundedSender<AgentMessage>,
    events: Sender<Event>,
    inbox: Receiver<Event>,
    cancelled: Arc<AtomicBool>,
    reporter: Reporter,
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
}

impl Runner {
    fn run(mut self) {
        let disk = self.order.disk.path.clone();
        let result = self.work();
        // Leave the groups before anything slow.
        self.receiving = None;
        let written = self.image.as_ref().map_or(0, |image| image.written);
        let (state, reason, root) = match result {
            Ok(root) => (TargetState::Done, None, Some(root)),
            Err(failure) => (TargetState::Failed, Some(failure.reason()), None),
        };
        let outcome = Outcome {
            job: self.order.job.clone(),
            state,
            step: reason.is_some().then(|| self.reporter.state()),
            reason,
            disk,
            bytes_written: written,
            seconds: self.reporter.seconds(),
            root,
            counters: self.reporter.counters(),
        };
        self.reporter.outcome(outcome);
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
            self.reporter.tick();
            if let Some(image) = self.image.as_ref().filter(|image| image.done.is_full()) {
                let deployment = Arc::clone(&image.deployment);
                return self.prove_and_commit(&deployment);
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

    // -- session ------------------------------------------------------------------------------------------------

    /// Joins the groups of the current order and starts a fetcher for it.
    fn join_session(&mut self) -> Result<(), Failure> {
        self.generation += 1;
        let generation = self.generation;
        let session = &self.order.session;
        let bad = |what: &str| Failure::Other(format!("the order's {what} is unreadable"));
        let secret = hex::decode::<32>(&session.secret).map_err(|_| bad("session secret"))?;
        let epoch = Epoch::new(session.epoch);
        let manifest_bytes =
            u32::try_from(self.order.manifest_bytes).map_err(|_| bad("manifest length"))?;
        let interface = match self.interface {
            Some(interface) => interface,
            None => socket::local_address_towards(self.console).map_err(|e| {
                Failure::Other(format!(
                    "finding the interface towards {}: {e}",
                    self.console
                ))
            })?,
        };
        let image = self.image.as_ref().map(|image| ImageBlocks {
            symbol_counts: image.layout.symbol_counts(),
            have: image.done.clone(),
        });
        let mut seed = [0u8; 8];
        getrandom::fill(&mut seed).map_err(|e| Failure::Other(format!("drawing a seed: {e}")))?;
        let spec = ReceivingSpec {
            session: SessionId(session.id),
            epoch,
            secret: SessionSecret::from_bytes(secret),
            suite: session.suite,
            main: session.main,
            second: session.second,
            interface,
            manifest_bytes,
            image,
            buffers: BUFFERS,
            receivers: session.receivers as usize,
            seed: u64::from_be_bytes(seed),
            inject_loss: self.inject_loss,
        };
        let events = self.events.clone();
        self.heard = true;
        self.receiving = match Receiving::start(spec, move |event| {
            let _ = events.send(Event::Receiving(generation, event));
        }) {
            Ok(receiving) => Some(receiving),
            Err(error) => {
                tracing::warn!(%error, "cannot join the session's groups");
                self.no_multicast();
                None
            }
        };
        let client = BulkClient::new(
            self.console,
            Arc::clone(&self.tls),
            &self.order.bulk,
            &self.order.job,
        );
        let events = self.events.clone();
        self.fetcher = Some(Fetcher::start(&self.runtime, client, move |fetched| {
            let _ = events.send(Event::Fetched(generation, fetched));
        }));
        self.manifest_blocks = 0;
        // What the old fetcher was asked for, the new one is asked again.
        self.manifest_asked = false;
        let flying = std::mem::take(&mut self.bulk_flying);
        self.bulk_wanted.extend(flying);
        Ok(())
    }

    /// The console sent the order again: a reconnect, or a console that was restarted and has new keys.
    fn rejoin(&mut self, order: Order, console: SocketAddr) -> Result<(), Failure> {
        if order.root != self.order.root || order.manifest_digest != self.order.manifest_digest {
            return Err(Failure::Other(
                "the console changed the image in the middle of the job; deploy again".into(),
            ));
        }
        let same_session = order.session.id == self.order.session.id
            && order.session.secret == self.order.session.secret
            && order.bulk.token == self.order.bulk.token;
        self.order = order;
        self.console = console;
        match &self.receiving {
            Some(receiving) if same_session => {
                receiving.full_status();
                Ok(())
            }
            _ => self.join_session(),
        }
    }

    fn received(&mut self, event: ReceivingEvent) -> Result<(), Failure> {
        match event {
            ReceivingEvent::Block { key, slot, buffer } => match key.object {
                ObjectId::Manifest => self.manifest_block(key, slot, buffer)?,
                ObjectId::Image => match &self.image {
                    Some(image) => image.writers.push(Work {
                        block: key.index,
                        generation: self.generation,
                        source: Source::Slot(slot, buffer),
                    }),
                    // The receiver does not take image blocks before `open_image`.
                    None => self.give_back(key, slot, buffer, BlockOutcome::Failed),
                },
            },
            ReceivingEvent::Status(status) => {
                let (job, session) = (self.order.job.clone(), self.order.session.id);
                let _ = self.outbox.send(AgentMessage::Status {
                    job,
                    session,
                    status: *status,
                });
            }
            ReceivingEvent::Health(health) => {
                self.reporter.health(&health);
                if health.heard && !self.heard {
                    self.heard = true;
                    self.reporter.note(None);
                    // Multicast is back: what is not on its way already comes cheaper that way.
                    self.bulk_wanted.clear();
                } else if !health.heard && self.heard {
                    self.no_multicast();
                }
            }
            ReceivingEvent::Failed(error) => {
                tracing::warn!(%error, "receiving failed");
                self.receiving = None;
                self.no_multicast();
            }
        }
        Ok(())
    }

    /// Nothing of the session arrives: say so, and take everything over TCP 5003.
    fn no_multicast(&mut self) {
        self.heard = false;
        self.reporter.note(Some(
            "no multicast arrives here, so the image comes over TCP 5003: check the switch for an IGMP querier".into(),
        ));
        if let Some(image) = &self.image {
            self.bulk_wanted = image
                .done
                .complement()
                .iter()
                .filter(|b| !self.bulk_flying.contains(b))
                .collect();
        }
    }

    fn give_back(&self, key: BlockKey, slot: u16, buffer: BlockBuffer, outcome: BlockOutcome) {
        if let Some(receiving) = &self.receiving {
            receiving.block_done(key, slot, buffer, outcome);
        }
    }

    // -- manifest -----------------------------------------------------------------------------------------------

    fn manifest_block(
        &mut self,
        key: BlockKey,
        slot: u16,
        mut buffer: BlockBuffer,
    ) -> Result<(), Failure> {
        let layout = Layout::single(u32::try_from(self.order.manifest_bytes).unwrap_or(u32::MAX));
        let len = layout
            .blocks()
            .get(key.index as usize)
            .map_or(0, |shape| shape.len);
        let at = key.index as usize * BLOCK_BYTES as usize;
        let mut outcome = BlockOutcome::Failed;
        if let Ok(bytes) = buffer.finish(&mut Decoder::new(), len) {
            // The order's length is bounded, so this allocation is.
            self.manifest_bytes
                .resize(usize::try_from(self.order.manifest_bytes).unwrap_or(0), 0);
            if let Some(place) = self.manifest_bytes.get_mut(at..at + bytes.len()) {
                place.copy_from_slice(bytes);
                self.manifest_blocks += 1;
                outcome = BlockOutcome::Ok;
            }
        }
        self.give_back(key, slot, buffer, outcome);
        if self.image.is_none() && self.manifest_blocks == layout.block_count() {
            let bytes = std::mem::take(&mut self.manifest_bytes);
            if hex::encode(blake3::hash(&bytes).as_bytes()) == self.order.manifest_digest {
                self.open_image(&bytes)?;
            } else {
                tracing::warn!(
                    "the manifest that came by multicast is not the console's; fetching it"
                );
                self.ask_manifest();
            }
        }
        Ok(())
    }

    fn ask_manifest(&mut self) {
        if let Some(fetcher) = self.fetcher.as_ref().filter(|_| !self.manifest_asked) {
            fetcher.manifest(self.order.manifest_bytes);
            self.manifest_asked = true;
        }
    }

    /// The manifest is the console's: name the disk, refuse it or wipe it, and take the image.
    fn open_image(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let unreadable =
            |e: imagefmt::FormatError| Failure::Other(format!("reading the manifest: {e}"));
        let manifest = Arc::new(Manifest::decode(bytes).map_err(unreadable)?);
        if manifest.root().to_string() != self.order.root {
            return Err(Failure::Other(format!(
                "the manifest has root {}, the order {}",
                manifest.root(),
                self.order.root
            )));
        }
        let layout = Arc::new(multicast::pack(
            manifest.entries.iter().map(|entry| entry.body_len),
        ));
        if layout.block_count() != self.order.image_blocks {
            return Err(Failure::Other(
                "console and agent cut the image differently: update the older one".into(),
            ));
        }
        let id_key = match &self.order.id_key {
            None => None,
            Some(text) => Some(IdKey::from_bytes(hex::decode(text).map_err(|_| {
                Failure::Other("the order's image key is unreadable".into())
            })?)),
        };
        let grow = match &self.order.grow {
            None => None,
            Some(text) => {
                Some(parse_grow(text).map_err(|e| Failure::Other(format!("grow {text}: {e}")))?)
            }
        };
        let facts = self.chosen_disk()?;
        self.reporter.disk(&facts);
        let deployment = Arc::new(Deployment::prepare(&facts, None, manifest, id_key, grow)?);
        deployment.wipe()?;
        let events = self.events.clone();
        let threads = std::thread::available_parallelism()
            .map_or(2, usize::from)
            .min(MAX_WRITERS);
        let writers = Writers::start(&deployment, &layout, threads, move |finished| {
            let _ = events.send(Event::Written(finished));
        })
        .map_err(|e| Failure::Other(format!("starting the writers: {e}")))?;
        let done = BlockSet::empty(layout.block_count());
        self.reporter.total(deployment.total_bytes());
        self.reporter.state_is(TargetState::Receiving);
        if let Some(receiving) = &self.receiving {
            receiving.open_image(ImageBlocks {
                symbol_counts: layout.symbol_counts(),
                have: done.clone(),
            });
        }
        self.image = Some(Open {
            deployment,
            layout,
            writers,
            done,
            written: 0,
        });
        if !self.heard {
            self.no_multicast();
        }
        Ok(())
    }

    /// The disk of the order, and no other: offered by this agent, and still what the plan showed.
    fn chosen_disk(&self) -> Result<DiskFacts, Failure> {
        let wanted = &self.order.disk;
        if let Some(offers) = &self.offers
            && !offers.iter().any(|offer| offer.path == wanted.path)
        {
            return Err(Failure::Other(format!(
                "{} is not a disk this agent offers",
                wanted.path
            )));
        }
        let facts = device::describe(std::path::Path::new(&wanted.path))?;
        if facts.size != wanted.size || facts.serial != wanted.serial {
            return Err(Failure::Other(format!(
                "{} is not the disk of the plan any more: planned {} bytes, serial {}; now {}",
                wanted.path,
                wanted.size,
                wanted.serial.as_deref().unwrap_or("none"),
                facts.title()
            )));
        }
        Ok(facts)
    }

    // -- blocks -------------------------------------------------------------------------------------------------

    fn written(&mut self, finished: Finished) -> Result<(), Failure> {
        let Finished {
            block,
            generation,
            slot,
            result,
        } = finished;
        let key = BlockKey::image(block);
        let outcome = if result.is_ok() {
            BlockOutcome::Ok
        } else {
            BlockOutcome::Failed
        };
        match slot {
            Some((slot, buffer)) if generation == self.generation => {
                self.give_back(key, slot, buffer, outcome)
            }
            // By bulk, or of a session that was replaced while the block was being written: news to this receiver.
            _ => {
                self.bulk_flying.remove(&block);
                if let Some(receiving) = self.receiving.as_ref().filter(|_| result.is_ok()) {
                    receiving.bulk_done(key);
                }
            }
        }
        match result {
            Ok(bytes) => {
                self.bulk_wanted.remove(&block);
                if let Some(image) = &mut self.image
                    && image.done.insert(block)
                {
                    image.written += bytes;
                    self.reporter.done(image.written);
                }
                Ok(())
            }
            Err(BlockFailure::Disk(error)) => Err(error.into()),
            Err(BlockFailure::Corrupt(reason)) => self.corrupt_block(block, &reason),
        }
    }

    /// A block that authenticated but is not what the manifest promises: never written, fetched over TCP 5003 instead.
    fn corrupt_block(&mut self, block: u32, reason: &str) -> Result<(), Failure> {
        tracing::warn!(block, %reason, "block does not match the manifest; fetching it over TCP 5003");
        self.reporter.corrupt();
        let tries = self.corrupt.entry(block).or_default();
        *tries += 1;
        if *tries >= CORRUPT_TRIES {
            return Err(Failure::Other(format!(
                "block {block} came damaged {tries} times ({reason}); run `diskcast image check --deep` on the console"
            )));
        }
        // A chunk that spans blocks is only as good as all of them.
        let blocks: BTreeSet<u32> = match &self.image {
            Some(image) => image
                .layout
                .parts(block)
                .flat_map(|part| image.layout.blocks_of(part.piece))
                .collect(),
            None => BTreeSet::from([block]),
        };
        if let Some(image) = &mut self.image {
            for block in &blocks {
                image.done.remove(*block);
            }
        }
        self.bulk_wanted.extend(blocks.iter().chain([&block]));
        Ok(())
    }

    fn want_bulk(&mut self, blocks: Vec<u32>) {
        let Some(image) = &self.image else { return };
        let count = image.layout.block_count();
        self.bulk_wanted.extend(
            blocks.into_iter().filter(|b| {
                *b < count && !image.done.contains(*b) && !self.bulk_flying.contains(b)
            }),
        );
    }

    /// Keeps one batch on its way while anything is wanted over TCP 5003.
    fn fetch_more(&mut self) {
        if self.image.is_none() {
            if !self.heard {
                self.ask_manifest();
            }
            return;
        }
        if self.bulk_flying.is_empty()
            && let Some(fetcher) = &self.fetcher
        {
            let batch: Vec<u32> = self.bulk_wanted.iter().copied().take(BATCH).collect();
            if !batch.is_empty() {
                self.bulk_wanted.retain(|b| !batch.contains(b));
                self.bulk_flying.extend(&batch);
                fetcher.blocks(batch);
            }
        }
        let fetching = !self.bulk_flying.is_empty();
        self.reporter.state_is(if fetching {
            TargetState::Repairing
        } else {
            TargetState::Receiving
        });
    }

    fn fetched(&mut self, fetched: Fetched) -> Result<(), Failure> {
        match fetched {
            Fetched::Manifest(_) if self.image.is_some() => {}
            Fetched::Manifest(bytes) => {
                if hex::encode(blake3::hash(&bytes).as_bytes()) != self.order.manifest_digest {
                    return Err(Failure::Other(
                        "the manifest fetched over TCP 5003 is not the one of the order".into(),
                    ));
                }
                self.open_image(&bytes)?;
            }
            Fetched::Block(block, bytes) => {
                self.reporter.bulk_block();
                if let Some(image) = &self.image {
                    let source = Source::Bulk(bytes);
                    image.writers.push(Work {
                        block,
                        generation: self.generation,
                        source,
                    });
                }
            }
            // Blocks leave `bulk_flying` as they are written.
            Fetched::BatchEnd => {}
            Fetched::Failed(reason) => {
                return Err(Failure::Other(format!("fetching over TCP 5003: {reason}")));
            }
        }
        Ok(())
    }

    // -- the end ------------------------------------------------------------------------------------------------

    fn prove_and_commit(&mut self, deployment: &Deployment) -> Result<String, Failure> {
        self.receiving = None;
        self.fetcher = None;
        self.reporter.state_is(TargetState::Verifying);
        deployment.flush()?;
        let threads = std::thread::available_parallelism()
            .map_or(2, usize::from)
            .min(MAX_WRITERS);
        let reporter = &self.reporter;
        let proof = deployment.verify(threads, &|done, _| reporter.verified(done), &|| {
            self.cancelled.load(Ordering::Relaxed)
        })?;
        self.reporter.state_is(TargetState::Committing);
        deployment.commit(&proof)?;
        for note in deployment.notes() {
            let _ = self.outbox.send(AgentMessage::Log {
                job: Some(self.order.job.clone()),
                text: note.clone(),
            });
        }
        Ok(proof.root().to_string())
    }
}

impl Shared {
    pub(super) fn conclude(&mut self, outcome: Outcome) {
        self.state = outcome.state;
        self.outcome = Some(outcome);
    }
}
