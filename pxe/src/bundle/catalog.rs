//! Sources of packages: this machine's apt, or a folder of `.deb` files.
//!
//! apt chooses versions and checks signatures; we check the SHA-256 it names again when a file
//! arrives, and keep the file under that name, so nothing is downloaded twice. Nothing is installed
//! and root is not needed.

use super::control::{Stanza, compare_versions};
use super::deb::{Deb, sha256_file};
use super::error::{BundleError, at};
use super::profile::Profile;
use super::progress::{Progress, Report, Step};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Most `.deb` files that are read in a folder.
const MOST_DEBS: usize = 10_000;
/// Interval between two checks of a download's progress.
const POLL: Duration = Duration::from_millis(200);

/// The source of packages.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PackageSource {
    /// `apt-get download` on this machine.
    Apt,
    /// `.deb` files in a folder.
    Folder(PathBuf),
}

/// The packages of a source.
pub(crate) enum Catalog {
    Apt,
    Folder {
        folder: PathBuf,
        debs: BTreeMap<String, Deb>,
    },
}

impl Catalog {
    /// Opens a source. For a folder, all packages are read; the newest version of each counts.
    pub(crate) fn open(source: &PackageSource) -> Result<Self, BundleError> {
        let PackageSource::Folder(folder) = source else {
            return Ok(Self::Apt);
        };
        let mut debs: BTreeMap<String, Deb> = BTreeMap::new();
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(at("reading", folder))? {
            let path = entry.map_err(at("reading", folder))?.path();
            if path.extension().is_some_and(|ending| ending == "deb") {
                paths.push(path);
            }
        }
        paths.sort();
        for path in paths.into_iter().take(MOST_DEBS) {
            let deb = Deb::open(&path)?;
            let arch = deb.stanza.get("architecture").unwrap_or("all");
            let newer = debs
                .get(&deb.package)
                .is_none_or(|other| compare_versions(&other.version, &deb.version).is_lt());
            if newer && matches!(arch, "amd64" | "all") {
                debs.insert(deb.package.clone(), deb);
            }
        }
        Ok(Self::Folder {
            folder: folder.clone(),
            debs,
        })
    }

    /// Descriptions of packages by name; packages that the source lacks are left out.
    pub(crate) fn describe(
        &self,
        names: &[String],
    ) -> Result<BTreeMap<String, Stanza>, BundleError> {
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        match self {
            Self::Apt => {
                let words = names.iter().map(String::as_str);
                // The exit code reports unknown names, which the caller judges.
                let (text, _) = run(apt("apt-cache", None)
                    .args(["show", "--no-all-versions"])
                    .args(words))?;
                let known = Stanza::parse_all(&text).into_iter().filter_map(|stanza| {
                    let name = stanza.get("package")?.to_owned();
                    let arch = stanza.get("architecture").unwrap_or("all");
                    (names.contains(&name) && matches!(arch, "amd64" | "all"))
                        .then_some((name, stanza))
                });
                let mut all = BTreeMap::new();
                for (name, stanza) in known {
                    // The first stanza is of the version that apt would install.
                    all.entry(name).or_insert(stanza);
                }
                Ok(all)
            }
            Self::Folder { debs, .. } => Ok(names
                .iter()
                .filter_map(|name| Some((name.clone(), debs.get(name)?.stanza.clone())))
                .collect()),
        }
    }

    /// Name of the kernel package for a profile.
    pub(crate) fn kernel(&self, profile: Profile) -> Result<String, BundleError> {
        let meta = profile.kernel_package();
        let found = match self {
            Self::Apt => self
                .describe(&[meta.to_owned()])?
                .get(meta)
                .map(Stanza::depends)
                .unwrap_or_default()
                .into_iter()
                .flatten()
                .find(|name| profile.takes_kernel(name)),
            Self::Folder { debs, .. } => debs
                .values()
                .filter(|deb| profile.takes_kernel(&deb.package))
                .max_by(|a, b| compare_versions(&a.version, &b.version))
                .map(|deb| deb.package.clone()),
        };
        found.ok_or_else(|| match self {
            Self::Apt => self.missing(vec![meta.to_owned()]),
            Self::Folder { .. } => {
                let kind = if profile == Profile::Vm { "cloud-" } else { "" };
                self.missing(vec![format!("linux-image-VERSION-{kind}amd64")])
            }
        })
    }

    /// The error for packages that the source lacks.
    pub(crate) fn missing(&self, names: Vec<String>) -> BundleError {
        let (place, hint) = match self {
            Self::Apt => (
                "is known to apt here".to_owned(),
                format!(
                    "run `apt-get update` as root; or run `apt-get download {}` on a Debian machine for amd64 \
                     and name the folder with --from-debs",
                    names.join(" ")
                ),
            ),
            Self::Folder { folder, .. } => (
                format!("is in {}", folder.display()),
                format!(
                    "on a Debian machine, in that folder: apt-get download {}",
                    names.join(" ")
                ),
            ),
        };
        BundleError::NoPackage { names, place, hint }
    }

    /// The packages as files, in the order of their names, with their SHA-256. `cache` keeps the
    /// files from apt.
    pub(crate) fn fetch(
        &self,
        wanted: &BTreeMap<String, Stanza>,
        cache: &Path,
        report: &mut Report<'_>,
    ) -> Result<Vec<(Deb, String)>, BundleError> {
        match self {
            Self::Folder { debs, .. } => wanted
                .keys()
                .filter_map(|name| debs.get(name))
                .map(|deb| Ok((deb.clone(), deb.sha256()?)))
                .collect(),
            Self::Apt => fetch_by_apt(wanted, cache, report),
        }
    }
}

