//! Windows steps on real hives, end to end: a disk image with a GPT and an NTFS volume, through
//! [`apply::run`], read back by independent tools. Runs where DISKCAST_HIVES names the folder of
//! hives, and prints that it was skipped elsewhere.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test is an edge"
)]

mod windows_lab;

use apply::Outcome;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use template::step::{Action, CriticalDevice, DriverFile, Ipv4Config, NicConfig};
use windows_lab::{Lab, PARTITION, hives, hivexget, python, reglookup, said};

const NEW_SID: &str = "S-1-5-21-3405691582-1122334455-987654321";
/// A profile that is neither below Users nor below Documents and Settings.
const MOVED_PROFILE: &str = "Profile/münch/NTUSER.DAT";
/// Hives with unusual names: of a store app, a copy that Windows keeps, and a user's own.
const ANY_NAME: [&str; 3] = [
    "Users/gold/AppData/Local/Packages/a.b/SystemAppData/Helium/User.dat",
    "Windows/System32/config/RegBack/DEFAULT",
    "Backup/of gold",
];
const NEW: [u32; 3] = [3405691582, 1122334455, 987654321];

fn fixed() -> NicConfig {
    NicConfig {
        ipv4: Ipv4Config::Static {
            address: Ipv4Addr::new(10, 20, 0, 57),
            prefix: 24,
            gateway: Some(Ipv4Addr::new(10, 20, 0, 1)),
        },
        dns: vec![Ipv4Addr::new(10, 20, 0, 2), Ipv4Addr::new(10, 20, 0, 3)],
        suffix: Some("lab.example".into()),
        search: vec!["lab.example".into(), "example".into()],
    }
}

fn name(dns_name: &str) -> Action {
    Action::WindowsName {
        partition: PARTITION,
        name: dns_name.to_uppercase(),
        dns_name: dns_name.into(),
        suffix: Some("lab.example".into()),
    }
}

fn new_sid(old: &str) -> Action {
    Action::WindowsSid {
        partition: PARTITION,
        old: old.into(),
        new: NEW_SID.into(),
    }
}

/// A SOFTWARE hive, which no set of real hives has: with the keys that steps change, and profiles
/// named by SID.
fn software(dir: &Path, machine: [u32; 3]) -> Vec<u8> {
    let [a, b, c] = machine;
    let user = format!("S-1-5-21-{a}-{b}-{c}-1003");
    let profile = format!(r"Microsoft\Windows NT\CurrentVersion\ProfileList\{user}");
    let sid = hives::hex(3, &hives::sid(machine, Some(1003)));
    let logon = format!("string:{user}");
    hives::build(
        dir,
        &hives::descriptor(&hives::sid(machine, Some(1003))),
        &[
            (
                r"Microsoft\Cryptography",
                &[("MachineGuid", "string:old-guid")],
            ),
            (
                r"Microsoft\Windows\CurrentVersion\WindowsUpdate",
                &[
                    ("SusClientId", "string:id"),
                    ("PingID", "string:p"),
                    ("Kept", "string:k"),
                ],
            ),
            (r"Microsoft\SQMClient", &[("MachineId", "string:m")]),
            (
                &profile,
                &[("Sid", &sid), ("ProfileImagePath", r"string:C:\Users\Pat")],
            ),
            (
                r"Microsoft\Windows\CurrentVersion\Authentication\LogonUI",
                &[("LastLoggedOnUserSID", &logon), (&user, "dword:1")],
            ),
        ],
    )
}

/// Content of every file of `System32\config`.
fn config_files(lab: &Lab, names: &[&str]) -> BTreeMap<String, Vec<u8>> {
    let volume = lab.volume();
    let read = |name: &&str| lab.cat(&volume, &format!("Windows/System32/config/{name}"));
    names
        .iter()
        .map(|name| ((*name).to_owned(), read(name)))
        .collect()
}

const HASHES: &str = "
import sys
from impacket.examples.secretsdump import LocalOperations, SAMHashes
key = LocalOperations(sys.argv[2]).getBootKey()
sam = SAMHashes(sys.argv[1], key, isRemote=False); sam.dump(); sam.finish()
";
const LOCAL_SID: &str = "
import sys
from regipy.registry import RegistryHive
from regipy.plugins.sam.local_sid import LocalSidPlugin
plugin = LocalSidPlugin(RegistryHive(sys.argv[1]), as_json=True); plugin.run()
print(plugin.entries[0]['machine_sid'])
";

