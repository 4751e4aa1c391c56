//! Results of image blocks: written, corrupt, or fetched over TCP 5003.

use super::{BATCH, CORRUPT_TRIES, Failure, Runner, STALL_SECONDS};
use crate::fetch::Fetched;
use crate::writers::{BlockFailure, Finished, Source, Work};
use facts::hex;
use facts::target::TargetState;
use multicast::{BlockKey, BlockOutcome};
use net::sources::Sources;
use std::collections::BTreeSet;

impl Runner {
    pub(super) fn written(&mut self, finished: Finished) -> Result<(), Failure> {
        let Finished {
            block,
            generation,
            slot,
            result,
        } = finished;
        let key = BlockKey::image(block);
        let outcome = if result.is_ok() {
            BlockOutcome::Ok
        } else {
            BlockOutcome::Failed
        };
        match slot {
            Some((slot, buffer)) if generation == self.generation => {
                self.give_back(key, slot, buffer, outcome)
            }
            // A block by bulk, or of a session that was replaced while the block was being written;
            // the present receiver does not know it yet.
            _ => {
                self.bulk_flying.remove(&block);
                if let Some(receiving) = self.receiving.as_ref().filter(|_| result.is_ok()) {
                    receiving.bulk_done(key);
                }
            }
        }
        match result {
            Ok(bytes) => {
                self.bulk_wanted.remove(&block);
                if let Some(image) = &mut self.image
                    && image.done.insert(block)
                {
                    image.written += bytes;
                    self.news_at = self.reporter.seconds();
                    self.reporter.done(image.written + image.kept_bytes);
                }
                Ok(())
            }
            Err(BlockFailure::Disk(error)) => Err(error.into()),
            Err(BlockFailure::Corrupt(reason)) => self.corrupt_block(block, &reason),
        }
    }

    /// Handles a block that authenticated but does not match the manifest: it is never written, but
    /// fetched over TCP 5003.
    pub(super) fn corrupt_block(&mut self, block: u32, reason: &str) -> Result<(), Failure> {
        tracing::warn!(block, %reason, "block does not match the manifest; fetching it over TCP 5003");
        if self.reporter.corrupt() == 1 {
            self.reporter.log(accusation(block, reason, &self.sources));
        }
        let tries = self.corrupt.entry(block).or_default();
        *tries += 1;
        if *tries >= CORRUPT_TRIES {
            return Err(Failure::Other(format!(
                "block {block} came damaged {tries} times ({reason}); run `diskcast image check --deep` on the console"
            )));
        }
        // A chunk that spans blocks needs all of them correct, so all are fetched.
        let blocks: BTreeSet<u32> = match &self.image {
            Some(image) => image
                .layout
                .parts(block)
                .flat_map(|part| image.layout.blocks_of(part.piece))
                .collect(),
            None => BTreeSet::from([block]),
        };
        if let Some(image) = &mut self.image {
            for block in &blocks {
                image.done.remove(*block);
            }
        }
        self.bulk_wanted.extend(blocks.iter().chain([&block]));
        Ok(())
    }

    pub(super) fn want_bulk(&mut self, blocks: Vec<u32>) {
        let Some(image) = &self.image else { return };
        let count = image.layout.block_count();
        self.bulk_wanted.extend(
            blocks.into_iter().filter(|b| {
                *b < count && !image.done.contains(*b) && !self.bulk_flying.contains(b)
            }),
        );
    }

    /// Keeps one batch under way while any blocks are wanted over TCP 5003.
    pub(super) fn fetch_more(&mut self) {
        let stalled = self.reporter.seconds() - self.news_at > STALL_SECONDS;
        let Some(image) = &self.image else {
            if !self.heard || stalled {
                self.ask_manifest();
            }
            return;
        };
        if stalled && self.bulk_wanted.is_empty() && self.bulk_flying.is_empty() {
            let undecided = image.search.undecided(image.layout.block_count());
            let missing = image.done.complement();
            let missing = missing.iter().filter(|block| !undecided.contains(*block));
            self.bulk_wanted = missing.take(BATCH).collect();
            if !self.bulk_wanted.is_empty() {
                self.news_at = self.reporter.seconds();
                self.reporter.log(format!(
                    "no new block for {STALL_SECONDS} s: fetching {} over TCP 5003",
                    self.bulk_wanted.len()
                ));
            }
        }
        if self.bulk_flying.is_empty()
            && let Some(fetcher) = &self.fetcher
        {
            let batch: Vec<u32> = self.bulk_wanted.iter().copied().take(BATCH).collect();
            if !batch.is_empty() {
                self.bulk_wanted.retain(|b| !batch.contains(b));
                self.bulk_flying.extend(&batch);
                fetcher.blocks(batch);
            }
        }
        let fetching = !self.bulk_flying.is_empty();
        self.reporter.state_is(if fetching {
            TargetState::Repairing
        } else {
            TargetState::Receiving
        });
    }

    pub(super) fn fetched(&mut self, fetched: Fetched) -> Result<(), Failure> {
        match fetched {
            Fetched::Manifest(_) if self.image.is_some() => {}
            Fetched::Manifest(bytes) => {
                if hex::encode(blake3::hash(&bytes).as_bytes()) != self.order.manifest_digest {
                    return Err(Failure::Other(
                        "the manifest fetched over TCP 5003 is not the one of the order".into(),
                    ));
                }
                self.open_image(&bytes)?;
            }
            Fetched::Block(block, bytes) => {
                self.reporter.bulk_block();
                if let Some(image) = &self.image {
                    let source = Source::Bulk(bytes);
                    image.writers.push(Work {
                        block,
                        generation: self.generation,
                        source,
                    });
                }
            }
            // Blocks leave `bulk_flying` when they are written.
            Fetched::BatchEnd => {}
            Fetched::Failed(reason) => {
                return Err(Failure::Other(format!("fetching over TCP 5003: {reason}")));
            }
        }
        Ok(())
    }
}

/// The log line about the first wrong block, with the senders that a technician should check.
fn accusation(block: u32, reason: &str, sources: &Sources) -> String {
    let strangers: Vec<String> = sources.strangers().map(|a| a.to_string()).collect();
    let who = if strangers.is_empty() {
        "all packets came from the console's address".to_owned()
    } else {
        format!(
            "packets with the session's key also came from {}: look at that machine",
            strangers.join(", ")
        )
    };
    format!(
        "block {block} authenticated but is not what the manifest promises ({reason}); nothing of it was written, and it \
         comes over TCP 5003; {who}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn an_insider_is_named_by_the_address_it_sends_from() {
        let mut sources = Sources::default();
        for _ in 0..50 {
            sources.count(Ipv4Addr::new(10, 77, 0, 1));
        }
        let alone = accusation(7, "content id differs", &sources);
        assert!(alone.contains("block 7") && alone.contains("the console's address"));
        sources.count(Ipv4Addr::new(10, 77, 1, 9));
        let named = accusation(7, "content id differs", &sources);
        assert!(named.contains("also came from 10.77.1.9: look at that machine"));
    }
}
