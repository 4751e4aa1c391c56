//! A room in one thread: a real sender, real receivers, virtual time, one seed.
//!
//! Safety is checked at every step: no block is handed over without `k` distinct symbols, no
//! packet number is used twice, no parity index twice in a go, bounds of a status hold.

use crate::link::{Faults, Link};
use crate::rng::Rng;
use multicast::status::{MAX_DEFICITS, MAX_RANGES};
use multicast::{
    BlockKey, BlockOutcome, BlockSet, Disposition, Epoch, Flags, ImageBlocks, Instant, Lane,
    ObjectId, Receiver, ReceiverConfig, ReceiverEvent, ReceiverId, ReplayWindow, Sender,
    SenderConfig, SenderEvent, SessionId, Status, Transmit, TransmitKind, status_interval,
};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

const SESSION: SessionId = SessionId(7);
const LATENCY_US: u64 = 150;
const CONTROL_LATENCY_US: u64 = 300;
const OPEN_US: u64 = 1_000;
const BULK_BLOCK_US: u64 = 9_000;

/// What a run is made of.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) seed: u64,
    pub(crate) manifest: Vec<u16>,
    pub(crate) image: Vec<u16>,
    pub(crate) cap: u64,
    pub(crate) start: u64,
    pub(crate) buffers: u16,
    pub(crate) nodes: Vec<NodeSetup>,
    /// A switch port that all packets share: bytes a second and bytes of queue.
    pub(crate) bottleneck: Option<(u64, u64)>,
    pub(crate) deadline_s: u64,
    pub(crate) proactive_max: Option<u16>,
}

/// Time for a block, and which blocks the disk does not hold.
type Look = (u64, fn(u32) -> bool);

#[derive(Clone, Debug)]
pub(crate) struct NodeSetup {
    pub(crate) faults: Faults,
    pub(crate) join_us: u64,
    /// Time the disk takes for a full block.
    pub(crate) disk_us: u64,
    /// Crashes at the first, returns at the second with what its disk has.
    pub(crate) crash_us: Option<(u64, u64)>,
    /// No packet of the session arrives in between.
    pub(crate) partition_us: Option<(u64, u64)>,
    /// Blocks whose first check fails, in parts per million.
    pub(crate) bad_ppm: u64,
    /// Looks through its disk first: time for a block, and which blocks it will not find.
    pub(crate) look: Option<Look>,
}

impl Default for NodeSetup {
    fn default() -> Self {
        Self {
            faults: Faults::default(),
            join_us: 0,
            disk_us: 2_000,
            crash_us: None,
            partition_us: None,
            bad_ppm: 0,
            look: None,
        }
    }
}

impl Setup {
    /// `receivers` like ones, `blocks` full blocks, 1 Gb/s.
    pub(crate) fn new(seed: u64, receivers: usize, blocks: usize) -> Self {
        Self {
            seed,
            manifest: vec![200],
            image: vec![745; blocks],
            cap: 125_000_000,
            start: 125_000_000,
            buffers: 64,
            nodes: vec![NodeSetup::default(); receivers],
            bottleneck: None,
            deadline_s: 300,
            proactive_max: None,
        }
    }

    pub(crate) fn each(mut self, change: impl Fn(usize, &mut NodeSetup)) -> Self {
        for (index, node) in self.nodes.iter_mut().enumerate() {
            change(index, node);
        }
        self
    }
}

enum Event {
    Join(usize),
    Crash(usize),
    Packet(Transmit),
    PacketTo(usize, u32, Transmit),
    Status(ReceiverId, u32, Box<Status>),
    Wake(usize, u32),
    Open(usize, u32),
    Written(usize, u32, BlockKey),
    Bulk(usize, u32, BlockKey),
    Looked(usize, u32, BlockKey),
}

struct Node {
    setup: NodeSetup,
    /// Life number: events of an earlier life are void.
    life: u32,
    receiver: Option<Receiver>,
    replay: ReplayWindow,
    link: Link,
    /// Distinct symbols by slot, kept independently of the receiver.
    slots: Vec<(Option<BlockKey>, [u64; 16])>,
    disk_free_us: u64,
    /// What the disk holds: survives a crash.
    disk: BTreeSet<BlockKey>,
    failed: BTreeSet<BlockKey>,
    wake_us: u64,
    rng: Rng,
    done_us: Option<u64>,
    bulk_blocks: u64,
}

