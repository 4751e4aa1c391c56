//! The console's data path on one OS thread: blocks of the image, encryption, sockets, and the
//! sender state machine.
//!
//! A shell: decides nothing about the packets that are sent. Packets to the same group are sealed
//! into one buffer, and leave in one call ([`batch`]). A second thread reads blocks and makes their
//! parity ahead of need ([`ahead`]), so that a slow disk does not delay packets that are ready.

mod ahead;
mod batch;

use super::clock::Clock;
use super::socket::SendSocket;
use ahead::{AHEAD, ReadAhead};
use batch::{BATCH, Batch};
use multicast::{
    BlockKey, Demotion, Epoch, Lane, Layout, ObjectId, Pace, ReceiverId, SYMBOL_BYTES, Sealer,
    Sender, SenderConfig, SenderCounters, SenderEvent, SessionId, SessionSecret, Status, Suite,
    Transmit, source_symbol,
};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::mpsc::{Receiver as Commands, RecvTimeoutError, Sender as Channel, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Niceness of the send thread. A late packet is lost time for the whole room, and a burst cannot
/// make up for it.
const NICENESS: i32 = -10;
/// Longest sleep: it bounds the delay of a status.
const NAP: Duration = Duration::from_millis(10);

/// Source of blocks.
pub trait BlockSource: Send + Sync {
    /// Layout of an object in blocks.
    fn layout(&self, object: ObjectId) -> &Layout;
    /// Reads the bytes of a block into `block`, which is emptied first.
    ///
    /// # Errors
    /// The image cannot be read, or its stored hashes do not match.
    fn read_block(&self, key: BlockKey, block: &mut Vec<u8>) -> io::Result<()>;
}

/// Parameters of a sending session.
pub struct SendingSpec {
    /// The image.
    pub source: Arc<dyn BlockSource>,
    /// Session number.
    pub session: u32,
    /// Key epoch, 0 to 3.
    pub epoch: u8,
    /// Session secret.
    pub secret: [u8; 32],
    /// Cipher suite.
    pub suite: Suite,
    /// Group and port of the main lane.
    pub main: SocketAddrV4,
    /// Group and port of the second lane.
    pub second: SocketAddrV4,
    /// Address of the sending interface.
    pub interface: Ipv4Addr,
    /// Limit of hops (TTL).
    pub ttl: u32,
    /// Rate limit on the wire in bytes per second, including framing.
    pub rate_cap_bytes_per_s: u64,
    /// Rate at the start, when the limit is not known to be safe; it doubles until the first loss.
    pub start_rate_bytes_per_s: u64,
    /// Receivers that set the speed when disks differ.
    pub pace: Pace,
}

/// An event of a session.
#[derive(Clone, Debug)]
pub enum SendingEvent {
    /// A receiver has every block.
    Complete(u32),
    /// A receiver has to fetch image blocks over TCP 5003.
    UseBulk {
        /// Id of the receiver.
        receiver: u32,
        /// Numbers of image blocks.
        blocks: Vec<u32>,
    },
    /// A receiver would slow down the others too much and is set aside for now.
    Demoted {
        /// Id of the receiver.
        receiver: u32,
        /// Reason, as text for its row.
        reason: String,
    },
    /// A receiver that was set aside takes part like the others again.
    Promoted(u32),
    /// A receiver has not reported for three seconds; nothing is sent for it alone.
    Silent(u32),
    /// A receiver that was silent reports again.
    Back(u32),
    /// A remark for the job's log.
    Note(String),
    /// The session cannot continue: nothing can be sent.
    Failed(String),
    /// The session cannot continue: the image cannot be read, or its stored hashes do not match.
    Unreadable(String),
}

/// The reason why a session ended by itself.
enum Fault {
    /// A fault of the network.
    Wire(String),
    /// A fault of the image.
    Source(String),
}

impl From<Fault> for SendingEvent {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Wire(reason) => Self::Failed(reason),
            Fault::Source(reason) => Self::Unreadable(reason),
        }
    }
}

/// Counters and rate, for reports.
#[derive(Clone, Copy, Debug, Default)]
pub struct SendingSnapshot {
    /// Counters of the sender.
    pub counters: SenderCounters,
    /// Present rate on the wire, in bytes per second.
    pub rate_bytes_per_s: u64,
    /// Number of passes started.
    pub passes: u32,
}

