//! Checks of `doctor` on the console's own machine: ports, space, link, other consoles, other DHCP
//! servers.
//!
//! Reads, listens and sends one DHCP query; changes nothing. Checks that need a privilege the
//! console lacks are reported as not checked.

use super::context::Console;
use api::doctor::{ConsoleHealth, Finding, PortView, ProbeView, Verdict, worst};
use facts::hex;
use jobs::doctor::{PACKET_IP_BYTES, USUAL_MTU, finding};
use jobs::naming::clean_line;
use multicast::Beacon;
use net::probe_dhcp::{self, DhcpServer};
use net::{port_owner, probe_run};
use protocol::control::QuerierFacts;
use protocol::doctor::silence_text;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

/// Time to listen: beacons come once a second, DHCP offers within one or two.
const LISTEN: Duration = Duration::from_millis(2500);
/// Free space in bytes below which logs and results of a job may not fit, and below which they will
/// not.
const SPACE_BYTES: (u64, u64) = (1 << 30, 100 << 20);
/// Start of the year 2026 in microseconds since 1970; an earlier clock was never set.
const PLAUSIBLE_US: i64 = 1_767_225_600_000_000;
/// Share of the requested rate that counts as reached.
const REACHED: f64 = 0.9;

/// Results of the checks, which run on a thread of their own because all of them wait.
#[derive(Default)]
pub(super) struct Own {
    health: ConsoleHealth,
    not_checked: Vec<String>,
}

/// Returns the checks of this machine, to be run where blocking is allowed.
pub(super) fn questions(console: &Console) -> impl FnOnce() -> Own + Send + 'static {
    let settings = console.settings.clone();
    let pin = console.pin;
    let own_leases = console.boot.hands_out_addresses();
    move || {
        let name = settings.interface.as_str();
        let health = ConsoleHealth {
            interface: format!("{name} ({})", settings.interface_address),
            mtu: sysfs(name, "mtu").and_then(|text| text.parse().ok()),
            speed_mbit_per_s: super::interface::interface_speed(name),
            free_bytes: free_bytes(&settings.data_dir),
            ports: [
                ("tcp", settings.control_port, "control"),
                ("tcp", settings.bulk_port, "bulk"),
                ("udp", settings.main.port(), "main lane"),
                ("udp", settings.second.port(), "second lane"),
            ]
            .map(|(protocol, port, carries)| port_view(protocol, port, carries))
            .into(),
            ..ConsoleHealth::default()
        };
        let mut own = Own {
            health,
            not_checked: Vec::new(),
        };
        let dhcp = {
            let name = name.to_owned();
            let loopback = settings.interface_address.is_loopback();
            std::thread::spawn(move || ask_dhcp(&name, loopback))
        };
        match probe_run::collect_beacons(settings.second, settings.interface_address, LISTEN) {
            Ok(beacons) => {
                let others = beacons.iter().filter(|(beacon, _)| beacon.pin != pin.0);
                let found: Vec<Finding> =
                    others.map(|(beacon, from)| rival(beacon, *from)).collect();
                own.health.findings.extend(found);
            }
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                let port = settings.second.port();
                let owner = port_owner::udp(port)
                    .map_or_else(|| "another process".to_owned(), |owner| owner.to_string());
                own.health.findings.push(finding(
                    Verdict::Warn,
                    "port",
                    format!("UDP port {port} on the console's machine is in use by {owner}: no agent can run here, and other consoles are not heard"),
                    "end that program, or take other groups and ports (--main, --second)",
                ));
            }
            Err(error) => own.not_checked.push(format!("other consoles: {error}")),
        }
        match dhcp.join() {
            Ok(Ok(servers)) => judge_dhcp(
                &servers,
                (settings.interface_address, own_leases),
                &mut own.health,
            ),
            Ok(Err(why)) => own.not_checked.push(format!("other DHCP servers: {why}")),
            Err(_) => {}
        }
        own
    }
}

impl Own {
    /// Returns the console's part of the report, with its findings.
    pub(super) fn into_health(
        self,
        querier: &QuerierFacts,
        not_checked: &mut Vec<String>,
    ) -> ConsoleHealth {
        not_checked.extend(self.not_checked);
        if let Some(why) = &querier.unchecked {
            not_checked.push(format!("IGMP querier at the console: {why}"));
        }
        let mut health = self.health;
        health.querier = querier.clone();
        let findings = &mut health.findings;
        if let Some(seconds) = querier.silent_seconds {
            findings.push(finding(
                Verdict::Warn,
                "querier",
                silence_text(&querier.interface, seconds),
                "switch on the switch's IGMP querier, or run the console with --querier",
            ));
        }
        if let Some(mtu) = health.mtu.filter(|mtu| *mtu < PACKET_IP_BYTES) {
            findings.push(finding(
                Verdict::Bad,
                "mtu",
                format!("the MTU of {} is {mtu}; packets have {PACKET_IP_BYTES} bytes and are never fragmented", health.interface),
                format!("set it to {USUAL_MTU}"),
            ));
        }
        if let Some(free) = health.free_bytes.filter(|free| *free < SPACE_BYTES.0) {
            let verdict = if free < SPACE_BYTES.1 {
                Verdict::Bad
            } else {
                Verdict::Warn
            };
            findings.push(finding(
                verdict,
                "space",
                format!("{} MB are free in the data directory", free / 1_000_000),
                "make room: logs, reports and captured images go there",
            ));
        }
        if jiff::Timestamp::now().as_microsecond() < PLAUSIBLE_US {
            findings.push(finding(
                Verdict::Warn,
                "clock",
                "the console's clock was never set: logs and reports carry wrong times",
                "set it (NTP)",
            ));
        }
        health
    }
}

