//! The event loop: the order of actions, and the delivery of packets.

use crate::check::{SenderWatch, Wrong};
use crate::events::{Event, Queue, Row};
use crate::link::Tables;
use crate::node::{Moment, Node, Shared};
use crate::report::{Failure, Report};
use crate::rng::Rng;
use crate::room::Room;
use multicast::{
    BlockKey, Epoch, Instant, ObjectId, ReceiverId, SYMBOL_BYTES, Sender, SenderConfig,
    SenderCounters, SenderEvent, SessionId, Suite, Transmit, TransmitKind, status_interval,
};

/// Time from the console to a target, in microseconds.
const LATENCY_US: u64 = 150;
/// Shortest time, and length of the random part, in which a target notices a dead console and finds
/// the new one, in microseconds: 0.3 to 2 seconds in total.
const REJOIN_US: (u64, u64) = (300_000, 1_700_000);
/// Packets are delivered in parcels of this fraction of the status interval: 1 to 5 ms. That hardly
/// matters for reports every 100 to 500 ms, and makes a run much cheaper.
const PARCELS: u64 = 100;
/// Largest number of targets named in a failure.
const NAMED: usize = 8;

pub(crate) struct World {
    room: Room,
    now_us: u64,
    /// Number of restarts of the console so far.
    console: u32,
    sender: Sender,
    watch: SenderWatch,
    shared: Shared,
    nodes: Vec<Node>,
    queue: Queue,
    /// Packets on their way, delivered by the next event [`Event::Parcel`].
    parcel: Vec<Row>,
    rng: Rng,
    switch_free_us: u64,
    bulk_free_us: u64,
    /// For each target, true if the sender regards it as complete.
    complete: Vec<bool>,
    complete_count: usize,
    /// Time of the last scheduled restart of a target or of the console, in microseconds.
    quiet_from_us: u64,
    first_source_us: Option<u64>,
    deficits: u64,
    statuses: u64,
    passes: u64,
    earlier: SenderCounters,
}

fn session_of(console: u32) -> (SessionId, Epoch) {
    let epoch = u8::try_from(console % 4).unwrap_or(0);
    (SessionId(console.saturating_add(7)), Epoch::new(epoch))
}

impl World {
    pub(crate) fn new(room: &Room) -> Self {
        let mut rng = Rng::new(room.seed);
        let (session, epoch) = session_of(0);
        let shared = Shared {
            session,
            epoch,
            manifest: room.manifest.clone(),
            image: room.image.clone(),
            buffers: room.buffers,
            status_interval: status_interval(room.targets.len()),
        };
        let mut queue = Queue::default();
        let mut quiet_from_us = 0;
        let mut tables = Tables::default();
        let mut nodes = Vec::with_capacity(room.targets.len());
        for (index, target) in (0..).zip(&room.targets) {
            queue.push(target.join_us, Event::Join(index));
            if let Some((crash, back)) = target.crash_us {
                queue.push(crash, Event::Crash(index));
                queue.push(back.max(crash), Event::Join(index));
                quiet_from_us = quiet_from_us.max(back);
            }
            nodes.push(Node::new(
                index,
                target.clone(),
                &shared,
                &mut tables,
                &mut rng,
            ));
        }
        for at in &room.console_restarts_us {
            queue.push(*at, Event::ConsoleRestart);
            quiet_from_us = quiet_from_us.max(*at);
        }
        Self {
            now_us: 0,
            console: 0,
            sender: sender(room, session, epoch, Instant::ZERO),
            watch: SenderWatch::new(session, epoch, room.manifest.len(), room.image.len()),
            shared,
            complete: vec![false; nodes.len()],
            nodes,
            queue,
            parcel: Vec::new(),
            rng,
            switch_free_us: 0,
            bulk_free_us: 0,
            complete_count: 0,
            quiet_from_us,
            first_source_us: None,
            deficits: 0,
            statuses: 0,
            passes: 0,
            earlier: SenderCounters::default(),
            room: room.clone(),
        }
    }

    pub(crate) fn run(mut self) -> Result<Report, Failure> {
        loop {
            self.drive_sender()?;
            if self.is_over() {
                return Ok(self.report());
            }
            let next_send = self
                .sender
                .poll_timeout()
                .map(|at| at.as_micros().max(self.now_us + 1));
            let next = [self.queue.next_at(), next_send]
                .into_iter()
                .flatten()
                .min()
                .filter(|next| *next < self.room.limit_us);
            let Some(next) = next else {
                return Err(self.unfinished());
            };
            self.now_us = next.max(self.now_us);
            while let Some(event) = self.queue.pop_due(self.now_us) {
                self.handle(event)?;
            }
        }
    }

