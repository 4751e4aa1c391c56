//! Images on shares: mounted by the console if the kernel can, otherwise refused with the command
//! that mounts them. Also a real FAT32, which the same small machine has.

use super::common::agent::agent;
use super::common::guest::Guest;
use super::common::images::capture;
use super::common::process::{DISKCAST, diskcast, text};
use super::common::service::{Console, Place};
use super::common::{full, scratch};
use super::master;
use std::fs;
use std::path::Path;

/// A share that cannot be reached, on a server that no resolver knows.
const SHARE: &str = "//fs1.invalid/images/lab.dcimg";

#[test]
fn a_share_that_cannot_be_mounted_says_how() {
    let folder = scratch();
    let disk = master(folder.path(), 1);
    for said in [
        diskcast(["image", "info", SHARE]),
        diskcast(["image", "check", SHARE]),
        capture(&disk, Path::new(SHARE), &[]),
    ] {
        said.code(5).says(&["mount -t cifs //fs1.invalid/images"]);
    }

    let ports = ["--control-port", "0", "--bulk-port", "0"];
    let console = Console::start(Place::Here, folder.path(), "lo", &ports);
    let password = folder.path().join("password");
    fs::write(&password, "S3cret").expect("written");
    let words = ["secret", "set", "images", "--file", text(&password)];
    console.cli(&words).ok();
    let deploy = |image: &str, more: &[&str]| {
        let words = [
            "deploy",
            "--targets",
            "all",
            "--dry-run",
            "--no-check",
            "--image",
            image,
        ];
        console.cli(&[&words, more].concat())
    };
    let account = ["--share-user", "tech", "--share-password", "ref:images"];
    let said = deploy(SHARE, &account).code(5);
    let filesystems = fs::read_to_string("/proc/filesystems").expect("file systems");
    if filesystems.contains("cifs") {
        said.says(&["//fs1.invalid/images/lab.dcimg: the name of the server is not known"]);
    } else {
        let by_hand = "mount -t cifs //fs1.invalid/images /mnt/images -o username=USER";
        said.says(&["this kernel has no cifs", by_hand]);
    }
    deploy(
        SHARE,
        &["--share-user", "tech", "--share-password", "ref:none"],
    )
    .code(4)
    .says(&["no secret none"]);

    // Mistyped names are refused before any password is requested.
    for name in [
        "//fs1.invalid",
        "//fs1.invalid/images",
        "//fs1.invalid//x",
        "//fs1.invalid/images/../x",
    ] {
        deploy(name, &account).code(2).says(&[
            "names no file on a share",
            "//server/share/folder/name.dcimg",
        ]);
    }
    let local = folder.path().join("lab.dcimg");
    deploy(text(&local), &account)
        .code(2)
        .says(&["account for a share"]);
    deploy(SHARE, &["--share-password", "ref:images"])
        .code(2)
        .says(&["--share-user"]);
    let said = deploy(
        SHARE,
        &["--share-user", "tech", "--share-password", "S3cret"],
    )
    .code(2);
    assert!(!said.stderr.contains("S3cret"), "{}", said.stderr);
    // Other tests mount and unmount meanwhile: only mounts of a share, or of this console, count.
    let mounts = fs::read_to_string("/proc/mounts").expect("mounts");
    let ours = [" cifs ", "fs1.invalid", text(&console.data_dir)];
    let left = |line: &&str| ours.iter().any(|word| line.contains(word));
    assert_eq!(mounts.lines().find(left), None);
    assert!(console.jobs().is_empty());
}

/// `smb.conf` of a server with a share for `tech` and one for everybody.
const SERVER: &str = "[global]\\nworkgroup=LAB\\nsmb ports=445\\nbind interfaces only=yes\\ninterfaces=127.0.0.1/8\\n\
    load printers=no\\nmap to guest=bad user\\nlog file=/var/log/samba/log\\n\
    [images]\\npath=/srv/images\\nread only=yes\\n[open]\\npath=/srv/images\\nguest ok=yes\\n";

