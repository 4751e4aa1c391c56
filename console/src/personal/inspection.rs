//! Findings of images: each image is inspected once, and the findings are stored by its root.

use super::image_disk::ImageSlice;
use crate::context::Console;
use crate::master::MasterImage;
use api::{ApiError, ErrorCode};
use inspect::Slice;
use std::sync::Arc;
use template::findings::Findings;

impl Console {
    /// Returns the findings of an image, from the store or by inspection.
    pub(super) async fn inspect(&self, image: &Arc<MasterImage>) -> Result<Findings, ApiError> {
        // One inspection at a time: a second caller gets the stored findings of the first.
        let _turn = self.personal.inspecting.lock().await;
        match self.store.findings(image.root().to_owned()).await {
            Ok(Some(findings)) => return Ok(findings),
            Ok(None) => {}
            // Findings of a newer or older console are unreadable; the image is inspected again.
            Err(error) => tracing::warn!(%error, "findings not read"),
        }
        let looked_at = Arc::clone(image);
        let findings = tokio::task::spawn_blocking(move || look(&looked_at))
            .await
            .map_err(|error| failed(image, &error))?
            .map_err(|error| failed(image, &error))?;
        // Findings of an encrypted image would reveal content that the password protects.
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
