//! The console as a service: from its options to its end.
//!
//! ```text
//! lock data directory -> identity -> interface -> ports -> store -> recover jobs -> beacons, control, bulk, API -> ready
//! shutdown: jobs are marked interrupted -> connections closed -> socket removed
//! ```
//!
//! Owns this order. Invariants: the data directory is locked before its content changes, and the
//! jobs of the last console are recovered before the first agent can connect.

use super::boot::Boot;
use super::boot::service::{self, BootOptions, InConsole};
use super::capture::Requests;
use super::context::{Console, Patience, Settings};
use super::doctor::Doctor;
use super::interface;
use super::jobs::Jobs;
use super::offers::Offers;
use super::personal::Personal;
use super::roster::Roster;
use super::store::Store;
use super::throttle::Throttle;
use super::{api_server, bulk_server, control_server, port};
use api::BootPolicy;
use api::{ApiError, ConsoleInfo, ErrorCode, SCHEMA_VERSION, SOCKET_NAME};
use disk::signing::public_text;
use imagefmt::VerifyingKey;
use multicast::Beacon;
use net::beacon::Beacons;
use net::igmp_querier::Role;
use net::igmp_watch::IgmpWatch;
use net::tls::Identity;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::UnixListener;
use tokio_rustls::TlsAcceptor;

/// Policy for new agents.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Approval {
    /// Every agent that knows the pin is approved.
    #[default]
    Auto,
    /// A technician approves each agent.
    Manual,
}

/// Options of a console.
pub struct ConsoleOptions {
    /// Data directory; made if missing.
    pub data_dir: PathBuf,
    /// Interface for multicast: name or IPv4 address.
    pub iface: Option<String>,
    /// Address that the TCP ports are bound to.
    pub listen: IpAddr,
    /// Control port; 0 takes a free one.
    pub control_port: u16,
    /// Bulk port; 0 takes a free one.
    pub bulk_port: u16,
    /// Group and port of the main lane.
    pub main: SocketAddrV4,
    /// Group and port of the second lane.
    pub second: SocketAddrV4,
    /// TTL of multicast packets.
    pub ttl: u32,
    /// Interval between queries as the IGMP querier of last resort; `None` to be none.
    pub querier: Option<std::time::Duration>,
    /// Policy for new agents.
    pub approval: Approval,
    /// Time limits for targets that are away.
    pub patience: Patience,
    /// Trusted keys, one of which must have signed a deployed image; with none, every image is
    /// accepted.
    pub signed_by: Vec<VerifyingKey>,
    /// Policy of network boot.
    pub boot_policy: BootPolicy,
    /// Options of network boot in this process; `None` without it.
    pub pxe: Option<BootOptions>,
    /// Called once when agents and commands can connect.
    pub on_ready: Option<OnReady>,
}

/// Function that is called when the console is ready.
pub type OnReady = Box<dyn FnOnce(&ConsoleInfo) + Send>;

impl Default for ConsoleOptions {
    /// Returns the ports and groups of the contract (docs/operations.md); the data directory must be
    /// set.
    fn default() -> Self {
        Self {
            data_dir: PathBuf::new(),
            iface: None,
            listen: Ipv4Addr::UNSPECIFIED.into(),
            control_port: 5001,
            bulk_port: 5003,
            main: SocketAddrV4::new(Ipv4Addr::new(239, 254, 1, 1), 5002),
            second: SocketAddrV4::new(Ipv4Addr::new(239, 254, 1, 2), 5004),
            ttl: 1,
            querier: None,
            approval: Approval::Auto,
            patience: Patience::default(),
            signed_by: Vec::new(),
            boot_policy: BootPolicy::default(),
            pxe: None,
            on_ready: None,
        }
    }
}

