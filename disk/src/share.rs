//! Images named by a network share: `//server/share/folder/name.dcimg`, or the same with
//! backslashes.
//!
//! Owns: the meaning of such a name, and the account for the server. To Linux `//server/share/name`
//! is also the path `/server/share/name`: if that folder exists here, the name is a local one.
//! [`mount`] makes the file reachable.

pub mod failure;
pub mod mount;

use super::DiskError;
use std::fmt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Longest name of a server (RFC 1123) and of a share (Windows allows 80), in bytes.
const SERVER_MAX: usize = 253;
const SHARE_MAX: usize = 80;
/// Longest path below the share that Linux accepts, in bytes.
const NAME_MAX: usize = 4000;
/// Longest value of one mount option, in bytes, without its zero byte.
const VALUE_MAX: usize = 255;

/// A file on a share.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ShareAddress {
    /// Name or IPv4 address of the server.
    pub server: String,
    /// Name of the share.
    pub share: String,
    /// Path of the file below the share, with slashes.
    pub name: String,
}

impl ShareAddress {
    /// Parses a name. `None` for a path of this machine: it does not begin with two slashes or
    /// backslashes.
    ///
    /// # Errors
    /// [`DiskError::Usage`] for a name that does, but names no file on a share.
    pub fn parse(text: &str) -> Option<Result<Self, DiskError>> {
        let rest = text
            .strip_prefix("//")
            .or_else(|| text.strip_prefix(r"\\"))?;
        Some(Self::of_rest(rest).map_err(|why| {
            DiskError::usage(
                format!("{:?} names no file on a share: {why}", clip(text)),
                "write //server/share/folder/name.dcimg",
            )
        }))
    }

    fn of_rest(rest: &str) -> Result<Self, &'static str> {
        let rest = rest.replace('\\', "/");
        let mut words = rest.splitn(3, '/');
        let mut word = || words.next().filter(|word| !word.is_empty());
        let server = word().ok_or("the server is missing")?;
        let share = word().ok_or("the share is missing")?;
        let name = word().ok_or("the file is missing")?;
        let of_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if server.len() > SERVER_MAX
            || server.starts_with(['-', '.'])
            || !server.chars().all(of_host)
        {
            return Err("the server is a host name or an IPv4 address");
        }
        // Characters that Windows refuses in a share's name, or that would name another share here.
        let odd = |c: char| c.is_control() || r#"":*?<>|,;=[]+"#.contains(c);
        if share.len() > SHARE_MAX || share.contains(odd) || matches!(share, "." | "..") {
            return Err("no share has such a name");
        }
        if name.len() > NAME_MAX || name.chars().any(char::is_control) {
            return Err("no file has such a name");
        }
        if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err("its path has an empty part, or one of dots");
        }
        Ok(Self {
            server: server.to_owned(),
            share: share.to_owned(),
            name: name.to_owned(),
        })
    }

    /// The share as `//server/share`, the kernel's form.
    pub fn source(&self) -> String {
        format!("//{}/{}", self.server, self.share)
    }

    /// The command with which a technician mounts the share by hand.
    pub fn mount_command(&self) -> String {
        let Self {
            server,
            share,
            name,
        } = self;
        format!(
            "mkdir -p /mnt/{share} && mount -t cifs //{server}/{share} /mnt/{share} -o username=USER && ls /mnt/{share}/{name}"
        )
    }
}

impl fmt::Display for ShareAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.source(), self.name)
    }
}

/// The file on a share that a path names, unless its folder exists on this machine.
///
/// # Errors
/// The errors of [`ShareAddress::parse`].
pub fn of_path(path: &Path) -> Result<Option<ShareAddress>, DiskError> {
    let text = path.to_string_lossy();
    // The root always exists: in it the file itself has to exist.
    let here = |folder: &Path| folder.is_dir() && (folder != Path::new("/") || path.exists());
    if text.starts_with('/') && path.parent().is_some_and(here) {
        return Ok(None);
    }
    ShareAddress::parse(&text).transpose()
}

