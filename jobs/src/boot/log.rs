//! Log of the boot stage that each machine has reached. Pure: the time is an argument.
//!
//! Invariant: at most [`MAX_MACHINES`] machines. When the log is full, the entry with the oldest
//! report is removed, first among machines that never fetched anything: invented addresses then
//! displace each other and no real machine.

use api::MachineView;
use facts::boot::{Machine, Report, Stage};
use facts::{Mac, Uuid};
use std::collections::BTreeMap;

/// Maximum number of machines kept in the log.
pub const MAX_MACHINES: usize = 2048;

/// Key of a machine: MAC address and UUID. Boards may share a UUID and laptops a dock, so neither
/// is enough alone.
type Key = (Mac, Option<Uuid>);

#[derive(Clone, Debug)]
struct Entry {
    view: MachineView,
    /// Number of its last report, which orders the entries by age.
    heard: u64,
    /// True after the machine fetched something.
    real: bool,
}

/// The boot stages of all machines.
#[derive(Debug, Default)]
pub struct Log {
    machines: BTreeMap<Key, Entry>,
    heard: u64,
}

impl Log {
    /// Records a report about a machine at `time` (RFC 3339).
    pub fn note(&mut self, report: &Report, time: &str) {
        let key = self.key(&report.machine);
        if !self.machines.contains_key(&key) {
            self.make_room();
        }
        self.heard += 1;
        let heard = self.heard;
        let entry = self.machines.entry(key).or_insert_with(|| Entry {
            view: MachineView {
                mac: String::new(),
                uuid: report.machine.uuid.map(|uuid| uuid.to_string()),
                firmware: None,
                address: None,
                stage: Stage::Asked,
                time: String::new(),
                detail: None,
                error: None,
                error_time: None,
            },
            heard,
            real: false,
        });
        entry.heard = heard;
        let view = &mut entry.view;
        view.mac = report.machine.mac.to_string();
        time.clone_into(&mut view.time);
        if let Some(firmware) = &report.firmware {
            view.firmware = Some(firmware.clone());
        }
        if let Some(address) = report.address {
            view.address = Some(address.to_string());
        }
        if report.failed {
            view.error.clone_from(&report.detail);
            view.error_time = Some(time.to_owned());
        }
        let Some(stage) = report.stage else {
            return;
        };
        entry.real |= !matches!(stage, Stage::Asked | Stage::Ignored | Stage::Unusable);
        view.stage = stage;
        if !report.failed {
            view.detail.clone_from(&report.detail);
        }
        // After a successful boot, earlier errors no longer matter.
        if matches!(stage, Stage::Joined | Stage::Local) {
            (view.error, view.error_time) = (None, None);
        }
    }

    /// Records that a machine's agent connected, if the machine is in the log.
    pub fn joined(&mut self, machine: &Machine, time: &str) {
        if self.machines.contains_key(&self.key(machine)) {
            let mut report = Report::new(*machine, Stage::Joined);
            report.detail = None;
            self.note(&report, time);
        }
    }

    /// Returns the key of a machine. A packet without a UUID belongs to the machine that last used
    /// the card with a UUID.
    fn key(&self, machine: &Machine) -> Key {
        let of_card = self
            .machines
            .range((machine.mac, None)..)
            .take_while(|(key, _)| key.0 == machine.mac);
        let last = of_card.max_by_key(|(_, entry)| entry.heard);
        match (machine.uuid, last) {
            (None, Some((key, _))) => *key,
            (uuid, _) => (machine.mac, uuid),
        }
    }

    fn make_room(&mut self) {
        if self.machines.len() < MAX_MACHINES {
            return;
        }
        let oldest = self
            .machines
            .iter()
            .min_by_key(|(_, entry)| (entry.real, entry.heard));
        if let Some(key) = oldest.map(|(key, _)| *key) {
            self.machines.remove(&key);
        }
    }

    /// Returns all entries, the latest first.
    pub fn views(&self) -> Vec<MachineView> {
        let mut entries: Vec<&Entry> = self.machines.values().collect();
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.heard));
        entries
            .into_iter()
            .map(|entry| entry.view.clone())
            .collect()
    }

    /// Returns the latest entry whose machine fits.
    pub fn of(&self, is: impl Fn(&Machine) -> bool) -> Option<MachineView> {
        let fits = |entry: &&Entry| machine_of(&entry.view).is_some_and(|machine| is(&machine));
        let all = self.machines.values().filter(fits);
        all.max_by_key(|entry| entry.heard)
            .map(|entry| entry.view.clone())
    }
}

/// Returns the machine of an entry; `None` if its MAC address is invalid.
pub fn machine_of(view: &MachineView) -> Option<Machine> {
    Some(Machine {
        mac: view.mac.parse().ok()?,
        uuid: view.uuid.as_deref().and_then(|text| text.parse().ok()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(card: u32, uuid: Option<&str>) -> Machine {
        let [a, b, c, d] = card.to_be_bytes();
        Machine {
            mac: Mac([2, 0, a, b, c, d]),
            uuid: uuid.map(|text| text.parse().unwrap()),
        }
    }

    const UUID: &str = "00112233-4455-6677-8899-aabbccddeeff";

    #[test]
    fn a_machine_is_one_line_from_first_packet_to_last() {
        let mut log = Log::default();
        let (with, without) = (machine(1, Some(UUID)), machine(1, None));
        let mut asked = Report::new(with, Stage::Asked);
        asked.firmware = Some("UEFI".to_owned());
        log.note(&asked, "t1");
        log.note(
            &Report::new(without, Stage::Loader).detail("shimx64.efi"),
            "t2",
        );
        log.note(
            &Report::failure(without, "TFTP of vmlinuz: it went silent"),
            "t3",
        );
        let view = log.views().pop().unwrap();
        assert_eq!(
            (log.views().len(), view.stage, view.uuid.as_deref()),
            (1, Stage::Loader, Some(UUID))
        );
        assert_eq!(
            (view.error.as_deref(), view.error_time.as_deref()),
            (Some("TFTP of vmlinuz: it went silent"), Some("t3"))
        );
        assert_eq!(
            (view.firmware.as_deref(), view.detail.as_deref()),
            (Some("UEFI"), Some("shimx64.efi"))
        );
        log.joined(&with, "t4");
        log.joined(&machine(9, None), "t4");
        let view = log.views().pop().unwrap();
        assert_eq!(
            (log.views().len(), view.stage, view.error),
            (1, Stage::Joined, None)
        );
    }

    #[test]
    fn made_up_cards_push_out_each_other() {
        let mut log = Log::default();
        let real = machine(7, Some(UUID));
        log.note(&Report::new(real, Stage::Loader), "t");
        for card in 0..4 * u32::try_from(MAX_MACHINES).unwrap() {
            log.note(&Report::new(machine(1000 + card, None), Stage::Asked), "t");
        }
        assert_eq!(log.views().len(), MAX_MACHINES);
        assert!(
            log.views()
                .iter()
                .any(|view| view.uuid.as_deref() == Some(UUID))
        );
    }
}
