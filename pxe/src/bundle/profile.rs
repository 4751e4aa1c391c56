//! Profiles: sets of drivers and tools for kinds of machines.
//!
//! Folders of the kernel's own tree are better rules than lists of modules: a driver that a newer
//! kernel adds beside its siblings is included. Other modules are included only if a named one
//! needs them.
//!
//! | profile | kernel | measured on Debian 12 (6.1), with the tools |
//! |---|---|---|
//! | `full` | generic | every wired network card, disk controller and keyboard the kernel knows |
//! | `desktop` | generic | the same without server network cards, Fibre Channel and XFS, btrfs |
//! | `vm` | cloud | virtual machines; boots in seconds |

use super::path::base;
use std::fmt;
use std::str::FromStr;

/// A set of drivers.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash, Ord, PartialOrd)]
pub enum Profile {
    /// All real machines.
    Full,
    /// Common PCs: smaller, so a room starts sooner.
    Desktop,
    /// Virtual machines, and tests.
    Vm,
}

/// Rules for modules: folders and names below `lib/modules/VERSION/kernel/`.
struct Rules {
    /// Folders whose modules are all selected.
    folders: &'static [&'static str],
    /// Folders and files that are left out, unless another module needs them.
    not: &'static [&'static str],
    /// Modules selected by name.
    names: &'static [&'static str],
}

/// Modules of every profile: file systems, their character sets, virtual machines, disks,
/// keyboards.
const COMMON: Rules = Rules {
    folders: &[
        "drivers/virtio/",
        "drivers/net/hyperv/",
        "drivers/net/vmxnet3/",
        "drivers/nvme/host/",
        "drivers/hv/",
    ],
    not: &[
        "drivers/nvme/host/nvme-fc.ko",
        "drivers/nvme/host/nvme-rdma.ko",
        "drivers/nvme/host/nvme-tcp.ko",
    ],
    names: &[
        // Network in virtual machines.
        "virtio_net",
        "net_failover",
        "xen_netfront",
        "e1000",
        "e1000e",
        "8139cp",
        "8139too",
        "pcnet32",
        "af_packet",
        // Disks.
        "sd_mod",
        "sr_mod",
        "cdrom",
        "sg",
        "ahci",
        "ata_piix",
        "ata_generic",
        "virtio_blk",
        "virtio_scsi",
        "vmw_pvscsi",
        "hv_storvsc",
        "xen_blkfront",
        "mptspi",
        // Firmware, time, entropy.
        "efivarfs",
        "rtc_cmos",
        "virtio_rng",
        "psmouse",
        "hyperv_keyboard",
        "virtio_input",
        "hid_hyperv",
        // File systems of master images and of volumes that templates write to.
        "ext4",
        "vfat",
        "exfat",
        "fuse",
        "loop",
        "nls_cp437",
        "nls_ascii",
        "nls_iso8859_1",
        "nls_utf8",
    ],
};

/// Modules of real PCs.
const PC: Rules = Rules {
    folders: &[
        "drivers/net/ethernet/",
        "drivers/net/phy/",
        "drivers/net/mdio/",
        "drivers/net/usb/",
        "drivers/ata/",
        "drivers/usb/host/",
        "drivers/usb/storage/",
        "drivers/mmc/",
        "drivers/ufs/",
        "drivers/hid/",
    ],
    not: &[
        // Server and data centre cards: tens of megabytes.
        "drivers/net/ethernet/mellanox/",
        "drivers/net/ethernet/qlogic/",
        "drivers/net/ethernet/chelsio/",
        "drivers/net/ethernet/cavium/",
        "drivers/net/ethernet/netronome/",
        "drivers/net/ethernet/huawei/",
        "drivers/net/ethernet/pensando/",
        "drivers/net/ethernet/fungible/",
        "drivers/net/ethernet/amazon/",
        "drivers/net/ethernet/google/",
        "drivers/net/ethernet/microsoft/",
        "drivers/net/ethernet/sfc/",
        "drivers/net/ethernet/emulex/",
        "drivers/net/ethernet/brocade/",
        "drivers/net/ethernet/cisco/",
        "drivers/net/ethernet/broadcom/bnx2x/",
        "drivers/net/ethernet/broadcom/bnxt/",
        "drivers/net/ethernet/intel/ice/",
        "drivers/net/ethernet/intel/i40e/",
        "drivers/net/ethernet/intel/iavf/",
        "drivers/net/ethernet/intel/fm10k/",
        // Mobile phones and modems, not Ethernet.
        "drivers/net/usb/hso.ko",
        "drivers/net/usb/cdc-phonet.ko",
        "drivers/hid/amd-sfh-hid/",
        "drivers/hid/intel-ish-hid/",
        "drivers/hid/surface-hid/",
    ],
    names: &[
        "vmd", // Intel RST: the disks of many laptops are behind it
        "uas",
        "i2c_hid_acpi", // keyboards of tablets
        "intel_lpss_pci",
        "i2c_designware_platform",
        "thunderbolt_net",
        "mii",
        "isofs",
        "udf",
    ],
};

