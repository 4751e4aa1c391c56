//! A Windows volume in a disk image with a GPT, and independent readers of it.
#![allow(
    dead_code,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "shared by two tests, each uses a part; a test is an edge, and says what it did not do"
)]

#[path = "../../../inspect/tests/support/hives.rs"]
pub(crate) mod hives;
#[path = "../../../inspect/tests/support/volume.rs"]
pub(crate) mod volume;

use apply::{ApplyError, Outcome, Payloads, Report, Slot, Target, Watcher};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use template::first_start::FirstStart;
use template::secrets::Secrets;
use template::step::{Action, MachinePlan, Payload, SecretName, Step, When};
use volume::{Mounted, new_volume};

/// Number of the partition that holds the volume.
pub(crate) const PARTITION: u32 = 3;
/// Offset of its first byte.
const OFFSET: u64 = 5 << 20;

/// A disk, and the parts of an order.
pub(crate) struct Lab {
    pub(crate) dir: tempfile::TempDir,
    disk: PathBuf,
    length: u64,
    pub(crate) secrets: Secrets,
    payloads: Files,
    pub(crate) said: Vec<String>,
    /// Address and key for the report of the first start.
    pub(crate) first_start: Option<FirstStart>,
}

#[derive(Default)]
struct Files(BTreeMap<String, Vec<u8>>);

impl Payloads for Files {
    fn open(&self, payload: &Payload) -> std::io::Result<Box<dyn Read + '_>> {
        match self.0.get(&payload.blake3) {
            Some(bytes) => Ok(Box::new(bytes.as_slice())),
            None => Err(std::io::ErrorKind::NotFound.into()),
        }
    }
}

struct Heard<'a>(&'a mut Vec<String>);

impl Watcher for Heard<'_> {
    fn step(&mut self, _: usize, _: usize, what: &str) {
        self.0.push(what.to_owned());
    }

    fn log(&mut self, line: &str) {
        self.0.push(line.to_owned());
    }
}

impl Lab {
    /// Makes a disk with a volume of `mib` MiB, filled by `fill`.
    pub(crate) fn new(mib: u64, fill: impl FnOnce(&Mounted)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let length = mib << 20;
        let image = new_volume(dir.path(), length);
        let mounted = Mounted::new(&image);
        fill(&mounted);
        drop(mounted);
        let disk = dir.path().join("disk.img");
        File::create(&disk)
            .unwrap()
            .set_len(OFFSET + length + (1 << 20))
            .unwrap();
        let (start, sectors) = (OFFSET / 512, length / 512);
        let table = format!("label: gpt\n{PARTITION}: start={start}, size={sectors}\n");
        let mut sfdisk = Command::new("sfdisk")
            .arg("-q")
            .arg(&disk)
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("sfdisk");
        sfdisk
            .stdin
            .take()
            .unwrap()
            .write_all(table.as_bytes())
            .unwrap();
        assert!(sfdisk.wait().unwrap().success());
        let mut to = File::options().write(true).open(&disk).unwrap();
        to.seek(SeekFrom::Start(OFFSET)).unwrap();
        std::io::copy(&mut File::open(&image).unwrap(), &mut to).unwrap();
        Self {
            dir,
            disk,
            length,
            secrets: Secrets::default(),
            payloads: Files::default(),
            said: Vec::new(),
            first_start: None,
        }
    }

    /// Adds a file of the console.
    pub(crate) fn payload(&mut self, name: &str, bytes: &[u8]) -> Payload {
        let blake3 = blake3::hash(bytes).to_hex().to_string();
        self.payloads.0.insert(blake3.clone(), bytes.to_vec());
        Payload {
            name: name.to_owned(),
            blake3,
            bytes: bytes.len() as u64,
        }
    }

    /// Adds a secret.
    pub(crate) fn secret(&mut self, name: &str, value: &str) -> SecretName {
        let name = SecretName(name.to_owned());
        self.secrets.insert(name.clone(), value.to_owned());
        name
    }

    /// Applies these actions.
    pub(crate) fn run(&mut self, actions: &[Action]) -> Result<Report, ApplyError> {
        let steps = (1..).zip(actions).map(|(number, action)| Step {
            id: format!("step.{number}"),
            what: format!("step {number}"),
            when: When::Offline,
            action: action.clone(),
        });
        let plan = MachinePlan {
            steps: steps.collect(),
            ..MachinePlan::default()
        };
        let slot = Slot {
            number: PARTITION,
            offset: OFFSET,
            length: self.length,
        };
        let target = Target {
            disk: &self.disk,
            sector_size: 512,
            partitions: &[slot],
            work: &self.dir.path().join("work"),
            first_start: self.first_start.as_ref(),
        };
        let cancelled = AtomicBool::new(false);
        let mut heard = Heard(&mut self.said);
        apply::run(
            &target,
            &plan,
            &self.secrets,
            &self.payloads,
            &cancelled,
            &mut heard,
        )
    }

