//! Fuzz target: any datagram of a TFTP client, and any course of a transfer. Never a panic, no
//! packet longer than a frame holds, and at most one window of packets for each answer.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use pxe::tftp::{Packet, Transfers};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

fuzz_target!(|data: &[u8]| {
    let _ = Packet::parse(data);
    // A length, a request of that length, then four bytes a step: the client, its action, a block
    // number.
    let Some((length, rest)) = data.split_first() else {
        return;
    };
    let (words, steps) = rest.split_at(rest.len().min(usize::from(*length)));
    let mut request = vec![0, 1];
    request.extend(words);
    let Ok(Packet::Read(request)) = Packet::parse(&request) else {
        return;
    };
    let file = Bytes::from(vec![7; usize::from(*length) * 300]);
    let window = usize::from(request.window.unwrap_or(1));
    let mut transfers = Transfers::default();
    let mut now = Duration::ZERO;
    let mut out = Vec::new();
    for step in steps.chunks_exact(4) {
        let client =
            SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, step[0] % 3), u16::from(step[0] / 3));
        let mut due = vec![client];
        match step[1] % 4 {
            0 => {
                transfers.begin(client, "f", file.clone(), &request, now);
            }
            1 => {
                now += Duration::from_millis(u64::from(step[2]) * 20);
                due = transfers.handle_timeouts(now).0;
            }
            2 => {
                let _ = transfers.handle(
                    client,
                    &Packet::Ack(u16::from_be_bytes([step[2], step[3]])),
                    now,
                );
            }
            _ => {
                let _ = transfers.handle(client, &Packet::Ack(u16::from(step[3])), now);
            }
        }
        for client in due {
            let mut sent = 0;
            while transfers.poll_transmit(client, &mut out) {
                assert!(out.len() <= 1472);
                sent += 1;
            }
            assert!(sent <= window.max(1), "{sent} packets at once");
        }
    }
});
