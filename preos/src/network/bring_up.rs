//! Brings the network up: one thread chooses cards, and one thread for each card keeps its address.
//!
//! Owns the loops around [`super::exchange`] and [`super::netlink`], which decide. A card whose
//! cable is pulled keeps its lease and goes on when the cable is back.

#![expect(
    clippy::disallowed_methods,
    reason = "links and servers answer in real time"
)]

use super::cards::{self, Card, Choice};
use super::exchange::{Event, Exchange, To};
use super::netlink::Netlink;
use crate::board::{Board, CardState, CardView};
use crate::cmdline::{Ip, Settings};
use facts::Uuid;
use pxe::dhcp::{self, Lease, Packet};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

/// Interval between two checks of a cable without a signal. Negotiation takes one to three seconds;
/// this is the most that is added to it.
const LINK_POLL: Duration = Duration::from_millis(100);
/// Interval between two checks for new cards.
const CARD_POLL: Duration = Duration::from_millis(250);
/// Longest wait for a DHCP packet before the cable is checked again.
const RECEIVE: Duration = Duration::from_millis(500);

/// Values that the threads need.
#[derive(Clone)]
pub struct Plan {
    /// The settings of the command line.
    pub settings: Settings,
    /// UUID of the machine, for the DHCP server.
    pub uuid: Option<Uuid>,
    /// The state for the screen.
    pub board: Board,
    /// Start of the pre-OS.
    pub began: Instant,
    /// Receives each address that a card gets.
    pub addresses: Sender<(Card, Ipv4Addr)>,
}

/// Starts the threads.
///
/// # Errors
/// A thread cannot be started.
pub fn start(plan: Plan) -> io::Result<()> {
    std::thread::Builder::new()
        .name("cards".into())
        .spawn(move || {
            if let Err(error) = Netlink::open().and_then(|mut netlink| netlink.up(1)) {
                tracing::debug!(%error, "the loopback stays down");
            }
            let mut taken = BTreeSet::new();
            loop {
                let choice = cards::choose(
                    &cards::list(),
                    plan.settings.card,
                    plan.began.elapsed().as_secs(),
                );
                plan.board.change(|situation| {
                    situation.awaited = match choice {
                        Choice::Wait(mac) => Some(mac),
                        _ => None,
                    };
                });
                let wanted = match choice {
                    Choice::Booted(card) => vec![card],
                    Choice::All(cards) => cards,
                    Choice::Wait(_) => Vec::new(),
                };
                for card in wanted {
                    if taken.insert(card.index) {
                        run_card(plan.clone(), card);
                    }
                }
                std::thread::sleep(CARD_POLL);
            }
        })
        .map(drop)
}

fn run_card(plan: Plan, card: Card) {
    let name = card.name.clone();
    let spawned = std::thread::Builder::new()
        .name(format!("card-{name}"))
        .spawn(move || {
            let mut keeper = Keeper {
                plan,
                card,
                has: None,
            };
            loop {
                let Err(error) = keeper.keep();
                tracing::warn!(card = keeper.card.name, %error, "the card does not work; trying again");
                keeper.show(CardState::Broken(error.to_string()));
                std::thread::sleep(Duration::from_secs(3));
            }
        });
    if let Err(error) = spawned {
        tracing::error!(card = name, %error, "no thread for the card");
    }
}

/// The address a card has now.
#[derive(Clone, Copy, Eq, PartialEq)]
struct Has {
    address: Ipv4Addr,
    prefix: u8,
    gateway: Option<Ipv4Addr>,
    server: Option<Ipv4Addr>,
}

struct Keeper {
    plan: Plan,
    card: Card,
    has: Option<Has>,
}

enum Never {}

impl Keeper {
    fn keep(&mut self) -> Result<Never, io::Error> {
        let mut netlink = Netlink::open()?;
        netlink.up(self.card.index)?;
        self.wait_for_link();
        match self.plan.settings.ip {
            Ip::Static {
                address,
                prefix,
                gateway,
            } => {
                self.take(
                    &mut netlink,
                    Has {
                        address,
                        prefix,
                        gateway,
                        server: None,
                    },
                )?;
                loop {
                    std::thread::sleep(RECEIVE);
                    self.wait_for_link();
                }
            }
            Ip::Dhcp => self.dhcp(&mut netlink),
        }
    }

