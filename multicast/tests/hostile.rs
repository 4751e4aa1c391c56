//! Hostile input: neither machine panics on any status or packet header, and the sender does not
//! send without bound.

use multicast::status::{BlockRange, Deficit, LaneStatus};
use multicast::{
    Duration, Header, Instant, Layout, Receiver, ReceiverConfig, ReceiverEvent, ReceiverId, Sender,
    SenderConfig, SenderEvent, SessionId, Status, pack, status_interval,
};
use proptest::prelude::*;

fn lane() -> impl Strategy<Value = LaneStatus> {
    (
        prop_oneof![
            Just(None),
            (0..3_000_u64).prop_map(Some),
            any::<u64>().prop_map(Some)
        ],
        any::<u64>(),
        any::<u64>(),
    )
        .prop_map(|(seen, received, lost)| LaneStatus {
            seen,
            received,
            lost,
        })
}

fn ranges() -> impl Strategy<Value = Vec<BlockRange>> {
    prop::collection::vec(
        (
            0..3_u8,
            prop_oneof![0..6_u32, any::<u32>()],
            prop_oneof![0..6_u32, any::<u32>()],
        )
            .prop_map(|(object, start, len)| BlockRange(object, start, len)),
        0..6,
    )
}

prop_compose! {
    fn status()(
        sequence in 0..20_u64,
        full in any::<bool>(),
        image_open in any::<bool>(),
        main in lane(),
        second in lane(),
        free_buffers in prop_oneof![Just(0), any::<u32>()],
        deficits in prop::collection::vec(
            (0..3_u8, prop_oneof![0..6_u32, any::<u32>()], any::<u16>())
                .prop_map(|(object, block, missing)| Deficit(object, block, missing)),
            0..600,
        ),
        held in ranges(),
        undecided in ranges(),
        completed in ranges(),
        bad in ranges(),
        counts in any::<[u64; 3]>(),
    ) -> Status {
        Status {
            sequence, full, image_open, main, second,
            kernel_drops: counts[0],
            free_buffers,
            disk_bytes_per_s: counts[1],
            deficits, held, undecided, completed, bad,
            skipped: counts[2],
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn claims_are_bounded(said in prop::collection::vec((0..3_u32, status()), 0..40)) {
        let image = pack([100_000, 1, 1_500_000]);
        let manifest = Layout::single(5_000);
        let config = SenderConfig::new(SessionId(1), &manifest, &image, 1_000_000_000);
        let mut now = Instant::ZERO;
        let mut sender = Sender::new(config, now);
        sender.add_receiver(now, ReceiverId(0));
        sender.add_receiver(now, ReceiverId(1));
        let (mut sent, mut given_to_bulk) = (0_u64, 0_u64);
        let statuses = said.len() as u64;
        for (id, status) in said {
            sender.handle_status(now, ReceiverId(id), &status);
            for _ in 0..20 {
                while sender.poll_transmit(now).is_some() {
                    sent += 1;
                }
                while let Some(event) = sender.poll_event() {
                    if let SenderEvent::UseBulk { blocks, .. } = event {
                        given_to_bulk += blocks.len() as u64;
                    }
                }
                now = sender
                    .poll_timeout()
                    .unwrap_or(now)
                    .max(now + Duration::from_micros(100));
            }
        }
        // One status can at most cause everything to be sent again, with all the parity there is.
        let everything = 4 * (745 + 256) + 100;
        prop_assert!(sent <= (statuses + 1) * everything + 40);
        prop_assert!(given_to_bulk <= (statuses + 1) * 3 * 64);
    }

    #[test]
    fn headers_are_only_claims(
        headers in prop::collection::vec((any::<[u8; 21]>(), 0..9_u8), 0..400)
    ) {
        let mut receiver = Receiver::new(
            ReceiverConfig {
                session: SessionId(1),
                manifest: vec![3, 745],
                image: None,
                buffers: 2,
                status_interval: status_interval(1),
                seed: 0,
            },
            Instant::ZERO,
        );
        for (at, (tail, kind)) in (0..).zip(headers) {
            let mut bytes = [0; 24];
            bytes[..2].copy_from_slice(&[0xdc, 0xa5]);
            bytes[2] = 0x10 | (kind % 8);
            bytes[3..].copy_from_slice(&tail);
            if kind == 8 {
                bytes[2] = 0x14;
                bytes[16..].copy_from_slice(&[0, 0, 0, 0, 0, tail[0] % 4, 0, 3]);
            }
            let Ok(header) = Header::parse(&bytes) else { continue };
            let header = Header { session: SessionId(1), ..header };
            let now = Instant::from_micros(at * 900);
            let _ = receiver.handle_packet(now, &header);
            while let Some(event) = receiver.poll_event() {
                if let ReceiverEvent::BlockReady { block, .. } = event {
                    prop_assert_eq!(block.index, 0);
                }
            }
            let _ = receiver.poll_status(now);
        }
    }
}
