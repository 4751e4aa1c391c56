//! Processes that hold a port, from the kernel's tables.
//!
//! Best effort: without root, processes of other users cannot be inspected, and there is no result.

/// A process that holds a port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Owner {
    /// Process id.
    pub pid: u32,
    /// Name of the process.
    pub name: String,
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (pid {})", self.name, self.pid)
    }
}

/// Socket state LISTEN in the kernel's tables.
const LISTEN: &str = "0A";
/// State of a UDP socket that is bound and not connected.
const BOUND: &str = "07";

/// The process that listens on a TCP port.
pub fn tcp(port: u16) -> Option<Owner> {
    holder(["/proc/net/tcp", "/proc/net/tcp6"], port, LISTEN, None)
}

/// Another process that has a UDP port; this process does not count.
pub fn udp(port: u16) -> Option<Owner> {
    holder(
        ["/proc/net/udp", "/proc/net/udp6"],
        port,
        BOUND,
        Some(std::process::id()),
    )
}

fn holder(tables: [&str; 2], port: u16, state: &str, except: Option<u32>) -> Option<Owner> {
    tables
        .map(|path| std::fs::read_to_string(path).unwrap_or_default())
        .iter()
        .flat_map(|table| inodes(table, port, state))
        .filter_map(process_of)
        .find(|owner| Some(owner.pid) != except)
}

/// The process that has this socket open.
fn process_of(inode: u64) -> Option<Owner> {
    let wanted = format!("socket:[{inode}]");
    for process in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        // Without root, processes of other users cannot be read; the owner stays unknown then.
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

/// Inodes of the sockets on `port` in `state`, from a table such as `/proc/net/tcp`.
fn inodes(table: &str, port: u16, state: &str) -> Vec<u64> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let local = fields.get(1)?.rsplit_once(':')?.1;
        let fits = u16::from_str_radix(local, 16) == Ok(port) && fields.get(3) == Some(&state);
        fits.then(|| fields.get(9)?.parse().ok()).flatten()
    };
    table.lines().skip(1).filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_any_content_are_read() {
        let table = "  sl  local_address rem_address   st tx rx tr tm retr uid timeout inode\n   \
            0: 0100007F:1389 00000000:0000 0A 0:0 0:0 0 0 0 4711 1\n   1: 0100007F:138B 00000000:0000 01 0:0 0:0 0 0 0 4712 1\n";
        assert_eq!(inodes(table, 5001, LISTEN), [4711]);
        assert_eq!(inodes(table, 5003, LISTEN), [] as [u64; 0]);
        assert_eq!(inodes("x\ny z\n", 1, LISTEN), [] as [u64; 0]);
    }
}
