//! Mounts a share so that only this process sees it.
//!
//! ```text
//! fsopen "cifs" -> source, ip, user, pass, domain, ... each as a string -> create -> fsmount -> a descriptor
//! //server/share/folder/name.dcimg  ==  /proc/self/fd/N/folder/name.dcimg
//! ```
//!
//! Owns: the mount. It is never attached to a folder: no other process finds it, it leaves no name
//! anywhere, and the kernel unmounts it when its last descriptor is closed. That one belongs to a
//! small process, the holder, which outlives the console. A process that unmounts a share of a
//! silent server while it ends may hang in the kernel for ever (seen with Linux 6.1), and would
//! keep the console's ports and lock. The password goes to the kernel as a string of its own: never
//! through a command line, an environment, a file or a log.

use super::failure::ShareFailure;
use super::{Login, ShareAddress};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// TCP port of SMB.
const PORT: u16 = 445;
/// Longest time for a connection; a server on the technician's own network answers within
/// milliseconds.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Most addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;
/// Most messages of the kernel that are read.
const MESSAGES_MAX: usize = 16;

/// Script of the holder. It keeps the mount open by its standard error until it reads a line, or
/// for a while after the console has ended without one.
const HOLDER: &str = "trap '' HUP INT TERM; read word || sleep 90";

/// A mounted share, read-only.
#[derive(Debug)]
pub struct Mounted {
    root: OwnedFd,
    holder: Option<Child>,
}

impl Mounted {
    /// Mounts the share of `address`. Takes as long as the server does: callers must be allowed to
    /// block.
    ///
    /// # Errors
    /// [`ShareFailure`], the reason the share cannot be used.
    pub fn new(address: &ShareAddress, login: &Login) -> Result<Self, ShareFailure> {
        // The kernel loads its module by itself.
        let context =
            fsopen("cifs", FsOpenFlags::FSOPEN_CLOEXEC).map_err(ShareFailure::of_opening)?;
        let server = reach(&address.server)?;
        let configured = options(address, server, login)
            .iter()
            .try_for_each(|(key, value)| match value {
                Some(value) => fsconfig_set_string(&context, *key, value.as_str()),
                None => fsconfig_set_flag(&context, *key),
            });
        configured
            .and_then(|()| fsconfig_create(&context))
            .map_err(|error| ShareFailure::of_mount(error, &messages(&context), login))?;
        let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC
            // Links on the server would lead to files of this machine.
            | MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW;
        let root = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
            .map_err(ShareFailure::of_opening)?;
        let other = |error| ShareFailure::Other {
            error,
            detail: String::new(),
        };
        let held = root.try_clone().map_err(other)?;
        let holder = Command::new("sh")
            .args(["-c", HOLDER])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(held)
            .spawn()
            .map_err(other)?;
        Ok(Self {
            root,
            holder: Some(holder),
        })
    }

    /// Path of a file below the share, for this process, while the mount exists.
    pub fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.root.as_raw_fd())).join(name)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let Some(mut holder) = self.holder.take() else {
            return;
        };
        // A holder that has ended has released the mount already.
        if let Some(mut word) = holder.stdin.take() {
            let _ = word.write_all(b"\n");
        }
        // The unmount waits for the server, which may not answer, so a thread of its own does it.
        let _ = std::thread::Builder::new()
            .name("unmount".to_owned())
            .spawn(move || holder.wait());
    }
}

/// Finds an address of the server that accepts a connection. The kernel needs one, and a server
/// that is off is found out quickly.
fn reach(server: &str) -> Result<IpAddr, ShareFailure> {
    let addresses = (server, PORT).to_socket_addrs();
    let mut last = None;
    for address in addresses
        .map_err(ShareFailure::Unknown)?
        .take(ADDRESSES_MAX)
    {
        match TcpStream::connect_timeout(&address, CONNECT_WITHIN) {
            Ok(_) => return Ok(address.ip()),
            Err(error) => last = Some((address, error)),
        }
    }
    Err(match last {
        Some((address, error)) => {
            ShareFailure::Unreachable(SocketAddr::new(address.ip(), PORT), error)
        }
        None => ShareFailure::Unknown(io::Error::other("no address")),
    })
}

