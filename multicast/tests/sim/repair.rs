//! How little repair costs, against the sums of `docs/protocol.md`.

use crate::link::Faults;
use crate::world::{Outcome, Setup, World, pass_seconds};

fn last(outcome: &Outcome) -> f64 {
    outcome.done_s.iter().copied().fold(0.0, f64::max)
}

#[test]
fn without_loss_nothing_is_repaired() {
    for receivers in [1, 20, 200] {
        let setup = Setup::new(1, receivers, if receivers > 100 { 100 } else { 300 });
        let limit = pass_seconds(&setup);
        let outcome = World::new(setup).run();
        assert!(outcome.repair_share <= 0.001, "{outcome:?}");
        assert!(outcome.tau <= 1.001, "{outcome:?}");
        assert!(last(&outcome) <= limit * 1.02 + 0.1, "{limit} {outcome:?}");
    }
}

#[test]
fn one_percent_of_loss_costs_little_more_than_it_must() {
    // Ideal: expected maximum over N receivers of symbols until k = 745 arrived.
    for (receivers, blocks, ideal) in [
        (1, 400, 1.0101),
        (10, 400, 1.0161),
        (50, 300, 1.0193),
        (200, 120, 1.0216),
    ] {
        let setup =
            Setup::new(2, receivers, blocks).each(|_, node| node.faults = Faults::loss(10_000));
        let limit = pass_seconds(&setup);
        let outcome = World::new(setup).run();
        let over = (outcome.tau - 1.0) / (ideal - 1.0);
        assert!(
            (0.95..=1.12).contains(&over),
            "N {receivers}: tau {:.4}, {over:.3} times what it must be: {outcome:?}",
            outcome.tau
        );
        assert!(
            last(&outcome) <= limit * 1.04 + 0.4,
            "N {receivers}: {} s, a pass is {limit} s",
            last(&outcome)
        );
        assert_eq!(outcome.bulk_blocks.iter().sum::<u64>(), 0, "{outcome:?}");
    }
}

#[test]
fn other_losses_cost_little_more_than_they_must() {
    for (receivers, loss, ideal) in [
        (10, 1_000, 1.0030),
        (50, 1_000, 1.0043),
        (10, 50_000, 1.0663),
        (50, 50_000, 1.0730),
    ] {
        let setup = Setup::new(3, receivers, 300).each(|_, node| node.faults = Faults::loss(loss));
        let outcome = World::new(setup).run();
        let over = (outcome.tau - 1.0) / (ideal - 1.0);
        assert!(
            (0.9..=1.2).contains(&over),
            "N {receivers} loss {loss}: tau {:.4}, {over:.3}: {outcome:?}",
            outcome.tau
        );
    }
}

#[test]
fn bursts_are_repaired_by_parity() {
    let setup = Setup::new(4, 20, 300).each(|_, node| {
        node.faults = Faults {
            burst_enter: 300,
            burst_leave: 31_000,
            ..Faults::default()
        };
    });
    let outcome = World::new(setup).run();
    assert!(outcome.tau < 1.2, "{outcome:?}");
}
