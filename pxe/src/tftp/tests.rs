use super::packet::{self, MAX_BLOCK, MAX_WINDOW};
use super::transfers::{MAX_PER_ADDRESS, MAX_TRANSFERS};
use super::*;
use bytes::Bytes;
use proptest::prelude::*;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

const START: Duration = Duration::ZERO;

fn rrq(words: &[&str]) -> Vec<u8> {
    let mut packet = vec![0, 1];
    for word in words {
        packet.extend(word.as_bytes());
        packet.push(0);
    }
    packet
}

fn request(words: &[&str]) -> Request {
    match Packet::parse(&rrq(words)) {
        Ok(Packet::Read(request)) => request,
        other => panic!("{other:?}"),
    }
}

fn file(len: usize) -> Bytes {
    (0..len)
        .map(|at| u8::try_from(at % 251).unwrap_or(0))
        .collect()
}

fn client(address: u8, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, address), port)
}

#[test]
fn requests_are_read_and_their_options_brought_within_limits() {
    // The request that OVMF sends.
    let read = request(&[
        "shimx64.efi",
        "octet",
        "tsize",
        "0",
        "blksize",
        "1468",
        "windowsize",
        "4",
    ]);
    assert_eq!(
        (read.name.as_str(), read.block_size, read.window, read.size),
        ("shimx64.efi", Some(1468), Some(4), true)
    );
    assert_eq!(
        read.accepted(1_052_960).unwrap(),
        b"\0\x06blksize\x001468\0windowsize\x004\0tsize\x001052960\0"
    );
    let read = request(&[
        "f",
        "OCTET",
        "BLKSIZE",
        "65464",
        "windowsize",
        "65535",
        "timeout",
        "255",
        "multicast",
        "x",
        "tsize",
        "z",
    ]);
    assert_eq!(
        (read.block_size, read.window, read.timeout_s, read.size),
        (Some(MAX_BLOCK), Some(MAX_WINDOW), Some(255), false)
    );
    let read = request(&[
        "f",
        "octet",
        "blksize",
        "7",
        "windowsize",
        "0",
        "timeout",
        "0",
    ]);
    assert_eq!(
        read.accepted(1),
        None,
        "values nobody can mean are declined"
    );
    assert_eq!(
        request(&["f", "octet", "blksize"]).block_size,
        None,
        "cut after a name"
    );
}

#[test]
fn what_is_no_request_is_told_apart() {
    let parse = |bytes: &[u8]| Packet::parse(bytes).unwrap_err();
    for bytes in [
        &b""[..],
        b"\0",
        b"\0\x01",
        b"\0\x01\0octet\0",
        b"\0\x01name",
        b"\0\x03\0\x01x",
        b"\0\x04\0",
        b"\x01\x01",
    ] {
        assert_eq!(parse(bytes), TftpError::Malformed, "{bytes:?}");
    }
    assert_eq!(parse(b"\0\x02f\0octet\0"), TftpError::Write);
    assert_eq!(
        parse(&rrq(&["f", "netascii"])),
        TftpError::Mode("netascii".to_owned())
    );
    assert!(matches!(
        parse(&rrq(&[&"x".repeat(2000), "octet"])),
        TftpError::Long(_)
    ));
    assert_eq!(
        packet::error(ErrorCode::NotFound, "no"),
        b"\0\x05\0\x01no\0"
    );
}

