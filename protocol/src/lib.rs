//! Control frames: what console and agent say to each other on TCP 5001, and the frames of a capture on TCP 5003.
//!
//! Pure: no socket, no clock and no file. `docs/protocol.md` has the contract.
//!
//! | module | what it is |
//! |---|---|
//! | [`control`] | messages of both sides, limits, and the codec of one frame |
//! | [`capture`] | captures, and work that a person at the target starts |
//! | [`doctor`] | what `diskcast doctor` asks an agent, and the answer |

mod apply;
pub mod capture;
pub mod control;
pub mod doctor;