/// Runs a console until `shutdown` ends.
///
/// # Errors
/// `Refused` for a data directory, a port or a store that cannot be opened, `Usage` for an unknown
/// interface or an address that is not a multicast group.
pub async fn run(
    options: ConsoleOptions,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ApiError> {
    let lock = lock_data_dir(&options.data_dir)?;
    raise_file_limit();
    let identity = Identity::load_or_create(&options.data_dir.join("identity"))
        .map_err(|error| ApiError::new(ErrorCode::Refused, error.to_string()))?;
    let tls = identity
        .server_config()
        .map_err(|error| ApiError::new(ErrorCode::Unexpected, error.to_string()))?;
    let tls = TlsAcceptor::from(tls);
    for group in [options.main, options.second] {
        if !group.ip().is_multicast() {
            return Err(ApiError::new(
                ErrorCode::Usage,
                format!("{group} is no multicast group"),
            ));
        }
    }
    let chosen = interface::choose(options.iface.as_deref())?;
    let igmp = watch_igmp(&chosen, options.querier)?;
    let control = port::listen(options.listen, options.control_port, "control")?;
    let bulk = port::listen(options.listen, options.bulk_port, "bulk")?;
    let local_port = |listener: &tokio::net::TcpListener, asked| {
        listener.local_addr().map_or(asked, |a| a.port())
    };

    let store = open_store(options.data_dir.join("console.db")).await?;
    let targets = store
        .targets()
        .await
        .map_err(|error| store_failed(&error))?;
    let identities = store
        .identities()
        .await
        .map_err(|error| store_failed(&error))?;
    let offers = store.offers().await.map_err(|error| store_failed(&error))?;
    let personal = Personal::open(&options.data_dir)
        .map_err(|error| ApiError::new(ErrorCode::Refused, error.to_string()))?;
    let console = Arc::new(Console {
        settings: Settings {
            interface: chosen.name,
            interface_address: chosen.address,
            listen: options.listen,
            control_port: local_port(&control, options.control_port),
            bulk_port: local_port(&bulk, options.bulk_port),
            main: options.main,
            second: options.second,
            ttl: options.ttl,
            patience: options.patience,
            signed_by: options.signed_by,
            data_dir: options.data_dir,
        },
        pin: identity.pin(),
        roster: Roster::new(targets, identities, options.approval == Approval::Auto),
        jobs: Jobs::default(),
        requests: Requests::default(),
        offers: Offers::new(offers),
        throttle: Throttle::default(),
        igmp,
        doctor: Doctor::default(),
        boot: Boot::new(options.boot_policy),
        checks: Default::default(),
        personal,
        store,
    });
    let socket_path = console.settings.data_dir.join(SOCKET_NAME);
    let socket = open_socket(&socket_path)?;
    let begun = async {
        console
            .recover_jobs()
            .await
            .map_err(|error| store_failed(&error))?;
        let Some(boot) = options.pxe else {
            return Ok(None);
        };
        let settings = &console.settings;
        let at = (settings.interface.as_str(), settings.interface_address);
        let policy = Arc::new(InConsole(Arc::clone(&console)));
        let (service, view) = service::start(boot, at, &settings.data_dir, policy).await?;
        console.boot.set_service(Some(view));
        Ok(Some(service))
    };
    let _network_boot = match begun.await {
        Ok(service) => service,
        Err(error) => {
            // A console that does not serve runs no jobs: they are interrupted again.
            console.jobs.shutdown().await;
            let _ = std::fs::remove_file(&socket_path);
            return Err(error);
        }
    };
    let _beacons = start_beacons(&console);
    let mut services = tokio::task::JoinSet::new();
    services.spawn(control_server::serve(
        Arc::clone(&console),
        control,
        tls.clone(),
    ));
    services.spawn(bulk_server::serve(Arc::clone(&console), bulk, tls));
    let api = api_server::serve(Arc::clone(&console), socket);
    services.spawn(async move {
        if let Err(error) = api.await {
            tracing::error!(%error, "the local API has ended");
        }
    });
    let info = console.info();
    tracing::info!("console ready on {} pin {}", info.control, info.pin);
    if let Some(ready) = options.on_ready {
        ready(&info);
    }

    shutdown.await;
    tracing::info!("console ends");
    services.abort_all();
    console.jobs.shutdown().await;
    console.roster.close_all();
    // The lock is still held, so the socket is this console's.
    let _ = std::fs::remove_file(&socket_path);
    drop(lock);
    Ok(())
}

impl Console {
    /// Returns the facts that `console show` shows.
    pub fn info(&self) -> ConsoleInfo {
        let settings = &self.settings;
        let address = if settings.listen.is_unspecified() {
            settings.interface_address.into()
        } else {
            settings.listen
        };
        ConsoleInfo {
            schema_version: SCHEMA_VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pin: self.pin.to_string(),
            control: std::net::SocketAddr::new(address, settings.control_port).to_string(),
            bulk_port: settings.bulk_port,
            main: settings.main.to_string(),
            second: settings.second.to_string(),
            interface: format!("{} ({})", settings.interface, settings.interface_address),
            data_dir: settings.data_dir.display().to_string(),
            pid: std::process::id(),
            signed_by: settings.signed_by.iter().map(public_text).collect(),
        }
    }
}

/// Starts the watch for IGMP queriers. If it cannot work, a requested querier is an error, and a
/// mere watch is only logged.
fn watch_igmp(
    chosen: &interface::Interface,
    querier: Option<std::time::Duration>,
) -> Result<IgmpWatch, ApiError> {
    let role = querier.map_or(Role::Listener, |interval| Role::Querier {
        interval: multicast::Duration::from_micros(
            u64::try_from(interval.as_micros()).unwrap_or(u64::MAX),
        ),
    });
    let igmp = IgmpWatch::start(chosen.address, role);
    match (igmp.unchecked(), querier) {
        (Some(why), Some(_)) => Err(ApiError::new(
            ErrorCode::Refused,
            format!("--querier cannot work on {}: {why}", chosen.name),
        )
        .hint("run the console as root, or leave --querier out and switch on the switch's own")),
        (Some(why), None) => {
            tracing::debug!(
                interface = chosen.name,
                why,
                "IGMP queriers are not listened for"
            );
            Ok(igmp)
        }
        (None, _) => Ok(igmp),
    }
}

/// Locks the data directory for one console; the lock ends with the process, however it ends.
fn lock_data_dir(folder: &Path) -> Result<File, ApiError> {
    let refused = |error: std::io::Error| {
        ApiError::new(
            ErrorCode::Refused,
            format!("data directory {}: {error}", folder.display()),
        )
        .hint("choose another with --data-dir")
    };
    if !folder.is_dir() {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(refused)?;
    }
    let path = folder.join("console.lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(refused)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // The owner writes its process id right after it has the lock.
            let _ = file.read_to_string(&mut pid);
            let pid = pid.trim();
            return Err(ApiError::new(
                ErrorCode::Refused,
                format!(
                    "a console is already running (pid {pid}) in {}",
                    folder.display()
                ),
            )
            .hint("diskcast console show shows it"));
        }
        Err(std::fs::TryLockError::Error(error)) => return Err(refused(error)),
    }
    let write = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    if let Err(error) = write(&mut file) {
        // Only the process id in another console's error message depends on it.
        tracing::warn!(%error, "cannot write to the data directory");
    }
    Ok(file)
}

