//! The agent's data path on one OS thread: sockets, decryption, replay check, and the receiver
//! state machine.
//!
//! A shell: decides nothing. Packets are decrypted and stored directly in block buffers; a complete
//! block leaves as an event with its buffer, which comes back with [`Receiving::block_done`].

use super::clock::Clock;
use super::igmp_querier::Role;
use super::igmp_watch::IgmpWatch;
use super::kernel_drops;
use super::socket::{ReceiveSocket, wait_readable};
use super::sources::Sources;
use multicast::{
    Assembly, BlockBuffer, BlockKey, BlockOutcome, Disposition, Header, ImageBlocks, Instant, Lane,
    Layout, OpenError, Opener, Receiver, ReceiverConfig, ReceiverCounters, ReceiverEvent,
    ReplayWindow, SessionSecret, Status,
};
use protocol::doctor::short_buffer;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::mpsc::{Receiver as Commands, Sender, TryRecvError, channel};
use std::time::Duration;

/// Longest sleep: it bounds the delay of a command while no packets arrive.
const NAP: Duration = Duration::from_millis(5);

/// Time without a packet after which multicast does not reach this machine.
const SILENCE: multicast::Duration = multicast::Duration::from_secs(3);

/// Time between two readings of the kernel's count of drops: normally the first value, the second
/// while packets go missing.
const DROPS_EVERY: (multicast::Duration, multicast::Duration) = (
    multicast::Duration::from_secs(1),
    multicast::Duration::from_millis(100),
);

/// Parameters of a receiving thread.
pub struct ReceivingSpec {
    /// Session number.
    pub session: multicast::SessionId,
    /// Key epoch.
    pub epoch: multicast::Epoch,
    /// Session secret.
    pub secret: SessionSecret,
    /// Cipher suite.
    pub suite: multicast::Suite,
    /// Group and port of the main lane.
    pub main: SocketAddrV4,
    /// Group and port of the second lane.
    pub second: SocketAddrV4,
    /// Address of the interface on which the groups are joined.
    pub interface: Ipv4Addr,
    /// Length of the encoded manifest in bytes.
    pub manifest_bytes: u32,
    /// The image, when it is known from before a reconnect.
    pub image: Option<ImageBlocks>,
    /// Number of block buffers, about 1 MiB each.
    pub buffers: u16,
    /// Number of receivers in the session, which sets the status interval.
    pub receivers: usize,
    /// Seed of the status jitter and of injected loss.
    pub seed: u64,
    /// Injected loss, for rehearsals.
    pub inject: InjectedLoss,
}

/// Injected loss, for rehearsals.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InjectedLoss {
    /// Share of session packets to drop, 0 to 1.
    pub share: f64,
    /// Packets dropped in a row, from 1: switches with a full queue lose bursts.
    pub burst: u32,
}

impl InjectedLoss {
    /// No loss.
    pub const NONE: Self = Self {
        share: 0.0,
        burst: 1,
    };
}

/// An event of a receiving thread.
pub enum ReceivingEvent {
    /// A block is complete; its buffer must be given back.
    Block {
        /// Key of the block.
        key: BlockKey,
        /// Slot that the buffer belongs to.
        slot: u16,
        /// Symbols of the block.
        buffer: BlockBuffer,
    },
    /// A status for the console is due.
    Status(Box<Status>),
    /// Reception in numbers: with each status, at least once a second, and at once when multicast
    /// starts or stops arriving.
    Health(Health),
    /// The sockets failed; no more events follow.
    Failed(io::Error),
}

/// Reception in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Health {
    /// Packets of the session arrived within the last three seconds.
    pub heard: bool,
    /// Packets received on both lanes.
    pub received: u64,
    /// Packets lost on both lanes.
    pub lost: u64,
    /// Packets of the session that failed authentication or were replayed.
    pub forged: u64,
    /// Packets the kernel dropped because this machine did not read them in time; included in
    /// `lost`.
    pub kernel_drops: u64,
    /// Source addresses of authenticated packets.
    pub sources: Sources,
    /// Counters of the receiver.
    pub counters: ReceiverCounters,
}

