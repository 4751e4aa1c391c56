//! The target side: says what the machine is, joins, receives, writes, reads back, commits.
//!
//! ```text
//! link (tokio)  <-- control frames -->  console
//!   | starts, commands, outgoing messages
//! job (one thread)   manifest -> prepare -> wipe -> image -> flush -> read back -> commit -> outcome
//!   | blocks, statuses         | blocks to write
//! net::receiving (one thread)  writers (a few threads)        bulk (tokio, on demand)
//!
//! capture (one thread)   survey -> read, compress, hash (a few threads) -> TCP 5003
//! menu (tokio)           what the person at the screen may start, by way of the desk
//! ```
//!
//! What always holds: the disk named in the order is the one written, or none; an outcome `done` is only made from a
//! [`crate::disk::deployment::Proof`] and a finished commit.

mod bulk;
mod capture;
pub mod desk;
mod doctor;
mod doctor_facts;
pub mod facts;
mod failure;
mod fetch;
mod job;
mod link;
mod load;
mod menu;
mod pieces;
mod power;
mod progress;
mod pulse;
mod writers;

use crate::disk::{DiskError, device};
use crate::net::control::EndAction;
use crate::net::receiving::InjectedLoss;
use crate::net::tls::{self, Pin};
use crate::target::DiskFacts;
use desk::Desk;
use std::fs::OpenOptions;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Settings of an agent.
#[derive(Clone, Debug)]
pub struct AgentOptions {
    /// `host:port` of the console's control channel; found by beacon when absent.
    pub console: Option<String>,
    /// The console that may give orders.
    pub pin: Pin,
    /// Disks on offer; empty offers what the kernel lists.
    pub disks: Vec<DiskOffer>,
    /// End after one job.
    pub once: bool,
    /// Obey end actions.
    pub power: bool,
    /// Address of the interface to listen on; the one towards the console when absent.
    pub interface: Option<Ipv4Addr>,
    /// Name to ask for.
    pub name: Option<String>,
    /// Second lane, for beacons.
    pub second: SocketAddrV4,
    /// Session packets to drop on purpose, for rehearsals.
    pub inject: InjectedLoss,
    /// The screen beside this agent; empty where there is none.
    pub desk: Desk,
    /// Who restarts and switches off; the kernel itself where nobody is named.
    pub on_end: Option<OnEnd>,
}

/// Obeys an end action on a machine whose disk (the path) was committed.
pub type Obey = dyn Fn(EndAction, &Path) + Send + Sync;

/// What a machine does after a job that ended `done`.
#[derive(Clone)]
pub struct OnEnd(pub Arc<Obey>);

impl std::fmt::Debug for OnEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnEnd")
    }
}

/// A disk on offer: a device, or a regular file with the size it is to have.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DiskOffer {
    /// Device or file.
    pub path: PathBuf,
    /// Size of the file; made sparse when it does not exist.
    pub size: Option<u64>,
}

impl AgentOptions {
    /// What the agent offers now; `None` means whatever the kernel lists. A disk that vanished is left out.
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
    /// Makes sure the disk is there before anything is promised: a file is created or grown to its size.
    ///
    /// # Errors
    /// When it cannot be, or a size was given for a block device or would cut an existing file.
    pub fn provide(&self) -> Result<(), DiskError> {
        crate::disk::ground::refuse_image_as_disk(&self.path)?;
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

/// How a `--once` agent ended.
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
/// When a disk on offer cannot be provided, or TLS cannot be set up.
pub async fn run(options: AgentOptions) -> Result<Ended, AgentError> {
    job::personal::clean_up();
    for offer in &options.disks {
        offer.provide()?;
    }
    let tls = tls::client_config(options.pin).map_err(AgentError::Tls)?;
    let mut instance = [0u8; 16];
    getrandom::fill(&mut instance).map_err(|e| AgentError::Random(e.to_string()))?;
    Ok(
        link::Link::new(options, tls, crate::net::hex::encode(&instance))
            .run()
            .await,
    )
}

/// Why an agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// A disk on offer.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// TLS settings.
    #[error("setting up TLS")]
    Tls(#[source] rustls::Error),
    /// The kernel has no random bytes.
    #[error("drawing random bytes: {0}")]
    Random(String),
}
