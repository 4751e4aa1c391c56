//! Facts of a machine that names and plans are made from, and the files its template names.
//!
//! Values only; the console fills them in from an agent's facts and from its own disk.

use crate::inf::{self, Inf, InfError, Program};
use crate::step::Payload;
use facts::Mac;
use facts::identity::Evidence;
use serde::{Deserialize, Serialize};

/// Firmware type of a machine.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Firmware {
    /// The type is not known.
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
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Base class, subclass and programming interface, as sysfs writes them: `0x010802`.
    pub class: u32,
    /// Subsystem vendor id and subsystem device id.
    #[serde(default)]
    pub subsystem: Option<(u16, u16)>,
    /// The target disk is attached to this controller.
    #[serde(default)]
    pub target_disk: bool,
}

/// One machine.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The console's name for the machine, for messages.
    pub id: String,
    /// The console's permanent id of the machine. The machine was identified when it got the id.
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
    /// SMBIOS manufacturer and product name.
    #[serde(default)]
    pub model: Option<String>,
    /// Firmware type.
    #[serde(default)]
    pub firmware: Firmware,
    /// MAC addresses of all network cards.
    #[serde(default)]
    pub macs: Vec<Mac>,
    /// The card the machine booted and is deployed through.
    #[serde(default)]
    pub boot_mac: Option<Mac>,
    /// PCI functions; empty when they are not known.
    #[serde(default)]
    pub pci: Vec<PciDevice>,
    /// Twelve random bytes, the source of identities for a machine that has no binding yet.
    #[serde(default)]
    pub seed: [u8; 12],
}

impl Machine {
    /// The card the machine is known by: the one it booted through, otherwise its first.
    pub fn mac(&self) -> Option<Mac> {
        self.boot_mac.or_else(|| self.macs.first().copied())
    }

    /// Identity values of the machine.
    pub fn evidence(&self) -> Evidence {
        let cards: Vec<String> = self.all_macs().iter().map(Mac::to_string).collect();
        let cards = cards.iter().map(String::as_str);
        Evidence::read(self.uuid.as_deref(), self.serial.as_deref(), cards)
    }

    /// All cards, the one the machine booted through first.
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

/// Files of a template, resolved by the console: one entry for each `[[copy]]` and `[[driver]]`, in
/// their order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Files {
    /// Files of each copy. A copied folder gives every file below it.
    pub copies: Vec<Vec<CopiedFile>>,
    /// Driver packages.
    pub drivers: Vec<DriverPackage>,
}

/// A file of a copy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CopiedFile {
    /// Path below the copied folder, with `/` between folders; empty when the copy is a single
    /// file.
    pub relative: String,
    /// Content of the file.
    pub payload: Payload,
}

/// A driver package.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DriverPackage {
    /// Every file of the folder.
    pub files: Vec<PackageFile>,
    /// Parsed `.inf` files of drivers, with their names inside the package.
    pub infs: Vec<(String, Inf)>,
}

impl DriverPackage {
    /// True when [`Self::add`] needs the content of a file with this name.
    pub fn looks_into(name: &str) -> bool {
        matches!(kind(name).as_str(), "inf" | "sys" | "dll" | "exe")
    }

    /// Adds a file by its name inside the package, with `/` between folders, and with its content
    /// where [`Self::looks_into`] requires it. An `.inf` that installs no driver, such as the
    /// `AUTORUN.INF` of an installer, is added as a plain file.
    ///
    /// # Errors
    /// An `.inf` is too large to be read.
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

/// File name extension in lower case.
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
    /// Content of the file.
    pub payload: Payload,
    /// Facts from its headers; `None` when it is not a program.
    #[serde(default)]
    pub program: Option<Program>,
}
