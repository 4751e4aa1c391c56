//! Builds the pre-OS, and keeps a cache of those built before.

use super::PackageSource;
use super::deb::{Kind, hex, invalid};
use super::error::{BundleError, at};
use super::files::Files;
use super::gather::{Gathered, Package, Wanted, gather};
use super::modules::Modules;
use super::path::base;
use super::profile::{Profile, is_library, keeps};
use super::progress::{Progress, Report, Step};
use super::root::{Content, Root};
use super::sources::{PackageUsed, sources_text};
use super::spool::{Spool, plain, read_bounded};
use super::userland::{Closure, needs_no_libraries};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

/// Version of the result: raised when the same inputs give another result.
const FORMAT: u32 = 1;
/// Level of zstd compression. Level 19 saves a fifth and takes ninety times as long.
const LEVEL: i32 = 3;
/// Largest kernel image and largest agent that are read, in bytes.
const LARGEST: u64 = 256 << 20;
/// Names of the files in a bundle's folder.
const KERNEL: &str = "vmlinuz";
const INITRAMFS: &str = "initrd.img";
const SOURCES: &str = "SOURCES.txt";
const FACTS: &str = "bundle.json";

/// Options of a pre-OS.
#[derive(Clone, Debug)]
pub struct BundleOptions {
    /// The set of drivers.
    pub profile: Profile,
    /// Path of the agent: a program for x86-64, static or not.
    pub agent: PathBuf,
    /// True to include a shell, for `diskcast.shell`.
    pub shell: bool,
    /// The source of packages.
    pub source: PackageSource,
    /// Folder for packages and bundles; made if it does not exist.
    pub cache: PathBuf,
}

/// A kernel and an initramfs on disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bundle {
    /// Folder of the three files. It belongs to the cache: callers copy from it and change nothing.
    pub folder: PathBuf,
    /// Word of the profile, the set of drivers.
    pub profile: String,
    /// `uname -r` of the kernel.
    pub kernel_version: String,
    /// Length of the kernel, in bytes.
    pub kernel_bytes: u64,
    /// Length of the initramfs, in bytes.
    pub initramfs_bytes: u64,
    /// Length of the initramfs before compression, in bytes.
    pub plain_bytes: u64,
    /// Number of kernel modules in it.
    pub modules: usize,
    /// Number of firmware files in it.
    pub firmware: usize,
    /// Firmware that a module in it may load and no package had: file to module.
    pub firmware_absent: BTreeMap<String, String>,
    /// True when the agent needs no libraries.
    pub static_agent: bool,
    /// Packages that files were taken from.
    pub packages: Vec<PackageUsed>,
}

impl Bundle {
    /// Path of the kernel.
    pub fn kernel(&self) -> PathBuf {
        self.folder.join(KERNEL)
    }

    /// Path of the initramfs.
    pub fn initramfs(&self) -> PathBuf {
        self.folder.join(INITRAMFS)
    }

    /// Notes for people about missing parts.
    pub fn notes(&self) -> Vec<String> {
        if self.firmware_absent.is_empty() {
            return Vec::new();
        }
        let modules: BTreeSet<&str> = self.firmware_absent.values().map(String::as_str).collect();
        let modules: Vec<&str> = modules.into_iter().collect();
        vec![format!(
            "Not included: {} firmware files that no package here has, for the modules {}. Most cards work without; \
             the non-free packages firmware-realtek, firmware-misc-nonfree, firmware-bnx2 and firmware-bnx2x have many \
             of them.",
            self.firmware_absent.len(),
            modules.join(" ")
        )]
    }
}

impl BundleOptions {
    /// The packages that a bundle needs.
    pub(crate) fn wanted(&self) -> Vec<Wanted> {
        let tools = self.profile.tools(self.shell);
        let firmware = self.profile.firmware_packages().iter();
        [
            Wanted::Kernel(self.profile),
            Wanted::Programs("libc6"),
            Wanted::Files("libgcc-s1"),
        ]
        .into_iter()
        .chain(tools.map(|tool| Wanted::Programs(tool.package)))
        .chain(firmware.map(|package| Wanted::Perhaps(package)))
        .collect()
    }
}

/// Builds the pre-OS, or finds it in the cache: for the same packages, agent and profile it is
/// built once.
///
/// # Errors
/// [`BundleError`], with a hint for the next step where there is one.
pub fn bundle(options: &BundleOptions, report: &mut Report<'_>) -> Result<Bundle, BundleError> {
    let debs = options.cache.join("debs");
    let gathered = gather(&options.source, &debs, &options.wanted(), report)?;
    assemble(options, &gathered, report)
}

