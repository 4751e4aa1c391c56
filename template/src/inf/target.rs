//! Decorations of models sections: the Windows versions each section is for.
//!
//! Sources: "INF Manufacturer section" and "Combining platform extensions with operating system
//! versions" of the Windows driver documentation. A section without an architecture is for 32-bit
//! Intel only (Windows Server 2003 and later).

use crate::findings::{Arch, ProductType};
use serde::{Deserialize, Serialize};

/// Major version, minor version and build.
pub type Version = (u32, u32, u32);

/// The facts of a Windows that decide which drivers fit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Platform {
    /// Architecture.
    pub arch: Arch,
    /// Version.
    pub version: Version,
    /// Workstation or server.
    pub product_type: ProductType,
    /// Product suites: flags `VER_SUITE_*`.
    pub suites: u32,
}

/// The decoration of a models section: `NTamd64.10.0.1..16299`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// Required architecture.
    pub arch: Arch,
    /// Lowest version.
    pub version: Version,
    /// Required product type; `None` for any.
    pub product_type: Option<ProductType>,
    /// Required product suites: a Windows must have all of them.
    pub suites: u32,
    /// The architecture is written out; such a section takes precedence over one without.
    explicit: bool,
}

/// The reason why a models section is not for a Windows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unfit {
    /// The section is for another architecture.
    Arch(Arch),
    /// The section is for a later version.
    Later(Version),
    /// The section is for another product type, or for a suite this Windows does not have.
    Product(Option<ProductType>),
}

/// Rank of a decoration among those that fit; the largest wins. Versions count most: a section for
/// a version takes precedence over one for a product type or suite.
pub type Closeness = (Version, bool, u32, bool);

impl Target {
    /// Reads a decoration; the empty one stands for an undecorated section. `None` for
    /// architectures that are not deployed and for malformed decorations.
    pub(super) fn read(decoration: &str) -> Option<Self> {
        let mut parts = decoration.split('.').map(str::trim);
        let (arch, explicit) = match parts
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase()
            .as_str()
        {
            "" | "nt" => (Arch::X86, false),
            "ntx86" => (Arch::X86, true),
            "ntamd64" => (Arch::X64, true),
            "ntarm64" => (Arch::Arm64, true),
            _ => return None,
        };
        // Major version, minor version, product type, suite mask, build; any of them may be left out.
        let mut numbers = [0u32; 5];
        for (index, part) in parts.enumerate() {
            let number = match part {
                "" => 0,
                part => super::number(part)?,
            };
            *numbers.get_mut(index)? = number;
        }
        let [major, minor, product_type, suites, build] = numbers;
        let product_type = match product_type {
            0 => None,
            number => Some(ProductType::of_number(number)?),
        };
        Some(Self {
            arch,
            version: (major, minor, build),
            product_type,
            suites,
            explicit,
        })
    }

    /// The reason why the section is not for this Windows; `None` when it fits.
    pub fn unfit(&self, platform: &Platform) -> Option<Unfit> {
        let other_product = self
            .product_type
            .is_some_and(|wanted| wanted != platform.product_type);
        if self.arch != platform.arch {
            Some(Unfit::Arch(self.arch))
        } else if self.version > platform.version {
            Some(Unfit::Later(self.version))
        } else if other_product || self.suites & platform.suites != self.suites {
            Some(Unfit::Product(self.product_type))
        } else {
            None
        }
    }

    /// Rank of the section among those that fit the same Windows.
    pub fn closeness(&self) -> Closeness {
        (
            self.version,
            self.product_type.is_some(),
            self.suites.count_ones(),
            self.explicit,
        )
    }
}
