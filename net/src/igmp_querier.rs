//! Rules of the IGMP querier: watching for one, and acting as one. No sockets.
//!
//! ```text
//! silent for 130 s ------> warn: switches forget memberships after 260 s
//! role: querier ---------> query at once, again after a quarter, then every interval
//!    lower address queries > stop until it has been gone for 255 s
//! role: member ----------> report its groups every 60 s while there is no querier
//! ```
//!
//! Owns: timers and the election (RFC 2236 section 3, RFC 4541 section 2). Time is an argument.
//! Invariants: of several queriers that hear each other, the one with the lowest address continues;
//! a query from 0.0.0.0 (a snooping switch that queries for itself) never wins.

use multicast::{Duration, Instant};
use std::net::Ipv4Addr;

/// Time without a query that counts as silence. Queries come every 125 s by default.
pub const SILENCE: Duration = Duration::from_secs(130);
/// Time after which another querier counts as gone: 2 x 125 + 5 s.
const OTHER_GONE: Duration = Duration::from_secs(255);
/// Time between own reports while there is no querier.
const REPORT_EVERY: Duration = Duration::from_secs(60);

/// Task besides listening.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Role {
    /// No further task.
    Listener,
    /// Send queries, unless a machine with a lower address does.
    Querier {
        /// Time between two queries.
        interval: Duration,
    },
    /// Keep memberships alive while there is no querier.
    Member {
        /// Groups this machine has joined.
        groups: Vec<Ipv4Addr>,
    },
}

/// Packets to send now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Send {
    /// A general query, to be answered within this many tenths of a second.
    Query(u8),
    /// A report for each of these groups.
    Reports(Vec<Ipv4Addr>),
}

/// A change, for the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Notice {
    /// No query was heard for [`SILENCE`].
    Silent,
    /// This querier is heard, for the first time or again.
    Heard(Ipv4Addr),
    /// A querier with a lower address is active: this one stops.
    Yielded(Ipv4Addr),
    /// The other querier is gone: this one queries again.
    Resumed,
}

/// State of the querier on one interface.
#[derive(Clone, Debug)]
pub struct Watch {
    own: Ipv4Addr,
    role: Role,
    since: Instant,
    heard: Option<(Ipv4Addr, Instant)>,
    /// The querier with a lower address, and the time of its last query.
    lower: Option<(Ipv4Addr, Instant)>,
    next: Instant,
    sent: u32,
    said_silent: bool,
    said_heard: Option<Ipv4Addr>,
    notices: Vec<Notice>,
}

impl Watch {
    /// Starts listening now, on the interface with this address.
    pub fn new(own: Ipv4Addr, role: Role, now: Instant) -> Self {
        let first = match role {
            Role::Member { .. } => REPORT_EVERY,
            Role::Listener | Role::Querier { .. } => Duration::default(),
        };
        Self {
            own,
            role,
            since: now,
            heard: None,
            lower: None,
            next: now + first,
            sent: 0,
            said_silent: false,
            said_heard: None,
            notices: Vec::new(),
        }
    }

    /// Handles a general query from `source`.
    pub fn handle_query(&mut self, now: Instant, source: Ipv4Addr) {
        if source == self.own {
            return;
        }
        self.heard = Some((source, now));
        self.said_silent = false;
        if self.said_heard != Some(source) {
            self.said_heard = Some(source);
            self.notices.push(Notice::Heard(source));
        }
        if matches!(self.role, Role::Querier { .. })
            && !source.is_unspecified()
            && source < self.own
        {
            if self.lower.is_none() {
                self.notices.push(Notice::Yielded(source));
            }
            self.lower = Some((source, now));
        }
    }

    /// The packets to send now, if any.
    pub fn poll_send(&mut self, now: Instant) -> Option<Send> {
        if let Some((_, at)) = self.lower {
            if now.saturating_since(at) < OTHER_GONE {
                return None;
            }
            self.lower = None;
            self.next = now;
            self.sent = 0;
            self.notices.push(Notice::Resumed);
        }
        if now < self.next {
            return None;
        }
        match &self.role {
            Role::Listener => None,
            Role::Querier { interval } => {
                let interval = *interval;
                // Two queries at the start, a quarter of an interval apart (RFC 2236 8.6, 8.7): one
                // may be lost while ports come up.
                let quarter = Duration::from_micros(interval.as_micros() / 4);
                self.next = now + if self.sent == 0 { quarter } else { interval };
                self.sent = self.sent.saturating_add(1);
                // All reports must arrive before the next query; 10 s is the standard's value.
                let tenths = (interval.as_micros() / 200_000).clamp(1, 100);
                Some(Send::Query(u8::try_from(tenths).unwrap_or(100)))
            }
            Role::Member { groups } => {
                self.next = now + REPORT_EVERY;
                // While there is a querier, the kernel sends the reports.
                let asked = self
                    .heard
                    .is_some_and(|(_, at)| now.saturating_since(at) < SILENCE);
                (!asked).then(|| Send::Reports(groups.clone()))
            }
        }
    }