/// The stored form of a share path: with slashes, however it was typed. `None` for a path of this
/// machine.
pub fn normal(path: &Path) -> Option<PathBuf> {
    let address = ShareAddress::parse(path.to_str()?)?.ok()?;
    Some(address.to_string().into())
}

/// Refuses the name of a file on a share that is not mounted, with the command that mounts it.
///
/// # Errors
/// [`DiskError::Refused`]; the errors of [`ShareAddress::parse`].
pub fn refuse_unmounted(path: &Path) -> Result<(), DiskError> {
    let Some(address) = of_path(path)? else {
        return Ok(());
    };
    Err(DiskError::refused(
        format!("{address} lies on a share that is not mounted here"),
        format!(
            "mount it, then name the file there: {}",
            address.mount_command()
        ),
    ))
}

/// The account for a share. Its password is neither shown nor logged.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Login {
    /// Name of the account; `None` is anonymous.
    pub user: Option<String>,
    /// Its domain.
    pub domain: Option<String>,
    /// Its password.
    pub password: Option<Zeroizing<String>>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user)
            .field("domain", &self.domain)
            .finish_non_exhaustive()
    }
}

impl Login {
    /// Parses an account, `user`, `user@domain.example` or `DOMAIN\user`, with its password.
    ///
    /// # Errors
    /// [`DiskError::Usage`] for an account that no server or kernel accepts, [`DiskError::Refused`]
    /// for such a password. The error never contains the password.
    pub fn new(user: Option<&str>, password: Option<Zeroizing<String>>) -> Result<Self, DiskError> {
        let (domain, user) = match user.and_then(|user| user.split_once('\\')) {
            Some((domain, user)) => (Some(domain), Some(user)),
            None => (None, user),
        };
        let odd = |text: &str| {
            text.is_empty()
                || text.len() > VALUE_MAX
                || text.chars().any(char::is_control)
                || text.contains('\\')
        };
        if [domain, user].into_iter().flatten().any(odd) {
            return Err(DiskError::usage(
                "no account of a share has such a name",
                r"write --share-user USER, or 'DOMAIN\USER'",
            ));
        }
        if user.is_none() && password.is_some() {
            return Err(DiskError::usage(
                "there is a password for the share and no user",
                "name the account with --share-user",
            ));
        }
        if let Some(password) = &password {
            let odd = match () {
                () if password.is_empty() => Some("is empty"),
                () if password.len() > VALUE_MAX => Some("is longer than 255 bytes"),
                () if password.chars().any(char::is_control) => {
                    Some("has a line break or a control character")
                }
                () => None,
            };
            if let Some(odd) = odd {
                return Err(DiskError::refused(
                    format!("the password of the share {odd}"),
                    "keep it anew: diskcast secret set NAME",
                ));
            }
        }
        Ok(Self {
            user: user.map(str::to_owned),
            domain: domain.map(str::to_owned),
            password,
        })
    }

    /// The account's name for messages.
    pub fn title(&self) -> String {
        match (&self.domain, &self.user) {
            (Some(domain), Some(user)) => format!("user {domain}\\{user}"),
            (None, Some(user)) => format!("user {user}"),
            (_, None) => "nobody (no user was given)".to_owned(),
        }
    }
}

