//! The modules of one kernel: the selection, its dependencies, and the files that kmod would read.
//!
//! ```text
//! profile: folders, names --closure: depends, softdep pre--> selected --> modules.dep, modules.alias, modules.softdep
//! ```
//!
//! Always holds: every name in `modules.dep` is in the selection; a cycle or an unknown name ends
//! the walk, so it never loops. Pure, except that module files go into the spool.

use super::deb::invalid;
use super::modinfo::{Modinfo, normal};
use super::path::base;
use super::profile::Profile;
use super::spool::{Place, Spool, plain};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{self, Read};

/// Largest module file that is read, in bytes; the largest of Debian's kernels has 8 MB.
const LARGEST: u64 = 128 << 20;
/// Prefix of an alias that names a processor feature. Modules with one refuse to load on other
/// processors.
const CPU_ALIAS: &str = "cpu:";

/// One module of the kernel package.
#[derive(Clone, Debug)]
pub(crate) struct Module {
    /// Path below `lib/modules/VERSION`, not compressed: `kernel/fs/ext4/ext4.ko`.
    pub(crate) path: String,
    /// Its bytes in the spool.
    pub(crate) place: Place,
    pub(crate) info: Modinfo,
}

/// All modules of a kernel, by name.
#[derive(Debug, Default)]
pub(crate) struct Modules {
    all: BTreeMap<String, Module>,
}

/// The selected modules of a kernel.
#[derive(Debug)]
pub(crate) struct Selection<'m> {
    modules: &'m Modules,
    names: BTreeSet<&'m str>,
}

impl Modules {
    /// Adds a module: `path` below `lib/modules/VERSION`, perhaps compressed.
    pub(crate) fn add(
        &mut self,
        path: &str,
        data: &mut dyn Read,
        spool: &mut Spool,
    ) -> io::Result<()> {
        let (path, bytes) = plain(path, data, LARGEST)?;
        let mut info = Modinfo::of(&bytes).map_err(|error| invalid(format!("{path}: {error}")))?;
        let name = normal(base(path).trim_end_matches(".ko"));
        info.name.clone_from(&name);
        let place = spool.put(&bytes)?;
        let path = path.to_owned();
        self.all.insert(name, Module { path, place, info });
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Selects the modules of a profile, with all they depend on.
    pub(crate) fn select(&self, profile: Profile) -> Selection<'_> {
        let by_alias = self.plain_aliases();
        let mut names = BTreeSet::new();
        let mut todo: Vec<&str> = self
            .all
            .iter()
            .filter(|(name, module)| profile.wants(name, &module.path))
            .map(|(name, _)| name.as_str())
            .collect();
        while let Some(name) = todo.pop() {
            let Some((name, module)) = self.all.get_key_value(name) else {
                continue;
            };
            if !names.insert(name.as_str()) {
                continue;
            }
            todo.extend(module.info.depends.iter().map(String::as_str));
            for soft in module
                .info
                .soft_before
                .iter()
                .chain(&module.info.soft_after)
            {
                let (name, aliases) = (normal(soft), by_alias.get(soft.as_str()));
                todo.extend(self.all.get_key_value(&name).map(|(name, _)| name.as_str()));
                todo.extend(aliases.into_iter().flatten());
            }
        }
        Selection {
            modules: self,
            names,
        }
    }

    /// Aliases that are plain words, the form soft dependencies use: `crypto-crc32c`.
    fn plain_aliases(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut by_alias: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, module) in &self.all {
            for alias in &module.info.aliases {
                if !alias.contains(['*', ':']) {
                    by_alias.entry(alias).or_default().push(name);
                }
            }
        }
        by_alias
    }
}

