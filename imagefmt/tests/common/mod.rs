//! Small images for the tests of this crate, the same every time.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test binary uses a part"
)]

use imagefmt::*;

/// The SplitMix64 generator: bytes that do not compress, from a seed.
pub struct Noise(pub u64);

impl Noise {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len.div_ceil(8))
            .flat_map(|_| self.next().to_le_bytes())
            .take(len)
            .collect()
    }
}

pub fn text(len: usize) -> Vec<u8> {
    b"the quick brown fox jumps over the lazy dog. "
        .iter()
        .copied()
        .cycle()
        .take(len)
        .collect()
}

/// A chunk in the form supplied by a capture.
#[derive(Clone)]
pub struct Chunk {
    pub id: ChunkId,
    pub mask: Mask,
    pub used: Vec<u8>,
}

impl Chunk {
    pub fn new(id: u32, mask: Mask, fill: impl FnOnce(usize) -> Vec<u8>) -> Self {
        let used = fill(mask.used_bytes() as usize);
        Self {
            id: ChunkId(id),
            mask,
            used,
        }
    }
}

pub fn meta(geometry: &Geometry) -> Meta {
    Meta {
        tool: "diskcast test".into(),
        created: "2026-01-02T03:04:05Z".into(),
        source: SourceDisk {
            path: "/dev/sda".into(),
            size: geometry.disk_size,
            ..SourceDisk::default()
        },
        table_kind: "gpt".into(),
        partitions: vec![PartitionMeta {
            number: 1,
            start: 512,
            length: 4096,
            ..PartitionMeta::default()
        }],
        ..Meta::default()
    }
}

pub fn table(geometry: &Geometry) -> Vec<Region> {
    let sector = geometry.sector_size as usize;
    vec![
        Region {
            offset: 0,
            bytes: text(sector),
        },
        Region {
            offset: 2 * sector as u64,
            bytes: Noise(7).bytes(sector),
        },
    ]
}

pub fn password(word: &str) -> NewPassword {
    NewPassword {
        password: Password::new(word),
        salt: [1; 16],
        key: [2; 32],
        nonce_seed: [3; 32],
    }
}

/// A cheap argon2 cost, because these tests do not depend on it.
pub const CHEAP: KdfCost = KdfCost {
    memory_kib: 8,
    passes: 1,
    lanes: 1,
};

pub fn options(geometry: Geometry, word: Option<&str>) -> WriterOptions {
    WriterOptions {
        password: word.map(password),
        kdf: CHEAP,
        ..WriterOptions::new(geometry, *b"0123456789abcdef")
    }
}

pub fn write(
    geometry: Geometry,
    chunks: &[Chunk],
    word: Option<&str>,
) -> (Vec<u8>, Written<Vec<u8>>) {
    let mut writer = Writer::create(Vec::new(), options(geometry, word)).unwrap();
    let mut encoder = Encoder::new(3, writer.id_key()).unwrap();
    writer.meta(&meta(&geometry)).unwrap();
    writer.table(&table(&geometry)).unwrap();
    for chunk in chunks {
        let body = encoder.encode(&chunk.mask, &chunk.used).unwrap();
        writer.chunk(chunk.id, &chunk.mask, &body).unwrap();
    }
    let mut written = writer.finish().unwrap();
    let bytes = std::mem::take(&mut written.sink);
    assert_eq!(bytes.len() as u64, written.bytes);
    (bytes, written)
}

pub fn open<'a>(bytes: &'a [u8], word: Option<&str>) -> Result<Image<&'a [u8]>> {
    let password = word.map(Password::new);
    Image::open(bytes, bytes.len() as u64, password.as_ref())
}

/// All chunks of the image, decoded.
pub fn contents(image: &Image<&[u8]>) -> Result<Vec<(ChunkId, Vec<u8>)>> {
    let mut decoder = image.decoder()?;
    let (mut body, mut out) = (Vec::new(), Vec::new());
    (0..image.manifest().entries.len())
        .map(|i| {
            let used = image
                .read_chunk(i, &mut decoder, &mut body, &mut out)?
                .to_vec();
            Ok((image.manifest().entries[i].chunk, used))
        })
        .collect()
}

