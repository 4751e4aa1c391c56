//! Network boot in a process of its own: the exchange between `diskcast pxe serve` and the console.
//!
//! ```text
//! POST /v1/boot/sync   BootSync (what happened since) -> BootOrders (who is to do what), once a second
//! ```
//!
//! The last answer holds until the next one. After [`FromConsole::forget`], and before the first
//! answer, every machine starts from its own disk.

use crate::context::Console;
use api::{ApiError, BootEvent, BootKnown, BootOrders, BootService, BootSync, SCHEMA_VERSION};
use client::Client;
use facts::boot::{Machine, Report, Verdict};
use facts::identity::Register;
use jobs::boot::policy::{Standing, verdict};
use pxe::machine::{Policy, Words};
use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Maximum number of events kept until the console has them; the oldest are dropped first.
const MAX_EVENTS: usize = 4096;

impl Console {
    /// Records the events and returns the orders for all machines.
    pub fn boot_sync(&self, sync: BootSync) -> BootOrders {
        for event in sync.events.iter().take(MAX_EVENTS) {
            if let Some(report) = report_of(event) {
                self.boot.report(&report);
            }
        }
        for server in sync.servers {
            self.boot.server_seen(server);
        }
        self.boot.set_service(sync.service);
        let (mut records, shared) = self.roster.identities();
        let mut known = Vec::new();
        self.roster.each(|row, job| {
            known.push(BootKnown {
                id: row.id.clone(),
                record: records.remove(&row.id).unwrap_or_default(),
                wanted: job.is_some_and(|state| !state.is_final()),
            });
        });
        for target in &mut known {
            target.wanted |= self.boot.is_woken(&target.id);
        }
        let words = self.boot_words();
        BootOrders {
            schema_version: SCHEMA_VERSION,
            policy: self.boot.policy,
            known,
            shared,
            console: words.console.unwrap_or_default(),
            pin: words.pin.unwrap_or_default(),
            second: words.second,
        }
    }
}

/// Converts a report to an event.
fn event_of(report: &Report) -> BootEvent {
    BootEvent {
        mac: report.machine.mac.to_string(),
        uuid: report.machine.uuid.map(|uuid| uuid.to_string()),
        stage: report.stage,
        firmware: report.firmware.clone(),
        address: report.address,
        detail: report.detail.clone(),
        failed: report.failed,
    }
}

/// Converts an event to a report; `None` if its MAC address is invalid.
fn report_of(event: &BootEvent) -> Option<Report> {
    let machine = Machine {
        mac: event.mac.parse().ok()?,
        uuid: event.uuid.as_deref().and_then(|text| text.parse().ok()),
    };
    Some(Report {
        machine,
        stage: event.stage,
        firmware: event.firmware.clone(),
        address: event.address,
        detail: event.detail.clone(),
        failed: event.failed,
    })
}

#[derive(Default)]
struct Inner {
    orders: Option<BootOrders>,
    /// Register of identities from the last orders.
    register: Register,
    /// True for each target that a job, a capture or `target wake` waits for; by target id.
    wanted: BTreeMap<String, bool>,
    events: VecDeque<BootEvent>,
    /// Number of events that were ever taken from the front of `events`, sent or displaced.
    taken: u64,
    servers: Vec<Ipv4Addr>,
    service: Option<BootService>,
    /// True if a target was wanted at any time.
    any_wanted: bool,
}

impl Inner {
    fn drop_oldest(&mut self) {
        if self.events.pop_front().is_some() {
            self.taken += 1;
        }
    }
}

/// Boot policy from the console's last orders.
#[derive(Default)]
pub struct FromConsole(Mutex<Inner>);

impl FromConsole {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records how the services run.
    pub fn set_service(&self, service: BootService) {
        self.lock().service = Some(service);
    }

