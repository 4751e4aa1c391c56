//! Driver packages: the devices an `.inf` serves, their services, and the places of their files.
//!
//! Takes bytes and gives facts; hostile bytes give an error or few facts, never a panic. It reads
//! the parts a plan needs: class, catalogs, version, hardware ids by manufacturer and target, the
//! service an install section adds, and the place of its program. Sources: "General syntax rules
//! for INF files", "INF Models section", "INF AddService directive", "INF SourceDisksFiles section"
//! of the Windows driver documentation. It does not read `Include`/`Needs`, `LayoutFile`, and the
//! many directives that only Windows carries out.
//!
//! Modules: `sections` has the text, `target` the Windows versions of a models section, `sources`
//! the places of files, `program` the headers of PE files.

mod program;
mod sections;
mod sources;
mod target;
#[cfg(test)]
mod tests;

pub use program::Program;
pub use target::{Closeness, Platform, Target, Unfit, Version};

use crate::findings::Arch;
use sections::{Entry, Section, Sections, decode};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Size limit of an `.inf`, in bytes; the largest, those of display drivers, stay below 2 MiB.
pub const MAX_INF_BYTES: usize = 8 * 1024 * 1024;
/// Limit of decorations, lines and hardware ids that are read from models sections; the largest
/// real packages have a few thousand.
const MAX_IDS: usize = 20_000;
/// Length limit of a section's name, in bytes.
const MAX_NAME: usize = 255;
/// Feature score of a package that names none; a smaller score is better.
const NO_FEATURE_SCORE: u8 = 0xff;
/// Setup class of extension packages, which add to the driver of a device.
const EXTENSION_CLASS: &str = "{E2F84CE7-8EFA-411C-AA69-97454CA4CB57}";

/// The reason why an `.inf` cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InfError {
    /// The file is larger than [`MAX_INF_BYTES`].
    #[error("it has {0} bytes; {MAX_INF_BYTES} are the most")]
    Large(usize),
    /// The file is not an INF of Windows NT or later.
    #[error("its [Version] section has no Signature of Windows NT ($Windows NT$ or $Chicago$)")]
    Signature,
    /// The INF installs no device: it belongs to an installer or a CD.
    #[error("it names neither a Class nor a Manufacturer, so it is no driver's")]
    NoDriver,
}

/// Content of an `.inf`.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Inf {
    /// `Class`.
    pub class: Option<String>,
    /// `ClassGuid`, with braces, in upper case.
    pub class_guid: Option<String>,
    /// `DriverVer`.
    pub driver_version: DriverVersion,
    /// Catalogs, by architecture; `None` is for architectures without a catalog of their own.
    pub catalogs: Vec<(Option<Arch>, String)>,
    /// Places of every listed file, for any architecture: paths below the folder of the `.inf`,
    /// with `/` between folders.
    pub files: Vec<String>,
    /// Entries of `[Manufacturer]`.
    pub makers: Vec<Maker>,
}

/// `DriverVer`: a date and a version. The larger value is the newer driver.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct DriverVersion {
    /// Year, month, day.
    pub date: (u32, u32, u32),
    /// `w.x.y.z`.
    pub version: [u32; 4],
}

/// An entry of `[Manufacturer]`: models sections, of which Windows uses one.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Maker {
    /// Every models section it names. Empty ones are kept: Windows uses no other section when an
    /// empty one fits best.
    pub sections: Vec<Models>,
}

/// A models section.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Models {
    /// The Windows versions it is for.
    pub target: Target,
    /// Entries of the section.
    pub models: Vec<Model>,
}

/// One line of a models section.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// The hardware id, then compatible ids; in upper case.
    pub hardware_ids: Vec<String>,
    /// `FeatureScore` of its install section.
    pub feature_score: u8,
    /// The service of the device's driver.
    pub service: Option<InfService>,
}

/// The service an install section adds for its devices.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct InfService {
    /// Key name below `Services`.
    pub name: String,
    /// File name of the `.sys` on the machine, without folder.
    pub binary: String,
    /// Place of the `.sys` in the package, below the folder of the `.inf` with `/` between folders.
    pub place: String,
    /// The `.inf` lists that place. Otherwise the file lies beside the `.inf`, or Windows has it
    /// already.
    pub listed: bool,
}

impl Maker {
    /// The models section a Windows uses: the closest of those that fit.
    pub fn section(&self, platform: &Platform) -> Option<&Models> {
        self.sections
            .iter()
            .filter(|section| section.target.unfit(platform).is_none())
            .max_by_key(|section| section.target.closeness())
    }
}

impl Inf {
    /// Models sections a Windows uses, at most one of each manufacturer.
    pub fn sections_for(&self, platform: &Platform) -> impl Iterator<Item = &Models> {
        self.makers
            .iter()
            .filter_map(|maker| maker.section(platform))
    }

