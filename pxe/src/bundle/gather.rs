//! Finds the packages something needs, and gets their files onto this disk.

use super::catalog::{Catalog, PackageSource};
use super::control::Stanza;
use super::deb::Deb;
use super::error::BundleError;
use super::profile::{Profile, is_library};
use super::progress::Report;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Most rounds of the search for libraries of libraries.
const MOST_ROUNDS: usize = 16;

/// One thing wanted from the packages.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wanted {
    /// The newest kernel for a profile.
    Kernel(Profile),
    /// A package, with the libraries it depends on.
    Programs(&'static str),
    /// A package alone.
    Files(&'static str),
    /// A package alone, if the source has it.
    Perhaps(&'static str),
}

/// A package on disk.
#[derive(Clone, Debug)]
pub struct Package {
    /// The package file.
    pub deb: Deb,
    /// SHA-256 of the file, in hex.
    pub sha256: String,
}

/// The packages that were gathered.
#[derive(Clone, Debug, Default)]
pub struct Gathered {
    /// All packages by name.
    pub packages: BTreeMap<String, Package>,
    /// Name of the kernel package among them.
    pub kernel: Option<String>,
}

impl Gathered {
    /// A package by its name.
    pub(crate) fn package(&self, name: &str) -> Result<&Package, BundleError> {
        self.packages
            .get(name)
            .ok_or_else(|| BundleError::NotInPackage {
                package: "what was gathered".to_owned(),
                what: name.to_owned(),
            })
    }
}

/// Finds the packages, and fetches those that are not in `cache` yet.
///
/// # Errors
/// [`BundleError::NoPackage`] with every missing name; any error of fetching.
pub fn gather(
    source: &PackageSource,
    cache: &Path,
    wanted: &[Wanted],
    report: &mut Report<'_>,
) -> Result<Gathered, BundleError> {
    let catalog = Catalog::open(source)?;
    let mut kernel = None;
    let (mut names, mut required, mut with_libraries) = (BTreeSet::new(), Vec::new(), Vec::new());
    for want in wanted {
        let name = match want {
            Wanted::Kernel(profile) => {
                let name = catalog.kernel(*profile)?;
                kernel = Some(name.clone());
                name
            }
            Wanted::Programs(name) => {
                with_libraries.push((*name).to_owned());
                (*name).to_owned()
            }
            Wanted::Files(name) | Wanted::Perhaps(name) => (*name).to_owned(),
        };
        if !matches!(want, Wanted::Perhaps(_)) {
            required.push(name.clone());
        }
        names.insert(name);
    }
    let names: Vec<String> = names.into_iter().collect();
    let mut found = catalog.describe(&names)?;
    required.retain(|name| !found.contains_key(name));
    if !required.is_empty() {
        return Err(catalog.missing(required));
    }
    add_libraries(&catalog, &mut found, &with_libraries)?;
    let fetched = catalog.fetch(&found, cache, report)?;
    let packages = fetched
        .into_iter()
        .map(|(deb, sha256)| (deb.package.clone(), Package { deb, sha256 }))
        .collect();
    Ok(Gathered { packages, kernel })
}

/// Adds the library packages that `roots` depend on. A package that the source lacks is left out: a
/// missing library is reported by name when programs are placed.
fn add_libraries(
    catalog: &Catalog,
    found: &mut BTreeMap<String, Stanza>,
    roots: &[String],
) -> Result<(), BundleError> {
    let mut asked: BTreeSet<String> = BTreeSet::new();
    let mut round: Vec<String> = roots.to_vec();
    for _ in 0..MOST_ROUNDS {
        let candidates: BTreeSet<String> = round
            .iter()
            .filter_map(|name| found.get(name))
            .flat_map(Stanza::depends)
            // The first alternative is Debian's default.
            .filter_map(|group| group.into_iter().next())
            .filter(|name| is_library(name) && !asked.contains(name))
            .collect();
        if candidates.is_empty() {
            break;
        }
        asked.extend(candidates.iter().cloned());
        round = candidates.into_iter().collect();
        found.extend(catalog.describe(&round)?);
    }
    Ok(())
}
