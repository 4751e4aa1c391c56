//! A Samba domain controller in a network, mount and process namespace of its own.
//!
//! It needs root, `ip`, `unshare` and Debian's samba, samba-ad-provision, samba-dsdb-modules,
//! samba-vfs-modules, winbind and samba-common-bin; a missing one is named. Nothing outside of a
//! temporary folder is changed: `/run/samba` and `/etc/resolv.conf` are its own mounts, and the
//! address is on the namespace's own loopback. A first run takes about 25 s, half of it for the
//! creation of the domain; later runs use the domain kept beside the build.
#![allow(
    dead_code,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "shared by tests of two crates, each uses a part; a test that tells why it did not run, and drives processes"
)]

use domain::{Credential, Provision, validate_blob};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const ADDRESS: &str = "10.99.0.1";
pub(crate) const ADMIN: &str = "Adm1n-pass.word";

/// Network namespace, folder and daemon; all are removed on drop.
pub(crate) struct Controller {
    folder: tempfile::TempDir,
    namespace: String,
    daemon: Option<Child>,
}

impl Controller {
    pub(crate) fn start() -> Option<Self> {
        let needs = [
            ("/usr/sbin/samba", "samba"),
            ("/usr/sbin/winbindd", "winbind"),
            ("/usr/bin/samba-tool", "samba-common-bin"),
            (
                "/usr/share/samba/setup/provision.ldif",
                "samba-ad-provision",
            ),
            (
                "/usr/lib/x86_64-linux-gnu/samba/ldb/samba_dsdb.so",
                "samba-dsdb-modules",
            ),
            (
                "/usr/lib/x86_64-linux-gnu/samba/vfs/acl_xattr.so",
                "samba-vfs-modules",
            ),
        ];
        for (file, package) in needs {
            if !Path::new(file).exists() {
                println!("did not run: {file} is missing; apt-get install {package}");
                return None;
            }
        }
        let namespace = format!("dcdom-{}", std::process::id());
        let made = Command::new("ip")
            .args(["netns", "add", &namespace])
            .output();
        if !made.is_ok_and(|it| it.status.success()) {
            println!("did not run: no network namespace can be made; it needs root and iproute2");
            return None;
        }
        let mut controller = Self {
            folder: tempfile::tempdir().unwrap(),
            namespace,
            daemon: None,
        };
        controller.set_up();
        Some(controller)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn set_up(&mut self) {
        for words in [
            ["link", "set", "lo", "up"].as_slice(),
            &["addr", "add", &format!("{ADDRESS}/32"), "dev", "lo"],
        ] {
            let done = Command::new("ip")
                .args(["-n", &self.namespace])
                .args(words)
                .output()
                .unwrap();
            assert!(done.status.success(), "{done:?}");
        }
        fs::write(
            self.path("resolv.conf"),
            format!("nameserver {ADDRESS}\nsearch corp.example\n"),
        )
        .unwrap();
        // The script for programs inside the namespace, with mounts of its own; stdin is that of
        // the caller, for the password.
        let inside = format!(
            "#!/bin/sh\nexec ip netns exec {} unshare --mount --pid --fork --kill-child=KILL sh -c '\n\
             mount --bind {} /etc/resolv.conf && mkdir -p /run/samba && mount -t tmpfs none /run/samba && exec \"$@\"' sh \"$@\"\n",
            self.namespace,
            self.path("resolv.conf").display()
        );
        self.script("inside", &inside);
        self.script(
            "net",
            &format!(
                "#!/bin/sh\nexec {} net \"$@\"\n",
                self.path("inside").display()
            ),
        );
        let domain = self.path("domain");
        copy(&new_domain(), &domain);
        self.configure(&domain);
        let log = fs::File::create(self.path("daemon.log")).unwrap();
        self.daemon = Some(
            Command::new(self.path("inside"))
                .args(["samba", "-F", "--no-process-group", "-M", "single", "-s"])
                .arg(self.path("dc.conf"))
                .stdin(Stdio::null())
                .stdout(log.try_clone().unwrap())
                .stderr(log)
                .spawn()
                .unwrap(),
        );
        self.wait();
    }

    /// Writes the configuration: the child processes of Samba read this file but get no command
    /// line arguments.
    fn configure(&self, domain: &Path) {
        let run = self.path("run");
        fs::create_dir(&run).unwrap();
        let (run, domain) = (run.display(), domain.display());
        let text = format!(
            "[global]\nnetbios name = DC1\nrealm = CORP.EXAMPLE\nworkgroup = CORP\n\
             server role = active directory domain controller\nserver services = s3fs rpc ldap cldap kdc dns winbindd\n\
             interfaces = {ADDRESS}\nbind interfaces only = yes\ndns forwarder =\ndisable netbios = yes\nsmb ports = 445\n\
             load printers = no\ndisable spoolss = yes\nlogging = file\nlog file = {run}/log.%m\npid directory = {run}\n\
             ncalrpc dir = {run}/ncalrpc\nntp signd socket directory = {run}/ntp\nlock directory = {domain}\n\
             state directory = {domain}/state\ncache directory = {domain}/cache\nprivate dir = {domain}/private\n\
             binddns dir = {domain}/bind-dns\n[sysvol]\npath = {domain}/state/sysvol\nread only = no\n"
        );
        fs::write(self.path("dc.conf"), text).unwrap();
    }

    fn script(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Waits until the controller is fully ready: a user is looked up over SMB.
    fn wait(&self) {
        let until = Instant::now() + Duration::from_mins(2);
        loop {
            let done = self.tool(&["rpc", "user"], &self.member("probe"));
            if done.status.success() && text(&done).contains("Administrator") {
                return;
            }
            let log = fs::read_to_string(self.path("daemon.log")).unwrap();
            assert!(
                Instant::now() < until,
                "no domain controller: {}{log}",
                text(&done)
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Runs `net WORDS` as the administrator, with the configuration of a machine.
    fn tool(&self, words: &[&str], configuration: &Path) -> Output {
        Command::new(self.path("net"))
            .args(words)
            .args(["-S", "dc1.corp.example", "-U"])
            .arg(format!("Administrator%{ADMIN}"))
            .arg("--configfile")
            .arg(configuration)
            .output()
            .unwrap()
    }

    /// The configuration of a Linux machine that will be a member.
    fn member(&self, name: &str) -> PathBuf {
        let folder = self.path(name);
        fs::create_dir_all(&folder).unwrap();
        let own = folder.display();
        let file = folder.join("smb.conf");
        let text = format!(
            "[global]\nnetbios name = {name}\nrealm = CORP.EXAMPLE\nworkgroup = CORP\nsecurity = ads\nlog file = {own}/log\n\
             lock directory = {own}\nstate directory = {own}\ncache directory = {own}\npid directory = {own}\nprivate dir = {own}\n"
        );
        fs::write(&file, text).unwrap();
        file
    }

    /// Runs `samba-tool WORDS` on the domain's own files.
    pub(crate) fn samba_tool(&self, words: &[&str]) -> String {
        let done = Command::new("samba-tool")
            .args(words)
            .arg("-H")
            .arg(self.path("domain/private/sam.ldb"))
            .arg("--configfile")
            .arg(self.path("dc.conf"))
            .output()
            .unwrap();
        assert!(done.status.success(), "{words:?}: {}", text(&done));
        text(&done)
    }

    /// Samba's `net`, run where the controller answers.
    pub(crate) fn net(&self) -> PathBuf {
        self.path("net")
    }

    pub(crate) fn provision(&self, machine: &str, user: &str, password: &str) -> Provision {
        Provision {
            domain: "corp.example".into(),
            machine: machine.into(),
            ou: None,
            dc: None,
            credential: Credential {
                user: user.into(),
                password: password.into(),
            },
            program: self.net(),
            limit: Duration::from_mins(2),
        }
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            // The daemon's process namespace ends with it.
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        let _ = Command::new("ip")
            .args(["netns", "delete", &self.namespace])
            .output();
    }
}

/// A new domain made by Samba. It is kept beside the build for the next run, because nothing in it
/// depends on its location.
fn new_domain() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let kept = exe.ancestors().nth(2).unwrap().join("samba-domain");
    if kept.exists() {
        return kept;
    }
    let partial = kept.with_extension("partial");
    let _ = fs::remove_dir_all(&partial);
    fs::create_dir(&partial).unwrap();
    let done = Command::new("samba-tool")
        .args([
            "domain",
            "provision",
            "--server-role=dc",
            "--use-rfc2307",
            "--dns-backend=SAMBA_INTERNAL",
        ])
        .args([
            "--realm=CORP.EXAMPLE",
            "--domain=CORP",
            "--host-name=dc1",
            "--option=dns forwarder=",
        ])
        .arg(format!("--host-ip={ADDRESS}"))
        .arg(format!("--adminpass={ADMIN}"))
        .arg(format!("--targetdir={}", partial.display()))
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", text(&done));
    fs::rename(&partial, &kept).unwrap();
    kept
}

/// Copies a folder with extended attributes, in which Samba keeps access lists.
fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp")
        .arg("-a")
        .arg(from)
        .arg(to)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", text(&done));
}

fn text(done: &Output) -> String {
    String::from_utf8_lossy(&[done.stdout.as_slice(), &done.stderr].concat()).into_owned()
}

/// Checks that Samba's own reader accepts the blob and that its account can log on to the domain
/// controller.
pub(crate) fn uses_the_blob(controller: &Controller, blob: &str) {
    let member = controller.member("LAB-01");
    let file = controller.path("LAB-01.blob");
    let units = [0xFEFF].into_iter().chain(blob.encode_utf16()).chain([0]);
    fs::write(&file, units.flat_map(u16::to_le_bytes).collect::<Vec<u8>>()).unwrap();
    assert_eq!(
        validate_blob(&fs::read(&file).unwrap()).unwrap().text(),
        blob
    );
    let joined = Command::new(controller.path("net"))
        .args(["offlinejoin", "requestodj", "--configfile"])
        .arg(&member)
        .arg(format!("loadfile={}", file.display()))
        .output()
        .unwrap();
    assert!(joined.status.success(), "{}", text(&joined));
    let tested = Command::new(controller.path("net"))
        .args(["ads", "testjoin", "--configfile"])
        .arg(&member)
        .output()
        .unwrap();
    assert!(tested.status.success(), "{}", text(&tested));
}
