//! Thread that listens for IGMP queries on one interface, and sends the packets of
//! [`super::igmp_querier`].
//!
//! A shell: decides nothing. It needs a raw socket (root, or CAP_NET_RAW); without the right to
//! one, the watch reports that and has no thread. It never sends the kernel's reports, and never
//! leaves a group to join it again: a switch would block the port in between.

use super::clock::Clock;
use super::igmp;
use super::igmp_querier::{Notice, Role, Send, Watch};
use super::socket::wait_until_readable;
use protocol::control::QuerierFacts;
use protocol::doctor::silence_text;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

/// Longest sleep: it bounds the delay of a query, and the time the thread outlives its owner.
const NAP: Duration = Duration::from_millis(250);
/// Protocol number of IGMP.
const IGMP: i32 = 2;

/// A watch that listens until it is dropped.
pub struct IgmpWatch {
    interface: String,
    state: Option<Arc<Mutex<Watch>>>,
    clock: Clock,
    /// The reason why there is no thread.
    unchecked: Option<String>,
}

impl IgmpWatch {
    /// Starts listening on the interface with this address. Failures are not errors, but part of
    /// [`IgmpWatch::facts`]; `role` takes effect only while the thread runs.
    pub fn start(interface: Ipv4Addr, role: Role) -> Self {
        let name = interface_name(interface);
        let clock = Clock::start();
        let idle = |name: String, why: String| Self {
            interface: name,
            state: None,
            clock,
            unchecked: Some(why),
        };
        if interface.is_loopback() {
            return idle("lo".to_owned(), "loopback has no IGMP".to_owned());
        }
        let Some(name) = name else {
            return idle(
                interface.to_string(),
                format!("no interface has the address {interface}"),
            );
        };
        let socket = match open(&name, interface) {
            Ok(socket) => socket,
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                return idle(name, "needs root (CAP_NET_RAW)".to_owned());
            }
            Err(error) => return idle(name, error.to_string()),
        };
        let state = Arc::new(Mutex::new(Watch::new(interface, role, clock.now())));
        let shared = Arc::downgrade(&state);
        let (own, label) = (interface, name.clone());
        let spawned = std::thread::Builder::new()
            .name("igmp".into())
            .spawn(move || {
                if let Err(error) = run(&socket, own, &label, clock, &shared) {
                    tracing::warn!(interface = label, %error, "IGMP is not watched any more");
                }
            });
        match spawned {
            Ok(_) => Self {
                interface: name,
                state: Some(state),
                clock,
                unchecked: None,
            },
            Err(error) => idle(name, error.to_string()),
        }
    }

    /// The reason why nobody listens; `None` while the thread runs.
    pub fn unchecked(&self) -> Option<&str> {
        self.unchecked.as_deref()
    }

    /// Facts about the querier.
    pub fn facts(&self) -> QuerierFacts {
        let mut facts = QuerierFacts {
            interface: self.interface.clone(),
            unchecked: self.unchecked.clone(),
            ..QuerierFacts::default()
        };
        let now = self.clock.now();
        if let Some(state) = &self.state {
            let watch = state.lock().unwrap_or_else(PoisonError::into_inner);
            facts.listening_seconds = watch.listening(now).as_micros() / 1_000_000;
            facts.own = watch.is_querier();
            facts.silent_seconds = watch.silent_for(now).map(|d| d.as_micros() / 1_000_000);
            if let Some((who, ago)) = watch.heard(now) {
                facts.heard = Some(who.to_string());
                facts.heard_seconds_ago = ago.as_micros() / 1_000_000;
            }
        }
        facts
    }

    /// The warning about missing queries, when they have been missing for longer than
    /// [`SILENCE`](super::igmp_querier::SILENCE); `None` while that is not known.
    pub fn warning(&self) -> Option<String> {
        let seconds = self.facts().silent_seconds?;
        Some(silence_text(&self.interface, seconds))
    }
}

/// Kernel name of the interface with this address.
pub fn interface_name(address: Ipv4Addr) -> Option<String> {
    if_addrs::get_if_addrs()
        .unwrap_or_default()
        .into_iter()
        .find(|interface| interface.ip() == address)
        // A name like `eth0:1` is a label of an address, not an interface.
        .map(|interface| {
            interface
                .name
                .split(':')
                .next()
                .unwrap_or_default()
                .to_owned()
        })
}

fn open(name: &str, address: Ipv4Addr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(IGMP)))?;
    socket.bind_device(Some(name.as_bytes()))?;
    socket.set_multicast_if_v4(&address)?;
    socket.set_multicast_loop_v4(false)?;
    // Packets come with their own header, because of the Router Alert option.
    socket.set_header_included_v4(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn run(
    socket: &Socket,
    own: Ipv4Addr,
    name: &str,
    clock: Clock,
    shared: &Weak<Mutex<Watch>>,
) -> io::Result<()> {
    let mut buffer = [0; 2048];
    let mut failed = false;
    loop {
        wait_until_readable(socket, NAP)?;
        let Some(state) = shared.upgrade() else {
            return Ok(());
        };
        // The limit keeps a flood of IGMP packets from delaying own queries.
        for _ in 0..64 {
            let mut reader = socket;
            let count = match reader.read(&mut buffer) {
                Ok(count) => count,
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    break;
                }
                // An interface that went down may come back.
                Err(e) if e.kind() == ErrorKind::NetworkDown => break,
                Err(e) => return Err(e),
            };
            let packet = igmp::parse(buffer.get(..count).unwrap_or_default());
            if let Some(source) = packet.ok().and_then(|packet| packet.general_query()) {
                lock(&state).handle_query(clock.now(), source);
            }
        }
        let now = clock.now();
        let (send, notice) = {
            let mut watch = lock(&state);
            (watch.poll_send(now), watch.poll_notice(now))
        };
        let sent = match send {
            None => Ok(()),
            Some(Send::Query(tenths)) => put(socket, igmp::ALL_HOSTS, &igmp::query(own, tenths)),
            Some(Send::Reports(groups)) => groups
                .iter()
                .try_for_each(|group| put(socket, *group, &igmp::report(own, *group))),
        };
        if let Err(error) = &sent
            && !failed
        {
            tracing::warn!(interface = name, %error, "IGMP packet not sent");
        }
        failed = sent.is_err();
        match notice {
            Some(Notice::Silent) => {
                let seconds = lock(&state)
                    .silent_for(now)
                    .map_or(0, |d| d.as_micros() / 1_000_000);
                tracing::warn!("{}", silence_text(name, seconds));
            }
            Some(Notice::Heard(who)) => {
                tracing::info!(interface = name, querier = %who, "IGMP querier heard");
            }
            Some(Notice::Yielded(who)) => {
                tracing::info!(interface = name, querier = %who, "another IGMP querier has the lower address: ours stops");
            }
            Some(Notice::Resumed) => {
                tracing::info!(
                    interface = name,
                    "the other IGMP querier is gone: ours asks again"
                );
            }
            None => {}
        }
    }
}

fn put(socket: &Socket, to: Ipv4Addr, packet: &[u8]) -> io::Result<()> {
    socket
        .send_to(packet, &SocketAddrV4::new(to, 0).into())
        .map(drop)
}

fn lock(state: &Mutex<Watch>) -> std::sync::MutexGuard<'_, Watch> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
