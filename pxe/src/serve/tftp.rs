//! TFTP: port 69, and the port that all transfers share.
//!
//! Packets are taken in batches. Machines of a room in lock-step have one packet each under way,
//! and a clock call or a wait for each would cost more than the packet.

use super::{Shared, files};
use crate::script;
use crate::tftp::packet::error;
use crate::tftp::{ErrorCode, Packet, Request, TftpError, Transfers};
use bytes::Bytes;
use std::io::ErrorKind;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::{Instant, MissedTickBehavior};

/// Precision of the transfers' timeouts.
const TICK: Duration = Duration::from_millis(100);
/// Most packets handled before other tasks get a turn.
const BATCH: usize = 256;
/// Longest packet of a client, in bytes; a longer one is cut and so refused.
const PACKET_BYTES: usize = 2048;

struct Tftp {
    shared: Arc<Shared>,
    transfers: Transfers,
    socket: UdpSocket,
    began: Instant,
    out: Vec<u8>,
}

pub(super) async fn serve(shared: Arc<Shared>, requests: UdpSocket, socket: UdpSocket) {
    let mut tftp = Tftp {
        shared,
        transfers: Transfers::default(),
        socket,
        began: Instant::now(),
        out: Vec::with_capacity(PACKET_BYTES),
    };
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut buffer = vec![0; PACKET_BYTES];
    loop {
        tokio::select! {
            ready = requests.readable() => {
                pause_on(ready).await;
                for _ in 0..BATCH {
                    let Some((count, from)) = take(&requests, &mut buffer) else { break };
                    tftp.asked(from, buffer.get(..count).unwrap_or_default());
                }
            }
            ready = tftp.socket.readable() => {
                pause_on(ready).await;
                for _ in 0..BATCH {
                    let Some((count, from)) = take(&tftp.socket, &mut buffer) else { break };
                    tftp.answered(from, buffer.get(..count).unwrap_or_default());
                }
            }
            _ = tick.tick() => tftp.tick(),
        }
        tokio::task::yield_now().await;
    }
}

async fn pause_on(ready: std::io::Result<()>) {
    if let Err(error) = ready {
        tracing::warn!(%error, "TFTP socket");
        tokio::time::sleep(TICK).await;
    }
}

fn take(socket: &UdpSocket, buffer: &mut [u8]) -> Option<(usize, SocketAddrV4)> {
    loop {
        match socket.try_recv_from(buffer) {
            Ok((count, SocketAddr::V4(from))) => return Some((count, from)),
            Ok(_) => {}
            // A client closed its port; the error refers to a packet sent before.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            Err(_) => return None,
        }
    }
}

impl Tftp {
    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Sends a packet, or drops it when the kernel's buffer is full: the transfer's timeout sends
    /// it again.
    fn send(&self, to: SocketAddrV4, packet: &[u8]) {
        if let Err(error) = self.socket.try_send_to(packet, to.into())
            && error.kind() != ErrorKind::WouldBlock
        {
            tracing::debug!(%to, %error, "TFTP");
        }
    }

    /// Handles a packet to port 69.
    fn asked(&mut self, from: SocketAddrV4, packet: &[u8]) {
        let request = match Packet::parse(packet) {
            Ok(Packet::Read(request)) => request,
            // Acknowledgements belong to the other port.
            Ok(_) | Err(TftpError::Malformed) => return,
            Err(refused) => {
                let kind = match refused {
                    TftpError::Write => ErrorCode::Access,
                    TftpError::Long(_) => ErrorCode::Options,
                    _ => ErrorCode::Illegal,
                };
                return self.send(from, &error(kind, &refused.to_string()));
            }
        };
        let Some(name) = files::plain_name(&request.name) else {
            return self.refuse(
                from,
                &request,
                ErrorCode::Access,
                "this path is not offered",
            );
        };
        let Some(file) = self.file(from, &name) else {
            if files::NAMES.contains(&name.as_str()) {
                let what = format!("{name} is not in the boot folder");
                self.shared.failed(*from.ip(), &what);
            }
            return self.refuse(
                from,
                &request,
                ErrorCode::NotFound,
                "no such file is offered",
            );
        };
        let now = self.now();
        if self.transfers.begin(from, &name, file, &request, now) {
            self.pump(from);
        }
    }

    fn refuse(&self, from: SocketAddrV4, request: &Request, code: ErrorCode, why: &str) {
        tracing::debug!(%from, name = facts::boot::clean(&request.name), why, "TFTP");
        self.send(from, &error(code, why));
    }

    /// The content for a name: a file of the folder, or a script made for this machine.
    fn file(&self, from: SocketAddrV4, name: &str) -> Option<Bytes> {
        let shared = &self.shared;
        if name == "grub/grub.cfg" {
            return Some(script::grub_finder().into());
        }
        if name == "autoexec.ipxe" {
            return Some(script::autoexec(shared.service()).into());
        }
        if let Some(mac) = script::grub_asker(name) {
            let machine = shared.machines().of(mac);
            let (verdict, words) = shared.scripted(&machine, *from.ip(), "GRUB");
            return Some(script::grub(shared.service(), &machine, verdict, &words).into());
        }
        shared.files.get(name)
    }

    /// Handles a packet from a client with a transfer under way.
    fn answered(&mut self, from: SocketAddrV4, packet: &[u8]) {
        let Ok(packet) = Packet::parse(packet) else {
            return;
        };
        let now = self.now();
        match self.transfers.handle(from, &packet, now) {
            None => self.pump(from),
            Some(ended) => self.ended(&ended),
        }
    }

    fn pump(&mut self, client: SocketAddrV4) {
        let mut out = std::mem::take(&mut self.out);
        while self.transfers.poll_transmit(client, &mut out) {
            self.send(client, &out);
        }
        self.out = out;
    }

    fn tick(&mut self) {
        let now = self.now();
        let (again, ended) = self.transfers.handle_timeouts(now);
        again.into_iter().for_each(|client| self.pump(client));
        ended.iter().for_each(|ended| self.ended(ended));
    }

    fn ended(&self, ended: &crate::tftp::Ended) {
        let address = *ended.client.ip();
        match &ended.result {
            Ok(()) => self.shared.fetched(address, &ended.name),
            Err(failure) => self
                .shared
                .failed(address, &format!("TFTP of {}: {failure}", ended.name)),
        }
    }
}