    fn is_over(&self) -> bool {
        self.complete_count == self.nodes.len()
            && self.now_us >= self.quiet_from_us
            && self.nodes.iter().all(Node::is_complete)
    }

    fn now(&self) -> Instant {
        Instant::from_micros(self.now_us)
    }

    // ---- the console ---------------------------------------------------------------------

    fn drive_sender(&mut self) -> Result<(), Failure> {
        while let Some(transmit) = self.sender.poll_transmit(self.now()) {
            let checked = self.watch.check(&transmit);
            checked.map_err(|what| self.wrong("the console", what))?;
            if transmit.kind == TransmitKind::Source && transmit.block.object == ObjectId::Image {
                self.first_source_us.get_or_insert(self.now_us);
            }
            if let Some(queued_us) = self.pass_switch(&transmit) {
                if self.parcel.is_empty() {
                    let collect_us = self.shared.status_interval.as_micros() / PARCELS;
                    let delay_us = LATENCY_US.saturating_add(queued_us + collect_us);
                    let console = self.console;
                    self.queue.push(
                        self.now_us.saturating_add(delay_us),
                        Event::Parcel { console },
                    );
                }
                add_to_rows(&mut self.parcel, transmit);
            }
        }
        while let Some(event) = self.sender.poll_event() {
            self.heed(event)?;
        }
        Ok(())
    }

    /// Time in microseconds that the packet waits at the switch; `None` if its queue is full.
    fn pass_switch(&mut self, transmit: &Transmit) -> Option<u64> {
        let Some(switch) = self.room.switch else {
            return Some(0);
        };
        let rate = switch.rate_bytes_per_s.max(1);
        let backlog_us = self.switch_free_us.saturating_sub(self.now_us);
        if backlog_us.saturating_mul(rate) / 1_000_000 > switch.queue_bytes {
            return None;
        }
        let busy_us = (transmit.wire_bytes() * 1_000_000).div_ceil(rate);
        self.switch_free_us = self.switch_free_us.max(self.now_us).saturating_add(busy_us);
        Some(self.switch_free_us - self.now_us)
    }

