//! Network configuration in the format of each renderer, as text.
//!
//! Cards are identified by MAC address in every format. Every value is an address, a number or a
//! checked name, so none can break the syntax of a file.

use crate::error::{Result, StepError};
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use template::step::{Ipv4Config, Nic, NicConfig};
use template::yaml::{self, Node, YamlError};

/// First line of our files, in formats that have `#` comments.
pub(super) const MARK: &str = "# Written by diskcast.\n";

/// A card whose values have been checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Card<'a> {
    /// MAC address in lower case with colons.
    pub(super) mac: String,
    /// Addresses of the card.
    pub(super) config: &'a NicConfig,
}

impl<'a> Card<'a> {
    /// Checks MAC address, prefixes and domains, and refuses invalid ones.
    pub(super) fn new(nic: &'a Nic) -> Result<Self> {
        let mac = nic.mac.to_ascii_lowercase().replace('-', ":");
        let groups: Vec<&str> = mac.split(':').collect();
        let two_digits =
            |group: &&str| group.len() == 2 && group.bytes().all(|byte| byte.is_ascii_hexdigit());
        if groups.len() != 6 || !groups.iter().all(two_digits) {
            return Err(StepError::Order(format!(
                "{:?} is not a MAC address",
                nic.mac
            )));
        }
        if let Ipv4Config::Static { prefix, .. } = nic.config.ipv4
            && !(1..=32).contains(&prefix)
        {
            return Err(StepError::Order(format!(
                "card {mac}: a prefix of {prefix} bits is not 1 to 32"
            )));
        }
        for domain in nic.config.suffix.iter().chain(&nic.config.search) {
            let plain = domain
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
            if domain.is_empty() || !plain {
                return Err(StepError::Order(format!(
                    "card {mac}: {domain:?} is not a domain"
                )));
            }
        }
        Ok(Self {
            mac,
            config: &nic.config,
        })
    }

    /// The MAC address without colons, for file names.
    pub(super) fn id(&self) -> String {
        self.mac.replace(':', "")
    }

    /// Suffix and search list without duplicates.
    fn domains(&self) -> Vec<&str> {
        let mut domains: Vec<&str> = Vec::new();
        for domain in self.config.suffix.iter().chain(&self.config.search) {
            if !domains.contains(&domain.as_str()) {
                domains.push(domain);
            }
        }
        domains
    }

    fn servers(&self, between: &str) -> String {
        let servers: Vec<String> = self.config.dns.iter().map(Ipv4Addr::to_string).collect();
        servers.join(between)
    }

    /// Connection UUID, always the same for the same card: version 8 (RFC 9562) from a hash of its
    /// MAC address.
    fn uuid(&self) -> String {
        let hash = blake3::derive_key("diskcast 2026 network connection", self.mac.as_bytes());
        let mut bytes = [0_u8; 16];
        for (to, from) in bytes.iter_mut().zip(hash) {
            *to = from;
        }
        let value = u128::from_be_bytes(bytes);
        let value = (value & !(0xf << 76)) | (8 << 76);
        let value = (value & !(0x3 << 62)) | (2 << 62);
        let hex = format!("{value:032x}");
        let part = |range: std::ops::Range<usize>| hex.get(range).unwrap_or_default();
        [
            part(0..8),
            part(8..12),
            part(12..16),
            part(16..20),
            part(20..32),
        ]
        .join("-")
    }
}

/// Dotted netmask of a prefix of 1 to 32 bits.
fn mask(prefix: u8) -> Ipv4Addr {
    let host_bits = 32_u32.saturating_sub(u32::from(prefix));
    Ipv4Addr::from_bits(u32::MAX.checked_shl(host_bits).unwrap_or(0))
}