/// Does the work of [`bundle`] with packages that are gathered already.
pub(crate) fn assemble(
    options: &BundleOptions,
    gathered: &Gathered,
    report: &mut Report<'_>,
) -> Result<Bundle, BundleError> {
    let agent = read_file(&options.agent)?;
    let built = options.cache.join("built");
    std::fs::create_dir_all(&built).map_err(at("making", &built))?;
    let folder = built.join(key(options, gathered, &agent));
    if let Some(bundle) = cached(&folder) {
        return Ok(bundle);
    }
    let partial = tempfile::Builder::new()
        .prefix(".partial-")
        .tempdir_in(&built)
        .map_err(at("making a folder in", &built))?;
    let mut bundle = Work {
        options,
        gathered,
        used: BTreeSet::new(),
    }
    .make(&agent, partial.path(), report)?;
    bundle.folder.clone_from(&folder);
    let facts = serde_json::to_vec_pretty(&bundle).map_err(io::Error::from);
    let facts_file = partial.path().join(FACTS);
    facts
        .and_then(|facts| std::fs::write(&facts_file, facts))
        .map_err(at("writing", &facts_file))?;
    let partial = partial.keep();
    if let Err(error) = std::fs::rename(&partial, &folder) {
        // Another process built the same bundle meanwhile, or a damaged one is in its place.
        if cached(&folder).is_none() {
            let moved =
                std::fs::remove_dir_all(&folder).and_then(|()| std::fs::rename(&partial, &folder));
            moved.map_err(|_| error).map_err(at("keeping", &folder))?;
        } else {
            let _ = std::fs::remove_dir_all(&partial);
        }
    }
    Ok(bundle)
}

/// The name of a bundle in the cache: a hash of all inputs that its content depends on.
fn key(options: &BundleOptions, gathered: &Gathered, agent: &[u8]) -> String {
    let mut hash = Sha256::new();
    let version = env!("CARGO_PKG_VERSION");
    hash.update(format!(
        "diskcast bundle {FORMAT} {version}\n{}\nshell {}\nagent {}\n",
        options.profile,
        options.shell,
        hex(&Sha256::digest(agent))
    ));
    let wanted = options.wanted();
    for (name, package) in &gathered.packages {
        // Loaders for an export may be in the same gathering; they do not change the bundle.
        let ours = wanted.iter().any(|want| match want {
            Wanted::Kernel(_) => gathered.kernel.as_ref() == Some(name),
            Wanted::Programs(wanted) | Wanted::Files(wanted) | Wanted::Perhaps(wanted) => {
                wanted == name
            }
        });
        if ours || is_library(name) {
            hash.update(format!("{name} {}\n", package.sha256));
        }
    }
    format!(
        "{}-{}",
        options.profile,
        hex(&hash.finalize().as_slice()[..16])
    )
}

/// The bundle in a folder of the cache, if it is complete.
fn cached(folder: &Path) -> Option<Bundle> {
    let facts = std::fs::read(folder.join(FACTS)).ok()?;
    let mut bundle: Bundle = serde_json::from_slice(&facts).ok()?;
    // The cache may have been moved since.
    folder.clone_into(&mut bundle.folder);
    let len = |path: PathBuf| std::fs::metadata(path).map(|facts| facts.len()).ok();
    let whole = len(bundle.kernel()) == Some(bundle.kernel_bytes)
        && len(bundle.initramfs()) == Some(bundle.initramfs_bytes);
    whole.then_some(bundle)
}

struct Work<'w> {
    options: &'w BundleOptions,
    gathered: &'w Gathered,
    used: BTreeSet<PackageUsed>,
}

