//! A machine that boots over the network, as seen from the network: DHCP, the PXE port, TFTP, HTTP,
//! iPXE, GRUB.
//!
//! Many of them are in one namespace, each with its own address and card; broadcast answers reach
//! all, and each takes its own.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use facts::Mac;
use pxe::dhcp::{MessageType, Packet, code};
use socket2::{Domain, Protocol, Socket, Type};

use super::process::PATIENCE;

/// Longest wait for an answer: machines ask again after a second or two, and this client does too.
const ANSWER: Duration = Duration::from_secs(2);
/// Number of tries: a busy service answers the later ones.
const TRIES: u32 = 15;

/// One such machine.
pub(crate) struct Firmware {
    pub(crate) mac: Mac,
    pub(crate) address: Ipv4Addr,
    pub(crate) server: Ipv4Addr,
    /// Number in option 93.
    pub(crate) arch: u16,
    /// UUID in option 97, if the firmware sends it.
    pub(crate) uuid: Option<[u8; 16]>,
    hears: Socket,
}

impl Firmware {
    /// Must be called inside the namespace.
    pub(crate) fn new(number: u16, address: Ipv4Addr, server: Ipv4Addr, arch: u16) -> Self {
        let hears = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).expect("a socket");
        hears.set_reuse_address(true).expect("shared");
        hears.set_broadcast(true).expect("broadcast");
        hears.bind_device(Some(b"eth0")).expect("root");
        hears
            .bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68).into())
            .expect("port 68");
        let _ = hears.set_recv_buffer_size(4 << 20);
        let [high, low] = number.to_be_bytes();
        Self {
            mac: Mac([2, 0, 0, 1, high, low]),
            address,
            server,
            arch,
            uuid: None,
            hears,
        }
    }

    /// A question of the firmware, or of iPXE.
    pub(crate) fn question(&self, kind: MessageType, ipxe: bool) -> Packet {
        let [.., a, b] = self.mac.0;
        let xid = u32::from_be_bytes([kind.number(), u8::from(ipxe), a, b]);
        let mut packet = Packet::question(self.mac, xid);
        packet.broadcast = true;
        packet.options.set_message_type(kind);
        let class = if self.arch == 16 {
            "HTTPClient"
        } else {
            "PXEClient"
        };
        let class = format!("{class}:Arch:{:05}:UNDI:003016", self.arch);
        packet.options.set(code::CLASS, class.as_bytes());
        packet.options.set(code::ARCH, &self.arch.to_be_bytes());
        packet.options.set(code::UNDI, &[1, 3, 16]);
        if let Some(uuid) = self.uuid {
            packet
                .options
                .set(code::MACHINE_UUID, &[&[0], &uuid[..]].concat());
        }
        if ipxe {
            packet.options.set(code::USER_CLASS, b"iPXE");
            packet.options.set(code::IPXE, &[0xb1, 1, 1]);
        }
        packet
    }

    /// Sends a question to port 67 by broadcast, repeatedly; returns the first answer that `fits`.
    pub(crate) fn ask(&self, question: &Packet, fits: impl Fn(&Packet) -> bool) -> Option<Packet> {
        let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, 67).into();
        for _ in 0..TRIES {
            self.hears.send_to(&question.emit(), &to).expect("sent");
            if let Some(answer) = self.hear(question, ANSWER, &fits) {
                return Some(answer);
            }
        }
        None
    }

    /// Sends a question once and waits for an answer.
    pub(crate) fn ask_once(
        &self,
        question: &Packet,
        wait: Duration,
        fits: impl Fn(&Packet) -> bool,
    ) -> Option<Packet> {
        let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, 67).into();
        self.hears.send_to(&question.emit(), &to).expect("sent");
        self.hear(question, wait, fits)
    }

    fn hear(
        &self,
        question: &Packet,
        wait: Duration,
        fits: impl Fn(&Packet) -> bool,
    ) -> Option<Packet> {
        let until = Instant::now() + wait;
        let mut buffer = [0; 2048];
        loop {
            let left = until.checked_duration_since(Instant::now())?;
            self.hears
                .set_read_timeout(Some(left.max(Duration::from_millis(1))))
                .expect("a timeout");
            let Ok(count) = (&self.hears).read(&mut buffer) else {
                continue;
            };
            if let Ok(answer) = Packet::parse(&buffer[..count])
                && answer.xid == question.xid
                && answer.mac == question.mac
                && fits(&answer)
            {
                return Some(answer);
            }
        }
    }

    /// The offer of the boot service; that of the DHCP server is ignored.
    #[track_caller]
    pub(crate) fn boot_offer(&self, ipxe: bool) -> Packet {
        let server = self.server;
        self.ask(&self.question(MessageType::Discover, ipxe), |answer| {
            answer.options.address(code::SERVER_ID) == Some(server)
        })
        .unwrap_or_else(|| panic!("{} (type {}) got no offer", self.mac, self.arch))
    }

    /// Asks on port 4011, like UEFI after an offer without a file.
    #[track_caller]
    pub(crate) fn pxe_answer(&self) -> Packet {
        let socket = UdpSocket::bind((self.address, 0)).expect("a port");
        socket.set_read_timeout(Some(ANSWER)).expect("a timeout");
        let mut question = self.question(MessageType::Request, false);
        question.ciaddr = self.address;
        let mut buffer = [0; 2048];
        for _ in 0..TRIES {
            socket
                .send_to(&question.emit(), (self.server, 4011))
                .expect("sent");
            if let Ok(count) = socket.recv(&mut buffer) {
                return Packet::parse(&buffer[..count]).expect("an answer");
            }
        }
        panic!("{} got no answer on port 4011", self.mac);
    }

    /// Fetches a file by TFTP; on failure the error's text.
    pub(crate) fn tftp(&self, name: &str, options: &[(&str, u16)]) -> Result<Vec<u8>, String> {
        let socket = UdpSocket::bind((self.address, 0)).expect("a port");
        socket.set_read_timeout(Some(ANSWER)).expect("a timeout");
        let mut request = format!("\0\x01{name}\0octet\0tsize\x000\0").into_bytes();
        let option = |name: &str, usual: u16| {
            options
                .iter()
                .find(|(n, _)| *n == name)
                .map_or(usual, |(_, v)| *v)
        };
        for (option, value) in options {
            request.extend(format!("{option}\0{value}\0").as_bytes());
        }
        let block_size = usize::from(option("blksize", 512));
        let window = u64::from(option("windowsize", 1));
        let (mut server, mut last) = (SocketAddrV4::new(self.server, 69), request);
        let (mut file, mut next, mut silent) = (Vec::new(), 1_u64, 0);
        let mut buffer = vec![0; 2048];
        loop {
            socket.send_to(&last, server).expect("sent");
            loop {
                let Ok((count, std::net::SocketAddr::V4(from))) = socket.recv_from(&mut buffer)
                else {
                    silent += 1;
                    if silent > TRIES {
                        return Err(format!("{name}: silence after {} bytes", file.len()));
                    }
                    break;
                };
                silent = 0;
                server = from;
                let packet = &buffer[..count];
                match packet[1] {
                    5 => return Err(String::from_utf8_lossy(&packet[4..count - 1]).into_owned()),
                    6 => {
                        last = vec![0, 4, 0, 0];
                        break;
                    }
                    _ => {}
                }
                let number = u16::from_be_bytes([packet[2], packet[3]]);
                if u64::from(number) != next & 0xffff {
                    continue;
                }
                next += 1;
                file.extend(&packet[4..]);
                let over = count < 4 + block_size;
                if over || (next - 1) % window == 0 {
                    last = vec![0, 4, packet[2], packet[3]];
                    if over {
                        socket.send_to(&last, server).expect("sent");
                        return Ok(file);
                    }
                    break;
                }
            }
        }
    }

    /// Makes one HTTP request: status, headers in lower case, body.
    pub(crate) fn http(&self, request: &str, port: u16) -> (u16, String, Vec<u8>) {
        let socket =
            Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("a socket");
        socket
            .bind(&SocketAddrV4::new(self.address, 0).into())
            .expect("a port");
        socket
            .connect(&SocketAddrV4::new(self.server, port).into())
            .expect("HTTP answers");
        let mut stream: TcpStream = socket.into();
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut bytes = Vec::new();
        // Servers may cut a connection that breaks their rules.
        let _ = stream.read_to_end(&mut bytes);
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            return (0, String::new(), bytes);
        };
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|s| s.parse().ok())
            .unwrap_or(0);
        (status, head, bytes.split_off(end + 4))
    }

    /// Sends `GET` for a URL of this service.
    #[track_caller]
    pub(crate) fn get(&self, url: &str) -> Vec<u8> {
        let (host, path) = url
            .strip_prefix("http://")
            .and_then(|rest| rest.split_once('/'))
            .expect("a URL");
        let port = host
            .split_once(':')
            .and_then(|(_, port)| port.parse().ok())
            .expect("a port");
        let (status, _, body) = self.http(
            &format!("GET /{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
            port,
        );
        assert_eq!(status, 200, "{url}");
        body
    }

    /// The whole boot of a BIOS: the files that iPXE's script loads. `None` when it is sent to its
    /// own disk.
    #[track_caller]
    pub(crate) fn boot_bios(&self) -> Option<[Vec<u8>; 2]> {
        let offer = self.boot_offer(false);
        assert_eq!(offer.boot_file().as_deref(), Some("undionly.kpxe"));
        self.tftp("undionly.kpxe", &[("blksize", 1432)])
            .expect("the loader");
        self.boot_ipxe()
    }

    /// The boot from iPXE on.
    #[track_caller]
    pub(crate) fn boot_ipxe(&self) -> Option<[Vec<u8>; 2]> {
        let url = self.boot_offer(true).boot_file().expect("a script");
        let script = String::from_utf8(self.get(&url)).expect("text");
        assert!(script.starts_with("#!ipxe\n"), "{script}");
        if script.contains("sanboot") {
            return None;
        }
        let url_after = |word: &str| {
            let line = script
                .lines()
                .find(|line| line.starts_with(word))
                .unwrap_or_else(|| panic!("no {word} in {script}"));
            line.split(' ')
                .find(|word| word.starts_with("http://"))
                .expect("a URL")
                .to_owned()
        };
        let bootif = format!("BOOTIF=01-{}", self.mac.to_string().replace(':', "-"));
        assert!(script.contains(&bootif), "{script}");
        Some([
            self.get(&url_after("kernel ")),
            self.get(&url_after("initrd ")),
        ])
    }

    /// The whole boot of UEFI through shim and GRUB.
    #[track_caller]
    pub(crate) fn boot_uefi(&self) -> Option<[Vec<u8>; 2]> {
        let offer = self.boot_offer(false);
        assert_eq!(offer.boot_file(), None);
        assert_eq!(
            self.pxe_answer().boot_file().as_deref(),
            Some("shimx64.efi")
        );
        self.tftp("shimx64.efi", &[("blksize", 1468), ("windowsize", 4)])
            .expect("shim");
        self.tftp("/grubx64.efi", &[("blksize", 1468), ("windowsize", 4)])
            .expect("GRUB");
        let grub = [("blksize", 1024)];
        let text =
            |name: &str| String::from_utf8(self.tftp(name, &grub).expect(name)).expect("text");
        let finder = text("/grub/grub.cfg");
        let name = finder.trim().strip_prefix("configfile ").expect("a way on");
        let script = text(&name.replace("$net_default_mac", &self.mac.to_string()));
        if script.contains("chainloader") {
            return None;
        }
        assert!(
            script.contains("linux /vmlinuz BOOTIF=01-") && script.contains("\n    boot\n"),
            "{script}"
        );
        Some(["/vmlinuz", "/initrd.img"].map(|name| self.tftp(name, &grub).expect(name)))
    }
}
