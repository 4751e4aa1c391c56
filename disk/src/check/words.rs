//! Descriptions of damage: the fault, and the owner of the damaged data.

use imagefmt::{ChunkId, FormatError, Geometry, Manifest};

/// Text of an error with its cause.
pub fn full_text(error: &FormatError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// Text of a fault: its kind, and the owner of the damaged data.
pub(super) fn words(
    geometry: Geometry,
    manifest: Option<&Manifest>,
    chunk: ChunkId,
    error: &FormatError,
) -> String {
    format!(
        "{}: {}",
        full_text(error),
        describe(geometry, manifest, chunk)
    )
}

/// Text of a chunk's place: bytes of the disk and, if the description is readable, the owner of
/// these bytes.
pub fn describe(geometry: Geometry, manifest: Option<&Manifest>, chunk: ChunkId) -> String {
    let start = geometry.chunk_offset(chunk);
    let end = start + u64::from(geometry.chunk_len(chunk));
    let range = format!("disk bytes {start}..{end}");
    let Some(manifest) = manifest else {
        return range;
    };
    let hit: Vec<String> = manifest
        .meta
        .partitions
        .iter()
        .filter(|p| p.start < end && start < p.start.saturating_add(p.length))
        .map(|p| {
            let fs =
                p.fs.as_ref()
                    .map_or("unknown content", |fs| fs.kind.as_str());
            let (from, to) = (start.saturating_sub(p.start), (end - p.start).min(p.length));
            match p.number {
                0 => format!("the disk's {fs}, bytes {from}..{to}"),
                number => format!("partition {number} ({fs}), bytes {from}..{to} of it"),
            }
        })
        .collect();
    let place = if hit.is_empty() {
        "outside partitions".to_owned()
    } else {
        hit.join("; ")
    };
    format!("{range}, {place}")
}