    /// Applies these actions and checks that each has this outcome.
    pub(crate) fn all(&mut self, actions: &[Action], outcome: Outcome) -> Report {
        let report = self
            .run(actions)
            .unwrap_or_else(|error| panic!("{error}\n{:#?}", self.said));
        for (id, found) in &report.steps {
            assert_eq!(*found, outcome, "{id}: {:#?}", self.said);
        }
        report
    }

    /// The volume as a file of its own.
    pub(crate) fn volume(&self) -> PathBuf {
        let path = self.dir.path().join("volume.img");
        let mut from = File::open(&self.disk).unwrap();
        from.seek(SeekFrom::Start(OFFSET)).unwrap();
        std::io::copy(
            &mut from.take(self.length),
            &mut File::create(&path).unwrap(),
        )
        .unwrap();
        path
    }

    /// Content of a file, read by ntfscat.
    pub(crate) fn cat(&self, volume: &Path, path: &str) -> Vec<u8> {
        let out = Command::new("ntfscat")
            .args(["-q"])
            .arg(volume)
            .arg(path)
            .output()
            .unwrap();
        assert!(
            out.status.success(),
            "{path}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        out.stdout
    }

    /// A hive of `System32\config` as a file, read by ntfscat.
    pub(crate) fn hive(&self, volume: &Path, name: &str) -> PathBuf {
        let path = self.dir.path().join(format!("read-{name}"));
        std::fs::write(
            &path,
            self.cat(volume, &format!("Windows/System32/config/{name}")),
        )
        .unwrap();
        path
    }

    /// ntfs-3g's own audit of `$Secure` and the journal.
    pub(crate) fn audit(&self, volume: &Path) {
        let out = Command::new("ntfssecaudit")
            .arg("-a")
            .arg(volume)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&out.stdout);
        assert!(text.contains("All keys are present in all lists"), "{text}");
        for part in ["$SDS-1", "$SII", "$SDH"] {
            assert!(text.contains(&format!("0 errors in {part}")), "{text}");
        }
        // After the very last entry ntfssecaudit 1.5.0 continues to read if that entry does not end
        // at a multiple of 16 bytes: it reports one error in the mirror, also on a volume that only
        // ntfs-3g ever wrote. Every entry before it counts.
        let valid = |part: &str| {
            let line = text
                .lines()
                .find(|line| line.ends_with(&format!("entries in {part}")));
            line.and_then(|line| line.split(' ').next())
                .unwrap()
                .to_owned()
        };
        assert_eq!(valid("$SDS-1"), valid("$SDS-2"), "{text}");
        let out = Command::new("ntfsfix")
            .arg("-n")
            .arg(volume)
            .output()
            .unwrap();
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stdout)
        );
    }
}

/// Output of a program.
pub(crate) fn said(program: &str, arguments: &[&str]) -> String {
    let out = Command::new(program).args(arguments).output();
    let out = out.unwrap_or_else(|error| panic!("{program}: {error}"));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// A string value, read by hivexget.
pub(crate) fn hivexget(hive: &Path, key: &str, value: &str) -> String {
    said("hivexget", &[&hive.display().to_string(), key, value])
        .trim_end()
        .to_owned()
}

/// Keys and values below a path, read by reglookup, without the times.
pub(crate) fn reglookup(hive: &Path, path: &str) -> Vec<String> {
    let text = said(
        "reglookup",
        &["-H", "-p", path, &hive.display().to_string()],
    );
    let lines = text
        .lines()
        .map(|line| line.rsplit_once(',').map_or(line, |(line, _)| line));
    // Windows 7 spells it `services`.
    lines
        .map(|line| line.replace("/services/", "/Services/"))
        .collect()
}

/// Output of a Python script, if python3 has these modules; the Python that DISKCAST_PYTHON names
/// must have them.
pub(crate) fn python(modules: &str, script: &str, arguments: &[&Path]) -> Option<String> {
    let named = std::env::var("DISKCAST_PYTHON").ok();
    let must = named.is_some();
    let python = named.unwrap_or_else(|| "python3".into());
    let has = Command::new(&python)
        .args(["-c", &format!("import {modules}")])
        .output();
    if !has.is_ok_and(|out| out.status.success()) {
        assert!(!must, "DISKCAST_PYTHON: {python} does not have {modules}");
        println!("not held against {modules}: {python} does not have them (see DISKCAST_PYTHON)");
        return None;
    }
    let out = Command::new(&python)
        .args(["-c", script])
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    Some(String::from_utf8_lossy(&out.stdout).into_owned())
}