enum Command {
    Done(BlockKey, u16, BlockBuffer, BlockOutcome),
    Bulk(BlockKey),
    Kept(BlockKey),
    Wanted(BlockKey),
    OpenImage(ImageBlocks),
    FullStatus,
    DiskRate(u64),
}

/// A running receiving thread. Dropping it leaves the groups.
pub struct Receiving {
    commands: Sender<Command>,
    short_buffer: Option<String>,
    /// Watch that keeps the memberships alive while there is no querier.
    _member: IgmpWatch,
}

impl Receiving {
    /// Joins the groups and starts the thread, which calls `event`.
    ///
    /// # Errors
    /// A group cannot be joined, or the keys are refused.
    pub fn start(
        spec: ReceivingSpec,
        event: impl Fn(ReceivingEvent) + Send + 'static,
    ) -> io::Result<Self> {
        let opener = Opener::new(&spec.secret, spec.suite, spec.session, spec.epoch)
            .map_err(io::Error::other)?;
        let main = ReceiveSocket::join(spec.main, spec.interface)?;
        let second = ReceiveSocket::join(spec.second, spec.interface)?;
        let clock = Clock::start();
        let config = ReceiverConfig {
            session: spec.session,
            manifest: Layout::single(spec.manifest_bytes).symbol_counts(),
            image: spec.image,
            buffers: spec.buffers,
            status_interval: multicast::status_interval(spec.receivers),
            seed: spec.seed,
        };
        let state = State {
            receiver: Receiver::new(config, clock.now()),
            assembly: Assembly::new(spec.buffers),
            opener,
            replay: [ReplayWindow::new(), ReplayWindow::new()],
            forged: 0,
            sources: Sources::default(),
            loss: Loss::new(spec.inject, spec.seed),
            drops: Drops {
                total: 0,
                lost: 0,
                looked_at: clock.now(),
            },
        };
        let short_buffer = short_buffer(main.receive_buffer());
        let (commands, inbox) = channel();
        std::thread::Builder::new()
            .name("receive".into())
            .spawn(move || run(state, [main, second], clock, &inbox, &event))?;
        let groups = vec![*spec.main.ip(), *spec.second.ip()];
        Ok(Self {
            commands,
            short_buffer,
            _member: IgmpWatch::start(spec.interface, Role::Member { groups }),
        })
    }

    /// The warning about a receive buffer that is far smaller than requested, if it is.
    pub fn short_buffer(&self) -> Option<&str> {
        self.short_buffer.as_deref()
    }

    /// Gives a block's buffer back, with the result of the block.
    pub fn block_done(&self, key: BlockKey, slot: u16, buffer: BlockBuffer, outcome: BlockOutcome) {
        self.tell(Command::Done(key, slot, buffer, outcome));
    }

    /// Reports a block that was fetched over TCP 5003 and written.
    pub fn bulk_done(&self, key: BlockKey) {
        self.tell(Command::Bulk(key));
    }

    /// Reports a block that was found on the disk.
    pub fn kept(&self, key: BlockKey) {
        self.tell(Command::Kept(key));
    }

    /// Reports a block that was not found on the disk.
    pub fn wanted(&self, key: BlockKey) {
        self.tell(Command::Wanted(key));
    }

    /// Opens the image: the manifest is read and the disk is ready, so image blocks are received
    /// from now on.
    pub fn open_image(&self, image: ImageBlocks) {
        self.tell(Command::OpenImage(image));
    }

    /// Requests a complete status, for a new control connection.
    pub fn full_status(&self) {
        self.tell(Command::FullStatus);
    }

    /// Sets the write rate of the disk, in bytes per second.
    pub fn disk_rate(&self, bytes_per_s: u64) {
        self.tell(Command::DiskRate(bytes_per_s));
    }

    fn tell(&self, command: Command) {
        // A thread that ended has reported the reason by `Failed`.
        let _ = self.commands.send(command);
    }
}

struct State {
    receiver: Receiver,
    assembly: Assembly,
    opener: Opener,
    replay: [ReplayWindow; 2],
    forged: u64,
    sources: Sources,
    loss: Loss,
    drops: Drops,
}

/// Count of the kernel's drops.
struct Drops {
    total: u64,
    /// Missing packets at the last reading.
    lost: u64,
    looked_at: Instant,
}

