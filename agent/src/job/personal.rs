//! Applies the steps of a machine's plan, between the proof of the image and the sectors that make
//! it bootable.
//!
//! Owns: files of the console that a step needs, fetched over TCP 5003 and resumed where they broke
//! off. Always holds: the disk is not committed unless every step was applied and read back.

use super::{Event, Failure, Runner};
use crate::bulk::{BulkClient, BulkError};
use crate::progress::Reporter;
use apply::{ApplyError, Outcome, Payloads, Slot, StepError, Target, Watcher};
use disk::deployment::Deployment;
use facts::target::{DiskNow, TargetState};
use protocol::control::{ApplyOrder, Order};
use rustls::ClientConfig;
use std::cell::RefCell;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Duration;
use template::step::Payload;
use tokio::sync::mpsc;
use tokio_util::bytes::Bytes;

/// Most pieces of a file between the connection and the disk.
const PIECES: usize = 16;
/// Tries without a new byte, [`PAUSE`] apart, before a file is given up: a console may restart
/// meanwhile.
const TRIES: u32 = 24;
const PAUSE: Duration = Duration::from_secs(5);

/// Prefix of the folder for mounts; the process id follows.
const WORK: &str = "diskcast-apply-";

/// Parent of the folder for mounts: `/run`, in which only root may make folders, or the temporary
/// folder if there is no `/run`.
fn work_parent() -> PathBuf {
    let run = PathBuf::from("/run");
    if run.is_dir() {
        run
    } else {
        std::env::temp_dir()
    }
}

/// Unmounts and detaches what an agent left that was killed during its steps; otherwise its disk
/// would stay in use.
pub(crate) fn clean_up() {
    for line in apply::clean_up(&work_parent(), WORK) {
        tracing::warn!("an agent was cut off here: {line}");
    }
}

impl Runner {
    /// Carries out the steps of the order, if it has any.
    pub(super) fn make_itself(&mut self, deployment: &Deployment) -> Result<(), Failure> {
        let Some(ApplyOrder {
            plan,
            secrets,
            first_start,
        }) = self.order.apply.as_deref()
        else {
            return Ok(());
        };
        if plan.steps.is_empty() {
            return Ok(());
        }
        self.reporter.state_is(TargetState::Applying);
        let partitions: Vec<Slot> = deployment
            .partitions()
            .iter()
            .map(|partition| Slot {
                number: partition.number,
                offset: partition.start,
                length: partition.length,
            })
            .collect();
        let work = work_parent().join(format!("{WORK}{}", std::process::id()));
        let first_start = first_start.clone().map(|mut first_start| {
            let reached = SocketAddr::new(self.console.ip(), self.order.bulk.port);
            let reached = reached.to_string();
            // The way that is known to lead there comes first.
            first_start.consoles.retain(|known| *known != reached);
            first_start.consoles.insert(0, reached);
            first_start
        });
        let target = Target {
            disk: deployment.target().path(),
            sector_size: deployment.target().sector_size(),
            partitions: &partitions,
            work: &work,
            first_start: first_start.as_ref(),
        };
        let files = ConsoleFiles {
            runtime: self.runtime.clone(),
            tls: Arc::clone(&self.tls),
            inbox: &self.inbox,
            cancelled: &self.cancelled,
            source: RefCell::new((self.console, self.order.clone())),
        };
        let mut watcher = Reported(&self.reporter);
        let report = apply::run(
            &target,
            plan,
            secrets,
            &files,
            &self.cancelled,
            &mut watcher,
        )
        .map_err(|error| self.not_made(&error))?;
        let applied = report
            .steps
            .iter()
            .filter(|(_, outcome)| *outcome == Outcome::Applied)
            .count();
        self.reporter.log(format!(
            "template: {applied} of {} steps applied and read back, the others were so already",
            report.steps.len()
        ));
        for note in report.notes {
            self.reporter.log(note);
        }
        self.reporter.note(None);
        Ok(())
    }
}

