//! Comparison with other readers: hivex, reglookup and reged. They read the same content as this
//! crate, and also what it wrote; with the same edits hivex makes the same keys and values.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use hive::{FileTime, Hive, KeyId, dword, kind, multi_sz, sz};
use support::{folder, open, unpack};

const NOW: FileTime = FileTime(133_000_000_000_000_000);

/// A generator of deterministic numbers.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }
}

fn data(len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| u8::try_from((at * 7 + len) % 251).unwrap())
        .collect()
}

/// The lines printed by `other.py`, made by our reader.
fn dump(hive: &Hive) -> Vec<String> {
    let hex = |data: &[u8]| {
        let digit = |number: u8| char::from(b"0123456789abcdef"[usize::from(number)]);
        data.iter()
            .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
            .collect::<String>()
    };
    let mut lines = Vec::new();
    let mut waiting = vec![(hive.root(), String::new())];
    while let Some((key, path)) = waiting.pop() {
        lines.push(format!("{path}\\"));
        for value in hive.values(key).unwrap() {
            let hex = hex(&value.data);
            lines.push(format!("{path}\\|{}|{}|{hex}", value.name, value.kind));
        }
        for child in hive.subkeys(key).unwrap() {
            waiting.push((child, format!("{path}\\{}", hive.name(child).unwrap())));
        }
    }
    lines.sort();
    lines
}

/// The output of a program, which must succeed.
fn run(command: &mut Command) -> String {
    let done = command
        .output()
        .unwrap_or_else(|why| panic!("{command:?}: {why}"));
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command:?}: {errors}");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// Runs Debian's Python, which has the binding of hivex.
fn hivex(arguments: &[&Path]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/other.py");
    run(Command::new("/usr/bin/python3").arg(script).args(arguments))
}

fn hivex_dump(file: &Path) -> Vec<String> {
    hivex(&[Path::new("dump"), file])
        .split('\n')
        .map(str::to_owned)
        .collect()
}

fn assert_same(ours: &[String], theirs: &[String], what: &str) {
    if ours != theirs {
        let only = |these: &[String], those: &[String]| {
            these
                .iter()
                .filter(|line| those.binary_search(line).is_err())
                .take(3)
                .cloned()
                .collect::<Vec<_>>()
        };
        panic!(
            "{what}: only ours {:?}, only theirs {:?}",
            only(ours, theirs),
            only(theirs, ours)
        );
    }
}

/// Applies one edit on our side and returns it as a line for `other.py`.
fn edit(hive: &mut Hive, numbers: &mut Numbers, keys: &mut Vec<String>) -> Option<String> {
    let place = numbers.below(keys.len());
    let path = keys[place].clone();
    let key = hive.find(&path).unwrap()?;
    let name = format!("Name-{}", numbers.below(12));
    let lens = [0, 1, 4, 5, 100, 4000, 16_344, 16_345, 40_000];
    match numbers.below(10) {
        0..4 => {
            hive.create_key(key, &name, NOW).unwrap();
            keys.push(format!("{path}\\{name}"));
            Some(format!("create\t{path}\t{name}\t0\t0"))
        }
        4..8 => {
            let (kind, len) = (numbers.below(12), lens[numbers.below(lens.len())]);
            let raw = u32::try_from(kind).unwrap();
            hive.set_value(key, &name, raw, &data(len), NOW).unwrap();
            Some(format!("set\t{path}\t{name}\t{kind}\t{len}"))
        }
        8 => {
            let values = hive.values(key).unwrap();
            let name = &values.get(numbers.below(values.len().max(1)))?.name;
            assert!(hive.delete_value(key, name, NOW).unwrap());
            Some(format!("unset\t{path}\t{name}\t0\t0"))
        }
        _ if place > 0 && path.matches('\\').count() > 2 => {
            hive.delete_key(key).unwrap();
            keys.retain(|other| *other != path && !other.starts_with(&format!("{path}\\")));
            Some(format!("delete\t{path}\t\t0\t0"))
        }
        _ => None,
    }
}

