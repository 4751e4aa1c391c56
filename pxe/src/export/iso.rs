//! One file that boots as a CD and as a USB stick, by BIOS, UEFI and UEFI with Secure Boot.
//!
//! ```text
//! BIOS, CD     El Torito: GRUB core image (grub-mkimage)     -> /boot/grub/grub.cfg -> /diskcast/vmlinuz, initrd.img
//! BIOS, USB    MBR: GRUB's boot_hybrid.img -> the same core image
//! UEFI, CD     El Torito: the ESP ------+
//! UEFI, USB    GPT: the ESP ------------+-> shim -> signed GRUB -> the same
//! ```
//!
//! GRUB finds its medium by a file, not by a label, so the medium may have any name and any
//! partitions. ISO 9660 is written by xorriso, GRUB's core image by grub-mkimage, both programs of
//! this machine. Everything else comes from packages. Always holds: the same inputs give the same
//! bytes.

use super::esp;
use super::host::{self, GRUB_MKIMAGE, XORRISO};
use super::loaders::{self, MEDIUM};
use super::notices;
use super::place::Beside;
use super::script;
use super::words::Words;
use crate::bundle::{
    Bundle, BundleError, BundleOptions, Files, Gathered, PackageUsed, Progress, Report, Step,
    Wanted, assemble, at, gather, sources_text,
};
use serde::Serialize;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Volume name, by which an ISO of ours is recognised too.
const VOLUME: &str = "DISKCAST";
/// Offset of the volume name in ISO 9660, in bytes: sector 16, byte 40.
const VOLUME_AT: u64 = 16 * 2048 + 40;
/// The package with GRUB's modules for BIOS.
const GRUB_PC: &str = "grub-pc-bin";
const GRUB_PC_FOLDER: &str = "usr/lib/grub/i386-pc/";
/// Modules of the core image for BIOS: disks, the two partition tables, ISO 9660, the commands of
/// our scripts.
const GRUB_MODULES: &[&str] = &[
    "biosdisk",
    "part_msdos",
    "part_gpt",
    "iso9660",
    "normal",
    "configfile",
    "search",
    "search_fs_file",
    "linux",
    "echo",
    "test",
    "serial",
    "terminal",
    "chain",
    "minicmd",
    "ls",
    "cat",
];
/// The time of every file on the medium, in seconds since 1970: 2020-01-01, a date no firmware
/// rejects.
const EPOCH: &str = "1577836800";
const EPOCH_XORRISO: &str = "2020010100000000";
/// GUID of the GPT: an arbitrary constant, so that equal inputs give equal bytes.
const GPT_GUID: &str = "d15cca5700004000800000000000b007";

/// Options of an ISO.
#[derive(Clone, Debug)]
pub struct IsoOptions {
    /// Options of the pre-OS.
    pub bundle: BundleOptions,
    /// Words of the kernel's command line.
    pub words: Words,
}

/// An ISO on disk.
#[derive(Clone, Debug, Serialize)]
pub struct Iso {
    /// The file.
    pub file: PathBuf,
    /// Its length, in bytes.
    pub bytes: u64,
    /// The pre-OS on it.
    pub bundle: Bundle,
}

