//! Template files: their folder, finding one, and reporting every mistake in one.
//!
//! Templates are read here and sent as text: the console needs no file of the technician's.
//! Relative paths in a template start at its own folder.

use super::errors::PathError;
use super::words::{limit, start_rule};
use super::{ask, paths};
use crate::cli::Context;
use api::{ApiError, ErrorCode, GivenSecrets, TemplateUse};
use facts::failure::Failure;
use facts::units;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use template::mistake::Mistake;
use template::schema::{Checks, Template, parse_with, to_toml};
use template::values::SecretRef;
use terminal::exit::usage;

/// Largest template that is read, in bytes; real ones have a few kilobytes.
const MAX_BYTES: u64 = 1 << 20;
/// File in the data directory with the path of the template folder, if that is not the default.
const FOLDER_FILE: &str = "templates.path";

/// A template that was found and parsed.
pub(super) struct Found {
    /// Its content.
    pub(super) template: Template,
    /// Its name in lists.
    pub(super) name: String,
    /// The folder at which its relative paths start.
    pub(super) folder: PathBuf,
}

/// The folder of the templates.
///
/// # Errors
/// The file that sets the folder cannot be read.
pub(super) fn folder(context: &Context) -> Result<PathBuf, ApiError> {
    let file = context.data_dir.join(FOLDER_FILE);
    match std::fs::read_to_string(&file) {
        Ok(text) => Ok(PathBuf::from(text.trim_end_matches('\n'))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Ok(context.data_dir.join("templates"))
        }
        Err(error) => Err(PathError::of("reading", &file)(error).into()),
    }
}

/// Sets the folder of the templates.
///
/// # Errors
/// `Refused` for a path that is no folder; a failure when the setting cannot be written.
pub(super) fn set_folder(context: &Context, folder: &Path) -> Result<PathBuf, ApiError> {
    let folder = paths::absolute(folder)?;
    if !folder.is_dir() {
        let text = format!("{} is no folder", folder.display());
        return Err(ApiError::new(ErrorCode::Refused, text));
    }
    let text = folder
        .to_str()
        .filter(|text| !text.contains('\n'))
        .ok_or_else(|| usage("the path of the folder is not plain text"))?;
    let file = context.data_dir.join(FOLDER_FILE);
    std::fs::create_dir_all(&context.data_dir)
        .and_then(|()| std::fs::write(&file, format!("{text}\n")))
        .map_err(PathError::of("writing", &file))?;
    Ok(folder)
}

/// True for the path of a template, false for its name.
fn is_path(name: &str) -> bool {
    name.contains('/') || name.ends_with(".toml")
}

/// The file that a name or a path means.
///
/// # Errors
/// The errors of [`folder`].
pub(super) fn path_of(context: &Context, name: &str) -> Result<PathBuf, ApiError> {
    if is_path(name) {
        return paths::absolute(Path::new(name));
    }
    Ok(folder(context)?.join(format!("{name}.toml")))
}

/// Names of the templates in the folder, sorted. A folder that does not exist yet has none.
///
/// # Errors
/// The folder cannot be read.
pub(super) fn names(context: &Context) -> Result<Vec<String>, ApiError> {
    let folder = folder(context)?;
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(PathError::of("reading", &folder)(error).into()),
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            Some(name.strip_suffix(".toml")?.to_owned())
        })
        .filter(|name| !name.is_empty() && !name.starts_with('.'))
        .collect();
    names.sort();
    Ok(names)
}

/// The reason a file is not read as a template.
#[derive(Debug, thiserror::Error)]
enum UnreadableTemplate {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it is no file")]
    NoFile,
    #[error("it has {0} bytes, and {MAX_BYTES} are the most")]
    TooLarge(u64),
    #[error("it is no text in UTF-8; save it as UTF-8")]
    NotText,
}

impl Failure for UnreadableTemplate {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Io(error) => ErrorCode::of_path(error),
            Self::NoFile => ErrorCode::Refused,
            Self::TooLarge(_) | Self::NotText => ErrorCode::Usage,
        }
    }
}

/// Text of a template's file. Nothing but a file is opened: a FIFO would be waited for.
fn read(path: &Path) -> Result<String, UnreadableTemplate> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(UnreadableTemplate::NoFile);
    }
    let bytes = metadata.len();
    if bytes > MAX_BYTES {
        return Err(UnreadableTemplate::TooLarge(bytes));
    }
    let mut content = Vec::new();
    let opened = OpenOptions::new().read(true).open(path)?;
    opened.take(MAX_BYTES).read_to_end(&mut content)?;
    String::from_utf8(content).map_err(|_| UnreadableTemplate::NotText)
}

