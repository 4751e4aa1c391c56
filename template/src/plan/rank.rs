//! Ranking of driver packages for a device, as Windows does it.
//!
//! The order is that of "How Windows ranks driver packages": signature, feature score, identifier
//! score, then the newer date and the higher version. A package that cannot be installed, because
//! its program is missing or for another processor, ranks last. Ties are decided by the closer
//! decoration, then by name.

use crate::inf::{Closeness, DriverVersion, Model};
use crate::machine::PciDevice;
use std::cmp::Reverse;

/// Scores of matches with a compatible id: of the package, of the device, of both.
const PACKAGE_COMPATIBLE: u32 = 0x1000;
const DEVICE_COMPATIBLE: u32 = 0x2000;
const BOTH_COMPATIBLE: u32 = 0x3000;

/// Rank of a package for a device; the smallest is the best.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Rank<'a> {
    pub(super) unusable: bool,
    pub(super) unsigned: bool,
    pub(super) feature_score: u8,
    pub(super) identifier_score: u32,
    pub(super) version: Reverse<DriverVersion>,
    pub(super) closeness: Reverse<Closeness>,
    pub(super) name: &'a str,
}

/// Hardware and compatible ids of a PCI function, the most specific first ("Identifiers for PCI
/// devices"). Ids with a revision are left out: the revision is not among the facts.
pub(super) struct Ids {
    hardware: Vec<String>,
    compatible: Vec<String>,
}

impl Ids {
    pub(super) fn of(device: &PciDevice) -> Self {
        let own = format!("PCI\\VEN_{:04X}&DEV_{:04X}", device.vendor, device.device);
        let vendor = format!("PCI\\VEN_{:04X}", device.vendor);
        let class = format!("CC_{:04X}", device.class >> 8 & 0xffff);
        let interface = format!("CC_{:06X}", device.class & 0xff_ffff);
        let subsystem = device
            .subsystem
            .map(|(vendor, device)| format!("{own}&SUBSYS_{device:04X}{vendor:04X}"));
        let mut hardware: Vec<String> = subsystem.into_iter().collect();
        hardware.push(format!("{own}&{interface}"));
        hardware.push(format!("{own}&{class}"));
        let compatible = vec![
            own,
            format!("{vendor}&{interface}"),
            format!("{vendor}&{class}"),
            vendor,
            format!("PCI\\{interface}"),
            format!("PCI\\{class}"),
        ];
        Self {
            hardware,
            compatible,
        }
    }

    /// Identifier score of a model; `None` when it does not match the device. An id with a revision
    /// is assumed to match, and ranks before the same id without.
    pub(super) fn score(&self, model: &Model) -> Option<u32> {
        (0u32..)
            .zip(&model.hardware_ids)
            .filter_map(|(index, id)| {
                let (id, exact) = match id.split_once("&REV_") {
                    Some((id, _)) => (id, 0),
                    None => (id.as_str(), 1),
                };
                let place = |ids: &[String]| {
                    let place = (0u32..).zip(ids).find(|(_, own)| *own == id);
                    place.map(|(place, _)| 2 * place + exact)
                };
                match (place(&self.hardware), place(&self.compatible)) {
                    (Some(place), _) if index == 0 => Some(place),
                    (Some(place), _) => Some(PACKAGE_COMPATIBLE + place),
                    (_, Some(place)) if index == 0 => Some(DEVICE_COMPATIBLE + place),
                    // The index of the package's id counts more than that of the device's.
                    (_, Some(place)) => Some(BOTH_COMPATIBLE + place + (index.min(15) << 8)),
                    _ => None,
                }
            })
            .min()
    }
}

/// Score of the id at this index of a model, for an unknown device.
pub(super) fn score_at(index: usize) -> u32 {
    match index {
        0 => 0,
        _ => PACKAGE_COMPATIBLE,
    }
}
