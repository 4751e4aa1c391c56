//! The console's data path: blocks from the image, seal, sockets, and the sender state machine, on one OS thread.
//!
//! A shell: decides nothing about what is sent. Packets the sender wants are sealed into one buffer as long as they go
//! to the same group, and leave in one call. Blocks and their parity are kept in two small caches, so that memory is the same
//! for an image of any size.

use super::clock::Clock;
use super::socket::SendSocket;
use multicast::{
    BlockKey, Demotion, Encoder, Epoch, Lane, Layout, ObjectId, PACKET_BYTES, Pace, Parity,
    ReceiverId, SYMBOL_BYTES, Sealer, Sender, SenderConfig, SenderCounters, SenderEvent, SessionId,
    SessionSecret, Status, Suite, Transmit, source_symbol,
};
use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::mpsc::{Receiver as Commands, RecvTimeoutError, Sender as Channel, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Packets in one call: what segmentation offload takes (40 x 1448 < 64 KiB), and one burst of the pacer.
const BATCH: usize = 40;
/// Blocks kept: the pass walks on, repairs go a few blocks back. 16 MiB.
const KEPT_BLOCKS: usize = 16;
/// Blocks whose parity is kept, 360 kB each: repairs of a lossy pass reach back about a second. 23 MiB.
const KEPT_PARITY: usize = 64;
/// Longest sleep: bounds how long a status waits.
const NAP: Duration = Duration::from_millis(10);

/// Where blocks come from.
pub trait BlockSource: Send + Sync {
    /// How an object is cut.
    fn layout(&self, object: ObjectId) -> &Layout;
    /// The bytes of a block, into `block` (emptied first).
    ///
    /// # Errors
    /// When the image cannot be read or its stored hashes do not match.
    fn read_block(&self, key: BlockKey, block: &mut Vec<u8>) -> io::Result<()>;
}

/// What a session needs.
pub struct SendingSpec {
    /// The image.
    pub source: Arc<dyn BlockSource>,
    /// Session number.
    pub session: u32,
    /// Key epoch, 0 to 3.
    pub epoch: u8,
    /// Session secret.
    pub secret: [u8; 32],
    /// Cipher.
    pub suite: Suite,
    /// Main lane.
    pub main: SocketAddrV4,
    /// Second lane.
    pub second: SocketAddrV4,
    /// Interface to send out of.
    pub interface: Ipv4Addr,
    /// Hops packets may take.
    pub ttl: u32,
    /// Most bytes per second on the wire, framing included.
    pub rate_cap_bytes_per_s: u64,
    /// Where to start when nobody vouched for the cap; doubles from there until the first loss.
    pub start_rate_bytes_per_s: u64,
    /// What the room's speed goes by when disks differ.
    pub pace: Pace,
}

/// What a session says.
#[derive(Clone, Debug)]
pub enum SendingEvent {
    /// A receiver has every block.
    Complete(u32),
    /// Tell a receiver to fetch image blocks over TCP 5003.
    UseBulk {
        /// Receiver.
        receiver: u32,
        /// Image blocks.
        blocks: Vec<u32>,
    },
    /// A receiver would cost the others too much and is set aside for now.
    Demoted {
        /// Receiver.
        receiver: u32,
        /// Why, in words for its row.
        reason: String,
    },
    /// A receiver that was set aside counts like the others again.
    Promoted(u32),
    /// A receiver has not reported for three seconds; nothing is sent for it alone.
    Silent(u32),
    /// A receiver that was silent reports again.
    Back(u32),
    /// A remark for the job's log.
    Note(String),
    /// The session cannot go on.
    Failed(String),
}

/// Counters and rate, for reports.
#[derive(Clone, Copy, Debug, Default)]
pub struct SendingSnapshot {
    /// The sender's own counters.
    pub counters: SenderCounters,
    /// Wire bytes per second now.
    pub rate_bytes_per_s: u64,
    /// Passes begun.
    pub passes: u32,
}

enum Command {
    Add(u32),
    Remove(u32),
    Status(u32, Box<Status>),
    BulkFailed(u32),
    BulkOnly(u32, bool),
    RateCap(u64),
}

/// A running session. Dropping it ends it.
pub struct Sending {
    commands: Channel<Command>,
    events: Option<UnboundedReceiver<SendingEvent>>,
    snapshot: Arc<Mutex<SendingSnapshot>>,
}

impl Sending {
    /// Opens the socket and starts the thread.
    ///
    /// # Errors
    /// When the interface cannot send multicast, or the keys are refused.
    pub fn start(spec: SendingSpec) -> io::Result<Self> {
        let session = SessionId(spec.session);
        let epoch = Epoch::new(spec.epoch);
        let secret = SessionSecret::from_bytes(spec.secret);
        let sealer = Sealer::new(&secret, spec.suite, session, epoch).map_err(io::Error::other)?;
        let socket = SendSocket::open(spec.interface, spec.ttl)?;
        let clock = Clock::start();
        let mut config = SenderConfig::new(
            session,
            spec.source.layout(ObjectId::Manifest),
            spec.source.layout(ObjectId::Image),
            spec.rate_cap_bytes_per_s,
        );
        config.start_rate_bytes_per_s = spec.start_rate_bytes_per_s;
        config.epoch = epoch;
        config.pace = spec.pace;
        config.suite = spec.suite;
        let (commands, inbox) = channel();
        let (say, events) = unbounded_channel();
        let snapshot = Arc::new(Mutex::new(SendingSnapshot::default()));
        let state = State {
            sender: Sender::new(config, clock.now()),
            session,
            epoch,
            sealer,
            socket,
            lanes: [spec.main, spec.second],
            blocks: Blocks::new(spec.source),
            batch: Batch::default(),
        };
        let shared = Arc::clone(&snapshot);
        std::thread::Builder::new()
            .name("send".into())
            .spawn(move || {
                if let Err(error) = run(state, clock, &inbox, &say, &shared) {
                    let _ = say.send(SendingEvent::Failed(error));
                }
            })?;
        Ok(Self {
            commands,
            events: Some(events),
            snapshot,
        })
    }

    /// The session's events; given out once.
    pub fn events(&mut self) -> Option<UnboundedReceiver<SendingEvent>> {
        self.events.take()
    }

    /// A receiver takes part; it wants everything until its statuses say otherwise.
    pub fn add_receiver(&self, receiver: u32) {
        self.tell(Command::Add(receiver));
    }

    /// A receiver is gone.
    pub fn remove_receiver(&self, receiver: u32) {
        self.tell(Command::Remove(receiver));
    }

    /// A receiver's report.
    pub fn status(&self, receiver: u32, status: Status) {
        self.tell(Command::Status(receiver, Box::new(status)));
    }

    /// A receiver could not fetch what it was told to: multicast serves it again.
    pub fn bulk_failed(&self, receiver: u32) {
        self.tell(Command::BulkFailed(receiver));
    }

    /// Multicast does not reach a receiver: nothing is sent for it, and it is told to fetch what it lacks. When it is reached again,
    /// what it has not fetched yet is sent.
    pub fn set_bulk_only(&self, receiver: u32, bulk_only: bool) {
        self.tell(Command::BulkOnly(receiver, bulk_only));
    }

    /// Changes the cap.
    pub fn set_rate_cap(&self, bytes_per_s: u64) {
        self.tell(Command::RateCap(bytes_per_s));
    }

    /// Counters now.
    pub fn snapshot(&self) -> SendingSnapshot {
        *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, command: Command) {
        // A thread that ended has said why by `Failed`.
        let _ = self.commands.send(command);
    }
}

struct State {
    sender: Sender,
    session: SessionId,
    epoch: Epoch,
    sealer: Sealer,
    socket: SendSocket,
    lanes: [SocketAddrV4; 2],
    blocks: Blocks,
    batch: Batch,
}

fn run(
    mut state: State,
    clock: Clock,
    inbox: &Commands<Command>,
    say: &UnboundedSender<SendingEvent>,
    shared: &Mutex<SendingSnapshot>,
) -> Result<(), String> {
    loop {
        state.send_what_is_due(&clock)?;
        while let Some(event) = state.sender.poll_event() {
            if let Some(event) = translate(event) {
                let _ = say.send(event);
            }
        }
        *shared.lock().unwrap_or_else(PoisonError::into_inner) = SendingSnapshot {
            counters: state.sender.counters(),
            rate_bytes_per_s: state.sender.rate_bytes_per_s(),
            passes: state.sender.progress().pass.saturating_add(1),
        };
        let nap = state
            .sender
            .poll_timeout()
            .map_or(NAP, |deadline| clock.until(deadline))
            .min(NAP);
        match inbox.recv_timeout(nap) {
            Ok(command) => {
                state.obey(command, &clock);
                while let Ok(command) = inbox.try_recv() {
                    state.obey(command, &clock);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

impl State {
    fn obey(&mut self, command: Command, clock: &Clock) {
        let now = clock.now();
        match command {
            Command::Add(id) => self.sender.add_receiver(now, ReceiverId(id)),
            Command::Remove(id) => self.sender.remove_receiver(ReceiverId(id)),
            Command::Status(id, status) => self.sender.handle_status(now, ReceiverId(id), &status),
            Command::BulkFailed(id) => self.sender.handle_bulk_failed(ReceiverId(id)),
            Command::BulkOnly(id, bulk_only) => {
                self.sender.set_bulk_only(ReceiverId(id), bulk_only);
                if !bulk_only {
                    // It has dropped its list of blocks to fetch: they are owed to it again.
                    self.sender.handle_bulk_failed(ReceiverId(id));
                }
            }
            Command::RateCap(rate) => self.sender.set_rate_cap(rate),
        }
    }

    /// Sends until the pacer or the carousel has nothing more for now.
    fn send_what_is_due(&mut self, clock: &Clock) -> Result<(), String> {
        // Two bursts at most before commands are looked at again.
        for _ in 0..2 * BATCH {
            let Some(transmit) = self.sender.poll_transmit(clock.now()) else {
                break;
            };
            self.queue(&transmit)?;
        }
        self.flush()
    }

    fn queue(&mut self, transmit: &Transmit) -> Result<(), String> {
        let mut payload = [0u8; SYMBOL_BYTES];
        let has_symbol = transmit.k > 0;
        if has_symbol {
            self.blocks.symbol(transmit, &mut payload)?;
        }
        let mut packet = [0u8; PACKET_BYTES];
        let header = transmit.header(self.session, self.epoch);
        let body: &[u8] = if has_symbol { &payload } else { &[] };
        let len = self
            .sealer
            .seal(&header, body, &mut packet)
            .map_err(|e| format!("sealing packet {}: {e}", transmit.packet_number.counter()))?;
        let lane = match transmit.lane {
            Lane::Main => 0,
            Lane::Second => 1,
        };
        if !self.batch.takes(lane, len) {
            self.flush()?;
        }
        self.batch.push(lane, packet.get(..len).unwrap_or_default());
        Ok(())
    }

    fn flush(&mut self) -> Result<(), String> {
        if self.batch.bytes.is_empty() {
            return Ok(());
        }
        let to = self.lanes[self.batch.lane];
        let sent = self.socket.send(to, &self.batch.bytes, self.batch.segment);
        self.batch.clear();
        sent.map_err(|e| format!("sending to {to}: {e}; is the interface up?"))
    }
}

fn translate(event: SenderEvent) -> Option<SendingEvent> {
    Some(match event {
        SenderEvent::ReceiverComplete(id) => SendingEvent::Complete(id.0),
        SenderEvent::UseBulk { receiver, blocks } => SendingEvent::UseBulk {
            receiver: receiver.0,
            blocks: blocks
                .iter()
                .filter(|b| b.object == ObjectId::Image)
                .map(|b| b.index)
                .collect(),
        },
        SenderEvent::Demoted { receiver, reason } => SendingEvent::Demoted {
            receiver: receiver.0,
            reason: in_words(reason),
        },
        SenderEvent::Promoted(id) => SendingEvent::Promoted(id.0),
        SenderEvent::ReceiverSilent(id) => SendingEvent::Silent(id.0),
        SenderEvent::ReceiverBack(id) => SendingEvent::Back(id.0),
        SenderEvent::PassEnded { pass, again } => SendingEvent::Note(format!(
            "pass {} ended, {again} blocks go out again",
            pass + 1
        )),
        _ => return None,
    })
}

/// Why a receiver is set aside, for a technician.
fn in_words(reason: Demotion) -> String {
    let megabytes = |bytes: u64| bytes.div_ceil(1_000_000);
    let percent = |ppm: u64| format!("{}.{}", ppm / 10_000, ppm / 1_000 % 10);
    match reason {
        Demotion::Slow {
            takes_bytes_per_s,
            room_bytes_per_s,
        } => format!(
            "set aside: its disk takes {} MB/s, the room runs at {} MB/s; it gets the rest afterwards",
            megabytes(takes_bytes_per_s),
            megabytes(room_bytes_per_s)
        ),
        Demotion::Lossy {
            lost_ppm,
            usual_ppm,
        } => format!(
            "set aside: it loses {} % of the packets, the room {} %; it gets the rest afterwards; look at its cable and switch port",
            percent(lost_ppm),
            percent(usual_ppm)
        ),
        _ => "set aside: it gets the rest afterwards".into(),
    }
}

/// Packets of one size to one group, waiting to leave together.
#[derive(Default)]
struct Batch {
    lane: usize,
    segment: usize,
    bytes: Vec<u8>,
}

impl Batch {
    /// Whether a packet may join: same group, and only the last of a batch may be shorter.
    fn takes(&self, lane: usize, len: usize) -> bool {
        self.bytes.is_empty()
            || (self.lane == lane
                && len <= self.segment
                && self.bytes.len().is_multiple_of(self.segment)
                && self.bytes.len() < BATCH * self.segment)
    }

    fn push(&mut self, lane: usize, packet: &[u8]) {
        if self.bytes.is_empty() {
            (self.lane, self.segment) = (lane, packet.len());
        }
        self.bytes.extend_from_slice(packet);
    }

    fn clear(&mut self) {
        self.bytes.clear();
    }
}

/// Recently used blocks and parity.
struct Blocks {
    source: Arc<dyn BlockSource>,
    encoder: Encoder,
    blocks: VecDeque<(BlockKey, Vec<u8>)>,
    parity: VecDeque<(BlockKey, Parity)>,
}

impl Blocks {
    fn new(source: Arc<dyn BlockSource>) -> Self {
        Self {
            source,
            encoder: Encoder::new(),
            blocks: VecDeque::new(),
            parity: VecDeque::new(),
        }
    }

    /// The payload of a packet.
    fn symbol(
        &mut self,
        transmit: &Transmit,
        payload: &mut [u8; SYMBOL_BYTES],
    ) -> Result<(), String> {
        let key = transmit.block;
        match transmit.symbol.checked_sub(transmit.k) {
            None => {
                source_symbol(self.block(key)?, transmit.symbol, payload);
            }
            Some(index) => {
                if !self.parity.iter().any(|(kept, _)| *kept == key) {
                    self.block(key)?;
                    let block = self
                        .blocks
                        .front()
                        .map(|(_, bytes)| bytes.as_slice())
                        .unwrap_or_default();
                    let parity = self.encoder.encode(block).map_err(|e| e.to_string())?;
                    self.parity.truncate(KEPT_PARITY - 1);
                    self.parity.push_front((key, parity));
                }
                let kept = self.parity.iter().find(|(kept, _)| *kept == key);
                if let Some(symbol) = kept.and_then(|(_, parity)| parity.symbol(index)) {
                    payload.copy_from_slice(symbol);
                }
            }
        }
        Ok(())
    }

    /// The block's bytes, moved to the front of what is kept.
    fn block(&mut self, key: BlockKey) -> Result<&[u8], String> {
        let bytes = match self.blocks.iter().position(|(kept, _)| *kept == key) {
            Some(0) => None,
            Some(at) => self.blocks.remove(at).map(|(_, bytes)| bytes),
            None => {
                let mut bytes = match self.blocks.len() {
                    KEPT_BLOCKS.. => self
                        .blocks
                        .pop_back()
                        .map(|(_, bytes)| bytes)
                        .unwrap_or_default(),
                    _ => Vec::new(),
                };
                self.source
                    .read_block(key, &mut bytes)
                    .map_err(|e| format!("reading block {} of the image: {e}", key.index))?;
                Some(bytes)
            }
        };
        if let Some(bytes) = bytes {
            self.blocks.push_front((key, bytes));
        }
        Ok(self
            .blocks
            .front()
            .map(|(_, bytes)| bytes.as_slice())
            .unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_technician_reads_why_a_target_is_set_aside() {
        let slow = Demotion::Slow {
            takes_bytes_per_s: 37_500_000,
            room_bytes_per_s: 110_000_000,
        };
        assert_eq!(
            in_words(slow),
            "set aside: its disk takes 38 MB/s, the room runs at 110 MB/s; it gets the rest afterwards"
        );
        let lossy = Demotion::Lossy {
            lost_ppm: 124_000,
            usual_ppm: 3_900,
        };
        assert!(in_words(lossy).contains("it loses 12.4 % of the packets, the room 0.3 %"));
    }

    #[test]
    fn a_batch_holds_one_group_and_ends_with_a_shorter_packet() {
        let mut batch = Batch::default();
        assert!(batch.takes(0, 1448));
        batch.push(0, &[0; 1448]);
        assert!(batch.takes(0, 1448));
        assert!(!batch.takes(1, 1448));
        assert!(batch.takes(0, 40));
        batch.push(0, &[0; 40]);
        assert!(!batch.takes(0, 1448), "nothing follows a shorter packet");
        batch.clear();
        batch.push(1, &[0; 40]);
        assert!(!batch.takes(1, 1448), "nothing longer than the first");
    }

    #[test]
    fn a_batch_is_never_longer_than_one_call_takes() {
        let mut batch = Batch::default();
        let mut packets = 0;
        while batch.takes(0, 1448) {
            batch.push(0, &[0; 1448]);
            packets += 1;
        }
        assert_eq!(packets, BATCH);
    }
}
