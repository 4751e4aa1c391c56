//! Network boot as seen from the network: `console run --pxe` in a namespace, machines that boot in
//! another, a real DHCP server in a third.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests are the edge: they open sockets, wait and tell what they measured"
)]

mod common;

use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use facts::Mac;
use pxe::dhcp::{Lease, MessageType, code};
use serde_json::Value;

use common::fill::noise;
use common::process::{DISKCAST, PATIENCE, bash, text, wait_for};
use common::pxe_client::Firmware;
use common::room::Room;
use common::scratch;
use common::service::{Agent, Console, Daemon, Place};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// Bytes of the initramfs: above the size from which files wait in the queue, and no multiple of
/// any block size.
const INITRD: usize = (5 << 19) + 77;

/// Makes the boot folder, with arbitrary content in its files.
fn boot_files(folder: &Path) {
    let boot = folder.join("console/boot");
    std::fs::create_dir_all(&boot).expect("a boot folder");
    for (name, size) in [
        ("vmlinuz", 1 << 20),
        ("initrd.img", INITRD),
        ("undionly.kpxe", 74_000),
        ("snponly.efi", 174_000),
        ("shimx64.efi", 100_000),
        ("grubx64.efi", 300_000),
    ] {
        std::fs::write(boot.join(name), noise(name, size)).expect("a boot file");
    }
}

struct Lab {
    console: Console,
    room: Room,
    folder: tempfile::TempDir,
}

impl Lab {
    fn new(label: &str, targets: usize, words: &[&str]) -> Self {
        let folder = scratch();
        let room = Room::new(label, targets, "9000mbit", 0.0);
        boot_files(folder.path());
        let console = Console::start(
            Place::Namespace(&room.console()),
            folder.path(),
            "eth0",
            words,
        );
        Self {
            console,
            room,
            folder,
        }
    }

    /// Runs a closure in the namespace of the machines.
    fn machines<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let thread = Room::inside(&self.room.target(1), work);
        match thread.join() {
            Ok(value) => value,
            Err(panic) => {
                eprintln!("{}", self.console.daemon.said());
                std::panic::resume_unwind(panic)
            }
        }
    }

    fn check(&self) -> Value {
        self.console.cli(&["pxe", "check", "--json"]).ok().json()
    }

    /// Machines that asked for a boot and are no targets: the same as in `pxe check`, without its
    /// search for other servers.
    fn strangers(&self) -> Vec<Value> {
        let list = self.console.cli(&["target", "list", "--json"]).ok().json();
        list["machines"].as_array().cloned().expect("machines")
    }

    fn machine(&self, mac: Mac) -> Value {
        let all = self.strangers();
        let found = all.iter().find(|machine| machine["mac"] == mac.to_string());
        found
            .cloned()
            .unwrap_or_else(|| panic!("no {mac} in {all:#?}"))
    }
}

/// The address of the machines' namespace.
const HERE: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 1);

fn expected() -> [Vec<u8>; 2] {
    [noise("vmlinuz", 1 << 20), noise("initrd.img", INITRD)]
}

