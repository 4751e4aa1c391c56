//! `cargo xtask test`: all tests, in order.
//!
//! ```text
//! toolchain, packages, machine      things missing on a fresh machine are installed or named
//! deny, advisories                  licences, duplicates, sources and known faults of crates
//! fmt, clippy, build, test          one profile (proof), so that nothing is compiled twice; a
//!                                   whole run lints while it builds: clippy's driver is a compiler
//! windows program, oracles          beside the build: they mostly wait for the network
//!                                   (binaries.rs says which test programs run side by side)
//! fuzz build                        beside the tests, with the lowest priority: they leave
//!                                   processors idle
//! fuzz                              a few seconds each target, with real inputs as seeds
//! ```

use crate::binaries;
use crate::fuzz::{self, Fuzzing};
use crate::machine;
use crate::options::Test;
use crate::packages;
use crate::python;
use crate::shell::{Failure, output, watch};
use crate::steps::{Count, Outcome, Steps, Timed};
use crate::supply;
use std::path::{Path, PathBuf};

/// Time limits of steps, in seconds; each several times the duration on two cores from a cold
/// start.
const LIMIT_LINT_S: u32 = 1500;
const LIMIT_BUILD_S: u32 = 1500;
/// Time limit of one test program, in seconds.
const LIMIT_TEST_S: u32 = 1500;
const LIMIT_TEST_FULL_S: u32 = 3600;

/// The steps that a filter selects.
struct Choice<'a> {
    filter: Option<&'a str>,
    test_filter: Option<&'a str>,
    targets: Vec<String>,
}

const STEP_NAMES: [&str; 6] = ["fmt", "deny", "clippy", "build", "test", "fuzz"];

impl<'a> Choice<'a> {
    fn new(filter: Option<&'a str>, all_targets: &[String]) -> Self {
        let Some(word) = filter else {
            return Self {
                filter: None,
                test_filter: None,
                targets: all_targets.to_vec(),
            };
        };
        if word == "fuzz" {
            return Self {
                filter: Some("fuzz"),
                test_filter: None,
                targets: all_targets.to_vec(),
            };
        }
        if STEP_NAMES.contains(&word) {
            return Self {
                filter: Some(word),
                test_filter: None,
                targets: Vec::new(),
            };
        }
        if all_targets.iter().any(|target| target == word) {
            return Self {
                filter: Some("fuzz"),
                test_filter: None,
                targets: vec![word.to_owned()],
            };
        }
        Self {
            filter: Some("test"),
            test_filter: Some(word),
            targets: Vec::new(),
        }
    }

    fn wants(&self, step: &str) -> bool {
        self.filter.is_none_or(|filter| filter == step)
    }
}

/// Runs the steps. `Ok(true)` when all passed.
pub(crate) fn run(options: &Test) -> Result<bool, Failure> {
    let all_targets = fuzz::targets()?;
    let choice = Choice::new(options.filter.as_deref(), &all_targets);
    let mut steps = Steps::default();

    let tools = steps.run("toolchain", toolchain);
    let packages = steps.run("packages", || packages::ensure().map(|()| Count::ONE));
    let ready = packages && steps.run("machine", || machine::check().map(|()| Count::ONE));

    let cargo =
        |words: &[&str], environment: &[(&str, &str)], limit_s: u32| -> Result<Count, Failure> {
            let mut all = vec!["cargo"];
            all.extend(words);
            watch(&all, environment, limit_s, |_| {}).map(|()| Count::ONE)
        };
    if choice.wants("fmt") {
        if tools {
            steps.run("fmt", || cargo(&["fmt", "--all", "--check"], &[], 120));
        } else {
            steps.blocked("fmt", "toolchain");
        }
    }
    if choice.wants("deny") {
        if tools && packages {
            steps.run("deny", supply::deny);
        } else {
            steps.blocked("deny", "toolchain or packages");
        }
    }
    // A lone clippy step need not generate code; in a whole run the build lints.
    if choice.filter == Some("clippy") {
        if tools && packages {
            steps.run("clippy", || cargo(CLIPPY, &[], LIMIT_LINT_S));
        } else {
            steps.blocked("clippy", "toolchain or packages");
        }
    }
    let testing = choice.wants("test") && ready;
    let fuzzing = choice
        .wants("fuzz")
        .then(|| Fuzzing::new(&choice.targets, options.full));
    let mut fuzz_build = None;
    let aids = std::thread::scope(|scope| {
        let denying = choice.wants("deny") && tools && packages;
        let advisories = denying.then(|| scope.spawn(|| Timed::run(supply::advisories)));
        let aids = testing.then(|| scope.spawn(Aids::make));
        if choice.wants("build") {
            if tools && packages {
                // Built together with the tests, not before them: cargo gives a package alone other
                // features, and would compile nearly everything twice.
                steps.run("build and lint", || {
                    let words = [&["test"], COMPILE, &["--all-targets", "--no-run"]].concat();
                    cargo(&words, &[DENY_WARNINGS], LIMIT_BUILD_S)
                });
            } else {
                steps.blocked("build and lint", "toolchain or packages");
            }
        }
        if let Some(advisories) = advisories.and_then(|advisories| advisories.join().ok()) {
            steps.keep("advisories", advisories);
        }
        aids.and_then(|aids| aids.join().ok())
    });
    if choice.wants("test") {
        if let Some(aids) = aids {
            steps.keep("windows program", aids.windows);
            steps.keep("oracles", aids.oracles);
            let python = aids.python.as_deref();
            std::thread::scope(|scope| {
                let build = fuzzing
                    .as_ref()
                    .map(|fuzzing| scope.spawn(|| Timed::run(|| fuzzing.build(true))));
                steps.run("test", || tests(choice.test_filter, options.full, python));
                fuzz_build = build.and_then(|build| build.join().ok());
            });
        } else {
            steps.blocked("test", "packages or machine");
        }
    }
    if let Some(fuzzing) = &fuzzing {
        let build = fuzz_build.unwrap_or_else(|| Timed::run(|| fuzzing.build(false)));
        let built = steps.keep("fuzz build", build);
        fuzzing.run(&mut steps, built);
    }
    Ok(steps.close())
}