enum Command {
    Add(u32),
    Remove(u32),
    Status(u32, Box<Status>),
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
    /// The interface cannot send multicast, or the keys are refused.
    pub fn start(spec: SendingSpec) -> io::Result<Self> {
        let session = SessionId(spec.session);
        let epoch = Epoch::new(spec.epoch);
        let secret = SessionSecret::from_bytes(spec.secret);
        let sealer = Sealer::new(&secret, spec.suite, session, epoch).map_err(io::Error::other)?;
        let socket = SendSocket::open(spec.interface, spec.ttl)?;
        let blocks = ReadAhead::start(Arc::clone(&spec.source))?;
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
            blocks,
            batch: Batch::new(),
        };
        let shared = Arc::clone(&snapshot);
        std::thread::Builder::new()
            .name("send".into())
            .spawn(move || {
                // Linux has a niceness for each thread. Without the privilege, the thread competes
                // with other work of this machine.
                let _ = rustix::process::setpriority_process(None, NICENESS);
                if let Err(fault) = run(state, clock, &inbox, &say, &shared) {
                    let _ = say.send(fault.into());
                }
            })?;
        Ok(Self {
            commands,
            events: Some(events),
            snapshot,
        })
    }

    /// Events of the session; `None` after the first call.
    pub fn events(&mut self) -> Option<UnboundedReceiver<SendingEvent>> {
        self.events.take()
    }

    /// Adds a receiver; it needs everything until its statuses report otherwise.
    pub fn add_receiver(&self, receiver: u32) {
        self.tell(Command::Add(receiver));
    }

    /// Removes a receiver.
    pub fn remove_receiver(&self, receiver: u32) {
        self.tell(Command::Remove(receiver));
    }

    /// Passes on a receiver's status.
    pub fn status(&self, receiver: u32, status: Status) {
        self.tell(Command::Status(receiver, Box::new(status)));
    }

    /// Excludes a receiver that multicast does not reach: no packets are sent for it, and it
    /// fetches missing blocks over TCP 5003. When it is included again, blocks it has not fetched
    /// are sent.
    pub fn set_bulk_only(&self, receiver: u32, bulk_only: bool) {
        self.tell(Command::BulkOnly(receiver, bulk_only));
    }

    /// Changes the rate limit, in bytes per second.
    pub fn set_rate_cap(&self, bytes_per_s: u64) {
        self.tell(Command::RateCap(bytes_per_s));
    }

    /// Present counters.
    pub fn snapshot(&self) -> SendingSnapshot {
        *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, command: Command) {
        // A thread that ended has reported the reason by `Failed`.
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
    blocks: ReadAhead,
    batch: Batch,
}

fn run(
    mut state: State,
    clock: Clock,
    inbox: &Commands<Command>,
    say: &UnboundedSender<SendingEvent>,
    shared: &Mutex<SendingSnapshot>,
) -> Result<(), Fault> {
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
            Command::BulkOnly(id, bulk_only) => {
                self.sender.set_bulk_only(ReceiverId(id), bulk_only);
                if !bulk_only {
                    // The receiver has dropped its list of blocks to fetch, so they must be sent
                    // again.
                    self.sender.handle_bulk_failed(ReceiverId(id));
                }
            }
            Command::RateCap(rate) => self.sender.set_rate_cap(rate),
        }
    }

    /// Sends until the pacer or the carousel has no packet for now.
    fn send_what_is_due(&mut self, clock: &Clock) -> Result<(), Fault> {
        self.blocks.ask(self.sender.upcoming(AHEAD));
        // At most two bursts are sent before commands are read again.
        for _ in 0..2 * BATCH {
            let Some(transmit) = self.sender.poll_transmit(clock.now()) else {
                break;
            };
            self.queue(&transmit)?;
        }
        self.flush()
    }

    fn queue(&mut self, transmit: &Transmit) -> Result<(), Fault> {
        let lane = match transmit.lane {
            Lane::Main => 0,
            Lane::Second => 1,
        };
        if !self.batch.takes(lane) {
            self.flush()?;
        }
        let mut padded;
        let payload: &[u8] = if transmit.k == 0 {
            &[]
        } else if let Some(index) = transmit.symbol.checked_sub(transmit.k) {
            let parity = self.blocks.parity(transmit.block).map_err(Fault::Source)?;
            parity
                .symbol(index)
                .ok_or_else(|| Fault::Wire("a parity symbol that is none".into()))?
        } else {
            let block = self.blocks.block(transmit.block).map_err(Fault::Source)?;
            let (whole, _) = block.as_chunks::<SYMBOL_BYTES>();
            match whole.get(usize::from(transmit.symbol)) {
                Some(symbol) => symbol,
                None => {
                    padded = [0u8; SYMBOL_BYTES];
                    source_symbol(block, transmit.symbol, &mut padded);
                    &padded
                }
            }
        };
        let header = transmit.header(self.session, self.epoch);
        let room = self
            .batch
            .room()
            .ok_or_else(|| Fault::Wire("a batch without room".into()))?;
        let len = self.sealer.seal(&header, payload, room).map_err(|e| {
            let number = transmit.packet_number.counter();
            Fault::Wire(format!("sealing packet {number}: {e}"))
        })?;
        self.batch.push(lane, len);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Fault> {
        if self.batch.contents().is_empty() {
            return Ok(());
        }
        let [main, second] = self.lanes;
        let to = if self.batch.lane() == 0 { main } else { second };
        let sent = self
            .socket
            .send(to, self.batch.contents(), self.batch.segment());
        self.batch.clear();
        sent.map_err(|e| Fault::Wire(format!("sending to {to}: {e}; is the interface up?")))
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

/// The reason why a receiver is set aside, as text for a technician.
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
}