    fn dhcp(&mut self, netlink: &mut Netlink) -> Result<Never, io::Error> {
        let socket = socket_on(&self.card.name)?;
        let mut seed = [0; 8];
        // Without random bytes (the kernel has them within a second) the card's own address is
        // different enough.
        if getrandom::fill(&mut seed).is_err() {
            seed[..6].copy_from_slice(&self.card.mac.0);
        }
        let began = self.plan.began;
        let mut exchange = Exchange::new(
            self.card.mac,
            self.plan.uuid,
            None,
            u64::from_be_bytes(seed),
            began.elapsed(),
        );
        let since = began.elapsed().as_secs();
        let mut buffer = [0; dhcp::MAX_BYTES];
        loop {
            if self.wait_for_link() {
                exchange.link_returned(began.elapsed());
            }
            if self.has.is_none() {
                self.show(CardState::Asking {
                    since,
                    questions: exchange.unanswered(),
                });
            }
            if let Some((packet, to)) = exchange.poll_transmit(began.elapsed()) {
                let to = match to {
                    To::Everyone => Ipv4Addr::BROADCAST,
                    To::Server(server) => server,
                };
                // The cable may have been pulled this moment; the next try decides.
                if let Err(error) =
                    socket.send_to(&packet.emit(), SocketAddrV4::new(to, dhcp::SERVER_PORT))
                {
                    tracing::debug!(card = self.card.name, %to, %error, "DHCP question not sent");
                }
            }
            let wait = exchange.poll_timeout().saturating_sub(began.elapsed());
            socket.set_read_timeout(Some(wait.clamp(Duration::from_millis(10), RECEIVE)))?;
            if let Ok((len, _)) = socket.recv_from(&mut buffer)
                && let Ok(packet) = Packet::parse(buffer.get(..len).unwrap_or_default())
            {
                exchange.handle_packet(began.elapsed(), &packet);
            }
            while let Some(event) = exchange.poll_event() {
                self.obey(netlink, event)?;
            }
        }
    }

    fn obey(&mut self, netlink: &mut Netlink, event: Event) -> io::Result<()> {
        match event {
            Event::Bound(lease) => {
                host_name(&lease);
                self.take(
                    netlink,
                    Has {
                        address: lease.address,
                        prefix: lease.prefix,
                        gateway: lease.routers.first().copied(),
                        server: Some(lease.server),
                    },
                )
            }
            Event::Expired => {
                tracing::warn!(
                    card = self.card.name,
                    "the lease ended and no DHCP server renewed it; the address stays in use"
                );
                Ok(())
            }
            Event::Refused(server) => {
                tracing::warn!(card = self.card.name, %server, "the DHCP server took the address back; asking again");
                Ok(())
            }
        }
    }

    fn take(&mut self, netlink: &mut Netlink, has: Has) -> io::Result<()> {
        let index = self.card.index;
        if let Some(old) = self
            .has
            .take_if(|old| old.address != has.address || old.prefix != has.prefix)
            && let Err(error) = netlink.remove_address(index, old.address, old.prefix)
        {
            tracing::debug!(address = %old.address, %error, "the old address stays");
        }
        netlink.add_address(index, has.address, has.prefix)?;
        if let Some(gateway) = has.gateway
            && let Err(error) = netlink.set_gateway(index, gateway)
        {
            // A network without a router is fully usable inside.
            tracing::warn!(%gateway, %error, "no way out by the router the DHCP server named");
        }
        if self.has != Some(has) {
            tracing::info!(card = self.card.name, address = %has.address, prefix = has.prefix, server = ?has.server, "address");
        }
        self.has = Some(has);
        self.show_address();
        let _ = self.plan.addresses.send((self.card.clone(), has.address));
        Ok(())
    }

    /// Returns when there is a signal on the cable; true if there was none at first.
    fn wait_for_link(&self) -> bool {
        let since = self.plan.began.elapsed().as_secs();
        let mut waited = false;
        while self.card.has_link() != Some(true) {
            // Shown after a moment only: every card is without link while it negotiates.
            self.show(CardState::NoLink { since });
            waited = true;
            std::thread::sleep(LINK_POLL);
        }
        if waited {
            self.show_address();
        }
        waited
    }

    fn show_address(&self) {
        if let Some(has) = self.has {
            self.show(CardState::Ready {
                address: has.address,
                prefix: has.prefix,
                gateway: has.gateway,
                server: has.server,
            });
        }
    }

    fn show(&self, state: CardState) {
        let (name, mac) = (self.card.name.clone(), self.card.mac);
        self.plan.board.change(|situation| {
            situation.cards.insert(name, CardView { mac, state });
        });
    }
}

/// Sets the host name to the one from the DHCP server, if it is valid.
fn host_name(lease: &Lease) {
    if let Some(name) = &lease.host_name
        && name.len() <= 63
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.')
        && let Err(error) = rustix::system::sethostname(name.as_bytes())
    {
        tracing::debug!(%error, "host name not set");
    }
}

/// A socket bound to one card, which may have no address yet: the kernel takes the card from the
/// binding and 0.0.0.0 as the sender.
fn socket_on(card: &str) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.set_broadcast(true)?;
    socket.bind_device(Some(card.as_bytes()))?;
    socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, dhcp::CLIENT_PORT).into())?;
    Ok(socket.into())
}
