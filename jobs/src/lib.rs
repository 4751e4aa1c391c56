//! The decisions of the console: plans, disks, names, times, verdicts, and the course of a job.
//!
//! Pure: no socket, no file, no store and no clock; times, addresses and bytes are arguments. The
//! console carries out what is decided here.
//!
//! | module | content |
//! |---|---|
//! | [`plan`] | plan of a deployment: the disk of each target, or the reason for a refusal |
//! | [`confirm`] | comparison of a technician's confirmation with the present disks |
//! | [`naming`] | ids and names of targets; cleaning of facts |
//! | [`schedule`] | start times and start windows |
//! | [`rate`] | groups, cipher and rate of a session |
//! | [`row`] | stored forms of jobs, their targets and captures |
//! | [`view`] | API view and summary of a job |
//! | [`run`] | a target's place in a running job: its claims, speed and stalls |
//! | [`doctor`] | verdicts on the answers to `doctor` |
//! | [`boot`] | who boots the agent; the boot stages of machines |
//! | [`first_start`] | comparison of a first-start report with the plan |

#![forbid(unsafe_code)]

pub mod boot;
pub mod confirm;
pub mod doctor;
pub mod first_start;
pub mod naming;
pub mod plan;
pub mod rate;
pub mod row;
pub mod run;
pub mod schedule;
pub mod view;
