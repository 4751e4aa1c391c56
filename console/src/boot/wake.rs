//! Wake-on-LAN: the magic packet that starts a machine.

use crate::context::Settings;
use facts::Mac;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

/// UDP port of magic packets (discard); network cards read only the payload.
const PORT: u16 = 9;

/// Returns the payload of a magic packet: six bytes of 0xff, then the address sixteen times.
pub fn magic(mac: Mac) -> Vec<u8> {
    let mut packet = vec![0xff; 6];
    for _ in 0..16 {
        packet.extend(mac.0);
    }
    packet
}

/// Sends a magic packet for each card through the console's interface.
///
/// # Errors
/// The error of the socket.
pub fn send(settings: &Settings, cards: &[Mac]) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_broadcast(true)?;
    // Binding to the device needs a privilege. Without it, the address bound next selects the same
    // interface on most machines.
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
