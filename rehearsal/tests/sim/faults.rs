//! All faults at once with many seeds: nothing wrong is ever accepted, and every target finishes.

use crate::{disk, done_s, each, look, pass_s, room, run};
use multicast::Pace;
use rehearsal::{Faults, Rng, Room};

fn everything(rng: &mut Rng) -> Faults {
    Faults {
        loss_ppm: rng.below(30_000),
        burst_enter_ppm: rng.below(1_000),
        burst_leave_ppm: 50_000 + rng.below(400_000),
        duplicate_ppm: rng.below(2) * rng.below(20_000),
        reorder_ppm: rng.below(2) * rng.below(50_000),
        corrupt_ppm: rng.below(5_000),
        kernel_ppm: rng.below(2) * rng.below(10_000),
    }
}

/// A room with all kinds of faults, drawn from the seed.
fn anything(seed: u64) -> Room {
    let mut rng = Rng::new(seed ^ 0xfa);
    let targets = 1 + rng.below(12) as usize;
    let blocks = 1 + rng.below(80) as usize;
    let mut room = room(seed, targets, blocks);
    room.buffers = 4 + rng.below(60) as u16;
    room.rate_cap_bytes_per_s = 20_000_000 + rng.below(200_000_000);
    room.start_rate_bytes_per_s = room.rate_cap_bytes_per_s;
    room.pace = [Pace::Fastest, Pace::Balanced, Pace::Everyone][rng.below(3) as usize];
    room.image = (0..blocks)
        .map(|_| match rng.below(4) {
            0 => 1 + rng.below(745) as u16,
            1 => 1,
            _ => 745,
        })
        .collect();
    room.manifest = (0..1 + rng.below(3))
        .map(|_| 1 + rng.below(745) as u16)
        .collect();
    for target in &mut room.targets {
        target.faults = everything(&mut rng);
        target.join_us = rng.below(2) * rng.below(600_000);
        target.disk_bytes_per_s = disk(rng.below(40_000));
        target.bad_ppm = rng.below(2) * rng.below(50_000);
        if rng.below(4) == 0 {
            let from = rng.below(400_000);
            target.partition_us = Some((from, from + rng.below(4_000_000)));
        }
        if rng.below(4) == 0 {
            let at = target.join_us + 1 + rng.below(400_000);
            target.crash_us = Some((at, at + 1 + rng.below(5_000_000)));
        }
        if rng.below(4) == 0 {
            let every = 1 + rng.below(20) as u32;
            target.look = look(rng.below(8_000), blocks as u32, |block| block % every == 0);
        }
    }
    for _ in 0..rng.below(3).saturating_sub(1) {
        room.console_restarts_us.push(rng.below(2_000_000));
    }
    room
}

#[test]
fn everybody_finishes_whatever_happens() {
    // Without optimisation a run takes twenty times as long.
    for seed in 0..if cfg!(debug_assertions) { 12 } else { 300 } {
        run(&anything(seed));
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [3, 14, 159] {
        assert_eq!(run(&anything(seed)), run(&anything(seed)), "seed {seed}");
    }
}

#[test]
fn a_killed_target_costs_the_others_nothing() {
    let plain = run(&room(5, 10, 300));
    let killed = run(&each(room(5, 10, 300), |index, target| {
        if index == 9 {
            target.crash_us = Some((1_000_000, 20_000_000));
        }
    }));
    for index in 0..9 {
        assert!(
            done_s(&killed, index) <= done_s(&plain, index) + 0.05,
            "{killed:?}"
        );
    }
}

#[test]
fn a_rebooted_target_asks_only_for_what_it_has_not() {
    let room = each(room(9, 10, 300), |index, target| {
        if index == 9 {
            target.crash_us = Some((1_600_000, 2_200_000));
        }
    });
    let report = run(&room);
    // 1.6 of 2.7 seconds were over: it receives the rest of the pass and the part it missed.
    let again = report.targets[9].stored as f64 / report.symbols as f64 - 1.0;
    assert!(again <= 0.15, "{again} {report:?}");
    assert!(report.targets[9].kept >= 150, "{report:?}");
    assert!(report.transmissions() <= 1.35, "{report:?}");
}

#[test]
fn a_deaf_target_gets_the_rest_by_bulk() {
    // Story: IGMP snooping forgets a port in the middle of a job. The machine still reports over
    // TCP but receives nothing new; it must neither hang nor delay the others.
    for from in [0, 1_000_000] {
        let room = each(room(8, 10, 200), |index, target| {
            if index == 9 {
                target.partition_us = Some((from, u64::MAX));
            }
        });
        let report = run(&room);
        for index in 0..9 {
            assert!(
                done_s(&report, index) <= pass_s(&room) * 1.03 + 0.1,
                "{from}: {report:?}"
            );
        }
        assert!(report.transmissions() <= 1.05, "{from}: {report:?}");
        assert!(report.targets[9].bulk_blocks > 50, "{from}: {report:?}");
        assert!(done_s(&report, 9) <= 8.0, "{from}: {report:?}");
    }
}

#[test]
fn a_late_target_gets_what_is_left_and_then_the_rest() {
    let room = each(room(6, 10, 300), |index, target| {
        if index == 9 {
            target.join_us = 1_300_000;
        }
    });
    let report = run(&room);
    for index in 0..9 {
        assert!(
            done_s(&report, index) <= pass_s(&room) * 1.03 + 0.1,
            "{report:?}"
        );
    }
    assert!(
        done_s(&report, 9) <= 1.3 + pass_s(&room) * 1.05 + 0.1,
        "{report:?}"
    );
    assert!(report.transmissions() <= 1.6, "{report:?}");
    // The missed part is sent on the second lane, because the others may have left the first.
    assert!(report.counters.slow_lane >= 100 * 745, "{report:?}");
}

#[test]
fn an_image_of_one_packet_and_an_image_of_none() {
    for image in [vec![1], vec![]] {
        let mut room = each(room(7, 3, 0), |_, target| {
            target.faults = Faults::loss(200_000)
        });
        room.image = image;
        room.manifest = vec![1];
        run(&room);
    }
}