/// The `ethernets:` part of netplan and of cloud-init's version 2, indented by `indent`.
pub(super) fn ethernets(cards: &[Card<'_>], indent: &str) -> String {
    let mut text = format!("{indent}version: 2\n{indent}ethernets:\n");
    for (number, card) in cards.iter().enumerate() {
        let _ = writeln!(text, "{indent}  diskcast{number}:");
        let _ = writeln!(
            text,
            "{indent}    match:\n{indent}      macaddress: \"{}\"",
            card.mac
        );
        match card.config.ipv4 {
            Ipv4Config::Dhcp => {
                let _ = writeln!(text, "{indent}    dhcp4: true");
                if !card.config.dns.is_empty() {
                    let _ = writeln!(
                        text,
                        "{indent}    dhcp4-overrides:\n{indent}      use-dns: false"
                    );
                }
            }
            Ipv4Config::Static {
                address,
                prefix,
                gateway,
            } => {
                let _ = writeln!(
                    text,
                    "{indent}    dhcp4: false\n{indent}    addresses:\n{indent}      - \"{address}/{prefix}\""
                );
                if let Some(gateway) = gateway {
                    // Older versions of netplan do not know `default`.
                    let _ = writeln!(
                        text,
                        "{indent}    routes:\n{indent}      - to: \"0.0.0.0/0\"\n{indent}        via: \"{gateway}\""
                    );
                }
            }
        }
        let domains = card.domains();
        if !card.config.dns.is_empty() || !domains.is_empty() {
            let _ = writeln!(text, "{indent}    nameservers:");
            if !card.config.dns.is_empty() {
                let _ = writeln!(text, "{indent}      addresses: [{}]", card.servers(", "));
            }
            if !domains.is_empty() {
                let _ = writeln!(
                    text,
                    "{indent}      search: [\"{}\"]",
                    domains.join("\", \"")
                );
            }
        }
    }
    text
}

/// Content of `/etc/netplan/90-diskcast.yaml`. `renderer` is the one that the master's files name
/// for all cards.
pub(super) fn netplan(cards: &[Card<'_>], renderer: Option<&str>) -> String {
    let mut text = format!("{MARK}network:\n");
    if let Some(renderer) = renderer {
        let _ = writeln!(text, "  renderer: {renderer}");
    }
    text + &ethernets(cards, "  ")
}

/// The renderer that a netplan file names for all cards, on the level directly below `network:`.
pub(super) fn netplan_renderer(text: &str) -> Option<&'static str> {
    let node = yaml::read(text).ok().flatten()?;
    match node.at(&["network", "renderer"])?.text()? {
        "NetworkManager" => Some("NetworkManager"),
        "networkd" => Some("networkd"),
        _ => None,
    }
}

/// Kinds of devices that a netplan file configures, such as `ethernets`, `wifis`, `bridges`.
pub(super) fn netplan_kinds(text: &str) -> Result<Vec<String>, YamlError> {
    let node = yaml::read(text)?;
    let network = node.as_ref().and_then(|node| node.get("network"));
    Ok(network
        .into_iter()
        .flat_map(Node::entries)
        .filter(|(_, devices)| devices.entries().next().is_some())
        .map(|(kind, _)| kind.to_owned())
        .collect())
}

/// Content of `/etc/NetworkManager/system-connections/diskcast-<mac>.nmconnection`, which must
/// belong to root with mode 0600.
pub(super) fn network_manager(card: &Card<'_>) -> String {
    let mut text = format!(
        "{MARK}[connection]\nid=diskcast {mac}\nuuid={uuid}\ntype=ethernet\nautoconnect=true\n\
         autoconnect-priority=100\n\n[ethernet]\nmac-address={upper}\n\n[ipv4]\n",
        mac = card.mac,
        uuid = card.uuid(),
        upper = card.mac.to_ascii_uppercase(),
    );
    match card.config.ipv4 {
        Ipv4Config::Dhcp => {
            text.push_str("method=auto\n");
            if !card.config.dns.is_empty() {
                text.push_str("ignore-auto-dns=true\n");
            }
        }
        Ipv4Config::Static {
            address,
            prefix,
            gateway,
        } => {
            let gateway = gateway.map_or_else(String::new, |gateway| format!(",{gateway}"));
            let _ = writeln!(text, "method=manual\naddress1={address}/{prefix}{gateway}");
        }
    }
    if !card.config.dns.is_empty() {
        let _ = writeln!(text, "dns={};", card.servers(";"));
    }
    let domains = card.domains();
    if !domains.is_empty() {
        let _ = writeln!(text, "dns-search={};", domains.join(";"));
    }
    text.push_str("\n[ipv6]\nmethod=auto\n");
    text
}

/// True for a NetworkManager profile of a wired card.
pub(super) fn is_wired_profile(keyfile: &str) -> bool {
    let mut section = "";
    for line in keyfile.lines().map(str::trim) {
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            section = name;
        } else if section == "connection"
            && let Some((key, value)) = line.split_once('=')
            && key.trim() == "type"
        {
            return matches!(value.trim(), "ethernet" | "802-3-ethernet");
        }
    }
    false
}

