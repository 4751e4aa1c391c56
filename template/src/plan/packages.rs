//! A driver package on a given Windows: the `.inf` files that are used, and the places of the files
//! they name.
//!
//! Invariants: a file is found at the place its `.inf` gives, ignoring case, and never by its file
//! name alone.

use super::rank::{Ids, Rank, score_at};
use crate::findings::{Arch, WindowsFindings};
use crate::inf::{Inf, InfService, Model, Models, Platform};
use crate::machine::{DriverPackage, Machine, PackageFile, PciDevice};
use crate::schema::DriverMatch;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// A package and the Windows it is planned for.
pub(super) struct Package<'a> {
    package: &'a DriverPackage,
    platform: Platform,
    /// Files by their names in lower case.
    files: BTreeMap<String, &'a PackageFile>,
}

/// An `.inf` that may be used, with its index in the package.
struct Competitor<'a> {
    at: usize,
    name: &'a str,
    inf: &'a Inf,
    /// This Windows requires a signature, and the `.inf` has no catalog.
    unsigned: bool,
}

/// An `.inf` that is used.
pub(super) struct Chosen<'a> {
    pub(super) name: &'a str,
    pub(super) inf: &'a Inf,
    /// Models that are used: the best for each device, or all.
    pub(super) models: Vec<&'a Model>,
    /// PCI functions of the machine for which this `.inf` is the best.
    pub(super) devices: Vec<PciDevice>,
}

