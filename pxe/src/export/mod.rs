//! What leaves the console for other boot servers, media and machines.
//!
//! | module | what it is |
//! |---|---|
//! | [`words`] | the kernel command line that leads an agent to its console |
//! | [`script`] | `boot.ipxe` and `grub.cfg` |
//! | [`settings`] | for dnsmasq, Tftpd64 and the DHCP server of Windows |
//! | `loaders` | iPXE, shim and GRUB out of their packages |
//! | `place` | a folder or file that appears whole or not at all |
//! | [`folder`] | the boot folder |
//!
//! Names in a boot folder are a contract: docs/network-boot.md.

pub mod folder;
mod loaders;
mod place;
pub mod script;
pub mod settings;
pub mod words;

pub use folder::{BootFolder, ExportedFile, FolderOptions, boot_folder};
pub use words::Words;