/// Adds a finding if this machine did not reach the requested rate, and sets its verdict.
pub(super) fn judge_rate(health: &mut ConsoleHealth, probe: Option<&ProbeView>) {
    if let Some(probe) = probe
        && (probe.reached_bits_per_s as f64) < REACHED * probe.rate_bits_per_s as f64
    {
        health.findings.push(finding(
            Verdict::Warn,
            "rate",
            format!(
                "the console reached {:.0} of {:.0} Mbit/s",
                probe.reached_bits_per_s as f64 / 1e6,
                probe.rate_bits_per_s as f64 / 1e6
            ),
            "what the targets lost is true for the lower rate; look at the console's link, or let nothing else run there",
        ));
    }
    health.verdict = worst(&health.findings);
}

fn rival(beacon: &Beacon, from: Ipv4Addr) -> Finding {
    let name = clean_line(&beacon.name, 64);
    let pin = hex::encode(&beacon.pin);
    finding(
        Verdict::Warn,
        "console",
        format!(
            "another console announces itself: {name} at {from}:{}, pin {pin}",
            beacon.control_port
        ),
        "agents follow their own pin only, but two consoles on the same groups share the wire: give one other groups (--main, --second)",
    )
}

fn port_view(protocol: &str, port: u16, carries: &str) -> PortView {
    let owner = match protocol {
        "tcp" => port_owner::tcp(port),
        _ => port_owner::udp(port),
    };
    PortView {
        protocol: protocol.to_owned(),
        port,
        carries: carries.to_owned(),
        owner: owner.map(|owner| owner.to_string()),
    }
}

fn sysfs(interface: &str, file: &str) -> Option<String> {
    // The name comes from the kernel's own list.
    let path = Path::new("/sys/class/net").join(interface).join(file);
    Some(std::fs::read_to_string(path).ok()?.trim().to_owned())
}

fn free_bytes(folder: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(folder).ok()?;
    stat.f_bavail.checked_mul(stat.f_frsize)
}

pub(super) fn ask_dhcp(interface: &str, loopback: bool) -> Result<Vec<DhcpServer>, String> {
    if loopback {
        return Err("loopback has no DHCP".to_owned());
    }
    let mac = sysfs(interface, "address")
        .and_then(|text| hex::decode::<6>(&text.replace(':', "")).ok())
        .ok_or("the interface has no MAC address")?;
    let mut xid = [0; 4];
    getrandom::fill(&mut xid).map_err(|error| format!("no random numbers: {error}"))?;
    probe_dhcp::ask(interface, mac, u32::from_be_bytes(xid), LISTEN).map_err(|error| {
        match error.kind() {
            ErrorKind::PermissionDenied => "needs root (UDP port 68)".to_owned(),
            ErrorKind::AddrInUse => match port_owner::udp(68) {
                Some(owner) => format!("UDP port 68 is in use by {owner}"),
                None => "UDP port 68 is in use".to_owned(),
            },
            _ => error.to_string(),
        }
    })
}

/// Adds findings about DHCP servers. `own` is this console's address; `own_leases` tells whether it
/// hands out addresses, since it does not answer its own query.
fn judge_dhcp(
    servers: &[DhcpServer],
    (own, own_leases): (Ipv4Addr, bool),
    health: &mut ConsoleHealth,
) {
    let list = |servers: &[&DhcpServer]| {
        let addresses: Vec<String> = servers.iter().map(|s| s.address.to_string()).collect();
        addresses.join(", ")
    };
    let mut leasing: Vec<&DhcpServer> = servers.iter().filter(|server| server.leases).collect();
    let this = DhcpServer {
        address: own,
        leases: true,
        boots: true,
    };
    if own_leases && leasing.iter().all(|server| server.address != own) {
        leasing.push(&this);
    }
    if leasing.len() > 1 {
        health.findings.push(finding(
            Verdict::Bad,
            "dhcp",
            format!(
                "{} DHCP servers hand out addresses: {}",
                leasing.len(),
                list(&leasing)
            ),
            "leave one: machines would get addresses and boot files at random",
        ));
    }
    let proxies = |server: &&DhcpServer| server.boots && !server.leases && server.address != own;
    let foreign: Vec<&DhcpServer> = servers.iter().filter(proxies).collect();
    if !foreign.is_empty() {
        health.findings.push(finding(
            Verdict::Warn,
            "dhcp",
            format!(
                "a network boot service (ProxyDHCP) that is not this console answers: {}",
                list(&foreign)
            ),
            "switch it off while this console boots the room, or let it boot diskcast's pre-OS",
        ));
    }
    health.dhcp_servers = servers
        .iter()
        .map(|server| {
            let what = match (server.leases, server.boots) {
                (true, true) => "addresses and boot",
                (true, false) => "addresses",
                (false, _) => "boot",
            };
            format!("{} ({what})", server.address)
        })
        .collect();
}
