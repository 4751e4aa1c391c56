//! Driver packages: what an `.inf` serves, and with which service.
//!
//! Bytes in, facts out; hostile bytes give an error or few facts, never a panic. Read are the parts a plan needs: class,
//! catalogs, hardware ids by architecture and version, and the service an install section adds. Sources: "General
//! syntax rules for INF files", "INF Models section", "INF AddService directive" of the Windows driver documentation.
//! Not read: `Include`/`Needs`, `LayoutFile`, and the many directives that only Windows carries out.

mod sections;

use crate::findings::Arch;
use sections::{Entry, Sections, decode};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Largest `.inf`; the largest of display drivers stay below 2 MiB.
pub const MAX_INF_BYTES: usize = 8 * 1024 * 1024;
/// Most lines and hardware ids of models that are looked at; the largest real packages have a few thousand.
const MAX_IDS: usize = 20_000;

/// Why an `.inf` cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InfError {
    /// Too large.
    #[error("it has {0} bytes; {MAX_INF_BYTES} are the most")]
    Large(usize),
    /// Not an INF of Windows NT and later.
    #[error("its [Version] section has no Signature of Windows NT ($Windows NT$ or $Chicago$)")]
    Signature,
}

/// What an `.inf` says.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Inf {
    /// `Class`.
    pub class: Option<String>,
    /// `ClassGuid`, braces included, capitals.
    pub class_guid: Option<String>,
    /// `CatalogFile`s, of every architecture.
    pub catalogs: Vec<String>,
    /// Every device it serves.
    pub models: Vec<Model>,
}

/// One line of a models section.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// Architecture it is for.
    pub arch: Arch,
    /// Lowest version it is for: major, minor, build.
    pub version: (u32, u32, u32),
    /// Hardware and compatible ids, capitals.
    pub hardware_ids: Vec<String>,
    /// The service that drives it.
    pub service: Option<InfService>,
}

/// The service an install section adds for its devices.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct InfService {
    /// Key name below `Services`.
    pub name: String,
    /// Its `.sys`, without folder.
    pub binary: String,
}

impl Inf {
    /// Devices served on a system of this architecture and version. Of models sections for several versions Windows takes
    /// the newest that is not newer than itself, and so does this.
    pub fn models_for(&self, arch: Arch, version: (u32, u32, u32)) -> impl Iterator<Item = &Model> {
        let newest = self
            .models
            .iter()
            .filter(|model| model.arch == arch && model.version <= version)
            .map(|model| model.version)
            .max();
        self.models
            .iter()
            .filter(move |model| model.arch == arch && Some(model.version) == newest)
    }
}

/// Reads an `.inf`: UTF-16 with its mark, UTF-8, or one of the old code pages (letters beyond ASCII are then not certain;
/// ids and services never have any).
///
/// # Errors
/// Too large, or no INF.
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
    let mut inf = Inf {
        class: version.value("class"),
        class_guid: version
            .value("classguid")
            .map(|guid| guid.to_ascii_uppercase()),
        ..Inf::default()
    };
    for entry in &version.entries {
        if let Some(file) = entry.values.first()
            && (entry.key == "catalogfile" || entry.key.starts_with("catalogfile."))
            && !inf.catalogs.contains(file)
        {
            inf.catalogs.push(file.clone());
        }
    }
    let mut looked_at = 0;
    let mut services: BTreeMap<(String, Arch), Option<InfService>> = BTreeMap::new();
    for maker in &sections.get("manufacturer").entries {
        // `%Name% = Models [, decoration]...`, or the name alone, which is the section then.
        let (base, decorations) = match maker.values.split_first() {
            Some((base, decorations)) => (base.as_str(), decorations),
            None => (maker.raw_key.as_str(), [].as_slice()),
        };
        let mut names = vec![(base.to_owned(), "")];
        names.extend(
            decorations
                .iter()
                .map(|decoration| (format!("{base}.{decoration}"), decoration.as_str())),
        );
        for (name, decoration) in names {
            let Some((arch, version)) = target(decoration) else {
                continue;
            };
            for line in &sections.get(&name).entries {
                looked_at += 1 + line.values.len();
                if looked_at > MAX_IDS {
                    return Ok(inf);
                }
                let Some((install, ids)) = line.values.split_first() else {
                    continue;
                };
                let ids: Vec<String> = ids
                    .iter()
                    .filter(|id| !id.is_empty())
                    .map(|id| id.to_ascii_uppercase())
                    .collect();
                if !ids.is_empty() {
                    inf.models.push(Model {
                        arch,
                        version,
                        hardware_ids: ids,
                        service: services
                            .entry((install.to_lowercase(), arch))
                            .or_insert_with(|| service(&sections, install, arch))
                            .clone(),
                    });
                }
            }
        }
    }
    Ok(inf)
}

