//! Multicast sockets with the options a session needs, and batched sending and receiving.
//!
//! Owns the creation of sockets and the calls that move datagrams. Never reads a packet's content.
//! Segmentation offload (`quinn-udp`) sends and receives up to 40 packets in one call.

#![expect(
    clippy::disallowed_methods,
    reason = "this is where session sockets are made"
)]

use super::kernel_drops::KernelDrops;
use nix::sys::socket::{setsockopt, sockopt};
use protocol::doctor::RECEIVE_BUFFER;
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

/// Send buffer in bytes: a few bursts, so that a full queue blocks the program and does not
/// overflow a switch.
const SEND_BUFFER: usize = 1 << 20;

/// Largest message of one receive call in bytes (64 segments under 64 KiB).
const MESSAGE_BYTES: usize = 64 << 10;

/// Limit of messages in one receive call.
const MESSAGES: usize = if BATCH_SIZE < 16 { BATCH_SIZE } else { 16 };

/// A socket that sends to multicast groups through one interface.
pub struct SendSocket {
    socket: UdpSocket,
    state: UdpSocketState,
}

impl SendSocket {
    /// Opens a socket that sends through the interface with this address. Receivers on the same
    /// machine get the packets only when the interface is loopback.
    ///
    /// # Errors
    /// The interface does not exist, or an option is refused.
    pub fn open(interface: Ipv4Addr, ttl: u32) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_multicast_if_v4(&interface)?;
        socket.set_multicast_ttl_v4(ttl)?;
        socket.set_multicast_loop_v4(interface.is_loopback())?;
        let _ = socket.set_send_buffer_size(SEND_BUFFER);
        socket.bind(&SocketAddrV4::new(interface, 0).into())?;
        let socket = UdpSocket::from(socket);
        let state = UdpSocketState::new((&socket).into())?;
        Ok(Self { socket, state })
    }

    /// Limit of segments in one call; 1 when the kernel has no segmentation offload.
    pub fn max_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    /// Sends `contents` in datagrams of `segment` bytes. Blocks while the queue is full.
    ///
    /// # Errors
    /// The interface failed (down, gone). A lost datagram is not an error.
    pub fn send(&self, to: SocketAddrV4, contents: &[u8], segment: usize) -> io::Result<()> {
        // The state lowers its limit when a device refuses offload; a batch is then sent in parts.
        let limit = self.max_segments().max(1) * segment;
        for part in contents.chunks(limit) {
            let transmit = Transmit {
                destination: SocketAddr::V4(to),
                ecn: None,
                contents: part,
                segment_size: Some(segment),
                src_ip: None,
            };
            loop {
                match self.state.try_send((&self.socket).into(), &transmit) {
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                        wait(
                            &self.socket,
                            rustix::event::PollFlags::OUT,
                            Duration::from_millis(50),
                        )?;
                    }
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    // A driver without free buffers is congested; the session repairs the loss.
                    Err(e)
                        if e.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) =>
                    {
                        break;
                    }
                    other => {
                        other?;
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

/// A socket that receives one group on one interface.
pub struct ReceiveSocket {
    socket: UdpSocket,
    state: UdpSocketState,
    buffers: Vec<Vec<u8>>,
    drops: KernelDrops,
    receive_buffer: usize,
}

impl ReceiveSocket {
    /// Joins `group` on the interface with this address. Several receivers on one machine may share
    /// group and port.
    ///
    /// # Errors
    /// The port is held by a program that does not share it, or the interface does not exist.
    pub fn join(group: SocketAddrV4, interface: Ipv4Addr) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_reuse_address(true)?;
        // The socket is bound to the group, and ignores groups that only other programs on this
        // machine joined.
        socket.bind(&group.into())?;
        socket.set_multicast_all_v4(false)?;
        match rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER) {
            Ok(()) => {}
            // Without the privilege, the size is limited by the administrator's setting.
            Err(_) => {
                let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
            }
        }
        // The kernel doubles the size that it grants, for its own bookkeeping.
        let receive_buffer = socket.recv_buffer_size().unwrap_or(0) / 2;
        join_on(&socket, *group.ip(), interface)?;
        let socket = UdpSocket::from(socket);
        let state = UdpSocketState::new((&socket).into())?;
        leave_out_control_messages(&socket);
        Ok(Self {
            drops: KernelDrops::of(&socket),
            receive_buffer,
            socket,
            state,
            buffers: vec![vec![0; MESSAGE_BYTES]; MESSAGES],
        })
    }

    /// Size of the receive buffer in bytes; [`RECEIVE_BUFFER`] was requested.
    pub fn receive_buffer(&self) -> usize {
        self.receive_buffer
    }

    /// Number of datagrams the kernel dropped since the last call because the program did not read
    /// them in time; `table` is [`super::kernel_drops::table`].
    pub fn new_kernel_drops(&mut self, table: &str) -> u64 {
        self.drops.update(table)
    }

    /// Passes waiting datagrams (up to a limit) and their source addresses to `take`, which may
    /// change the bytes in place. Returns their number.
    ///
    /// # Errors
    /// The socket failed; an empty socket is not an error.
    pub fn drain(&mut self, mut take: impl FnMut(&mut [u8], Ipv4Addr)) -> io::Result<usize> {
        let mut metas = [RecvMeta::default(); MESSAGES];
        let mut datagrams = 0;
        // The limit keeps a flood on one lane from starving the other.
        for _ in 0..8 {
            let mut slices: Vec<IoSliceMut> = self
                .buffers
                .iter_mut()
                .map(|b| IoSliceMut::new(b))
                .collect();
            let count = match self
                .state
                .recv((&self.socket).into(), &mut slices, &mut metas)
            {
                Ok(count) => count,
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) =>
                {
                    break;
                }
                Err(e) => return Err(e),
            };
            for (buffer, meta) in self.buffers.iter_mut().zip(&metas).take(count) {
                let Some(received) = buffer.get_mut(..meta.len) else {
                    continue;
                };
                let IpAddr::V4(from) = meta.addr.ip().to_canonical() else {
                    continue;
                };
                for datagram in received.chunks_mut(meta.stride.max(1)) {
                    datagrams += 1;
                    take(datagram, from);
                }
            }
            if count < MESSAGES {
                break;
            }
        }
        Ok(datagrams)
    }
}