/// 64 machines switched on at once, beside a real DHCP server: all of them get kernel and
/// initramfs, none is turned away.
#[test]
fn a_room_switched_on_at_once_comes_up() {
    let lab = Lab::new("px", 2, &["--pxe", "--uefi", "shim"]);
    let addresses: String = (1..=64)
        .map(|n| {
            format!(
                "ip -n {} addr add 10.77.2.{n}/16 dev eth0\n",
                lab.room.target(1)
            )
        })
        .collect();
    bash(&addresses);
    let _dnsmasq = dnsmasq(&lab);
    let namespace = lab.room.target(1);
    let began = Instant::now();
    let machines: Vec<_> = (1..=64_u8)
        .map(|n| {
            Room::inside(&namespace, move || {
                let arch = if n % 2 == 0 { 0 } else { 7 };
                let machine =
                    Firmware::new(u16::from(n), Ipv4Addr::new(10, 77, 2, n), SERVER, arch);
                let files = if arch == 0 {
                    machine.boot_bios()
                } else {
                    machine.boot_uefi()
                };
                assert!(
                    files.expect("the agent") == expected(),
                    "{n}: other bytes than those offered"
                );
                began.elapsed()
            })
        })
        .collect();
    let took: Vec<Duration> = machines
        .into_iter()
        .map(|machine| {
            machine
                .join()
                .unwrap_or_else(|_| panic!("{}", lab.console.daemon.said()))
        })
        .collect();
    eprintln!(
        "pxe: 64 machines have kernel and initramfs after {:.1?}, the first after {:.1?}",
        took.iter().max().unwrap(),
        took.iter().min().unwrap()
    );
    wait_for("the last stage to be told", || {
        let all = lab.strangers();
        let here = all
            .iter()
            .filter(|machine| machine["stage"] == "initramfs")
            .count();
        (here == 64).then_some(())
    });
    // A machine takes an address from the real server, and a boot file from us: both offers come,
    // neither disturbs the other.
    let (lease, mac) = lab.machines(|| {
        let machine = Firmware::new(200, HERE, SERVER, 0);
        let discover = machine.question(MessageType::Discover, false);
        let offer = machine
            .ask(&discover, |answer| !answer.yiaddr.is_unspecified())
            .expect("an address");
        let lease = Lease::read(&offer, machine.mac, discover.xid).expect("a lease");
        let mut request = machine.question(MessageType::Request, false);
        request
            .options
            .set_address(code::REQUESTED_ADDRESS, lease.address);
        request.options.set_address(code::SERVER_ID, lease.server);
        let ack = machine
            .ask(&request, |answer| {
                answer.message_type() == Some(MessageType::Ack)
            })
            .expect("dnsmasq confirms");
        assert_eq!(
            ack.options.address(code::SERVER_ID),
            Some(lease.server),
            "we keep out of it"
        );
        (lease, machine.mac)
    });
    assert_eq!(lease.server.to_string(), "10.77.1.2");
    let report = lab.check();
    assert_eq!(
        report["address_servers"],
        serde_json::json!(["10.77.1.2"]),
        "{report:#}"
    );
    assert!(
        report["rivals"]
            .to_string()
            .contains("10.77.1.2 hands out addresses"),
        "{report:#}"
    );
    assert_eq!(lab.machine(mac)["firmware"], "BIOS");
    assert_eq!(
        report["service"]["missing"],
        serde_json::json!(["ipxe.efi", "mmx64.efi"])
    );
}

/// Starts dnsmasq as a DHCP server that knows nothing of network boot.
fn dnsmasq(lab: &Lab) -> Daemon {
    let mut command = Place::Namespace(&lab.room.target(2)).command("dnsmasq");
    command.args([
        "--conf-file=/dev/null",
        "--keep-in-foreground",
        "--port=0",
        "--interface=eth0",
        "--bind-interfaces",
    ]);
    command.args([
        "--dhcp-range=10.77.3.1,10.77.3.250,255.255.0.0",
        "--no-ping",
        "--leasefile-ro",
        "--user=root",
        "--pid-file=",
    ]);
    Daemon::start(command, "dnsmasq", &lab.folder.path().join("dnsmasq.log"))
}

