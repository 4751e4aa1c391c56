use super::client::Client;
use super::*;
use facts::Uuid;
use proptest::prelude::*;

const MAC: Mac = Mac([0x52, 0x54, 0, 1, 2, 3]);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

fn fixed(op: u8) -> Vec<u8> {
    let mut bytes = vec![0; 240];
    bytes[..3].copy_from_slice(&[op, 1, 6]);
    bytes[28..34].copy_from_slice(&MAC.0);
    bytes[236..240].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
    bytes
}

#[test]
fn a_discover_of_uefi_firmware() {
    // The options that OVMF sends.
    let mut bytes = fixed(1);
    bytes[4..8].copy_from_slice(&0xdead_beef_u32.to_be_bytes());
    bytes[10] = 0x80;
    bytes.extend(b"\x35\x01\x01\x39\x02\x05\xb8\x37\x03\x01\x02\x03");
    bytes.extend(b"\x61\x11\x00\x33\x22\x11\x00\x55\x44\x77\x66\x88\x99\xaa\xbb\xcc\xdd\xee\xff");
    bytes.extend(
        b"\x5e\x03\x01\x03\x10\x5d\x02\x00\x07\x3c\x20PXEClient:Arch:00007:UNDI:003016\xff",
    );
    let packet = Packet::parse(&bytes).unwrap();
    assert_eq!(
        (packet.op, packet.xid, packet.mac),
        (Op::Request, 0xdead_beef, MAC)
    );
    assert!(packet.broadcast);
    let options = &packet.options;
    assert_eq!(packet.message_type(), Some(MessageType::Discover));
    assert_eq!(options.max_size(), Some(1464));
    assert_eq!(options.get(code::PARAMETERS), Some(&[1, 2, 3][..]));
    assert_eq!(options.archs(), [Arch::Uefi]);
    assert_eq!(options.get(code::UNDI), Some(&[1, 3, 16][..]));
    assert_eq!(
        options.machine_uuid().unwrap().to_string(),
        "00112233-4455-6677-8899-aabbccddeeff"
    );
    assert!(options.class_is("PXEClient") && !options.class_is("HTTPClient") && !options.is_ipxe());
    assert_eq!(Packet::parse(&packet.emit()), Ok(packet));
}

#[test]
fn fields_that_carry_options_are_read_as_such() {
    let mut bytes = fixed(2);
    // Option 60 continues in `file` and ends in `sname`: one value, in that order.
    bytes[108..113].copy_from_slice(b"\x3c\x03def");
    bytes[44..49].copy_from_slice(b"\x3c\x03ghi");
    bytes.extend(b"\x3c\x03abc\x34\x01\x03\xff");
    let packet = Packet::parse(&bytes).unwrap();
    assert_eq!(
        packet.options.text(code::CLASS).as_deref(),
        Some("abcdefghi")
    );
    assert_eq!((packet.boot_file(), packet.server_name()), (None, None));
    assert!(
        !packet.options.has(code::OVERLOAD),
        "it was about the bytes, and they are read"
    );
    // The same fields without option 52 are names.
    let end = bytes.len() - 4;
    bytes.truncate(end);
    bytes[108..117].copy_from_slice(b"boot\0rest");
    let packet = Packet::parse(&bytes).unwrap();
    assert_eq!(packet.boot_file().as_deref(), Some("boot"));
}

#[test]
fn what_is_no_packet_is_told_apart() {
    let whole = {
        let mut bytes = fixed(1);
        bytes.extend([53, 1, 1, 255]);
        bytes
    };
    assert!(Packet::parse(&whole).is_ok());
    assert_eq!(Packet::parse(&whole[..239]), Err(DhcpError::Short(239)));
    assert!(
        Packet::parse(&whole[..243]).is_ok(),
        "no end mark: some firmware forgets it"
    );
    assert_eq!(Packet::parse(&whole[..242]), Err(DhcpError::Cut(53)));
    assert_eq!(Packet::parse(&vec![0; 5000]), Err(DhcpError::Long(5000)));
    let changed = |at: usize, value: u8| {
        let mut bytes = whole.clone();
        bytes[at] = value;
        Packet::parse(&bytes)
    };
    assert_eq!(changed(0, 3), Err(DhcpError::Op(3)));
    assert_eq!(
        changed(1, 32),
        Err(DhcpError::Hardware {
            kind: 32,
            length: 6
        })
    );
    assert_eq!(
        changed(2, 16),
        Err(DhcpError::Hardware {
            kind: 1,
            length: 16
        })
    );
    assert_eq!(changed(236, 0), Err(DhcpError::NoCookie));
    assert_eq!(changed(241, 9), Err(DhcpError::Cut(53)));
}

