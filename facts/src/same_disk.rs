//! The rule that finds a disk of a machine again.
//!
//! A restart may give a disk another path, never another model, serial number or size. Plan, order,
//! capture, offer and retry ask here, so that a disk that one of them knows is known to all.

use crate::target::DiskFacts;

/// Name of a disk: its present path and its hardware.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DiskName<'d> {
    /// Path on the machine.
    pub path: &'d str,
    /// Model.
    pub model: Option<&'d str>,
    /// Serial number.
    pub serial: Option<&'d str>,
    /// Size in bytes.
    pub size: u64,
}

impl<'d> From<&'d DiskFacts> for DiskName<'d> {
    fn from(disk: &'d DiskFacts) -> Self {
        Self {
            path: &disk.path,
            model: disk.model.as_deref(),
            serial: disk.serial.as_deref(),
            size: disk.size,
        }
    }
}

impl DiskName<'_> {
    /// True for the same model, serial number and size.
    fn is_hardware_of(&self, other: &Self) -> bool {
        let text = |text: Option<&str>| text.map(str::trim).unwrap_or_default().to_owned();
        self.size == other.size
            && text(self.model) == text(other.model)
            && text(self.serial) == text(other.serial)
    }

    fn has_serial(&self) -> bool {
        self.serial.is_some_and(|serial| !serial.trim().is_empty())
    }

    /// True for the same hardware under the same path. Of two disks alone no more can be said: a
    /// disk under another path may be a twin with the same serial number.
    pub fn is(&self, other: &Self) -> bool {
        self.path == other.path && self.is_hardware_of(other)
    }
}

/// The disk of a machine that `wanted` names: the one under its path if the hardware is the same,
/// otherwise the only one with that hardware, if it has a serial number.
pub fn same_disk<'d>(disks: &'d [DiskFacts], wanted: DiskName<'_>) -> Option<&'d DiskFacts> {
    if let Some(disk) = disks.iter().find(|disk| wanted.is(&(*disk).into())) {
        return Some(disk);
    }
    let alike = |disk: &&DiskFacts| wanted.is_hardware_of(&(*disk).into());
    let mut alike = disks.iter().filter(alike);
    let only = alike.next().filter(|_| alike.next().is_none());
    only.filter(|_| wanted.has_serial())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(path: &str, serial: &str, size: u64) -> DiskFacts {
        DiskFacts {
            path: path.to_owned(),
            model: Some("X9".to_owned()),
            serial: Some(serial.to_owned()).filter(|serial| !serial.is_empty()),
            size,
            ..DiskFacts::default()
        }
    }

    fn found<'d>(disks: &'d [DiskFacts], wanted: &DiskFacts) -> Option<&'d str> {
        same_disk(disks, wanted.into()).map(|disk| disk.path.as_str())
    }

    #[test]
    fn a_disk_is_found_under_another_path_by_its_serial_number() {
        let wanted = disk("/dev/sda", "S1", 10);
        let swapped = [disk("/dev/sda", "S2", 10), disk("/dev/sdb", " S1 ", 10)];
        assert_eq!(found(&swapped, &wanted), Some("/dev/sdb"));
        assert_eq!(
            found(std::slice::from_ref(&wanted), &wanted),
            Some("/dev/sda")
        );
    }

    #[test]
    fn another_disk_under_the_same_path_is_not_it() {
        let wanted = disk("/dev/sda", "S1", 10);
        let mut other_model = wanted.clone();
        other_model.model = Some("X10".to_owned());
        for other in [
            disk("/dev/sda", "S2", 10),
            disk("/dev/sda", "S1", 11),
            disk("/dev/sda", "", 10),
            other_model,
        ] {
            assert_eq!(found(&[other], &wanted), None);
        }
    }

    #[test]
    fn twins_and_disks_without_a_serial_number_are_known_by_their_path_alone() {
        let wanted = disk("/dev/sda", "S1", 10);
        let twins = [disk("/dev/sdb", "S1", 10), disk("/dev/sdc", "S1", 10)];
        assert_eq!(found(&twins, &wanted), None);
        let twins = [disk("/dev/sdb", "S1", 10), disk("/dev/sda", "S1", 10)];
        assert_eq!(found(&twins, &wanted), Some("/dev/sda"));
        let nameless = disk("/dev/sda", "", 10);
        assert_eq!(found(&[disk("/dev/sdb", "", 10)], &nameless), None);
        assert_eq!(
            found(std::slice::from_ref(&nameless), &nameless),
            Some("/dev/sda")
        );
    }
}
