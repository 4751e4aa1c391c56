//! What is known of a machine when names are handed out and its plan is made, and the files its template names.
//!
//! Values only; the console fills them in from an agent's facts and from its own disk.

use crate::inf::{self, Inf, InfError, Program};
use crate::step::Payload;
use facts::Mac;
use facts::identity::Evidence;
use serde::{Deserialize, Serialize};

/// How the machine starts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Firmware {
    /// Nobody knows.
    #[default]
    Unknown,
    /// BIOS.
    Bios,
    /// UEFI.
    Uefi,
}

/// A PCI function.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct PciDevice {
    /// Vendor.
    pub vendor: u16,
    /// Device.
    pub device: u16,
    /// Base class, subclass and programming interface, as sysfs has it: `0x010802`.
    pub class: u32,
    /// Subsystem vendor and device.
    #[serde(default)]
    pub subsystem: Option<(u16, u16)>,
    /// The disk that is deployed to hangs below it.
    #[serde(default)]
    pub target_disk: bool,
}

/// One machine.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// What the console calls it, for messages.
    pub id: String,
    /// The console's lasting id of it. Who a machine is was decided where it was given.
    #[serde(default)]
    pub target: Option<String>,
    /// SMBIOS UUID.
    #[serde(default)]
    pub uuid: Option<String>,
    /// SMBIOS serial number.
    #[serde(default)]
    pub serial: Option<String>,
    /// SMBIOS asset tag.
    #[serde(default)]
    pub asset: Option<String>,
    /// SMBIOS vendor and product.
    #[serde(default)]
    pub model: Option<String>,
    /// How it starts.
    #[serde(default)]
    pub firmware: Firmware,
    /// Every network card.
    #[serde(default)]
    pub macs: Vec<Mac>,
    /// The card it was booted and deployed through.
    #[serde(default)]
    pub boot_mac: Option<Mac>,
    /// PCI functions; empty when nobody knows.
    #[serde(default)]
    pub pci: Vec<PciDevice>,
    /// Twelve random bytes: the source of identities for a machine that has no binding yet.
    #[serde(default)]
    pub seed: [u8; 12],
}

impl Machine {
    /// The card the machine is known by: the one it booted through, its first otherwise.
    pub fn mac(&self) -> Option<Mac> {
        self.boot_mac.or_else(|| self.macs.first().copied())
    }

    /// Identity values of the machine.
    pub fn evidence(&self) -> Evidence {
        let cards: Vec<String> = self.all_macs().iter().map(Mac::to_string).collect();
        let cards = cards.iter().map(String::as_str);
        Evidence::read(self.uuid.as_deref(), self.serial.as_deref(), cards)
    }

    /// Every card, the one it booted through first.
    pub fn all_macs(&self) -> Vec<Mac> {
        let mut all: Vec<Mac> = self.boot_mac.into_iter().collect();
        for mac in &self.macs {
            if !all.contains(mac) {
                all.push(*mac);
            }
        }
        all
    }
}

/// The files of a template, resolved by the console: one entry for each `[[copy]]` and `[[driver]]`, in their order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Files {
    /// Files of each copy; of a folder every file below it.
    pub copies: Vec<Vec<CopiedFile>>,
    /// Each driver package.
    pub drivers: Vec<DriverPackage>,
}

/// A file of a copy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CopiedFile {
    /// Path below the copied folder, `/` between folders; empty when the copy is this one file.
    pub relative: String,
    /// Content.
    pub payload: Payload,
}

/// A driver package.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DriverPackage {
    /// Every file of the folder.
    pub files: Vec<PackageFile>,
    /// Every `.inf` of a driver, read, with its name inside the package.
    pub infs: Vec<(String, Inf)>,
}

impl DriverPackage {
    /// True for files whose content [`Self::add`] has to have, by their names.
    pub fn looks_into(name: &str) -> bool {
        matches!(kind(name).as_str(), "inf" | "sys" | "dll" | "exe")
    }

    /// Adds a file: its name inside the package, `/` between folders, and its content where that is [looked
    /// into](Self::looks_into). An `.inf` that is no driver's, such as the `AUTORUN.INF` of an installer, is a file like any
    /// other.
    ///
    /// # Errors
    /// An `.inf` that is too large to be read.
    pub fn add(
        &mut self,
        name: &str,
        payload: Payload,
        content: Option<&[u8]>,
    ) -> Result<(), InfError> {
        let mut program = None;
        if kind(name) == "inf" {
            match inf::read(content.unwrap_or_default()) {
                Ok(inf) => self.infs.push((name.to_owned(), inf)),
                Err(InfError::Signature | InfError::NoDriver) => {}
                Err(error @ InfError::Large(_)) => return Err(error),
            }
        } else {
            program = content.and_then(Program::read);
        }
        self.files.push(PackageFile {
            name: name.to_owned(),
            payload,
            program,
        });
        Ok(())
    }
}

/// What a file's name ends with, in small letters.
fn kind(name: &str) -> String {
    name.rsplit_once('.')
        .map(|(_, kind)| kind.to_ascii_lowercase())
        .unwrap_or_default()
}

/// A file of a driver package.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PackageFile {
    /// Name inside the package, `/` between folders.
    pub name: String,
    /// Content.
    pub payload: Payload,
    /// What its headers say; `None` for what is no program.
    #[serde(default)]
    pub program: Option<Program>,
}
