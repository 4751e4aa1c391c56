//! The peers in the same room: uftp, udpcast, and udpcast with zstd and partclone behind it.
//!
//! The commands are those of the project's baseline measurements. Receivers are started first and
//! given a moment; the time runs from the sender's start to the last receiver's end (for uftp to
//! the sender's end, which waits for the reports of all its receivers, while the daemons run on).

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::network::Network;
use super::payload::{PeerImage, difference};
use super::process::{End, Process, wait_all};
use crate::shell::{Failure, has};

/// One run of a peer.
pub(crate) struct PeerRun {
    /// Elapsed seconds; `None` when the run was cut at its time limit.
    pub(crate) wall_s: Option<f64>,
    pub(crate) sent_bytes: u64,
    /// Mean CPU seconds of the receivers that ended.
    pub(crate) target_cpu_s: f64,
    /// Number of receivers with exactly the bytes that were sent.
    pub(crate) right: usize,
    pub(crate) targets: usize,
    /// True when the sender's exit code reported success.
    pub(crate) sender_content: bool,
}

impl PeerRun {
    /// One line about a run with wrong results; `None` when all is well.
    pub(crate) fn blemish(&self) -> Option<String> {
        if self.right == self.targets && self.wall_s.is_some() {
            return None;
        }
        Some(format!(
            "{}/{} right, {}, sender exit code {}",
            self.right,
            self.targets,
            self.wall_s
                .map_or("cut at its time limit".to_owned(), |wall| format!(
                    "{wall:.1} s"
                )),
            if self.sender_content { "0" } else { "not 0" }
        ))
    }
}

/// True when this peer is installed; prints a message when not.
pub(crate) fn present(programs: &[&str]) -> bool {
    let missing: Vec<&str> = programs.iter().copied().filter(|p| !has(p)).collect();
    if missing.is_empty() {
        return true;
    }
    eprintln!(
        "bench: {} is not installed: this peer is skipped",
        missing.join(", ")
    );
    false
}

/// Makes an empty folder for a run.
fn fresh(folder: &Path, name: &str) -> Result<PathBuf, Failure> {
    let path = folder.join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path)
        .map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
    Ok(path)
}

fn mean_cpu_s(ends: &[Option<End>]) -> f64 {
    let all: Vec<f64> = ends.iter().flatten().map(|end| end.cpu.total_s()).collect();
    all.iter().sum::<f64>() / all.len().max(1) as f64
}

/// Time for receivers to join their groups before the sender starts.
const HEAD_START: Duration = Duration::from_millis(800);

/// Runs uftp at 95 % of the link, with files into folders.
pub(crate) fn uftp(
    network: &Network,
    folder: &Path,
    file: &Path,
    limit: Duration,
) -> Result<PeerRun, Failure> {
    let here = fresh(folder, "uftp")?;
    let mut daemons = Vec::new();
    for number in 1..=network.targets {
        let into = here.join(format!("t{number}"));
        std::fs::create_dir(&into).map_err(|error| Failure::new(error.to_string()))?;
        let mut command = network.command(number, "uftpd");
        command
            .args(["-d", "-x", "1", "-I", "eth0", "-M", "230.4.4.1"])
            .args(["-B", "2097152", "-D"])
            .arg(&into);
        let log = here.join(format!("t{number}.log"));
        daemons.push(Process::start(command, "uftpd", &log)?);
    }
    std::thread::sleep(HEAD_START);
    // uftp's id of a host is its address in hexadecimal.
    let hosts: Vec<String> = (1..=network.targets)
        .map(|number| format!("0x0A4D01{number:02X}"))
        .collect();
    let mut command = network.command(0, "uftp");
    command
        .arg("-R")
        .arg((network.rate_bits_per_s / 1000 * 95 / 100).to_string())
        .args(["-H", &hosts.join(","), "-I", "eth0", "-x", "1"])
        .args(["-M", "230.4.4.1"])
        .arg(file);
    let (before, _) = network.bytes(0)?;
    let start = Instant::now();
    let mut sender = vec![Process::start(command, "uftp", &here.join("sender.log"))?];
    let end = wait_all(&mut sender, limit).pop().flatten();
    let (after, _) = network.bytes(0)?;
    let cpu: f64 = daemons
        .iter()
        .map(|daemon| daemon.so_far().0.total_s())
        .sum();
    drop(daemons);
    let name = file.file_name().unwrap_or_default();
    let right = (1..=network.targets)
        .filter(|number| difference(file, &here.join(format!("t{number}")).join(name)).is_none())
        .count();
    let _ = std::fs::remove_dir_all(&here);
    Ok(PeerRun {
        wall_s: end.map(|end| end.at.duration_since(start).as_secs_f64()),
        sent_bytes: after - before,
        target_cpu_s: cpu / network.targets as f64,
        right,
        targets: network.targets,
        sender_content: end.is_some_and(|end| end.clean),
    })
}

