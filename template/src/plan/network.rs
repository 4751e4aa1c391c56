//! Network cards that are configured, and their settings.

use super::Draft;
use crate::schema::NetworkMode;
use crate::step::{Ipv4Config, Nic, NicConfig};
use crate::values::NicChoice;
use facts::Mac;

/// Cards with their settings; empty when the network stays as the image has it, or when it is
/// refused.
pub(super) fn nics(draft: &mut Draft<'_>) -> Vec<Nic> {
    let network = &draft.template().network;
    let ipv4 = match network.mode {
        NetworkMode::Keep => return Vec::new(),
        NetworkMode::Dhcp => Ipv4Config::Dhcp,
        NetworkMode::Static => {
            let address = draft.request.binding.and_then(|binding| binding.address);
            let (Some(address), Some(prefix)) = (address, network.prefix) else {
                draft.refuse("no address was handed out to this machine; bind it first");
                return Vec::new();
            };
            Ipv4Config::Static {
                address,
                prefix,
                gateway: network.gateway,
            }
        }
    };
    let machine = draft.request.machine;
    let macs: Vec<Mac> = match network.nic {
        NicChoice::Boot => machine.mac().into_iter().collect(),
        NicChoice::All => machine.all_macs(),
        NicChoice::Mac(mac) => {
            if !machine.all_macs().contains(&mac) {
                draft.refuse(format!(
                    "network.nic names the card {mac}, which this machine does not have ({}); use nic = \"boot\"",
                    list(&machine.all_macs())
                ));
                return Vec::new();
            }
            vec![mac]
        }
    };
    if macs.is_empty() {
        draft.refuse(
            "the machine has no network card that could be configured; use network.mode = \"keep\"",
        );
    }
    let config = NicConfig {
        ipv4,
        dns: network.dns.clone(),
        suffix: network.suffix.clone(),
        search: network.search.clone(),
    };
    macs.into_iter()
        .map(|mac| Nic {
            mac: mac.to_string(),
            config: config.clone(),
        })
        .collect()
}

fn list(macs: &[Mac]) -> String {
    if macs.is_empty() {
        return "it has none".into();
    }
    let texts: Vec<String> = macs.iter().map(ToString::to_string).collect();
    format!("it has {}", texts.join(", "))
}

/// The IPv4 settings of a card, for messages.
pub(super) fn describe(config: &NicConfig) -> String {
    match &config.ipv4 {
        Ipv4Config::Dhcp => "DHCP".into(),
        Ipv4Config::Static {
            address,
            prefix,
            gateway,
        } => match gateway {
            Some(gateway) => format!("{address}/{prefix} by {gateway}"),
            None => format!("{address}/{prefix}"),
        },
    }
}

/// True when the settings are those that a system gives to an unknown card anyway.
pub(super) fn is_plain_dhcp(config: &NicConfig) -> bool {
    config.ipv4 == Ipv4Config::Dhcp
        && config.dns.is_empty()
        && config.suffix.is_none()
        && config.search.is_empty()
}
