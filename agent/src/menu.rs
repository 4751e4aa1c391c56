//! The choices of a person at the target: an offer of the console, or a backup of this computer.
//!
//! Owns the dialogue with that person, over the desk; the console decides, and checks every choice
//! again. Always holds: nothing is requested that the person has not confirmed with the disk shown
//! by model and serial number; there is no menu while a job or a capture runs; one choice at a
//! time.
//!
//! ```text
//! menu --menu-request--> console --menu--> question, confirmation --take-offer | backup-request--> console --choice-answer-->
//! ```

use super::desk::{Choice, Desk, Question};
use protocol::control::{
    AgentMessage, BackupRequest, ChoiceAnswer, Menu, MenuDisk, MenuOffer, TakeOffer,
};
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, Sender, UnboundedSender, channel};
use tokio::sync::watch;

/// Longest wait for an answer: a console answers at once, or is away.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// Time after which an unanswered question is closed, in case the person walked away.
const DECIDE_WITHIN: Duration = Duration::from_secs(120);
/// Most answers that wait; more than one is outdated.
const QUEUE: usize = 4;

/// Ids of the choices on the idle screen.
const DEPLOY: &str = "offers";
const BACKUP: &str = "backup";

/// A message of the console.
pub(super) enum Heard {
    /// The present choices.
    Menu(Menu),
    /// The result of a choice.
    Answer(ChoiceAnswer),
}

/// The link's end of the channel.
pub(super) struct MenuLink {
    heard: Sender<Heard>,
    free: watch::Sender<bool>,
}

impl MenuLink {
    /// Passes on a message of the console. It is dropped when nothing waits for it.
    pub(super) fn heard(&self, heard: Heard) {
        let _ = self.heard.try_send(heard);
    }

    /// Sets whether this machine is idle; only then there is a menu.
    pub(super) fn free(&self, free: bool) {
        self.free
            .send_if_modified(|now| std::mem::replace(now, free) != free);
    }
}

/// Starts the dialogue; on an empty desk no question is ever asked.
pub(super) fn start(desk: Desk, outbox: UnboundedSender<AgentMessage>) -> MenuLink {
    let (heard, inbox) = channel(QUEUE);
    let (free, is_free) = watch::channel(false);
    if desk.attended() {
        tokio::spawn(attend(
            Talk {
                desk,
                outbox,
                inbox,
            },
            is_free,
        ));
    }
    MenuLink { heard, free }
}

struct Talk {
    desk: Desk,
    outbox: UnboundedSender<AgentMessage>,
    inbox: Receiver<Heard>,
}

async fn attend(mut talk: Talk, mut free: watch::Receiver<bool>) {
    loop {
        if free.wait_for(|free| *free).await.is_err() {
            return;
        }
        talk.desk.offer(vec![
            Choice::new(DEPLOY, "Deploy an image to this computer"),
            Choice::new(BACKUP, "Back up this computer"),
        ]);
        let busy = async {
            // The sender is dropped only with the agent, which ends this task too.
            let _ = free.wait_for(|free| !*free).await;
        };
        tokio::select! {
            () = busy => {}
            () = talk.one() => {}
        }
        talk.desk.offer(Vec::new());
    }
}

impl Talk {
    /// Handles one pick to its end.
    async fn one(&mut self) {
        let pick = self.desk.picked().await;
        let said = match tokio::time::timeout(DECIDE_WITHIN, self.serve(&pick)).await {
            Ok(said) => said,
            Err(_) => return,
        };
        if let Some(text) = said {
            tracing::info!(text, "answer to the choice at this computer");
            let ok = vec![Choice::new("ok", "Back")];
            let question = Question {
                title: text,
                lines: Vec::new(),
                choices: ok,
            };
            let _ = tokio::time::timeout(DECIDE_WITHIN, self.desk.ask(question)).await;
        }
    }

