use super::*;
use crate::findings::ProductType;
use proptest::prelude::*;

fn workstation(arch: Arch, version: Version) -> Platform {
    Platform {
        arch,
        version,
        product_type: ProductType::Workstation,
        suites: 0x110,
    }
}

const NVME: &str = r#"
; A disk controller; with all the shapes that are about.
[Version]
Signature   = "$WINDOWS NT$"
Class       = %ClassName%
ClassGuid   = {4d36e97b-e325-11ce-bfc1-08002be10318}
CatalogFile = acme.cat
CatalogFile.NTx86 = acme32.cat

[Manufacturer]
%Acme% = Acme, NTamd64, NTamd64.10.0...16299, ntx86, NTia64

[Acme.NTamd64]
"Acme ""old"" = x" = Old_Install, PCI\VEN_1234&DEV_0001
[Acme.NTamd64.10.0...16299]
%Dev% = Acme_Install, PCI\ven_1234&dev_5678, \
        PCI\CC_010802
[Acme.ntx86]
%Dev% = Acme_Install, PCI\VEN_1234&DEV_5678

[Acme_Install.NTamd64.Services]
AddService = other, , Other_Service
AddService = acmenvme, 0x00000002, Acme_Service, Acme_Log ; the device's own
[Acme_Install.NT.Services]
AddService = acme32,%SERVICE_FLAG%,Acme_Service
[Old_Install.Services]
AddService = acmeold,,Acme_Service
[Acme_Service]
ServiceType = 1
ServiceBinary = %12%\acmenvme.sys

[Strings]
Acme = "Acme, Inc."
Dev = "Acme; NVMe"
ClassName = "SCSIAdapter"
SERVICE_FLAG = 2
"#;

#[test]
fn an_inf_is_read() {
    let inf = read(NVME.as_bytes()).unwrap();
    assert_eq!(inf.class.as_deref(), Some("SCSIAdapter"));
    assert_eq!(
        inf.class_guid.as_deref(),
        Some("{4D36E97B-E325-11CE-BFC1-08002BE10318}")
    );
    assert_eq!(inf.catalog(Arch::X64), Some("acme.cat"));
    assert_eq!(inf.catalog(Arch::X86), Some("acme32.cat"));
    let on = |arch, version| {
        let models: Vec<&Model> = inf.models_for(&workstation(arch, version)).collect();
        models
            .into_iter()
            .map(|m| {
                (
                    m.hardware_ids.join(" "),
                    m.service
                        .clone()
                        .map(|s| format!("{} {}", s.name, s.binary))
                        .unwrap_or_default(),
                )
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(
        on(Arch::X64, (10, 0, 19041)),
        [(
            "PCI\\VEN_1234&DEV_5678 PCI\\CC_010802".into(),
            "acmenvme acmenvme.sys".into()
        )]
    );
    // An older Windows gets the older section.
    assert_eq!(
        on(Arch::X64, (6, 1, 7601)),
        [(
            "PCI\\VEN_1234&DEV_0001".into(),
            "acmeold acmenvme.sys".into()
        )]
    );
    assert_eq!(
        on(Arch::X86, (10, 0, 19041)),
        [(
            "PCI\\VEN_1234&DEV_5678".into(),
            "acme32 acmenvme.sys".into()
        )]
    );
    assert!(on(Arch::Arm64, (10, 0, 19041)).is_empty());
}

#[test]
fn every_encoding_gives_the_same() {
    let want = read(NVME.as_bytes()).unwrap();
    let units: Vec<u16> = NVME.encode_utf16().collect();
    let little: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
    let big: Vec<u8> = units.iter().flat_map(|unit| unit.to_be_bytes()).collect();
    for bytes in [
        [&[0xff, 0xfe], little.as_slice()].concat(),
        [&[0xfe, 0xff], big.as_slice()].concat(),
        little,
        [&[0xef, 0xbb, 0xbf], NVME.as_bytes()].concat(),
        // An old code page: 0xae is a sign in a comment.
        [NVME.as_bytes(), b"; \xae\n"].concat(),
    ] {
        assert_eq!(read(&bytes), Ok(want.clone()));
    }
}

#[test]
fn what_is_no_inf_is_said() {
    assert_eq!(read(b""), Err(InfError::Signature));
    assert_eq!(
        read(b"[Version]\nSignature=\"$Linux$\""),
        Err(InfError::Signature)
    );
    assert!(matches!(
        read(&vec![b'a'; MAX_INF_BYTES + 1]),
        Err(InfError::Large(_))
    ));
}

/// A minimal 64-bit PE file for this machine type, with this certificate table.
fn pe(machine: u16, offset: u32, size: u32) -> Vec<u8> {
    let mut file = vec![0u8; 512];
    file[..2].copy_from_slice(b"MZ");
    file[0x3c] = 0x40;
    file[0x40..0x44].copy_from_slice(b"PE\0\0");
    file[0x44..0x46].copy_from_slice(&machine.to_le_bytes());
    file[0x58..0x5a].copy_from_slice(&0x20bu16.to_le_bytes());
    file[0x58 + 108] = 16;
    let entry = 0x58 + 112 + 32;
    file[entry..entry + 4].copy_from_slice(&offset.to_le_bytes());
    file[entry + 4..entry + 8].copy_from_slice(&size.to_le_bytes());
    file
}

#[test]
fn programs_say_their_processor_and_signature() {
    let read = |bytes: &[u8]| Program::read(bytes).map(|found| (found.arch, found.signed));
    assert_eq!(read(&pe(0x8664, 256, 100)), Some((Arch::X64, true)));
    assert_eq!(read(&pe(0xaa64, 0, 0)), Some((Arch::Arm64, false)));
    assert_eq!(read(&pe(0x014c, 500, 100)), Some((Arch::X86, false)));
    assert_eq!(read(&pe(0x0200, 0, 0)), Some((Arch::Other, false)));
    assert_eq!(read(b"MZ"), None);
    assert_eq!(read(b"\x7fELF"), None);
}

proptest! {
    #[test]
    fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Program::read(&bytes);
        let _ = read(&bytes);
        let _ = read(&[b"[version]\nsignature=$chicago$\n[manufacturer]\n".as_slice(), &bytes].concat());
    }

    #[test]
    fn any_change_is_read(at in 0usize..1000, to in any::<u8>()) {
        let mut bytes = NVME.as_bytes().to_vec();
        if let Some(byte) = bytes.get_mut(at) {
            *byte = to;
        }
        let _ = read(&bytes);
    }
}