    /// The next change since the last call, if any.
    pub fn poll_notice(&mut self, now: Instant) -> Option<Notice> {
        if !self.said_silent && self.silent_for(now).is_some() {
            self.said_silent = true;
            self.said_heard = None;
            self.notices.push(Notice::Silent);
        }
        (!self.notices.is_empty()).then(|| self.notices.remove(0))
    }

    /// The querier heard within [`SILENCE`], and the time since then.
    pub fn heard(&self, now: Instant) -> Option<(Ipv4Addr, Duration)> {
        self.heard
            .map(|(who, at)| (who, now.saturating_since(at)))
            .filter(|(_, ago)| *ago < SILENCE)
    }

    /// True while this machine is the querier.
    pub fn is_querier(&self) -> bool {
        matches!(self.role, Role::Querier { .. }) && self.lower.is_none()
    }

    /// Time since listening began.
    pub fn listening(&self, now: Instant) -> Duration {
        now.saturating_since(self.since)
    }

    /// Time without a query, when it is longer than [`SILENCE`]. `None` while this machine is the
    /// querier.
    pub fn silent_for(&self, now: Instant) -> Option<Duration> {
        let last = self.heard.map_or(self.since, |(_, at)| at);
        let silent = now.saturating_since(last);
        (silent >= SILENCE && !self.is_querier()).then_some(silent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOW: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const OWN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);
    const HIGH: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);

    fn at(secs: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(secs)
    }

    fn querier() -> Watch {
        let interval = Duration::from_secs(60);
        Watch::new(OWN, Role::Querier { interval }, at(0))
    }

    /// Seconds before `until` at which something is sent.
    fn sends(watch: &mut Watch, from: u64, until: u64) -> Vec<u64> {
        (from..until)
            .filter(|second| watch.poll_send(at(*second)).is_some())
            .collect()
    }

    #[test]
    fn asks_at_once_and_then_every_interval() {
        let mut watch = querier();
        assert_eq!(watch.poll_send(at(0)), Some(Send::Query(100)));
        assert_eq!(sends(&mut watch, 1, 200), [15, 75, 135, 195]);
        assert!(watch.is_querier());
        assert_eq!(watch.silent_for(at(1000)), None);
    }

    #[test]
    fn the_lowest_address_asks_and_the_next_follows_when_it_is_gone() {
        let mut watch = querier();
        sends(&mut watch, 0, 60);
        watch.handle_query(at(60), HIGH);
        watch.handle_query(at(61), Ipv4Addr::UNSPECIFIED);
        watch.handle_query(at(62), OWN);
        assert!(watch.is_querier(), "only a lower address wins");
        watch.handle_query(at(70), LOW);
        assert!(!watch.is_querier());
        assert_eq!(sends(&mut watch, 70, 195), [] as [u64; 0]);
        watch.handle_query(at(195), LOW);
        // The other querier was last heard 255 s ago.
        assert_eq!(sends(&mut watch, 195, 600).first(), Some(&450));
        assert!(watch.is_querier());
        let notices: Vec<_> = std::iter::from_fn(|| watch.poll_notice(at(600))).collect();
        assert!(
            notices.contains(&Notice::Yielded(LOW)) && notices.contains(&Notice::Resumed),
            "{notices:?}"
        );
    }

    #[test]
    fn silence_is_said_once_and_taken_back() {
        let mut watch = Watch::new(OWN, Role::Listener, at(0));
        assert_eq!(watch.poll_notice(at(129)), None);
        assert_eq!(watch.poll_notice(at(130)), Some(Notice::Silent));
        assert_eq!(watch.poll_notice(at(500)), None);
        assert_eq!(watch.silent_for(at(500)), Some(Duration::from_secs(500)));
        watch.handle_query(at(501), LOW);
        assert_eq!(watch.poll_notice(at(501)), Some(Notice::Heard(LOW)));
        assert_eq!(watch.heard(at(502)), Some((LOW, Duration::from_secs(1))));
        assert_eq!(watch.silent_for(at(600)), None);
        assert_eq!(watch.poll_notice(at(640)), Some(Notice::Silent));
        assert_eq!(watch.poll_send(at(640)), None);
    }

    #[test]
    fn members_report_where_nobody_asks() {
        let groups = vec![Ipv4Addr::new(239, 254, 1, 1), Ipv4Addr::new(239, 254, 1, 2)];
        let member = Role::Member {
            groups: groups.clone(),
        };
        let mut watch = Watch::new(OWN, member.clone(), at(0));
        assert_eq!(sends(&mut watch, 0, 200), [60, 120, 180]);
        assert_eq!(watch.poll_send(at(240)), Some(Send::Reports(groups)));
        let mut asked = Watch::new(OWN, member, at(0));
        asked.handle_query(at(50), Ipv4Addr::UNSPECIFIED);
        assert_eq!(
            sends(&mut asked, 51, 300),
            [180, 240],
            "silent again after 130 s"
        );
    }

    #[test]
    fn a_short_interval_leaves_room_for_answers() {
        let interval = Duration::from_secs(2);
        let mut watch = Watch::new(OWN, Role::Querier { interval }, at(0));
        assert_eq!(watch.poll_send(at(0)), Some(Send::Query(10)));
    }
}