/// The chunks of a disk of 3 chunks and a part of a fourth, of every kind: text, noise, zeros,
/// holes.
pub fn mixed(geometry: &Geometry) -> Vec<Chunk> {
    let len = |n| geometry.chunk_len(ChunkId(n));
    let holes = |n| {
        let mut mask = Mask::empty(len(n));
        mask.set_range(0..5000);
        mask.set_range(len(n) - 1..len(n));
        mask
    };
    vec![
        Chunk::new(0, Mask::full(len(0)), |n| {
            let mut bytes = text(n);
            // The table is there and belongs to no chunk.
            bytes[..3 * geometry.sector_size as usize].fill(0);
            bytes
        }),
        Chunk::new(1, holes(1), |n| Noise(1).bytes(n)),
        Chunk::new(2, holes(2), |n| vec![0; n]),
        Chunk::new(3, Mask::full(len(3)), |n| vec![0; n]),
    ]
}

/// Three chunks with few bytes, so that a test can change every byte of the file: noise, text in a
/// short last chunk, zeros with holes.
pub fn small() -> (Geometry, Vec<Chunk>) {
    let geometry = Geometry::new((2 << 18) + 4096, 512, 18).unwrap();
    let block = |range| {
        let mut mask = Mask::empty(1 << 18);
        mask.set_range(range);
        mask
    };
    let chunks = vec![
        Chunk::new(0, block(4096..8192), |n| Noise(5).bytes(n)),
        Chunk::new(1, block(0..4096), |n| vec![0; n]),
        Chunk::new(2, Mask::full(4096), text),
    ];
    (geometry, chunks)
}

pub fn volume(bytes: &[u8]) -> Vec<Volume<&[u8]>> {
    vec![Volume {
        reader: bytes,
        len: bytes.len() as u64,
    }]
}

pub fn rebuild<'a>(bytes: &'a [u8], word: Option<&str>) -> Result<Rebuilt<&'a [u8]>> {
    let password = word.map(Password::new);
    Image::rebuild(bytes, bytes.len() as u64, password.as_ref())
}

/// The standard check without a password: false if it reports anything.
pub fn passes_standard(bytes: &[u8]) -> bool {
    let Ok(records) = Records::walk(volume(bytes)) else {
        return false;
    };
    let mut scratch = Vec::new();
    records.gaps().is_empty()
        && records.damaged_prologues().is_empty()
        && records.faults().is_empty()
        && records.trailing() == 0
        && records.summary().is_ok()
        && records
            .records()
            .iter()
            .all(|record| records.check(record.position, &mut scratch).is_ok())
}

/// Corrects the prologue's hash, every header's CRC and every stored hash, so that a changed image
/// also reaches the checks behind them.
pub fn reseal(bytes: &mut [u8]) {
    if bytes.len() < 4096 {
        return;
    }
    let hash = blake3::hash(&bytes[..4064]);
    bytes[4064..4096].copy_from_slice(hash.as_bytes());
    let mut at = 4096;
    while at + 128 <= bytes.len() {
        if bytes[at..].starts_with(b"\xd1DCR\r\n\x1a\xd8") {
            let len = u64::from_le_bytes(bytes[at + 24..at + 32].try_into().unwrap());
            if let Some(end) = usize::try_from(len)
                .ok()
                .and_then(|n| n.checked_add(at + 128))
                && let Some(body) = bytes.get(at + 128..end)
            {
                let hash = blake3::hash(body);
                bytes[at + 96..at + 112].copy_from_slice(&hash.as_bytes()[..16]);
            }
            let crc = crc32fast::hash(&bytes[at..at + 124]);
            bytes[at + 124..at + 128].copy_from_slice(&crc.to_le_bytes());
        }
        at += 64;
    }
}
