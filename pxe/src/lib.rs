//! Network boot: any PC to a running agent, and back to its own disk.
//!
//! | module | what it is | pure |
//! |---|---|---|
//! | [`identity`] | what a machine is known by: MAC and UUID | yes |
//! | [`dhcp`] | DHCP packets as values, for a server and for a client | yes |
//! | [`bundle`] | the pre-OS: Debian packages to a kernel and an initramfs | reads packages, writes its cache |
//! | [`export`] | a folder for somebody else's PXE server, an ISO | writes files |
//!
//! What always holds: nothing redistributable is part of this crate; a file that was not offered is never served.

pub mod bundle;
pub mod dhcp;
pub mod export;
pub mod identity;
