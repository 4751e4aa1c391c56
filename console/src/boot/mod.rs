//! Network boot on the console's side: the choice between agent and own disk, the progress of each
//! machine, and Wake-on-LAN.
//!
//! ```text
//! pxe::serve (in this process, or `diskcast pxe serve`) --verdict?--> policy <-- roster: known? in a job? woken?
//!                                                       --report----> log    --> target list, target show, pxe check
//! ```
//!
//! Owns the policy of `console run --boot`, the log of machines, and the targets that `target wake`
//! waits for. Invariants: a known machine whose part in a job is over starts from its own disk,
//! unless the policy gives the agent to every machine; the size of the log is bounded, whatever
//! packets arrive.
//!
//! | module | content |
//! |---|---|
//! | [`policy`] | pure: agent or own disk |
//! | [`log`] | pure: boot stage of each machine |
//! | [`service`] | the services inside the console |
//! | [`orders`] | exchange with `diskcast pxe serve` |
//! | `check` | other servers that answer |
//! | [`wake`] | Wake-on-LAN |

mod check;
pub mod orders;
pub mod service;
pub mod wake;

use super::context::Console;
use super::time::now_text;
use api::{ApiError, BootReport, BootService, ErrorCode, MachineView, TargetView};
use facts::Uuid;
use facts::boot::{Machine, Report, Verdict};
use facts::target::Facts;
use jobs::boot::log::{self, Log};
use jobs::boot::policy::{self, Standing};
use pxe::machine::Words;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

use api::BootPolicy;

/// Time for which `target wake` waits for a machine.
const WANTED_FOR: Duration = Duration::from_secs(3600);
/// Maximum number of DHCP servers kept.
const MAX_SERVERS: usize = 16;

/// State of network boot; the lock never crosses an await.
#[derive(Debug, Default)]
pub struct Boot {
    policy: BootPolicy,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    log: Log,
    /// Targets that `target wake` waits for, with the end of the wait.
    woken: BTreeMap<String, Instant>,
    /// DHCP servers that machines took addresses from.
    servers: BTreeSet<Ipv4Addr>,
    /// Description of the running services, in this or another process.
    service: Option<BootService>,
}