/// The beginning of a text that may be long or hostile.
fn clip(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Result<ShareAddress, String>> {
        ShareAddress::parse(text).map(|read| read.map_err(|error| error.to_string()))
    }

    #[test]
    fn a_share_that_is_not_mounted_says_how_to_mount_it() {
        for name in ["//fs1/images/lab.dcimg", r"\\fs1\images\lab.dcimg"] {
            let error = refuse_unmounted(Path::new(name)).unwrap_err();
            assert!(error.to_string().contains("not mounted"), "{error}");
            let hint = error.hint().unwrap();
            assert!(
                hint.contains("mount -t cifs //fs1/images /mnt/images"),
                "{hint}"
            );
        }
        for name in ["/srv/lab.dcimg", "lab.dcimg", "/", "//etc/passwd"] {
            refuse_unmounted(Path::new(name)).unwrap();
        }
        for name in ["//fs1", "//fs1/images", "///fs1"] {
            let error = refuse_unmounted(Path::new(name)).unwrap_err();
            assert!(error.to_string().contains("is missing"), "{error}");
        }
    }

    #[test]
    fn both_spellings_name_the_same_file() {
        let wanted = ShareAddress {
            server: "fs1.example".into(),
            share: "images$".into(),
            name: "win 11/lab, äöü.dcimg".into(),
        };
        for text in [
            "//fs1.example/images$/win 11/lab, äöü.dcimg",
            r"\\fs1.example\images$\win 11\lab, äöü.dcimg",
            r"\\fs1.example/images$\win 11/lab, äöü.dcimg",
        ] {
            assert_eq!(parse(text), Some(Ok(wanted.clone())), "{text}");
            assert_eq!(
                normal(Path::new(text)),
                Some("//fs1.example/images$/win 11/lab, äöü.dcimg".into())
            );
        }
        assert_eq!(wanted.source(), "//fs1.example/images$");
        for local in ["/srv/lab.dcimg", "lab.dcimg", "", "/", r"\lab.dcimg", "./x"] {
            assert_eq!(parse(local), None, "{local}");
            assert_eq!(normal(Path::new(local)), None);
        }
    }

    #[test]
    fn what_names_no_file_on_a_share_is_refused() {
        let long = format!("//fs1/images/{}", "a/".repeat(3000));
        for text in [
            "//",
            "///",
            "////",
            r"\\",
            "//a",
            "//a/",
            "//a/b",
            "//a/b/",
            "//a//b/c",
            "///a/b/c",
            "//a/b//c",
            "//a/b/c/",
            "//a/b/../c",
            "//a/../b/c",
            "//a/b/./c",
            "//../b/c",
            "//a,ip=10.0.0.1/b/c",
            "//a b/b/c",
            "//-a/b/c",
            "//a:445/b/c",
            "//[fe80::1]/b/c",
            "//user@a/b/c",
            "//a/b,user=root/c",
            "//a/b\n/c",
            "//a/b/c\nd",
            "//a/b/c\0d",
            "//a/b/\u{1b}[2J",
            long.as_str(),
        ] {
            let error = parse(text).expect("begins as a share").unwrap_err();
            assert!(error.contains("names no file on a share"), "{error}");
            assert!(!error.contains('\u{1b}') && !error.contains('\n'));
            assert!(error.len() < 500);
        }
    }

    #[test]
    fn accounts_are_split_and_odd_ones_refused() {
        let password = || Some(Zeroizing::new("a,b=c\\ \"d".to_owned()));
        let login = Login::new(Some(r"LAB\tech"), password()).unwrap();
        assert_eq!(
            (login.domain.as_deref(), login.user.as_deref()),
            (Some("LAB"), Some("tech"))
        );
        assert_eq!(login.title(), r"user LAB\tech");
        assert!(!format!("{login:?}").contains("a,b"));
        let login = Login::new(Some("tech@lab.example"), None).unwrap();
        assert_eq!(
            (login.domain, login.user.as_deref()),
            (None, Some("tech@lab.example"))
        );
        let long = "x".repeat(256);
        for user in [
            "", r"\", r"LAB\", r"\tech", r"A\B\c", "te\nch", "te\0ch", &long,
        ] {
            Login::new(Some(user), password()).unwrap_err();
        }
        for bad in ["", "hunter2\nx", "hunter2\0", &format!("hunter2{long}")] {
            let error = Login::new(Some("tech"), Some(Zeroizing::new(bad.to_owned()))).unwrap_err();
            assert!(!error.full().contains("hunter2"), "{}", error.full());
        }
        Login::new(None, password()).unwrap_err();
    }
}
