//! A room of machines in network namespaces: a console, targets, and a switch that snoops IGMP.
//!
//! `room_script` describes its construction and the facts about Linux it depends on; this module
//! runs the scripts and takes the room down.

use std::os::fd::AsFd;

use super::process::bash;
use super::room_script as script;

/// The room; taken down when dropped.
pub(crate) struct Room {
    prefix: String,
    pub(crate) targets: usize,
}

impl Room {
    /// Makes a room: `rate` of every link (`200mbit`), `loss` from 0 to 1 at every target.
    #[track_caller]
    pub(crate) fn new(label: &str, targets: usize, rate: &str, loss: f64) -> Self {
        let mbit: u64 = rate
            .strip_suffix("mbit")
            .and_then(|digits| digits.parse().ok())
            .unwrap_or_else(|| panic!("a rate looks like 200mbit, not {rate}"));
        let room = Self {
            prefix: format!("dct{}{label}", std::process::id()),
            targets,
        };
        bash(&script::switch(&room.prefix));
        for number in 0..=targets {
            bash(&script::machine(
                &room.prefix,
                number,
                targets,
                mbit * 1_000_000,
            ));
            if number > 0 && loss > 0.0 {
                bash(&script::lose(&room.prefix, number, loss));
            }
        }
        room
    }

    pub(crate) fn console(&self) -> String {
        script::namespace(&self.prefix, "con")
    }

    /// Namespace of target `number`, from 1.
    pub(crate) fn target(&self, number: usize) -> String {
        script::namespace(&self.prefix, &script::who(number))
    }

    /// Namespace of the switch; its ports have the names of the machines (`con`, `t1`, ...).
    pub(crate) fn switch(&self) -> String {
        script::namespace(&self.prefix, "sw")
    }

    /// Runs `work` on a thread inside a machine of the room.
    pub(crate) fn inside<T: Send + 'static>(
        namespace: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> std::thread::JoinHandle<T> {
        let file = std::fs::File::open(format!("/var/run/netns/{namespace}"))
            .unwrap_or_else(|e| panic!("namespace {namespace}: {e}"));
        std::thread::spawn(move || {
            let kind = rustix::thread::LinkNameSpaceType::Network;
            rustix::thread::move_into_link_name_space(file.as_fd(), Some(kind))
                .expect("root enters a network namespace");
            work()
        })
    }

    /// Bytes that a machine has sent, Ethernet headers included.
    pub(crate) fn sent_bytes(&self, namespace: &str) -> u64 {
        let said = bash(&format!("ip -n {namespace} -s -j link show eth0"));
        let all: serde_json::Value = serde_json::from_str(&said).expect("JSON of ip");
        all[0]["stats64"]["tx"]["bytes"]
            .as_u64()
            .expect("a counter")
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = std::process::Command::new("bash")
            .args(["-c", &script::down(&self.prefix, self.targets)])
            .output();
    }
}
