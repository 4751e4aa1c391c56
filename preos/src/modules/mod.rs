//! Drivers: finds the modules for this machine's devices, and loads them.
//!
//! | module | content | pure |
//! |---|---|---|
//! | [`alias`] | modalias to module | yes |
//! | [`deps`] | module to the files to load, in order | yes |
//! | [`load`] | loading modules into the kernel | |
//! | [`plug`] | the devices: those present at the start, and later ones | |

pub mod alias;
pub mod deps;
pub mod load;
pub mod plug;

/// A module's name in the kernel's form: underscores where file names have hyphens.
pub fn normal(name: &str) -> String {
    name.replace('-', "_")
}