/// Modules for servers and unusual disks, beside [`PC`], whose exclusions do not apply to `full`.
const SERVER: Rules = Rules {
    folders: &[
        "drivers/scsi/",
        "drivers/message/fusion/",
        "drivers/block/mtip32xx/",
        "drivers/hid/",
        "drivers/pci/controller/",
    ],
    not: &["drivers/hid/amd-sfh-hid/", "drivers/hid/intel-ish-hid/"],
    names: &[
        "btrfs", "xfs", "raid1", "raid0", "raid10", "raid456", "dm_mod", "squashfs",
    ],
};

/// Modules that are always loaded, because no device alias leads to them. The order matters:
/// character sets before file systems.
const ALWAYS: &[&str] = &[
    "sd_mod",
    "efivarfs",
    "loop",
    "fuse",
    "nls_cp437",
    "nls_ascii",
    "nls_iso8859_1",
    "nls_utf8",
    "ext4",
    "vfat",
    "exfat",
];
const ALWAYS_FULL_TOO: &[&str] = &["xfs", "btrfs"];

/// Programs in every pre-OS for templates: they grow and repair file systems.
const TOOLS: &[Tool] = &[
    Tool::new("ntfs-3g", &["ntfs-3g", "ntfsresize", "ntfsfix", "ntfsinfo"]),
    Tool::new(
        "e2fsprogs",
        &["e2fsck", "resize2fs", "tune2fs", "mke2fs", "dumpe2fs"],
    ),
    Tool::new("dosfstools", &["fsck.fat", "mkfs.fat"]),
    Tool::new("mount", &["losetup"]),
];

/// Programs for the file systems that only [`SERVER`] has modules for; these grow while mounted.
const TOOLS_FULL_TOO: &[Tool] = &[
    Tool::new("xfsprogs", &["xfs_growfs"]),
    Tool::new("btrfs-progs", &["btrfs"]),
];

/// A shell for `diskcast.shell`.
const SHELL: Tool = Tool::new("busybox-static", &["busybox"]);

/// Firmware packages of Debian with files of network cards and disk controllers. All are non-free:
/// used if the source has them, never required.
const FIRMWARE: &[&str] = &[
    "firmware-realtek",
    "firmware-misc-nonfree",
    "firmware-bnx2",
    "firmware-bnx2x",
    "firmware-qlogic",
    "firmware-netxen",
    "firmware-myricom",
    "firmware-cavium",
    "firmware-intel-misc",
];

/// Programs of one package.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tool {
    pub(crate) package: &'static str,
    /// Names of programs in `usr/bin` or `usr/sbin`.
    pub(crate) programs: &'static [&'static str],
}

impl Tool {
    const fn new(package: &'static str, programs: &'static [&'static str]) -> Self {
        Self { package, programs }
    }
}

impl Profile {
    /// All profiles, in the order the help shows them.
    pub const ALL: [Self; 3] = [Self::Full, Self::Desktop, Self::Vm];

    /// The word for options and files.
    pub fn word(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Desktop => "desktop",
            Self::Vm => "vm",
        }
    }