/// The options of the mount, in the order they are given.
fn options(
    address: &ShareAddress,
    server: IpAddr,
    login: &Login,
) -> Vec<(&'static str, Option<zeroize::Zeroizing<String>>)> {
    let text = |text: &str| Some(zeroize::Zeroizing::new(text.to_owned()));
    let mut all = vec![
        ("source", text(&address.source())),
        ("ip", text(&server.to_string())),
        // 3.0, 3.0.2 or 3.1.1, the server's best.
        ("vers", text("3")),
        ("ro", None),
        // A server that is gone is noticed within half a minute.
        ("echo_interval", text("10")),
    ];
    match &login.user {
        // To the kernel an empty user is anonymous.
        None => all.push(("user", text(""))),
        Some(user) => all.push(("user", text(user))),
    }
    if let Some(domain) = &login.domain {
        all.push(("domain", text(domain)));
    }
    if let Some(password) = &login.password {
        all.push(("pass", Some(password.clone())));
        // Packets are signed: nobody between here and the server can change them.
        all.push(("sec", text("ntlmsspi")));
    }
    all
}

/// The kernel's messages about a context, oldest first.
fn messages(context: &OwnedFd) -> Vec<String> {
    let mut all = Vec::new();
    let mut buffer = [0; 1024];
    while all.len() < MESSAGES_MAX {
        match rustix::io::read(context, &mut buffer) {
            Ok(len @ 1..) => {
                let text = String::from_utf8_lossy(buffer.get(..len).unwrap_or_default());
                // The prefix `e `, `w ` or `i ` is the severity.
                let words = text.split_once(' ').map_or(&*text, |(_, words)| words);
                all.push(words.trim().to_owned());
            }
            Err(Errno::INTR) => {}
            // ENODATA: there are no more.
            _ => break,
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

    fn of(user: Option<&str>, password: Option<&str>) -> Vec<(&'static str, Option<String>)> {
        let address = ShareAddress::parse("//fs1/images$/x/lab.dcimg")
            .unwrap()
            .unwrap();
        let password = password.map(|word| Zeroizing::new(word.to_owned()));
        let login = Login::new(user, password).unwrap();
        options(&address, "10.0.0.9".parse().unwrap(), &login)
            .into_iter()
            .map(|(key, value)| (key, value.map(|value| value.to_string())))
            .collect()
    }

    fn value(all: &[(&'static str, Option<String>)], wanted: &str) -> Option<String> {
        let mut found = all.iter().filter(|(key, _)| *key == wanted);
        let value = found.next()?.1.clone();
        assert!(found.next().is_none(), "{wanted} twice");
        value
    }

    #[test]
    fn what_is_asked_of_the_kernel() {
        let all = of(Some(r"LAB\tech"), Some("a,vers=1.0\\,b"));
        assert_eq!(value(&all, "source").unwrap(), "//fs1/images$");
        assert_eq!(value(&all, "ip").unwrap(), "10.0.0.9");
        assert_eq!(value(&all, "user").unwrap(), "tech");
        assert_eq!(value(&all, "domain").unwrap(), "LAB");
        // One string, unchanged: commas and text that looks like options belong to the password.
        assert_eq!(value(&all, "pass").unwrap(), "a,vers=1.0\\,b");
        assert_eq!(value(&all, "vers").unwrap(), "3");
        assert_eq!(value(&all, "sec").unwrap(), "ntlmsspi");
        assert!(all.contains(&("ro", None)));
    }

    #[test]
    fn without_a_user_the_server_is_asked_as_nobody() {
        let all = of(None, None);
        assert_eq!(value(&all, "user").unwrap(), "");
        for key in ["pass", "domain", "sec"] {
            assert_eq!(value(&all, key), None);
        }
        let all = of(Some("guest"), None);
        assert_eq!(value(&all, "user").unwrap(), "guest");
        for key in ["pass", "sec"] {
            assert_eq!(value(&all, key), None);
        }
    }
}
