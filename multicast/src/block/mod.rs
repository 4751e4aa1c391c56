//! Bytes of blocks: where they lie in an object, and how lost symbols come back.

pub mod assembly;
pub mod blockset;
mod few;
pub mod layout;
pub mod parity;