/// Writes an ISO: beside its place, then renamed. An older one of ours is replaced.
///
/// # Errors
/// [`BundleError::NoProgram`] with the packages of the missing programs; [`BundleError::Refused`]
/// for a place that holds something else; any error of assembly.
pub fn iso(
    target: &Path,
    options: &IsoOptions,
    report: &mut Report<'_>,
) -> Result<Iso, BundleError> {
    refuse_foreign(target)?;
    host::ensure(&[XORRISO, GRUB_MKIMAGE])?;
    let place = Beside::new(target)?;
    let mut wanted = options.bundle.wanted();
    wanted.extend(loaders::wanted(MEDIUM));
    wanted.push(Wanted::Files(GRUB_PC));
    let cache = &options.bundle.cache;
    let gathered = gather(&options.bundle.source, &cache.join("debs"), &wanted, report)?;
    let bundle = assemble(&options.bundle, &gathered, report)?;

    let stage = tempfile::Builder::new()
        .prefix(".iso-")
        .tempdir_in(cache)
        .map_err(at("making a folder in", cache))?;
    let stage = stage.path();
    let (esp, mut used) = medium_esp(&gathered, report)?;
    write(&stage.join("efi.img"), &esp)?;
    grub_bios(&gathered, stage, report)?;
    used.push(PackageUsed::from(gathered.package(GRUB_PC)?));
    used.extend(bundle.packages.iter().cloned());
    used.sort();
    let mut notes = bundle.notes();
    if let Some(text) = notices::beside(&options.bundle.agent, &mut notes)? {
        write(&stage.join(notices::NAME), &text)?;
    }
    write(
        &stage.join("SOURCES.txt"),
        sources_text(&used, &notes).as_bytes(),
    )?;
    write(
        &stage.join("grub.cfg"),
        script::grub_medium(&options.words).as_bytes(),
    )?;
    // Debian's signed GRUB for media looks for this file when it was not loaded from the medium's
    // own file system.
    write(&stage.join("info"), b"diskcast\n")?;

    let total = bundle.kernel_bytes + bundle.initramfs_bytes + esp.len() as u64;
    say(report, 0, total);
    xorriso(stage, &bundle, place.path())?;
    let bytes = std::fs::metadata(place.path())
        .map_err(at("reading", place.path()))?
        .len();
    say(report, bytes, bytes);
    let file = place.target().to_owned();
    place.place()?;
    Ok(Iso {
        file,
        bytes,
        bundle,
    })
}

fn say(report: &mut Report<'_>, done: u64, total: u64) {
    report(Progress {
        step: Step::Writing,
        what: "ISO",
        done,
        total: Some(total),
    });
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), BundleError> {
    std::fs::write(path, bytes).map_err(at("writing", path))
}

/// Builds the ESP, and returns the packages that its loaders came from.
fn medium_esp(
    gathered: &Gathered,
    report: &mut Report<'_>,
) -> Result<(Vec<u8>, Vec<PackageUsed>), BundleError> {
    let (loaders, used) = loaders::take(MEDIUM, gathered, report)?;
    let find = script::grub_find_medium();
    let mut files: Vec<(&str, &[u8])> = loaders
        .iter()
        .map(|(name, bytes)| (*name, &bytes[..]))
        .collect();
    files.push(("boot/grub/grub.cfg", find.as_bytes()));
    let image = esp::image(&files).map_err(at("making", Path::new("the EFI system partition")))?;
    Ok((image, used))
}

/// Prepares GRUB for BIOS: the core image for El Torito, and the boot record that finds it on a USB
/// stick.
fn grub_bios(
    gathered: &Gathered,
    stage: &Path,
    report: &mut Report<'_>,
) -> Result<(), BundleError> {
    let package = gathered.package(GRUB_PC)?;
    let mut files = Files::default();
    files.add(
        &package.deb,
        0,
        &|path| path.starts_with(GRUB_PC_FOLDER),
        report,
    )?;
    let folder = stage.join("i386-pc");
    std::fs::create_dir(&folder).map_err(at("making", &folder))?;
    for (path, bytes) in files.iter() {
        // Only names directly in the folder of modules, already cleaned.
        if let Some(name) = path
            .strip_prefix(GRUB_PC_FOLDER)
            .filter(|name| !name.contains('/'))
        {
            write(&folder.join(name), bytes)?;
        }
    }
    let hybrid = folder.join("boot_hybrid.img");
    if !hybrid.is_file() {
        return Err(BundleError::NotInPackage {
            package: format!("{GRUB_PC} {}", package.deb.version),
            what: format!("/{GRUB_PC_FOLDER}boot_hybrid.img"),
        });
    }
    write(
        &stage.join("find.cfg"),
        script::grub_find_medium().as_bytes(),
    )?;
    let words = [
        "--directory=i386-pc",
        "--format=i386-pc-eltorito",
        "--prefix=/boot/grub",
        "--config=find.cfg",
        "--output=eltorito.img",
    ];
    host::run(GRUB_MKIMAGE, words.iter().chain(GRUB_MODULES), stage, &[])
}

