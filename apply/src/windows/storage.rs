//! Step that makes the services of disk controllers start at boot.
//!
//! Windows 8 and later has the drivers and disables those it does not need by a subkey
//! `StartOverride`; XP to 7 starts a service for a device only if its CriticalDeviceDatabase names
//! the device.

use super::hives::{Hives, dword, sz};
use super::registry::Registry;
use crate::engine::Task;
use crate::error::{Result, StepError};
use template::step::CriticalDevice;

/// Step that sets `Start` 0 and removes `StartOverride` of these services, in every control set
/// from which Windows may start.
pub(crate) fn task<'a>(
    partition: u32,
    services: &'a [String],
    critical_devices: &'a [CriticalDevice],
) -> Box<dyn Task + 'a> {
    Box::new(Registry::new(partition, move |hives: &mut Hives| {
        for (index, set) in hives.control_sets()?.iter().enumerate() {
            for service in services {
                let key = format!(r"{set}\Services\{service}");
                if hives.has("SYSTEM", &key)? {
                    hives.set("SYSTEM", &key, "Start", dword(0))?;
                    hives.remove_key("SYSTEM", &format!(r"{key}\StartOverride"))?;
                } else if index == 0 {
                    return Err(StepError::refused(
                        format!("the master has no service {service}"),
                        "give the template a driver for this controller",
                    ));
                }
            }
            for device in critical_devices {
                critical_device(hives, set, device)?;
            }
        }
        Ok(())
    }))
}

/// Adds one entry to the CriticalDeviceDatabase.
pub(crate) fn critical_device(hives: &mut Hives, set: &str, device: &CriticalDevice) -> Result<()> {
    let key = format!(r"{set}\Control\CriticalDeviceDatabase\{}", device.id);
    hives.set("SYSTEM", &key, "Service", sz(&device.service))?;
    hives.set("SYSTEM", &key, "ClassGUID", sz(&device.class_guid))
}
