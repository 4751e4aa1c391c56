//! Images on shares: the share is mounted for as long as the image is open.
//!
//! Owns the way from a request to a mount. Invariants: each image has a mount of its own, so that
//! no request reads with the account of another (the kernel joins only mounts of one share and one
//! account); the wait for a silent server is bounded; the password is looked up each time, passed
//! to the kernel, and never stored, logged or shown by this module.

use super::context::Console;
use super::master::MasterImage;
use super::personal::JobSecrets;
use api::{ApiError, DeployRequest, ErrorCode, GivenSecrets, ShareAccount, no_share};
use disk::share::failure::ShareFailure;
use disk::share::mount::Mounted;
use disk::share::{Login, ShareAddress, of_path};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use template::schema::{SecretUse, share_name};
use template::values::SecretRef;
use tokio::time::timeout;

/// Longest time for a server until the share is mounted; the kernel alone would wait for minutes.
const MOUNT_WITHIN: Duration = Duration::from_secs(30);

/// Mounts the share. After the limit the attempt goes on in the background; a mount that comes too
/// late is dropped, which unmounts it.
async fn mount(address: &ShareAddress, login: Login) -> Result<Mounted, ShareFailure> {
    let address = address.clone();
    let mounting = tokio::task::spawn_blocking(move || Mounted::new(&address, &login));
    match timeout(MOUNT_WITHIN, mounting).await {
        Ok(Ok(mounted)) => mounted,
        Ok(Err(_)) | Err(_) => Err(ShareFailure::Silent),
    }
}

/// The image that a request names, and the access to it.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// Path, or address of a file on a share.
    pub(super) image: &'a str,
    /// Account on the server; `None` for a guest or a local file.
    pub(super) share: Option<&'a ShareAccount>,
    /// Secrets that a command or a job gives.
    pub(super) secrets: &'a GivenSecrets,
}

impl<'a> Wanted<'a> {
    /// Returns the image that a deployment names.
    pub(super) fn of(request: &'a DeployRequest) -> Self {
        Self {
            image: &request.image,
            share: request.share.as_ref(),
            secrets: &request.secrets,
        }
    }
}

/// Location of an image in the file system.
pub struct ImagePlace {
    /// Path or address that people use.
    pub shown: PathBuf,
    /// Path that is opened.
    pub real: PathBuf,
    /// The mount that `real` is in; `None` for a local file.
    pub mounted: Option<Mounted>,
}

impl ImagePlace {
    /// Returns the location of a local file.
    pub fn here(path: &Path) -> Self {
        Self {
            shown: path.to_owned(),
            real: path.to_owned(),
            mounted: None,
        }
    }
}

impl Console {
    /// Opens the image of a request, on a share or local.
    ///
    /// # Errors
    /// The errors of [`MasterImage::open`], and `Refused` if a share cannot be mounted.
    pub(super) async fn open_image(
        &self,
        wanted: Wanted<'_>,
        password: Option<String>,
    ) -> Result<Arc<MasterImage>, ApiError> {
        let place = self.place_of(wanted).await?;
        let opening = tokio::task::spawn_blocking(move || {
            let password = password.map(zeroize::Zeroizing::new);
            MasterImage::open_place(place, password.as_ref().map(|password| password.as_str()))
        });
        let opened = opening.await.map_err(|error| {
            ApiError::new(ErrorCode::Unexpected, format!("opening the image: {error}"))
        })?;
        opened.map(Arc::new)
    }

    async fn place_of(&self, wanted: Wanted<'_>) -> Result<ImagePlace, ApiError> {
        let path = Path::new(wanted.image);
        let address = match wanted.share {
            // With an account the text is an address, even if a folder has the server's name.
            Some(_) => ShareAddress::parse(wanted.image).transpose(),
            None => of_path(path),
        };
        let Some(address) = address? else {
            if wanted.share.is_some() {
                return Err(no_share(wanted.image));
            }
            if !path.is_absolute() {
                return Err(ApiError::new(
                    ErrorCode::Usage,
                    format!("image path {} is not absolute", path.display()),
                ));
            }
            return Ok(ImagePlace::here(path));
        };
        let login = self.login(&wanted).await?;
        let mounted = mount(&address, login).await;
        let mounted = mounted.map_err(|failure| failure.about(&address))?;
        Ok(ImagePlace {
            real: mounted.path(&address.name),
            shown: address.to_string().into(),
            mounted: Some(mounted),
        })
    }

    async fn login(&self, wanted: &Wanted<'_>) -> Result<Login, ApiError> {
        let Some(account) = wanted.share else {
            return Ok(Login::default());
        };
        let password = match &account.password {
            None => None,
            Some(reference) => Some(self.share_password(reference, wanted.secrets).await?),
        };
        Ok(Login::new(account.user.as_deref(), password)?)
    }

    /// Returns the password of a share. A reference that the console can resolve is looked up
    /// again, so that a renewed password counts at once.
    async fn share_password(
        &self,
        reference: &SecretRef,
        given: &GivenSecrets,
    ) -> Result<zeroize::Zeroizing<String>, ApiError> {
        let nothing = GivenSecrets::default();
        let given = match reference {
            SecretRef::Ref(_) | SecretRef::File(_) => &nothing,
            SecretRef::Env(_) | SecretRef::Ask => given,
        };
        let wanted = SecretUse {
            name: share_name(),
            what: "password of the share".to_owned(),
            reference,
        };
        // The client makes paths absolute.
        self.secret_value(&wanted, given, Path::new("/")).await
    }
}

/// Adds to a job's secrets the given password of a share, which a later console could not look up.
pub(super) fn keep_given(request: &DeployRequest, secrets: &mut JobSecrets) {
    let given = request.secrets.0.get(&share_name().0);
    if let (Some(_), Some(value)) = (&request.share, given) {
        secrets.insert(share_name(), value);
    }
}

/// Refuses a share for an offer if its password would have to be typed, since no technician is
/// present when an offer is taken.
pub(super) fn check_offered(account: Option<&ShareAccount>) -> Result<(), ApiError> {
    let reference = account.and_then(|account| account.password.as_ref());
    match reference {
        Some(SecretRef::Env(_) | SecretRef::Ask) => Err(ApiError::new(
            ErrorCode::Refused,
            "the password of the share would have to be typed at each start",
        )
        .hint("keep it with diskcast secret set, and write ref:NAME")),
        _ => Ok(()),
    }
}
