//! Fuzz target: any datagram on ports 67, 4011 and 68. Never a panic; a parsed packet is written
//! and read back as the same packet; a client gets an answer that can be parsed, under any policy
//! that does not ignore it; the lease table never gives an address outside its range.
#![no_main]

use facts::boot::Verdict;
use libfuzzer_sys::fuzz_target;
use pxe::decide::{Asker, Door, Server, UefiLoader, answer, decide, destination, into_lease};
use pxe::dhcp::{Lease, MessageType, Options, Packet};
use pxe::lease::{Leases, Network, Outcome};
use std::net::{Ipv4Addr, SocketAddrV4};

const US: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

fuzz_target!(|data: &[u8]| {
    let _ = Options::parse(data);
    let Ok(packet) = Packet::parse(data) else {
        return;
    };
    assert_eq!(Packet::parse(&packet.emit()).as_ref(), Ok(&packet));
    let _ = (
        packet.options.vendor(),
        packet.boot_file(),
        packet.server_name(),
    );
    let _ = Lease::read(&packet, packet.mac, packet.xid);
    for leases in [false, true] {
        let server = Server {
            address: US,
            http_port: 5080,
            uefi: UefiLoader::Shim,
            leases,
        };
        for door in [Door::Dhcp, Door::Pxe] {
            let Ok(asker) = Asker::of(&packet, door, US) else {
                continue;
            };
            for verdict in [Verdict::Agent, Verdict::Local, Verdict::Ignore] {
                let decision = decide(&asker, verdict, &server);
                let answer = answer(&packet, &asker, &decision, &server);
                assert_eq!(answer.is_none(), verdict == Verdict::Ignore);
                if let Some(answer) = answer {
                    assert!(Packet::parse(&answer.emit()).is_ok());
                }
                let mut lease = packet.answer(MessageType::Offer, US);
                into_lease(&mut lease, &asker, &decision, &server);
                assert!(Packet::parse(&lease.emit()).is_ok());
            }
            let _ = destination(&packet, SocketAddrV4::new(US, 68), door, 68);
        }
    }
    let range = "10.0.0.10-10.0.0.13".parse().expect("a range");
    let network = Network {
        server: US,
        prefix: 24,
    };
    let mut table = Leases::new(range, network, None);
    for now in [0, 20, 4000] {
        if let Outcome::Answer(answer) = table.handle(&packet, now, |_, _| false) {
            assert!(answer.yiaddr.is_unspecified() || range.contains(answer.yiaddr));
        }
        if let Some(text) = table.take_changed() {
            let _ = Leases::new(range, network, Some(&text));
        }
    }
    let _ = Leases::new(range, network, std::str::from_utf8(data).ok());
});
