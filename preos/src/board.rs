//! The pre-OS's own state for the screen: machine, cards, remarks.
//!
//! Owns the shared values. The threads that bring the machine up write them, the screen reads them;
//! `agent::desk` has the agent's part.

use facts::Mac;
use facts::order::EndAction;
use net::tls::Pin;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Arc, Mutex, PoisonError};

/// Most remarks kept; the first ones are the causes of the later ones.
const MAX_REMARKS: usize = 6;

/// The machine, from its firmware's tables.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Machine {
    /// Vendor and product.
    pub model: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// SMBIOS UUID.
    pub uuid: Option<String>,
    /// `uefi` or `bios`.
    pub firmware: String,
}

/// The state of a card.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CardState {
    /// No signal on the cable.
    NoLink {
        /// Second of the pre-OS since when.
        since: u64,
    },
    /// Waits for an address from DHCP.
    Asking {
        /// Second of the pre-OS since when.
        since: u64,
        /// Number of questions without an answer.
        questions: u32,
    },
    /// Has an address.
    Ready {
        /// IPv4 address.
        address: Ipv4Addr,
        /// Length of the network prefix, in bits.
        prefix: u8,
        /// Router.
        gateway: Option<Ipv4Addr>,
        /// DHCP server that gave the address; `None` when it is on the command line.
        server: Option<Ipv4Addr>,
    },
    /// The kernel refuses to use it; the reason.
    Broken(String),
}

/// A card the pre-OS uses.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CardView {
    /// MAC address.
    pub mac: Mac,
    /// Its state.
    pub state: CardState,
}

/// The whole state.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Situation {
    /// Seconds since the pre-OS started.
    pub seconds: u64,
    /// The machine.
    pub machine: Machine,
    /// Pin of the console whose orders the agent follows.
    pub pin: Option<Pin>,
    /// Address of that console, if the command line has it.
    pub console: Option<SocketAddrV4>,
    /// Cards by name.
    pub cards: BTreeMap<String, CardView>,
    /// The card that booted, while it has not appeared.
    pub awaited: Option<Mac>,
    /// Remarks: invalid words of the command line, failures of the start.
    pub remarks: Vec<String>,
    /// Set when the machine is being restarted or switched off.
    pub ending: Option<EndAction>,
    /// Set when the pre-OS cannot go on: the reason.
    pub failure: Option<String>,
}

/// Handle on the shared state; clones share it.
#[derive(Clone, Default)]
pub struct Board(Arc<Mutex<Situation>>);

impl Board {
    /// Changes the state.
    pub fn change(&self, change: impl FnOnce(&mut Situation)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Adds a remark, unless it is there already or the board is full.
    pub fn remark(&self, text: String) {
        self.change(|situation| {
            if situation.remarks.len() < MAX_REMARKS && !situation.remarks.contains(&text) {
                situation.remarks.push(text);
            }
        });
    }

    /// A copy of the present state.
    pub fn now(&self) -> Situation {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
