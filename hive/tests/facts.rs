//! Known contents of real hives, read by this crate.

mod support;

use hive::{Hive, HiveError, Value};
use support::{folder, open, unpack, walk};

fn value(hive: &Hive, path: &str, name: &str) -> Value {
    let key = hive
        .find(path)
        .unwrap()
        .unwrap_or_else(|| panic!("no key {path}"));
    hive.value(key, name)
        .unwrap()
        .unwrap_or_else(|| panic!("no value {name} in {path}"))
}

fn string(hive: &Hive, path: &str, name: &str) -> String {
    value(hive, path, name).as_string().unwrap()
}

fn strings(hive: &Hive, path: &str, name: &str) -> Vec<String> {
    value(hive, path, name).as_multi_string().unwrap()
}

fn number(hive: &Hive, path: &str, name: &str) -> u32 {
    value(hive, path, name).as_u32().unwrap()
}

#[test]
fn system_hives_of_four_windows_are_read() {
    let Some(folder) = folder() else { return };

    let xp = open(&folder, "xp-m57-pat/SYSTEM");
    assert_eq!(
        string(
            &xp,
            r"ControlSet001\Control\ComputerName\ComputerName",
            "computername"
        ),
        "M57-PAT"
    );
    assert_eq!(
        string(
            &xp,
            r"ControlSet001\Services\Tcpip\Parameters",
            "NV Hostname"
        ),
        "m57-pat"
    );
    assert_eq!(number(&xp, "Select", "Current"), 1);
    assert_eq!(number(&xp, "select", "LASTKNOWNGOOD"), 2);
    let drive = value(&xp, "MountedDevices", r"\DosDevices\C:").data;
    assert_eq!(drive, [0x50, 0xd3, 0x50, 0xd3, 0, 0x7e, 0, 0, 0, 0, 0, 0]);
    let critical = xp
        .find(r"ControlSet001\Control\CriticalDeviceDatabase")
        .unwrap()
        .unwrap();
    assert_eq!(xp.subkeys(critical).unwrap().len(), 54);
    assert!(xp.find("DriverDatabase").unwrap().is_none());

    let seven = open(&folder, "win7-wks-win732bita/SYSTEM");
    let tcpip = r"ControlSet001\Services\Tcpip\Parameters";
    assert_eq!(string(&seven, tcpip, "Hostname"), "WKS-WIN732BITA");
    assert_eq!(string(&seven, tcpip, "NV Domain"), "shieldbase.local");
    let card = format!(r"{tcpip}\Interfaces\{{6AAFC9A9-0542-4DB2-8760-CCFFA953737C}}");
    assert_eq!(strings(&seven, &card, "IPAddress"), ["192.168.1.123"]);
    assert_eq!(strings(&seven, &card, "DefaultGateway"), ["192.168.1.1"]);
    assert_eq!(string(&seven, &card, "NameServer"), "192.168.1.112");
    assert_eq!(number(&seven, r"ControlSet001\Services\msahci", "Start"), 3);
    let critical = seven
        .find(r"ControlSet001\Control\CriticalDeviceDatabase")
        .unwrap()
        .unwrap();
    assert_eq!(seven.subkeys(critical).unwrap().len(), 2548);
    let (keys, values, _) = walk(&seven);
    assert_eq!((keys, values), (30_756, 73_456));

    let ten = open(&folder, "win10-19041-desktop-m3oshqu/SYSTEM");
    assert_eq!(string(&ten, tcpip, "Hostname"), "DESKTOP-M3OSHQU");
    let card = format!(r"{tcpip}\Interfaces\{{c43669b3-ab3e-4d0e-8fde-69579925a20f}}");
    assert_eq!(number(&ten, &card, "EnableDHCP"), 1);
    let start = r"ControlSet001\Services\storvsc\StartOverride";
    assert_eq!(number(&ten, start, "0"), 3);
    assert!(
        ten.find(r"DriverDatabase\DeviceIds\PCI\CC_010802")
            .unwrap()
            .is_some()
    );
    let drive = value(&ten, "MountedDevices", r"\DosDevices\C:").data;
    assert!(drive.starts_with(b"DMIO:ID:") && drive.len() == 24);
    let (keys, values, _) = walk(&ten);
    assert_eq!((keys, values), (33_317, 74_454));
}