impl<'m> Selection<'m> {
    /// The selected modules in the order of their names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &'m Module> {
        self.names
            .iter()
            .filter_map(|name| self.modules.all.get(*name))
    }

    /// The text of `modules.dep`: `kernel/a.ko: kernel/b.ko kernel/c.ko`, all that a module needs,
    /// to be loaded from the last to the first.
    ///
    /// Soft dependencies "before" are included, though depmod keeps them apart: r8169 fails without
    /// `realtek`, ext4 without a crc32c, and the pre-OS has no modprobe that the kernel could call.
    /// Only those bound to a processor feature are left to coldplug, because they may refuse to
    /// load.
    pub(crate) fn dep_text(&self) -> String {
        let by_alias = self.modules.plain_aliases();
        let mut text = String::new();
        for module in self.iter() {
            let mut order = Vec::new();
            let mut seen = BTreeSet::from([module.info.name.as_str()]);
            self.needs(&module.info, &by_alias, &mut seen, &mut order);
            let _ = write!(text, "{}:", module.path);
            for need in order.iter().rev() {
                let _ = write!(text, " {need}");
            }
            text.push('\n');
        }
        text
    }

    /// Appends all that `info` needs to `order`, each module after its own needs. Every name is
    /// entered once, so the walk ends; the depth is that of the module graph (10 in real kernels),
    /// bounded by a kernel's own symbol resolution.
    fn needs(
        &self,
        info: &'m Modinfo,
        by_alias: &BTreeMap<&'m str, Vec<&'m str>>,
        seen: &mut BTreeSet<&'m str>,
        order: &mut Vec<&'m str>,
    ) {
        // An explicit stack: a made-up chain of thousands of modules must not overflow the
        // thread's.
        let mut stack = vec![(self.direct(info, by_alias), None::<&'m Module>)];
        while let Some((todo, module)) = stack.last_mut() {
            match todo.pop() {
                Some(need) => {
                    if seen.insert(need.info.name.as_str()) {
                        stack.push((self.direct(&need.info, by_alias), Some(need)));
                    }
                }
                None => {
                    order.extend(module.map(|module| module.path.as_str()));
                    stack.pop();
                }
            }
        }
    }

    fn direct(
        &self,
        info: &'m Modinfo,
        by_alias: &BTreeMap<&'m str, Vec<&'m str>>,
    ) -> Vec<&'m Module> {
        let soft = info.soft_before.iter().flat_map(|word| {
            let by_name = self.modules.all.get(&normal(word));
            let by_alias = by_alias.get(word.as_str()).into_iter().flatten();
            let by_alias = by_alias.filter_map(|name| self.modules.all.get(*name));
            by_name.into_iter().chain(by_alias).filter(|module| {
                !module
                    .info
                    .aliases
                    .iter()
                    .any(|alias| alias.starts_with(CPU_ALIAS))
            })
        });
        let hard = info
            .depends
            .iter()
            .filter_map(|name| self.modules.all.get(name));
        soft.chain(hard)
            .filter(|module| self.names.contains(module.info.name.as_str()))
            .collect()
    }

    /// The text of `modules.alias`: `alias PATTERN NAME`, in depmod's form.
    pub(crate) fn alias_text(&self) -> String {
        let mut text = String::from("# Aliases extracted from modules themselves.\n");
        for module in self.iter() {
            for alias in &module.info.aliases {
                let _ = writeln!(text, "alias {alias} {}", module.info.name);
            }
        }
        text
    }

    /// The text of `modules.softdep`: `softdep NAME pre: a b post: c`, in depmod's form.
    pub(crate) fn softdep_text(&self) -> String {
        let mut text = String::from("# Soft dependencies extracted from modules themselves.\n");
        for module in self.iter() {
            let info = &module.info;
            for (word, list) in [("pre:", &info.soft_before), ("post:", &info.soft_after)] {
                if !list.is_empty() {
                    let _ = writeln!(text, "softdep {} {word} {}", info.name, list.join(" "));
                }
            }
        }
        text
    }

    /// The text of `/etc/diskcast/modules`: the profile's modules that this kernel has.
    pub(crate) fn always_text(&self, profile: Profile) -> String {
        let mut text = String::new();
        for name in profile.always() {
            if self.names.contains(name) {
                let _ = writeln!(text, "{name}");
            }
        }
        text
    }

    /// Firmware files that the selected modules may load: file to module.
    pub(crate) fn firmware(&self) -> BTreeMap<&'m str, &'m str> {
        let mut wanted = BTreeMap::new();
        for module in self.iter() {
            for file in &module.info.firmware {
                wanted
                    .entry(file.as_str())
                    .or_insert(module.info.name.as_str());
            }
        }
        wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(modules: &mut Modules, path: &str, info: Modinfo) {
        let name = normal(base(path).trim_end_matches(".ko"));
        let place = Place::default();
        let info = Modinfo {
            name: name.clone(),
            ..info
        };
        modules.all.insert(
            name,
            Module {
                path: path.to_owned(),
                place,
                info,
            },
        );
    }

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|word| (*word).to_owned()).collect()
    }

    fn room() -> Modules {
        let mut modules = Modules::default();
        let m = &mut modules;
        module(
            m,
            "kernel/fs/ext4/ext4.ko",
            Modinfo {
                depends: words(&["jbd2", "crc16"]),
                soft_before: words(&["crypto-crc32c"]),
                ..Default::default()
            },
        );
        module(
            m,
            "kernel/fs/jbd2/jbd2.ko",
            Modinfo {
                depends: words(&["crc16"]),
                ..Default::default()
            },
        );
        module(m, "kernel/lib/crc16.ko", Modinfo::default());
        module(
            m,
            "kernel/crypto/crc32c_generic.ko",
            Modinfo {
                aliases: words(&["crypto-crc32c"]),
                ..Default::default()
            },
        );
        module(
            m,
            "kernel/arch/x86/crypto/crc32c-intel.ko",
            Modinfo {
                aliases: words(&["crypto-crc32c", "cpu:type:x86,ven*fam*mod*:feature:*0094*"]),
                ..Default::default()
            },
        );
        module(m, "kernel/sound/noise.ko", Modinfo::default());
        // Two modules that need each other: damaged, but the walk must end.
        module(
            m,
            "kernel/drivers/nvme/host/a.ko",
            Modinfo {
                depends: words(&["b"]),
                ..Default::default()
            },
        );
        module(
            m,
            "kernel/drivers/nvme/host/b.ko",
            Modinfo {
                depends: words(&["a", "gone"]),
                ..Default::default()
            },
        );
        modules
    }

    #[test]
    fn the_closure_follows_hard_and_soft_dependencies() {
        let modules = room();
        let selection = modules.select(Profile::Vm);
        let names: Vec<&str> = selection.iter().map(|m| m.info.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "a",
                "b",
                "crc16",
                "crc32c_generic",
                "crc32c_intel",
                "ext4",
                "jbd2"
            ]
        );
    }

    #[test]
    fn dependencies_are_written_in_kmods_order() {
        let modules = room();
        let text = modules.select(Profile::Vm).dep_text();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.contains(&"kernel/lib/crc16.ko:"), "{text}");
        assert!(lines.contains(&"kernel/drivers/nvme/host/a.ko: kernel/drivers/nvme/host/b.ko"));
        let ext4 = lines
            .iter()
            .find(|l| l.starts_with("kernel/fs/ext4"))
            .unwrap();
        // The last is loaded first: crc16 before jbd2. The processor-bound crc32c is left to
        // coldplug.
        let at = |part: &str| ext4.find(part).unwrap();
        assert!(at("jbd2.ko") < at("crc16.ko"), "{ext4}");
        assert!(
            ext4.contains("crc32c_generic") && !ext4.contains("intel"),
            "{ext4}"
        );
    }

    #[test]
    fn a_long_chain_of_modules_does_not_overflow() {
        let mut modules = Modules::default();
        for i in 0..20_000 {
            module(
                &mut modules,
                &format!("kernel/drivers/nvme/host/m{i}.ko"),
                Modinfo {
                    depends: vec![format!("m{}", i + 1)],
                    ..Default::default()
                },
            );
        }
        let selection = modules.select(Profile::Vm);
        let first = selection.modules.all.get("m0").unwrap();
        let (mut seen, mut order) = (BTreeSet::new(), Vec::new());
        selection.needs(&first.info, &BTreeMap::new(), &mut seen, &mut order);
        assert_eq!(order.len(), 19_999);
    }
}
