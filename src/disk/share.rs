//! Images named by a network share.
//!
//! To Linux `//server/share/name` is the path `/server/share/name`, so a share that is not mounted would only be "not found".

use super::DiskError;
use std::path::Path;

/// Refuses `//server/share/name` (or `\\server\share\name`) that leads nowhere here, with the command that mounts it.
///
/// # Errors
/// [`DiskError::Refused`].
pub fn refuse_unmounted(path: &Path) -> Result<(), DiskError> {
    let text = path.to_string_lossy();
    let Some((server, share, name)) = parts(&text) else {
        return Ok(());
    };
    let below = path.parent().is_some_and(Path::is_dir);
    if below && text.starts_with('/') {
        return Ok(());
    }
    Err(DiskError::refused(
        format!("{text} lies on a share that is not mounted here"),
        format!(
            "mount it, then name the file there: mkdir -p /mnt/{share} && mount -t cifs //{server}/{share} /mnt/{share} -o username=USER && ls /mnt/{share}/{name}"
        ),
    ))
}

/// Server, share and the rest of a share's name.
fn parts(text: &str) -> Option<(String, String, String)> {
    let text = text.replace('\\', "/");
    let rest = text.strip_prefix("//")?;
    let mut words = rest.splitn(3, '/').filter(|word| !word.is_empty());
    let (server, share) = (words.next()?, words.next()?);
    Some((
        server.to_owned(),
        share.to_owned(),
        words.next().unwrap_or_default().to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_that_is_not_mounted_says_how_to_mount_it() {
        for name in ["//fs1/images/lab.dcimg", r"\\fs1\images\lab.dcimg"] {
            let error = refuse_unmounted(Path::new(name)).unwrap_err();
            assert!(error.to_string().contains("not mounted"), "{error}");
            let hint = error.hint().unwrap();
            assert!(
                hint.contains("mount -t cifs //fs1/images /mnt/images"),
                "{hint}"
            );
        }
        for name in ["/srv/lab.dcimg", "lab.dcimg", "//", "/"] {
            refuse_unmounted(Path::new(name)).unwrap();
        }
    }
}
