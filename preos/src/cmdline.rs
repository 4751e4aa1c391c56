//! The kernel command line: settings from the boot server (`docs/network-boot.md`).
//!
//! Owns: the words and their meaning. The owner of DHCP or TFTP wrote them, so a word that makes no
//! sense is reported and left out, never used in part. No call panics.

use facts::Mac;
use net::tls::Pin;
use std::net::{Ipv4Addr, SocketAddrV4};

/// Default port of the control channel, if `diskcast.console` has none.
const CONTROL_PORT: u16 = 5001;
/// Default port of the boot service, if `diskcast.boot` has none.
const BOOT_PORT: u16 = 5080;
/// Longest line that is read, in bytes: `COMMAND_LINE_SIZE` is 2048 on x86, 4096 on others.
const MAX_BYTES: usize = 4096;
/// Most problems reported; a hostile line could fill the screen with more.
const MAX_PROBLEMS: usize = 8;

/// Source of the address of the card that booted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Ip {
    /// A DHCP server.
    #[default]
    Dhcp,
    /// The command line.
    Static {
        /// IPv4 address.
        address: Ipv4Addr,
        /// Length of the network prefix, in bits.
        prefix: u8,
        /// Router.
        gateway: Option<Ipv4Addr>,
    },
}

/// The settings of a command line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// MAC address of the card that booted.
    pub card: Option<Mac>,
    /// Address of the console's control channel; when absent the console is found by its beacon.
    pub console: Option<SocketAddrV4>,
    /// Pin of the only console that may give orders. Without it the agent follows none.
    pub pin: Option<Pin>,
    /// Group and port of the second lane.
    pub second: SocketAddrV4,
    /// Address of the boot service, for reports of stages.
    pub boot: Option<SocketAddrV4>,
    /// Source of this machine's address.
    pub ip: Ip,
    /// Filter of the log, such as `net=trace`.
    pub log: String,
    /// True when a shell is wanted.
    pub shell: bool,
    /// Seconds until a pre-OS that cannot go on restarts the machine (the kernel's own `panic=`).
    /// Absent or 0: it never does.
    pub panic_seconds: Option<u32>,
    /// Reports of words that make no sense.
    pub problems: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            card: None,
            console: None,
            pin: None,
            second: SocketAddrV4::new(Ipv4Addr::new(239, 254, 1, 2), 5004),
            boot: None,
            ip: Ip::default(),
            log: "info".to_owned(),
            shell: false,
            panic_seconds: None,
            problems: Vec::new(),
        }
    }
}

impl Settings {
    /// Parses a command line. Of two words with the same key the last one counts, as in the kernel.
    pub fn parse(line: &str) -> Self {
        let mut settings = Self::default();
        for word in words(line) {
            let (key, value) = word.split_once('=').unwrap_or((&word, ""));
            if let Err(expected) = settings.take(key, value)
                && settings.problems.len() < MAX_PROBLEMS
            {
                let shown: String = value.chars().take(60).collect();
                settings.problems.push(format!(
                    "{key}={shown} on the kernel command line: expected {expected}"
                ));
            }
        }
        settings
    }

    fn take(&mut self, key: &str, value: &str) -> Result<(), &'static str> {
        match key {
            "BOOTIF" => {
                let mac: Mac = value.parse().map_err(|_| "the address of a card")?;
                self.card = Some(mac);
            }
            "diskcast.console" => {
                self.console = Some(address(value, CONTROL_PORT).ok_or("ADDRESS[:PORT]")?);
            }
            "diskcast.pin" => self.pin = Some(value.parse().map_err(|_| "64 hex digits")?),
            "diskcast.second" => {
                let second: SocketAddrV4 = value.parse().map_err(|_| "GROUP:PORT")?;
                if !second.ip().is_multicast() {
                    return Err("a multicast group");
                }
                self.second = second;
            }
            "diskcast.boot" => {
                let rest = value
                    .strip_prefix("http://")
                    .ok_or("http://ADDRESS[:PORT]")?;
                let host = rest.split('/').next().unwrap_or_default();
                self.boot = Some(address(host, BOOT_PORT).ok_or("http://ADDRESS[:PORT]")?);
            }
            "diskcast.ip" => self.ip = ip(value).ok_or("dhcp or ADDRESS/PREFIX[,GATEWAY]")?,
            "diskcast.log" => {
                let plain = |c: char| c.is_ascii_alphanumeric() || "_:=,-".contains(c);
                if value.is_empty() || !value.chars().all(plain) {
                    return Err("a level, or MODULE=LEVEL,...");
                }
                self.log = value.to_owned();
            }
            "diskcast.shell" => self.shell = true,
            // The kernel gives its own word more meanings (negative: at once), which do not matter
            // here.
            "panic" => self.panic_seconds = value.parse().ok().filter(|seconds| *seconds > 0),
            unknown if unknown.starts_with("diskcast.") => return Err("nothing: no such word"),
            _ => {}
        }
        Ok(())
    }
}