/// Content of `/etc/systemd/network/05-diskcast-<mac>.network`.
pub(super) fn networkd(card: &Card<'_>) -> String {
    // Bridges and VLANs may carry the same MAC address: only the card itself is meant.
    let mut text = format!(
        "{MARK}[Match]\nMACAddress={}\nType=ether\n\n[Network]\n",
        card.mac
    );
    let mut gateway_line = None;
    match card.config.ipv4 {
        Ipv4Config::Dhcp => text.push_str("DHCP=ipv4\n"),
        Ipv4Config::Static {
            address,
            prefix,
            gateway,
        } => {
            let _ = writeln!(text, "DHCP=no\nAddress={address}/{prefix}");
            gateway_line = gateway;
        }
    }
    if let Some(gateway) = gateway_line {
        let _ = writeln!(text, "Gateway={gateway}");
    }
    for server in &card.config.dns {
        let _ = writeln!(text, "DNS={server}");
    }
    let domains = card.domains();
    if !domains.is_empty() {
        let _ = writeln!(text, "Domains={}", domains.join(" "));
    }
    if card.config.ipv4 == Ipv4Config::Dhcp && !card.config.dns.is_empty() {
        text.push_str("\n[DHCPv4]\nUseDNS=no\n");
    }
    text
}

/// Content of `/etc/systemd/network/05-diskcast-<mac>.link`: ifupdown knows cards by name only, so
/// the card gets one.
pub(super) fn link(card: &Card<'_>, name: &str) -> String {
    format!(
        "{MARK}[Match]\nMACAddress={}\nType=ether\n\n[Link]\nName={name}\n",
        card.mac
    )
}

