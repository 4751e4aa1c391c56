//! Who gets what: one decision, without a socket or a clock.
//!
//! ```text
//! Packet --Asker::of--> who asks, with what --policy--> Verdict --decide--> Decision --answer--> Packet, address
//!    |                                                                        |
//!    +-> not ours: ignored; ours but unusable: a reason                       +-> file | script | ignore
//! ```
//!
//! Owns: every quirk of firmware that asks for a boot, each where it arises. What always holds: iPXE is never given a loader again, so no chain can
//! loop; a machine is given what fits the firmware it says it has, or nothing; nobody is answered who did not ask for a boot.

use crate::dhcp::{Arch, MessageType, Op, Packet, SERVER_PORT, code};
use crate::machine::{Machine, Verdict};
use std::net::{Ipv4Addr, SocketAddrV4};

/// Suboption 6 of option 43: how to look for boot servers (PXE 2.1 table 2-1).
const DISCOVERY_CONTROL: u8 = 6;
/// Do not look: take the boot file of this packet.
const USE_BOOT_FILE: &[u8] = &[8];

/// The port a question came in on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Door {
    /// 67: every machine that wants an address.
    Dhcp,
    /// 4011: machines that were told by an offer without a file to come here.
    Pxe,
}

/// What speaks on the machine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Program {
    /// The ROM or the firmware: it is given a loader.
    Firmware,
    /// iPXE, ours or one burnt in: it is given a script.
    Ipxe,
}

/// Kinds of firmware there is a loader for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Firmware {
    /// x86 BIOS.
    Bios,
    /// x64 UEFI by PXE.
    Uefi,
    /// x64 UEFI by HTTP.
    UefiHttp,
}

impl std::fmt::Display for Firmware {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Bios => "BIOS",
            Self::Uefi => "UEFI",
            Self::UefiHttp => "UEFI HTTP",
        })
    }
}

/// The loader UEFI machines begin with.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum UefiLoader {
    /// shim and signed GRUB, by TFTP: works with Secure Boot, where the lease's server is this one.
    #[default]
    Shim,
    /// iPXE, then HTTP: refused by Secure Boot.
    Ipxe,
}

/// Who asks, and with what.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Asker {
    /// The machine.
    pub machine: Machine,
    /// Its firmware.
    pub firmware: Firmware,
    /// What speaks.
    pub program: Program,
    /// Where it asks.
    pub door: Door,
}

/// Why there is no asker.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NoAsker {
    /// Not a question for us: an address, a renewal, an answer.
    NotOurs,
    /// It wants to boot, and cannot be served.
    Unusable {
        /// Who.
        machine: Machine,
        /// Why.
        reason: String,
    },
}

/// What a machine is given.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Decision {
    /// No answer.
    Ignore,
    /// A loader, by TFTP.
    File {
        /// Name in the boot folder.
        name: &'static str,
        /// The machine's script will send it to its own disk.
        local: bool,
    },
    /// A URL: iPXE's script, or the loader of HTTP Boot.
    Url {
        /// Whole URL.
        url: String,
        /// The machine's script will send it to its own disk.
        local: bool,
    },
    /// Come and ask on port 4011. UEFI firmware ignores offers that name the file themselves, on some boards; asked without option 43 all known ones come
    /// to the PXE port of whoever offered (as Microsoft's BINL has it), which is what pixiecore has done for years.
    ComeAgain {
        /// The machine's script will send it to its own disk.
        local: bool,
    },
}

/// What the answers say of this service.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its HTTP port.
    pub http_port: u16,
    /// What UEFI machines begin with.
    pub uefi: UefiLoader,
    /// It hands out addresses too: then the lease names the file, and nobody has to come again.
    pub leases: bool,
}

impl Asker {
    /// Who asks, from a packet that came in on `door`.
    ///
    /// # Errors
    /// Packets that are not ours, and machines that cannot be served.
    pub fn of(packet: &Packet, door: Door, server: Ipv4Addr) -> Result<Self, NoAsker> {
        let options = &packet.options;
        let http = options.class_is("HTTPClient");
        let boots = http || options.class_is("PXEClient");
        let archs = options.archs();
        let (Op::Request, true, Some(arch)) = (packet.op, boots, archs.first()) else {
            return Err(NoAsker::NotOurs);
        };
        let ours = options.address(code::SERVER_ID) == Some(server);
        match (door, packet.message_type()) {
            (Door::Dhcp, Some(MessageType::Discover)) => {}
            // Some ROMs take our offer as if it were a lease and want it confirmed (danderson/pixiecore#21).
            (Door::Dhcp, Some(MessageType::Request)) if ours => {}
            // BIOS ROMs come here too, arch 0 (danderson/netboot#132); some ask with INFORM.
            (
                Door::Pxe,
                Some(MessageType::Request | MessageType::Inform | MessageType::Discover),
            ) => {}
            _ => return Err(NoAsker::NotOurs),
        }
        // A ROM without option 97 is a machine known by its card alone.
        let machine = Machine {
            mac: packet.mac,
            uuid: options.machine_uuid(),
        };
        let unusable = |reason: String| NoAsker::Unusable { machine, reason };
        if !machine.mac.is_card() {
            return Err(unusable(format!("{} is no address of a card", machine.mac)));
        }
        let program = if options.is_ipxe() {
            Program::Ipxe
        } else {
            Program::Firmware
        };
        let firmware = match arch {
            Arch::Bios => Firmware::Bios,
            Arch::UefiHttp => Firmware::UefiHttp,
            Arch::Uefi if http => Firmware::UefiHttp,
            Arch::Uefi => Firmware::Uefi,
            Arch::Uefi32 => {
                return Err(unusable(
                    "32-bit UEFI: there is no loader for it; switch the firmware to 64 bits or to BIOS".to_owned(),
                ));
            }
            other => {
                return Err(unusable(format!(
                    "processor {other} of option 93 is not x86: there is no loader for it"
                )));
            }
        };
        Ok(Self {
            machine,
            firmware,
            program,
            door,
        })
    }
}