/// Applies the same edits with hivex and with this crate, and compares three readings of both
/// results.
fn compare(original: Vec<u8>, seed: u64, edits: usize) {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| -> PathBuf { folder.path().join(name) };
    let mut ours = Hive::open(original.clone(), &[]).unwrap().0;
    let mut numbers = Numbers(seed);
    let mut keys: Vec<String> = dump(&ours)
        .into_iter()
        .filter(|line| line.ends_with('\\') && line.is_ascii())
        .map(|line| line.trim_matches('\\').to_owned())
        .collect();
    let lines: Vec<String> = (0..edits)
        .filter_map(|_| edit(&mut ours, &mut numbers, &mut keys))
        .collect();
    ours.validate().unwrap();

    std::fs::write(file("before"), original).unwrap();
    std::fs::write(file("edits"), lines.join("\n")).unwrap();
    hivex(&[
        Path::new("edit"),
        &file("before"),
        &file("edits"),
        &file("theirs"),
    ]);
    let expected = dump(&ours);
    std::fs::write(file("ours"), ours.into_bytes(NOW)).unwrap();
    assert_same(
        &expected,
        &hivex_dump(&file("ours")),
        "hivex reads what we wrote",
    );
    assert_same(
        &expected,
        &hivex_dump(&file("theirs")),
        "hivex carried out the same edits",
    );
    let theirs = Hive::open(std::fs::read(file("theirs")).unwrap(), &[])
        .unwrap()
        .0;
    assert_same(&expected, &dump(&theirs), "we read what hivex wrote");
}

#[test]
fn hivex_makes_the_same_of_the_same_edits() {
    for seed in 0..4 {
        let minor = if seed % 2 == 0 { 3 } else { 5 };
        let empty = Hive::empty(minor, "root", NOW).unwrap();
        compare(empty.into_bytes(NOW), seed, 400);
    }
}

#[test]
fn hivex_makes_the_same_of_the_same_edits_of_windows_hives() {
    let Some(folder) = folder() else { return };
    let hives = [
        "bcd-efi/BCD",
        "win81-student-pc8/NTUSER.DAT",
        "xp-m57-pat/SYSTEM",
    ];
    for (seed, name) in (10..).zip(hives) {
        compare(unpack(&folder, name), seed, 300);
    }
}

/// The edits of a deployment in a SYSTEM hive, and more.
fn deploy(hive: &mut Hive) -> KeyId {
    let parameters = hive
        .find(r"ControlSet001\Services\Tcpip\Parameters")
        .unwrap()
        .unwrap();
    hive.set_value(parameters, "Hostname", kind::SZ, &sz("LAB-01"), NOW)
        .unwrap();
    let name = hive
        .find(r"ControlSet001\Control\ComputerName\ComputerName")
        .unwrap()
        .unwrap();
    hive.set_value(name, "ComputerName", kind::SZ, &sz("LAB-01"), NOW)
        .unwrap();
    let cards = hive.find_below(parameters, "Interfaces").unwrap().unwrap();
    let card = hive.subkeys(cards).unwrap()[0];
    let addresses = multi_sz(&["10.20.0.50", "10.20.1.50"]);
    hive.set_value(card, "IPAddress", kind::MULTI_SZ, &addresses, NOW)
        .unwrap();
    hive.set_value(card, "EnableDHCP", kind::DWORD, &dword(0), NOW)
        .unwrap();
    let services = hive.find(r"ControlSet001\Services").unwrap().unwrap();
    let service = hive
        .create_path(services, r"diskcast-firstboot\Parameters", NOW)
        .unwrap();
    hive.set_value(service, "BigOne", kind::BINARY, &data(25_600), NOW)
        .unwrap();
    let old = hive.find_below(services, "Dhcp").unwrap().unwrap();
    hive.rename_key(old, "DhcpUnderAMuchLongerName", NOW)
        .unwrap();
    let gone = hive.find_below(services, "Beep").unwrap().unwrap();
    hive.delete_key(gone).unwrap();
    service
}

