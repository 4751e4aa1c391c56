//! Disks slower than the network: one, some, all.

use crate::world::{Setup, World, pass_seconds};

#[test]
fn one_slow_disk_slows_nobody() {
    let setup = Setup::new(1, 20, 400).each(|index, node| {
        if index == 7 {
            node.disk_us = 27_000;
        }
    });
    let pass = pass_seconds(&setup);
    let outcome = World::new(setup).run();
    for (index, done) in outcome.done_s.iter().enumerate() {
        if index != 7 {
            assert!(*done <= pass * 1.05, "{index}: {done} {outcome:?}");
        }
    }
    assert!(outcome.tau <= 1.01, "{outcome:?}");
    // Its own disk: 400 blocks at 27 ms, give or take the bulk that fills its gaps.
    assert!(outcome.done_s[7] <= 400.0 * 0.027 * 1.3, "{outcome:?}");
}

#[test]
fn when_all_disks_are_slow_little_is_sent_in_vain() {
    for spread in [0, 2_000] {
        let setup = Setup::new(2, 20, 400).each(|index, node| {
            node.disk_us = 20_000 + spread * (index as u64) / 20;
        });
        let outcome = World::new(setup).run();
        let slowest = outcome.done_s.iter().copied().fold(0.0, f64::max);
        assert!(outcome.tau <= 1.02, "{spread}: {outcome:?}");
        assert!(outcome.skipped <= 100, "{spread}: {outcome:?}");
        assert!(
            slowest <= 400.0 * 0.020 * 1.2 + 0.5,
            "{spread}: {slowest} {outcome:?}"
        );
    }
}

#[test]
fn a_slow_half_does_not_stop_the_quick_half() {
    let setup = Setup::new(3, 20, 300).each(|index, node| {
        if index % 2 == 0 {
            node.disk_us = 30_000;
        }
    });
    let pass = pass_seconds(&setup);
    let outcome = World::new(setup).run();
    for (index, done) in outcome.done_s.iter().enumerate() {
        if index % 2 == 1 {
            assert!(*done <= pass * 1.05 + 0.1, "{index}: {done} {outcome:?}");
        }
    }
}
