//! A receiver that handles packets in rows ends in the same state as one that handles them one by
//! one.

use multicast::{
    BlockKey, BlockOutcome, BlockSet, Disposition, Epoch, Flags, Header, ImageBlocks, Instant,
    Lane, PacketKind, PacketNumber, Receiver, ReceiverConfig, ReceiverEvent, SessionId, Stored,
    status_interval,
};
use proptest::prelude::*;

const COUNTS: [u16; 4] = [745, 1, 60, 300];

fn receiver() -> Receiver {
    let mut receiver = Receiver::new(
        ReceiverConfig {
            session: SessionId(1),
            manifest: vec![2],
            image: None,
            buffers: 2,
            status_interval: status_interval(1),
            seed: 3,
        },
        Instant::ZERO,
    );
    receiver.open_image(ImageBlocks {
        symbol_counts: COUNTS.to_vec(),
        have: BlockSet::empty(4),
        undecided: BlockSet::empty(0),
    });
    receiver
}

/// A run: second lane, packets lost before it, block, first symbol, length, slow lane.
type Run = (bool, u64, u32, u16, u16, bool);

fn header(run: Run, counter: u64) -> Option<Header> {
    let (second, _, block, symbol, _, slow) = run;
    let k = *COUNTS.get(block as usize)?;
    let lane = if second { Lane::Second } else { Lane::Main };
    let flags = if slow && second {
        Flags::SLOW_LANE
    } else {
        Flags::NONE
    };
    Some(Header {
        kind: if symbol < k {
            PacketKind::Data
        } else {
            PacketKind::Parity
        },
        flags,
        epoch: Epoch::default(),
        session: SessionId(1),
        number: PacketNumber::new(lane, counter),
        block,
        symbol,
        k,
    })
}

fn finish(receiver: &mut Receiver, now: Instant, write: bool) -> Vec<ReceiverEvent> {
    let mut events = Vec::new();
    while let Some(event) = receiver.poll_event() {
        if let (ReceiverEvent::BlockReady { block, .. }, true) = (&event, write) {
            let outcome = if block.index == 2 {
                BlockOutcome::Failed
            } else {
                BlockOutcome::Ok
            };
            receiver.handle_block_done(now, *block, outcome);
        }
        events.push(event);
    }
    events
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_row_is_its_packets(
        runs in prop::collection::vec(
            (any::<bool>(), 0..70_u64, 0..5_u32, 0..1_010_u16, 0..400_u16, any::<bool>()),
            0..40,
        ),
        write in any::<bool>(),
    ) {
        let (mut rows, mut single) = (receiver(), receiver());
        let mut counters = [0, 0];
        for (at, run) in (1..).zip(runs) {
            let now = Instant::from_micros(at * 40_000);
            let lane = usize::from(run.0);
            counters[lane] += run.1;
            let Some(header) = header(run, counters[lane]) else { continue };
            let (mut one, mut other) = (Vec::new(), Vec::new());
            rows.handle_packets(now, &header, run.4, |Stored { slot, first, symbols }| {
                let begin = symbols.start;
                one.extend(symbols.map(|symbol| (slot, first && symbol == begin, symbol)));
            });
            for step in 0..run.4 {
                let next = Header {
                    number: header.number.later(u64::from(step)),
                    symbol: header.symbol + step,
                    ..header
                };
                if let Disposition::Store { slot, first } = single.handle_packet(now, &next) {
                    other.push((slot, first, next.symbol));
                }
            }
            counters[lane] += u64::from(run.4);
            prop_assert_eq!(one, other);
            prop_assert_eq!(finish(&mut rows, now, write), finish(&mut single, now, write));
            prop_assert_eq!(rows.poll_timeout(), single.poll_timeout());
            prop_assert_eq!(rows.poll_status(now), single.poll_status(now));
            prop_assert_eq!(rows.counters(), single.counters());
            for lane in Lane::ALL {
                prop_assert_eq!(rows.lane(lane), single.lane(lane));
            }
        }
        prop_assert_eq!(
            rows.is_complete(BlockKey::image(0)),
            single.is_complete(BlockKey::image(0))
        );
    }
}
