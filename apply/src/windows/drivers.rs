//! Driver packages: staged for first boot, or installed as the boot driver that a machine needs to
//! start at all.
//!
//! The kernel needs three things before it can read its disk: the `.sys` file, its service, and the
//! entry that ties the device to the service. The package itself is installed at first boot.
//! libguestfs found, for its virtio drivers, the values that Windows 8 and later need in the
//! DriverDatabase. Not tested on real Windows.

use super::acl::{self, Access};
use super::hives::{Hives, binary, dword, expand_sz, multi_sz, sz};
use super::paths;
use super::storage::critical_device;
use crate::context::Context;
use crate::copy::lies_there;
use crate::engine::{State, Task};
use crate::error::{Result, StepError};
use crate::guest::Guest;
use template::step::{CriticalDevice, DriverFile, Payload};

/// Folder in which first boot looks for packages.
const STAGE: &str = r"C:\ProgramData\diskcast\drivers";
/// Setup class of SCSI and RAID controllers.
const SCSI_CLASS: &str = "{4D36E97B-E325-11CE-BFC1-08002BE10318}";
/// Value of a hardware id in the driver database: the package serves the device.
const SERVED: [u8; 4] = [0x01, 0xff, 0, 0];
/// Name of the configuration in the driver database.
const CONFIGURATION: &str = "diskcast";

/// Step that stages a package, which first boot installs.
pub(crate) struct StageDriver<'a> {
    pub(crate) partition: u32,
    pub(crate) name: &'a str,
    pub(crate) files: &'a [DriverFile],
}

impl StageDriver<'_> {
    /// All files with their paths on the volume.
    fn places(&self, guest: &Guest) -> Result<Vec<(String, &Payload)>> {
        let mut found = Vec::new();
        for file in self.files {
            let below = file.name.replace('/', r"\");
            let path = paths::guest_path(guest, &format!(r"{STAGE}\{}\{below}", self.name))?;
            found.push((path, &file.payload));
        }
        Ok(found)
    }
}

impl Task for StageDriver<'_> {
    fn check(&mut self, context: &mut Context<'_>) -> Result<State> {
        let guest = context.root(self.partition)?;
        missing(&guest, &self.places(&guest)?)
    }

    fn apply(&mut self, context: &mut Context<'_>) -> Result<()> {
        let guest = context.root(self.partition)?;
        for (path, payload) in self.places(&guest)? {
            put(context, &guest, &path, payload, Access::Private)?;
        }
        Ok(())
    }
}

fn missing(guest: &Guest, places: &[(String, &Payload)]) -> Result<State> {
    for (path, payload) in places {
        if !lies_there(guest, path, payload)? {
            return Ok(State::Needed(format!(
                "{path} is not there, or is another one"
            )));
        }
    }
    Ok(State::Done)
}

/// Puts a file with these access rights; missing folders get the same rights.
pub(super) fn put(
    context: &Context<'_>,
    guest: &Guest,
    path: &str,
    payload: &Payload,
    access: Access,
) -> Result<()> {
    let folder = path.rsplit_once('/').map_or("/", |(folder, _)| folder);
    acl::create_folders(guest, folder, access)?;
    let source = context.payload(payload)?;
    let owner = crate::guest::Owner::root(0o600);
    crate::copy::put(guest, path, payload, source, owner, &|| context.cancelled())?;
    guest.set_attribute(path, acl::ATTRIBUTE, &access.descriptor(false))
}

/// Step that installs a driver without which the machine does not start. The plan has chosen the
/// file of the package.
pub(crate) struct BootDriver<'a> {
    pub(crate) partition: u32,
    pub(crate) inf: &'a str,
    pub(crate) service: &'a str,
    pub(crate) binary: &'a str,
    pub(crate) program: &'a DriverFile,
    pub(crate) hardware_ids: &'a [String],
}

