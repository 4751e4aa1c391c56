//! Templates from file to machine: a room is deployed from one image, and every machine gets its
//! own identity; a repetition gives the same; the errors of a wrong template are all reported; a
//! failing step leaves a blank disk.
#![allow(
    clippy::disallowed_methods,
    reason = "tests are the edge: they wait, read files and tell what they saw"
)]

#[path = "../common/mod.rs"]
mod common;
mod domain;
mod lab;
mod newcomers;
mod no_templates;
mod windows;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use common::disk::{Loop, Mount, bytes_at, part};
use common::fill::{TARGET_POISON, poisoned};
use common::images::capture;
use common::process::{bash, text, tool};
use common::scratch;
use common::service::target_of;
use lab::Lab;

const MIB: u64 = 1 << 20;
const MASTER: u64 = 48 * MIB;
/// Size of a target disk, in bytes: larger than the master, so that partitions can grow.
const DISK: u64 = 64 * MIB;

/// A small Debian, with the files that inspection reads and steps change. Its programs are this
/// machine's own.
const TREE: &str = r#"
set -e
mkdir -p "$1" && cd "$1"
mkdir -p etc/ssh etc/systemd/network etc/systemd/system/multi-user.target.wants etc/skel root home var/lib/systemd var/log run tmp
mkdir -p usr/bin usr/sbin usr/lib/systemd
ln -s usr/bin bin; ln -s usr/sbin sbin; ln -s usr/lib lib
cp /bin/true usr/bin/sh; cp /bin/true usr/lib/systemd/systemd; cp /bin/true usr/sbin/sshd; cp /bin/true usr/bin/ssh-keygen; cp /bin/true usr/bin/sudo; cp /bin/true usr/lib/systemd/systemd-networkd
ln -s usr/lib/systemd/systemd sbin/init
ln -s /lib/systemd/system/systemd-networkd.service etc/systemd/system/multi-user.target.wants/
printf 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n' > usr/lib/os-release
ln -s ../usr/lib/os-release etc/os-release
echo master > etc/hostname
printf '127.0.0.1\tlocalhost\n127.0.1.1\tmaster\n' > etc/hosts
echo 0123456789abcdef0123456789abcdef > etc/machine-id
printf '[Match]\nName=*\n\n[Network]\nDHCP=yes\n' > etc/systemd/network/80-dhcp.network
echo 'private of the master' > etc/ssh/ssh_host_ed25519_key; echo 'public' > etc/ssh/ssh_host_ed25519_key.pub
printf 'root:x:0:0:root:/root:/bin/sh\n' > etc/passwd; printf 'root:*:19000:0:99999:7:::\n' > etc/shadow; chmod 640 etc/shadow
printf 'root:x:0:\nsudo:x:27:\nusers:x:100:\n' > etc/group; printf 'root:*::\nsudo:*::\nusers:*::\n' > etc/gshadow
printf 'UID_MIN 1000\nUID_MAX 60000\nGID_MIN 1000\nGID_MAX 60000\nENCRYPT_METHOD YESCRYPT\n' > etc/login.defs
printf '%%sudo ALL=(ALL:ALL) ALL\n' > etc/sudoers; echo 'hello' > etc/skel/.profile
"#;

const TEMPLATE: &str = r#"
schema = 1
image = "master.dcimg"
grow = "last"
end = "shutdown"

[identity]
hostname = "LAB-{nn}"
case = "lower"

[network]
mode = "static"
range = "10.20.0.50-10.20.0.59"
prefix = 24
gateway = "10.20.0.1"
dns = ["10.20.0.2"]
suffix = "lab.example"

[linux]

[[user]]
name = "labadmin"
full_name = "Lab"
groups = ["administrators"]
password = "ref:labadmin"

[[copy]]
from = "payload"
to = "/opt/payload"

[[run]]
command = "echo hello"
"#;

