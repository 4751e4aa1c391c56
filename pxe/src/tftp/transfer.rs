//! One file on its way to one client.
//!
//! Calling order: `begin`, then `poll_transmit` until it gives nothing; `handle_ack` and
//! `handle_timeout` when they happen, and `poll_transmit` again. Time never goes back. Owns: the
//! blocks in flight, and the time to send again. Never holds more than a reference to the file.
//!
//! A repeated acknowledgement is answered only inside a window, and only once. If each was
//! answered, both ends would begin to send everything twice (RFC 1123 section 4.2.3.1, "sorcerer's
//! apprentice").

use super::packet::{self, DEFAULT_BLOCK, Request};
use bytes::Bytes;
use std::time::Duration;

/// Time until a packet is sent again, unless the client asks for another.
const RETRY: Duration = Duration::from_secs(1);
/// Longest retry time a client may ask for. A silent client holds its slot for at most six times
/// this.
const MAX_RETRY: Duration = Duration::from_secs(5);
/// Number of times a packet is sent again. A switch port that comes up late is silent for some
/// seconds, a machine that was switched off for ever.
const MAX_TRIES: u32 = 5;

/// The reason a transfer failed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The client stopped answering.
    #[error("it went silent after {done} of {all} bytes")]
    Silent {
        /// Bytes the client has acknowledged.
        done: u64,
        /// Length of the file, in bytes.
        all: u64,
    },
    /// The client gave up, with its message.
    #[error("it gave up: {0}")]
    GaveUp(String),
}

/// A transfer of one file to one client.
#[derive(Clone, Debug)]
pub struct Transfer {
    file: Bytes,
    block_size: u64,
    window: u64,
    retry: Duration,
    /// The OACK, until the client acknowledges it as block 0.
    options: Option<Vec<u8>>,
    /// Blocks the client has; the first is number 1.
    acknowledged: u64,
    /// Number of blocks sent.
    sent: u64,
    /// The OACK is to be sent.
    options_due: bool,
    /// The window was sent again because of a repeated acknowledgement; a second one is ignored.
    repeated: bool,
    tries: u32,
    proven: bool,
    only_size: bool,
    deadline: Duration,
}

impl Transfer {
    /// Begins the transfer of `file` for a request.
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

    /// Number of blocks. The last one is shorter than the others, and empty when the length is a
    /// multiple of the block size.
    fn blocks(&self) -> u64 {
        self.file.len() as u64 / self.block_size + 1
    }

    /// True when the client has the whole file.
    pub fn is_done(&self) -> bool {
        self.options.is_none() && self.acknowledged == self.blocks()
    }

    /// True when the client has answered at least once, which proves its address.
    pub fn is_proven(&self) -> bool {
        self.proven
    }

    /// Time to call `handle_timeout`, since the service began.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Bytes that the client has acknowledged, and length of the file.
    pub fn progress(&self) -> (u64, u64) {
        let all = self.file.len() as u64;
        ((self.acknowledged * self.block_size).min(all), all)
    }

    /// Handles an acknowledgement of everything up to `block`, modulo 2^16: after 65,535 the count
    /// goes on at 0.
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
            // A block in the middle is missing: go on after the last one the client has.
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

    /// True when the client asked for the size, took no block and ended. UEFI firmware does this to
    /// learn how much memory the file needs, before it asks again.
    pub fn wanted_size_only(&self) -> bool {
        self.only_size && self.acknowledged == 0
    }

    /// Sends the blocks in flight again if the deadline has passed.
    ///
    /// # Errors
    /// [`Failure::Silent`] when `MAX_TRIES` repeats got no answer.
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

    /// Writes the next packet to send into `out`; false when there is none.
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

/// Splits a block number into the 16 bits on the wire and the number of wraps.
fn split(block: u64) -> (u16, u64) {
    let [.., high, low] = block.to_be_bytes();
    (u16::from_be_bytes([high, low]), block >> 16)
}
