//! The DHCP client as a state machine (RFC 2131 section 4.4).
//!
//! ```text
//! selecting --offer--> requesting --ack--> bound --T1--> renewing --T2--> rebinding --end--> selecting
//!     ^-- no answer, nak --'                 ^-------------ack--'--------------'
//! ```
//!
//! Call `poll_transmit` until it gives nothing, wait until `poll_timeout` or a packet, pass packets
//! to `handle_packet`, and take the results from `poll_event`. Time never goes back. Owns the
//! exchange, never a socket or the card's address. No call panics; a server's answer is used only
//! as an address, a prefix, routers and times.
//!
//! A lease that ends without a server is not given up: the address stays on the card while a new
//! one is requested. Otherwise a DHCP server that fails in the middle of a deployment would take
//! every target with it. The risk that it comes back and gives the address away within that time is
//! the smaller harm.

use facts::{Mac, Uuid};
use pxe::dhcp::client::Client;
use pxe::dhcp::{Lease, MessageType, Packet};
use std::net::Ipv4Addr;
use std::time::Duration;

/// First wait for an answer. Much shorter than the RFC's four seconds: a switch port that just came
/// up drops the first question, and a person is waiting.
const FIRST: Duration = Duration::from_secs(1);
/// Longest wait for an answer.
const LONGEST: Duration = Duration::from_secs(8);
/// Requests for one offer before another is looked for.
const REQUESTS: u32 = 4;
/// Shortest pause between two renewals (RFC 2131 section 4.4.5).
const RENEW_EVERY: Duration = Duration::from_secs(60);
/// Shortest half of a lease that is accepted: with a server that says 0 the requests would never
/// stop.
const SHORTEST: Duration = Duration::from_secs(30);
/// Vendor class, by which servers can tell the pre-OS from firmware.
const CLASS: &str = "diskcast";

/// Destination of a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum To {
    /// Broadcast to 255.255.255.255.
    Everyone,
    /// The server that gave the lease.
    Server(Ipv4Addr),
}

/// Result of the exchange.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// A lease to put on the card (also when the address is the same as before: the route may be
    /// new).
    Bound(Lease),
    /// The lease ended without a renewal.
    Expired,
    /// The server withdrew its offer.
    Refused(Ipv4Addr),
}

#[derive(Debug)]
enum State {
    Selecting,
    Requesting {
        offer: Lease,
        left: u32,
    },
    Bound {
        lease: Lease,
        since: Duration,
        /// Time from which it is renewed: T1, or the moment the cable was plugged in again.
        renew_from: Duration,
        /// True after the cable was plugged in again: the network may be another one, so every
        /// server is asked.
        moved: bool,
    },
}

/// The DHCP client of one card.
#[derive(Debug)]
pub struct Exchange {
    mac: Mac,
    uuid: Option<Uuid>,
    host_name: Option<String>,
    seed: u64,
    state: State,
    xid: u32,
    started: Duration,
    wait: Duration,
    /// Time of the next packet.
    next: Duration,
    /// Events not yet taken.
    events: Vec<Event>,
    asked: u32,
}

impl Exchange {
    /// A client that starts at `now`. Machines that were switched on together need different
    /// `seed`s, so that they send at different moments.
    pub fn new(
        mac: Mac,
        uuid: Option<Uuid>,
        host_name: Option<String>,
        seed: u64,
        now: Duration,
    ) -> Self {
        let mut exchange = Self {
            mac,
            uuid,
            host_name,
            seed,
            state: State::Selecting,
            xid: 0,
            started: now,
            wait: FIRST,
            next: now,
            events: Vec::new(),
            asked: 0,
        };
        exchange.select(now);
        exchange
    }

    /// Number of questions sent since the last answer with an address.
    pub fn unanswered(&self) -> u32 {
        self.asked
    }

    /// The current lease.
    pub fn lease(&self) -> Option<&Lease> {
        match &self.state {
            State::Bound { lease, .. } => Some(lease),
            _ => None,
        }
    }

    /// The latest time for the next call of `poll_transmit`.
    pub fn poll_timeout(&self) -> Duration {
        self.next
    }

