//! A machine, an image and a template, which each test changes as it needs.

use std::net::Ipv4Addr;
use template::bind::Binding;
use template::findings::{
    Arch, Findings, LinuxFindings, PartitionFindings, ProductType, Renderer, StorageService, Sudo,
    System, WindowsFindings, WindowsInterface,
};
use template::machine::{CopiedFile, DriverPackage, Files, Machine, PciDevice};
use template::plan::{PlanRequest, plan};
use template::schema::parse;
use template::step::{AfterApply, FileSystem, MachinePlan, Payload};

/// Input of a plan; each test changes the part it is about.
pub(crate) struct Case {
    pub(crate) template: String,
    pub(crate) machine: Machine,
    pub(crate) binding: Option<Binding>,
    pub(crate) findings: Findings,
    pub(crate) files: Files,
    pub(crate) grown: Option<u32>,
}

impl Case {
    pub(crate) fn plan(&self) -> MachinePlan {
        let text = format!("schema = 1\n{}", self.template);
        let template = parse(&text).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
        plan(&PlanRequest {
            template: &template,
            machine: &self.machine,
            binding: self.binding.as_ref(),
            findings: &self.findings,
            files: &self.files,
            grown: self.grown,
        })
    }

    /// Asserts that the plan is refused for one reason only, which contains these words.
    pub(crate) fn refused(&self, want: &str) {
        let plan = self.plan();
        assert!(
            plan.refused.iter().any(|reason| reason.contains(want)),
            "{want}: {plan:#?}"
        );
        assert!(plan.steps.is_empty() && plan.after == AfterApply::EndAction);
    }

    pub(crate) fn fine(&self) -> MachinePlan {
        let plan = self.plan();
        assert_eq!(plan.refused, Vec::<String>::new());
        plan
    }

    pub(crate) fn ids(&self) -> Vec<String> {
        self.fine().steps.into_iter().map(|step| step.id).collect()
    }

    /// Asserts that the plan is not refused, and that a note contains these words.
    pub(crate) fn noted(&self, want: &str) -> MachinePlan {
        let plan = self.fine();
        assert!(
            plan.notes.iter().any(|note| note.contains(want)),
            "{want}: {:?}",
            plan.notes
        );
        plan
    }
}

pub(crate) fn payload(name: &str) -> Payload {
    Payload {
        name: name.into(),
        blake3: "00".repeat(32),
        bytes: 7,
    }
}

pub(crate) fn partition(number: u32, file_system: Option<FileSystem>) -> PartitionFindings {
    PartitionFindings {
        number,
        file_system,
        label: None,
        sids: Vec::new(),
        uuid: None,
        obstacles: Vec::new(),
    }
}

pub(crate) fn windows() -> WindowsFindings {
    let service = |name: &str, start, overridden| StorageService {
        name: name.into(),
        start,
        overridden,
    };
    WindowsFindings {
        partition: 3,
        folder: "Windows".into(),
        product: "Windows 10 Pro".into(),
        edition: Some("Professional".into()),
        version: (10, 0),
        build: 19_045,
        arch: Arch::X64,
        generalised: false,
        control_set: 1,
        last_known_good: None,
        computer_name: "MASTER".into(),
        domain: None,
        product_type: ProductType::Workstation,
        suites: 0,
        machine_sid: Some("S-1-5-21-1-2-3".into()),
        profiles_elsewhere: Vec::new(),
        unchangeable_hives: Vec::new(),
        accounts: vec!["Administrator".into(), "Gast".into()],
        groups: Vec::new(),
        interfaces: vec![WindowsInterface {
            guid: "{C43669B3-AB3E-4D0E-8FDE-69579925A20F}".into(),
            name: "Ethernet0".into(),
            instance: None,
            mac: Some("00:0c:29:00:00:01".into()),
        }],
        storage_services: vec![
            service("storahci", 0, false),
            service("stornvme", 0, true),
            service("pciide", 0, true),
            service("intelide", 3, false),
            service("atapi", 0, false),
            service("iaStorV", 0, true),
            service("iaStorAVC", 0, true),
            service("LSI_SAS", 0, true),
            service("storvsc", 0, true),
            service("vmbus", 0, true),
        ],
        driver_database: true,
        answer_file: None,
        registered_answer_file: None,
        obstacles: Vec::new(),
    }
}

