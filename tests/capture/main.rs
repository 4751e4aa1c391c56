//! Captures of masters that change, cannot be read everywhere, or do not fit the place of their
//! image; and images that would overwrite their own source.
#![allow(
    clippy::disallowed_methods,
    reason = "tests are the edge: they wait and make files"
)]
#![allow(
    clippy::cast_possible_truncation,
    reason = "test arithmetic on small sizes"
)]

#[path = "../common/mod.rs"]
mod common;

mod bad_sectors;
mod extents;
mod in_use;
mod interrupt;
mod own_input;
mod shares;
mod volumes;

use common::disk::{Loop, part};
use common::fill::{noise, put_noise_file};
use common::process::{text, tool};
use std::fs;
use std::path::{Path, PathBuf};

const MIB: u64 = 1 << 20;

/// Makes a disk of one ext4 partition with `megabytes` of noise on it.
fn master(folder: &Path, megabytes: u64) -> PathBuf {
    let disk = folder.join("master.raw");
    fs::File::create(&disk)
        .and_then(|f| f.set_len(48 * MIB + megabytes * 2 * MIB))
        .expect("a disk");
    tool(&["sgdisk", "-n", "1:0:0", text(&disk)]);
    let device = Loop::part(&disk, &part(&disk, 512, 1), 512);
    tool(&["mke2fs", "-q", "-F", "-t", "ext4", device.text()]);
    put_noise_file(
        &device,
        "noise.bin",
        &noise("capture", (megabytes * MIB) as usize),
    );
    disk
}