/// Results of the work beside the build that tests need.
struct Aids {
    windows: Timed,
    oracles: Timed,
    python: Option<PathBuf>,
}

impl Aids {
    fn make() -> Self {
        let windows = Timed::run(|| crate::firstboot::build(PROFILE).map(|_| Count::ONE));
        // Without Python the tests report which comparisons they left out.
        let mut python = None;
        let oracles = Timed::run(|| {
            python = Some(python::ensure()?);
            Ok::<Count, Failure>(Count::ONE)
        });
        Self {
            windows,
            oracles,
            python,
        }
    }
}

/// The profile of all builds; `Cargo.toml` describes its differences from release.
const PROFILE: &str = "proof";

/// Arguments of every `cargo` that compiles for the tests. Clippy's driver is the compiler with
/// more lints: a separate `cargo clippy` would read and check every crate, dependencies too, a
/// second time.
const COMPILE: &[&str] = &[
    "--workspace",
    "--profile",
    PROFILE,
    "--locked",
    "--config",
    "build.rustc-workspace-wrapper='clippy-driver'",
];

/// `-D warnings` in the driver's form: `cargo clippy` passes arguments on like this.
const DENY_WARNINGS: (&str, &str) = (
    "CLIPPY_ARGS",
    "-D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__",
);

const CLIPPY: &[&str] = &[
    "clippy",
    "--workspace",
    "--all-targets",
    "--profile",
    PROFILE,
    "--locked",
    "--",
    "-D",
    "warnings",
];

/// Checks the pinned toolchain with rustfmt and clippy.
fn toolchain() -> Result<Count, Failure> {
    for (words, component) in [
        (["fmt", "--version"], "rustfmt"),
        (["clippy", "--version"], "clippy"),
    ] {
        output("cargo", &words).map_err(|failure| {
            Failure::new(format!(
                "{failure}; try: rustup component add {component} (for the toolchain in rust-toolchain.toml)"
            ))
        })?;
    }
    print!("{}", output("rustc", &["--version"])?);
    Ok(Count::ONE)
}

/// Runs everything that cargo calls a test, and counts it from the output.
fn tests(filter: Option<&str>, full: bool, python: Option<&Path>) -> Outcome {
    let python = python.map(Path::to_string_lossy);
    // Built by the step before, or by this cargo: `preos` has an integration test. Without the name
    // the tests would have another cargo build it, with other settings than these.
    let agent = match crate::agent::target_folder() {
        Ok(target) => target.join(PROFILE).join("diskcast-agent"),
        Err(failure) => return Err(failure).into(),
    };
    let agent = agent.to_string_lossy();
    let mut environment = vec![DENY_WARNINGS, ("DISKCAST_TEST_AGENT", &agent)];
    // Most tests wait for the programs they started; the ones that use the whole machine take
    // turns.
    let threads = std::thread::available_parallelism().map_or(4, |cores| 2 * cores.get());
    let threads = threads.to_string();
    environment.push(("RUST_TEST_THREADS", &threads));
    environment.extend(python.as_deref().map(|python| ("DISKCAST_PYTHON", python)));
    environment.extend(full.then_some(("DISKCAST_TEST_FULL", "1")));
    let run = binaries::Run {
        compile: COMPILE,
        environment: &environment,
        filter,
        limit_s: if full {
            LIMIT_TEST_FULL_S
        } else {
            LIMIT_TEST_S
        },
    };
    let outcome = run.all();
    let nothing = outcome.count.passed + outcome.count.failed == 0;
    match (nothing && outcome.failure.is_none(), filter) {
        (true, Some(filter)) => Err(Failure::new(format!(
            "no step, fuzz target or test is named like {filter}"
        )))
        .into(),
        (true, None) => Err(Failure::new("no test ran")).into(),
        (false, _) => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters() {
        let targets = vec!["diskmap_gpt".to_owned(), "diskmap_mbr".to_owned()];
        let all = Choice::new(None, &targets);
        assert!(STEP_NAMES.iter().all(|step| all.wants(step)));
        assert_eq!(all.targets.len(), 2);
        let fmt = Choice::new(Some("fmt"), &targets);
        assert!(fmt.wants("fmt") && !fmt.wants("test") && !fmt.wants("fuzz"));
        let one = Choice::new(Some("diskmap_mbr"), &targets);
        assert!(one.wants("fuzz") && !one.wants("test"));
        assert_eq!(one.targets, ["diskmap_mbr"]);
        let name = Choice::new(Some("room"), &targets);
        assert!(name.wants("test") && !name.wants("fmt"));
        assert_eq!(name.test_filter, Some("room"));
    }
}
