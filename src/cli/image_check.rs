//! Waiting until the console has checked an image: every stored byte against its hash, before any disk is touched.

use super::output::Output;
use crate::console::api::{ApiError, CheckRequest, ImageCheck};
use crate::console::client::Client;

/// Waits for the check, with its progress; answers when it was done. What is recorded already costs one question.
///
/// # Errors
/// `Integrity` for a damaged image, which names chunk, partition and bytes; what the console says otherwise.
pub(super) async fn checked(
    client: &Client,
    request: &CheckRequest,
    out: &Output,
) -> Result<String, ApiError> {
    let mut progress = None;
    loop {
        // Each answer takes about a second at most: the console waits for us.
        match client.post("/v1/images/check", request).await? {
            ImageCheck::Checked { checked } => {
                if let Some(progress) = progress.take() {
                    let progress: super::progress::Progress = progress;
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
