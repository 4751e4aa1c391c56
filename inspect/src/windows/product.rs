//! Product, version and edition of Windows, and its state of generalisation by Sysprep.

use super::volume::Volume;
use super::{identity, number, text};
use hive::Hive;
use template::findings::{Arch, WindowsFindings};

const CURRENT_VERSION: &str = r"Microsoft\Windows NT\CurrentVersion";
/// Largest kernel file that is read, in bytes.
const MOST_KERNEL_BYTES: u64 = 64 << 20;
/// Signature of `VS_FIXEDFILEINFO`, little-endian.
const FIXED_FILE_INFO: [u8; 4] = [0xbd, 0x04, 0xef, 0xfe];

/// Fills in the product from SOFTWARE; without that from the kernel's version resource, and without
/// that from the contents of SYSTEM.
pub(super) fn fill(
    volume: &Volume<'_>,
    system: Option<(&Hive, String)>,
    software: Option<&Hive>,
    found: &mut WindowsFindings,
) -> Result<(), String> {
    if let Some(software) = software {
        from_software(software, found);
    }
    if found.version == (0, 0) || found.arch == Arch::Other {
        let folder = found.folder.clone();
        let path = [folder.as_str(), "System32", "ntoskrnl.exe"];
        // A kernel that WOF keeps compressed has no data of its own, so it tells nothing.
        let kernel = volume.read_start(&path, MOST_KERNEL_BYTES).unwrap_or(None);
        if let Some((kernel, _)) = kernel {
            from_kernel(&kernel, found);
        }
    }
    if found.version == (0, 0) {
        found.version = match &system {
            Some((hive, set)) => guessed_version(hive, set, found.driver_database),
            None => (0, 0),
        };
    }
    if found.product.is_empty() {
        found.product = match found.version {
            (0, 0) => "Windows".into(),
            (major, minor) => format!("Windows {major}.{minor}"),
        };
    }
    let state = software.and_then(identity::image_state);
    let state = match state {
        Some(state) => state,
        None => {
            let folder = found.folder.clone();
            let path = [folder.as_str(), "Setup", "State", "State.ini"];
            let text = volume.read_start(&path, 4096).unwrap_or(None);
            // UTF-16 or not: the value has no letter outside of ASCII.
            let text = text.map(|(text, _)| text).unwrap_or_default();
            let text: Vec<u8> = text.into_iter().filter(|byte| *byte != 0).collect();
            String::from_utf8_lossy(&text).into_owned()
        }
    };
    let mini_setup = system.as_ref().is_some_and(|(hive, _)| {
        let command = text(hive, "Setup", "CmdLine").unwrap_or_default();
        let running = number(hive, "Setup", "SystemSetupInProgress") == Some(1);
        running && command.to_ascii_lowercase().contains("-mini")
    });
    found.generalised = state
        .to_ascii_uppercase()
        .contains("IMAGE_STATE_GENERALIZE_RESEAL")
        || mini_setup;
    Ok(())
}

fn from_software(software: &Hive, found: &mut WindowsFindings) {
    let value = |name| text(software, CURRENT_VERSION, name).filter(|text| !text.is_empty());
    found.product = value("ProductName").unwrap_or_default();
    found.edition = value("EditionID");
    let build = value("CurrentBuildNumber").or_else(|| value("CurrentBuild"));
    found.build = build.and_then(|build| build.parse().ok()).unwrap_or(0);
    // Windows 10 still has 6.3 in the old value.
    let major = number(software, CURRENT_VERSION, "CurrentMajorVersionNumber");
    let minor = number(software, CURRENT_VERSION, "CurrentMinorVersionNumber");
    found.version = match (major, minor, value("CurrentVersion")) {
        (Some(major), Some(minor), _) => (major, minor),
        (_, _, Some(version)) => version
            .split_once('.')
            .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)))
            .unwrap_or((0, 0)),
        _ => (0, 0),
    };
    // Windows 11 still has 10 in its name.
    if found.build >= 22000
        && let Some(rest) = found.product.strip_prefix("Windows 10 ")
    {
        found.product = format!("Windows 11 {rest}");
    }
}

/// Architecture from the PE header, and file version from the version resource.
fn from_kernel(kernel: &[u8], found: &mut WindowsFindings) {
    let u16_at = |at: usize| {
        Some(u16::from_le_bytes(
            kernel.get(at..at.checked_add(2)?)?.try_into().ok()?,
        ))
    };
    let u32_at = |at: usize| {
        Some(u32::from_le_bytes(
            kernel.get(at..at.checked_add(4)?)?.try_into().ok()?,
        ))
    };
    if found.arch == Arch::Other
        && let Some(header) = u32_at(0x3c).and_then(|at| usize::try_from(at).ok())
        && u32_at(header) == Some(0x4550)
    {
        found.arch = match header.checked_add(4).and_then(u16_at) {
            Some(0x014c) => Arch::X86,
            Some(0x8664) => Arch::X64,
            Some(0xaa64) => Arch::Arm64,
            _ => Arch::Other,
        };
    }
    let information = kernel.windows(4).position(|word| word == FIXED_FILE_INFO);
    if found.version == (0, 0)
        && let Some(at) = information
        && let (Some(high), Some(low)) = (u32_at(at + 8), u32_at(at + 12))
    {
        found.version = (high >> 16, high & 0xffff);
        found.build = low >> 16;
    }
}

/// Version guessed from SYSTEM: Vista introduced the base filtering engine, Windows 8 the driver
/// database.
fn guessed_version(system: &Hive, set: &str, driver_database: bool) -> (u32, u32) {
    let vista = matches!(system.find(&format!(r"{set}\Services\BFE")), Ok(Some(_)));
    match (driver_database, vista) {
        (true, _) => (6, 2),
        (false, true) => (6, 1),
        (false, false) => (5, 1),
    }
}