/// True when a program or driver carries an Authenticode signature; `None` when the bytes are no PE file. That the signature
/// is good, and whose, is not looked at (Microsoft PE and COFF specification, "Attribute certificate table").
pub fn is_signed(bytes: &[u8]) -> Option<bool> {
    let u16_at = |at: usize| {
        Some(u16::from_le_bytes(
            bytes.get(at..at.checked_add(2)?)?.try_into().ok()?,
        ))
    };
    let u32_at = |at: usize| {
        Some(u32::from_le_bytes(
            bytes.get(at..at.checked_add(4)?)?.try_into().ok()?,
        ))
    };
    if bytes.get(..2)? != b"MZ" {
        return None;
    }
    let header = usize::try_from(u32_at(0x3c)?).ok()?;
    if bytes.get(header..header.checked_add(4)?)? != b"PE\0\0" {
        return None;
    }
    let optional = header.checked_add(24)?;
    // Offset of the number of directories, after which they stand: the fifth is the certificate table.
    let count_at = optional.checked_add(match u16_at(optional)? {
        0x10b => 92,
        0x20b => 108,
        _ => return None,
    })?;
    let entry = count_at.checked_add(4 + 4 * 8)?;
    if u32_at(count_at)? < 5 {
        return Some(false);
    }
    // The only directory whose place is an offset into the file.
    let offset = usize::try_from(u32_at(entry)?).ok()?;
    let size = usize::try_from(u32_at(entry.checked_add(4)?)?).ok()?;
    let inside = offset
        .checked_add(size)
        .is_some_and(|end| end <= bytes.len());
    Some(offset > 0 && size > 8 && inside)
}

/// Architecture and version of a decoration: `NTamd64.10.0...16299`. Nothing and `NT` alone mean 32-bit Intel since
/// Server 2003. `None` for architectures nobody deploys.
fn target(decoration: &str) -> Option<(Arch, (u32, u32, u32))> {
    let mut parts = decoration.split('.');
    let arch = match parts
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase()
        .as_str()
    {
        "" | "nt" | "ntx86" => Arch::X86,
        "ntamd64" => Arch::X64,
        "ntarm64" => Arch::Arm64,
        _ => return None,
    };
    // Major, minor, product type, suite mask, build.
    let numbers: Vec<u32> = parts.map(|part| part.trim().parse().unwrap_or(0)).collect();
    let number = |index: usize| numbers.get(index).copied().unwrap_or(0);
    Some((arch, (number(0), number(1), number(4))))
}

