//! Which driver packages a Windows machine gets: put in offline where it would not start without, staged for first boot
//! otherwise.
//!
//! A boot driver is staged, too: put in by hand it makes the machine start, and first boot then installs its package as
//! Windows would have.

use super::Draft;
use crate::findings::{Arch, WindowsFindings};
use crate::inf::{Inf, InfService, Model};
use crate::machine::{DriverPackage, Machine, PciDevice};
use crate::schema::{Driver, DriverMatch};
use crate::step::{Action, DriverFile, FirstBootAction};

/// Plans every package. Returns the PCI functions that get a boot driver.
pub(super) fn plan(draft: &mut Draft<'_>, windows: &WindowsFindings) -> Vec<PciDevice> {
    let mut covered = Vec::new();
    let mut staged = false;
    for (number, driver) in (1usize..).zip(&draft.template().drivers) {
        let Some(package) = draft.request.files.drivers.get(number - 1) else {
            draft.refuse(format!(
                "driver {number}: {} was not found; check its path",
                driver.path
            ));
            continue;
        };
        if package.infs.is_empty() {
            draft.refuse(format!(
                "driver {number}: {} has no .inf that can be read; unpack the vendor's package to the folder with it",
                driver.path
            ));
            continue;
        }
        let chosen = choose(draft, windows, number, driver, package);
        if chosen.is_empty() {
            continue;
        }
        let before = draft.refused.len();
        signatures(draft, windows, number, driver, package, &chosen);
        if driver.boot_critical {
            covered.extend(boot(draft, windows, number, driver, package, &chosen));
        }
        if draft.refused.len() > before {
            continue;
        }
        let first = chosen.first().map_or("", |(name, _)| *name);
        draft.offline(
            format!("windows.stage-driver.{number}"),
            format!(
                "the driver package {} lies ready for first boot",
                driver.path
            ),
            Action::WindowsStageDriver {
                partition: windows.partition,
                name: format!("{number:02}"),
                files: files(package, first),
            },
        );
        staged = true;
    }
    if staged {
        draft.first_boot("drivers", FirstBootAction::InstallDrivers);
    }
    covered
}

/// An `.inf` of a package that is used, with its name.
type Chosen<'a> = (&'a str, &'a Inf);

/// Those of a package that serve this Windows and, where asked for, this machine.
fn choose<'a>(
    draft: &mut Draft<'a>,
    windows: &WindowsFindings,
    number: usize,
    driver: &Driver,
    package: &'a DriverPackage,
) -> Vec<Chosen<'a>> {
    let machine = draft.request.machine;
    let fits = |inf: &Inf| match driver.when {
        DriverMatch::Always => models(inf, windows).next().is_some(),
        DriverMatch::Auto => models(inf, windows).any(|model| !served(model, machine).is_empty()),
    };
    let chosen: Vec<Chosen<'_>> = package
        .infs
        .iter()
        .filter(|(_, inf)| fits(inf))
        .map(|(name, inf)| (name.as_str(), inf))
        .collect();
    if !chosen.is_empty() {
        return chosen;
    }
    // Is it for such a device after all, but for another Windows?
    let elsewhere: Vec<&Model> = package
        .infs
        .iter()
        .flat_map(|(_, inf)| &inf.models)
        .filter(|model| driver.when == DriverMatch::Always || !served(model, machine).is_empty())
        .collect();
    match elsewhere.first() {
        Some(model) if model.arch != windows.arch => draft.refuse(format!(
            "driver {number}: {} is for {}, and the image holds {} for {}; get the package for that",
            driver.path,
            arch_name(model.arch),
            windows.product,
            arch_name(windows.arch),
        )),
        Some(model) => draft.refuse(format!(
            "driver {number}: {} is for Windows {}.{} build {} and later, and the image holds {} ({}.{} build {}); get an older package",
            driver.path,
            model.version.0,
            model.version.1,
            model.version.2,
            windows.product,
            windows.version.0,
            windows.version.1,
            windows.build,
        )),
        None if driver.when == DriverMatch::Always => draft.refuse(format!(
            "driver {number}: {} names no device in its .inf",
            driver.path
        )),
        None => draft.note(format!("driver {} is left out: the machine has no such device", driver.path)),
    }
    Vec::new()
}

fn models<'i>(
    inf: &'i Inf,
    windows: &WindowsFindings,
) -> impl Iterator<Item = &'i Model> + use<'i> {
    let (major, minor) = windows.version;
    inf.models_for(windows.arch, (major, minor, windows.build))
}

/// PCI functions of the machine that a line of an `.inf` serves.
fn served(model: &Model, machine: &Machine) -> Vec<PciDevice> {
    machine
        .pci
        .iter()
        .copied()
        .filter(|device| {
            let own = hardware_ids(device);
            model.hardware_ids.iter().any(|id| {
                // The revision of a device is not among the facts: an id that names one is taken to mean it.
                let id = id.split("&REV_").next().unwrap_or(id);
                own.iter().any(|own| own == id)
            })
        })
        .collect()
}

