//! The roster: all known targets, with their connections and jobs.
//!
//! Owns the identity and name of each target, its connection, and the one job it may be in.
//! Invariants: an id and a name belong to one target; a target is in at most one job; no agent
//! takes the place of a connected target. Reads and changes are short and in memory; persistent
//! changes are returned as rows for the store.

mod identity;

use super::store::{IdentityRows, TargetRow};
use super::time::now_text;
use api::{ApiError, ErrorCode, IdentityView, TargetView};
use facts::identity::{Record, Register, Shared};
use facts::target::{Facts, TargetState};
use jobs::naming;
use jobs::plan::Candidate;
use protocol::control::{ConsoleMessage, Hello};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

pub use identity::Identified;

/// Maximum number of targets kept. A school has hundreds; the limit stops a client that invents
/// machines.
const MAX_TARGETS: usize = 10_000;

/// The console's end of a control connection.
#[derive(Clone, Debug)]
pub struct Link {
    /// Number that separates the connections of one target.
    pub number: u64,
    /// Address of the agent.
    pub address: SocketAddr,
    /// Queue of messages to the agent, of bounded length.
    pub queue: mpsc::Sender<ConsoleMessage>,
    /// Token that ends the connection.
    pub close: CancellationToken,
}

impl Link {
    /// Queues a message. If the queue is full, the agent is disconnected and false is returned.
    pub fn send(&self, message: ConsoleMessage) -> bool {
        let sent = self.queue.try_send(message).is_ok();
        if !sent {
            self.close.cancel();
        }
        sent
    }
}

struct Entry {
    row: TargetRow,
    link: Option<Link>,
    beacon_heard: bool,
    /// Number of reports about its disks since the console started.
    facts_said: u64,
    /// Job that the target is in, and its state there.
    job: Option<(String, TargetState)>,
    /// Job that its agent reported as unfinished.
    held: Option<String>,
}

impl Entry {
    fn view(&self, identity: IdentityView) -> TargetView {
        let state = match (&self.link, &self.job) {
            (_, Some((_, state))) => *state,
            (Some(_), None) if !identity.may_be.is_empty() => TargetState::Unidentified,
            (Some(_), None) if self.row.approved => TargetState::Ready,
            (Some(_), None) => TargetState::WaitingApproval,
            (None, None) => TargetState::Discovered,
        };
        TargetView {
            id: self.row.id.clone(),
            name: self.row.name.clone(),
            state,
            connected: self.link.is_some(),
            address: self.link.as_ref().map(|link| link.address.to_string()),
            multicast: self.link.is_some() && self.beacon_heard,
            job: self.job.as_ref().map(|(job, _)| job.clone()),
            last_seen: self.row.last_seen.clone(),
            asks: None,
            identity,
            facts: self.row.facts.clone(),
            facts_time: self.row.facts_time.clone(),
            boot: None,
            first_start: None,
        }
    }
}

/// Result of a hello, or of the end of a connection.
#[derive(Clone, Debug)]
pub struct Joined {
    /// Present row of the target, to be stored.
    pub row: TargetRow,
    /// Job of the target, which is told about the connection.
    pub job: Option<String>,
    /// Changes of identities, to be stored.
    pub identity: IdentityRows,
}

/// The roster. It returns copies of views, and its lock is never held across an await.
pub struct Roster {
    entries: Mutex<BTreeMap<String, Entry>>,
    register: Mutex<Register>,
    approve_all: bool,
    /// Notification of every new report about disks.
    news: Notify,
}

