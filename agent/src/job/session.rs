//! A job's side of the multicast session: joining, joining again, and events of the receiving
//! thread.

use super::{BUFFERS, Event, Failure, Runner};
use crate::bulk::BulkClient;
use crate::fetch::Fetcher;
use crate::writers::{Source, Work};
use facts::hex;
use multicast::{
    BlockBuffer, BlockKey, BlockOutcome, Epoch, ImageBlocks, ObjectId, SessionId, SessionSecret,
};
use net::receiving::{Receiving, ReceivingEvent, ReceivingSpec};
use net::socket;
use protocol::control::{AgentMessage, Order};
use std::net::SocketAddr;
use std::sync::Arc;

impl Runner {
    /// Joins the groups of the current order and starts a fetcher for it.
    pub(super) fn join_session(&mut self) -> Result<(), Failure> {
        self.generation += 1;
        let generation = self.generation;
        let session = &self.order.session;
        let bad = |what: &str| Failure::Other(format!("the order's {what} is unreadable"));
        let secret = hex::decode::<32>(&session.secret).map_err(|_| bad("session secret"))?;
        let epoch = Epoch::new(session.epoch);
        let manifest_bytes =
            u32::try_from(self.order.manifest_bytes).map_err(|_| bad("manifest length"))?;
        let interface = match self.interface {
            Some(interface) => interface,
            None => socket::local_address_towards(self.console).map_err(|e| {
                Failure::Other(format!(
                    "finding the interface towards {}: {e}",
                    self.console
                ))
            })?,
        };
        let image = self.image.as_ref().map(|image| ImageBlocks {
            symbol_counts: image.layout.symbol_counts(),
            have: image.done.clone(),
            undecided: image.search.undecided(image.layout.block_count()),
        });
        let mut seed = [0u8; 8];
        getrandom::fill(&mut seed).map_err(|e| Failure::Other(format!("drawing a seed: {e}")))?;
        let spec = ReceivingSpec {
            session: SessionId(session.id),
            epoch,
            secret: SessionSecret::from_bytes(secret),
            suite: session.suite,
            main: session.main,
            second: session.second,
            interface,
            manifest_bytes,
            image,
            buffers: BUFFERS,
            receivers: session.receivers as usize,
            seed: u64::from_be_bytes(seed),
            inject: self.inject,
        };
        let events = self.events.clone();
        self.heard = true;
        self.receiving = match Receiving::start(spec, move |event| {
            let _ = events.send(Event::Receiving(generation, event));
        }) {
            Ok(receiving) => {
                if let Some(text) = receiving.short_buffer() {
                    let _ = self.outbox.send(AgentMessage::Log {
                        job: Some(self.order.job.clone()),
                        text: text.to_owned(),
                    });
                }
                Some(receiving)
            }
            Err(error) => {
                tracing::warn!(%error, "cannot join the session's groups");
                self.no_multicast();
                None
            }
        };
        let client = BulkClient::new(
            self.console,
            Arc::clone(&self.tls),
            &self.order.bulk,
            &self.order.job,
        );
        let events = self.events.clone();
        self.fetcher = Some(Fetcher::start(&self.runtime, client, move |fetched| {
            let _ = events.send(Event::Fetched(generation, fetched));
        }));
        self.manifest_blocks = 0;
        // Requests of the old fetcher are made again by the new one.
        self.manifest_asked = false;
        let flying = std::mem::take(&mut self.bulk_flying);
        self.bulk_wanted.extend(flying);
        Ok(())
    }

    /// Handles the order sent again: after a reconnect, or by a console that was restarted and has
    /// new keys.
    pub(super) fn rejoin(&mut self, order: Order, console: SocketAddr) -> Result<(), Failure> {
        if order.root != self.order.root || order.manifest_digest != self.order.manifest_digest {
            return Err(Failure::Other(
                "the console changed the image in the middle of the job; deploy again".into(),
            ));
        }
        let same_session = order.session.id == self.order.session.id
            && order.session.secret == self.order.session.secret
            && order.bulk.token == self.order.bulk.token;
        self.order = order;
        self.console = console;
        match &self.receiving {
            Some(receiving) if same_session => {
                receiving.full_status();
                Ok(())
            }
            _ => self.join_session(),
        }
    }

    pub(super) fn received(&mut self, event: ReceivingEvent) -> Result<(), Failure> {
        match event {
            ReceivingEvent::Block { key, slot, buffer } => match key.object {
                ObjectId::Manifest => self.manifest_block(key, slot, buffer)?,
                ObjectId::Image => match &self.image {
                    Some(image) => image.writers.push(Work {
                        block: key.index,
                        generation: self.generation,
                        source: Source::Slot(slot, buffer),
                    }),
                    // The receiver does not accept image blocks before `open_image`.
                    None => self.give_back(key, slot, buffer, BlockOutcome::Failed),
                },
            },
            ReceivingEvent::Status(status) => {
                let (job, session) = (self.order.job.clone(), self.order.session.id);
                let _ = self.outbox.send(AgentMessage::Status {
                    job,
                    session,
                    status: *status,
                });
            }
            ReceivingEvent::Health(health) => {
                self.reporter.health(&health);
                self.sources = health.sources;
                if health.heard && !self.heard {
                    self.heard = true;
                    self.reporter.note(None);
                    self.reporter.deaf(false);
                    // Multicast is back: blocks that are not requested yet come cheaper that way.
                    self.bulk_wanted.clear();
                } else if !health.heard && self.heard {
                    self.no_multicast();
                }
            }
            ReceivingEvent::Failed(error) => {
                tracing::warn!(%error, "receiving failed");
                self.receiving = None;
                self.no_multicast();
            }
        }
        Ok(())
    }

    /// Reports that nothing of the session arrives, and fetches everything over TCP 5003.
    pub(super) fn no_multicast(&mut self) {
        self.heard = false;
        self.reporter.deaf(true);
        self.reporter.note(Some(
            "no multicast arrives here, so the image comes over TCP 5003: check the switch for an IGMP querier".into(),
        ));
        if let Some(image) = &self.image {
            let undecided = image.search.undecided(image.layout.block_count());
            self.bulk_wanted = image
                .done
                .complement()
                .iter()
                .filter(|b| !self.bulk_flying.contains(b) && !undecided.contains(*b))
                .collect();
        }
    }

    pub(super) fn give_back(
        &self,
        key: BlockKey,
        slot: u16,
        buffer: BlockBuffer,
        outcome: BlockOutcome,
    ) {
        if let Some(receiving) = &self.receiving {
            receiving.block_done(key, slot, buffer, outcome);
        }
    }
}