/// The service that an install section makes the device's own: flag 2 of `AddService`, or the only one it adds.
fn service(sections: &Sections, install: &str, arch: Arch) -> Option<InfService> {
    let decoration = match arch {
        Arch::X86 => ".ntx86",
        Arch::X64 => ".ntamd64",
        Arch::Arm64 => ".ntarm64",
        Arch::Other => "",
    };
    let section = [decoration, ".nt", ""]
        .iter()
        .map(|middle| sections.get(&format!("{install}{middle}.services")))
        .find(|section| !section.entries.is_empty())?;
    let added: Vec<&Entry> = section
        .entries
        .iter()
        .filter(|entry| entry.key == "addservice")
        .collect();
    let own = added.iter().find(|entry| {
        entry
            .values
            .get(1)
            .and_then(|flags| flag(flags))
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
    Some(InfService {
        name: name.clone(),
        binary: binary.to_owned(),
    })
}

/// A number as flags are written: `2`, `0x00000002`.
fn flag(text: &str) -> Option<u32> {
    let text = text.trim().to_lowercase();
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NVME: &str = r#"
; A disk controller; with all the shapes that are about.
[Version]
Signature   = "$WINDOWS NT$"
Class       = %ClassName%
ClassGuid   = {4d36e97b-e325-11ce-bfc1-08002be10318}
CatalogFile = acme.cat
CatalogFile.NTx86 = acme32.cat

[Manufacturer]
%Acme% = Acme, NTamd64, NTamd64.10.0...16299, ntx86, NTia64

[Acme.NTamd64]
"Acme ""old"" = x" = Old_Install, PCI\VEN_1234&DEV_0001
[Acme.NTamd64.10.0...16299]
%Dev% = Acme_Install, PCI\ven_1234&dev_5678, \
        PCI\CC_010802
[Acme.ntx86]
%Dev% = Acme_Install, PCI\VEN_1234&DEV_5678

[Acme_Install.NTamd64.Services]
AddService = other, , Other_Service
AddService = acmenvme, 0x00000002, Acme_Service, Acme_Log ; the device's own
[Acme_Install.NT.Services]
AddService = acme32,%SERVICE_FLAG%,Acme_Service
[Old_Install.Services]
AddService = acmeold,,Acme_Service
[Acme_Service]
ServiceType = 1
ServiceBinary = %12%\acmenvme.sys

[Strings]
Acme = "Acme, Inc."
Dev = "Acme; NVMe"
ClassName = "SCSIAdapter"
SERVICE_FLAG = 2
"#;

    #[test]
    fn an_inf_is_read() {
        let inf = read(NVME.as_bytes()).unwrap();
        assert_eq!(inf.class.as_deref(), Some("SCSIAdapter"));
        assert_eq!(
            inf.class_guid.as_deref(),
            Some("{4D36E97B-E325-11CE-BFC1-08002BE10318}")
        );
        assert_eq!(inf.catalogs, ["acme.cat", "acme32.cat"]);
        let on = |arch, version| {
            let models: Vec<&Model> = inf.models_for(arch, version).collect();
            models
                .into_iter()
                .map(|m| {
                    (
                        m.hardware_ids.join(" "),
                        m.service
                            .clone()
                            .map(|s| format!("{} {}", s.name, s.binary))
                            .unwrap_or_default(),
                    )
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(
            on(Arch::X64, (10, 0, 19041)),
            [(
                "PCI\\VEN_1234&DEV_5678 PCI\\CC_010802".into(),
                "acmenvme acmenvme.sys".into()
            )]
        );
        // An older Windows gets the older section.
        assert_eq!(
            on(Arch::X64, (6, 1, 7601)),
            [(
                "PCI\\VEN_1234&DEV_0001".into(),
                "acmeold acmenvme.sys".into()
            )]
        );
        assert_eq!(
            on(Arch::X86, (10, 0, 19041)),
            [(
                "PCI\\VEN_1234&DEV_5678".into(),
                "acme32 acmenvme.sys".into()
            )]
        );
        assert!(on(Arch::Arm64, (10, 0, 19041)).is_empty());
    }

    #[test]
    fn every_encoding_gives_the_same() {
        let want = read(NVME.as_bytes()).unwrap();
        let units: Vec<u16> = NVME.encode_utf16().collect();
        let little: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        let big: Vec<u8> = units.iter().flat_map(|unit| unit.to_be_bytes()).collect();
        for bytes in [
            [&[0xff, 0xfe], little.as_slice()].concat(),
            [&[0xfe, 0xff], big.as_slice()].concat(),
            little,
            [&[0xef, 0xbb, 0xbf], NVME.as_bytes()].concat(),
            // An old code page: 0xae is a sign in a comment.
            [NVME.as_bytes(), b"; \xae\n"].concat(),
        ] {
            assert_eq!(read(&bytes), Ok(want.clone()));
        }
    }

    #[test]
    fn what_is_no_inf_is_said() {
        assert_eq!(read(b""), Err(InfError::Signature));
        assert_eq!(
            read(b"[Version]\nSignature=\"$Linux$\""),
            Err(InfError::Signature)
        );
        assert!(matches!(
            read(&vec![b'a'; MAX_INF_BYTES + 1]),
            Err(InfError::Large(_))
        ));
    }

    /// The least of a 64-bit PE file, with this certificate table.
    fn pe(offset: u32, size: u32) -> Vec<u8> {
        let mut file = vec![0u8; 512];
        file[..2].copy_from_slice(b"MZ");
        file[0x3c] = 0x40;
        file[0x40..0x44].copy_from_slice(b"PE\0\0");
        file[0x58..0x5a].copy_from_slice(&0x20bu16.to_le_bytes());
        file[0x58 + 108] = 16;
        let entry = 0x58 + 112 + 32;
        file[entry..entry + 4].copy_from_slice(&offset.to_le_bytes());
        file[entry + 4..entry + 8].copy_from_slice(&size.to_le_bytes());
        file
    }

    #[test]
    fn signatures_are_seen() {
        assert_eq!(is_signed(&pe(256, 100)), Some(true));
        assert_eq!(is_signed(&pe(0, 0)), Some(false));
        assert_eq!(is_signed(&pe(500, 100)), Some(false));
        assert_eq!(is_signed(b"MZ"), None);
        assert_eq!(is_signed(b"\x7fELF"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = is_signed(&bytes);
            let _ = read(&bytes);
            let _ = read(&[b"[version]\nsignature=$chicago$\n[manufacturer]\n".as_slice(), &bytes].concat());
        }

        #[test]
        fn any_change_is_read(at in 0usize..1000, to in any::<u8>()) {
            let mut bytes = NVME.as_bytes().to_vec();
            if let Some(byte) = bytes.get_mut(at) {
                *byte = to;
            }
            let _ = read(&bytes);
        }
    }
}
