//! Loads modules into the kernel.
//!
//! Owns the record of modules that were tried. A module that cannot be loaded costs its device,
//! never the machine: the failure is logged and not tried again.

#![expect(clippy::disallowed_methods, reason = "modules are files of the pre-OS")]

use super::alias::Aliases;
use super::deps::Dependencies;
use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// File with the modules that are always loaded, one name a line.
const ALWAYS: &str = "/etc/diskcast/modules";

/// The modules of the pre-OS.
pub struct Modules {
    folder: PathBuf,
    aliases: Aliases,
    dependencies: Dependencies,
    /// Names of modules given to the kernel, loaded or not.
    tried: Mutex<HashSet<String>>,
}

impl Modules {
    /// The modules of the running kernel; none when the bundle has another kernel's.
    pub fn open() -> Self {
        let release = rustix::system::uname();
        let folder = Path::new("/lib/modules").join(release.release().to_string_lossy().as_ref());
        Self::read(folder)
    }

    fn read(folder: PathBuf) -> Self {
        let text = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
        let dependencies = text("modules.dep");
        if dependencies.is_empty() {
            tracing::warn!(folder = %folder.display(), "no modules for this kernel; only its built-in drivers will work");
        }
        // Modules loaded already. Built-in ones are not listed, but have no file either.
        let tried = fs::read_to_string("/proc/modules")
            .unwrap_or_default()
            .lines()
            .filter_map(|line| line.split(' ').next().map(super::normal))
            .collect();
        Self {
            aliases: Aliases::parse(&text("modules.alias")),
            dependencies: Dependencies::parse(&dependencies, &text("modules.softdep")),
            tried: Mutex::new(tried),
            folder,
        }
    }

    /// Loads the modules that no device's alias leads to.
    pub fn load_always(&self) {
        for name in fs::read_to_string(ALWAYS).unwrap_or_default().lines() {
            let name = name.trim();
            if !name.is_empty() && !name.starts_with('#') {
                self.load(name);
            }
        }
    }

    /// Loads the modules for a device; returns how many were new.
    pub fn load_for(&self, modalias: &str) -> usize {
        self.aliases
            .modules(modalias)
            .into_iter()
            .map(|module| self.load(module))
            .sum()
    }

    /// Loads a module by its name or by an alias, like `modprobe`.
    pub fn load_by_any_name(&self, name: &str) -> usize {
        if self.dependencies.has(name) {
            self.load(name)
        } else {
            self.load_for(name)
        }
    }

    /// Loads a module and its dependencies; returns how many were new.
    pub fn load(&self, module: &str) -> usize {
        let mut loaded = 0;
        for (name, file) in self.dependencies.order(module) {
            // Locked during the load: a second thread that needs the module must not go on before
            // it works.
            let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
            if !tried.insert(name.to_owned()) {
                continue;
            }
            match self.give(file) {
                Ok(()) => {
                    tracing::debug!(module = name, "loaded");
                    loaded += 1;
                }
                Err(rustix::io::Errno::EXIST) => {}
                // The driver found no device of its own, which is normal for many platform modules.
                Err(rustix::io::Errno::NODEV) => {
                    tracing::debug!(module = name, "nothing for it here")
                }
                Err(error) => tracing::warn!(module = name, file, %error, "not loaded"),
            }
        }
        loaded
    }

    fn give(&self, file: &str) -> rustix::io::Result<()> {
        let file = File::open(self.folder.join(file)).map_err(|error| {
            rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO)
        })?;
        rustix::system::finit_module(&file, c"", 0)
    }
}
