//! Network boot: any PC to a running agent, and back to its own disk.
//!
//! | module | what it is | pure |
//! |---|---|---|
//! | [`machine`] | who boots, how far it came, what it is to do; the policy that is asked | yes |
//! | [`decide`] | which machine gets what, with every quirk of firmware | yes |
//! | [`dhcp`] | DHCP packets as values, for a server and for a client | yes |
//! | [`lease`] | addresses for an isolated switch | yes |
//! | [`tftp`] | TFTP transfers | yes |
//! | [`script`] | scripts of iPXE and GRUB, the kernel command line | yes |
//! | [`serve`] | sockets around all that: DHCP, TFTP, HTTP | no |
//! | [`bundle`] | the pre-OS: Debian packages to a kernel and an initramfs | reads packages, writes its cache |
//! | [`export`] | a folder for somebody else's PXE server, an ISO | writes files |
//!
//! What always holds: nothing redistributable is part of this crate; a file that was not offered is never served.

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
