//! Driver packages of a Windows machine: installed offline where the machine would not start
//! without them, staged for first boot otherwise.
//!
//! A boot driver is staged, too: the offline installation only makes the machine start; first boot
//! then installs the package in the regular way.

use super::Draft;
use super::packages::{Binary, Chosen, Package};
use super::rank::Ids;
use crate::findings::{Arch, ProductType, WindowsFindings};
use crate::inf::{InfService, Model, Unfit};
use crate::machine::{DriverPackage, PackageFile, PciDevice};
use crate::schema::{Driver, DriverMatch};
use crate::step::{Action, DriverFile, FirstBootAction};

/// Setup classes of disk controllers.
const DISK_CLASSES: [&str; 2] = ["SCSIAdapter", "HDC"];
/// PCI base class of mass storage.
const MASS_STORAGE: u32 = 0x01;

/// Plans every package. Returns the PCI functions that get a boot driver.
pub(super) fn plan(draft: &mut Draft<'_>, windows: &WindowsFindings) -> Vec<PciDevice> {
    let mut covered = Vec::new();
    let mut staged = false;
    for (number, driver) in (1usize..).zip(&draft.template().drivers) {
        let Some(files) = draft.request.files.drivers.get(number - 1) else {
            draft.refuse(format!(
                "driver {number}: {} was not found; check its path",
                driver.path
            ));
            continue;
        };
        if files.infs.is_empty() {
            draft.refuse(format!(
                "driver {number}: {} has no .inf of a driver; unpack the vendor's package to the folder with it",
                driver.path
            ));
            continue;
        }
        let package = Package::new(files, windows);
        let (chosen, along) = package.choose(driver.when, draft.request.machine);
        let Some(first) = chosen.first() else {
            explain(draft, windows, number, driver, files);
            continue;
        };
        let before = draft.refused.len();
        signed_and_there(draft, windows, number, driver, &package, &chosen);
        if driver.boot_critical {
            covered.extend(boot(draft, windows, number, driver, &package, &chosen));
        }
        if draft.refused.len() > before {
            continue;
        }
        if files.infs.len() > 1 {
            let names: Vec<&str> = chosen.iter().map(|chosen| chosen.name).collect();
            draft.note(format!(
                "driver {number}: of {} .inf in {} these fit best: {}",
                files.infs.len(),
                driver.path,
                names.join(", ")
            ));
        }
        draft.offline(
            format!("windows.stage-driver.{number}"),
            format!(
                "the driver package {} lies ready for first boot",
                driver.path
            ),
            Action::WindowsStageDriver {
                partition: windows.partition,
                name: format!("{number:02}"),
                files: package
                    .files_with(&along, first.name)
                    .into_iter()
                    .map(step_file)
                    .collect(),
            },
        );
        staged = true;
    }
    if staged {
        draft.first_boot("drivers", FirstBootAction::InstallDrivers);
    }
    covered
}

/// Says why a package has no driver for this machine: it may be for the same device, but for
/// another Windows.
fn explain(
    draft: &mut Draft<'_>,
    windows: &WindowsFindings,
    number: usize,
    driver: &Driver,
    package: &DriverPackage,
) {
    let devices: Vec<Ids> = draft.request.machine.pci.iter().map(Ids::of).collect();
    let serves = |model: &Model| {
        driver.when == DriverMatch::Always || devices.iter().any(|ids| ids.score(model).is_some())
    };
    let platform = windows.platform();
    // Of several reasons the one closest to this Windows is reported.
    let reason = package
        .infs
        .iter()
        .flat_map(|(_, inf)| inf.all_models())
        .filter(|(_, model)| serves(model))
        .map(|(target, _)| target.unfit(&platform))
        .max_by_key(|unfit| match unfit {
            Some(Unfit::Arch(_)) => 0,
            Some(Unfit::Later(_)) => 1,
            Some(Unfit::Product(_)) => 2,
            None => 3,
        });
    let path = &driver.path;
    let product = &windows.product;
    match reason {
        Some(Some(Unfit::Arch(arch))) => draft.refuse(format!(
            "driver {number}: {path} is for {}, and the image holds {product} for {}; get the package for that",
            arch_name(arch),
            arch_name(windows.arch),
        )),
        Some(Some(Unfit::Later((major, minor, build)))) => draft.refuse(format!(
            "driver {number}: {path} is for Windows {major}.{minor} build {build} and later, and the image holds {product} ({}.{} \
             build {}); get an older package",
            windows.version.0, windows.version.1, windows.build,
        )),
        Some(Some(Unfit::Product(wanted))) => draft.refuse(format!(
            "driver {number}: {path} is for {} only, and the image holds {product}; get the package for that",
            product_name(wanted),
        )),
        Some(None) => draft.refuse(format!(
            "driver {number}: the .inf of {path} leaves {product} (build {}) out, with a models section of its own that does not \
             have the device; get another package",
            windows.build,
        )),
        None if driver.when == DriverMatch::Always => {
            draft.refuse(format!("driver {number}: {path} names no device in its .inf"));
        }
        None => draft.note(format!("driver {path} is left out: the machine has no such device")),
    }
}

