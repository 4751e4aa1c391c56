//! The console stops in the middle of a session and is restarted with another session and another
//! key.

use crate::{each, elapsed_s, pass_s, room, run};
use rehearsal::Faults;

#[test]
fn a_restarted_console_sends_only_what_is_lacking() {
    for at_us in [300_000, 4_500_000, 8_600_000] {
        let mut room = each(room(1, 16, 1_000), |_, target| {
            target.faults = Faults::loss(5_000)
        });
        room.console_restarts_us = vec![at_us];
        let report = run(&room);
        // Targets return within two seconds. Blocks sent meanwhile to the first ones are sent
        // again; blocks that targets already had are not.
        assert!(report.transmissions() <= 1.20, "{at_us}: {report:?}");
        assert!(
            elapsed_s(&report) <= pass_s(&room) * 1.25 + 3.0,
            "{at_us}: {report:?}"
        );
        assert!(
            report.targets.iter().all(|target| target.kept == 0),
            "{report:?}"
        );
    }
}

#[test]
fn a_console_that_restarts_again_and_again_ends_all_the_same() {
    for seed in 0..10 {
        let mut room = each(room(seed, 8, 200), |index, target| {
            target.faults = Faults::loss(20_000);
            target.join_us = 130_000 * index as u64;
            if index == 3 {
                target.crash_us = Some((900_000 + seed * 100_000, 3_000_000));
            }
        });
        room.console_restarts_us = (1..6).map(|at| at * 700_000 + seed * 13_000).collect();
        run(&room);
    }
}
