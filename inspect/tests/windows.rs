//! Windows found in NTFS volumes made by mkntfs, with real and with synthetic hives.

#[path = "support/hives.rs"]
mod hives;
#[path = "support/volume.rs"]
mod volume;

use inspect::{Slice, partition};
use std::path::Path;
use template::findings::{Arch, Obstacle, PartitionFindings, ProductType, System, WindowsFindings};
use volume::{Mounted, new_volume};

fn slice(image: &Path) -> Slice {
    let bytes = std::fs::read(image).unwrap();
    of_bytes(bytes)
}

fn of_bytes(bytes: Vec<u8>) -> Slice {
    Slice {
        number: 2,
        length: bytes.len() as u64,
        reader: Box::new(std::io::Cursor::new(bytes)),
    }
}

fn windows_of(image: &Path) -> (PartitionFindings, WindowsFindings) {
    match partition(slice(image)) {
        (volume, Some(System::Windows(found))) => (volume, *found),
        (volume, other) => panic!("{volume:?} {other:?}"),
    }
}

/// A volume with these hives of one set, in an unusual spelling.
fn with_hives(dir: &Path, folder: &Path, files: &[(&str, &str)]) -> std::path::PathBuf {
    let image = new_volume(dir, 64 << 20);
    let mounted = Mounted::new(&image);
    for (from, to) in files {
        mounted.put(
            &format!("WINDOWS/system32/Config/{to}"),
            &hives::unpack(folder, from),
        );
    }
    drop(mounted);
    image
}

#[test]
fn xp_with_all_its_hives() {
    let Some(folder) = hives::real() else { return };
    let dir = tempfile::tempdir().unwrap();
    let set = ["SYSTEM", "SAM", "SECURITY"];
    let names = set.map(|name| format!("xp-m57-pat/{name}"));
    let files: Vec<_> = names.iter().map(String::as_str).zip(set).collect();
    let (volume, found) = windows_of(&with_hives(dir.path(), &folder, &files));
    assert_eq!(volume.obstacles, []);
    assert_eq!(found.obstacles, []);
    assert_eq!((found.partition, found.folder.as_str()), (2, "WINDOWS"));
    assert_eq!(found.computer_name, "M57-PAT");
    assert_eq!((found.control_set, found.last_known_good), (1, Some(2)));
    assert_eq!(
        found.machine_sid.as_deref(),
        Some("S-1-5-21-1292428093-1645522239-1547161642")
    );
    assert_eq!(
        found.accounts,
        [
            "Administrator",
            "Guest",
            "HelpAssistant",
            "Pat",
            "SUPPORT_388945a0"
        ]
    );
    assert_eq!((found.version, found.arch), ((5, 1), Arch::X86));
    assert_eq!(
        (found.domain, found.product_type, found.generalised),
        (None, ProductType::Workstation, false)
    );
    assert!(!found.driver_database);
    let card = &found
        .interfaces
        .iter()
        .find(|card| card.name == "Local Area Connection")
        .unwrap();
    assert_eq!(card.guid, "{58094C24-B1BD-4961-8C68-7C13F7A6213C}");
    assert!(
        card.instance
            .as_deref()
            .unwrap()
            .contains("VEN_8086&DEV_100E")
    );
    assert_eq!(
        card.mac, None,
        "a PCI card's instance does not carry its address"
    );
    assert!(
        found
            .storage_services
            .iter()
            .any(|s| s.name == "atapi" && s.start == 0)
    );
}

