//! The pace of a room with different disks.

use crate::{disk, done_s, each, elapsed_s, pass_s, room, run};
use multicast::Pace;
use rehearsal::{Report, Room};

/// A run with twenty machines, three quarters of them with disks at a quarter of the network's
/// speed.
fn mixed(pace: Pace, blocks: usize) -> (Room, Report) {
    let mut room = each(room(1, 20, blocks), |index, target| {
        target.disk_bytes_per_s = disk(if index % 4 == 0 { 4_000 } else { 34_000 });
    });
    room.pace = pace;
    let report = run(&room);
    (room, report)
}

#[test]
fn the_fastest_are_not_kept_by_most() {
    let (room, report) = mixed(Pace::Fastest, 300);
    for index in (0..20).step_by(4) {
        assert!(
            done_s(&report, index) <= pass_s(&room) * 1.05 + 0.1,
            "{report:?}"
        );
    }
    // `Balanced` waits for the slower majority and sends little in vain.
    let (room, balanced) = mixed(Pace::Balanced, 300);
    assert!(done_s(&balanced, 0) >= pass_s(&room) * 2.0, "{balanced:?}");
    assert!(balanced.transmissions() <= 1.05, "{balanced:?}");
    assert!(balanced.sent < report.sent, "{balanced:?} {report:?}");
}

#[test]
fn everyone_means_that_nothing_is_skipped() {
    let mut room = each(room(2, 20, 300), |index, target| {
        target.disk_bytes_per_s = disk(if index == 3 { 30_000 } else { 4_000 });
    });
    room.pace = Pace::Everyone;
    let report = run(&room);
    assert_eq!(report.sent, report.symbols, "{report:?}");
    assert!(
        report.targets.iter().all(|target| target.skipped == 0),
        "{report:?}"
    );
    // All finish together with the slowest, which is as fast as its disk.
    assert!(
        elapsed_s(&report) <= 300.0 * 0.030 * 1.1 + 0.3,
        "{report:?}"
    );
    assert!(done_s(&report, 0) >= pass_s(&room) * 2.0, "{report:?}");
}

#[test]
fn not_even_everyone_waits_for_a_disk_that_hangs() {
    for (what, crash) in [("dead", Some((500_000, 40_000_000))), ("hanging", None)] {
        let mut room = each(room(3, 10, 300), |index, target| {
            if index == 9 {
                target.crash_us = crash;
                if crash.is_none() {
                    // One block in ten seconds.
                    target.disk_bytes_per_s = disk(10_000_000);
                    target.partition_us = Some((6_000_000, u64::MAX));
                }
            }
        });
        room.pace = Pace::Everyone;
        room.limit_us = 2_000_000_000;
        if crash.is_none() {
            room.buffers = 16;
        }
        let report = run(&room);
        for index in 0..9 {
            assert!(
                done_s(&report, index) <= pass_s(&room) + 2.6,
                "{what} {index}: {report:?}"
            );
        }
    }
}
