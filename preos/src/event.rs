//! Reports stages of this machine to the boot service (`POST /event`).
//!
//! Best effort: nothing waits for it, nothing depends on it, and a boot service that does not
//! answer costs a log line. Owns one thread and a bounded queue.

use facts::Mac;
use serde::Serialize;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpStream};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

/// Most stages that wait for a slow boot service.
const QUEUE: usize = 16;
/// Longest wait for the boot service.
const PATIENCE: Duration = Duration::from_secs(3);

/// One stage, as it is sent.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    /// MAC address of the card that got an address.
    pub mac: String,
    /// SMBIOS UUID.
    pub uuid: Option<String>,
    /// `initramfs`, `agent`, `joined` or `unusable`.
    pub stage: &'static str,
    /// Description in words.
    pub detail: String,
}

/// Sends stages to the boot service.
#[derive(Clone)]
pub struct Teller {
    events: Option<SyncSender<Event>>,
    mac: Mac,
    uuid: Option<String>,
}

impl Teller {
    /// Starts the thread for a boot service. Without one, stages are dropped.
    pub fn start(boot: Option<SocketAddrV4>, mac: Mac, uuid: Option<String>) -> Self {
        let events = boot.and_then(|boot| {
            let (events, queue) = sync_channel::<Event>(QUEUE);
            std::thread::Builder::new()
                .name("stages".into())
                .spawn(move || {
                    while let Ok(event) = queue.recv() {
                        if let Err(error) = post(boot, &event) {
                            tracing::info!(%boot, stage = event.stage, %error, "the boot service was not told");
                        }
                    }
                })
                .is_ok()
                .then_some(events)
        });
        Self { events, mac, uuid }
    }

    /// Queues one stage.
    pub fn tell(&self, stage: &'static str, detail: impl Into<String>) {
        if let Some(events) = &self.events {
            let _ = events.try_send(Event {
                mac: self.mac.to_string(),
                uuid: self.uuid.clone(),
                stage,
                detail: detail.into(),
            });
        }
    }
}

fn post(boot: SocketAddrV4, event: &Event) -> io::Result<()> {
    let body = serde_json::to_string(event)?;
    let mut stream = TcpStream::connect_timeout(&SocketAddr::V4(boot), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = format!(
        "POST /event HTTP/1.1\r\nHost: {boot}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes())?;
    // The answer has no effect; waiting for its first bytes keeps the connection from being closed
    // too early.
    let mut answer = [0; 64];
    stream.read(&mut answer).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_stage_arrives_as_the_contract_says() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let SocketAddr::V4(address) = listener.local_addr().unwrap() else {
            panic!("an IPv4 address was asked for");
        };
        let teller = Teller::start(Some(address), Mac([2, 0, 0, 0, 0, 9]), Some("u-1".into()));
        teller.tell("joined", "pc \"07\"");
        let (mut stream, _) = listener.accept().unwrap();
        let mut text = String::new();
        let mut buffer = [0; 1024];
        while !text.ends_with('}') {
            let len = stream.read(&mut buffer).unwrap();
            assert!(len > 0, "cut off: {text}");
            text.push_str(std::str::from_utf8(&buffer[..len]).unwrap());
        }
        assert!(text.starts_with("POST /event HTTP/1.1\r\n"));
        let body = text.split("\r\n\r\n").nth(1).unwrap();
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(body).unwrap(),
            serde_json::json!({"mac": "02:00:00:00:00:09", "uuid": "u-1", "stage": "joined", "detail": "pc \"07\""})
        );
    }
}