impl Work<'_> {
    fn make(
        mut self,
        agent: &[u8],
        folder: &Path,
        report: &mut Report<'_>,
    ) -> Result<Bundle, BundleError> {
        let mut spool = Spool::new(folder).map_err(at("making a file in", folder))?;
        let mut root = Root::new();
        // The agent comes first: an error in it is reported before a minute of unpacking.
        let static_agent = needs_no_libraries(&self.options.agent, agent)?;
        root.file("init", 0o755, Content::Bytes(agent.into()));
        self.tools(agent, static_agent, &mut root, report)?;
        let kernel = self.kernel(&mut spool, report)?;
        let selection = kernel.modules.select(self.options.profile);
        let below = format!("usr/lib/modules/{}", kernel.version);
        for module in selection.iter() {
            root.file(
                &format!("{below}/{}", module.path),
                0o644,
                Content::Spooled(module.place),
            );
        }
        root.text(&format!("{below}/modules.dep"), &selection.dep_text());
        root.text(&format!("{below}/modules.alias"), &selection.alias_text());
        root.text(
            &format!("{below}/modules.softdep"),
            &selection.softdep_text(),
        );
        root.text(&format!("{below}/modules.builtin"), &kernel.builtin);
        root.text(
            "etc/diskcast/modules",
            &selection.always_text(self.options.profile),
        );
        let wanted = selection.firmware();
        let placed = self.firmware(&wanted, &mut root, report)?;
        let firmware_absent: BTreeMap<String, String> = wanted
            .into_iter()
            .filter(|(file, _)| !placed.contains(*file))
            .map(|(file, module)| (file.to_owned(), module.to_owned()))
            .collect();
        let mut bundle = Bundle {
            folder: PathBuf::new(),
            profile: self.options.profile.to_string(),
            kernel_version: kernel.version,
            kernel_bytes: kernel.image.len() as u64,
            initramfs_bytes: 0,
            plain_bytes: 0,
            modules: selection.iter().count(),
            firmware: placed.len(),
            firmware_absent,
            static_agent,
            packages: self.used.into_iter().collect(),
        };
        let sources = sources_text(&bundle.packages, &bundle.notes());
        root.text("etc/diskcast/SOURCES.txt", &sources);
        bundle.plain_bytes = root.len_bytes();
        let initramfs = folder.join(INITRAMFS);
        bundle.initramfs_bytes =
            pack(&root, &spool, &initramfs, report).map_err(at("writing", &initramfs))?;
        let image = folder.join(KERNEL);
        std::fs::write(&image, &kernel.image).map_err(at("writing", &image))?;
        let text = folder.join(SOURCES);
        std::fs::write(&text, sources).map_err(at("writing", &text))?;
        Ok(bundle)
    }

    /// Adds the programs for templates, and the loader and libraries of a dynamic agent.
    fn tools(
        &mut self,
        agent: &[u8],
        static_agent: bool,
        root: &mut Root,
        report: &mut Report<'_>,
    ) -> Result<(), BundleError> {
        let tools: Vec<_> = self.options.profile.tools(self.options.shell).collect();
        let packages: Vec<&Package> = self
            .gathered
            .packages
            .iter()
            .filter(|(name, _)| is_library(name) || tools.iter().any(|tool| tool.package == *name))
            .map(|(_, package)| package)
            .collect();
        let mut files = Files::default();
        for (at, package) in packages.iter().enumerate() {
            files.add(&package.deb, at, &keeps, report)?;
        }
        let mut closure = Closure::default();
        for tool in &tools {
            for program in tool.programs {
                closure.program(&files, program)?;
            }
        }
        if self.options.shell {
            root.link("usr/bin/sh", "busybox");
        }
        if !static_agent {
            closure.foreign(&files, "the agent", agent)?;
        }
        if let Some(found) = files.find("etc/mke2fs.conf") {
            root.file("etc/mke2fs.conf", 0o644, Content::Bytes(found.bytes));
        }
        for (path, found) in closure.files {
            if let Some(package) = packages.get(found.package) {
                self.used.insert(PackageUsed::from(*package));
            }
            root.file(&path, 0o755, Content::Bytes(found.bytes));
        }
        for (path, target) in closure.links {
            root.link(&path, &format!("/{target}"));
        }
        Ok(())
    }

    fn kernel(
        &mut self,
        spool: &mut Spool,
        report: &mut Report<'_>,
    ) -> Result<Kernel, BundleError> {
        let name = self.gathered.kernel.as_deref().unwrap_or_default();
        let package =
            self.gathered
                .packages
                .get(name)
                .ok_or_else(|| BundleError::NotInPackage {
                    package: "the gathering".to_owned(),
                    what: "kernel".to_owned(),
                })?;
        let mut kernel = Kernel::default();
        package.deb.unpack(report, &mut |entry| {
            if entry.kind != Kind::File {
                return Ok(());
            }
            if let Some(version) = entry.path.strip_prefix("boot/vmlinuz-") {
                version.clone_into(&mut kernel.version);
                kernel.image = read_bounded(entry.data, LARGEST)?;
                return Ok(());
            }
            // usr/lib/modules/VERSION/kernel/...
            let Some((_, path)) = entry
                .path
                .strip_prefix("usr/lib/modules/")
                .and_then(|rest| rest.split_once('/'))
            else {
                return Ok(());
            };
            if path == "modules.builtin" {
                let text = read_bounded(entry.data, 1 << 20)?;
                kernel.builtin = String::from_utf8_lossy(&text).into_owned();
            } else if [".ko", ".ko.xz", ".ko.zst"]
                .iter()
                .any(|ending| path.ends_with(ending))
            {
                kernel.modules.add(path, entry.data, spool)?;
            }
            Ok(())
        })?;
        let lacks = |what: &str| BundleError::NotInPackage {
            package: format!("{name} {}", package.deb.version),
            what: what.to_owned(),
        };
        if kernel.image.is_empty() || kernel.version.contains('/') {
            return Err(lacks("/boot/vmlinuz-VERSION"));
        }
        if kernel.modules.is_empty() {
            return Err(lacks("kernel modules"));
        }
        self.used.insert(PackageUsed::from(package));
        Ok(kernel)
    }

    /// Places the firmware that the packages have; returns the names placed.
    fn firmware(
        &mut self,
        wanted: &BTreeMap<&str, &str>,
        root: &mut Root,
        report: &mut Report<'_>,
    ) -> Result<BTreeSet<String>, BundleError> {
        let packages: Vec<&Package> = self
            .gathered
            .packages
            .iter()
            .filter(|(name, _)| name.starts_with("firmware-"))
            .map(|(_, package)| package)
            .collect();
        // Links lead to neighbours, so the whole folder of a wanted file is read.
        let folders: BTreeSet<&str> = wanted
            .keys()
            .map(|file| file.split_once('/').map_or("", |(folder, _)| folder))
            .collect();
        let keep = |path: &str| {
            path.strip_prefix("usr/lib/firmware/").is_some_and(|path| {
                folders.contains(path.split_once('/').map_or("", |(folder, _)| folder))
            })
        };
        let mut files = Files::default();
        for (at, package) in packages.iter().enumerate() {
            files.add(&package.deb, at, &keep, report)?;
        }
        let mut placed = BTreeSet::new();
        for file in wanted.keys() {
            let found = ["", ".xz", ".zst"]
                .into_iter()
                .find_map(|ending| files.find(&format!("usr/lib/firmware/{file}{ending}")));
            let Some(found) = found else { continue };
            let Some(package) = packages.get(found.package) else {
                continue;
            };
            let (_, bytes) =
                plain(base(&found.path), &mut &found.bytes[..], LARGEST).map_err(|source| {
                    BundleError::Deb {
                        path: package.deb.path.clone(),
                        source,
                    }
                })?;
            root.file(
                &format!("usr/lib/firmware/{file}"),
                0o644,
                Content::Bytes(bytes.into()),
            );
            self.used.insert(PackageUsed::from(*package));
            placed.insert((*file).to_owned());
        }
        Ok(placed)
    }
}

#[derive(Default)]
struct Kernel {
    version: String,
    image: Vec<u8>,
    builtin: String,
    modules: Modules,
}

/// Writes the initramfs; returns its length in bytes.
fn pack(root: &Root, spool: &Spool, path: &Path, report: &mut Report<'_>) -> io::Result<u64> {
    let file = std::fs::File::create_new(path)?;
    let mut encoder = zstd::Encoder::new(io::BufWriter::new(file), LEVEL)?;
    let (mut done, total) = (0, root.len_bytes());
    root.write(&mut encoder, spool, |bytes| {
        done += bytes;
        report(Progress {
            step: Step::Packing,
            what: INITRAMFS,
            done,
            total: Some(total),
        });
    })?;
    let file = encoder
        .finish()?
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    Ok(file.metadata()?.len())
}

#[expect(clippy::disallowed_methods, reason = "the agent is a file")]
fn read_file(path: &Path) -> Result<Vec<u8>, BundleError> {
    let mut file = std::fs::File::open(path).map_err(at("opening", path))?;
    read_bounded(&mut file, LARGEST)
        .map_err(|_| invalid("larger than any agent"))
        .map_err(at("reading", path))
}