/// Splits a line at blanks; blanks within double quotes are part of a word, as in the kernel.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    let mut end = line.len().min(MAX_BYTES);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    for c in line.get(..end).unwrap_or_default().chars() {
        match c {
            '"' => quoted = !quoted,
            c if c.is_whitespace() && !quoted => words.push(String::new()),
            c => {
                if let Some(word) = words.last_mut() {
                    word.push(c);
                }
            }
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn address(text: &str, port: u16) -> Option<SocketAddrV4> {
    let found = match text.parse::<SocketAddrV4>() {
        Ok(found) => found,
        Err(_) => SocketAddrV4::new(text.parse().ok()?, port),
    };
    (is_host(*found.ip()) && found.port() != 0).then_some(found)
}

fn ip(text: &str) -> Option<Ip> {
    if text == "dhcp" {
        return Some(Ip::Dhcp);
    }
    let (network, gateway) = match text.split_once(',') {
        Some((network, gateway)) => (network, Some(gateway.parse().ok()?)),
        None => (text, None),
    };
    let (address, prefix) = network.split_once('/')?;
    let address = address.parse().ok().filter(|address| is_host(*address))?;
    let prefix = prefix.parse().ok().filter(|p| (1..=32).contains(p))?;
    if gateway.is_some_and(|gateway| !is_host(gateway)) {
        return None;
    }
    Some(Ip::Static {
        address,
        prefix,
        gateway,
    })
}

fn is_host(address: Ipv4Addr) -> bool {
    !address.is_unspecified() && !address.is_multicast() && !address.is_broadcast()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_of_our_boot_server_is_understood_whole() {
        let pin = "ab".repeat(32);
        let settings = Settings::parse(&format!(
            "quiet BOOT_IMAGE=/vmlinuz console=tty0 console=ttyS0,115200 BOOTIF=01-52-54-00-12-34-56 \
             diskcast.console=10.0.0.1 diskcast.pin={pin} diskcast.boot=http://10.0.0.1:5080/ \
             diskcast.second=239.1.1.1:6000 diskcast.log=debug,rustls=warn diskcast.shell panic=30\n"
        ));
        assert_eq!(
            settings,
            Settings {
                card: Some(Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56])),
                console: Some("10.0.0.1:5001".parse().unwrap()),
                pin: Some(Pin([0xab; 32])),
                second: "239.1.1.1:6000".parse().unwrap(),
                boot: Some("10.0.0.1:5080".parse().unwrap()),
                ip: Ip::Dhcp,
                log: "debug,rustls=warn".into(),
                shell: true,
                panic_seconds: Some(30),
                problems: Vec::new(),
            }
        );
    }

    #[test]
    fn the_card_is_found_in_the_spelling_of_grub_and_of_ipxe() {
        let expected = Some(Mac([0xde, 0xad, 0xbe, 0xef, 0, 1]));
        for text in [
            "01-de-ad-be-ef-00-01",
            "de:ad:be:ef:00:01",
            "01:DE:AD:BE:EF:00:01",
            "de-ad-be-ef-00-01",
        ] {
            assert_eq!(Settings::parse(&format!("BOOTIF={text}")).card, expected);
        }
    }

    #[test]
    fn addresses_by_hand() {
        let parsed = |text: &str| Settings::parse(&format!("diskcast.ip={text}")).ip;
        assert_eq!(
            parsed("10.1.2.3/16,10.1.0.1"),
            Ip::Static {
                address: Ipv4Addr::new(10, 1, 2, 3),
                prefix: 16,
                gateway: Some(Ipv4Addr::new(10, 1, 0, 1)),
            }
        );
        for nonsense in [
            "10.1.2.3",
            "10.1.2.3/33",
            "10.1.2.3/0",
            "224.0.0.1/8",
            "0.0.0.0/8",
            "10.0.0.1/8,x",
            "",
        ] {
            assert_eq!(parsed(nonsense), Ip::Dhcp, "{nonsense}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_said_and_left_out() {
        let settings = Settings::parse(
            "BOOTIF=eth0 diskcast.pin=abc diskcast.console=console.lan diskcast.pni=1 diskcast.second=10.0.0.1:5 diskcast.log=\"a b\"",
        );
        assert_eq!(settings.problems.len(), 6);
        assert!(settings.problems[0].contains("BOOTIF=eth0"));
        let unharmed = Settings {
            problems: settings.problems.clone(),
            ..Settings::default()
        };
        assert_eq!(settings, unharmed);
    }

    proptest! {
        #[test]
        fn any_line_is_read(line in any::<String>(), word in "(BOOTIF|diskcast\\.[a-z]{2,7}|panic)=[ -~]{0,80}") {
            let settings = Settings::parse(&format!("{line} {word}"));
            prop_assert!(settings.problems.len() <= MAX_PROBLEMS);
        }
    }
}