pub(crate) fn windows_7() -> WindowsFindings {
    let service = |name: &str| StorageService {
        name: name.into(),
        start: 3,
        overridden: false,
    };
    WindowsFindings {
        product: "Windows 7 Professional".into(),
        version: (6, 1),
        build: 7601,
        driver_database: false,
        storage_services: ["msahci", "pciide", "intelide", "atapi", "iaStorV"]
            .map(service)
            .into(),
        ..windows()
    }
}

pub(crate) fn linux() -> LinuxFindings {
    LinuxFindings {
        partition: 2,
        id: "debian".into(),
        pretty_name: "Debian GNU/Linux 12 (bookworm)".into(),
        version: "12".into(),
        arch: Arch::X64,
        hostname: "master".into(),
        systemd: true,
        renderers: vec![Renderer::Ifupdown],
        cloud_init: None,
        encrypt_method: Some("yescrypt".into()),
        admin_group: Some("sudo".into()),
        selinux_enforcing: false,
        ssh_server: true,
        accounts: vec!["root".into(), "old".into()],
        join_tools: Vec::new(),
        network_by: None,
        beyond_cards: Vec::new(),
        groups: ["root", "sudo", "docker", "users", "Technicians"]
            .map(str::to_owned)
            .into(),
        system_accounts: vec!["www-data".into()],
        sudo: Some(Sudo {
            grants: true,
            reads_folder: true,
        }),
        udev: true,
        host_keys: true,
        host_ids: Vec::new(),
        keytab: false,
        mounts: Vec::new(),
        free_bytes: Some(1 << 30),
        obstacles: Vec::new(),
    }
}

pub(crate) fn findings(systems: Vec<System>) -> Findings {
    Findings {
        partitions: vec![
            partition(1, Some(FileSystem::Fat)),
            partition(2, Some(FileSystem::Ext)),
            partition(3, Some(FileSystem::Ntfs)),
            partition(4, None),
        ],
        systems,
    }
}

pub(crate) fn machine() -> Machine {
    Machine {
        id: "pc1".into(),
        macs: vec![
            "52:54:00:00:00:01".parse().unwrap(),
            "52:54:00:00:00:02".parse().unwrap(),
        ],
        boot_mac: Some("52:54:00:00:00:01".parse().unwrap()),
        pci: vec![device(0x8086, 0xa352, 0x010601)],
        ..Machine::default()
    }
}

pub(crate) fn device(vendor: u16, device: u16, class: u32) -> PciDevice {
    PciDevice {
        vendor,
        device,
        class,
        ..PciDevice::default()
    }
}

pub(crate) fn binding() -> Binding {
    Binding {
        macs: vec!["52:54:00:00:00:01".parse().unwrap()],
        template: "lab".into(),
        number: Some(7),
        name: Some("LAB-07".into()),
        address: Some(Ipv4Addr::new(10, 20, 0, 57)),
        seed: [7; 12],
        ..Binding::default()
    }
}

pub(crate) fn on_windows(template: &str) -> Case {
    Case {
        template: template.into(),
        machine: machine(),
        binding: Some(binding()),
        findings: findings(vec![System::Windows(Box::new(windows()))]),
        files: Files::default(),
        grown: None,
    }
}

pub(crate) fn with_windows(template: &str, change: impl FnOnce(&mut WindowsFindings)) -> Case {
    let mut found = windows();
    change(&mut found);
    Case {
        findings: findings(vec![System::Windows(Box::new(found))]),
        ..on_windows(template)
    }
}

pub(crate) fn on_linux(template: &str) -> Case {
    with_linux(template, |_| {})
}