fn run(
    mut state: State,
    mut sockets: [ReceiveSocket; 2],
    clock: Clock,
    inbox: &Commands<Command>,
    event: &impl Fn(ReceivingEvent),
) {
    let mut said = Health::default();
    let mut said_at = Instant::default();
    loop {
        loop {
            match inbox.try_recv() {
                Ok(command) => state.obey(command, clock.now()),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return,
            }
        }
        for socket in &mut sockets {
            let now = clock.now();
            if let Err(error) = socket.drain(|datagram, from| state.packet(datagram, from, now)) {
                return event(ReceivingEvent::Failed(error));
            }
            state.events(event);
        }
        let now = clock.now();
        state.count_kernel_drops(&mut sockets, now);
        let status = state.receiver.poll_status(now);
        let health = state.health(now);
        let due = now.saturating_since(said_at) >= multicast::Duration::from_secs(1);
        // The last status, which reports completion, comes with the last counters, too.
        if status.is_some() || health.heard != said.heard || due {
            event(ReceivingEvent::Health(health));
            (said, said_at) = (health, now);
        }
        if let Some(status) = status {
            event(ReceivingEvent::Status(Box::new(status)));
        }
        let nap = state
            .receiver
            .poll_timeout()
            .map_or(NAP, |deadline| clock.until(deadline))
            .min(NAP);
        if let Err(error) = wait_readable(&[&sockets[0], &sockets[1]], nap) {
            return event(ReceivingEvent::Failed(error));
        }
    }
}

impl State {
    fn obey(&mut self, command: Command, now: Instant) {
        match command {
            Command::Done(key, slot, buffer, outcome) => {
                self.assembly.attach(slot, buffer);
                self.receiver.handle_block_done(now, key, outcome);
            }
            Command::Bulk(key) => self.receiver.handle_bulk_block(now, key),
            Command::Kept(key) => self.receiver.handle_kept_block(now, key),
            Command::Wanted(key) => self.receiver.handle_wanted_block(now, key),
            Command::OpenImage(image) => self.receiver.open_image(image),
            Command::FullStatus => self.receiver.full_status(now),
            Command::DiskRate(rate) => self.receiver.set_disk_rate(rate),
        }
    }

    fn packet(&mut self, datagram: &mut [u8], from: Ipv4Addr, now: Instant) {
        if self.loss.strikes() {
            return;
        }
        let (header, payload) = match self.opener.open(datagram) {
            Ok(opened) => opened,
            Err(OpenError::Forged(_)) => {
                self.forged += 1;
                return;
            }
            // Other packets are beacons, other sessions on a shared group, and foreign traffic.
            Err(_) => return,
        };
        let lane = match header.number.lane() {
            Lane::Main => 0,
            Lane::Second => 1,
        };
        if self.replay[lane].take(header.number).is_err() {
            self.forged += 1;
            return;
        }
        self.sources.count(from);
        self.store(&header, payload, now);
    }

    fn store(&mut self, header: &Header, payload: &[u8], now: Instant) {
        match self.receiver.handle_packet(now, header) {
            Disposition::Store { slot, first } => {
                // Slots and indexes were checked by the receiver. An error here would be a bug, and
                // costs one symbol, which parity replaces.
                let stored = if first {
                    self.assembly.begin(slot, header.k)
                } else {
                    Ok(())
                }
                .and_then(|()| self.assembly.store(slot, header.symbol, payload));
                if let Err(error) = stored {
                    tracing::debug!(%error, "symbol not stored");
                }
            }
            Disposition::Ignore(_) => {}
        }
    }

    /// Reads the kernel's count once a second, and sooner after packets went missing: then it
    /// matters whether the wire or this machine lost them.
    fn count_kernel_drops(&mut self, sockets: &mut [ReceiveSocket; 2], now: Instant) {
        let lost = self.receiver.lane(Lane::Main).lost + self.receiver.lane(Lane::Second).lost;
        let every = if lost > self.drops.lost {
            DROPS_EVERY.1
        } else {
            DROPS_EVERY.0
        };
        if now.saturating_since(self.drops.looked_at) < every {
            return;
        }
        let table = kernel_drops::table();
        let new: u64 = sockets
            .iter_mut()
            .map(|socket| socket.new_kernel_drops(&table))
            .sum();
        self.receiver.handle_kernel_drops(new);
        self.drops = Drops {
            total: self.drops.total + new,
            lost,
            looked_at: now,
        };
    }

