//! One file on its way to one client.
//!
//! Calling order: `begin`, then `poll_transmit` until it gives nothing; `handle_ack` and `handle_timeout` when they happen, and `poll_transmit` again. Time
//! never goes back. Owns: which blocks are in flight, and when to send again. Never holds more than a reference to the file.
//!
//! An acknowledgement of a block that was acknowledged before is answered only inside a window, and once: answering each is how two ends begin to send
//! everything twice (RFC 1123 section 4.2.3.1, "sorcerer's apprentice").

use super::packet::{self, DEFAULT_BLOCK, Request};
use bytes::Bytes;
use std::time::Duration;

/// Until a packet is sent again, unless the client says otherwise.
const RETRY: Duration = Duration::from_secs(1);
/// Longest a client may ask for: a slot is not held for longer than six times this.
const MAX_RETRY: Duration = Duration::from_secs(5);
/// Times a packet is sent again: a switch port that comes up late is silent for some seconds, a machine that was switched off for ever.
const MAX_TRIES: u32 = 5;

/// How a transfer failed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The client went silent.
    #[error("it went silent after {done} of {all} bytes")]
    Silent {
        /// Bytes it has for certain.
        done: u64,
        /// Bytes of the file.
        all: u64,
    },
    /// The client gave up, with its words.
    #[error("it gave up: {0}")]
    GaveUp(String),
}

/// A transfer.
#[derive(Clone, Debug)]
pub struct Transfer {
    file: Bytes,
    block_size: u64,
    window: u64,
    retry: Duration,
    /// Waits to be acknowledged as block 0.
    options: Option<Vec<u8>>,
    /// Blocks the client has: 1 is the first.
    acknowledged: u64,
    /// Blocks sent.
    sent: u64,
    /// Something (options or blocks from `acknowledged` on) is to be sent.
    options_due: bool,
    /// The window was sent again without being asked twice.
    repeated: bool,
    tries: u32,
    proven: bool,
    only_size: bool,
    deadline: Duration,
}

impl Transfer {
    /// A file for a request.
    pub fn begin(file: Bytes, request: &Request, now: Duration) -> Self {
        let options = request.accepted(file.len());
        let retry = request
            .timeout_s
            .map_or(RETRY, |seconds| Duration::from_secs(u64::from(seconds)))
            .min(MAX_RETRY);
        Self {
            file,
            block_size: u64::from(request.block_size.unwrap_or(DEFAULT_BLOCK)),
            window: u64::from(request.window.unwrap_or(1)),
            retry,
            options_due: options.is_some(),
            options,
            acknowledged: 0,
            sent: 0,
            repeated: false,
            tries: 0,
            proven: false,
            only_size: request.size,
            deadline: now + retry,
        }
    }

    /// Blocks of the file: the last is shorter than the others, and empty when the file ends with a whole one.
    fn blocks(&self) -> u64 {
        self.file.len() as u64 / self.block_size + 1
    }

    /// The client has everything.
    pub fn is_done(&self) -> bool {
        self.options.is_none() && self.acknowledged == self.blocks()
    }

    /// The client has answered at least once: its address is its own.
    pub fn is_proven(&self) -> bool {
        self.proven
    }

    /// When to call `handle_timeout`.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Bytes the client has for certain, and of the file.
    pub fn progress(&self) -> (u64, u64) {
        let all = self.file.len() as u64;
        ((self.acknowledged * self.block_size).min(all), all)
    }

    /// The client has everything up to `block`, as far as 16 bits tell: the count goes on at 0 after 65,535.
    pub fn handle_ack(&mut self, block: u16, now: Duration) {
        if self.options.is_some() {
            if block == 0 {
                self.options = None;
                self.options_due = false;
                self.moved(now);
            }
            return;
        }
        let (low, _) = split(self.acknowledged);
        let ahead = u64::from(block.wrapping_sub(low));
        let in_flight = self.sent - self.acknowledged;
        if ahead > in_flight {
            return; // of another transfer, or of long ago
        }
        if ahead == 0 {
            // The first block of the window is missing.
            if self.window > 1 && in_flight > 0 && !self.repeated {
                self.repeated = true;
                self.sent = self.acknowledged;
            }
            return;
        }
        self.acknowledged += ahead;
        if ahead < in_flight {
            // One in the middle is missing: go on behind the last it has.
            self.sent = self.acknowledged;
        }
        self.moved(now);
    }

    fn moved(&mut self, now: Duration) {
        self.tries = 0;
        self.proven = true;
        self.repeated = false;
        self.deadline = now + self.retry;
    }

    /// The client asked for the size, took no block and goes: UEFI firmware that wants to know how much memory the file needs, before it asks again.
    pub fn wanted_size_only(&self) -> bool {
        self.only_size && self.acknowledged == 0
    }

    /// Sends what is in flight again when its time has come.
    ///
    /// # Errors
    /// [`Failure::Silent`] after too many times.
    pub fn handle_timeout(&mut self, now: Duration) -> Result<(), Failure> {
        if now < self.deadline || self.is_done() {
            return Ok(());
        }
        if self.tries == MAX_TRIES {
            let (done, all) = self.progress();
            return Err(Failure::Silent { done, all });
        }
        self.tries += 1;
        self.options_due = self.options.is_some();
        self.sent = self.acknowledged;
        self.repeated = false;
        self.deadline = now + self.retry;
        Ok(())
    }

    /// The next packet to send, into `out`; false when there is none.
    pub fn poll_transmit(&mut self, out: &mut Vec<u8>) -> bool {
        if let Some(options) = &self.options {
            if self.options_due {
                out.clear();
                out.extend(options);
            }
            return std::mem::take(&mut self.options_due);
        }
        if self.sent == self.blocks() || self.sent - self.acknowledged == self.window {
            return false;
        }
        let from = usize::try_from(self.sent * self.block_size).unwrap_or(usize::MAX);
        let size = usize::try_from(self.block_size).unwrap_or(usize::MAX);
        let rest = self.file.get(from..).unwrap_or_default();
        self.sent += 1;
        let (low, _) = split(self.sent);
        packet::data(out, low, rest.get(..size).unwrap_or(rest));
        true
    }
}

/// A block number as the wire has it, and how often it went round.
fn split(block: u64) -> (u16, u64) {
    let [.., high, low] = block.to_be_bytes();
    (u16::from_be_bytes([high, low]), block >> 16)
}
