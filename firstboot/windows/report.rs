//! The report to the console: collects this machine's facts, signs and sends them, and verifies the
//! answer. Safe code.
//!
//! Never shows the key: no error or log line holds it.

use crate::log::Log;
use crate::sys;
use firstboot::job::ReportTo;
use firstboot::machine::Answer;
use firstboot::report::{self, Outcome, Report, System};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const CONNECT: Duration = Duration::from_secs(5);
const WRITE: Duration = Duration::from_secs(5);
/// Time limit between the last byte of the message and the last byte of the answer.
const ANSWER: Duration = Duration::from_secs(10);
const KEY_BYTES: usize = 32;

/// Sends the report to each address of the console until one answers.
pub(crate) fn send(to: &ReportTo, came: &Outcome, log: &Log) -> Answer {
    let key = match to.key.value().and_then(key_of) {
        Some(key) => key,
        None => return Answer::Unheard("its key was wiped already".into()),
    };
    let signed = of_this_machine(to, came, log).encode();
    let hmac = |bytes: &[u8]| {
        let digest = sys::hmac::sha256(&key, bytes);
        digest.map(|digest| digest.iter().map(|byte| format!("{:02x}", byte)).collect())
    };
    let digits: String = match hmac(signed.as_bytes()) {
        Ok(digits) => digits,
        Err(error) => return Answer::Unheard(format!("signing it: {}", error)),
    };
    let expected: String = match hmac(report::heard_signed(&digits).as_bytes()) {
        Ok(expected) => expected,
        Err(error) => return Answer::Unheard(format!("signing it: {}", error)),
    };
    let message = report::message(&signed, &digits);
    let mut reasons = Vec::new();
    for console in &to.consoles {
        let reason = match ask(*console, message.as_bytes()) {
            Ok(answer) => match report::parse_answer(&answer) {
                Some(report::Answer::Refused) => return Answer::Refused,
                Some(report::Answer::Heard(theirs)) if is_same(theirs, &expected) => {
                    return Answer::Heard
                }
                Some(report::Answer::Heard(_)) => {
                    "answers without the key of this job: another console?".to_string()
                }
                None if answer.is_empty() => "closed without an answer".to_string(),
                None => "its answer is none of a console".to_string(),
            },
            Err(error) => error.to_string(),
        };
        reasons.push(format!("{}: {}", console, reason));
    }
    Answer::Unheard(reasons.join("; "))
}

/// Facts of this machine; values that cannot be read are left out, and the log says so.
fn of_this_machine(to: &ReportTo, came: &Outcome, log: &Log) -> Report {
    let name = sys::identity::host_name().unwrap_or_else(|error| {
        log.line(&format!("the name of this machine: {}", error));
        String::new()
    });
    let sid = sys::identity::machine_sid().map_err(|error| {
        log.line(&format!("the SID of this machine: {}", error));
    });
    let addresses = sys::net::addresses().unwrap_or_else(|error| {
        log.line(&format!("the addresses of this machine: {}", error));
        Vec::new()
    });
    Report {
        job: to.job,
        target: to.target.clone(),
        result: came.clone(),
        name,
        system: System::Windows { sid: sid.ok() },
        addresses,
    }
}

/// Sends one message and reads one answer. Bounded in time and bytes, for any peer.
fn ask(console: SocketAddr, message: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&console, CONNECT)?;
    stream.set_write_timeout(Some(WRITE))?;
    stream.write_all(message)?;
    let end = Instant::now() + ANSWER;
    let mut answer = Vec::new();
    let mut part = [0_u8; report::MAX_ANSWER_BYTES];
    while !answer.ends_with(b"\n") && answer.len() <= report::MAX_ANSWER_BYTES {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no whole answer in {} s", ANSWER.as_secs()),
            ));
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(count) => answer.extend(part.iter().take(count)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(answer)
}

/// Compares in constant time: the first wrong digit takes as long as the last.
fn is_same(theirs: &str, ours: &str) -> bool {
    let pairs = theirs.bytes().zip(ours.bytes());
    let differs = pairs.fold(0, |differs, (a, b)| differs | (a ^ b));
    theirs.len() == ours.len() && differs == 0
}

fn key_of(hex: &str) -> Option<[u8; KEY_BYTES]> {
    let mut key = [0; KEY_BYTES];
    if hex.len() != 2 * KEY_BYTES {
        return None;
    }
    for (at, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(key)
}