pub(crate) struct World {
    setup: Setup,
    now_us: u64,
    sender: Sender,
    nodes: Vec<Node>,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    link_free_us: u64,
    next_number: [u64; 2],
    parity_seen: BTreeMap<BlockKey, BTreeSet<u16>>,
    first_source_us: Option<u64>,
    last_source_us: u64,
    complete: BTreeSet<ReceiverId>,
    passes_noted: u64,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// Transmissions of a symbol of the image for each source symbol.
    pub(crate) tau: f64,
    pub(crate) repair_share: f64,
    /// When each receiver had all, from the first source packet, in seconds.
    pub(crate) done_s: Vec<f64>,
    pub(crate) bulk_blocks: Vec<u64>,
    pub(crate) counters: multicast::SenderCounters,
    pub(crate) rate: u64,
    pub(crate) skipped: u64,
    /// Times the end of a pass was noted.
    pub(crate) passes_noted: u64,
}

impl World {
    pub(crate) fn new(setup: Setup) -> Self {
        let mut config = SenderConfig {
            session: SESSION,
            epoch: Epoch::default(),
            suite: multicast::Suite::default(),
            manifest: setup.manifest.clone(),
            image: setup.image.clone(),
            rate_cap_bytes_per_s: setup.cap,
            start_rate_bytes_per_s: setup.start,
            repair_share_percent: 15,
            proactive_max: 64,
            bulk_receivers: 2,
            pace: multicast::Pace::default(),
        };
        if let Some(most) = setup.proactive_max {
            config.proactive_max = most;
        }
        let mut rng = Rng::new(setup.seed);
        let nodes = setup
            .nodes
            .iter()
            .map(|node| Node {
                setup: node.clone(),
                life: 0,
                receiver: None,
                replay: ReplayWindow::new(),
                link: Link::new(node.faults, rng.next()),
                slots: vec![(None, [0; 16]); usize::from(setup.buffers)],
                disk_free_us: 0,
                disk: BTreeSet::new(),
                failed: BTreeSet::new(),
                wake_us: u64::MAX,
                rng: Rng::new(rng.next()),
                done_us: None,
                bulk_blocks: 0,
            })
            .collect();
        let mut world = Self {
            now_us: 0,
            sender: Sender::new(config, Instant::ZERO),
            nodes,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            sequence: 0,
            link_free_us: 0,
            next_number: [0; 2],
            parity_seen: BTreeMap::new(),
            first_source_us: None,
            last_source_us: 0,
            complete: BTreeSet::new(),
            passes_noted: 0,
            setup,
        };
        for index in 0..world.nodes.len() {
            let node = world.nodes[index].setup.clone();
            world.at(node.join_us, Event::Join(index));
            if let Some((crash, back)) = node.crash_us {
                world.at(crash, Event::Crash(index));
                world.at(back, Event::Join(index));
            }
        }
        world
    }