#[test]
fn windows_xp_becomes_itself() {
    let Some(folder) = hives::real() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let old = "S-1-5-21-1292428093-1645522239-1547161642";
    let software = software(scratch.path(), [1292428093, 1645522239, 1547161642]);
    let names = ["SYSTEM", "SAM", "SECURITY"];
    let real = names.map(|name| hives::unpack(&folder, &format!("xp-m57-pat/{name}")));
    let mut lab = Lab::new(40, |mounted| {
        for (name, bytes) in names.iter().zip(&real) {
            mounted.put(&format!("Windows/System32/config/{name}"), bytes);
        }
        mounted.put("Windows/System32/config/SOFTWARE", &software);
        mounted.put("Windows/SMSCFG.INI", b"[Configuration - Client Properties]");
    });
    let before = lab.volume();
    let [sam, system] = ["SAM", "SYSTEM"].map(|name| lab.hive(&before, name));
    let hashes = python("impacket", HASHES, &[&sam, &system]);
    let interface = "{58094C24-B1BD-4961-8C68-7C13F7A6213C}";
    let actions = [
        name("Lab-07"),
        Action::WindowsWorkgroup {
            partition: PARTITION,
            name: "TECHLAB".into(),
        },
        Action::WindowsTcpip {
            partition: PARTITION,
            interface: interface.into(),
            config: fixed(),
        },
        Action::WindowsIdentifiers {
            partition: PARTITION,
            machine_guid: "0d9e5b1c-6a0c-4a3e-9f5e-2f6f1c1e8a77".into(),
        },
        Action::WindowsStorage {
            partition: PARTITION,
            services: vec!["atapi".into(), "intelide".into()],
            critical_devices: vec![CriticalDevice {
                id: "PCI#VEN_8086&DEV_7111".into(),
                service: "intelide".into(),
                class_guid: "{4D36E96A-E325-11CE-BFC1-08002BE10318}".into(),
            }],
        },
        new_sid(old),
    ];
    let report = lab.all(&actions, Outcome::Applied);
    assert!(
        report.notes.iter().any(|note| note.contains("DPAPI")),
        "{report:?}"
    );

    let volume = lab.volume();
    lab.audit(&volume);
    let [system, sam, security, software] =
        ["SYSTEM", "SAM", "SECURITY", "SOFTWARE"].map(|name| lab.hive(&volume, name));
    for set in ["ControlSet001", "ControlSet002"] {
        let computer = format!(r"{set}\Control\ComputerName\ComputerName");
        assert_eq!(hivexget(&system, &computer, "ComputerName"), "LAB-07");
        let tcpip = format!(r"{set}\Services\Tcpip\Parameters");
        for (value, text) in [
            ("Hostname", "Lab-07"),
            ("NV Hostname", "Lab-07"),
            ("Domain", "lab.example"),
            ("SearchList", "lab.example,example"),
        ] {
            assert_eq!(hivexget(&system, &tcpip, value), text, "{set} {value}");
        }
        let key = format!("/{set}/Services/Tcpip/Parameters/Interfaces/{interface}");
        let lines = reglookup(&system, &key);
        for wanted in [
            "EnableDHCP,DWORD,0x00000000",
            "IPAddress,MULTI_SZ,10.20.0.57",
            "SubnetMask,MULTI_SZ,255.255.255.0",
            "DefaultGateway,MULTI_SZ,10.20.0.1",
            "NameServer,SZ,10.20.0.2%2C10.20.0.3",
        ] {
            let whole = format!("{key}/{wanted}");
            assert!(lines.contains(&whole), "{whole}: {lines:#?}");
        }
        let lease = |line: &&String| line.contains("/Dhcp") || line.contains("/Lease");
        assert_eq!(lines.iter().find(lease), None);
        let device = format!("/{set}/Control/CriticalDeviceDatabase/PCI#VEN_8086&DEV_7111");
        assert!(reglookup(&system, &device).contains(&format!("{device}/Service,SZ,intelide")));
    }
    let workgroup: Vec<u8> = "TECHLAB"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let workgroup = [vec![14, 0, 16, 0, 8, 0, 0, 0], workgroup].concat();
    let bytes = std::fs::read(&security).unwrap();
    assert!(bytes.windows(workgroup.len()).any(|w| w == workgroup));
    let guid = hivexget(&software, r"Microsoft\Cryptography", "MachineGuid");
    assert_eq!(guid, "0d9e5b1c-6a0c-4a3e-9f5e-2f6f1c1e8a77");
    let update = r"Microsoft\Windows\CurrentVersion\WindowsUpdate";
    assert_eq!(hivexget(&software, update, "SusClientId"), "");
    assert_eq!(hivexget(&software, update, "Kept"), "k");

    // The SID: administrators by chntpw's own index, hashes by impacket, the machine SID by regipy.
    let accounts = said("chntpw", &["-l", &sam.display().to_string()]);
    let admins = accounts.lines().filter(|line| line.contains("ADMIN"));
    let admins: Vec<_> = admins
        .filter_map(|line| line.split('|').nth(2).map(str::trim))
        .collect();
    assert_eq!(admins, ["Administrator", "Pat"], "{accounts}");
    if let Some(hashes) = hashes {
        assert_eq!(hashes.lines().count(), 5, "{hashes}");
        assert_eq!(
            python("impacket", HASHES, &[&sam, &system]).unwrap(),
            hashes
        );
    }
    if let Some(sid) = python("regipy", LOCAL_SID, &[&sam]) {
        assert_eq!(sid.trim(), NEW_SID);
    }
    no_trace(
        &[&system, &sam, &security, &software],
        [1292428093, 1645522239, 1547161642],
    );
    let profile = format!(r"Microsoft\Windows NT\CurrentVersion\ProfileList\{NEW_SID}-1003");
    assert_eq!(
        hivexget(&software, &profile, "ProfileImagePath"),
        r"C:\Users\Pat"
    );
    let logon = r"Microsoft\Windows\CurrentVersion\Authentication\LogonUI";
    assert_eq!(
        hivexget(&software, logon, "LastLoggedOnUserSID"),
        format!("{NEW_SID}-1003")
    );

    // The old hives lie beside the new ones, and a second run changes nothing.
    let files = [
        "SYSTEM",
        "SAM",
        "SECURITY",
        "SOFTWARE",
        "SYSTEM.predeploy",
        "SAM.predeploy",
    ];
    let first = config_files(&lab, &files);
    assert_eq!(first["SYSTEM.predeploy"], real[0]);
    assert_eq!(first["SAM.predeploy"], real[1]);
    lab.all(&actions, Outcome::Unchanged);
    assert!(
        config_files(&lab, &files) == first,
        "the second run wrote hives"
    );
}

