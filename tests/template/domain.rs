//! A Windows that joins a domain: the account is made by a domain controller, and the secrets on
//! the deployed disk open it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::common::disk::bytes_at;
use crate::common::fill::TARGET_POISON;
use crate::common::full;
use crate::common::windows::{self, TEN};
use crate::lab::Lab;

#[path = "../../domain/tests/support/controller.rs"]
mod controller;

use self::controller::{ADMIN, Controller, uses_the_blob};

/// Bytes of a machine's disk: larger than the master.
const DISK: u64 = 112 << 20;

/// A blob of LAB-01 in corp.example, whose password is `password`.
const BLOB: &str = "ARAIAMzMzMwIAQAAAAAAAAAAAgABAAAAAQAAAAQAAgABAAAAAQAAAOQAAAAIAAIA5AAAAAEQCADMzMzM1AAAAAAAAAAAAAIAAAACAAAAAgD///\
    //////////////////////////////////////////////////////////////////////////////////////////////////////////////\
    ////////////////////DQAAAAAAAAANAAAAYwBvAHIAcAAuAGUAeABhAG0AcABsAGUAAAAAAAcAAAAAAAAABwAAAEwAQQBCAC0AMAAxAAAAAA\
    AJAAAAAAAAAAkAAABwAGEAcwBzAHcAbwByAGQAAAAAAA==";

/// A template that joins corp.example by this method.
fn template(method: &str) -> String {
    format!(
        "schema = 1\nimage = \"master.dcimg\"\nend = \"none\"\n[identity]\nhostname = \"LAB-{{nn}}\"\n\
         [membership]\ndomain = \"corp.example\"\n{method}\n"
    )
}

/// A program of the console's only folder of programs.
fn program(lab: &Lab, name: &str, script: &str) {
    let path = lab.folder.path().join("bin").join(name);
    std::fs::write(
        &path,
        format!("#!/bin/sh\nexport PATH=/usr/sbin:/usr/bin:/sbin:/bin\n{script}\n"),
    )
    .expect("a program");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("its mode");
}

/// The plan and the deployment are refused with these words, and the machine's disk is as it was.
#[track_caller]
fn refused(lab: &Lab, template: &Path, words: &[&str]) {
    let deployed = lab.deploy(template, &["--yes"]).code(5);
    for word in words {
        assert!(
            deployed.stdout.contains(word),
            "{word}: {}",
            deployed.story()
        );
    }
    let start = bytes_at(&lab.agents[0].disk, 0, 4096);
    assert!(
        start.iter().all(|byte| *byte == TARGET_POISON),
        "the disk was written"
    );
}

/// Blobs and credentials are looked at while nothing is erased yet, and each reason names the
/// machine.
#[test]
fn a_join_that_could_not_be_is_refused_before_anything_is_erased() {
    let Some(real) = windows::hives::real() else {
        return;
    };
    let lab = Lab::alone("te", DISK, |folder| TEN.capture(folder, &real));
    let folder = lab.folder.path().to_owned();
    let by_blob = lab.file("blob.toml", &template("blobs = \"blobs\""));
    let planned = || lab.deploy(&by_blob, &["--dry-run"]);
    let says = |word: &str| {
        let plan = planned();
        assert!(plan.stdout.contains(word), "{word}: {}", plan.story());
    };
    says("the folder of join blobs");
    std::fs::create_dir(folder.join("blobs")).expect("a folder");
    says("there is no LAB-01.blob in");
    let blob = folder.join("blobs/LAB-01.blob");
    for (content, word) in [
        (String::new(), "LAB-01.blob: the join blob is empty"),
        ("<html>".into(), "it is not base64, as djoin"),
        ("A".repeat(300_000), "has 300000 bytes, too large for one"),
    ] {
        std::fs::write(&blob, content).expect("a file");
        says(word);
    }
    refused(&lab, &by_blob, &["too large for one"]);
    std::fs::rename(&blob, folder.join("blobs/lab-02.blob")).expect("another name");
    std::fs::write(&blob, BLOB).expect("a blob");
    let plan = planned().ok();
    assert!(
        plan.stdout.contains("it joins corp.example"),
        "{}",
        plan.story()
    );
    assert!(!plan.stdout.contains(BLOB), "a blob is a secret");

    // The same for a blob that is to be made here.
    lab.secret("joiner\n");
    let by_samba = "method = \"samba\"\ncredential = \"ref:labadmin\"";
    let by_samba = lab.file("samba.toml", &template(by_samba));
    refused(&lab, &by_samba, &["it is not USER%PASSWORD"]);
    lab.secret("joiner%pass\n");
    refused(
        &lab,
        &by_samba,
        &["the program `net` is missing on the console"],
    );
    program(
        &lab,
        "net",
        "cat >/dev/null; echo 'Failed to join: NT_STATUS_LOGON_FAILURE' >&2; exit 255",
    );
    refused(
        &lab,
        &by_samba,
        &[
            "LAB-01",
            "joiner is unknown there, or the password is wrong",
        ],
    );
    program(
        &lab,
        "net",
        "cat >/dev/null; echo 'failed to find DC for domain corp.example' >&2; exit 255",
    );
    refused(&lab, &by_samba, &["no domain controller was found", "DNS"]);
    program(&lab, "net", &format!("cat >/dev/null; echo {BLOB}"));
    let deployed = lab.deploy(&by_samba, &["--yes"]);
    lab.all_done(&deployed);
    assert_eq!(blob_on(&lab), BLOB);
}

