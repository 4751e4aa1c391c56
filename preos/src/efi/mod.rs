//! UEFI boot entries: finds the one of the disk that was just deployed.
//!
//! ```text
//! Boot0003 = load option: attributes, description, device path
//!            device path:  HD(1,GPT,guid,0x800,0x100000)/File(\EFI\debian\shimx64.efi)      a partition's loader
//!                          PciRoot(0x0)/Pci(0x3,0x0)                                        a whole disk, made by the firmware
//!                          PciRoot(0x0)/Pci(0x2,0x0)/MAC(..)/IPv4(..)                       network
//!                          Fv(..)/FvFile(..)                                                setup, shell
//! BootNext = number of the entry to start once
//! ```
//!
//! | module | content | pure |
//! |---|---|---|
//! | [`path`] | device paths | yes |
//! | [`option`] | load options | yes |
//! | [`choose`] | the entry for a disk, or a new one | yes |
//! | [`vars`] | firmware variables, the disk's EFI system partition | |
//!
//! BootNext is set and not BootOrder: the firmware starts the entry once and forgets it, so the
//! network stays where the technician put it. The firmware's data may be damaged or hostile: no
//! call panics, and an entry that cannot be parsed is left out.

pub mod choose;
pub mod option;
pub mod path;
pub mod vars;
