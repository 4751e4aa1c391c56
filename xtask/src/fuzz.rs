//! Runs each fuzz target for a few seconds: one build of all, then one run each, as many at a time
//! as there are processors.
//!
//! Built without a sanitizer: the crates forbid `unsafe`, so fuzzing looks for panics, overflow,
//! endless loops and allocations by a declared size. libFuzzer detects these by itself, and finds
//! more of them in the same time.
//!
//! Targets behind the feature `control` need the whole root crate, which takes minutes to build
//! again for the fuzzer: they run with `--full`, or by name. Unit tests, which always run, have
//! damaged input for them.

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use crate::packages;
use crate::seeds;
use crate::shell::{Failure, output, watch};
use crate::steps::{Count, Outcome, Steps};

const SECONDS: u32 = 6;
const SECONDS_FULL: u32 = 120;
const LIMIT_BUILD_S: u32 = 1500;
/// cargo-fuzz asks for line tables. A panic names its place without them, and the build is shorter.
const FLAGS: (&str, &str) = ("RUSTFLAGS", "-Cdebuginfo=0");

/// Names of the targets in `fuzz/Cargo.toml`, in order.
pub(crate) fn targets() -> Result<Vec<String>, Failure> {
    let manifest = fs::read_to_string("fuzz/Cargo.toml").map_err(|error| {
        Failure::new(format!(
            "reading fuzz/Cargo.toml (run at the top folder): {error}"
        ))
    })?;
    Ok(parse_targets(&manifest))
}

/// Finds every `name` under `[[bin]]`.
fn parse_targets(manifest: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut in_bin = false;
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            in_bin = line == "[[bin]]";
        } else if in_bin && let Some(value) = line.strip_prefix("name") {
            names.push(value.trim_matches([' ', '=', '"']).to_owned());
        }
    }
    names
}

/// Names of the targets that need a feature.
fn parse_heavy(manifest: &str) -> Vec<String> {
    let bins = manifest.split("[[bin]]").skip(1);
    bins.filter(|bin| bin.contains("required-features"))
        .flat_map(|bin| parse_targets(&format!("[[bin]]{bin}")))
        .collect()
}

/// Fails when a target file has no `[[bin]]`: it would never run.
fn check_listed(all: &[String]) -> Result<(), Failure> {
    let entries = fs::read_dir("fuzz/fuzz_targets")
        .map_err(|error| Failure::new(format!("reading fuzz/fuzz_targets: {error}")))?;
    for entry in entries.flatten() {
        let path = entry.path();
        let stem = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.extension().is_some_and(|extension| extension == "rs") && !all.contains(&stem) {
            return Err(Failure::new(format!(
                "fuzz/Cargo.toml has no [[bin]] for {}",
                path.display()
            )));
        }
    }
    Ok(())
}

/// The fuzz targets of a run.
pub(crate) struct Fuzzing {
    chosen: Vec<String>,
    features: &'static [&'static str],
    seconds: u32,
}

impl Fuzzing {
    /// Selects the targets of `chosen` that a short run has time for; all of them with `--full` or
    /// by name.
    pub(crate) fn new(chosen: &[String], full: bool) -> Self {
        let manifest = fs::read_to_string("fuzz/Cargo.toml").unwrap_or_default();
        let heavy = parse_heavy(&manifest);
        let by_name = chosen.len() == 1;
        let (chosen, later): (Vec<String>, Vec<String>) = chosen
            .iter()
            .cloned()
            .partition(|target| full || by_name || !heavy.contains(target));
        if !later.is_empty() {
            eprintln!("fuzz: with --full only: {}", later.join(", "));
        }
        let control = chosen.iter().any(|target| heavy.contains(target));
        Self {
            features: if control {
                &["--features", "control"]
            } else {
                &[]
            },
            seconds: if full { SECONDS_FULL } else { SECONDS },
            chosen,
        }
    }

    /// Builds the targets. `patient`: with the lowest priority, beside tests that leave processors idle.
    pub(crate) fn build(&self, patient: bool) -> Result<Count, Failure> {
        output("cargo", &["+nightly", "--version"]).map_err(|failure| {
            Failure::new(format!(
                "no nightly toolchain ({failure}); try: rustup toolchain install nightly"
            ))
        })?;
        packages::ensure_cargo_fuzz()?;
        check_listed(&targets()?)?;
        let nice: &[&str] = if patient { &["nice", "-n", "19"] } else { &[] };
        let words = ["cargo", "+nightly", "fuzz", "build", "--sanitizer", "none"];
        let words = [nice, &words, self.features].concat();
        watch(&words, &[FLAGS], LIMIT_BUILD_S, |_| {})?;
        Ok(Count::ONE)
    }

    /// Runs the targets, if they were built.
    pub(crate) fn run(&self, steps: &mut Steps, built: bool) {
        if self.chosen.is_empty() {
            return;
        }
        if !built {
            return steps.blocked("fuzz", "fuzz build");
        }
        steps.run("fuzz", || match seeds::make(Path::new("fuzz/corpus")) {
            Ok(()) => run_all(&self.chosen, self.features, self.seconds),
            Err(failure) => Err(failure).into(),
        });
    }
}

/// Runs as many fuzzers at a time as there are processors, because a fuzzer has one thread.
fn run_all(chosen: &[String], features: &[&str], seconds: u32) -> Outcome {
    let waiting = Mutex::new(chosen.iter());
    let failures = Mutex::new(Vec::new());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().ok().and_then(|mut queue| queue.next());
                    let Some(target) = next else { return };
                    if let (Err(failure), Ok(mut all)) =
                        (run_one(target, features, seconds), failures.lock())
                    {
                        all.push(format!("{target}: {failure}"));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap_or_default();
    Outcome {
        count: Count {
            passed: chosen.len() - failures.len(),
            failed: failures.len(),
        },
        failure: (!failures.is_empty()).then(|| Failure::new(failures.join("; "))),
        note: None,
    }
}

fn run_one(target: &str, features: &[&str], seconds: u32) -> Result<(), Failure> {
    let total = format!("-max_total_time={seconds}");
    let tool = ["cargo", "+nightly", "fuzz", "run", "--sanitizer", "none"];
    let words = [
        target,
        "--",
        &total,
        "-rss_limit_mb=1024",
        "-timeout=5",
        "-print_final_stats=1",
        "-verbosity=0",
    ];
    let words = [&tool, features, &words[..]].concat();
    watch(&words, &[FLAGS], seconds + 120, |_| {}).map_err(|failure| {
        Failure::new(format!(
            "{failure}; the input is in fuzz/artifacts/{target}/: commit it as a test"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_bins_only() {
        let manifest = "[package]\nname = \"fuzz\"\n[[bin]]\nname = \"one\"\npath = \"x\"\n\n[dependencies]\nname = \"2\"\n[[bin]]\nname=\"two\"\n";
        assert_eq!(parse_targets(manifest), ["one", "two"]);
        let heavy = format!("{manifest}required-features = [\"control\"]\n");
        assert_eq!(parse_heavy(&heavy), ["two"]);
    }
}
