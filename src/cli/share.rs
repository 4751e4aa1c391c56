//! The account for a share with an image, from options and templates.

use super::{Context, ask, paths};
use api::no_share;
use api::{ApiError, GivenSecrets, ShareAccount};
use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{Arg, Args, Command};
use disk::share;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use template::schema::share_name;
use template::values::SecretRef;
use terminal::exit::usage;

/// `--share-user` and `--share-password`.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct ShareArgs {
    /// Account for an image on a share, USER or DOMAIN\USER
    /// [default: anonymous]
    #[arg(long, value_name = "USER")]
    pub(super) share_user: Option<String>,
    /// Source of the password of that account: ref:NAME (diskcast secret set),
    /// file:PATH, env:NAME or ask
    #[arg(long, value_name = "SECRET", value_parser = Reference)]
    pub(super) share_password: Option<SecretRef>,
}

/// clap's value parser of a reference. Its error does not repeat the text, as clap's own would: the
/// text may be the password itself.
#[derive(Clone)]
struct Reference;

impl TypedValueParser for Reference {
    type Value = SecretRef;

    fn parse_ref(
        &self,
        command: &Command,
        _: Option<&Arg>,
        value: &OsStr,
    ) -> Result<SecretRef, clap::Error> {
        let read = value.to_str().and_then(|text| text.parse().ok());
        read.ok_or_else(|| {
            let text = "--share-password: a password is never written on a command line; use ref:NAME, file:PATH, env:NAME or ask\n";
            clap::Error::raw(ErrorKind::ValueValidation, text).with_cmd(command)
        })
    }
}

impl ShareArgs {
    /// Builds the account for the console.
    ///
    /// # Errors
    /// `Usage` for a password without an account.
    pub(super) fn account(&self) -> Result<Option<ShareAccount>, ApiError> {
        if self.share_password.is_some() && self.share_user.is_none() {
            return Err(usage("--share-password goes with --share-user"));
        }
        account(
            self.share_user.as_deref(),
            self.share_password.as_ref(),
            Path::new(""),
        )
    }

    /// Refuses these options for an image that lies on no share.
    ///
    /// # Errors
    /// `Usage` in that case.
    pub(super) fn check(&self, image: &str) -> Result<(), ApiError> {
        let said = self.share_user.is_some() || self.share_password.is_some();
        if said && !lies_on_share(image) {
            return Err(no_share(image));
        }
        Ok(())
    }

