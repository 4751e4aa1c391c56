//! Ctrl-C during the survey of a master.

use super::MIB;
use super::common::failing::Failing;
use super::common::fill::{TARGET_POISON, poisoned};
use super::common::process::{diskcast_command, text, tool, wait_for};
use super::common::scratch;
use super::common::service::Daemon;
use std::fs;

#[test]
fn ctrl_c_ends_a_survey_at_once_and_leaves_nothing() {
    let folder = scratch();
    let disk = folder.path().join("master.raw");
    poisoned(&disk, 132 * MIB, TARGET_POISON);
    // The range before the only partition has to be read: at this rate that takes longer than any
    // wait here.
    tool(&["sgdisk", "-Z", text(&disk)]);
    tool(&["sgdisk", "-n", "1:128M:0", text(&disk)]);
    let slow = Failing::slow(&disk, &[], MIB / 2);
    let out = folder.path().join("out");
    fs::create_dir(&out).expect("a folder");
    let image = out.join("a.dcimg");
    let words = ["--json", "image", "capture", text(&slow.path), text(&image)];
    let log = folder.path().join("log");
    let mut capture = Daemon::start(diskcast_command(words), "the capture", &log);
    wait_for("its survey", || {
        let said = fs::read_to_string(&log).unwrap_or_default();
        said.contains("\"label\":\"survey\"").then_some(())
    });
    capture.signal("INT");
    assert_eq!(capture.ends(), Some(130), "{}", capture.said());
    let left = fs::read_dir(&out).expect("a folder").count();
    assert_eq!(left, 0, "files are left behind\n{}", capture.said());
    drop(slow);
}
