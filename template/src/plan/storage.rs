//! Services of a Windows image for a machine's disk controllers.
//!
//! Windows 8 and later has the drivers, but its first start on the master demotes those that were
//! not needed (`StartOverride`). XP to 7 find a controller in the CriticalDeviceDatabase. Both are
//! solved by naming the services that must start at boot. An existing service is assumed to support
//! its kind of controller: the devices of a vendor's driver are listed only in its `.inf`, which an
//! image does not always keep. Untested on real Windows: that it starts.

use crate::findings::WindowsFindings;
use crate::machine::{Machine, PciDevice};
use crate::step::CriticalDevice;

/// Setup class of SCSI and RAID controllers.
const CLASS_SCSI: &str = "{4D36E97B-E325-11CE-BFC1-08002BE10318}";
/// Setup class of IDE and AHCI controllers.
const CLASS_IDE: &str = "{4D36E96A-E325-11CE-BFC1-08002BE10318}";

/// A disk controller and the services that can drive it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Controller {
    /// The PCI function; `None` for a controller on Hyper-V's bus.
    pub(super) device: Option<PciDevice>,
    /// Name for messages: `NVMe controller 144d:a808`.
    pub(super) title: String,
    /// Services by preference; one of them is enough.
    any: Vec<&'static str>,
    /// Services that are needed in addition.
    all: &'static [&'static str],
    /// Setup class GUID.
    class: &'static str,
    /// Id of the class in the CriticalDeviceDatabase, such as `PCI#CC_0106`, and the driver of the
    /// whole class.
    class_id: Option<(&'static str, &'static str)>,
}

impl Controller {
    /// Services of the image that drive the controller; empty when it cannot be driven.
    pub(super) fn services(&self, windows: &WindowsFindings) -> Vec<String> {
        let has = |name: &&'static str| -> Option<String> {
            windows
                .storage_services
                .iter()
                .find(|service| service.name.eq_ignore_ascii_case(name))
                .map(|service| service.name.clone())
        };
        let mut services: Vec<String> = self.any.iter().filter_map(has).collect();
        let rest: Vec<String> = self.all.iter().filter_map(has).collect();
        if services.is_empty() || rest.len() != self.all.len() {
            return Vec::new();
        }
        services.extend(rest);
        services
    }

    /// Entries of the CriticalDeviceDatabase, for Windows without a DriverDatabase.
    pub(super) fn critical(&self, services: &[String]) -> Vec<CriticalDevice> {
        let entry = |id: String, service: &String| CriticalDevice {
            id,
            service: service.clone(),
            class_guid: self.class.to_owned(),
        };
        let own = self.device.zip(services.first()).map(|(device, service)| {
            let id = format!("PCI#VEN_{:04X}&DEV_{:04X}", device.vendor, device.device);
            entry(id, service)
        });
        let class = self.class_id.and_then(|(id, serves)| {
            let service = services
                .iter()
                .find(|name| name.eq_ignore_ascii_case(serves))?;
            Some(entry(id.to_owned(), service))
        });
        own.into_iter().chain(class).collect()
    }

    /// True when no driver of any Windows is known for it.
    pub(super) fn is_foreign(&self) -> bool {
        self.any.is_empty()
    }
}

/// Every known disk controller of a machine.
pub(super) fn controllers(machine: &Machine, windows: &WindowsFindings) -> Vec<Controller> {
    let mut found: Vec<Controller> = Vec::new();
    if machine
        .model
        .as_deref()
        .is_some_and(|model| model.starts_with("Microsoft Corporation Virtual Machine"))
    {
        found.push(Controller {
            device: None,
            title: "Hyper-V disk controller".into(),
            any: vec!["storvsc"],
            all: &["vmbus"],
            class: CLASS_SCSI,
            class_id: None,
        });
    }
    for device in &machine.pci {
        if let Some(controller) = controller(*device, windows.version)
            && !found.iter().any(|other| same(other, &controller))
        {
            found.push(controller);
        }
    }
    found
}

/// True for two controllers of the same kind, which need one driver. A controller with the target
/// disk is kept apart.
fn same(a: &Controller, b: &Controller) -> bool {
    let key = |controller: &Controller| {
        controller
            .device
            .map(|d| (d.vendor, d.device, d.class, d.target_disk))
    };
    key(a) == key(b)
}

