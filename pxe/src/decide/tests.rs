use super::*;
use facts::Mac;

const MAC: Mac = Mac([0x52, 0x54, 0, 1, 2, 3]);
const US: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const UUID: &[u8] = b"\x00\x33\x22\x11\x00\x55\x44\x77\x66\x88\x99\xaa\xbb\xcc\xdd\xee\xff";

fn server() -> Server {
    Server {
        address: US,
        http_port: 5080,
        uefi: UefiLoader::Shim,
        leases: false,
    }
}

/// A question in the form firmware sends it. `class` is the beginning of option 60.
fn question(kind: MessageType, class: &str, arch: u16) -> Packet {
    let mut packet = Packet::question(MAC, 0xdead_beef);
    packet.broadcast = true;
    packet.options.set_message_type(kind);
    packet.options.set(
        code::CLASS,
        format!("{class}:Arch:{arch:05}:UNDI:003016").as_bytes(),
    );
    packet.options.set(code::ARCH, &arch.to_be_bytes());
    packet.options.set(code::MACHINE_UUID, UUID);
    packet
}

fn decided(packet: &Packet, door: Door, verdict: Verdict, server: &Server) -> Decision {
    decide(&Asker::of(packet, door, US).unwrap(), verdict, server)
}

fn answered(packet: &Packet, door: Door) -> Packet {
    let server = server();
    let asker = Asker::of(packet, door, US).unwrap();
    let decision = decide(&asker, Verdict::Agent, &server);
    let answer = answer(packet, &asker, &decision, &server).unwrap();
    Packet::parse(&answer.emit()).unwrap()
}

fn file(name: &'static str) -> Decision {
    Decision::File { name, local: false }
}

/// The table of machines and answers.
#[test]
fn each_kind_of_machine_gets_what_it_can_run() {
    use MessageType::{Discover, Request};
    let again = Decision::ComeAgain { local: false };
    let http = Decision::Url {
        url: "http://10.0.0.2:5080/snponly.efi".to_owned(),
        local: false,
    };
    for (kind, class, arch, door, expected) in [
        (Discover, "PXEClient", 0, Door::Dhcp, file("undionly.kpxe")),
        // Fujitsu Lifebook and others: BIOS on 4011.
        (Request, "PXEClient", 0, Door::Pxe, file("undionly.kpxe")),
        (Discover, "PXEClient", 7, Door::Dhcp, again.clone()),
        (Request, "PXEClient", 7, Door::Pxe, file("shimx64.efi")),
        (Discover, "PXEClient", 9, Door::Dhcp, again),
        (Request, "PXEClient", 9, Door::Pxe, file("shimx64.efi")),
        (Discover, "HTTPClient", 16, Door::Dhcp, http.clone()),
        (Discover, "HTTPClient", 7, Door::Dhcp, http),
    ] {
        let packet = question(kind, class, arch);
        let given = decided(&packet, door, Verdict::Agent, &server());
        assert_eq!(given, expected, "{class} {arch} {door:?}");
        assert_eq!(
            decided(&packet, door, Verdict::Ignore, &server()),
            Decision::Ignore
        );
    }
    let ipxe = Server {
        uefi: UefiLoader::Ipxe,
        ..server()
    };
    let packet = question(Request, "PXEClient", 7);
    assert_eq!(
        decided(&packet, Door::Pxe, Verdict::Agent, &ipxe),
        file("snponly.efi")
    );
}

#[test]
fn a_lease_of_ours_names_the_file_at_once() {
    let server = Server {
        leases: true,
        ..server()
    };
    let packet = question(MessageType::Discover, "PXEClient", 7);
    let asker = Asker::of(&packet, Door::Dhcp, US).unwrap();
    let decision = decide(&asker, Verdict::Agent, &server);
    assert_eq!(decision, file("shimx64.efi"));
    let mut lease = packet.answer(MessageType::Offer, US);
    into_lease(&mut lease, &asker, &decision, &server);
    assert_eq!(
        (lease.siaddr, lease.boot_file().as_deref()),
        (US, Some("shimx64.efi"))
    );
    assert!(!lease.options.has(code::VENDOR) && !lease.options.has(code::CLASS));
}

