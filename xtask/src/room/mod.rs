//! `cargo xtask bench room`: deployments to a room of network namespaces, beside the peers, against
//! the budgets.
//!
//! ```text
//! network    namespaces, shaped links, loss; removed in every case
//! payload    an incompressible disk; a real NTFS disk, ours and the peer's image of it
//! ours       console, agents, one deployment measured; every disk compared with a local restore
//! peers      uftp, udpcast, udpcast | zstd | partclone, in the same room with the same bytes
//! scenarios  the measurements and their limits
//! report     the output, as a table or JSON
//! ```
//!
//! Both sides of a comparison run in turn in one run, because absolute times belong to the machine.

mod network;
mod options;
mod ours;
mod payload;
mod peers;
mod process;
pub(crate) mod report;
mod scenarios;

use std::fs;
use std::path::{Path, PathBuf};

use self::network::Folder;
pub(crate) use self::options::Options;
use self::payload::Programs;
use self::scenarios::Bench;
use crate::packages;
use crate::scratch::Scratch;
use crate::shell::{Failure, bash};

/// Measures and prints. `Ok(false)` when a limit was missed or a scenario failed.
pub(crate) fn run(options: &Options) -> Result<bool, Failure> {
    packages::ensure()?;
    if options.peers {
        packages::ensure_peers();
    }
    let programs = programs(options.bin.as_deref())?;
    let parent = fs::canonicalize(&options.dir)
        .map_err(|error| Failure::new(format!("{}: {error}", options.dir.display())))?;
    let folder = Folder::new(Scratch::new(&parent, "room")?)?;
    let mut bench = Bench::new(options, &programs, &folder);
    let mut all = Vec::new();
    for scenario in &options.scenarios {
        let report = bench.run(*scenario);
        if !options.json {
            println!("{}", report.table());
        }
        all.push(report);
    }
    if options.json {
        let scenarios: Vec<_> = all.iter().map(report::Report::json).collect();
        println!("{}", serde_json::json!({ "scenarios": scenarios }));
    }
    Ok(all.iter().all(report::Report::passed))
}

/// The programs in a folder, or newly built by cargo.
fn programs(folder: Option<&Path>) -> Result<Programs, Failure> {
    let folder = match folder {
        Some(folder) => folder.to_owned(),
        None => {
            eprintln!("bench: building");
            bash("cargo build --release --quiet --locked --bins")?;
            let top = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".to_owned());
            PathBuf::from(top).join("release")
        }
    };
    let program = |name: &str| {
        let path = folder.join(name);
        fs::canonicalize(&path)
            .map_err(|error| Failure::new(format!("{}: {error}", path.display())))
    };
    Ok(Programs {
        diskcast: program("diskcast")?,
        agent: program("diskcast-agent")?,
    })
}