/// Each kind of firmware, ranges and HEAD, reports of the pre-OS; then packets that no client
/// should send.
#[test]
fn every_kind_of_firmware_and_every_kind_of_nonsense() {
    let lab = Lab::new("pk", 1, &["--pxe"]);
    let before = memory(&lab);
    let mac = lab.machines(|| {
        let http = Firmware::new(1, HERE, SERVER, 16);
        let offer = http.boot_offer(false);
        assert_eq!(offer.options.text(code::CLASS).as_deref(), Some("HTTPClient"));
        assert_eq!(http.get(&offer.boot_file().expect("a URL")), noise("snponly.efi", 174_000));
        assert!(http.boot_ipxe().is_some());

        // A ROM that sends no UUID and asks on 4011 although it is a BIOS.
        let rom = Firmware::new(2, HERE, SERVER, 0);
        assert_eq!(rom.pxe_answer().boot_file().as_deref(), Some("undionly.kpxe"));
        let mut known = Firmware::new(3, HERE, SERVER, 7);
        known.uuid = Some(*b"0123456789abcdef");
        let answer = known.pxe_answer();
        assert_eq!(answer.options.get(code::MACHINE_UUID).map(<[u8]>::len), Some(17));

        // More blocks than 16 bits count: 327,690 of 8 bytes.
        assert!(rom.tftp("initrd.img", &[("blksize", 8), ("windowsize", 32)]).expect("the file") == noise("initrd.img", INITRD));

        let get = |more: &str| http.http(&format!("GET /vmlinuz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{more}\r\n"), 5080);
        let (status, head, body) = get("Range: bytes=100-299\r\n");
        assert_eq!((status, &body[..]), (206, &noise("vmlinuz", 1 << 20)[100..300]));
        assert!(head.contains("content-range: bytes 100-299/1048576"), "{head}");
        assert_eq!(get("Range: bytes=9999999-\r\n").0, 416);
        let (status, head, body) = http.http("HEAD /initrd.img HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 5080);
        assert!(status == 200 && body.is_empty() && head.contains(&format!("content-length: {INITRD}")), "{head}");
        let event = format!(r#"{{"mac":"{}","stage":"agent","detail":"loads\u001b[31m modules"}}"#, known.mac);
        let post = |body: &str| http.http(&format!("POST /event HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len()), 5080).0;
        assert_eq!(post(&event), 204);
        for refused in ["{}", "x", r#"{"mac":"02:00:00:01:00:03","stage":"local"}"#, &"x".repeat(5000)] {
            assert!(matches!(post(refused), 400 | 413), "{refused}");
        }
        nonsense(&http);
        known.mac
    });
    let machine = lab.machine(mac);
    assert_eq!(
        (&machine["stage"], &machine["firmware"]),
        (&"agent".into(), &"UEFI".into()),
        "{machine:#}"
    );
    assert_eq!(machine["detail"], "loads [31m modules");
    let grown = memory(&lab).saturating_sub(before);
    eprintln!("pxe: {} KiB more after the flood", grown / 1024);
    assert!(grown < 48 << 20, "{grown} bytes more");
    // The service works as before.
    lab.machines(|| assert!(Firmware::new(9, HERE, SERVER, 0).boot_bios().is_some()));
    assert!(lab.strangers().len() <= 2048);
}

/// Sends paths outside the offer, invalid packets, and a flood of made-up machines.
fn nonsense(machine: &Firmware) {
    for name in [
        "../console.db",
        "/etc/passwd",
        "grub/../../console.lock",
        "boot.ipxe",
        "SOURCES.txt",
        "..\\identity",
        "grub/grub.cfg-01-zz",
    ] {
        assert!(machine.tftp(name, &[]).is_err(), "{name}");
    }
    for path in [
        "/../console.db",
        "/%2e%2e/console.db",
        "//etc/passwd",
        "/console.sock",
        "/",
        "/boot.ipxe?mac=x%0a",
    ] {
        let (status, _, body) = machine.http(
            &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
            5080,
        );
        assert!(matches!(status, 400 | 404), "{path}: {status}");
        assert!(body.len() < 200);
    }
    let socket = UdpSocket::bind((machine.address, 0)).expect("a port");
    let bytes = noise("nonsense", 1 << 20);
    for (n, piece) in bytes.chunks(331).enumerate() {
        let port = [67, 69, 4011][n % 3];
        let _ = socket.send_to(piece, (SERVER, port));
    }
    let valid = machine.question(MessageType::Discover, false).emit();
    for n in 0..6000_usize {
        let mut packet = valid.clone();
        let [a, b, c, d, ..] = n.to_le_bytes();
        // A new card each time; every third packet is damaged somewhere behind it.
        packet[28..34].copy_from_slice(&[6, a, b, c, d, 7]);
        if n % 3 == 0 {
            packet[236 + n % 64] ^= a | 1;
        }
        let _ = socket.send_to(&packet, (SERVER, 67));
        let request = format!("\0\x01initrd.img\0octet\0blksize\0{}\0", n % 70_000);
        let _ = socket.send_to(request.as_bytes(), (SERVER, 69));
    }
}

fn memory(lab: &Lab) -> u64 {
    let pid = lab.console.cli(&["console", "show", "--json"]).ok().json()["pid"]
        .as_u64()
        .expect("a pid");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .expect("memory");
    let kib = line
        .split_whitespace()
        .nth(1)
        .and_then(|n| n.parse::<u64>().ok());
    kib.expect("a number") * 1024
}

/// A known machine boots its own disk, by every method, until it is wanted; a machine never seen
/// before gets the agent.
#[test]
fn who_is_known_boots_its_own_disk_until_it_is_wanted() {
    let lab = Lab::new("pw", 2, &["--pxe", "--uefi", "shim"]);
    let disk = lab.folder.path().join("disk.raw");
    let agent = Agent::start(
        Place::Namespace(&lab.room.target(2)),
        &lab.console,
        &disk,
        8 << 20,
        &["--name", "desk"],
    );
    let targets = lab.console.wait_ready(1);
    let mac: Mac = targets[0]["facts"]["nics"][0]["mac"]
        .as_str()
        .and_then(|mac| mac.parse().ok())
        .expect("a card");
    drop(agent);
    let boots = move || {
        let machine = |arch| {
            let mut machine = Firmware::new(1, HERE, SERVER, arch);
            machine.mac = mac;
            machine
        };
        let ways = [
            machine(0).boot_bios().is_some(),
            machine(7).boot_uefi().is_some(),
            machine(16).boot_ipxe().is_some(),
        ];
        assert!(ways.iter().all(|way| *way == ways[0]), "{ways:?}");
        ways[0]
    };
    assert!(!lab.machines(boots), "it is known and nobody wants it");
    assert!(
        lab.machines(|| Firmware::new(77, HERE, SERVER, 0).boot_bios().is_some()),
        "never seen"
    );
    let shown = lab
        .console
        .cli(&["target", "show", "desk", "--json"])
        .ok()
        .json();
    assert_eq!(shown["boot"]["stage"], "local", "{shown:#}");
    let table = lab.console.cli(&["target", "list"]).ok().stdout;
    assert!(
        table.contains("booting, not joined:") && table.contains("02:00:00:01:00:4d"),
        "{table}"
    );

    let bound = Room::inside(&lab.room.target(2), || {
        UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 9)).expect("port 9")
    });
    let socket = bound.join().expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    lab.console.cli(&["target", "wake", "desk"]).ok();
    let mut packet = [0; 200];
    let count = socket.recv(&mut packet).expect("a magic packet");
    assert_eq!((count, &packet[96..102]), (102, &mac.0[..]));
    assert!(lab.machines(boots), "asked for");
    let agent = Agent::start(
        Place::Namespace(&lab.room.target(2)),
        &lab.console,
        &disk,
        8 << 20,
        &["--name", "desk"],
    );
    lab.console.wait_ready(1);
    drop(agent);
    assert!(!lab.machines(boots), "it came, and is no longer asked for");
}

/// On an isolated switch we hand out addresses too, and after a restart no leased address is given
/// to another; here in a process of its own.
#[test]
fn addresses_survive_a_restart_of_the_service() {
    let lab = Lab::new("pd", 1, &[]);
    let serve = |runs: usize| {
        let mut command = Place::Namespace(&lab.room.console()).command(DISKCAST);
        command.args([
            "--data-dir",
            text(&lab.console.data_dir),
            "pxe",
            "serve",
            "--iface",
            "eth0",
        ]);
        command.args(["--dhcp", "10.77.4.1-10.77.4.2"]);
        let daemon = Daemon::start(command, "pxe serve", &lab.folder.path().join("serve.log"));
        // The line is logged once in each run.
        let ready = || daemon.said().matches("network boot ready").count() == runs;
        wait_for("pxe serve", || ready().then_some(()));
        daemon
    };
    let take = |number: u16| {
        lab.machines(move || {
            let machine = Firmware::new(number, HERE, SERVER, 7);
            let discover = machine.question(MessageType::Discover, false);
            let offer = machine.ask(&discover, |_| true).expect("an offer");
            // The lease names the file: no further question on 4011 is needed.
            assert_eq!(offer.boot_file().as_deref(), Some("shimx64.efi"));
            let mut request = machine.question(MessageType::Request, false);
            request
                .options
                .set_address(code::REQUESTED_ADDRESS, offer.yiaddr);
            request.options.set_address(code::SERVER_ID, SERVER);
            let ack = machine.ask(&request, |_| true).expect("an answer");
            assert_eq!(
                (ack.message_type(), ack.boot_file().as_deref()),
                (Some(MessageType::Ack), Some("shimx64.efi"))
            );
            ack.yiaddr.to_string()
        })
    };
    let first = serve(1);
    assert_eq!(take(1), "10.77.4.1");
    drop(first);
    let _second = serve(2);
    assert_eq!(take(2), "10.77.4.2");
    assert_eq!(take(1), "10.77.4.1");
    lab.machines(|| {
        let machine = Firmware::new(3, HERE, SERVER, 7);
        let discover = machine.question(MessageType::Discover, false);
        let offer = machine.ask_once(&discover, Duration::from_secs(2), |_| true);
        assert!(offer.is_none(), "the range is used up");
    });
    // Events there are reported to the console once a second.
    let error = wait_for("the console to hear", || {
        let mac = Mac([2, 0, 0, 1, 0, 3]).to_string();
        lab.strangers()
            .into_iter()
            .find(|machine| machine["mac"] == mac && machine["error"].is_string())
    });
    assert!(
        error["error"].to_string().contains("no address is left"),
        "{error:#}"
    );
    // A second one on the same machine names the first.
    let refused = lab.console.cli(&["pxe", "serve", "--iface", "lo"]);
    refused.code(5).says(&["already served", "pid"]);
}
