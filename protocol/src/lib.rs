//! Messages between console and agent on TCP 5001, and the frames of a capture on TCP 5003.
//!
//! Pure: no socket, no clock and no file. `docs/protocol.md` has the contract.
//!
//! | module | content |
//! |---|---|
//! | [`control`] | messages of both sides, limits, and the codec of one frame |
//! | [`capture`] | messages and frames of captures, and of work that a person at the target starts |
//! | [`doctor`] | requests of `diskcast doctor` to an agent, and the answers |

mod apply;
pub mod capture;
pub mod control;
pub mod doctor;