#[test]
fn sam_and_security_hives_are_read() {
    let Some(folder) = folder() else { return };
    let machine = |sam: &str| {
        let hive = Hive::open(unpack(&folder, sam), &[]).unwrap().0;
        let data = value(&hive, r"SAM\Domains\Account", "V").data;
        let next = value(&hive, r"SAM\Domains\Account", "F").data;
        let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
        let sid: Vec<u32> = data[data.len() - 12..].chunks(4).map(word).collect();
        (sid, word(&next[0x48..0x4c]))
    };
    assert_eq!(
        machine("xp-m57-pat/SAM"),
        (vec![1292428093, 1645522239, 1547161642], 1005)
    );
    assert_eq!(
        machine("win81-student-pc8/SAM"),
        (vec![4070822719, 3404542230, 2541167049], 1002)
    );
    assert_eq!(
        machine("win10plus-sam-aes/SAM"),
        (vec![3442094626, 3791537600, 2028639842], 1002)
    );

    let sam = Hive::open(unpack(&folder, "xp-m57-pat/SAM"), &[])
        .unwrap()
        .0;
    let pat = value(&sam, r"SAM\Domains\Account\Users\Names\Pat", "");
    assert_eq!(
        (pat.kind, pat.data.len()),
        (1003, 0),
        "a value's type is a user's id"
    );

    let security = Hive::open(unpack(&folder, "win81-student-pc8/SECURITY"), &[])
        .unwrap()
        .0;
    assert_eq!(value(&security, r"Policy\PolAcDmS", "").data.len(), 24);
    assert_eq!(value(&security, r"Policy\PolPrDmN", "").kind, 0);
}

/// The four parts of the boot key are class names, which hivex cannot read.
#[test]
fn class_names_are_read() {
    let Some(folder) = folder() else { return };
    let xp = open(&folder, "xp-m57-pat/SYSTEM");
    for part in ["JD", "Skew1", "GBG", "Data"] {
        let key = xp
            .find(&format!(r"ControlSet001\Control\Lsa\{part}"))
            .unwrap()
            .unwrap();
        let class = xp.class_name(key).unwrap().unwrap();
        assert!(
            class.len() == 8 && class.chars().all(|digit| digit.is_ascii_hexdigit()),
            "{class}"
        );
    }
    let lsa = xp.find(r"ControlSet001\Control\Lsa").unwrap().unwrap();
    assert_eq!(xp.class_name(lsa).unwrap(), None);
    assert_eq!(xp.security(lsa).unwrap()[0], 1, "a descriptor's revision");
}

#[test]
fn a_boot_configuration_is_read() {
    let Some(folder) = folder() else { return };
    let bcd = open(&folder, "bcd-efi/BCD");
    assert_eq!(bcd.name(bcd.root()).unwrap(), "NewStoreRoot");
    let objects = bcd.find("Objects").unwrap().unwrap();
    assert_eq!(bcd.subkeys(objects).unwrap().len(), 17);
    let loader = r"Objects\{733b62e5-f608-11eb-825c-c112f60133ab}\Elements\21000001";
    assert_eq!(value(&bcd, loader, "Element").data.len(), 88);
}

#[test]
fn every_list_and_every_kind_of_value_is_read() {
    let Some(folder) = folder() else { return };
    let hive = open(&folder, "nt-hive-testhive/testhive");
    let (keys, values, _) = walk(&hive);
    assert_eq!((keys, values), (528, 12));
    let big = hive.find("big-data-test").unwrap().unwrap();
    let lens: Vec<usize> = hive
        .values(big)
        .unwrap()
        .iter()
        .map(|value| value.data.len())
        .collect();
    assert_eq!(lens, [16343, 16344, 16345]);
}

#[test]
fn what_is_no_hive_is_refused_with_a_reason() {
    for bytes in [vec![], vec![0; 4095], vec![0; 8192], b"regf".repeat(2048)] {
        let refused = Hive::open(bytes, &[]);
        assert!(
            matches!(
                refused,
                Err(HiveError::NotAHive { .. } | HiveError::Dirty { .. })
            ),
            "{refused:?}"
        );
    }
}
