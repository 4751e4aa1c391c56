//! Benchmarks of diskcast's main costs: chunk codec, parity, seal, and whole capture, check and
//! restore of a small disk.
//!
//! `cargo bench` runs them; `cargo xtask bench peers` measures the disk operations beside
//! partclone. They show what a change costs and are no tests: nothing here passes or fails.

#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(
    clippy::unwrap_used,
    reason = "a benchmark that cannot run should say so at once"
)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use disk::capture::{CaptureOptions, capture};
use disk::check::{Depth, check};
use disk::deployment::Deployment;
use disk::fit::Fit;
use disk::restore;
use disk::survey::SurveyOptions;
use imagefmt::{ChunkId, Decoder, Encoder, Entry, Geometry, Mask};
use multicast::{
    BLOCK_BYTES, Epoch, Flags, Header, Lane, Opener, PACKET_BYTES, PacketKind, PacketNumber,
    SYMBOL_BYTES, Sealer, SessionId, SessionSecret, Suite,
};
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

const MIB: usize = 1 << 20;

/// Bytes that compress about as well as programs and documents: words from a small vocabulary, and
/// some noise.
fn sample(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut bytes = Vec::with_capacity(len + 16);
    while bytes.len() < len {
        let dice = next();
        if dice.is_multiple_of(4) {
            bytes.extend_from_slice(&next().to_le_bytes());
        } else {
            bytes.extend_from_slice(format!("word{} ", dice % 300).as_bytes());
        }
    }
    bytes.truncate(len);
    bytes
}

fn chunk_codec(c: &mut Criterion) {
    let plain = sample(MIB);
    let mask = Mask::full(u32::try_from(MIB).unwrap());
    let geometry = Geometry::new(MIB as u64, 512, 20).unwrap();
    let mut group = c.benchmark_group("chunk");
    group.throughput(Throughput::Bytes(MIB as u64));
    let mut encoder = Encoder::new(3, None).unwrap();
    group.bench_function("encode, level 3", |b| {
        b.iter(|| {
            encoder
                .encode(&mask, black_box(&plain))
                .unwrap()
                .bytes
                .len()
        });
    });
    let (entry, body) = {
        let body = encoder.encode(&mask, &plain).unwrap();
        let entry = Entry {
            chunk: ChunkId(0),
            codec: body.codec,
            body_len: u32::try_from(body.bytes.len()).unwrap(),
            mask: mask.clone(),
            id: body.id,
        };
        (entry, body.bytes.to_vec())
    };
    let mut decoder = Decoder::new(None).unwrap();
    let mut out = Vec::new();
    group.bench_function("decode and check", |b| {
        b.iter(|| {
            decoder
                .decode(&geometry, &entry, black_box(&body), &mut out)
                .unwrap()
                .len()
        });
    });
    group.finish();
}

fn parity(c: &mut Criterion) {
    let block = sample(BLOCK_BYTES as usize);
    let mut group = c.benchmark_group("parity, k=745");
    group.throughput(Throughput::Bytes(u64::from(BLOCK_BYTES)));
    let mut encoder = multicast::Encoder::new();
    group.bench_function("encode 256", |b| {
        b.iter(|| encoder.encode(black_box(&block)).unwrap())
    });
    let parity = encoder.encode(&block).unwrap();
    for losses in [1u16, 7, 37, 64] {
        let mut assembly = multicast::Assembly::new(1);
        group.bench_function(format!("restore {losses} lost"), |b| {
            b.iter(|| {
                assembly.begin(0, 745).unwrap();
                for (index, symbol) in (0u16..).zip(block.chunks(SYMBOL_BYTES)) {
                    if index >= losses {
                        assembly.store(0, index, symbol).unwrap();
                    }
                }
                for index in 0..losses {
                    assembly
                        .store(0, 745 + index, parity.symbol(index).unwrap())
                        .unwrap();
                }
                assembly.finish(0, BLOCK_BYTES).unwrap().len()
            });
        });
    }
    group.finish();
}