impl Boot {
    /// Makes the state with an empty log.
    pub fn new(policy: BootPolicy) -> Self {
        Self {
            policy,
            inner: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No change of the state can stop half-way, so a poisoned one is still whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records how the services run; `None` if they do not.
    pub fn set_service(&self, service: Option<BootService>) {
        self.lock().service = service;
    }

    /// Returns true if the services hand out addresses.
    pub fn hands_out_addresses(&self) -> bool {
        let inner = self.lock();
        inner
            .service
            .as_ref()
            .is_some_and(|service| service.dhcp.is_some())
    }

    /// Records a report about a machine.
    pub fn report(&self, report: &Report) {
        self.lock().log.note(report, &now_text());
    }

    /// Records a DHCP server that a machine took its address from.
    pub fn server_seen(&self, server: Ipv4Addr) {
        let mut inner = self.lock();
        if inner.servers.len() < MAX_SERVERS {
            inner.servers.insert(server);
        }
    }

    /// Records that a target's agent connected, which ends the wait of `target wake`.
    pub fn joined(&self, id: &str, facts: &Facts) {
        let mut inner = self.lock();
        inner.woken.remove(id);
        let time = now_text();
        for machine in machines_of(facts) {
            inner.log.joined(&machine, &time);
        }
    }

    fn is_woken(&self, id: &str) -> bool {
        let mut inner = self.lock();
        let now = Instant::now();
        inner.woken.retain(|_, until| now < *until);
        inner.woken.contains_key(id)
    }

    fn want(&self, id: &str) {
        self.lock()
            .woken
            .insert(id.to_owned(), Instant::now() + WANTED_FOR);
    }
}

/// Returns each card of a machine together with the machine's UUID.
fn machines_of(facts: &Facts) -> impl Iterator<Item = Machine> {
    let uuid = facts
        .uuid
        .as_deref()
        .and_then(|text| text.parse::<Uuid>().ok());
    let cards = facts.nics.iter().filter_map(|nic| nic.mac.parse().ok());
    cards.map(move |mac| Machine { mac, uuid })
}

impl Console {
    /// Returns the verdict for a machine that boots now: agent or own disk.
    pub fn boot_verdict(&self, machine: &Machine) -> Verdict {
        policy::verdict(self.boot.policy, self.standing(machine))
    }

    fn standing(&self, machine: &Machine) -> Standing {
        let found = self.roster.boots(machine.mac, machine.uuid);
        let mut waited_for = BTreeSet::new();
        self.roster.each(|row, job| {
            if job.is_some_and(|state| !state.is_final()) {
                waited_for.insert(row.id.clone());
            }
        });
        Standing::of(&found, |id| {
            waited_for.contains(id) || self.boot.is_woken(id)
        })
    }

    /// Returns the words for the kernel command line, the same for every machine.
    pub fn boot_words(&self) -> Words {
        let usual = super::serve::ConsoleOptions::default().second;
        let second = self.settings.second;
        Words {
            console: Some(self.info().control),
            pin: Some(self.pin.to_string()),
            second: (second != usual).then(|| second.to_string()),
            extra: String::new(),
        }
    }

    /// Wakes a target. If it boots from the network within the hour, it gets the agent.
    ///
    /// # Errors
    /// `NothingMatched` for an unknown target; `Refused` if no card of it is known, or the packet
    /// cannot be sent.
    pub fn wake(&self, id: &str) -> Result<TargetView, ApiError> {
        let view = self.roster.view(id)?;
        let cards: Vec<_> = machines_of(&view.facts)
            .map(|machine| machine.mac)
            .collect();
        if cards.is_empty() {
            return Err(ApiError::new(
                ErrorCode::Refused,
                format!("no hardware address of {} is known", view.name),
            )
            .hint("it has to join once before it can be woken"));
        }
        self.boot.want(&view.id);
        wake::send(&self.settings, &cards).map_err(|error| {
            ApiError::new(
                ErrorCode::Refused,
                format!(
                    "waking {} by way of {}: {error}",
                    view.name, self.settings.interface
                ),
            )
        })?;
        Ok(self.with_boot(view))
    }

    /// Adds the boot progress of its machine to a target.
    pub fn with_boot(&self, mut view: TargetView) -> TargetView {
        let inner = self.boot.lock();
        view.boot = inner
            .log
            .of(|machine| self.roster.is_boot_of(&view.id, machine.mac, machine.uuid));
        drop(inner);
        view
    }

    /// Returns the machines in the log that belong to no target.
    pub fn strangers(&self) -> Vec<MachineView> {
        let all = self.boot.lock().log.views();
        let is_stranger = |view: &MachineView| {
            log::machine_of(view).is_none_or(|machine| {
                let found = self.roster.boots(machine.mac, machine.uuid);
                found.known.is_empty()
            })
        };
        all.into_iter().filter(is_stranger).collect()
    }

    /// Returns the report of network boot; `found` are the other servers that answered a probe.
    pub fn boot_report(&self, found: Vec<String>, not_checked: Vec<String>) -> BootReport {
        let inner = self.boot.lock();
        BootReport {
            schema_version: api::SCHEMA_VERSION,
            policy: self.boot.policy,
            // Another process may have been killed without a message.
            service: inner
                .service
                .clone()
                .filter(|service| is_running(service.pid)),
            machines: inner.log.views(),
            address_servers: inner.servers.iter().map(Ipv4Addr::to_string).collect(),
            rivals: found,
            not_checked,
        }
    }
}

fn is_running(pid: u32) -> bool {
    std::path::Path::new("/proc").join(pid.to_string()).is_dir()
}
