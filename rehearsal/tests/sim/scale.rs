//! Rooms of the largest real size, which a rehearsal on a laptop must be able to run.

use crate::{disk, each, elapsed_s, pass_s, room, run};
use rehearsal::Faults;

#[test]
fn three_hundred_targets_and_a_real_image() {
    if cfg!(debug_assertions) {
        return;
    }
    let room = each(room(1, 300, 1_000), |index, target| {
        target.faults = Faults::loss(5_000);
        if index < 5 {
            target.disk_bytes_per_s = disk(30_000);
        }
    });
    let report = run(&room);
    let quick = (5..300).map(|index| report.targets[index].done_us).max();
    assert!(
        quick.unwrap_or(0) as f64 / 1e6 <= pass_s(&room) * 1.05 + 0.3,
        "{:?}",
        report.counters
    );
}

#[test]
fn five_thousand_targets() {
    if cfg!(debug_assertions) {
        return;
    }
    let room = each(room(2, 5_000, 20), |_, target| {
        target.faults = Faults::loss(2_000)
    });
    let report = run(&room);
    assert!(report.transmissions() <= 1.02, "{:?}", report.counters);
    assert!(
        elapsed_s(&report) <= pass_s(&room) * 1.05 + 1.5,
        "{}",
        elapsed_s(&report)
    );
}