    fn events(&mut self, event: &impl Fn(ReceivingEvent)) {
        while let Some(happened) = self.receiver.poll_event() {
            if let ReceiverEvent::BlockReady { block, slot, .. } = happened
                && let Some(buffer) = self.assembly.detach(slot)
            {
                event(ReceivingEvent::Block {
                    key: block,
                    slot,
                    buffer,
                });
            }
        }
    }

    fn health(&self, now: Instant) -> Health {
        let (main, second) = (
            self.receiver.lane(Lane::Main),
            self.receiver.lane(Lane::Second),
        );
        Health {
            // A thread that has just joined cannot have received anything yet.
            heard: self.receiver.heard(now) || now.saturating_since(Instant::ZERO) < SILENCE,
            received: main.received + second.received,
            lost: main.lost + second.lost,
            forged: self.forged,
            kernel_drops: self.drops.total,
            sources: self.sources,
            counters: self.receiver.counters(),
        }
    }
}

/// Random generator of [`InjectedLoss`]: outside a burst, each datagram starts one with the same
/// chance.
struct Loss {
    /// Chance of a burst to start, as a threshold in the 32-bit range.
    begin: u64,
    /// Length of a burst in datagrams.
    burst: u32,
    /// Datagrams that the present burst still drops.
    left: u32,
    state: u64,
}

impl Loss {
    fn new(inject: InjectedLoss, seed: u64) -> Self {
        let share = inject.share.clamp(0.0, 1.0);
        let burst = f64::from(inject.burst.max(1));
        // A burst has `burst` datagrams, and on average (1 - begin) / begin pass between two
        // bursts.
        let begin = share / (burst * (1.0 - share) + share);
        Self {
            begin: of_32_bits(begin),
            burst: inject.burst.max(1),
            left: 0,
            state: seed | 1,
        }
    }

    fn strikes(&mut self) -> bool {
        if self.begin == 0 {
            return false;
        }
        if self.left == 0 {
            if self.dice() >= self.begin {
                return false;
            }
            self.left = self.burst;
        }
        self.left -= 1;
        true
    }

    /// A random number from 0 to 2^32 - 1.
    fn dice(&mut self) -> u64 {
        // The xorshift64 generator is good enough for this.
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state >> 32
    }
}

/// A chance as a threshold in the 32-bit range; 1.0 is 2^32.
fn of_32_bits(chance: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to 0..=2^32"
    )]
    {
        (chance.clamp(0.0, 1.0) * 4_294_967_296.0).round() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn injected_loss_is_about_what_was_asked() {
        for (share, burst, low, high) in [
            (0.0, 1, 0, 0),
            (0.01, 1, 700, 1300),
            (0.01, 32, 300, 2200),
            (0.5, 1, 49_000, 51_000),
            (0.5, 32, 44_000, 56_000),
            (1.0, 1, 100_000, 100_000),
            (1.0, 8, 100_000, 100_000),
        ] {
            let mut loss = Loss::new(InjectedLoss { share, burst }, 7);
            let lost = (0..100_000).filter(|_| loss.strikes()).count();
            assert!(
                (low..=high).contains(&lost),
                "{share} in {burst}: {lost} of 100000"
            );
        }
    }

    #[test]
    fn bursts_are_as_long_as_asked() {
        // A burst sometimes starts right after another.
        for (burst, low, high) in [(1, 1.0, 1.03), (32, 32.0, 33.0)] {
            let inject = InjectedLoss { share: 0.01, burst };
            let mut loss = Loss::new(inject, 7);
            let (mut lost, mut bursts, mut inside) = (0u32, 0u32, false);
            for _ in 0..4_000_000 {
                let strikes = loss.strikes();
                lost += u32::from(strikes);
                bursts += u32::from(strikes && !inside);
                inside = strikes;
            }
            let mean = f64::from(lost) / f64::from(bursts);
            assert!((low..=high).contains(&mean), "{burst}: {mean}");
        }
    }
}