/// iPXE gets a script whatever the verdict and the port: a loader would bring it back here for
/// ever.
#[test]
fn ipxe_never_gets_a_loader() {
    for arch in [0, 7, 9, 16] {
        for (kind, door) in [
            (MessageType::Discover, Door::Dhcp),
            (MessageType::Request, Door::Pxe),
        ] {
            for (code, value) in [(code::USER_CLASS, &b"iPXE"[..]), (code::IPXE, &[1, 1, 1])] {
                for (verdict, sent_away) in [(Verdict::Agent, false), (Verdict::Local, true)] {
                    let mut packet = question(kind, "PXEClient", arch);
                    packet.options.set(code, value);
                    let Decision::Url { url, local } = decided(&packet, door, verdict, &server())
                    else {
                        panic!("{arch} {door:?} {verdict:?}");
                    };
                    assert!(
                        url.starts_with(
                            "http://10.0.0.2:5080/boot.ipxe?mac=52-54-00-01-02-03&uuid=0011"
                        ),
                        "{url}"
                    );
                    assert_eq!(local, sent_away);
                    // Otherwise iPXE takes the offer for one without a file.
                    assert_eq!(answered(&packet, door).siaddr, US);
                }
            }
        }
    }
}

#[test]
fn the_longest_url_fits_the_fixed_field() {
    let machine = Machine {
        mac: MAC,
        uuid: "00112233-4455-6677-8899-aabbccddeeff".parse().ok(),
    };
    let url = script_url("http://255.255.255.255:65535", &machine, Firmware::Bios);
    assert!(url.len() <= crate::dhcp::FILE_BYTES, "{}", url.len());
}

#[test]
fn questions_of_others_are_left_alone() {
    let not_ours =
        |packet: &Packet, door| assert_eq!(Asker::of(packet, door, US), Err(NoAsker::NotOurs));
    let mut plain = question(MessageType::Discover, "MSFT 5.0", 0);
    not_ours(&plain, Door::Dhcp);
    plain.options.remove(code::CLASS);
    not_ours(&plain, Door::Dhcp);
    let mut no_arch = question(MessageType::Discover, "PXEClient", 0);
    no_arch.options.set(code::ARCH, &[0]);
    not_ours(&no_arch, Door::Dhcp);
    let mut reply = question(MessageType::Discover, "PXEClient", 0);
    reply.op = Op::Reply;
    not_ours(&reply, Door::Dhcp);
    for kind in [
        MessageType::Request,
        MessageType::Release,
        MessageType::Inform,
        MessageType::Offer,
    ] {
        not_ours(&question(kind, "PXEClient", 0), Door::Dhcp);
    }
    // A lease from another server is no boot question; one from this server is, for some ROMs.
    let mut request = question(MessageType::Request, "PXEClient", 0);
    request
        .options
        .set_address(code::SERVER_ID, Ipv4Addr::new(10, 0, 0, 1));
    not_ours(&request, Door::Dhcp);
    request.options.set_address(code::SERVER_ID, US);
    assert_eq!(
        answered(&request, Door::Dhcp).message_type(),
        Some(MessageType::Ack)
    );
}

#[test]
fn who_cannot_be_served_is_told_why() {
    for (arch, words) in [(6, "32-bit"), (11, "not x86"), (4242, "4242")] {
        let packet = question(MessageType::Discover, "PXEClient", arch);
        let Err(NoAsker::Unusable { reason, machine }) = Asker::of(&packet, Door::Dhcp, US) else {
            panic!("{arch}");
        };
        assert!(reason.contains(words), "{reason}");
        assert_eq!(machine.mac, MAC);
    }
    let mut group = question(MessageType::Discover, "PXEClient", 0);
    group.mac = Mac([0xff; 6]);
    assert!(matches!(
        Asker::of(&group, Door::Dhcp, US),
        Err(NoAsker::Unusable { .. })
    ));
}