#[test]
fn windows_7_in_a_domain() {
    let Some(folder) = hives::real() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (_, found) = windows_of(&with_hives(
        dir.path(),
        &folder,
        &[("win7-wks-win732bita/SYSTEM", "SYSTEM")],
    ));
    assert_eq!(found.obstacles, []);
    assert_eq!(found.computer_name, "WKS-WIN732BITA");
    assert_eq!(found.domain.as_deref(), Some("shieldbase.local"));
    assert_eq!((found.control_set, found.last_known_good), (1, Some(2)));
    assert_eq!((found.version, found.arch), ((6, 1), Arch::X86));
    let ahci = found
        .storage_services
        .iter()
        .find(|service| service.name == "msahci")
        .unwrap();
    assert_eq!((ahci.start, ahci.overridden), (3, false));
    assert_eq!((found.machine_sid, found.accounts.len()), (None, 0));
    let guids: Vec<_> = found
        .interfaces
        .iter()
        .map(|card| card.guid.as_str())
        .collect();
    assert!(
        guids.contains(&"{6AAFC9A9-0542-4DB2-8760-CCFFA953737C}"),
        "{guids:?}"
    );
}

#[test]
fn windows_10_and_the_accounts_of_8_1() {
    let Some(folder) = hives::real() else { return };
    let dir = tempfile::tempdir().unwrap();
    let files = [
        ("win10-19041-desktop-m3oshqu/SYSTEM", "SYSTEM"),
        ("win81-student-pc8/SAM", "SAM"),
        ("win81-student-pc8/SECURITY", "SECURITY"),
    ];
    let (_, found) = windows_of(&with_hives(dir.path(), &folder, &files));
    assert_eq!(found.computer_name, "DESKTOP-M3OSHQU");
    assert_eq!(
        found.machine_sid.as_deref(),
        Some("S-1-5-21-4070822719-3404542230-2541167049")
    );
    assert_eq!(
        found.accounts,
        ["Administrator", "gold_administrator", "Guest"]
    );
    let group = |id| found.groups.iter().find(|group| group.id == id);
    assert_eq!(group(544).unwrap().name, "Administrators");
    assert_eq!(group(555).unwrap().name, "Remote Desktop Users");
    assert_eq!(found.domain.as_deref(), Some("internal.greendale.edu"));
    assert!(found.driver_database);
    assert_eq!((found.last_known_good, found.arch), (None, Arch::X64));
    let service = |name: &str| {
        let found = found
            .storage_services
            .iter()
            .find(|service| service.name.eq_ignore_ascii_case(name));
        found.map(|service| (service.start, service.overridden))
    };
    for demoted in ["storvsc", "vmbus", "iaStorV", "LSI_SAS"] {
        assert_eq!(service(demoted), Some((0, true)), "{demoted}");
    }
    for ready in ["storahci", "stornvme"] {
        assert_eq!(service(ready), Some((0, false)), "{ready}");
    }
    let cards: Vec<_> = found
        .interfaces
        .iter()
        .filter_map(|card| card.mac.as_deref())
        .collect();
    assert_eq!(cards.len(), 1, "{:?}", found.interfaces);
}

#[test]
fn a_dirty_hive_is_replayed_or_an_obstacle() {
    let Some(folder) = hives::real() else { return };
    let dir = tempfile::tempdir().unwrap();
    let set = ["SYSTEM", "SYSTEM.LOG1", "SYSTEM.LOG2"];
    let names = set.map(|name| format!("win10-16299-dirty-desktop-pm6c56d/{name}"));
    let files: Vec<_> = names.iter().map(String::as_str).zip(set).collect();
    let (_, found) = windows_of(&with_hives(dir.path(), &folder, &files));
    assert_eq!(found.obstacles, []);
    assert_eq!(found.computer_name, "DESKTOP-PM6C56D");
    let (_, found) = windows_of(&with_hives(dir.path(), &folder, &files[..1]));
    assert!(matches!(&found.obstacles[..], [Obstacle::DirtyHive { hive, .. }] if hive == "SYSTEM"));
}

const MACHINE: [u32; 3] = [1111, 2222, 3333];

