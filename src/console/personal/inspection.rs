//! What lies in an image, looked at once and remembered by its root.

use super::image_disk::ImageSlice;
use crate::console::context::Console;
use crate::console::master::MasterImage;
use api::{ApiError, ErrorCode};
use inspect::Slice;
use std::sync::Arc;
use template::findings::Findings;

impl Console {
    /// The systems in an image.
    pub(super) async fn inspect(&self, image: &Arc<MasterImage>) -> Result<Findings, ApiError> {
        // One at a time: whoever comes second finds what the first remembered.
        let _turn = self.personal.inspecting.lock().await;
        match self.store.findings(image.root().to_owned()).await {
            Ok(Some(findings)) => return Ok(findings),
            Ok(None) => {}
            // What a newer or older console wrote is looked for again.
            Err(error) => tracing::warn!(%error, "findings not read"),
        }
        let looked_at = Arc::clone(image);
        let findings = tokio::task::spawn_blocking(move || look(&looked_at))
            .await
            .map_err(|error| failed(image, &error))?
            .map_err(|error| failed(image, &error))?;
        // Findings of an encrypted image would tell what the password hides.
        if !image.encrypted()
            && let Err(error) = self
                .store
                .save_findings(image.root().to_owned(), findings.clone())
                .await
        {
            tracing::warn!(%error, "findings not remembered");
        }
        Ok(findings)
    }
}

fn failed(image: &MasterImage, error: &dyn std::fmt::Display) -> ApiError {
    let path = &image.summary().path;
    ApiError::new(
        ErrorCode::Integrity,
        format!("looking into {path}: {error}"),
    )
    .hint("diskcast image check --deep says which part is damaged")
}

fn look(image: &MasterImage) -> imagefmt::Result<Findings> {
    let mut slices = Vec::new();
    for partition in &image.image().manifest().meta.partitions {
        let reader = ImageSlice::new(Arc::clone(image.image()), partition.start, partition.length)?;
        slices.push(Slice {
            number: partition.number,
            length: partition.length,
            reader: Box::new(reader),
        });
    }
    Ok(inspect::disk(slices))
}