/// Refuses packages that Windows would not install: the catalog or a program is missing, or a
/// program is for another processor. 64-bit Windows loads no unsigned driver. A boot driver must
/// carry its own signature, because the catalog is not known yet when it is loaded.
fn signed_and_there(
    draft: &mut Draft<'_>,
    windows: &WindowsFindings,
    number: usize,
    driver: &Driver,
    package: &Package<'_>,
    chosen: &[Chosen<'_>],
) {
    for Chosen {
        name, inf, models, ..
    } in chosen
    {
        if windows.arch != Arch::X86 && !package.has_catalog(name, inf) {
            draft.refuse(format!(
                "driver {number}: {}: {name} has no catalog (.cat) beside it, so it is not signed and 64-bit Windows will not \
                 install it; get the vendor's whole package",
                driver.path
            ));
        }
        for service in models.iter().filter_map(|model| model.service.as_ref()) {
            let fault = match package.binary(name, service) {
                Binary::Found(_) => continue,
                // Windows may already have an unlisted file; a boot driver must be in the package.
                Binary::Missing(_) if !service.listed && !driver.boot_critical => continue,
                Binary::Missing(place) => {
                    format!("{place} is not in the folder, and {name} needs it")
                }
                Binary::Foreign(file, arch) => format!(
                    "{} is for {}, and the image holds {} for {}",
                    file.name,
                    arch_name(arch),
                    windows.product,
                    arch_name(windows.arch)
                ),
                Binary::Senseless(file) => format!("{} is no Windows program", file.name),
            };
            draft.refuse(format!(
                "driver {number}: {}: {fault}; get the vendor's whole package for {}",
                driver.path,
                arch_name(windows.arch)
            ));
        }
    }
}

/// Plans a step for each boot service. Returns the PCI functions they serve.
fn boot(
    draft: &mut Draft<'_>,
    windows: &WindowsFindings,
    number: usize,
    driver: &Driver,
    package: &Package<'_>,
    chosen: &[Chosen<'_>],
) -> Vec<PciDevice> {
    let mut covered = Vec::new();
    let mut done: Vec<&InfService> = Vec::new();
    // In a folder for many devices, only disk drivers have to start before the disk is available.
    let any_disk = chosen.iter().any(is_for_disks);
    let chosen = chosen
        .iter()
        .filter(|chosen| !chosen.inf.is_extension() && (is_for_disks(chosen) || !any_disk));
    for Chosen {
        name,
        inf,
        models,
        devices,
    } in chosen
    {
        if models.iter().all(|model| model.service.is_none()) {
            draft.refuse(format!(
                "driver {number}: {}: {name} names no service, so it is no boot driver; leave boot_critical out",
                driver.path
            ));
        }
        for service in models.iter().filter_map(|model| model.service.as_ref()) {
            // Other faults were reported by `signed_and_there`.
            let Binary::Found(program) = package.binary(name, service) else {
                continue;
            };
            if done.contains(&service) {
                continue;
            }
            done.push(service);
            if windows.arch != Arch::X86 && program.program.is_some_and(|found| !found.signed) {
                draft.refuse(format!(
                    "driver {number}: {}: {} is not signed in itself, and 64-bit Windows does not start with it; get a signed \
                     driver",
                    driver.path, program.name
                ));
            }
            let platform = windows.platform();
            let served: Vec<&Model> = inf
                .models_for(&platform)
                .filter(|model| model.service.as_ref() == Some(service))
                .collect();
            let mut hardware_ids: Vec<String> = Vec::new();
            for id in served.iter().flat_map(|model| &model.hardware_ids) {
                if !hardware_ids.contains(id) {
                    hardware_ids.push(id.clone());
                }
            }
            let is_served = |device: &&PciDevice| {
                let ids = Ids::of(device);
                served.iter().any(|model| ids.score(model).is_some())
            };
            covered.extend(devices.iter().filter(is_served).copied());
            let id = match done.len() {
                1 => format!("windows.boot-driver.{number}"),
                more => format!("windows.boot-driver.{number}.{more}"),
            };
            draft.offline(
                id,
                format!(
                    "the boot driver {} ({}) of {}",
                    service.name, program.name, driver.path
                ),
                Action::WindowsBootDriver {
                    partition: windows.partition,
                    inf: name.rsplit('/').next().unwrap_or(name).to_owned(),
                    service: service.name.clone(),
                    binary: service.binary.clone(),
                    program: step_file(program),
                    hardware_ids,
                },
            );
        }
    }
    covered
}

/// True when an `.inf` was chosen for a disk controller.
fn is_for_disks(chosen: &Chosen<'_>) -> bool {
    let class = chosen.inf.class.as_deref().unwrap_or_default();
    DISK_CLASSES
        .iter()
        .any(|own| own.eq_ignore_ascii_case(class))
        || chosen
            .devices
            .iter()
            .any(|device| device.target_disk || device.class >> 16 == MASS_STORAGE)
}

fn step_file(file: &PackageFile) -> DriverFile {
    DriverFile {
        name: file.name.clone(),
        payload: file.payload.clone(),
    }
}

fn product_name(wanted: Option<ProductType>) -> &'static str {
    match wanted {
        Some(ProductType::Workstation) => "Windows clients",
        Some(ProductType::DomainController) => "domain controllers",
        Some(ProductType::Server) => "Windows Server",
        None => "another edition of Windows",
    }
}

fn arch_name(arch: Arch) -> &'static str {
    match arch {
        Arch::X86 => "32-bit Intel",
        Arch::X64 => "64-bit Intel",
        Arch::Arm64 => "64-bit ARM",
        Arch::Other => "another processor",
    }
}
