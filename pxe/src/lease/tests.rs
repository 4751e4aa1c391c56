use super::*;
use proptest::prelude::*;

const NETWORK: Network = Network {
    server: Ipv4Addr::new(10, 0, 0, 1),
    prefix: 24,
};

fn leases(last: u8) -> Leases {
    let range = format!("10.0.0.10-10.0.0.{last}").parse().unwrap();
    Leases::new(range, NETWORK, None)
}

fn ask(kind: MessageType, card: u8) -> Packet {
    let mut packet = Packet::question(Mac([2, 0, 0, 0, 0, card]), u32::from(card));
    packet.options.set_message_type(kind);
    packet
}

fn nobody(_: Ipv4Addr, _: Mac) -> bool {
    false
}

fn answer(outcome: Outcome) -> Packet {
    match outcome {
        Outcome::Answer(packet) => packet,
        other => panic!("{other:?}"),
    }
}

/// Asks for an address and takes the offer.
fn take(leases: &mut Leases, card: u8, now: u64) -> Option<Ipv4Addr> {
    let Outcome::Answer(offer) = leases.handle(&ask(MessageType::Discover, card), now, nobody)
    else {
        return None;
    };
    let mut request = ask(MessageType::Request, card);
    request
        .options
        .set_address(code::REQUESTED_ADDRESS, offer.yiaddr);
    request.options.set_address(code::SERVER_ID, NETWORK.server);
    let ack = answer(leases.handle(&request, now, nobody));
    assert_eq!(ack.message_type(), Some(MessageType::Ack));
    assert_eq!(ack.yiaddr, offer.yiaddr);
    Some(ack.yiaddr)
}

fn host(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, n)
}

#[test]
fn a_machine_has_one_address_from_rom_to_system() {
    let mut leases = leases(20);
    assert_eq!(take(&mut leases, 1, 0), Some(host(10)));
    assert_eq!(take(&mut leases, 2, 0), Some(host(11)));
    // The ROM sends no identifier, the system sends its card as one: the same machine.
    let mut again = ask(MessageType::Discover, 1);
    again.options.set(code::CLIENT_ID, &[1, 2, 0, 0, 0, 0, 1]);
    let offer = answer(leases.handle(&again, 5, nobody));
    assert_eq!(offer.yiaddr, host(10));
    assert_eq!(
        offer.options.address(code::SUBNET_MASK),
        Some(Ipv4Addr::new(255, 255, 255, 0))
    );
    assert_eq!(offer.options.seconds(code::LEASE_SECONDS), Some(3600));
    assert!(!offer.options.has(code::ROUTERS));
    // Long after the end of its lease the client still gets the address back, as nobody needed it.
    assert_eq!(take(&mut leases, 1, 100_000), Some(host(10)));
}

#[test]
fn a_full_range_says_so_and_what_is_over_is_given_again() {
    let mut leases = leases(11);
    assert_eq!(
        (take(&mut leases, 1, 0), take(&mut leases, 2, 10)),
        (Some(host(10)), Some(host(11)))
    );
    assert_eq!(
        leases.handle(&ask(MessageType::Discover, 3), 100, nobody),
        Outcome::Full
    );
    assert_eq!(
        take(&mut leases, 3, 3605),
        Some(host(10)),
        "the first is over, the second is not"
    );
    // A client whose address was given to another does not get it back by asking for it.
    let mut old = ask(MessageType::Request, 1);
    old.options.set_address(code::REQUESTED_ADDRESS, host(10));
    let nak = answer(leases.handle(&old, 3606, nobody));
    assert_eq!(
        (nak.message_type(), nak.broadcast),
        (Some(MessageType::Nak), true)
    );
    assert_eq!(leases.held(3606), 2);
}

#[test]
fn offers_are_held_for_a_while_only() {
    let mut leases = leases(10);
    assert!(matches!(
        leases.handle(&ask(MessageType::Discover, 1), 0, nobody),
        Outcome::Answer(_)
    ));
    assert_eq!(
        leases.handle(&ask(MessageType::Discover, 2), 29, nobody),
        Outcome::Full
    );
    assert_eq!(take(&mut leases, 2, 30), Some(host(10)));
    // The client took another server's offer: this one is free at once.
    let mut leases = self::leases(10);
    let _ = leases.handle(&ask(MessageType::Discover, 1), 0, nobody);
    let mut elsewhere = ask(MessageType::Request, 1);
    elsewhere.options.set_address(code::SERVER_ID, host(99));
    elsewhere
        .options
        .set_address(code::REQUESTED_ADDRESS, host(77));
    assert_eq!(leases.handle(&elsewhere, 1, nobody), Outcome::Silent);
    assert_eq!(take(&mut leases, 2, 1), Some(host(10)));
}

