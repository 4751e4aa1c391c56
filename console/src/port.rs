//! TCP ports: opening, and naming the owner of an occupied one.

use api::{ApiError, ErrorCode};
use net::port_owner;
use std::net::{IpAddr, SocketAddr};
use tokio::net::TcpListener;

/// Connections that the kernel keeps until they are accepted: a room switched on at once.
const BACKLOG: i32 = 1024;

/// Listens on a port.
///
/// # Errors
/// `Refused`, with the port and, if the kernel shows it, its owner.
pub fn listen(address: IpAddr, port: u16, what: &str) -> Result<TcpListener, ApiError> {
    open(SocketAddr::new(address, port)).map_err(|error| {
        let message = format!("TCP port {port} ({what}) on {address}: {error}");
        if error.kind() == std::io::ErrorKind::AddrInUse {
            let owner = port_owner::tcp(port)
                .map_or_else(|| "another process".to_owned(), |owner| owner.to_string());
            ApiError::new(
                ErrorCode::Refused,
                format!("TCP port {port} ({what}) is in use by {owner}"),
            )
            .hint("stop it, or choose another port")
        } else {
            ApiError::new(ErrorCode::Refused, message)
        }
    })
}

fn open(address: SocketAddr) -> std::io::Result<TcpListener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM.nonblocking().cloexec(), None)?;
    // Connections of a killed console must not block the port for the next one.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[tokio::test]
    async fn a_busy_port_names_its_owner() {
        let first = listen(Ipv4Addr::LOCALHOST.into(), 0, "control").unwrap();
        let port = first.local_addr().unwrap().port();
        let error = listen(Ipv4Addr::LOCALHOST.into(), port, "control").unwrap_err();
        assert_eq!(error.code, ErrorCode::Refused);
        assert!(
            error.message.contains(&format!("port {port}")),
            "{}",
            error.message
        );
        assert!(
            error
                .message
                .contains(&format!("(pid {})", std::process::id())),
            "{}",
            error.message
        );
    }
}
