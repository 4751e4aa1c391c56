//! Steps in order, each timed, with the table and the closing line of a run.

use std::time::{Duration, Instant};

use crate::shell::Failure;

/// Results of a step: for most steps one check, for `cargo test` the tests in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
}

impl Count {
    /// The result of a step that is one check.
    pub(crate) const ONE: Self = Self {
        passed: 1,
        failed: 0,
    };

    /// Adds another result, if there is one.
    pub(crate) fn add(&mut self, more: Option<Self>) {
        let more = more.unwrap_or_default();
        self.passed += more.passed;
        self.failed += more.failed;
    }
}

/// The result of a step, with its failure.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) count: Count,
    pub(crate) failure: Option<Failure>,
    /// Said in the table beside a step that did not fail.
    pub(crate) note: Option<String>,
}

impl Outcome {
    /// The result of a step that this machine cannot run, with the reason. It counts as nothing.
    pub(crate) fn skipped(reason: String) -> Self {
        Self {
            note: Some(reason),
            ..Self::default()
        }
    }
}

impl From<Result<Count, Failure>> for Outcome {
    fn from(result: Result<Count, Failure>) -> Self {
        match result {
            Ok(count) => Self {
                count,
                ..Self::default()
            },
            Err(failure) => Self {
                failure: Some(failure),
                ..Self::default()
            },
        }
    }
}

struct Row {
    name: String,
    took: Duration,
    count: Count,
    remark: Option<String>,
}

/// A finished step with its duration.
pub(crate) struct Timed {
    outcome: Outcome,
    took: Duration,
}

impl Timed {
    /// Runs one step, whose result is kept later.
    pub(crate) fn run<O: Into<Outcome>>(step: impl FnOnce() -> O) -> Self {
        let start = Instant::now();
        let outcome = step().into();
        Self {
            outcome,
            took: start.elapsed(),
        }
    }
}

/// The steps run so far.
pub(crate) struct Steps {
    rows: Vec<Row>,
    began: Instant,
}

impl Default for Steps {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            began: Instant::now(),
        }
    }
}

impl Steps {
    /// Runs one step and records its result. Returns true when it passed.
    pub(crate) fn run<O: Into<Outcome>>(&mut self, name: &str, step: impl FnOnce() -> O) -> bool {
        println!("\n=== {name}");
        self.keep(name, Timed::run(step))
    }

    /// Records a finished step. Returns true when it passed.
    pub(crate) fn keep(&mut self, name: &str, step: Timed) -> bool {
        let Timed { outcome, took } = step;
        let mut count = outcome.count;
        let reason = outcome.failure.map(|failure| failure.to_string());
        if let Some(reason) = &reason {
            println!("=== {name}: FAILED: {reason}");
            // A step that failed before it counted anything counts as one failure.
            count.failed = count.failed.max(1);
        }
        if let Some(note) = &outcome.note {
            println!("=== {name}: {note}");
        }
        let passed = count.failed == 0;
        self.rows.push(Row {
            name: name.to_owned(),
            took,
            count,
            remark: reason.or(outcome.note),
        });
        passed
    }

    /// Records a step that cannot run because an earlier one failed: a failure too, never a silent
    /// gap.
    pub(crate) fn blocked(&mut self, name: &str, by: &str) {
        self.run(name, || {
            Err::<Count, _>(Failure::new(format!("not run: {by} failed")))
        });
    }

    /// Prints the table and the closing line. Returns true when everything passed.
    pub(crate) fn close(&self) -> bool {
        let width = self
            .rows
            .iter()
            .map(|row| row.name.len())
            .max()
            .unwrap_or(4);
        println!(
            "\n{:width$}  {:>8}  {:>6}  {:>6}",
            "step", "time s", "passed", "failed"
        );
        let mut total = Count::default();
        for row in &self.rows {
            println!(
                "{:width$}  {:>8.1}  {:>6}  {:>6}{}",
                row.name,
                row.took.as_secs_f64(),
                row.count.passed,
                row.count.failed,
                row.remark
                    .as_deref()
                    .map(|remark| format!("  {remark}"))
                    .unwrap_or_default()
            );
            total.passed += row.count.passed;
            total.failed += row.count.failed;
        }
        // Less than the sum if steps ran in parallel.
        let took = self.began.elapsed().as_secs_f64();
        println!("{:width$}  {took:>8.1}\n", "total");
        println!("{} passed, {} failed", total.passed, total.failed);
        total.failed == 0 && total.passed > 0
    }
}

/// Parses `test result: ok. 12 passed; 0 failed; 0 ignored; ...`.
pub(crate) fn parse_test_result(line: &str) -> Option<Count> {
    let rest = line.trim().strip_prefix("test result: ")?;
    let number = |word: &str| -> Option<usize> {
        let before = rest.split(word).next()?;
        before.split_whitespace().last()?.parse().ok()
    };
    Some(Count {
        passed: number(" passed;")?,
        failed: number(" failed;")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_results() {
        let ok = "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out; finished in 0.10s";
        assert_eq!(
            parse_test_result(ok),
            Some(Count {
                passed: 12,
                failed: 0
            })
        );
        let bad = "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(
            parse_test_result(bad),
            Some(Count {
                passed: 1,
                failed: 2
            })
        );
        assert_eq!(parse_test_result("running 3 tests"), None);
    }

    #[test]
    fn a_run_fails_when_a_step_does_and_when_nothing_ran() {
        let mut steps = Steps::default();
        assert!(!steps.close());
        assert!(steps.run("good", || Ok(Count::ONE)));
        assert!(steps.close());
        assert!(!steps.run("bad", || Err::<Count, _>(Failure::new("because"))));
        steps.blocked("after", "bad");
        assert!(!steps.close());
    }

    #[test]
    fn a_skipped_step_is_neither_a_success_nor_a_failure() {
        let mut steps = Steps::default();
        steps.run("far", || Outcome::skipped("out of reach".to_owned()));
        assert!(!steps.close(), "nothing ran");
        steps.run("near", || Ok(Count::ONE));
        assert!(steps.close());
    }
}
