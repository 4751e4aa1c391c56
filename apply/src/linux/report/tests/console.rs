//! Test console that takes reports of first starts and verifies each with an independent HMAC
//! implementation.

use firstboot::report::{self, Report};
use ring::hmac::{HMAC_SHA256, Key, sign};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use template::first_start::{FirstStart, ReportKey};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn signed(key: &ReportKey, text: &[u8]) -> String {
    hex(sign(&Key::new(HMAC_SHA256, key.bytes()), text).as_ref())
}

pub(super) fn key() -> ReportKey {
    ReportKey::new(std::array::from_fn(|at| u8::try_from(at * 7 + 1).unwrap()))
}

/// Behaviour of the console on a connection.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Manner {
    Heard,
    Refused,
    /// The answer is signed without knowledge of the key.
    Forged,
    /// The report is stored, and the answer gets lost.
    Lost,
}

/// A console with every report it received, all verified.
pub(super) struct Console {
    port: u16,
    got: Arc<Mutex<Vec<Report>>>,
    over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Console {
    pub(super) fn new(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let got = Arc::new(Mutex::new(Vec::new()));
        let over = Arc::new(AtomicBool::new(false));
        let (reports, ends) = (Arc::clone(&got), Arc::clone(&over));
        let thread = std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if ends.load(Ordering::Relaxed) {
                    break;
                }
                reports.lock().unwrap().push(serve(stream, manner));
            }
        });
        Self {
            port,
            got,
            over,
            thread: Some(thread),
        }
    }

    pub(super) fn first_start(&self) -> FirstStart {
        FirstStart {
            consoles: vec![format!("127.0.0.1:{}", self.port)],
            job: 17,
            target: "it's 4c4c4544-0042".into(),
            key: key(),
        }
    }

    pub(super) fn got(&self) -> Vec<Report> {
        self.got.lock().unwrap().clone()
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Reads a message like the console: to the end of its last line, without waiting for the end of
/// the stream.
fn serve(mut stream: TcpStream, manner: Manner) -> Report {
    let mut bytes = Vec::new();
    let mut part = [0; 512];
    while !report::is_whole(&bytes) {
        let count = stream.read(&mut part).unwrap();
        assert_ne!(count, 0, "{}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&part[..count]);
    }
    let message = report::parse(&bytes).unwrap();
    assert_eq!(message.digits, signed(&key(), message.signed));
    let heard = report::heard_signed(message.digits);
    let answer = match manner {
        Manner::Heard => report::heard(&signed(&key(), heard.as_bytes())),
        Manner::Forged => report::heard(&signed(&ReportKey::new([1; 32]), heard.as_bytes())),
        Manner::Refused => report::refused(),
        Manner::Lost => String::new(),
    };
    stream.write_all(answer.as_bytes()).unwrap();
    message.report
}