    /// The package that depends on the newest kernel of its kind.
    pub(crate) fn kernel_package(self) -> &'static str {
        match self {
            Self::Full | Self::Desktop => "linux-image-amd64",
            Self::Vm => "linux-image-cloud-amd64",
        }
    }

    /// True for the name of a versioned kernel package of the right kind.
    pub(crate) fn takes_kernel(self, package: &str) -> bool {
        let Some(rest) = package.strip_prefix("linux-image-") else {
            return false;
        };
        let Some(version) = rest.strip_suffix("-amd64") else {
            return false;
        };
        let (version, cloud) = match version.strip_suffix("-cloud") {
            Some(version) => (version, true),
            None => (version, false),
        };
        let plain = !version.ends_with("-rt") && version.starts_with(|c: char| c.is_ascii_digit());
        plain && cloud == (self == Self::Vm)
    }

    /// True when the rules select this module: `path` below `lib/modules/VERSION`.
    pub(crate) fn wants(self, name: &str, path: &str) -> bool {
        let path = path.strip_prefix("kernel/").unwrap_or(path);
        let (all, excluded): (&[&Rules], &[&Rules]) = match self {
            Self::Full => (&[&COMMON, &PC, &SERVER], &[&COMMON, &SERVER]),
            Self::Desktop => (&[&COMMON, &PC], &[&COMMON, &PC]),
            Self::Vm => (&[&COMMON], &[&COMMON]),
        };
        let below = |list: &[&str]| list.iter().any(|part| path.starts_with(part));
        if all.iter().any(|rules| rules.names.contains(&name))
            || self.always().any(|known| known == name)
        {
            return true;
        }
        all.iter().any(|rules| below(rules.folders))
            && !excluded.iter().any(|rules| below(rules.not))
    }

    /// Modules to list in `/etc/diskcast/modules`.
    pub(crate) fn always(self) -> impl Iterator<Item = &'static str> {
        let too = match self {
            Self::Full => ALWAYS_FULL_TOO,
            Self::Desktop | Self::Vm => &[],
        };
        ALWAYS.iter().chain(too).copied()
    }

    /// Packages of programs, with the programs.
    pub(crate) fn tools(self, shell: bool) -> impl Iterator<Item = &'static Tool> {
        let too = match self {
            Self::Full => TOOLS_FULL_TOO,
            Self::Desktop | Self::Vm => &[],
        };
        TOOLS.iter().chain(too).chain(shell.then_some(&SHELL))
    }

    /// Firmware packages that are used if the source has them.
    pub(crate) fn firmware_packages(self) -> &'static [&'static str] {
        match self {
            Self::Full | Self::Desktop => FIRMWARE,
            Self::Vm => &[],
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|profile| profile.word() == text)
            .ok_or_else(|| format!("`{text}` is no profile: full, desktop or vm"))
    }
}

/// True for the name of a library package: Debian's begin with `lib`, except zlib's.
pub(crate) fn is_library(package: &str) -> bool {
    package.starts_with("lib") || package == "zlib1g"
}

/// True for files of a user-land package that are kept while packages are read: programs,
/// libraries, settings.
pub(crate) fn keeps(path: &str) -> bool {
    let library = path.starts_with("usr/lib") && base(path).contains(".so");
    path.starts_with("usr/bin/")
        || path.starts_with("usr/sbin/")
        || library && !path.contains("/gconv/")
        || path == "etc/mke2fs.conf"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_of_each_kind() {
        for (package, full, vm) in [
            ("linux-image-6.1.0-56-amd64", true, false),
            ("linux-image-6.1.0-56-cloud-amd64", false, true),
            ("linux-image-6.1.0-56-rt-amd64", false, false),
            ("linux-image-6.12.9+bpo-amd64", true, false),
            ("linux-image-amd64", false, false),
            ("linux-image-6.1.0-56-amd64-dbg", false, false),
            ("linux-image-6.1.0-56-arm64", false, false),
        ] {
            assert_eq!(Profile::Full.takes_kernel(package), full, "{package}");
            assert_eq!(Profile::Vm.takes_kernel(package), vm, "{package}");
        }
    }

    #[test]
    fn drivers_by_profile() {
        for (path, full, desktop, vm) in [
            (
                "kernel/drivers/net/ethernet/realtek/r8169.ko",
                true,
                true,
                false,
            ),
            (
                "kernel/drivers/net/ethernet/mellanox/mlx5/core/mlx5_core.ko",
                true,
                false,
                false,
            ),
            (
                "kernel/drivers/net/ethernet/intel/e1000e/e1000e.ko",
                true,
                true,
                true,
            ),
            (
                "kernel/drivers/net/wireless/ath/ath9k/ath9k.ko",
                false,
                false,
                false,
            ),
            (
                "kernel/drivers/scsi/megaraid/megaraid_sas.ko",
                true,
                false,
                false,
            ),
            ("kernel/drivers/pci/controller/vmd.ko", true, true, false),
            ("kernel/fs/ext4/ext4.ko", true, true, true),
            ("kernel/fs/xfs/xfs.ko", true, false, false),
            ("kernel/drivers/nvme/host/nvme.ko", true, true, true),
            ("kernel/drivers/nvme/host/nvme-fc.ko", false, false, false),
        ] {
            let name = base(path).trim_end_matches(".ko");
            let name = super::super::modinfo::normal(name);
            for (profile, wanted) in [
                (Profile::Full, full),
                (Profile::Desktop, desktop),
                (Profile::Vm, vm),
            ] {
                assert_eq!(profile.wants(&name, path), wanted, "{profile} {path}");
            }
        }
    }

    #[test]
    fn words() {
        for profile in Profile::ALL {
            assert_eq!(profile.word().parse(), Ok(profile));
        }
        assert!("server".parse::<Profile>().is_err());
    }
}