    /// Serves a pick. Returns the message to show at the end, `None` when the person went back.
    async fn serve(&mut self, pick: &str) -> Option<String> {
        let menu = match self.menu().await {
            Some(menu) => menu,
            None => return Some("The console does not answer.".to_owned()),
        };
        if pick == BACKUP {
            self.back_up(menu.disks).await
        } else {
            self.deploy(menu.offers).await
        }
    }

    async fn deploy(&mut self, offers: Vec<MenuOffer>) -> Option<String> {
        if offers.is_empty() {
            return Some("The console offers nothing to this computer now.".to_owned());
        }
        let lines = offers
            .iter()
            .map(|offer| format!("{}: {}", offer.name, offer.text));
        let picked = self
            .pick("Deploy which image to this computer?", lines)
            .await?;
        let offer = offers.get(picked)?;
        let mut lines = vec![offer.disk.title.clone()];
        lines.extend(
            offer
                .disk
                .contents
                .iter()
                .map(|content| format!("  {content}")),
        );
        lines.push("Everything on this disk will be lost.".to_owned());
        let title = format!("Erase this disk and write {}?", offer.name);
        if !self
            .desk
            .confirm(&title, lines, "Erase and write", "No")
            .await
        {
            return None;
        }
        tracing::info!(
            offer = offer.name,
            disk = offer.disk.title,
            "offer taken at this computer"
        );
        let take = TakeOffer {
            offer: offer.name.clone(),
            disk: offer.disk.disk.clone(),
        };
        // An accepted choice shows on the screen as its job.
        let answer = self.answer(AgentMessage::TakeOffer(Box::new(take))).await;
        answer.filter(|answer| !answer.accepted).map(|no| no.text)
    }

    async fn back_up(&mut self, disks: Vec<MenuDisk>) -> Option<String> {
        let disk = match disks.as_slice() {
            [] => return Some("This computer has no disk that can be backed up.".to_owned()),
            [one] => one,
            several => {
                let lines = several.iter().map(|disk| disk.title.clone());
                several.get(self.pick("Back up which disk?", lines).await?)?
            }
        };
        let mut lines = vec![disk.title.clone()];
        lines.extend(disk.contents.iter().map(|content| format!("  {content}")));
        lines.push("Somebody at the console has to confirm it.".to_owned());
        if !self
            .desk
            .confirm("Back up this disk to the console?", lines, "Back up", "No")
            .await
        {
            return None;
        }
        tracing::info!(disk = disk.title, "backup asked for at this computer");
        let request = BackupRequest {
            disk: disk.disk.clone(),
            name: None,
        };
        let answer = self.answer(AgentMessage::BackupRequest(Box::new(request)));
        answer.await.map(|answer| answer.text)
    }

    /// Index of the line that was picked.
    async fn pick(&self, title: &str, lines: impl Iterator<Item = String>) -> Option<usize> {
        let choices = lines
            .enumerate()
            .map(|(place, line)| Choice::new(place.to_string(), line))
            .collect();
        let question = Question {
            title: title.to_owned(),
            lines: Vec::new(),
            choices,
        };
        self.desk.ask(question).await?.parse().ok()
    }

    async fn menu(&mut self) -> Option<Menu> {
        match self.say(AgentMessage::MenuRequest).await? {
            Heard::Menu(menu) => Some(menu),
            Heard::Answer(_) => None,
        }
    }

    async fn answer(&mut self, message: AgentMessage) -> Option<ChoiceAnswer> {
        Some(match self.say(message).await {
            Some(Heard::Answer(answer)) => answer,
            _ => ChoiceAnswer {
                accepted: false,
                text: "The console does not answer.".to_owned(),
            },
        })
    }

    async fn say(&mut self, message: AgentMessage) -> Option<Heard> {
        while self.inbox.try_recv().is_ok() {}
        self.outbox.send(message).ok()?;
        tokio::time::timeout(ANSWER_WITHIN, self.inbox.recv())
            .await
            .ok()?
    }
}