    /// Entries of the models sections a Windows uses.
    pub fn models_for(&self, platform: &Platform) -> impl Iterator<Item = &Model> {
        self.sections_for(platform)
            .flat_map(|section| &section.models)
    }

    /// Entries of every models section.
    pub fn all_models(&self) -> impl Iterator<Item = (&Target, &Model)> {
        self.makers
            .iter()
            .flat_map(|maker| &maker.sections)
            .flat_map(|section| section.models.iter().map(|model| (&section.target, model)))
    }

    /// The catalog that signs the package on an architecture.
    pub fn catalog(&self, arch: Arch) -> Option<&str> {
        let of = |wanted: Option<Arch>| self.catalogs.iter().find(|(arch, _)| *arch == wanted);
        of(Some(arch))
            .or_else(|| of(None))
            .map(|(_, file)| file.as_str())
    }

    /// True for an extension package, which adds to the driver of a device and does not compete
    /// with it.
    pub fn is_extension(&self) -> bool {
        self.class_guid.as_deref() == Some(EXTENSION_CLASS)
    }
}

/// Reads an `.inf`: UTF-16, UTF-8, or an old code page. With a code page, letters beyond ASCII may
/// be wrong; ids and services never have any.
///
/// # Errors
/// The file is too large, is not an INF, or installs no device.
pub fn read(bytes: &[u8]) -> Result<Inf, InfError> {
    if bytes.len() > MAX_INF_BYTES {
        return Err(InfError::Large(bytes.len()));
    }
    let text = decode(bytes);
    let sections = Sections::of(&text);
    let version = sections.get("version");
    let signature = version
        .value("signature")
        .unwrap_or_default()
        .to_lowercase();
    if !matches!(
        signature.as_str(),
        "$windows nt$" | "$chicago$" | "$windows 95$"
    ) {
        return Err(InfError::Signature);
    }
    let inf = Inf {
        class: version.value("class"),
        class_guid: version
            .value("classguid")
            .map(|guid| guid.to_ascii_uppercase()),
        driver_version: driver_version(version),
        catalogs: catalogs(version),
        files: sources::places(&sections),
        makers: makers(&sections),
    };
    if inf.class.is_none() && inf.class_guid.is_none() && inf.makers.is_empty() {
        return Err(InfError::NoDriver);
    }
    Ok(inf)
}

/// Catalogs of `CatalogFile`, `CatalogFile.NT`, `CatalogFile.NTamd64` and the like.
fn catalogs(version: &Section) -> Vec<(Option<Arch>, String)> {
    let mut found = Vec::new();
    for entry in &version.entries {
        let arch = match entry.key.as_str() {
            "catalogfile" | "catalogfile.nt" => None,
            "catalogfile.ntx86" => Some(Arch::X86),
            "catalogfile.ntamd64" => Some(Arch::X64),
            "catalogfile.ntarm64" => Some(Arch::Arm64),
            _ => continue,
        };
        if let Some(file) = entry.values.first().filter(|file| !file.is_empty()) {
            found.push((arch, file.clone()));
        }
    }
    found
}

/// `DriverVer` as `mm/dd/yyyy,w.x.y.z`; missing or malformed parts are 0.
fn driver_version(version: &Section) -> DriverVersion {
    let entry = version.entry("driverver");
    let value = |index: usize| entry.and_then(|entry| entry.values.get(index));
    let numbers = |text: Option<&String>, between: &[char]| -> Vec<u32> {
        text.map_or_else(Vec::new, |text| {
            text.split(between)
                .map(|part| part.trim().parse().unwrap_or(0))
                .collect()
        })
    };
    let date = match numbers(value(0), &['/', '-']).as_slice() {
        [month, day, year] => (*year, *month, *day),
        _ => (0, 0, 0),
    };
    let mut parts = [0; 4];
    for (part, number) in parts.iter_mut().zip(numbers(value(1), &['.'])) {
        *part = number;
    }
    DriverVersion {
        date,
        version: parts,
    }
}

