//! Decides which machine gets what, without a socket or a clock.
//!
//! ```text
//! Packet --Asker::of--> who asks, with what --policy--> Verdict --decide--> Decision --answer--> Packet, address
//!    |                                                                        |
//!    +-> not ours: ignored; ours but unusable: a reason                       +-> file | script | ignore
//! ```
//!
//! Owns: every quirk of firmware that asks for a boot, each handled where it arises. Always holds:
//! iPXE is never given a loader again, so no chain can loop; a machine is given a file that fits
//! the firmware it reports, or nothing; a packet that does not ask for a boot gets no answer.

use crate::dhcp::{Arch, MessageType, Op, Packet, SERVER_PORT, code};
use facts::boot::{Machine, Verdict};
use std::net::{Ipv4Addr, SocketAddrV4};

/// Suboption 6 of option 43: how a client looks for boot servers (PXE 2.1 table 2-1).
const DISCOVERY_CONTROL: u8 = 6;
/// Value of suboption 6: do not look, take the boot file of this packet.
const USE_BOOT_FILE: &[u8] = &[8];

/// The UDP port a question came in on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Door {
    /// Port 67: every machine that wants an address.
    Dhcp,
    /// Port 4011: machines that an offer without a file has sent here.
    Pxe,
}

/// The program on the machine that asks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Program {
    /// The ROM or the firmware; it is given a loader.
    Firmware,
    /// iPXE, ours or one burnt into the card; it is given a script.
    Ipxe,
}

/// A kind of firmware that a loader exists for.
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

/// The first loader of UEFI machines.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum UefiLoader {
    /// shim and signed GRUB, by TFTP. Works with Secure Boot, where the server in the lease is this
    /// one.
    #[default]
    Shim,
    /// iPXE by TFTP, then HTTP. Secure Boot refuses it.
    Ipxe,
}

/// A machine that asks for a boot, with its firmware, its program and the port it used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Asker {
    /// The machine.
    pub machine: Machine,
    /// Its firmware.
    pub firmware: Firmware,
    /// The program that asks.
    pub program: Program,
    /// The port it asks on.
    pub door: Door,
}

/// The reason a packet is no question from an [`Asker`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NoAsker {
    /// Not a question for this service: a plain lease, a renewal, an answer.
    NotOurs,
    /// A machine that wants to boot and cannot be served.
    Unusable {
        /// The machine.
        machine: Machine,
        /// The reason, for a technician.
        reason: String,
    },
}

/// The answer a machine gets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Decision {
    /// No answer.
    Ignore,
    /// A loader, by TFTP.
    File {
        /// Name in the boot folder.
        name: &'static str,
        /// True when the machine's script will send it to its own disk.
        local: bool,
    },
    /// The URL of iPXE's script, or of the loader for HTTP Boot.
    Url {
        /// The whole URL.
        url: String,
        /// True when the machine's script will send it to its own disk.
        local: bool,
    },
    /// An offer without a file: the machine asks again on port 4011. Some boards' UEFI firmware
    /// ignores offers that name the file themselves. When the offer has no option 43, all known
    /// ones ask the PXE port of the server that made the offer (as with Microsoft's BINL);
    /// pixiecore has relied on this for years.
    ComeAgain {
        /// True when the machine's script will send it to its own disk.
        local: bool,
    },
}

/// The facts about this service that its answers contain.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its IPv4 address.
    pub address: Ipv4Addr,
    /// Its HTTP port.
    pub http_port: u16,
    /// The first loader of UEFI machines.
    pub uefi: UefiLoader,
    /// True when this service hands out addresses too. Then the lease names the file and no second
    /// question on port 4011 is needed.
    pub leases: bool,
}

impl Asker {
    /// Reads who asks, and with what, from a packet that came in on `door`.
    ///
    /// # Errors
    /// [`NoAsker::NotOurs`] for packets that are no boot question to this service,
    /// [`NoAsker::Unusable`] for machines that cannot be served.
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
            // Some ROMs take our offer for a lease and send a REQUEST to confirm it
            // (danderson/pixiecore#21).
            (Door::Dhcp, Some(MessageType::Request)) if ours => {}
            // BIOS ROMs (arch 0) use this port too (danderson/netboot#132); some ask with INFORM.
            (
                Door::Pxe,
                Some(MessageType::Request | MessageType::Inform | MessageType::Discover),
            ) => {}
            _ => return Err(NoAsker::NotOurs),
        }
        // A ROM without option 97 identifies its machine by the card alone.
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

/// Chooses the answer for an asker from the policy's verdict.
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

/// The URL of a machine's iPXE script. It fits the 127 bytes of the packet's `file` field.
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

/// Builds the answer that is sent beside somebody else's DHCP server; `None` for
/// [`Decision::Ignore`]. It offers no address.
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
    // The UUID goes back unchanged because firmware compares it with its own. One of another length
    // is left out.
    if let Some(uuid @ [0, ..]) = question.options.get(code::MACHINE_UUID)
        && uuid.len() == 17
    {
        answer.options.set(code::MACHINE_UUID, uuid);
    }
    boot_fields(&mut answer, decision, server)?;
    // BIOS ROMs look for a boot server by broadcast and multicast unless they are told to take the
    // file of this packet. UEFI must not see option 43: see `ComeAgain`.
    if asker.firmware == Firmware::Bios {
        answer
            .options
            .set_vendor(&[(DISCOVERY_CONTROL, USE_BOOT_FILE)]);
    }
    Some(answer)
}

/// Adds file and server to a lease of this service. The plain fields carry both, as with any DHCP
/// server that boots machines.
pub fn into_lease(lease: &mut Packet, asker: &Asker, decision: &Decision, server: &Server) {
    if boot_fields(lease, decision, server).is_some() && asker.firmware == Firmware::UefiHttp {
        // HTTP Boot ignores servers whose answer lacks this class (UEFI 2.10 section 24.7.3.1).
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
        // A whole URL names its server. Yet without a next server iPXE takes a proxy's offer for
        // one without a file, and goes on asking (measured with Debian 12's: "nothing to boot").
        Decision::Url { url, .. } => {
            packet.siaddr = server.address;
            packet.set_boot_file(url);
        }
    }
    Some(())
}

/// The address and port an answer goes to (RFC 2131 section 4.1). Clients without an address are
/// answered by broadcast to 255.255.255.255, never to the subnet's broadcast address: a client
/// without a mask does not know it (pypxe/PyPXE#190).
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
    // A client that asks on the PXE port before it has an address cannot be reached at the port it
    // used.
    let address = match question.ciaddr {
        none if none.is_unspecified() || question.broadcast => Ipv4Addr::BROADCAST,
        address => address,
    };
    SocketAddrV4::new(address, client_port)
}

#[cfg(test)]
mod tests;
