//! One Debian package: `ar`, the compression of its members, `tar`.
//!
//! ```text
//! "!<arch>\n" | debian-binary | control.tar.{xz,zst,gz,} | data.tar.{xz,zst,gz,}      each with a 60-byte ar header
//! ```
//!
//! The format is deb(5). Its ar is the common subset (16-byte names, no long-name table) with a
//! 60-byte header for each member, so no library is used for it. A package is a file from outside:
//! every length is checked against a bound before it is used. Never writes anything, never panics.

use super::control::Stanza;
use super::error::{BundleError, at};
use super::path;
use super::progress::{Progress, Report, Step};
use lzma_rust2::XzReader;
use sha2::{Digest, Sha256};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

const AR_MAGIC: &[u8; 8] = b"!<arch>\n";
const AR_HEADER: usize = 60;
/// Most members read before the wanted one.
const MOST_MEMBERS: usize = 16;
/// Most bytes the control member may unpack to. It holds small texts and scripts.
const LARGEST_CONTROL: u64 = 16 << 20;
/// Memory limit of the xz decoder, in KiB: `xz -9` needs 65 MiB.
const XZ_MEMORY_KIB: u32 = 192 << 10;
/// Largest window of the zstd decoder, log2 bytes: `zstd -19` needs 8 MiB, `--long` 128 MiB.
const ZSTD_WINDOW_LOG: u32 = 27;

/// Bounds on the content of a package.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most bytes of all files together.
    pub unpacked_bytes: u64,
    /// Most entries.
    pub entries: u64,
}

impl Limits {
    /// Ten times the largest package in use, the generic kernel: 400 MB in 4,500 files.
    pub const PACKAGE: Self = Self {
        unpacked_bytes: 4 << 30,
        entries: 50_000,
    };
}

/// Kind of an entry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A file; [`Entry::data`] gives its bytes.
    File,
    /// A symbolic link, with its target unchanged.
    Link(String),
    /// A hard link: another name of a file earlier in the package.
    Same(String),
}

/// One file or link of a package, valid while it is read.
pub struct Entry<'a> {
    /// Its name: relative, without `..`, in the merged-/usr form.
    pub path: String,
    /// Its kind.
    pub kind: Kind,
    /// Its length, in bytes.
    pub len_bytes: u64,
    /// Its bytes; unread ones are skipped.
    pub data: &'a mut dyn Read,
}

/// A package on disk whose description has been read.
#[derive(Clone, Debug)]
pub struct Deb {
    /// Path of the file.
    pub path: PathBuf,
    /// Length of the file, in bytes.
    pub len_bytes: u64,
    /// Field `Package` of the description.
    pub package: String,
    /// Field `Version`.
    pub version: String,
    /// Source package and its version.
    pub source: (String, String),
    /// All fields of the description.
    pub(crate) stanza: Stanza,
}

impl Deb {
    /// Opens a package and reads its description.
    ///
    /// # Errors
    /// [`BundleError::Io`] when it cannot be opened, [`BundleError::Deb`] when it is no package.
    pub fn open(path: &Path) -> Result<Self, BundleError> {
        let file = open(path)?;
        let len_bytes = file.metadata().map_err(at("reading", path))?.len();
        let bad = |source| BundleError::Deb {
            path: path.to_owned(),
            source,
        };
        let stanza = control(BufReader::new(file)).map_err(bad)?;
        let field = |name: &str| {
            stanza
                .get(name)
                .map(str::to_owned)
                .ok_or_else(|| bad(invalid(format!("its description has no {name}"))))
        };
        Ok(Self {
            path: path.to_owned(),
            len_bytes,
            package: field("package")?,
            version: field("version")?,
            source: stanza.source(),
            stanza,
        })
    }

    /// SHA-256 of the whole file, in hex.
    ///
    /// # Errors
    /// [`BundleError::Io`] when the file cannot be read.
    pub fn sha256(&self) -> Result<String, BundleError> {
        sha256_file(&self.path)
    }

