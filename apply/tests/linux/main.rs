//! A Linux machine is adapted on a real disk file, and Debian's own tools read it back.
#![allow(
    clippy::disallowed_methods,
    reason = "the edge: tests make files and run programs"
)]

#[path = "../ext_disk/mod.rs"]
mod ext_disk;
mod machine;
mod masters;
mod refusals;

use apply::{Outcome, StepError};
use ext_disk::{Disk, Files, debian_tree, may_mount, plan, step_of, tool};
use std::fs;
use template::findings::Renderer;
use template::first_start::{FirstStart, ReportKey};
use template::secrets::Secrets;
use template::step::{
    Action, FirstBootAction, FirstBootEnd, FirstBootJob, FirstBootStep, Group, Ipv4Config, Kept,
    Nic, NicConfig, OnError, OnExists, SecretName, User,
};

fn nic() -> Nic {
    Nic {
        mac: "52:54:00:aa:bb:01".into(),
        config: NicConfig {
            ipv4: Ipv4Config::Static {
                address: [10, 20, 0, 57].into(),
                prefix: 24,
                gateway: Some([10, 20, 0, 1].into()),
            },
            dns: vec![[10, 20, 0, 2].into()],
            suffix: Some("lab.example".into()),
            search: vec![],
        },
    }
}

fn user(name: &str) -> User {
    User {
        name: name.into(),
        full_name: Some("Lab Admin".into()),
        groups: vec![Group::Administrators, Group::Users],
        password: Some(SecretName("labadmin".into())),
        on_exists: OnExists::Fail,
    }
}

/// A password hash like the console's, made by Debian's own libcrypt.
fn secrets() -> Secrets {
    let hash = tool("mkpasswd", &["-m", "yescrypt", "correct horse"]);
    let mut secrets = Secrets::default();
    secrets.insert(SecretName("labadmin".into()), hash.trim().to_owned());
    secrets
}

fn first_boot() -> FirstBootJob {
    FirstBootJob {
        steps: vec![FirstBootStep {
            id: "run.1".into(),
            action: FirstBootAction::Run {
                command: "echo 'it works'".into(),
                timeout_seconds: 60,
                ok_codes: vec![0],
                reboot_codes: vec![3010],
                on_error: OnError::Stop,
            },
        }],
        end: FirstBootEnd::Shutdown,
        report: false,
    }
}
