//! Drivers: which modules this machine's devices ask for, and loading them.
//!
//! | module | what it is | pure |
//! |---|---|---|
//! | [`alias`] | modalias to module | yes |
//! | [`deps`] | module to the files to load, in order | yes |
//! | [`load`] | giving them to the kernel | |
//! | [`plug`] | the devices: those here now, and those that appear later | |

pub mod alias;
pub mod deps;
pub mod load;
pub mod plug;

/// A module's name as the kernel has it: file names have hyphens where the kernel has underscores.
pub fn normal(name: &str) -> String {
    name.replace('-', "_")
}
