//! Mistakes of people and defects of media: each gets one clear error with its own exit code, and
//! no data is lost.
#![allow(
    clippy::disallowed_methods,
    reason = "tests are the edge: they wait and read files"
)]
#![allow(
    clippy::cast_possible_truncation,
    reason = "test arithmetic on small sizes"
)]

mod common;

#[path = "bad_input_parts/exit_codes.rs"]
mod exit_codes;
#[path = "image/rules.rs"]
mod image_rules;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::agent::agent;
use common::disk::{Fs, Loop, Mount, part};
use common::fill::{TARGET_POISON, noise, poisoned, put_noise_file};
use common::images::{capture, check, info, restore};
use common::process::{DISKCAST, bash, clean, diskcast, held_when, run, text, tool};
use common::{hash_file, scratch};

const MIB: u64 = 1 << 20;
const INTEGRITY: i32 = 7;

/// Makes a 48 MiB disk with ext4 and `megabytes` of noise on it.
fn master(folder: &Path, megabytes: u64) -> PathBuf {
    let disk = folder.join("master.raw");
    let size = 48 * MIB + megabytes * 2 * MIB;
    fs::File::create(&disk)
        .and_then(|f| f.set_len(size))
        .expect("a disk");
    tool(&["sgdisk", "-n", "1:0:0", text(&disk)]);
    let device = Loop::part(&disk, &part(&disk, 512, 1), 512);
    tool(&["mke2fs", "-q", "-F", "-t", "ext4", device.text()]);
    put_noise_file(
        &device,
        "noise.bin",
        &noise("bad", (megabytes * MIB) as usize),
    );
    disk
}

fn master_image(folder: &Path) -> (PathBuf, PathBuf) {
    let disk = master(folder, 6);
    let image = folder.join("good.dcimg");
    capture(&disk, &image, &[]).ok();
    (disk, image)
}

/// Makes a changed copy of the image.
fn changed(image: &Path, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    let mut bytes = fs::read(image).expect("the image");
    change(&mut bytes);
    let copy = image.with_file_name(name);
    fs::write(&copy, bytes).expect("a copy");
    copy
}

#[test]
fn a_damaged_chunk_is_found_and_named() {
    let folder = scratch();
    let (_, image) = master_image(folder.path());
    check(&image, &[]).ok();
    check(&image, &["--deep"]).ok();
    // The middle of the file is the middle of a chunk: 6 of its 6.x MB are noise.
    let hurt = changed(&image, "hurt.dcimg", |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
    for depth in [&[][..], &["--deep"]] {
        let said = check(&hurt, depth).code(INTEGRITY);
        let all = format!("{}{}", said.stdout, said.stderr).to_lowercase();
        assert!(
            all.contains("chunk"),
            "the chunk is not named\n{}",
            said.story()
        );
        assert!(
            all.contains("partition 1"),
            "the partition is not named\n{}",
            said.story()
        );
    }
    // The structure alone is whole: quick reports that correctly, and a restore still fails.
    check(&hurt, &["--quick"]).ok();
    let target = folder.path().join("target.raw");
    poisoned(&target, 60 * MIB, TARGET_POISON);
    restore(&hurt, &target, &[]).code(INTEGRITY);
    let head = common::disk::bytes_at(&target, 0, 1024);
    assert_ne!(
        head[510..512],
        [0x55, 0xaa],
        "a disk that was not proven is bootable"
    );
    assert_ne!(
        &head[512..520],
        b"EFI PART",
        "a disk that was not proven has a table"
    );
}

#[test]
fn truncated_images_are_damaged_images() {
    let folder = scratch();
    let (_, image) = master_image(folder.path());
    let length = fs::metadata(&image).expect("image").len() as usize;
    let target = folder.path().join("target.raw");
    poisoned(&target, 60 * MIB, TARGET_POISON);
    let before = hash_file(&target);
    for keep in [length - 1, length - 4096, length / 2, 8192, 4096] {
        let cut = changed(&image, "cut.dcimg", |bytes| bytes.truncate(keep));
        check(&cut, &[]).code(INTEGRITY);
        check(&cut, &["--quick"]).code(INTEGRITY);
        restore(&cut, &target, &[]).code(INTEGRITY);
        assert_eq!(
            hash_file(&target),
            before,
            "a target was written to from an image cut at {keep}"
        );
    }
}

#[test]
fn every_byte_of_the_head_and_the_tail_counts() {
    let folder = scratch();
    let (_, image) = master_image(folder.path());
    let length = fs::metadata(&image).expect("image").len() as usize;
    for at in [
        0,
        5,
        9,
        40,
        100,
        length - 1,
        length - 20,
        length - 60,
        length - 200,
    ] {
        let hurt = changed(&image, "hurt.dcimg", |bytes| bytes[at] ^= 0x40);
        let said = check(&hurt, &[]);
        assert!(
            !said.stderr.contains("panicked"),
            "byte {at}\n{}",
            said.story()
        );
        // A flipped byte may go unnoticed only in padding on which nothing depends; then the root
        // is the same.
        if said.code == Some(0) {
            assert_eq!(
                info(&hurt)["root"],
                info(&image)["root"],
                "byte {at} changed what the image is, unnoticed"
            );
        } else {
            assert!(
                [2, 5, INTEGRITY].contains(&said.code.unwrap_or(-1)),
                "byte {at}\n{}",
                said.story()
            );
        }
    }
}

#[test]
fn what_is_no_image_is_said_to_be_none() {
    let folder = scratch();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("empty"), b"").expect("written");
    fs::write(path("text"), b"not an image\n".repeat(2000)).expect("written");
    fs::write(path("noise"), noise("foreign", 3_000_000)).expect("written");
    fs::write(path("zeros"), vec![0; 100_000]).expect("written");
    for name in ["empty", "text", "noise", "zeros"] {
        check(&path(name), &[]).code(INTEGRITY).says(&[name]);
        diskcast(["image", "info", text(&path(name))]).code(INTEGRITY);
        restore(&path(name), &path("target"), &[]).code(INTEGRITY);
        assert!(!path("target").exists(), "a target was made for {name}");
    }
    check(&path("missing"), &[])
        .code_of(&[1, 2, 4, 5])
        .says(&["missing"]);
    check(folder.path(), &[]).code_of(&[1, 2, 5, INTEGRITY]);
}