fn synthetic(dir: &Path, state: &str) -> std::path::PathBuf {
    let sd = hives::descriptor(&hives::sid(MACHINE, Some(1000)));
    let image = new_volume(dir, 16 << 20);
    let tcpip = r"ControlSet001\Services\Tcpip\Parameters\Interfaces\{11111111-2222-3333-4444-555555555555}";
    let network = r"ControlSet001\Control\Network\{4D36E972-E325-11CE-BFC1-08002BE10318}\{11111111-2222-3333-4444-555555555555}\Connection";
    let suites = hive::multi_sz(&["Terminal Server", "datacenter"]);
    let system = hives::build(
        dir,
        &sd,
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
                &[
                    ("ProductType", "string:LanmanNT"),
                    ("ProductSuite", &hives::hex(7, &suites)),
                ],
            ),
            (
                r"ControlSet001\Control\Session Manager\Environment",
                &[("PROCESSOR_ARCHITECTURE", "string:AMD64")],
            ),
            (
                r"ControlSet001\Services\stornvme",
                &[("Start", "dword:0"), ("Type", "dword:1")],
            ),
            (
                r"ControlSet001\Services\stornvme\StartOverride",
                &[("0", "dword:3")],
            ),
            (tcpip, &[("EnableDHCP", "dword:1")]),
            (
                network,
                &[
                    ("Name", "string:Ethernet"),
                    (
                        "PnpInstanceID",
                        r"string:PCI\VEN_8086&DEV_10D3\000C29FFFFF3FFDE00",
                    ),
                ],
            ),
            ("DriverDatabase", &[]),
        ],
    );
    let software = hives::build(
        dir,
        &sd,
        &[
            (
                r"Microsoft\Windows NT\CurrentVersion",
                &[
                    ("ProductName", "string:Windows 10 Pro"),
                    ("EditionID", "string:Professional"),
                    ("CurrentBuildNumber", "string:26100"),
                    ("CurrentVersion", "string:6.3"),
                    ("CurrentMajorVersionNumber", "dword:10"),
                    ("CurrentMinorVersionNumber", "dword:0"),
                ],
            ),
            (
                r"Microsoft\Windows\CurrentVersion\Setup\State",
                &[("ImageState", &format!("string:{state}"))],
            ),
        ],
    );
    let mounted = Mounted::new(&image);
    mounted.put("Windows/System32/config/SYSTEM", &system);
    mounted.put("Windows/System32/config/SOFTWARE", &software);
    mounted.put("Windows/Panther/unattend.xml", b"<unattend/>");
    drop(mounted);
    image
}

#[test]
fn a_generalised_windows_11_by_its_synthetic_hives() {
    let dir = tempfile::tempdir().unwrap();
    let image = synthetic(dir.path(), "IMAGE_STATE_GENERALIZE_RESEAL_TO_OOBE");
    let (volume, found) = windows_of(&image);
    assert_eq!((volume.obstacles, found.obstacles.len()), (Vec::new(), 0));
    assert_eq!(found.product, "Windows 11 Pro");
    assert_eq!(found.edition.as_deref(), Some("Professional"));
    assert_eq!((found.version, found.build), ((10, 0), 26100));
    assert!(found.generalised && found.driver_database);
    let file = found.answer_file.unwrap();
    assert_eq!(file.path, r"Windows\Panther\Unattend.xml");
    assert_eq!((file.dropped.as_slice(), file.fault), ([].as_slice(), None));
    assert_eq!(
        found.registered_answer_file.as_deref(),
        Some(r"D:\other.xml")
    );
    // A file that cannot be merged, and one that lost its secret, are known before anything is
    // sent.
    let large = vec![b' '; (1 << 20) + 1];
    let used = b"<unattend><AutoLogon><Password>*SENSITIVE*DATA*DELETED*</Password></AutoLogon></unattend>";
    for (content, dropped, fault) in [
        (b"<unattend><settings></unattend>".as_slice(), 0, "settings"),
        (&large, 0, "1048577 bytes, more than 1048576"),
        (used, 1, ""),
    ] {
        Mounted::new(&image).put("Windows/Panther/Unattend.xml", content);
        let (_, found) = windows_of(&image);
        let file = found.answer_file.unwrap();
        assert_eq!(file.dropped.len(), dropped);
        let said = file.fault.unwrap_or_default();
        assert!(
            said.contains(fault) && said.is_empty() == fault.is_empty(),
            "{said}"
        );
    }
    assert_eq!(
        found.interfaces[0].mac.as_deref(),
        Some("00:0c:29:f3:ff:de")
    );
    assert_eq!(found.storage_services.len(), 1);
    assert!(found.storage_services[0].overridden);
    assert_eq!(found.computer_name, "MASTER");
    assert_eq!(found.product_type, ProductType::DomainController);
    // A terminal server for one person, and a datacenter edition.
    assert_eq!(found.suites, 0x10 | 0x100 | 0x80);
}