/// Golden answers, byte for byte from the options on.
#[test]
fn the_offer_to_a_bios() {
    let answer = answered(&question(MessageType::Discover, "PXEClient", 0), Door::Dhcp);
    assert_eq!((answer.yiaddr, answer.siaddr), (Ipv4Addr::UNSPECIFIED, US));
    assert_eq!(
        (
            answer.boot_file().as_deref(),
            answer.server_name().as_deref()
        ),
        (Some("undionly.kpxe"), Some("10.0.0.2"))
    );
    assert!(answer.broadcast && answer.xid == 0xdead_beef && answer.mac == MAC);
    let mut options =
        b"\x35\x01\x02\x36\x04\x0a\x00\x00\x02\x2b\x04\x06\x01\x08\xff\x3c\x09PXEClient\x61\x11"
            .to_vec();
    options.extend(UUID);
    options.push(255);
    options.resize(60, 0);
    let bytes = answer.emit();
    assert_eq!(bytes[..4], [2, 1, 6, 0]);
    assert_eq!(bytes[240..], options);
    assert_eq!(bytes[108..122], *b"undionly.kpxe\0");
}

#[test]
fn the_offer_and_the_file_for_uefi() {
    let offer = answered(&question(MessageType::Discover, "PXEClient", 7), Door::Dhcp);
    assert_eq!(
        (offer.message_type(), offer.boot_file(), offer.siaddr),
        (Some(MessageType::Offer), None, US)
    );
    assert!(
        !offer.options.has(code::VENDOR),
        "firmware that sees option 43 does not come to 4011"
    );
    let mut request = question(MessageType::Request, "PXEClient", 7);
    request.ciaddr = Ipv4Addr::new(10, 0, 0, 77);
    let ack = answered(&request, Door::Pxe);
    assert_eq!(
        (ack.message_type(), ack.boot_file().as_deref()),
        (Some(MessageType::Ack), Some("shimx64.efi"))
    );
    assert_eq!(
        (ack.ciaddr, ack.options.has(code::VENDOR)),
        (request.ciaddr, false)
    );
    assert_eq!(ack.options.get(code::MACHINE_UUID), Some(UUID));
}

#[test]
fn the_offer_to_http_boot_and_to_a_rom_without_a_uuid() {
    let offer = answered(
        &question(MessageType::Discover, "HTTPClient", 16),
        Door::Dhcp,
    );
    assert_eq!(
        offer.options.text(code::CLASS).as_deref(),
        Some("HTTPClient")
    );
    assert_eq!(
        offer.boot_file().as_deref(),
        Some("http://10.0.0.2:5080/snponly.efi")
    );
    for odd in [None, Some(&[0; 16][..]), Some(&[7; 17]), Some(&[])] {
        let mut rom = question(MessageType::Discover, "PXEClient", 0);
        rom.options.remove(code::MACHINE_UUID);
        if let Some(value) = odd {
            rom.options.set(code::MACHINE_UUID, value);
        }
        let answer = answered(&rom, Door::Dhcp);
        assert_eq!(answer.boot_file().as_deref(), Some("undionly.kpxe"));
        assert!(!answer.options.has(code::MACHINE_UUID), "{odd:?}");
    }
}

#[test]
fn answers_go_where_they_can_be_heard() {
    let from = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 77), 4011);
    let none = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
    let mut packet = question(MessageType::Discover, "PXEClient", 0);
    let to = |packet: &Packet, from, door| destination(packet, from, door, 68).to_string();
    assert_eq!(to(&packet, none, Door::Dhcp), "255.255.255.255:68");
    assert_eq!(to(&packet, from, Door::Pxe), "10.0.0.77:4011");
    assert_eq!(to(&packet, none, Door::Pxe), "255.255.255.255:68");
    packet.broadcast = false;
    packet.ciaddr = Ipv4Addr::new(10, 0, 0, 78);
    assert_eq!(to(&packet, none, Door::Dhcp), "10.0.0.78:68");
    packet.giaddr = Ipv4Addr::new(10, 9, 0, 1);
    packet.options.set(code::RELAY_AGENT, &[1, 1, 7]);
    assert_eq!(to(&packet, from, Door::Dhcp), "10.9.0.1:67");
    let answer = answered(&packet, Door::Dhcp);
    assert_eq!(
        (answer.giaddr, answer.options.get(code::RELAY_AGENT)),
        (packet.giaddr, Some(&[1, 1, 7][..]))
    );
}