/// Checks that no live key, value or descriptor of these hives names the machine. hivexml outputs
/// everything but descriptors, whose bytes are searched in the file: free cells hold none of them,
/// because descriptors are changed in place.
fn no_trace(paths: &[&Path], machine: [u32; 3]) {
    let [a, b, c] = machine;
    let text = format!("S-1-5-21-{a}-{b}-{c}");
    let old = hives::sid(machine, None);
    for path in paths {
        let dump = said("hivexml", &[&path.display().to_string()]);
        assert!(dump.len() > 1000, "{}", path.display());
        assert!(!dump.contains(&text), "{}: {text}", path.display());
        let bytes = std::fs::read(path).unwrap();
        let descriptors = bytes
            .windows(2)
            .enumerate()
            .filter(|(at, w)| *w == b"sk" && at % 8 == 4);
        for (at, _) in descriptors {
            let cell = &bytes[at..(at + 600).min(bytes.len())];
            assert!(
                !cell.windows(22).any(|w| w == &old[2..]),
                "{}: {at:#x}",
                path.display()
            );
        }
    }
}

#[test]
fn windows_8_with_users_gets_a_new_sid_and_its_drivers() {
    let Some(folder) = hives::real() else { return };
    let machine = [4070822719, 3404542230, 2541167049];
    let old = "S-1-5-21-4070822719-3404542230-2541167049";
    let user = format!("{old}-1001");
    let scratch = tempfile::tempdir().unwrap();
    let set = "win81-student-pc8";
    let software = software(scratch.path(), machine);
    // The set's own NTUSER.DAT is that of a domain user; the descriptors of a local one name the
    // machine.
    let of_user = hives::descriptor(&hives::sid(machine, Some(1001)));
    let text = format!("string:{user}");
    let classes = hives::build(
        scratch.path(),
        &of_user,
        &[("Local Settings", &[("owner", &text)])],
    );
    let moved = classes.clone();
    let mut lab = Lab::new(64, |mounted| {
        let config = "Windows/System32/config";
        let system = hives::unpack(&folder, "win10-19041-desktop-m3oshqu/SYSTEM");
        mounted.put(&format!("{config}/SYSTEM"), &system);
        for name in ["SAM", "SECURITY"] {
            mounted.put(
                &format!("{config}/{name}"),
                &hives::unpack(&folder, &format!("{set}/{name}")),
            );
        }
        mounted.put(&format!("{config}/SOFTWARE"), &software);
        mounted.put(
            "Users/gold/NTUSER.DAT",
            &hives::unpack(&folder, &format!("{set}/NTUSER.DAT")),
        );
        mounted.put(
            "Users/gold/AppData/Local/Microsoft/Windows/UsrClass.dat",
            &classes,
        );
        mounted.put(
            "Users/gold/AppData/Local/Packages/a.b/Settings/settings.dat",
            &classes,
        );
        mounted.put(
            &format!("Users/gold/AppData/Roaming/Microsoft/Protect/{user}/key"),
            b"k",
        );
        mounted.put(&format!("$Recycle.Bin/{user}/desktop.ini"), b"d");
        mounted.put("Windows/System32/drivers/disk.sys", b"MZ");
        mounted.put(MOVED_PROFILE, &moved);
        for path in ANY_NAME {
            mounted.put(path, &moved);
        }
        // One file has only the name of a hive, and one only its first bytes.
        mounted.put(
            "Users/gold/AppData/Local/Packages/c/Settings/settings.dat",
            b"nothing",
        );
        mounted.put(
            "Users/gold/broken.hve",
            &[&b"regf"[..], &[0; 12_284], text.as_bytes()].concat()[..12_288],
        );
        mounted.put(&format!("Windows/System32/Tasks/Sync-{user}"), b"<Task/>");
        mounted.put(&format!("Profile/münch/Protect/{old}-1001/key"), b"moved");
        for index in 0..300 {
            let path = format!("Users/gold/file{index}");
            mounted.put(&path, b"");
            let sd = hives::descriptor(&hives::sid(machine, Some(1001 + index)));
            let path = mounted.path().join(path);
            rustix::fs::setxattr(
                path,
                "system.ntfs_acl",
                &sd,
                rustix::fs::XattrFlags::empty(),
            )
            .unwrap();
        }
    });
    let inf = lab.payload("vmscsi.inf", b"[Version]\r\nSignature=\"$Windows NT$\"\r\n");
    let sys = lab.payload("vmscsi.sys", &[b"MZ".to_vec(), vec![7; 5000]].concat());
    let files = vec![
        DriverFile {
            name: "vmscsi.inf".into(),
            payload: inf.clone(),
        },
        DriverFile {
            name: "x64/vmscsi.sys".into(),
            payload: sys,
        },
    ];
    let id = r"PCI\VEN_1AF4&DEV_1042&REV_01";
    let actions = [
        name("Lab-08"),
        Action::WindowsStorage {
            partition: PARTITION,
            services: vec!["storahci".into(), "LSI_SAS".into(), "iaStorV".into()],
            critical_devices: Vec::new(),
        },
        Action::WindowsBootDriver {
            partition: PARTITION,
            inf: "vmscsi.inf".into(),
            service: "vmscsi".into(),
            binary: "vmscsi.sys".into(),
            program: files[1].clone(),
            hardware_ids: vec![id.into()],
        },
        Action::WindowsStageDriver {
            partition: PARTITION,
            name: "net".into(),
            files,
        },
        new_sid(old),
    ];
    lab.all(&actions, Outcome::Applied);

    let volume = lab.volume();
    lab.audit(&volume);
    let [system, sam, security, software] =
        ["SYSTEM", "SAM", "SECURITY", "SOFTWARE"].map(|name| lab.hive(&volume, name));
    assert_eq!(
        hivexget(
            &system,
            r"ControlSet001\Control\ComputerName\ComputerName",
            "ComputerName"
        ),
        "LAB-08"
    );
    for service in ["storahci", "LSI_SAS", "iaStorV"] {
        let key = format!("/ControlSet001/Services/{service}");
        let lines = reglookup(&system, &key);
        assert!(
            lines.contains(&format!("{key}/Start,DWORD,0x00000000")),
            "{lines:#?}"
        );
        assert!(
            !lines.iter().any(|line| line.contains("StartOverride")),
            "{lines:#?}"
        );
    }
    let untouched = reglookup(&system, "/ControlSet001/Services/megasas").join("\n");
    assert!(
        untouched.contains("StartOverride/0,DWORD,0x00000003"),
        "{untouched}"
    );
    let device = r"DriverDatabase\DeviceIds\PCI\VEN_1AF4&DEV_1042&REV_01";
    let lines = reglookup(&system, &format!("/{}", device.replace('\\', "/"))).join("\n");
    assert!(lines.contains("vmscsi.inf,BINARY,%01%FF%00%00"), "{lines}");
    let package = "/DriverDatabase/DriverPackages/vmscsi.inf_diskcast/Configurations/diskcast";
    let lines = reglookup(&system, package);
    assert!(
        lines.contains(&format!("{package}/Service,SZ,vmscsi")),
        "{lines:#?}"
    );
    let image = hivexget(&system, r"ControlSet001\Services\vmscsi", "ImagePath");
    assert_eq!(image, r"system32\drivers\vmscsi.sys");
    assert_eq!(
        lab.cat(&volume, "Windows/System32/drivers/vmscsi.sys")
            .len(),
        5002
    );
    assert_eq!(
        lab.cat(&volume, "ProgramData/diskcast/drivers/net/x64/vmscsi.sys")
            .len(),
        5002
    );

    no_trace(&[&system, &sam, &security, &software], machine);
    if let Some(sid) = python("regipy", LOCAL_SID, &[&sam]) {
        assert_eq!(sid.trim(), NEW_SID);
    }
    let user = format!("{NEW_SID}-1001");
    assert_eq!(
        lab.cat(&volume, &format!("$Recycle.Bin/{user}/desktop.ini")),
        b"d"
    );
    let protect = format!("Users/gold/AppData/Roaming/Microsoft/Protect/{user}/key");
    assert_eq!(lab.cat(&volume, &protect), b"k");
    let classes = "Users/gold/AppData/Local/Microsoft/Windows/UsrClass.dat";
    let apps = "Users/gold/AppData/Local/Packages/a.b/Settings/settings.dat";
    let moved = format!("Profile/münch/Protect/{user}/key");
    assert_eq!(lab.cat(&volume, &moved), b"moved");
    let task = format!("Windows/System32/Tasks/Sync-{user}");
    assert_eq!(lab.cat(&volume, &task), b"<Task/>");
    for path in [classes, apps, MOVED_PROFILE].iter().chain(&ANY_NAME) {
        let file = lab.dir.path().join("user.hive");
        std::fs::write(&file, lab.cat(&volume, path)).unwrap();
        assert_eq!(hivexget(&file, "Local Settings", "owner"), user, "{path}");
        let bytes = std::fs::read(&file).unwrap();
        let has = |sid: &[u8]| bytes.windows(sid.len()).any(|w| w == sid);
        assert!(has(&hives::sid(NEW, Some(1001))) && !has(&hives::sid(machine, Some(1001))));
    }
    {
        let mounted = windows_lab::volume::Mounted::new(&volume);
        let sd = hives::descriptor(&hives::sid(NEW, Some(1001 + 77)));
        let mut found = vec![0; 4096];
        let path = mounted.path().join("Users/gold/file77");
        let length = rustix::fs::getxattr(path, "system.ntfs_acl", &mut found[..]).unwrap();
        assert_eq!(found[..length], sd);
        let private = [
            "ProgramData/diskcast",
            "ProgramData/diskcast/drivers/net/vmscsi.inf",
        ];
        for path in private {
            let path = mounted.path().join(path);
            let length = rustix::fs::getxattr(path, "system.ntfs_acl", &mut found[..]).unwrap();
            let everyone = [1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
            assert!(!found[..length].windows(12).any(|w| w == everyone));
        }
    }
    lab.all(&actions, Outcome::Unchanged);
}

#[test]
fn windows_7_goes_back_to_dhcp_in_both_control_sets() {
    let Some(folder) = hives::real() else { return };
    let mut lab = Lab::new(48, |mounted| {
        let system = hives::unpack(&folder, "win7-wks-win732bita/SYSTEM");
        mounted.put("Windows/System32/config/SYSTEM", &system);
    });
    let interface = "{6AAFC9A9-0542-4DB2-8760-CCFFA953737C}";
    let actions = [
        Action::WindowsTcpip {
            partition: PARTITION,
            interface: interface.into(),
            config: NicConfig {
                ipv4: Ipv4Config::Dhcp,
                dns: Vec::new(),
                suffix: None,
                search: Vec::new(),
            },
        },
        Action::WindowsStorage {
            partition: PARTITION,
            services: vec!["msahci".into()],
            critical_devices: vec![CriticalDevice {
                id: "PCI#CC_0106".into(),
                service: "msahci".into(),
                class_guid: "{4D36E96A-E325-11CE-BFC1-08002BE10318}".into(),
            }],
        },
    ];
    lab.all(&actions, Outcome::Applied);
    let system = lab.hive(&lab.volume(), "SYSTEM");
    for set in ["ControlSet001", "ControlSet002"] {
        let key = format!("/{set}/Services/Tcpip/Parameters/Interfaces/{interface}");
        let lines = reglookup(&system, &key);
        assert!(
            lines.contains(&format!("{key}/EnableDHCP,DWORD,0x00000001")),
            "{lines:#?}"
        );
        let fixed = |line: &&String| line.contains("IPAddress") || line.contains("192.168.1.1");
        assert_eq!(lines.iter().find(fixed), None, "{lines:#?}");
        let key = format!("/{set}/Services/msahci");
        assert!(reglookup(&system, &key).contains(&format!("{key}/Start,DWORD,0x00000000")));
    }
    lab.all(&actions, Outcome::Unchanged);
}

#[test]
fn a_dirty_hive_keeps_what_only_its_logs_had() {
    let Some(folder) = hives::real() else { return };
    let set = "win10-16299-dirty-desktop-pm6c56d";
    let names = ["SYSTEM", "SYSTEM.LOG1", "SYSTEM.LOG2"];
    let real = names.map(|name| hives::unpack(&folder, &format!("{set}/{name}")));
    let mut lab = Lab::new(80, |mounted| {
        for (name, bytes) in names.iter().zip(&real) {
            mounted.put(&format!("Windows/System32/config/{name}"), bytes);
        }
    });
    lab.all(&[name("Lab-09")], Outcome::Applied);
    let volume = lab.volume();
    let system = lab.hive(&volume, "SYSTEM");
    assert_eq!(
        hivexget(
            &system,
            r"ControlSet001\Services\Tcpip\Parameters",
            "Hostname"
        ),
        "Lab-09"
    );
    let keys = said("hivexml", &[&system.display().to_string()])
        .matches("<node ")
        .count();
    assert!((35_595..35_600).contains(&keys), "{keys} keys");
    for (name, bytes) in names.iter().zip(&real) {
        let kept = lab.cat(
            &volume,
            &format!("Windows/System32/config/{name}.predeploy"),
        );
        assert!(kept == *bytes, "{name}.predeploy is what it was");
    }
    for log in &names[1..] {
        let log = lab.cat(&volume, &format!("Windows/System32/config/{log}"));
        assert!(
            !log.is_empty() && log.iter().all(|byte| *byte == 0),
            "an emptied log"
        );
    }
    lab.all(&[name("Lab-09")], Outcome::Unchanged);
}
