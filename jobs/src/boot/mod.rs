//! Network boot: who boots the agent, and the stage that each machine has reached.

pub mod log;
pub mod policy;
