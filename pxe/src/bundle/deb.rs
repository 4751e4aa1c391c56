//! One Debian package: `ar`, the compression of its members, `tar`.
//!
//! ```text
//! "!<arch>\n" | debian-binary | control.tar.{xz,zst,gz,} | data.tar.{xz,zst,gz,}      each with a 60-byte ar header
//! ```
//!
//! The format is deb(5). Its ar is the common subset (16-byte names, no long-name table), 60 bytes of text a member,
//! so no library is used for it. Everything is bounded before it is believed: a package is a file from outside.
//! Never writes anything, never panics.

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
/// Members before the one that is looked for.
const MOST_MEMBERS: usize = 16;
/// What the control member may unpack to, bytes: it holds small texts and scripts.
const LARGEST_CONTROL: u64 = 16 << 20;
/// Memory of the xz decoder, KiB: `xz -9` needs 65 MiB.
const XZ_MEMORY_KIB: u32 = 192 << 10;
/// Window of the zstd decoder, log2 bytes: `zstd -19` needs 8 MiB, `--long` 128 MiB.
const ZSTD_WINDOW_LOG: u32 = 27;

/// Bounds on what a package may unpack to.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// All files together, bytes.
    pub unpacked_bytes: u64,
    /// Entries.
    pub entries: u64,
}

impl Limits {
    /// Ten times the largest package in use, the generic kernel: 400 MB in 4,500 files.
    pub const PACKAGE: Self = Self {
        unpacked_bytes: 4 << 30,
        entries: 50_000,
    };
}

/// What an entry of a package is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A file; its bytes come from [`Entry::data`].
    File,
    /// A symbolic link and where it points, as the package says.
    Link(String),
    /// Another name of a file that came earlier in the package.
    Same(String),
}

/// One file or link of a package, while it is read.
pub struct Entry<'a> {
    /// Its name: relative, without `..`, in the merged-/usr form.
    pub path: String,
    /// What it is.
    pub kind: Kind,
    /// Length, bytes.
    pub len_bytes: u64,
    /// Its bytes; what is not read is passed over.
    pub data: &'a mut dyn Read,
}

/// A package on disk whose description has been read.
#[derive(Clone, Debug)]
pub struct Deb {
    /// The file.
    pub path: PathBuf,
    /// Length, bytes.
    pub len_bytes: u64,
    /// `Package:` of its description.
    pub package: String,
    /// `Version:`.
    pub version: String,
    /// Source package and its version.
    pub source: (String, String),
    /// The whole description.
    pub(crate) stanza: Stanza,
}

impl Deb {
    /// Reads the description of a package.
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

    /// SHA-256 of the whole file, hex.
    ///
    /// # Errors
    /// [`BundleError::Io`].
    pub fn sha256(&self) -> Result<String, BundleError> {
        sha256_file(&self.path)
    }

    /// Gives every file and link to `visit`, in the order of the package.
    ///
    /// # Errors
    /// [`BundleError::Io`] when it cannot be opened, [`BundleError::Deb`] when it is damaged, exceeds
    /// [`Limits::PACKAGE`], or `visit` fails.
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

/// Gives every file and link of the package in `deb` to `visit`. Names that leave the package's root, devices and
/// sockets are passed over: the pre-OS has no use for them.
///
/// # Errors
/// `InvalidData` for what is no package or exceeds `limits`; what `visit` says.
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

/// SHA-256 of a file, hex.
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

/// Lower-case hex.
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

/// The description of the package in `deb`.
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
        // name 16, mtime 12, uid 6, gid 6, mode 8, size 10, magic 2
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
        // Members begin at even bytes.
        let skip = size + size % 2;
        let passed = io::copy(&mut (&mut ar).take(skip), &mut io::sink())?;
        if passed < skip {
            break;
        }
    }
    Err(invalid(format!("it has no {prefix}")))
}

/// The plain bytes of a member, by the ending of its name, at most `limit` of them.
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

/// A reader that fails, rather than ends, where there is too much: half an archive must not pass for a whole one.
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

/// Tells how far a package has been read.
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
