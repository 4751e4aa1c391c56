//! The content of the screen: headline, facts and advice, derived from the present state. Pure.
//!
//! The first missing thing decides the headline, in the order in which a boot needs them: card,
//! link, address, console, approval, work. The advice names what is missing and what a person in
//! the room can do about it.

use crate::board::{CardState, Situation};
use agent::desk::{Line, Question, Standing, Work};
use facts::hex;
use facts::order::EndAction;
use facts::target::TargetState;
use facts::units;
use protocol::control::Progress;

/// Seconds without an answer after which the screen gives advice; shorter waits are normal.
const PATIENCE: u64 = 6;
/// Number of unanswered questions from which they are mentioned.
const QUESTIONS: u32 = 3;

/// The tone of the screen, visible from across the room.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tone {
    /// No action needed.
    Calm,
    /// At work.
    Busy,
    /// Done.
    Good,
    /// Needs a person.
    Bad,
}

/// Progress of the work.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bar {
    /// Bytes done.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
    /// Rate in bytes a second, once known.
    pub rate: Option<u64>,
}

impl Bar {
    /// The text of a bar: `1.20 GB of 4.00 GB   110 MB/s   0:25 left`.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{} of {}",
            units::bytes(self.done),
            units::bytes(self.total)
        );
        if let Some(rate) = self.rate.filter(|rate| *rate > 0) {
            let left = self.total.saturating_sub(self.done) as f64 / rate as f64;
            text.push_str(&format!(
                "   {}   {} left",
                units::bytes_per_s(rate),
                units::clock(left)
            ));
        }
        text
    }
}

/// The content of one screen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct View {
    /// The tone.
    pub tone: Tone,
    /// The headline in large letters; words and numbers only.
    pub headline: String,
    /// One line that explains the headline.
    pub caption: String,
    /// Progress of the work, if there is any.
    pub bar: Option<Bar>,
    /// Names and values.
    pub facts: Vec<(&'static str, String)>,
    /// Missing things, and what a person can check.
    pub advice: Vec<String>,
    /// Remarks on the start of the pre-OS.
    pub remarks: Vec<String>,
}

impl View {
    /// Makes the content. `rate` is that of the work, in bytes a second.
    pub fn of(situation: &Situation, standing: &Standing, rate: Option<u64>) -> Self {
        let mut view = Self {
            tone: Tone::Calm,
            headline: String::new(),
            caption: String::new(),
            bar: None,
            facts: facts(situation, standing),
            advice: Vec::new(),
            remarks: situation.remarks.clone(),
        };
        view.judge(situation, standing, rate);
        view
    }

    /// The content as one line, for a serial console and the log.
    pub fn line(&self) -> String {
        let mut line = format!("{}: {}", self.headline, self.caption);
        if let Some(bar) = &self.bar {
            line.push_str(&format!(" ({})", bar.text()));
        }
        line
    }

    fn say(&mut self, tone: Tone, headline: &str, caption: impl Into<String>) {
        self.tone = tone;
        self.headline = headline.to_owned();
        self.caption = caption.into();
    }

    fn judge(&mut self, situation: &Situation, standing: &Standing, rate: Option<u64>) {
        if let Some(failure) = &situation.failure {
            self.say(Tone::Bad, "STOPPED", failure.clone());
            self.advice.push("Restart this machine; when it stops here again, boot with diskcast.log=debug and send what the serial console says.".into());
            return;
        }
        match situation.ending {
            Some(EndAction::Restart) => {
                return self.say(
                    Tone::Good,
                    "RESTARTING",
                    "This machine starts from its own disk.",
                );
            }
            Some(EndAction::Shutdown) => {
                return self.say(Tone::Good, "OFF", "This machine switches itself off.");
            }
            Some(EndAction::None) | None => {}
        }
        // The result of a job stays on the screen until something else begins.
        if let Some(work) = &standing.work
            && (work.outcome.is_none() || standing.doing.is_none())
        {
            return self.judge_work(work, standing, rate);
        }
        if let Some(doing) = &standing.doing {
            return self.say(Tone::Busy, "WORKING", doing.clone());
        }
        if situation.pin.is_none() {
            self.say(
                Tone::Bad,
                "NO CONSOLE",
                "The boot server did not say which console may give orders.",
            );
            self.advice.push("Boot with diskcast.pin=FINGERPRINT on the kernel command line (diskcast console show), or through diskcast pxe serve or an export.".into());
            return;
        }
        match &standing.line {
            Line::Joined { name, approved, .. } => {
                self.judge_joined(name, *approved, situation, standing)
            }
            Line::Connected(console) => self.say(
                Tone::Calm,
                "CONNECTED",
                format!("The console at {console} is being told about this machine."),
            ),
            Line::Starting | Line::Searching(_) => self.judge_network(situation, standing),
        }
    }