/// Sets an extended attribute through which ntfs-3g changes a file's metadata.
fn set_attribute(path: &Path, attribute: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, attribute, value, rustix::fs::XattrFlags::empty()).unwrap();
}

/// A junction like those of `mklink /j`.
fn junction(path: &Path, target: &str) {
    std::fs::create_dir(path).unwrap();
    let wide = |text: &str| -> Vec<u8> {
        let units = text.encode_utf16().chain([0]);
        units.flat_map(u16::to_le_bytes).collect()
    };
    let (real, printed) = (wide(&format!(r"\??\{target}")), wide(target));
    let word = |number: usize| u16::try_from(number).unwrap().to_le_bytes();
    let mut bytes = 0xa000_0003_u32.to_le_bytes().to_vec();
    bytes.extend(word(8 + real.len() + printed.len()));
    for number in [0, 0, real.len() - 2, real.len(), printed.len() - 2] {
        bytes.extend(word(number));
    }
    bytes.extend([real, printed].concat());
    set_attribute(path, "system.ntfs_reparse_data", &bytes);
}

#[test]
fn profiles_on_other_volumes_and_rights_that_name_a_machine_are_found() {
    let Some(folder) = hives::real() else { return };
    let dir = tempfile::tempdir().unwrap();
    let set = ["SYSTEM", "SAM", "SECURITY"];
    let names = set.map(|name| format!("xp-m57-pat/{name}"));
    let files: Vec<_> = names.iter().map(String::as_str).zip(set).collect();
    let image = with_hives(dir.path(), &folder, &files);
    let machine = [1_292_428_093, 1_645_522_239, 1_547_161_642];
    let rights = hives::descriptor(&hives::sid(machine, Some(1003)));
    let account = |who: &str| format!(r"Microsoft\Windows NT\CurrentVersion\ProfileList\{who}");
    let [near, far, linked, other] = [
        "S-1-5-21-1292428093-1645522239-1547161642-1003",
        "S-1-5-21-1292428093-1645522239-1547161642-1004",
        "S-1-5-21-1292428093-1645522239-1547161642-1005",
        "S-1-5-21-9-9-9-1006",
    ]
    .map(account);
    let software = hives::build(
        dir.path(),
        &rights,
        &[
            (
                &near,
                &[("ProfileImagePath", r"string:%SystemDrive%\Users\near")],
            ),
            (&far, &[("ProfileImagePath", r"string:D:\Profiles\far")]),
            (&linked, &[("ProfileImagePath", r"string:C:\Homes\linked")]),
            (
                &other,
                &[("ProfileImagePath", r"string:D:\Profiles\of the domain")],
            ),
        ],
    );
    {
        let mounted = Mounted::new(&image);
        mounted.put("WINDOWS/system32/Config/SOFTWARE", &software);
        mounted.put("Documents and Settings/near/x", b"");
        junction(&mounted.path().join("Users"), r"C:\Documents and Settings");
        junction(&mounted.path().join("Homes"), r"E:\Homes");
    }
    let (_, found) = windows_of(&image);
    assert_eq!(
        found.profiles_elsewhere,
        [
            r"D:\Profiles\far",
            r"C:\Homes\linked, which is E:\Homes\linked"
        ]
    );
    let own = found.machine_sid.unwrap();
    let data = new_volume(dir.path(), 8 << 20);
    assert!(!partition(slice(&data)).0.sids.contains(&own));
    {
        let mounted = Mounted::new(&data);
        mounted.put("of pat", b"");
        set_attribute(&mounted.path().join("of pat"), "system.ntfs_acl", &rights);
    }
    assert_eq!(partition(slice(&data)).0.sids, [own]);
}

