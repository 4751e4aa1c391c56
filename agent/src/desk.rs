//! The desk: the agent's state for a screen beside it, and questions to the person at that screen.
//!
//! ```text
//! link, job --tell--> Desk <--standing, question-- screen (preos::screen)
//! menu      --ask-->   |   --answer, pick------->  (keyboard)
//! ```
//!
//! Owns the shared values and nothing else: it draws nothing and reads no keys. An agent without a
//! screen has an empty desk, where changes cost nothing and every question is answered with "no".
//! Always holds: at most one question is open; a question is withdrawn when the code that asked it
//! is dropped.

use protocol::control::{Outcome, Progress};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

/// Most picks that wait for the agent. Of several quick presses the first ones are meant.
const MAX_PICKS: usize = 4;

/// State of the agent's connection to its console.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Line {
    /// Nothing was tried yet.
    #[default]
    Starting,
    /// No console so far, with the reason of the last try.
    Searching(String),
    /// Connected; this machine's name is not known yet.
    Connected(SocketAddr),
    /// Accepted by the console.
    Joined {
        /// Address of the console.
        console: SocketAddr,
        /// Name of this machine at the console.
        name: String,
        /// False while a technician has to approve this machine.
        approved: bool,
    },
}

/// The present job of this machine, or its last one.
#[derive(Clone, Debug)]
pub struct Work {
    /// Name of the image in the order.
    pub image: String,
    /// The target disk: path, model, serial, size.
    pub disk: String,
    /// The last progress report.
    pub progress: Option<Progress>,
    /// The outcome, once there is one.
    pub outcome: Option<Outcome>,
}

/// The agent's whole state for the screen.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// The connection to the console.
    pub line: Line,
    /// True when a console's beacon has arrived by multicast.
    pub beacon_heard: bool,
    /// The job.
    pub work: Option<Work>,
    /// Other work under way (a capture, for example), in one line.
    pub doing: Option<String>,
}

/// One choice of a menu or question.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Choice {
    /// Value that the answer carries.
    pub id: String,
    /// Text on the screen.
    pub label: String,
}

impl Choice {
    /// A choice.
    pub fn new(id: impl Into<String>, label: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            label: label.into(),
        }
    }
}

/// A question to the person at the screen.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Question {
    /// Heading of the question.
    pub title: String,
    /// Text below the heading.
    pub lines: Vec<String>,
    /// The possible answers. The first is marked at the start, so it should be the harmless one.
    pub choices: Vec<Choice>,
}

#[derive(Default)]
struct State {
    version: u64,
    standing: Standing,
    /// Menu shown while no question is open.
    menu: Vec<Choice>,
    /// Number of the open question, the question, and the channel for its answer.
    question: Option<(u64, Question, oneshot::Sender<Option<String>>)>,
    asked: u64,
    picks: VecDeque<String>,
}

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
    picked: Notify,
    /// Held by the open question, so that questions are asked one at a time.
    turn: tokio::sync::Mutex<()>,
}

/// Handle on a desk; clones share it.
#[derive(Clone, Default)]
pub struct Desk(Option<Arc<Inner>>);

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.attended() {
            "Desk"
        } else {
            "Desk (empty)"
        })
    }
}

/// Withdraws a question when the code that asked it is dropped.
struct Withdraw<'a>(&'a Inner, u64);

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        self.0.change(|state| {
            if state.question.as_ref().is_some_and(|q| q.0 == self.1) {
                state.question = None;
            }
        });
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        state.version += 1;
        let out = change(&mut state);
        drop(state);
        self.changed.notify_all();
        out
    }
}

impl Desk {
    /// A desk with a screen and a keyboard.
    pub fn with_screen() -> Self {
        Self(Some(Arc::default()))
    }

    /// True when there is a screen.
    pub fn attended(&self) -> bool {
        self.0.is_some()
    }

    // The agent's side.

    /// Changes the state on the screen.
    pub fn tell(&self, change: impl FnOnce(&mut Standing)) {
        if let Some(inner) = &self.0 {
            inner.change(|state| change(&mut state.standing));
        }
    }

    /// Replaces the menu; an empty one removes it.
    pub fn offer(&self, menu: Vec<Choice>) {
        if let Some(inner) = &self.0 {
            inner.change(|state| state.menu = menu);
        }
    }

    /// Waits for the next pick from the menu; returns the choice's id. Never returns on an empty
    /// desk. May be dropped at any time.
    pub async fn picked(&self) -> String {
        let Some(inner) = &self.0 else {
            return std::future::pending().await;
        };
        loop {
            // Made before the check, so that a pick in between is not missed.
            let notified = inner.picked.notified();
            if let Some(pick) = inner.lock().picks.pop_front() {
                return pick;
            }
            notified.await;
        }
    }

