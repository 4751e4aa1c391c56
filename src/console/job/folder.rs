//! The job's folder: `job.log` for people, `events.ndjson` for programs, `report.json` in the end.
//!
//! Owns: one task that appends lines, so that a slow or full disk never holds the job up. What always holds: when files
//! cannot be written the job goes on and says so once; a report appears whole (written aside, then renamed) or not.

use api::{Event, Report};
use std::path::{Path, PathBuf};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Lines waiting for the disk; more are dropped and counted.
const QUEUE: usize = 4096;

const LOG: &str = "job.log";
const EVENTS: &str = "events.ndjson";
const REPORT: &str = "report.json";

/// Where a job's files are.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// The folder of job `id` below the data directory.
    pub fn of(data_dir: &Path, id: u64) -> Self {
        Self(data_dir.join("jobs").join(id.to_string()))
    }

    /// `job.log`.
    pub fn log(&self) -> PathBuf {
        self.0.join(LOG)
    }

    /// `events.ndjson`.
    pub fn events(&self) -> PathBuf {
        self.0.join(EVENTS)
    }

    /// `report.json`.
    pub fn report(&self) -> PathBuf {
        self.0.join(REPORT)
    }

    /// Writes the report, or says why not.
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

/// Appends to the job's files from a task of its own.
pub struct Journal {
    lines: mpsc::Sender<Event>,
    task: JoinHandle<()>,
    dropped: u64,
}

impl Journal {
    /// Starts the task.
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

    /// Waits until every line is on its way to the disk.
    pub async fn close(self) {
        if self.dropped > 0 {
            tracing::warn!(
                lines = self.dropped,
                "job files: lines dropped because the disk was too slow"
            );
        }
        drop(self.lines);
        // The task ends by itself when the channel is empty; it cannot be cancelled from elsewhere.
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

/// The line of `job.log`.
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

    /// A full or vanished disk must not hold a job up: every line is taken, and closing ends.
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