fn seal(c: &mut Criterion) {
    let mut group = c.benchmark_group("packet");
    group.throughput(Throughput::Bytes(PACKET_BYTES as u64));
    for (name, suite) in [
        ("aes-128-gcm", Suite::Aes128Gcm),
        ("chacha20-poly1305", Suite::ChaCha20Poly1305),
    ] {
        let secret = SessionSecret::from_bytes([7; 32]);
        let (session, epoch) = (SessionId(1), Epoch::new(0));
        let mut sealer = Sealer::new(&secret, suite, session, epoch).unwrap();
        let opener = Opener::new(&secret, suite, session, epoch).unwrap();
        let payload = [5u8; SYMBOL_BYTES];
        let mut packet = [0u8; PACKET_BYTES];
        let mut number = 0;
        group.bench_function(format!("seal, {name}"), |b| {
            b.iter(|| {
                let header = Header {
                    kind: PacketKind::Data,
                    flags: Flags::NONE,
                    epoch,
                    session,
                    number: PacketNumber::new(Lane::Main, number),
                    block: 0,
                    symbol: 0,
                    k: 745,
                };
                number += 1;
                sealer
                    .seal(&header, black_box(&payload), &mut packet)
                    .unwrap()
            });
        });
        group.bench_function(format!("open, {name}"), |b| {
            b.iter(|| {
                let mut copy = packet;
                opener.open(black_box(&mut copy)).unwrap().1.len()
            });
        });
    }
    group.finish();
}

fn capture_options() -> CaptureOptions {
    CaptureOptions {
        survey: SurveyOptions::default(),
        level: 3,
        chunk_log2: 20,
        sector_size: None,
        note: None,
        set: None,
        password: None,
        created: "2026-01-01T00:00:00Z".into(),
        threads: std::thread::available_parallelism().map_or(2, usize::from),
        volume_bytes: None,
    }
}

/// Capture, checks and restore of 128 MiB of unknown content: every byte is captured, so this
/// measures the pipeline alone.
fn whole_disk(c: &mut Criterion) {
    const DISK: usize = 128 * MIB;
    let folder = tempfile::tempdir().unwrap();
    let (disk, image) = (
        folder.path().join("disk"),
        folder.path().join("image.dcimg"),
    );
    std::fs::write(&disk, sample(DISK)).unwrap();
    let options = capture_options();
    let take = |to: &Path| capture(&disk, to, &options, &|_, _| {}, &|| false).unwrap();
    take(&image);
    let mut group = c.benchmark_group("disk of 128 MiB");
    group
        .throughput(Throughput::Bytes(DISK as u64))
        .sample_size(10);
    let again = folder.path().join("again.dcimg");
    group.bench_function("capture", |b| {
        b.iter(|| {
            take(&again);
            std::fs::remove_file(&again).unwrap();
        });
    });
    for depth in [Depth::Standard, Depth::Deep] {
        group.bench_function(format!("check, {}", depth.as_str()), |b| {
            b.iter(|| {
                check(&image, None, depth, options.threads, &|_, _| {}, &|| false)
                    .unwrap()
                    .chunks
            });
        });
    }
    let target = folder.path().join("target");
    group.bench_function("restore and read back", |b| {
        b.iter(|| {
            let opened = restore::open_image(&image, None).unwrap();
            let facts = restore::target_facts(&target, DISK as u64).unwrap();
            let manifest = Arc::new(opened.manifest().clone());
            let deployment =
                Arc::new(Deployment::prepare(&facts, manifest, None, &Fit::default()).unwrap());
            restore::restore(
                &opened,
                &image,
                &deployment,
                options.threads,
                &|_, _, _| {},
                &|| false,
            )
            .unwrap()
        });
    });
    group.finish();
}

criterion_group!(benches, chunk_codec, parity, seal, whole_disk);
criterion_main!(benches);
