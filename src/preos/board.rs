//! What the pre-OS knows of itself, for the screen: machine, cards, remarks.
//!
//! Owns the shared values. Written by the threads that bring the machine up, read by the screen; `agent::desk` has the agent's part.

use crate::net::control::EndAction;
use crate::net::tls::Pin;
use facts::Mac;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Arc, Mutex, PoisonError};

/// Remarks kept; the first ones are the causes.
const MAX_REMARKS: usize = 6;

/// The machine, as its firmware names it.
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

/// Where a card stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CardState {
    /// No signal on the cable.
    NoLink {
        /// Since this second.
        since: u64,
    },
    /// Asking for an address.
    Asking {
        /// Since this second.
        since: u64,
        /// Questions without an answer.
        questions: u32,
    },
    /// Has an address.
    Ready {
        /// Address.
        address: Ipv4Addr,
        /// Length of the prefix.
        prefix: u8,
        /// Way out.
        gateway: Option<Ipv4Addr>,
        /// Who gave the address; nobody when it is on the command line.
        server: Option<Ipv4Addr>,
    },
    /// The kernel does not let it be used.
    Broken(String),
}

/// A card the pre-OS uses.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CardView {
    /// Address.
    pub mac: Mac,
    /// Where it stands.
    pub state: CardState,
}

/// All of it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Situation {
    /// Seconds since the pre-OS began.
    pub seconds: u64,
    /// The machine.
    pub machine: Machine,
    /// The console that is obeyed.
    pub pin: Option<Pin>,
    /// Its address, when the command line has it.
    pub console: Option<SocketAddrV4>,
    /// Cards by name.
    pub cards: BTreeMap<String, CardView>,
    /// The card that booted, while it is not there.
    pub awaited: Option<Mac>,
    /// Remarks: what makes no sense on the command line, what did not work.
    pub remarks: Vec<String>,
    /// The machine is being restarted or switched off.
    pub ending: Option<EndAction>,
    /// The pre-OS cannot go on.
    pub failure: Option<String>,
}

/// Handle; clones share it.
#[derive(Clone, Default)]
pub struct Board(Arc<Mutex<Situation>>);

impl Board {
    /// Changes it.
    pub fn change(&self, change: impl FnOnce(&mut Situation)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Adds a remark, once.
    pub fn remark(&self, text: String) {
        self.change(|situation| {
            if situation.remarks.len() < MAX_REMARKS && !situation.remarks.contains(&text) {
                situation.remarks.push(text);
            }
        });
    }

    /// As it is now.
    pub fn now(&self) -> Situation {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
