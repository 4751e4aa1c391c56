//! How little repair costs, against the sums of `docs/protocol.md`.

use crate::link::Faults;
use crate::world::{Outcome, Setup, World, pass_seconds};
use std::fmt::Write as _;

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

/// Receivers, blocks, and for each loss (parts per million) the least possible transmissions
/// per packet: the expected maximum over the receivers of symbols until k = 745 arrived.
type Room = (usize, usize, [(u64, f64); 3]);
const ROOMS: [Room; 4] = [
    (
        1,
        300,
        [(1_000, 1.0010), (10_000, 1.0101), (50_000, 1.0526)],
    ),
    (
        10,
        300,
        [(1_000, 1.0030), (10_000, 1.0161), (50_000, 1.0663)],
    ),
    (
        50,
        150,
        [(1_000, 1.0043), (10_000, 1.0193), (50_000, 1.0730)],
    ),
    (
        200,
        80,
        [(1_000, 1.0053), (10_000, 1.0216), (50_000, 1.0779)],
    ),
];

/// Runs the table and holds it against `results.txt`, so that a change in behaviour shows as a
/// diff. To take over new results: `UPDATE_RESULTS=1 cargo test -p multicast --test sim table`.
#[test]
fn the_table_of_receivers_and_loss() {
    let mut table =
        String::from("receivers  loss %     tau   ideal  excess  answers/block  seconds/pass\n");
    for (receivers, blocks, losses) in ROOMS {
        if cfg!(debug_assertions) && receivers > 10 {
            continue;
        }
        for (loss, ideal) in losses {
            let setup =
                Setup::new(2, receivers, blocks).each(|_, node| node.faults = Faults::loss(loss));
            let pass = pass_seconds(&setup);
            let outcome = World::new(setup).run();
            let excess = (outcome.tau - 1.0) / (ideal - 1.0);
            writeln!(
                table,
                "{receivers:9} {:7.1} {:7.4} {ideal:7.4} {excess:7.3} {:14.2} {:13.3}",
                loss as f64 / 10_000.0,
                outcome.tau,
                outcome.counters.answers as f64 / blocks as f64,
                last(&outcome) / pass,
            )
            .unwrap();
            // Goals: within 15 % of what loss must cost, and repair done soon after the pass.
            assert!(
                (0.85..=1.15).contains(&excess) || outcome.tau - ideal < 0.0006,
                "{table} {outcome:?}"
            );
            assert!(
                last(&outcome) <= pass * ideal * 1.03 + 0.35,
                "{table} {outcome:?}"
            );
            assert_eq!(outcome.bulk_blocks.iter().sum::<u64>(), 0, "{outcome:?}");
        }
    }
    if std::env::var_os("UPDATE_RESULTS").is_some() {
        std::fs::write(
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sim/results.txt"),
            &table,
        )
        .unwrap();
    } else {
        assert!(include_str!("results.txt").starts_with(&table), "{table}");
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
