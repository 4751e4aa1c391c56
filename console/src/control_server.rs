//! TCP 5001: the control connections of agents, from hello to end.
//!
//! ```text
//! accept -> TLS -> hello -> roster -> welcome -> [ping every 2 s, messages both ways] -> gone
//! ```
//!
//! Owns one task per connection. Invariants: no message of a peer disturbs another peer; a protocol
//! error costs one warning with the peer's address, and its connection is closed; queues to agents
//! are bounded, and an agent that does not read is disconnected.

use super::context::Console;
use super::doctor::Word;
use super::handshakes::Handshakes;
use super::job::{Input, JobHandle};
use super::jobs::parse_id;
use super::roster::{Joined, Link};
use facts::hex;
use jobs::naming::clean_line;
use net::frames::{self, ConnectionError, FrameReader, FrameWriter};
use protocol::control::{AgentMessage, CONTROL_VERSION, ConsoleMessage, Hello};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

/// Time between two pings.
const PING_EVERY: Duration = Duration::from_secs(2);
/// Longest silence of an agent: three pings.
const SILENCE: Duration = Duration::from_secs(6);
/// Longest time to send one message before the connection is closed.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of messages that wait for one agent: an order, some block lists, a cancel.
const QUEUE: usize = 1024;
/// Longest line taken from an agent, in characters.
const MAX_LINE: usize = 1000;
/// Pause after a failed accept, for example without free file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

type Reader = FrameReader<TlsStream<TcpStream>, AgentMessage>;
type Writer = FrameWriter<TlsStream<TcpStream>, ConsoleMessage>;

/// Accepts agents; ends when the future is dropped.
pub async fn serve(console: Arc<Console>, listener: TcpListener, tls: TlsAcceptor) {
    let handshakes = Handshakes::default();
    let numbers = Arc::new(AtomicU64::new(1));
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept agents");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (console, tls, unfinished) = (Arc::clone(&console), tls.clone(), handshakes.begin());
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            match unfinished.run(greet(stream, tls)).await {
                Some(Ok((hello, reader, writer))) => {
                    attend(&console, number, address, hello, reader, writer).await
                }
                Some(Err(error)) if error.is_nonsense() => {
                    tracing::warn!(%address, %error, "control connection closed: the peer speaks nonsense");
                }
                Some(Err(error)) => {
                    tracing::debug!(%address, %error, "control connection ended before its hello")
                }
                None => tracing::warn!(%address, "control connection closed: no hello in time"),
            }
        });
    }
}

fn nonsense(what: &str) -> ConnectionError {
    ConnectionError::Io(std::io::Error::new(
        std::io::ErrorKind::InvalidData,
        what.to_owned(),
    ))
}

async fn greet(
    stream: TcpStream,
    tls: TlsAcceptor,
) -> Result<(Hello, Reader, Writer), ConnectionError> {
    stream.set_nodelay(true)?;
    let (mut reader, writer): (Reader, Writer) = frames::split(tls.accept(stream).await?);
    let hello = match reader.recv().await? {
        Some(AgentMessage::Hello(hello)) => *hello,
        Some(_) => return Err(nonsense("the first message is no hello")),
        None => {
            return Err(ConnectionError::Io(
                std::io::ErrorKind::UnexpectedEof.into(),
            ));
        }
    };
    if hello.version != CONTROL_VERSION {
        let spoken = hello.version;
        return Err(nonsense(&format!(
            "the agent speaks control version {spoken}, this console {CONTROL_VERSION}"
        )));
    }
    if hex::decode::<16>(&hello.instance).is_err() {
        return Err(nonsense("the agent's instance is not 32 hex digits"));
    }
    Ok((hello, reader, writer))
}

