//! Windows steps on synthetic hives: cases that run on every machine, and cases that have to be
//! refused.

mod becomes;
mod files;
mod refusals;
#[path = "../windows_lab/mod.rs"]
mod windows_lab;

use apply::Outcome;
use firstboot::job::{self, Job, ReportTo, Secret};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use template::first_start::{FirstStart, ReportKey};
use template::step::{
    Action, Answers, DriverFile, FirstBootAction, FirstBootEnd, FirstBootJob, FirstBootStep, Group,
    Ipv4Config, Nic, NicConfig, OnError, OnExists, Payload, User,
};
use windows_lab::volume::Mounted;
use windows_lab::{Lab, PARTITION, hives, hivexget, python, reglookup, said};

const MACHINE: [u32; 3] = [1111111111, 222222222, 3333333333];

const OLD_SID: &str = "S-1-5-21-1111111111-222222222-3333333333";

/// A SID whose text is shorter than the old one: strings and names change their length.
const NEW_SID: &str = "S-1-5-21-44-55-66";

const NEW: [u32; 3] = [44, 55, 66];

const CONFIG: &str = "Windows/System32/config";

/// A small SYSTEM hive, with `product` as its product type.
fn system(dir: &Path, product: &str) -> Vec<u8> {
    let product = format!("string:{product}");
    hives::build(
        dir,
        &hives::descriptor(&hives::sid(MACHINE, Some(1000))),
        &[
            (
                "Select",
                &[("Current", "dword:1"), ("LastKnownGood", "dword:1")],
            ),
            ("Setup", &[("UnattendFile", r"string:D:\other.xml")]),
            (
                r"ControlSet001\Control\ComputerName\ComputerName",
                &[("ComputerName", "string:MASTER")],
            ),
            (
                r"ControlSet001\Control\ProductOptions",
                &[("ProductType", &product)],
            ),
            (
                r"ControlSet001\Services\Tcpip\Parameters",
                &[("Hostname", "string:master")],
            ),
            (
                r"ControlSet001\Services\Tcpip6\Parameters",
                &[("Dhcpv6DUID", "hex:3:00,01")],
            ),
            (
                r"ControlSet001\Services\stornvme",
                &[("Start", "dword:3"), ("Type", "dword:1")],
            ),
            (
                r"ControlSet001\Services\stornvme\StartOverride",
                &[("0", "dword:3")],
            ),
            ("DriverDatabase", &[]),
        ],
    )
}

fn sam(dir: &Path) -> Vec<u8> {
    let account = [vec![0x5a; 40], hives::sid(MACHINE, None)[12..].to_vec()].concat();
    let account = hives::hex(3, &account);
    let members = format!(r"SAM\Domains\Builtin\Aliases\Members\{OLD_SID}");
    let admins = hives::hex(3, &[vec![0; 52], hives::sid(MACHINE, Some(500))].concat());
    hives::build(
        dir,
        &hives::descriptor(&hives::sid(MACHINE, Some(500))),
        &[
            (r"SAM\Domains\Account", &[("V", &account)]),
            (&format!(r"{members}\000001F4"), &[]),
            (r"SAM\Domains\Builtin\Aliases\00000220", &[("C", &admins)]),
        ],
    )
}

fn security(dir: &Path, domain: bool) -> Vec<u8> {
    let machine = hives::hex(0, &hives::sid(MACHINE, None));
    let domain = match domain {
        true => hives::hex(0, &hives::sid([7, 8, 9], None)),
        false => hives::hex(0, &[0; 4]),
    };
    let user = hives::sid(MACHINE, Some(1000));
    let right = hives::hex(0, &user);
    let account = format!(r"Policy\Accounts\{OLD_SID}-1000\Sid");
    hives::build(
        dir,
        &hives::descriptor(&user),
        &[
            (r"Policy\PolAcDmS", &[("", &machine)]),
            (r"Policy\PolPrDmS", &[("", &domain)]),
            (&account, &[("", &right)]),
        ],
    )
}

fn software(dir: &Path) -> Vec<u8> {
    let list = format!(r"Microsoft\Windows NT\CurrentVersion\ProfileList\{OLD_SID}-1000");
    let text = format!("string:before {OLD_SID}-1000 and {OLD_SID}1 after");
    hives::build(
        dir,
        &hives::descriptor(&hives::sid(MACHINE, Some(1000))),
        &[
            (r"Microsoft\Cryptography", &[("MachineGuid", "string:old")]),
            (
                &list,
                &[
                    ("ProfileImagePath", r"string:C:\Users\someone"),
                    ("text", &text),
                ],
            ),
        ],
    )
}

fn workstation(mib: u64, more: impl FnOnce(&Mounted)) -> Lab {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    Lab::new(mib, |mounted| {
        mounted.put(&format!("{CONFIG}/SYSTEM"), &system(dir, "WinNT"));
        mounted.put(&format!("{CONFIG}/SYSTEM.LOG1"), &[7; 4096]);
        mounted.put(&format!("{CONFIG}/SAM"), &sam(dir));
        mounted.put(&format!("{CONFIG}/SECURITY"), &security(dir, false));
        mounted.put(&format!("{CONFIG}/SOFTWARE"), &software(dir));
        more(mounted);
    })
}

fn name(name: &str) -> Action {
    Action::WindowsName {
        partition: PARTITION,
        name: name.to_uppercase(),
        dns_name: name.into(),
        suffix: None,
    }
}

fn new_sid(old: &str) -> Action {
    Action::WindowsSid {
        partition: PARTITION,
        old: old.into(),
        new: NEW_SID.into(),
    }
}

fn card() -> Nic {
    Nic {
        mac: "52:54:00:12:34:56".into(),
        config: NicConfig {
            ipv4: Ipv4Config::Static {
                address: Ipv4Addr::new(10, 20, 0, 50),
                prefix: 24,
                gateway: Some(Ipv4Addr::new(10, 20, 0, 1)),
            },
            dns: vec![Ipv4Addr::new(10, 20, 0, 2)],
            suffix: Some("lab.example".into()),
            search: Vec::new(),
        },
    }
}

/// Security descriptor of a file, read through ntfs-3g.
fn rights(mounted: &Mounted, path: &str) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    let path = mounted.path().join(path);
    let length = rustix::fs::getxattr(path, "system.ntfs_acl", &mut bytes[..]).unwrap();
    bytes.truncate(length);
    bytes
}

fn names(descriptor: &[u8], sid: &[u8]) -> bool {
    descriptor.windows(sid.len()).any(|window| window == sid)
}

const USERS: [u8; 16] = [1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 0x21, 2, 0, 0];
