//! `cargo xtask bench peers`: diskcast beside partclone and zstd, same disk, same run, interleaved.
//!
//! ```text
//! disk: GPT with one ext4 partition, filled from this machine's /usr, some files deleted again
//!   capture   diskcast image capture LOOP IMG         partclone.ext4 -c | zstd -3 -T2
//!   check     diskcast image check IMG --deep         zstd -d | partclone.chkimg
//!   restore   diskcast image restore IMG FILE --yes   zstd -d | partclone.restore, then sync
//! ```
//!
//! Both sides read through loop devices on the same file, warmed by one untimed reading, and both
//! restore into a fresh sparse file with data on stable storage at the end. Times are compared as
//! ratios of medians of one run; absolute numbers belong to the machine. partclone ends only at the next refresh
//! of its display (two seconds by default): it is asked for one, or small disks would flatter us.

use std::fs;
use std::time::Instant;

use crate::options::Bench;
use crate::packages;
use crate::scratch::Scratch;
use crate::shell::{Failure, bash, output};

/// Seconds on the wall and of CPU, of one command with its children.
#[derive(Clone, Copy, Debug)]
struct Sample {
    wall_s: f64,
    cpu_s: f64,
}

/// One thing measured on both sides.
struct Pair {
    what: &'static str,
    ours: Vec<Sample>,
    theirs: Vec<Sample>,
}

/// Detached when dropped, so that a failing bench leaves no device behind.
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

