//! Saved templates, and the plan each gives for one machine.
//!
//! Owns: the file format and its mistakes ([`schema`]); assignment of names and addresses
//! ([`names`], [`bind`], [`import`]); driver packages, answer files and YAML of masters as far as
//! plans need them ([`inf`], [`answers`], [`yaml`]); and the plan ([`plan`]): findings of an image,
//! a machine's facts and a template give ordered [`step`]s, or reasons to refuse. Never touches a
//! file, a clock or a socket. Invariants: the same input gives the same plan, and no plan
//! holds a secret.

pub mod answers;
pub mod bind;
pub mod findings;
pub mod first_start;
pub mod fstab;
pub mod import;
pub mod inf;
pub mod machine;
pub mod mistake;
pub mod names;
mod paths;
pub mod plan;
pub mod salt;
pub mod schema;
pub mod secrets;
pub mod step;
pub mod sudoers;
pub mod values;
pub mod yaml;
