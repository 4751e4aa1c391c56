//! The course of a job, seen from the console, and the decisions about its targets.
//!
//! | module | content |
//! |---|---|
//! | [`place`] | the job's knowledge of one target, and the claims of its agent |
//! | [`course`] | the start of a job, and the state that it ends in |
//! | [`connect`] | the answer to an agent that connects while the job runs |
//! | [`patience`] | limits of time: lost, unanswered, stalled, and the job's own |
//! | [`stall`] | time without progress |
//! | [`meter`] | speed and remaining time |

pub mod connect;
pub mod course;
pub mod meter;
pub mod patience;
pub mod place;
pub mod stall;

#[cfg(test)]
mod tests;
