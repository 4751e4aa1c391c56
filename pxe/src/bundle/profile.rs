//! Which drivers and tools for which machines.
//!
//! Folders of the kernel's own tree say more than lists of modules: a driver that a newer kernel adds beside its
//! siblings comes along. What is not named comes only because something named needs it.
//!
//! | profile | kernel | measured on Debian 12 (6.1), with the tools |
//! |---|---|---|
//! | `full` | generic | every wired network card, disk controller and keyboard the kernel knows |
//! | `desktop` | generic | the same without server network cards, Fibre Channel and XFS, btrfs |
//! | `vm` | cloud | virtual machines; boots in seconds |

use super::path::base;
use std::fmt;
use std::str::FromStr;

/// A choice of drivers.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash, Ord, PartialOrd)]
pub enum Profile {
    /// All real machines.
    Full,
    /// Common PCs: smaller, so a room comes up sooner.
    Desktop,
    /// Virtual machines, and tests.
    Vm,
}

/// Folders and modules below `lib/modules/VERSION/kernel/`.
struct Rules {
    /// Every module below these.
    folders: &'static [&'static str],
    /// But none below these, unless needed.
    not: &'static [&'static str],
    /// And these by name.
    names: &'static [&'static str],
}

/// What every profile has: file systems, their tables of letters, virtual machines, disks, keyboards.
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
        // network in virtual machines
        "virtio_net",
        "net_failover",
        "xen_netfront",
        "e1000",
        "e1000e",
        "8139cp",
        "8139too",
        "pcnet32",
        "af_packet",
        // disks
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
        // firmware, time, entropy
        "efivarfs",
        "rtc_cmos",
        "virtio_rng",
        "psmouse",
        "hyperv_keyboard",
        "virtio_input",
        "hid_hyperv",
        // file systems of master images and of what templates write to
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

/// What real PCs have.
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
        // Server and data centre cards; tens of megabytes.
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

/// What servers and unusual disks need beside [`PC`], whose exclusions do not hold for `full`.
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

/// Loaded always, because no alias of a device leads to them. In this order: tables before file systems.
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

/// Programs in every pre-OS for templates: growing and mending file systems.
const TOOLS: &[Tool] = &[
    Tool::new("ntfs-3g", &["ntfs-3g", "ntfsresize", "ntfsfix", "ntfsinfo"]),
    Tool::new(
        "e2fsprogs",
        &["e2fsck", "resize2fs", "tune2fs", "mke2fs", "dumpe2fs"],
    ),
    Tool::new("dosfstools", &["fsck.fat", "mkfs.fat"]),
    Tool::new("mount", &["losetup"]),
];

/// Programs for the file systems that only [`SERVER`] has modules for: they grow while they are mounted.
const TOOLS_FULL_TOO: &[Tool] = &[
    Tool::new("xfsprogs", &["xfs_growfs"]),
    Tool::new("btrfs-progs", &["btrfs"]),
];

/// A shell for `diskcast.shell`.
const SHELL: Tool = Tool::new("busybox-static", &["busybox"]);

/// Firmware packages of Debian that hold files of network cards and disk controllers. All are non-free: taken when they
/// are there, never required.
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
    /// Names below `usr/bin` or `usr/sbin`.
    pub(crate) programs: &'static [&'static str],
}

impl Tool {
    const fn new(package: &'static str, programs: &'static [&'static str]) -> Self {
        Self { package, programs }
    }
}

impl Profile {
    /// All, in the order help shows them.
    pub const ALL: [Self; 3] = [Self::Full, Self::Desktop, Self::Vm];

    /// Its word.
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

    /// A versioned kernel package of the right kind, by its name.
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

    /// A module wanted for itself: `path` below `lib/modules/VERSION`.
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

    /// Modules for `/etc/diskcast/modules`.
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

    /// Packages of firmware to be taken when they are there.
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

/// A package of libraries, by its name: Debian's begin with `lib`, but for zlib.
pub(crate) fn is_library(package: &str) -> bool {
    package.starts_with("lib") || package == "zlib1g"
}

/// A file of a user-land package that is worth keeping while packages are read: programs, libraries, settings.
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
