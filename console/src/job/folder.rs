//! The folder of a job: `job.log` for people, `events.ndjson` for programs, and `report.json` at
//! the end.
//!
//! Owns one task that appends lines, so that a slow or full disk never delays the job. Invariants:
//! if files cannot be written, the job goes on and logs the fault once; a report appears whole or
//! not at all (it is written to another file, then renamed).

use api::{Event, Report};
use std::path::{Path, PathBuf};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Maximum number of lines that wait for the disk; further lines are dropped and counted.
const QUEUE: usize = 4096;

const LOG: &str = "job.log";
const EVENTS: &str = "events.ndjson";
const REPORT: &str = "report.json";

/// Path of a job's folder.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Returns the folder of job `id` in the data directory.
    pub fn of(data_dir: &Path, id: u64) -> Self {
        Self(data_dir.join("jobs").join(id.to_string()))
    }

    /// Path of `job.log`.
    pub fn log(&self) -> PathBuf {
        self.0.join(LOG)
    }

    /// Path of `events.ndjson`.
    pub fn events(&self) -> PathBuf {
        self.0.join(EVENTS)
    }

    /// Path of `report.json`.
    pub fn report(&self) -> PathBuf {
        self.0.join(REPORT)
    }

    /// Writes the report; it appears under its name only when it is complete.
    ///
    /// # Errors
    /// The error of the file system.
    pub async fn write_report(&self, report: &Report) -> std::io::Result<()> {
        let mut json = serde_json::to_vec_pretty(report)?;
        json.push(b'\n');
        let partial = self.0.join(format!("{REPORT}.partial"));
        tokio::fs::create_dir_all(&self.0).await?;
        let mut file = tokio::fs::File::create(&partial).await?;
        file.write_all(&json).await?;
        file.sync_all().await?;
        tokio::fs::rename(&partial, self.report()).await
    }
}

/// Writer of the job's log files, with a task of its own.
pub struct Journal {
    lines: mpsc::Sender<Event>,
    task: JoinHandle<()>,
    dropped: u64,
}

impl Journal {
    /// Starts the task that appends lines.
    pub fn start(folder: Folder) -> Self {
        let (lines, waiting) = mpsc::channel(QUEUE);
        Self {
            lines,
            task: tokio::spawn(append(folder, waiting)),
            dropped: 0,
        }
    }

    /// Queues an event for the files.
    pub fn write(&mut self, event: &Event) {
        if self.lines.try_send(event.clone()).is_err() {
            self.dropped += 1;
        }
    }

    /// Waits until every queued line is handed to the operating system.
    pub async fn close(self) {
        if self.dropped > 0 {
            tracing::warn!(
                lines = self.dropped,
                "job files: lines dropped because the disk was too slow"
            );
        }
        drop(self.lines);
        // The task ends when the channel is empty; nothing else cancels it.
        let _ = self.task.await;
    }
}

async fn append(folder: Folder, mut waiting: mpsc::Receiver<Event>) {
    let mut broken = false;
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, 256).await > 0 {
        let (mut text, mut ndjson) = (String::new(), String::new());
        for event in batch.drain(..) {
            if let Ok(line) = serde_json::to_string(&event) {
                ndjson.push_str(&line);
                ndjson.push('\n');
            }
            text.push_str(&plain(&event));
        }
        let written = async {
            tokio::fs::create_dir_all(&folder.0).await?;
            append_to(&folder.log(), text.as_bytes()).await?;
            append_to(&folder.events(), ndjson.as_bytes()).await
        };
        match written.await {
            Ok(()) => broken = false,
            Err(error) if !broken => {
                tracing::error!(folder = %folder.0.display(), %error, "job files cannot be written; the job goes on without them");
                broken = true;
            }
            Err(_) => {}
        }
    }
}

async fn append_to(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = tokio::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .await?;
    file.write_all(bytes).await?;
    file.flush().await
}

/// Returns the line of `job.log` for an event.
fn plain(event: &Event) -> String {
    match event {
        Event::State { time, target, .. } => {
            let mut line = format!("{time} {} {}", target.name, target.state);
            if let Some(reason) = &target.reason {
                line.push_str(&format!(": {reason}"));
            }
            line.push('\n');
            line
        }
        Event::Log { time, text, .. } => format!("{time} {text}\n"),
        Event::Progress { .. } => String::new(),
        Event::Summary(summary) => format!(
            "{} job {}: {} done, {} not, {:.1} s\n",
            super::super::time::now_text(),
            summary.job,
            summary.done,
            summary.failed,
            summary.seconds
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(text: &str) -> Event {
        Event::Log {
            job: "7".to_owned(),
            time: "T".to_owned(),
            text: text.to_owned(),
        }
    }

    #[tokio::test]
    async fn lines_reach_both_files() {
        let data = tempfile::tempdir().unwrap();
        let folder = Folder::of(data.path(), 7);
        let mut journal = Journal::start(folder.clone());
        journal.write(&log("one"));
        journal.write(&log("two"));
        journal.close().await;
        assert_eq!(
            std::fs::read_to_string(folder.log()).unwrap(),
            "T one\nT two\n"
        );
        assert_eq!(
            std::fs::read_to_string(folder.events())
                .unwrap()
                .lines()
                .count(),
            2
        );
    }

    /// With a full or missing disk, every line is still accepted and closing ends.
    #[tokio::test]
    async fn files_that_cannot_be_written_cost_only_themselves() {
        let data = tempfile::tempdir().unwrap();
        std::fs::write(data.path().join("jobs"), "a file where a folder should be").unwrap();
        let mut journal = Journal::start(Folder::of(data.path(), 7));
        for _ in 0..10 {
            journal.write(&log("x"));
        }
        journal.close().await;
    }
}
