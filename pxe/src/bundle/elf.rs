//! Requirements of a program or library: interpreter, libraries, symbol versions.
//!
//! Pure. Never panics: the `elf` crate checks every offset.

use super::deb::invalid;
use elf::ElfBytes;
use elf::abi::{DT_NEEDED, EM_X86_64, PT_INTERP};
use elf::endian::AnyEndian;
use std::collections::BTreeMap;
use std::io;

/// Most names taken from one file; the largest programs need some dozens.
const MOST: usize = 4096;

/// Requirements of one ELF file.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Needs {
    /// Path of the loader that starts it; absent in libraries and static programs.
    pub(crate) interpreter: Option<String>,
    /// Names of the libraries it needs.
    pub(crate) libraries: Vec<String>,
    /// Library to the symbol versions it needs from it: `libc.so.6` to `GLIBC_2.34`, ...
    pub(crate) versions: BTreeMap<String, Vec<String>>,
    /// Symbol versions it provides.
    pub(crate) offers: Vec<String>,
}

impl Needs {
    /// Reads the requirements of an ELF file for x86-64.
    pub(crate) fn of(bytes: &[u8]) -> io::Result<Self> {
        let bad = |error| invalid(format!("no ELF file: {error}"));
        let file = ElfBytes::<AnyEndian>::minimal_parse(bytes).map_err(bad)?;
        if file.ehdr.e_machine != EM_X86_64 {
            return Err(invalid("not a program for x86-64"));
        }
        let mut needs = Self::default();
        for segment in file.segments().into_iter().flatten() {
            if segment.p_type == PT_INTERP {
                let name = file.segment_data(&segment).map_err(bad)?;
                needs.interpreter = name.split(|byte| *byte == 0).next().map(text);
            }
        }
        let common = file.find_common_data().map_err(bad)?;
        if let (Some(dynamic), Some(strings)) = (common.dynamic, common.dynsyms_strs) {
            for entry in dynamic.iter().take(MOST) {
                if entry.d_tag == DT_NEEDED {
                    let at = usize::try_from(entry.d_val()).map_err(invalid_offset)?;
                    needs
                        .libraries
                        .push(strings.get(at).map_err(bad)?.to_owned());
                }
            }
        }
        needs.read_versions(&file).map_err(bad)?;
        Ok(needs)
    }

    fn read_versions(&mut self, file: &ElfBytes<'_, AnyEndian>) -> Result<(), elf::ParseError> {
        use elf::abi::{SHT_GNU_VERDEF, SHT_GNU_VERNEED};
        use elf::gnu_symver::{VerDefIterator, VerNeedIterator};
        let Some(sections) = file.section_headers() else {
            return Ok(());
        };
        for section in sections.iter() {
            if !matches!(section.sh_type, SHT_GNU_VERDEF | SHT_GNU_VERNEED) {
                continue;
            }
            let (data, _) = file.section_data(&section)?;
            let link = usize::try_from(section.sh_link)?;
            let strings = file.section_data_as_strtab(&sections.get(link)?)?;
            let (endian, class, count) = (
                file.ehdr.endianness,
                file.ehdr.class,
                section.sh_info.into(),
            );
            if section.sh_type == SHT_GNU_VERDEF {
                for (_, names) in VerDefIterator::new(endian, class, count, 0, data).take(MOST) {
                    // The first name is the version itself, the others are its predecessors.
                    if let Some(name) = names.into_iter().next() {
                        self.offers
                            .push(strings.get(usize::try_from(name.vda_name)?)?.to_owned());
                    }
                }
            } else {
                for (need, names) in VerNeedIterator::new(endian, class, count, 0, data).take(MOST)
                {
                    let library = strings.get(usize::try_from(need.vn_file)?)?.to_owned();
                    let wanted = self.versions.entry(library).or_default();
                    for name in names.take(MOST) {
                        wanted.push(strings.get(usize::try_from(name.vna_name)?)?.to_owned());
                    }
                }
            }
        }
        Ok(())
    }

    /// True when it starts without a loader and libraries.
    pub(crate) fn is_static(&self) -> bool {
        self.interpreter.is_none() && self.libraries.is_empty()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn invalid_offset(_: std::num::TryFromIntError) -> io::Error {
    invalid("an offset beyond this machine's memory")
}
