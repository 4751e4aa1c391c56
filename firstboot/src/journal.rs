//! The journal of a job: steps begun and done, so that a restart or a power cut at any moment loses
//! nothing and repeats nothing.
//!
//! A text file that only grows, one [`Entry`] a line. Every line ends in ` .`, so a line that was
//! cut by a power failure is not mistaken for a shorter one (`done run.1` for `done run.10`) and is
//! skipped. Holds no secret.

use crate::job::id_is_good;

/// Longest reason that is kept, in characters.
pub const MAX_REASON_CHARS: usize = 500;

/// One entry of the journal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Entry {
    /// The program was started; one entry for each start of the machine.
    Boot,
    /// The program is about to restart the machine.
    Restart,
    /// A step is about to be carried out. Without a later outcome it was interrupted.
    Begin(String),
    /// A step was carried out.
    Done(String),
    /// A step was carried out, and the machine has to restart before the next one.
    DoneRestart(String),
    /// A step failed.
    Failed {
        /// Id of the step.
        id: String,
        /// Cause, without secrets.
        reason: String,
    },
    /// The secrets of a step were removed from the job file.
    Wiped(String),
    /// The secrets of a step could not be overwritten: they are removed with the file at the end.
    NotWiped(String),
    /// Every step is done or has failed for good.
    Finished,
    /// The job was stopped for good.
    Stopped {
        /// Cause, without secrets.
        reason: String,
    },
    /// The console refused the report; it is not sent again.
    Refused,
    /// The console has not acknowledged the report: the end action follows nevertheless, and later
    /// starts try again.
    EndAction,
    /// Service and job file are removed; the end action may follow.
    Ended,
}

impl Entry {
    /// The entry as a line, with the line end.
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

    /// Reads a line without its end; `None` for a line that was cut or has another format.
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

/// A reason in the form that fits into a line.
fn one_line(reason: &str) -> String {
    let clean = reason.chars().map(|c| if c.is_control() { ' ' } else { c });
    let clean: String = clean.take(MAX_REASON_CHARS).collect();
    clean.trim().to_string()
}

/// All entries in order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Journal {
    entries: Vec<Entry>,
}

/// Summary of the entries for one step, or for the report.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct StepRecord {
    /// Number of times it was begun.
    pub begun: u32,
    /// Number of recorded failures.
    pub failed: u32,
    /// Number of recorded failures since the last start.
    pub failed_this_boot: u32,
    /// Cause of the last failure.
    pub reason: Option<String>,
    /// The step was carried out.
    pub done: bool,
    /// Its secrets are overwritten, or are left for the removal of the file.
    pub wiped: bool,
}

impl Journal {
    /// Reads a journal, in any state that a power cut leaves. Never fails.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        // Text after the last line end was cut, even if it looks whole.
        let whole = text
            .rfind('\n')
            .and_then(|end| text.get(..end))
            .unwrap_or("");
        Self {
            entries: whole.split('\n').filter_map(Entry::parse).collect(),
        }
    }

    /// Adds an entry that was written to the file.
    pub fn push(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    /// All entries in order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Number of times the program was started.
    #[must_use]
    pub fn boots(&self) -> usize {
        self.entries
            .iter()
            .filter(|entry| **entry == Entry::Boot)
            .count()
    }

    /// Entries since the last start.
    fn this_boot(&self) -> &[Entry] {
        let start = self.entries.iter().rposition(|entry| *entry == Entry::Boot);
        self.entries
            .get(start.map_or(0, |at| at + 1)..)
            .unwrap_or(&[])
    }

    /// True if a restart was requested and has not happened yet.
    #[must_use]
    pub fn restart_asked(&self) -> bool {
        self.this_boot().contains(&Entry::Restart)
    }

    /// True if a step needs a restart before the next one.
    #[must_use]
    pub fn restart_due(&self) -> bool {
        self.this_boot()
            .iter()
            .any(|entry| matches!(entry, Entry::DoneRestart(_)))
    }

    /// The entry that ended the job: every step had its turn, or the job was stopped. `None` before
    /// that.
    #[must_use]
    pub fn over(&self) -> Option<&Entry> {
        self.entries.iter().find(|entry| is_over(entry))
    }

    /// Number of machine starts since the end of the job.
    #[must_use]
    pub fn boots_since_over(&self) -> usize {
        let later = self.entries.iter().skip_while(|entry| !is_over(entry));
        later.filter(|entry| **entry == Entry::Boot).count()
    }

    /// True if the console refused the report.
    #[must_use]
    pub fn refused(&self) -> bool {
        self.entries.contains(&Entry::Refused)
    }

    /// True if the end action was taken before the console acknowledged the report.
    #[must_use]
    pub fn end_action_taken(&self) -> bool {
        self.entries.contains(&Entry::EndAction)
    }

    /// True if nothing is left to do.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.entries.contains(&Entry::Ended)
    }

    /// Summary of the entries for a step.
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
