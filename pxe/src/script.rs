//! Scripts of iPXE and GRUB, each made for one machine.
//!
//! Owns: their text, and the kernel's command line as described in `docs/network-boot.md`. Pure.
//! Always holds: from the network, a script contains only addresses and UUIDs that were parsed and
//! formatted again, so no machine can put words into another's script.

use crate::machine::Words;
use facts::Mac;
use facts::boot::{Machine, Verdict};
use std::net::Ipv4Addr;

/// Consoles of the kernel: the screen and the first serial port.
const SCREENS: &str = "console=tty0 console=ttyS0,115200";

/// Loaders that systems leave on the disk's EFI partition, in the order they are tried: installed
/// systems before the fallback path, which an installation medium has too. GRUB's own loaders are
/// tried before the shims, because some firmware refuses another vendor's shim inside this one.
const DISK_LOADERS: [&str; 14] = [
    "/EFI/Microsoft/Boot/bootmgfw.efi",
    "/EFI/debian/grubx64.efi",
    "/EFI/debian/shimx64.efi",
    "/EFI/ubuntu/shimx64.efi",
    "/EFI/fedora/shimx64.efi",
    "/EFI/redhat/shimx64.efi",
    "/EFI/centos/shimx64.efi",
    "/EFI/rocky/shimx64.efi",
    "/EFI/almalinux/shimx64.efi",
    "/EFI/opensuse/shim.efi",
    "/EFI/sles/shim.efi",
    "/EFI/linuxmint/shimx64.efi",
    "/EFI/arch/grubx64.efi",
    "/EFI/BOOT/BOOTX64.EFI",
];

/// The address of this service.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// Its IPv4 address.
    pub address: Ipv4Addr,
    /// Its HTTP port.
    pub http_port: u16,
}

impl Service {
    fn url(&self) -> String {
        format!("http://{}:{}", self.address, self.http_port)
    }
}

/// Builds the kernel's command line.
pub fn command_line(service: Service, machine: &Machine, words: &Words) -> String {
    let mut line = format!("BOOTIF=01-{}", machine.mac.to_string().replace(':', "-"));
    let mut put = |name: &str, value: &Option<String>| {
        if let Some(value) = value {
            line.push_str(&format!(" diskcast.{name}={value}"));
        }
    };
    put("console", &words.console);
    put("pin", &words.pin);
    put("second", &words.second);
    put("boot", &Some(service.url()));
    put("ip", &Some("dhcp".to_owned()));
    line.push(' ');
    line.push_str(SCREENS);
    if !words.extra.is_empty() {
        line.push(' ');
        line.push_str(&words.extra);
    }
    line
}

/// Builds the script that a machine's iPXE runs.
///
/// The script never fetches a missing file again by itself: a loop that nobody sees is worse than a
/// stop. The next start, or a person, tries again.
pub fn ipxe(service: Service, machine: &Machine, verdict: Verdict, words: &Words) -> String {
    if verdict != Verdict::Agent {
        return IPXE_LOCAL.to_owned();
    }
    let url = service.url();
    let line = command_line(service, machine, words);
    // UEFI finds the initramfs by its name on the command line; BIOS loads it directly.
    format!(
        "#!ipxe
echo diskcast: loading the agent from {url}
imgfree
kernel {url}/vmlinuz initrd=initrd {line} || goto failed
initrd --name initrd {url}/initrd.img || goto failed
boot || goto failed
:failed
echo diskcast: the agent could not be loaded from {url}
sleep 10
exit 1
"
    )
}

/// Script that starts the machine's own disk. BIOS starts the first disk from here. Under UEFI the
/// script ends with an error, because then the firmware goes on with the next boot option; after a
/// success some firmware opens its menu.
const IPXE_LOCAL: &str = "#!ipxe
echo diskcast: nothing to do here, starting this machine's own disk
iseq ${platform} efi && exit 1 ||
sanboot --no-describe --drive 0x80 || exit 1
";

/// Builds `autoexec.ipxe`, the file that newer versions of iPXE (2021 and later) look for on the
/// TFTP server before anything else. It saves them the wait for IPv6, which takes 13 to 16 s where
/// no router announces itself.
pub fn autoexec(service: Service) -> String {
    let url = service.url();
    format!(
        "#!ipxe
ifconf -c dhcp || exit 1
iseq ${{platform}} efi && set arch uefi || set arch bios
chain {url}/boot.ipxe?mac=${{netX/mac:hexhyp}}&uuid=${{uuid}}&arch=${{arch}} || exit 1
"
    )
}