#[test]
fn a_restart_hands_nothing_out_twice() {
    let mut first = leases(20);
    take(&mut first, 1, 0);
    let kept = first.take_changed().unwrap();
    assert_eq!(first.take_changed(), None);
    let mut second = Leases::new("10.0.0.10-10.0.0.20".parse().unwrap(), NETWORK, Some(&kept));
    assert_eq!(take(&mut second, 2, 1), Some(host(11)));
    let mut renew = ask(MessageType::Request, 1);
    renew.ciaddr = host(10);
    assert_eq!(answer(second.handle(&renew, 2, nobody)).yiaddr, host(10));
    // With another range, or with damaged text, the table keeps the entries that still fit.
    let moved = Leases::new("10.0.0.15-10.0.0.20".parse().unwrap(), NETWORK, Some(&kept));
    assert_eq!(moved.held(1), 0);
    assert_eq!(
        Leases::new(
            "10.0.0.15-10.0.0.20".parse().unwrap(),
            NETWORK,
            Some("{\"x\":")
        )
        .held(0),
        0
    );
}

/// The console of a school ran with its clock at 2099 for an afternoon. Once the clock was right
/// again, its range was full for 73 years.
#[test]
fn a_clock_that_was_wrong_and_is_right_again_locks_no_address() {
    const YEAR_2099: u64 = 4_070_908_800;
    const TODAY: u64 = 1_795_000_000;
    let fill = |leases: &mut Leases| {
        for card in 1..=2 {
            assert!(take(leases, card, YEAR_2099).is_some());
        }
    };
    let range = || "10.0.0.10-10.0.0.11".parse().unwrap();
    let newcomer = |leases: &mut Leases, now| {
        leases.handle(&ask(MessageType::Discover, 3), now, nobody) != Outcome::Full
    };
    // The clock is set right while the service runs, or between two runs.
    let mut running = leases(11);
    fill(&mut running);
    let mut restarted = Leases::new(range(), NETWORK, Some(&running.to_json()));
    for leases in [&mut running, &mut restarted] {
        assert!(!newcomer(leases, TODAY), "leases of this hour are kept");
        assert!(!newcomer(leases, TODAY + LEASE_S - 1));
        assert!(newcomer(leases, TODAY + LEASE_S + 1), "and end with it");
    }
    // Clients that hold a lease renew it and keep it meanwhile.
    let mut renewed = leases(11);
    fill(&mut renewed);
    assert_eq!(take(&mut renewed, 1, TODAY), Some(host(10)));
    assert_eq!(take(&mut renewed, 1, TODAY + LEASE_S - 1), Some(host(10)));
    assert!(newcomer(&mut renewed, TODAY + LEASE_S + 1), "the other's");
    // An address with a conflict is not kept out of use any longer either.
    let mut rested = leases(10);
    let first = rested.handle(&ask(MessageType::Discover, 1), YEAR_2099, |_, _| true);
    assert_eq!(first, Outcome::Full);
    assert!(!newcomer(&mut rested, TODAY));
    assert!(newcomer(&mut rested, TODAY + CONFLICT_S + 1));
}