/// Measures and prints the table. `Ok(false)` never: a bench has no verdict, only errors.
pub(crate) fn peers(options: &Bench) -> Result<bool, Failure> {
    packages::ensure()?;
    eprintln!("bench: building");
    bash("cargo build --release --quiet --locked")?;
    let top = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".to_owned());
    let diskcast = fs::canonicalize(format!("{top}/release/diskcast"))
        .map_err(|error| Failure::new(format!("{top}/release/diskcast: {error}")))?;
    let diskcast = diskcast.display();

    let scratch = Scratch::new(&options.dir, "bench")?;
    let disk = scratch.file("disk");
    let (start, length, used) = make_disk(&scratch, &disk, options.size)?;
    let whole = Loop::attach(&format!("--read-only {disk}"))?;
    let part = Loop::attach(&format!(
        "--read-only --offset {start} --sizelimit {length} {disk}"
    ))?;
    bash(&format!("cat {} {} > /dev/null", whole.0, part.0))?;

    let file = |name: &str| scratch.file(name);
    let (ours, theirs) = (file("ours.dcimg"), file("theirs.zst"));
    let (our_disk, their_disk) = (file("ours.disk"), file("theirs.disk"));
    let log = file("partclone.log");
    let disk_size = fs::metadata(&disk)
        .map_err(|e| Failure::new(e.to_string()))?
        .len();

    let work: [(&'static str, String, String, String, String); 3] = [
        (
            "capture",
            format!("rm -f {ours}"),
            format!(
                "{diskcast} image capture {} {ours} -q && sync {ours}",
                whole.0
            ),
            format!("rm -f {theirs}"),
            format!(
                "partclone.ext4 -f 1 -c -s {} -O - -L {log} 2>/dev/null | zstd -q -3 -T2 -o {theirs} && sync {theirs}",
                part.0
            ),
        ),
        (
            "check (deep)",
            String::new(),
            format!("{diskcast} image check {ours} --deep -q > /dev/null"),
            String::new(),
            format!("zstd -dcq {theirs} | partclone.chkimg -f 1 -s - -L {log} 2>/dev/null"),
        ),
        (
            "restore",
            format!("rm -f {our_disk}; truncate -s {disk_size} {our_disk}"),
            format!(
                "{diskcast} image restore {ours} {our_disk} --yes -q > /dev/null && sync {our_disk}"
            ),
            format!("rm -f {their_disk}"),
            format!(
                "zstd -dcq {theirs} | partclone.restore -f 1 -C -W -s - -o {their_disk} -L {log} 2>/dev/null && sync {their_disk}"
            ),
        ),
    ];
    let mut pairs: Vec<Pair> = work
        .iter()
        .map(|w| Pair {
            what: w.0,
            ours: Vec::new(),
            theirs: Vec::new(),
        })
        .collect();
    for run in 1..=options.runs {
        for ((what, our_before, our_command, their_before, their_command), pair) in
            work.iter().zip(&mut pairs)
        {
            eprintln!("bench: run {run} of {}: {what}", options.runs);
            bash(&format!("{our_before}\nsync"))?;
            pair.ours.push(timed(our_command)?);
            bash(&format!("{their_before}\nsync"))?;
            pair.theirs.push(timed(their_command)?);
        }
    }
    // Figures of a restore that went wrong would be worth nothing.
    bash(&format!(
        "dd if={our_disk} of={our_disk}.part bs=1M iflag=skip_bytes,count_bytes skip={start} count={length} conv=sparse status=none
         e2fsck -fn {our_disk}.part > /dev/null 2>&1; e2fsck -fn {their_disk} > /dev/null 2>&1
         rm -f {our_disk}.part"
    ))
    .map_err(|failure| Failure::new(format!("a restored file system is not clean: {failure}")))?;

    let size = |path: &str| fs::metadata(path).map(|m| m.len()).unwrap_or(0);
    print_table(&pairs, used, size(&ours), size(&theirs));
    Ok(true)
}

/// A GPT disk with one ext4 partition of about twice `size`; returns its start, length and used bytes.
fn make_disk(scratch: &Scratch, disk: &str, size: u64) -> Result<(u64, u64, u64), Failure> {
    eprintln!("bench: making a disk with {} MiB of files", size >> 20);
    let mount = scratch.file("mount");
    let mib = (size >> 20) * 2 + 256;
    let said = bash(&format!(
        "truncate -s {total}M {disk}
         sgdisk -n 1:2048:+{mib}M -t 1:8300 {disk} > /dev/null
         dev=$(losetup --find --show --offset 1048576 --sizelimit $(({mib} << 20)) {disk})
         trap 'umount {mount} 2>/dev/null; losetup --detach $dev' EXIT
         mke2fs -q -F -t ext4 -E lazy_itable_init=0,lazy_journal_init=0,nodiscard $dev
         mkdir {mount}; mount -t ext4 $dev {mount}
         head -c {junk} /dev/urandom > {mount}/junk
         set +o pipefail
         find /usr/lib /usr/share -xdev -type f -size -64M -printf '%s %p\\0' | LC_ALL=C sort -z -k 2 \
           | awk -v left={size} 'BEGIN {{ RS = \"\\0\"; ORS = \"\\0\" }} {{ n = $1; sub(/^[0-9]+ /, \"\"); if (n <= left) {{ left -= n; print }} }}' \
           | (cd /; tar --null -T - -c 2>/dev/null || true) | tar -x -C {mount}
         rm {mount}/junk
         sync; df --output=used -B1 {mount} | tail -n 1",
        total = mib + 4,
        junk = size / 8,
    ))?;
    let used: u64 = said
        .trim()
        .parse()
        .map_err(|_| Failure::new(format!("df said {said}")))?;
    if used < size / 2 {
        return Err(Failure::new(format!(
            "only {} of {} MiB found under /usr/lib and /usr/share: choose a smaller --size",
            used >> 20,
            size >> 20
        )));
    }
    Ok((1 << 20, mib << 20, used))
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
    let mut values: Vec<f64> = samples.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

fn print_table(pairs: &[Pair], used: u64, our_size: u64, their_size: u64) {
    let mb = |bytes: u64| format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10);
    println!(
        "ext4, {} used; medians of {} interleaved runs\n",
        mb(used),
        pairs.first().map_or(0, |p| p.ours.len())
    );
    println!(
        "| what | diskcast s (range) | peer s (range) | faster by | CPU s diskcast | CPU s peer |"
    );
    println!("|---|---|---|---|---|---|");
    for pair in pairs {
        let range = |samples: &[Sample]| {
            let walls = samples.iter().map(|s| s.wall_s);
            format!(
                "{:.2} ({:.2}-{:.2})",
                median(samples, |s| s.wall_s),
                walls.clone().fold(f64::INFINITY, f64::min),
                walls.fold(0.0, f64::max)
            )
        };
        println!(
            "| {} | {} | {} | {:.2} x | {:.2} | {:.2} |",
            pair.what,
            range(&pair.ours),
            range(&pair.theirs),
            median(&pair.theirs, |s| s.wall_s) / median(&pair.ours, |s| s.wall_s),
            median(&pair.ours, |s| s.cpu_s),
            median(&pair.theirs, |s| s.cpu_s),
        );
    }
    let thousandths = (our_size * 1000).checked_div(their_size).unwrap_or(0);
    println!(
        "| image size | {} | {} | {}.{:03} x the peer's | | |",
        mb(our_size),
        mb(their_size),
        thousandths / 1000,
        thousandths % 1000
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        let of = |values: &[f64]| {
            let samples: Vec<Sample> = values
                .iter()
                .map(|v| Sample {
                    wall_s: *v,
                    cpu_s: 0.0,
                })
                .collect();
            median(&samples, |s| s.wall_s)
        };
        assert!((of(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((of(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
    }

    #[test]
    fn cpu_of_all_processes_of_a_pipe() {
        let sample = timed("head -c 30000000 /dev/zero | sha256sum | cat").unwrap();
        assert!(sample.cpu_s > 0.0 && sample.wall_s > 0.0, "{sample:?}");
        assert!(timed("false | cat").is_err());
    }
}