/// Serves a connection from its hello to its end.
async fn attend(
    console: &Arc<Console>,
    number: u64,
    address: SocketAddr,
    hello: Hello,
    mut reader: Reader,
    writer: Writer,
) {
    let (queue, inbox) = mpsc::channel(QUEUE);
    let close = CancellationToken::new();
    let link = Link {
        number,
        address,
        queue,
        close: close.clone(),
    };
    let (instance, held) = (hello.instance.clone(), hello.job.clone());
    let joined = match console.roster.join(hello, link.clone()) {
        Ok(joined) => joined,
        Err(reason) => {
            tracing::warn!(%address, reason, "agent turned away");
            return;
        }
    };
    let Joined { row, job, identity } = joined;
    tracing::info!(target = row.name, id = row.id, %address, "agent connected");
    if let Some(question) = console
        .roster
        .view(&row.id)
        .ok()
        .and_then(|view| view.question())
    {
        tracing::warn!(target = row.name, "{question}");
    }
    console.boot.joined(&row.id, &row.facts);
    link.send(ConsoleMessage::Welcome {
        target: row.id.clone(),
        name: row.name.clone(),
        approved: row.approved,
    });
    let id = row.id.clone();
    if let Err(error) = console.store.save_target(row).await {
        tracing::error!(target = id, %error, "target not recorded");
    }
    if let Err(error) = console.store.save_identities(identity).await {
        tracing::error!(target = id, %error, "what it is known by is not recorded");
    }
    // The welcome is sent after the store has id and name, so that a restarted console gives the
    // same ones.
    let sending = tokio::spawn(write(writer, inbox, close.clone()));
    let held_here = held.as_ref().map(|held| held.job.clone());
    if let Some(held) = held {
        match parse_id(&held.job)
            .ok()
            .and_then(|job| console.jobs.handle(job))
        {
            Some(handle) => {
                let (target, instance) = (id.clone(), instance.clone());
                tell(
                    console,
                    &handle,
                    Input::Connected {
                        target,
                        instance,
                        unfinished: Some(held),
                    },
                )
                .await;
            }
            None => console.late(&id, &instance, held).await,
        }
    }
    let job = job.or_else(|| console.jobs.missing(&id));
    if let Some(job) = job.filter(|job| Some(job) != held_here.as_ref())
        && let Some(handle) = parse_id(&job).ok().and_then(|job| console.jobs.handle(job))
    {
        tell(
            console,
            &handle,
            Input::Connected {
                target: id.clone(),
                instance,
                unfinished: None,
            },
        )
        .await;
    }

    let ended = read(console, &id, &mut reader, &close).await;
    close.cancel();
    if let Some(Joined { row, job, .. }) = console.roster.leave(&id, number) {
        let name = row.name.clone();
        match ended {
            Ended::Nonsense(error) => {
                tracing::warn!(target = name, %address, error, "control connection closed: the peer speaks nonsense");
            }
            Ended::Silent => {
                tracing::warn!(target = name, %address, "agent lost: it has gone silent")
            }
            Ended::Closed(reason) => {
                tracing::info!(target = name, %address, reason, "agent disconnected")
            }
        }
        if let Some(handle) = job
            .and_then(|job| parse_id(&job).ok())
            .and_then(|job| console.jobs.handle(job))
        {
            let gone = Input::Disconnected { target: id.clone() };
            tell(console, &handle, gone).await;
        }
        if let Err(error) = console.store.save_target(row).await {
            tracing::debug!(target = id, %error, "target not recorded");
        }
    }
    // The writer may still have to send a last message (a refusal, a goodbye).
    let _ = sending.await;
}

enum Ended {
    Closed(String),
    Silent,
    Nonsense(String),
}

