//! Driver packages as vendors ship them: the `.inf` and program that are used, and the files that
//! are copied.

use crate::case::*;
use template::findings::{ProductType, WindowsFindings};
use template::machine::DriverPackage;
use template::step::Action;

const DISK: &str = r"PCI\VEN_1AF4&DEV_1001";

/// An `.inf` of a disk driver with this `DriverVer` and this rest of the line in `[Manufacturer]`;
/// `rest` follows it.
fn inf(version: &str, manufacturer: &str, rest: &str) -> String {
    format!(
        "[Version]\r\nSignature=\"$Windows NT$\"\r\nClass=SCSIAdapter\r\nCatalogFile=acme.cat\r\nDriverVer={version}\r\n\
         [Manufacturer]\r\n%A%=Acme,{manufacturer}\r\n{rest}\r\n\
         [Inst]\r\nCopyFiles=Files\r\n[Files]\r\nacme.sys\r\n[Inst.Services]\r\nAddService=acme,2,Svc\r\n\
         [Svc]\r\nServiceBinary=%12%\\acme.sys\r\n[Strings]\r\nA=\"Acm\u{e9}\"\r\n"
    )
}

/// The text in UTF-16 with its mark, as Notepad saves it.
fn utf16(text: &str) -> Vec<u8> {
    let units = std::iter::once(0xfeff).chain(text.encode_utf16());
    units.flat_map(u16::to_le_bytes).collect()
}

/// The text in code page 1252, as old editors save it.
fn ansi(text: &str) -> Vec<u8> {
    text.chars()
        .map(|letter| u8::try_from(u32::from(letter)).unwrap())
        .collect()
}

fn with(package: DriverPackage, change: impl FnOnce(&mut WindowsFindings)) -> Case {
    let mut case = with_windows("[[driver]]\npath = 'd'\nboot_critical = true\n", change);
    case.machine.pci = vec![device(0x1af4, 0x1001, 0x010000)];
    case.files.drivers = vec![package];
    case
}

/// The program of a plan's boot driver, and the `.inf` files that are copied.
fn taken(case: &Case) -> (String, Vec<String>) {
    let mut program = String::new();
    let mut infs = Vec::new();
    for step in case.fine().steps {
        match step.action {
            Action::WindowsBootDriver { program: file, .. } => program = file.name,
            Action::WindowsStageDriver { files, .. } => {
                let names = files.into_iter().map(|file| file.name);
                infs = names
                    .filter(|name| name.to_lowercase().ends_with(".inf"))
                    .collect();
            }
            _ => {}
        }
    }
    (program, infs)
}

/// One `.inf` with a folder for each processor and the same file name in all: by file name alone,
/// the first one was used.
#[test]
fn the_program_is_where_the_inf_says() {
    let rest = format!(
        "[Acme.NTx86]\r\nd=Inst,{DISK}\r\n[Acme.NTamd64]\r\nd=Inst,{DISK}\r\n[Acme.NTarm64]\r\nd=Inst,{DISK}\r\n"
    );
    let by_files = "[SourceDisksNames]\r\n1=%A%\r\n[SourceDisksFiles]\r\nacme.sys=1\r\n[SourceDisksFiles.x86]\r\nacme.sys=1,x86\r\n\
                    [SourceDisksFiles.AMD64]\r\nACME.SYS=1,\\X64\r\n[SourceDisksFiles.arm64]\r\nacme.sys=1,arm64\r\n";
    let by_names = "[SourceDisksNames.x86]\r\n1=%A%,,,\\x86\r\n[SourceDisksNames.amd64]\r\n1=%A%,,,\\x64\r\n\
                    [SourceDisksNames.arm64]\r\n1=%A%,,,arm64\\\r\n[SourceDisksFiles]\r\nacme.sys=1,,\r\n";
    let programs = [pe(I386), pe(AMD64), pe(ARM64)];
    for places in [by_files, by_names] {
        let text = inf(
            "01/02/2023,1.0.0.0",
            "NTx86,NTamd64,NTarm64",
            &format!("{rest}{places}"),
        );
        for inf in [utf16(&text), ansi(&text)] {
            let package = tree(&[
                ("acme.cat", b""),
                ("acme.inf", &inf),
                ("arm64/acme.sys", &programs[2]),
                ("x64/acme.sys", &programs[1]),
                ("x86/acme.sys", &programs[0]),
            ]);
            assert_eq!(taken(&with(package, |_| {})).0, "x64/acme.sys");
        }
    }
    // The file is renamed when it is copied; another file of that name elsewhere is not used.
    let text = inf("01/02/2023,1.0.0.0", "NTamd64", &rest).replace(
        "[Files]\r\nacme.sys\r\n",
        "[Files]\r\nacme.sys,acme64.sys,,0x2\r\n[SourceDisksFiles]\r\nacme64.sys=1\r\n",
    );
    let package = |place| {
        tree(&[
            ("acme.cat", b""),
            ("acme.inf", text.as_bytes()),
            ("old/acme.sys", &programs[1]),
            (place, &programs[1]),
        ])
    };
    assert_eq!(taken(&with(package("acme64.sys"), |_| {})).0, "acme64.sys");
    with(package("other/acme64.sys"), |_| {}).refused("acme64.sys is not in the folder");
}

