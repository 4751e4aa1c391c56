//! Processes of a run: started in a namespace, with their CPU time and peak memory known at the
//! end.
//!
//! Everything comes from `/proc`. The CPU time of a process that has ended stays readable until it
//! is waited for, so nothing is lost at the end; its peak memory is gone by then, so it is sampled
//! while it runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::shell::Failure;

/// Clock ticks a second in `/proc/PID/stat`, a constant of the kernel's interface to programs.
const TICKS_PER_S: f64 = 100.0;

/// CPU seconds, including those of children that were waited for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cpu {
    pub(crate) user_s: f64,
    pub(crate) system_s: f64,
}

impl Cpu {
    pub(crate) fn total_s(self) -> f64 {
        self.user_s + self.system_s
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            user_s: self.user_s - before.user_s,
            system_s: self.system_s - before.system_s,
        }
    }
}

/// The end of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub(crate) at: Instant,
    pub(crate) cpu: Cpu,
    pub(crate) peak_bytes: u64,
    pub(crate) clean: bool,
}

/// A child process whose output goes to a file; killed if dropped before its end.
pub(crate) struct Process {
    child: Child,
    pub(crate) name: String,
    log: PathBuf,
    peak_bytes: u64,
    end: Option<End>,
}

impl Process {
    pub(crate) fn start(mut command: Command, name: &str, log: &Path) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::new(format!("starting {name}: {error}"));
        let out = fs::File::create(log).map_err(failed)?;
        let err = out.try_clone().map_err(failed)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .map_err(failed)?;
        Ok(Self {
            child,
            name: name.to_owned(),
            log: log.to_owned(),
            peak_bytes: 0,
            end: None,
        })
    }

    /// Samples the process: records its memory, and its end if it has ended.
    pub(crate) fn look(&mut self) -> Option<End> {
        if self.end.is_some() {
            return self.end;
        }
        self.peak_bytes = self.peak_bytes.max(peak_bytes(self.child.id()));
        let stat = Stat::read(self.child.id());
        if stat.as_ref().is_some_and(|stat| !stat.ended) {
            return None;
        }
        let at = Instant::now();
        let clean = self.child.wait().is_ok_and(|status| status.success());
        self.end = Some(End {
            at,
            cpu: stat.map(|stat| stat.cpu).unwrap_or_default(),
            peak_bytes: self.peak_bytes,
            clean,
        });
        self.end
    }

    /// CPU time and peak memory so far.
    pub(crate) fn so_far(&self) -> (Cpu, u64) {
        let cpu = Stat::read(self.child.id()).map_or_else(Cpu::default, |stat| stat.cpu);
        (cpu, self.peak_bytes.max(peak_bytes(self.child.id())))
    }

    /// Ends the process by SIGKILL, so that it cannot clean up.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.end.get_or_insert(End {
            at: Instant::now(),
            cpu: Cpu::default(),
            peak_bytes: self.peak_bytes,
            clean: false,
        });
    }

    /// The last lines of its output, for a failure.
    pub(crate) fn said(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(3)..].join(" / ")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.end.is_none() {
            self.kill();
        }
    }
}

/// Waits for all of them, with a check every 10 ms. A process that runs beyond the limit is left
/// running and has no end.
pub(crate) fn wait_all(processes: &mut [Process], limit: Duration) -> Vec<Option<End>> {
    let start = Instant::now();
    loop {
        let ends: Vec<Option<End>> = processes.iter_mut().map(Process::look).collect();
        if ends.iter().all(Option::is_some) || start.elapsed() > limit {
            return ends;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

struct Stat {
    ended: bool,
    cpu: Cpu,
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Parses proc(5) `stat`: the name in brackets may contain any character; the state follows,
    /// then numbers.
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at)?.parse::<u32>().ok().map(f64::from);
        Some(Self {
            ended: *fields.first()? == "Z",
            cpu: Cpu {
                user_s: (ticks(11)? + ticks(13)?) / TICKS_PER_S,
                system_s: (ticks(12)? + ticks(14)?) / TICKS_PER_S,
            },
        })
    }
}

/// `VmHWM`: the peak memory of a process, in bytes.
fn peak_bytes(pid: u32) -> u64 {
    fs::read_to_string(format!("/proc/{pid}/status"))
        .unwrap_or_default()
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
        .map_or(0, |kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_a_process_with_an_ugly_name() {
        let text = "7 (a) b (c) Z 1 2 3 4 5 6 7 8 9 10 150 50 25 75 20 0";
        let stat = Stat::parse(text).unwrap();
        assert!(stat.ended);
        assert!((stat.cpu.user_s - 1.75).abs() < 1e-9);
        assert!((stat.cpu.system_s - 1.25).abs() < 1e-9);
        assert!(Stat::parse("").is_none());
    }

    #[test]
    fn an_ended_process_keeps_its_cpu_time() {
        let folder = crate::scratch::Scratch::new(&std::env::temp_dir(), "process").unwrap();
        let mut command = Command::new("bash");
        command.args(["-c", "head -c 200000000 /dev/zero | sha256sum; exit 3"]);
        let log = PathBuf::from(folder.file("log"));
        let mut all = vec![Process::start(command, "work", &log).unwrap()];
        let end = wait_all(&mut all, Duration::from_mins(1))[0].unwrap();
        assert!(
            end.cpu.total_s() > 0.0 && !end.clean && end.peak_bytes > 0,
            "{end:?}"
        );
        assert!(all[0].said().contains('-'));
    }
}
