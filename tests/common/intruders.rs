//! Other things on a network: programs that hold ports, DHCP servers, a router that sends one query
//! and is gone.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::room::Room;

/// Binds the agent's port, like another program on the machine.
pub(crate) fn hold_port(namespace: &str, port: u16) -> UdpSocket {
    Room::inside(namespace, move || {
        UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).expect("a free port")
    })
    .join()
    .expect("the port is held")
}

/// Two DHCP servers and a ProxyDHCP server in one: answers each question three times.
pub(crate) struct DhcpServers {
    stop: Arc<AtomicBool>,
}

impl DhcpServers {
    pub(crate) fn start(namespace: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        Room::inside(namespace, move || {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 67)).expect("port 67");
            socket.set_broadcast(true).expect("broadcast");
            let _ = socket.set_read_timeout(Some(Duration::from_millis(100)));
            let mut question = [0; 1500];
            while !stopped.load(Ordering::Relaxed) {
                let Ok(bytes) = socket.recv(&mut question) else {
                    continue;
                };
                if bytes < 240 || question[0] != 1 {
                    continue;
                }
                for (server, leases) in [(66, true), (67, true), (68, false)] {
                    let mut answer = question[..240].to_vec();
                    answer[0] = 2;
                    if leases {
                        answer[16..20].copy_from_slice(&[10, 77, 9, 9]);
                    }
                    answer.extend([53, 1, 2, 54, 4, 10, 77, 5, server]);
                    if !leases {
                        answer.extend(b"\x3c\x09PXEClient");
                    }
                    answer.push(255);
                    let _ = socket.send_to(&answer, (Ipv4Addr::BROADCAST, 68));
                }
            }
        });
        Self { stop }
    }
}

impl Drop for DhcpServers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Sends an IGMPv2 general query (RFC 2236), to be answered within 0.1 s.
pub(crate) fn stray_query(namespace: &str) {
    Room::inside(namespace, || {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(2))).expect("root");
        let to = SocketAddrV4::new(Ipv4Addr::new(224, 0, 0, 1), 0);
        socket.set_multicast_ttl_v4(1).expect("TTL");
        socket
            .send_to(&[0x11, 1, 0xee, 0xfe, 0, 0, 0, 0], &to.into())
            .expect("a query");
    })
    .join()
    .expect("sent");
}