impl Roster {
    /// Makes the roster from stored rows. With `approve_all` new targets need no technician.
    pub fn new(
        rows: Vec<TargetRow>,
        (records, shared): (Vec<(String, Record)>, Shared),
        approve_all: bool,
    ) -> Self {
        let register = identity::register_of(&rows, records, shared);
        let entries = rows
            .into_iter()
            .map(|row| {
                (
                    row.id.clone(),
                    Entry {
                        facts_said: 0,
                        row,
                        link: None,
                        beacon_heard: false,
                        job: None,
                        held: None,
                    },
                )
            })
            .collect();
        Self {
            entries: Mutex::new(entries),
            register: Mutex::new(register),
            approve_all,
            news: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        // No code below can stop half-way through a change, so a poisoned map is still whole.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects the target of an agent's hello, which may be new; ends an older connection of the
    /// same target.
    ///
    /// # Errors
    /// The reason if the roster is full.
    pub fn join(&self, hello: Hello, link: Link) -> Result<Joined, String> {
        let facts = naming::clean(hello.facts);
        let seen = naming::evidence(&facts);
        let mut entries = self.lock();
        let (id, identity) = self.recognise(&entries, &seen, &hello.instance);
        if !entries.contains_key(&id) {
            if entries.len() >= MAX_TARGETS {
                self.forget_identity(&id);
                return Err(format!(
                    "the roster is full ({MAX_TARGETS} targets); forget some"
                ));
            }
            let taken = |name: &str| entries.values().any(|entry| entry.row.name == name);
            let name = naming::unique_name(hello.name.as_deref(), &facts.hostname, taken);
            let row = TargetRow {
                id: id.clone(),
                name,
                instance: String::new(),
                facts: facts.clone(),
                approved: self.approve_all,
                last_seen: String::new(),
                facts_time: String::new(),
            };
            entries.insert(
                id.clone(),
                Entry {
                    row,
                    link: None,
                    beacon_heard: false,
                    facts_said: 0,
                    job: None,
                    held: None,
                },
            );
        }
        let Some(entry) = entries.get_mut(&id) else {
            return Err(format!("target {id} is gone"));
        };
        if let Some(old) = entry.link.replace(link) {
            old.close.cancel();
        }
        entry.row.instance = hello.instance;
        entry.row.facts = facts;
        entry.row.last_seen = now_text();
        entry.row.facts_time.clone_from(&entry.row.last_seen);
        entry.facts_said += 1;
        self.news.notify_waiters();
        entry.beacon_heard = hello.beacon_heard;
        entry.held = hello.job.map(|unfinished| unfinished.job);
        Ok(Joined {
            row: entry.row.clone(),
            job: entry.job.as_ref().map(|(job, _)| job.clone()),
            identity,
        })
    }

    /// Asks connected targets for a report about their disks. Returns the targets asked, with their
    /// number of earlier reports.
    pub fn ask_facts(&self, wanted: impl Fn(&TargetView) -> bool) -> BTreeMap<String, u64> {
        let entries = self.lock();
        let register = self.register();
        let all = entries.values();
        all.filter_map(|entry| Some((entry, entry.link.as_ref()?)))
            .filter(|(entry, _)| wanted(&shown(&entries, &register, entry)))
            .filter(|(_, link)| link.send(ConsoleMessage::AskFacts))
            .map(|(entry, _)| (entry.row.id.clone(), entry.facts_said))
            .collect()
    }

    /// Returns the targets of `asked` that have answered.
    pub fn answered(&self, asked: &BTreeMap<String, u64>) -> BTreeSet<String> {
        let entries = self.lock();
        let said = |id: &String, before: u64| {
            entries
                .get(id)
                .is_some_and(|entry| entry.facts_said > before)
        };
        let answered = asked.iter().filter(|(id, before)| said(id, **before));
        answered.map(|(id, _)| id.clone()).collect()
    }

    /// Returns a future that ends with the next report of any target about its disks.
    pub fn renewed(&self) -> Notified<'_> {
        self.news.notified()
    }

    /// Records a target's report about its disks; its identity stays as in its hello. Returns the
    /// row to store if the disks changed.
    ///
    /// The time alone is stored at the end of the connection, because a plan may ask every target
    /// of a school.
    pub fn renew(&self, id: &str, facts: Facts) -> Option<TargetRow> {
        let disks = naming::clean(facts).disks;
        let mut entries = self.lock();
        let entry = entries.get_mut(id)?;
        entry.row.facts_time = now_text();
        entry.facts_said += 1;
        let changed = entry.row.facts.disks != disks;
        entry.row.facts.disks = disks;
        self.news.notify_waiters();
        changed.then(|| entry.row.clone())
    }

    /// Records that multicast reaches this target.
    pub fn beacon_heard(&self, id: &str) {
        if let Some(entry) = self.lock().get_mut(id) {
            entry.beacon_heard = true;
        }
    }

    /// Records the end of a connection. Returns the row to store and the job to tell; `None` if a
    /// newer connection exists.
    pub fn leave(&self, id: &str, link: u64) -> Option<Joined> {
        let mut entries = self.lock();
        let entry = entries.get_mut(id)?;
        if entry
            .link
            .as_ref()
            .is_none_or(|current| current.number != link)
        {
            return None;
        }
        entry.link = None;
        entry.row.last_seen = now_text();
        Some(Joined {
            row: entry.row.clone(),
            job: entry.job.as_ref().map(|(job, _)| job.clone()),
            identity: IdentityRows::default(),
        })
    }

    /// Ends every connection.
    pub fn close_all(&self) {
        for entry in self.lock().values() {
            if let Some(link) = &entry.link {
                link.close.cancel();
            }
        }
    }

    /// Returns every target, by name.
    pub fn views(&self) -> Vec<TargetView> {
        let entries = self.lock();
        let register = self.register();
        let mut views: Vec<TargetView> = entries
            .values()
            .map(|entry| shown(&entries, &register, entry))
            .collect();
        views.sort_by(|a, b| a.name.cmp(&b.name));
        views
    }

    /// Calls `look` for every target with its state in its job.
    pub fn each(&self, mut look: impl FnMut(&TargetRow, Option<TargetState>)) {
        for entry in self.lock().values() {
            look(&entry.row, entry.job.as_ref().map(|(_, state)| *state));
        }
    }

    /// Returns every target as a candidate for plans.
    pub fn candidates(&self) -> Vec<Candidate> {
        let entries = self.lock();
        let register = self.register();
        entries
            .values()
            .map(|entry| Candidate {
                view: shown(&entries, &register, entry),
                approved: entry.row.approved,
            })
            .collect()
    }

    /// Returns one target by id, else by name.
    ///
    /// # Errors
    /// `NothingMatched` for an unknown target.
    pub fn view(&self, id_or_name: &str) -> Result<TargetView, ApiError> {
        let entries = self.lock();
        let register = self.register();
        find(&entries, id_or_name).map(|entry| shown(&entries, &register, entry))
    }

    /// Returns the connection of a target, its agent's instance, and the job that the agent holds;
    /// `None` if it is not connected.
    pub fn connection(&self, id: &str) -> Option<(Link, String, Option<String>)> {
        let entries = self.lock();
        let entry = entries.get(id)?;
        let link = entry.link.clone()?;
        Some((link, entry.row.instance.clone(), entry.held.clone()))
    }

    /// Sends a message to a connected target; returns false if it could not be queued.
    pub fn send(&self, id: &str, message: ConsoleMessage) -> bool {
        let link = self.lock().get(id).and_then(|entry| entry.link.clone());
        link.is_some_and(|link| link.send(message))
    }

    /// Claims targets for a job: all of them, or none if one is in another job.
    ///
    /// # Errors
    /// `NothingMatched` for an unknown target, `Refused` for one in another job.
    pub fn claim(&self, job: &str, ids: &[String], state: TargetState) -> Result<(), ApiError> {
        let mut entries = self.lock();
        for id in ids {
            let entry = entries.get(id).ok_or_else(|| {
                ApiError::new(
                    ErrorCode::NothingMatched,
                    format!("there is no target {id}"),
                )
            })?;
            if let Some((other, _)) = entry.job.as_ref().filter(|(other, _)| other != job) {
                let name = &entry.row.name;
                return Err(ApiError::new(
                    ErrorCode::Refused,
                    format!("{name} is in job {other}"),
                ));
            }
        }
        for id in ids {
            if let Some(entry) = entries.get_mut(id) {
                entry.job = Some((job.to_owned(), state));
            }
        }
        Ok(())
    }

    /// Renames a claim from the temporary id to the job's id.
    pub fn rename_claim(&self, from: &str, to: &str) {
        for entry in self.lock().values_mut() {
            if let Some((job, _)) = entry.job.as_mut().filter(|(job, _)| job == from) {
                to.clone_into(job);
            }
        }
    }

    /// Sets the state of a target in its job.
    pub fn set_job_state(&self, id: &str, job: &str, state: TargetState) {
        if let Some(entry) = self.lock().get_mut(id)
            && let Some((_, current)) = entry.job.as_mut().filter(|(own, _)| own == job)
        {
            *current = state;
        }
    }

    /// Records that packets of a session reach the target.
    pub fn hears_multicast(&self, id: &str) {
        if let Some(entry) = self.lock().get_mut(id) {
            entry.beacon_heard = true;
        }
    }

    /// Frees a target from a job.
    pub fn release(&self, id: &str, job: &str) {
        if let Some(entry) = self.lock().get_mut(id) {
            entry.job.take_if(|(own, _)| own == job);
            entry.held.take_if(|held| held == job);
        }
    }

    /// Approves a target.
    ///
    /// # Errors
    /// `NothingMatched` for an unknown target.
    pub fn approve(&self, id_or_name: &str) -> Result<(TargetRow, Option<Link>), ApiError> {
        let mut entries = self.lock();
        let entry = find_mut(&mut entries, id_or_name)?;
        entry.row.approved = true;
        Ok((entry.row.clone(), entry.link.clone()))
    }

    /// Renames a target.
    ///
    /// # Errors
    /// `NothingMatched` for an unknown target, `Usage` for an invalid name, `Refused` for a name in
    /// use.
    pub fn rename(&self, id_or_name: &str, name: &str) -> Result<TargetRow, ApiError> {
        if !api::name::is_valid_name(name) {
            return Err(ApiError::new(
                ErrorCode::Usage,
                format!("{name:?} is no name for a target"),
            )
            .hint("1 to 63 of letters, digits, -, _ and . (and not the word all)"));
        }
        let mut entries = self.lock();
        let id = find(&entries, id_or_name)?.row.id.clone();
        if let Some(other) = entries
            .values()
            .find(|entry| entry.row.name == name && entry.row.id != id)
        {
            return Err(ApiError::new(
                ErrorCode::Refused,
                format!("target {} is already named {name}", other.row.id),
            ));
        }
        let entry = find_mut(&mut entries, &id)?;
        name.clone_into(&mut entry.row.name);
        Ok(entry.row.clone())
    }

    /// Forgets a target that is not connected and in no job.
    ///
    /// # Errors
    /// `NothingMatched` for an unknown target, `Refused` for one that is connected or in a job.
    pub fn forget(&self, id_or_name: &str) -> Result<TargetView, ApiError> {
        let mut entries = self.lock();
        let view = find(&entries, id_or_name)?.view(IdentityView::default());
        if let Some(job) = &view.job {
            return Err(ApiError::new(
                ErrorCode::Refused,
                format!("{} is in job {job}", view.name),
            )
            .hint(format!("diskcast job cancel {job} first")));
        }
        if view.connected {
            return Err(
                ApiError::new(ErrorCode::Refused, format!("{} is connected", view.name))
                    .hint("it would be back at once; stop its agent first"),
            );
        }
        entries.remove(&view.id);
        self.forget_identity(&view.id);
        Ok(view)
    }
}

/// Returns the view of a target with its identity.
fn shown(entries: &BTreeMap<String, Entry>, register: &Register, entry: &Entry) -> TargetView {
    entry.view(Roster::identity_view(entries, register, &entry.row.id))
}

fn not_found(id_or_name: &str) -> ApiError {
    ApiError::new(
        ErrorCode::NothingMatched,
        format!("there is no target {id_or_name:?}"),
    )
    .hint("diskcast target list shows them")
}

fn find<'e>(entries: &'e BTreeMap<String, Entry>, id_or_name: &str) -> Result<&'e Entry, ApiError> {
    entries
        .get(id_or_name)
        .or_else(|| entries.values().find(|entry| entry.row.name == id_or_name))
        .ok_or_else(|| not_found(id_or_name))
}

