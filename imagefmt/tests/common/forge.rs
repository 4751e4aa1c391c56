//! A second writer of images, made from the document alone, so that tests can write images that the
//! real writer refuses. Nothing is encrypted or compressed, so the bytes never change.

use imagefmt::{SigningKey, VerifyingKey};

const SYNC: &[u8] = b"\xd1DCR\r\n\x1a\xd8";
pub const UUID: [u8; 16] = *b"0123456789abcdef";
/// Size of a chunk of the test disk: 256 KiB.
pub const CHUNK: usize = 1 << 18;

/// A chunk: number, blocks in use (bit 0 is the first 4 KiB), content.
#[derive(Clone)]
pub struct Piece {
    pub number: u32,
    pub blocks: u64,
    pub used: Vec<u8>,
    /// The body as a zstd frame; without one the body is raw.
    pub frame: Option<Vec<u8>>,
}

/// The contents of an image. Parts stored twice can differ between the record and the index.
#[derive(Clone)]
pub struct Forge {
    pub disk_size: u64,
    pub sector: u32,
    pub incompatible: u64,
    pub names: Vec<(u8, u8, &'static str)>,
    /// Bytes of the prologue that differ from those this version writes, with their offsets.
    pub head: Vec<(usize, Vec<u8>)>,
    pub meta: String,
    pub index_meta: Option<String>,
    pub table: Vec<(u64, Vec<u8>)>,
    pub index_table: Option<Vec<(u64, Vec<u8>)>>,
    /// Chunk records.
    pub pieces: Vec<Piece>,
    /// Entries of the index, as indexes into `pieces`.
    pub listed: Vec<usize>,
    /// Complete records before META, before the index and behind it.
    pub first: Vec<Vec<u8>>,
    pub before: Vec<Vec<u8>>,
    pub behind: Vec<Vec<u8>>,
    pub chunks: Option<u64>,
    pub used_bytes: Option<u64>,
    pub with_copy: bool,
}

impl Default for Forge {
    /// A disk of three chunks and a part of a fourth; two of them have content.
    fn default() -> Self {
        Self {
            disk_size: 3 * CHUNK as u64 + 8192,
            sector: 512,
            incompatible: 0,
            names: Vec::new(),
            head: Vec::new(),
            meta: r#"{"tool":"forge","created":"2026-01-02T03:04:05Z","table_kind":"mbr"}"#.into(),
            index_meta: None,
            table: vec![(0, b"table".iter().copied().cycle().take(512).collect())],
            index_table: None,
            pieces: vec![
                Piece {
                    number: 0,
                    blocks: 0b11,
                    used: blank_first_sector(0x11),
                    frame: None,
                },
                Piece {
                    number: 2,
                    blocks: 0b100,
                    used: vec![0x22; 4096],
                    frame: None,
                },
            ],
            listed: vec![0, 1],
            first: Vec::new(),
            before: Vec::new(),
            behind: Vec::new(),
            chunks: None,
            used_bytes: None,
            with_copy: true,
        }
    }
}

fn blank_first_sector(byte: u8) -> Vec<u8> {
    let mut used = vec![byte; 8192];
    used[..512].fill(0);
    used
}

impl Piece {
    fn mask(&self) -> Vec<u8> {
        self.blocks.to_le_bytes().to_vec()
    }

    fn id(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.used);
        hasher.update(&self.mask());
        hasher.finalize().into()
    }

    /// The plain form: used bytes and mask.
    pub fn plain(&self) -> Vec<u8> {
        [self.used.clone(), self.mask()].concat()
    }

    fn body(&self) -> Vec<u8> {
        self.frame.clone().unwrap_or_else(|| self.plain())
    }

    /// The codec, with bit 7 if a mask follows.
    fn form(&self) -> u8 {
        0x80 | u8::from(self.frame.is_some())
    }
}