#[test]
fn options_of_the_wrong_length_read_as_absent() {
    let mut options = Options::default();
    for code in [1, 28, 50, 51, 53, 54, 57, 58, 59, 97] {
        options.set(code, &[1, 2, 3]);
    }
    assert_eq!(options.address(code::SUBNET_MASK), None);
    assert_eq!(options.seconds(code::LEASE_SECONDS), None);
    assert_eq!(
        (
            options.message_type(),
            options.max_size(),
            options.machine_uuid()
        ),
        (None, None, None)
    );
    options.set(code::ROUTERS, &[10, 0, 0, 1, 9]);
    assert_eq!(options.addresses(code::ROUTERS), [SERVER]);
    options.set(code::ARCH, &[0, 9, 0, 0, 7]);
    assert_eq!(options.archs(), [Arch::Uefi, Arch::Bios]);
    options.set(code::MACHINE_UUID, &[1; 17]);
    assert_eq!(options.machine_uuid(), None, "type 1 is no UUID");
}

#[test]
fn ipxe_is_known_however_it_says_so() {
    for class in [&b"iPXE"[..], b"\x04iPXE", b"\x03abc\x04iPXE"] {
        let mut options = Options::default();
        options.set(code::USER_CLASS, class);
        assert!(options.is_ipxe(), "{class:?}");
    }
    for class in [&b"gPXE"[..], b"\x05iPXE", b"\xff", b""] {
        let mut options = Options::default();
        options.set(code::USER_CLASS, class);
        assert!(!options.is_ipxe(), "{class:?}");
    }
    let mut options = Options::default();
    options.set(code::IPXE, b"\xb1\x01\x01");
    assert!(options.is_ipxe());
}

#[test]
fn an_answer_to_a_relay_agent_carries_its_option_back_and_last() {
    let mut question = Packet::question(MAC, 7);
    question.giaddr = Ipv4Addr::new(10, 9, 0, 1);
    question.options.set(code::RELAY_AGENT, b"\x01\x02ab");
    let mut answer = question.answer(MessageType::Offer, SERVER);
    answer.options.set(code::IPXE, &[1]);
    let bytes = answer.emit();
    assert_eq!(bytes.len(), 300);
    let end = bytes.iter().rposition(|byte| *byte == 255).unwrap();
    assert_eq!(&bytes[end - 6..end], b"\x52\x04\x01\x02ab");
    assert_eq!(Packet::parse(&bytes).unwrap().giaddr, question.giaddr);
}

#[test]
fn long_names_and_long_values_survive() {
    let mut packet = Packet::question(MAC, 1);
    packet.set_boot_file(&"f".repeat(FILE_BYTES));
    assert!(!packet.options.has(code::BOOT_FILE));
    assert_eq!(
        Packet::parse(&packet.emit()).unwrap().boot_file(),
        Some("f".repeat(FILE_BYTES))
    );
    packet.set_boot_file(&"u".repeat(300));
    packet.set_server_name(&"s".repeat(64));
    let back = Packet::parse(&packet.emit()).unwrap();
    assert_eq!(back, packet);
    assert_eq!(back.boot_file(), Some("u".repeat(300)));
    assert_eq!(back.server_name(), Some("s".repeat(64)));
}