/// Every entry of `[Manufacturer]` with its models sections.
fn makers(sections: &Sections) -> Vec<Maker> {
    let mut makers = Vec::new();
    let mut looked_at = 0;
    let mut installs = Installs {
        sections,
        known: BTreeMap::new(),
    };
    for entry in &sections.get("manufacturer").entries {
        // `%Name% = Models [, decoration]...`. A name alone is the name of the section, too.
        let (base, decorations) = match entry.values.split_first() {
            Some((base, decorations)) => (base.as_str(), decorations),
            None => (entry.raw_key.as_str(), [].as_slice()),
        };
        let mut maker = Maker {
            sections: Vec::new(),
        };
        let decorations = decorations.iter().map(String::as_str);
        for decoration in std::iter::once("").chain(decorations) {
            looked_at += 1;
            if looked_at > MAX_IDS || base.len() + decoration.len() > MAX_NAME {
                break;
            }
            let Some(target) = Target::read(decoration) else {
                continue;
            };
            let name = match decoration {
                "" => base.to_owned(),
                decoration => format!("{base}.{decoration}"),
            };
            // A decoration stands for its section even when the section is missing; the name alone
            // does not.
            if decoration.is_empty() && !sections.has(&name) {
                continue;
            }
            let mut models = Vec::new();
            for line in &sections.get(&name).entries {
                looked_at += 1 + line.values.len();
                if looked_at > MAX_IDS {
                    break;
                }
                models.extend(model(&mut installs, line, target.arch));
            }
            maker.sections.push(Models { target, models });
        }
        if !maker.sections.is_empty() {
            makers.push(maker);
        }
    }
    makers
}

/// Reads `description = install, hardware id [, compatible id]...`; `None` when it has no ids.
fn model(installs: &mut Installs<'_>, line: &Entry, arch: Arch) -> Option<Model> {
    let (install, ids) = line.values.split_first()?;
    let hardware_ids: Vec<String> = ids
        .iter()
        .filter(|id| !id.is_empty())
        .map(|id| id.to_ascii_uppercase())
        .collect();
    if hardware_ids.is_empty() {
        return None;
    }
    let install = installs.get(install, arch);
    Some(Model {
        hardware_ids,
        feature_score: install.feature_score,
        service: install.service,
    })
}

/// The facts of an install section that a plan needs.
#[derive(Clone)]
struct Install {
    feature_score: u8,
    service: Option<InfService>,
}

/// Install sections, each read once.
struct Installs<'a> {
    sections: &'a Sections,
    known: BTreeMap<(String, Arch), Install>,
}

impl Installs<'_> {
    fn get(&mut self, name: &str, arch: Arch) -> Install {
        let key = (name.to_lowercase(), arch);
        if let Some(install) = self.known.get(&key) {
            return install.clone();
        }
        let name = install_name(self.sections, name, arch);
        let section = self.sections.get(&name);
        let score = section
            .value("featurescore")
            .and_then(|score| u8::from_str_radix(score.trim_start_matches("0x"), 16).ok());
        let install = Install {
            feature_score: score.unwrap_or(NO_FEATURE_SCORE),
            service: service(self.sections, &name, arch),
        };
        self.known.insert(key, install.clone());
        install
    }
}

/// Name of the install section for an architecture: the most specific decoration that exists. When
/// only its `.Services` sections exist, their names decide.
fn install_name(sections: &Sections, install: &str, arch: Arch) -> String {
    let decoration = match arch {
        Arch::X86 => ".ntx86",
        Arch::X64 => ".ntamd64",
        Arch::Arm64 => ".ntarm64",
        Arch::Other => "",
    };
    let names = [decoration, ".nt", ""].map(|decoration| format!("{install}{decoration}"));
    let own = names.iter().find(|name| sections.has(name));
    let behind = || {
        names
            .iter()
            .find(|name| sections.has(&format!("{name}.services")))
    };
    own.or_else(behind)
        .cloned()
        .unwrap_or_else(|| install.to_owned())
}

/// The device's function driver: the service with flag 2 of `AddService`, or the only one that is
/// added.
fn service(sections: &Sections, install: &str, arch: Arch) -> Option<InfService> {
    let section = sections.get(&format!("{install}.services"));
    let added: Vec<&Entry> = section
        .entries
        .iter()
        .filter(|entry| entry.key == "addservice")
        .collect();
    let own = added.iter().find(|entry| {
        entry
            .values
            .get(1)
            .and_then(|flags| number(flags))
            .is_some_and(|flags| flags & 2 != 0)
    });
    let entry = match (own, added.as_slice()) {
        (Some(own), _) => own,
        (None, [only]) => only,
        _ => return None,
    };
    let name = entry.values.first().filter(|name| !name.is_empty())?;
    let details = sections.get(entry.values.get(2)?);
    let path = details.value("servicebinary")?;
    let binary = path
        .rsplit(['\\', '/', '%'])
        .next()
        .filter(|name| !name.is_empty())?;
    let file = sources::name_before_copy(sections, sections.get(install), binary);
    let place = sources::place(sections, &file, arch);
    Some(InfService {
        name: name.clone(),
        binary: binary.to_owned(),
        listed: place.is_some(),
        place: place.unwrap_or(file),
    })
}

/// Parses a decimal or hexadecimal number of an `.inf`: `2`, `0x00000002`.
fn number(text: &str) -> Option<u32> {
    let text = text.trim().to_lowercase();
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}
