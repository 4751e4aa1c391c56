//! A receiver that always claims to need all the parity of a block, beside two honest ones.
//!
//! Story: repair by the largest deficit means that one machine's claim costs all others. A receiver
//! with false or broken reports must not slow the pass, and must not make the console send without
//! bound.

use multicast::status::{BlockRange, Deficit, LaneStatus};
use multicast::{
    Demotion, Duration, Instant, Lane, Layout, ReceiverId, Sender, SenderConfig, SenderEvent,
    SessionId, Status, TransmitKind, pack,
};

const BLOCKS: u32 = 300;
const HONEST: [ReceiverId; 2] = [ReceiverId(0), ReceiverId(1)];
const LIAR: ReceiverId = ReceiverId(2);

fn status(sequence: u64, seen: [Option<u64>; 2]) -> Status {
    let lane = |seen: Option<u64>| LaneStatus {
        seen,
        received: seen.map_or(0, |seen| seen + 1),
        lost: 0,
    };
    Status {
        sequence,
        full: sequence == 0,
        image_open: true,
        main: lane(seen[0]),
        second: lane(seen[1]),
        free_buffers: 64,
        ..Status::default()
    }
}

#[test]
fn a_liar_costs_little_and_not_for_long() {
    let image = pack((0..BLOCKS).map(|_| 1_048_960));
    let config = SenderConfig::new(SessionId(1), &Layout::single(1_000), &image, 125_000_000);
    let mut now = Instant::ZERO;
    let mut sender = Sender::new(config, now);
    for id in HONEST.into_iter().chain([LIAR]) {
        sender.add_receiver(now, id);
    }
    let mut seen = [None, None];
    let mut done = 0;
    let (mut pass_over, mut repair_in_pass, mut set_aside) = (None, 0, 0);
    let (mut bulk, mut last_symbol_at) = (0, now);
    for sequence in 0..300 {
        for id in HONEST.into_iter().chain([LIAR]) {
            let mut said = status(sequence, seen);
            said.completed = vec![BlockRange(0, 0, 1)];
            if id == LIAR {
                said.deficits = (0..done).map(|block| Deficit(1, block, 256)).collect();
            } else {
                said.completed.push(BlockRange(1, 0, done));
            }
            sender.handle_status(now, id, &said);
        }
        for _ in 0..200 {
            while let Some(packet) = sender.poll_transmit(now) {
                let lane = usize::from(packet.lane == Lane::Second);
                seen[lane] = Some(packet.packet_number.counter());
                if packet.kind == TransmitKind::Source && packet.symbol + 1 == packet.k {
                    done = done.max(packet.block.index + 1);
                }
                if packet.kind != TransmitKind::Heartbeat {
                    last_symbol_at = now;
                }
            }
            now = now + Duration::from_micros(500);
        }
        while let Some(event) = sender.poll_event() {
            match event {
                SenderEvent::Demoted { receiver, reason } => {
                    assert_eq!(receiver, LIAR);
                    assert!(matches!(reason, Demotion::Lossy { .. }));
                    set_aside += 1;
                }
                SenderEvent::UseBulk { receiver, blocks } => {
                    assert_eq!(receiver, LIAR);
                    bulk += blocks.len();
                }
                _ => {}
            }
        }
        if done == BLOCKS && pass_over.is_none() {
            pass_over = Some(now);
            repair_in_pass = sender.counters().repair;
        }
    }
    // Its claims counted for the ten blocks needed to demote it, and for the blocks in flight
    // meanwhile.
    assert!(set_aside >= 1);
    assert!(repair_in_pass <= 40 * 258, "{repair_in_pass}");
    let pass = pass_over.map_or(0, Instant::as_micros);
    assert!(pass <= 3_200_000, "{pass}");
    // After the pass it gets parity once for each block, then bulk, then nothing.
    let counters = sender.counters();
    assert!(counters.repair <= u64::from(BLOCKS) * 258, "{counters:?}");
    assert_eq!(counters.source, u64::from(BLOCKS) * 745, "{counters:?}");
    assert!(bulk <= BLOCKS as usize, "{bulk}");
    assert!(
        last_symbol_at.as_micros() < 15_000_000,
        "{last_symbol_at:?}"
    );
}
