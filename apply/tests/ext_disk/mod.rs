//! A disk file with a GPT and real ext4 file systems, made by Debian's own tools, and checks of it
//! with the same tools.
#![allow(
    dead_code,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "the edge: tests make files and run programs; each test uses its part"
)]

use apply::{ApplyError, Payloads, Report, Slot, Target, Watcher};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use template::first_start::FirstStart;
use template::secrets::Secrets;
use template::step::{Action, MachinePlan, Payload, Step, When};

pub(crate) const MIB: u64 = 1 << 20;

/// False, with a printed reason, where loop devices and mounts are not allowed.
pub(crate) fn may_mount() -> bool {
    let can = rustix::process::geteuid().is_root() && Path::new("/dev/loop-control").exists();
    if !can {
        eprintln!("did not run: loop devices and mounts need root");
    }
    can
}

pub(crate) fn tool(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C")
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    said
}

/// A small Debian-like root.
pub(crate) fn debian_tree() -> BTreeMap<&'static str, &'static str> {
    BTreeMap::from([
        (
            "etc/os-release",
            "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\nVERSION_ID=\"13\"\n",
        ),
        ("etc/hostname", "master\n"),
        (
            "etc/hosts",
            "127.0.0.1\tlocalhost\n127.0.1.1\tmaster.lab\tmaster\n::1\tlocalhost\n",
        ),
        ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
        (
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\nann:x:1000:1000:Ann:/home/ann:/bin/bash\n",
        ),
        (
            "etc/shadow",
            "root:*:19000:0:99999:7:::\ndaemon:*:19000:0:99999:7:::\nann:!:19000:0:99999:7:::\n",
        ),
        (
            "etc/group",
            "root:x:0:\ndaemon:x:1:\nsudo:x:27:ann\nusers:x:100:\nann:x:1000:\n",
        ),
        (
            "etc/gshadow",
            "root:*::\ndaemon:*::\nsudo:*::ann\nusers:*::\nann:!::\n",
        ),
        ("etc/subuid", "ann:100000:65536\n"),
        ("etc/subgid", "ann:100000:65536\n"),
        (
            "etc/login.defs",
            "UID_MIN\t1000\nUID_MAX\t60000\nGID_MIN 1000\nGID_MAX 60000\nENCRYPT_METHOD YESCRYPT\n",
        ),
        ("etc/skel/.profile", "# profile\n"),
        ("etc/skel/.config/app", "x\n"),
        (
            "etc/sudoers",
            "root ALL=(ALL:ALL) ALL\n%sudo\tALL=(ALL:ALL) ALL\n@includedir /etc/sudoers.d\n",
        ),
        ("etc/ssh/ssh_host_rsa_key", "old\n"),
        ("etc/ssh/ssh_host_rsa_key.pub", "old\n"),
        ("etc/ssh/sshd_config", "# sshd\n"),
        (
            "etc/network/interfaces",
            "auto eth0\niface eth0 inet dhcp\n",
        ),
        ("etc/resolv.conf", "nameserver 192.0.2.1\n"),
        ("usr/lib/systemd/systemd", "\u{7f}ELF"),
        ("usr/sbin/sshd", "\u{7f}ELF"),
        ("usr/bin/ssh-keygen", "\u{7f}ELF"),
        ("usr/bin/sudo", "\u{7f}ELF"),
        ("bin/bash", "\u{7f}ELF"),
        (
            "var/lib/dbus/machine-id",
            "0123456789abcdef0123456789abcdef\n",
        ),
        ("var/lib/systemd/random-seed", "seed"),
        ("var/lib/dhcp/dhclient.eth0.leases", "lease {}\n"),
        ("home/ann/keep", "mine\n"),
        ("root/.keep", ""),
        ("tmp/.keep", ""),
    ])
}

/// A disk file and its partitions.
pub(crate) struct Disk {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) file: PathBuf,
    pub(crate) slots: Vec<Slot>,
    /// Bytes of a logical sector.
    pub(crate) sector_size: u32,
}

