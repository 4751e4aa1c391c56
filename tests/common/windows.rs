//! Masters that run Windows: real registry hives on an NTFS volume that mkntfs made. SOFTWARE is
//! built, because no set has one.

use std::path::{Path, PathBuf};

use super::disk::{Loop, Mount, part};
use super::fill::{TARGET_POISON, poisoned};
use super::images::capture;
use super::process::{bash, text, tool};

#[path = "../../inspect/tests/support/hives.rs"]
pub(crate) mod hives;

/// Folder of the hives.
const CONFIG: &str = "Windows/System32/config";

/// The machine part of a SID: `S-1-5-21-a-b-c`.
pub(crate) type Machine = [u32; 3];

/// A Windows master.
pub(crate) struct Master {
    /// Each hive and the path of its file in the set.
    pub(crate) hives: [(&'static str, &'static str); 3],
    pub(crate) machine: Machine,
    /// Values of `Windows NT\CurrentVersion`.
    pub(crate) version: &'static [(&'static str, &'static str)],
    /// Size of its disk, in bytes.
    pub(crate) disk_bytes: u64,
}

/// Three hives of one machine.
pub(crate) const XP: Master = Master {
    hives: [
        ("SYSTEM", "xp-m57-pat/SYSTEM"),
        ("SAM", "xp-m57-pat/SAM"),
        ("SECURITY", "xp-m57-pat/SECURITY"),
    ],
    machine: [1_292_428_093, 1_645_522_239, 1_547_161_642],
    version: &[
        ("ProductName", "string:Microsoft Windows XP"),
        ("CurrentBuildNumber", "string:2600"),
        ("CurrentVersion", "string:5.1"),
    ],
    disk_bytes: 48 << 20,
};

/// SYSTEM of a Windows 10, with the accounts of the XP: no set has more hives of one machine
/// outside a domain.
pub(crate) const TEN: Master = Master {
    hives: [
        ("SYSTEM", "win10-19041-desktop-m3oshqu/SYSTEM"),
        ("SAM", "xp-m57-pat/SAM"),
        ("SECURITY", "xp-m57-pat/SECURITY"),
    ],
    machine: XP.machine,
    version: &[
        ("ProductName", "string:Windows 10 Pro"),
        ("EditionID", "string:Professional"),
        ("CurrentBuildNumber", "string:19041"),
        ("CurrentVersion", "string:6.3"),
        ("CurrentMajorVersionNumber", "dword:10"),
        ("CurrentMinorVersionNumber", "dword:0"),
    ],
    disk_bytes: 96 << 20,
};

impl Master {
    /// Captures the master into `master.dcimg` in the folder.
    pub(crate) fn capture(&self, folder: &Path, hives: &Path) {
        let disk = folder.join("windows.raw");
        poisoned(&disk, self.disk_bytes, TARGET_POISON);
        bash(&format!(
            "sgdisk -Z {0} >/dev/null; sgdisk -n 1:2048:0 -t 1:0700 {0} >/dev/null",
            text(&disk)
        ));
        let device = Loop::part(&disk, &part(&disk, 512, 1), 512);
        tool(&["mkntfs", "-q", "-F", "-Q", device.text()]).ok();
        let mounted = Mount::new("ntfs-3g", device.path(), "rw");
        let config = mounted.path().join(CONFIG);
        std::fs::create_dir_all(&config).expect("the folder of hives");
        for (name, place) in self.hives {
            std::fs::write(config.join(name), hives::unpack(hives, place)).expect("a hive");
        }
        std::fs::write(config.join("SOFTWARE"), self.software(folder)).expect("a hive");
        let drivers = mounted.path().join("Windows/System32/drivers");
        std::fs::create_dir_all(drivers).expect("the folder of drivers");
        drop(mounted);
        drop(device);
        capture(&disk, &folder.join("master.dcimg"), &[]).ok();
    }

