//! Networks slower than they claim, and links that lose whatever the rate.

use crate::link::Faults;
use crate::world::{Setup, World, pass_seconds};

#[test]
fn a_narrow_switch_is_found_and_used() {
    // The cap says 1 Gb/s, one port on the way carries 400 Mb/s with 200 kB of queue.
    let mut setup = Setup::new(1, 10, 600);
    setup.bottleneck = Some((50_000_000, 200_000));
    let link_s = pass_seconds(&setup) * 125.0 / 50.0;
    let outcome = World::new(setup).run();
    let last = outcome.done_s.iter().copied().fold(0.0, f64::max);
    assert!(outcome.rate <= 58_000_000, "{outcome:?}");
    assert!(last <= link_s * 1.15 + 0.5, "{last} {link_s} {outcome:?}");
}

#[test]
fn a_cap_far_above_the_network_is_approached_from_below() {
    // The interface claims 10 Gb/s, the room is on 400 Mb/s. Starting near the cap would lose
    // most of the first half second.
    let mut setup = Setup::new(4, 10, 400);
    setup.bottleneck = Some((50_000_000, 200_000));
    setup.cap = 1_250_000_000;
    setup.start = 12_500_000;
    let link_s = pass_seconds(&setup) * 25.0;
    let outcome = World::new(setup).run();
    let last = outcome.done_s.iter().copied().fold(0.0, f64::max);
    assert!(outcome.tau <= 1.25, "{outcome:?}");
    assert!(last <= link_s * 1.3 + 2.0, "{last} {link_s} {outcome:?}");
}

#[test]
fn loss_that_no_rate_cures_slows_nobody() {
    // Story: rate control made for congestion reads 5 % of random loss at every machine as a
    // full network and creeps. Parity mends 5 %; the rate must come back.
    let setup = Setup::new(2, 10, 700).each(|_, node| node.faults = Faults::loss(50_000));
    let pass = pass_seconds(&setup);
    let outcome = World::new(setup).run();
    let last = outcome.done_s.iter().copied().fold(0.0, f64::max);
    assert!(outcome.rate >= 123_000_000, "{outcome:?}");
    assert!(last <= pass * 1.12 + 0.5, "{last} {pass} {outcome:?}");
}

#[test]
fn one_bad_link_slows_nobody() {
    for loss in [30_000, 200_000, 900_000] {
        let setup = Setup::new(3, 10, 300).each(|index, node| {
            if index == 4 {
                node.faults = Faults::loss(loss);
            }
        });
        let pass = pass_seconds(&setup);
        let outcome = World::new(setup).run();
        for (index, done) in outcome.done_s.iter().enumerate() {
            if index != 4 {
                assert!(
                    *done <= pass * 1.07 + 0.1,
                    "{loss} {index}: {done} {outcome:?}"
                );
            }
        }
    }
}