impl Disk {
    /// Makes empty partitions of these sizes in MiB.
    pub(crate) fn new(sizes: &[u64]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("disk");
        let total: u64 = sizes.iter().sum::<u64>() + 2;
        fs::File::create(&file)
            .unwrap()
            .set_len(total * MIB)
            .unwrap();
        let mut script = String::from("label: gpt\n");
        let mut slots = Vec::new();
        let mut offset = MIB;
        for (number, size) in (1..).zip(sizes) {
            let length = size * MIB;
            script += &format!("start={}, size={}, type=L\n", offset / 512, length / 512);
            slots.push(Slot {
                number,
                offset,
                length,
            });
            offset += length;
        }
        let table = folder.path().join("table");
        fs::write(&table, script).unwrap();
        tool(
            "sh",
            &[
                "-c",
                &format!("sfdisk -q {} < {}", file.display(), table.display()),
            ],
        );
        Self {
            folder,
            file,
            slots,
            sector_size: 512,
        }
    }

    fn slot(&self, number: u32) -> Slot {
        *self
            .slots
            .iter()
            .find(|slot| slot.number == number)
            .unwrap()
    }

    /// Makes an ext4 file system of `size` MiB that holds a tree.
    pub(crate) fn ext4(&self, number: u32, tree: &BTreeMap<&str, &str>, size: u64, more: &[&str]) {
        let tree_at = self.folder.path().join(format!("tree-{number}"));
        fs::create_dir_all(&tree_at).unwrap();
        for (path, content) in tree {
            let path = tree_at.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match content.strip_prefix("-> ") {
                Some(target) => std::os::unix::fs::symlink(target, &path).unwrap(),
                None => fs::write(&path, content).unwrap(),
            }
            if path.ends_with("etc/shadow") || path.ends_with("etc/gshadow") {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
                std::os::unix::fs::chown(&path, Some(0), Some(42)).unwrap();
            }
        }
        let slot = self.slot(number);
        let offset = format!("offset={}", slot.offset);
        let size = format!("{size}m");
        let (at, file) = (
            tree_at.display().to_string(),
            self.file.display().to_string(),
        );
        let mut arguments = vec!["-q", "-t", "ext4", "-F", "-E", &offset, "-d", &at];
        arguments.extend(more);
        arguments.extend([file.as_str(), &size]);
        tool("mke2fs", &arguments);
    }

    /// The partition as file and offset, in the notation of e2fsprogs.
    pub(crate) fn place(&self, number: u32) -> String {
        format!(
            "{}?offset={}",
            self.file.display(),
            self.slot(number).offset
        )
    }

    /// Output of debugfs for a request.
    pub(crate) fn debugfs(&self, number: u32, request: &str) -> String {
        tool("debugfs", &["-R", request, &self.place(number)])
    }

    /// Content of a file, read by debugfs.
    pub(crate) fn cat(&self, number: u32, path: &str) -> String {
        self.debugfs(number, &format!("cat {path}"))
    }

    /// Owner, group and mode of a path, read by debugfs.
    pub(crate) fn owner(&self, number: u32, path: &str) -> (u32, u32, u32) {
        let said = self.debugfs(number, &format!("stat {path}"));
        let field = |name: &str| {
            let rest = said
                .split(name)
                .nth(1)
                .unwrap_or_else(|| panic!("{path}: {said}"));
            rest.split_whitespace().next().unwrap().to_owned()
        };
        (
            field("User:").parse().unwrap(),
            field("Group:").parse().unwrap(),
            u32::from_str_radix(&field("Mode:"), 8).unwrap(),
        )
    }

    pub(crate) fn has(&self, number: u32, path: &str) -> bool {
        self.debugfs(number, &format!("stat {path}"))
            .contains("Inode:")
    }

    /// Checks that e2fsck finds no errors.
    pub(crate) fn assert_clean(&self, number: u32) {
        tool("e2fsck", &["-f", "-n", &self.place(number)]);
    }

    pub(crate) fn hash(&self) -> blake3::Hash {
        blake3::hash(&fs::read(&self.file).unwrap())
    }

    pub(crate) fn run(
        &self,
        steps: Vec<Action>,
        secrets: &Secrets,
        files: &Files,
    ) -> Result<Report, ApplyError> {
        self.run_plan(&plan(steps), secrets, files)
    }

