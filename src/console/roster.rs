//! Every target the console knows, and which of them are connected and idle.
//!
//! Owns: identity and name of each target, its connection, and the one job it may be in. What always holds: an id and a
//! name belong to one target; a target is in one job at most; nobody takes the place of a connected target. Reads and
//! changes are short and in memory; what has to survive is handed back as a row for the store.

mod identity;

use super::naming;
use super::plan::Candidate;
use super::store::{IdentityRows, TargetRow};
use super::time::now_text;
use api::{ApiError, ErrorCode, IdentityView, TargetView};
use facts::identity::{Record, Register, Shared};
use facts::target::{Facts, TargetState};
use protocol::control::{ConsoleMessage, Hello};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

pub use identity::Identified;

/// Targets remembered. A school has hundreds; somebody inventing machines stops here.
const MAX_TARGETS: usize = 10_000;

/// The console's end of a control connection.
#[derive(Clone, Debug)]
pub struct Link {
    /// Tells connections of one target apart.
    pub number: u64,
    /// Where the agent connects from.
    pub address: SocketAddr,
    /// Messages on their way to the agent; bounded by who made it.
    pub queue: mpsc::Sender<ConsoleMessage>,
    /// Ends the connection.
    pub close: CancellationToken,
}

impl Link {
    /// Queues a message. An agent that reads so slowly that its queue is full is disconnected rather than waited for.
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
    /// Times it was said.
    facts_said: u64,
    /// The job it is in and its state there.
    job: Option<(String, TargetState)>,
    /// The job its agent still holds, whoever gave it.
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

/// What came of a hello.
#[derive(Clone, Debug)]
pub struct Joined {
    /// The target as it is now: to be stored, and to be welcomed.
    pub row: TargetRow,
    /// The job it is in, for the job to hear of the new connection.
    pub job: Option<String>,
    /// Changes of identities, to be stored.
    pub identity: IdentityRows,
}

/// The roster. Clones of views leave it; the lock never crosses an await.
pub struct Roster {
    entries: Mutex<BTreeMap<String, Entry>>,
    register: Mutex<Register>,
    approve_all: bool,
    /// Told whenever a target says what is on its disks.
    news: Notify,
}

impl Roster {
    /// The roster as the store remembers it. `approve_all`: new targets need no technician.
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

    /// An agent said hello. Finds or makes its target and connects it; an older connection of the same agent is ended.
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

    /// Asks targets that are connected what is on their disks; who was asked, and how often each had said so before.
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

    /// Who of those that were asked has answered.
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

    /// Ends when any target says what is on its disks.
    pub fn renewed(&self) -> Notified<'_> {
        self.news.notified()
    }

    /// A target says what is on its disks. Who it is was said by its hello, and stays. The row to store, when anything changed:
    /// the time alone is stored with the end of its connection, because a plan asks every target of a school.
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

    /// Multicast reaches this target.
    pub fn beacon_heard(&self, id: &str) {
        if let Some(entry) = self.lock().get_mut(id) {
            entry.beacon_heard = true;
        }
    }

    /// A connection ended. Answers the row to store and the job that has to hear of it; nothing when a newer connection
    /// took over.
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

    /// Every target, by name.
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

    /// Shows every target and its state in the job it is in.
    pub fn each(&self, mut look: impl FnMut(&TargetRow, Option<TargetState>)) {
        for entry in self.lock().values() {
            look(&entry.row, entry.job.as_ref().map(|(_, state)| *state));
        }
    }

    /// Every target as plans need it.
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

    /// One target by id, else by name.
    pub fn view(&self, id_or_name: &str) -> Result<TargetView, ApiError> {
        let entries = self.lock();
        let register = self.register();
        find(&entries, id_or_name).map(|entry| shown(&entries, &register, entry))
    }

    /// The connection, the agent's instance and the job it still holds, when the target is connected.
    pub fn connection(&self, id: &str) -> Option<(Link, String, Option<String>)> {
        let entries = self.lock();
        let entry = entries.get(id)?;
        let link = entry.link.clone()?;
        Some((link, entry.row.instance.clone(), entry.held.clone()))
    }

    /// Sends a message to a target that is connected.
    pub fn send(&self, id: &str, message: ConsoleMessage) -> bool {
        let link = self.lock().get(id).and_then(|entry| entry.link.clone());
        link.is_some_and(|link| link.send(message))
    }

    /// Puts targets into a job: all of them or, when one is in another job, none.
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

    /// Gives a job that was claimed under one word its real one.
    pub fn rename_claim(&self, from: &str, to: &str) {
        for entry in self.lock().values_mut() {
            if let Some((job, _)) = entry.job.as_mut().filter(|(job, _)| job == from) {
                to.clone_into(job);
            }
        }
    }

    /// Shows where a target stands in its job.
    pub fn set_job_state(&self, id: &str, job: &str, state: TargetState) {
        if let Some(entry) = self.lock().get_mut(id)
            && let Some((_, current)) = entry.job.as_mut().filter(|(own, _)| own == job)
        {
            *current = state;
        }
    }

    /// Packets of a session reach the target.
    pub fn hears_multicast(&self, id: &str) {
        if let Some(entry) = self.lock().get_mut(id) {
            entry.beacon_heard = true;
        }
    }

    /// The target is free again.
    pub fn release(&self, id: &str, job: &str) {
        if let Some(entry) = self.lock().get_mut(id) {
            entry.job.take_if(|(own, _)| own == job);
            entry.held.take_if(|held| held == job);
        }
    }

    /// Lets a target in.
    pub fn approve(&self, id_or_name: &str) -> Result<(TargetRow, Option<Link>), ApiError> {
        let mut entries = self.lock();
        let entry = find_mut(&mut entries, id_or_name)?;
        entry.row.approved = true;
        Ok((entry.row.clone(), entry.link.clone()))
    }

    /// Gives a target another name.
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

/// A target with what is known of who it is.
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
        // The old connection's end says nothing about the new one.
        assert!(roster.leave(&first.id, 1).is_none());
        assert!(roster.leave(&first.id, 2).is_some());
        // The machine was restarted: a new instance takes the target that is free.
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
