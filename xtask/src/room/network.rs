//! The room's network: namespaces, shaped links, byte counters; all removed again in every case.
//!
//! Always holds: however this process ends (an error, Ctrl-C, SIGKILL), the namespaces, the
//! processes inside them, loop devices on our files and the scratch folder are removed. A bash
//! process of our own waits for the end of its stdin, whose other end only this process holds; the
//! kernel closes it in every case, and then bash cleans up.

use std::process::{Child, Command, Stdio};

#[path = "../../../tests/common/room_script.rs"]
pub(crate) mod script;

use crate::scratch::Scratch;
use crate::shell::{Failure, bash};

/// A running room. Taken down when dropped.
pub(crate) struct Network {
    prefix: String,
    pub(crate) targets: usize,
    pub(crate) rate_bits_per_s: u64,
    /// Dropped last: its end starts the clean-up.
    _janitor: Janitor,
}

impl Network {
    /// Makes a switch, a console and `targets` machines, with every link at this rate.
    pub(crate) fn up(targets: usize, rate_bits_per_s: u64) -> Result<Self, Failure> {
        let prefix = format!("dcr{}", std::process::id());
        let janitor = Janitor::start(&script::down(&prefix, targets))?;
        let mut all = script::switch(&prefix);
        for number in 0..=targets {
            all.push_str(&script::machine(&prefix, number, targets, rate_bits_per_s));
        }
        bash(&all)?;
        Ok(Self {
            prefix,
            targets,
            rate_bits_per_s,
            _janitor: janitor,
        })
    }

    /// Makes every target lose this share of its UDP packets, each by its own random draw.
    pub(crate) fn lose(&self, share: f64) -> Result<(), Failure> {
        let all: String = (1..=self.targets)
            .map(|number| script::lose(&self.prefix, number, share))
            .collect();
        bash(&all).map(drop)
    }

    /// Limits the rate at which one target receives.
    pub(crate) fn limit(&self, number: usize, rate_bits_per_s: u64) -> Result<(), Failure> {
        bash(&script::shape_port(&self.prefix, number, rate_bits_per_s)).map(drop)
    }

    /// A command inside machine `number`. `ip netns exec` replaces itself, so the child is the
    /// program.
    pub(crate) fn command(&self, number: usize, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(number), program]);
        command
    }

    /// Ends all processes inside the room: those of a pipeline outlive the shell that made it.
    pub(crate) fn clear(&self) -> Result<(), Failure> {
        let all: String = (0..=self.targets)
            .map(|number| script::clear(&self.namespace(number)))
            .collect();
        bash(&all).map(drop)
    }

    fn namespace(&self, number: usize) -> String {
        script::namespace(&self.prefix, &script::who(number))
    }

    /// Bytes that machine `number` has sent and received so far, Ethernet headers included.
    pub(crate) fn bytes(&self, number: usize) -> Result<(u64, u64), Failure> {
        let said = bash(&format!(
            "ip -n {} -s -j link show eth0",
            self.namespace(number)
        ))?;
        let all: serde_json::Value =
            serde_json::from_str(&said).map_err(|error| Failure::new(error.to_string()))?;
        let counter = |way: &str| all[0]["stats64"][way]["bytes"].as_u64();
        counter("tx")
            .zip(counter("rx"))
            .ok_or_else(|| Failure::new(format!("ip said {said}")))
    }
}

/// A scratch folder that is removed even when this process is killed, with everything mounted or
/// looped on it.
pub(crate) struct Folder {
    /// Dropped first, because it removes what would block the removal of the scratch folder.
    _janitor: Janitor,
    pub(crate) scratch: Scratch,
}

impl Folder {
    pub(crate) fn new(scratch: Scratch) -> Result<Self, Failure> {
        let path = scratch.path().display();
        let janitor = Janitor::start(&format!(
            "umount {path}/mount 2>/dev/null
             losetup --list --noheadings --output NAME,BACK-FILE | while read device file; do
               case $file in {path}/*) losetup --detach $device;; esac
             done
             rm -rf {path}\n"
        ))?;
        Ok(Self {
            _janitor: janitor,
            scratch,
        })
    }
}

/// Runs a script once this process ends or drops it, in any way.
struct Janitor(Child);

impl Janitor {
    fn start(script: &str) -> Result<Self, Failure> {
        let waiting = format!(
            "trap '' INT TERM HUP
             while read -r line; do :; done
             {script}"
        );
        Command::new("bash")
            .args(["-c", &waiting])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map(Self)
            .map_err(|error| Failure::new(format!("bash: {error}")))
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_janitor_works_when_let_go_of() {
        let folder = Scratch::new(&std::env::temp_dir(), "janitor").unwrap();
        let file = folder.file("mark");
        let janitor = Janitor::start(&format!("touch {file}\n")).unwrap();
        assert!(!std::path::Path::new(&file).exists());
        drop(janitor);
        assert!(std::path::Path::new(&file).exists());
    }
}