    fn heed(&mut self, event: SenderEvent) -> Result<(), Failure> {
        match event {
            SenderEvent::ReceiverComplete(id) => {
                let index = id.0 as usize;
                if !self.nodes.get(index).is_some_and(Node::is_complete) {
                    return Err(
                        self.wrong("the console", "it takes a target for complete that is not")
                    );
                }
                self.set_complete(index, true);
            }
            SenderEvent::UseBulk { receiver, blocks } => self.send_bulk(receiver, &blocks),
            SenderEvent::PassEnded { .. } => self.passes += 1,
            SenderEvent::Demoted { receiver, .. } => {
                if let Some(node) = self.nodes.get_mut(receiver.0 as usize) {
                    node.report.demoted += 1;
                }
            }
            SenderEvent::Promoted(receiver) => {
                if let Some(node) = self.nodes.get_mut(receiver.0 as usize) {
                    node.report.promoted += 1;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Schedules bulk transfers. They share one link with the bandwidth of the cap, one after the
    /// other.
    fn send_bulk(&mut self, receiver: ReceiverId, blocks: &[BlockKey]) {
        let Some(life) = self.nodes.get(receiver.0 as usize).map(Node::life) else {
            return;
        };
        for block in blocks {
            let counts = match block.object {
                ObjectId::Manifest => &self.room.manifest,
                ObjectId::Image => &self.room.image,
            };
            let k = counts.get(block.index as usize).copied().unwrap_or(0);
            let busy_us = (u64::from(k) * SYMBOL_BYTES as u64)
                .saturating_mul(1_000_000)
                .checked_div(self.room.rate_cap_bytes_per_s)
                .unwrap_or(0);
            self.bulk_free_us = self.bulk_free_us.max(self.now_us).saturating_add(busy_us);
            let event = Event::Bulk {
                target: receiver.0,
                life,
                block: *block,
            };
            self.queue
                .push(self.bulk_free_us.saturating_add(LATENCY_US), event);
        }
    }

    fn restart_console(&mut self) {
        // Packets on their way still arrive, with a key that is no longer used.
        let (console, rows) = (self.console, std::mem::take(&mut self.parcel));
        self.queue
            .push(self.now_us + REJOIN_US.0, Event::Stale { console, rows });
        self.earlier = sum(&self.earlier, &self.sender.counters());
        self.console += 1;
        let (session, epoch) = session_of(self.console);
        (self.shared.session, self.shared.epoch) = (session, epoch);
        self.sender = sender(&self.room, session, epoch, self.now());
        self.watch = SenderWatch::new(
            session,
            epoch,
            self.room.manifest.len(),
            self.room.image.len(),
        );
        self.complete.fill(false);
        self.complete_count = 0;
        self.bulk_free_us = 0;
        for (index, node) in (0..).zip(&self.nodes) {
            if node.is_up() {
                let after = REJOIN_US.0 + self.rng.below(REJOIN_US.1);
                self.queue
                    .push(self.now_us.saturating_add(after), Event::Rejoin(index));
            }
        }
    }

    fn set_complete(&mut self, index: usize, complete: bool) {
        if let Some(place) = self.complete.get_mut(index)
            && *place != complete
        {
            *place = complete;
            if complete {
                self.complete_count += 1;
            } else {
                self.complete_count -= 1;
            }
        }
    }

    // ---- what happens --------------------------------------------------------------------

    fn handle(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Join(target) => {
                self.sender.add_receiver(self.now(), ReceiverId(target));
                self.node(target, None, |node, moment| node.boot(moment))
            }
            Event::Rejoin(target) => {
                let up = self.nodes.get(target as usize).is_some_and(Node::is_up);
                if up {
                    self.sender.add_receiver(self.now(), ReceiverId(target));
                }
                self.node(target, None, |node, moment| node.rejoin(moment))
            }
            Event::Crash(target) => {
                self.set_complete(target as usize, false);
                self.node(target, None, |node, _| {
                    node.crash();
                    Ok(())
                })
            }
            Event::ConsoleRestart => {
                self.restart_console();
                Ok(())
            }
            Event::Parcel { console } if console == self.console => {
                let rows = std::mem::take(&mut self.parcel);
                self.burst(console, &rows)
            }
            Event::Parcel { .. } => Ok(()),
            Event::Stale { console, rows } => self.burst(console, &rows),
            Event::Packet {
                target,
                life,
                packet,
            } => self.node(target, Some(life), |node, moment| {
                node.late(moment, &packet)
            }),
            Event::Status {
                target,
                life,
                status,
            } => {
                if self.nodes.get(target as usize).map(Node::life) == Some(life) {
                    self.statuses += 1;
                    self.deficits += status.deficits.len() as u64;
                    self.sender
                        .handle_status(self.now(), ReceiverId(target), &status);
                }
                Ok(())
            }
            Event::Wake { target, life } => {
                self.node(target, Some(life), |node, moment| node.wake(moment))
            }
            Event::Open { target, life } => {
                self.node(target, Some(life), |node, moment| node.open(moment))
            }
            Event::Written {
                target,
                life,
                block,
            } => self.node(target, Some(life), |node, moment| {
                node.written(moment, block)
            }),
            Event::Bulk {
                target,
                life,
                block,
            } => self.node(target, Some(life), |node, moment| {
                node.fetched(moment, block)
            }),
            Event::Looked {
                target,
                life,
                block,
            } => self.node(target, Some(life), |node, moment| {
                node.looked(moment, block)
            }),
        }
    }

    /// Lets a target act, unless the event belongs to an earlier life.
    fn node(
        &mut self,
        target: u32,
        life: Option<u32>,
        act: impl FnOnce(&mut Node, &mut Moment<'_>) -> Result<(), Wrong>,
    ) -> Result<(), Failure> {
        let mut moment = Moment {
            now_us: self.now_us,
            shared: &self.shared,
            queue: &mut self.queue,
        };
        let acted = match self.nodes.get_mut(target as usize) {
            Some(node) if life.is_none_or(|life| life == node.life()) => act(node, &mut moment),
            _ => Ok(()),
        };
        acted.map_err(|what| self.wrong(&format!("target {target}"), what))
    }

    fn burst(&mut self, console: u32, rows: &[Row]) -> Result<(), Failure> {
        let (session, epoch) = session_of(console);
        let mut moment = Moment {
            now_us: self.now_us,
            shared: &self.shared,
            queue: &mut self.queue,
        };
        let wrong = (0_u32..).zip(&mut self.nodes).find_map(|(index, node)| {
            let taken = node.burst(&mut moment, session, epoch, rows);
            taken.err().map(|what| (index, what))
        });
        wrong.map_or(Ok(()), |(target, what)| {
            Err(self.wrong(&format!("target {target}"), what))
        })
    }

    // ---- how it ended --------------------------------------------------------------------

    fn wrong(&self, who: &str, what: Wrong) -> Failure {
        Failure::Unsafe {
            seed: self.room.seed,
            at_us: self.now_us,
            who: who.to_owned(),
            what,
        }
    }

    fn unfinished(&self) -> Failure {
        let lacking: Vec<_> = self
            .nodes
            .iter()
            .enumerate()
            .filter(|(index, node)| {
                !node.is_complete() || !self.complete.get(*index).is_some_and(|done| *done)
            })
            .collect();
        let named: Vec<String> = lacking
            .iter()
            .take(NAMED)
            .map(|(index, node)| {
                let (count, first) = node.lacks();
                format!("target {index} lacks {count} blocks from {first:?}")
            })
            .collect();
        Failure::Unfinished {
            seed: self.room.seed,
            at_us: self.now_us,
            unfinished: lacking.len(),
            targets: self.nodes.len(),
            detail: format!("{}; {:?}", named.join(", "), self.sender.progress()),
        }
    }

    fn report(mut self) -> Report {
        let from = self.first_source_us.unwrap_or(0);
        let counters = sum(&self.earlier, &self.sender.counters());
        let mut last = from;
        for node in &mut self.nodes {
            node.account();
            let done = node.done_at_us().unwrap_or(self.now_us);
            node.report.done_us = done.saturating_sub(from);
            last = last.max(done);
        }
        Report {
            symbols: self.room.symbols(),
            sent: counters.source + counters.proactive + counters.repair,
            wire_bytes: counters.wire_bytes,
            elapsed_us: last - from,
            targets: self.nodes.into_iter().map(|node| node.report).collect(),
            deficits: self.deficits,
            statuses: self.statuses,
            passes: self.passes,
            rate_bytes_per_s: self.sender.rate_bytes_per_s(),
            counters,
        }
    }
}

fn sender(room: &Room, session: SessionId, epoch: Epoch, now: Instant) -> Sender {
    Sender::new(
        SenderConfig {
            session,
            epoch,
            suite: Suite::default(),
            manifest: room.manifest.clone(),
            image: room.image.clone(),
            rate_cap_bytes_per_s: room.rate_cap_bytes_per_s,
            start_rate_bytes_per_s: room.start_rate_bytes_per_s,
            repair_share_percent: 15,
            proactive_max: room.proactive_max,
            bulk_receivers: room.bulk_receivers,
            pace: room.pace,
        },
        now,
    )
}

/// Adds a packet to the last row if it continues that row, otherwise starts a new row.
fn add_to_rows(rows: &mut Vec<Row>, transmit: Transmit) {
    if let Some(Row { first, count }) = rows.last_mut() {
        let next = Transmit {
            packet_number: first.packet_number.later(u64::from(*count)),
            symbol: first.symbol.saturating_add(*count),
            ..*first
        };
        if next == transmit && transmit.k > 0 {
            *count += 1;
            return;
        }
    }
    rows.push(Row {
        first: transmit,
        count: 1,
    });
}

fn sum(one: &SenderCounters, other: &SenderCounters) -> SenderCounters {
    SenderCounters {
        source: one.source + other.source,
        slow_lane: one.slow_lane + other.slow_lane,
        manifest: one.manifest + other.manifest,
        proactive: one.proactive + other.proactive,
        repair: one.repair + other.repair,
        heartbeats: one.heartbeats + other.heartbeats,
        wire_bytes: one.wire_bytes + other.wire_bytes,
        statuses: one.statuses + other.statuses,
        statuses_refused: one.statuses_refused + other.statuses_refused,
        deficits_early: one.deficits_early + other.deficits_early,
        deficits_absurd: one.deficits_absurd + other.deficits_absurd,
        deficits_spent: one.deficits_spent + other.deficits_spent,
        answers: one.answers + other.answers,
        rate_falls: one.rate_falls + other.rate_falls,
        held_us: one.held_us + other.held_us,
    }
}
