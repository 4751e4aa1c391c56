//! `cargo xtask bench peers`: compares diskcast with partclone and zstd, on the same disk, in the
//! same run, interleaved.
//!
//! ```text
//! disks: GPT with one ext4 partition each
//!   files     from this machine's /usr, some deleted again
//!   extents   one file of 115,000 extents of one block
//! rows
//!   capture   diskcast image capture LOOP IMG         partclone.ext4 -c | zstd -3 -T2
//!   check     diskcast image check IMG --deep         zstd -d | partclone.chkimg
//!   restore   diskcast image restore IMG FILE --yes   zstd -d | partclone.restore, then sync
//! ```
//!
//! With `--earlier PROGRAM` an earlier build of diskcast runs the same commands in the same turns,
//! with its own image.
//!
//! Both sides read through loop devices on the same file, warmed by one untimed read. Both restore
//! into a sparse file (of the second disk also into one with all blocks allocated, as on a disk),
//! with the data on stable storage at the end. Times are compared as ratios of medians of one run;
//! absolute numbers depend on the machine. partclone ends only at the next refresh of its display
//! (two seconds by default): it is set to one, because otherwise small disks would favour diskcast.

mod disks;

use std::fs;
use std::time::Instant;

use crate::options::Bench;
use crate::packages;
use crate::room::report;
use crate::scratch::Scratch;
use crate::shell::{Failure, bash, output};
use disks::Disk;

/// Elapsed and CPU seconds of one command with its children.
#[derive(Clone, Copy, Debug)]
struct Sample {
    wall_s: f64,
    cpu_s: f64,
}

/// One measurement, on all sides.
struct Measured {
    what: &'static str,
    ours: Vec<Sample>,
    theirs: Vec<Sample>,
    /// Samples of the earlier build; empty without one.
    earlier: Vec<Sample>,
}

/// A loop device, detached when dropped, so that a failing bench leaves none behind.
struct Loop(String);

impl Loop {
    fn attach(arguments: &str) -> Result<Self, Failure> {
        let device = bash(&format!("losetup --find --show {arguments}"))?;
        Ok(Self(device.trim().to_owned()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = output("losetup", &["--detach", &self.0]);
    }
}

/// Measures and prints the table. Never `Ok(false)`: a bench has no verdict, only errors.
pub(crate) fn peers(options: &Bench) -> Result<bool, Failure> {
    packages::ensure()?;
    eprintln!("bench: building");
    bash("cargo build --release --quiet --locked")?;
    let top = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".to_owned());
    let diskcast = fs::canonicalize(format!("{top}/release/diskcast"))
        .map_err(|error| Failure::new(format!("{top}/release/diskcast: {error}")))?;
    let scratch = Scratch::new(&options.dir, "bench")?;
    let diskcast = diskcast.display().to_string();
    let earlier = options
        .earlier
        .as_ref()
        .map(|path| {
            fs::canonicalize(path)
                .map(|path| path.display().to_string())
                .map_err(|error| Failure::usage(format!("--earlier {}: {error}", path.display())))
        })
        .transpose()?;
    let bench = Peers {
        diskcast: &diskcast,
        earlier: earlier.as_deref(),
        scratch: &scratch,
        runs: options.runs,
    };
    let disk = disks::files(&scratch, options.size)?;
    bench.run(
        &disk,
        &format!("{} of files", mb(disk.used)),
        &[Target::Sparse],
    )?;
    let disk = disks::small_extents(&scratch, SMALL_EXTENTS)?;
    bench.run(
        &disk,
        &format!("{SMALL_EXTENTS} extents of one block"),
        &[Target::Sparse, Target::Written],
    )?;
    Ok(true)
}

/// Extents of one block on the second disk, as many as were seen on a real master.
const SMALL_EXTENTS: u64 = 115_000;

/// The file that a restore writes into.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    /// A file without allocated blocks.
    Sparse,
    /// A file with all blocks allocated, as on a disk.
    Written,
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Self::Sparse => "restore, sparse file",
            Self::Written => "restore, written file",
        }
    }

    /// The commands that make such a file of `size` bytes at `path`.
    fn prepare(self, path: &str, size: u64) -> String {
        match self {
            Self::Sparse => format!("rm -f {path}; truncate -s {size} {path}"),
            Self::Written => format!("rm -f {path}; head -c {size} /dev/zero > {path}"),
        }
    }
}

/// Images and restored disks of both sides.
struct Files {
    our_image: String,
    earlier_image: String,
    their_image: String,
    our_disk: String,
    their_disk: String,
    log: String,
}

