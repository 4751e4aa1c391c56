//! The rules of an image that can be checked from the headers alone, and those that its index and
//! its records must agree on.
//!
//! This module reads no content. Each broken rule is an error of its own, so a check lists all of
//! them.

use std::collections::BTreeSet;

use positioned_io::ReadAt;

use crate::error::{FormatError, unknown};
use crate::names::Class;
use crate::prologue::named;
use crate::record::{RecordKind, plain_hash};
use crate::records::{Record, Records};
use crate::{Image, table};

impl<R: ReadAt> Records<R> {
    /// The broken rules of order and numbers, unknown records that are not optional, and wrong
    /// counts in the trailer.
    ///
    /// If records are missing, only the unknown ones are listed, because the gaps show the rest.
    #[must_use]
    pub fn faults(&self) -> Vec<FormatError> {
        let names = &self.prologue().names;
        let strange = self
            .records()
            .iter()
            .filter_map(|record| match record.kind {
                RecordKind::Other(number) if !record.kind.is_optional() => {
                    Some(named(unknown(Class::Record, number), Class::Record, names))
                }
                _ => None,
            });
        let mut faults: Vec<_> = strange.collect();
        faults.extend(self.lost_addition().map(|at| FormatError::Damaged {
            what: "addition behind the end",
            offset: at.offset,
            reason: "labels or a signature were cut or are damaged, and count for nothing; add them again",
        }));
        if self.gaps().is_empty() && self.refused().is_empty() {
            self.order(&mut faults);
            self.counts(&mut faults);
        }
        faults
    }

    fn order(&self, faults: &mut Vec<FormatError>) {
        let mut broken = |record: &Record, reason| faults.push(damaged(record, reason));
        let mut seen = BTreeSet::new();
        let (mut tables, mut indexes) = (0, 0);
        for (index, record) in self.records().iter().enumerate() {
            let next = self.records().get(index + 1);
            match record.kind {
                RecordKind::Table => {
                    tables += 1;
                    if tables > 1 {
                        broken(record, "an image has one");
                    }
                }
                RecordKind::Index => {
                    indexes += 1;
                    if indexes > 1 {
                        broken(record, "an image has one");
                    }
                }
                RecordKind::Chunk => {
                    if indexes > 0 {
                        broken(record, "it lies behind the index");
                    }
                    if !seen.insert(record.chunk) {
                        broken(record, "it is there twice");
                    }
                }
                RecordKind::Prologue => {
                    if next.is_none_or(|next| next.kind != RecordKind::Trailer) {
                        broken(record, "no trailer follows it");
                    }
                }
                RecordKind::Trailer => {
                    let before = index.checked_sub(1).and_then(|at| self.records().get(at));
                    if before.is_none_or(|before| before.kind != RecordKind::Prologue) {
                        broken(record, "no copy of the prologue lies before it");
                    }
                }
                RecordKind::Meta
                | RecordKind::Signature
                | RecordKind::Labels
                | RecordKind::Other(_) => {}
            }
            if index == 0 && record.kind != RecordKind::Meta {
                broken(record, "the first record is not the description (META)");
            }
            if next.is_none() && record.kind != RecordKind::Trailer {
                broken(record, "the last record is not the trailer");
            }
        }
        for (count, what) in [(tables, RecordKind::Table), (indexes, RecordKind::Index)] {
            if count == 0 {
                faults.push(FormatError::Damaged {
                    what: what.name(),
                    offset: 0,
                    reason: "it is missing",
                });
            }
        }
    }

    fn counts(&self, faults: &mut Vec<FormatError>) {
        let Ok(summary) = self.summary() else {
            return;
        };
        let chunks = self.records().iter();
        let chunks = chunks.filter(|record| record.kind == RecordKind::Chunk);
        let (count, used) = chunks.fold((0, 0_u64), |(count, used), record| {
            (count + 1, used.saturating_add(record.used_bytes))
        });
        let Some(last) = self.records().last() else {
            return;
        };
        if count != summary.chunks {
            faults.push(damaged(
                last,
                "it counts other chunks than there are chunk records",
            ));
        } else if used != summary.used_bytes {
            faults.push(damaged(
                last,
                "it counts other used bytes than the chunks have",
            ));
        }
    }
}

impl<R: ReadAt> Image<R> {
    /// The differences between index and records: META, TABLE, and the positions of chunks.
    #[must_use]
    pub fn disagreements<S: ReadAt>(&self, records: &Records<S>) -> Vec<FormatError> {
        let manifest = self.manifest();
        let mut faults = Vec::new();
        let mut known = self.positions().to_vec();
        known.sort_unstable();
        let differs = "it is not the one in the index";
        let last = |kind| records.records().iter().rfind(|record| record.kind == kind);
        if let Some(record) = last(RecordKind::Meta)
            && record.id != plain_hash(self.id_key(), manifest.meta_json())
        {
            faults.push(damaged(record, differs));
        }
        if let Some(record) = last(RecordKind::Table)
            && let Ok(bytes) = table::encode(&manifest.table, &manifest.geometry)
            && record.id != plain_hash(self.id_key(), &bytes)
        {
            faults.push(damaged(record, differs));
        }
        let strays = records.records().iter().filter(|record| {
            record.kind == RecordKind::Chunk && known.binary_search(&record.position).is_err()
        });
        faults.extend(strays.map(|record| damaged(record, "the index does not list it")));
        faults
    }
}

fn damaged(record: &Record, reason: &'static str) -> FormatError {
    match record.kind {
        RecordKind::Chunk => FormatError::ChunkDamaged {
            chunk: record.chunk,
            reason,
        },
        kind => FormatError::Damaged {
            what: kind.name(),
            offset: record.position.offset,
            reason,
        },
    }
}