#[test]
fn obstacles_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let image = synthetic(dir.path(), "IMAGE_STATE_COMPLETE");
    let (_, found) = windows_of(&image);
    assert!(!found.generalised);
    {
        let mounted = Mounted::new(&image);
        mounted.put("hiberfil.sys", &[b"HIBR".to_vec(), vec![0; 8192]].concat());
        mounted.put("Windows/System32/config/SAM", b"no hive at all");
    }
    let (volume, found) = windows_of(&image);
    assert_eq!(volume.obstacles, [Obstacle::Hibernated]);
    assert!(matches!(&found.obstacles[..], [Obstacle::DamagedHive { hive, .. }] if hive == "SAM"));
    let dirty = dir.path().join("dirty");
    std::fs::create_dir(&dirty).unwrap();
    let image = synthetic(&dirty, "IMAGE_STATE_COMPLETE");
    let fix = std::process::Command::new("ntfsfix")
        .arg(&image)
        .output()
        .unwrap();
    assert!(fix.status.success());
    let (volume, _) = windows_of(&image);
    assert_eq!(volume.obstacles, [Obstacle::DirtyVolume]);
    // A volume without Windows is no system, and its state is no obstacle.
    let data = new_volume(&dirty, 8 << 20);
    let (volume, system) = partition(slice(&data));
    assert!(system.is_none() && volume.obstacles.is_empty());
}

/// For any bytes of a volume, inspection ends, and with a message.
#[test]
fn damaged_volumes_never_panic() {
    let dir = tempfile::tempdir().unwrap();
    let image = synthetic(dir.path(), "IMAGE_STATE_COMPLETE");
    let pristine = std::fs::read(&image).unwrap();
    let areas: Vec<usize> = pristine
        .chunks(512)
        .enumerate()
        .filter(|(_, sector)| {
            sector.starts_with(b"FILE")
                || sector.starts_with(b"INDX")
                || sector.starts_with(b"hbin")
        })
        .map(|(index, _)| index * 512)
        .chain([0])
        .collect();
    let mut state = 1_u64;
    let mut random = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    let mut found = 0;
    for _ in 0..300 {
        let mut bytes = pristine.clone();
        for _ in 0..4 {
            let at = areas[random(areas.len())] + random(512);
            bytes[at] ^= 1 << random(8);
        }
        found += usize::from(partition(of_bytes(bytes)).1.is_some());
    }
    assert!(found > 30, "{found} of 300");
}

