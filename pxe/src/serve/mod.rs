//! The services around the pure parts: DHCP on 67 and 4011, TFTP on 69, HTTP on 5080, on one
//! interface.
//!
//! Owns: sockets, clocks, and the boot folder in memory. Decides nothing: the [`Policy`] gives the
//! verdict on a machine, `decide` the answer. Always holds: only the files of the contract are
//! served, from memory; memory and sockets are bounded whatever arrives; the error for a port that
//! is taken names the port.

mod dhcp;
mod files;
mod http;
mod line;
mod machines;
mod neighbours;
mod sockets;
mod tftp;

pub use files::{ESSENTIAL, FileError, Files, NAMES};

use crate::decide::{Server, UefiLoader};
use crate::lease::Range;
use crate::machine::{Policy, Words};
use crate::script;
use facts::boot::Stage;
use facts::boot::{Machine, Report, Verdict};
use machines::Machines;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;

/// Interval between two checks of the boot folder for changes.
const REFRESH: Duration = Duration::from_secs(2);

/// Ports of the services.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// DHCP questions, UDP.
    pub dhcp: u16,
    /// The port of clients that answers are sent to, UDP.
    pub client: u16,
    /// Questions for the first file, UDP.
    pub pxe: u16,
    /// TFTP, UDP.
    pub tftp: u16,
    /// HTTP, TCP.
    pub http: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self {
            dhcp: crate::dhcp::SERVER_PORT,
            client: crate::dhcp::CLIENT_PORT,
            pxe: crate::dhcp::PXE_PORT,
            tftp: 69,
            http: 5080,
        }
    }
}

/// Settings for handing out addresses.
#[derive(Clone, Debug)]
pub struct LeaseSettings {
    /// The addresses to hand out.
    pub range: Range,
    /// File that the table of leases is kept in.
    pub file: PathBuf,
}

/// Settings of the services.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Interface that everything is bound to; `None` in tests without privileges.
    pub interface: Option<String>,
    /// Address of the interface, which the answers contain.
    pub address: Ipv4Addr,
    /// Length of its network prefix, in bits.
    pub prefix: u8,
    /// Ports of the services.
    pub ports: Ports,
    /// The boot folder.
    pub boot_files: PathBuf,
    /// The first loader of UEFI machines.
    pub uefi: UefiLoader,
    /// Present when addresses are handed out too.
    pub leases: Option<LeaseSettings>,
}

