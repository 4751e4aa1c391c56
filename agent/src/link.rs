//! The agent's connection to its console: finds it, connects, says hello, carries messages, and
//! connects again.
//!
//! Owns the control connection and nothing else. A job goes on while the connection is down; the
//! hello of the next connection reports the state reached meanwhile.

use super::capture::Capture;
use super::desk::Line;
use super::job::{Job, JobEnd};
use super::menu::{self, Heard, MenuLink};
use super::{AgentOptions, Ended, doctor, machine};
use facts::order::EndAction;
use net::frames::{self, FrameReader, FrameWriter};
use net::igmp_querier::Role;
use net::igmp_watch::IgmpWatch;
use net::{beacon, socket, tls};
use protocol::control::{AgentMessage, CONTROL_VERSION, ConsoleMessage, Hello};
use rustls::ClientConfig;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Longest silence of a console before the connection counts as lost; the console pings every two
/// seconds.
const SILENCE: Duration = Duration::from_secs(10);
/// Longest time for making a connection, TLS included.
const CONNECT: Duration = Duration::from_secs(10);
/// First and longest pause between two tries.
const RETRY: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(5));
/// Longest wait for a beacon when no console is configured.
const DISCOVER: Duration = Duration::from_secs(5);

/// The agent between jobs and within one.
pub(super) struct Link {
    options: AgentOptions,
    tls: Arc<ClientConfig>,
    instance: String,
    beacon_heard: Arc<AtomicBool>,
    /// True while the disks are being examined.
    looking: Arc<AtomicBool>,
    /// Watches for IGMP queriers; starts with the first connection, when the interface is known.
    igmp: Option<Arc<IgmpWatch>>,
    /// The check of `doctor`, perhaps under way.
    check: Arc<doctor::Check>,
    job: Option<Job>,
    capture: Option<Capture>,
    /// Connection to the menu of the person at the screen.
    menu: MenuLink,
    outbox: UnboundedSender<AgentMessage>,
    outgoing: UnboundedReceiver<AgentMessage>,
}

impl Link {
    pub(super) fn new(options: AgentOptions, tls: Arc<ClientConfig>, instance: String) -> Self {
        let (outbox, outgoing) = unbounded_channel();
        let menu = menu::start(options.desk.clone(), outbox.clone());
        Self {
            options,
            tls,
            instance,
            beacon_heard: Arc::default(),
            looking: Arc::default(),
            igmp: None,
            check: Arc::default(),
            job: None,
            capture: None,
            menu,
            outbox,
            outgoing,
        }
    }

    /// Serves the console until the agent's work is over (`--once`), or for ever.
    pub(super) async fn run(mut self) -> Ended {
        let mut wait = RETRY.0;
        loop {
            match self.connect().await {
                Ok((address, reader, writer)) => {
                    wait = RETRY.0;
                    self.options
                        .desk
                        .tell(|standing| standing.line = Line::Connected(address));
                    match self.serve(address, reader, writer).await {
                        Served::Over(end) => return end,
                        Served::Broken(reason) => {
                            tracing::warn!(console = %address, %reason, "lost the console; connecting again");
                            self.menu.free(false);
                            self.options.desk.tell(|standing| {
                                standing.line = Line::Searching(format!("lost {address}: {reason}"))
                            });
                        }
                    }
                }
                Err(reason) => {
                    tracing::info!(%reason, "no console yet");
                    self.options
                        .desk
                        .tell(|standing| standing.line = Line::Searching(reason));
                    self.discard_outgoing();
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(RETRY.1);
                }
            }
        }
    }

    async fn connect(
        &mut self,
    ) -> Result<
        (
            SocketAddr,
            FrameReader<Stream, ConsoleMessage>,
            FrameWriter<Stream, AgentMessage>,
        ),
        String,
    > {
        let address = self.console_address().await?;
        let stream = tokio::time::timeout(CONNECT, async {
            let stream = TcpStream::connect(address)
                .await
                .map_err(|e| format!("connecting to {address}: {e}"))?;
            // Status reports are small and urgent.
            let _ = stream.set_nodelay(true);
            let connector = tokio_rustls::TlsConnector::from(Arc::clone(&self.tls));
            connector
                .connect(tls::server_name(), stream)
                .await
                .map_err(|e| format!("{address} is not the console whose pin was given: {e}"))
        })
        .await
        .map_err(|_| format!("{address} does not answer"))??;
        self.listen_for_beacons(address);
        if self.igmp.is_none()
            && let Some(interface) = self.interface_towards(address)
        {
            self.igmp = Some(Arc::new(IgmpWatch::start(interface, Role::Listener)));
        }
        let (reader, mut writer) = frames::split(stream);
        self.discard_outgoing();
        let disks = self.options.offers();
        let hello = Hello {
            version: CONTROL_VERSION,
            agent_version: env!("CARGO_PKG_VERSION").into(),
            instance: self.instance.clone(),
            name: self.options.name.clone(),
            facts: tokio::task::spawn_blocking(move || machine::gather(disks))
                .await
                .map_err(|e| e.to_string())?,
            beacon_heard: self.beacon_heard.load(Ordering::Relaxed),
            job: self
                .job
                .as_ref()
                .map(Job::unfinished)
                .or_else(|| self.capture.as_ref().map(Capture::unfinished)),
        };
        writer
            .send(&AgentMessage::Hello(Box::new(hello)))
            .await
            .map_err(|e| e.to_string())?;
        Ok((address, reader, writer))
    }

