//! TFTP for reading (RFC 1350) with options (2347), block size (2348), timeout and size (2349) and
//! windows (7440).
//!
//! ```text
//! client                         server
//!   RRQ name, octet, options ->
//!                            <-  OACK options taken            (or at once the first block, when there are none)
//!   ACK 0                    ->
//!                            <-  DATA 1 .. DATA windowsize
//!   ACK windowsize           ->  ...                           a block shorter than the others ends it
//! ```
//!
//! | module | content |
//! |---|---|
//! | [`packet`] | requests, acknowledgements and errors as values |
//! | [`transfer`] | one file on its way to one client |
//! | [`transfers`] | all transfers, with caps on their number |
//!
//! Pure: `now` is an argument, the time since the service began. Always holds: nothing is written,
//! nothing is read from a disk here, and no packet is longer than an Ethernet frame takes.

pub mod packet;
#[cfg(test)]
mod tests;
pub mod transfer;
pub mod transfers;

pub use packet::{ErrorCode, Packet, Request, TftpError};
pub use transfer::{Failure, Transfer};
pub use transfers::{Ended, Transfers};