/// Makes a complete record. `codec` has bit 7 set if the body ends with a mask.
pub fn record(kind: u8, codec: u8, chunk: u32, id: [u8; 32], body: &[u8]) -> Vec<u8> {
    let mut out = SYNC.to_vec();
    out.extend_from_slice(&[kind, codec, 0, 1]);
    out.extend_from_slice(&chunk.to_le_bytes());
    out.extend_from_slice(&UUID[..8]);
    out.extend_from_slice(&(body.len() as u64).to_le_bytes());
    out.extend_from_slice(&(body.len() as u64).to_le_bytes());
    out.resize(64, 0);
    out.extend_from_slice(&id);
    out.extend_from_slice(&blake3::hash(body).as_bytes()[..16]);
    out.resize(124, 0);
    let crc = crc32fast::hash(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(body);
    out.resize(out.len().next_multiple_of(64), 0);
    out
}

/// Makes a record with the hash of its body as id.
pub fn plain_record(kind: u8, body: &[u8]) -> Vec<u8> {
    record(kind, 0, 0, blake3::hash(body).into(), body)
}

/// Changes a byte of a record's header and corrects its CRC.
pub fn with_header_byte(mut record: Vec<u8>, at: usize, byte: u8) -> Vec<u8> {
    record[at] = byte;
    let crc = crc32fast::hash(&record[..124]);
    record[124..128].copy_from_slice(&crc.to_le_bytes());
    record
}

pub fn chunk_record(piece: &Piece) -> Vec<u8> {
    let mut record = record(3, piece.form(), piece.number, piece.id(), &piece.body());
    for (at, byte) in (32..).zip((piece.plain().len() as u64).to_le_bytes()) {
        record = with_header_byte(record, at, byte);
    }
    record
}

fn table_bytes(table: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let mut out = (table.len() as u32).to_le_bytes().to_vec();
    for (offset, bytes) in table {
        out.extend_from_slice(&offset.to_le_bytes());
        out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        out.extend_from_slice(bytes);
    }
    out
}

impl Forge {
    pub fn prologue(&self) -> Vec<u8> {
        let mut out = b"\x89DCI\r\n\x1a\n".to_vec();
        out.extend_from_slice(&1u16.to_le_bytes());
        out.extend_from_slice(&0u16.to_le_bytes());
        out.extend_from_slice(&4096u32.to_le_bytes());
        out.resize(32, 0);
        out.extend_from_slice(&self.incompatible.to_le_bytes());
        out.extend_from_slice(&UUID);
        out.extend_from_slice(&0u32.to_le_bytes());
        out.extend_from_slice(&[18, 0, 1, 12]);
        out.extend_from_slice(&self.sector.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.disk_size.to_le_bytes());
        out.resize(2304, 0);
        for (class, number, name) in &self.names {
            let end = out.len() + 32;
            out.extend_from_slice(&[*class, *number]);
            out.extend_from_slice(name.as_bytes());
            out.resize(end, 0);
        }
        out.resize(4064, 0);
        for (at, bytes) in &self.head {
            out[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        let hash = blake3::hash(&out);
        out.extend_from_slice(hash.as_bytes());
        out
    }

    /// The image in two volumes; the second chunk and everything behind it are in the second.
    pub fn divided(&self) -> [Vec<u8>; 2] {
        let of = |number: u8| {
            let mut forge = self.clone();
            forge.head.push((16, vec![1]));
            forge.head.push((56, vec![number]));
            forge.prologue()
        };
        let mut one = of(0);
        one.extend(plain_record(1, self.meta.as_bytes()));
        one.extend(plain_record(2, &table_bytes(&self.table)));
        let mut two = of(1);
        let places = [(0, one.len() as u64), (1, two.len() as u64)];
        one.extend(chunk_record(&self.pieces[0]));
        two.extend(chunk_record(&self.pieces[1]));
        let two = self.end(two, &of(0), &places, one.len() as u64);
        [one, two]
    }

    fn index_meta(&self) -> &str {
        self.index_meta.as_deref().unwrap_or(&self.meta)
    }

    fn index_table(&self) -> Vec<u8> {
        table_bytes(self.index_table.as_deref().unwrap_or(&self.table))
    }

    pub fn root(&self) -> [u8; 32] {
        let mut identity = blake3::Hasher::new_derive_key("diskcast image identity 1");
        identity.update(&UUID);
        identity.update(&self.disk_size.to_le_bytes());
        identity.update(&self.sector.to_le_bytes());
        identity.update(&[18, 0]);
        let mut content = blake3::Hasher::new_derive_key("diskcast image content 1");
        content.update(&self.disk_size.to_le_bytes());
        content.update(&self.sector.to_le_bytes());
        content.update(&[18, 0]);
        content.update(blake3::hash(&self.index_table()).as_bytes());
        for &place in &self.listed {
            content.update(&self.pieces[place].number.to_le_bytes());
            content.update(&self.pieces[place].id());
        }
        content.update(&(self.listed.len() as u64).to_le_bytes());
        let mut root = blake3::Hasher::new_derive_key("diskcast image root 1");
        root.update(identity.finalize().as_bytes());
        root.update(blake3::hash(self.index_meta().as_bytes()).as_bytes());
        root.update(content.finalize().as_bytes());
        root.finalize().into()
    }

    fn index(&self, places: &[(u32, u64)]) -> Vec<u8> {
        let table = self.index_table();
        let mut out = b"DCMANI1\n".to_vec();
        out.extend_from_slice(&UUID);
        out.extend_from_slice(&self.disk_size.to_le_bytes());
        out.extend_from_slice(&self.sector.to_le_bytes());
        out.extend_from_slice(&[18, 0, 1, 12]);
        for len in [self.index_meta().len(), table.len(), self.listed.len(), 0] {
            out.extend_from_slice(&(len as u32).to_le_bytes());
        }
        out.extend_from_slice(self.index_meta().as_bytes());
        out.extend_from_slice(&table);
        for &place in &self.listed {
            let piece = &self.pieces[place];
            out.extend_from_slice(&piece.number.to_le_bytes());
            out.extend_from_slice(&(piece.body().len() as u32).to_le_bytes());
            out.push(piece.form());
            out.extend_from_slice(&piece.id());
            out.extend_from_slice(&piece.mask());
        }
        for &place in &self.listed {
            out.extend_from_slice(&places[place].0.to_le_bytes());
            out.extend_from_slice(&places[place].1.to_le_bytes());
        }
        out
    }

    /// The image as one file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = self.prologue();
        out.extend(self.first.concat());
        out.extend(plain_record(1, self.meta.as_bytes()));
        out.extend(plain_record(2, &table_bytes(&self.table)));
        let mut places = Vec::new();
        for piece in &self.pieces {
            places.push((0, out.len() as u64));
            out.extend(chunk_record(piece));
        }
        out.extend(self.before.concat());
        self.end(out, &self.prologue(), &places, 0)
    }

    /// Appends the end of the last volume, from the index on; `earlier` is the length of the volume
    /// before it, if there is one.
    fn end(&self, mut out: Vec<u8>, copy: &[u8], places: &[(u32, u64)], earlier: u64) -> Vec<u8> {
        let volume = u32::from(earlier > 0);
        let index_at = out.len() as u64;
        let index = plain_record(4, &self.index(places));
        out.extend_from_slice(&index);
        out.extend(self.behind.concat());
        if self.with_copy {
            out.extend(plain_record(7, copy));
        }
        let used: usize = self.listed.iter().map(|&p| self.pieces[p].used.len()).sum();
        let mut trailer = volume.to_le_bytes().to_vec();
        trailer.extend_from_slice(&(volume + 1).to_le_bytes());
        for field in [
            index_at,
            index.len() as u64,
            self.chunks.unwrap_or(self.listed.len() as u64),
            self.used_bytes.unwrap_or(used as u64),
            earlier + out.len() as u64 + 256,
        ] {
            trailer.extend_from_slice(&field.to_le_bytes());
        }
        trailer.extend_from_slice(&self.root());
        trailer.resize(96, 0);
        let hash = blake3::hash(&trailer);
        trailer.extend_from_slice(hash.as_bytes());
        out.extend(plain_record(6, &trailer));
        out
    }
}

/// Makes the body of a signature over `root` with the key of these secret bytes.
pub fn signature(secret: [u8; 32], root: [u8; 32]) -> (Vec<u8>, VerifyingKey) {
    use ed25519_dalek::Signer;
    let key = ed25519_dalek::SigningKey::from_bytes(&secret);
    let message = [b"diskcast image signature 1\0".as_slice(), &root].concat();
    let mut body = Vec::new();
    for field in [1u16, 32, 64, 0] {
        body.extend_from_slice(&field.to_le_bytes());
    }
    body.extend_from_slice(&key.verifying_key().to_bytes());
    body.extend_from_slice(&key.sign(&message).to_bytes());
    (body, SigningKey::from_bytes(&secret).public())
}