    fn judge_joined(
        &mut self,
        name: &str,
        approved: bool,
        situation: &Situation,
        standing: &Standing,
    ) {
        if approved {
            self.say(Tone::Calm, "READY", format!("{name} waits for a deployment. Nothing is written until a technician starts one."));
        } else {
            self.say(
                Tone::Bad,
                "APPROVAL",
                format!("{name} waits to be let in: diskcast target approve {name}"),
            );
        }
        // A beacon is sent every second.
        if !standing.beacon_heard && situation.seconds > PATIENCE {
            self.advice.push("No multicast arrives here. The image will come by a slower way. Check IGMP snooping: the switch needs a querier.".into());
        }
    }

    fn judge_network(&mut self, situation: &Situation, standing: &Standing) {
        if let Some(mac) = situation.awaited {
            self.say(
                Tone::Calm,
                "STARTING",
                format!("Waiting for the network card that booted, {mac}."),
            );
            if situation.seconds > PATIENCE {
                self.tone = Tone::Bad;
                self.advice.push(format!(
                    "No driver found the card {mac}. Is its module in the pre-OS (profile full)?"
                ));
            }
            return;
        }
        if situation.cards.is_empty() {
            self.say(Tone::Calm, "STARTING", "Looking for network cards.");
            if situation.seconds > PATIENCE {
                self.say(Tone::Bad, "NO CARD", "No wired network card was found.");
                self.advice.push("Is the card's module in the pre-OS (profile full)? Is the card switched on in the firmware?".into());
            }
            return;
        }
        let has_address = situation
            .cards
            .values()
            .any(|card| matches!(card.state, CardState::Ready { .. }));
        if has_address {
            return self.judge_search(situation, standing);
        }
        let asking = situation
            .cards
            .iter()
            .find_map(|(name, card)| match card.state {
                CardState::Asking { since, questions } => Some((name, since, questions)),
                _ => None,
            });
        if let Some((name, since, questions)) = asking {
            self.say(
                Tone::Calm,
                "ADDRESS",
                format!("Asking for an address on {name}."),
            );
            if questions > QUESTIONS {
                self.tone = Tone::Bad;
                let seconds = situation.seconds.saturating_sub(since);
                self.advice.push(format!("No DHCP server answered on {name} for {seconds} s. Is one running on this network, and is the switch port past its spanning tree delay (portfast)?"));
                self.advice.push("Without a DHCP server: diskcast.ip=ADDRESS/PREFIX on the kernel command line, or diskcast pxe serve --dhcp.".into());
            }
            return;
        }
        self.say(
            Tone::Calm,
            "LINK",
            "Waiting for a signal on the network cable.",
        );
        for (name, card) in &situation.cards {
            match &card.state {
                CardState::NoLink { since } => {
                    let seconds = situation.seconds.saturating_sub(*since);
                    if seconds > PATIENCE {
                        self.say(
                            Tone::Bad,
                            "NO LINK",
                            "There is no signal on the network cable.",
                        );
                        self.advice.push(format!("No link on {name} ({}) for {seconds} s. Check the cable and the switch port.", card.mac));
                    }
                }
                CardState::Broken(error) => {
                    self.say(Tone::Bad, "NO CARD", "The network card does not work.");
                    self.advice.push(format!("{name} ({}): {error}", card.mac));
                }
                CardState::Asking { .. } | CardState::Ready { .. } => {}
            }
        }
    }

    fn judge_search(&mut self, situation: &Situation, standing: &Standing) {
        self.say(Tone::Calm, "CONSOLE", "Looking for the console.");
        if let Line::Searching(reason) = &standing.line {
            self.tone = Tone::Bad;
            self.advice.push(sentence(reason));
            self.advice.push(match situation.console {
                Some(console) => format!("Is the console running at {console}, and does its fingerprint begin like the one below?"),
                None => "Is the console running on this network (diskcast console run)? Where multicast is blocked, name it: diskcast.console=ADDRESS.".into(),
            });
        }
    }

