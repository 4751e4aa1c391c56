//! An agent's part in `diskcast doctor`: joins the probe's groups, counts packets, and checks its
//! own machine.
//!
//! ```text
//! request -> join -> DoctorReady -> count until the stream ends -> disks, memory, link -> DoctorAnswer
//! ```
//!
//! Owns: one check at a time, on a thread of its own. Never writes to a disk; the link never starts
//! a check during a job, because it would slow the job.

use super::{AgentOptions, doctor_facts};
use facts::hex;
use multicast::Lane;
use net::igmp_watch::{IgmpWatch, interface_name};
use net::probe_run::{ProbeHeard, ProbeListener};
use net::tls::Pin;
use net::{port_owner, socket};
use protocol::control::{AgentMessage, DoctorAnswer, DoctorRequest, LaneCounts, OtherConsole};
use protocol::doctor::{MAX_SECONDS, RECEIVE_BUFFER};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;

/// Time an agent listens beyond the stream itself, until every other target has joined and the
/// stream's last packets have come.
const SLACK: Duration = Duration::from_secs(6);
/// Time an agent listens when there is no stream: long enough for a beacon.
const BEACONS_ONLY: Duration = Duration::from_millis(2500);

/// The agent's objects that a check uses.
pub(super) struct Surroundings {
    pub(super) options: AgentOptions,
    pub(super) console: SocketAddr,
    pub(super) beacon_heard: Arc<AtomicBool>,
    pub(super) igmp: Option<Arc<IgmpWatch>>,
    pub(super) outbox: UnboundedSender<AgentMessage>,
}

/// State of the agent's check, of which there is one at a time.
#[derive(Default)]
pub(super) struct Check {
    running: AtomicBool,
    /// Set when the console has sent everything.
    over: AtomicBool,
}

impl Check {
    /// Records that the console has sent everything.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// Clears the mark of a running check when dropped.
struct Running(Arc<Check>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.store(false, Ordering::Relaxed);
    }
}

/// The answer of an agent that is busy.
pub(super) fn busy(request: &DoctorRequest, why: String) -> AgentMessage {
    AgentMessage::DoctorAnswer(Box::new(DoctorAnswer {
        id: request.id.clone(),
        busy: Some(why),
        ..DoctorAnswer::default()
    }))
}

/// Starts a check, or returns the reason it cannot.
pub(super) fn start(
    request: DoctorRequest,
    surroundings: Surroundings,
    check: &Arc<Check>,
) -> Option<AgentMessage> {
    if check.running.swap(true, Ordering::Relaxed) {
        return Some(busy(&request, "another check is under way".to_owned()));
    }
    check.over.store(false, Ordering::Relaxed);
    let running = Running(Arc::clone(check));
    tokio::task::spawn_blocking(move || {
        let outbox = surroundings.outbox.clone();
        let answer = examine(request, surroundings, &running.0.over);
        // Cleared before the answer is sent, because the next request may follow at once.
        drop(running);
        let _ = outbox.send(AgentMessage::DoctorAnswer(Box::new(answer)));
    });
    None
}

fn examine(request: DoctorRequest, around: Surroundings, over: &AtomicBool) -> DoctorAnswer {
    let mut answer = DoctorAnswer {
        id: request.id.clone(),
        receive_buffer_asked: RECEIVE_BUFFER as u64,
        beacon_heard: around.beacon_heard.load(Ordering::Relaxed),
        ..DoctorAnswer::default()
    };
    let interface = around
        .options
        .interface
        .map_or_else(|| socket::local_address_towards(around.console), Ok);
    let (interface, name) = match interface {
        Ok(address) => (
            address,
            interface_name(address).unwrap_or_else(|| address.to_string()),
        ),
        Err(error) => {
            answer.join_error = Some(format!("no way to the console: {error}"));
            (Ipv4Addr::UNSPECIFIED, String::new())
        }
    };
    let joined = ProbeListener::join(request.main, request.second, interface);
    // Sent even if nothing could be joined, so that the console does not wait for this agent.
    let _ = around.outbox.send(AgentMessage::DoctorReady {
        id: request.id.clone(),
        time_us: jiff::Timestamp::now().as_microsecond(),
    });
    match joined {
        Ok(listener) => {
            listen(&request, listener, over, around.options.pin, &mut answer);
        }
        Err((group, error)) => {
            let text = join_error(group, &error);
            answer.join_error.get_or_insert(text);
        }
    }
    doctor_facts::link(&name, &mut answer);
    answer.interface = name;
    answer.memory_available = doctor_facts::memory_available();
    // Read last, so that queries heard during the probe count.
    answer.querier = around.igmp.map(|igmp| igmp.facts()).unwrap_or_default();
    answer.disks = doctor_facts::disk_speeds(around.options.offers());
    answer
}