    fn software(&self, folder: &Path) -> Vec<u8> {
        let [a, b, c] = self.machine;
        let profile =
            format!(r"Microsoft\Windows NT\CurrentVersion\ProfileList\S-1-5-21-{a}-{b}-{c}-1001");
        let user = hives::sid(self.machine, Some(1001));
        let sid = hives::hex(3, &user);
        hives::build(
            folder,
            &hives::descriptor(&user),
            &[
                (
                    r"Microsoft\Cryptography",
                    &[("MachineGuid", "string:of-the-master")],
                ),
                (r"Microsoft\Windows NT\CurrentVersion", self.version),
                (&profile, &[("Sid", &sid)]),
            ],
        )
    }

    /// The machine part of its SID, as text.
    pub(crate) fn numbers(&self) -> String {
        let [a, b, c] = self.machine;
        format!("{a}-{b}-{c}")
    }
}

/// Reads a file of a deployed disk's only volume with ntfscat.
pub(crate) fn cat(disk: &Path, path: &str, to: &Path) -> PathBuf {
    let device = Loop::part(disk, &part(disk, 512, 1), 512);
    tool(&["ntfsfix", "-n", device.text()]).ok();
    bash(&format!("ntfscat {} {path} > {}", device.text(), text(to)));
    to.to_owned()
}

/// Reads one of its hives.
pub(crate) fn hive(disk: &Path, name: &str, folder: &Path) -> PathBuf {
    cat(
        disk,
        &format!("{CONFIG}/{name}"),
        &folder.join(format!("read-{name}")),
    )
}

/// Makes a driver package for these PCI ids, with a service if it is a boot driver. Its program has
/// a certificate table, and its catalog and the installer's `AUTORUN.INF` exist; Windows alone
/// judges signatures.
pub(crate) fn driver(folder: &Path, ids: &[&str], service: Option<&str>) {
    std::fs::create_dir_all(folder).expect("a folder");
    let models: String = ids.iter().map(|id| format!("%d%=Install,{id}\n")).collect();
    let class = if service.is_some() {
        "SCSIAdapter"
    } else {
        "Net"
    };
    let mut inf = format!(
        "[Version]\nSignature=\"$WINDOWS NT$\"\nClass={class}\nCatalogFile=test.cat\n[Manufacturer]\nx=Models,NTamd64\n\
         [Models.NTamd64]\n{models}[Install]\nCopyFiles=@test.sys\n"
    );
    if let Some(service) = service {
        inf.push_str(&format!(
            "[Install.Services]\nAddService={service},2,Service\n[Service]\nServiceType=1\nStartType=0\nErrorControl=1\n\
             ServiceBinary=%12%\\test.sys\n"
        ));
    }
    inf.push_str("[Strings]\nd=\"Test\"\n");
    std::fs::write(folder.join("test.inf"), inf).expect("an inf");
    let autorun = b"[autorun]\r\nopen=setup.exe\r\n";
    std::fs::write(folder.join("AUTORUN.INF"), autorun).expect("an installer's inf");
    std::fs::write(folder.join("test.cat"), b"catalog").expect("a catalog");
    std::fs::write(folder.join("test.sys"), signed_program()).expect("a driver");
}

/// The smallest 64-bit program with a certificate table (Microsoft PE and COFF specification).
fn signed_program() -> Vec<u8> {
    let mut bytes = vec![0_u8; 4096];
    let mut put = |at: usize, what: &[u8]| bytes[at..at + what.len()].copy_from_slice(what);
    put(0, b"MZ");
    put(0x3c, &0x40_u32.to_le_bytes());
    put(0x40, b"PE\0\0");
    put(0x44, &0x8664_u16.to_le_bytes());
    put(0x58, &0x20b_u16.to_le_bytes());
    put(0x58 + 108, &16_u32.to_le_bytes());
    put(0x58 + 112 + 4 * 8, &2048_u32.to_le_bytes());
    put(0x58 + 112 + 4 * 8 + 4, &1024_u32.to_le_bytes());
    bytes
}