    fn judge_work(&mut self, work: &Work, standing: &Standing, rate: Option<u64>) {
        self.facts.push(("Disk", work.disk.clone()));
        self.facts.push(("Image", work.image.clone()));
        if let Some(outcome) = &work.outcome {
            if outcome.state == TargetState::Done {
                let size = units::bytes(outcome.bytes_written);
                self.say(
                    Tone::Good,
                    "DONE",
                    format!(
                        "The disk was read back and matches the image. {size} in {}.",
                        units::span(outcome.seconds)
                    ),
                );
            } else {
                self.say(
                    Tone::Bad,
                    "FAILED",
                    outcome
                        .reason
                        .clone()
                        .unwrap_or_else(|| "No reason was given.".into()),
                );
                self.advice.push("What was being written does not start now. After mending the cause, deploy again: this machine stays ready.".into());
            }
            return;
        }
        let Some(progress) = &work.progress else {
            return self.say(Tone::Busy, "STARTING", "The job begins.");
        };
        self.say(Tone::Busy, &headline(progress), doing(progress.state));
        let shows_bytes = matches!(
            progress.state,
            TargetState::Receiving | TargetState::Repairing | TargetState::Verifying
        );
        if shows_bytes && progress.total_bytes > 0 {
            self.bar = Some(Bar {
                done: progress.done_bytes,
                total: progress.total_bytes,
                rate,
            });
        }
        if let Some(note) = &progress.note {
            self.advice.push(note.clone());
        }
        if let Line::Searching(reason) = &standing.line {
            self.advice.push(format!(
                "The console is away: {reason}. What was received stays; connecting again."
            ));
        }
    }
}

fn headline(progress: &Progress) -> String {
    let percent = units::percent(progress.done_bytes, progress.total_bytes.max(1));
    match progress.state {
        TargetState::Receiving | TargetState::Repairing if progress.total_bytes > 0 => {
            format!("{percent} %")
        }
        TargetState::Verifying => format!("CHECK {percent} %"),
        state => state.as_str().to_ascii_uppercase(),
    }
}

fn doing(state: TargetState) -> &'static str {
    match state {
        TargetState::Joined => "Waiting for the transmission to begin.",
        TargetState::Receiving => "Receiving and writing. Do not switch this machine off.",
        TargetState::Repairing => "Fetching what is missing. Do not switch this machine off.",
        TargetState::Verifying => {
            "Reading the disk back and comparing. Do not switch this machine off."
        }
        TargetState::Applying => "Making this machine itself. Do not switch it off.",
        TargetState::Committing => "Making the disk bootable. Do not switch this machine off.",
        _ => "",
    }
}

fn facts(situation: &Situation, standing: &Standing) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    let machine = &situation.machine;
    if let Line::Joined { name, .. } = &standing.line {
        facts.push(("Name", name.clone()));
    }
    if let Some(model) = &machine.model {
        let serial = machine
            .serial
            .as_ref()
            .map(|s| format!(", serial {s}"))
            .unwrap_or_default();
        facts.push(("Machine", format!("{model}{serial}, {}", machine.firmware)));
    }
    if let Some(uuid) = &machine.uuid {
        facts.push(("UUID", uuid.clone()));
    }
    for (name, card) in &situation.cards {
        let state = match &card.state {
            CardState::NoLink { .. } => "no link".to_owned(),
            CardState::Asking { .. } => "no address yet".to_owned(),
            CardState::Broken(_) => "does not work".to_owned(),
            CardState::Ready {
                address,
                prefix,
                gateway,
                server,
            } => {
                let mut text = format!("{address}/{prefix}");
                if let Some(gateway) = gateway {
                    text.push_str(&format!(", router {gateway}"));
                }
                match server {
                    Some(server) => text.push_str(&format!(", from {server}")),
                    None => text.push_str(", from the command line"),
                }
                text
            }
        };
        facts.push(("Network", format!("{name} {}: {state}", card.mac)));
    }
    if let Line::Joined { console, .. } | Line::Connected(console) = &standing.line {
        facts.push(("Console", console.to_string()));
    } else if let Some(console) = situation.console {
        facts.push(("Console", console.to_string()));
    }
    if let Some(pin) = situation.pin {
        facts.push(("Fingerprint", grouped(&hex::encode(&pin.0))));
    }
    facts
}

