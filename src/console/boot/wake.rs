//! Wake-on-LAN: the packet that starts a machine.

use crate::console::context::Settings;
use facts::Mac;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

/// Where magic packets go (discard): cards look at the bytes alone.
const PORT: u16 = 9;

/// Six bytes of ones, then the address sixteen times.
pub fn magic(mac: Mac) -> Vec<u8> {
    let mut packet = vec![0xff; 6];
    for _ in 0..16 {
        packet.extend(mac.0);
    }
    packet
}

/// Sends one for each card, by the console's interface.
///
/// # Errors
/// When it cannot be sent there.
pub fn send(settings: &Settings, cards: &[Mac]) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_broadcast(true)?;
    // Without the right to it, the address below leads by the same interface on all but odd machines.
    let _ = socket.bind_device(Some(settings.interface.as_bytes()));
    socket.bind(&SocketAddrV4::new(settings.interface_address, 0).into())?;
    let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, PORT).into();
    for card in cards {
        socket.send_to(&magic(*card), &to)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packet_is_that_of_the_standard() {
        let packet = magic(Mac([1, 2, 3, 4, 5, 6]));
        assert_eq!(packet.len(), 102);
        assert_eq!(
            packet[..12],
            [255, 255, 255, 255, 255, 255, 1, 2, 3, 4, 5, 6]
        );
        assert_eq!(packet[96..], [1, 2, 3, 4, 5, 6]);
    }
}