/// A client in the sense of RFC 7440: takes blocks in order, answers each window, and loses the
/// packets that `lose` selects.
fn fetch(words: &[&str], content: &Bytes, mut lose: impl FnMut(u64) -> bool) -> (Vec<u8>, u64) {
    let read = request(words);
    let window = u64::from(read.window.unwrap_or(1));
    let block_size = usize::from(read.block_size.unwrap_or(512));
    let mut transfer = Transfer::begin(content.clone(), &read, START);
    let (mut now, mut sent, mut out) = (START, 0, Vec::new());
    let mut complained = false;
    let (mut got, mut next, mut in_window, mut started) =
        (Vec::new(), 1_u64, 0, read.accepted(0).is_none());
    loop {
        let mut answers = Vec::new();
        while transfer.poll_transmit(&mut out) {
            sent += 1;
            if lose(sent) {
                continue;
            }
            if out[1] == 6 {
                started = true;
                answers.push(0);
                continue;
            }
            assert!(started && out.len() <= 4 + block_size);
            let number = u16::from_be_bytes([out[2], out[3]]);
            let [.., high, low] = (next - 1).to_be_bytes();
            let last = u16::from_be_bytes([high, low]);
            if number != last.wrapping_add(1) {
                // A gap, or a block it has already: it sends one acknowledgement of what it has
                // (RFC 7440 section 4).
                if !std::mem::replace(&mut complained, true) {
                    answers.push(last);
                }
                continue;
            }
            complained = false;
            next += 1;
            got.extend(&out[4..]);
            in_window += 1;
            if in_window == window || out.len() < 4 + block_size {
                in_window = 0;
                answers.push(number);
            }
        }
        if transfer.is_done() {
            return (got, sent);
        }
        if answers.is_empty() {
            now = transfer.deadline();
            transfer.handle_timeout(now).expect("the client lives");
            // The client notices the gap at its own timeout, and acknowledges what it has.
            in_window = 0;
            complained = false;
            continue;
        }
        for block in answers {
            // Every acknowledgement arrives twice: no block may be sent twice for that.
            transfer.handle_ack(block, now);
            transfer.handle_ack(block, now);
        }
        if transfer.is_done() {
            return (got, sent);
        }
    }
}

#[test]
fn files_of_every_length_arrive() {
    for len in [0, 1, 511, 512, 513, 1024, 5000] {
        let content = file(len);
        for words in [
            &["f", "octet"][..],
            &["f", "octet", "tsize", "0"],
            &["f", "octet", "blksize", "1024", "windowsize", "3"],
        ] {
            let (got, _) = fetch(words, &content, |_| false);
            assert_eq!(got, content, "{len} {words:?}");
        }
    }
}

/// 65,535 blocks are not enough for an initramfs in blocks of 512 bytes: after them the count goes
/// on at 0.
#[test]
fn block_numbers_go_round() {
    let content = file(8 * 140_000 + 3);
    let (got, sent) = fetch(&["f", "octet", "blksize", "8"], &content, |_| false);
    assert_eq!(got, content);
    assert_eq!(
        sent, 140_002,
        "one options packet and each block once: no answer is taken for an older one"
    );
    let (got, _) = fetch(
        &["f", "octet", "blksize", "8", "windowsize", "7"],
        &content,
        |n| n % 1009 == 0,
    );
    assert_eq!(got, content);
}

#[test]
fn a_silent_client_is_given_up_and_a_slow_one_is_not() {
    let mut transfer = Transfer::begin(file(600), &request(&["f", "octet"]), START);
    let mut out = Vec::new();
    let mut sent = 0;
    let failure = loop {
        while transfer.poll_transmit(&mut out) {
            sent += 1;
        }
        let now = transfer.deadline();
        assert!(
            transfer
                .handle_timeout(now.saturating_sub(Duration::from_millis(1)))
                .is_ok()
        );
        assert!(!transfer.poll_transmit(&mut out), "not before its time");
        if let Err(failure) = transfer.handle_timeout(now) {
            break failure;
        }
    };
    assert_eq!((sent, failure), (6, Failure::Silent { done: 0, all: 600 }));
    assert!(transfer.deadline() <= Duration::from_secs(6));
    // The longest timeout a client can request does not hold a place for longer than half a minute.
    let slow = Transfer::begin(file(1), &request(&["f", "octet", "timeout", "255"]), START);
    assert!(slow.deadline() <= Duration::from_secs(5));
}

#[test]
fn answers_from_elsewhere_change_nothing() {
    let mut transfer = Transfer::begin(file(2000), &request(&["f", "octet"]), START);
    let mut out = Vec::new();
    assert!(transfer.poll_transmit(&mut out));
    for block in [0, 2, 7, 65535] {
        transfer.handle_ack(block, START);
        assert!(!transfer.poll_transmit(&mut out), "{block}");
    }
    transfer.handle_ack(1, START);
    assert!(transfer.poll_transmit(&mut out));
    assert_eq!(out[3], 2);
}