#[test]
fn somebody_else_on_an_address_is_noticed() {
    let mut leases = leases(12);
    let on = |taken: u8| move |address: Ipv4Addr, _: Mac| address == host(taken);
    let offer = answer(leases.handle(&ask(MessageType::Discover, 1), 0, on(10)));
    assert_eq!(offer.yiaddr, host(11));
    // Found between offer and request: the request is refused, and the next offer is another
    // address.
    let mut request = ask(MessageType::Request, 1);
    request
        .options
        .set_address(code::REQUESTED_ADDRESS, host(11));
    request.options.set_address(code::SERVER_ID, NETWORK.server);
    assert_eq!(
        answer(leases.handle(&request, 1, on(11))).message_type(),
        Some(MessageType::Nak)
    );
    assert_eq!(take(&mut leases, 1, 2), Some(host(12)));
    // Found by the client itself.
    let mut decline = ask(MessageType::Decline, 1);
    decline
        .options
        .set_address(code::REQUESTED_ADDRESS, host(12));
    decline.options.set_address(code::SERVER_ID, NETWORK.server);
    assert_eq!(leases.handle(&decline, 3, nobody), Outcome::Silent);
    assert_eq!(
        leases.handle(&ask(MessageType::Discover, 1), 4, nobody),
        Outcome::Full
    );
    // Addresses with a conflict are not given out for ten minutes.
    assert_eq!(take(&mut leases, 1, 700), Some(host(10)));
    // A stranger cannot decline or release an address of another client.
    decline.mac = Mac([2, 0, 0, 0, 0, 9]);
    decline
        .options
        .set_address(code::REQUESTED_ADDRESS, host(10));
    let _ = leases.handle(&decline, 701, nobody);
    let mut release = ask(MessageType::Release, 9);
    release.ciaddr = host(10);
    let _ = leases.handle(&release, 702, nobody);
    assert_eq!(leases.held(703), 1);
    release.mac = Mac([2, 0, 0, 0, 0, 1]);
    let _ = leases.handle(&release, 704, nobody);
    assert_eq!(leases.held(705), 0);
}

#[test]
fn ranges_are_read_and_kept_to_the_network() {
    for text in [
        "",
        "10.0.0.1",
        "10.0.0.9-10.0.0.1",
        "10.0.0.0-10.0.99.0",
        "a-b",
    ] {
        assert!(text.parse::<Range>().is_err(), "{text}");
    }
    let range: Range = "10.0.0.0-10.0.1.3".parse().unwrap();
    assert_eq!(range.to_string(), "10.0.0.0-10.0.1.3");
    let mut leases = Leases::new(range, NETWORK, None);
    assert_eq!(
        take(&mut leases, 1, 0),
        Some(host(2)),
        "neither the network's own address nor the server's"
    );
    let mut outside = ask(MessageType::Request, 3);
    outside
        .options
        .set_address(code::REQUESTED_ADDRESS, Ipv4Addr::new(10, 0, 1, 1));
    assert_eq!(
        answer(leases.handle(&outside, 0, nobody)).message_type(),
        Some(MessageType::Nak)
    );
}

proptest! {
    /// No address has two clients with valid leases, in whatever order clients act, and the table
    /// stays within the range.
    #[test]
    fn an_address_has_one_client(steps in proptest::collection::vec((0..6_u8, 0..6_u8, 8..18_u8, 0..2000_u64), 0..80)) {
        let mut leases = leases(14);
        let mut now = 0;
        let mut granted: BTreeMap<Ipv4Addr, (Mac, u64)> = BTreeMap::new();
        for (kind, card, address, wait) in steps {
            now += wait;
            let kind = match kind {
                0 | 1 => MessageType::Discover,
                2 | 3 => MessageType::Request,
                4 => MessageType::Release,
                _ => MessageType::Decline,
            };
            let mut packet = ask(kind, card);
            packet.options.set_address(code::REQUESTED_ADDRESS, host(address));
            if card % 2 == 0 {
                packet.options.set_address(code::SERVER_ID, NETWORK.server);
            }
            if kind == MessageType::Release {
                packet.ciaddr = host(address);
                granted.retain(|a, (mac, _)| *a != host(address) || *mac != packet.mac);
            }
            if kind == MessageType::Decline {
                granted.retain(|a, (mac, _)| *a != host(address) || *mac != packet.mac);
            }
            if let Outcome::Answer(answer) = leases.handle(&packet, now, nobody)
                && answer.message_type() == Some(MessageType::Ack)
            {
                granted.retain(|_, (mac, _)| *mac != packet.mac);
                if let Some((other, until)) = granted.insert(answer.yiaddr, (packet.mac, now + LEASE_S)) {
                    prop_assert!(other == packet.mac || until <= now, "{} has two clients", answer.yiaddr);
                }
            }
            prop_assert!(leases.table.len() <= 5);
        }
    }
}
