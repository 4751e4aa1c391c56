//! A partition in one line: the same words and units in `image info`, captures and plans, and for what a disk holds now.

use diskmap::usedmap::Excluded;
use facts::units;
use imagefmt::PartitionMeta;

/// A partition of an image.
pub fn partition_line(p: &PartitionMeta) -> String {
    let fs = p.fs.as_ref();
    let kind = fs.map(|fs| fs.kind.as_str());
    let label = fs.and_then(|fs| fs.label.as_deref());
    let taken = match (&p.reason, p.capture.as_str()) {
        (Some(reason), "raw") => format!("taken whole: {reason}"),
        _ => format!("{} used", units::bytes(p.used_bytes)),
    };
    let sum = |bad: bool| -> u64 {
        let of = p
            .excluded
            .iter()
            .filter(|e| (e.what == Excluded::BAD) == bad);
        of.map(|e| e.length).sum()
    };
    let left = |bytes: u64, what: &str| match bytes {
        0 => String::new(),
        bytes => format!(", {} of {what} left out", units::bytes(bytes)),
    };
    let left_out = left(sum(false), "page and hibernation files") + &left(sum(true), Excluded::BAD);
    let head = content_line(p.number, kind, label, p.name.as_deref(), p.length);
    format!("{head}, {taken}{left_out}")
}

/// Line on a partition of a disk, or on a whole disk (number 0), without its used bytes, which nobody has counted.
pub fn content_line(
    number: u32,
    kind: Option<&str>,
    label: Option<&str>,
    name: Option<&str>,
    length: u64,
) -> String {
    let filled = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
    let place = match number {
        0 => "whole disk".to_owned(),
        number => format!("partition {number}"),
    };
    let label = filled(label).map(|label| format!(" \"{label}\""));
    let name = filled(name).map(|name| format!(" ({name})"));
    format!(
        "{place} {}{}{}, {}",
        kind.unwrap_or("unknown content"),
        label.unwrap_or_default(),
        name.unwrap_or_default(),
        units::bytes(length)
    )
}

/// True if a line is about this partition.
pub fn is_about(line: &str, number: u32) -> bool {
    line.starts_with(&format!("partition {number} "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small partition was shown as `0.0 GB fat16, 0.0 GB used`.
    #[test]
    fn small_partitions_have_a_size_too() {
        let line = content_line(2, Some("fat16"), Some("EFI"), Some("ESP"), 33_554_432);
        assert_eq!(line, "partition 2 fat16 \"EFI\" (ESP), 33.6 MB");
        assert!(is_about(&line, 2) && !is_about(&line, 1));
        assert!(!is_about("partition 21 ext4, 1.00 GB", 2));
        assert_eq!(
            content_line(0, None, Some(""), None, 512),
            "whole disk unknown content, 512 B"
        );
    }
}
