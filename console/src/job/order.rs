//! The running session of a job: keys, multicast groups, sending thread, and the order for each
//! target.
//!
//! Owns the sending thread. Session secrets exist only here and in each target's TLS connection;
//! they are wiped when the session ends.

use crate::context::Console;
use crate::interface::interface_speed;
use crate::master::MasterImage;
use api::{DeployRequest, SessionView};
use facts::hex;
use facts::look::Look;
use facts::order::{Grow, Reuse, Verify};
use facts::target::{Choice, DiskFacts, Facts};
use jobs::rate;
use multicast::{SYMBOL_BYTES, Suite};
use net::sending::{Sending, SendingEvent, SendingSnapshot, SendingSpec};
use protocol::control::{ApplyOrder, BulkOrder, DiskOrder, Order, SessionOrder};
use std::net::SocketAddrV4;
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedReceiver;
use zeroize::Zeroizing;

/// A session of a job.
pub(super) struct Session {
    id: u32,
    secret: Zeroizing<[u8; 32]>,
    suite: Suite,
    pub(super) main: SocketAddrV4,
    pub(super) second: SocketAddrV4,
    /// Known limit of the wire's rate in bytes per second; `None` if neither the technician nor an
    /// interface gives one.
    pub(super) known_cap: Option<u64>,
    slot: u8,
    sending: Option<Sending>,
    events: Option<UnboundedReceiver<SendingEvent>>,
}

/// A target that gets an order, with the parts of the order that are its own.
pub(super) struct Member<'a> {
    pub(super) job: u64,
    /// Position of the target in the job.
    pub(super) place: usize,
    /// Disk that was confirmed.
    pub(super) disk: &'a DiskFacts,
    /// Contents that the disk may have for the order to be carried out.
    pub(super) look: Look,
    pub(super) bulk_port: u16,
    /// Number of receivers in the session.
    pub(super) receivers: usize,
    pub(super) grow: Option<Grow>,
    pub(super) choice: Choice,
    pub(super) reuse: Reuse,
    /// Changes of the template for this machine.
    pub(super) apply: Option<ApplyOrder>,
}

/// Returns random bytes from the operating system.
fn random<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| format!("no random numbers: {error}"))?;
    Ok(bytes)
}

impl Session {
    /// Draws keys, takes multicast groups, and starts to send.
    ///
    /// If multicast cannot start, the session still exists, and targets are served over TCP 5003;
    /// the second value is then the fault.
    pub(super) fn open(
        console: &Console,
        image: &Arc<MasterImage>,
        request: &DeployRequest,
        facts: &[Facts],
    ) -> Result<(Self, Option<String>), String> {
        let settings = &console.settings;
        let own_speed = interface_speed(&settings.interface);
        let known_cap = rate::known_rate_cap(request, facts, own_speed);
        let secret = Zeroizing::new(random::<32>()?);
        // Session 0 would look like an unset field.
        let id = u32::from_le_bytes(random()?).max(1);
        let slot = console
            .jobs
            .take_slot()
            .ok_or("too many sessions run at once")?;
        let (main, second) = rate::lanes(settings.main, settings.second, slot);
        let suite = rate::suite(facts);
        let spec = SendingSpec {
            source: image.clone(),
            session: id,
            epoch: 0,
            secret: *secret,
            suite,
            main,
            second,
            interface: settings.interface_address,
            ttl: settings.ttl,
            rate_cap_bytes_per_s: rate::rate_cap(known_cap),
            start_rate_bytes_per_s: rate::start_rate(request, known_cap),
            pace: request.pace,
        };
        let (sending, events, fault) = match Sending::start(spec) {
            Ok(mut sending) => {
                let events = sending.events();
                (Some(sending), events, None)
            }
            Err(error) => (None, None, Some(error.to_string())),
        };
        Ok((
            Self {
                id,
                secret,
                suite,
                main,
                second,
                known_cap,
                slot,
                sending,
                events,
            },
            fault,
        ))
    }

    pub(super) fn id(&self) -> u32 {
        self.id
    }

    pub(super) fn sending(&self) -> Option<&Sending> {
        self.sending.as_ref()
    }

    /// Returns the next event of the sending thread; never returns when there is none.
    pub(super) async fn next_event(&mut self) -> SendingEvent {
        if let Some(events) = &mut self.events {
            if let Some(event) = events.recv().await {
                return event;
            }
            self.events = None;
        }
        std::future::pending().await
    }

    /// Makes the order for a target. The second value is the secret part of its bulk token.
    pub(super) fn order(
        &self,
        image: &MasterImage,
        member: Member<'_>,
    ) -> Result<(Order, String), String> {
        let secret = hex::encode(&random::<32>()?);
        let name = image
            .summary()
            .path
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .to_owned();
        let order = Order {
            job: member.job.to_string(),
            image: name,
            root: image.root().to_owned(),
            manifest_digest: image.manifest_digest(),
            manifest_bytes: image.manifest().len() as u64,
            image_blocks: image.image_blocks(),
            session: SessionOrder {
                id: self.id,
                epoch: 0,
                secret: hex::encode(self.secret.as_slice()),
                suite: self.suite,
                main: self.main,
                second: self.second,
                receivers: u32::try_from(member.receivers).unwrap_or(u32::MAX),
            },
            bulk: BulkOrder {
                port: member.bulk_port,
                token: format!("{}.{secret}", member.place),
            },
            id_key: image.id_key(),
            disk: DiskOrder {
                look: member.look,
                ..DiskOrder::naming(member.disk)
            },
            grow: member.grow,
            choice: member.choice,
            verify: Verify::Full,
            reuse: member.reuse,
            apply: member.apply.map(Box::new),
        };
        Ok((order, secret))
    }

    /// Ends the sending thread and returns the groups.
    pub(super) fn close(self, console: &Console) {
        drop(self.sending);
        console.jobs.return_slot(self.slot);
    }
}

/// Returns the counters of a session as the API shows them. The rate is left at 0; the caller
/// measures it.
pub(super) fn view(now: &SendingSnapshot) -> SessionView {
    let counters = &now.counters;
    let payload = |packets: u64| packets.saturating_mul(SYMBOL_BYTES as u64);
    SessionView {
        source_bytes: payload(counters.source.saturating_add(counters.manifest)),
        parity_bytes: payload(counters.proactive.saturating_add(counters.repair)),
        wire_bytes: counters.wire_bytes,
        bulk_bytes: 0,
        rate_bytes_per_s: 0,
        passes: now.passes,
        damage: None,
    }
}
