//! Debian packages that the tests need: listed, checked, installed when missing.

use crate::shell::{Failure, has, output, watch};

/// A program that a test runs, or a file that it reads, and its package.
struct Need {
    /// A name on the path, or an absolute path.
    program: &'static str,
    package: &'static str,
    why: &'static str,
}

const fn need(program: &'static str, package: &'static str, why: &'static str) -> Need {
    Need {
        program,
        package,
        why,
    }
}

const NEEDS: &[Need] = &[
    need(
        "cc",
        "build-essential",
        "the C parts of zstd, SQLite and ring",
    ),
    need("git", "git", "the database of advisories"),
    need("sgdisk", "gdisk", "makes and checks GPT"),
    need("sfdisk", "fdisk", "makes and checks MBR and GPT"),
    need("mkfs.fat", "dosfstools", "FAT"),
    need("fsck.fat", "dosfstools", "FAT"),
    need("mkfs.exfat", "exfatprogs", "exFAT"),
    need("fsck.exfat", "exfatprogs", "exFAT"),
    need("mount.exfat-fuse", "exfat-fuse", "exFAT through FUSE"),
    need("mke2fs", "e2fsprogs", "ext2, ext3, ext4"),
    need("e2fsck", "e2fsprogs", "ext2, ext3, ext4"),
    need("debugfs", "e2fsprogs", "ext2, ext3, ext4"),
    need("mkntfs", "ntfs-3g", "NTFS"),
    need("ntfs-3g", "ntfs-3g", "NTFS through FUSE"),
    need("ntfsfix", "ntfs-3g", "NTFS"),
    need("mkfs.xfs", "xfsprogs", "a file system that is captured raw"),
    need("make-bcache", "bcache-tools", "what was on a target before"),
    need(
        "wipefs",
        "util-linux",
        "signatures of what was there before",
    ),
    need(
        "partclone.ext4",
        "partclone",
        "the peer: oracle of tests and benches",
    ),
    need(
        "mkfs.btrfs",
        "btrfs-progs",
        "btrfs on a whole disk, and below a restore",
    ),
    need("pvcreate", "lvm2", "a disk that LVM holds whole"),
    need(
        "cryptsetup",
        "cryptsetup-bin",
        "a disk that LUKS holds whole",
    ),
    need("qemu-img", "qemu-utils", "virtual disks, which are refused"),
    need(
        "qemu-storage-daemon",
        "qemu-system-common",
        "disks with bad sectors",
    ),
    need("mcopy", "mtools", "files on FAT without the kernel"),
    need("zstd", "zstd", "fixtures and the peer"),
    need("xz", "xz-utils", "packages in the tests of exports"),
    need("ip", "iproute2", "network namespaces"),
    need("tc", "iproute2", "shaped links"),
    need("iptables", "iptables", "loss at one receiver"),
    need("losetup", "util-linux", "loop devices"),
    need("mkswap", "util-linux", "swap"),
    need("fsfreeze", "util-linux", "disks that hang"),
    need("script", "bsdutils", "a terminal for commands that ask"),
    need("mount", "mount", "file systems and tmpfs"),
    need("fusermount", "fuse3", "NTFS through FUSE"),
    need("timeout", "coreutils", "time limits of steps"),
    need("ntfssecaudit", "ntfs-3g", "security descriptors of NTFS"),
    need("hivexsh", "libhivex-bin", "another editor of Windows hives"),
    need(
        "/usr/lib/python3/dist-packages/hivex/__init__.py",
        "python3-hivex",
        "the same edits by another hand",
    ),
    need("chntpw", "chntpw", "Windows accounts"),
    need("reglookup", "reglookup", "another reader of Windows hives"),
    need("mkpasswd", "whois", "password hashes"),
    need(
        "x86_64-w64-mingw32-gcc",
        "gcc-mingw-w64-x86-64-win32",
        "links the first-boot program for Windows",
    ),
    need("wine", "wine", "runs it"),
    need("/usr/lib/wine/wine64", "wine64", "runs it"),
    need("samba", "samba", "a domain controller"),
    need("net", "samba-common-bin", "makes join blobs"),
    need(
        "/usr/share/samba/setup/provision_configuration.ldif",
        "samba-ad-provision",
        "a domain",
    ),
    need(
        "/usr/lib/x86_64-linux-gnu/samba/ldb/samldb.so",
        "samba-dsdb-modules",
        "a domain",
    ),
    need(
        "/usr/lib/x86_64-linux-gnu/samba/vfs/acl_xattr.so",
        "samba-vfs-modules",
        "a domain",
    ),
    need("winbindd", "winbind", "a domain"),
    need("python3", "python3-venv", "readers of hives in Python"),
    need("busybox", "busybox", "another shell, and its nc"),
    need("nc.openbsd", "netcat-openbsd", "a way to the console"),
    need(
        "nc.traditional",
        "netcat-traditional",
        "a way to the console",
    ),
    need("socat", "socat", "a way to the console"),
    need("openssl", "openssl", "another SHA-256"),
    need("cpio", "cpio", "holds the initramfs to account"),
    need("dnsmasq", "dnsmasq-base", "somebody else's DHCP server"),
    need("mmdebstrap", "mmdebstrap", "a master system that boots"),
    need("qemu-system-x86_64", "qemu-system-x86", "PCs"),
    need(
        "/usr/lib/ipxe/qemu/pxe-virtio.rom",
        "ipxe-qemu",
        "network cards that boot under BIOS",
    ),
    need("/usr/share/OVMF/OVMF_CODE_4M.fd", "ovmf", "UEFI"),
    need("xorriso", "xorriso", "the ISO"),
    need(
        "grub-mkimage",
        "grub-common",
        "the ISO and the master system",
    ),
    need(
        "/usr/lib/grub/i386-pc/boot.img",
        "grub-pc-bin",
        "GRUB for BIOS",
    ),
    need(
        "/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed",
        "grub-efi-amd64-signed",
        "GRUB for UEFI",
    ),
    need(
        "/usr/lib/shim/shimx64.efi.signed",
        "shim-signed",
        "Secure Boot",
    ),
];