impl Files {
    fn of(scratch: &Scratch) -> Self {
        Self {
            our_image: scratch.file("ours.dcimg"),
            earlier_image: scratch.file("earlier.dcimg"),
            their_image: scratch.file("theirs.zst"),
            our_disk: scratch.file("ours.disk"),
            their_disk: scratch.file("theirs.disk"),
            log: scratch.file("partclone.log"),
        }
    }

    /// Checks the restored disks: the times of a wrong restore would be worthless.
    fn verify(&self, disk: &Disk) -> Result<(), Failure> {
        let Self {
            our_disk,
            their_disk,
            ..
        } = self;
        bash(&format!(
            "dd if={our_disk} of={our_disk}.part bs=1M iflag=skip_bytes,count_bytes skip={start} count={length} conv=sparse status=none
             e2fsck -fn {our_disk}.part > /dev/null 2>&1; e2fsck -fn {their_disk} > /dev/null 2>&1
             rm -f {our_disk}.part",
            start = disk.start,
            length = disk.length,
        ))
        .map(drop)
        .map_err(|failure| Failure::new(format!("a restored file system is not clean: {failure}")))
    }

    fn remove(&self, disk: &Disk) -> Result<(), Failure> {
        let Self {
            our_image,
            earlier_image,
            their_image,
            our_disk,
            their_disk,
            log,
        } = self;
        bash(&format!(
            "rm -f {our_image} {earlier_image} {their_image} {our_disk} {their_disk} {log} {}",
            disk.path
        ))
        .map(drop)
    }
}

/// Both sides, for one disk.
struct Peers<'a> {
    diskcast: &'a str,
    earlier: Option<&'a str>,
    scratch: &'a Scratch,
    runs: usize,
}

/// Commands of one side: an untimed preparation, and the timed command.
struct Side {
    before: String,
    timed: String,
}

impl Side {
    fn measure(&self) -> Result<Sample, Failure> {
        bash(&format!("{}\nsync", self.before))?;
        timed(&self.timed)
    }
}

/// One row of the table.
struct Row {
    what: &'static str,
    ours: Side,
    theirs: Side,
    earlier: Option<Side>,
}

impl Peers<'_> {
    /// Measures one disk and prints its table under the heading `name`. Afterwards the disk and its
    /// images are removed.
    fn run(&self, disk: &Disk, name: &str, targets: &[Target]) -> Result<(), Failure> {
        let whole = Loop::attach(&format!("--read-only {}", disk.path))?;
        let part = Loop::attach(&format!(
            "--read-only --offset {} --sizelimit {} {}",
            disk.start, disk.length, disk.path
        ))?;
        bash(&format!("cat {} {} > /dev/null", whole.0, part.0))?;
        let files = Files::of(self.scratch);
        let rows = self.rows(disk, &whole.0, &part.0, &files, targets);
        let mut table: Vec<Measured> = rows
            .iter()
            .map(|row| Measured {
                what: row.what,
                ours: Vec::new(),
                theirs: Vec::new(),
                earlier: Vec::new(),
            })
            .collect();
        for run in 1..=self.runs {
            for (row, measured) in rows.iter().zip(&mut table) {
                eprintln!("bench: run {run} of {}: {}", self.runs, row.what);
                // The earlier build runs first, so that the disk that is verified is this build's.
                if let Some(earlier) = &row.earlier {
                    measured.earlier.push(earlier.measure()?);
                }
                measured.ours.push(row.ours.measure()?);
                measured.theirs.push(row.theirs.measure()?);
            }
        }
        files.verify(disk)?;
        let size = |path: &str| fs::metadata(path).map(|m| m.len()).unwrap_or(0);
        print_table(
            &table,
            name,
            size(&files.our_image),
            size(&files.their_image),
        );
        files.remove(disk)
    }

    fn rows(
        &self,
        disk: &Disk,
        whole: &str,
        part: &str,
        files: &Files,
        targets: &[Target],
    ) -> Vec<Row> {
        let Files {
            our_image,
            earlier_image,
            their_image,
            our_disk,
            their_disk,
            log,
        } = files;
        let row = |what, side: &dyn Fn(&str, &str) -> Side, theirs| Row {
            what,
            ours: side(self.diskcast, our_image),
            theirs,
            earlier: self.earlier.map(|program| side(program, earlier_image)),
        };
        let mut rows = vec![
            row(
                "capture",
                &|diskcast, image| Side {
                    before: format!("rm -f {image}"),
                    timed: format!("{diskcast} image capture {whole} {image} -q && sync {image}"),
                },
                Side {
                    before: format!("rm -f {their_image}"),
                    timed: format!(
                        "partclone.ext4 -f 1 -c -s {part} -O - -L {log} 2>/dev/null | zstd -q -3 -T2 -o {their_image} && sync {their_image}"
                    ),
                },
            ),
            row(
                "check (deep)",
                &|diskcast, image| Side {
                    before: String::new(),
                    timed: format!("{diskcast} image check {image} --deep -q > /dev/null"),
                },
                Side {
                    before: String::new(),
                    timed: format!(
                        "zstd -dcq {their_image} | partclone.chkimg -f 1 -s - -L {log} 2>/dev/null"
                    ),
                },
            ),
        ];
        rows.extend(targets.iter().map(|target| {
            row(
                target.name(),
                &|diskcast, image| Side {
                    before: target.prepare(our_disk, disk.size),
                    timed: format!(
                        "{diskcast} image restore {image} {our_disk} --yes -q > /dev/null && sync {our_disk}"
                    ),
                },
                Side {
                    before: target.prepare(their_disk, disk.length),
                    timed: format!(
                        "zstd -dcq {their_image} | partclone.restore -f 1 -C -s - -O {their_disk} -L {log} 2>/dev/null && sync {their_disk}"
                    ),
                },
            )
        }));
        rows
    }
}

