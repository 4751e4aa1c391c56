//! A whole session with real bytes: pieces become blocks with parity, are sealed, lost, damaged,
//! replayed, opened and restored, and are the same pieces at the end.
#![allow(
    clippy::cast_possible_truncation,
    reason = "lengths of a few megabytes"
)]

use multicast::{
    Assembly, BlockKey, BlockOutcome, BlockSet, Disposition, Encoder, Epoch, ImageBlocks, Instant,
    Layout, ObjectId, OpenError, Opener, PACKET_BYTES, Parity, ReceiverConfig, ReceiverEvent,
    ReceiverId, ReplayWindow, SYMBOL_BYTES, Sealer, Sender, SenderConfig, SenderEvent, SessionId,
    SessionSecret, Suite, Transmit, TransmitKind, pack, source_symbol, status_interval,
};
use std::collections::BTreeMap;

const SESSION: SessionId = SessionId(0xbeef);

/// The SplitMix64 generator: one seed determines every decision of a run.
struct Rng(u64);

impl Rng {
    fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn chance(&mut self, ppm: u64) -> bool {
        self.below(1_000_000) < ppm
    }
}

struct Source {
    manifest: (Layout, Vec<u8>),
    image: (Layout, Vec<u8>),
    encoder: Encoder,
    parity: BTreeMap<BlockKey, Parity>,
}

impl Source {
    fn bytes(&self, block: BlockKey) -> &[u8] {
        let (layout, bytes) = match block.object {
            ObjectId::Manifest => &self.manifest,
            ObjectId::Image => &self.image,
        };
        let start: u32 = layout.blocks()[..block.index as usize]
            .iter()
            .map(|shape| shape.len)
            .sum();
        let len = layout.blocks()[block.index as usize].len;
        &bytes[start as usize..(start + len) as usize]
    }

    fn payload(&mut self, transmit: &Transmit) -> Vec<u8> {
        match transmit.kind {
            TransmitKind::Heartbeat => Vec::new(),
            TransmitKind::Source => {
                let mut out = [0; SYMBOL_BYTES];
                assert!(source_symbol(
                    self.bytes(transmit.block),
                    transmit.symbol,
                    &mut out
                ));
                out.to_vec()
            }
            _ => {
                if !self.parity.contains_key(&transmit.block) {
                    let bytes = self.bytes(transmit.block).to_vec();
                    let parity = self.encoder.encode(&bytes).unwrap();
                    self.parity.insert(transmit.block, parity);
                }
                self.parity[&transmit.block]
                    .symbol(transmit.symbol - transmit.k)
                    .unwrap()
                    .to_vec()
            }
        }
    }
}

struct Agent {
    receiver: multicast::Receiver,
    assembly: Assembly,
    replay: ReplayWindow,
    opener: Opener,
    rng: Rng,
    restored: BTreeMap<BlockKey, Vec<u8>>,
    damaged: u32,
    replayed: u32,
}

fn random(rng: &mut Rng, len: usize) -> Vec<u8> {
    (0..len).map(|_| (rng.next() >> 56) as u8).collect()
}