/// The blob that the first start of a deployed disk joins with.
fn blob_on(lab: &Lab) -> String {
    let job = windows::cat(
        &lab.agents[0].disk,
        "ProgramData/diskcast/firstboot.job",
        &lab.folder.path().join("read-job"),
    );
    let job = std::fs::read_to_string(job).expect("a text");
    let found = job.lines().find_map(|line| line.strip_prefix("blob ="));
    found
        .unwrap_or_else(|| panic!("no blob in {job}"))
        .to_owned()
}

#[test]
#[allow(clippy::print_stdout, reason = "a test that tells why it did not run")]
fn a_blob_of_a_domain_controller_reaches_the_disk_and_opens_the_account() {
    if !full() {
        println!("did not run: the domain controller takes half a minute, and runs with --full");
        return;
    }
    let (Some(real), Some(controller)) = (windows::hives::real(), Controller::start()) else {
        return;
    };
    // A controller does this by itself after a while: then LDAP uses Kerberos, as in the field.
    controller.samba_tool(&["spn", "add", "ldap/dc1.corp.example", "DC1$"]);
    let mut lab = Lab::alone("td", DISK, |folder| TEN.capture(folder, &real));
    let folder = lab.folder.path().to_owned();

    // One that was brought along, as djoin writes it.
    let blob = controller.provision("LAB-01", "Administrator", ADMIN).run();
    let blob = blob.expect("a blob");
    std::fs::create_dir(folder.join("blobs")).expect("a folder");
    // The form that djoin writes.
    let units = [0xFEFF]
        .into_iter()
        .chain(blob.text().encode_utf16())
        .chain([0]);
    let bytes: Vec<u8> = units.flat_map(u16::to_le_bytes).collect();
    std::fs::write(folder.join("blobs/LAB-01.blob"), bytes).expect("a blob");
    let by_blob = lab.file("blob.toml", &template("blobs = \"blobs\""));
    let deployed = lab.deploy(&by_blob, &["--yes"]);
    lab.all_done(&deployed);
    assert!(!deployed.stdout.contains(blob.text()), "a blob is a secret");
    let found = blob_on(&lab);
    assert_eq!(found, blob.text());
    uses_the_blob(&controller, &found);

    // One that this console makes. What the domain refuses is said while the disk is as it was.
    lab.start_again();
    let net = controller.net();
    program(&lab, "net", &format!("exec {} \"$@\"", net.display()));
    let by_samba = "method = \"samba\"\ncredential = \"ref:labadmin\"";
    let by_samba = lab.file("samba.toml", &template(by_samba));
    let before = bytes_at(&lab.agents[0].disk, 0, 1 << 20);
    let refused = |template: &Path, words: &[&str]| {
        let deployed = lab.deploy(template, &["--yes"]).code(5);
        for word in words {
            assert!(
                deployed.stdout.contains(word),
                "{word}: {}",
                deployed.story()
            );
        }
        let after = bytes_at(&lab.agents[0].disk, 0, 1 << 20);
        assert!(before == after, "the disk was written");
    };
    lab.secret("Administrator%Wr0ng-pass.word\n");
    refused(
        &by_samba,
        &[
            "LAB-01",
            "Administrator is unknown there, or the password is wrong",
        ],
    );
    lab.secret(&format!("Administrator%{ADMIN}\n"));
    let elsewhere = std::fs::read_to_string(&by_samba).expect("a template");
    let elsewhere = elsewhere.replace("corp.example", "nowhere.example");
    let elsewhere = lab.file("elsewhere.toml", &elsewhere);
    refused(&elsewhere, &["no domain controller was found"]);
    let deployed = lab.deploy(&by_samba, &["--yes"]);
    lab.all_done(&deployed);
    let made = blob_on(&lab);
    assert_ne!(made, found, "the account has a new password");
    assert!(!deployed.stdout.contains(&made) && !deployed.stdout.contains(ADMIN));
    lab.nowhere(ADMIN);
    uses_the_blob(&controller, &made);
}
