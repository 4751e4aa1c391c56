//! Beacons of a console on the second lane: sending one each second, and listening for one.
//!
//! A beacon is an unencrypted hint of an address; a console is trusted by its pin. A received
//! beacon also proves that multicast reaches the machine.

use super::socket::{ReceiveSocket, SendSocket, wait_readable};
use multicast::Beacon;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Time between two beacons.
const EVERY: Duration = Duration::from_secs(1);

/// A thread that sends beacons until this is dropped.
pub struct Beacons {
    _stop: Sender<()>,
}

impl Beacons {
    /// Starts a thread that sends `beacon` once a second to the second lane.
    ///
    /// # Errors
    /// The interface cannot send multicast.
    pub fn start(
        beacon: &Beacon,
        second: SocketAddrV4,
        interface: Ipv4Addr,
        ttl: u32,
    ) -> io::Result<Self> {
        let socket = SendSocket::open(interface, ttl)?;
        let packet = beacon.emit();
        let (stop, stopped) = channel();
        std::thread::Builder::new().name("beacon".into()).spawn(move || {
            let mut failed = false;
            loop {
                match socket.send(second, &packet, packet.len()) {
                    Ok(()) => failed = false,
                    Err(error) if !failed => {
                        tracing::warn!(%second, %error, "beacon not sent; agents must be told the console's address");
                        failed = true;
                    }
                    Err(_) => {}
                }
                if stopped.recv_timeout(EVERY) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        })?;
        Ok(Self { _stop: stop })
    }
}

/// Listens on one interface for a beacon that `accept` accepts, for at most `timeout`. Blocks.
/// Returns the beacon and its source address; `None` after the timeout.
///
/// # Errors
/// The group cannot be joined.
pub fn listen(
    second: SocketAddrV4,
    interface: Ipv4Addr,
    timeout: Duration,
    accept: &dyn Fn(&Beacon) -> bool,
) -> io::Result<Option<(Beacon, Ipv4Addr)>> {
    let clock = super::clock::Clock::start();
    let mut socket = ReceiveSocket::join(second, interface)?;
    let deadline =
        multicast::Instant::from_micros(u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX));
    loop {
        let left = clock.until(deadline);
        if left.is_zero() {
            return Ok(None);
        }
        wait_readable(&[&socket], left.min(Duration::from_millis(200)))?;
        let mut heard = None;
        socket.drain(|datagram, from| {
            if let (None, Ok(beacon)) = (&heard, Beacon::parse(datagram)) {
                heard = accept(&beacon).then_some((beacon, from));
            }
        })?;
        if heard.is_some() {
            return Ok(heard);
        }
    }
}