fn deploy(suite: Suite, seed: u64) {
    let mut rng = Rng::new(seed);
    let lens: Vec<u32> = (0..12)
        .map(|_| (rng.below(4) * rng.below(700_000)) as u32)
        .collect();
    let image = pack(lens.iter().copied());
    let image_bytes = random(&mut rng, image.total_bytes() as usize);
    let manifest_bytes = random(&mut rng, 30_001);
    let manifest = Layout::single(30_001);
    let mut config = SenderConfig::new(SESSION, &manifest, &image, 125_000_000);
    config.suite = suite;
    config.epoch = Epoch::new(1);
    let secret = SessionSecret::from_bytes([5; 32]);
    let mut sender = Sender::new(config.clone(), Instant::ZERO);
    let mut sealer = Sealer::new(&secret, suite, SESSION, config.epoch).unwrap();
    let mut source = Source {
        manifest: (manifest.clone(), manifest_bytes),
        image: (image.clone(), image_bytes),
        encoder: Encoder::new(),
        parity: BTreeMap::new(),
    };
    let mut agents: Vec<Agent> = (0..3)
        .map(|index| {
            sender.add_receiver(Instant::ZERO, ReceiverId(index));
            Agent {
                receiver: multicast::Receiver::new(
                    ReceiverConfig {
                        session: SESSION,
                        manifest: manifest.symbol_counts(),
                        image: None,
                        buffers: 16,
                        status_interval: status_interval(3),
                        seed: rng.next(),
                    },
                    Instant::ZERO,
                ),
                assembly: Assembly::new(16),
                replay: ReplayWindow::new(),
                opener: Opener::new(&secret, suite, SESSION, config.epoch).unwrap(),
                rng: Rng::new(rng.next()),
                restored: BTreeMap::new(),
                damaged: 0,
                replayed: 0,
            }
        })
        .collect();

    let mut now = Instant::ZERO;
    for _ in 0..200_000 {
        while let Some(transmit) = sender.poll_transmit(now) {
            let payload = source.payload(&transmit);
            let header = transmit.header(SESSION, config.epoch);
            let mut packet = [0; PACKET_BYTES];
            let len = sealer.seal(&header, &payload, &mut packet).unwrap();
            for agent in &mut agents {
                agent.take(now, &packet[..len]);
            }
        }
        for (index, agent) in (0..).zip(&mut agents) {
            agent.work(now, &source);
            while let Some(status) = agent.receiver.poll_status(now) {
                sender.handle_status(now, ReceiverId(index), &status);
            }
        }
        while let Some(event) = sender.poll_event() {
            if let SenderEvent::UseBulk { receiver, blocks } = event {
                let agent = &mut agents[receiver.0 as usize];
                for block in blocks {
                    agent.restored.insert(block, source.bytes(block).to_vec());
                    agent.receiver.handle_bulk_block(now, block);
                }
            }
        }
        if agents.iter().all(|agent| agent.receiver.is_all_complete()) {
            break;
        }
        let next = agents
            .iter()
            .filter_map(|agent| agent.receiver.poll_timeout())
            .chain(sender.poll_timeout())
            .min()
            .unwrap();
        now = next.max(now + multicast::Duration::from_micros(50));
    }
    for agent in &agents {
        assert!(agent.receiver.is_all_complete(), "seed {seed}");
        for index in 0..image.block_count() {
            let block = BlockKey::image(index);
            assert_eq!(
                agent.restored[&block],
                source.bytes(block),
                "seed {seed} block {index}"
            );
        }
        assert!(agent.damaged > 0 && agent.replayed > 0, "seed {seed}");
    }
    // The pieces read back from the blocks equal the original pieces.
    let mut pieces: Vec<Vec<u8>> = lens.iter().map(|len| vec![0; *len as usize]).collect();
    for index in 0..image.block_count() {
        let bytes = &agents[0].restored[&BlockKey::image(index)];
        for part in image.parts(index) {
            let to = part.piece_offset as usize..(part.piece_offset + part.len) as usize;
            let from = part.block_offset as usize..(part.block_offset + part.len) as usize;
            pieces[part.piece as usize][to].copy_from_slice(&bytes[from]);
        }
    }
    assert_eq!(pieces.concat(), source.image.1, "seed {seed}");
}

impl Agent {
    fn take(&mut self, now: Instant, packet: &[u8]) {
        if self.rng.chance(30_000) {
            return;
        }
        let mut bytes = packet.to_vec();
        if self.rng.chance(10_000) {
            let at = self.rng.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << self.rng.below(8);
            self.damaged += 1;
            assert!(self.opener.open(&mut bytes).is_err());
            return;
        }
        let twice = 1 + u32::from(self.rng.chance(10_000));
        for _ in 0..twice {
            let mut bytes = packet.to_vec();
            let (header, payload) = match self.opener.open(&mut bytes) {
                Ok(opened) => opened,
                Err(OpenError::Announce) => return,
                Err(error) => panic!("{error}"),
            };
            if self.replay.take(header.number).is_err() {
                self.replayed += 1;
                continue;
            }
            if let Disposition::Store { slot, first } = self.receiver.handle_packet(now, &header) {
                if first {
                    self.assembly.begin(slot, header.k).unwrap();
                }
                assert!(self.assembly.store(slot, header.symbol, payload).unwrap());
            }
        }
    }

    fn work(&mut self, now: Instant, source: &Source) {
        while let Some(event) = self.receiver.poll_event() {
            match event {
                ReceiverEvent::BlockReady { block, slot, .. } => {
                    let expected = source.bytes(block);
                    let bytes = self
                        .assembly
                        .finish(slot, expected.len() as u32)
                        .unwrap()
                        .to_vec();
                    assert_eq!(bytes, expected);
                    self.restored.insert(block, bytes);
                    self.receiver
                        .handle_block_done(now, block, BlockOutcome::Ok);
                }
                ReceiverEvent::ObjectComplete(ObjectId::Manifest) => {
                    self.receiver.open_image(ImageBlocks {
                        symbol_counts: source.image.0.symbol_counts(),
                        have: BlockSet::empty(source.image.0.block_count()),
                        undecided: BlockSet::empty(0),
                    });
                }
                _ => {}
            }
        }
    }
}

#[test]
fn what_went_in_comes_out() {
    for seed in 0..6 {
        deploy(Suite::Aes128Gcm, seed);
    }
    deploy(Suite::ChaCha20Poly1305, 6);
}