/// A client goes through the life of a lease: the server reads the client's questions, the client
/// reads the server's answers.
#[test]
fn a_lease_from_question_to_renewal() {
    let client = Client {
        mac: MAC,
        uuid: "00112233-4455-6677-8899-aabbccddeeff".parse().ok(),
        host_name: Some("lab-01"),
        class: "diskcast",
    };
    let discover = Packet::parse(&client.discover(5, 0).emit()).unwrap();
    assert_eq!(discover.message_type(), Some(MessageType::Discover));
    assert_eq!(
        discover.options.text(code::HOST_NAME).as_deref(),
        Some("lab-01")
    );
    let mut offer = discover.answer(MessageType::Offer, SERVER);
    assert_eq!(
        Lease::read(&offer, MAC, 5),
        None,
        "a ProxyDHCP server offers no address"
    );
    offer.yiaddr = Ipv4Addr::new(10, 0, 0, 50);
    offer
        .options
        .set_address(code::SUBNET_MASK, Ipv4Addr::new(255, 255, 240, 0));
    offer.options.set_seconds(code::LEASE_SECONDS, 800);
    offer.options.set_addresses(code::DNS, &[SERVER, SERVER]);
    let lease = Lease::read(&Packet::parse(&offer.emit()).unwrap(), MAC, 5).unwrap();
    assert_eq!(
        (lease.address, lease.prefix, lease.server),
        (offer.yiaddr, 20, SERVER)
    );
    assert_eq!(
        (lease.seconds, lease.renew_seconds, lease.rebind_seconds),
        (800, 400, 700)
    );
    assert_eq!(lease.dns, [SERVER, SERVER]);
    assert_eq!(
        Lease::read(&offer, MAC, 6),
        None,
        "an answer to another question"
    );
    assert_eq!(
        Lease::read(&offer, Mac([2; 6]), 5),
        None,
        "an answer to somebody else"
    );
    let request = client.request(5, 1, &lease);
    assert_eq!(
        request.options.address(code::REQUESTED_ADDRESS),
        Some(lease.address)
    );
    assert_eq!(request.options.address(code::SERVER_ID), Some(SERVER));
    let renewal = client.renew(6, 0, &lease);
    assert_eq!(
        (renewal.ciaddr, renewal.options.has(code::REQUESTED_ADDRESS)),
        (lease.address, false)
    );
    // Times in the wrong order and a mask with holes do not mislead the client.
    offer.options.set_seconds(code::RENEW_SECONDS, 5000);
    offer
        .options
        .set_address(code::SUBNET_MASK, Ipv4Addr::new(255, 0, 255, 0));
    let odd = Lease::read(&offer, MAC, 5).unwrap();
    assert_eq!((odd.renew_seconds, odd.prefix), (700, 8));
}

fn any_packet() -> impl Strategy<Value = Packet> {
    let options = proptest::collection::btree_map(
        1..=254_u8,
        proptest::collection::vec(any::<u8>(), 0..400),
        0..6,
    );
    (
        any::<[u32; 5]>(),
        any::<([u8; 6], u16, u8, bool, bool)>(),
        options,
    )
        .prop_map(|(words, (mac, secs, hops, broadcast, reply), options)| {
            let mut packet = Packet::question(Mac(mac), words[0]);
            packet.op = if reply { Op::Reply } else { Op::Request };
            (packet.secs, packet.hops, packet.broadcast) = (secs, hops, broadcast);
            packet.ciaddr = words[1].into();
            packet.yiaddr = words[2].into();
            packet.siaddr = words[3].into();
            packet.giaddr = words[4].into();
            for (code, value) in options {
                if code != code::OVERLOAD {
                    packet.options.set(code, &value);
                }
            }
            packet
        })
}

proptest! {
    #[test]
    fn any_bytes(bytes: Vec<u8>, options: Vec<u8>, op in 1..=2_u8) {
        let _ = Packet::parse(&bytes);
        let mut packet = fixed(op);
        packet.extend(options);
        if let Ok(packet) = Packet::parse(&packet) {
            let _ = (packet.options.archs(), packet.options.is_ipxe(), packet.options.vendor());
            let _ = Lease::read(&packet, packet.mac, packet.xid);
            prop_assert_eq!(Packet::parse(&packet.emit()), Ok(packet));
        }
    }

    #[test]
    fn what_is_written_is_read(packet in any_packet()) {
        prop_assert_eq!(Packet::parse(&packet.emit()), Ok(packet));
    }

    #[test]
    fn uuids_survive(uuid: [u8; 16]) {
        if let Some(uuid) = Uuid::from_firmware(uuid) {
            let mut options = Options::default();
            options.set_machine_uuid(uuid);
            prop_assert_eq!(options.machine_uuid(), Some(uuid));
        }
    }
}