/// The same `.inf` in a folder for each processor: the program shows which one fits.
#[test]
fn a_program_has_to_be_for_the_processor() {
    let text = inf(
        "01/02/2023,1.0.0.0",
        "NTx86,NTamd64",
        &format!("[Acme.NTx86]\r\nd=Inst,{DISK}\r\n[Acme.NTamd64]\r\nd=Inst,{DISK}\r\n"),
    );
    let programs = [pe(I386), pe(AMD64)];
    let package = tree(&[
        ("i386/acme.cat", b""),
        ("i386/acme.inf", text.as_bytes()),
        ("i386/acme.sys", &programs[0]),
        ("z/acme.cat", b""),
        ("z/acme.inf", text.as_bytes()),
        ("z/acme.sys", &programs[1]),
    ]);
    let (program, infs) = taken(&with(package.clone(), |_| {}));
    assert_eq!(
        (program.as_str(), infs),
        ("z/acme.sys", vec!["z/acme.inf".to_owned()])
    );
    let mut only_x86 = package;
    only_x86.files.truncate(3);
    only_x86.infs.truncate(1);
    with(only_x86.clone(), |_| {}).refused(
        "i386/acme.sys is for 32-bit Intel, and the image holds Windows 10 Pro for 64-bit",
    );
    only_x86.files[2].program = None;
    with(only_x86, |_| {}).refused("i386/acme.sys is no Windows program");
}

/// A tree like the ISO of the virtio drivers: a folder for each Windows, with the same names in
/// all.
#[test]
fn of_a_tree_for_every_windows_the_best_is_taken() {
    let program = pe(AMD64);
    let text = |decoration: &str, version: &str| {
        inf(
            version,
            decoration,
            &format!("[Acme.{decoration}]\r\nd=Inst,{DISK}\r\n"),
        )
    };
    let infs = [
        (
            "2k22",
            text("NTamd64.10.0.3", "07/05/2023,100.93.104.24000"),
        ),
        (
            "w10",
            text("NTamd64.10.0.0x1", "07/05/2023,100.93.104.24000"),
        ),
        (
            "w11",
            text("NTamd64.10.0...22000", "07/05/2023,100.93.104.24000"),
        ),
        ("w7", text("NTamd64.6.1", "07/05/2023,61.93.104.24000")),
        ("w8.1", text("NTamd64.6.3", "07/05/2023,63.93.104.24000")),
    ];
    let mut files: Vec<(String, Vec<u8>)> = vec![
        (
            "AUTORUN.INF".into(),
            b"[autorun]\r\nopen=setup.exe\r\n".to_vec(),
        ),
        (
            "setup/setup.inf".into(),
            b"[Version]\r\nSignature=\"$Chicago$\"\r\n[DefaultInstall]\r\n".to_vec(),
        ),
    ];
    for (folder, inf) in infs {
        let place = |name: &str| format!("viostor/{folder}/amd64/{name}");
        files.push((place("acme.cat"), Vec::new()));
        files.push((place("acme.inf"), inf.into_bytes()));
        files.push((place("acme.sys"), program.clone()));
    }
    let files: Vec<(&str, &[u8])> = files.iter().map(|(n, b)| (n.as_str(), &b[..])).collect();
    let package = tree(&files);
    assert_eq!(package.infs.len(), 5, "an installer's .inf is no driver's");
    type Change = fn(&mut WindowsFindings);
    let cases: [(Change, &str); 5] = [
        (|_| {}, "w10"),
        (|w| w.build = 22_631, "w11"),
        (|w| *w = windows_7(), "w7"),
        (|w| (w.version, w.build) = ((6, 3), 9600), "w8.1"),
        (
            |w| (w.build, w.product_type) = (20_348, ProductType::Server),
            "2k22",
        ),
    ];
    for (change, folder) in cases {
        let (program, infs) = taken(&with(package.clone(), change));
        assert_eq!(program, format!("viostor/{folder}/amd64/acme.sys"));
        assert_eq!(infs, [format!("viostor/{folder}/amd64/acme.inf")]);
    }
    // No file of the other folders is copied.
    let case = with(package, |_| {});
    case.noted("of 5 .inf in d these fit best: viostor/w10/amd64/acme.inf");
    let staged = case
        .fine()
        .steps
        .into_iter()
        .find_map(|step| match step.action {
            Action::WindowsStageDriver { files, .. } => Some(files),
            _ => None,
        });
    let names: Vec<String> = staged.unwrap().into_iter().map(|file| file.name).collect();
    assert_eq!(
        names,
        ["acme.inf", "acme.cat", "acme.sys"].map(|name| format!("viostor/w10/amd64/{name}"))
    );
}