    /// Runs until every receiver has all; panics with the seed past the deadline.
    pub(crate) fn run(mut self) -> Outcome {
        let deadline = self.setup.deadline_s * 1_000_000;
        loop {
            self.drive_sender();
            if self.is_over() {
                return self.outcome();
            }
            let next_event = self.queue.peek().map(|Reverse((at, _))| *at);
            let next_send = self
                .sender
                .poll_timeout()
                .map(|at| at.as_micros().max(self.now_us + 1));
            let next = [next_event, next_send].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next < deadline) else {
                self.fail("not everybody finished");
            };
            self.now_us = next.max(self.now_us);
            while let Some(Reverse((at, sequence))) = self.queue.peek().copied() {
                if at > self.now_us {
                    break;
                }
                self.queue.pop();
                if let Some(event) = self.events.remove(&(at, sequence)) {
                    self.handle(event);
                }
            }
        }
    }

    fn is_over(&self) -> bool {
        self.complete.len() == self.nodes.len()
            && self.nodes.iter().all(|node| {
                node.receiver
                    .as_ref()
                    .is_some_and(Receiver::is_all_complete)
                    && node
                        .setup
                        .crash_us
                        .is_none_or(|(_, back)| back < self.now_us)
            })
    }

    fn fail(&self, what: &str) -> ! {
        let lacking: Vec<_> = self
            .nodes
            .iter()
            .enumerate()
            .filter_map(|(index, node)| {
                let receiver = node.receiver.as_ref()?;
                (!receiver.is_all_complete()).then(|| {
                    let missing = receiver.missing(ObjectId::Image);
                    (index, missing.len(), missing.first().copied())
                })
            })
            .take(8)
            .collect();
        panic!(
            "seed {}: {what} at {} us; lacking (receiver, blocks, first): {lacking:?}; {:?} {:?}",
            self.setup.seed,
            self.now_us,
            self.sender.progress(),
            self.sender.counters()
        );
    }

    fn check(&self, holds: bool, what: &str) {
        if !holds {
            self.fail(what);
        }
    }

    fn now(&self) -> Instant {
        Instant::from_micros(self.now_us)
    }

    fn at(&mut self, at_us: u64, event: Event) {
        let key = (at_us.max(self.now_us), self.sequence);
        self.sequence += 1;
        self.queue.push(Reverse(key));
        self.events.insert(key, event);
    }

    fn after(&mut self, delay_us: u64, event: Event) {
        self.at(self.now_us + delay_us, event);
    }

    fn drive_sender(&mut self) {
        while let Some(transmit) = self.sender.poll_transmit(self.now()) {
            self.check_transmit(&transmit);
            self.send(transmit);
        }
        while let Some(event) = self.sender.poll_event() {
            match event {
                SenderEvent::ReceiverComplete(id) => {
                    let node = &self.nodes[id.0 as usize];
                    let whole = node
                        .receiver
                        .as_ref()
                        .is_some_and(Receiver::is_all_complete);
                    self.check(whole, "sender takes a receiver for complete that is not");
                    self.complete.insert(id);
                }
                SenderEvent::PassEnded { .. } => self.passes_noted += 1,
                SenderEvent::UseBulk { receiver, blocks } => {
                    let index = receiver.0 as usize;
                    let life = self.nodes[index].life;
                    for (place, block) in (1..).zip(blocks) {
                        self.after(place * BULK_BLOCK_US, Event::Bulk(index, life, block));
                    }
                }
                _ => {}
            }
        }
    }

    fn check_transmit(&mut self, transmit: &Transmit) {
        let lane = usize::from(transmit.packet_number.lane() == Lane::Second);
        self.check(
            transmit.packet_number.counter() == self.next_number[lane]
                && transmit.packet_number.lane() == transmit.lane,
            "packet numbers do not go up by one",
        );
        self.next_number[lane] += 1;
        let header = transmit.header(SESSION, Epoch::default());
        self.check(
            multicast::Header::parse(&header.emit()) == Ok(header),
            "header does not parse",
        );
        match transmit.kind {
            TransmitKind::Source => {
                if transmit.symbol == 0 {
                    self.parity_seen.remove(&transmit.block);
                }
                if transmit.block.object == ObjectId::Image {
                    self.first_source_us.get_or_insert(self.now_us);
                    self.last_source_us = self.now_us;
                }
            }
            TransmitKind::Proactive | TransmitKind::Repair => {
                let fresh = self
                    .parity_seen
                    .entry(transmit.block)
                    .or_default()
                    .insert(transmit.symbol);
                self.check(fresh, "parity index twice in a go");
            }
            TransmitKind::Heartbeat => {
                let bare = transmit.k == 0 && !transmit.flags.has(Flags::REPAIR);
                self.check(bare, "heartbeat with a symbol");
            }
        }
    }

    fn send(&mut self, transmit: Transmit) {
        let mut delay = LATENCY_US;
        if let Some((rate, queue)) = self.setup.bottleneck {
            let backlog_us = self.link_free_us.saturating_sub(self.now_us);
            if backlog_us * rate / 1_000_000 > queue {
                return;
            }
            // Tenths of microseconds would be lost at high rates: carry nanoseconds.
            let busy_us = (transmit.wire_bytes() * 1_000_000).div_ceil(rate);
            self.link_free_us = self.link_free_us.max(self.now_us) + busy_us;
            delay += self.link_free_us - self.now_us;
        }
        self.after(delay, Event::Packet(transmit));
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Join(index) => self.join(index),
            Event::Crash(index) => {
                self.nodes[index].receiver = None;
                self.nodes[index].life += 1;
                self.complete
                    .remove(&ReceiverId(u32::try_from(index).unwrap()));
            }
            Event::Packet(transmit) => {
                for index in 0..self.nodes.len() {
                    self.arrive(index, &transmit);
                }
            }
            Event::PacketTo(index, life, transmit) => {
                if self.nodes[index].life == life {
                    self.deliver(index, &transmit);
                }
            }
            Event::Status(id, life, status) => {
                if self.nodes[id.0 as usize].life == life {
                    self.sender.handle_status(self.now(), id, &status);
                }
            }
            Event::Wake(index, life) => {
                if self.nodes[index].life == life {
                    self.nodes[index].wake_us = u64::MAX;
                    self.drive_node(index);
                }
            }
            Event::Open(index, life) => self.open(index, life),
            Event::Looked(index, life, block) => self.looked(index, life, block),
            Event::Written(index, life, block) => self.written(index, life, block),
            Event::Bulk(index, life, block) => {
                if self.nodes[index].life != life {
                    return;
                }
                let now = self.now();
                let node = &mut self.nodes[index];
                node.bulk_blocks += 1;
                node.disk.insert(block);
                if let Some(receiver) = &mut node.receiver {
                    receiver.handle_bulk_block(now, block);
                }
                self.drive_node(index);
            }
        }
    }

    fn join(&mut self, index: usize) {
        let now = self.now();
        let id = ReceiverId(u32::try_from(index).unwrap());
        let count = self.nodes.len();
        let node = &mut self.nodes[index];
        node.life += 1;
        node.replay = ReplayWindow::new();
        node.disk_free_us = 0;
        node.wake_us = u64::MAX;
        node.disk.retain(|block| block.object == ObjectId::Image);
        node.receiver = Some(Receiver::new(
            ReceiverConfig {
                session: SESSION,
                manifest: self.setup.manifest.clone(),
                image: None,
                buffers: self.setup.buffers,
                status_interval: status_interval(count),
                seed: node.rng.next(),
            },
            now,
        ));
        self.sender.add_receiver(now, id);
        self.drive_node(index);
    }

    fn open(&mut self, index: usize, life: u32) {
        let len = u32::try_from(self.setup.image.len()).unwrap();
        let node = &mut self.nodes[index];
        if node.life != life {
            return;
        }
        let mut have = BlockSet::empty(len);
        for block in &node.disk {
            if block.object == ObjectId::Image {
                have.insert(block.index);
            }
        }
        let undecided = match node.setup.look {
            Some(_) => BlockSet::full(len),
            None => BlockSet::empty(0),
        };
        if let Some(receiver) = &mut node.receiver {
            receiver.open_image(ImageBlocks {
                symbol_counts: self.setup.image.clone(),
                have,
                undecided,
            });
        }
        if let Some((look_us, _)) = node.setup.look {
            for block in 0..len {
                let at = look_us * u64::from(block + 1);
                self.after(at, Event::Looked(index, life, BlockKey::image(block)));
            }
        }
        self.drive_node(index);
    }

    fn arrive(&mut self, index: usize, transmit: &Transmit) {
        let now_us = self.now_us;
        let node = &mut self.nodes[index];
        if node.receiver.is_none()
            || node
                .setup
                .partition_us
                .is_some_and(|(from, to)| (from..to).contains(&now_us))
        {
            return;
        }
        let life = node.life;
        for delay in node.link.pass().into_iter().flatten() {
            if delay == 0 {
                self.deliver(index, transmit);
            } else {
                self.after(delay, Event::PacketTo(index, life, *transmit));
            }
        }
    }

    fn deliver(&mut self, index: usize, transmit: &Transmit) {
        let now = self.now();
        let node = &mut self.nodes[index];
        let Some(receiver) = &mut node.receiver else {
            return;
        };
        if node.replay.take(transmit.packet_number).is_err() {
            return;
        }
        let header = transmit.header(SESSION, Epoch::default());
        if let Disposition::Store { slot, first } = receiver.handle_packet(now, &header) {
            let place = &mut node.slots[usize::from(slot)];
            if first {
                *place = (Some(transmit.block), [0; 16]);
            }
            let fresh = place.1[usize::from(transmit.symbol / 64)] >> (transmit.symbol % 64) & 1;
            place.1[usize::from(transmit.symbol / 64)] |= 1 << (transmit.symbol % 64);
            let right = place.0 == Some(transmit.block) && fresh == 0;
            self.check(right, "symbol stored in another block's slot, or twice");
        }
        let node = &self.nodes[index];
        let soon = node
            .receiver
            .as_ref()
            .and_then(Receiver::poll_timeout)
            .is_some_and(|at| at.as_micros() < node.wake_us);
        if soon
            || matches!(
                transmit.kind,
                TransmitKind::Source | TransmitKind::Repair | TransmitKind::Proactive
            )
        {
            self.drive_node(index);
        }
    }

    fn drive_node(&mut self, index: usize) {
        let now = self.now();
        loop {
            let node = &mut self.nodes[index];
            let Some(receiver) = &mut node.receiver else {
                return;
            };
            match receiver.poll_event() {
                Some(ReceiverEvent::BlockReady {
                    block,
                    slot,
                    needs_parity: _,
                }) => self.ready(index, block, slot),
                Some(ReceiverEvent::ObjectComplete(ObjectId::Manifest)) => {
                    let life = node.life;
                    self.after(OPEN_US, Event::Open(index, life));
                }
                Some(ReceiverEvent::ObjectComplete(ObjectId::Image)) => {
                    node.done_us = Some(self.now_us);
                }
                Some(_) => {}
                None => break,
            }
        }
        let id = ReceiverId(u32::try_from(index).unwrap());
        let node = &mut self.nodes[index];
        let life = node.life;
        let mut say = None;
        let mut wake = None;
        if let Some(receiver) = &mut node.receiver {
            say = receiver.poll_status(now);
            if let Some(at) = receiver.poll_timeout()
                && at.as_micros() < node.wake_us
            {
                node.wake_us = at.as_micros().max(self.now_us + 1);
                wake = Some(node.wake_us);
            }
        }
        if let Some(at) = wake {
            self.at(at, Event::Wake(index, life));
        }
        if let Some(status) = say {
            self.check_status(&status);
            self.after(
                CONTROL_LATENCY_US,
                Event::Status(id, life, Box::new(status)),
            );
        }
    }

    fn check_status(&self, status: &Status) {
        self.check(
            status.deficits.len() <= MAX_DEFICITS
                && status.completed.len() <= MAX_RANGES
                && status.held.len() <= MAX_RANGES
                && status.free_buffers <= u32::from(self.setup.buffers),
            "a status beyond its bounds",
        );
    }

    fn ready(&mut self, index: usize, block: BlockKey, slot: u16) {
        let k = match block.object {
            ObjectId::Manifest => self.setup.manifest[block.index as usize],
            ObjectId::Image => self.setup.image[block.index as usize],
        };
        let (holds, symbols) = self.nodes[index].slots[usize::from(slot)];
        let distinct: u32 = symbols.iter().map(|word| word.count_ones()).sum();
        self.check(
            holds == Some(block) && distinct == u32::from(k),
            "block ready without k distinct symbols",
        );
        let node = &mut self.nodes[index];
        // Disks hesitate: half to one and a half of the mean.
        let mean = node.setup.disk_us * u64::from(k) / 745;
        let busy = mean / 2 + node.rng.below(mean + 1);
        node.disk_free_us = node.disk_free_us.max(self.now_us) + busy;
        let (at, life) = (node.disk_free_us, node.life);
        self.at(at, Event::Written(index, life, block));
    }

    fn written(&mut self, index: usize, life: u32, block: BlockKey) {
        let now = self.now();
        let node = &mut self.nodes[index];
        if node.life != life {
            return;
        }
        let bad = node.rng.chance(node.setup.bad_ppm) && node.failed.insert(block);
        let outcome = if bad {
            BlockOutcome::Failed
        } else {
            node.disk.insert(block);
            BlockOutcome::Ok
        };
        if let Some(receiver) = &mut node.receiver {
            receiver.handle_block_done(now, block, outcome);
        }
        self.drive_node(index);
    }

    fn looked(&mut self, index: usize, life: u32, block: BlockKey) {
        let now = self.now();
        let node = &mut self.nodes[index];
        if node.life != life {
            return;
        }
        let differs = node
            .setup
            .look
            .is_some_and(|(_, differs)| differs(block.index));
        if let Some(receiver) = &mut node.receiver {
            if differs {
                receiver.handle_wanted_block(now, block);
            } else {
                node.disk.insert(block);
                receiver.handle_kept_block(now, block);
            }
        }
        self.drive_node(index);
    }

    fn outcome(self) -> Outcome {
        let counters = self.sender.counters();
        let symbols: u64 = self.setup.image.iter().map(|k| u64::from(*k)).sum();
        let sent = counters.source + counters.proactive + counters.repair;
        let from = self.first_source_us.unwrap_or(0);
        Outcome {
            tau: sent as f64 / symbols as f64,
            repair_share: (counters.repair + counters.proactive) as f64 / symbols as f64,
            done_s: self
                .nodes
                .iter()
                .map(|node| node.done_us.unwrap_or(0).saturating_sub(from) as f64 / 1e6)
                .collect(),
            bulk_blocks: self.nodes.iter().map(|node| node.bulk_blocks).collect(),
            counters,
            rate: self.sender.rate_bytes_per_s(),
            passes_noted: self.passes_noted,
            skipped: self
                .nodes
                .iter()
                .filter_map(|node| node.receiver.as_ref())
                .map(|receiver| receiver.counters().skipped)
                .sum(),
        }
    }
}

/// Longest time in which a lossless pass at `cap` can end, in seconds.
pub(crate) fn pass_seconds(setup: &Setup) -> f64 {
    let symbols: u64 = setup.image.iter().map(|k| u64::from(*k)).sum();
    (symbols * 1514) as f64 / setup.cap as f64
}
