//! Takes iPXE, shim and GRUB out of their packages.

use crate::bundle::{BundleError, Files, Gathered, PackageUsed, Report, Wanted};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Folders of packages that contain loaders.
const FOLDERS: [&str; 4] = [
    "usr/lib/ipxe/",
    "usr/lib/shim/",
    "usr/lib/grub/x86_64-efi-signed/",
    "boot/",
];

/// One loader: the name it is exported under, its package, its name in the package.
pub(super) struct Loader {
    pub(super) name: &'static str,
    package: &'static str,
    path: &'static str,
}

const fn loader(name: &'static str, package: &'static str, path: &'static str) -> Loader {
    Loader {
        name,
        package,
        path,
    }
}

/// Loaders of a boot folder.
pub(super) const NETWORK: &[Loader] = &[
    loader("undionly.kpxe", "ipxe", "usr/lib/ipxe/undionly.kpxe"),
    loader("snponly.efi", "ipxe", "usr/lib/ipxe/snponly.efi"),
    loader("ipxe.efi", "ipxe", "usr/lib/ipxe/ipxe.efi"),
    loader(
        "shimx64.efi",
        "shim-signed",
        "usr/lib/shim/shimx64.efi.signed",
    ),
    loader(
        "mmx64.efi",
        "shim-helpers-amd64-signed",
        "usr/lib/shim/mmx64.efi.signed",
    ),
    loader(
        "grubx64.efi",
        "grub-efi-amd64-signed",
        "usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed",
    ),
];

/// Loaders on the ESP of a medium, by their paths there. Firmware starts `BOOTX64.EFI`; shim looks
/// for the others beside itself. This GRUB reads its settings from the medium, not from the
/// network.
pub(super) const MEDIUM: &[Loader] = &[
    loader(
        "EFI/BOOT/BOOTX64.EFI",
        "shim-signed",
        "usr/lib/shim/shimx64.efi.signed",
    ),
    loader(
        "EFI/BOOT/mmx64.efi",
        "shim-helpers-amd64-signed",
        "usr/lib/shim/mmx64.efi.signed",
    ),
    loader(
        "EFI/BOOT/grubx64.efi",
        "grub-efi-amd64-signed",
        "usr/lib/grub/x86_64-efi-signed/gcdx64.efi.signed",
    ),
];

/// The packages of the given loaders.
pub(super) fn wanted(loaders: &[Loader]) -> Vec<Wanted> {
    let packages: BTreeSet<&str> = loaders.iter().map(|loader| loader.package).collect();
    packages.into_iter().map(Wanted::Files).collect()
}

/// Loaders by exported name, and the packages they came from.
pub(super) type Taken = (BTreeMap<&'static str, Arc<[u8]>>, Vec<PackageUsed>);

/// Takes the loaders out of their packages.
pub(super) fn take(
    loaders: &'static [Loader],
    gathered: &Gathered,
    report: &mut Report<'_>,
) -> Result<Taken, BundleError> {
    let mut files = BTreeMap::new();
    let mut used = Vec::new();
    let packages: BTreeSet<&str> = loaders.iter().map(|loader| loader.package).collect();
    for name in packages {
        let package = gathered.package(name)?;
        let mut held = Files::default();
        // Whole folders are kept because links lead out of a loader's folder: the ipxe package has
        // its ipxe.efi in /boot.
        let keep = |path: &str| FOLDERS.iter().any(|folder| path.starts_with(folder));
        held.add(&package.deb, 0, &keep, report)?;
        for loader in loaders.iter().filter(|loader| loader.package == name) {
            let found = held
                .find(loader.path)
                .ok_or_else(|| BundleError::NotInPackage {
                    package: format!("{name} {}", package.deb.version),
                    what: format!("/{}", loader.path),
                })?;
            files.insert(loader.name, found.bytes);
        }
        used.push(PackageUsed::from(package));
    }
    Ok((files, used))
}
