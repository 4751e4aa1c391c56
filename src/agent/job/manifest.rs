//! From manifest to wiped disk: everything that is proven before the first byte is written.

use super::{Event, Failure, MAX_WRITERS, Open, Runner};
use crate::agent::writers::Writers;
use crate::disk::deployment::{Deployment, parse_grow};
use crate::disk::device;
use crate::net::hex;
use crate::target::{DiskFacts, TargetState};
use imagefmt::{IdKey, Manifest};
use multicast::{
    BLOCK_BYTES, BlockBuffer, BlockKey, BlockOutcome, BlockSet, Decoder, ImageBlocks, Layout,
};
use std::sync::Arc;

impl Runner {
    pub(super) fn manifest_block(
        &mut self,
        key: BlockKey,
        slot: u16,
        mut buffer: BlockBuffer,
    ) -> Result<(), Failure> {
        let layout = Layout::single(u32::try_from(self.order.manifest_bytes).unwrap_or(u32::MAX));
        let len = layout
            .blocks()
            .get(key.index as usize)
            .map_or(0, |shape| shape.len);
        let at = key.index as usize * BLOCK_BYTES as usize;
        let mut outcome = BlockOutcome::Failed;
        if let Ok(bytes) = buffer.finish(&mut Decoder::new(), len) {
            // The order's length is bounded, so this allocation is.
            self.manifest_bytes
                .resize(usize::try_from(self.order.manifest_bytes).unwrap_or(0), 0);
            if let Some(place) = self.manifest_bytes.get_mut(at..at + bytes.len()) {
                place.copy_from_slice(bytes);
                self.manifest_blocks += 1;
                outcome = BlockOutcome::Ok;
            }
        }
        self.give_back(key, slot, buffer, outcome);
        if self.image.is_none() && self.manifest_blocks == layout.block_count() {
            let bytes = std::mem::take(&mut self.manifest_bytes);
            if hex::encode(blake3::hash(&bytes).as_bytes()) == self.order.manifest_digest {
                self.open_image(&bytes)?;
            } else {
                tracing::warn!(
                    "the manifest that came by multicast is not the console's; fetching it"
                );
                self.ask_manifest();
            }
        }
        Ok(())
    }

    pub(super) fn ask_manifest(&mut self) {
        if let Some(fetcher) = self.fetcher.as_ref().filter(|_| !self.manifest_asked) {
            fetcher.manifest(self.order.manifest_bytes);
            self.manifest_asked = true;
        }
    }

    /// The manifest is the console's: name the disk, refuse it or wipe it, and take the image.
    pub(super) fn open_image(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let unreadable =
            |e: imagefmt::FormatError| Failure::Other(format!("reading the manifest: {e}"));
        let manifest = Arc::new(Manifest::decode(bytes).map_err(unreadable)?);
        if manifest.root().to_string() != self.order.root {
            return Err(Failure::Other(format!(
                "the manifest has root {}, the order {}",
                manifest.root(),
                self.order.root
            )));
        }
        let layout = Arc::new(multicast::pack(
            manifest.entries.iter().map(|entry| entry.body_len),
        ));
        if layout.block_count() != self.order.image_blocks {
            return Err(Failure::Other(
                "console and agent cut the image differently: update the older one".into(),
            ));
        }
        let id_key = match &self.order.id_key {
            None => None,
            Some(text) => Some(IdKey::from_bytes(hex::decode(text).map_err(|_| {
                Failure::Other("the order's image key is unreadable".into())
            })?)),
        };
        let grow = match &self.order.grow {
            None => None,
            Some(text) => {
                Some(parse_grow(text).map_err(|e| Failure::Other(format!("grow {text}: {e}")))?)
            }
        };
        let facts = self.chosen_disk()?;
        self.reporter.disk(&facts);
        let deployment = Arc::new(Deployment::prepare(&facts, None, manifest, id_key, grow)?);
        deployment.wipe()?;
        let events = self.events.clone();
        let threads = std::thread::available_parallelism()
            .map_or(2, usize::from)
            .min(MAX_WRITERS);
        let writers = Writers::start(&deployment, &layout, threads, move |finished| {
            let _ = events.send(Event::Written(finished));
        })
        .map_err(|e| Failure::Other(format!("starting the writers: {e}")))?;
        let done = BlockSet::empty(layout.block_count());
        self.reporter.total(deployment.total_bytes());
        self.reporter.state_is(TargetState::Receiving);
        if let Some(receiving) = &self.receiving {
            receiving.open_image(ImageBlocks {
                symbol_counts: layout.symbol_counts(),
                have: done.clone(),
                undecided: BlockSet::empty(0),
            });
        }
        self.image = Some(Open {
            deployment,
            layout,
            writers,
            done,
            written: 0,
        });
        if !self.heard {
            self.no_multicast();
        }
        Ok(())
    }

    /// The disk of the order, and no other: offered by this agent, and still what the plan showed.
    pub(super) fn chosen_disk(&self) -> Result<DiskFacts, Failure> {
        let wanted = &self.order.disk;
        if let Some(offers) = &self.offers
            && !offers.iter().any(|offer| offer.path == wanted.path)
        {
            return Err(Failure::Other(format!(
                "{} is not a disk this agent offers",
                wanted.path
            )));
        }
        let facts = device::describe(std::path::Path::new(&wanted.path))?;
        if facts.size != wanted.size || facts.serial != wanted.serial {
            return Err(Failure::Other(format!(
                "{} is not the disk of the plan any more: planned {} bytes, serial {}; now {}",
                wanted.path,
                wanted.size,
                wanted.serial.as_deref().unwrap_or("none"),
                facts.title()
            )));
        }
        Ok(facts)
    }
}