/// What this asker gets.
pub fn decide(asker: &Asker, verdict: Verdict, server: &Server) -> Decision {
    let local = match verdict {
        Verdict::Ignore => return Decision::Ignore,
        Verdict::Local => true,
        Verdict::Agent => false,
    };
    let base = format!("http://{}:{}", server.address, server.http_port);
    match (asker.program, asker.firmware) {
        (Program::Ipxe, firmware) => Decision::Url {
            url: script_url(&base, &asker.machine, firmware),
            local,
        },
        (_, Firmware::UefiHttp) => Decision::Url {
            url: format!("{base}/snponly.efi"),
            local,
        },
        (_, Firmware::Bios) => Decision::File {
            name: "undionly.kpxe",
            local,
        },
        (_, Firmware::Uefi) if asker.door == Door::Dhcp && !server.leases => {
            Decision::ComeAgain { local }
        }
        (_, Firmware::Uefi) => Decision::File {
            name: match server.uefi {
                UefiLoader::Shim => "shimx64.efi",
                UefiLoader::Ipxe => "snponly.efi",
            },
            local,
        },
    }
}

/// Where a machine's iPXE script is. Fits the 127 bytes of the packet's own field.
fn script_url(base: &str, machine: &Machine, firmware: Firmware) -> String {
    let mac = machine.mac.to_string().replace(':', "-");
    let uuid = machine
        .uuid
        .map(|uuid| format!("&uuid={uuid}"))
        .unwrap_or_default();
    let arch = match firmware {
        Firmware::Bios => "bios",
        Firmware::Uefi | Firmware::UefiHttp => "uefi",
    };
    format!("{base}/boot.ipxe?mac={mac}{uuid}&arch={arch}")
}

/// The packet that says so, beside a DHCP server of somebody else; nothing for [`Decision::Ignore`]. Offers no address.
pub fn answer(
    question: &Packet,
    asker: &Asker,
    decision: &Decision,
    server: &Server,
) -> Option<Packet> {
    let kind = match (asker.door, question.message_type()) {
        (Door::Dhcp, Some(MessageType::Discover)) => MessageType::Offer,
        _ => MessageType::Ack,
    };
    let mut answer = question.answer(kind, server.address);
    answer.ciaddr = question.ciaddr;
    let class: &[u8] = match asker.firmware {
        Firmware::UefiHttp if asker.program == Program::Firmware => b"HTTPClient",
        _ => b"PXEClient",
    };
    answer.options.set(code::CLASS, class);
    // Mirrored as it came, odd lengths left out: firmware compares it with its own.
    if let Some(uuid @ [0, ..]) = question.options.get(code::MACHINE_UUID)
        && uuid.len() == 17
    {
        answer.options.set(code::MACHINE_UUID, uuid);
    }
    boot_fields(&mut answer, decision, server)?;
    // BIOS ROMs look for a boot server by broadcast and multicast unless told to take the file at hand. UEFI must not see option 43: see `ComeAgain`.
    if asker.firmware == Firmware::Bios {
        answer
            .options
            .set_vendor(&[(DISCOVERY_CONTROL, USE_BOOT_FILE)]);
    }
    Some(answer)
}

/// Puts file and server into a lease of our own, where the plain fields say it all as with any DHCP server that boots.
pub fn into_lease(lease: &mut Packet, asker: &Asker, decision: &Decision, server: &Server) {
    if boot_fields(lease, decision, server).is_some() && asker.firmware == Firmware::UefiHttp {
        // HTTP Boot takes nothing from a server that does not say so (UEFI 2.10 section 24.7.3.1).
        lease.options.set(code::CLASS, b"HTTPClient");
    }
}

fn boot_fields(packet: &mut Packet, decision: &Decision, server: &Server) -> Option<()> {
    match decision {
        Decision::Ignore => return None,
        Decision::ComeAgain { .. } => packet.siaddr = server.address,
        Decision::File { name, .. } => {
            packet.siaddr = server.address;
            packet.set_server_name(&server.address.to_string());
            packet.set_boot_file(name);
        }
        // A whole URL names its server. Yet without a next server too iPXE takes a proxy's offer for one without a file, and asks on (measured with
        // Debian 12's: nothing to boot).
        Decision::Url { url, .. } => {
            packet.siaddr = server.address;
            packet.set_boot_file(url);
        }
    }
    Some(())
}

/// Where an answer goes (RFC 2131 section 4.1). To those without an address by broadcast to 255.255.255.255, never to the subnet's broadcast address, which a
/// client without a mask does not know (pypxe/PyPXE#190).
pub fn destination(
    question: &Packet,
    from: SocketAddrV4,
    door: Door,
    client_port: u16,
) -> SocketAddrV4 {
    if !question.giaddr.is_unspecified() {
        return SocketAddrV4::new(question.giaddr, SERVER_PORT);
    }
    if door == Door::Pxe && !from.ip().is_unspecified() {
        return from;
    }
    // A client that asks on the PXE port before it has an address is not reached at the port it came from.
    let address = match question.ciaddr {
        none if none.is_unspecified() || question.broadcast => Ipv4Addr::BROADCAST,
        address => address,
    };
    SocketAddrV4::new(address, client_port)
}

#[cfg(test)]
mod tests;
