//! The target side: reports the machine's facts, joins, receives, writes, reads back, commits.
//!
//! ```text
//! link (tokio)  <-- control frames -->  console
//!   | starts, commands, outgoing messages
//! job (one thread)   manifest -> prepare -> wipe -> image -> flush -> read back -> commit -> outcome
//!   | blocks, statuses         | blocks to write
//! net::receiving (one thread)  writers (a few threads)        bulk (tokio, on demand)
//!
//! capture (one thread)   survey -> read, compress, hash (a few threads) -> TCP 5003
//! menu (tokio)           choices of the person at the screen, by way of the desk
//! ```
//!
//! Always holds: the disk named in the order is the one written, or none; an outcome `done` is only
//! made from a [`disk::deployment::Proof`] and a finished commit.

mod bulk;
mod capture;
pub mod desk;
mod doctor;
mod doctor_facts;
mod failure;
mod fetch;
mod job;
mod link;
mod load;
pub mod machine;
mod menu;
mod pieces;
mod power;
mod progress;
mod pulse;
mod writers;

use desk::Desk;
use disk::{DiskError, device};
use facts::order::EndAction;
use facts::target::DiskFacts;
use net::receiving::InjectedLoss;
use net::tls::{self, Pin};
use std::fs::OpenOptions;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Settings of an agent.
#[derive(Clone, Debug)]
pub struct AgentOptions {
    /// `host:port` of the console's control channel; when absent the console is found by its
    /// beacon.
    pub console: Option<String>,
    /// Pin of the console that may give orders.
    pub pin: Pin,
    /// Disks on offer; empty offers all that the kernel lists.
    pub disks: Vec<DiskOffer>,
    /// True to end after one job.
    pub once: bool,
    /// True to carry out end actions.
    pub power: bool,
    /// Address of the interface to listen on; when absent the one towards the console.
    pub interface: Option<Ipv4Addr>,
    /// Name to request from the console.
    pub name: Option<String>,
    /// Group and port of the second lane, for beacons.
    pub second: SocketAddrV4,
    /// Session packets to drop on purpose, for rehearsals.
    pub inject: InjectedLoss,
    /// The desk of the screen beside this agent; empty if there is no screen.
    pub desk: Desk,
    /// Action that restarts or switches off; the kernel's own when absent.
    pub on_end: Option<OnEnd>,
}

/// Carries out an end action on a machine whose disk (the path) was committed.
pub type Obey = dyn Fn(EndAction, &Path) + Send + Sync;

/// The action of a machine after a job that ended `done`.
#[derive(Clone)]
pub struct OnEnd(pub Arc<Obey>);

impl std::fmt::Debug for OnEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnEnd")
    }
}

/// A disk on offer: a device, or a regular file with a size.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DiskOffer {
    /// Path of the device or file.
    pub path: PathBuf,
    /// Size of the file, in bytes; a missing file is made sparse.
    pub size: Option<u64>,
}

impl AgentOptions {
    /// The disks on offer now; `None` means all that the kernel lists. A disk that vanished is left
    /// out.
    fn offers(&self) -> Option<Vec<DiskFacts>> {
        (!self.disks.is_empty()).then(|| {
            self.disks
                .iter()
                .filter_map(|offer| match device::describe(&offer.path) {
                    Ok(facts) => Some(facts),
                    Err(error) => {
                        tracing::warn!(disk = %offer.path.display(), error = %error.full(), "not offered");
                        None
                    }
                })
                .collect()
        })
    }
}

impl DiskOffer {
    /// Makes sure the disk exists before it is offered: a file is created or grown to its size.
    ///
    /// # Errors
    /// The file cannot be made, or a size was given for a block device or would cut an existing
    /// file.
    pub fn provide(&self) -> Result<(), DiskError> {
        disk::ground::refuse_image_as_disk(&self.path)?;
        let Some(size) = self.size else {
            return device::describe(&self.path).map(drop);
        };
        if self.path.exists() {
            let facts = device::describe(&self.path)?;
            if !facts.file_backed || facts.size > size {
                return Err(DiskError::Refused {
                    message: format!(
                        "{} exists with {} bytes, not {size}",
                        self.path.display(),
                        facts.size
                    ),
                    hint: Some("leave out =SIZE to use it as it is, or name another file".into()),
                });
            }
        }
        device::refuse_new_device(&self.path)?;
        let io = |doing: &'static str| {
            move |source| DiskError::Io {
                doing,
                path: self.path.clone(),
                source,
            }
        };
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.path)
            .map_err(io("creating"))?;
        file.set_len(size).map_err(io("growing"))
    }
}

/// The end of an agent with `--once`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ended {
    /// Its job was done and recorded.
    Done,
    /// Its disk was captured, and the image is stored.
    Captured,
    /// Its job failed, was cancelled or dropped.
    Failed,
}

/// Runs an agent. Returns only with `--once`.
///
/// # Errors
/// [`AgentError`] when a disk on offer cannot be provided, or TLS cannot be set up.
pub async fn run(options: AgentOptions) -> Result<Ended, AgentError> {
    job::personal::clean_up();
    for offer in &options.disks {
        offer.provide()?;
    }
    let tls = tls::client_config(options.pin).map_err(AgentError::Tls)?;
    let mut instance = [0u8; 16];
    getrandom::fill(&mut instance).map_err(|e| AgentError::Random(e.to_string()))?;
    Ok(link::Link::new(options, tls, facts::hex::encode(&instance))
        .run()
        .await)
}

/// The reason an agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// A disk on offer cannot be provided.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// TLS cannot be set up.
    #[error("setting up TLS")]
    Tls(#[source] rustls::Error),
    /// The kernel has no random bytes.
    #[error("drawing random bytes: {0}")]
    Random(String),
}
