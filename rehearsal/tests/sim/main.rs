//! Simulated sessions: first with faults, while nothing wrong is ever accepted; then every target
//! must finish once the faults are over. A failure prints its seed.
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "ratios for assertions, not offsets"
)]

mod closed_form;
mod faults;
mod looking;
mod network;
mod pace;
mod repair;
mod restarts;
mod scale;
mod slow;

use multicast::BlockSet;
use rehearsal::{Look, Report, Room, Target, rehearse};
use std::sync::Arc;

/// A room of `targets` equal targets and `blocks` full blocks at 1 Gb/s.
fn room(seed: u64, targets: usize, blocks: usize) -> Room {
    Room::new(seed, vec![745; blocks], vec![Target::default(); targets])
}

fn each(mut room: Room, change: impl Fn(usize, &mut Target)) -> Room {
    for (index, target) in room.targets.iter_mut().enumerate() {
        change(index, target);
    }
    room
}

fn run(room: &Room) -> Report {
    rehearse(room).unwrap_or_else(|failure| panic!("{failure}"))
}

/// Time to send the image once, in seconds.
fn pass_s(room: &Room) -> f64 {
    room.pass_us() as f64 / 1e6
}

/// Time at which a target was complete, in seconds.
fn done_s(report: &Report, target: usize) -> f64 {
    report.targets[target].done_us as f64 / 1e6
}

fn elapsed_s(report: &Report) -> f64 {
    report.elapsed_us as f64 / 1e6
}

/// The rate of a disk that needs this time for a full block.
fn disk(block_us: u64) -> u64 {
    (745 * 1408 * 1_000_000_u64)
        .checked_div(block_us)
        .unwrap_or(u64::MAX)
}

/// A search that finds all blocks that do not differ.
fn look(block_us: u64, blocks: u32, differs: impl Fn(u32) -> bool) -> Option<Look> {
    let mut set = BlockSet::empty(blocks);
    for block in (0..blocks).filter(|block| differs(*block)) {
        set.insert(block);
    }
    Some(Look {
        block_us,
        differs: Arc::new(set),
    })
}