    async fn console_address(&self) -> Result<SocketAddr, String> {
        if let Some(console) = &self.options.console {
            return tokio::net::lookup_host(console.as_str())
                .await
                .map_err(|e| format!("looking up {console}: {e}"))?
                .find(SocketAddr::is_ipv4)
                .ok_or_else(|| format!("{console} has no IPv4 address"));
        }
        let (second, interface, pin) = (
            self.options.second,
            self.options.interface,
            self.options.pin,
        );
        let found = tokio::task::spawn_blocking(move || {
            beacon::listen(
                second,
                interface.unwrap_or(Ipv4Addr::UNSPECIFIED),
                DISCOVER,
                &|b| b.pin == pin.0,
            )
        })
        .await
        .map_err(|e| e.to_string())?
        .map_err(|e| format!("listening for a console on {second}: {e}"))?;
        let (beacon, from) = found.ok_or_else(|| {
            format!("no console with our pin announced itself on {second}: is it running, and is there an IGMP querier?")
        })?;
        self.beacon_heard.store(true, Ordering::Relaxed);
        self.options
            .desk
            .tell(|standing| standing.beacon_heard = true);
        Ok(SocketAddr::from((from, beacon.control_port)))
    }

    fn interface_towards(&self, console: SocketAddr) -> Option<Ipv4Addr> {
        self.options
            .interface
            .or_else(|| socket::local_address_towards(console).ok())
    }

    /// Checks whether multicast reaches this machine while it waits for work.
    fn listen_for_beacons(&self, console: SocketAddr) {
        if self.beacon_heard.load(Ordering::Relaxed) {
            return;
        }
        let (heard, outbox) = (Arc::clone(&self.beacon_heard), self.outbox.clone());
        let desk = self.options.desk.clone();
        let (second, pin) = (self.options.second, self.options.pin);
        let interface = self
            .interface_towards(console)
            .unwrap_or(Ipv4Addr::UNSPECIFIED);
        tokio::task::spawn_blocking(move || {
            if let Ok(Some(_)) = beacon::listen(second, interface, Duration::from_secs(3), &|b| {
                b.pin == pin.0
            }) {
                heard.store(true, Ordering::Relaxed);
                desk.tell(|standing| standing.beacon_heard = true);
                let _ = outbox.send(AgentMessage::BeaconHeard);
            }
        });
    }

    async fn serve(
        &mut self,
        console: SocketAddr,
        mut reader: FrameReader<Stream, ConsoleMessage>,
        mut writer: FrameWriter<Stream, AgentMessage>,
    ) -> Served {
        loop {
            tokio::select! {
                incoming = tokio::time::timeout(SILENCE, reader.recv()) => {
                    let message = match incoming {
                        Err(_) => return Served::Broken("silent for too long".into()),
                        Ok(Err(error)) => return Served::Broken(error.to_string()),
                        Ok(Ok(None)) => return Served::Broken("closed by the console".into()),
                        Ok(Ok(Some(message))) => message,
                    };
                    if let Some(reply) = self.handle(console, message)
                        && let Err(error) = writer.send(&reply).await
                    {
                        return Served::Broken(error.to_string());
                    }
                    if let Some(end) = self.over() {
                        writer.close().await;
                        return Served::Over(end);
                    }
                }
                Some(message) = self.outgoing.recv() => {
                    if let Err(error) = writer.send(&message).await {
                        return Served::Broken(error.to_string());
                    }
                }
            }
        }
    }