/// Hives of users hold the machine's SID too, and a rewrite has to change them. One that could not
/// be changed is found before anything is sent, by its path. No obstacle are hives that their logs
/// complete, hives without the SID, and copies that nobody needs.
#[test]
fn hives_that_name_the_sid_and_cannot_be_changed_are_found_by_their_paths() {
    let Some(folder) = hives::real() else { return };
    let dir = tempfile::tempdir().unwrap();
    let set = ["SYSTEM", "SAM", "SECURITY"];
    let names = set.map(|name| format!("xp-m57-pat/{name}"));
    let files: Vec<_> = names.iter().map(String::as_str).zip(set).collect();
    let image = with_hives(dir.path(), &folder, &files);
    let machine = [1_292_428_093, 1_645_522_239, 1_547_161_642];
    let of = |machine| hives::descriptor(&hives::sid(machine, Some(1003)));
    let sound = hives::build(dir.path(), &of(machine), &[("Software", &[])]);
    let mut dirty = sound.clone();
    // The second sequence number is that of the previous write: the last one did not finish.
    dirty[8] = dirty[8].wrapping_sub(1);
    let sum = dirty[..508].chunks_exact(4).fold(0, |sum, word| {
        sum ^ u32::from_le_bytes([word[0], word[1], word[2], word[3]])
    });
    dirty[508..512].copy_from_slice(&sum.to_le_bytes());
    let mut others = hives::build(dir.path(), &of([9, 9, 9]), &[("Software", &[])]);
    others[8] = others[8].wrapping_sub(1);
    let mut broken = sound.clone();
    broken[4096..4100].copy_from_slice(b"nope");
    {
        let mounted = Mounted::new(&image);
        for (path, content) in [
            ("Users/pat/NTUSER.DAT", &sound),
            ("Users/kim/ntuser.dat", &dirty),
            (
                "Profile/münch/AppData/Local/Microsoft/Windows/UsrClass.dat",
                &dirty,
            ),
            ("Users/of another machine/NTUSER.DAT", &others),
            ("Users/broken/NTUSER.MAN", &broken),
            (
                "Users/pat/AppData/Local/Packages/x/Settings/settings.dat",
                &dirty,
            ),
            ("WINDOWS/system32/config/RegBack/SAM", &dirty),
            ("Users/text/NTUSER.DAT", &b"no hive".to_vec()),
        ] {
            mounted.put(path, content);
        }
        // NTFS compresses files below this folder; their content is checked, not their compression.
        let packed = mounted.path().join("Packed");
        std::fs::create_dir(&packed).unwrap();
        set_attribute(&packed, "system.ntfs_attrib_be", &0x810_u32.to_be_bytes());
        mounted.put("Packed/sound/NTUSER.DAT", &long(dir.path(), &of(machine)));
        mounted.put("Packed/dirty/NTUSER.DAT", &dirty);
    }
    let info = std::process::Command::new("ntfsinfo")
        .args(["-v", "-F", "Packed/sound/NTUSER.DAT"])
        .arg(&image)
        .output()
        .unwrap();
    let info = String::from_utf8_lossy(&info.stdout).into_owned();
    assert!(info.contains("COMPRESSED"), "{info}");
    let (_, found) = windows_of(&image);
    assert_eq!(found.obstacles, []);
    let said: Vec<_> = found
        .unchangeable_hives
        .iter()
        .map(|obstacle| match obstacle {
            Obstacle::DirtyHive { hive, .. } => ("dirty", hive.as_str()),
            Obstacle::DamagedHive { hive, .. } => ("damaged", hive.as_str()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        said,
        [
            ("dirty", r"Packed\dirty\NTUSER.DAT"),
            (
                "dirty",
                r"Profile\münch\AppData\Local\Microsoft\Windows\UsrClass.dat"
            ),
            ("damaged", r"Users\broken\NTUSER.MAN"),
            ("dirty", r"Users\kim\ntuser.dat"),
        ]
    );
}

/// A hive of several compression units, with compressible text and random numbers.
fn long(dir: &Path, descriptor: &[u8]) -> Vec<u8> {
    let mut state = 7_u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    })
    .take(15_000)
    .collect();
    let small = hives::build(dir, descriptor, &[("Software", &[])]);
    let (mut hive, _) = hive::Hive::open(small, &[]).unwrap();
    let now = hive::FileTime(1);
    for index in 0..8 {
        let key = hive.create_path(hive.root(), &format!("Software\\{index}"), now);
        let key = key.unwrap();
        for data in [&noise[..], &[b'a'; 15_000]] {
            let name = data[0].to_string();
            hive.set_value(key, &name, hive::kind::BINARY, data, now)
                .unwrap();
        }
    }
    hive.into_bytes(now)
}