    pub(crate) fn run_plan(
        &self,
        plan: &MachinePlan,
        secrets: &Secrets,
        files: &Files,
    ) -> Result<Report, ApplyError> {
        self.run_order(plan, secrets, files, None)
    }

    /// Runs the plan of an order that holds an address for the report of the first start.
    pub(crate) fn run_order(
        &self,
        plan: &MachinePlan,
        secrets: &Secrets,
        files: &Files,
        first_start: Option<&FirstStart>,
    ) -> Result<Report, ApplyError> {
        let work = self.folder.path().join("work");
        let target = Target {
            disk: &self.file,
            sector_size: self.sector_size,
            partitions: &self.slots,
            work: &work,
            first_start,
        };
        let mut lines = Lines::default();
        let result = apply::run(
            &target,
            plan,
            secrets,
            files,
            &AtomicBool::new(false),
            &mut lines,
        );
        assert!(!work.exists(), "the folder for mounts is left behind");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(
            !mounts.contains(&*work.to_string_lossy()),
            "something is left mounted"
        );
        // Another test may be listing the devices and hold them for a moment.
        let attached = || {
            let list = ["--list", "--noheadings", "--output", "BACK-FILE"];
            tool("losetup", &list).contains(&*self.file.to_string_lossy())
        };
        let left = (0..3000).all(|_| {
            let left = attached();
            if left {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            left
        });
        assert!(!left, "a loop device is left");
        result
    }
}

/// A partition as a loop device, for tools that have no option for an offset.
pub(crate) struct Attached(pub(crate) String);

impl Attached {
    pub(crate) fn new(disk: &Disk, number: u32) -> Self {
        let slot = disk
            .slots
            .iter()
            .find(|slot| slot.number == number)
            .unwrap();
        let (offset, length) = (slot.offset.to_string(), slot.length.to_string());
        let file = disk.file.display().to_string();
        let arguments = [
            "--find",
            "--show",
            "--offset",
            &offset,
            "--sizelimit",
            &length,
            &file,
        ];
        Self(tool("losetup", &arguments).trim().to_owned())
    }

    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> String {
        let mut arguments = arguments.to_vec();
        arguments.push(&self.0);
        tool(program, &arguments)
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // No waiting for the detachment: the numbers of loop devices are shared with the other
        // tests.
        tool("losetup", &["--detach", &self.0]);
    }
}

pub(crate) fn plan(steps: Vec<Action>) -> MachinePlan {
    MachinePlan {
        steps: steps
            .into_iter()
            .enumerate()
            .map(|(number, action)| Step {
                id: format!("step.{number}"),
                what: format!("step {number}"),
                when: When::Offline,
                action,
            })
            .collect(),
        ..MachinePlan::default()
    }
}

/// Files of the console, by hash.
#[derive(Default)]
pub(crate) struct Files(pub(crate) BTreeMap<String, Vec<u8>>);

impl Files {
    /// Adds a file and returns its entry in a plan.
    pub(crate) fn add(&mut self, name: &str, content: &[u8]) -> Payload {
        let blake3 = blake3::hash(content).to_hex().to_string();
        self.0.insert(blake3.clone(), content.to_vec());
        Payload {
            name: name.into(),
            blake3,
            bytes: content.len() as u64,
        }
    }
}

impl Payloads for Files {
    fn open(&self, payload: &Payload) -> io::Result<Box<dyn Read + '_>> {
        match self.0.get(&payload.blake3) {
            Some(content) => Ok(Box::new(io::Cursor::new(content))),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

/// Lines that a watcher received.
#[derive(Default)]
pub(crate) struct Lines(pub(crate) Vec<String>);

impl Watcher for Lines {
    fn step(&mut self, _: usize, _: usize, what: &str) {
        self.0.push(what.to_owned());
    }

    fn log(&mut self, line: &str) {
        self.0.push(line.to_owned());
    }
}

/// Id of the step that failed.
pub(crate) fn step_of(error: &ApplyError) -> Option<&str> {
    match error {
        ApplyError::Step { step, .. } => Some(step),
        _ => None,
    }
}