    /// The template keys that these options set.
    ///
    /// # Errors
    /// `Usage` when the working directory no longer exists.
    pub(super) fn keys(&self) -> Result<[(&'static str, Option<String>); 2], ApiError> {
        let password = self.share_password.as_ref();
        let password = password.map(|password| anchored(password, Path::new("")));
        let password = password.transpose()?.map(|password| password.to_string());
        Ok([
            ("share_user", self.share_user.clone()),
            ("share_password", password),
        ])
    }
}

/// Builds the account that a template names; the template's paths begin in `folder`.
///
/// # Errors
/// `Usage` when the working directory no longer exists.
pub(super) fn account(
    user: Option<&str>,
    password: Option<&SecretRef>,
    folder: &Path,
) -> Result<Option<ShareAccount>, ApiError> {
    let password = password.map(|password| anchored(password, folder));
    let password = password.transpose()?;
    let user = user.map(str::to_owned);
    let said = user.is_some() || password.is_some();
    Ok(said.then_some(ShareAccount { user, password }))
}

/// A reference that means the same to the console, whose working directory differs.
fn anchored(reference: &SecretRef, folder: &Path) -> Result<SecretRef, ApiError> {
    let SecretRef::File(path) = reference else {
        return Ok(reference.clone());
    };
    let path = paths::absolute(&folder.join(path))?;
    let text = path
        .to_str()
        .ok_or_else(|| usage(format!("path {} is not UTF-8", path.display())))?;
    Ok(SecretRef::File(text.to_owned()))
}

/// The value of a password that only this command can get: from its environment, or from the person
/// at the terminal.
///
/// # Errors
/// `Usage` for a variable that is not set, or when no question is possible.
pub(super) fn given(
    share: Option<&ShareAccount>,
    context: &Context,
) -> Result<GivenSecrets, ApiError> {
    let mut given = GivenSecrets::default();
    let what = "password of the share";
    let value = match share.and_then(|share| share.password.as_ref()) {
        None | Some(SecretRef::Ref(_) | SecretRef::File(_)) => return Ok(given),
        Some(SecretRef::Env(variable)) => std::env::var(variable).map_err(|_| {
            usage(format!(
                "{what}: environment variable {variable} is not set"
            ))
        })?,
        Some(SecretRef::Ask) => ask::secret(&context.out, what)?.to_string(),
    };
    given.0.insert(share_name().0, value);
    Ok(given)
}

/// True when an image lies on a share; `image` is the path sent to the console.
pub(super) fn lies_on_share(image: &str) -> bool {
    share::normal(Path::new(image)).is_some()
}

/// The path of an image in the form sent to the console: absolute, or the address of a file on a
/// share.
///
/// # Errors
/// `Usage` for an empty path, or when the working directory no longer exists.
pub(super) fn image_path(path: &Path) -> Result<PathBuf, ApiError> {
    if let Err(error) = share::of_path(path) {
        let hint = error.hint();
        let refused = usage(error.to_string());
        return Err(match hint {
            Some(hint) => refused.hint(hint),
            None => refused,
        });
    }
    match share::normal(path) {
        Some(address) => Ok(address),
        None => paths::absolute(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::ErrorCode;

    #[test]
    fn a_password_itself_is_refused_and_not_repeated() {
        let parse = |text: &str| Reference.parse_ref(&Command::new("x"), None, OsStr::new(text));
        for text in ["hunter2", "ref:", "pass:hunter2", "hunter2:ref"] {
            let error = parse(text).unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        assert_eq!(
            parse("ref:images").unwrap(),
            SecretRef::Ref("images".into())
        );
    }

    #[test]
    fn files_mean_the_same_to_the_console() {
        let args = |password: &str| ShareArgs {
            share_user: Some(r"LAB\tech".into()),
            share_password: Some(password.parse().unwrap()),
        };
        let account = args("file:pw").account().unwrap().unwrap();
        let Some(SecretRef::File(path)) = account.password else {
            panic!("a file stays one")
        };
        assert!(
            Path::new(&path).is_absolute() && path.ends_with("/pw"),
            "{path}"
        );
        let of_template = account_of("file:pw", "/etc/lab");
        assert_eq!(of_template, Some(SecretRef::File("/etc/lab/pw".into())));
        assert_eq!(
            account_of("ref:x", "/etc/lab"),
            Some(SecretRef::Ref("x".into()))
        );
        assert_eq!(ShareArgs::default().account().unwrap(), None);
        let lonely = ShareArgs {
            share_user: None,
            ..args("ref:x")
        };
        lonely.account().unwrap_err();
    }

    fn account_of(password: &str, folder: &str) -> Option<SecretRef> {
        let password = password.parse().unwrap();
        let account = account(Some("tech"), Some(&password), Path::new(folder));
        account.unwrap().unwrap().password
    }

    #[test]
    fn shares_are_not_paths_of_this_folder() {
        let path = |text: &str| image_path(Path::new(text)).unwrap();
        for text in [r"\\fs1\images\a b\lab.dcimg", "//fs1/images/a b/lab.dcimg"] {
            assert_eq!(path(text), Path::new("//fs1/images/a b/lab.dcimg"));
        }
        assert!(path("lab.dcimg").is_absolute());
        for text in ["//fs1", "//fs1/images", "//fs1/images/../x"] {
            let error = image_path(Path::new(text)).unwrap_err();
            assert_eq!(error.code, ErrorCode::Usage);
            assert!(error.message.contains("names no file on a share"));
        }
    }
}