/// Runs udpcast in full duplex, with the unchanged file into files.
pub(crate) fn udpcast(
    network: &Network,
    folder: &Path,
    file: &Path,
    limit: Duration,
) -> Result<PeerRun, Failure> {
    let receiver = |_: usize, out: &Path| {
        format!(
            "exec udp-receiver --file {} {RECEIVER_WORDS}",
            out.display()
        )
    };
    udpcast_with(network, folder, file, file, limit, &receiver)
}

/// Runs udpcast into zstd into partclone into a sparse file, which is synced.
pub(crate) fn udpcast_partclone(
    network: &Network,
    folder: &Path,
    image: &PeerImage,
    limit: Duration,
) -> Result<PeerRun, Failure> {
    let receiver = |_: usize, out: &Path| {
        let out = out.display();
        format!(
            "set -o pipefail
             udp-receiver {RECEIVER_WORDS} 2> {out}.net | zstd -dcq |
               partclone.restore -C -W -s - -o {out} -L {out}.log 2> {out}.err && sync {out}"
        )
    };
    udpcast_with(
        network,
        folder,
        &image.path,
        &image.reference,
        limit,
        &receiver,
    )
}

const RECEIVER_WORDS: &str = "--interface eth0 --portbase 5002 --nokbd --start-timeout 30";

fn udpcast_with(
    network: &Network,
    folder: &Path,
    file: &Path,
    expected: &Path,
    limit: Duration,
    receiver: &dyn Fn(usize, &Path) -> String,
) -> Result<PeerRun, Failure> {
    let here = fresh(folder, "udpcast")?;
    let out = |number: usize| here.join(format!("t{number}"));
    let mut receivers = Vec::new();
    for number in 1..=network.targets {
        let mut command = network.command(number, "bash");
        command.args(["-c", &receiver(number, &out(number))]);
        let log = here.join(format!("receiver{number}.log"));
        receivers.push(Process::start(command, "udp-receiver", &log)?);
    }
    std::thread::sleep(HEAD_START);
    let mut command = network.command(0, "udp-sender");
    command
        .arg("--file")
        .arg(file)
        .args(["--interface", "eth0", "--portbase", "5002", "--nokbd"])
        .args(["--mcast-data-address", "239.254.1.1", "--full-duplex"])
        .args(["--min-receivers", &network.targets.to_string()])
        .args(["--max-wait", "15", "--start-timeout", "30"]);
    let (before, _) = network.bytes(0)?;
    let start = Instant::now();
    let mut sender = vec![Process::start(
        command,
        "udp-sender",
        &here.join("sender.log"),
    )?];
    let ends = wait_all(&mut receivers, limit);
    let all_ended = ends.iter().all(Option::is_some);
    let sent_end = wait_all(&mut sender, Duration::from_secs(5))[0];
    let (after, _) = network.bytes(0)?;
    drop((receivers, sender));
    network.clear()?;
    let right = (1..=network.targets)
        .filter(|number| difference(expected, &out(*number)).is_none())
        .count();
    let _ = std::fs::remove_dir_all(&here);
    let last = ends.iter().flatten().map(|end| end.at).max();
    Ok(PeerRun {
        wall_s: last
            .filter(|_| all_ended)
            .map(|last| last.duration_since(start).as_secs_f64()),
        sent_bytes: after - before,
        target_cpu_s: mean_cpu_s(&ends),
        right,
        targets: network.targets,
        sender_content: sent_end.is_some_and(|end| end.clean),
    })
}
