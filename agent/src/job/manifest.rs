//! From the manifest to a wiped disk: all that is proven before the first byte is written.

use super::reuse::Search;
use super::{Event, Failure, MAX_READERS, MAX_WRITERS, Open, Runner};
use crate::load::{Load, Mark};
use crate::writers::Writers;
use disk::deployment::Deployment;
use disk::device;
use disk::fit::Fit;
use disk::journal::Journal;
use disk::readback::ReadBack;
use facts::hex;
use facts::target::{DiskFacts, DiskNow, TargetState};
use imagefmt::{IdKey, Manifest};
use multicast::{
    BLOCK_BYTES, BlockBuffer, BlockKey, BlockOutcome, BlockSet, Decoder, ImageBlocks, Layout,
};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

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
            // The order's length is bounded, and so is this allocation.
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

    /// Handles the proven manifest: checks the disk and wipes it, or refuses, and opens the image.
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
        let facts = self.chosen_disk()?;
        self.reporter.disk(&facts);
        self.title = facts.title();
        let fit = Fit {
            sector_size: None,
            grow: self.order.grow,
            choice: self.order.choice.clone(),
        };
        let deployment = Arc::new(Deployment::prepare(&facts, manifest, id_key, &fit)?);
        // Read before the wipe, which does not touch it.
        let earlier = deployment
            .keeps_journal()
            .then(|| Journal::load(deployment.target(), deployment.manifest()))
            .flatten();
        self.disk_now = DiskNow::Unknown;
        deployment.wipe()?;
        self.disk_now = match self.order.choice.onto {
            Some(_) => DiskNow::PartitionBlank,
            None => DiskNow::Blank,
        };
        let mut search = self.search(&deployment, &layout, earlier.as_ref());
        if let Some(said) = search_note(&search, earlier.is_some(), layout.block_count()) {
            self.reporter.log(said);
        }
        let journal = match deployment.keeps_journal() {
            true => Journal::begin(deployment.target(), deployment.manifest())?,
            false => None,
        };
        let threads = std::thread::available_parallelism()
            .map_or(4, |cores| cores.get() + 2)
            .min(MAX_WRITERS);
        let starting = |e| Failure::Other(format!("starting the writers: {e}"));
        let events = self.events.clone();
        let read_back = ReadBack::start(
            &deployment,
            threads.min(MAX_READERS),
            journal,
            std::mem::take(&mut search.entries),
            Box::new(move |entry, there| {
                let _ = events.send(Event::Looked(entry, there));
            }),
        );
        let read_back = Arc::new(read_back.map_err(starting)?);
        let load = Arc::new(Load::default());
        let events = self.events.clone();
        let report = move |finished| {
            let _ = events.send(Event::Written(finished));
        };
        let writers = Writers::start(&deployment, &layout, &read_back, &load, threads, report)
            .map_err(starting)?;
        self.reporter.total(deployment.total_bytes());
        self.reporter.state_is(TargetState::Receiving);
        let undecided = search.undecided(layout.block_count());
        let kept = std::mem::take(&mut search.kept);
        let unwanted = std::mem::take(&mut search.unwanted);
        let mut image = Open {
            discard: self.start_discard(&deployment),
            done: BlockSet::empty(layout.block_count()),
            deployment,
            layout,
            writers,
            read_back,
            load,
            mark: Mark::default(),
            search,
            written: 0,
            kept_bytes: 0,
        };
        for block in unwanted {
            image.done.insert(block);
        }
        for block in kept {
            let news = image.keep(block);
            self.reporter.kept(image.kept_bytes, news);
        }
        if let Some(receiving) = &self.receiving {
            receiving.open_image(ImageBlocks {
                symbol_counts: image.layout.symbol_counts(),
                have: image.done.clone(),
                undecided,
            });
        }
        self.image = Some(image);
        self.news_at = self.reporter.seconds();
        if !self.heard {
            self.no_multicast();
        }
        Ok(())
    }

    /// Starts a thread that discards the space the image does not use: large disks need seconds for
    /// it.
    fn start_discard(&self, deployment: &Arc<Deployment>) -> Option<JoinHandle<()>> {
        let (deployment, cancelled) = (Arc::clone(deployment), Arc::clone(&self.cancelled));
        if !deployment.target().discards() {
            return None;
        }
        let discard = move || {
            let stop = || cancelled.load(Ordering::Relaxed);
            match deployment.discard_free(&stop) {
                Ok(bytes) => tracing::debug!(bytes, "free space discarded"),
                Err(error) => tracing::debug!(error = %error.full(), "free space not discarded"),
            }
        };
        std::thread::Builder::new()
            .name("discard".into())
            .spawn(discard)
            .ok()
    }

    /// Finds the disk of the order: it must be on offer by this agent, and still as the plan showed
    /// it.
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
        if !wanted.names(&facts) {
            return Err(Failure::Other(format!(
                "{} is not the disk of the plan any more: planned {} bytes, model {}, serial {}; now {}",
                wanted.path,
                wanted.size,
                wanted.model.as_deref().unwrap_or("none"),
                wanted.serial.as_deref().unwrap_or("none"),
                facts.title()
            )));
        }
        if let Some(reason) = wanted.look.refusal(&facts) {
            return Err(Failure::Other(reason));
        }
        Ok(facts)
    }
}

/// A line for the job's log when not everything is requested at once.
fn search_note(search: &Search, journal: bool, blocks: u32) -> Option<String> {
    let count = search.undecided(blocks).count() + u32::try_from(search.kept.len()).unwrap_or(0);
    (count > 0).then(|| {
        let why = if journal {
            "a deployment of this image was cut off here"
        } else {
            "the disk holds some of this image"
        };
        format!("{why}: {count} of {blocks} blocks are looked for before they are asked for")
    })
}
