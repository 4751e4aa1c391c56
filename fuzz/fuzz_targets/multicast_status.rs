//! Fuzz target: any status from an agent. It is read or refused, and for any claim in it the sender
//! neither panics nor sends without limit.
#![no_main]

use libfuzzer_sys::fuzz_target;
use multicast::{
    Duration, Instant, Layout, ReceiverId, Sender, SenderConfig, SessionId, Status, pack,
};

fuzz_target!(|data: &[u8]| {
    let image = pack([100_000, 1, 1_500_000]);
    let config = SenderConfig::new(SessionId(1), &Layout::single(5_000), &image, 1_000_000_000);
    let mut now = Instant::ZERO;
    let mut sender = Sender::new(config, now);
    sender.add_receiver(now, ReceiverId(0));
    sender.add_receiver(now, ReceiverId(1));
    let (mut sent, mut statuses) = (0_u64, 0_u64);
    for line in data.split(|byte| *byte == b'\n') {
        let (id, json) = match line {
            [b'1', json @ ..] => (ReceiverId(1), json),
            json => (ReceiverId(0), json),
        };
        if let Ok(status) = serde_json::from_slice::<Status>(json) {
            sender.handle_status(now, id, &status);
            statuses += 1;
        }
        for _ in 0..20 {
            while sender.poll_transmit(now).is_some() {
                sent += 1;
            }
            while sender.poll_event().is_some() {}
            now = sender
                .poll_timeout()
                .unwrap_or(now)
                .max(now + Duration::from_micros(100));
        }
    }
    // A status can at most request everything again, with all the parity there is, and an
    // occasional heartbeat.
    let everything: u64 = 5 * (745 + 256) + 100;
    assert!(
        sent <= (statuses + 1) * everything + 40,
        "{sent} packets for {statuses} statuses"
    );
});
