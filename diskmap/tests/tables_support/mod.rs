//! Disks in files for the partition-table tests: made by sgdisk and sfdisk, deployed by a plan, and
//! checked with those tools again. A missing tool fails the test by name; nothing is skipped.

#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::disallowed_methods,
    reason = "a module of test binaries, each of which uses its part; tests are the edge that opens files"
)]

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use diskmap::{CommitPlan, ExtentSet, Grow, Partition, PartitionTable, TableError};
use tempfile::NamedTempFile;

pub const MIB: u64 = 1 << 20;
pub const GIB: u64 = 1 << 30;

/// A command of the gdisk or fdisk package; sbin is often missing in a user's PATH.
fn tool(name: &str) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(name);
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command.env("LC_ALL", "C");
    command
}

fn run(command: &mut Command, package: &str, input: Option<&str>) -> Output {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{name} is needed (package {package}): {error}"));
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        stdin.write_all(input.as_bytes()).unwrap();
    }
    child.wait_with_output().unwrap()
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// A disk in a sparse file.
pub struct TestDisk {
    pub file: NamedTempFile,
    pub size: u64,
    pub sector_size: u32,
}

impl TestDisk {
    pub fn blank(size: u64, sector_size: u32) -> Self {
        // The name ends in a letter, because tools put a "p" between a digit and the partition
        // number.
        let file = tempfile::Builder::new().suffix(".img").tempfile().unwrap();
        file.as_file().set_len(size).unwrap();
        Self {
            file,
            size,
            sector_size,
        }
    }

    /// A disk partitioned by an sfdisk script (512-byte sectors).
    pub fn sfdisk(size: u64, script: &str) -> Self {
        let disk = Self::blank(size, 512);
        let output = run(
            tool("sfdisk")
                .args(["--no-reread", "--no-tell-kernel", "--quiet"])
                .arg(disk.path()),
            "fdisk",
            Some(script),
        );
        assert!(output.status.success(), "sfdisk: {}", text(&output));
        disk
    }

    /// A disk partitioned with the answers a technician would type into fdisk, for any sector size.
    pub fn fdisk(size: u64, sector_size: u32, answers: &str) -> Self {
        let disk = Self::blank(size, sector_size);
        let output = run(
            tool("fdisk")
                .args(["-b", &sector_size.to_string()])
                .arg(disk.path()),
            "fdisk",
            Some(answers),
        );
        let said = text(&output);
        assert!(said.contains("has been altered"), "fdisk: {said}");
        disk
    }

    /// A disk partitioned by sgdisk (512-byte sectors; sgdisk supports no other size for a file).
    pub fn sgdisk(size: u64, arguments: &[&str]) -> Self {
        let disk = Self::blank(size, 512);
        disk.run_sgdisk(arguments);
        disk
    }

    /// Deletes partitions with sfdisk, as a technician would.
    pub fn sfdisk_delete(&self, numbers: &[&str]) {
        let output = run(
            tool("sfdisk")
                .args(["--no-reread", "--no-tell-kernel", "--quiet", "--delete"])
                .arg(self.path())
                .args(numbers),
            "fdisk",
            None,
        );
        assert!(
            output.status.success(),
            "sfdisk --delete: {}",
            text(&output)
        );
    }

    pub fn run_sgdisk(&self, arguments: &[&str]) {
        let output = run(
            tool("sgdisk").args(arguments).arg(self.path()),
            "gdisk",
            None,
        );
        assert!(output.status.success(), "sgdisk: {}", text(&output));
    }

    pub fn mkfs_fat(&self, arguments: &[&str]) {
        let output = run(
            tool("mkfs.fat").args(arguments).arg(self.path()),
            "dosfstools",
            None,
        );
        assert!(output.status.success(), "mkfs.fat: {}", text(&output));
    }

    pub fn path(&self) -> &Path {
        self.file.path()
    }

