//! Samba's `net` replaced by scripts: its input, and the result of every kind of failure.
#![allow(clippy::disallowed_methods)] // Drives processes and times them.

use domain::{Credential, DomainError, Provision};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const PASSWORD: &str = "correct horse";

struct Net {
    folder: tempfile::TempDir,
}

impl Net {
    /// Installs a shell script in place of `net`; its folder is `$HERE`.
    fn new(script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("net");
        fs::write(
            &program,
            format!("#!/bin/sh\nHERE={}\n{script}\n", folder.path().display()),
        )
        .unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder }
    }

    fn provision(&self) -> Provision {
        Provision {
            domain: "corp.example".into(),
            machine: "lab-01".into(),
            ou: Some("OU=Labs,DC=corp,DC=example".into()),
            dc: Some("dc1.corp.example".into()),
            credential: Credential {
                user: r"CORP\joiner".into(),
                password: PASSWORD.into(),
            },
            program: self.folder.path().join("net"),
            limit: Duration::from_secs(20),
        }
    }

    fn error(&self) -> DomainError {
        self.provision().run().unwrap_err()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap()
    }
}

#[test]
fn the_password_goes_over_stdin_and_nothing_stays() {
    let net = Net::new(
        r#"tr '\0' '\n' < /proc/$$/cmdline > $HERE/words; env > $HERE/environment; cat > $HERE/stdin
        pwd > $HERE/folder; stat -c %a . > $HERE/mode; cat smb.conf > $HERE/conf; exit 1"#,
    );
    net.error();
    let words = net.read("words");
    for expected in [
        "offlinejoin\nprovision\n",
        "-A\n/dev/stdin\n",
        "machine_name=LAB-01\n",
        "domain=corp.example\n",
        "machine_account_ou=OU=Labs,DC=corp,DC=example\n",
        "dcname=dc1.corp.example\n",
    ] {
        assert!(words.contains(expected), "{expected}: {words}");
    }
    assert!(!words.contains("horse") && !net.read("environment").contains("horse"));
    assert!(!net.read("conf").contains("horse"));
    assert_eq!(
        net.read("stdin"),
        "username = joiner\npassword = correct horse\ndomain = CORP\n"
    );
    assert_eq!(net.read("mode").trim(), "700");
    assert!(!PathBuf::from(net.read("folder").trim()).exists());
}

#[test]
fn one_that_hangs_is_ended() {
    let net = Net::new("echo $$ > $HERE/pid; exec sleep 600");
    let provision = Provision {
        // Long enough for a shell to start on a busy machine.
        limit: Duration::from_secs(5),
        ..net.provision()
    };
    let started = Instant::now();
    let error = provision.run().unwrap_err();
    assert!(
        matches!(error, DomainError::TimedOut { seconds: 5, .. }),
        "{error:?}"
    );
    assert!(started.elapsed() < Duration::from_secs(300));
    let pid = net.read("pid");
    assert!(
        !PathBuf::from("/proc").join(pid.trim()).join("exe").exists(),
        "it still runs"
    );
}

#[test]
fn every_other_way_to_go_wrong_has_its_words() {
    let cases = [
        ("exit 0", "cannot be used"),
        (
            "echo Successfully provisioned; echo SGVsbG8sIHdvcmxkISEh",
            "cannot be used",
        ),
        ("head -c 8000000 /dev/zero", "refused"),
        (
            "echo 'Failed to provision computer account: it rains' >&2; exit 31",
            "refused (Samba: Failed to provision computer account: it rains)",
        ),
        (
            "echo 'Invalid command: net offlinejoin' >&2; exit 255",
            "4.15 or later does",
        ),
        (
            "echo 'Failed to: NT_STATUS_LOGON_FAILURE correct horse' >&2; exit 1",
            r"CORP\joiner is unknown there",
        ),
        ("exit 1", "(Samba: nothing)"),
    ];
    for (script, expected) in cases {
        let error = Net::new(script).error();
        let said = error.to_string();
        assert!(said.contains(expected), "{script}: {said}");
        assert!(
            said.contains("lab-01") && !said.contains("horse"),
            "{script}: {said}"
        );
    }
    let missing = Provision {
        program: "/nonexistent/net".into(),
        ..Net::new("").provision()
    };
    let said = missing.run().unwrap_err().to_string();
    assert!(said.contains("apt-get install samba-common-bin"), "{said}");
}

#[test]
fn what_cannot_be_handed_over_is_refused_before_anything_runs() {
    let net = Net::new("touch $HERE/ran; exit 1");
    let good = net.provision();
    let with = |change: &dyn Fn(&mut Provision)| {
        let mut provision = good.clone();
        change(&mut provision);
        provision
    };
    let cases = [
        (
            with(&|it| it.machine = "a-name-of-16-long".into()),
            "1 to 15",
        ),
        (with(&|it| it.machine = "lab 1".into()), "1 to 15"),
        (with(&|it| it.machine = "-S".into()), "1 to 15"),
        (
            with(&|it| it.domain = "corp.example reuse".into()),
            "not the DNS name",
        ),
        (with(&|it| it.dc = Some(String::new())), "domain controller"),
        (
            with(&|it| it.ou = Some("Labs".into())),
            "distinguished name",
        ),
        (
            with(&|it| it.credential.user = "a\nb".into()),
            "name of who",
        ),
        (
            with(&|it| it.credential.password = " a".into()),
            "begins with a blank",
        ),
        (
            with(&|it| it.credential.password = "a\ndomain = x".into()),
            "line end",
        ),
    ];
    for (provision, expected) in cases {
        let error = provision.run().unwrap_err();
        assert!(matches!(error, DomainError::Input { .. }), "{error:?}");
        assert!(error.to_string().contains(expected), "{expected}: {error}");
    }
    assert!(!net.folder.path().join("ran").exists());
    assert!(!format!("{good:?}").contains("horse"));
}
