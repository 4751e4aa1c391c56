//! `SOURCES.txt`: the packages in a pre-OS or an export, and their source packages.
//!
//! Kernel, loaders and tools have their own licences (most of them the GPL); a person who passes
//! the result on has to be able to name the source. None of it is part of diskcast.

use super::gather::Package;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// A package that files were taken from.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Serialize, Deserialize)]
pub struct PackageUsed {
    /// Name of the binary package.
    pub package: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of its file, in hex.
    pub sha256: String,
    /// Name of the source package.
    pub source: String,
    /// Its version.
    pub source_version: String,
}

impl From<&Package> for PackageUsed {
    fn from(package: &Package) -> Self {
        let (source, source_version) = package.deb.source.clone();
        Self {
            package: package.deb.package.clone(),
            version: package.deb.version.clone(),
            sha256: package.sha256.clone(),
            source,
            source_version,
        }
    }
}

/// Builds the text of `SOURCES.txt`. `notes` are lines at its end.
pub fn sources_text(used: &[PackageUsed], notes: &[String]) -> String {
    let mut text = String::from(
        "What this is made of\n\
         \n\
         Files were taken as they are from these Debian packages (amd64). The SHA-256 is that of the .deb file.\n\
         Each package's licence is in it, at /usr/share/doc/PACKAGE/copyright. The kernel, iPXE, GRUB, ntfs-3g and most of\n\
         the others are under the GNU General Public License: whoever passes this on, on a medium or from a server, has to\n\
         offer the source of exactly these versions with it. That of each package is named below it.\n\n",
    );
    for package in used {
        let _ = writeln!(
            text,
            "{} {}\n    sha256 {}\n    source {} {}",
            package.package,
            package.version,
            package.sha256,
            package.source,
            package.source_version
        );
    }
    text.push_str(
        "\nEvery version of every source stays at https://snapshot.debian.org/package/SOURCE/VERSION/; `apt-get source \
         SOURCE=VERSION`\nwith deb-src lines of the same release fetches it too. Signed packages (names with `signed`) are \
         built from the source\nof the same name without it.\n",
    );
    if !notes.is_empty() {
        text.push('\n');
        for note in notes {
            let _ = writeln!(text, "{note}");
        }
    }
    text
}
