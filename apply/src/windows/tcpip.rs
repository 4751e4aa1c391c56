//! Step that sets the addresses of a card that the master knew.

use super::hives::{Hives, dword, multi_sz, sz};
use super::registry::Registry;
use crate::engine::Task;
use crate::error::{Result, StepError};
use std::net::Ipv4Addr;
use template::step::{Ipv4Config, NicConfig};

/// Values that a lease leaves, besides all that begin with `Dhcp` or `Lease`.
const LEASE: [&str; 2] = ["T1", "T2"];
/// Values that only a static configuration has.
const STATIC: [&str; 4] = [
    "IPAddress",
    "SubnetMask",
    "DefaultGateway",
    "DefaultGatewayMetric",
];

/// Step that sets the addresses of one interface in every control set from which Windows may start.
pub(crate) fn task<'a>(
    partition: u32,
    interface: &'a str,
    config: &'a NicConfig,
) -> Box<dyn Task + 'a> {
    Box::new(Registry::new(partition, move |hives: &mut Hives| {
        let mut known = false;
        for set in hives.control_sets()? {
            let tcpip = format!(r"{set}\Services\Tcpip\Parameters");
            let key = format!(r"{tcpip}\Interfaces\{interface}");
            if !hives.has("SYSTEM", &key)? {
                continue;
            }
            known = true;
            configure(hives, &key, config)?;
            // XP keeps the same values a second time, with the adapter.
            let legacy = format!(r"{set}\Services\{interface}\Parameters\Tcpip");
            if hives.has("SYSTEM", &legacy)? {
                configure(hives, &legacy, config)?;
            }
            if !config.search.is_empty() {
                hives.set("SYSTEM", &tcpip, "SearchList", sz(&config.search.join(",")))?;
            }
        }
        match known {
            true => Ok(()),
            false => Err(StepError::refused(
                format!("the master does not know the interface {interface}"),
                "inspect the image again and deploy with a new plan",
            )),
        }
    }))
}

fn configure(hives: &mut Hives, key: &str, config: &NicConfig) -> Result<()> {
    let texts = |addresses: &[Ipv4Addr]| -> Vec<String> {
        addresses.iter().map(ToString::to_string).collect()
    };
    hives.remove_values("SYSTEM", key, |name| {
        let name = name.to_ascii_lowercase();
        // This value is a setting of the card and not part of a lease.
        let lease = name.starts_with("dhcp") && name != "dhcpconnforcebroadcastflag";
        lease || name.starts_with("lease") || LEASE.iter().any(|l| name.eq_ignore_ascii_case(l))
    })?;
    match &config.ipv4 {
        Ipv4Config::Dhcp => {
            hives.set("SYSTEM", key, "EnableDHCP", dword(1))?;
            hives.remove_values("SYSTEM", key, |name| {
                STATIC.iter().any(|value| name.eq_ignore_ascii_case(value))
            })?;
        }
        Ipv4Config::Static {
            address,
            prefix,
            gateway,
        } => {
            let gateways: Vec<Ipv4Addr> = gateway.iter().copied().collect();
            let metrics: Vec<&str> = gateways.iter().map(|_| "0").collect();
            for (name, value) in [
                ("EnableDHCP", dword(0)),
                ("IPAddress", multi_sz(&texts(&[*address]))),
                ("SubnetMask", multi_sz(&texts(&[mask(*prefix)?]))),
                ("DefaultGateway", multi_sz(&texts(&gateways))),
                ("DefaultGatewayMetric", multi_sz(&metrics)),
            ] {
                hives.set("SYSTEM", key, name, value)?;
            }
        }
    }
    hives.set(
        "SYSTEM",
        key,
        "NameServer",
        sz(&texts(&config.dns).join(",")),
    )?;
    match &config.suffix {
        Some(suffix) => hives.set("SYSTEM", key, "Domain", sz(suffix)),
        None => Ok(()),
    }
}

fn mask(prefix: u8) -> Result<Ipv4Addr> {
    match prefix {
        1..=32 => Ok(Ipv4Addr::from(u32::MAX << (32 - u32::from(prefix)))),
        _ => Err(StepError::Order(format!(
            "a prefix of {prefix} bits is not 1 to 32"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks() {
        assert_eq!(mask(24).unwrap().to_string(), "255.255.255.0");
        assert_eq!(mask(1).unwrap().to_string(), "128.0.0.0");
        assert_eq!(mask(32).unwrap().to_string(), "255.255.255.255");
        assert!(mask(0).is_err() && mask(33).is_err());
    }
}