/// Switches off control messages. `quinn-udp` requests destination, type of service and time of
/// every datagram. They are not used here, and cost the kernel a tenth of the work of receiving. An
/// option that stays on costs only that.
fn leave_out_control_messages(socket: &UdpSocket) {
    let off = [
        setsockopt(socket, sockopt::Ipv4PacketInfo, &false),
        setsockopt(socket, sockopt::ReceiveTimestampns, &false),
        setsockopt(socket, sockopt::IpRecvTos, &false),
    ];
    if let Some(error) = off.into_iter().find_map(Result::err) {
        tracing::debug!(%error, "a socket option stays on");
    }
}

fn join_on(socket: &Socket, group: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
    socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Address(interface))
}

/// Waits until one of the sockets is readable, or the timeout has passed.
///
/// # Errors
/// Polling failed.
pub fn wait_readable(sockets: &[&ReceiveSocket], timeout: Duration) -> io::Result<()> {
    let mut polls: Vec<_> = sockets
        .iter()
        .map(|s| rustix::event::PollFd::new(&s.socket, rustix::event::PollFlags::IN))
        .collect();
    poll(&mut polls, timeout)
}

/// Waits until a socket of another kind is readable, or the timeout has passed.
///
/// # Errors
/// Polling failed.
pub fn wait_until_readable(socket: &impl AsFd, timeout: Duration) -> io::Result<()> {
    let flags = rustix::event::PollFlags::IN;
    poll(&mut [rustix::event::PollFd::new(socket, flags)], timeout)
}

fn wait(socket: &UdpSocket, flags: rustix::event::PollFlags, timeout: Duration) -> io::Result<()> {
    poll(&mut [rustix::event::PollFd::new(socket, flags)], timeout)
}

fn poll(polls: &mut [rustix::event::PollFd<'_>], timeout: Duration) -> io::Result<()> {
    let timeout = rustix::event::Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    match rustix::event::poll(polls, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// The local address from which packets to `peer` are sent: the interface on which to join groups.
///
/// # Errors
/// There is no route to `peer`.
pub fn local_address_towards(peer: SocketAddr) -> io::Result<Ipv4Addr> {
    let probe = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    probe.connect(peer)?;
    match probe.local_addr()? {
        SocketAddr::V4(address) => Ok(*address.ip()),
        SocketAddr::V6(_) => Err(io::Error::other("no IPv4 route to the console")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Several agents on one machine rely on this: every receiver of a group and port gets every
    /// datagram.
    #[test]
    fn two_receivers_on_loopback_both_get_a_segmented_send() {
        let group = SocketAddrV4::new(Ipv4Addr::new(239, 254, 77, 1), 45_802);
        let mut receivers = [
            ReceiveSocket::join(group, Ipv4Addr::LOCALHOST).unwrap(),
            ReceiveSocket::join(group, Ipv4Addr::LOCALHOST).unwrap(),
        ];
        let sender = SendSocket::open(Ipv4Addr::LOCALHOST, 1).unwrap();
        let contents: Vec<u8> = (0..40u8).flat_map(|n| vec![n; 1448]).collect();
        sender.send(group, &contents, 1448).unwrap();
        for receiver in &mut receivers {
            let mut seen = Vec::new();
            for _ in 0..50 {
                wait_readable(&[&*receiver], Duration::from_millis(20)).unwrap();
                receiver.drain(|d, _| seen.push((d[0], d.len()))).unwrap();
                if seen.len() == 40 {
                    break;
                }
            }
            assert_eq!(seen, (0..40u8).map(|n| (n, 1448)).collect::<Vec<_>>());
        }
    }

    /// A buffer that is never read overflows, and the kernel's count shows it.
    #[test]
    fn what_nobody_reads_is_dropped_and_counted() {
        let group = SocketAddrV4::new(Ipv4Addr::new(239, 254, 77, 2), 45_803);
        let mut receiver = ReceiveSocket::join(group, Ipv4Addr::LOCALHOST).unwrap();
        assert!(receiver.receive_buffer() > 0);
        socket2::SockRef::from(&receiver.socket)
            .set_recv_buffer_size(64 << 10)
            .unwrap();
        assert_eq!(
            receiver.new_kernel_drops(&super::super::kernel_drops::table()),
            0
        );
        let sender = SendSocket::open(Ipv4Addr::LOCALHOST, 1).unwrap();
        for _ in 0..10 {
            sender.send(group, &[7; 40 * 1448], 1448).unwrap();
        }
        let dropped = receiver.new_kernel_drops(&super::super::kernel_drops::table());
        assert!(dropped > 0);
        let mut read = 0;
        receiver.drain(|_, _| read += 1).unwrap();
        assert_eq!(
            receiver.new_kernel_drops(&super::super::kernel_drops::table()),
            0,
            "only what is new"
        );
        assert!(read < 400, "{read} of 400 read, {dropped} dropped");
    }

    #[test]
    fn the_way_to_loopback_is_loopback() {
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        assert_eq!(local_address_towards(peer).unwrap(), Ipv4Addr::LOCALHOST);
    }
}