fn xorriso(stage: &Path, bundle: &Bundle, out: &Path) -> Result<(), BundleError> {
    let graft = |name: &str, path: &Path| format!("{name}={}", escaped(path));
    let mut grafts = vec![
        graft("/diskcast/vmlinuz", &bundle.kernel()),
        graft("/diskcast/initrd.img", &bundle.initramfs()),
        graft("/diskcast/SOURCES.txt", &stage.join("SOURCES.txt")),
        graft("/boot/grub/grub.cfg", &stage.join("grub.cfg")),
        graft("/boot/grub/eltorito.img", &stage.join("eltorito.img")),
        graft("/.disk/info", &stage.join("info")),
    ];
    let third_party = stage.join(notices::NAME);
    if third_party.is_file() {
        let name = format!("/diskcast/{}", notices::NAME);
        grafts.push(graft(&name, &third_party));
    }
    let out = out.to_string_lossy();
    let dates = format!("--modification-date={EPOCH_XORRISO}");
    let words = [
        "-as",
        "mkisofs",
        "-quiet",
        "-rational-rock",
        "-joliet",
        "-volid",
        VOLUME,
        "-graft-points",
        &dates,
        "--set_all_file_dates",
        EPOCH_XORRISO,
        "--gpt_disk_guid",
        GPT_GUID,
        // BIOS from CD.
        "-eltorito-boot",
        "boot/grub/eltorito.img",
        "-no-emul-boot",
        "-boot-load-size",
        "4",
        "-boot-info-table",
        "--grub2-boot-info",
        // BIOS from a USB stick.
        "--grub2-mbr",
        "i386-pc/boot_hybrid.img",
        // Some BIOSes start no stick without an active partition, so an empty one is marked active.
        "--mbr-force-bootable",
        // UEFI from a USB stick: the ESP is partition 2 of the GPT.
        "-append_partition",
        "2",
        "0xef",
        "efi.img",
        "-appended_part_as_gpt",
        // UEFI from CD: the same bytes.
        "-eltorito-alt-boot",
        "-e",
        "--interval:appended_partition_2:all::",
        "-no-emul-boot",
        "-output",
        &out,
    ];
    let words = words.iter().map(|word| (*word).to_owned()).chain(grafts);
    host::run(XORRISO, words, stage, &[("SOURCE_DATE_EPOCH", EPOCH)])
}

/// Escapes a path for the right side of a graft point: `=` and `\` are special there.
fn escaped(path: &Path) -> String {
    path.to_string_lossy()
        .replace('\\', "\\\\")
        .replace('=', "\\=")
}

/// Refuses an existing file that is no ISO of ours, because it would be replaced.
fn refuse_foreign(target: &Path) -> Result<(), BundleError> {
    let refused = |message: String, hint: &str| {
        Err(BundleError::Refused {
            message,
            hint: hint.to_owned(),
        })
    };
    match std::fs::metadata(target) {
        Err(_) => Ok(()),
        Ok(facts) if facts.is_file() => {
            if facts.len() == 0 || is_ours(target) {
                return Ok(());
            }
            refused(
                format!("{} is there and is no ISO of diskcast", target.display()),
                "give a name that does not exist yet",
            )
        }
        Ok(_) => refused(
            format!("{} is no file", target.display()),
            "export to a file, then copy it to the stick: dd if=FILE of=/dev/STICK bs=4M",
        ),
    }
}

fn is_ours(file: &Path) -> bool {
    let mut name = [0; VOLUME.len()];
    #[expect(clippy::disallowed_methods, reason = "what is there is looked at")]
    let read = std::fs::File::open(file).and_then(|mut file| {
        file.seek(SeekFrom::Start(VOLUME_AT))?;
        file.read_exact(&mut name)
    });
    read.is_ok() && name == VOLUME.as_bytes()
}