#[test]
fn packages_are_ranked_as_windows_ranks_them() {
    let program = pe(AMD64);
    let text = |version: &str, ids: &str| {
        inf(
            version,
            "NTamd64",
            &format!("[Acme.NTamd64]\r\nd=Inst,{ids}\r\n"),
        )
    };
    let best = |candidates: &[String]| {
        let mut files: Vec<(String, Vec<u8>)> = Vec::new();
        for (number, inf) in candidates.iter().enumerate() {
            files.push((format!("{number}/acme.cat"), Vec::new()));
            files.push((format!("{number}/acme.inf"), inf.clone().into_bytes()));
            files.push((format!("{number}/acme.sys"), program.clone()));
        }
        let files: Vec<(&str, &[u8])> = files.iter().map(|(n, b)| (n.as_str(), &b[..])).collect();
        let mut case = with(tree(&files), |_| {});
        case.machine.pci[0].subsystem = Some((0x1af4, 2));
        taken(&case).0
    };
    let new = "12/31/2024,9.9.9.9";
    let old = "01/01/2019,1.0.0.0";
    // A hardware id ranks before compatible ones, whatever the date; a more specific one before a
    // less specific one.
    for (worse, better) in [
        (
            text(new, DISK),
            text(old, r"PCI\VEN_1AF4&DEV_1001&SUBSYS_00021AF4"),
        ),
        (text(new, r"PCI\CC_0100"), text(old, DISK)),
        (text(new, r"PCI\CC_0100"), text(old, r"PCI\CC_010000")),
        (
            text(new, &format!("X\\Y,{DISK}")),
            text(old, r"PCI\VEN_1AF4&CC_0100"),
        ),
        (
            text(new, r"PCI\VEN_1AF4&DEV_1001&SUBSYS_00021AF4"),
            text(old, r"PCI\VEN_1AF4&DEV_1001&SUBSYS_00021AF4&REV_00"),
        ),
        // Then the date decides, then the version.
        (text(old, DISK), text("01/02/2019,0.1", DISK)),
        (text(old, DISK), text("01/01/2019,1.0.10.0", DISK)),
        // A feature score ranks before ids, and a signature before everything.
        (
            text(new, DISK),
            text(old, r"PCI\CC_0100").replace("[Inst]", "[Inst]\r\nFeatureScore=C0"),
        ),
        (
            text(new, DISK).replace("CatalogFile", "X"),
            text(old, r"PCI\CC_0100"),
        ),
    ] {
        assert_eq!(
            best(&[worse.clone(), better.clone()]),
            "1/acme.sys",
            "{better}"
        );
        assert_eq!(best(&[better.clone(), worse]), "0/acme.sys", "{better}");
    }
}