    pub fn open(&self) -> File {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.path())
            .unwrap()
    }

    pub fn resize(&mut self, size: u64) {
        self.open().set_len(size).unwrap();
        self.size = size;
    }

    pub fn table(&self) -> Result<PartitionTable, TableError> {
        diskmap::read_table(&self.open(), self.size, self.sector_size)
    }

    pub fn read(&self, range: Range<u64>) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap()];
        self.open().read_exact_at(&mut bytes, range.start).unwrap();
        bytes
    }

    pub fn write(&self, offset: u64, bytes: &[u8]) {
        self.open().write_all_at(bytes, offset).unwrap();
    }

    pub fn flip(&self, offset: u64) {
        let byte = self.read(offset..offset + 1)[0];
        self.write(offset, &[!byte]);
    }

    /// Fills a range with bytes that differ from place to place.
    pub fn fill(&self, range: Range<u64>) {
        let bytes: Vec<u8> = range
            .clone()
            .map(|at| u8::try_from((at / 512 * 31 + at % 251) % 255).unwrap() + 1)
            .collect();
        self.write(range.start, &bytes);
    }

    /// The output of `sfdisk -d` without the file's name and the disk's size; `None` if sfdisk sees
    /// no table. For sectors of 4096 bytes, which only newer versions of sfdisk support for a file,
    /// it is that of `fdisk -l`.
    pub fn dump(&self) -> Option<Vec<String>> {
        let name = self.path().display().to_string();
        if self.sector_size != 512 {
            let output = run(
                tool("fdisk")
                    .args(["-b", &self.sector_size.to_string(), "-l"])
                    .arg(self.path()),
                "fdisk",
                None,
            );
            let listing = String::from_utf8_lossy(&output.stdout).into_owned();
            return listing.contains("Disklabel type").then(|| {
                let lines = listing
                    .lines()
                    .filter(|line| line.starts_with(&name) || line.starts_with("Disk identifier"));
                lines.map(|line| line.replace(&name, "disk")).collect()
            });
        }
        let output = run(tool("sfdisk").arg("-d").arg(self.path()), "fdisk", None);
        let listing = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success().then(|| {
            let lines = listing.lines().filter(|line| {
                !line.is_empty() && !line.starts_with("device:") && !line.starts_with("last-lba:")
            });
            lines.map(|line| line.replace(&name, "disk")).collect()
        })
    }

    /// Checks that `sfdisk --verify` succeeds (the verify command of `fdisk` for 4096-byte
    /// sectors).
    pub fn sfdisk_verify(&self) {
        let output = if self.sector_size == 512 {
            run(
                tool("sfdisk").arg("--verify").arg(self.path()),
                "fdisk",
                None,
            )
        } else {
            let size = self.sector_size.to_string();
            let mut command = tool("fdisk");
            run(
                command.args(["-b", &size]).arg(self.path()),
                "fdisk",
                Some("v\nq\n"),
            )
        };
        let said = text(&output);
        assert!(
            output.status.success() && said.contains("No errors detected"),
            "sfdisk --verify: {said}"
        );
    }

    /// Checks that `sgdisk -v` finds no problems.
    pub fn sgdisk_verify(&self) {
        let output = run(tool("sgdisk").arg("-v").arg(self.path()), "gdisk", None);
        let said = text(&output);
        assert!(
            output.status.success() && said.contains("No problems found"),
            "sgdisk -v: {said}"
        );
    }
}

/// The table after its way through an image: the master's table sectors, parsed from the TABLE
/// record as an agent does.
pub fn travelled(table: &PartitionTable) -> PartitionTable {
    let regions = table
        .regions
        .iter()
        .map(|region| (region.offset, region.bytes.as_slice()));
    let agent = diskmap::table_from_regions(regions, table.disk_size, table.sector_size).unwrap();
    assert_eq!(agent.kind, table.kind);
    assert_eq!(agent.partitions, table.partitions);
    assert_eq!(agent.regions, table.regions);
    assert_eq!(agent.warnings, table.warnings);
    agent
}

/// A deployment of `master` to a target of `target_size` that had another table before.
pub struct Deployed {
    pub target: TestDisk,
    pub plan: CommitPlan,
}

/// Plans, wipes, writes `data` (byte ranges of the master without table sectors), and commits. The
/// disk is checked after every write, as after a power cut.
pub fn deploy(
    master: &TestDisk,
    target_size: u64,
    grow: Option<Grow>,
    data: &[Range<u64>],
) -> Deployed {
    let table = travelled(&master.table().unwrap());
    deploy_table(master, &table, target_size, grow, data)
}