/// Content of `/etc/network/interfaces`; cards are called `lan0`, `lan1`, ...
pub(super) fn ifupdown(cards: &[Card<'_>]) -> String {
    let mut text =
        format!("{MARK}source /etc/network/interfaces.d/*\n\nauto lo\niface lo inet loopback\n");
    for (number, card) in cards.iter().enumerate() {
        let _ = write!(
            text,
            "\n# {}\nauto lan{number}\niface lan{number} inet ",
            card.mac
        );
        match card.config.ipv4 {
            Ipv4Config::Dhcp => text.push_str("dhcp\n"),
            Ipv4Config::Static {
                address,
                prefix,
                gateway,
            } => {
                let _ = writeln!(
                    text,
                    "static\n    address {address}\n    netmask {}",
                    mask(prefix)
                );
                if let Some(gateway) = gateway {
                    let _ = writeln!(text, "    gateway {gateway}");
                }
            }
        }
        if !card.config.dns.is_empty() {
            let _ = writeln!(text, "    dns-nameservers {}", card.servers(" "));
        }
        let domains = card.domains();
        if !domains.is_empty() {
            let _ = writeln!(text, "    dns-search {}", domains.join(" "));
        }
    }
    text
}

/// Content of `/etc/resolv.conf` on a system where no service writes it; `None` if there is nothing
/// to set.
pub(super) fn resolv_conf(cards: &[Card<'_>]) -> Option<String> {
    let mut servers: Vec<Ipv4Addr> = Vec::new();
    let mut domains: Vec<&str> = Vec::new();
    for card in cards {
        if card.config.ipv4 != Ipv4Config::Dhcp {
            servers.extend(&card.config.dns);
            domains.extend(card.domains());
        }
    }
    servers.dedup();
    domains.dedup();
    if servers.is_empty() {
        return None;
    }
    let mut text = String::from(MARK);
    if !domains.is_empty() {
        let _ = writeln!(text, "search {}", domains.join(" "));
    }
    // resolv.conf(5): resolvers use at most three servers.
    for server in servers.iter().take(3) {
        let _ = writeln!(text, "nameserver {server}");
    }
    Some(text)
}

/// Content of `/etc/sysconfig/network-scripts/ifcfg-diskcast-<mac>`.
pub(super) fn ifcfg(card: &Card<'_>) -> String {
    let mut text = format!(
        "{MARK}TYPE=Ethernet\nNAME=diskcast-{id}\nUUID={uuid}\nHWADDR={mac}\nONBOOT=yes\n",
        id = card.id(),
        uuid = card.uuid(),
        mac = card.mac.to_ascii_uppercase(),
    );
    match card.config.ipv4 {
        Ipv4Config::Dhcp => {
            text.push_str("BOOTPROTO=dhcp\n");
            if !card.config.dns.is_empty() {
                text.push_str("PEERDNS=no\n");
            }
        }
        Ipv4Config::Static {
            address,
            prefix,
            gateway,
        } => {
            let _ = writeln!(
                text,
                "BOOTPROTO=none\nIPADDR={address}\nPREFIX={prefix}\nNETMASK={}",
                mask(prefix)
            );
            if let Some(gateway) = gateway {
                let _ = writeln!(text, "GATEWAY={gateway}\nDEFROUTE=yes");
            }
        }
    }
    for (server, number) in card.config.dns.iter().zip(1_u32..) {
        let _ = writeln!(text, "DNS{number}={server}");
    }
    let domains = card.domains();
    if !domains.is_empty() {
        let _ = writeln!(text, "DOMAIN=\"{}\"", domains.join(" "));
    }
    text
}

/// True for an `ifcfg-` file of a wired card: a file that names no other type.
pub(super) fn is_wired_ifcfg(text: &str) -> bool {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("TYPE="))
        .all(|kind| {
            kind.trim()
                .trim_matches(['"', '\''])
                .eq_ignore_ascii_case("ethernet")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn static_nic() -> Nic {
        Nic {
            mac: "52:54:00:AA:bb:01".into(),
            config: NicConfig {
                ipv4: Ipv4Config::Static {
                    address: Ipv4Addr::new(10, 20, 0, 57),
                    prefix: 22,
                    gateway: Some(Ipv4Addr::new(10, 20, 0, 1)),
                },
                dns: vec![Ipv4Addr::new(10, 20, 0, 2), Ipv4Addr::new(10, 20, 0, 3)],
                suffix: Some("lab.example".into()),
                search: vec!["example".into(), "lab.example".into()],
            },
        }
    }

    fn dhcp_nic() -> Nic {
        Nic {
            mac: "52-54-00-00-00-02".into(),
            config: NicConfig {
                ipv4: Ipv4Config::Dhcp,
                dns: vec![],
                suffix: None,
                search: vec![],
            },
        }
    }

    #[test]
    fn netplan_text() {
        let (first, second) = (static_nic(), dhcp_nic());
        let cards = [Card::new(&first).unwrap(), Card::new(&second).unwrap()];
        assert_eq!(
            netplan(&cards, Some("NetworkManager")),
            "# Written by diskcast.\nnetwork:\n  renderer: NetworkManager\n  version: 2\n  ethernets:\n    diskcast0:\n      \
             match:\n        macaddress: \"52:54:00:aa:bb:01\"\n      dhcp4: false\n      addresses:\n        - \
             \"10.20.0.57/22\"\n      routes:\n        - to: \"0.0.0.0/0\"\n          via: \"10.20.0.1\"\n      \
             nameservers:\n        addresses: [10.20.0.2, 10.20.0.3]\n        search: [\"lab.example\", \"example\"]\n    \
             diskcast1:\n      match:\n        macaddress: \"52:54:00:00:00:02\"\n      dhcp4: true\n"
        );
    }

    #[test]
    fn the_renderer_for_all_cards_is_found_and_that_of_one_card_is_not() {
        let yaml = "# x\nnetwork:\n    version: 2\n    renderer: NetworkManager # here\n";
        assert_eq!(netplan_renderer(yaml), Some("NetworkManager"));
        let yaml =
            "network:\n  ethernets:\n    eth0:\n      renderer: NetworkManager\n  version: 2\n";
        assert_eq!(netplan_renderer(yaml), None);
        assert_eq!(netplan_kinds(yaml).unwrap(), ["ethernets"]);
        assert_eq!(netplan_kinds("network:\n  version: 2\n").unwrap(), [""; 0]);
        assert_eq!(netplan_renderer(""), None);
        // Regression: this flow style was taken for a file without cards, and the file stayed
        // beside ours.
        let flow = "network: {version: 2, renderer: networkd, ethernets: {eth0: {dhcp4: true}}, wifis: {}, bridges: {br0: {}}}";
        assert_eq!(netplan_renderer(flow), Some("networkd"));
        assert_eq!(netplan_kinds(flow).unwrap(), ["bridges", "ethernets"]);
        assert!(netplan_kinds("network: [").is_err());
    }

    #[test]
    fn network_manager_text() {
        let nic = static_nic();
        let text = network_manager(&Card::new(&nic).unwrap());
        assert!(
            text.contains("\naddress1=10.20.0.57/22,10.20.0.1\ndns=10.20.0.2;10.20.0.3;\n"),
            "{text}"
        );
        assert!(text.contains("\nmac-address=52:54:00:AA:BB:01\n"), "{text}");
        assert!(is_wired_profile(&text));
        assert!(!is_wired_profile(
            "[connection]\ntype=wifi\n[x]\ntype=ethernet\n"
        ));
        let uuid = Card::new(&nic).unwrap().uuid();
        assert_eq!(uuid, Card::new(&nic).unwrap().uuid());
        assert_eq!((uuid.len(), uuid.get(14..15)), (36, Some("8")));
    }

    #[test]
    fn masks_of_every_prefix() {
        assert_eq!(mask(1).to_string(), "128.0.0.0");
        assert_eq!(mask(22).to_string(), "255.255.252.0");
        assert_eq!(mask(32).to_string(), "255.255.255.255");
    }

    #[test]
    fn nothing_that_could_leave_its_line_is_accepted() {
        for mac in [
            "",
            "52:54:00:aa:bb",
            "52:54:00:aa:bb:zz",
            "52:54:00:aa:bb:01\n",
        ] {
            let nic = Nic {
                mac: mac.into(),
                ..static_nic()
            };
            assert!(Card::new(&nic).is_err(), "{mac:?}");
        }
        let mut nic = static_nic();
        nic.config.search.push("a b\nc".into());
        assert!(Card::new(&nic).is_err());
    }

    #[test]
    fn ifcfg_types() {
        let nic = static_nic();
        assert!(is_wired_ifcfg(&ifcfg(&Card::new(&nic).unwrap())));
        assert!(is_wired_ifcfg("DEVICE=eth0\n"));
        assert!(!is_wired_ifcfg("TYPE=\"Bridge\"\n"));
    }
}