impl Runner {
    /// The failure of the steps. A volume that is still held may be written to after its partition
    /// is blanked, so what that partition holds is not known then.
    fn not_made(&mut self, error: &ApplyError) -> Failure {
        let held = matches!(error.cause(), Some(StepError::InUse { .. }));
        if held && self.disk_now == DiskNow::PartitionBlank {
            self.blank_again();
            self.disk_now = DiskNow::Unknown;
        }
        match error {
            ApplyError::Cancelled => Failure::Other("cancelled".into()),
            error => Failure::Other(error.to_string()),
        }
    }
}

struct Reported<'a>(&'a Reporter);

impl Watcher for Reported<'_> {
    fn step(&mut self, index: usize, count: usize, what: &str) {
        self.0
            .note(Some(format!("step {} of {count}: {what}", index + 1)));
    }

    fn log(&mut self, line: &str) {
        self.0.log(line.to_owned());
    }
}

/// Files of the console that gave the order, or of a later one.
struct ConsoleFiles<'a> {
    runtime: tokio::runtime::Handle,
    tls: Arc<ClientConfig>,
    inbox: &'a Receiver<Event>,
    cancelled: &'a AtomicBool,
    source: RefCell<(SocketAddr, Order)>,
}

impl ConsoleFiles<'_> {
    /// Takes over the token from an order that a restarted console sent again.
    fn look_for_orders(&self) {
        while let Ok(event) = self.inbox.try_recv() {
            if let Event::Order(order, console) = event {
                *self.source.borrow_mut() = (console, *order);
            }
        }
    }

    /// Streams the file from byte `at` on.
    fn stream(&self, payload: &Payload, at: u64) -> mpsc::Receiver<Result<Bytes, BulkError>> {
        let (console, order) = &*self.source.borrow();
        let mut client = BulkClient::new(*console, Arc::clone(&self.tls), &order.bulk, &order.job);
        let (pieces, stream) = mpsc::channel(PIECES);
        let name = payload.blake3.clone();
        self.runtime.spawn(async move {
            if let Err(error) = client.file(&name, at, &pieces).await {
                // The reader is gone, so the error is not needed.
                let _ = pieces.send(Err(error)).await;
            }
        });
        stream
    }
}

impl Payloads for ConsoleFiles<'_> {
    fn open(&self, payload: &Payload) -> io::Result<Box<dyn Read + '_>> {
        self.look_for_orders();
        Ok(Box::new(Fetched {
            files: self,
            stream: self.stream(payload, 0),
            payload: payload.clone(),
            piece: Bytes::new(),
            at: 0,
            tries: 0,
        }))
    }
}

/// A file as it arrives, readable like any other.
struct Fetched<'a> {
    files: &'a ConsoleFiles<'a>,
    payload: Payload,
    stream: mpsc::Receiver<Result<Bytes, BulkError>>,
    piece: Bytes,
    /// Bytes taken from the stream.
    at: u64,
    tries: u32,
}

impl Read for Fetched<'_> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a file that broke off is asked for again after a while"
    )]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            if self.at >= self.payload.bytes {
                return Ok(0);
            }
            let failure = match self.stream.blocking_recv() {
                Some(Ok(piece)) => {
                    self.tries = 0;
                    self.at += piece.len() as u64;
                    self.piece = piece;
                    continue;
                }
                Some(Err(error)) => error.to_string(),
                None => "it ended early".to_owned(),
            };
            self.tries += 1;
            if self.tries >= TRIES {
                return Err(io::Error::other(format!(
                    "{} from the console: {failure}",
                    self.payload.name
                )));
            }
            tracing::warn!(file = self.payload.name, failure, "file breaks off");
            std::thread::sleep(PAUSE);
            if self.files.cancelled.load(Ordering::Relaxed) {
                return Err(io::Error::other("cancelled"));
            }
            self.files.look_for_orders();
            self.stream = self.files.stream(&self.payload, self.at);
        }
        let len = buffer.len().min(self.piece.len());
        let (part, out) = (self.piece.split_to(len), buffer.get_mut(..len));
        if let Some(out) = out {
            out.copy_from_slice(&part);
        }
        Ok(len)
    }
}
