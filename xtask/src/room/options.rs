//! Options of `cargo xtask bench room`.

use std::path::PathBuf;

use super::scenarios::Scenario;
use crate::options::parse_size;
use crate::shell::Failure;

/// Options of a run.
#[derive(Debug, PartialEq)]
pub(crate) struct Options {
    /// Scenarios in the order named; all of them when none is named.
    pub(crate) scenarios: Vec<Scenario>,
    /// Number of agents, in place of a scenario's own.
    pub(crate) agents: Option<usize>,
    /// Link rate, in place of a scenario's own.
    pub(crate) rate_bits_per_s: Option<u64>,
    /// Bytes of the incompressible disk.
    pub(crate) payload: u64,
    /// Bytes of files on the NTFS disk.
    pub(crate) files: u64,
    /// Number of runs of each side, interleaved.
    pub(crate) runs: usize,
    /// Folder for images and target disks.
    pub(crate) dir: PathBuf,
    /// Folder with built programs; without it they are built.
    pub(crate) bin: Option<PathBuf>,
    /// True to run the peers too.
    pub(crate) peers: bool,
    /// True to print JSON instead of a table.
    pub(crate) json: bool,
    /// Arguments added to every `deploy`.
    pub(crate) deploy: Vec<String>,
}

impl Options {
    pub(crate) fn parse(words: &[&str]) -> Result<Self, Failure> {
        let mut options = Self {
            scenarios: Vec::new(),
            agents: None,
            rate_bits_per_s: None,
            payload: 128 << 20,
            files: 1070 << 20,
            runs: 3,
            dir: std::env::temp_dir(),
            bin: None,
            peers: true,
            json: false,
            deploy: Vec::new(),
        };
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            let (name, inline) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (*word, None),
            };
            let mut value = || {
                inline
                    .or_else(|| rest.next().copied())
                    .ok_or_else(|| Failure::usage(format!("{name} needs a value")))
            };
            match name {
                "--scenario" => {
                    for name in value()?.split(',') {
                        options.scenarios.push(Scenario::parse(name)?);
                    }
                }
                "--agents" => options.agents = Some(count(name, value()?, 250)?),
                "--rate" => options.rate_bits_per_s = Some(parse_rate(value()?)?),
                "--payload" => options.payload = whole_mib(name, value()?)?,
                "--files" => options.files = whole_mib(name, value()?)?,
                "--runs" => options.runs = count(name, value()?, 100)?,
                "--dir" => options.dir = PathBuf::from(value()?),
                "--bin" => options.bin = Some(PathBuf::from(value()?)),
                "--deploy" => options.deploy.push(value()?.to_owned()),
                "--no-peers" => options.peers = false,
                "--json" => options.json = true,
                other => return Err(Failure::usage(format!("unknown option {other}"))),
            }
        }
        if options.scenarios.is_empty() {
            options.scenarios = Scenario::ALL.to_vec();
        }
        Ok(options)
    }
}

fn count(name: &str, text: &str, most: usize) -> Result<usize, Failure> {
    text.parse()
        .ok()
        .filter(|count| (1..=most).contains(count))
        .ok_or_else(|| Failure::usage(format!("{name} {text}: a count from 1 to {most}")))
}

fn whole_mib(name: &str, text: &str) -> Result<u64, Failure> {
    match parse_size(text)? {
        size if size >= 4 << 20 => Ok(size >> 20 << 20),
        _ => Err(Failure::usage(format!("{name} {text}: at least 4M"))),
    }
}

/// Parses a rate in tc's form: `200mbit`, `1gbit`.
fn parse_rate(text: &str) -> Result<u64, Failure> {
    let bad = || Failure::usage(format!("a rate looks like 200mbit, not {text}"));
    let (digits, unit) = [("gbit", 1_000_000_000), ("mbit", 1_000_000)]
        .into_iter()
        .find_map(|(suffix, unit)| text.strip_suffix(suffix).map(|digits| (digits, unit)))
        .ok_or_else(bad)?;
    digits
        .parse::<u64>()
        .ok()
        .and_then(|count| count.checked_mul(unit))
        .filter(|rate| *rate > 0)
        .ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let options = Options::parse(&[
            "--scenario",
            "flat,burst",
            "--scenario=reuse",
            "--agents=4",
            "--rate",
            "50mbit",
            "--no-peers",
        ])
        .unwrap();
        assert_eq!(
            options.scenarios,
            [Scenario::Flat, Scenario::Burst, Scenario::Reuse]
        );
        assert_eq!(
            (options.agents, options.rate_bits_per_s, options.peers),
            (Some(4), Some(50_000_000), false)
        );
        assert_eq!(Options::parse(&[]).unwrap().scenarios, Scenario::ALL);
        for bad in [
            &["--scenario", "nope"][..],
            &["--agents", "0"],
            &["--agents", "251"],
            &["--rate", "200"],
            &["--rate", "0mbit"],
            &["--payload", "1M"],
            &["--fast"],
        ] {
            assert!(Options::parse(bad).is_err(), "{bad:?}");
        }
    }
}