/// Deploys only the partitions with these numbers.
pub fn deploy_kept(
    master: &TestDisk,
    numbers: &[u32],
    target_size: u64,
    grow: Option<Grow>,
) -> Deployed {
    let whole = travelled(&master.table().unwrap());
    let numbers: BTreeSet<u32> = numbers.iter().copied().collect();
    let table = whole.keep(&numbers).expect("a choice");
    let done = deploy_table(master, &table, target_size, grow, &[]);
    // The older places of the table are blanked too, whichever partition they belonged to.
    let wiped: ExtentSet = done.plan.wipe.clone().into();
    for range in whole.table_extents().within(0..target_size).iter() {
        assert!(wiped.contains(range.clone()), "{range:?} is not wiped");
    }
    done
}

fn deploy_table(
    master: &TestDisk,
    table: &PartitionTable,
    target_size: u64,
    grow: Option<Grow>,
    data: &[Range<u64>],
) -> Deployed {
    let plan = diskmap::plan_commit(table, target_size, master.sector_size, grow).expect("a plan");
    let target = TestDisk::fdisk(
        target_size,
        master.sector_size,
        "g\nn\n\n\n+5M\nn\n\n\n\nw\n",
    );
    well_formed(&plan, target_size, master.sector_size);
    for range in &plan.wipe {
        zero(&target, range.clone());
    }
    let blank = |when: &str| {
        assert_eq!(target.dump(), None, "{when}: sfdisk sees a table");
        let ours = target.table().unwrap();
        assert!(ours.partitions.is_empty(), "{when}: partitions");
    };
    blank("after the wipe");
    let own = table.table_extents();
    for range in ExtentSet::from(data.to_vec()).subtract(&own).iter() {
        if range.start < target_size {
            target.write(
                range.start,
                &master.read(range.start..range.end.min(target_size)),
            );
        }
    }
    blank("after the data");
    let writes: Vec<_> = plan.stages.iter().flatten().collect();
    for (done, (offset, bytes)) in writes.iter().enumerate() {
        target.write(*offset, bytes);
        if done + 1 < writes.len() {
            blank(&format!("after write {done} at {offset}"));
            gpt_sees_nothing_or(&target, &plan.partitions);
        }
    }
    let made = target.table().unwrap();
    assert_eq!(made.partitions, plan.partitions);
    Deployed { target, plan }
}

/// Checks that a reader that ignores LBA 0 sees no table, or already the right one.
fn gpt_sees_nothing_or(disk: &TestDisk, right: &[Partition]) {
    let Ok(sector) = gpt::disk::LogicalBlockSize::try_from(u64::from(disk.sector_size)) else {
        return;
    };
    let opened = gpt::GptConfig::new()
        .writable(false)
        .logical_block_size(sector)
        .open_from_device(disk.open());
    let Ok(found) = opened else { return };
    let found: Vec<_> = found
        .partitions()
        .iter()
        .filter(|(_, partition)| partition.is_used())
        .map(|(number, partition)| (*number, partition.bytes_start(sector).unwrap()))
        .collect();
    let right: Vec<_> = right
        .iter()
        .map(|partition| (partition.number, partition.start))
        .collect();
    assert_eq!(found, right);
}

/// Checks the promises of a plan that need no disk.
fn well_formed(plan: &CommitPlan, target_size: u64, sector_size: u32) {
    let sector = u64::from(sector_size);
    let wiped: ExtentSet = plan.wipe.clone().into();
    assert_eq!(wiped.as_slice(), plan.wipe, "sorted and disjoint");
    let mut written = ExtentSet::new();
    for (offset, bytes) in plan.stages.iter().flatten() {
        let range = *offset..*offset + bytes.len() as u64;
        assert!(range.end <= target_size && offset % sector == 0 && range.end % sector == 0);
        assert!(
            wiped.contains(range.clone()),
            "{range:?} is written but not wiped"
        );
        assert!(
            !written.intersects(range.clone()),
            "{range:?} is written twice"
        );
        written.insert(range);
    }
    assert_eq!(
        plan.stages.last().unwrap().len(),
        1,
        "the last stage is LBA 0 alone"
    );
    assert_eq!(plan.stages.last().unwrap()[0].0, 0);
    let last_33 = target_size / sector * sector - (16384 + sector)..target_size / sector * sector;
    assert!(wiped.contains(last_33) && wiped.contains(0..16384 + 2 * sector));
}

fn zero(disk: &TestDisk, range: Range<u64>) {
    let file = disk.open();
    let zeros = vec![0; usize::try_from(MIB).unwrap()];
    let mut at = range.start;
    while at < range.end {
        let len = MIB.min(range.end - at);
        file.write_all_at(&zeros[..usize::try_from(len).unwrap()], at)
            .unwrap();
        at += len;
    }
}