/// Reads a template and sets the keys from the command line.
///
/// # Errors
/// `NothingMatched` for a name that no template has, `Refused` for a path without a file, `Usage`
/// with every mistake, one a line.
pub(super) fn load(
    context: &Context,
    name: &str,
    set: &[(String, String)],
) -> Result<Found, ApiError> {
    let path = path_of(context, name)?;
    let text = read(&path).map_err(|reason| {
        let code = match is_path(name) || path.exists() {
            true => reason.code(),
            // The name of a template that nobody saved.
            false => ErrorCode::NothingMatched,
        };
        let message = format!("template {}: {reason}", path.display());
        let here = PathBuf::from(format!("{name}.toml"));
        let hint = match names(context) {
            Ok(_) if !path.exists() && here.is_file() => {
                format!("{0} lies in this folder; name it {0}", here.display())
            }
            Ok(names) if !names.is_empty() => format!("saved templates: {}", names.join(", ")),
            _ => "a template is a text file in TOML; diskcast template new makes one".to_owned(),
        };
        ApiError::new(code, message).hint(hint)
    })?;
    let template =
        parse_with(&text, set, &checks()).map_err(|mistakes| refused(&path, &mistakes))?;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    Ok(Found {
        name: template.name.clone().unwrap_or_else(|| stem.into_owned()),
        folder: path.parent().unwrap_or(Path::new("/")).to_owned(),
        template,
    })
}

/// Makes a template from options alone.
///
/// # Errors
/// `Usage` with every mistake.
pub(super) fn of_options(name: Option<&str>, set: &[(String, String)]) -> Result<Found, ApiError> {
    let name = name.unwrap_or("command line");
    let text = to_toml(&Template::default());
    let template = parse_with(&text, set, &checks())
        .map_err(|mistakes| refused(Path::new(name), &mistakes))?;
    Ok(Found {
        template,
        name: Path::new(name)
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        folder: paths::absolute(Path::new("."))?,
    })
}

/// Checks of values whose format only the options of `deploy` define.
pub(super) fn checks() -> Checks<'static> {
    Checks {
        rate: &|text| Ok(units::parse_rate(text).map(drop)?),
        start: &|text| Ok(start_rule(text).map(drop)?),
        limit: &|text| Ok(limit(text).map(drop)?),
    }
}

/// The error with every mistake of a file.
pub(super) fn refused(path: &Path, mistakes: &[Mistake]) -> ApiError {
    let lines: Vec<String> = mistakes
        .iter()
        .map(|mistake| format!("  {mistake}"))
        .collect();
    let number = match mistakes.len() {
        1 => "1 mistake".to_owned(),
        number => format!("{number} mistakes"),
    };
    usage(format!(
        "template {}: {number}\n{}",
        path.display(),
        lines.join("\n")
    ))
}

/// Writes a template under a name. An existing file is kept unless `replace` is set.
///
/// # Errors
/// `Usage` when the file exists; a failure when it cannot be written.
pub(super) fn save(
    context: &Context,
    name: &str,
    template: &Template,
    replace: bool,
) -> Result<PathBuf, ApiError> {
    let path = path_of(context, name)?;
    if path.exists() && !replace {
        return Err(
            usage(format!("there is a template {} already", path.display()))
                .hint("take another name, or remove that file"),
        );
    }
    let parent = path.parent().unwrap_or(Path::new("/"));
    let written = || -> std::io::Result<()> {
        std::fs::create_dir_all(parent)?;
        let mut file = tempfile_in(parent, &path)?;
        file.1.write_all(to_toml(template).as_bytes())?;
        file.1.sync_all()?;
        std::fs::rename(&file.0, &path)
    };
    written().map_err(PathError::of("writing", &path))?;
    Ok(path)
}

/// A new file beside the one it will replace.
fn tempfile_in(folder: &Path, path: &Path) -> std::io::Result<(PathBuf, std::fs::File)> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = folder.join(format!(".{name}.{}", std::process::id()));
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(&beside)?;
    Ok((beside, file))
}

impl Found {
    /// The template in the form sent to the console.
    pub(super) fn to_use(&self) -> TemplateUse {
        TemplateUse {
            name: self.name.clone(),
            text: to_toml(&self.template),
            folder: self.folder.clone(),
        }
    }

    /// Secrets that only this command can get: from its environment, and from the person at the
    /// terminal.
    ///
    /// # Errors
    /// `Usage` for a variable that is not set, or when no question is possible.
    pub(super) fn secrets(&self, context: &Context) -> Result<GivenSecrets, ApiError> {
        let mut given = GivenSecrets::default();
        for wanted in self.template.secrets() {
            let what = &wanted.what;
            let value = match wanted.reference {
                SecretRef::Ref(_) | SecretRef::File(_) => continue,
                SecretRef::Env(variable) => std::env::var(variable).map_err(|_| {
                    usage(format!(
                        "{what}: environment variable {variable} is not set"
                    ))
                })?,
                SecretRef::Ask => ask::secret(&context.out, what)?.to_string(),
            };
            given.0.insert(wanted.name.0, value);
        }
        Ok(given)
    }
}