/// Peers that only `bench room` runs.
const PEERS: &[Need] = &[
    need(
        "udp-sender",
        "udpcast",
        "the peer under Clonezilla SE and FOG",
    ),
    need("uftp", "uftp", "the fastest peer"),
];

/// Tries to install the peers of `bench room`; a message names each one that cannot be installed
/// and is left out of the figures.
pub(crate) fn ensure_peers() {
    for peer in PEERS.iter().filter(|peer| !has(peer.program)) {
        eprintln!(
            "packages: {} is missing ({}): {}",
            peer.program, peer.why, peer.package
        );
        let quiet: &[(&str, &str)] = &[("DEBIAN_FRONTEND", "noninteractive")];
        let words = ["apt-get", "-q", "-y", "--no-install-recommends", "install"];
        let words: Vec<&str> = words.into_iter().chain([peer.package]).collect();
        if let Err(failure) = watch(&words, quiet, 300, |_| {}) {
            eprintln!("packages: {failure}");
        }
    }
}

/// Rounds of installing missing packages. Installing one package may remove another that conflicts
/// with it (a newer `qemu-utils` is removed when Debian's own `qemu-system-x86` is installed); the
/// second round installs that again in a matching version.
const ROUNDS: usize = 2;

/// Installs missing packages, with a message about each. Changes nothing when none is missing.
pub(crate) fn ensure() -> Result<(), Failure> {
    for _ in 0..ROUNDS {
        let missing = missing();
        if missing.is_empty() {
            eprintln!("packages: all {} are here", NEEDS.len());
            return Ok(());
        }
        install(&missing)?;
    }
    let still: Vec<&str> = missing().iter().map(|need| need.program).collect();
    if still.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(format!(
            "installed, and still missing: {}",
            still.join(" ")
        )))
    }
}

fn missing() -> Vec<&'static Need> {
    NEEDS.iter().filter(|need| !has(need.program)).collect()
}

fn install(missing: &[&Need]) -> Result<(), Failure> {
    let mut names: Vec<&str> = Vec::new();
    for need in missing {
        eprintln!(
            "packages: {} is missing ({}): {}",
            need.program, need.why, need.package
        );
        if !names.contains(&need.package) {
            names.push(need.package);
        }
    }
    if !has("apt-get") {
        return Err(Failure::new(format!(
            "no apt-get on this machine; install by its own means: {}",
            names.join(" ")
        )));
    }
    eprintln!("packages: installing {}", names.join(" "));
    let quiet: &[(&str, &str)] = &[("DEBIAN_FRONTEND", "noninteractive")];
    watch(&["apt-get", "-q", "update"], quiet, 300, |_| {})?;
    let mut words = vec!["apt-get", "-q", "-y", "--no-install-recommends", "install"];
    words.extend(&names);
    watch(&words, quiet, 900, |_| {}).map(|_| ())
}

/// Installs cargo-fuzz, which comes from the crate registry, not from Debian.
pub(crate) fn ensure_cargo_fuzz() -> Result<(), Failure> {
    if output("cargo", &["fuzz", "--version"]).is_ok() {
        return Ok(());
    }
    eprintln!("packages: cargo-fuzz is missing: cargo install cargo-fuzz --locked");
    watch(
        &["cargo", "install", "cargo-fuzz", "--locked", "--quiet"],
        &[],
        900,
        |_| {},
    )
}
