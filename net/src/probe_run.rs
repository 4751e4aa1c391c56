//! Sending and receiving the probe of `diskcast doctor`: sockets and a clock around
//! [`super::probe`].
//!
//! A shell: it does not judge the counts. The sender keeps its rate and never catches up with a
//! burst, which would test the queue of the switch and not the network.

#![expect(
    clippy::disallowed_methods,
    reason = "a stream at a rate has to sleep between its packets"
)]

use super::clock::Clock;
use super::kernel_drops;
use super::probe::{JUMBO_BYTES, Kind, Probe, Tally};
use super::socket::{ReceiveSocket, SendSocket, wait_readable};
use multicast::wire::{FRAMING_BYTES, PerLane};
use multicast::{Beacon, Instant, Lane};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// One packet of the stream in this many is sent on the second lane.
const SECOND_SHARE: u64 = 20;
/// Number of small and jumbo probes of each lane, and of repeats of the end.
const EXTRAS: u64 = 5;
/// Time between two of them.
const EXTRA_GAP: Duration = Duration::from_millis(20);
/// Limit of packets sent at once: the burst of a session at 200 Mbit/s.
const BURST: u64 = 16;
/// Limit of lost time that is caught up; with more, a pause of the machine would become a burst.
const MAX_DEBT: Duration = Duration::from_millis(4);
/// Limit of other consoles that are remembered.
const MAX_BEACONS: usize = 16;

/// Parameters of a probe.
#[derive(Clone, Debug)]
pub struct ProbeSpec {
    /// Id of the run.
    pub id: u64,
    /// Group and port of the main lane.
    pub main: SocketAddrV4,
    /// Group and port of the second lane.
    pub second: SocketAddrV4,
    /// Address of the sending interface.
    pub interface: Ipv4Addr,
    /// Limit of hops (TTL).
    pub ttl: u32,
    /// Rate on the wire in bytes per second, including framing.
    pub rate_bytes_per_s: u64,
    /// Duration of the stream.
    pub duration: Duration,
}

/// Summary of a probe that was sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProbeSent {
    /// Packets of the stream, by lane.
    pub packets: PerLane<u64>,
    /// The interface accepted the jumbo probes.
    pub jumbo: bool,
    /// Rate reached on the wire, in bytes per second.
    pub rate_bytes_per_s: u64,
}

/// Sends the whole probe. Blocks for its duration.
///
/// # Errors
/// The interface cannot send multicast, or a full packet is too large for it.
pub fn send(spec: &ProbeSpec) -> io::Result<ProbeSent> {
    let socket = SendSocket::open(spec.interface, spec.ttl)?;
    // A jumbo probe that the own interface refuses was never sent.
    let mut sent = ProbeSent {
        jumbo: extras(&socket, spec, Kind::Jumbo).is_ok(),
        ..ProbeSent::default()
    };
    extras(&socket, spec, Kind::Small)?;
    let clock = Clock::start();
    let wire_bytes = (Kind::Stream.bytes() + FRAMING_BYTES) as u64;
    let per_second = (spec.rate_bytes_per_s / wire_bytes).max(1);
    let end = micros(spec.duration);
    let mut batch = Vec::new();
    // Packets are counted since `from`. It moves up after a sleep of the machine, so that missed
    // packets are not sent in a burst.
    let (mut from, mut done) = (0u64, 0u64);
    loop {
        let now = clock.now().as_micros();
        if now >= end {
            break;
        }
        let due = (now - from).saturating_mul(per_second) / 1_000_000;
        let mut ready = due.saturating_sub(done);
        let debt = per_second * micros(MAX_DEBT) / 1_000_000 + BURST;
        if ready > debt {
            (from, done) = (now, 0);
            ready = BURST.min(debt);
        }
        if ready == 0 {
            let wait = 1_000_000 / per_second;
            std::thread::sleep(Duration::from_micros(wait.clamp(100, 1_000)));
            continue;
        }
        let count = ready.min(BURST);
        for _ in 0..count {
            let all = sent.packets.main + sent.packets.second;
            let lane = if all % SECOND_SHARE == SECOND_SHARE - 1 {
                Lane::Second
            } else {
                Lane::Main
            };
            let number = *sent.packets.get(lane);
            let probe = Probe {
                id: spec.id,
                lane,
                kind: Kind::Stream,
                number,
            };
            *sent.packets.get_mut(lane) += 1;
            match lane {
                Lane::Main => probe.emit(&mut batch),
                Lane::Second => {
                    let mut one = Vec::with_capacity(Kind::Stream.bytes());
                    probe.emit(&mut one);
                    socket.send(spec.second, &one, one.len())?;
                }
            }
        }
        if !batch.is_empty() {
            socket.send(spec.main, &batch, Kind::Stream.bytes())?;
            batch.clear();
        }
        done += count;
    }
    let took = clock.now().as_micros().max(1);
    let all = sent.packets.main + sent.packets.second;
    sent.rate_bytes_per_s = all.saturating_mul(wire_bytes).saturating_mul(1_000_000) / took;
    // The pause lets queued packets arrive before the end.
    std::thread::sleep(Duration::from_millis(100));
    for lane in Lane::ALL {
        end_of(&socket, spec, lane, *sent.packets.get(lane))?;
    }
    Ok(sent)
}