    /// The next event, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        (!self.events.is_empty()).then(|| self.events.remove(0))
    }

    /// The next packet to send at `now`.
    pub fn poll_transmit(&mut self, now: Duration) -> Option<(Packet, To)> {
        if now < self.next {
            return None;
        }
        if let State::Bound { lease, since, .. } = &self.state
            && now >= later(*since, secs(lease.seconds))
        {
            self.events.push(Event::Expired);
            self.select(now);
        }
        if matches!(self.state, State::Requesting { left: 0, .. }) {
            self.select(now);
        }
        let secs_field =
            u16::try_from(now.saturating_sub(self.started).as_secs()).unwrap_or(u16::MAX);
        let xid = self.xid;
        let client = Client {
            mac: self.mac,
            uuid: self.uuid,
            host_name: self.host_name.as_deref(),
            class: CLASS,
        };
        let out = match &mut self.state {
            State::Selecting => (client.discover(xid, secs_field), To::Everyone),
            State::Requesting { offer, left } => {
                *left -= 1;
                (client.request(xid, secs_field, offer), To::Everyone)
            }
            State::Bound {
                lease,
                since,
                moved,
                ..
            } => {
                let (_, rebind, end) = times(lease);
                let age = now.saturating_sub(*since);
                let (to, until) = match (age < rebind, *moved) {
                    (true, false) => (To::Server(lease.server), rebind),
                    (true, true) => (To::Everyone, rebind),
                    (false, _) => (To::Everyone, end),
                };
                // Half of the time left, but not more often than once a minute (RFC 2131 section
                // 4.4.5).
                let left = until.saturating_sub(age);
                // A port that just came up drops the first question, so the next one follows
                // sooner.
                let pause = if *moved {
                    LONGEST
                } else {
                    (left / 2).max(RENEW_EVERY)
                };
                let pause = pause.min(left.max(Duration::from_secs(1)));
                let packet = client.renew(xid, secs_field, lease);
                self.next = later(now, pause);
                self.asked = self.asked.saturating_add(1);
                return Some((packet, to));
            }
        };
        let jitter = Duration::from_millis(self.draw() % 500);
        self.next = later(now, self.wait + jitter);
        self.wait = (self.wait * 2).min(LONGEST);
        self.asked = self.asked.saturating_add(1);
        Some(out)
    }

    /// Handles a cable that was plugged in again: the lease is requested at once, from any server.
    pub fn link_returned(&mut self, now: Duration) {
        if let State::Bound {
            renew_from, moved, ..
        } = &mut self.state
        {
            *renew_from = now;
            *moved = true;
        }
        self.next = now;
    }

    /// Handles a packet. Packets that are not for this exchange are ignored.
    pub fn handle_packet(&mut self, now: Duration, packet: &Packet) {
        if packet.xid != self.xid || packet.mac != self.mac {
            return;
        }
        match (packet.message_type(), &self.state) {
            (Some(MessageType::Offer), State::Selecting) => {
                if let Some(offer) = Lease::read(packet, self.mac, self.xid) {
                    self.state = State::Requesting {
                        offer,
                        left: REQUESTS,
                    };
                    self.wait = FIRST;
                    self.next = now;
                }
            }
            (Some(MessageType::Ack), State::Requesting { offer, .. }) => {
                let lease = Lease::read(packet, self.mac, self.xid);
                // Ignores another server that takes the request for its own.
                let lease = lease.filter(|lease| lease.server == offer.server);
                if let Some(lease) = lease {
                    self.bind(now, lease);
                }
            }
            (Some(MessageType::Ack), State::Bound { renew_from, .. }) if now >= *renew_from => {
                if let Some(lease) = Lease::read(packet, self.mac, self.xid) {
                    self.bind(now, lease);
                }
            }
            (Some(MessageType::Nak), State::Requesting { offer, .. }) => {
                let server = offer.server;
                self.events.push(Event::Refused(server));
                // A pause, because otherwise a server that offers and refuses would be asked
                // without end.
                let rest = self.wait;
                self.select(now);
                self.next = later(now, rest);
                self.wait = (rest * 2).min(LONGEST);
            }
            (
                Some(MessageType::Nak),
                State::Bound {
                    lease, renew_from, ..
                },
            ) if now >= *renew_from => {
                let server = lease.server;
                self.events.push(Event::Refused(server));
                self.select(now);
            }
            _ => {}
        }
    }

    fn bind(&mut self, now: Duration, lease: Lease) {
        let renew_from = later(now, times(&lease).0);
        self.next = renew_from;
        self.asked = 0;
        self.events.push(Event::Bound(lease.clone()));
        self.state = State::Bound {
            lease,
            since: now,
            renew_from,
            moved: false,
        };
        // A renewal is a new exchange.
        self.xid = self.draw_xid();
        self.started = self.next;
    }

    fn select(&mut self, now: Duration) {
        self.state = State::Selecting;
        self.xid = self.draw_xid();
        self.started = now;
        self.wait = FIRST;
        self.next = now;
    }

    fn draw_xid(&mut self) -> u32 {
        let [a, b, c, d, ..] = self.draw().to_be_bytes();
        u32::from_be_bytes([a, b, c, d])
    }

    /// SplitMix64: need not be secret (others on the network see the number anyway), only different
    /// from machine to machine.
    fn draw(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Times of a lease since the acknowledgement: renewal, asking every server, end.
fn times(lease: &Lease) -> (Duration, Duration, Duration) {
    let renew = secs(lease.renew_seconds).max(SHORTEST);
    let rebind = secs(lease.rebind_seconds).max(renew);
    (renew, rebind, secs(lease.seconds).max(rebind))
}

fn secs(seconds: u32) -> Duration {
    Duration::from_secs(u64::from(seconds))
}

fn later(from: Duration, by: Duration) -> Duration {
    from.saturating_add(by)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use pxe::dhcp::code;

    const MAC: Mac = Mac([0x52, 0x54, 0, 1, 2, 3]);
    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 77);

    fn exchange() -> Exchange {
        Exchange::new(MAC, None, Some("pc-1".into()), 7, Duration::ZERO)
    }

    fn answer(question: &Packet, kind: MessageType, seconds: u32) -> Packet {
        let mut answer = question.answer(kind, SERVER);
        answer.yiaddr = ADDRESS;
        answer
            .options
            .set_address(code::SUBNET_MASK, Ipv4Addr::new(255, 255, 255, 0));
        answer.options.set_seconds(code::LEASE_SECONDS, seconds);
        answer
    }

    /// Steps through to a lease; returns the time.
    fn bound(exchange: &mut Exchange, seconds: u32) -> Duration {
        let now = exchange.poll_timeout();
        let (discover, to) = exchange.poll_transmit(now).unwrap();
        assert_eq!(
            (discover.message_type(), to),
            (Some(MessageType::Discover), To::Everyone)
        );
        assert!(discover.broadcast, "the answer must come by broadcast");
        exchange.handle_packet(now, &answer(&discover, MessageType::Offer, seconds));
        let (request, _) = exchange.poll_transmit(now).unwrap();
        assert_eq!(request.message_type(), Some(MessageType::Request));
        assert_eq!(
            request.options.address(code::REQUESTED_ADDRESS),
            Some(ADDRESS)
        );
        exchange.handle_packet(now, &answer(&request, MessageType::Ack, seconds));
        assert!(
            matches!(exchange.poll_event(), Some(Event::Bound(lease)) if lease.address == ADDRESS && lease.prefix == 24)
        );
        assert_eq!(exchange.unanswered(), 0);
        now
    }

    #[test]
    fn a_silent_network_is_asked_again_and_again_with_pauses_that_grow() {
        let mut exchange = exchange();
        let mut times = Vec::new();
        for _ in 0..8 {
            let now = exchange.poll_timeout();
            assert!(exchange.poll_transmit(now).is_some());
            assert!(exchange.poll_transmit(now).is_none(), "once");
            times.push(now);
        }
        let pauses: Vec<u64> = times.windows(2).map(|w| (w[1] - w[0]).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 8, 8, 8]);
        assert_eq!(exchange.unanswered(), 8);
    }

    #[test]
    fn a_lease_is_renewed_at_its_server_then_everywhere_then_asked_for_anew() {
        let mut exchange = exchange();
        let since = bound(&mut exchange, 800);
        assert_eq!(exchange.poll_timeout(), since + Duration::from_secs(400));
        let (renew, to) = exchange
            .poll_transmit(since + Duration::from_secs(400))
            .unwrap();
        assert_eq!((renew.ciaddr, to), (ADDRESS, To::Server(SERVER)));
        let mut last = to;
        let mut expired = false;
        while !expired {
            let now = exchange.poll_timeout();
            let (packet, to) = exchange.poll_transmit(now).unwrap();
            expired = exchange.poll_event() == Some(Event::Expired);
            if !expired {
                assert_eq!(to == To::Everyone, now >= since + Duration::from_secs(700));
                assert_eq!(packet.ciaddr, ADDRESS);
            } else {
                assert_eq!(packet.message_type(), Some(MessageType::Discover));
                assert!(now >= since + Duration::from_secs(800));
            }
            last = to;
        }
        assert_eq!(last, To::Everyone);
    }

    #[test]
    fn an_acknowledged_renewal_starts_the_lease_anew() {
        let mut exchange = exchange();
        let since = bound(&mut exchange, 800);
        let now = since + Duration::from_secs(400);
        let (renew, _) = exchange.poll_transmit(now).unwrap();
        exchange.handle_packet(now, &answer(&renew, MessageType::Ack, 800));
        assert!(matches!(exchange.poll_event(), Some(Event::Bound(_))));
        assert_eq!(exchange.poll_timeout(), now + Duration::from_secs(400));
    }

    #[test]
    fn a_cable_put_into_another_network_gets_another_address() {
        let mut exchange = exchange();
        let now = bound(&mut exchange, 800) + Duration::from_secs(50);
        exchange.link_returned(now);
        let (question, to) = exchange.poll_transmit(now).unwrap();
        assert_eq!((question.ciaddr, to), (ADDRESS, To::Everyone));
        exchange.handle_packet(now, &question.answer(MessageType::Nak, SERVER));
        assert_eq!(exchange.poll_event(), Some(Event::Refused(SERVER)));
        let (question, _) = exchange.poll_transmit(now).unwrap();
        assert_eq!(question.message_type(), Some(MessageType::Discover));
    }

    #[test]
    fn what_is_not_meant_for_us_changes_nothing() {
        let mut exchange = exchange();
        let (discover, _) = exchange.poll_transmit(Duration::ZERO).unwrap();
        let mut foreign = answer(&discover, MessageType::Offer, 60);
        foreign.xid ^= 1;
        exchange.handle_packet(Duration::ZERO, &foreign);
        let mut proxy = answer(&discover, MessageType::Offer, 60);
        proxy.yiaddr = Ipv4Addr::UNSPECIFIED;
        exchange.handle_packet(Duration::ZERO, &proxy);
        exchange.handle_packet(Duration::ZERO, &answer(&discover, MessageType::Ack, 60));
        assert!(exchange.lease().is_none() && exchange.poll_event().is_none());
        assert!(exchange.poll_transmit(Duration::ZERO).is_none());
    }

    #[test]
    fn a_server_that_offers_and_refuses_is_not_asked_without_end() {
        let mut exchange = exchange();
        let mut now = Duration::ZERO;
        let mut questions = 0;
        while now < Duration::from_secs(60) {
            now = exchange.poll_timeout();
            let Some((packet, _)) = exchange.poll_transmit(now) else {
                continue;
            };
            questions += 1;
            let kind = match packet.message_type() {
                Some(MessageType::Discover) => MessageType::Offer,
                _ => MessageType::Nak,
            };
            exchange.handle_packet(now, &answer(&packet, kind, 60));
        }
        assert!(questions < 130, "{questions} questions in a minute");
    }

    proptest! {
        #[test]
        fn any_answers_at_any_time_leave_it_asking(steps in proptest::collection::vec((0u64..2_000, 0u8..10, any::<u32>(), any::<bool>()), 1..60)) {
            let mut exchange = exchange();
            let mut now = Duration::ZERO;
            let mut last = None;
            for (wait, kind, seconds, honest) in steps {
                now += Duration::from_secs(wait);
                if let Some((packet, _)) = exchange.poll_transmit(now) {
                    last = Some(packet);
                }
                prop_assert!(exchange.poll_timeout() > now);
                if let (Some(question), Some(kind)) = (&last, MessageType::from_number(kind)) {
                    let mut packet = answer(question, kind, seconds);
                    packet.options.set_seconds(code::RENEW_SECONDS, seconds.rotate_left(7));
                    if honest { packet.xid = exchange.xid; }
                    exchange.handle_packet(now, &packet);
                }
                while exchange.poll_event().is_some() {}
            }
        }
    }
}
