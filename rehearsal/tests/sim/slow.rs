//! Disks slower than the network: one, some, all.

use crate::{disk, done_s, each, elapsed_s, pass_s, room, run};

#[test]
fn one_slow_disk_slows_nobody() {
    let room = each(room(1, 20, 400), |index, target| {
        if index == 7 {
            target.disk_bytes_per_s = disk(27_000);
        }
    });
    let report = run(&room);
    for index in (0..20).filter(|index| *index != 7) {
        assert!(
            done_s(&report, index) <= pass_s(&room) * 1.02,
            "{index}: {report:?}"
        );
    }
    // Missing buffers are not loss in the network, and a lower rate would not help.
    assert_eq!(report.counters.rate_falls, 0, "{report:?}");
    // Blocks that only this target lacks go by bulk: nothing is sent to all because of it.
    assert!(report.transmissions() <= 1.01, "{report:?}");
    // The limit is its own disk: 400 blocks at 27 ms, less those that came by bulk, which this
    // simulation does not count as disk time.
    assert!(done_s(&report, 7) <= 400.0 * 0.027 * 1.05, "{report:?}");
}

#[test]
fn a_long_slow_disk_is_set_aside_and_says_so() {
    let room = each(room(4, 20, 1_500), |index, target| {
        if index == 7 {
            target.disk_bytes_per_s = disk(27_000);
        }
    });
    let report = run(&room);
    for (index, target) in report.targets.iter().enumerate() {
        assert_eq!(target.demoted, u32::from(index == 7), "{index}: {report:?}");
        assert_eq!(target.promoted, target.demoted, "{index}: {report:?}");
    }
}

#[test]
fn when_all_disks_are_slow_little_is_sent_in_vain() {
    for spread in [0, 2_000] {
        let room = each(room(2, 20, 400), |index, target| {
            target.disk_bytes_per_s = disk(20_000 + spread * (index as u64) / 20);
        });
        let report = run(&room);
        assert!(report.transmissions() <= 1.02, "{spread}: {report:?}");
        assert_eq!(report.counters.rate_falls, 0, "{spread}: {report:?}");
        let skipped: u64 = report.targets.iter().map(|target| target.skipped).sum();
        assert!(skipped <= 100, "{spread}: {report:?}");
        assert!(
            elapsed_s(&report) <= 400.0 * 0.020 * 1.2 + 0.5,
            "{spread}: {report:?}"
        );
    }
}

#[test]
fn a_slow_half_does_not_stop_the_quick_half() {
    let room = each(room(3, 20, 300), |index, target| {
        if index % 2 == 0 {
            target.disk_bytes_per_s = disk(30_000);
        }
    });
    let report = run(&room);
    for index in (1..20).step_by(2) {
        assert!(
            done_s(&report, index) <= pass_s(&room) * 1.05 + 0.1,
            "{index}: {report:?}"
        );
    }
}
