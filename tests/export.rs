//! `diskcast export` used like a technician, on made-up packages: real `.deb` files by dpkg-deb,
//! real ELF files by cc, and the C library of this machine. The results are examined with cpio and
//! xorriso.

mod common;

use common::process::{Run, run};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Any pin will do: no console is contacted.
const PIN: &str = "0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f";
const KERNEL: &str = "6.9.9-1-cloud-amd64";

/// Name of the licences of crates, beside the agent and in an export.
const NOTICES: &str = "THIRD-PARTY.txt";

/// A folder of packages, an agent that needs them, and space for the results.
struct Room {
    folder: tempfile::TempDir,
}

impl Room {
    fn new() -> Self {
        let room = Self {
            folder: common::scratch(),
        };
        room.compile();
        room.packages();
        room
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn sh(&self, script: &str) {
        let done = Command::new("sh")
            .args(["-eu", "-c", script])
            .current_dir(self.folder.path())
            .output()
            .unwrap();
        assert!(
            done.status.success(),
            "{script}\n{}",
            String::from_utf8_lossy(&done.stderr)
        );
    }

    /// Compiles a library in an old and a new version, a program for each, and two modules.
    fn compile(&self) {
        self.write(
            "lib.c",
            "int old(void) { return 1; }\n#ifdef NEW\nint new(void) { return 2; }\n#endif\n",
        );
        self.write("old.map", "NEED_1.0 { global: old; local: *; };\n");
        self.write(
            "new.map",
            "NEED_1.0 { global: old; };\nNEED_1.1 { global: new; } NEED_1.0;\n",
        );
        self.write(
            "tool.c",
            "int old(void); int main(void) { return old(); }\n",
        );
        self.write(
            "newer.c",
            "int new(void); int main(void) { return new(); }\n",
        );
        self.write(
            "ext4.c",
            "__attribute__((section(\".modinfo\"), used)) static const char m[] = \
             \"name=ext4\\0depends=jbd2\\0alias=fs-ext4\\0softdep=pre: crypto-made-up\";\n",
        );
        self.write(
            "jbd2.c",
            "__attribute__((section(\".modinfo\"), used)) static const char m[] = \
             \"name=jbd2\\0depends=\\0alias=crypto-made-up\";\n",
        );
        self.sh("
            cc -shared -fPIC -Wl,-soname,libneeded.so.1 -Wl,--version-script=old.map -o old.so lib.c
            cc -shared -fPIC -DNEW -Wl,-soname,libneeded.so.1 -Wl,--version-script=new.map -o new.so lib.c
            cc -o tool tool.c ./old.so
            cc -o newer newer.c ./new.so
            for m in ext4 jbd2; do cc -c -o $m.ko $m.c; done
        ");
    }

    /// Makes every package that an export needs, each with one of the possible compressions.
    fn packages(&self) {
        self.sh(&format!(
            "
            deb() {{ # name compression: packs tree/name
                mkdir -p debs tree/$1/DEBIAN
                printf 'Package: %s\\nVersion: 1.0-1\\nArchitecture: amd64\\nMaintainer: nobody <n@example.invalid>\\nDepends: %s\\nDescription: made up\\n' \
                    $1 \"${{3:-}}\" >tree/$1/DEBIAN/control
                [ \"${{3:-}}\" ] || sed -i /^Depends/d tree/$1/DEBIAN/control
                dpkg-deb --root-owner-group -Z$2 --build tree/$1 debs/$1.deb >/dev/null
            }}
            into() {{ mkdir -p tree/$1/$2; shift; d=$1; shift; cp \"$@\" tree/$P/$d/; }}

            P=linux-image-{KERNEL}
            mkdir -p tree/$P/boot
            echo a kernel >tree/$P/boot/vmlinuz-{KERNEL}
            into $P lib/modules/{KERNEL}/kernel/fs/ext4 ext4.ko
            into $P lib/modules/{KERNEL}/kernel/fs/jbd2 jbd2.ko
            xz --check=crc32 tree/$P/lib/modules/{KERNEL}/kernel/fs/jbd2/jbd2.ko
            echo kernel/fs/fat/vfat.ko >tree/$P/lib/modules/{KERNEL}/modules.builtin
            deb $P xz

            P=ntfs-3g
            for t in ntfs-3g ntfsresize ntfsfix ntfsinfo; do cp tool $t; into $P bin $t; done
            deb $P gzip 'libneeded1 | other, fuse3'
            P=e2fsprogs
            for t in e2fsck resize2fs tune2fs mke2fs dumpe2fs; do cp tool $t; into $P sbin $t; done
            mkdir tree/$P/etc; echo '[defaults]' >tree/$P/etc/mke2fs.conf
            deb $P zstd libneeded1
            P=dosfstools
            for t in fsck.fat mkfs.fat; do cp tool $t; into $P usr/sbin $t; done
            deb $P none
            P=mount
            cp tool losetup; into $P sbin losetup
            deb $P none
            P=libneeded1
            mkdir -p tree/$P/usr/lib/x86_64-linux-gnu
            cp old.so tree/$P/usr/lib/x86_64-linux-gnu/libneeded.so.1.0
            ln -s libneeded.so.1.0 tree/$P/usr/lib/x86_64-linux-gnu/libneeded.so.1
            deb $P gzip libc6
            P=libc6
            into $P lib/x86_64-linux-gnu /lib/x86_64-linux-gnu/libc.so.6 /lib/x86_64-linux-gnu/ld-linux-x86-64.so.2
            mkdir tree/$P/lib64
            ln -s /lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 tree/$P/lib64/ld-linux-x86-64.so.2
            deb $P none
            P=libgcc-s1; mkdir -p tree/$P; deb $P none
            P=ipxe; echo loader >undionly.kpxe; cp undionly.kpxe snponly.efi
            into $P usr/lib/ipxe undionly.kpxe snponly.efi
            mkdir tree/$P/boot; echo ipxe >tree/$P/boot/ipxe.efi; ln -s /boot/ipxe.efi tree/$P/usr/lib/ipxe/ipxe.efi
            deb $P none
            P=shim-signed; echo shim >shimx64.efi.signed; into $P usr/lib/shim shimx64.efi.signed; deb $P none
            P=shim-helpers-amd64-signed; echo mm >mmx64.efi.signed; into $P usr/lib/shim mmx64.efi.signed; deb $P none
            P=grub-efi-amd64-signed; echo net >grubnetx64.efi.signed; echo cd >gcdx64.efi.signed
            into $P usr/lib/grub/x86_64-efi-signed grubnetx64.efi.signed gcdx64.efi.signed; deb $P none
            "
        ));
    }

    fn export(&self, what: &str, place: &str, agent: &str, more: &[&str]) -> Run {
        let (debs, data) = (self.path("debs"), self.path("data"));
        let (place, agent) = (self.path(place), self.path(agent));
        let mut command = common::process::diskcast_command([] as [&str; 0]);
        command
            .args(["--data-dir", &data.to_string_lossy(), "export", what])
            .arg(place)
            .args([
                "--pin",
                PIN,
                "--console",
                "10.1.2.3",
                "--profile",
                "vm",
                "--agent",
            ])
            .arg(agent)
            .arg("--from-debs")
            .arg(debs)
            .args(more);
        run(&mut command)
    }

    /// Lists an initramfs with cpio: a line for each entry, in the form of `ls -l`.
    fn listing(&self, initramfs: &str) -> String {
        self.sh(&format!(
            "zstd -dcq {initramfs} | cpio --quiet -itv >listing"
        ));
        std::fs::read_to_string(self.path("listing")).unwrap()
    }
}

fn bytes(path: impl AsRef<Path>) -> Vec<u8> {
    let path = path.as_ref();
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn a_boot_folder_from_packages() {
    let room = Room::new();
    let done = room.export(
        "pxe",
        "boot",
        "tool",
        &["--json", "--word", "diskcast.log=debug"],
    );
    let done = done.code(0);
    let summary: serde_json::Value =
        serde_json::from_str(done.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(summary["type"], "summary");
    assert_eq!(summary["bundle"]["modules"], 2);
    assert_eq!(summary["bundle"]["static_agent"], false);
    assert_eq!(summary["bundle"]["kernel_version"], KERNEL);

    // The names of the contract.
    let mut names: Vec<String> = summary["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file["name"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    assert_eq!(
        names.join(" "),
        "SOURCES.txt boot.ipxe dnsmasq.conf grub/grub.cfg grubx64.efi initrd.img ipxe.efi mmx64.efi \
         shimx64.efi snponly.efi tftpd.txt undionly.kpxe vmlinuz windows-dhcp.txt"
    );
    for name in &names {
        assert!(room.path("boot").join(name).is_file(), "{name}");
    }
    assert_eq!(bytes(room.path("boot/vmlinuz")), b"a kernel\n");
    assert_eq!(bytes(room.path("boot/grubx64.efi")), b"net\n");
    assert_eq!(
        bytes(room.path("boot/ipxe.efi")),
        b"ipxe\n",
        "through its link"
    );
    for script in ["boot.ipxe", "grub/grub.cfg"] {
        let text = String::from_utf8(bytes(room.path("boot").join(script))).unwrap();
        let words =
            format!("diskcast.pin={PIN} diskcast.console=10.1.2.3 diskcast.log=debug BOOTIF=");
        assert!(text.contains(&words), "{script}: {text}");
    }
    let sources = String::from_utf8(bytes(room.path("boot/SOURCES.txt"))).unwrap();
    for package in [
        "linux-image-6.9.9-1-cloud-amd64 1.0-1",
        "libneeded1 1.0-1",
        "ipxe 1.0-1",
    ] {
        assert!(sources.contains(package), "{package}\n{sources}");
    }
    assert!(sources.contains("General Public License"), "{sources}");
    assert!(sources.contains("    source ipxe 1.0-1\n"), "{sources}");
    assert!(
        sources.contains("THIRD-PARTY.txt with their licences was not"),
        "{sources}"
    );
    assert!(
        !sources.contains("libgcc-s1"),
        "nothing was taken from it\n{sources}"
    );

    // The initramfs, listed by cpio.
    let listing = room.listing("boot/initrd.img");
    for (mode, path) in [
        ("-rwxr-xr-x", " init\n"),
        ("lrwxrwxrwx", " lib64 -> usr/lib64\n"),
        ("crw-------", " dev/console\n"),
        ("-rwxr-xr-x", " usr/bin/ntfs-3g\n"),
        ("-rwxr-xr-x", " usr/sbin/e2fsck\n"),
        ("-rwxr-xr-x", " usr/lib/x86_64-linux-gnu/libc.so.6\n"),
        (
            "lrwxrwxrwx",
            " usr/lib/x86_64-linux-gnu/libneeded.so.1 -> /usr/lib/x86_64-linux-gnu/libneeded.so.1.0\n",
        ),
        (
            "lrwxrwxrwx",
            " usr/lib64/ld-linux-x86-64.so.2 -> /usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2\n",
        ),
        (
            "-rw-r--r--",
            " usr/lib/modules/6.9.9-1-cloud-amd64/kernel/fs/jbd2/jbd2.ko\n",
        ),
    ] {
        let line = listing
            .lines()
            .map(|line| format!("{line}\n"))
            .find(|line| line.ends_with(path));
        let line = line.unwrap_or_else(|| panic!("no{path}{listing}"));
        assert!(line.starts_with(mode), "{line}");
        assert!(line.contains("Jan  1  1970"), "{line}");
    }
    assert!(listing.contains("5,   1"), "the console device\n{listing}");

    // It really unpacks, and the files for kmod are right.
    room.sh("mkdir out; cd out; zstd -dcq ../boot/initrd.img | cpio --quiet -id --no-preserve-owner 2>/dev/null || true");
    let modules = format!("out/usr/lib/modules/{KERNEL}");
    assert_eq!(
        String::from_utf8(bytes(room.path(&modules).join("modules.dep"))).unwrap(),
        "kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko\nkernel/fs/jbd2/jbd2.ko:\n"
    );
    assert_eq!(
        bytes(room.path(&modules).join("kernel/fs/jbd2/jbd2.ko")),
        bytes(room.path("jbd2.ko"))
    );
    assert_eq!(bytes(room.path("out/etc/diskcast/modules")), b"ext4\n");
    assert_eq!(bytes(room.path("out/init")), bytes(room.path("tool")));

    // Exported again from nothing: the same bytes. An older export of ours is replaced, and nothing
    // is left beside it.
    let first = bytes(room.path("boot/initrd.img"));
    std::fs::remove_dir_all(room.path("data")).unwrap();
    // Notices beside the agent go with it.
    room.write(NOTICES, "licences of crates");
    room.export("pxe", "boot", "tool", &[]).code(0);
    assert_eq!(
        bytes(room.path("boot").join(NOTICES)),
        b"licences of crates"
    );
    let sources = String::from_utf8(bytes(room.path("boot/SOURCES.txt"))).unwrap();
    assert!(!sources.contains(NOTICES), "{sources}");
    assert_eq!(first, bytes(room.path("boot/initrd.img")));
    let beside = std::fs::read_dir(room.folder.path()).unwrap().flatten();
    for entry in beside {
        let name = entry.file_name().into_string().unwrap();
        assert!(!name.starts_with('.'), "{name} was left behind");
    }
}

#[test]
fn refusals_say_what_to_do_and_touch_nothing() {
    let room = Room::new();
    // A foreign folder.
    room.write("mine/thesis.txt", "years of work");
    let done = room.export("pxe", "mine", "tool", &[]).code(5);
    assert!(done.stderr.contains("thesis.txt"), "{}", done.story());
    assert_eq!(bytes(room.path("mine/thesis.txt")), b"years of work");
    // A foreign file.
    let done = room.export("iso", "mine/thesis.txt", "tool", &[]).code(5);
    assert!(
        done.stderr.contains("is no ISO of diskcast"),
        "{}",
        done.story()
    );

    // An agent that is too new for the libraries.
    let done = room.export("pxe", "boot", "newer", &[]).code(5);
    let said =
        "the agent needs NEED_1.1 of libneeded.so.1; that of the packages has NEED_1.0 at most";
    assert!(done.stderr.contains(said), "{}", done.story());
    assert!(
        done.stderr.contains("cargo xtask agent"),
        "{}",
        done.story()
    );
    // An agent that is no program.
    let done = room.export("pxe", "boot", "tool.c", &[]).code(5);
    assert!(done.stderr.contains("no ELF file"), "{}", done.story());

    // A damaged package.
    room.sh("cp debs/e2fsprogs.deb kept; head -c 700 kept >debs/e2fsprogs.deb");
    let done = room.export("pxe", "boot", "tool", &[]).code(5);
    assert!(
        done.stderr
            .contains("e2fsprogs.deb is no usable Debian package"),
        "{}",
        done.story()
    );
    // Missing packages: all are named at once, with the command that installs them.
    room.sh("rm debs/e2fsprogs.deb debs/shim-signed.deb");
    let done = room.export("pxe", "boot", "tool", &[]).code(5);
    assert!(
        done.stderr
            .contains("apt-get download e2fsprogs shim-signed"),
        "{}",
        done.story()
    );
    room.sh("rm debs/linux-image-*");
    let done = room.export("pxe", "boot", "tool", &[]).code(5);
    assert!(
        done.stderr.contains("linux-image-VERSION-cloud-amd64"),
        "{}",
        done.story()
    );
    assert!(!room.path("boot").exists());

    // No console is known that scripts could name.
    let data = room.path("data");
    let done = run(common::process::diskcast_command([] as [&str; 0])
        .args([
            "--data-dir",
            &data.to_string_lossy(),
            "export",
            "pxe",
            "boot",
        ])
        .current_dir(room.folder.path()));
    let done = done.code(2);
    assert!(
        done.stderr.contains("no console to bake in"),
        "{}",
        done.story()
    );
    assert!(!data.join("identity").exists(), "asking makes no identity");
}

#[test]
fn an_iso_for_cd_and_stick() {
    let room = Room::new();
    // GRUB's real modules: the core image for BIOS is linked from them.
    room.sh(
        "mkdir -p tree/grub-pc-bin/DEBIAN tree/grub-pc-bin/usr/lib/grub
         cp -r /usr/lib/grub/i386-pc tree/grub-pc-bin/usr/lib/grub/
         printf 'Package: grub-pc-bin\\nVersion: 2\\nArchitecture: amd64\\nMaintainer: n\\nDescription: d\\n' >tree/grub-pc-bin/DEBIAN/control
         dpkg-deb -Znone --root-owner-group --build tree/grub-pc-bin debs/grub-pc-bin.deb >/dev/null",
    );
    room.export("iso", "a.iso", "tool", &[]).code(0);
    room.sh("xorriso -indev a.iso -report_el_torito plain -report_system_area plain -find / >seen 2>/dev/null");
    let seen = std::fs::read_to_string(room.path("seen")).unwrap();
    for part in [
        "BIOS  y   none",
        "UEFI  y   none",
        "grub2-mbr",
        "GPT",
        "28732ac11ff8d211ba4b00a0c93ec93b", // an EFI system partition
        "'/diskcast/vmlinuz'",
        "'/diskcast/initrd.img'",
        "'/boot/grub/grub.cfg'",
    ] {
        assert!(seen.contains(part), "{part}\n{seen}");
    }
    let first = bytes(room.path("a.iso"));
    room.export("iso", "a.iso", "tool", &[]).code(0);
    assert!(first == bytes(room.path("a.iso")), "the same bytes twice");
}

#[test]
fn the_agent_alone() {
    let room = Room::new();
    let done = run(common::process::diskcast_command([] as [&str; 0])
        .args([
            "export",
            "agent",
            "agent",
            "--pin",
            PIN,
            "--console",
            "10.1.2.3:6001",
            "--agent",
            "tool",
        ])
        .current_dir(room.folder.path()));
    let done = done.code(0);
    assert!(
        done.stderr.contains("needs the libraries"),
        "{}",
        done.story()
    );
    assert_eq!(bytes(room.path("agent")), bytes(room.path("tool")));
    let script = String::from_utf8(bytes(room.path("agent.sh"))).unwrap();
    assert!(
        script.contains(&format!("'agent' run --console 10.1.2.3:6001 --pin {PIN}")),
        "{script}"
    );
}