fn master(folder: &Path) {
    let disk = folder.join("master.raw");
    bash(&format!(
        "bash -c '{}' tree {}",
        TREE.replace('\'', "'\\''"),
        text(&folder.join("tree"))
    ));
    bash(&format!(
        "truncate -s {MASTER} {0} && sgdisk -n 1:2048:0 -t 1:8300 {0} >/dev/null",
        text(&disk)
    ));
    let root = part(&disk, 512, 1);
    bash(&format!(
        "mke2fs -q -t ext4 -E offset={} -d {} {} {}k 2>/dev/null",
        root.start,
        text(&folder.join("tree")),
        text(&disk),
        root.length / 1024
    ));
    capture(&disk, &folder.join("master.dcimg"), &[]).ok();
    std::fs::write(folder.join("payload"), vec![7; 300_000]).expect("a payload");
}

/// Examines the system of a deployed disk, mounted read-only.
fn inside<T>(disk: &Path, look: impl FnOnce(&Path) -> T) -> T {
    let root = part(disk, 512, 1);
    let device = Loop::part(disk, &root, 512);
    tool(&["e2fsck", "-fn", device.text()]).ok();
    let mounted = Mount::new("ext4", device.path(), "ro");
    look(mounted.path())
}

fn read(root: &Path, name: &str) -> String {
    std::fs::read_to_string(root.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

#[test]
fn two_machines_of_one_image_are_each_themselves_and_stay_so() {
    let mut lab = Lab::new("ta", 2, DISK, master);
    let template = lab.file("lab.toml", TEMPLATE);
    // Without the password nothing starts, and no name is handed out.
    let refused = lab.deploy(&template, &["--yes"]);
    let refused = refused.code(4);
    assert!(
        refused.stdout.contains("labadmin") && refused.stdout.contains("secret set"),
        "{}",
        refused.story()
    );
    lab.secret("correct horse battery\n");
    let plan = lab.deploy(&template, &["--dry-run"]).ok();
    for word in ["lab-01", "lab-02", "10.20.0.50", "10.20.0.51"] {
        assert!(plan.stdout.contains(word), "{word}: {}", plan.story());
    }
    assert!(!plan.stdout.contains("correct horse"), "{}", plan.story());
    let bound = lab.console.cli(&["binding", "list", "--json"]).ok().json();
    assert_eq!(
        bound["bindings"],
        serde_json::json!([]),
        "a dry run hands nothing out"
    );

    let run = lab.deploy(&template, &["--yes"]);
    let summary = lab.all_done(&run);
    let mut seen = [BTreeSet::new(), BTreeSet::new(), BTreeSet::new()];
    for agent in &lab.agents {
        assert_eq!(
            target_of(&summary, &agent.disk)["state"],
            "done",
            "{summary:#}"
        );
        inside(&agent.disk, |root| {
            let name = read(root, "etc/hostname").trim().to_owned();
            assert!(name.starts_with("lab-0"), "{name}");
            assert!(read(root, "etc/hosts").contains(&name));
            assert_eq!(
                read(root, "etc/machine-id").trim(),
                "",
                "drawn at the first start"
            );
            assert!(!root.join("etc/ssh/ssh_host_ed25519_key").exists());
            // networkd takes the first file that fits a card, in the order of their names.
            let mut networks: Vec<PathBuf> = std::fs::read_dir(root.join("etc/systemd/network"))
                .expect("networks")
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| path.extension().is_some_and(|kind| kind == "network"))
                .collect();
            networks.sort();
            let network = std::fs::read_to_string(&networks[0]).expect("the first");
            let address = network
                .lines()
                .find_map(|line| line.strip_prefix("Address="))
                .unwrap_or_else(|| panic!("{networks:?}: {network}"))
                .to_owned();
            assert!(network.to_lowercase().contains("macaddress="), "{network}");
            let shadow = read(root, "etc/shadow");
            let line = shadow.lines().find(|l| l.starts_with("labadmin:"));
            let hash = line
                .and_then(|l| l.split(':').nth(1))
                .expect("a password")
                .to_owned();
            assert!(hash.starts_with("$y$"), "{hash}");
            let login = "exit(crypt($ARGV[0], $ARGV[1]) eq $ARGV[1] ? 0 : 1)";
            tool(&["perl", "-e", login, "correct horse battery", &hash]).ok();
            assert!(
                read(root, "etc/group")
                    .lines()
                    .any(|l| l.starts_with("sudo:") && l.ends_with("labadmin"))
            );
            assert_eq!(
                std::fs::read(root.join("opt/payload")).expect("the file"),
                vec![7; 300_000]
            );
            let unit = read(root, "etc/systemd/system/diskcast-firstboot.service");
            assert!(unit.contains("ExecStart="), "{unit}");
            let script = read(root, "var/lib/diskcast/firstboot.sh");
            assert!(script.contains("echo hello"), "{script}");
            // The file system has grown with its partition.
            let size = rustix_size(root);
            assert!(size > 50 * MIB, "{size} bytes");
            seen[0].insert(name);
            seen[1].insert(address);
            seen[2].insert(hash);
        });
    }
    for set in &seen {
        assert_eq!(set.len(), 2, "every machine has its own: {seen:?}");
    }
    lab.nowhere("correct horse battery");

    // One of them starts: what it says reaches the console, and nobody has heard of the other.
    let first = &lab.agents[0].disk;
    let script = inside(first, |root| read(root, "var/lib/diskcast/firstboot.sh"));
    let name = name_of(first).trim().to_owned();
    let (log, asked) = lab.first_start(0, &script, &name);
    assert!(asked.contains("poweroff"), "{log}\n{asked}");
    let job = text_of(&summary["job"]);
    let shown = lab.console.cli(&["job", "show", &job]).ok();
    for words in [&format!("started as {name}"), "first start not heard of"] {
        assert!(
            shown.stdout.contains(words),
            "{words}: {}\n{log}",
            shown.story()
        );
    }

    // The same machines in another order get the same names.
    let bound = lab.console.cli(&["binding", "list", "--json"]).ok().json();
    assert_eq!(bound["bindings"].as_array().map(Vec::len), Some(2));
    lab.start_again();
    let before: Vec<String> = lab.agents.iter().map(|a| name_of(&a.disk)).collect();
    let run = lab.deploy(&template, &["--yes"]);
    lab.all_done(&run);
    let after: Vec<String> = lab.agents.iter().map(|a| name_of(&a.disk)).collect();
    assert_eq!(before, after);

    // The same template with another machine while those are off: it gets a free name.
    lab.all_leave();
    let disk = lab.newcomer();
    lab.console.wait_ready(1);
    let run = lab.deploy(&template, &["--yes"]);
    let summary = lab.all_done(&run);
    assert_eq!(summary["targets"].as_array().map(Vec::len), Some(1));
    assert_eq!(name_of(&disk).trim(), "lab-03");
    let bound = lab.console.cli(&["binding", "list", "--json"]).ok().json();
    assert_eq!(bound["bindings"].as_array().map(Vec::len), Some(3));
    assert_eq!(bound["bindings"][2]["address"], "10.20.0.52", "{bound:#}");
}

fn text_of(value: &serde_json::Value) -> String {
    value.as_str().expect("a text").to_owned()
}

fn name_of(disk: &Path) -> String {
    inside(disk, |root| read(root, "etc/hostname"))
}

/// Size of the mounted file system, in bytes.
fn rustix_size(root: &Path) -> u64 {
    let said = tool(&["stat", "-f", "-c", "%b %S", text(root)]).ok().stdout;
    said.split_whitespace()
        .map(|number| number.parse::<u64>().expect("a number"))
        .product()
}

#[test]
fn a_template_with_ten_mistakes_says_ten() {
    let folder = scratch();
    let file = folder.path().join("wrong.toml");
    let wrong = "schema = 1\nimge = \"x.dcimg\"\ndisk = \"second\"\nend = \"sleep\"\n[identity]\nhostname = \"LAB_{zz}\"\n\
        [network]\nmode = \"statik\"\nprefix = 99\ngateway = \"10.20.0\"\n[[user]]\nname = \"a\"\npassword = \"hunter2\"\n\
        [[run]]\ncommand = 7\n[windows]\nsid = \"new\"\n";
    std::fs::write(&file, wrong).expect("a file");
    let data = folder.path().join("data");
    let run =
        common::process::diskcast(["--data-dir", text(&data), "template", "check", text(&file)])
            .code(2)
            .says(&[
                "did you mean `image`",
                "line 2",
                "line 3",
                "line 4",
                "line 6",
                "line 8",
                "line 9",
                "line 10",
                "line 13",
                "line 15",
                "line 17",
            ]);
    let lines = run
        .stderr
        .lines()
        .filter(|line| line.trim_start().starts_with("line "))
        .count();
    assert_eq!(lines, 10, "{}", run.story());
    assert!(
        !run.stderr.contains("hunter2"),
        "a literal password is not repeated"
    );
}

#[test]
fn a_template_is_made_shown_listed_and_saved_without_a_console() {
    let folder = scratch();
    let data = folder.path().join("data");
    let cli =
        |words: &[&str]| common::process::diskcast([&["--data-dir", text(&data)], words].concat());
    cli(&["template", "list"]).ok();
    let made = cli(&[
        "template",
        "new",
        "lab",
        "--set",
        "image=/srv/lab.dcimg",
        "--set",
        "identity.hostname=LAB-{nn}",
        "--set",
        "user.1.name=kim",
    ]);
    let made = made.ok();
    assert!(
        made.stdout.contains("LAB-{nn}") && made.stdout.contains("kim"),
        "{}",
        made.story()
    );
    cli(&["template", "new", "lab", "--set", "disk=first"])
        .code(2)
        .says(&["--replace"]);
    let list = cli(&["template", "list"]).ok();
    assert!(list.stdout.contains("LAB-{nn}"), "{}", list.story());
    cli(&["template", "check", "lab"])
        .code(5)
        .says(&["names what is not there", "image: /srv/lab.dcimg"]);
    let image = folder.path().join("lab.dcimg");
    std::fs::write(&image, "").expect("a file");
    let there = format!("image={}", text(&image));
    cli(&["template", "check", "lab", "--set", &there]).ok();
    cli(&["template", "check", "lab", "--set", "network.mod=dhcp"])
        .code(2)
        .says(&["network.mod", "mode"]);
    let shown = cli(&["template", "show", "lab", "--json"]).ok().json();
    assert_eq!(shown["template"]["identity"]["hostname"], "LAB-{nn}");
    let schema = cli(&["template", "schema"]).ok().json();
    assert!(schema["properties"]["identity"].is_object(), "{schema:#}");
    let other = folder.path().join("elsewhere");
    std::fs::create_dir(&other).expect("a folder");
    cli(&["template", "path", text(&other)]).ok();
    let path = cli(&["template", "path"]).ok();
    assert!(path.stdout.contains("elsewhere"), "{}", path.story());
    cli(&["template", "show", "lab"])
        .code(4)
        .says(&["lab.toml"]);
    cli(&["template", "path", "/nonexistent"]).code(5);
    // Without a terminal nothing is asked, and nothing is written.
    cli(&["template", "new", "asked"]).code(2);
    assert!(!other.join("asked.toml").exists());
}

/// The guide, answered at a terminal: its answers make a template that `template check` accepts.
#[test]
fn the_guide_makes_a_template_that_joins_a_domain() {
    let folder = scratch();
    let data = folder.path().join("data");
    // Blobs of a folder with network settings, and blobs made by this console: a name is asked for
    // again, because a machine joins under its own.
    let by_folder = [
        "/srv/lab.dcimg",
        "",
        "",
        "",
        "LAB-{nn}",
        "static",
        "10.20.0.50-10.20.0.99",
        "24",
        "10.20.0.1",
        "[\"10.20.0.2\"]",
        "lab.example",
        "lab.example, example",
        "",
        "corp.example",
        "",
        "blobs/",
        "",
        "drivers/nvme",
        "true",
        "",
        "",
        "",
        "",
        "",
        "",
        "",
    ];
    let by_samba = [
        "/srv/lab.dcimg",
        "",
        "",
        "",
        "",
        "",
        "",
        "",
        "corp.example",
        "PC-{nn}",
        "samba",
        "hunter2",
        "",
        "corp.example",
        "PC-{nn}",
        "samba",
        "ref:join",
        "OU=Labs,DC=corp,DC=example",
        "keep",
        "",
        "",
        "",
        "",
        "false",
        "",
    ];
    let make = |name: &str, answers: &[&str]| {
        let typed = folder.path().join("answers");
        std::fs::write(&typed, answers.join("\n") + "\n").expect("answers");
        let program = common::process::DISKCAST;
        let command = format!("{program} --data-dir {} template new {name}", text(&data));
        let run = bash(&format!(
            "script -qec '{command}' /dev/null < {}",
            text(&typed)
        ));
        let shown = common::process::diskcast([
            "--data-dir",
            text(&data),
            "template",
            "show",
            name,
            "--json",
        ]);
        assert_eq!(shown.code, Some(0), "{}\n{run}", shown.story());
        shown.json()["template"].clone()
    };
    let template = make("folder", &by_folder);
    let member = &template["membership"];
    assert_eq!(member["domain"], "corp.example", "{template:#}");
    assert_eq!(member["blobs"], "blobs/", "{template:#}");
    let network = &template["network"];
    assert_eq!(network["suffix"], "lab.example", "{template:#}");
    assert_eq!(
        network["search"],
        serde_json::json!(["lab.example", "example"])
    );
    let driver = &template["driver"][0];
    assert_eq!(
        (&driver["path"], &driver["boot_critical"]),
        (&"drivers/nvme".into(), &true.into())
    );
    assert_eq!(template["first_start"]["report"], true, "{template:#}");
    let template = make("samba", &by_samba);
    assert_eq!(template["first_start"]["report"], false, "{template:#}");
    let member = &template["membership"];
    assert_eq!(member["method"], "samba", "{template:#}");
    assert_eq!(member["credential"], "ref:join", "{template:#}");
    assert_eq!(member["ou"], "OU=Labs,DC=corp,DC=example", "{template:#}");
    assert_eq!(template["identity"]["hostname"], "PC-{nn}", "{template:#}");
    assert_eq!(template["windows"]["sid"], "keep", "{template:#}");
}

/// Makes two partitions: one to be overwritten, larger than the master's, and one with other data.
fn disk_with_data(disk: &Path) {
    poisoned(disk, DISK, TARGET_POISON);
    bash(&format!(
        "sgdisk -Z {0} >/dev/null; sgdisk -n 1:4096:+52M -t 1:8300 -n 2:0:0 -t 2:8300 {0} >/dev/null",
        text(disk)
    ));
    let data = part(disk, 512, 2);
    bash(&format!(
        "mke2fs -q -t ext4 -L data -E offset={} {} {}k 2>/dev/null",
        data.start,
        text(disk),
        data.length / 1024
    ));
}

#[test]
fn a_system_goes_onto_one_partition_and_the_data_beside_it_stays() {
    let mut lab = Lab::on("tc", 1, "1000mbit", master, disk_with_data);
    let disk = lab.agents[0].disk.clone();
    let data = part(&disk, 512, 2);
    let before = bytes_at(&disk, data.start, data.length);
    let table = bytes_at(&disk, 0, MIB);
    let head = "schema = 1\nimage = \"master.dcimg\"\nend = \"none\"\npartitions = [1]\nonto = 1\n";
    // After a failing step the file system is removed again, and nothing else changes.
    let fails = lab.file(
        "fails.toml",
        &format!(
            "{head}[linux]\nregenerate = []\n[[copy]]\nfrom = \"payload\"\nto = \"/etc/hostname/x\"\n"
        ),
    );
    let run = lab.deploy(&fails, &["--yes"]).code(3);
    let place = part(&disk, 512, 1);
    let target = target_of(&run.last_of("summary"), &disk).clone();
    assert_eq!(target["step"], "applying", "{target:#}");
    let blank = bytes_at(&disk, place.start, MIB);
    assert!(blank.iter().all(|byte| *byte == 0));
    assert_eq!(bytes_at(&disk, 0, MIB), table);

    lab.start_again();
    let template = lab.file(
        "onto.toml",
        &format!("{head}grow = \"last\"\n[identity]\nhostname = \"lab-{{nn}}\"\ncase = \"keep\"\n"),
    );
    let run = lab.deploy(&template, &["--yes"]);
    lab.all_done(&run);
    assert_eq!(name_of(&disk).trim(), "lab-01");
    let device = Loop::part(&disk, &place, 512);
    let said = tool(&["dumpe2fs", "-h", device.text()]).ok().stdout;
    let blocks = said
        .lines()
        .find_map(|line| line.strip_prefix("Block count:"))
        .and_then(|count| count.trim().parse::<u64>().ok())
        .expect("a count of blocks");
    // Blocks of 1 KiB each, mke2fs's size on so small a disk.
    assert!(blocks > 51 * 1024, "{blocks} KiB: the partition has 52 MiB");
    drop(device);
    assert_eq!(bytes_at(&disk, 0, MIB), table);
    assert!(bytes_at(&disk, data.start, data.length) == before);
}

/// The loop devices over a file, in the kernel's list.
fn loops_over(disk: &Path) -> String {
    bash(&format!(
        "losetup --noheadings --output NAME --associated {}",
        text(disk)
    ))
}

/// True while a process has a program running.
fn has_children(process: u32) -> bool {
    let parent = format!("PPid:\t{process}");
    let all = std::fs::read_dir("/proc").expect("processes").flatten();
    all.filter_map(|entry| std::fs::read_to_string(entry.path().join("status")).ok())
        .any(|status| status.lines().any(|line| line == parent))
}

#[test]
fn an_agent_killed_in_the_middle_of_its_steps_is_cleaned_up_after() {
    let mut lab = Lab::on("tk", 1, "40mbit", master, |disk| {
        poisoned(disk, DISK, TARGET_POISON)
    });
    let disk = lab.agents[0].disk.clone();
    // The copy takes seconds on this link, so the moment is not missed.
    std::fs::write(lab.folder.path().join("payload"), vec![7; 12 << 20]).expect("a file");
    let template = lab.file(
        "slow.toml",
        "schema = 1\nimage = \"master.dcimg\"\nend = \"none\"\n[identity]\nhostname = \"lab-{nn}\"\ncase = \"keep\"\n\
         [[copy]]\nfrom = \"payload\"\nto = \"/opt/payload\"\n",
    );
    lab.deploy(&template, &["--yes", "--detach"]).ok();
    let console = &lab.console;
    let agent = lab.agents[0].daemon.pid();
    lab.agents[0].daemon.held_when("steps", || {
        let state = console.targets()[0]["state"].clone();
        let attached = state == "applying" && !loops_over(&disk).is_empty();
        // A program of the agent is not stopped with it: `losetup --detach` would go on.
        (attached && !has_children(agent)).then_some(())
    });
    // From here on an agent of another test may undo the rest of this one.
    lab.agents[0].daemon.kill();
    let head = bytes_at(&disk, 0, 1024);
    assert!(
        head.iter().all(|byte| *byte == 0),
        "it does not boot half-made"
    );
    // The next agent of this machine (which may be another test's) undoes it; ours takes the job
    // again, and is done.
    lab.start_again_while_busy();
    let job = lab.console.job()["id"].as_str().expect("a job").to_owned();
    let run = lab.console.cli(&["job", "wait", &job]);
    assert_eq!(
        run.code,
        Some(0),
        "{}\n{}",
        run.story(),
        lab.agents[0].daemon.said()
    );
    assert_eq!(loops_over(&disk), "");
    assert_eq!(name_of(&disk).trim(), "lab-01");
}

#[test]
fn a_step_that_fails_leaves_a_blank_disk_and_names_itself() {
    let lab = Lab::new("tb", 1, DISK, master);
    lab.secret("x\n");
    let template = lab.file(
        "fails.toml",
        "schema = 1\nimage = \"master.dcimg\"\n[linux]\nregenerate = []\n[[user]]\nname = \"root\"\npassword = \"ref:labadmin\"\non_exists = \"fail\"\n",
    );
    let run = lab.deploy(&template, &["--yes"]);
    assert!(matches!(run.code, Some(3 | 5)), "{}", run.story());
    if run.code == Some(3) {
        let summary = run.last_of("summary");
        let target = target_of(&summary, &lab.agents[0].disk);
        assert_eq!(target["state"], "failed");
        assert_eq!(target["step"], "applying", "{target:#}");
        let reason = target["reason"].as_str().unwrap_or_default();
        assert!(
            reason.contains("user") && reason.contains("root"),
            "{reason}"
        );
        let head = bytes_at(&lab.agents[0].disk, 0, 1024);
        assert!(head.iter().all(|b| *b == 0), "a half-made disk is blank");
    }

    // A file that a template names and the console lacks is refused before anything is touched.
    let template = lab.file(
        "vanished.toml",
        "schema = 1\nimage = \"master.dcimg\"\n[[copy]]\nfrom = \"gone\"\nto = \"/opt/gone\"\n",
    );
    let refused = lab.deploy(&template, &["--yes"]).code(5);
    assert!(refused.stdout.contains("gone"), "{}", refused.story());
}