/// Runs a command line under bash's own `time`, which counts the CPU of every process of a pipe.
fn timed(command: &str) -> Result<Sample, Failure> {
    let start = Instant::now();
    let said = bash(&format!(
        "TIMEFORMAT='%U %S'; exec 3>&2; {{ time {{ {command}; }} 2>&3; }} 2>&1 1>/dev/null | tail -n 1"
    ))?;
    let wall_s = start.elapsed().as_secs_f64();
    let cpu_s = said
        .split_whitespace()
        .filter_map(|word| word.parse::<f64>().ok())
        .sum();
    Ok(Sample { wall_s, cpu_s })
}

fn median(samples: &[Sample], of: impl Fn(&Sample) -> f64) -> f64 {
    let values: Vec<f64> = samples.iter().map(of).collect();
    report::median(&values)
}

fn mb(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
}

fn print_table(table: &[Measured], name: &str, our_size: u64, their_size: u64) {
    let runs = table.first().map_or(0, |row| row.ours.len());
    println!("ext4, {name}; medians of {runs} interleaved runs\n");
    println!(
        "| what | diskcast s (range) | peer s (range) | faster by | CPU s diskcast | CPU s peer |"
    );
    println!("|---|---|---|---|---|---|");
    for row in table {
        println!(
            "| {} | {} | {} | {} | {:.2} | {:.2} |",
            row.what,
            range(&row.ours),
            range(&row.theirs),
            faster(&row.ours, &row.theirs),
            median(&row.ours, |s| s.cpu_s),
            median(&row.theirs, |s| s.cpu_s),
        );
    }
    let thousandths = (our_size * 1000).checked_div(their_size).unwrap_or(0);
    println!(
        "| image size | {} | {} | {}.{:03} x the peer's | | |\n",
        mb(our_size),
        mb(their_size),
        thousandths / 1000,
        thousandths % 1000
    );
    if table.iter().all(|row| row.earlier.is_empty()) {
        return;
    }
    println!(
        "| what | diskcast s (range) | earlier build s (range) | faster by | CPU s diskcast | CPU s earlier |"
    );
    println!("|---|---|---|---|---|---|");
    for row in table {
        println!(
            "| {} | {} | {} | {} | {:.2} | {:.2} |",
            row.what,
            range(&row.ours),
            range(&row.earlier),
            faster(&row.ours, &row.earlier),
            median(&row.ours, |s| s.cpu_s),
            median(&row.earlier, |s| s.cpu_s),
        );
    }
    println!();
}

/// Median and range of the elapsed seconds.
fn range(samples: &[Sample]) -> String {
    let walls = samples.iter().map(|s| s.wall_s);
    format!(
        "{:.2} ({:.2}-{:.2})",
        median(samples, |s| s.wall_s),
        walls.clone().fold(f64::INFINITY, f64::min),
        walls.fold(0.0, f64::max)
    )
}

/// Ratio of the medians of elapsed seconds.
fn faster(ours: &[Sample], theirs: &[Sample]) -> String {
    let ratio = median(theirs, |s| s.wall_s) / median(ours, |s| s.wall_s);
    format!("{ratio:.2} x")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_of_all_processes_of_a_pipe() {
        let sample = timed("head -c 30000000 /dev/zero | sha256sum | cat").unwrap();
        assert!(sample.cpu_s > 0.0 && sample.wall_s > 0.0, "{sample:?}");
        assert!(timed("false | cat").is_err());
    }
}
