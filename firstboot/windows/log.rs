//! The log file beside the job, one line with its time for each event; with `--run` also on stdout.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Largest log, in bytes: programs write into it too, and the next start begins a larger log anew.
const MAX_BYTES: u64 = 16 << 20;

pub(crate) struct Log {
    path: PathBuf,
    echo: bool,
}

impl Log {
    pub(crate) fn new(path: &Path, echo: bool) -> Self {
        if std::fs::metadata(path).map_or(false, |it| it.len() > MAX_BYTES) {
            let _ = std::fs::remove_file(path);
        }
        Self {
            path: path.to_path_buf(),
            echo,
        }
    }

    /// Writes a line. Never fails: a job does not stop because its log cannot be written.
    pub(crate) fn line(&self, line: &str) {
        let line = format!("{} {}\r\n", now(), line);
        if self.echo {
            print!("{}", line);
        }
        if let Ok(mut file) = self.open() {
            let _ = file.write_all(line.as_bytes());
        }
    }

    /// Opens the log for the output of programs.
    pub(crate) fn open(&self) -> std::io::Result<File> {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path)
    }
}

/// Current time as `2026-11-21T13:45:00Z`.
fn now() -> String {
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |it| it.as_secs());
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        year,
        month,
        day,
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

/// Date from days since 1970, after Howard Hinnant's `civil_from_days`: years begin in March there.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year + carry, month, day)
}
