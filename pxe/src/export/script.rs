//! Scripts of the loaders: iPXE's `boot.ipxe`, GRUB's `grub.cfg` for the network and for media.
//!
//! They are the same for every machine, for boot servers other than ours. `pxe serve` makes its own
//! for each machine. Pure.

use super::words::Words;

/// Builds `boot.ipxe`. Kernel and initramfs are named relative to the script, so any server and any
/// path will do.
pub fn ipxe(words: &Words) -> String {
    // `netX` is the card iPXE booted from. UEFI finds the initramfs by the name that `initrd=`
    // gives.
    format!(
        "#!ipxe\n\
         # diskcast: written by `diskcast export`.\n\
         echo diskcast: loading the pre-OS\n\
         imgfree\n\
         kernel vmlinuz initrd=initrd.img {} BOOTIF=01-${{netX/mac:hexhyp}} || goto failed\n\
         initrd --name initrd.img initrd.img || goto failed\n\
         boot || goto failed\n\
         \n\
         :failed\n\
         echo diskcast: the pre-OS did not load; trying again in 10 seconds, Ctrl-B for a shell\n\
         sleep 10\n\
         chain --replace --autofree boot.ipxe || goto failed\n",
        words.line()
    )
}

/// Builds `grub/grub.cfg` for the network. GRUB's `/` is the root of the TFTP server it came from.
pub fn grub_network(words: &Words) -> String {
    // Debian's signed GRUB has no HTTP, and without a menu it needs an explicit `boot`.
    format!(
        "# diskcast: written by `diskcast export`.\n\
         echo \"diskcast: loading the pre-OS\"\n\
         linux /vmlinuz {} BOOTIF=01-$net_default_mac\n\
         initrd /initrd.img\n\
         boot\n",
        words.line()
    )
}

/// Path of the kernel on media. GRUB finds its medium by it, whatever the medium is called.
pub const MEDIUM_KERNEL: &str = "/diskcast/vmlinuz";

/// Builds the first lines GRUB runs from a medium: they find the medium itself, then its menu.
pub fn grub_find_medium() -> String {
    format!(
        "search --no-floppy --file --set=root {MEDIUM_KERNEL}\n\
         set prefix=($root)/boot/grub\n\
         configfile ($root)/boot/grub/grub.cfg\n"
    )
}

/// Builds `boot/grub/grub.cfg` of a medium: output on the screen and, in BIOS machines, on the
/// first serial port too. Under UEFI the firmware's own console uses the serial port if one is set
/// up.
pub fn grub_medium(words: &Words) -> String {
    format!(
        "# diskcast: written by `diskcast export`.\n\
         if [ \"$grub_platform\" = pc ]; then\n\
         \tif serial --unit=0 --speed=115200; then\n\
         \t\tterminal_input console serial\n\
         \t\tterminal_output console serial\n\
         \tfi\n\
         fi\n\
         set default=0\n\
         set timeout=3\n\
         menuentry \"diskcast: offer this machine to the console\" {{\n\
         \techo \"diskcast: loading the pre-OS\"\n\
         \tlinux /diskcast/vmlinuz {line}\n\
         \tinitrd /diskcast/initrd.img\n\
         }}\n\
         menuentry \"Boot from this machine's disk\" {{\n\
         \tif [ \"$grub_platform\" = pc ]; then\n\
         \t\t# From a stick the stick is hd0 and the disk hd1; from a CD the disk is hd0.\n\
         \t\tif [ \"$root\" = hd0 -o \"$root\" = \"hd0,msdos1\" ]; then set root=hd1; else set root=hd0; fi\n\
         \t\tchainloader +1\n\
         \telse\n\
         \t\texit\n\
         \tfi\n\
         }}\n",
        line = words.line()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> Words {
        Words {
            pin: "0f".repeat(32),
            console: "10.9.8.7:5001".parse().ok(),
            ..Default::default()
        }
    }

    #[test]
    fn each_script_leads_to_the_console_by_pin() {
        for script in [
            ipxe(&words()),
            grub_network(&words()),
            grub_medium(&words()),
        ] {
            assert!(
                script.contains(&format!("diskcast.pin={}", "0f".repeat(32))),
                "{script}"
            );
            assert!(script.contains("diskcast.console=10.9.8.7"), "{script}");
            assert!(script.lines().all(|line| line.len() < 400), "{script}");
        }
    }

    #[test]
    fn the_card_that_booted_is_named() {
        assert!(ipxe(&words()).contains("BOOTIF=01-${netX/mac:hexhyp}"));
        assert!(grub_network(&words()).contains("BOOTIF=01-$net_default_mac"));
        // UEFI finds the initramfs by this pair.
        let script = ipxe(&words());
        assert!(script.contains("initrd=initrd.img ") && script.contains("--name initrd.img"));
    }
}
