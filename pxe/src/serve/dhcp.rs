//! DHCP on UDP ports 67 and 4011: receives questions, sends answers.

use super::{ServeError, Settings, Shared, neighbours};
use crate::decide::{self, Asker, Decision, Door, NoAsker};
use crate::dhcp::{MAX_BYTES, MessageType, Op, Packet, code};
use crate::lease::{Leases, Network, Outcome};
use facts::boot::Stage;
use facts::boot::{Machine, Report, Verdict};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;

/// UDP port that a byte is sent to, so that the kernel resolves the address by ARP (RFC 863,
/// discard).
const DISCARD: u16 = 9;
/// Pause after a socket error that does not concern one packet.
const PAUSE: Duration = Duration::from_millis(100);

/// The table of leases and the file it is kept in.
pub(super) struct Table {
    leases: Leases,
    file: PathBuf,
}

pub(super) fn open_leases(settings: &Settings) -> Result<Option<Table>, ServeError> {
    let Some(wanted) = &settings.leases else {
        return Ok(None);
    };
    let (address, prefix) = (settings.address, settings.prefix);
    let network = Network {
        server: address,
        prefix,
    };
    let range = wanted.range;
    if !range
        .addresses()
        .any(|one| network.is_host(one) && one != address)
    {
        return Err(ServeError::Range {
            range,
            address,
            prefix,
        });
    }
    let path = wanted.file.clone();
    let kept = match std::fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(source) => return Err(ServeError::Leases { path, source }),
    };
    Ok(Some(Table {
        leases: Leases::new(range, network, kept.as_deref()),
        file: path,
    }))
}

/// Serves port 67: leases, if addresses are handed out, and boot answers.
pub(super) async fn serve_addresses(
    shared: Arc<Shared>,
    socket: UdpSocket,
    mut table: Option<Table>,
) {
    let own = own_mac(shared.settings.interface.as_deref());
    let mut buffer = vec![0; MAX_BYTES + 1];
    loop {
        let Some((question, from)) = receive(&socket, &mut buffer).await else {
            continue;
        };
        // Packets of this machine itself: the console's search for other servers, and the DHCP
        // client of its own card.
        if Some(question.mac.to_string()) == own {
            continue;
        }
        listen(&shared, &question);
        let boot = boot_answer(&shared, &question, from, Door::Dhcp);
        let answer = match &mut table {
            Some(table) => lease(&shared, &socket, table, &question, boot).await,
            None => boot.and_then(|(asker, decision)| {
                decide::answer(&question, &asker, &decision, &shared.server)
            }),
        };
        if let Some(answer) = answer {
            let to = decide::destination(
                &answer_route(&question, &answer),
                from,
                Door::Dhcp,
                shared.settings.ports.client,
            );
            send(&socket, &answer, to).await;
        }
    }
}

/// The packet that decides the route of an answer: a NAK is broadcast, whatever the question says.
fn answer_route(question: &Packet, answer: &Packet) -> Packet {
    let mut route = question.clone();
    route.broadcast |= answer.broadcast;
    route
}

/// Serves port 4011: boot answers for machines that were sent there.
pub(super) async fn serve_files(shared: Arc<Shared>, socket: UdpSocket) {
    let mut buffer = vec![0; MAX_BYTES + 1];
    loop {
        let Some((question, from)) = receive(&socket, &mut buffer).await else {
            continue;
        };
        let Some((asker, decision)) = boot_answer(&shared, &question, from, Door::Pxe) else {
            continue;
        };
        if let Some(answer) = decide::answer(&question, &asker, &decision, &shared.server) {
            let to = decide::destination(&question, from, Door::Pxe, shared.settings.ports.client);
            send(&socket, &answer, to).await;
        }
    }
}

async fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> Option<(Packet, SocketAddrV4)> {
    match socket.recv_from(buffer).await {
        Ok((count, SocketAddr::V4(from))) => match Packet::parse(buffer.get(..count)?) {
            Ok(packet) => Some((packet, from)),
            Err(error) => {
                tracing::debug!(%from, %error, "DHCP");
                None
            }
        },
        Ok(_) => None,
        // The ICMP error that a client's closed port causes is reported here. The pause keeps a
        // persistent error from spinning.
        Err(error) => {
            tracing::debug!(%error, "DHCP socket");
            tokio::time::sleep(PAUSE).await;
            None
        }
    }
}

async fn send(socket: &UdpSocket, answer: &Packet, to: SocketAddrV4) {
    if let Err(error) = socket.send_to(&answer.emit(), to).await {
        tracing::warn!(machine = %answer.mac, %to, %error, "a DHCP answer could not be sent");
    }
}

/// Learns from a question to any server: the address a machine will have, and other DHCP servers.
fn listen(shared: &Shared, question: &Packet) {
    let options = &question.options;
    if question.op != Op::Request
        || !question.mac.is_card()
        || question.message_type() != Some(MessageType::Request)
    {
        return;
    }
    let address = options
        .address(code::REQUESTED_ADDRESS)
        .unwrap_or(question.ciaddr);
    let machine = Machine {
        mac: question.mac,
        uuid: options.machine_uuid(),
    };
    shared.machines().note(machine, Some(address));
    if let Some(server) = options.address(code::SERVER_ID)
        && server != shared.settings.address
    {
        shared.policy.server_seen(server);
    }
}

