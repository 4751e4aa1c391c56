//! Results of console and agents on real hives on NTFS, read back by tools that share no code with
//! them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::common::process::{bash, run, text, tool};
use crate::common::service::target_of;
use crate::common::windows::{self, Master, TEN, XP};
use crate::lab::Lab;

/// Size of a machine's disk, in bytes: larger than any master.
const DISK: u64 = 112 << 20;
const HIVES: [&str; 4] = ["SYSTEM", "SAM", "SECURITY", "SOFTWARE"];

fn hivexget(hive: &Path, key: &str, value: &str) -> String {
    let said = tool(&["hivexget", text(hive), key, value]).ok();
    said.stdout.trim().to_owned()
}

/// The last twelve bytes of a value: the numbers of a machine's SID, written by hivexget.
fn numbers(hive: &Path, key: &str, value: &str) -> String {
    let command = format!(
        "hivexget {} '{key}' '{value}' | tail -c 12 | od -An -tu4",
        text(hive)
    );
    let said = bash(&command);
    said.split_whitespace().collect::<Vec<_>>().join("-")
}

/// Reads the hives of a deployed disk. Asserts that SAM and SECURITY agree on a SID that is not the
/// master's, and that no key and no text value has the old one. (Former content of free cells does
/// not count.) Returns the SID, and each hive as reglookup's text without its times.
fn itself(
    master: &Master,
    disk: &Path,
    folder: &Path,
) -> (String, BTreeMap<&'static str, Vec<String>>) {
    let hives: BTreeMap<&str, _> = HIVES
        .into_iter()
        .map(|name| (name, windows::hive(disk, name, folder)))
        .collect();
    let old = master.numbers();
    let new = numbers(&hives["SAM"], r"SAM\Domains\Account", "V");
    assert_ne!(new, old);
    assert_eq!(new, numbers(&hives["SECURITY"], r"Policy\PolAcDmS", "@"));
    let read = |(name, file): (&'static str, PathBuf)| {
        let dump = tool(&["reglookup", "-H", text(&file)]).ok().stdout;
        assert!(dump.len() > 400 && !dump.contains(&old), "{name}: {old}");
        let timeless = |line: &str| {
            line.rsplit_once(',')
                .map_or(line, |(rest, _)| rest)
                .to_owned()
        };
        (name, dump.lines().map(timeless).collect())
    };
    (new, hives.into_iter().map(read).collect())
}

/// The target of a plan that has this disk.
fn planned_for<'a>(plan: &'a Value, disk: &Path) -> &'a Value {
    let mut targets = plan["targets"].as_array().into_iter().flatten();
    let of = |target: &&Value| target["disk"]["path"] == text(disk);
    let found = targets.find(of);
    found.unwrap_or_else(|| panic!("no target with {} in {plan:#}", disk.display()))
}

#[test]
fn two_windows_machines_get_names_and_sids_of_their_own() {
    let Some(real) = windows::hives::real() else {
        return;
    };
    let lab = Lab::new("tw", 2, DISK, |folder| XP.capture(folder, &real));
    let template = lab.file(
        "xp.toml",
        "schema = 1\nimage = \"master.dcimg\"\nend = \"none\"\n[identity]\nhostname = \"LAB-{nn}\"\n\
         [membership]\nworkgroup = \"TECHLAB\"\n",
    );
    // Every machine gets a SID of its own, and the one shown before the confirmation is the one
    // written.
    let shown = lab.deploy(&template, &["--dry-run"]).ok().last_of("plan");
    let notes = shown.to_string();
    assert!(notes.contains("encrypted with DPAPI"), "{notes}");
    let run_of = lab.deploy(&template, &["--yes"]);
    let summary = lab.all_done(&run_of);
    let mut names = BTreeSet::new();
    let mut sids = BTreeSet::new();
    for agent in &lab.agents {
        assert_eq!(
            target_of(&summary, &agent.disk)["state"],
            "done",
            "{summary:#}"
        );
        let folder = lab.folder.path();
        let (sid, _) = itself(&XP, &agent.disk, folder);
        let steps = planned_for(&shown, &agent.disk)["personal"]["steps"].to_string();
        let said = format!("its SID is S-1-5-21-{sid} ");
        assert!(steps.contains(&said), "{said}: {steps}");
        let key = r"ControlSet001\Control\ComputerName\ComputerName";
        names.insert(hivexget(&folder.join("read-SYSTEM"), key, "ComputerName"));
        // Its administrators are still administrators.
        let sam = folder.join("read-SAM");
        let said = run(Command::new("chntpw").args(["-l", text(&sam)]));
        for admin in ["Administrator", "Pat"] {
            let is = |line: &str| line.contains(admin) && line.contains("ADMIN");
            assert!(said.stdout.lines().any(is), "{}", said.story());
        }
        sids.insert(sid);
    }
    let expected = BTreeSet::from(["LAB-01".to_owned(), "LAB-02".to_owned()]);
    assert_eq!(names, expected);
    assert_eq!(sids.len(), 2, "every machine has a SID of its own");
}