/// A package file as apt describes it.
struct Promise {
    word: String,
    sha256: String,
    len_bytes: u64,
}

fn fetch_by_apt(
    wanted: &BTreeMap<String, Stanza>,
    cache: &Path,
    report: &mut Report<'_>,
) -> Result<Vec<(Deb, String)>, BundleError> {
    std::fs::create_dir_all(cache).map_err(at("making", cache))?;
    let mut promises = Vec::new();
    for (name, stanza) in wanted {
        let field = |field: &str| {
            stanza.get(field).ok_or_else(|| BundleError::NotInPackage {
                package: format!("apt's description of {name}"),
                what: field.to_owned(),
            })
        };
        let sha256 = field("sha256")?.to_ascii_lowercase();
        if sha256.len() != 64 || !sha256.bytes().all(|c| c.is_ascii_hexdigit()) {
            return Err(BundleError::NotInPackage {
                package: format!("apt's description of {name}"),
                what: "SHA-256".to_owned(),
            });
        }
        promises.push(Promise {
            word: format!("{name}={}", field("version")?),
            sha256,
            len_bytes: field("size")?.parse().unwrap_or(0),
        });
    }
    let kept = |promise: &Promise| cache.join(format!("{}.deb", promise.sha256));
    let absent: Vec<&Promise> = promises.iter().filter(|p| !kept(p).is_file()).collect();
    if !absent.is_empty() {
        let folder = tempfile::tempdir_in(cache).map_err(at("making a folder in", cache))?;
        download(&absent, folder.path(), report)?;
        let mut arrived = BTreeMap::new();
        for entry in std::fs::read_dir(folder.path()).map_err(at("reading", folder.path()))? {
            let path = entry.map_err(at("reading", folder.path()))?.path();
            if path.extension().is_some_and(|ending| ending == "deb") {
                arrived.insert(sha256_file(&path)?, path);
            }
        }
        for promise in absent {
            let Some(path) = arrived.get(&promise.sha256) else {
                return Err(BundleError::Program {
                    program: format!("apt-get download {}", promise.word),
                    said: "the file it brought is not the one its list names".to_owned(),
                    hint: "run `apt-get update` as root and try again".to_owned(),
                });
            };
            std::fs::rename(path, kept(promise)).map_err(at("keeping", path))?;
        }
    }
    promises
        .iter()
        .map(|promise| Ok((Deb::open(&kept(promise))?, promise.sha256.clone())))
        .collect()
}

/// Runs one `apt-get download` for all packages, and reports how many bytes have arrived.
fn download(
    absent: &[&Promise],
    folder: &Path,
    report: &mut Report<'_>,
) -> Result<(), BundleError> {
    let total = absent.iter().map(|promise| promise.len_bytes).sum();
    let what = match absent {
        [one] => one.word.clone(),
        many => format!("{} packages", many.len()),
    };
    let mut say = |done| {
        report(Progress {
            step: Step::Downloading,
            what: &what,
            done,
            total: Some(total),
        });
    };
    say(0);
    let said = folder.join("apt.log");
    #[expect(
        clippy::disallowed_methods,
        reason = "the words of apt go through a file: a pipe could fill"
    )]
    let log = std::fs::File::create(&said).map_err(at("making", &said))?;
    let mut command = apt("apt-get", Some(folder));
    command
        .arg("download")
        .args(absent.iter().map(|promise| promise.word.as_str()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    let mut child = command.spawn().map_err(|error| no_apt("apt-get", &error))?;
    let status = loop {
        match child
            .try_wait()
            .map_err(at("waiting for apt-get in", folder))?
        {
            Some(status) => break status,
            None => {
                say(folder_bytes(folder).min(total));
                #[expect(
                    clippy::disallowed_methods,
                    reason = "a download is watched from outside"
                )]
                std::thread::sleep(POLL);
            }
        }
    };
    if status.success() {
        say(total);
        return Ok(());
    }
    let said = std::fs::read_to_string(&said).unwrap_or_default();
    Err(BundleError::Program {
        program: "apt-get download".to_owned(),
        said: said
            .lines()
            .rev()
            .find(|line| line.starts_with("E:"))
            .unwrap_or("no reason given")
            .to_owned(),
        hint: "run `apt-get update` as root; without a network name a folder of packages with --from-debs"
            .to_owned(),
    })
}

fn folder_bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Some(entry.metadata().ok()?.len()))
        .sum()
}

/// A command of apt, with messages in English.
fn apt(program: &str, folder: Option<&Path>) -> Command {
    let mut command = Command::new(program);
    command.env("LC_ALL", "C.UTF-8");
    if rustix::process::geteuid().is_root() {
        // apt's own user could not write into our folder; apt would print a warning and go on as
        // root anyway.
        command.args(["-o", "APT::Sandbox::User=root"]);
    }
    if let Some(folder) = folder {
        command.current_dir(folder);
    }
    command
}

fn run(command: &mut Command) -> Result<(String, bool), BundleError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let done = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .map_err(|error| no_apt(&program, &error))?;
    Ok((
        String::from_utf8_lossy(&done.stdout).into_owned(),
        done.status.success(),
    ))
}

fn no_apt(program: &str, error: &std::io::Error) -> BundleError {
    if error.kind() == std::io::ErrorKind::NotFound {
        return BundleError::NoProgram {
            program: program.to_owned(),
            hint: "the pre-OS is made of Debian packages: get them with `apt-get download` on a Debian machine, \
                   and name their folder with --from-debs"
                .to_owned(),
        };
    }
    BundleError::Program {
        program: program.to_owned(),
        said: error.to_string(),
        hint: "name a folder of packages with --from-debs".to_owned(),
    }
}