    /// Calls `visit` with every file and link, in the order of the package.
    ///
    /// # Errors
    /// [`BundleError::Io`] when it cannot be opened, [`BundleError::Deb`] when it is damaged,
    /// exceeds [`Limits::PACKAGE`], or `visit` fails.
    pub fn unpack(
        &self,
        report: &mut Report<'_>,
        visit: &mut dyn FnMut(Entry<'_>) -> io::Result<()>,
    ) -> Result<(), BundleError> {
        let file = open(&self.path)?;
        let counted = Counted {
            inner: file,
            done: 0,
            said: 0,
            total: self.len_bytes,
            what: &self.package,
            report,
        };
        unpack(
            BufReader::with_capacity(1 << 17, counted),
            Limits::PACKAGE,
            visit,
        )
        .map_err(|source| BundleError::Deb {
            path: self.path.clone(),
            source,
        })
    }
}

/// Calls `visit` with every file and link of the package in `deb`. Names that leave the package's
/// root, devices and sockets are skipped: the pre-OS does not need them.
///
/// # Errors
/// `InvalidData` for bytes that are no package or exceed `limits`; any error of `visit`.
pub fn unpack(
    deb: impl BufRead,
    limits: Limits,
    visit: &mut dyn FnMut(Entry<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let (name, member) = member(deb, "data.tar")?;
    let plain = decompress(&name, member, limits.unpacked_bytes)?;
    let mut archive = tar::Archive::new(plain);
    let mut seen = 0_u64;
    for entry in archive.entries()? {
        let mut entry = entry?;
        seen += 1;
        if seen > limits.entries {
            return Err(invalid(format!("more than {} entries", limits.entries)));
        }
        let Some(path) = path::clean(&entry.path_bytes()) else {
            continue;
        };
        let link = |entry: &tar::Entry<'_, _>| {
            let name = entry.link_name_bytes()?;
            String::from_utf8(name.into_owned()).ok()
        };
        let kind = match entry.header().entry_type() {
            tar::EntryType::Regular | tar::EntryType::Continuous => Kind::File,
            tar::EntryType::Symlink => match link(&entry) {
                Some(target) => Kind::Link(target),
                None => continue,
            },
            tar::EntryType::Link => {
                match link(&entry).and_then(|name| path::clean(name.as_bytes())) {
                    Some(target) => Kind::Same(target),
                    None => continue,
                }
            }
            _ => continue,
        };
        visit(Entry {
            path,
            kind,
            len_bytes: entry.size(),
            data: &mut entry,
        })?;
    }
    Ok(())
}

/// SHA-256 of a file, in hex.
pub(crate) fn sha256_file(path: &Path) -> Result<String, BundleError> {
    let mut file = BufReader::with_capacity(1 << 18, open(path)?);
    let mut hash = Sha256::new();
    loop {
        let block = file.fill_buf().map_err(at("reading", path))?;
        if block.is_empty() {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(block);
        let len = block.len();
        file.consume(len);
    }
}

/// Bytes as lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the bundle reads packages from disk"
)]
fn open(path: &Path) -> Result<std::fs::File, BundleError> {
    std::fs::File::open(path).map_err(at("opening", path))
}

/// Reads the description of the package in `deb`.
fn control(deb: impl BufRead) -> io::Result<Stanza> {
    let (name, member) = member(deb, "control.tar")?;
    let mut archive = tar::Archive::new(decompress(&name, member, LARGEST_CONTROL)?);
    for entry in archive.entries()? {
        let mut entry = entry?;
        if path::clean(&entry.path_bytes()).as_deref() == Some("control") {
            let mut text = String::new();
            entry.read_to_string(&mut text)?;
            return Stanza::parse_all(&text)
                .into_iter()
                .next()
                .ok_or_else(|| invalid("its description is empty"));
        }
    }
    Err(invalid("it has no description"))
}

