//! What was begun and done, so that a restart or a power cut at any moment loses nothing and repeats nothing.
//!
//! A text file that only grows, an [`Entry`] a line. Every line ends in ` .`: one that was cut by a power failure is not mistaken for a
//! shorter one (`done run.1` for `done run.10`), and is passed over. Holds no secret.

use crate::job::id_is_good;

/// Longest reason kept, in characters.
pub const MAX_REASON_CHARS: usize = 500;

/// One fact.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Entry {
    /// The program was started: once a start of the machine.
    Boot,
    /// The machine is about to be restarted by the program.
    Restart,
    /// A step is about to be carried out. Alone, without an outcome behind it: it was interrupted.
    Begin(String),
    /// A step was carried out.
    Done(String),
    /// It was, and the machine has to restart before the next.
    DoneRestart(String),
    /// A step failed.
    Failed {
        /// Which.
        id: String,
        /// Why, without secrets.
        reason: String,
    },
    /// The secrets of a step are no longer in the job file.
    Wiped(String),
    /// They could not be overwritten: they go with the file, at the end.
    NotWiped(String),
    /// Every step has its turn behind it.
    Finished,
    /// The job stops here, for good.
    Stopped {
        /// Why, without secrets.
        reason: String,
    },
    /// The console refused the report: it is not tried again.
    Refused,
    /// The report is still to be heard: the end action follows nevertheless, and later starts try again.
    EndAction,
    /// Service and job file are gone; the end action may follow.
    Ended,
}

impl Entry {
    /// Its line, with the line end.
    #[must_use]
    pub fn line(&self) -> String {
        let (word, rest) = match self {
            Self::Boot => ("boot", String::new()),
            Self::Restart => ("restart", String::new()),
            Self::Begin(id) => ("begin", id.clone()),
            Self::Done(id) => ("done", id.clone()),
            Self::DoneRestart(id) => ("done-restart", id.clone()),
            Self::Failed { id, reason } => ("failed", format!("{id} {}", one_line(reason))),
            Self::Wiped(id) => ("wiped", id.clone()),
            Self::NotWiped(id) => ("not-wiped", id.clone()),
            Self::Finished => ("finished", String::new()),
            Self::Stopped { reason } => ("stopped", one_line(reason)),
            Self::Refused => ("refused", String::new()),
            Self::EndAction => ("end-action", String::new()),
            Self::Ended => ("ended", String::new()),
        };
        if rest.is_empty() {
            format!("{word} .\n")
        } else {
            format!("{word} {rest} .\n")
        }
    }

    /// Reads a line without its end; `None` for one that was cut or is not ours.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let body = line.strip_suffix(" .")?;
        let (word, rest) = body.split_once(' ').unwrap_or((body, ""));
        let id = || id_is_good(rest).then(|| rest.to_string());
        Some(match (word, rest) {
            ("boot", "") => Self::Boot,
            ("restart", "") => Self::Restart,
            ("finished", "") => Self::Finished,
            ("refused", "") => Self::Refused,
            ("end-action", "") => Self::EndAction,
            ("ended", "") => Self::Ended,
            ("begin", _) => Self::Begin(id()?),
            ("done", _) => Self::Done(id()?),
            ("done-restart", _) => Self::DoneRestart(id()?),
            ("wiped", _) => Self::Wiped(id()?),
            ("not-wiped", _) => Self::NotWiped(id()?),
            ("stopped", _) => Self::Stopped {
                reason: rest.to_string(),
            },
            ("failed", _) => {
                let (id, reason) = rest.split_once(' ').unwrap_or((rest, ""));
                Self::Failed {
                    id: id_is_good(id).then(|| id.to_string())?,
                    reason: reason.to_string(),
                }
            }
            _ => return None,
        })
    }
}

fn is_over(entry: &Entry) -> bool {
    matches!(entry, Entry::Finished | Entry::Stopped { .. })
}

/// A reason as it fits into a line.
fn one_line(reason: &str) -> String {
    let clean = reason.chars().map(|c| if c.is_control() { ' ' } else { c });
    let clean: String = clean.take(MAX_REASON_CHARS).collect();
    clean.trim().to_string()
}

/// Everything that was recorded, in order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Journal {
    entries: Vec<Entry>,
}

/// What the journal says of one step, or of the report.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct StepRecord {
    /// Times it was begun.
    pub begun: u32,
    /// Times it was seen to fail.
    pub failed: u32,
    /// Times it was seen to fail since the last start.
    pub failed_this_boot: u32,
    /// The last reason.
    pub reason: Option<String>,
    /// It was carried out.
    pub done: bool,
    /// Its secrets need no more attention.
    pub wiped: bool,
}

impl Journal {
    /// Reads a journal, from whatever a power cut left. Never fails.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        // What stands behind the last line end was cut, even when it looks whole.
        let whole = text
            .rfind('\n')
            .and_then(|end| text.get(..end))
            .unwrap_or("");
        Self {
            entries: whole.split('\n').filter_map(Entry::parse).collect(),
        }
    }

    /// Adds what was just written.
    pub fn push(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    /// Everything, in order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Times the program was started.
    #[must_use]
    pub fn boots(&self) -> usize {
        self.entries
            .iter()
            .filter(|entry| **entry == Entry::Boot)
            .count()
    }

    /// Since the last start.
    fn this_boot(&self) -> &[Entry] {
        let start = self.entries.iter().rposition(|entry| *entry == Entry::Boot);
        self.entries
            .get(start.map_or(0, |at| at + 1)..)
            .unwrap_or(&[])
    }

    /// A restart was asked for and has not come yet.
    #[must_use]
    pub fn restart_asked(&self) -> bool {
        self.this_boot().contains(&Entry::Restart)
    }

    /// A step wants a restart before the next one.
    #[must_use]
    pub fn restart_due(&self) -> bool {
        self.this_boot()
            .iter()
            .any(|entry| matches!(entry, Entry::DoneRestart(_)))
    }

    /// How the job ended, when it did: every step had its turn, or it was stopped.
    #[must_use]
    pub fn over(&self) -> Option<&Entry> {
        self.entries.iter().find(|entry| is_over(entry))
    }

    /// Starts of the machine since the job was over.
    #[must_use]
    pub fn boots_since_over(&self) -> usize {
        let later = self.entries.iter().skip_while(|entry| !is_over(entry));
        later.filter(|entry| **entry == Entry::Boot).count()
    }

    /// The console refused the report.
    #[must_use]
    pub fn refused(&self) -> bool {
        self.entries.contains(&Entry::Refused)
    }

    /// The end action was taken before the report was heard.
    #[must_use]
    pub fn end_action_taken(&self) -> bool {
        self.entries.contains(&Entry::EndAction)
    }

    /// Nothing is left to do.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.entries.contains(&Entry::Ended)
    }

    /// What it says of a step.
    #[must_use]
    pub fn step(&self, id: &str) -> StepRecord {
        let mut record = StepRecord::default();
        for entry in &self.entries {
            match entry {
                Entry::Boot => record.failed_this_boot = 0,
                Entry::Begin(of) if of == id => record.begun = record.begun.saturating_add(1),
                Entry::Done(of) | Entry::DoneRestart(of) if of == id => record.done = true,
                Entry::Wiped(of) | Entry::NotWiped(of) if of == id => record.wiped = true,
                Entry::Failed { id: of, reason } if of == id => {
                    record.failed = record.failed.saturating_add(1);
                    record.failed_this_boot = record.failed_this_boot.saturating_add(1);
                    record.reason = Some(reason.clone());
                }
                _ => {}
            }
        }
        record
    }
}
