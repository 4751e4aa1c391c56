//! The console's data directory, and the configuration files that may set it.
//!
//! Precedence: flags, `DISKCAST_*` variables, the user's file, `/etc/diskcast/config.toml`,
//! defaults. clap joins the first two; this module the rest. An unknown key is refused, and the
//! message names the key that was probably meant: otherwise a wrong setting is noticed only when a
//! room has been written at the wrong rate or place.

use api::ApiError;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use terminal::exit::usage;

/// The machine's configuration file.
const SYSTEM_CONFIG: &str = "/etc/diskcast/config.toml";
/// Default data directory of a console that runs as root.
const SYSTEM_DATA: &str = "/var/lib/diskcast";
/// Every key of a configuration file; the same words as the long options.
const KEYS: [&str; 3] = ["data-dir", "iface", "rate"];

/// Settings of the configuration files.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Config {
    /// `data-dir`: the console's data directory.
    pub data_dir: Option<PathBuf>,
    /// `iface`: interface for the multicast of `console run`.
    pub iface: Option<String>,
    /// `rate`: cap of `deploy`, in the form of `--rate`.
    pub rate: Option<String>,
}

/// The user and the environment variables, as values that tests can set.
#[derive(Clone, Debug, Default)]
pub(super) struct Surroundings {
    /// True when the process runs as root.
    pub(super) root: bool,
    /// `HOME`.
    pub(super) home: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`.
    pub(super) config_home: Option<PathBuf>,
    /// `XDG_DATA_HOME`.
    pub(super) data_home: Option<PathBuf>,
}

impl Surroundings {
    /// The values of this process. The XDG variables count only when absolute, as their
    /// specification says.
    pub(super) fn of_process() -> Self {
        let path = |name: &str| {
            std::env::var_os(name)
                .map(|value: OsString| PathBuf::from(value))
                .filter(|path| path.is_absolute())
        };
        Self {
            root: rustix::process::geteuid().is_root(),
            home: path("HOME"),
            config_home: path("XDG_CONFIG_HOME"),
            data_home: path("XDG_DATA_HOME"),
        }
    }

    fn user_config(&self) -> Option<PathBuf> {
        let base = self
            .config_home
            .clone()
            .or_else(|| Some(self.home.as_ref()?.join(".config")))?;
        Some(base.join("diskcast/config.toml"))
    }

    fn default_data_dir(&self) -> Option<PathBuf> {
        if self.root {
            return Some(PathBuf::from(SYSTEM_DATA));
        }
        let base = self
            .data_home
            .clone()
            .or_else(|| Some(self.home.as_ref()?.join(".local/share")))?;
        Some(base.join("diskcast"))
    }
}

impl Config {
    /// Reads both files; the user's settings win. A missing file sets nothing.
    ///
    /// # Errors
    /// `Usage`, naming the file and the key, for a file that cannot be read or parsed.
    pub(super) fn load(surroundings: &Surroundings) -> Result<Self, ApiError> {
        let mut config = Self::default();
        let files = surroundings
            .user_config()
            .into_iter()
            .chain([PathBuf::from(SYSTEM_CONFIG)]);
        for file in files {
            match std::fs::read_to_string(&file) {
                Ok(text) => config = config.or(Self::parse(&text, &file)?),
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                    ) => {}
                Err(error) => return Err(usage(format!("reading {}: {error}", file.display()))),
            }
        }
        Ok(config)
    }

    /// Parses one file's text; `file` is for messages, and relative paths start at its folder.
    pub(super) fn parse(text: &str, file: &Path) -> Result<Self, ApiError> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            usage(format!(
                "{} is not TOML: {}",
                file.display(),
                error.to_string().trim_end()
            ))
        })?;
        let mut config = Self::default();
        for (key, value) in table {
            if !KEYS.contains(&key.as_str()) {
                let error = usage(format!("{}: unknown key `{key}`", file.display()));
                return Err(match did_you_mean(&key, &KEYS) {
                    Some(near) => error.hint(format!("did you mean `{near}`?")),
                    None => error.hint(format!("the keys are {}", KEYS.join(", "))),
                });
            }
            let toml::Value::String(value) = value else {
                return Err(usage(format!(
                    "{}: `{key}` is {}, not text",
                    file.display(),
                    value.type_str()
                )));
            };
            match key.as_str() {
                "data-dir" => {
                    config.data_dir = Some(file.parent().unwrap_or(Path::new("/")).join(value))
                }
                "iface" => config.iface = Some(value),
                _ => {
                    facts::units::parse_rate(&value)
                        .map_err(|error| usage(format!("{}: {error}", file.display())))?;
                    config.rate = Some(value);
                }
            }
        }
        Ok(config)
    }

    fn or(self, weaker: Self) -> Self {
        Self {
            data_dir: self.data_dir.or(weaker.data_dir),
            iface: self.iface.or(weaker.iface),
            rate: self.rate.or(weaker.rate),
        }
    }
}

/// The console's data directory, absolute.
///
/// # Errors
/// `Usage` when neither options nor environment determine it.
pub(super) fn data_dir(
    flag: Option<&Path>,
    config: &Config,
    surroundings: &Surroundings,
) -> Result<PathBuf, ApiError> {
    let chosen = flag
        .map(Path::to_path_buf)
        .or_else(|| config.data_dir.clone())
        .or_else(|| surroundings.default_data_dir());
    let chosen = chosen.ok_or_else(|| {
        usage("no data directory: HOME is not set").hint("say where it is with --data-dir DIR")
    })?;
    absolute(&chosen)
}

/// The absolute path, so that a process with another working directory means the same file.
///
/// # Errors
/// `Usage` for an empty path, or when the working directory no longer exists.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, ApiError> {
    std::path::absolute(path).map_err(|error| usage(format!("path `{}`: {error}", path.display())))
}

/// The candidate that a mistyped word was probably meant to be: the nearest, if at most a third of
/// it is wrong.
pub(super) fn did_you_mean<'a>(typed: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let typed = typed.to_ascii_lowercase().replace('_', "-");
    let nearest = candidates
        .iter()
        .map(|candidate| (distance(&typed, candidate), *candidate))
        .min()?;
    (nearest.0 <= nearest.1.len().div_ceil(3)).then_some(nearest.1)
}

/// Levenshtein distance, in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for (j, to) in b.iter().enumerate() {
            let replaced = row.get(j).copied().unwrap_or(0) + usize::from(from != *to);
            let removed = row.get(j + 1).copied().unwrap_or(0) + 1;
            let added = next.last().copied().unwrap_or(0) + 1;
            next.push(replaced.min(removed).min(added));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::ErrorCode;

    fn parse(text: &str) -> Result<Config, ApiError> {
        Config::parse(text, Path::new("/etc/diskcast/config.toml"))
    }

    #[test]
    fn keys_are_the_long_options() {
        let config =
            parse("data-dir = \"/srv/diskcast\"\niface = \"eth1\"\nrate = \"400mbit\"\n").unwrap();
        assert_eq!(config.data_dir.as_deref(), Some(Path::new("/srv/diskcast")));
        assert_eq!(
            (config.iface.as_deref(), config.rate.as_deref()),
            (Some("eth1"), Some("400mbit"))
        );
        assert_eq!(
            parse("data-dir = \"images\"").unwrap().data_dir.as_deref(),
            Some(Path::new("/etc/diskcast/images"))
        );
        assert_eq!(parse("").unwrap(), Config::default());
    }

    #[test]
    fn unknown_keys_are_refused_with_the_one_that_was_meant() {
        for (text, hint) in [
            ("data_dir = \"/x\"", "did you mean `data-dir`?"),
            ("ifcae = \"eth0\"", "did you mean `iface`?"),
            ("iface0 = \"eth0\"", "did you mean `iface`?"),
            ("Rate = \"1g\"", "did you mean `rate`?"),
            ("colour = true", "the keys are data-dir, iface, rate"),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.code, ErrorCode::Usage);
            assert!(
                error
                    .message
                    .starts_with("/etc/diskcast/config.toml: unknown key"),
                "{}",
                error.message
            );
            assert_eq!(error.hint.as_deref(), Some(hint), "{text}");
        }
    }

    #[test]
    fn wrong_values_name_the_file() {
        for (text, part) in [
            ("rate = 5", "`rate` is integer, not text"),
            ("rate = \"fast\"", "`fast` is not a rate"),
            ("= 3", "is not TOML"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(
                error.message.contains(part) && error.message.contains("config.toml"),
                "{}",
                error.message
            );
        }
    }

    #[test]
    fn the_users_file_wins_over_the_machines() {
        let user = parse("iface = \"eth7\"").unwrap();
        let system = parse("iface = \"eth0\"\nrate = \"1g\"").unwrap();
        let joined = user.or(system);
        assert_eq!(
            (joined.iface.as_deref(), joined.rate.as_deref()),
            (Some("eth7"), Some("1g"))
        );
    }

    #[test]
    fn data_directory_by_precedence() {
        let user = Surroundings {
            home: Some("/home/tech".into()),
            ..Default::default()
        };
        let root = Surroundings {
            root: true,
            ..user.clone()
        };
        let config = Config {
            data_dir: Some("/srv/d".into()),
            ..Default::default()
        };
        let none = Config::default();
        assert_eq!(
            data_dir(Some(Path::new("/flag")), &config, &root).unwrap(),
            Path::new("/flag")
        );
        assert_eq!(data_dir(None, &config, &root).unwrap(), Path::new("/srv/d"));
        assert_eq!(
            data_dir(None, &none, &root).unwrap(),
            Path::new("/var/lib/diskcast")
        );
        assert_eq!(
            data_dir(None, &none, &user).unwrap(),
            Path::new("/home/tech/.local/share/diskcast")
        );
        assert_eq!(
            data_dir(None, &none, &Surroundings::default())
                .unwrap_err()
                .code,
            ErrorCode::Usage
        );
        assert!(
            data_dir(Some(Path::new("here")), &none, &user)
                .unwrap()
                .is_absolute()
        );
    }
}
