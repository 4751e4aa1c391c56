//! A kernel module's description of itself: its `.modinfo` section, `key=value` texts that end with
//! zero bytes.
//!
//! `depends`, `softdep`, `alias` and `firmware` are all that depmod reads to make its files (kmod,
//! `libkmod-module.c`), so depmod is not needed. Pure. Never panics.

use super::deb::invalid;
use elf::ElfBytes;
use elf::endian::AnyEndian;
use std::io;

/// The description of one module.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Modinfo {
    /// Its `name=`, or empty.
    pub(crate) name: String,
    /// Modules it cannot be loaded without.
    pub(crate) depends: Vec<String>,
    /// Names or aliases that should be loaded before it.
    pub(crate) soft_before: Vec<String>,
    /// Names or aliases that should be loaded after it.
    pub(crate) soft_after: Vec<String>,
    /// Patterns of devices and features it serves.
    pub(crate) aliases: Vec<String>,
    /// Firmware files it may load.
    pub(crate) firmware: Vec<String>,
}

impl Modinfo {
    /// Reads the description in a module file.
    pub(crate) fn of(module: &[u8]) -> io::Result<Self> {
        let bad = |error| invalid(format!("a module is no ELF file: {error}"));
        let file = ElfBytes::<AnyEndian>::minimal_parse(module).map_err(bad)?;
        let section = file
            .section_header_by_name(".modinfo")
            .map_err(bad)?
            .ok_or_else(|| invalid("a module has no .modinfo"))?;
        let (data, compression) = file.section_data(&section).map_err(bad)?;
        if compression.is_some() {
            return Err(invalid("the .modinfo of a module is compressed"));
        }
        Ok(Self::parse(data))
    }

    fn parse(section: &[u8]) -> Self {
        let mut info = Self::default();
        for text in section.split(|byte| *byte == 0) {
            let Some((key, value)) = std::str::from_utf8(text)
                .ok()
                .and_then(|text| text.split_once('='))
            else {
                continue;
            };
            // A line of modules.alias must stay one line.
            if value.contains(['\n', '\r']) {
                continue;
            }
            match key {
                "name" => info.name = value.to_owned(),
                "depends" => info
                    .depends
                    .extend(value.split(',').filter(|name| !name.is_empty()).map(normal)),
                "alias" => info.aliases.push(value.to_owned()),
                "firmware" => info.firmware.push(value.to_owned()),
                "softdep" => {
                    let mut list = None;
                    for word in value.split_whitespace() {
                        match word {
                            "pre:" => list = Some(&mut info.soft_before),
                            "post:" => list = Some(&mut info.soft_after),
                            word => {
                                if let Some(list) = &mut list {
                                    list.push(word.to_owned());
                                }
                            }
                        }
                    }
                }
                _ => {}
            }
        }
        info
    }
}

/// A module's name in the kernel's form: `crc32c-intel.ko` is `crc32c_intel`.
pub(crate) fn normal(name: &str) -> String {
    name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_read() {
        let info = Modinfo::parse(
            b"alias=pci:v1\0alias=bad\nline\0softdep=pre: a b post: c\0softdep=d pre: e\0depends=x,y-z\0depends=\0name=me\0novalue\0\xff=1\0firmware=f/w",
        );
        assert_eq!(info.name, "me");
        assert_eq!(info.aliases, ["pci:v1"]);
        assert_eq!(info.soft_before, ["a", "b", "e"]);
        assert_eq!(info.soft_after, ["c"]);
        assert_eq!(info.depends, ["x", "y_z"]);
        assert_eq!(info.firmware, ["f/w"]);
    }

    #[test]
    fn what_is_no_module_is_said_so() {
        assert!(Modinfo::of(b"").is_err());
        assert!(Modinfo::of(b"\x7fELF and no more").is_err());
    }
}
