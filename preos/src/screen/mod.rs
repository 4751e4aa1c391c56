//! The target's own screen and keyboard.
//!
//! | module | content | pure |
//! |---|---|---|
//! | [`view`] | the content | yes |
//! | [`render`], [`letters`] | its rows on a text screen | yes |
//! | [`lines`] | its lines on serial consoles | yes |
//! | [`keys`] | keys, and the marked choice | yes |
//! | [`terminals`] | the devices | |
//!
//! One thread draws, twice a second and whenever something changes. It never waits for a serial
//! line: those have a thread and a bounded queue, and lose lines rather than time.

pub mod keys;
pub mod letters;
pub mod lines;
pub mod render;
pub mod terminals;
pub mod view;

use crate::board::Board;
use agent::desk::{Desk, Question, Standing};
use facts::speed::RateWindow;
use keys::{Chooser, Key, Pressed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use terminals::{Screen, Serials};
use view::{Menu, View};

/// Longest interval between two updates of the screen.
const EVERY: Duration = Duration::from_millis(500);
/// Interval of a full repaint, because the kernel may write over the screen.
const REPAINT: Duration = Duration::from_secs(5);

/// State that the drawing thread and the keyboards share.
#[derive(Clone)]
struct Front {
    desk: Desk,
    chooser: Arc<Mutex<Chooser>>,
}

impl Front {
    /// The choices a person has now.
    fn menu(&self) -> Option<Menu> {
        let (id, question) = match self.desk.question() {
            Some((id, question)) => (Some(id), question),
            None => {
                let choices = self.desk.menu();
                if choices.is_empty() {
                    return None;
                }
                let title = "At this machine:".to_owned();
                (
                    None,
                    Question {
                        title,
                        lines: Vec::new(),
                        choices,
                    },
                )
            }
        };
        let marked = self
            .chooser
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .marked(id, question.choices.len());
        Some(Menu {
            question,
            marked,
            id,
        })
    }

    fn press(&self, key: Key) {
        let Some(menu) = self.menu() else { return };
        let choices = &menu.question.choices;
        let pressed = self
            .chooser
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .press(menu.id, choices.len(), key);
        let chosen = match pressed {
            Some(Pressed::Chosen(index)) => choices.get(index).map(|choice| choice.id.clone()),
            Some(Pressed::Back) | None => None,
        };
        match (menu.id, pressed) {
            (Some(id), Some(_)) => self.desk.answer(id, chosen),
            (None, Some(_)) => {
                if let Some(id) = chosen {
                    self.desk.pick(&id);
                }
            }
            // Only the mark has moved: wakes the screen.
            (_, None) => self.desk.tell(|_| {}),
        }
    }
}

/// Starts the screen, if there is one, and the lines on `serials`.
///
/// # Errors
/// A thread cannot be started.
pub fn start(board: Board, desk: Desk, serials: Serials, began: Instant) -> std::io::Result<()> {
    let front = Front {
        desk,
        chooser: Arc::default(),
    };
    let screen = Screen::open();
    if screen.is_none() {
        tracing::info!("no screen here; the serial console has everything");
    }
    for keyboard in terminals::keyboards() {
        let front = front.clone();
        keyboard.follow(move |key| front.press(key))?;
    }
    std::thread::Builder::new()
        .name("screen".into())
        .spawn(move || draw(&board, &front, &serials, screen, began))
        .map(drop)
}

#[expect(clippy::disallowed_methods, reason = "a screen lives in real time")]
fn draw(
    board: &Board,
    front: &Front,
    serials: &Serials,
    screen: Option<Screen>,
    began: Instant,
) -> ! {
    let mut teller = lines::Teller::default();
    let mut speed = Speed::default();
    let mut shown = None;
    let mut painted = Instant::now();
    let mut version = 0;
    loop {
        version = front.desk.wait(version, EVERY);
        let mut situation = board.now();
        situation.seconds = began.elapsed().as_secs();
        let standing = front.desk.standing();
        let rate = speed.of(&standing, began.elapsed());
        let view = View::of(&situation, &standing, rate);
        // During a job the menu is hidden, but a question is shown.
        let busy = standing
            .work
            .as_ref()
            .is_some_and(|work| work.outcome.is_none());
        let menu = front.menu().filter(|menu| menu.id.is_some() || !busy);
        for line in teller.tell(&view, menu.as_ref()) {
            serials.say(&line);
        }
        if let Some(screen) = &screen {
            let now = Some((view, menu, screen.size()));
            if now != shown || painted.elapsed() >= REPAINT {
                if let Some((view, menu, (columns, lines))) = &now {
                    let rows = render::render(view, menu.as_ref(), *columns, *lines);
                    screen.paint(&render::ansi(&rows, *columns, *lines));
                }
                shown = now;
                painted = Instant::now();
            }
        }
        // Changes in quick sequence are drawn once.
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The rate of the work.
#[derive(Default)]
struct Speed {
    window: RateWindow,
    state: Option<facts::target::TargetState>,
}

impl Speed {
    fn of(&mut self, standing: &Standing, now: Duration) -> Option<u64> {
        let progress = standing.work.as_ref()?.progress.as_ref()?;
        // Reading back starts at zero again.
        if self.state.replace(progress.state) != Some(progress.state) {
            self.window = RateWindow::default();
        }
        self.window.note(now, progress.done_bytes);
        Some(self.window.bytes_per_s()).filter(|rate| *rate > 0)
    }
}