fn join_error(group: SocketAddrV4, error: &std::io::Error) -> String {
    match port_owner::udp(group.port()) {
        Some(owner) if error.kind() == std::io::ErrorKind::AddrInUse => {
            format!("UDP port {} is in use by {owner}", group.port())
        }
        _ if error.kind() == std::io::ErrorKind::AddrInUse => {
            format!("UDP port {} is in use by another process", group.port())
        }
        _ => format!("joining {group}: {error}"),
    }
}

fn listen(
    request: &DoctorRequest,
    listener: ProbeListener,
    over: &AtomicBool,
    pin: Pin,
    answer: &mut DoctorAnswer,
) {
    let id = hex::decode::<8>(&request.id).map_or(0, u64::from_be_bytes);
    let seconds = request.seconds;
    let timeout = if seconds > 0.0 {
        Duration::from_secs_f64(seconds.min(MAX_SECONDS)) + SLACK
    } else {
        BEACONS_ONLY
    };
    match listener.run(id, timeout, over) {
        Ok(heard) => {
            answer.receive_buffer = heard.receive_buffer as u64;
            answer.main = counts(&heard, Lane::Main);
            answer.second = counts(&heard, Lane::Second);
            for (beacon, from) in heard.beacons {
                if beacon.pin == pin.0 {
                    answer.beacon_heard = true;
                } else {
                    answer.consoles.push(OtherConsole {
                        name: beacon.name,
                        address: SocketAddrV4::new(from, beacon.control_port).to_string(),
                        pin: hex::encode(&beacon.pin),
                    });
                }
            }
        }
        Err(error) => answer.join_error = Some(format!("listening: {error}")),
    }
}

fn counts(heard: &ProbeHeard, lane: Lane) -> LaneCounts {
    let tally = heard.tally.lane(lane);
    LaneCounts {
        received: tally.received,
        duplicates: tally.duplicates,
        reordered: tally.reordered,
        silent_ms: tally.silent.as_micros() / 1_000,
        small: tally.small,
        jumbo: tally.jumbo,
        kernel_drops: *heard.kernel_drops.get(lane),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_port_is_named_with_its_number() {
        let group = SocketAddrV4::new(Ipv4Addr::new(239, 254, 1, 1), 5002);
        let error = std::io::Error::from(std::io::ErrorKind::AddrInUse);
        assert!(join_error(group, &error).starts_with("UDP port 5002 is in use by "));
        let error = std::io::Error::from(std::io::ErrorKind::NotFound);
        assert!(join_error(group, &error).starts_with("joining 239.254.1.1:5002: "));
    }

    #[test]
    fn one_check_at_a_time() {
        let request = DoctorRequest {
            id: "0000000000000001".to_owned(),
            main: SocketAddrV4::new(Ipv4Addr::new(239, 254, 1, 1), 5002),
            second: SocketAddrV4::new(Ipv4Addr::new(239, 254, 1, 2), 5004),
            seconds: 1.0,
        };
        let AgentMessage::DoctorAnswer(answer) = busy(&request, "job 7".to_owned()) else {
            panic!("an answer was expected")
        };
        assert_eq!(
            (answer.id.as_str(), answer.busy.as_deref()),
            ("0000000000000001", Some("job 7"))
        );
    }
}
