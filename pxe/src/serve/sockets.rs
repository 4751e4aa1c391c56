//! The sockets of the services.
//!
//! Port 67 is shared (SO_REUSEADDR): a broadcast reaches every program bound to it, so a DHCP
//! server on the same machine is not disturbed. The other ports are not shared, because a packet
//! sent to one machine reaches only one program. Everything is bound to one interface if the
//! process has the right to do so.

use super::{ServeError, Settings};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use tokio::net::{TcpListener, UdpSocket};

/// Receive buffer for the packets of a room that is switched on at once, in bytes.
const BUFFER_BYTES: usize = 4 << 20;
/// Connections the kernel queues until they are accepted.
const BACKLOG: i32 = 1024;

#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) dhcp: UdpSocket,
    pub(super) pxe: UdpSocket,
    pub(super) tftp: UdpSocket,
    /// One socket for all transfers. Clients are distinguished by address and port, and a flood of
    /// requests costs no file descriptors.
    pub(super) transfers: UdpSocket,
    pub(super) http: TcpListener,
}

impl Sockets {
    pub(super) fn open(settings: &Settings) -> Result<Self, ServeError> {
        let ports = settings.ports;
        let udp = |port: u16, what: &'static str, any: bool| {
            let address = if any {
                Ipv4Addr::UNSPECIFIED
            } else {
                settings.address
            };
            let socket = udp(settings, SocketAddrV4::new(address, port), any);
            socket.map_err(|source| ServeError::Port {
                protocol: "UDP",
                port,
                what,
                source,
            })
        };
        Ok(Self {
            // Questions come by broadcast.
            dhcp: udp(ports.dhcp, "DHCP", true)?,
            pxe: udp(ports.pxe, "PXE", false)?,
            tftp: udp(ports.tftp, "TFTP", false)?,
            transfers: udp(0, "TFTP transfers", false)?,
            http: tcp(settings).map_err(|source| ServeError::Port {
                protocol: "TCP",
                port: ports.http,
                what: "HTTP boot",
                source,
            })?,
        })
    }
}

fn udp(settings: &Settings, at: SocketAddrV4, shared: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if shared {
        socket.set_reuse_address(true)?;
    }
    socket.set_broadcast(true)?;
    // Best effort: the kernel may allow less; clients send lost packets again.
    let _ = socket.set_recv_buffer_size(BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(BUFFER_BYTES);
    bind(&socket, settings, &at.into())?;
    UdpSocket::from_std(socket.into())
}

fn tcp(settings: &Settings) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // Lingering connections of an earlier run must not keep the port; another listener does.
    socket.set_reuse_address(true)?;
    let at = SocketAddrV4::new(settings.address, settings.ports.http);
    bind(&socket, settings, &at.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn bind(socket: &Socket, settings: &Settings, at: &SockAddr) -> io::Result<()> {
    if let Some(interface) = &settings.interface {
        socket.bind_device(Some(interface.as_bytes()))?;
    }
    socket.bind(at)
}