async fn open_store(path: PathBuf) -> Result<Store, ApiError> {
    let opened = tokio::task::spawn_blocking(move || Store::open(&path)).await;
    opened
        .map_err(|error| ApiError::new(ErrorCode::Unexpected, error.to_string()))?
        .map_err(|error| store_failed(&error))
}

fn store_failed(error: &super::store::StoreError) -> ApiError {
    ApiError::new(ErrorCode::Refused, error.to_string())
        .hint("is the disk of the data directory full or damaged?")
}

/// Opens the socket of the API. The lock is held, so an existing socket is left from a console that
/// died.
fn open_socket(path: &Path) -> Result<UnixListener, ApiError> {
    let refused = |error: std::io::Error| {
        let text = format!("{}: {error}", path.display());
        let error = ApiError::new(ErrorCode::Refused, text);
        if path.as_os_str().len() >= 108 {
            error
                .hint("the path of a socket has at most 107 bytes; choose a shorter data directory")
        } else {
            error
        }
    };
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(refused(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(refused)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(refused)?;
    Ok(listener)
}

/// Starts the beacons. Without them agents must be given the address, so a failure is only logged.
fn start_beacons(console: &Console) -> Option<Beacons> {
    let settings = &console.settings;
    let uname = rustix::system::uname();
    let beacon = Beacon {
        name: uname.nodename().to_string_lossy().into_owned(),
        control_port: settings.control_port,
        bulk_port: settings.bulk_port,
        pin: console.pin.0,
    };
    match Beacons::start(
        &beacon,
        settings.second,
        settings.interface_address,
        settings.ttl,
    ) {
        Ok(beacons) => Some(beacons),
        Err(error) => {
            tracing::warn!(%error, interface = settings.interface, "no beacons; agents must be told the console's address");
            None
        }
    }
}

/// Raises the limit of open files: 200 agents with bulk connections and many silent connections
/// need more than the usual 1024.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    ) {
        tracing::debug!(%error, "file limit stays as it is");
    }
}
