//! A job from plan to report, the roster of agents, the store, and the local API.
//!
//! | module | what it is |
//! |---|---|
//! | [`api`] | types of the local API, shared with the CLI |
//! | [`select`], [`plan`], [`naming`] | pure: which targets, which disks, who is who |

pub mod api;
pub mod client;
pub mod master;
pub mod naming;
pub mod plan;
pub mod select;
pub mod store;