#[test]
fn an_encrypted_image_needs_its_password() {
    let folder = scratch();
    let disk = master(folder.path(), 2);
    let image = folder.path().join("locked.dcimg");
    let (right, wrong) = (folder.path().join("right"), folder.path().join("wrong"));
    fs::write(&right, "correct horse\n").expect("written");
    fs::write(&wrong, "battery staple\n").expect("written");
    capture(&disk, &image, &["--password-file", text(&right)]).ok();
    let target = folder.path().join("target.raw");
    restore(&image, &target, &[])
        .code_of(&[2, 5, 6])
        .says(&["password"]);
    restore(&image, &target, &["--password-file", text(&wrong)])
        .code_of(&[2, 5, 6, 7])
        .says(&["password"]);
    assert!(!target.exists() || fs::metadata(&target).expect("target").len() == 0);
    // A person without the password can check the stored bytes, and sees the facts that are not
    // secret.
    let known = info(&image);
    assert_eq!(
        (&known["encrypted"], &known["meta"]),
        (&true.into(), &serde_json::Value::Null)
    );
    assert_eq!(
        known["disk_bytes"],
        fs::metadata(&disk).expect("disk").len()
    );
    check(&image, &[]).ok();
    check(&image, &["--deep", "--password-file", text(&right)]).ok();
    restore(&image, &target, &["--password-file", text(&right)]).ok();
    let device = Loop::part(&target, &part(&target, 512, 1), 512);
    Fs::Ext4.check(&device);
    drop(device);
    // Neither the captured noise nor a name from the disk can be read from the file.
    let bytes = fs::read(&image).expect("image");
    let needle = &noise("bad", 64)[..32];
    assert!(
        !bytes.windows(32).any(|window| window == needle),
        "plain content in an encrypted image"
    );
}

#[test]
fn an_existing_image_is_never_overwritten() {
    let folder = scratch();
    let (disk, image) = master_image(folder.path());
    let before = hash_file(&image);
    capture(&disk, &image, &[])
        .code_of(&[2, 5])
        .says(&["exist"]);
    assert_eq!(hash_file(&image), before);
    assert_eq!(images_in(folder.path()), ["good.dcimg"]);
}