/// Services for a PCI function with disks (PCI code and ID assignment specification, base class
/// 01).
fn controller(device: PciDevice, version: (u32, u32)) -> Option<Controller> {
    let since_8 = version >= (6, 2);
    let (kind, any, all, class, class_id): (
        &str,
        Vec<&'static str>,
        &'static [&'static str],
        _,
        _,
    ) = match (device.vendor, device.device, device.class >> 8) {
        (0x1af4, 0x1001 | 0x1042, _) => ("virtio disk", vec!["viostor"], &[], CLASS_SCSI, None),
        (0x1af4, 0x1004 | 0x1048, _) => (
            "virtio SCSI controller",
            vec!["vioscsi"],
            &[],
            CLASS_SCSI,
            None,
        ),
        (0x15ad, 0x07c0, _) => (
            "VMware paravirtual controller",
            vec!["pvscsi"],
            &[],
            CLASS_SCSI,
            None,
        ),
        (0x1000, 0x0030, _) => (
            "LSI SCSI controller",
            vec!["LSI_SCSI", "symmpi"],
            &[],
            CLASS_SCSI,
            None,
        ),
        (vendor, _, 0x0101) => (
            "IDE controller",
            if vendor == 0x8086 {
                vec!["intelide", "pciide"]
            } else {
                vec!["pciide"]
            },
            &["atapi"],
            CLASS_IDE,
            Some(("PCI#CC_0101", "pciide")),
        ),
        (vendor, _, 0x0104) => ("RAID controller", raid(vendor), &[], CLASS_SCSI, None),
        (_, _, 0x0106) if since_8 => (
            "AHCI controller",
            vec!["storahci"],
            &[],
            CLASS_IDE,
            Some(("PCI#CC_0106", "msahci")),
        ),
        (vendor, _, 0x0106) => {
            let mut any = vec!["msahci"];
            any.extend(match vendor {
                0x8086 => &["iaStorV"][..],
                0x1022 | 0x1002 => &["amdsata"],
                _ => &[],
            });
            (
                "AHCI controller",
                any,
                &[],
                CLASS_IDE,
                Some(("PCI#CC_0106", "msahci")),
            )
        }
        (vendor, _, 0x0107) => ("SAS controller", sas(vendor), &[], CLASS_SCSI, None),
        (_, _, 0x0108) => ("NVMe controller", vec!["stornvme"], &[], CLASS_SCSI, None),
        (_, _, 0x0100 | 0x0180) => ("disk controller", Vec::new(), &[], CLASS_SCSI, None),
        _ => return None,
    };
    Some(Controller {
        device: Some(device),
        title: format!("{kind} {:04x}:{:04x}", device.vendor, device.device),
        any,
        all,
        class,
        class_id,
    })
}

/// Drivers included in Windows for controllers in RAID mode, by vendor.
fn raid(vendor: u16) -> Vec<&'static str> {
    match vendor {
        0x8086 => vec![
            "iaStorV",
            "iaStorAVC",
            "iaStorAV",
            "iaStorVD",
            "iaStorAC",
            "iaStorA",
            "iaStor",
        ],
        0x1002 | 0x1022 => vec!["amdsbs", "amdsata", "rcbottom"],
        0x1000 | 0x1028 => vec![
            "megasas",
            "megasas2i",
            "megasas35i",
            "MegaSR",
            "percsas2i",
            "percsas3i",
        ],
        0x103c | 0x1590 => vec!["HpSAMD"],
        0x9005 => vec!["arcsas", "SmartSAMD"],
        0x10de => vec!["nvraid", "nvstor"],
        0x1106 => vec!["vsmraid", "VSTXRAID"],
        _ => Vec::new(),
    }
}

/// Drivers included in Windows for SAS controllers, by vendor.
fn sas(vendor: u16) -> Vec<&'static str> {
    match vendor {
        0x1000 | 0x1028 => vec![
            "LSI_SAS",
            "LSI_SAS2",
            "LSI_SAS2i",
            "LSI_SAS3",
            "LSI_SAS3i",
            "LSI_SSS",
            "percsas2i",
            "percsas3i",
        ],
        0x9005 => vec!["arcsas", "SmartSAMD"],
        0x103c | 0x1590 => vec!["HpSAMD", "SmartSAMD"],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_told_apart() {
        for (class, version, want) in [
            (0x010185, (10, 0), "intelide pciide atapi"),
            (0x010601, (10, 0), "storahci"),
            (0x010601, (6, 1), "msahci iaStorV"),
            (0x010802, (10, 0), "stornvme"),
            (
                0x010400,
                (10, 0),
                "iaStorV iaStorAVC iaStorAV iaStorVD iaStorAC iaStorA iaStor",
            ),
            (0x010000, (10, 0), ""),
        ] {
            let device = PciDevice {
                vendor: 0x8086,
                device: 1,
                class,
                ..PciDevice::default()
            };
            let found = controller(device, version).unwrap();
            let names: Vec<&str> = found.any.iter().chain(found.all).copied().collect();
            assert_eq!(names.join(" "), want, "{class:x}");
        }
        // A network card, a USB controller, a card reader.
        for class in [0x020000, 0x0c0330, 0x080501, 0] {
            assert_eq!(
                controller(
                    PciDevice {
                        class,
                        ..PciDevice::default()
                    },
                    (10, 0)
                ),
                None
            );
        }
    }
}