async fn read(
    console: &Arc<Console>,
    id: &str,
    reader: &mut Reader,
    close: &CancellationToken,
) -> Ended {
    loop {
        let message = tokio::select! {
            () = close.cancelled() => return Ended::Closed("closed by the console".to_owned()),
            message = tokio::time::timeout(SILENCE, reader.recv()) => message,
        };
        match message {
            Err(_) => return Ended::Silent,
            Ok(Ok(None)) => return Ended::Closed("the agent closed it".to_owned()),
            Ok(Err(error)) if error.is_nonsense() => return Ended::Nonsense(error.to_string()),
            Ok(Err(error)) => return Ended::Closed(error.to_string()),
            Ok(Ok(Some(message))) => dispatch(console, id, message).await,
        }
    }
}

/// Passes a message to the job it names. A busy job delays only this agent.
async fn dispatch(console: &Arc<Console>, id: &str, message: AgentMessage) {
    let target = id.to_owned();
    let (job, input) = match message {
        AgentMessage::Status {
            job,
            session,
            status,
        } => (
            job,
            Input::Status {
                target,
                session,
                status: Box::new(status),
            },
        ),
        AgentMessage::Progress(progress) => {
            (progress.job.clone(), Input::Progress { target, progress })
        }
        AgentMessage::Outcome(outcome) => (outcome.job.clone(), Input::Outcome { target, outcome }),
        AgentMessage::Log { job, text } => {
            let text = clean_line(&text, MAX_LINE);
            let Some(job) = job else {
                tracing::info!(target = id, "{text}");
                return;
            };
            (job, Input::Log { target, text })
        }
        AgentMessage::BeaconHeard => {
            console.roster.beacon_heard(id);
            return;
        }
        AgentMessage::DoctorReady { id: run, time_us } => {
            console.doctor.heard(id, &run, Word::Ready(time_us));
            return;
        }
        AgentMessage::DoctorAnswer(answer) => {
            let run = answer.id.clone();
            console.doctor.heard(id, &run, Word::Answer(answer));
            return;
        }
        AgentMessage::Facts(facts) => {
            if let Some(row) = console.roster.renew(id, *facts)
                && let Err(error) = console.store.save_target(row).await
            {
                tracing::error!(target = id, %error, "target not recorded");
            }
            return;
        }
        // The facts that a menu needs come over this same connection, so its reader must not wait
        // for the menu.
        AgentMessage::MenuRequest => {
            let console = Arc::clone(console);
            tokio::spawn(async move { console.menu_asked(&target).await });
            return;
        }
        AgentMessage::BackupRequest(request) => return console.backup_asked(id, &request),
        AgentMessage::TakeOffer(choice) => {
            let console = Arc::clone(console);
            tokio::spawn(async move { console.offer_taken(&target, *choice).await });
            return;
        }
        AgentMessage::Hello(_) | AgentMessage::Pong | AgentMessage::Unknown => return,
    };
    let Ok(number) = parse_id(&job) else { return };
    match console.jobs.handle(number) {
        Some(handle) => tell(console, &handle, input).await,
        None if console.after_the_end(number, input).await => {}
        None => tracing::debug!(target = id, job, "message for a job that is over"),
    }
}

/// Sends an input to a job; for a job that ends at this moment, records the outcome all the same.
async fn tell(console: &Arc<Console>, handle: &JobHandle, input: Input) {
    if let Err(unheard) = handle.inputs.send(input).await {
        console.after_the_end(handle.shared.id, unheard.0).await;
    }
}

/// Sends queued messages and pings.
async fn write(
    mut writer: Writer,
    mut inbox: mpsc::Receiver<ConsoleMessage>,
    close: CancellationToken,
) {
    let mut ping = tokio::time::interval(PING_EVERY);
    ping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let message = tokio::select! {
            biased;
            message = inbox.recv() => match message {
                Some(message) => message,
                None => break,
            },
            () = close.cancelled() => break,
            _ = ping.tick() => ConsoleMessage::Ping,
        };
        match tokio::time::timeout(SEND_TIMEOUT, writer.send(&message)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => {
                close.cancel();
                return;
            }
        }
    }
    let _ = tokio::time::timeout(SEND_TIMEOUT, writer.close()).await;
}