/// A reason from elsewhere as a sentence of its own.
fn sentence(reason: &str) -> String {
    let mut letters = reason.chars();
    let mut text: String = letters
        .next()
        .into_iter()
        .flat_map(char::to_uppercase)
        .chain(letters)
        .collect();
    if !text.ends_with(['.', '?', '!']) {
        text.push('.');
    }
    text
}

/// Digits in groups of eight, which can be compared by eye.
fn grouped(digits: &str) -> String {
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && index % 8 == 0 {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// The question or menu on the screen, with its marked choice.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Menu {
    /// The question.
    pub question: Question,
    /// Index of the marked choice.
    pub marked: usize,
    /// Number of the open question; `None` for the menu, which is always there.
    pub id: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::CardView;
    use facts::Mac;
    use std::net::Ipv4Addr;

    fn situation(state: Option<CardState>) -> Situation {
        let mut situation = Situation {
            seconds: 20,
            pin: Some("ab".repeat(32).parse().unwrap()),
            ..Situation::default()
        };
        if let Some(state) = state {
            let card = CardView {
                mac: Mac([2, 0, 0, 0, 0, 1]),
                state,
            };
            situation.cards.insert("eth0".into(), card);
        }
        situation
    }

    fn ready() -> CardState {
        CardState::Ready {
            address: Ipv4Addr::new(10, 0, 0, 7),
            prefix: 24,
            gateway: None,
            server: Some(Ipv4Addr::new(10, 0, 0, 1)),
        }
    }

    fn searching() -> Standing {
        Standing {
            line: Line::Searching("no console with our pin announced itself".into()),
            ..Standing::default()
        }
    }

    #[test]
    fn the_first_thing_that_is_missing_is_the_headline() {
        let of = |situation: &Situation, standing: &Standing| {
            let view = View::of(situation, standing, None);
            (view.headline, view.tone, view.advice.join(" "))
        };
        let nobody = Standing::default();
        let (headline, tone, advice) = of(&situation(None), &nobody);
        assert_eq!((headline.as_str(), tone), ("NO CARD", Tone::Bad));
        assert!(advice.contains("module"));
        let (headline, _, advice) = of(&situation(Some(CardState::NoLink { since: 3 })), &nobody);
        assert_eq!(headline, "NO LINK");
        assert!(
            advice.contains("No link on eth0 (02:00:00:00:00:01) for 17 s"),
            "{advice}"
        );
        let (headline, tone, advice) = of(
            &situation(Some(CardState::Asking {
                since: 5,
                questions: 1,
            })),
            &nobody,
        );
        assert_eq!(
            (headline.as_str(), tone, advice.as_str()),
            ("ADDRESS", Tone::Calm, "")
        );
        let (headline, tone, advice) = of(
            &situation(Some(CardState::Asking {
                since: 5,
                questions: 4,
            })),
            &nobody,
        );
        assert_eq!((headline.as_str(), tone), ("ADDRESS", Tone::Bad));
        assert!(advice.contains("for 15 s"), "{advice}");
        let (headline, _, advice) = of(&situation(Some(ready())), &searching());
        assert_eq!(headline, "CONSOLE");
        assert!(
            advice.contains("No console with our pin announced itself."),
            "{advice}"
        );
        let mut unpinned = situation(Some(ready()));
        unpinned.pin = None;
        assert_eq!(of(&unpinned, &nobody).0, "NO CONSOLE");
        let mut awaited = situation(Some(ready()));
        awaited.awaited = Some(Mac([2; 6]));
        assert!(of(&awaited, &nobody).2.contains("02:02:02:02:02:02"));
    }

    #[test]
    fn a_joined_machine_says_when_multicast_does_not_arrive() {
        let mut standing = Standing {
            line: Line::Joined {
                console: "10.0.0.1:5001".parse().unwrap(),
                name: "pc-07".into(),
                approved: true,
            },
            ..Standing::default()
        };
        let view = View::of(&situation(Some(ready())), &standing, None);
        assert_eq!(view.headline, "READY");
        assert!(view.advice[0].contains("querier"));
        standing.beacon_heard = true;
        assert!(
            View::of(&situation(Some(ready())), &standing, None)
                .advice
                .is_empty()
        );
    }

    #[test]
    fn progress_is_said_in_bytes_rate_and_time_left() {
        let bar = Bar {
            done: 1_200_000_000,
            total: 4_000_000_000,
            rate: Some(112_000_000),
        };
        assert_eq!(bar.text(), "1.20 GB of 4.00 GB   112 MB/s   0:25 left");
    }
}
