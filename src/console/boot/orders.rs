//! Network boot in a process of its own: what `diskcast pxe serve` asks the console, and tells it.
//!
//! ```text
//! POST /v1/boot/sync   BootSync (what happened since) -> BootOrders (who is to do what), once a second
//! ```
//!
//! Between two answers the last one is used; without a console nobody gets the agent, and everybody boots their own disk.

use super::policy::{Standing, verdict};
use crate::console::context::Console;
use api::{ApiError, BootEvent, BootKnown, BootOrders, BootService, BootSync, SCHEMA_VERSION};
use client::Client;
use facts::identity::Register;
use pxe::machine::{Machine, Policy, Report, Verdict, Words};
use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Events kept until the console hears them; the oldest go first.
const MAX_EVENTS: usize = 4096;

impl Console {
    /// Takes what happened, and says who is to do what.
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

/// A report as the console hears it.
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

/// The report an event was made of; none if its card is no address.
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
    /// Who is who, as the orders say.
    register: Register,
    /// True for each target that a job, a capture or `target wake` waits for; by target id.
    wanted: BTreeMap<String, bool>,
    events: VecDeque<BootEvent>,
    servers: Vec<Ipv4Addr>,
    service: Option<BootService>,
    /// Somebody was wanted at some time.
    any_wanted: bool,
}

/// The console's word as it was heard last.
#[derive(Default)]
pub struct FromConsole(Mutex<Inner>);

impl FromConsole {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The services run like this.
    pub fn set_service(&self, service: BootService) {
        self.lock().service = Some(service);
    }

    /// Tells and asks once.
    ///
    /// # Errors
    /// When the console does not answer; what was to be told is kept.
    pub async fn sync(&self, client: &Client) -> Result<(), ApiError> {
        let told = {
            let inner = self.lock();
            BootSync {
                events: inner.events.iter().cloned().collect(),
                servers: inner.servers.clone(),
                service: inner.service.clone(),
            }
        };
        let orders: BootOrders = client.post("/v1/boot/sync", &told).await?;
        let mut inner = self.lock();
        // More may have come meanwhile, and pushed out some of what was told.
        let heard = told.events.len().min(inner.events.len());
        inner.events.drain(..heard);
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

    /// The console is gone: nobody gets the agent.
    pub fn forget(&self) {
        self.lock().orders = None;
    }

    /// Somebody was wanted, and nobody is any more.
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
            inner.events.pop_front();
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
