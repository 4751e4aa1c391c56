//! Options of `cargo xtask test` and `cargo xtask bench peers`.

use std::path::PathBuf;

use crate::shell::Failure;

/// Options of `test`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Test {
    pub(crate) full: bool,
    pub(crate) filter: Option<String>,
}

impl Test {
    pub(crate) fn parse(words: &[&str]) -> Result<Self, Failure> {
        let mut options = Self::default();
        for word in words {
            match *word {
                "--full" => options.full = true,
                flag if flag.starts_with('-') => {
                    return Err(Failure::usage(format!("unknown option {flag}")));
                }
                filter if options.filter.is_none() => options.filter = Some(filter.to_owned()),
                second => {
                    return Err(Failure::usage(format!(
                        "one filter only, not also {second}"
                    )));
                }
            }
        }
        Ok(options)
    }
}

/// Options of `bench peers`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Bench {
    /// Bytes of files on the generated disk.
    pub(crate) size: u64,
    pub(crate) runs: usize,
    /// Program of an earlier build of diskcast, measured beside this one.
    pub(crate) earlier: Option<PathBuf>,
    pub(crate) dir: PathBuf,
}

impl Bench {
    pub(crate) fn parse(words: &[&str]) -> Result<Self, Failure> {
        let mut options = Self {
            size: 1 << 30,
            runs: 3,
            earlier: None,
            dir: std::env::temp_dir(),
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
                "--size" => options.size = parse_size(value()?)?,
                "--runs" => {
                    let text = value()?;
                    options.runs =
                        text.parse().ok().filter(|runs| *runs >= 1).ok_or_else(|| {
                            Failure::usage(format!("--runs {text}: a count from 1"))
                        })?;
                }
                "--earlier" => options.earlier = Some(PathBuf::from(value()?)),
                "--dir" => options.dir = PathBuf::from(value()?),
                other => return Err(Failure::usage(format!("unknown option {other}"))),
            }
        }
        Ok(options)
    }
}

/// Parses a size: `512M`, `4G`, `1048576`.
pub(crate) fn parse_size(text: &str) -> Result<u64, Failure> {
    let bad = || Failure::usage(format!("a size looks like 512M, not {text}"));
    let (digits, shift) = match text.char_indices().last() {
        Some((at, 'K' | 'k')) => (&text[..at], 10),
        Some((at, 'M' | 'm')) => (&text[..at], 20),
        Some((at, 'G' | 'g')) => (&text[..at], 30),
        _ => (text, 0),
    };
    let count: u64 = digits.parse().map_err(|_| bad())?;
    count.checked_mul(1 << shift).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_size("4096").ok(), Some(4096));
        assert_eq!(parse_size("2M").ok(), Some(2 << 20));
        assert_eq!(parse_size("1g").ok(), Some(1 << 30));
        for bad in ["", "M", "-1", "1T", "99999999999999999999G", "17179869184G"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn test_words() {
        let both = Test {
            full: true,
            filter: Some("room".to_owned()),
        };
        assert_eq!(Test::parse(&["--full", "room"]).ok(), Some(both));
        assert!(Test::parse(&["--fast"]).is_err());
        assert!(Test::parse(&["a", "b"]).is_err());
    }

    #[test]
    fn bench_words() {
        let options = Bench::parse(&["--size=2M", "--runs", "5", "--earlier=old"]).unwrap();
        assert_eq!((options.size, options.runs), (2 << 20, 5));
        assert_eq!(options.earlier, Some(PathBuf::from("old")));
        assert!(Bench::parse(&["--runs", "0"]).is_err());
        assert!(Bench::parse(&["--size"]).is_err());
    }
}
