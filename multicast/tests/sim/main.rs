//! The session in a simulated room. See `world.rs`.
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "ratios for assertions, not offsets"
)]

mod link;
mod rng;
mod world;

use link::Faults;
use world::{Setup, World, pass_seconds};

#[test]
fn without_loss_nothing_is_repaired() {
    for receivers in [1, 20] {
        let setup = Setup::new(1, receivers, 300);
        let limit = pass_seconds(&setup);
        let outcome = World::new(setup).run();
        assert!(outcome.repair_share <= 0.001, "{outcome:?}");
        assert!(outcome.tau <= 1.001, "{outcome:?}");
        for done in &outcome.done_s {
            assert!(*done <= limit * 1.03 + 0.3, "{done} {limit} {outcome:?}");
        }
    }
}

#[test]
fn one_percent_everywhere() {
    for (receivers, ideal) in [(1, 1.0101), (10, 1.0161), (50, 1.0193), (200, 1.0216)] {
        let setup = Setup::new(2, receivers, if receivers > 100 { 120 } else { 300 })
            .each(|_, node| node.faults = Faults::loss(10_000));
        let limit = pass_seconds(&setup);
        let outcome = World::new(setup).run();
        let over = (outcome.tau - 1.0) / (ideal - 1.0);
        let last = outcome.done_s.iter().copied().fold(0.0, f64::max);
        eprintln!(
            "N {receivers} tau {:.4} over {over:.3} last {last:.3} limit {limit:.3} {:?} rate {} bulk {}",
            outcome.tau,
            outcome.counters,
            outcome.rate,
            outcome.bulk_blocks.iter().sum::<u64>()
        );
    }
}