/// The first member of an ar archive whose name begins with `prefix`, and its bytes.
fn member<R: Read>(mut ar: R, prefix: &str) -> io::Result<(String, io::Take<R>)> {
    let mut magic = [0; AR_MAGIC.len()];
    ar.read_exact(&mut magic)?;
    if &magic != AR_MAGIC {
        return Err(invalid("it does not begin as an ar archive"));
    }
    for _ in 0..MOST_MEMBERS {
        let mut header = [0; AR_HEADER];
        ar.read_exact(&mut header)?;
        // The fields: name 16, mtime 12, uid 6, gid 6, mode 8, size 10, magic 2.
        let (name, rest) = header.split_at(16);
        let (size, end) = rest.split_at(32).1.split_at(10);
        if end != b"`\n" {
            return Err(invalid("an ar header is damaged"));
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        let size: u64 = text(size)
            .parse()
            .map_err(|_| invalid("an ar header has no size"))?;
        let name = text(name);
        let name = name.trim_end_matches('/');
        if name.starts_with(prefix) {
            return Ok((name.to_owned(), ar.take(size)));
        }
        // Members start at even offsets.
        let skip = size + size % 2;
        let passed = io::copy(&mut (&mut ar).take(skip), &mut io::sink())?;
        if passed < skip {
            break;
        }
    }
    Err(invalid(format!("it has no {prefix}")))
}

/// A reader of a member's uncompressed bytes, at most `limit` of them. The suffix of `name` tells
/// the compression.
fn decompress<'a>(
    name: &str,
    member: impl BufRead + 'a,
    limit: u64,
) -> io::Result<Bounded<Box<dyn Read + 'a>>> {
    let inner: Box<dyn Read + 'a> = match name.rsplit_once(".tar").map(|(_, ending)| ending) {
        Some("") => Box::new(member),
        Some(".xz") => Box::new(XzReader::new_mem_limit(member, true, XZ_MEMORY_KIB)),
        Some(".gz") => Box::new(flate2::bufread::MultiGzDecoder::new(member)),
        Some(".zst") => {
            let mut decoder = zstd::Decoder::with_buffer(member)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
        _ => return Err(invalid(format!("{name} has a compression unknown here"))),
    };
    Ok(Bounded { inner, left: limit })
}

pub(crate) fn invalid(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// A reader that fails beyond a limit, rather than ends: half an archive must not pass for a whole
/// one.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        match self.left.checked_sub(read as u64) {
            Some(left) => self.left = left,
            None => return Err(invalid("it unpacks to more than a package may")),
        }
        Ok(read)
    }
}

/// A reader that reports progress through a package.
struct Counted<'a, 'r, R> {
    inner: R,
    done: u64,
    said: u64,
    total: u64,
    what: &'a str,
    report: &'a mut Report<'r>,
}

