//! Waits until the console has checked an image: every stored byte against its hash, before any
//! disk is touched.

use api::{ApiError, CheckRequest, ImageCheck};
use client::Client;
use terminal::output::Output;

/// Waits for the check and shows its progress; returns when it was done. A check that is recorded
/// already costs one request.
///
/// # Errors
/// `Integrity` for a damaged image, with chunk, partition and bytes; any other error of the
/// console.
pub(super) async fn checked(
    client: &Client,
    request: &CheckRequest,
    out: &Output,
) -> Result<String, ApiError> {
    let mut progress = None;
    loop {
        // Each answer takes about a second at most: the console holds it back that long.
        match client.post("/v1/images/check", request).await? {
            ImageCheck::Checked { checked } => {
                if let Some(progress) = progress.take() {
                    let progress: terminal::progress::Progress = progress;
                    progress.finish("the image is whole");
                }
                return Ok(checked);
            }
            ImageCheck::Checking {
                done_bytes,
                total_bytes,
            } => progress
                .get_or_insert_with(|| out.progress("check image", Some(total_bytes)))
                .set(done_bytes),
        }
    }
}