/// Builds `grub.cfg`, the file GRUB reads first. It sends GRUB to the file of the card it booted
/// from, because a TFTP request does not say which machine asks.
pub fn grub_finder() -> String {
    "configfile /grub/grub.cfg-01-$net_default_mac\n".to_owned()
}

/// Parses the card from the file name a GRUB requests: `grub/grub.cfg-01-MAC`, with colons (our
/// form) or hyphens (GRUB's own search).
pub fn grub_asker(name: &str) -> Option<Mac> {
    let mac = name.strip_prefix("grub/grub.cfg-01-")?;
    mac.parse().ok().filter(|mac: &Mac| mac.is_card())
}

/// Builds the script that a machine's GRUB runs. Everything comes by TFTP: the signed GRUB has no
/// HTTP.
pub fn grub(service: Service, machine: &Machine, verdict: Verdict, words: &Words) -> String {
    if verdict != Verdict::Agent {
        return grub_local();
    }
    let line = command_line(service, machine, words);
    // Without a menu entry GRUB starts nothing by itself, so the script says `boot`.
    format!(
        "set timeout=0
echo 'diskcast: loading the agent'
if linux /vmlinuz {line}; then
  if initrd /initrd.img; then
    boot
  fi
fi
echo 'diskcast: the agent could not be loaded'
sleep 10
exit 1
"
    )
}

fn grub_local() -> String {
    let mut script = "set timeout=0
echo 'diskcast: nothing to do here, starting this machine and its own disk'
"
    .to_owned();
    for loader in DISK_LOADERS {
        script.push_str(&format!(
            "if search --no-floppy --file --set=disk {loader}; then
  if chainloader ($disk){loader}; then
    boot
  fi
fi
"
        ));
    }
    script.push_str("exit 1\n");
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: Service = Service {
        address: Ipv4Addr::new(10, 0, 0, 2),
        http_port: 5080,
    };
    const MACHINE: Machine = Machine {
        mac: Mac([0x52, 0x54, 0, 1, 2, 0xab]),
        uuid: None,
    };

    fn words() -> Words {
        Words {
            console: Some("10.0.0.2:5001".to_owned()),
            pin: Some("ab".repeat(32)),
            second: None,
            extra: "diskcast.log=debug".to_owned(),
        }
    }

    #[test]
    fn the_command_line_is_that_of_the_contract() {
        assert_eq!(
            command_line(SERVICE, &MACHINE, &words()),
            format!(
                "BOOTIF=01-52-54-00-01-02-ab diskcast.console=10.0.0.2:5001 diskcast.pin={} diskcast.boot=http://10.0.0.2:5080 \
                 diskcast.ip=dhcp console=tty0 console=ttyS0,115200 diskcast.log=debug",
                "ab".repeat(32)
            )
        );
        let bare = command_line(SERVICE, &MACHINE, &Words::default());
        assert!(
            !bare.contains("pin") && !bare.contains("diskcast.console"),
            "{bare}"
        );
    }

    #[test]
    fn scripts_begin_as_their_readers_want_and_never_go_round() {
        for verdict in [Verdict::Agent, Verdict::Local, Verdict::Ignore] {
            let ipxe = ipxe(SERVICE, &MACHINE, verdict, &words());
            assert!(ipxe.starts_with("#!ipxe\n"));
            assert!(ipxe.ends_with("exit 1\n"), "{ipxe}");
            assert_eq!(
                ipxe.contains("initrd --name initrd "),
                verdict == Verdict::Agent
            );
            assert_eq!(
                ipxe.contains("sanboot --no-describe --drive 0x80"),
                verdict != Verdict::Agent
            );
            assert!(!ipxe.contains("chain"), "a script that fetches itself");
            let grub = grub(SERVICE, &MACHINE, verdict, &words());
            assert_eq!(
                grub.contains("linux /vmlinuz BOOTIF=01-52-54-00-01-02-ab "),
                verdict == Verdict::Agent
            );
            assert!(
                grub.ends_with("exit 1\n") && !grub.contains("configfile"),
                "{grub}"
            );
        }
        assert!(autoexec(SERVICE).contains("ifconf -c dhcp"));
    }

    #[test]
    fn grub_says_who_it_is_in_the_name_it_asks_for() {
        for name in [
            "grub/grub.cfg-01-52:54:00:01:02:ab",
            "grub/grub.cfg-01-52-54-00-01-02-ab",
        ] {
            assert_eq!(grub_asker(name), Some(MACHINE.mac));
        }
        for name in [
            "grub/grub.cfg",
            "grub/grub.cfg-0A000002",
            "grub/grub.cfg-01-",
            "grub/grub.cfg-01-ff:ff:ff:ff:ff:ff",
        ] {
            assert_eq!(grub_asker(name), None, "{name}");
        }
    }
}
