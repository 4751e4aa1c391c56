//! Machines that search their disks before they ask for blocks.

use crate::{disk, done_s, each, elapsed_s, look, pass_s, room, run};
use rehearsal::Faults;

const LOOK_US: u64 = 4_000;

#[test]
fn a_room_that_looks_is_sent_what_differs() {
    for (loss, ahead) in [(0, 0), (10_000, 0), (10_000, 3)] {
        let room = each(room(1, 16, 1_000), |index, target| {
            target.faults = Faults::loss(loss);
            // Three speeds of disks: blocks wanted by the fast ones are sent while the slow ones
            // still search.
            let slower = ahead * (index as u64 % 3) / 2;
            target.look = look(LOOK_US * (1 + slower), 1_000, |block| block % 100 == 37);
        });
        let report = run(&room);
        assert!(report.transmissions() <= 0.0125, "{loss}: {report:?}");
        assert!(
            elapsed_s(&report) <= 1_000.0 * 1e-6 * (LOOK_US * (1 + ahead)) as f64 + 0.5,
            "{loss}: {report:?}"
        );
        assert!(
            report.targets.iter().all(|target| target.kept >= 985),
            "{report:?}"
        );
        // A pass is reported only if something was sent, not for every idle moment.
        assert!(report.passes <= 3, "{report:?}");
    }
}

#[test]
fn each_machine_may_lack_blocks_of_its_own() {
    let differs: [fn(u32) -> bool; 4] = [
        |block| block % 100 == 0,
        |block| block % 100 == 10,
        |block| block % 50 == 20,
        |block| block == 999,
    ];
    let room = each(room(2, 16, 1_000), |index, target| {
        target.look = look(LOOK_US, 1_000, differs[index % 4]);
    });
    let report = run(&room);
    // The union of all missing blocks: ten, ten, twenty and one.
    assert!(
        (0.041..=0.045).contains(&report.transmissions()),
        "{report:?}"
    );
}

#[test]
fn one_that_looks_delays_nobody() {
    for look_us in [1_000, 30_000] {
        let room = each(room(3, 10, 300), |index, target| {
            target.faults = Faults::loss(5_000);
            if index == 4 {
                target.look = look(look_us, 300, |block| block % 10 == 0);
            }
        });
        let report = run(&room);
        for index in (0..10).filter(|index| *index != 4) {
            assert!(
                done_s(&report, index) <= pass_s(&room) * 1.04 + 0.1,
                "{index}: {report:?}"
            );
        }
        // It stores blocks sent for others, so its search is not waited for either.
        assert!(
            done_s(&report, 4) <= pass_s(&room) * 1.04 + 0.3,
            "{report:?}"
        );
        assert!(report.transmissions() <= 1.02, "{report:?}");
    }
}

#[test]
fn one_that_looks_and_hears_nothing_fetches_only_what_differs() {
    let room = each(room(4, 4, 300), |index, target| {
        if index == 3 {
            target.look = look(LOOK_US, 300, |block| block % 30 == 7);
            target.partition_us = Some((100_000, u64::MAX));
        }
    });
    let report = run(&room);
    assert!(report.targets[3].bulk_blocks <= 12, "{report:?}");
    assert!(report.transmissions() <= 1.03, "{report:?}");
}

#[test]
fn looking_and_losing_and_crashing_all_finish() {
    for seed in 0..20 {
        let mut room = each(room(seed, 6, 120), |index, target| {
            target.faults = Faults::loss(30_000);
            target.disk_bytes_per_s = disk(9_000 * (1 + index as u64 % 3));
            if index < 4 {
                target.look = look(500 + 900 * index as u64, 120, |block| block % 4 == 0);
            }
            if index == 2 {
                target.crash_us = Some((50_000 + 11_000 * seed, 900_000));
            }
            if index == 1 {
                target.partition_us = Some((20_000 * seed, 20_000 * seed + 700_000));
            }
        });
        room.buffers = 8;
        run(&room);
    }
}
