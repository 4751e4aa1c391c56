//! The reasons a share cannot be used, in words for a technician.

use super::{Login, ShareAddress};
use crate::DiskError;
use rustix::io::Errno;
use std::io;
use std::net::SocketAddr;

/// Most characters of the kernel's messages that are shown.
const DETAIL_MAX: usize = 400;

/// The reason a share is not mounted.
#[derive(Debug, thiserror::Error)]
pub enum ShareFailure {
    /// The kernel lacks the cifs file system.
    #[error("this kernel has no cifs, which reads shares")]
    NoCifs,
    /// The process may not mount.
    #[error("mounting a share takes root (CAP_SYS_ADMIN)")]
    NotPermitted,
    /// The kernel lacks the system calls for a mount without a folder.
    #[error("this kernel cannot mount a share for one process: it is older than Linux 5.14")]
    OldKernel,
    /// The server's name cannot be resolved.
    #[error("the name of the server is not known")]
    Unknown(#[source] io::Error),
    /// No address of the server accepts a connection.
    #[error("the server does not answer on TCP port 445 at {0}")]
    Unreachable(SocketAddr, #[source] io::Error),
    /// The server accepted the connection, and then did not answer.
    #[error("the server took the connection and says nothing")]
    Silent,
    /// The server refuses the account, or the account may not use the share.
    #[error("the server refuses {who}{detail}")]
    Denied {
        /// The account.
        who: String,
        /// The kernel's message, with text that leads to it.
        detail: String,
    },
    /// The account exists but may not be used.
    #[error("the password of {who} has expired, or the account is locked{detail}")]
    Expired {
        /// The account.
        who: String,
        /// The kernel's message.
        detail: String,
    },
    /// The server has no such share.
    #[error("the server has no such share{detail}")]
    NoShare {
        /// The kernel's message.
        detail: String,
    },
    /// The server does not support the required dialect.
    #[error("the server does not speak SMB 3 with signatures{detail}")]
    Dialect {
        /// The kernel's message.
        detail: String,
    },
    /// Any other error of the kernel.
    #[error("the kernel could not mount it: {error}{detail}")]
    Other {
        /// The error.
        error: io::Error,
        /// The kernel's message.
        detail: String,
    },
}

impl ShareFailure {
    /// The failure behind an error of a system call before the mount.
    pub(super) fn of_opening(error: Errno) -> Self {
        match error {
            Errno::NODEV => Self::NoCifs,
            Errno::PERM | Errno::ACCESS => Self::NotPermitted,
            Errno::NOSYS | Errno::INVAL => Self::OldKernel,
            other => Self::Other {
                error: other.into(),
                detail: String::new(),
            },
        }
    }

    /// The failure of a mount that the server or the kernel refused. `said` are the kernel's
    /// messages.
    pub(super) fn of_mount(error: Errno, said: &[String], login: &Login) -> Self {
        let detail = detail(said, login);
        let who = login.title();
        match error {
            Errno::ACCESS | Errno::PERM => Self::Denied { who, detail },
            Errno::KEYEXPIRED | Errno::KEYREVOKED | Errno::KEYREJECTED | Errno::NOKEY => {
                Self::Expired { who, detail }
            }
            Errno::NOENT | Errno::NXIO | Errno::NODEV => Self::NoShare { detail },
            Errno::OPNOTSUPP | Errno::PROTO => Self::Dialect { detail },
            Errno::HOSTDOWN
            | Errno::TIMEDOUT
            | Errno::AGAIN
            | Errno::CONNABORTED
            | Errno::CONNRESET => Self::Silent,
            other => Self::Other {
                error: other.into(),
                detail,
            },
        }
    }

    /// The next step for the technician.
    fn hint(&self, address: &ShareAddress) -> String {
        let by_hand = format!(
            "mount it yourself, then name the file there: {}",
            address.mount_command()
        );
        match self {
            Self::NoCifs => format!("load it (modprobe cifs), or {by_hand}"),
            Self::NotPermitted => format!("run the console as root, or {by_hand}"),
            Self::OldKernel => by_hand,
            Self::Unknown(_) => format!(
                "is {} spelt right, and does this machine's DNS know it? its IPv4 address does as well",
                address.server
            ),
            Self::Unreachable(..) | Self::Silent => format!(
                "is {} on, does it share files by SMB, and does a firewall let port 445 through?",
                address.server
            ),
            Self::Denied { .. } => r"check user, domain and password: --share-user 'DOMAIN\USER' --share-password ref:NAME (diskcast secret set NAME); may the account read the share?".to_owned(),
            Self::Expired { .. } => {
                "let the account be unlocked or its password renewed, then diskcast secret set NAME"
                    .to_owned()
            }
            Self::NoShare { .. } => format!(
                "smbclient -L {} -U USER lists the shares it has",
                address.server
            ),
            Self::Dialect { .. } => format!(
                "SMB 1 and 2 are not used: they can be listened to and changed on the way; switch SMB 3 on at the server, or {by_hand}"
            ),
            Self::Other { .. } => by_hand,
        }
    }

    /// The failure as an error about the file.
    pub fn about(self, address: &ShareAddress) -> DiskError {
        let hint = self.hint(address);
        let mut text = format!("{address}: {self}");
        let cause = std::error::Error::source(&self);
        if let Some(cause) = cause {
            text.push_str(&format!(": {cause}"));
        }
        DiskError::refused(text, hint)
    }
}

/// The kernel's messages in one line, without the password.
fn detail(said: &[String], login: &Login) -> String {
    let mut text = said.join("; ");
    if let Some(password) = &login.password {
        text = text.replace(password.as_str(), "***");
    }
    let text: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(DETAIL_MAX)
        .collect();
    match text.trim() {
        "" => String::new(),
        words => format!(" ({words})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

    fn login() -> Login {
        Login::new(
            Some(r"LAB\tech"),
            Some(Zeroizing::new("s3cret,word".into())),
        )
        .unwrap()
    }

    #[test]
    fn each_failure_says_what_to_try() {
        let address = ShareAddress::parse("//fs1/images/lab.dcimg")
            .unwrap()
            .unwrap();
        let of_mount = |errno| ShareFailure::of_mount(errno, &[], &login());
        for (failure, words, hint) in [
            (
                ShareFailure::of_opening(Errno::NODEV),
                "no cifs",
                "mount -t cifs //fs1/images /mnt/images",
            ),
            (
                ShareFailure::of_opening(Errno::PERM),
                "takes root",
                "mount -t cifs //fs1/images /mnt/images",
            ),
            (
                of_mount(Errno::ACCESS),
                r"refuses user LAB\tech",
                "secret set",
            ),
            (of_mount(Errno::KEYEXPIRED), "expired", "renewed"),
            (of_mount(Errno::NOENT), "no such share", "smbclient -L fs1"),
            (of_mount(Errno::NXIO), "no such share", "smbclient -L fs1"),
            (of_mount(Errno::HOSTDOWN), "says nothing", "port 445"),
            (of_mount(Errno::OPNOTSUPP), "SMB 3", "switch SMB 3 on"),
            (of_mount(Errno::IO), "could not mount it", "mount -t cifs"),
        ] {
            let error = failure.about(&address);
            let text = error.to_string();
            assert!(text.starts_with("//fs1/images/lab.dcimg: "), "{text}");
            assert!(text.contains(words), "{text}");
            assert!(error.hint().unwrap().contains(hint), "{:?}", error.hint());
        }
    }

    #[test]
    fn the_kernels_words_come_along_and_no_password() {
        let said = [
            "CIFS: bad value s3cret,word for pass".to_owned(),
            "second\u{1b}[2Jline".to_owned(),
        ];
        let failure = ShareFailure::of_mount(Errno::INVAL, &said, &login());
        let text = failure.to_string();
        assert!(
            text.contains("bad value *** for pass; second [2Jline"),
            "{text}"
        );
        assert!(
            !text.contains("s3cret") && !text.contains('\u{1b}'),
            "{text}"
        );
        let long = ["x".repeat(10_000)];
        let failure = ShareFailure::of_mount(Errno::INVAL, &long, &login());
        assert!(failure.to_string().len() < 600);
    }
}
