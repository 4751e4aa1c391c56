//! `modules.dep` and `modules.softdep`: the modules to load before a module.
//!
//! ```text
//! kernel/drivers/net/ethernet/intel/e1000e/e1000e.ko: kernel/drivers/ptp/ptp.ko kernel/drivers/pps/pps_core.ko
//! softdep r8169 pre: realtek
//! ```
//!
//! Owns the order. No call panics; a cycle, which a damaged file may have, is walked once.

use std::collections::{HashMap, HashSet};

/// Files and dependencies of modules, by normalised name.
#[derive(Debug, Default)]
pub struct Dependencies {
    files: HashMap<String, String>,
    needs: HashMap<String, Vec<String>>,
    softly: HashMap<String, Vec<String>>,
}

impl Dependencies {
    /// Parses both files; either may be empty.
    pub fn parse(dep: &str, softdep: &str) -> Self {
        let mut out = Self::default();
        for line in dep.lines() {
            let Some((file, needs)) = line.split_once(':') else {
                continue;
            };
            let name = name_of(file);
            let needs = needs.split_whitespace().map(name_of).collect();
            out.files.insert(name.clone(), file.trim().to_owned());
            out.needs.insert(name, needs);
        }
        for line in softdep.lines() {
            let mut fields = line.split_whitespace();
            let (Some("softdep"), Some(module)) = (fields.next(), fields.next()) else {
                continue;
            };
            let mut before = false;
            let entry = out.softly.entry(super::normal(module)).or_default();
            for field in fields {
                match field {
                    "pre:" => before = true,
                    "post:" => before = false,
                    other if before => entry.push(super::normal(other)),
                    // Modules of `post:` are loaded for their own devices.
                    _ => {}
                }
            }
        }
        out
    }

    /// True when the module exists.
    pub fn has(&self, module: &str) -> bool {
        self.files.contains_key(&super::normal(module))
    }

    /// Names and files (below the folder of the parsed file) in the order in which they have to be
    /// loaded, the module itself last; empty when the module does not exist. Missing dependencies
    /// are left out: loading then reports the problem.
    pub fn order(&self, module: &str) -> Vec<(&str, &str)> {
        let mut order = Vec::new();
        let mut seen = HashSet::new();
        // An explicit stack: the depth may be the length of a damaged file.
        let root = super::normal(module);
        let mut stack = vec![(root.as_str(), false)];
        while let Some((name, needs_done)) = stack.pop() {
            if needs_done {
                if let Some((name, file)) = self.files.get_key_value(name) {
                    order.push((name.as_str(), file.as_str()));
                }
                continue;
            }
            let Some((name, _)) = self.files.get_key_value(name) else {
                continue;
            };
            if !seen.insert(name.as_str()) {
                continue;
            }
            stack.push((name, true));
            for list in [self.needs.get(name), self.softly.get(name)] {
                for needed in list.into_iter().flatten().rev() {
                    stack.push((needed, false));
                }
            }
        }
        // The kernel's own list names the nearest dependency first; deeper ones have to be loaded
        // before it.
        order
    }
}

/// Name of a module from its file: `kernel/a/b-c.ko.xz` is module `b_c`.
fn name_of(file: &str) -> String {
    let base = file.trim().rsplit('/').next().unwrap_or_default();
    super::normal(base.split(".ko").next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names<'a>(dependencies: &'a Dependencies, module: &str) -> Vec<&'a str> {
        dependencies.order(module).iter().map(|m| m.0).collect()
    }

    #[test]
    fn what_is_needed_comes_first() {
        let dependencies = Dependencies::parse(
            "kernel/e1000e.ko: kernel/ptp.ko kernel/pps-core.ko\n\
             kernel/ptp.ko: kernel/pps-core.ko\n\
             kernel/pps-core.ko:\n\
             kernel/net/r8169.ko: kernel/libphy.ko\n\
             kernel/libphy.ko:\n\
             kernel/realtek.ko: kernel/libphy.ko\n\
             nonsense\n",
            "softdep r8169 pre: realtek absent post: later\nsoftdep\n",
        );
        assert_eq!(
            dependencies.order("e1000e"),
            [
                ("pps_core", "kernel/pps-core.ko"),
                ("ptp", "kernel/ptp.ko"),
                ("e1000e", "kernel/e1000e.ko")
            ]
        );
        assert_eq!(
            names(&dependencies, "r8169"),
            ["libphy", "realtek", "r8169"]
        );
        assert_eq!(names(&dependencies, "pps-core"), ["pps_core"]);
        assert!(dependencies.order("floppy").is_empty());
        assert!(dependencies.has("pps-core") && !dependencies.has("nonsense"));
    }

    #[test]
    fn a_circle_is_walked_once() {
        let dependencies = Dependencies::parse("a.ko: b.ko\nb.ko: a.ko\nc.ko: c.ko\n", "");
        assert_eq!(names(&dependencies, "a"), ["b", "a"]);
        assert_eq!(names(&dependencies, "c"), ["c"]);
    }

    proptest! {
        #[test]
        fn everything_comes_behind_what_it_needs(edges in proptest::collection::vec((0u8..20, 0u8..20), 0..60)) {
            // Edges lead only to lower numbers, so there is no cycle.
            let mut text = String::new();
            for module in 0..20u8 {
                text.push_str(&format!("m{module}.ko:"));
                for (_, to) in edges.iter().filter(|(from, to)| *from == module && to < from) {
                    text.push_str(&format!(" m{to}.ko"));
                }
                text.push('\n');
            }
            let dependencies = Dependencies::parse(&text, "");
            let order = names(&dependencies, "m19");
            for (from, to) in edges.iter().filter(|(from, to)| to < from) {
                let place = |module: u8| order.iter().position(|name| *name == format!("m{module}"));
                if let Some(place_of_user) = place(*from) {
                    prop_assert!(place(*to).is_some_and(|needed| needed < place_of_user));
                }
            }
        }

        #[test]
        fn any_text_is_read(dep in any::<String>(), soft in any::<String>(), module in any::<String>()) {
            Dependencies::parse(&dep, &soft).order(&module);
        }
    }
}
