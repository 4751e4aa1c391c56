//! Fuzz target: any bytes from the multicast group, as header, beacon and sealed packet, with
//! replay window and receiver.
#![no_main]

use libfuzzer_sys::fuzz_target;
use multicast::{
    Assembly, Beacon, Disposition, Epoch, Header, Instant, Opener, PACKET_BYTES, Receiver,
    ReceiverConfig, ReplayWindow, SYMBOL_BYTES, SessionId, SessionSecret, Suite, status_interval,
};

const SESSION: SessionId = SessionId(0x0102_0304);

fuzz_target!(|data: &[u8]| {
    let _ = Beacon::parse(data);
    let secret = SessionSecret::from_bytes([1; 32]);
    if let Ok(opener) = Opener::new(&secret, Suite::Aes128Gcm, SESSION, Epoch::default()) {
        let mut packet = data.to_vec();
        packet.resize(packet.len().min(2 * PACKET_BYTES), 0);
        assert!(opener.open(&mut packet).is_err(), "a packet was forged");
    }

    // Headers past the seal, one after another, as a peer with the session's keys could send them.
    let mut receiver = Receiver::new(
        ReceiverConfig {
            session: SESSION,
            manifest: vec![3, 745],
            image: None,
            buffers: 2,
            status_interval: status_interval(1),
            seed: 0,
        },
        Instant::ZERO,
    );
    let mut assembly = Assembly::new(2);
    let mut replay = ReplayWindow::new();
    for (at, bytes) in (0..).zip(data.chunks(24)) {
        let now = Instant::from_micros(at * 1_000);
        let Ok(header) = Header::parse(bytes) else {
            continue;
        };
        assert_eq!(header.emit(), bytes);
        let header = Header {
            session: SESSION,
            ..header
        };
        if replay.take(header.number).is_err() {
            continue;
        }
        if let Disposition::Store { slot, first } = receiver.handle_packet(now, &header) {
            if first {
                assembly.begin(slot, header.k).expect("a slot that exists");
            }
            let stored = assembly.store(slot, header.symbol, &[0; SYMBOL_BYTES]);
            assert!(stored.expect("a symbol of the block"));
        }
        while receiver.poll_event().is_some() {}
        let _ = receiver.poll_status(now);
    }
});