impl BootDriver<'_> {
    /// Path of the file among the system's drivers.
    fn place(&self, guest: &Guest) -> Result<String> {
        paths::check_name(self.binary)
            .map_err(|why| StepError::Order(format!("{:?}: {why}", self.binary)))?;
        let windows = paths::windows_folder(guest)?;
        paths::walk(guest, &windows, &["System32", "drivers", self.binary])
    }

    fn edit(&self, hives: &mut Hives) -> Result<()> {
        let sets = hives.control_sets()?;
        for set in &sets {
            let service = format!(r"{set}\Services\{}", self.service);
            for (name, value) in [
                ("Type", dword(1)),
                ("Start", dword(0)),
                ("ErrorControl", dword(1)),
                ("Group", sz("SCSI miniport")),
                (
                    "ImagePath",
                    expand_sz(&format!(r"system32\drivers\{}", self.binary)),
                ),
            ] {
                hives.set("SYSTEM", &service, name, value)?;
            }
            hives.remove_key("SYSTEM", &format!(r"{service}\StartOverride"))?;
        }
        if hives.has("SYSTEM", "DriverDatabase")? {
            return self.driver_database(hives);
        }
        for set in &sets {
            for id in self.hardware_ids {
                let device = CriticalDevice {
                    id: id.replace('\\', "#"),
                    service: self.service.to_owned(),
                    class_guid: SCSI_CLASS.to_owned(),
                };
                critical_device(hives, set, &device)?;
            }
        }
        Ok(())
    }

    fn driver_database(&self, hives: &mut Hives) -> Result<()> {
        // Windows uses lower-case keys here.
        let inf = self.inf.to_lowercase();
        // The label is not `oemN.inf_hash`: Windows makes that name itself when first boot installs
        // the package.
        let label = format!("{inf}_diskcast");
        let file = format!(r"DriverDatabase\DriverInfFiles\{inf}");
        hives.set("SYSTEM", &file, "", multi_sz(&[&label]))?;
        hives.set("SYSTEM", &file, "Active", sz(&label))?;
        hives.set(
            "SYSTEM",
            &file,
            "Configurations",
            multi_sz(&[CONFIGURATION]),
        )?;
        let package = format!(r"DriverDatabase\DriverPackages\{label}");
        hives.set("SYSTEM", &package, "Version", binary(&version()))?;
        let configuration = format!(r"{package}\Configurations\{CONFIGURATION}");
        hives.set("SYSTEM", &configuration, "ConfigFlags", dword(0))?;
        hives.set("SYSTEM", &configuration, "Service", sz(self.service))?;
        for id in self.hardware_ids {
            let (bus, device) = id.split_once('\\').ok_or_else(|| {
                StepError::Order(format!(
                    "{id}: a hardware id has the form PCI\\VEN_1AF4&DEV_1042"
                ))
            })?;
            let device_id = format!(r"DriverDatabase\DeviceIds\{bus}\{device}");
            hives.set("SYSTEM", &device_id, &inf, binary(&SERVED))?;
            let descriptor = format!(r"{package}\Descriptors\{bus}\{device}");
            hives.set("SYSTEM", &descriptor, "Configuration", sz(CONFIGURATION))?;
        }
        Ok(())
    }

    fn edited(&self, context: &mut Context<'_>) -> Result<Hives> {
        let mut hives = Hives::new(context.root(self.partition)?)?;
        self.edit(&mut hives)?;
        Ok(hives)
    }
}

/// 48 bytes that Windows 10 and later require for a package: flags and the setup class; date and
/// version are zero.
fn version() -> [u8; 48] {
    let mut bytes = [0; 48];
    bytes[..8].copy_from_slice(&[0, 0xff, 9, 0, 0, 0, 0, 0]);
    bytes[8..24].copy_from_slice(&[
        0x7b, 0xe9, 0x36, 0x4d, 0x25, 0xe3, 0xce, 0x11, 0xbf, 0xc1, 0x08, 0x00, 0x2b, 0xe1, 0x03,
        0x18,
    ]);
    bytes
}

impl Task for BootDriver<'_> {
    fn check(&mut self, context: &mut Context<'_>) -> Result<State> {
        let guest = context.root(self.partition)?;
        let place = (self.place(&guest)?, &self.program.payload);
        match missing(&guest, &[place])? {
            State::Done => Ok(self.edited(context)?.state()),
            needed => Ok(needed),
        }
    }

    fn apply(&mut self, context: &mut Context<'_>) -> Result<()> {
        let guest = context.root(self.partition)?;
        let place = self.place(&guest)?;
        if !lies_there(&guest, &place, &self.program.payload)? {
            put(
                context,
                &guest,
                &place,
                &self.program.payload,
                Access::Ordinary,
            )?;
        }
        drop(guest);
        self.edited(context)?.save()
    }
}