    fn handle(&mut self, console: SocketAddr, message: ConsoleMessage) -> Option<AgentMessage> {
        match message {
            ConsoleMessage::Welcome {
                target,
                name,
                approved,
            } => {
                tracing::info!(%target, %name, approved, "joined the console");
                self.menu.free(approved && self.busy_with().is_none());
                self.options.desk.tell(|standing| {
                    standing.line = Line::Joined {
                        console,
                        name,
                        approved,
                    }
                });
            }
            ConsoleMessage::Order(order) => {
                self.menu.free(false);
                match self.job.as_mut().filter(|job| job.id() == order.job) {
                    Some(job) => job.order_again(*order, console),
                    None => {
                        if let Some(old) = self.job.take() {
                            old.cancel("a new job came");
                        }
                        self.capture = None;
                        let job = Job::start(
                            *order,
                            console,
                            Arc::clone(&self.tls),
                            &self.options,
                            self.outbox.clone(),
                        );
                        self.job = Some(job);
                    }
                }
            }
            ConsoleMessage::Cancel { job, reason } => {
                if let Some(current) = self.job.as_ref().filter(|current| current.id() == job) {
                    current.cancel(&reason);
                }
                if let Some(current) = self.capture.as_ref().filter(|own| own.id() == job) {
                    current.cancel(&reason);
                }
            }
            ConsoleMessage::UseBulk { job, blocks } => {
                if let Some(current) = self.job.as_ref().filter(|current| current.id() == job) {
                    current.use_bulk(blocks);
                }
            }
            ConsoleMessage::Recorded { job, after } => {
                if let Some(current) = self.job.as_mut().filter(|current| current.id() == job) {
                    current.recorded(after);
                }
                if let Some(current) = self.capture.as_mut().filter(|own| own.id() == job) {
                    current.recorded(after);
                }
            }
            ConsoleMessage::Doctor(request) => {
                if let Some(job) = self.busy_with() {
                    return Some(doctor::busy(&request, format!("in job {job}")));
                }
                let surroundings = doctor::Surroundings {
                    options: self.options.clone(),
                    console,
                    beacon_heard: Arc::clone(&self.beacon_heard),
                    igmp: self.igmp.clone(),
                    outbox: self.outbox.clone(),
                };
                return doctor::start(request, surroundings, &self.check);
            }
            ConsoleMessage::DoctorEnd => self.check.end(),
            ConsoleMessage::AskFacts => self.tell_facts(),
            ConsoleMessage::Ping => return Some(AgentMessage::Pong),
            ConsoleMessage::Capture(order) => {
                self.menu.free(false);
                match self.capture.as_mut().filter(|own| own.id() == order.job) {
                    Some(capture) => capture.order_again(&order, console),
                    None => {
                        if let Some(old) = self.job.take() {
                            old.cancel("a capture came");
                        }
                        self.capture = Some(Capture::start(
                            *order,
                            console,
                            Arc::clone(&self.tls),
                            &self.options,
                            self.outbox.clone(),
                        ));
                    }
                }
            }
            ConsoleMessage::Menu(menu) => self.menu.heard(Heard::Menu(*menu)),
            ConsoleMessage::ChoiceAnswer(answer) => self.menu.heard(Heard::Answer(answer)),
            ConsoleMessage::Unknown => tracing::debug!("message of a newer console ignored"),
        }
        None
    }

    /// Reads the machine's facts again and sends them. One read at a time: a disk that does not
    /// answer must not block more and more threads.
    fn tell_facts(&self) {
        if self.looking.swap(true, Ordering::Relaxed) {
            return;
        }
        let (options, outbox) = (self.options.clone(), self.outbox.clone());
        let looking = Arc::clone(&self.looking);
        tokio::task::spawn_blocking(move || {
            let facts = machine::gather(options.offers());
            looking.store(false, Ordering::Relaxed);
            let _ = outbox.send(AgentMessage::Facts(Box::new(facts)));
        });
    }

    /// Id of the job or capture that has not ended.
    fn busy_with(&self) -> Option<&str> {
        let job = self.job.as_ref().map(Job::id);
        job.or(self.capture.as_ref().map(Capture::id))
    }

    /// Handles a recorded outcome: forgets the job, carries out the end action, and returns the
    /// agent's end with `--once`.
    fn over(&mut self) -> Option<Ended> {
        let deployed = self.job.as_ref().and_then(Job::end);
        let captured = self.capture.as_ref().and_then(Capture::end);
        if deployed.is_some() {
            self.job = None;
        }
        if captured.is_some() {
            self.capture = None;
        }
        let good = match &deployed {
            Some(_) => Ended::Done,
            None => Ended::Captured,
        };
        let JobEnd { done, after, disk } = deployed.or(captured)?;
        self.menu.free(self.busy_with().is_none());
        // The disk differs from the one that the hello described.
        self.tell_facts();
        if self.options.power && done && after != EndAction::None {
            match &self.options.on_end {
                Some(on_end) => (on_end.0)(after, &disk),
                None => super::power::act(after),
            }
        }
        self.options
            .once
            .then_some(if done { good } else { Ended::Failed })
    }

    /// Drops messages queued for a lost connection: the next hello reports the state.
    fn discard_outgoing(&mut self) {
        while self.outgoing.try_recv().is_ok() {}
    }
}

type Stream = tokio_rustls::client::TlsStream<TcpStream>;

enum Served {
    Over(Ended),
    Broken(String),
}
