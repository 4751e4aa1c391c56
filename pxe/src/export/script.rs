//! Scripts of the loaders: iPXE's `boot.ipxe`, GRUB's `grub.cfg` for the network and for media.
//!
//! These are the same for every machine: they are for other people's servers. `pxe serve` renders its own for each
//! machine. Pure.

use super::words::Words;

/// `boot.ipxe`. Kernel and initramfs are named relative to the script, so any server and any path will do.
pub fn ipxe(words: &Words) -> String {
    // `netX` is the card iPXE booted from. UEFI finds the initramfs by the name that `initrd=` gives.
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

/// `grub/grub.cfg` for the network: GRUB's `/` is the root of the TFTP server it came from.
pub fn grub_network(words: &Words) -> String {
    // Debian's signed GRUB has no HTTP, and no menu means an explicit `boot`.
    format!(
        "# diskcast: written by `diskcast export`.\n\
         echo \"diskcast: loading the pre-OS\"\n\
         linux /vmlinuz {} BOOTIF=01-$net_default_mac\n\
         initrd /initrd.img\n\
         boot\n",
        words.line()
    )
}
