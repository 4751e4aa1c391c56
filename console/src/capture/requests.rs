//! Requests of people at targets to back up their computer, until a technician answers or they
//! expire.
//!
//! Owns the requests, in memory. Invariants: one request per target and a bounded number in all; a
//! target has to pause between two requests; a request alone reads no disk.

use facts::disk_rule::DiskRule;
use facts::target::DiskFacts;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Maximum number of requests that wait at once: one for each machine of a large room.
const MAX_WAITING: usize = 256;
/// Time after which an unanswered request expires.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(15 * 60);
/// Shortest time between two requests of one target.
const PAUSE: Duration = Duration::from_secs(5);

/// Request of one target.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Asked {
    /// Rule that names the chosen disk.
    pub disk: DiskRule,
    /// Description of the disk in one line.
    pub title: String,
    /// Suggested name of the image.
    pub name: Option<String>,
}

/// Reason why a request is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NotTaken {
    /// The last request of the target is too recent.
    TooSoon,
    /// Too many requests wait.
    Full,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: BTreeMap<String, (Duration, Asked)>,
    /// Time of each target's last request, answered or not.
    last: BTreeMap<String, Duration>,
}

/// Waiting requests of all targets.
#[derive(Debug)]
pub struct Requests {
    epoch: tokio::time::Instant,
    inner: Mutex<Inner>,
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            epoch: tokio::time::Instant::now(),
            inner: Mutex::default(),
        }
    }
}

impl Requests {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.epoch.elapsed();
        inner.forget(now);
        inner
    }

    /// Records a request; it replaces the target's earlier one.
    ///
    /// # Errors
    /// [`NotTaken`] if the target's last request is too recent, or too many requests wait.
    pub fn ask(&self, target: &str, asked: Asked) -> Result<(), NotTaken> {
        let now = self.epoch.elapsed();
        self.lock().ask(now, target, asked)
    }

    /// Returns a target's waiting request.
    pub fn of(&self, target: &str) -> Option<Asked> {
        self.lock()
            .waiting
            .get(target)
            .map(|(_, asked)| asked.clone())
    }

    /// Removes and returns a target's request, because a technician decided.
    pub fn answered(&self, target: &str) -> Option<Asked> {
        self.lock().waiting.remove(target).map(|(_, asked)| asked)
    }
}

impl Inner {
    fn forget(&mut self, now: Duration) {
        let old = |since: Duration, age| now.saturating_sub(since) >= age;
        self.waiting
            .retain(|_, (since, _)| !old(*since, FORGOTTEN_AFTER));
        self.last.retain(|_, since| !old(*since, PAUSE));
    }

    fn ask(&mut self, now: Duration, target: &str, asked: Asked) -> Result<(), NotTaken> {
        if self.last.contains_key(target) {
            return Err(NotTaken::TooSoon);
        }
        if self.waiting.len() >= MAX_WAITING && !self.waiting.contains_key(target) {
            return Err(NotTaken::Full);
        }
        self.last.insert(target.to_owned(), now);
        self.waiting.insert(target.to_owned(), (now, asked));
        Ok(())
    }
}

impl Asked {
    /// Makes a request for this disk, named by its serial number or else by its path.
    pub fn new(disk: &DiskFacts, name: Option<String>) -> Self {
        let rule = match disk.serial.as_deref().map(str::trim) {
            Some(serial) if !serial.is_empty() => DiskRule::Serial(serial.to_owned()),
            _ => DiskRule::Path(disk.path.clone()),
        };
        Self {
            disk: rule,
            title: disk.title(),
            name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(name: &str) -> Asked {
        Asked {
            disk: DiskRule::First,
            title: String::new(),
            name: Some(name.to_owned()),
        }
    }

    #[test]
    fn one_a_target_bounded_in_all_and_forgotten_in_the_end() {
        let mut inner = Inner::default();
        let at = Duration::from_secs;
        assert_eq!(inner.ask(at(0), "a", asked("1")), Ok(()));
        inner.forget(at(4));
        assert_eq!(inner.ask(at(4), "a", asked("2")), Err(NotTaken::TooSoon));
        inner.forget(at(5));
        assert_eq!(inner.ask(at(5), "a", asked("3")), Ok(()));
        assert_eq!(inner.waiting.len(), 1);
        for n in 0..1000 {
            let _ = inner.ask(at(6), &format!("t-{n}"), asked("x"));
        }
        assert_eq!(
            (inner.waiting.len(), inner.last.len()),
            (MAX_WAITING, MAX_WAITING)
        );
        assert_eq!(inner.ask(at(6), "another", asked("x")), Err(NotTaken::Full));
        inner.forget(at(6) + FORGOTTEN_AFTER);
        assert!(inner.waiting.is_empty() && inner.last.is_empty());
    }
}
