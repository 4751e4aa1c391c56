//! One capture on one target, from the order to the console's message that the image is stored.
//!
//! Owns the thread that reads the disk, and the handle that the link uses. The disk is only ever
//! read. Always holds: every chunk of the finished image was read by this process and either sent,
//! or read again and found equal to the console's. So the image is the disk as it is now, however
//! often the capture was interrupted.
//!
//! ```text
//! joined -- disk found free, surveyed; console has room --> capturing <--> connection lost, again
//!                                                             | all chunks there
//!                                                 console checks and names the image --> recorded
//! ```

mod run;
mod upload;

use super::AgentOptions;
use super::desk::Work;
use super::job::{JobEnd, Shared};
use super::progress::Reporter;
use facts::order::EndAction;
use facts::target::{DiskFacts, TargetState};
use protocol::control::{AgentMessage, CaptureOrder, Unfinished};
use rustls::ClientConfig;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

/// Handle on a capture, for the link.
pub(super) struct Capture {
    id: String,
    access: Arc<Mutex<Access>>,
    events: Sender<Event>,
    cancelled: CancellationToken,
    shared: Arc<Mutex<Shared>>,
    disk: PathBuf,
    recorded: Option<EndAction>,
}

/// Address and token of TCP 5003; each order has new ones.
#[derive(Clone)]
struct Access {
    address: SocketAddr,
    token: String,
}

impl Access {
    fn of(order: &CaptureOrder, console: SocketAddr) -> Self {
        Self {
            address: SocketAddr::new(console.ip(), order.bulk.port),
            token: order.bulk.token.clone(),
        }
    }
}

enum Event {
    /// The order came again, with another token, perhaps from another console.
    Order,
    Cancel(String),
    Recorded,
}

/// State of the capture's thread.
struct Runner {
    order: CaptureOrder,
    access: Arc<Mutex<Access>>,
    tls: Arc<ClientConfig>,
    runtime: tokio::runtime::Handle,
    offers: Option<Vec<DiskFacts>>,
    inbox: Receiver<Event>,
    cancelled: CancellationToken,
    reporter: Arc<Reporter>,
}

impl Capture {
    /// Starts the capture that an order describes.
    pub(super) fn start(
        order: CaptureOrder,
        console: SocketAddr,
        tls: Arc<ClientConfig>,
        options: &AgentOptions,
        outbox: UnboundedSender<AgentMessage>,
    ) -> Self {
        let (events, inbox) = channel();
        let cancelled = CancellationToken::new();
        let shared = Arc::new(Mutex::new(Shared::new(String::new())));
        let access = Arc::new(Mutex::new(Access::of(&order, console)));
        let id = order.job.clone();
        options.desk.tell(|standing| {
            standing.work = Some(Work {
                image: order.image.clone(),
                disk: order.disk.path.clone(),
                progress: None,
                outcome: None,
            });
        });
        let disk = order.disk.path.clone().into();
        let runner = Runner {
            reporter: Arc::new(Reporter::new(
                id.clone(),
                outbox,
                Arc::clone(&shared),
                options.desk.clone(),
            )),
            order,
            access: Arc::clone(&access),
            tls,
            runtime: tokio::runtime::Handle::current(),
            offers: options.offers(),
            inbox,
            cancelled: cancelled.clone(),
        };
        let spawned = std::thread::Builder::new()
            .name("capture".into())
            .spawn(move || runner.run());
        if let Err(error) = spawned {
            tracing::error!(%error, "no thread for the capture");
        }
        Self {
            id,
            access,
            events,
            cancelled,
            shared,
            disk,
            recorded: None,
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// The capture's entry in the hello of a new connection.
    pub(super) fn unfinished(&self) -> Unfinished {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        Unfinished {
            job: self.id.clone(),
            root: String::new(),
            state: shared.state,
            outcome: shared.outcome.clone(),
        }
    }

    /// Handles the same order from the console (perhaps from a new one after a restart): the
    /// capture goes on.
    pub(super) fn order_again(&mut self, order: &CaptureOrder, console: SocketAddr) {
        *self.access.lock().unwrap_or_else(PoisonError::into_inner) = Access::of(order, console);
        // A thread that has ended receives nothing; its outcome is on its way.
        let _ = self.events.send(Event::Order);
    }

    pub(super) fn cancel(&self, reason: &str) {
        let _ = self.events.send(Event::Cancel(reason.to_owned()));
        self.cancelled.cancel();
    }

    pub(super) fn recorded(&mut self, after: EndAction) {
        self.recorded = Some(after);
        let _ = self.events.send(Event::Recorded);
    }

    /// The end, once the console has recorded it.
    pub(super) fn end(&self) -> Option<JobEnd> {
        let after = self.recorded?;
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = shared.outcome.as_ref().map(|outcome| outcome.state);
        // The thread of a cancelled capture may not have reported its outcome yet.
        let done = failed != Some(TargetState::Failed) && !self.cancelled.is_cancelled();
        Some(JobEnd {
            done,
            after,
            disk: self.disk.clone(),
        })
    }
}

impl Drop for Capture {
    /// The thread stops reading when the handle is dropped.
    fn drop(&mut self) {
        self.cancelled.cancel();
    }
}
