//! Everything at once, many seeds: nothing wrong is ever accepted, and everybody finishes.

use crate::link::Faults;
use crate::rng::Rng;
use crate::world::{Setup, World};

/// A room with all kinds of faults, drawn from the seed.
fn room(seed: u64) -> Setup {
    let mut rng = Rng::new(seed ^ 0xfa);
    let receivers = usize::try_from(1 + rng.below(12)).unwrap();
    let blocks = usize::try_from(1 + rng.below(80)).unwrap();
    let mut setup = Setup::new(seed, receivers, blocks);
    setup.buffers = u16::try_from(4 + rng.below(60)).unwrap();
    setup.cap = 20_000_000 + rng.below(200_000_000);
    setup.start = setup.cap;
    setup.image = (0..blocks)
        .map(|_| match rng.below(4) {
            0 => u16::try_from(1 + rng.below(745)).unwrap(),
            1 => 1,
            _ => 745,
        })
        .collect();
    setup.manifest = (0..1 + rng.below(3))
        .map(|_| u16::try_from(1 + rng.below(745)).unwrap())
        .collect();
    for node in &mut setup.nodes {
        node.faults = Faults::everything(&mut rng);
        node.join_us = rng.below(2) * rng.below(600_000);
        node.disk_us = rng.below(40_000);
        node.bad_ppm = rng.below(2) * rng.below(50_000);
        if rng.below(4) == 0 {
            let from = rng.below(400_000);
            node.partition_us = Some((from, from + rng.below(4_000_000)));
        }
        if rng.below(4) == 0 {
            let at = node.join_us + 1 + rng.below(400_000);
            node.crash_us = Some((at, at + 1 + rng.below(5_000_000)));
        }
    }
    setup
}

#[test]
fn everybody_finishes_whatever_happens() {
    // Without optimisation a run takes twenty times as long.
    for seed in 0..if cfg!(debug_assertions) { 12 } else { 150 } {
        World::new(room(seed)).run();
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [3, 14, 159] {
        let (one, other) = (World::new(room(seed)).run(), World::new(room(seed)).run());
        assert_eq!(one.counters, other.counters, "seed {seed}");
        assert_eq!(one.done_s, other.done_s, "seed {seed}");
    }
}

#[test]
fn a_killed_target_costs_the_others_nothing() {
    let plain = World::new(Setup::new(5, 10, 300)).run();
    let killed = World::new(Setup::new(5, 10, 300).each(|index, node| {
        if index == 9 {
            node.crash_us = Some((1_000_000, 20_000_000));
        }
    }))
    .run();
    for index in 0..9 {
        assert!(
            killed.done_s[index] <= plain.done_s[index] + 0.05,
            "{killed:?}"
        );
    }
}

#[test]
fn a_deaf_target_gets_the_rest_by_bulk() {
    // Story: IGMP snooping forgets a port in the middle of a job. The machine still speaks over
    // TCP, sees nothing new, and must neither hang nor keep the others.
    for from in [0, 1_000_000] {
        let setup = Setup::new(8, 10, 200).each(|index, node| {
            if index == 9 {
                node.partition_us = Some((from, u64::MAX));
            }
        });
        let pass = crate::world::pass_seconds(&setup);
        let outcome = World::new(setup).run();
        for index in 0..9 {
            assert!(
                outcome.done_s[index] <= pass * 1.03 + 0.1,
                "{from}: {outcome:?}"
            );
        }
        assert!(outcome.tau <= 1.05, "{from}: {outcome:?}");
        assert!(outcome.bulk_blocks[9] > 50, "{from}: {outcome:?}");
        assert!(outcome.done_s[9] <= 8.0, "{from}: {outcome:?}");
    }
}

#[test]
fn a_late_target_gets_what_is_left_and_then_the_rest() {
    let setup = Setup::new(6, 10, 300).each(|index, node| {
        if index == 9 {
            node.join_us = 1_300_000;
        }
    });
    let pass = crate::world::pass_seconds(&setup);
    let outcome = World::new(setup).run();
    for index in 0..9 {
        assert!(outcome.done_s[index] <= pass * 1.03 + 0.1, "{outcome:?}");
    }
    assert!(outcome.done_s[9] <= 1.3 + pass * 1.05 + 0.3, "{outcome:?}");
    assert!(outcome.tau <= 1.6, "{outcome:?}");
}

#[test]
fn an_image_of_one_packet_and_an_image_of_none() {
    for image in [vec![1], vec![]] {
        let mut setup = Setup::new(7, 3, 0).each(|_, node| node.faults = Faults::loss(200_000));
        setup.image = image;
        setup.manifest = vec![1];
        World::new(setup).run();
    }
}