    /// Sends the events and receives new orders, once.
    ///
    /// # Errors
    /// The error of the request if the console does not answer; the events are then kept.
    pub async fn sync(&self, client: &Client) -> Result<(), ApiError> {
        let (told, before) = {
            let inner = self.lock();
            let told = BootSync {
                events: inner.events.iter().cloned().collect(),
                servers: inner.servers.clone(),
                service: inner.service.clone(),
            };
            (told, inner.taken)
        };
        let orders: BootOrders = client.post("/v1/boot/sync", &told).await?;
        let mut inner = self.lock();
        // Further events may have come meanwhile, and displaced some of those sent.
        let displaced = usize::try_from(inner.taken - before).unwrap_or(usize::MAX);
        let heard = told.events.len().saturating_sub(displaced);
        for _ in 0..heard {
            inner.drop_oldest();
        }
        inner.any_wanted |= orders.known.iter().any(|target| target.wanted);
        inner.register = Register::new(
            orders
                .known
                .iter()
                .map(|target| (target.id.clone(), target.record.clone())),
            orders.shared.clone(),
        );
        inner.wanted = orders
            .known
            .iter()
            .map(|target| (target.id.clone(), target.wanted))
            .collect();
        inner.orders = Some(orders);
        Ok(())
    }

    /// Forgets the orders after the console has gone; no machine gets the agent then.
    pub fn forget(&self) {
        self.lock().orders = None;
    }

    /// Returns true if a target was wanted before, and none is now.
    pub fn all_over(&self) -> bool {
        let inner = self.lock();
        let wanted = inner
            .orders
            .as_ref()
            .is_none_or(|orders| orders.known.iter().any(|target| target.wanted));
        inner.any_wanted && !wanted
    }
}

impl Policy for FromConsole {
    fn verdict(&self, machine: &Machine) -> Verdict {
        let inner = self.lock();
        let Some(orders) = &inner.orders else {
            return Verdict::Local;
        };
        let found = inner.register.boots(machine.mac, machine.uuid);
        let standing = Standing::of(&found, |id| {
            inner.wanted.get(id).is_some_and(|wanted| *wanted)
        });
        verdict(orders.policy, standing)
    }

    fn words(&self, _: &Machine) -> Words {
        let inner = self.lock();
        inner
            .orders
            .as_ref()
            .map_or_else(Words::default, |orders| Words {
                console: Some(orders.console.clone()),
                pin: Some(orders.pin.clone()),
                second: orders.second.clone(),
                extra: String::new(),
            })
    }

    fn report(&self, report: Report) {
        let mut inner = self.lock();
        if inner.events.len() == MAX_EVENTS {
            inner.drop_oldest();
        }
        inner.events.push_back(event_of(&report));
    }

    fn server_seen(&self, server: Ipv4Addr) {
        let mut inner = self.lock();
        if inner.servers.len() < 16 && !inner.servers.contains(&server) {
            inner.servers.push(server);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::SOCKET_NAME;
    use facts::boot::Stage;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn report(number: usize) -> Report {
        let machine = Machine {
            mac: "52:54:00:00:00:01".parse().unwrap(),
            uuid: None,
        };
        Report {
            detail: Some(number.to_string()),
            ..Report::new(machine, Stage::Asked)
        }
    }

    /// Reads a request with its whole body.
    async fn read_request(stream: &mut tokio::net::UnixStream) {
        let mut request = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&request);
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: "));
                if body.len() >= length.unwrap().parse::<usize>().unwrap() {
                    return;
                }
            }
            assert!(
                stream.read_buf(&mut request).await.unwrap() > 0,
                "the request ends early"
            );
        }
    }

    /// While the console answers, so many events come that they displace some of those sent: only
    /// what was sent is dropped afterwards.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn events_that_come_during_the_exchange_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join(SOCKET_NAME);
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let client = Client::new(folder.path());
        let policy = FromConsole::default();
        (0..MAX_EVENTS).for_each(|number| policy.report(report(number)));
        let answers = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_request(&mut stream).await;
            (0..10).for_each(|number| policy.report(report(MAX_EVENTS + number)));
            let body =
                r#"{"schema_version":1,"policy":"unknown","known":[],"console":"","pin":""}"#;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all((head + body).as_bytes()).await.unwrap();
        };
        let (synced, ()) = tokio::join!(policy.sync(&client), answers);
        synced.unwrap();
        let kept: Vec<_> = policy
            .lock()
            .events
            .iter()
            .map(|event| event.detail.clone().unwrap())
            .collect();
        let wanted: Vec<_> = (0..10)
            .map(|number| (MAX_EVENTS + number).to_string())
            .collect();
        assert_eq!(kept, wanted);
    }
}
