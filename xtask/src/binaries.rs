//! The test step: every program that `cargo test` would run, run by us, two at a time where that
//! changes nothing.
//!
//! cargo runs test programs one after the other. The longest, `netboot`, waits for emulated machines
//! and leaves processors idle; the tests of pure crates and of disks run beside it. Rooms, whose
//! rates and times are the matter of the test, run alone, as do all that this file does not know.
//!
//! ```text
//! netboot             |----------------------------|
//! documentation, pure and disk tests  |------------------|      then  |- lib -|-- room --|- loopback -|- ... -|
//! ```
//!
//! Always holds: the whole output of each program is printed in one piece and counted from; one
//! that hangs is ended with its children after its limit, by its process group, and named with the
//! tests that were still running.

use crate::shell::{Ended, Failure, output_lines, watch, watch_into};
use crate::steps::{Count, Outcome, parse_test_result};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

const LIMIT_BUILD_S: u32 = 1500;

/// The one that the others run beside.
const LONGEST: &str = "netboot";
/// Tests of the programs that make no room: disks and files, without a console.
const BESIDE: [&str; 7] = [
    "capture",
    "dirty_sources",
    "disks",
    "export",
    "image",
    "odd_disks",
    "odd_sources",
];
/// Crates with sockets, or with rooms inside their tests.
const ROOMS: [&str; 5] = ["agent", "console", "diskcast", "net", "preos"];

/// A test program that cargo built.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Binary {
    package: String,
    /// Name of the file below `tests/`, or none for the tests inside a library or program.
    test: Option<String>,
    /// Name of what it tests.
    target: String,
    executable: PathBuf,
    /// Folder of the package, in which cargo runs it.
    folder: PathBuf,
}

impl Binary {
    /// Reads a line of cargo's messages; none when it is not about a test program.
    fn from_message(message: &Value) -> Option<Self> {
        let is_test = message.get("profile")?.get("test")?.as_bool()?;
        let executable = message.get("executable")?.as_str()?;
        let manifest = Path::new(message.get("manifest_path")?.as_str()?);
        let target = message.get("target")?;
        let name = target.get("name")?.as_str()?.to_owned();
        let kinds = target.get("kind")?.as_array()?;
        let folder = manifest.parent()?.to_owned();
        // PATH#NAME@VERSION, or PATH#VERSION when the folder has the name.
        let (path, rest) = message.get("package_id")?.as_str()?.rsplit_once('#')?;
        let package = match rest.split_once('@') {
            Some((name, _)) => name,
            None => path.rsplit('/').next()?,
        };
        is_test.then(|| Self {
            package: package.to_owned(),
            test: kinds
                .iter()
                .any(|kind| kind == "test")
                .then(|| name.clone()),
            target: name,
            executable: PathBuf::from(executable),
            folder,
        })
    }

    /// The name that people know it by.
    fn name(&self) -> String {
        match &self.test {
            Some(test) if self.package == "diskcast" => test.clone(),
            Some(test) => format!("{} {test}", self.package),
            None if self.package == self.target => format!("{} unit tests", self.package),
            None => format!("{} {} unit tests", self.package, self.target),
        }
    }

    fn is(&self, name: &str) -> bool {
        self.package == "diskcast" && self.test.as_deref() == Some(name)
    }

    fn may_run_beside(&self) -> bool {
        !ROOMS.contains(&self.package.as_str()) || BESIDE.iter().any(|name| self.is(name))
    }
}

/// The programs in the order of their turns.
#[derive(Debug, Default)]
struct Turns {
    longest: Option<Binary>,
    beside: Vec<Binary>,
    alone: Vec<Binary>,
}

impl Turns {
    fn of(binaries: Vec<Binary>) -> Self {
        let mut turns = Self::default();
        for binary in binaries {
            if binary.is(LONGEST) {
                turns.longest = Some(binary);
            } else if binary.may_run_beside() {
                turns.beside.push(binary);
            } else {
                turns.alone.push(binary);
            }
        }
        turns
    }
}

/// Settings of one run of all tests.
pub(crate) struct Run<'a> {
    /// Arguments of every `cargo` that compiles.
    pub(crate) compile: &'a [&'a str],
    pub(crate) environment: &'a [(&'a str, &'a str)],
    pub(crate) filter: Option<&'a str>,
    /// Limit of one program, in seconds.
    pub(crate) limit_s: u32,
}

/// The results so far.
#[derive(Default)]
struct Results {
    count: Count,
    failures: Vec<String>,
}