fn find_mut<'e>(
    entries: &'e mut BTreeMap<String, Entry>,
    id_or_name: &str,
) -> Result<&'e mut Entry, ApiError> {
    let id = find(entries, id_or_name)?.row.id.clone();
    entries.get_mut(&id).ok_or_else(|| not_found(id_or_name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use facts::target::Facts;
    use protocol::control::CONTROL_VERSION;

    fn hello(instance: &str, serial: &str) -> Hello {
        Hello {
            version: CONTROL_VERSION,
            agent_version: "0".to_owned(),
            instance: instance.to_owned(),
            name: None,
            facts: Facts {
                hostname: "pc".to_owned(),
                serial: Some(serial.to_owned()),
                ..Facts::default()
            },
            beacon_heard: true,
            job: None,
        }
    }

    fn link(number: u64) -> (Link, mpsc::Receiver<ConsoleMessage>) {
        let (queue, inbox) = mpsc::channel(1);
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        (
            Link {
                number,
                address,
                queue,
                close: CancellationToken::new(),
            },
            inbox,
        )
    }

    #[test]
    fn a_reconnect_is_the_same_target_and_a_twin_is_not() {
        let roster = Roster::new(Vec::new(), Default::default(), true);
        let first = roster.join(hello("a", "SER-1"), link(1).0).unwrap().row;
        let old = roster.connection(&first.id).unwrap().0;
        let again = roster.join(hello("a", "SER-1"), link(2).0).unwrap().row;
        assert_eq!((&first.id, &first.name), (&again.id, &again.name));
        assert!(old.close.is_cancelled());
        // Another agent with the same serial number while the first is connected.
        let twin = roster.join(hello("b", "SER-1"), link(3).0).unwrap().row;
        assert_eq!(
            (twin.id, twin.name),
            (format!("{}-2", first.id), "pc-2".to_owned())
        );
        // The end of the old connection does not affect the new one.
        assert!(roster.leave(&first.id, 1).is_none());
        assert!(roster.leave(&first.id, 2).is_some());
        // The machine restarted: a new instance takes the unconnected target.
        let restarted = roster.join(hello("c", "SER-1"), link(4).0).unwrap().row;
        assert_eq!(restarted.id, first.id);
        assert_eq!(roster.views().len(), 2);
    }

    #[test]
    fn a_target_is_in_one_job() {
        let roster = Roster::new(Vec::new(), Default::default(), true);
        let a = roster.join(hello("a", "SER-1"), link(1).0).unwrap().row.id;
        let b = roster.join(hello("b", "SER-2"), link(2).0).unwrap().row.id;
        roster
            .claim("1", std::slice::from_ref(&a), TargetState::Ready)
            .unwrap();
        let both = [b.clone(), a.clone()];
        assert_eq!(
            roster
                .claim("2", &both, TargetState::Ready)
                .unwrap_err()
                .code,
            ErrorCode::Refused
        );
        assert_eq!(roster.view(&b).unwrap().job, None, "all or none");
        roster.set_job_state(&a, "2", TargetState::Failed);
        assert_eq!(roster.view(&a).unwrap().state, TargetState::Ready);
        roster.release(&a, "1");
        roster.claim("2", &both, TargetState::Joined).unwrap();
        assert_eq!(roster.view("pc").unwrap().state, TargetState::Joined);
        assert_eq!(roster.forget("pc").unwrap_err().code, ErrorCode::Refused);
    }

    #[test]
    fn names_are_given_once_and_strangers_wait() {
        let roster = Roster::new(Vec::new(), Default::default(), false);
        let (a, _inbox) = link(1);
        let id = roster.join(hello("a", "SER-1"), a).unwrap().row.id;
        assert_eq!(
            roster.view(&id).unwrap().state,
            TargetState::WaitingApproval
        );
        assert!(roster.approve("pc").unwrap().0.approved);
        assert_eq!(roster.view(&id).unwrap().state, TargetState::Ready);
        roster.join(hello("b", "SER-2"), link(2).0).unwrap();
        assert_eq!(
            roster.rename(&id, "pc-2").unwrap_err().code,
            ErrorCode::Refused
        );
        assert_eq!(
            roster.rename(&id, "a b").unwrap_err().code,
            ErrorCode::Usage
        );
        assert_eq!(roster.rename(&id, "desk-1").unwrap().name, "desk-1");
        assert_eq!(
            roster.view("nobody").unwrap_err().code,
            ErrorCode::NothingMatched
        );
        roster.leave(&id, 1).unwrap();
        assert_eq!(roster.view(&id).unwrap().state, TargetState::Discovered);
        assert_eq!(roster.forget(&id).unwrap().name, "desk-1");
    }

    #[test]
    fn a_full_queue_ends_the_connection() {
        let (link, _inbox) = link(1);
        assert!(link.send(ConsoleMessage::Ping));
        assert!(!link.send(ConsoleMessage::Ping));
        assert!(link.close.is_cancelled());
    }
}
