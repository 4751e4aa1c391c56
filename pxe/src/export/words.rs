//! The kernel command line that leads an agent to its console.
//!
//! The words are a contract: docs/network-boot.md. Pure.

use std::net::{IpAddr, SocketAddr};

/// Words of the kernel's command line that scripts contain.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Words {
    /// Fingerprint of the console's key: 64 hex digits. The agent follows no other console.
    pub pin: String,
    /// Address of the console's control channel; without it the agent listens for the beacon.
    pub console: Option<SocketAddr>,
    /// Group of the second lane, when not the default.
    pub second: Option<SocketAddr>,
    /// Further words, unchanged.
    pub more: Vec<String>,
}

/// Default port of the control channel, which the line leaves out.
pub const CONTROL_PORT: u16 = 5001;

/// Consoles: the screen and the first serial port, on which `/init` writes.
const CONSOLES: &str = "console=tty0 console=ttyS0,115200";

impl Words {
    /// Builds the kernel's command line, without the card that booted.
    pub fn line(&self) -> String {
        // Without `quiet` a serial port spends seconds on the kernel's messages; warnings are still
        // shown.
        let mut line = format!("quiet {CONSOLES} diskcast.pin={}", self.pin);
        if let Some(console) = self.console {
            line.push_str(&format!(" diskcast.console={}", short(console)));
        }
        if let Some(second) = self.second {
            line.push_str(&format!(" diskcast.second={second}"));
        }
        for word in &self.more {
            line.push(' ');
            line.push_str(word);
        }
        line
    }

    /// The console's IP address, if known.
    pub fn console_ip(&self) -> Option<IpAddr> {
        self.console.map(|console| console.ip())
    }
}

fn short(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(v4) if v4.port() == CONTROL_PORT => v4.ip().to_string(),
        other => other.to_string(),
    }
}

/// Checks a word for the kernel's command line inside a script: no blanks, and no characters that
/// are special in scripts.
///
/// # Errors
/// A sentence that names the character.
pub fn checked_word(word: &str) -> Result<String, String> {
    let bad = word
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || "._-=:,/+@%".contains(*c)));
    match bad {
        _ if word.is_empty() => Err("an empty word".to_owned()),
        Some(c) => Err(format!(
            "`{word}` has a {c:?}, which boot scripts would act on"
        )),
        None => Ok(word.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let mut words = Words {
            pin: "ab".repeat(32),
            ..Default::default()
        };
        let pin = &words.pin.clone();
        assert_eq!(
            words.line(),
            format!("quiet console=tty0 console=ttyS0,115200 diskcast.pin={pin}")
        );
        words.console = "10.0.0.1:5001".parse().ok();
        words.second = "239.254.1.9:5004".parse().ok();
        words.more = vec!["diskcast.log=debug".to_owned()];
        assert!(words.line().ends_with(
            " diskcast.console=10.0.0.1 diskcast.second=239.254.1.9:5004 diskcast.log=debug"
        ));
        words.console = "10.0.0.1:6001".parse().ok();
        assert!(words.line().contains("diskcast.console=10.0.0.1:6001 "));
    }

    #[test]
    fn words_that_scripts_would_act_on_are_refused() {
        assert!(checked_word("diskcast.ip=10.0.0.7/24,10.0.0.1").is_ok());
        for bad in [
            "", "a b", "a;b", "${x}", "a\nb", "\"q\"", "a||b", "a#b", "`x`", "a\\b",
        ] {
            assert!(checked_word(bad).is_err(), "{bad:?}");
        }
    }
}