impl<R: Read> Read for Counted<'_, '_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        self.done += read as u64;
        if read == 0 || self.done - self.said >= 1 << 20 {
            self.said = self.done;
            (self.report)(Progress {
                step: Step::Reading,
                what: self.what,
                done: self.done,
                total: Some(self.total),
            });
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// One file for [`tar_of`]: type, name, link target, bytes.
    type Member<'a> = (tar::EntryType, &'a str, &'a str, &'a [u8]);

    fn tar_of(members: &[Member<'_>]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (kind, name, link, bytes) in members {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_size(bytes.len() as u64);
            // Written into the field directly: the builder refuses names that a hostile package
            // would have.
            let field = &mut header.as_old_mut().name;
            field[..name.len()].copy_from_slice(name.as_bytes());
            header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
            header.set_cksum();
            archive.append(&header, *bytes).unwrap();
        }
        archive.into_inner().unwrap()
    }

    fn ar_of(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut ar = AR_MAGIC.to_vec();
        for (name, bytes) in members {
            let header = format!(
                "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n",
                0,
                0,
                0,
                644,
                bytes.len()
            );
            ar.extend(header.as_bytes());
            ar.extend(*bytes);
            ar.extend(vec![b'\n'; bytes.len() % 2]);
        }
        ar
    }

    fn names(deb: &[u8], limits: Limits) -> io::Result<Vec<(String, Kind)>> {
        let mut seen = Vec::new();
        unpack(deb, limits, &mut |entry| {
            seen.push((entry.path, entry.kind));
            Ok(())
        })?;
        Ok(seen)
    }

    #[test]
    fn names_that_leave_the_root_and_devices_are_passed_over() {
        use tar::EntryType;
        let data = tar_of(&[
            (EntryType::Regular, "./usr/bin/good", "", b"1"),
            (EntryType::Regular, "../../etc/passwd", "", b"2"),
            (EntryType::Regular, "/sbin/absolute", "", b"3"),
            (EntryType::Regular, "usr/../../x", "", b"4"),
            (EntryType::Char, "dev/mem", "", b""),
            (EntryType::Link, "usr/bin/same", "../../etc/shadow", b""),
            (EntryType::Link, "usr/bin/twin", "./usr/bin/good", b""),
            (
                EntryType::Symlink,
                "usr/bin/link",
                "../../../etc/shadow",
                b"",
            ),
        ]);
        let deb = ar_of(&[("debian-binary", b"2.0\n"), ("data.tar/", &data)]);
        assert_eq!(
            names(&deb, Limits::PACKAGE).unwrap(),
            [
                ("usr/bin/good".to_owned(), Kind::File),
                ("usr/sbin/absolute".to_owned(), Kind::File),
                (
                    "usr/bin/twin".to_owned(),
                    Kind::Same("usr/bin/good".to_owned())
                ),
                // The target is kept unchanged; `path::follow` refuses to follow it.
                (
                    "usr/bin/link".to_owned(),
                    Kind::Link("../../../etc/shadow".to_owned())
                ),
            ]
        );
    }

    #[test]
    fn limits_hold_for_bytes_and_entries() {
        let zeros = vec![0; 1 << 20];
        let data = tar_of(&[
            (tar::EntryType::Regular, "a", "", &zeros),
            (tar::EntryType::Regular, "b", "", &zeros),
        ]);
        let packed = zstd::bulk::compress(&data, 3).unwrap();
        assert!(packed.len() < 2000, "a bomb: {}", packed.len());
        let deb = ar_of(&[("data.tar.zst", &packed)]);
        let limits = |unpacked_bytes, entries| Limits {
            unpacked_bytes,
            entries,
        };
        assert_eq!(names(&deb, limits(3 << 20, 2)).unwrap().len(), 2);
        for (limits, said) in [
            (limits(1 << 20, 2), "more than a package may"),
            (limits(3 << 20, 1), "more than 1 entries"),
        ] {
            let error = names(&deb, limits).unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
        }
    }

    #[test]
    fn what_is_no_package_is_said_so() {
        let data = tar_of(&[]);
        for (bytes, said) in [
            (b"PK\x03\x04 a zip file".to_vec(), "does not begin as an ar"),
            (ar_of(&[("debian-binary", b"2.0\n")]), ""),
            (ar_of(&[("data.tar.lzma", &data)]), "compression unknown"),
            (ar_of(&[("data.tar.xz", b"not xz")]), ""),
        ] {
            let error = names(&bytes, Limits::PACKAGE).unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// Damage anywhere gives an error or other entries; never a panic, never a name outside.
        #[test]
        fn damaged_packages_do_no_harm(
            at in 0_usize..4000,
            byte: u8,
            cut in 0_usize..4000,
            ending in prop::sample::select(vec!["", ".xz", ".gz", ".zst"]),
        ) {
            let data = tar_of(&[
                (tar::EntryType::Regular, "usr/bin/a", "", b"some bytes"),
                (tar::EntryType::Symlink, "usr/bin/b", "a", b""),
            ]);
            let data = match ending {
                ".zst" => zstd::bulk::compress(&data, 1).unwrap(),
                ".gz" => {
                    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                    io::Write::write_all(&mut out, &data).unwrap();
                    out.finish().unwrap()
                }
                ".xz" => {
                    let options = lzma_rust2::XzOptions::with_preset(1);
                    let mut out = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
                    io::Write::write_all(&mut out, &data).unwrap();
                    out.finish().unwrap()
                }
                _ => data,
            };
            let whole = ar_of(&[("control.tar", b""), (&format!("data.tar{ending}"), &data)]);
            let undamaged = names(&whole, Limits::PACKAGE).unwrap();
            prop_assert_eq!(undamaged.len(), 2);
            let mut damaged = whole.clone();
            let len = damaged.len();
            damaged[at % len] ^= byte;
            damaged.truncate(len - cut % len);
            for (path, _) in names(&damaged, Limits::PACKAGE).unwrap_or_default() {
                prop_assert!(!path.starts_with('/') && !path.split('/').any(|part| part == ".."));
            }
            let _ = control(damaged.as_slice());
        }

        #[test]
        fn any_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let mut deb = AR_MAGIC.to_vec();
            deb.extend(&bytes);
            let _ = names(&deb, Limits::PACKAGE);
            let _ = Stanza::parse_all(&String::from_utf8_lossy(&bytes));
            let _ = super::super::elf::Needs::of(&bytes);
            let _ = super::super::modinfo::Modinfo::of(&bytes);
        }
    }
}
