//! What the technician types and sees.
//!
//! The only user of clap and indicatif. Owns words, tables, bars and exit codes; decides nothing about disks or
//! sessions: each command asks the running console (`console::client`), or calls the module that knows.

pub mod output;
pub mod progress;
mod rate;
pub mod units;
