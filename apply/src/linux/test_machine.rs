//! Simulated machine for tests of the first-boot script, kept in a folder.

use super::script::{FOLDER, UNIT, script};
use std::path::{Path, PathBuf};
use template::first_start::FirstStart;
use template::step::FirstBootJob;

/// The script, a `systemctl` that records its arguments, network cards as the kernel shows them,
/// and the files that remain.
pub(super) struct Machine {
    folder: tempfile::TempDir,
}

impl Machine {
    pub(super) fn new(job: &FirstBootJob, first_start: Option<&FirstStart>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().display().to_string();
        let text = script(job, first_start)
            .unwrap()
            .replace("/var/log", &at)
            .replace(FOLDER, &at)
            .replace("/etc/systemd/system", &at)
            .replace("PATH=/usr/local/sbin", &format!("PATH={at}/bin"))
            .replace("proc=/proc", &format!("proc={at}/proc"))
            .replace("cards=/sys", &format!("cards={at}/sys"))
            .replace("machine_id=/etc", &format!("machine_id={at}"))
            .replace("cloud=/run", &format!("cloud={at}/run"));
        let this = Self { folder };
        this.put(UNIT, "unit");
        this.put("firstboot.sh", &text);
        this.program("systemctl", &format!("echo \"$*\" >>{at}/asked"));
        this
    }

    /// Writes a file, and the folders above it.
    pub(super) fn put(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Installs a program that comes first in the script's search path.
    pub(super) fn program(&self, name: &str, text: &str) {
        self.put(&format!("bin/{name}"), &format!("#!/bin/sh\n{text}\n"));
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(self.path(&format!("bin/{name}")), mode).unwrap();
    }

    /// Replaces text in the script.
    pub(super) fn change(&self, from: &str, to: &str) {
        let text = self.text_of("firstboot.sh");
        assert!(text.contains(from), "{from}");
        self.put("firstboot.sh", &text.replace(from, to));
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn text_of(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub(super) fn log(&self) -> String {
        self.text_of("diskcast-firstboot.log")
    }

    /// Simulates one start of the machine.
    pub(super) fn start(&self) -> Option<i32> {
        self.start_by(&["sh"])
    }

    /// Simulates one start with the script run by this shell.
    pub(super) fn start_by(&self, shell: &[&str]) -> Option<i32> {
        let path = self.path("firstboot.sh").display().to_string();
        let (program, words) = shell.split_first().unwrap();
        let words = [words, &[&path]].concat();
        crate::program::run(program, &words, crate::program::SHORT)
            .unwrap()
            .code
    }

    /// True if neither the script nor its unit is left.
    pub(super) fn over(&self) -> bool {
        !self.path("firstboot.sh").exists() && !self.path(UNIT).exists()
    }
}