/// The reason the services did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// A port cannot be bound.
    #[error("{protocol} port {port} ({what}): {source}")]
    Port {
        /// `UDP` or `TCP`.
        protocol: &'static str,
        /// The port.
        port: u16,
        /// The service it is for.
        what: &'static str,
        /// The cause.
        source: std::io::Error,
    },
    /// The boot folder cannot be used.
    #[error(transparent)]
    Files(#[from] FileError),
    /// The table of leases cannot be read.
    #[error("table of leases {}: {source}", path.display())]
    Leases {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The range of addresses is not on this network.
    #[error("no address of {range} is on the network of {address}/{prefix}")]
    Range {
        /// The range.
        range: Range,
        /// Address of the interface.
        address: Ipv4Addr,
        /// Length of its prefix, in bits.
        prefix: u8,
    },
}

/// The running services; dropping it ends them.
#[derive(Debug)]
pub struct Service {
    _tasks: JoinSet<()>,
    /// Address and port of the HTTP service.
    pub http: SocketAddr,
    /// Names of the contract that are not in the boot folder.
    pub missing: Vec<&'static str>,
}

/// State that all services share.
struct Shared {
    settings: Settings,
    server: Server,
    http_port: u16,
    policy: Arc<dyn Policy>,
    files: Files,
    machines: Mutex<Machines>,
}

/// Starts the services.
///
/// # Errors
/// [`ServeError`] when a port is taken or the boot folder has no pre-OS; then no service runs.
pub async fn start(settings: Settings, policy: Arc<dyn Policy>) -> Result<Service, ServeError> {
    let folder = settings.boot_files.clone();
    let files = blocking(move || Files::load(&folder)).await?;
    let missing = files.missing();
    let leases = dhcp::open_leases(&settings)?;
    let sockets = sockets::Sockets::open(&settings)?;
    let http = sockets
        .http
        .local_addr()
        .map_err(|source| ServeError::Port {
            protocol: "TCP",
            port: settings.ports.http,
            what: "HTTP boot",
            source,
        })?;
    let shared = Arc::new(Shared {
        server: Server {
            address: settings.address,
            http_port: http.port(),
            uefi: settings.uefi,
            leases: settings.leases.is_some(),
        },
        http_port: http.port(),
        settings,
        policy,
        files,
        machines: Mutex::default(),
    });
    let mut tasks = JoinSet::new();
    tasks.spawn(dhcp::serve_addresses(
        Arc::clone(&shared),
        sockets.dhcp,
        leases,
    ));
    tasks.spawn(dhcp::serve_files(Arc::clone(&shared), sockets.pxe));
    tasks.spawn(tftp::serve(
        Arc::clone(&shared),
        sockets.tftp,
        sockets.transfers,
    ));
    tasks.spawn(http::serve(Arc::clone(&shared), sockets.http));
    tasks.spawn(async move {
        loop {
            tokio::time::sleep(REFRESH).await;
            let shared = Arc::clone(&shared);
            blocking(move || shared.files.refresh()).await;
        }
    });
    Ok(Service {
        _tasks: tasks,
        http,
        missing,
    })
}

/// Runs work that waits for a disk, off the runtime's own threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        // The only other error is a runtime that is shutting down; then nothing waits for the
        // answer.
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => std::future::pending().await,
        },
    }
}

impl Shared {
    fn machines(&self) -> MutexGuard<'_, Machines> {
        // No change to it can stop half-way, so the data of a poisoned lock is whole.
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The machine at an address: from its own packets, else from the kernel's table of neighbours.
    fn machine_at(&self, address: Ipv4Addr) -> Option<Machine> {
        if let Some(machine) = self.machines().at(address) {
            return Some(machine);
        }
        let mac = neighbours::lookup(address)?;
        let machine = self.machines().of(mac);
        self.machines().note(machine, Some(address));
        Some(machine)
    }

    fn report(&self, report: Report) {
        let (machine, stage) = (report.machine, report.stage.map_or("", Stage::as_str));
        let detail = report.detail.as_deref().unwrap_or_default();
        if report.failed {
            tracing::warn!(%machine, stage, detail, "network boot");
        } else {
            tracing::debug!(%machine, stage, detail, "network boot");
        }
        self.policy.report(report);
    }

    /// Records that a machine fetches its script. Returns the verdict and the words for the script.
    fn scripted(&self, machine: &Machine, address: Ipv4Addr, loader: &str) -> (Verdict, Words) {
        self.machines().note(*machine, Some(address));
        let verdict = self.policy.verdict(machine);
        let stage = match verdict {
            Verdict::Agent => Stage::Script,
            Verdict::Local | Verdict::Ignore => Stage::Local,
        };
        self.report(Report::new(*machine, stage).at(address).detail(loader));
        (verdict, self.policy.words(machine))
    }

    fn service(&self) -> script::Service {
        script::Service {
            address: self.settings.address,
            http_port: self.http_port,
        }
    }

    /// Reports that a machine has fetched a whole file.
    fn fetched(&self, address: Ipv4Addr, name: &str) {
        let Some(stage) = files::stage_of(name) else {
            return;
        };
        if let Some(machine) = self.machine_at(address) {
            self.report(Report::new(machine, stage).at(address).detail(name));
        }
    }

    /// Reports that a machine did not get a file.
    fn failed(&self, address: Ipv4Addr, what: &str) {
        match self.machine_at(address) {
            Some(machine) => self.report(Report::failure(machine, what).at(address)),
            None => tracing::debug!(%address, what, "network boot"),
        }
    }
}