#[test]
fn floods_push_out_their_own_kind() {
    let mut all = Transfers::default();
    let content = file(5000);
    let plain = request(&["f", "octet"]);
    let proven = client(1, 1000);
    assert!(all.begin(proven, "f", content.clone(), &plain, START));
    let mut out = Vec::new();
    assert!(all.poll_transmit(proven, &mut out));
    assert_eq!(all.handle(proven, &Packet::Ack(1), START), None);
    // One address with too many transfers: its oldest goes.
    for port in 0..100 {
        assert!(all.begin(
            client(2, port),
            "f",
            content.clone(),
            &plain,
            START + Duration::from_millis(u64::from(port))
        ));
    }
    assert_eq!(all.of(*client(2, 0).ip()), MAX_PER_ADDRESS);
    // Many addresses: transfers whose client never answered go, the one that was answered stays.
    for n in 0..5000_u32 {
        let from = SocketAddrV4::new(Ipv4Addr::from(0x0b00_0000 + n), 7);
        assert!(all.begin(
            from,
            "f",
            content.clone(),
            &plain,
            Duration::from_millis(u64::from(200 + n))
        ));
    }
    assert_eq!(all.len(), MAX_TRANSFERS);
    assert!(all.poll_transmit(proven, &mut out));
    assert_eq!(out[3], 2);
    // They are gone after their timeouts.
    let mut now = Duration::from_secs(10);
    for _ in 0..8 {
        let (again, _) = all.handle_timeouts(now);
        for client in again {
            while all.poll_transmit(client, &mut out) {}
        }
        now += Duration::from_secs(6);
    }
    assert!(all.is_empty());
}

#[test]
fn a_client_that_asks_again_begins_anew_and_one_that_gives_up_is_heard() {
    let mut all = Transfers::default();
    let plain = request(&["f", "octet"]);
    for _ in 0..3 {
        assert!(all.begin(client(1, 9), "a", file(5000), &plain, START));
    }
    assert_eq!(all.len(), 1);
    let gone = all
        .handle(
            client(1, 9),
            &Packet::parse(b"\0\x05\0\0too big\x1b[0m\0").unwrap(),
            START,
        )
        .unwrap();
    assert_eq!(
        (gone.name.as_str(), gone.result),
        ("a", Err(Failure::GaveUp("too big [0m (code 0)".to_owned())))
    );
    assert_eq!(all.handle(client(1, 9), &Packet::Ack(1), START), None);
}

proptest! {
    #[test]
    fn any_bytes(bytes: Vec<u8>, words: Vec<u8>) {
        let _ = Packet::parse(&bytes);
        let mut read = vec![0, 1];
        read.extend(words);
        if let Ok(Packet::Read(request)) = Packet::parse(&read) {
            let _ = request.accepted(1);
        }
    }

    /// The file arrives whole whatever is lost, and acknowledgements make the server send at most
    /// twice what was lost.
    #[test]
    fn loss_is_made_good(len in 0..20_000_usize, window in 1..9_u16, size in 8..1400_u16, one_in in 6..60_u64, seed: u64) {
        let content = file(len);
        let (size, window) = (size.to_string(), window.to_string());
        let words = ["f", "octet", "blksize", &size, "windowsize", &window];
        let (got, _) = fetch(&words, &content, |n| {
            // Drawn at random, not counted: a loss in step with the window could hit the same block
            // for ever.
            let mixed = (n ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32 & 0xffff < 0x1_0000 / one_in
        });
        prop_assert_eq!(got, content);
    }

    /// Acknowledgements in any order never make it send more than a window for each.
    #[test]
    fn hostile_answers(blocks: Vec<u16>, window in 1..9_u16) {
        let window_text = window.to_string();
        let mut transfer = Transfer::begin(file(100_000), &request(&["f", "octet", "windowsize", &window_text]), START);
        let mut out = Vec::new();
        let mut sent = 0;
        for block in std::iter::once(0).chain(blocks.iter().copied()) {
            transfer.handle_ack(block, START);
            while transfer.poll_transmit(&mut out) {
                sent += 1;
            }
        }
        prop_assert!(sent <= (blocks.len() + 2) * usize::from(window));
    }
}