/// The asker of a boot question and its answer. `None` when the packet is no boot question, the
/// machine cannot be served, or the policy ignores it.
fn boot_answer(
    shared: &Shared,
    question: &Packet,
    from: SocketAddrV4,
    door: Door,
) -> Option<(Asker, Decision)> {
    let asker = match Asker::of(question, door, shared.settings.address) {
        Ok(asker) => asker,
        Err(NoAsker::NotOurs) => return None,
        Err(NoAsker::Unusable { machine, reason }) => {
            shared.report(Report::new(machine, Stage::Unusable).detail(&reason));
            return None;
        }
    };
    if question.options.user_class_is(facts::boot::DOCTOR) {
        let decision = decide::decide(&asker, Verdict::Agent, &shared.server);
        return Some((asker, decision));
    }
    let address = match question.ciaddr {
        none if none.is_unspecified() => *from.ip(),
        address => address,
    };
    shared.machines().note(asker.machine, Some(address));
    // The UUID may be known from an earlier packet: iPXE's packets always have it, those of some
    // ROMs never.
    let machine = shared.machines().of(asker.machine.mac);
    let decision = decide::decide(&asker, shared.policy.verdict(&machine), &shared.server);
    let (stage, what) = match &decision {
        Decision::Ignore => (Stage::Ignored, None),
        Decision::ComeAgain { .. } => (Stage::Asked, None),
        Decision::File { name, .. } => (Stage::Asked, Some((*name).to_owned())),
        Decision::Url { url, .. } => (Stage::Asked, Some(url.clone())),
    };
    let mut report = Report::new(machine, stage).at(address);
    report.firmware = Some(asker.firmware.to_string());
    if let Some(what) = what {
        report = report.detail(&what);
    }
    shared.report(report);
    (decision != Decision::Ignore).then_some((asker, decision))
}

/// Builds the answer with an address, and with a boot file if one was asked for.
async fn lease(
    shared: &Shared,
    socket: &UdpSocket,
    table: &mut Table,
    question: &Packet,
    boot: Option<(Asker, Decision)>,
) -> Option<Packet> {
    let taken = |address, mac| neighbours::lookup(address).is_some_and(|other| other != mac);
    let outcome = table.leases.handle(question, now(), taken);
    let mut answer = match outcome {
        Outcome::Answer(answer) => answer,
        Outcome::Silent => return None,
        Outcome::Full => {
            let machine = shared.machines().of(question.mac);
            shared.report(Report::failure(
                machine,
                "no address is left in the range of --dhcp",
            ));
            return None;
        }
    };
    if let Some(text) = table.leases.take_changed()
        && let Err(error) = keep(&table.file, &text)
    {
        tracing::error!(file = %table.file.display(), %error, "leases are not kept: after a restart an address may be given twice");
    }
    match answer.message_type() {
        // The byte makes the kernel resolve the address. If another machine answers, it is in the
        // table of neighbours when the client takes the offer.
        Some(MessageType::Offer) => {
            let _ = socket
                .send_to(&[0], SocketAddrV4::new(answer.yiaddr, DISCARD))
                .await;
        }
        Some(MessageType::Ack) => {
            let machine = shared.machines().of(question.mac);
            let address = if answer.yiaddr == Ipv4Addr::UNSPECIFIED {
                answer.ciaddr
            } else {
                answer.yiaddr
            };
            shared.machines().note(machine, Some(address));
        }
        _ => {}
    }
    let boot = boot.or_else(|| lease_boot(shared, question));
    if answer.message_type() != Some(MessageType::Nak)
        && let Some((asker, decision)) = boot
    {
        decide::into_lease(&mut answer, &asker, &decision, &shared.server);
    }
    Some(answer)
}

/// The boot answer for a lease question that does not name this server: a renewal, or a machine
/// that remembers its address. The ACK needs the boot file too.
fn lease_boot(shared: &Shared, question: &Packet) -> Option<(Asker, Decision)> {
    let mut as_discover = question.clone();
    as_discover.options.set_message_type(MessageType::Discover);
    let asker = Asker::of(&as_discover, Door::Dhcp, shared.settings.address).ok()?;
    let machine = shared.machines().of(asker.machine.mac);
    let decision = decide::decide(&asker, shared.policy.verdict(&machine), &shared.server);
    Some((asker, decision))
}

/// Writes a file whole or not at all.
fn keep(file: &Path, text: &str) -> io::Result<()> {
    let partial = file.with_extension("partial");
    std::fs::write(&partial, text)?;
    std::fs::rename(partial, file)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a lease outlives the process, so its end is a date"
)]
fn now() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn own_mac(interface: Option<&str>) -> Option<String> {
    // The kernel has bound a socket to an interface of this name, so it is safe in a path.
    let path = Path::new("/sys/class/net").join(interface?).join("address");
    Some(std::fs::read_to_string(path).ok()?.trim().to_owned())
}