/// The program of a service in a package.
pub(super) enum Binary<'a> {
    /// The file is there, and for this processor.
    Found(&'a PackageFile),
    /// The file is missing; its place.
    Missing(String),
    /// The file is for another processor.
    Foreign(&'a PackageFile, Arch),
    /// The file is not a program.
    Senseless(&'a PackageFile),
}

impl<'a> Package<'a> {
    pub(super) fn new(package: &'a DriverPackage, windows: &WindowsFindings) -> Self {
        let files = package.files.iter();
        Self {
            package,
            platform: windows.platform(),
            files: files.map(|file| (file.name.to_lowercase(), file)).collect(),
        }
    }

    /// The file at a place below the folder of an `.inf`.
    fn at(&self, inf: &str, place: &str) -> Option<&'a PackageFile> {
        self.files
            .get(&format!("{}{place}", folder(inf)).to_lowercase())
            .copied()
    }

    /// The program of a service.
    pub(super) fn binary(&self, inf: &str, service: &InfService) -> Binary<'a> {
        match self.at(inf, &service.place) {
            None => Binary::Missing(format!("{}{}", folder(inf), service.place)),
            Some(file) => match file.program {
                None => Binary::Senseless(file),
                Some(program) if program.arch != self.platform.arch => {
                    Binary::Foreign(file, program.arch)
                }
                Some(_) => Binary::Found(file),
            },
        }
    }

    /// True when the catalog of an `.inf` lies beside it, or at the place the `.inf` lists.
    pub(super) fn has_catalog(&self, name: &str, inf: &Inf) -> bool {
        let Some(catalog) = inf.catalog(self.platform.arch) else {
            return false;
        };
        let listed = inf.files.iter().filter(|file| {
            let last = file.rsplit('/').next().unwrap_or(file);
            last.to_lowercase() == catalog.to_lowercase()
        });
        std::iter::once(catalog)
            .chain(listed.map(String::as_str))
            .any(|place| self.at(name, place).is_some())
    }

    /// True when Windows could install a model: its program is there and for this processor, or is
    /// not listed in the package.
    fn usable(&self, name: &str, model: &Model) -> bool {
        model.service.as_ref().is_none_or(|service| {
            let found = self.binary(name, service);
            matches!(found, Binary::Found(_))
                || (matches!(found, Binary::Missing(_)) && !service.listed)
        })
    }

    /// Every `.inf` that competes for devices; extensions do not.
    fn competitors(&self) -> Vec<Competitor<'a>> {
        let infs = self.package.infs.iter().enumerate();
        infs.filter(|(_, (_, inf))| !inf.is_extension())
            .map(|(at, (name, inf))| Competitor {
                at,
                name,
                inf,
                unsigned: self.platform.arch != Arch::X86 && !self.has_catalog(name, inf),
            })
            .collect()
    }

    fn rank(
        &self,
        competitor: &Competitor<'a>,
        section: &Models,
        model: &Model,
        score: u32,
    ) -> Rank<'a> {
        Rank {
            unusable: !self.usable(competitor.name, model),
            unsigned: competitor.unsigned,
            feature_score: model.feature_score,
            identifier_score: score,
            version: Reverse(competitor.inf.driver_version),
            closeness: Reverse(section.target.closeness()),
            name: competitor.name,
        }
    }

    /// Indexes of the `.inf` files that are the best for one of the hardware ids named in the
    /// package.
    fn best_by_id(&self) -> BTreeSet<usize> {
        let mut best: BTreeMap<&str, (Rank<'_>, usize)> = BTreeMap::new();
        for competitor in self.competitors() {
            for section in competitor.inf.sections_for(&self.platform) {
                for model in &section.models {
                    let own = self.rank(&competitor, section, model, 0);
                    for (index, id) in model.hardware_ids.iter().enumerate() {
                        let rank = Rank {
                            identifier_score: score_at(index),
                            ..own.clone()
                        };
                        let known = best.get(id.as_str());
                        if known.is_none_or(|(known, _)| rank < *known) {
                            best.insert(id, (rank, competitor.at));
                        }
                    }
                }
            }
        }
        best.into_values().map(|(_, at)| at).collect()
    }

    /// The `.inf` files that are used, in the order of the package, and the indexes of all `.inf`
    /// files that are copied to the machine.
    pub(super) fn choose(
        &self,
        when: DriverMatch,
        machine: &Machine,
    ) -> (Vec<Chosen<'a>>, BTreeSet<usize>) {
        let mut chosen: BTreeMap<usize, Chosen<'a>> = BTreeMap::new();
        let mut along = self.best_by_id();
        let all = |at: usize| {
            let (name, inf) = self.package.infs.get(at)?;
            Some(Chosen {
                name,
                inf,
                models: inf.models_for(&self.platform).collect(),
                devices: Vec::new(),
            })
        };
        if when == DriverMatch::Always {
            chosen.extend(along.iter().filter_map(|at| Some((*at, all(*at)?))));
        }
        let competitors = self.competitors();
        let devices: Vec<Ids> = machine.pci.iter().map(Ids::of).collect();
        for (device, ids) in machine.pci.iter().zip(&devices) {
            let Some((at, model)) = self.best_for(&competitors, ids) else {
                continue;
            };
            let Some((name, inf)) = self.package.infs.get(at) else {
                continue;
            };
            let entry = chosen.entry(at).or_insert_with(|| Chosen {
                name,
                inf,
                models: Vec::new(),
                devices: Vec::new(),
            });
            entry.devices.push(*device);
            if !entry.models.iter().any(|known| std::ptr::eq(*known, model)) {
                entry.models.push(model);
            }
        }
        for (at, (_, inf)) in self.package.infs.iter().enumerate() {
            let serves = |model: &Model| {
                when == DriverMatch::Always || devices.iter().any(|ids| ids.score(model).is_some())
            };
            if inf.is_extension() && inf.models_for(&self.platform).any(serves) {
                chosen.extend(all(at).map(|extension| (at, extension)));
            }
            // An `.inf` without models installs nothing by itself: others include it.
            if inf.all_models().next().is_none() {
                along.insert(at);
            }
        }
        along.extend(chosen.keys());
        (chosen.into_values().collect(), along)
    }

    /// The best model of all `.inf` files for a device, with the index of its `.inf`.
    fn best_for(&self, competitors: &[Competitor<'a>], ids: &Ids) -> Option<(usize, &'a Model)> {
        let mut best: Option<(Rank<'_>, usize, &'a Model)> = None;
        for competitor in competitors {
            for section in competitor.inf.sections_for(&self.platform) {
                for model in &section.models {
                    let Some(score) = ids.score(model) else {
                        continue;
                    };
                    let rank = self.rank(competitor, section, model, score);
                    if best.as_ref().is_none_or(|(known, _, _)| rank < *known) {
                        best = Some((rank, competitor.at, model));
                    }
                }
            }
        }
        best.map(|(_, at, model)| (at, model))
    }

    /// Files to copy with these `.inf` files; `first` comes first.
    ///
    /// Files that lie only with other `.inf` files are left out, and so is every other `.inf`:
    /// first boot installs every `.inf` it finds, and one for another Windows would stop it.
    pub(super) fn files_with(&self, along: &BTreeSet<usize>, first: &str) -> Vec<&'a PackageFile> {
        let infs = || self.package.infs.iter().enumerate();
        let kept: BTreeSet<&str> = infs()
            .filter(|(at, _)| along.contains(at))
            .map(|(_, (name, _))| name.as_str())
            .collect();
        let homes: BTreeSet<&str> = infs().map(|(_, (name, _))| folder(name)).collect();
        let kept_homes: BTreeSet<&str> = kept.iter().map(|name| folder(name)).collect();
        let goes = |file: &&PackageFile| {
            if file.name.to_lowercase().ends_with(".inf") {
                return kept.contains(file.name.as_str());
            }
            let mut at = folder(&file.name);
            loop {
                if homes.contains(at) {
                    return kept_homes.contains(at);
                }
                if at.is_empty() {
                    return true;
                }
                at = folder(at.trim_end_matches('/'));
            }
        };
        let mut files: Vec<&PackageFile> = self.package.files.iter().filter(goes).collect();
        files.sort_by_key(|file| (file.name != first, &file.name));
        files
    }
}

/// Folder of a file inside the package, with its last `/`; empty at the top.
fn folder(name: &str) -> &str {
    name.rfind('/')
        .and_then(|at| name.get(..=at))
        .unwrap_or_default()
}
