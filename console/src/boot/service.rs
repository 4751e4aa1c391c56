//! The services of network boot: their options, and their operation inside the console.

use crate::context::Console;
use api::{ApiError, BootService, ErrorCode};
use facts::boot::{Machine, Report, Verdict};
use net::port_owner;
use pxe::decide::UefiLoader;
use pxe::lease::Range;
use pxe::machine::{Policy, Words};
use pxe::serve::{LeaseSettings, Ports, ServeError, Service, Settings};
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Name of the folder of boot files in the data directory.
pub const BOOT_FOLDER: &str = "boot";
/// Name of the lease file in the data directory.
const LEASES: &str = "leases.json";

/// Options of network boot.
#[derive(Clone, Debug, Default)]
pub struct BootOptions {
    /// Range of addresses to hand out; `None` beside another DHCP server.
    pub dhcp: Option<Range>,
    /// First program of UEFI machines.
    pub uefi: UefiLoader,
    /// Folder of boot files; the default is `boot` in the data directory.
    pub files: Option<PathBuf>,
    /// Ports of the services.
    pub ports: Ports,
}

impl BootOptions {
    /// Returns the settings of the services for an interface.
    fn settings(self, interface: &str, address: Ipv4Addr, data_dir: &Path) -> Settings {
        Settings {
            interface: Some(interface.to_owned()),
            address,
            prefix: prefix_of(interface, address),
            ports: self.ports,
            boot_files: self.files.unwrap_or_else(|| data_dir.join(BOOT_FOLDER)),
            uefi: self.uefi,
            leases: self.dhcp.map(|range| LeaseSettings {
                range,
                file: data_dir.join(LEASES),
            }),
        }
    }
}

/// Returns the prefix length of an interface's address; 24 if the kernel does not tell.
fn prefix_of(interface: &str, address: Ipv4Addr) -> u8 {
    let found = if_addrs::get_if_addrs().unwrap_or_default();
    let mask = found.into_iter().find_map(|one| match one.addr {
        if_addrs::IfAddr::V4(v4) if one.name == interface && v4.ip == address => Some(v4.netmask),
        _ => None,
    });
    mask.and_then(|mask| u8::try_from(mask.to_bits().count_ones()).ok())
        .unwrap_or(24)
}

/// Starts the services.
///
/// # Errors
/// `Refused`, with the owner of an occupied port, or the command that makes the boot files.
pub async fn start(
    options: BootOptions,
    (interface, address): (&str, Ipv4Addr),
    data_dir: &Path,
    policy: Arc<dyn Policy>,
) -> Result<(Service, BootService), ApiError> {
    let settings = options.settings(interface, address, data_dir);
    let (boot_files, range) = (
        settings.boot_files.clone(),
        settings.leases.as_ref().map(|l| l.range),
    );
    let service = pxe::serve::start(settings, policy)
        .await
        .map_err(|error| refused(&error))?;
    let view = BootService {
        interface: interface.to_owned(),
        http: service.http.to_string(),
        boot_files: boot_files.display().to_string(),
        missing: service
            .missing
            .iter()
            .map(|name| (*name).to_owned())
            .collect(),
        dhcp: range.map(|range| range.to_string()),
        pid: std::process::id(),
    };
    tracing::info!(
        interface,
        http = view.http,
        "network boot serves {}",
        view.boot_files
    );
    if !view.missing.is_empty() {
        tracing::warn!(
            missing = view.missing.join(" "),
            "the boot folder is not whole: machines that need these files do not boot"
        );
    }
    Ok((service, view))
}

fn refused(error: &ServeError) -> ApiError {
    let refused = |text: String| ApiError::new(ErrorCode::Refused, text);
    match error {
        ServeError::Port {
            protocol,
            port,
            what,
            source,
        } if source.kind() == ErrorKind::AddrInUse => {
            let owner = if *protocol == "TCP" {
                port_owner::tcp(*port)
            } else {
                port_owner::udp(*port)
            };
            let owner =
                owner.map_or_else(|| "another program".to_owned(), |owner| owner.to_string());
            refused(format!("{protocol} port {port} ({what}) is in use by {owner}"))
                .hint("end that program; a TFTP or PXE server beside this one would answer the same machines")
        }
        ServeError::Port { source, .. } if source.kind() == ErrorKind::PermissionDenied => refused(
            format!("network boot: {error}"),
        )
        .hint("run it as root, or with the capabilities CAP_NET_BIND_SERVICE and CAP_NET_RAW"),
        ServeError::Files(pxe::serve::FileError::Missing { folder, .. }) => {
            refused(format!("network boot: {error}")).hint(format!(
                "make it with `diskcast export pxe {}`",
                folder.display()
            ))
        }
        other => refused(format!("network boot: {other}")),
    }
}

/// Boot policy of the console in this process.
pub struct InConsole(pub Arc<Console>);

impl Policy for InConsole {
    fn verdict(&self, machine: &Machine) -> Verdict {
        self.0.boot_verdict(machine)
    }

    fn words(&self, _: &Machine) -> Words {
        self.0.boot_words()
    }

    fn report(&self, report: Report) {
        self.0.boot.report(&report);
    }

    fn server_seen(&self, server: Ipv4Addr) {
        self.0.boot.server_seen(server);
    }
}
