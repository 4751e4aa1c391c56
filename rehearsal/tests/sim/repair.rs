//! The cost of repair, compared with the closed form.

use crate::closed_form::transmissions;
use crate::{each, elapsed_s, pass_s, room, run};
use multicast::status_interval;
use rehearsal::{Faults, Report};
use std::fmt::Write as _;

fn excess(report: &Report, receivers: usize, loss_ppm: u64) -> f64 {
    (report.transmissions() - 1.0) / (transmissions(receivers, loss_ppm, 745) - 1.0)
}

#[test]
fn without_loss_nothing_is_repaired() {
    for targets in [1, 20, 200] {
        let room = room(1, targets, 300);
        let report = run(&room);
        assert_eq!(report.sent, report.symbols, "{:?}", report.counters);
        assert!(
            elapsed_s(&report) <= pass_s(&room) * 1.01 + 0.05,
            "{} {}",
            elapsed_s(&report),
            pass_s(&room)
        );
    }
}

/// Numbers of receivers and blocks of each room in the table.
const ROOMS: [(usize, usize); 5] = [(1, 600), (10, 600), (50, 400), (200, 300), (1_000, 120)];

/// Runs the table and compares it with `results.txt`, so that a change in behaviour appears as a
/// diff. New results are accepted with `UPDATE_RESULTS=1 cargo test --release -p rehearsal table`.
#[test]
fn the_table_of_receivers_and_loss() {
    if cfg!(debug_assertions) {
        return;
    }
    let mut table = String::from(
        "receivers  loss %     tau   ideal  excess  elapsed/limit  reports/lost block\n",
    );
    for (receivers, blocks) in ROOMS {
        for loss in [1_000, 10_000, 50_000] {
            let room = each(room(2, receivers, blocks), |_, target| {
                target.faults = Faults::loss(loss);
            });
            let report = run(&room);
            let ideal = transmissions(receivers, loss, 745);
            let excess = excess(&report, receivers, loss);
            let over = elapsed_s(&report) / (pass_s(&room) * ideal);
            writeln!(
                table,
                "{receivers:9} {:7.1} {:7.4} {ideal:7.4} {excess:7.3} {over:14.3} {:19.2}",
                loss as f64 / 10_000.0,
                report.transmissions(),
                report.reports_per_lost_block(),
            )
            .unwrap();
            assert!(
                (0.9..=1.1).contains(&excess) || report.transmissions() - ideal < 0.0006,
                "{table} {report:?}"
            );
            // The end of a pass depends on reports: two or three of their intervals, less the time
            // saved by early reports while the sender is idle.
            let reports_s = status_interval(receivers).as_micros() as f64 / 1e6;
            assert!(
                elapsed_s(&report) <= pass_s(&room) * ideal * 1.03 + 0.15 + 0.5 * reports_s,
                "{table} {:?}",
                report.counters
            );
            assert_eq!(report.bulk_blocks(), 0, "{table}");
        }
    }
    if std::env::var_os("UPDATE_RESULTS").is_some() {
        std::fs::write(
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sim/results.txt"),
            &table,
        )
        .unwrap();
    } else {
        assert_eq!(include_str!("results.txt"), table);
    }
}

#[test]
fn bursts_of_thirty_two_are_repaired_by_parity() {
    let room = each(room(4, 16, 600), |_, target| {
        target.faults = Faults::bursts(10_000, 32);
    });
    let report = run(&room);
    assert!(report.transmissions() <= 1.10, "{:?}", report.counters);
    // Bytes of IP datagrams divided by bytes of the image.
    let wire = report.wire_bytes as f64 * 1476.0 / 1514.0 / (report.symbols * 1408) as f64;
    assert!(wire <= 1.15, "{wire} {:?}", report.counters);
    // One or two of two thousand bursts are longer than the available parity.
    assert!(report.bulk_blocks() <= 3, "{:?}", report.counters);
}

/// Sixteen agents at 200 Mbit/s and an image of 128 MiB: elapsed time over the limit, and bytes of
/// UDP payload over bytes of the image.
#[test]
fn the_room_of_the_bench_is_near_its_limit() {
    for (loss, elapsed, bytes) in [(0, 1.01, 1.031), (10_000, 1.04, 1.05), (50_000, 1.10, 1.11)] {
        let mut room = each(room(2, 16, 128), |_, target| {
            target.faults = Faults::loss(loss);
        });
        room.rate_cap_bytes_per_s = 25_000_000;
        room.start_rate_bytes_per_s = 25_000_000;
        let report = run(&room);
        let over = elapsed_s(&report) / pass_s(&room);
        assert!(over <= elapsed, "{loss}: {over} {:?}", report.counters);
        let sent = (report.sent * 1448) as f64 / (report.symbols * 1408) as f64;
        assert!(sent <= bytes, "{loss}: {sent} {:?}", report.counters);
    }
}