#[test]
fn the_console_mounts_a_share_and_a_real_fat32_is_written() {
    if !full() {
        return;
    }
    let folder = scratch();
    let programs = [
        DISKCAST,
        agent(),
        "/usr/sbin/smbd",
        "/usr/bin/smbpasswd",
        "/usr/sbin/mkfs.fat",
    ];
    let mut guest = Guest::start(folder.path(), &programs);
    guest
        .run("mkdir -p /srv/images/win /d; dd if=/dev/urandom of=/d/master.raw bs=1M count=3")
        .ok();
    fat32(&mut guest);
    share(&mut guest);
}

/// An image on a real FAT32 is divided into parts by itself, and can be used from there.
fn fat32(guest: &mut Guest) {
    guest.run("truncate -s 300M /d/stick && mkfs.fat -F 32 /d/stick && modprobe loop && mkdir -p /mnt/stick").ok();
    guest
        .run("mount -t vfat -o loop /d/stick /mnt/stick && grep 'stick vfat' /proc/mounts")
        .ok();
    // The size limit of FAT is the one the capture uses.
    let said = guest.run("truncate -s 4294967296 /mnt/stick/too-large");
    assert_ne!(said.code, Some(0), "{}", said.story());
    guest.run("rm -f /mnt/stick/too-large").ok();
    // An image that fits is marked as one that may have parts; with a second limit below FAT's own
    // it has them.
    guest.run("diskcast -q image capture /d/master.raw /mnt/stick/one.dcimg --raw --level 1 && diskcast image check --deep /mnt/stick/one.dcimg").ok();
    guest
        .run("dd if=/dev/urandom of=/d/large.raw bs=1M count=20")
        .ok();
    // The limit is in blocks of 512 bytes: 16 MiB.
    guest.run("(ulimit -f 32768; diskcast -q image capture /d/large.raw /mnt/stick/two.dcimg --raw --level 1)").ok();
    guest.run("test -s /mnt/stick/two.dcimg && test -s /mnt/stick/two.dcimg.002 && test ! -e /mnt/stick/two.dcimg.003").ok();
    guest.run("diskcast image info /mnt/stick/two.dcimg && diskcast -q image check --deep /mnt/stick/two.dcimg").ok();
    guest.run("diskcast -q image restore /mnt/stick/two.dcimg /d/again.raw --yes && cmp /d/large.raw /d/again.raw").ok();
    guest.run("mv /mnt/stick/two.dcimg.002 /mnt/stick/aside; diskcast image check /mnt/stick/two.dcimg").code(7).says(&["two.dcimg.002"]);
    guest
        .run("umount /mnt/stick && rm -f /d/stick /d/again.raw /d/large.raw")
        .ok();
}