impl Run<'_> {
    /// Builds what is not built, and runs everything.
    pub(crate) fn all(&self) -> Outcome {
        let binaries = match self.build() {
            Ok(binaries) => binaries,
            Err(failure) => return Err(failure).into(),
        };
        let turns = Turns::of(binaries);
        let results = Mutex::new(Results::default());
        std::thread::scope(|scope| {
            if let Some(longest) = &turns.longest {
                scope.spawn(|| self.one(longest, &results));
            }
            self.documentation(&results);
            for binary in &turns.beside {
                self.one(binary, &results);
            }
        });
        for binary in &turns.alone {
            self.one(binary, &results);
        }
        let Results { count, failures } = match results.into_inner() {
            Ok(results) => results,
            Err(_) => return Err(Failure::new("the driver of the tests panicked")).into(),
        };
        Outcome {
            count,
            failure: (!failures.is_empty()).then(|| Failure::new(failures.join("; "))),
            note: None,
        }
    }

    /// The test programs of the workspace, in cargo's order.
    fn build(&self) -> Result<Vec<Binary>, Failure> {
        let words = [
            "cargo",
            "test",
            "--no-run",
            "--message-format=json-render-diagnostics",
        ];
        let words = [&words, self.compile].concat();
        let mut binaries = Vec::new();
        output_lines(&words, self.environment, LIMIT_BUILD_S, |line| {
            let message: Option<Value> = serde_json::from_str(line).ok();
            binaries.extend(message.as_ref().and_then(Binary::from_message));
        })?;
        binaries.sort_by_key(Binary::name);
        match binaries.is_empty() {
            true => Err(Failure::new("cargo built no test program")),
            false => Ok(binaries),
        }
    }

    /// Runs the examples in the documentation: they are compiled by rustdoc, so cargo runs them.
    fn documentation(&self, results: &Mutex<Results>) {
        let mut words = [&["cargo", "test", "--doc", "--no-fail-fast"], self.compile].concat();
        words.extend(self.filter);
        let mut count = Count::default();
        let ended = watch(&words, self.environment, self.limit_s, |line| {
            count.add(parse_test_result(line));
        });
        keep(
            results,
            "documentation",
            count,
            ended.err().map(|failure| failure.to_string()),
        );
    }

    /// Runs one program and prints its output when it has ended.
    fn one(&self, binary: &Binary, results: &Mutex<Results>) {
        println!(
            "     Running {} ({})",
            binary.name(),
            binary.executable.display()
        );
        let ran = self.run(binary);
        // In one piece: another program may end at the same time.
        let _ = std::io::stdout().lock().write_all(ran.said.as_bytes());
        keep(results, &binary.name(), ran.count, ran.failure);
    }

    fn run(&self, binary: &Binary) -> Ran {
        let name = binary.name();
        let began = Instant::now();
        let executable = binary.executable.to_string_lossy();
        let mut words = vec![&*executable];
        words.extend(self.filter);
        let folder = binary.folder.to_string_lossy();
        let mut environment = self.environment.to_vec();
        environment.extend([
            ("CARGO_MANIFEST_DIR", &*folder),
            ("CARGO_PKG_NAME", &binary.package),
        ]);
        let log = binary.executable.with_extension("log");
        let ended = watch_into(&log, &words, &environment, &binary.folder, self.limit_s);
        let said = std::fs::read(&log).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let mut count = Count::default();
        said.lines()
            .for_each(|line| count.add(parse_test_result(line)));
        let failure = match ended {
            Ok(Ended::Itself(status)) if status.success() => None,
            Ok(Ended::Itself(status)) => Some(status.to_string()),
            Ok(Ended::AtItsLimit) => Some(format!(
                "ended after its limit of {} s; still running: {}",
                self.limit_s,
                unfinished(&said).join(", ")
            )),
            Err(failure) => Some(failure.to_string()),
        };
        let end = match &failure {
            Some(why) => format!("FAILED: {why}"),
            None => "ok".to_owned(),
        };
        let took = began.elapsed().as_secs_f64();
        Ran {
            said: format!("---- {name}\n{said}---- {name}: {end}, {took:.1} s\n"),
            count,
            failure,
        }
    }
}

/// Result of one program.
struct Ran {
    /// Its output between two lines with its name.
    said: String,
    count: Count,
    failure: Option<String>,
}

/// Adds the result of one program. One that failed before it counted anything is one failure.
fn keep(results: &Mutex<Results>, name: &str, mut count: Count, failure: Option<String>) {
    let Ok(mut results) = results.lock() else {
        return;
    };
    if let Some(failure) = failure {
        count.failed = count.failed.max(1);
        results.failures.push(format!("{name}: {failure}"));
    }
    results.count.add(Some(count));
}

