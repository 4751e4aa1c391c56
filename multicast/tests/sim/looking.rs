//! Machines that look through their disks before they ask for anything.

use crate::link::Faults;
use crate::world::{Outcome, Setup, World, pass_seconds};

const LOOK_US: u64 = 4_000;

fn one_in_a_hundred(block: u32) -> bool {
    block % 100 == 37
}

fn last(outcome: &Outcome) -> f64 {
    outcome.done_s.iter().copied().fold(0.0, f64::max)
}

#[test]
fn a_room_that_looks_is_sent_what_differs() {
    for (loss, ahead) in [(0, 0), (10_000, 0), (10_000, 3)] {
        let setup = Setup::new(1, 16, 1_000).each(|index, node| {
            node.faults = Faults::loss(loss);
            // Disks of three kinds: what the quick ones want goes out while the slow ones look.
            let slower = ahead * (index as u64 % 3) / 2;
            node.look = Some((LOOK_US * (1 + slower), one_in_a_hundred));
        });
        let outcome = World::new(setup).run();
        assert!(outcome.tau <= 0.0125, "{loss}: {outcome:?}");
        assert!(
            last(&outcome) <= 1_000.0 * 1e-6 * (LOOK_US * (1 + ahead)) as f64 + 0.5,
            "{loss}: {outcome:?}"
        );
        // Passes are noted when something happened, not whenever the wire was idle.
        assert!(outcome.passes_noted <= 3, "{outcome:?}");
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
    let setup = Setup::new(2, 16, 1_000).each(|index, node| {
        node.look = Some((LOOK_US, differs[index % 4]));
    });
    let outcome = World::new(setup).run();
    // The union: ten, ten, twenty and one.
    assert!((0.041..=0.045).contains(&outcome.tau), "{outcome:?}");
}

#[test]
fn one_that_looks_delays_nobody() {
    for look_us in [1_000, 30_000] {
        let setup = Setup::new(3, 10, 300).each(|index, node| {
            node.faults = Faults::loss(5_000);
            if index == 4 {
                node.look = Some((look_us, |block| block % 10 == 0));
            }
        });
        let pass = pass_seconds(&setup);
        let outcome = World::new(setup).run();
        for (index, done) in outcome.done_s.iter().enumerate() {
            if index != 4 {
                assert!(*done <= pass * 1.04 + 0.1, "{index}: {done} {outcome:?}");
            }
        }
        // It takes what goes by, so its own looking is not waited for either.
        assert!(outcome.done_s[4] <= pass * 1.04 + 0.3, "{outcome:?}");
        assert!(outcome.tau <= 1.02, "{outcome:?}");
    }
}

#[test]
fn one_that_looks_and_hears_nothing_fetches_only_what_differs() {
    let setup = Setup::new(4, 4, 300).each(|index, node| {
        if index == 3 {
            node.look = Some((LOOK_US, |block| block % 30 == 7));
            node.partition_us = Some((100_000, u64::MAX));
        }
    });
    let outcome = World::new(setup).run();
    assert!(outcome.bulk_blocks[3] <= 12, "{outcome:?}");
    assert!(outcome.tau <= 1.03, "{outcome:?}");
}

#[test]
fn looking_and_losing_and_crashing_all_finish() {
    for seed in 0..20 {
        let setup = Setup::new(seed, 6, 120).each(|index, node| {
            node.faults = Faults::loss(30_000);
            node.disk_us = 9_000 * (1 + index as u64 % 3);
            if index < 4 {
                node.look = Some((500 + 900 * index as u64, |block| block % 4 == 0));
            }
            if index == 2 {
                node.crash_us = Some((50_000 + 11_000 * seed, 900_000));
            }
            if index == 1 {
                node.partition_us = Some((20_000 * seed, 20_000 * seed + 700_000));
            }
        });
        let mut setup = setup;
        setup.buffers = 8;
        World::new(setup).run();
    }
}