#[test]
fn every_reader_takes_a_system_hive_we_edited() {
    let Some(folder) = folder() else { return };
    let hives = [
        "xp-m57-pat/SYSTEM",
        "win7-wks-win732bita/SYSTEM",
        "win10-16299-dirty-desktop-pm6c56d/SYSTEM",
        "win10-19041-desktop-m3oshqu/SYSTEM",
    ];
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("SYSTEM");
    for name in hives {
        let mut hive = open(&folder, name);
        let before = hive.validate().unwrap();
        deploy(&mut hive);
        let after = hive
            .validate()
            .unwrap_or_else(|faults| panic!("{name}: {faults:?}"));
        assert_eq!(after.big_values, before.big_values + 1);
        assert_eq!(
            (after.lost_cells, after.note_count),
            (before.lost_cells, before.note_count)
        );
        let once = hive.clone().into_bytes(NOW);
        deploy_again(&mut hive);
        assert!(
            hive.clone().into_bytes(NOW) == once,
            "{name}: the second time changes nothing"
        );
        assert_is_segmented(&once, b"BigOne");

        std::fs::write(&file, &once).unwrap();
        assert_same(&dump(&hive), &hivex_dump(&file), name);
        let parameters = r"/ControlSet001/Services/Tcpip/Parameters/Hostname";
        let seen = run(Command::new("reglookup")
            .args(["-p", parameters])
            .arg(&file));
        assert!(seen.contains("SZ,LAB-01"), "{name}: {seen}");
        let service = "/ControlSet001/Services/diskcast-firstboot/Parameters/BigOne";
        let seen = run(Command::new("reglookup").args(["-p", service]).arg(&file));
        assert!(seen.contains("BINARY,"), "{name}: {seen}");
        let exported = place.path().join("exported");
        // reged needs the case of the names in the hive.
        let services = hive.find(r"ControlSet001\Services").unwrap().unwrap();
        let services = hive.name(services).unwrap();
        let renamed = format!(r"ControlSet001\{services}\DhcpUnderAMuchLongerName");
        let reged = Command::new("/usr/sbin/reged")
            .arg("-x")
            .arg(&file)
            .args([r"HKEY_LOCAL_MACHINE\SYSTEM", &renamed])
            .arg(&exported)
            .output()
            .unwrap();
        let text = std::fs::read_to_string(&exported).unwrap_or_default();
        assert!(
            text.contains("DhcpUnderAMuchLongerName]"),
            "{name}: {reged:?}"
        );
    }
}

/// The edits of [`deploy`] that can be repeated.
fn deploy_again(hive: &mut Hive) {
    let services = hive.find(r"ControlSet001\Services").unwrap().unwrap();
    let service = hive
        .create_path(services, r"diskcast-firstboot\Parameters", NOW)
        .unwrap();
    assert!(
        !hive
            .set_value(service, "BigOne", kind::BINARY, &data(25_600), NOW)
            .unwrap()
    );
    let parameters = hive
        .find_below(services, r"Tcpip\Parameters")
        .unwrap()
        .unwrap();
    assert!(
        !hive
            .set_value(parameters, "hostname", kind::SZ, &sz("LAB-01"), NOW)
            .unwrap()
    );
    assert!(!hive.delete_value(parameters, "not there", NOW).unwrap());
}

/// Checks that the data of the value with this name is a `db` of two segments. Most readers also
/// accept one long cell, but Windows does not, so the bytes are checked.
fn assert_is_segmented(bytes: &[u8], name: &[u8]) {
    let at = bytes
        .windows(name.len())
        .position(|bytes| bytes == name)
        .unwrap();
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!(&bytes[at - 20..at - 18], b"vk");
    assert_eq!(word(at - 16), 25_600);
    let big = 4096 + 4 + usize::try_from(word(at - 12)).unwrap();
    assert_eq!(bytes[big..big + 4], *b"db\x02\x00");
}