/// All that a Windows that was never generalised can be given, and the same again.
#[test]
fn a_windows_10_gets_name_address_driver_user_and_sid_and_the_same_again() {
    let Some(real) = windows::hives::real() else {
        return;
    };
    let mut lab = Lab::new("tx", 1, DISK, |folder| TEN.capture(folder, &real));
    let folder = lab.folder.path().to_owned();
    windows::driver(
        &folder.join("drivers/card"),
        &[r"PCI\VEN_8086&DEV_15F2"],
        None,
    );
    let cabinet = vec![9_u8; 200_000];
    std::fs::write(folder.join("app.cab"), &cabinet).expect("a file to transfer");
    lab.secret("correct horse battery\n");
    let template = lab.file(
        "ten.toml",
        r#"
schema = 1
image = "master.dcimg"
end = "none"
[identity]
hostname = "LAB-{nn}"
[network]
mode = "static"
range = "10.20.0.50-10.20.0.59"
prefix = 24
gateway = "10.20.0.1"
dns = ["10.20.0.2"]
suffix = "lab.example"
[membership]
workgroup = "TECHLAB"
[windows]
sid = "rewrite"
[[user]]
name = "labadmin"
groups = ["administrators"]
password = "ref:labadmin"
[[driver]]
path = "drivers/card"
match = "always"
[[copy]]
from = "app.cab"
to = 'C:\Deploy\app.cab'
[[run]]
command = 'expand C:\Deploy\app.cab -F:* C:\App'
"#,
    );
    let deployed = lab.deploy(&template, &["--yes"]);
    lab.all_done(&deployed);
    let disk = lab.agents[0].disk.clone();
    let first = itself(&TEN, &disk, &folder);
    let system = folder.join("read-SYSTEM");
    let key = r"ControlSet001\Control\ComputerName\ComputerName";
    assert_eq!(hivexget(&system, key, "ComputerName"), "LAB-01");
    let tcpip = r"ControlSet001\Services\Tcpip\Parameters";
    assert_eq!(hivexget(&system, tcpip, "NV Domain"), "lab.example");
    let service = r"ControlSet001\Services\diskcast-firstboot";
    let program = hivexget(&system, service, "ImagePath");
    assert!(program.contains(r"diskcast-firstboot.exe"), "{program}");

    let read = |path: &str| {
        let file = windows::cat(&disk, path, &folder.join("read-file"));
        std::fs::read(file).expect("a file of the volume")
    };
    assert_eq!(read("Deploy/app.cab"), cabinet);
    let program = read("ProgramData/diskcast/diskcast-firstboot.exe");
    assert!(program.starts_with(b"MZ") && program.len() > 10_000);
    let staged = read("ProgramData/diskcast/drivers/01/test.sys");
    assert!(staged.starts_with(b"MZ"));
    // The master never saw the card: its address, and all that Windows has to do itself, comes with
    // the first start.
    let job = String::from_utf8(read("ProgramData/diskcast/firstboot.job")).expect("a text");
    let mac = lab.agents_mac(0);
    for line in [
        &format!("mac {mac}"),
        "address 10.20.0.50/24",
        "gateway 10.20.0.1",
        "dns 10.20.0.2",
        "name labadmin",
        "group S-1-5-32-544",
        "password =correct horse battery",
        r"folder C:\\ProgramData\\diskcast\\drivers",
        r"command expand C:\\Deploy\\app.cab -F:* C:\\App",
    ] {
        let has = job.lines().any(|said| said.eq_ignore_ascii_case(line));
        assert!(has, "{line}: {job}");
    }
    assert!(!deployed.stdout.contains("correct horse"));

    lab.start_again();
    lab.all_done(&lab.deploy(&template, &["--yes", "--reuse", "always"]));
    let again = itself(&TEN, &disk, &folder);
    assert_eq!(first.0, again.0);
    for (name, dump) in &first.1 {
        let differ: Vec<_> = dump
            .iter()
            .zip(&again.1[name])
            .filter(|(a, b)| a != b)
            .take(5)
            .collect();
        assert!(
            dump.len() == again.1[name].len() && differ.is_empty(),
            "{name}: {differ:#?}"
        );
    }
}