    /// Asks a question and waits for the answer: the choice's id, or `None` when the person went
    /// back or there is no screen.
    pub async fn ask(&self, question: Question) -> Option<String> {
        let inner = self.0.as_ref()?;
        let _turn = inner.turn.lock().await;
        let (answer, answered) = oneshot::channel();
        let id = inner.change(|state| {
            state.asked += 1;
            state.question = Some((state.asked, question, answer));
            state.asked
        });
        let _withdraw = Withdraw(inner, id);
        answered.await.ok().flatten()
    }

    /// Asks for a yes; every other answer is a no. `no` is the choice marked at the start.
    pub async fn confirm(&self, title: &str, lines: Vec<String>, yes: &str, no: &str) -> bool {
        let question = Question {
            title: title.to_owned(),
            lines,
            choices: vec![Choice::new("no", no), Choice::new("yes", yes)],
        };
        self.ask(question).await.as_deref() == Some("yes")
    }

    // The screen's side.

    /// The state to show now.
    pub fn standing(&self) -> Standing {
        self.0
            .as_ref()
            .map(|inner| inner.lock().standing.clone())
            .unwrap_or_default()
    }

    /// The present menu.
    pub fn menu(&self) -> Vec<Choice> {
        self.0
            .as_ref()
            .map(|inner| inner.lock().menu.clone())
            .unwrap_or_default()
    }

    /// The open question with its number.
    pub fn question(&self) -> Option<(u64, Question)> {
        let inner = self.0.as_ref()?;
        let state = inner.lock();
        state
            .question
            .as_ref()
            .map(|(id, question, _)| (*id, question.clone()))
    }

    /// Answers question `id`; an outdated number is ignored.
    pub fn answer(&self, id: u64, choice: Option<String>) {
        if let Some(inner) = &self.0 {
            inner.change(|state| {
                if let Some((_, _, answer)) = state.question.take_if(|q| q.0 == id) {
                    let _ = answer.send(choice);
                }
            });
        }
    }

    /// Queues a pick from the menu.
    pub fn pick(&self, id: &str) {
        if let Some(inner) = &self.0 {
            inner.change(|state| {
                if state.picks.len() < MAX_PICKS && state.menu.iter().any(|c| c.id == id) {
                    state.picks.push_back(id.to_owned());
                }
            });
            inner.picked.notify_one();
        }
    }

    /// Waits until something has changed since `version`, at most `timeout`; returns the present
    /// version.
    pub fn wait(&self, version: u64, timeout: Duration) -> u64 {
        let Some(inner) = &self.0 else { return 0 };
        let (state, _) = inner
            .changed
            .wait_timeout_while(inner.lock(), timeout, |state| state.version == version)
            .unwrap_or_else(PoisonError::into_inner);
        state.version
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
    }

    #[test]
    fn an_empty_desk_says_no() {
        let desk = Desk::default();
        desk.tell(|standing| standing.beacon_heard = true);
        assert!(!desk.standing().beacon_heard);
        assert!(!runtime().block_on(desk.confirm("Erase?", Vec::new(), "Erase", "Keep")));
    }

    #[test]
    fn a_question_is_answered_once_and_withdrawn_with_its_asker() {
        let desk = Desk::with_screen();
        runtime().block_on(async {
            let asker = desk.clone();
            let asked = tokio::join!(
                asker.confirm("Erase?", Vec::new(), "Erase", "Keep"),
                async {
                    tokio::task::yield_now().await;
                    let (id, question) = desk.question().unwrap();
                    assert_eq!(question.choices[0].id, "no");
                    desk.answer(id + 1, Some("yes".into()));
                    assert!(desk.question().is_some(), "an answer to another question");
                    desk.answer(id, Some("yes".into()));
                    desk.answer(id, Some("no".into()));
                }
            );
            assert!(asked.0);
            let mut forgotten = Box::pin(desk.ask(Question::default()));
            futures_util::future::poll_immediate(&mut forgotten).await;
            assert!(desk.question().is_some());
            drop(forgotten);
            assert!(desk.question().is_none());
        });
    }

    #[test]
    fn picks_wait_for_the_agent_and_are_bounded() {
        let desk = Desk::with_screen();
        desk.offer(vec![Choice::new("capture", "Back up this computer")]);
        desk.pick("format");
        for _ in 0..100 {
            desk.pick("capture");
        }
        runtime().block_on(async {
            for _ in 0..MAX_PICKS {
                assert_eq!(desk.picked().await, "capture");
            }
            let more = Box::pin(desk.picked());
            assert!(futures_util::future::poll_immediate(more).await.is_none());
        });
    }
}