fn extras(socket: &SendSocket, spec: &ProbeSpec, kind: Kind) -> io::Result<()> {
    for number in 0..EXTRAS {
        for (lane, to) in [(Lane::Main, spec.main), (Lane::Second, spec.second)] {
            put(socket, to, spec.id, lane, kind, number)?;
        }
        std::thread::sleep(EXTRA_GAP);
    }
    Ok(())
}

fn end_of(socket: &SendSocket, spec: &ProbeSpec, lane: Lane, number: u64) -> io::Result<()> {
    let to = match lane {
        Lane::Main => spec.main,
        Lane::Second => spec.second,
    };
    for _ in 0..EXTRAS {
        put(socket, to, spec.id, lane, Kind::End, number)?;
        std::thread::sleep(EXTRA_GAP);
    }
    Ok(())
}

fn put(
    socket: &SendSocket,
    to: SocketAddrV4,
    id: u64,
    lane: Lane,
    kind: Kind,
    number: u64,
) -> io::Result<()> {
    let mut packet = Vec::with_capacity(kind.bytes().min(JUMBO_BYTES));
    Probe {
        id,
        lane,
        kind,
        number,
    }
    .emit(&mut packet);
    socket.send(to, &packet, packet.len())
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Counts of a received probe.
#[derive(Debug)]
pub struct ProbeHeard {
    /// Counts of both lanes.
    pub tally: Tally,
    /// Datagrams the kernel dropped, by lane.
    pub kernel_drops: PerLane<u64>,
    /// Receive buffer that the kernel granted, in bytes.
    pub receive_buffer: usize,
    /// Beacons on the second lane with their source addresses, one for each console.
    pub beacons: Vec<(Beacon, Ipv4Addr)>,
}

/// Sockets that have joined both lanes.
pub struct ProbeListener {
    sockets: [ReceiveSocket; 2],
}

impl ProbeListener {
    /// Joins both groups.
    ///
    /// # Errors
    /// The address that could not be joined, with the reason.
    pub fn join(
        main: SocketAddrV4,
        second: SocketAddrV4,
        interface: Ipv4Addr,
    ) -> Result<Self, (SocketAddrV4, io::Error)> {
        let join = |group| ReceiveSocket::join(group, interface).map_err(|error| (group, error));
        Ok(Self {
            sockets: [join(main)?, join(second)?],
        })
    }

    /// Counts until the end of both lanes has arrived, `over` is set, or the timeout has passed.
    /// Blocks.
    ///
    /// # Errors
    /// A socket failed.
    pub fn run(mut self, id: u64, timeout: Duration, over: &AtomicBool) -> io::Result<ProbeHeard> {
        let clock = Clock::start();
        let deadline = Instant::from_micros(micros(timeout));
        let mut heard = ProbeHeard {
            tally: Tally::new(id),
            kernel_drops: PerLane::default(),
            receive_buffer: self.sockets[0].receive_buffer(),
            beacons: Vec::new(),
        };
        while !heard.tally.is_over() {
            let left = clock.until(deadline);
            // The flag is read before the sockets, so that packets that arrived until then are
            // counted.
            let last = left.is_zero() || over.load(Ordering::Relaxed);
            let [main, second] = &mut self.sockets;
            wait_readable(&[&*main, &*second], left.min(Duration::from_millis(50)))?;
            let now = clock.now();
            main.drain(|datagram, _| heard.tally.take(now, Lane::Main, datagram))?;
            second.drain(|datagram, from| {
                heard.tally.take(now, Lane::Second, datagram);
                note_beacon(&mut heard.beacons, datagram, from);
            })?;
            if last {
                break;
            }
        }
        heard.tally.finish(clock.now());
        let table = kernel_drops::table();
        let [main, second] = &mut self.sockets;
        heard.kernel_drops = PerLane {
            main: main.new_kernel_drops(&table),
            second: second.new_kernel_drops(&table),
        };
        Ok(heard)
    }
}

/// Adds a beacon of a console that is not known yet.
pub fn note_beacon(known: &mut Vec<(Beacon, Ipv4Addr)>, datagram: &[u8], from: Ipv4Addr) {
    if known.len() < MAX_BEACONS
        && let Ok(beacon) = Beacon::parse(datagram)
        && known.iter().all(|(other, _)| other.pin != beacon.pin)
    {
        known.push((beacon, from));
    }
}

/// Collects beacons on the second lane until the timeout. Blocks.
///
/// # Errors
/// The group cannot be joined.
pub fn collect_beacons(
    second: SocketAddrV4,
    interface: Ipv4Addr,
    timeout: Duration,
) -> io::Result<Vec<(Beacon, Ipv4Addr)>> {
    let clock = Clock::start();
    let deadline = Instant::from_micros(micros(timeout));
    let mut socket = ReceiveSocket::join(second, interface)?;
    let mut known = Vec::new();
    loop {
        let left = clock.until(deadline);
        if left.is_zero() {
            return Ok(known);
        }
        wait_readable(&[&socket], left.min(Duration::from_millis(100)))?;
        socket.drain(|datagram, from| note_beacon(&mut known, datagram, from))?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Loopback loses nothing, so every packet of both lanes must be counted, and the rate kept.
    #[test]
    fn a_probe_on_loopback_arrives_whole_and_at_its_rate() {
        let lane = |last: u8, port| SocketAddrV4::new(Ipv4Addr::new(239, 254, 77, last), port);
        let spec = ProbeSpec {
            id: 42,
            main: lane(3, 45_804),
            second: lane(4, 45_805),
            interface: Ipv4Addr::LOCALHOST,
            ttl: 1,
            rate_bytes_per_s: 2_500_000,
            duration: Duration::from_millis(400),
        };
        let listener = ProbeListener::join(spec.main, spec.second, spec.interface).unwrap();
        let listening = std::thread::spawn(move || {
            listener
                .run(42, Duration::from_secs(10), &AtomicBool::new(false))
                .unwrap()
        });
        let sent = send(&spec).unwrap();
        let heard = listening.join().unwrap();
        for lane in Lane::ALL {
            let (sent, heard) = (*sent.packets.get(lane), heard.tally.lane(lane));
            assert!(sent > 0);
            assert_eq!(
                (heard.sent, heard.received, heard.small),
                (Some(sent), sent, 5),
                "{lane:?}"
            );
            assert_eq!((heard.duplicates, heard.reordered), (0, 0));
        }
        assert!(sent.jumbo, "loopback carries 64 KiB");
        assert_eq!(heard.tally.lane(Lane::Main).jumbo, 5);
        assert!(
            sent.rate_bytes_per_s <= 2_750_000,
            "{}",
            sent.rate_bytes_per_s
        );
    }
}
