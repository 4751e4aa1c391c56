//! The events of one job, for watchers: the past ones first, then live ones.
//!
//! Owns the state and log events so far, and the live channel. Invariants: a watcher gets each kept
//! event exactly once and in order, however late it comes; the summary is the last event. Progress
//! events are live only, because each replaces the one before.

use api::Event;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::broadcast;

/// Maximum number of events kept for late watchers. 200 targets with ten states each make 2,000;
/// the rest is for log lines.
const MAX_PAST: usize = 10_000;
/// Maximum number of live events that a slow watcher may be behind before it skips some.
const LIVE: usize = 1024;

struct Inner {
    past: Vec<Arc<Event>>,
    /// Sender of live events; `None` after the summary, which ends the live stream.
    live: Option<broadcast::Sender<Arc<Event>>>,
}

/// The events of one job.
pub struct EventHub {
    inner: Mutex<Inner>,
}

impl Default for EventHub {
    fn default() -> Self {
        Self {
            inner: Mutex::new(Inner {
                past: Vec::new(),
                live: Some(broadcast::channel(LIVE).0),
            }),
        }
    }
}

impl EventHub {
    /// Keeps an event for late watchers, except progress, and sends it to the present ones.
    pub fn publish(&self, event: Event) {
        let event = Arc::new(event);
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*event, Event::Progress { .. }) && inner.past.len() < MAX_PAST {
            inner.past.push(Arc::clone(&event));
        }
        if let Some(live) = &inner.live {
            // An error means that nobody watches.
            let _ = live.send(Arc::clone(&event));
        }
        if matches!(*event, Event::Summary(_)) {
            // The summary is kept even if the list of past events is full.
            if !inner
                .past
                .last()
                .is_some_and(|last| Arc::ptr_eq(last, &event))
            {
                inner.past.push(event);
            }
            inner.live = None;
        }
    }

    /// Returns the events kept so far, and a receiver of later ones unless the job is over.
    pub fn watch(&self) -> (Vec<Arc<Event>>, Option<broadcast::Receiver<Arc<Event>>>) {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        (
            inner.past.clone(),
            inner.live.as_ref().map(broadcast::Sender::subscribe),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::{JobState, Summary};

    fn log(text: &str) -> Event {
        Event::Log {
            job: "1".to_owned(),
            time: String::new(),
            text: text.to_owned(),
        }
    }

    fn summary() -> Event {
        Event::Summary(Box::new(Summary {
            chosen_root: None,
            unchecked: false,
            schema_version: 1,
            job: "1".to_owned(),
            state: JobState::Done,
            image: String::new(),
            root: String::new(),
            targets: vec![],
            done: 0,
            failed: 0,
            seconds: 0.0,
            session: Default::default(),
            capture: None,
            report: String::new(),
        }))
    }

    #[tokio::test]
    async fn late_watchers_see_the_past_and_everyone_sees_the_end() {
        let hub = EventHub::default();
        hub.publish(log("one"));
        let (past, live) = hub.watch();
        assert_eq!(past.len(), 1);
        hub.publish(log("two"));
        hub.publish(summary());
        let mut live = live.unwrap();
        assert!(matches!(*live.recv().await.unwrap(), Event::Log { .. }));
        assert!(matches!(*live.recv().await.unwrap(), Event::Summary(_)));
        assert!(live.recv().await.is_err());
        let (past, live) = hub.watch();
        assert!(live.is_none());
        assert!(matches!(
            past.last().map(Arc::as_ref),
            Some(Event::Summary(_))
        ));
    }

    #[test]
    fn the_past_is_bounded_and_ends_with_the_summary() {
        let hub = EventHub::default();
        for _ in 0..MAX_PAST + 10 {
            hub.publish(log("x"));
        }
        hub.publish(summary());
        let (past, _) = hub.watch();
        assert_eq!(past.len(), MAX_PAST + 1);
        assert!(matches!(
            past.last().map(Arc::as_ref),
            Some(Event::Summary(_))
        ));
    }
}