/// Names of files in a folder that contain `dcimg`.
fn images_in(folder: &Path) -> Vec<String> {
    let names: BTreeSet<String> = fs::read_dir(folder)
        .expect("listed")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains("dcimg"))
        .collect();
    names.into_iter().collect()
}

/// A small file system in memory.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn new(megabytes: u64) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        tool(&[
            "mount",
            "-t",
            "tmpfs",
            "-o",
            &format!("size={megabytes}M"),
            "diskcast-test",
            text(folder.path()),
        ]);
        Self(folder)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_ends_a_capture_without_an_image() {
    let folder = scratch();
    let disk = master(folder.path(), 12);
    let small = Tmpfs::new(4);
    let image = small.0.path().join("full.dcimg");
    let said = capture(&disk, &image, &[]).code_of(&[1, 5]);
    let words = said.stderr.to_lowercase();
    assert!(
        words.contains("space") || words.contains("free"),
        "the reason is not said\n{}",
        said.story()
    );
    assert!(!image.exists(), "a broken image has its final name");
}

#[test]
fn a_capture_that_is_killed_leaves_only_a_partial_file() {
    let folder = scratch();
    let disk = master(folder.path(), 96);
    let image = folder.path().join("killed.dcimg");
    let mut command = Command::new(DISKCAST);
    clean(&mut command);
    // Level 12 on one thread takes seconds. The process is stopped before it is killed, so that the
    // kill is midway.
    let mut child = command
        .args([
            "image",
            "capture",
            text(&disk),
            text(&image),
            "--level",
            "12",
            "--threads",
            "1",
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    held_when(child.id(), "a partial file", || {
        assert!(
            child.try_wait().expect("asked").is_none(),
            "the capture was over before it could be killed"
        );
        fs::read_dir(folder.path())
            .expect("listed")
            .flatten()
            .find(|entry| {
                entry.file_name().to_string_lossy().ends_with(".partial")
                    && entry.metadata().is_ok_and(|m| m.len() > MIB)
            })
    });
    child.kill().expect("killed");
    child.wait().expect("gone");
    assert!(!image.exists(), "a half image has its final name");
    let left = images_in(folder.path());
    assert!(
        left.iter().all(|name| name.ends_with(".partial")),
        "{left:?}"
    );
    // It does not block the next capture.
    capture(&disk, &image, &[]).ok();
    check(&image, &["--deep"]).ok();
    assert_eq!(images_in(folder.path()), ["killed.dcimg"]);
}

#[test]
fn a_mounted_disk_is_not_overwritten() {
    let folder = scratch();
    let (_, image) = master_image(folder.path());
    let victim = folder.path().join("victim.raw");
    fs::File::create(&victim)
        .and_then(|f| f.set_len(64 * MIB))
        .expect("a disk");
    let device = Loop::disk(&victim, 512);
    tool(&["mke2fs", "-q", "-F", "-t", "ext4", device.text()]);
    let mount = Mount::new("ext4", device.path(), "rw");
    fs::write(mount.path().join("precious"), b"still here").expect("written");
    bash("sync");
    let before = hash_file(&victim);
    restore(&image, device.path(), &[])
        .code(5)
        .says(&[device.text(), text(mount.path())]);
    assert_eq!(hash_file(&victim), before, "a mounted disk was written to");
}

#[test]
fn a_mounted_disk_is_not_captured_as_if_it_were_at_rest() {
    let folder = scratch();
    let disk = master(folder.path(), 2);
    let device = Loop::part(&disk, &part(&disk, 512, 1), 512);
    let _mount = Mount::new("ext4", device.path(), "rw");
    // The whole disk through its own file: the journal shows that it is in use.
    let image = folder.path().join("live.dcimg");
    bash("sync");
    capture(&disk, &image, &[]).code(5);
    capture(device.path(), &image, &[]).code(5);
    assert!(images_in(folder.path()).is_empty());
}

#[test]
fn a_missing_source_is_one_sentence() {
    let folder = scratch();
    let image = folder.path().join("none.dcimg");
    let said = capture(Path::new("/nonexistent/disk"), &image, &[]).code_of(&[1, 2, 4, 5]);
    assert!(
        said.stderr.contains("/nonexistent/disk"),
        "{}",
        said.story()
    );
    assert!(
        said.stderr
            .lines()
            .filter(|line| !line.trim().is_empty())
            .count()
            <= 3,
        "{}",
        said.story()
    );
    assert!(images_in(folder.path()).is_empty());
}

#[test]
fn errors_are_json_too() {
    let folder = scratch();
    let said = diskcast([
        "image",
        "check",
        text(&folder.path().join("missing")),
        "--json",
    ]);
    assert_ne!(said.code, Some(0));
    let all = format!("{}{}", said.stdout, said.stderr);
    let error = all
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find(|value| value["code"].is_string() && value["message"].is_string());
    assert!(error.is_some(), "no JSON error\n{}", said.story());
}

/// The commands that `--help` lists under "Commands:".
fn subcommands(help: &str) -> Vec<String> {
    help.lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| !line.trim().is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|word| *word != "help")
        .map(str::to_owned)
        .collect()
}

fn help_of(program: &str, path: &[String], seen: &mut Vec<String>) {
    for flag in ["--help", "-h"] {
        let mut command = Command::new(program);
        clean(&mut command);
        let said = run(command.args(path).arg(flag)).ok();
        assert!(said.stdout.len() > 40, "{}", said.story());
        for line in said.stdout.lines() {
            assert!(
                line.chars().count() <= 80,
                "{} columns: {line}\n{}",
                line.chars().count(),
                said.story()
            );
        }
        if flag == "--help" {
            seen.push(path.join(" "));
            for word in subcommands(&said.stdout) {
                let mut deeper = path.to_vec();
                deeper.push(word);
                help_of(program, &deeper, seen);
            }
        }
    }
}

#[test]
fn every_command_has_help_that_fits_eighty_columns() {
    let mut seen = Vec::new();
    help_of(DISKCAST, &[], &mut seen);
    for expected in [
        "demo",
        "console run",
        "console show",
        "target list",
        "target show",
        "target forget",
        "image capture",
        "image info",
        "image check",
        "image label",
        "image sign",
        "image rebuild",
        "image restore",
        "deploy",
        "job list",
        "job show",
        "job watch",
        "job wait",
        "job cancel",
        "job retry",
        "job log",
        "job report",
    ] {
        assert!(
            seen.iter().any(|path| path == expected),
            "no help of {expected}: {seen:?}"
        );
    }
    let mut of_agent = Vec::new();
    help_of(agent(), &[], &mut of_agent);
    assert!(of_agent.iter().any(|path| path == "run"), "{of_agent:?}");
}

#[test]
fn wrong_words_are_usage_errors() {
    for words in [
        &["--no-such-flag"][..],
        &["nosuchcommand"],
        &["image"],
        &["image", "capture"],
        &["image", "capture", "a", "b", "c"],
        &["image", "capture", "a", "b", "--level", "99"],
        &["image", "check", "a", "--quick", "--deep"],
        &["image", "restore", "a", "b", "--grow", "most"],
        &["deploy"],
        &[
            "deploy",
            "--image",
            "a",
            "--targets",
            "all",
            "--rate",
            "fast",
        ],
        &["job", "wait"],
    ] {
        diskcast(words).code(2);
    }
    let refused = |words: &[&str]| {
        let mut command = Command::new(agent());
        clean(&mut command);
        run(command.args(words))
    };
    refused(&["--no-such-flag"]).code(2);
    refused(&["run", "--pin", "nothex", "--once"]).code(2);
}

#[test]
fn without_a_console_the_error_says_how_to_start_one() {
    let folder = scratch();
    let data = folder.path().join("data");
    let image = folder.path().join("any.dcimg");
    fs::write(&image, b"x").expect("written");
    for words in [
        &["console", "show"][..],
        &["target", "list"],
        &["job", "list"],
        &["job", "wait", "1"],
        &[
            "deploy",
            "--image",
            text(&image),
            "--targets",
            "all",
            "--yes",
        ],
    ] {
        let mut all = vec!["--data-dir", text(&data)];
        all.extend(words);
        diskcast(all).code(6).says(&["console run"]);
    }
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let folder = scratch();
    let (_, image) = master_image(folder.path());
    let said = run(Command::new("bash").args([
        "-c",
        &format!(
            "{DISKCAST} image info {} | head -c 1 > /dev/null; echo ${{PIPESTATUS[0]}}",
            text(&image)
        ),
    ]));
    assert!(
        !said.stderr.contains("panicked") && !said.stderr.to_lowercase().contains("broken pipe"),
        "{}",
        said.story()
    );
}