pub(crate) fn with_linux(template: &str, change: impl FnOnce(&mut LinuxFindings)) -> Case {
    let mut found = linux();
    change(&mut found);
    Case {
        findings: findings(vec![System::Linux(Box::new(found))]),
        ..on_windows(template)
    }
}

pub(crate) const NAME: &str = "[identity]\nhostname = 'LAB-{nn}'\n";
pub(crate) const STATIC: &str = "[network]\nmode = 'static'\nrange = '10.20.0.50-10.20.0.99'\nprefix = 24\ngateway = '10.20.0.1'\n\
                      dns = ['10.20.0.2']\nsuffix = 'lab.example'\n";
pub(crate) const USER: &str = "[[user]]\nname = 'labadmin'\ngroups = ['administrators', 'Technicians']\npassword = 'ref:labadmin'\n";
pub(crate) const DOMAIN: &str = "[membership]\ndomain = 'corp.example'\nblobs = 'blobs'\n";

/// A driver package for `1af4:1001`, `8086:9a0b` and one more device.
pub(crate) fn package() -> DriverPackage {
    let text = "[Version]\nSignature=\"$WINDOWS NT$\"\nClass=SCSIAdapter\nCatalogFile=viostor.cat\n[Manufacturer]\nx=Models,NTamd64,NTx86\n\
                [Models.NTamd64]\nd=Inst,PCI\\VEN_1AF4&DEV_1001&SUBSYS_00021AF4&REV_00\nd=Inst,PCI\\VEN_1AF4&DEV_1001\n\
                d=Plain,PCI\\VEN_8086&DEV_9A0B\n\
                [Models.NTx86]\nd=Inst,PCI\\VEN_1AF4&DEV_1001\nd=Inst,PCI\\VEN_1AF4&DEV_9999\n\
                [Inst.Services]\nAddService=viostor,2,Svc\n[Svc]\nServiceBinary=%12%\\viostor.sys\n";
    let program = pe(AMD64);
    tree(&[
        ("viostor.cat", b"catalog"),
        ("viostor.inf", text.as_bytes()),
        ("viostor.sys", &program),
    ])
}

/// A package of these files, read like the console does.
pub(crate) fn tree(files: &[(&str, &[u8])]) -> DriverPackage {
    let mut package = DriverPackage::default();
    for (name, content) in files {
        let content = DriverPackage::looks_into(name).then_some(*content);
        package.add(name, payload(name), content).unwrap();
    }
    package
}

pub(crate) const I386: u16 = 0x014c;
pub(crate) const AMD64: u16 = 0x8664;
pub(crate) const ARM64: u16 = 0xaa64;

/// The headers of a program for this processor, with a certificate table (Microsoft PE and COFF
/// specification).
pub(crate) fn pe(machine: u16) -> Vec<u8> {
    let mut bytes = vec![0_u8; 1024];
    let mut put = |at: usize, what: &[u8]| bytes[at..at + what.len()].copy_from_slice(what);
    put(0, b"MZ");
    put(0x3c, &0x40_u32.to_le_bytes());
    put(0x40, b"PE\0\0");
    put(0x44, &machine.to_le_bytes());
    // 32-bit programs have the shorter optional header.
    let (magic, directories) = match machine {
        I386 => (0x10b_u16, 0x58 + 92),
        _ => (0x20b, 0x58 + 108),
    };
    put(0x58, &magic.to_le_bytes());
    put(directories, &16_u32.to_le_bytes());
    put(directories + 4 + 4 * 8, &512_u32.to_le_bytes());
    put(directories + 4 + 4 * 8 + 4, &256_u32.to_le_bytes());
    bytes
}

pub(crate) fn virtio() -> Case {
    let mut case = on_windows("[[driver]]\npath = 'drivers/viostor'\nboot_critical = true\n");
    case.machine.pci = vec![device(0x1af4, 0x1001, 0x010000)];
    case.files.drivers = vec![package()];
    case
}

pub(crate) fn one_file(name: &str) -> Vec<CopiedFile> {
    vec![CopiedFile {
        relative: String::new(),
        payload: payload(name),
    }]
}