#[test]
fn each_manufacturer_has_its_own_newest_section() {
    let program = pe(AMD64);
    let package = |rest: &str, decorations: &str| {
        tree(&[
            ("acme.cat", b""),
            ("acme.inf", inf(new_version(), decorations, rest).as_bytes()),
            ("acme.sys", &program),
        ])
    };
    // A newer section of another manufacturer does not hide this one.
    let rest = format!(
        "%B%=Bolt,NTamd64.10.0\r\n[Acme.NTamd64.6.1]\r\nd=Inst,{DISK}\r\n[Bolt.NTamd64.10.0]\r\nd=Inst,PCI\\VEN_1234&DEV_1\r\n"
    );
    assert_eq!(
        taken(&with(package(&rest, "NTamd64.6.1"), |_| {})).0,
        "acme.sys"
    );
    // A newest section that is empty or missing leaves this Windows out.
    for empty in ["[Acme.NTamd64.10.0...16299]\r\n", ""] {
        let rest = format!("[Acme.NTamd64]\r\nd=Inst,{DISK}\r\n{empty}");
        // The order of decorations does not matter.
        for decorations in [
            "NTamd64,NTamd64.10.0...16299",
            "NTamd64.10.0...16299,NTamd64",
        ] {
            let package = package(&rest, decorations);
            with(package.clone(), |_| {}).refused("leaves Windows 10 Pro (build 19045) out");
            assert_eq!(taken(&with(package, |w| w.build = 15_063)).0, "acme.sys");
        }
    }
    // Decorations for servers only, also in hexadecimal, and for a suite.
    for (decoration, want) in [
        ("NTamd64.10.0.3", "is for Windows Server only"),
        ("NTamd64.10.0.0x0000003", "is for Windows Server only"),
        ("NTamd64.10.0.0x2", "is for domain controllers only"),
        (
            "NTamd64.0xA.0..0x80",
            "is for another edition of Windows only",
        ),
    ] {
        let rest = format!("[Acme.{decoration}]\r\nd=Inst,{DISK}\r\n");
        let package = package(&rest, decoration);
        with(package.clone(), |_| {}).refused(want);
        let server: fn(&mut WindowsFindings) = match want.contains("controllers") {
            true => |w| w.product_type = ProductType::DomainController,
            false => |w| (w.product_type, w.suites) = (ProductType::Server, 0x190),
        };
        let mut case = with(package, server);
        case.template.push_str("[windows]\nsid = 'keep'\n");
        assert_eq!(taken(&case).0, "acme.sys");
    }
    // A section for a version ranks before one for a product type, and that before a section for
    // neither.
    let rest = format!(
        "[Acme.NTamd64.6.1]\r\nd=Inst,{DISK}\r\n[Acme.NTamd64...1]\r\n[Acme.NTamd64.6.1.1]\r\nd=Inst,{DISK}\r\n"
    );
    let package = package(&rest, "NTamd64...1,NTamd64.6.1,NTamd64.6.1.1");
    assert_eq!(taken(&with(package, |_| {})).0, "acme.sys");
}

fn new_version() -> &'static str {
    "06/21/2006,10.0.19041.1"
}

/// A folder for every device of a machine: only the disk driver is installed offline, the network
/// card's at first boot.
#[test]
fn of_many_devices_only_the_disk_is_boot_critical() {
    let program = pe(AMD64);
    let disk = inf(
        new_version(),
        "NTamd64",
        &format!("[Acme.NTamd64]\r\nd=Inst,{DISK}\r\n"),
    );
    let card = disk
        .replace("SCSIAdapter", "Net")
        .replace("1001", "1041")
        .replace("acme", "netkvm");
    let extension = card.replace(
        "Class=Net",
        "Class=Extension\r\nClassGuid={e2f84ce7-8efa-411c-aa69-97454ca4cb57}",
    );
    let package = tree(&[
        ("net/ext.inf", extension.as_bytes()),
        ("net/netkvm.cat", b""),
        ("net/netkvm.inf", card.as_bytes()),
        ("net/netkvm.sys", &program),
        ("stor/acme.cat", b""),
        ("stor/acme.inf", disk.as_bytes()),
        ("stor/acme.sys", &program),
    ]);
    for when in ["auto", "always"] {
        let mut case = with(package.clone(), |_| {});
        case.template = format!("{}match = '{when}'\n", case.template);
        case.machine.pci.push(device(0x1af4, 0x1041, 0x020000));
        let (program, infs) = taken(&case);
        assert_eq!(program, "stor/acme.sys");
        assert_eq!(infs, ["net/ext.inf", "net/netkvm.inf", "stor/acme.inf"]);
        let boot = |id: &&String| id.contains("boot-driver");
        assert_eq!(case.ids().iter().filter(boot).count(), 1);
    }
}
