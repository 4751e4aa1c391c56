//! Choice of the interface for multicast, and its speed.
//!
//! The named one; else the one with the default route, which a technician calls "the network"; else
//! the first with an IPv4 address other than loopback; else loopback, on which a rehearsal still
//! works.

use api::{ApiError, ErrorCode};
use std::net::{IpAddr, Ipv4Addr};

/// An interface and its address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Interface {
    /// Kernel name.
    pub name: String,
    /// IPv4 address.
    pub address: Ipv4Addr,
}

/// Chooses the interface. `asked` is a name or an IPv4 address.
///
/// # Errors
/// `Usage` if there is no such interface.
pub fn choose(asked: Option<&str>) -> Result<Interface, ApiError> {
    let found = if_addrs::get_if_addrs().map_err(|error| {
        ApiError::new(
            ErrorCode::Unexpected,
            format!("listing network interfaces: {error}"),
        )
    })?;
    let known: Vec<Interface> = found
        .into_iter()
        .filter_map(|interface| match interface.ip() {
            IpAddr::V4(address) => Some(Interface {
                name: interface.name,
                address,
            }),
            IpAddr::V6(_) => None,
        })
        .collect();
    // The file is missing in some containers; the next rule then decides.
    let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    pick(asked, &known, default_route(&routes).as_deref())
}

/// Returns the speed of this machine's interface in Mbit/s, if the kernel knows it.
pub fn interface_speed(name: &str) -> Option<u32> {
    // The name comes from the kernel's own list. A virtual interface has no device and an invented
    // speed: veth reports 10000 on any carrier.
    let folder = std::path::Path::new("/sys/class/net").join(name);
    if !folder.join("device").exists() {
        return None;
    }
    let text = std::fs::read_to_string(folder.join("speed")).ok()?;
    text.trim().parse().ok().filter(|speed| *speed > 0)
}

fn pick(
    asked: Option<&str>,
    known: &[Interface],
    default: Option<&str>,
) -> Result<Interface, ApiError> {
    if let Some(asked) = asked {
        let fits = |interface: &&Interface| {
            interface.name == asked || interface.address.to_string() == asked
        };
        return known.iter().find(fits).cloned().ok_or_else(|| {
            let list: Vec<String> = known
                .iter()
                .map(|i| format!("{} ({})", i.name, i.address))
                .collect();
            ApiError::new(
                ErrorCode::Usage,
                format!("no interface {asked} with an IPv4 address"),
            )
            .hint(format!("there are: {}", list.join(", ")))
        });
    }
    let by_route = known
        .iter()
        .find(|interface| Some(interface.name.as_str()) == default);
    let outward = || {
        known
            .iter()
            .find(|interface| !interface.address.is_loopback())
    };
    let loopback = || Interface {
        name: "lo".to_owned(),
        address: Ipv4Addr::LOCALHOST,
    };
    Ok(by_route.or_else(outward).cloned().unwrap_or_else(loopback))
}

/// Returns the interface of the default route with the lowest metric, from `/proc/net/route`.
fn default_route(routes: &str) -> Option<String> {
    let lines = routes
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    // Fields: Iface Destination Gateway Flags RefCnt Use Metric Mask ...
    lines
        .filter(|fields| fields.get(1) == Some(&"00000000") && fields.get(7) == Some(&"00000000"))
        .min_by_key(|fields| {
            fields
                .get(6)
                .and_then(|metric| metric.parse::<u32>().ok())
                .unwrap_or(u32::MAX)
        })
        .and_then(|fields| fields.first().map(|name| (*name).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_then_default_route_then_first_then_loopback() {
        let interface = |name: &str, address: &str| Interface {
            name: name.to_owned(),
            address: address.parse().unwrap(),
        };
        let known = [
            interface("lo", "127.0.0.1"),
            interface("eth0", "10.0.0.1"),
            interface("eth1", "10.1.0.1"),
        ];
        let name = |asked, default| pick(asked, &known, default).map(|i| i.name);
        assert_eq!(name(Some("eth1"), Some("eth0")).unwrap(), "eth1");
        assert_eq!(name(Some("10.0.0.1"), None).unwrap(), "eth0");
        assert_eq!(name(Some("lo"), None).unwrap(), "lo");
        assert_eq!(name(None, Some("eth1")).unwrap(), "eth1");
        assert_eq!(name(None, Some("gone")).unwrap(), "eth0");
        assert_eq!(name(None, None).unwrap(), "eth0");
        assert_eq!(pick(None, &known[..1], None).unwrap().name, "lo");
        assert_eq!(
            name(Some("wlan0"), None).unwrap_err().code,
            ErrorCode::Usage
        );
    }

    #[test]
    fn the_default_route_with_the_lowest_metric() {
        let routes = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
            eth1\t00000000\t0101A8C0\t0003\t0\t0\t200\t00000000\t0\t0\t0\n\
            eth0\t00000000\t0100A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
            eth2\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        assert_eq!(default_route(routes).as_deref(), Some("eth0"));
        assert_eq!(default_route("garbage\nx\n"), None);
    }
}
