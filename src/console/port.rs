//! Opening a TCP port, and saying who has it when it is taken.

use super::api::{ApiError, ErrorCode};
use std::net::{IpAddr, SocketAddr};
use tokio::net::TcpListener;

/// Connections the kernel keeps until they are accepted: a room switched on at once.
const BACKLOG: i32 = 1024;

/// Listens on a port. Errors: `Refused`, naming the port and, where the kernel lets us see it, its owner.
pub fn listen(address: IpAddr, port: u16, what: &str) -> Result<TcpListener, ApiError> {
    open(SocketAddr::new(address, port)).map_err(|error| {
        let message = format!("TCP port {port} ({what}) on {address}: {error}");
        if error.kind() == std::io::ErrorKind::AddrInUse {
            let owner =
                owner(port).map_or_else(|| "another process".to_owned(), |owner| owner.to_string());
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
    // A console that was killed left connections behind; they must not keep the next one out.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// A process that listens on a port.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Owner {
    pid: u32,
    name: String,
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (pid {})", self.name, self.pid)
    }
}

/// Who listens on a TCP port: the socket's inode from the kernel's table, the process by its open files.
fn owner(port: u16) -> Option<Owner> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"]
        .map(|path| std::fs::read_to_string(path).unwrap_or_default());
    let inode = tables
        .iter()
        .find_map(|table| listening_inode(table, port))?;
    let wanted = format!("socket:[{inode}]");
    for process in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        // Other users' processes cannot be looked into; then the owner stays unnamed.
        let Ok(files) = std::fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        let has = |file: std::fs::DirEntry| {
            std::fs::read_link(file.path()).is_ok_and(|to| to.as_os_str() == wanted.as_str())
        };
        if files.flatten().any(has) {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(Owner {
                pid,
                name: name.trim().to_owned(),
            });
        }
    }
    None
}

/// Inode of the socket in state LISTEN (0A) on `port`, from a table such as `/proc/net/tcp`.
fn listening_inode(table: &str, port: u16) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let local = fields.get(1)?.rsplit_once(':')?.1;
        let listens = u16::from_str_radix(local, 16) == Ok(port) && fields.get(3) == Some(&"0A");
        if listens {
            fields.get(9)?.parse().ok()
        } else {
            None
        }
    })
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

    #[test]
    fn tables_of_any_content_are_read() {
        let table = "  sl  local_address rem_address   st tx rx tr tm retr uid timeout inode\n   \
            0: 0100007F:1389 00000000:0000 0A 0:0 0:0 0 0 0 4711 1\n   1: 0100007F:138B 00000000:0000 01 0:0 0:0 0 0 0 4712 1\n";
        assert_eq!(listening_inode(table, 5001), Some(4711));
        assert_eq!(listening_inode(table, 5003), None);
        assert_eq!(listening_inode("x\ny z\n", 1), None);
    }
}