/// Hardware and compatible ids of a PCI function ("Identifiers for PCI devices"), without revisions.
fn hardware_ids(device: &PciDevice) -> Vec<String> {
    let (vendor, own) = (device.vendor, device.device);
    let (class, subclass) = (device.class >> 16 & 0xff, device.class >> 8 & 0xff);
    let interface = device.class & 0xff;
    let mut ids = vec![
        format!("PCI\\VEN_{vendor:04X}&DEV_{own:04X}"),
        format!("PCI\\VEN_{vendor:04X}&DEV_{own:04X}&CC_{class:02X}{subclass:02X}"),
        format!("PCI\\VEN_{vendor:04X}&DEV_{own:04X}&CC_{class:02X}{subclass:02X}{interface:02X}"),
        format!("PCI\\VEN_{vendor:04X}&CC_{class:02X}{subclass:02X}{interface:02X}"),
        format!("PCI\\VEN_{vendor:04X}&CC_{class:02X}{subclass:02X}"),
        format!("PCI\\CC_{class:02X}{subclass:02X}{interface:02X}"),
        format!("PCI\\CC_{class:02X}{subclass:02X}"),
    ];
    if let Some((sub_vendor, sub_device)) = device.subsystem {
        ids.push(format!(
            "PCI\\VEN_{vendor:04X}&DEV_{own:04X}&SUBSYS_{sub_device:04X}{sub_vendor:04X}"
        ));
    }
    ids
}

/// 64-bit Windows loads nothing unsigned: a boot driver has to carry its signature itself, because the catalog is not known
/// yet when it is loaded; a package needs its catalog.
fn signatures(
    draft: &mut Draft<'_>,
    windows: &WindowsFindings,
    number: usize,
    driver: &Driver,
    package: &DriverPackage,
    chosen: &[Chosen<'_>],
) {
    if windows.arch == Arch::X86 {
        return;
    }
    for (name, inf) in chosen {
        let has_catalog = inf.catalogs.iter().any(|catalog| {
            package
                .files
                .iter()
                .any(|file| is_file(&file.name, catalog))
        });
        if !has_catalog {
            draft.refuse(format!(
                "driver {number}: {}: {name} has no catalog (.cat) beside it, so it is not signed and 64-bit Windows will not \
                 install it; get the vendor's whole package",
                driver.path
            ));
        }
        if !driver.boot_critical {
            continue;
        }
        let mut binaries: Vec<&str> = services(inf, windows)
            .map(|service| service.binary.as_str())
            .collect();
        binaries.dedup();
        for binary in binaries {
            let file = package
                .files
                .iter()
                .find(|file| is_file(&file.name, binary));
            if file.is_some_and(|file| file.signed != Some(true)) {
                draft.refuse(format!(
                    "driver {number}: {}: {binary} is not signed in itself, and 64-bit Windows does not start with it; get a \
                     signed driver",
                    driver.path
                ));
            }
        }
    }
}

fn services<'i>(
    inf: &'i Inf,
    windows: &WindowsFindings,
) -> impl Iterator<Item = &'i InfService> + use<'i> {
    models(inf, windows).filter_map(|model| model.service.as_ref())
}

/// A step for each service. Returns the PCI functions they serve.
fn boot(
    draft: &mut Draft<'_>,
    windows: &WindowsFindings,
    number: usize,
    driver: &Driver,
    package: &DriverPackage,
    chosen: &[Chosen<'_>],
) -> Vec<PciDevice> {
    let machine = draft.request.machine;
    let mut covered = Vec::new();
    let mut done: Vec<&InfService> = Vec::new();
    for (name, inf) in chosen {
        let wanted: Vec<&Model> = models(inf, windows)
            .filter(|model| {
                driver.when == DriverMatch::Always || !served(model, machine).is_empty()
            })
            .collect();
        let found = wanted.iter().filter_map(|model| model.service.as_ref());
        if wanted.iter().all(|model| model.service.is_none()) {
            draft.refuse(format!(
                "driver {number}: {}: {name} names no service, so it is no boot driver; leave boot_critical out",
                driver.path
            ));
        }
        for service in found {
            if done.contains(&service) {
                continue;
            }
            done.push(service);
            if !package
                .files
                .iter()
                .any(|file| is_file(&file.name, &service.binary))
            {
                draft.refuse(format!(
                    "driver {number}: {}: {} is not in the folder, and {name} needs it; get the vendor's whole package",
                    driver.path, service.binary
                ));
                continue;
            }
            let mut hardware_ids: Vec<String> = Vec::new();
            for model in
                models(inf, windows).filter(|model| model.service.as_ref() == Some(service))
            {
                covered.extend(served(model, machine));
                for id in &model.hardware_ids {
                    if !hardware_ids.contains(id) {
                        hardware_ids.push(id.clone());
                    }
                }
            }
            let id = match done.len() {
                1 => format!("windows.boot-driver.{number}"),
                more => format!("windows.boot-driver.{number}.{more}"),
            };
            draft.offline(
                id,
                format!(
                    "the boot driver {} ({}) of {}",
                    service.name, service.binary, driver.path
                ),
                Action::WindowsBootDriver {
                    partition: windows.partition,
                    files: files(package, name),
                    service: service.name.clone(),
                    binary: service.binary.clone(),
                    hardware_ids,
                },
            );
        }
    }
    covered
}

/// Every file of the package, the `.inf` first.
fn files(package: &DriverPackage, inf: &str) -> Vec<DriverFile> {
    let mut files: Vec<DriverFile> = package
        .files
        .iter()
        .map(|file| DriverFile {
            name: file.name.clone(),
            payload: file.payload.clone(),
        })
        .collect();
    files.sort_by_key(|file| (file.name != inf, file.name.clone()));
    files
}

/// True when the last part of `path` is `name`, as Windows compares names.
fn is_file(path: &str, name: &str) -> bool {
    path.rsplit('/')
        .next()
        .is_some_and(|last| last.eq_ignore_ascii_case(name))
}

fn arch_name(arch: Arch) -> &'static str {
    match arch {
        Arch::X86 => "32-bit Intel",
        Arch::X64 => "64-bit Intel",
        Arch::Arm64 => "64-bit ARM",
        Arch::Other => "another processor",
    }
}
