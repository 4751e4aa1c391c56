//! Network boot: brings a PC to a running agent, or back to its own disk.
//!
//! | module | content | pure |
//! |---|---|---|
//! | [`machine`] | a machine, its progress and its verdict; the policy that decides | yes |
//! | [`decide`] | which machine gets what, with every quirk of firmware | yes |
//! | [`dhcp`] | DHCP packets as values, for a server and for a client | yes |
//! | [`lease`] | addresses for an isolated switch | yes |
//! | [`tftp`] | TFTP transfers | yes |
//! | [`script`] | scripts of iPXE and GRUB, the kernel command line | yes |
//! | [`serve`] | sockets around all that: DHCP, TFTP, HTTP | no |
//! | [`bundle`] | the pre-OS: Debian packages to a kernel and an initramfs | reads packages, writes its cache |
//! | [`export`] | a folder for somebody else's PXE server, an ISO | writes files |
//!
//! Always holds: no software of others is part of this crate; a file that was not offered is never
//! served.

#[cfg(feature = "service")]
pub mod bundle;
pub mod decide;
pub mod dhcp;
#[cfg(feature = "service")]
pub mod export;
pub mod lease;
pub mod machine;
pub mod script;
#[cfg(feature = "service")]
pub mod serve;
pub mod tftp;