fn share(guest: &mut Guest) {
    guest
        .run("diskcast -q image capture /d/master.raw /srv/images/win/lab.dcimg --raw --level 1")
        .ok();
    // A comma would end an option of mount(8); here the password is one string.
    guest
        .run("printf 'S3cret,w.rd' >/d/pw; printf 'wrong' >/d/bad")
        .ok();
    guest.run(&format!("printf '{SERVER}' >/etc/smb.conf")).ok();
    guest.run("(cat /d/pw; echo; cat /d/pw; echo) | smbpasswd -c /etc/smb.conf -s -a tech && smbd --configfile=/etc/smb.conf -D").ok();
    guest.wait_for("netstat -ltn | grep '127.0.0.1:445 '");
    // The password never shows in the list of processes.
    guest.run("(while sleep 0.2; do cat /proc/[0-9]*/cmdline | tr '\\0' '\\n' | grep -Ff /d/pw >>/d/seen; done 2>/dev/null) &").ok();
    guest.run("D='diskcast --data-dir /d/c'; C=\"$D console run --iface lo\"; $C >>/d/console.log 2>&1 &").ok();
    guest.wait_for("$D console show");
    guest
        .run("$D secret set images --file /d/pw && $D secret set bad --file /d/bad")
        .ok();
    guest.run("pin=$($D console show --json | sed -n 's/.*\"pin\": *\"\\([^\"]*\\)\".*/\\1/p'); test -n \"$pin\"").ok();
    guest.run("diskcast-agent run --console 127.0.0.1 --pin $pin --disk /d/target.raw=8M --no-power >/d/agent.log 2>&1 &").ok();
    guest.wait_for("$D target list | grep ready");

    guest.run("plan() { image=$1; shift; $D -q deploy --targets all --dry-run --no-color --image $image \"$@\"; }").ok();
    let mut plan = |image: &str, user: &str| guest.run(&format!("plan {image} {user}"));
    let right = "--share-user tech --share-password ref:images";
    let image = "//127.0.0.1/images/win/lab.dcimg";
    plan(image, right)
        .ok()
        .says(&[image, "1 disk will be erased"]);
    plan(
        r"'\\127.0.0.1\images\win\lab.dcimg'",
        "--share-user 'LAB\\tech' --share-password file:/d/pw",
    )
    .ok()
    .says(&[image]);
    plan(image, "--share-user tech --share-password ref:bad")
        .code(5)
        .says(&["the server refuses user tech", "secret set"]);
    plan(image, "").code(5).says(&["refuses nobody"]);
    plan("//127.0.0.1/open/win/lab.dcimg", "")
        .ok()
        .says(&["1 disk will be erased"]);
    plan("//127.0.0.1/none/win/lab.dcimg", right)
        .code(5)
        .says(&["has no such share"]);
    plan("//127.0.0.1/images/win/none.dcimg", right)
        .code(5)
        .says(&["win/none.dcimg: No such file", "the path below it"]);
    plan("//127.0.0.9/images/win/lab.dcimg", right)
        .code(5)
        .says(&["does not answer on TCP port 445 at 127.0.0.9"]);
    plan("//fs1.invalid/images/win/lab.dcimg", right)
        .code(5)
        .says(&["name of the server is not known"]);
    // No mount is left, and no other process sees one while it exists.
    guest.run("grep cifs /proc/mounts").code(1);
    guest.wait_for("grep -A1 '^Servers:' /proc/fs/cifs/DebugData | grep NONE");

    // A whole deployment, with a password that only the command knows.
    guest.run(&format!("DC_PW=$(cat /d/pw) $D deploy --no-color --targets all --yes --image {image} --share-user tech --share-password env:DC_PW"))
        .ok()
        .says(&["1 of 1 target proven"]);
    guest.run("cmp -n 3145728 /d/master.raw /d/target.raw").ok();
    guest.wait_for("grep -A1 '^Servers:' /proc/fs/cifs/DebugData | grep NONE");

    // A job waits when the console ends, and the server does not answer when the console is back.
    guest
        .run(&format!(
            "$D -q deploy --targets all --yes --detach --start manual --image {image} {right}"
        ))
        .ok();
    guest
        .run("$D job show 2 --json | grep '\"state\": *\"waiting\"'")
        .ok();
    guest.run("killall -STOP smbd").ok();
    plan_silent(guest, image, right);
    guest.run("killall -KILL diskcast").ok();
    // The console ends although its image is on that share.
    guest.wait_for("! pidof diskcast");
    guest.run("$C >>/d/console.log 2>&1 &").ok();
    guest.wait_for("$D console show");
    guest.run("grep 'does not answer within' /d/console.log && $D job show 2 --json | grep interrupted").ok();
    // Again with a server that answers: the job waits for its start as before.
    guest.run("killall -CONT smbd; killall -KILL diskcast").ok();
    guest.wait_for("! pidof diskcast");
    guest.run("$C >>/d/console.log 2>&1 &").ok();
    guest.wait_for("$D console show");
    guest
        .run("$D job show 2 --json | grep '\"state\": *\"waiting\"'")
        .ok();
    guest.wait_for("$D target list | grep target-1 | grep -v offline");
    guest.run("$D job cancel 2 --yes").ok();

    guest.run("dmesg | grep BUG").code(1);

    // The password is in no file.
    guest
        .run("find /d/c /d/*.log -type f | xargs cat | tr '\\0' '\\n' | grep -Ff /d/pw")
        .code(1);
    guest.run("test -s /d/seen").code(1);
    // The search itself works: it finds a word on a command line.
    guest.run("sh -c 'sleep 5; true' \"$(cat /d/pw)\" &").ok();
    guest.wait_for("test -s /d/seen");
}

fn plan_silent(guest: &mut Guest, image: &str, user: &str) {
    let said = guest.run(&format!("plan {image} {user}"));
    said.code(5).says(&[
        "the server took the connection and says nothing",
        "port 445",
    ]);
}
