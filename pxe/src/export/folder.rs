//! The boot folder: all files another PXE server has to hand out, with its settings.

use super::loaders::{self, NETWORK};
use super::place::Beside;
use super::words::Words;
use super::{notices, script, settings};
use crate::bundle::{
    Bundle, BundleError, BundleOptions, Progress, Report, Step, assemble, at, gather, sources_text,
};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// First line of `SOURCES.txt`, which marks a folder as ours.
const MARK: &str = "diskcast boot folder";
/// Names in a boot folder (docs/network-boot.md).
const NAMES: [&str; 15] = [
    "vmlinuz",
    "initrd.img",
    "undionly.kpxe",
    "snponly.efi",
    "ipxe.efi",
    "shimx64.efi",
    "grubx64.efi",
    "mmx64.efi",
    "grub",
    "boot.ipxe",
    SOURCES,
    notices::NAME,
    "dnsmasq.conf",
    "tftpd.txt",
    "windows-dhcp.txt",
];
const SOURCES: &str = "SOURCES.txt";

/// Options of a boot folder.
#[derive(Clone, Debug)]
pub struct FolderOptions {
    /// Options of the pre-OS.
    pub bundle: BundleOptions,
    /// Words of the kernel's command line, for the scripts.
    pub words: Words,
    /// A folder with newer loaders: its `undionly.kpxe`, `snponly.efi` and `ipxe.efi` replace those
    /// of the package.
    pub ipxe: Option<PathBuf>,
}

/// A file of an export.
#[derive(Clone, Debug, Serialize)]
pub struct ExportedFile {
    /// Its name in the folder.
    pub name: String,
    /// Its length, in bytes.
    pub bytes: u64,
}

/// A boot folder on disk.
#[derive(Clone, Debug, Serialize)]
pub struct BootFolder {
    /// Its path.
    pub folder: PathBuf,
    /// The files in it.
    pub files: Vec<ExportedFile>,
    /// The pre-OS in it.
    pub bundle: Bundle,
}

/// Writes a boot folder: beside its place, then renamed, so that a server never sees half of one.
/// An older folder of ours is replaced.
///
/// # Errors
/// [`BundleError::Refused`] for a folder that is not ours; any error of assembly.
pub fn boot_folder(
    target: &Path,
    options: &FolderOptions,
    report: &mut Report<'_>,
) -> Result<BootFolder, BundleError> {
    refuse_foreign(target)?;
    let place = Beside::new(target)?;
    let mut wanted = options.bundle.wanted();
    wanted.extend(loaders::wanted(NETWORK));
    let debs = options.bundle.cache.join("debs");
    let gathered = gather(&options.bundle.source, &debs, &wanted, report)?;
    let bundle = assemble(&options.bundle, &gathered, report)?;
    let (mut loaders, mut used) = loaders::take(NETWORK, &gathered, report)?;
    let mut notes = bundle.notes();
    if let Some(folder) = &options.ipxe {
        for name in ["undionly.kpxe", "snponly.efi", "ipxe.efi"] {
            let path = folder.join(name);
            match std::fs::read(&path) {
                Ok(bytes) => {
                    loaders.insert(name, bytes.into());
                    notes.push(format!(
                        "{name} was taken from {}, not from a package.",
                        path.display()
                    ));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(at("reading", &path)(error)),
            }
        }
    }
    let third_party = notices::beside(&options.bundle.agent, &mut notes)?;
    used.extend(bundle.packages.iter().cloned());
    used.sort();
    let mut texts = BTreeMap::from([
        ("boot.ipxe", script::ipxe(&options.words)),
        ("grub/grub.cfg", script::grub_network(&options.words)),
        (
            "dnsmasq.conf",
            settings::dnsmasq(place.target(), &options.words),
        ),
        ("tftpd.txt", settings::tftpd()),
        ("windows-dhcp.txt", settings::windows_dhcp()),
    ]);
    texts.insert(
        SOURCES,
        format!("{MARK}\n\n{}", sources_text(&used, &notes)),
    );

    let mut writer = Writer {
        folder: place.path().to_owned(),
        files: Vec::new(),
        done: 0,
        total: bundle.kernel_bytes + bundle.initramfs_bytes,
        report,
    };
    std::fs::create_dir_all(place.path().join("grub")).map_err(at("making", place.path()))?;
    writer.copy("vmlinuz", &bundle.kernel())?;
    writer.copy("initrd.img", &bundle.initramfs())?;
    for (name, bytes) in loaders {
        writer.write(name, &bytes)?;
    }
    if let Some(text) = third_party {
        writer.write(notices::NAME, &text)?;
    }
    for (name, text) in texts {
        writer.write(name, text.as_bytes())?;
    }
    let files = writer.files;
    let folder = place.target().to_owned();
    place.place()?;
    Ok(BootFolder {
        folder,
        files,
        bundle,
    })
}

/// Refuses an existing folder that is neither empty nor a boot folder with nothing else in it,
/// because it would be replaced.
fn refuse_foreign(target: &Path) -> Result<(), BundleError> {
    let refused = |message: String| {
        Err(BundleError::Refused {
            message,
            hint: "give a folder that does not exist yet".to_owned(),
        })
    };
    let entries = match std::fs::read_dir(target) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return refused(format!("{} is no folder", target.display()));
        }
        Err(error) => return Err(at("reading", target)(error)),
    };
    let mut foreign = Vec::new();
    let mut count = 0_usize;
    for entry in entries {
        let name = entry.map_err(at("reading", target))?.file_name();
        let name = name.to_string_lossy();
        count += 1;
        if !NAMES.contains(&name.as_ref()) {
            foreign.push(name.into_owned());
        }
    }
    if count == 0 {
        return Ok(());
    }
    if !foreign.is_empty() {
        foreign.sort();
        let more = if foreign.len() > 3 { ", ..." } else { "" };
        foreign.truncate(3);
        return refused(format!(
            "{} holds what diskcast did not write: {}{more}",
            target.display(),
            foreign.join(", ")
        ));
    }
    let sources = std::fs::read_to_string(target.join(SOURCES)).unwrap_or_default();
    if sources.starts_with(MARK) {
        Ok(())
    } else {
        refused(format!(
            "{} is not a boot folder of diskcast",
            target.display()
        ))
    }
}

struct Writer<'a, 'r> {
    folder: PathBuf,
    files: Vec<ExportedFile>,
    done: u64,
    total: u64,
    report: &'a mut Report<'r>,
}

impl Writer<'_, '_> {
    fn copy(&mut self, name: &str, from: &Path) -> Result<(), BundleError> {
        let to = self.folder.join(name);
        let bytes = std::fs::copy(from, &to).map_err(at("writing", &to))?;
        self.done(name, bytes);
        Ok(())
    }

    fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), BundleError> {
        let to = self.folder.join(name);
        std::fs::write(&to, bytes).map_err(at("writing", &to))?;
        self.done(name, bytes.len() as u64);
        Ok(())
    }

    fn done(&mut self, name: &str, bytes: u64) {
        self.done += bytes;
        self.total = self.total.max(self.done);
        (self.report)(Progress {
            step: Step::Writing,
            what: name,
            done: self.done,
            total: Some(self.total),
        });
        self.files.push(ExportedFile {
            name: name.to_owned(),
            bytes,
        });
    }
}
