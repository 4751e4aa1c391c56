//! Test console that takes reports of first starts on a real socket, verifies their HMAC, and
//! answers as configured.

use firstboot::report::{self, Message, Report};
use ring::hmac;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{channel, Receiver};
use std::time::Duration;

/// Behaviour on one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Does {
    /// Answers like a console that stored the report.
    Hears,
    /// The same answer, signed with another key.
    HearsWithAnotherKey,
    /// Refuses the report.
    Refuses,
    /// Closes without an answer.
    Closes,
    /// Sends endless bytes that are no answer.
    Babbles,
    /// Sends nothing until the peer closes.
    Waits,
}

/// A console with one address.
pub(crate) struct Console {
    pub(crate) address: SocketAddr,
    reports: Receiver<Report>,
}

impl Console {
    /// Serves one connection after the other with these behaviours, then stops listening.
    pub(crate) fn new(key: &[u8], does: &[Does]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (says, reports) = channel();
        let (key, does) = (key.to_vec(), does.to_vec());
        std::thread::spawn(move || {
            for does in does {
                let (stream, _) = listener.accept().unwrap();
                let report = serve(stream, &key, does);
                if says.send(report).is_err() {
                    return;
                }
            }
        });
        Self { address, reports }
    }

    /// The next report with a correct HMAC; panics if none comes.
    pub(crate) fn report(&self) -> Report {
        self.reports.recv_timeout(Duration::from_secs(90)).unwrap()
    }

    /// True if every expected connection has come.
    pub(crate) fn is_done(&self) -> bool {
        self.reports.recv_timeout(Duration::from_secs(10)).is_err()
    }
}

fn serve(mut stream: TcpStream, key: &[u8], does: Does) -> Report {
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let mut bytes = Vec::new();
    let mut part = [0; 512];
    while !report::is_whole(&bytes) {
        let count = stream.read(&mut part).unwrap();
        assert!(
            count > 0 && bytes.len() <= report::MAX_BYTES,
            "not a whole message"
        );
        bytes.extend(&part[..count]);
    }
    let Message {
        report,
        signed,
        digits,
    } = report::parse(&bytes).unwrap();
    assert_eq!(digits, sign(key, signed), "the HMAC of the report");
    let heard = report::heard_signed(digits);
    let answer = match does {
        Does::Hears => report::heard(&sign(key, heard.as_bytes())),
        Does::HearsWithAnotherKey => report::heard(&sign(b"another", heard.as_bytes())),
        Does::Refuses => report::refused(),
        Does::Closes => String::new(),
        Does::Babbles => "HTTP/1.1 400 Bad Request ".repeat(40),
        Does::Waits => {
            let _ = stream.read(&mut part);
            String::new()
        }
    };
    // The peer may have read enough and closed.
    let _ = stream.write_all(answer.as_bytes());
    report
}

/// HMAC-SHA256 as hex digits, by another implementation than the program's.
pub(crate) fn sign(key: &[u8], bytes: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), bytes);
    tag.as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
