//! A sign of life that only real work produces.
//!
//! While a job reads back, applies a template and commits, whole minutes may pass between two
//! reports: a step that rewrites the security descriptors of a large volume reports nothing
//! meanwhile. The console has to tell that from an agent that hangs. A separate thread therefore
//! checks every few seconds for progress: processor time and bytes read or written by the working
//! thread, and requests the disk has *completed*. A thread that waits for a dead disk shows none of
//! these; requests under way do not count. A thread in an endless loop does show them: a job's time
//! limit covers that case.

use super::progress::Reporter;
use rustix::thread::{Pid, gettid};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Interval between two checks.
const EVERY: Duration = Duration::from_secs(5);

/// Checks for progress until it is dropped.
pub(super) struct Pulse {
    /// Dropping it ends the thread.
    _stop: Sender<()>,
}

impl Pulse {
    /// Watches the calling thread, and the disk it works on.
    pub(super) fn of_this_thread(reporter: &Arc<Reporter>, disk: &Path) -> Self {
        let (stop, stopped) = channel::<()>();
        let (thread, reporter, disk) = (gettid(), Arc::clone(reporter), disk.to_owned());
        let watch = move || {
            let mut before = work(thread, &disk);
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(EVERY) {
                let now = work(thread, &disk);
                if now != before {
                    before = now;
                    reporter.beat();
                }
            }
        };
        let spawned = std::thread::Builder::new()
            .name("pulse".into())
            .spawn(watch);
        if let Err(error) = spawned {
            tracing::warn!(%error, "no thread for the pulse");
        }
        Self { _stop: stop }
    }
}

/// Work counters of a thread and a disk: processor time, bytes moved, completed requests. They
/// never fall.
fn work(thread: Pid, disk: &Path) -> Vec<u64> {
    let task = format!("/proc/self/task/{}", thread.as_raw_nonzero());
    let read = |path: String| fs::read_to_string(path).unwrap_or_default();
    let mut done = processor_ticks(&read(format!("{task}/stat")));
    done.extend(moved_bytes(&read(format!("{task}/io"))));
    if let Some(device) = device_of(disk) {
        done.extend(completed(&read(format!("/sys/dev/block/{device}/stat"))));
    }
    done
}

/// Device number `major:minor` of a block device.
fn device_of(disk: &Path) -> Option<String> {
    let meta = fs::metadata(disk).ok()?;
    let id = meta.rdev();
    meta.file_type()
        .is_block_device()
        .then(|| format!("{}:{}", rustix::fs::major(id), rustix::fs::minor(id)))
}

/// User and system time in proc(5) `stat`: fields 14 and 15, counted after the name, which may
/// contain any character.
fn processor_ticks(stat: &str) -> Vec<u64> {
    let behind = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields = behind.split_whitespace().skip(11).take(2);
    fields.filter_map(|field| field.parse().ok()).collect()
}

/// Counters `rchar` and `wchar` in proc(5) `io`.
fn moved_bytes(io: &str) -> Vec<u64> {
    let value = |name: &str| {
        let line = io.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse().ok()
    };
    ["rchar:", "wchar:"].into_iter().filter_map(value).collect()
}

/// Completed requests and sectors in the kernel's `block/stat.rst`: reads, writes, discards,
/// flushes. The times and the number of requests under way also change on a disk that hangs, so
/// they are not used.
fn completed(stat: &str) -> Vec<u64> {
    const COMPLETED: [usize; 7] = [0, 2, 4, 6, 11, 13, 15];
    let fields: Vec<&str> = stat.split_whitespace().collect();
    let field = |index: usize| fields.get(index)?.parse().ok();
    COMPLETED.into_iter().filter_map(field).collect()
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "the pulse of a thread that waits is measured over real time"
)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_whatever_the_thread_is_called() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 116 0 0 0 7 9 0 0 20 0 1 0 123";
        assert_eq!(processor_ticks(stat), [7, 9]);
        assert_eq!(moved_bytes("rchar: 10\nwchar: 20\nsyscr: 3\n"), [10, 20]);
        assert_eq!(
            completed("1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17"),
            [1, 3, 5, 7, 12, 14, 16]
        );
        assert!(processor_ticks("").is_empty() && completed("x").is_empty());
    }

    #[test]
    fn a_thread_that_waits_gives_no_sign_and_one_that_works_does() {
        let nowhere = Path::new("/nonexistent");
        let (go, wait) = channel::<()>();
        let (say, said) = channel();
        let waiting = std::thread::spawn(move || {
            say.send(gettid()).unwrap();
            let _ = wait.recv();
            // Another process's numbers, read by this thread, count as work.
            for _ in 0..200 {
                fs::read_to_string("/proc/self/maps").unwrap();
            }
            say.send(gettid()).unwrap();
            let _ = wait.recv();
        });
        let thread = said.recv().unwrap();
        // When no more work is seen the thread has reached its wait; one that works without end
        // would never get here.
        let mut before = work(thread, nowhere);
        assert!(!before.is_empty());
        let begun = std::time::Instant::now();
        loop {
            std::thread::sleep(Duration::from_millis(100));
            let now = work(thread, nowhere);
            if now == before {
                break;
            }
            before = now;
            assert!(begun.elapsed() < Duration::from_secs(120), "it only waits");
        }
        go.send(()).unwrap();
        said.recv().unwrap();
        assert_ne!(work(thread, nowhere), before, "it worked");
        drop(go);
        waiting.join().unwrap();
    }
}