/// Tests that libtest named as slow and that gave no result.
fn unfinished(said: &str) -> Vec<&str> {
    let test = |line: &str| line.strip_prefix("test ").map(str::to_owned);
    let over: BTreeSet<String> = (said.lines().filter_map(test))
        .filter_map(|line| line.rsplit_once(" ... ").map(|(name, _)| name.to_owned()))
        .collect();
    let slow = said.lines().filter_map(|line| {
        let line = line.strip_prefix("test ")?;
        line.split_once(" has been running for")
            .map(|(name, _)| name)
    });
    slow.filter(|name| !over.contains(*name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn message(id: &str, kind: &str, name: &str, test: bool) -> Value {
        json!({
            "reason": "compiler-artifact", "package_id": id, "manifest_path": "/w/Cargo.toml",
            "target": {"kind": [kind], "name": name}, "profile": {"test": test},
            "executable": format!("/w/target/{name}-1"),
        })
    }

    fn binary(package: &str, kind: &str, name: &str) -> Binary {
        Binary::from_message(&message(
            &format!("path+file:///w#{package}@0.1.0"),
            kind,
            name,
            true,
        ))
        .unwrap()
    }

    #[test]
    fn test_programs_are_found_among_cargos_messages() {
        let one = binary("diskcast", "test", "room");
        assert_eq!(
            (one.name().as_str(), one.folder.as_path()),
            ("room", Path::new("/w"))
        );
        let unit = message("path+file:///w/hive#0.1.0", "lib", "hive", true);
        assert_eq!(
            Binary::from_message(&unit).unwrap().name(),
            "hive unit tests"
        );
        let program = message("path+file:///w#diskcast@0.1.0", "bin", "diskcast", false);
        assert_eq!(Binary::from_message(&program), None);
        assert_eq!(
            Binary::from_message(&json!({"reason": "build-finished"})),
            None
        );
    }

    #[test]
    fn rooms_and_unknown_programs_run_alone() {
        let turns = Turns::of(vec![
            binary("diskcast", "test", "room"),
            binary("diskcast", "test", "netboot"),
            binary("diskcast", "test", "disks"),
            binary("diskcast", "test", "a_new_one"),
            binary("diskcast", "lib", "diskcast"),
            binary("hive", "test", "disks"),
        ]);
        let names = |binaries: &[Binary]| binaries.iter().map(Binary::name).collect::<Vec<_>>();
        assert!(turns.longest.unwrap().is("netboot"));
        assert_eq!(names(&turns.beside), ["disks", "hive disks"]);
        assert_eq!(
            names(&turns.alone),
            ["room", "a_new_one", "diskcast unit tests"]
        );
    }

    /// Runs a shell script as if it were a test program.
    fn run(script: &str, limit_s: u32) -> Results {
        let scratch = crate::scratch::Scratch::new(
            &std::env::temp_dir(),
            &format!("binaries-{}", script.len()),
        )
        .unwrap();
        let mut one = binary("hive", "test", "program");
        one.executable = scratch.path().join("program");
        one.folder = scratch.path().to_owned();
        std::fs::write(&one.executable, format!("#!/bin/sh\n{script}\n")).unwrap();
        crate::shell::bash(&format!("chmod +x {}", one.executable.display())).unwrap();
        let run = Run {
            compile: &[],
            environment: &[],
            filter: None,
            limit_s,
        };
        // Not printed: a driver that runs this test counts from its output.
        let ran = run.run(&one);
        assert!(ran.said.starts_with("---- hive program\n"), "{}", ran.said);
        let results = Mutex::new(Results::default());
        keep(&results, "hive program", ran.count, ran.failure);
        results.into_inner().unwrap()
    }

    const GOOD: &str = "echo 'test result: ok. 3 passed; 0 failed; 0 ignored'";

    #[test]
    fn results_are_counted_and_a_program_that_dies_is_a_failure() {
        let good = run(GOOD, 5);
        assert_eq!((good.count.passed, good.failures.len()), (3, 0));
        let bad = run(
            "echo 'test result: FAILED. 2 passed; 1 failed; 0 ignored'; exit 101",
            5,
        );
        assert_eq!((bad.count.passed, bad.count.failed), (2, 1));
        assert!(
            bad.failures[0].starts_with("hive program: exit status: 101"),
            "{:?}",
            bad.failures
        );
        let dead = run(&format!("{GOOD}; kill -9 $$"), 5);
        assert_eq!((dead.count.passed, dead.count.failed), (3, 1));
    }

    #[test]
    fn what_hangs_is_named() {
        let hung = run(
            "echo 'test a has been running for over 60 seconds'; sleep 20",
            1,
        );
        assert_eq!(hung.count.failed, 1);
        assert!(
            hung.failures[0].ends_with("limit of 1 s; still running: a"),
            "{:?}",
            hung.failures
        );
        let said = "test a has been running for over 60 seconds\ntest b has been running for over 60 seconds\ntest a ... ok\n";
        assert_eq!(unfinished(said), ["b"]);
    }
}
