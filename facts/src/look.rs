//! Contents a disk must have when the order to erase it is carried out.
//!
//! A technician confirms a disk as the plan shows it. Hours may pass before the first write, so the
//! agent reads the disk again, and writes only when its contents still match. Values only; agent
//! and console use the same rule.

use crate::target::{DiskFacts, PartitionFacts};
use serde::{Deserialize, Serialize};

/// Contents that a disk may have, as they were confirmed.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "as")]
pub enum Look {
    /// Any contents: the order does not write to the disk.
    #[default]
    Any,
    /// The disk as the plan showed it. A disk that is blank now is accepted, too: it has nothing to
    /// lose.
    Planned {
        /// Partitions of the disk.
        #[serde(default)]
        partitions: Vec<PartitionFacts>,
        /// The disk was blank.
        #[serde(default)]
        blank: bool,
    },
    /// The disk after the job has begun to write: its table may be missing, or be the image's.
    Resumed {
        /// Partitions that the plan showed.
        #[serde(default)]
        partitions: Vec<PartitionFacts>,
        /// Partitions of the image.
        #[serde(default)]
        image: Vec<PartitionFacts>,
    },
    /// A rule of a newer console; no disk matches it.
    #[serde(other)]
    Unknown,
}

impl Look {
    /// The contents of a disk as a plan shows it.
    pub fn planned(disk: &DiskFacts) -> Self {
        Self::Planned {
            partitions: disk.partitions.clone(),
            blank: disk.blank,
        }
    }

    /// The reason why a disk with the contents `now` is not the one that was confirmed; `None` when
    /// it is.
    pub fn refusal(&self, now: &DiskFacts) -> Option<String> {
        let (fits, then) = match self {
            Self::Any => (true, String::new()),
            Self::Planned { partitions, blank } => (
                now.blank || (!*blank && now.partitions == *partitions),
                if *blank {
                    "a blank disk".to_owned()
                } else {
                    places(partitions)
                },
            ),
            Self::Resumed { partitions, image } => (
                now.blank
                    || now.partitions.is_empty()
                    || begins(&now.partitions) == begins(partitions)
                    || begins(&now.partitions) == begins(image),
                places(partitions),
            ),
            Self::Unknown => (
                false,
                "something this agent is too old to compare".to_owned(),
            ),
        };
        (!fits).then(|| {
            format!(
                "what is on {} changed since the plan was confirmed: the plan showed {then}, now it has {}; deploy again to see it and confirm it",
                now.title(),
                contents(now)
            )
        })
    }
}

/// Number and first byte of each partition: a partition that grew is still the same one.
fn begins(partitions: &[PartitionFacts]) -> Vec<(u32, u64)> {
    partitions
        .iter()
        .map(|partition| (partition.number, partition.start))
        .collect()
}

fn places(partitions: &[PartitionFacts]) -> String {
    let numbers: Vec<String> = partitions
        .iter()
        .map(|partition| partition.number.to_string())
        .collect();
    match numbers.as_slice() {
        [] => "no partitions".to_owned(),
        [one] => format!("partition {one}"),
        all => format!("partitions {}", all.join(", ")),
    }
}

/// Contents of a disk in a few words, for messages.
pub fn contents(disk: &DiskFacts) -> String {
    if disk.blank {
        "blank".to_owned()
    } else if disk.contents.is_empty() {
        "no table or file system that is known".to_owned()
    } else {
        disk.contents.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(starts: &[u64]) -> DiskFacts {
        DiskFacts {
            path: "/dev/sda".to_owned(),
            partitions: (1..)
                .zip(starts)
                .map(|(number, start)| PartitionFacts {
                    number,
                    start: *start,
                    length: 4096,
                })
                .collect(),
            ..DiskFacts::default()
        }
    }

    fn blank() -> DiskFacts {
        DiskFacts {
            blank: true,
            ..disk(&[])
        }
    }

    #[test]
    fn only_what_was_shown_may_go() {
        let (windows, other, raw) = (disk(&[1, 9]), disk(&[1, 8]), disk(&[]));
        let cases = [
            (&windows, &windows, true),
            (&windows, &other, false),
            (&windows, &raw, false),
            (&windows, &blank(), true),
            (&blank(), &blank(), true),
            // The disk was blank when it was confirmed, and was used since.
            (&blank(), &windows, false),
            (&blank(), &raw, false),
            (&raw, &raw, true),
        ];
        for (n, (then, now, fits)) in cases.into_iter().enumerate() {
            let refusal = Look::planned(then).refusal(now);
            assert_eq!(refusal.is_none(), fits, "case {n}: {refusal:?}");
        }
        assert!(Look::Any.refusal(&windows).is_none());
        assert!(Look::Unknown.refusal(&blank()).is_some());
    }

    #[test]
    fn a_job_that_goes_on_finds_what_it_left() {
        let (planned, image) = (disk(&[1, 9]), disk(&[2, 7]));
        let look = Look::Resumed {
            partitions: planned.partitions.clone(),
            image: image.partitions.clone(),
        };
        let mut grown = image.clone();
        grown.partitions[1].length *= 10;
        for fits in [&planned, &image, &grown, &disk(&[]), &blank()] {
            assert!(look.refusal(fits).is_none(), "{fits:?}");
        }
        let other = look.refusal(&disk(&[1, 9, 20])).unwrap();
        assert!(other.contains("the plan showed partitions 1, 2"), "{other}");
    }

    #[test]
    fn an_order_of_a_newer_console_fits_no_disk() {
        let look: Look = serde_json::from_str(r#"{"as":"by-fingerprint","value":7}"#).unwrap();
        assert_eq!(look, Look::Unknown);
    }
}
