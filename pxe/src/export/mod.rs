//! Exports for other boot servers, for media and for running machines.
//!
//! | module | content |
//! |---|---|
//! | [`words`] | the kernel command line that leads an agent to its console |
//! | [`script`] | `boot.ipxe` and `grub.cfg` |
//! | [`settings`] | for dnsmasq, Tftpd64 and the DHCP server of Windows |
//! | `loaders` | iPXE, shim and GRUB out of their packages |
//! | `notices` | the licences of what is in the agent |
//! | `place` | a folder or file that appears whole or not at all |
//! | `host` | programs of this machine that an export needs |
//! | [`agent`](mod@agent) | the agent alone |
//! | [`folder`] | the boot folder |
//! | [`iso`](mod@iso), `esp` | a medium: ISO for CD and USB, with its EFI system partition |
//!
//! Names in a boot folder are a contract: docs/network-boot.md.

pub mod agent;
mod esp;
pub mod folder;
mod host;
pub mod iso;
mod loaders;
mod notices;
mod place;
pub mod script;
pub mod settings;
pub mod words;

pub use agent::{ExportedAgent, agent};
pub use folder::{BootFolder, ExportedFile, FolderOptions, boot_folder};
pub use iso::{Iso, IsoOptions, iso};
pub use words::Words;
