//! Networks slower than their cap, links with loss at any rate, and machines that cannot read fast
//! enough: each needs a different reaction.

use crate::{done_s, each, elapsed_s, pass_s, room, run};
use rehearsal::{Faults, Switch};

const NARROW: Switch = Switch {
    rate_bytes_per_s: 50_000_000,
    queue_bytes: 200_000,
};

#[test]
fn a_narrow_switch_is_found_and_used() {
    // The cap is 1 Gb/s; one port on the way carries 400 Mb/s with 200 kB of queue.
    let mut room = room(1, 10, 600);
    room.switch = Some(NARROW);
    let link_s = pass_s(&room) * 125.0 / 50.0;
    let report = run(&room);
    assert!(report.rate_bytes_per_s <= 58_000_000, "{report:?}");
    assert!(
        elapsed_s(&report) <= link_s * 1.15 + 0.5,
        "{link_s} {report:?}"
    );
}

#[test]
fn a_cap_far_above_the_network_is_approached_from_below() {
    // The interface reports 10 Gb/s, the network carries 400 Mb/s. A start near the cap would lose
    // most of the first half second.
    let mut room = room(4, 10, 400);
    room.switch = Some(NARROW);
    room.rate_cap_bytes_per_s = 1_250_000_000;
    room.start_rate_bytes_per_s = 12_500_000;
    let link_s = pass_s(&room) * 25.0;
    let report = run(&room);
    assert!(report.transmissions() <= 1.25, "{report:?}");
    assert!(
        elapsed_s(&report) <= link_s * 1.3 + 2.0,
        "{link_s} {report:?}"
    );
}

#[test]
fn loss_that_no_rate_cures_slows_nobody() {
    // Story: rate control for congestion treats 5 % of random loss at every machine as a full
    // network and sends very slowly. Parity repairs 5 %; the rate must recover.
    let room = each(room(2, 10, 700), |_, target| {
        target.faults = Faults::loss(50_000)
    });
    let report = run(&room);
    assert!(report.rate_bytes_per_s >= 123_000_000, "{report:?}");
    assert!(
        elapsed_s(&report) <= pass_s(&room) * 1.12 + 0.5,
        "{report:?}"
    );
}

#[test]
fn one_bad_link_slows_nobody() {
    for loss in [30_000, 200_000, 900_000] {
        let room = each(room(3, 10, 300), |index, target| {
            if index == 4 {
                target.faults = Faults::loss(loss);
            }
        });
        let report = run(&room);
        for index in (0..10).filter(|index| *index != 4) {
            assert!(
                done_s(&report, index) <= pass_s(&room) * 1.07 + 0.1,
                "{loss} {index}: {report:?}"
            );
        }
        // A target that loses nearly everything begins no block and costs the others nothing.
        assert_eq!(
            report.targets[4].demoted > 0,
            loss == 200_000,
            "{loss} {report:?}"
        );
    }
}

#[test]
fn what_one_kernel_drops_slows_nobody_and_what_most_drop_does() {
    let drops = |machines: usize, ppm: u64| {
        let room = each(room(5, 10, 600), |index, target| {
            if index < machines {
                target.faults.kernel_ppm = ppm;
            }
        });
        run(&room)
    };
    let one = drops(1, 40_000);
    assert_eq!(one.counters.rate_falls, 0, "{one:?}");
    assert!(one.rate_bytes_per_s >= 124_000_000, "{one:?}");
    // With the same loss at most machines, they cannot read fast enough, and a lower rate helps.
    let most = drops(6, 40_000);
    assert!(most.counters.rate_falls >= 2, "{most:?}");
}

#[test]
fn blocks_beyond_the_reach_of_parity_go_out_again_as_source() {
    // Every link is interrupted for 400 packets now and then: more than half of a block, which 256
    // parity symbols cannot repair if more packets are lost.
    let room = each(room(6, 12, 200), |_, target| {
        target.faults = Faults::bursts(30_000, 400);
    });
    let report = run(&room);
    assert!(
        report.counters.slow_lane > 0 || report.bulk_blocks() > 0,
        "{report:?}"
    );
    assert!(report.transmissions() <= 1.6, "{report:?}");
}
