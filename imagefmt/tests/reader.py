"""A reader of master images, written from docs/image-format.md alone: the oracle of imagefmt/tests/oracle.rs.

reader.py [--password WORD] IMAGE[,VOLUME2,...] ...      prints one line of JSON for each image:

  opens     false when a reader has to refuse it; then only `why` follows
  root, content, uuid, chunks, used, signers, labels
  disk      BLAKE3 of the restored disk, or null when a chunk has to be refused
  faults    what the check has to name (standard, and deep where the image is readable)
  behind    bytes behind the end
"""

import json
import re
import struct
import sys
import unicodedata
import zlib

import blake3
import nacl.bindings
import nacl.exceptions
import nacl.signing
import zstandard
from argon2.low_level import Type, hash_secret_raw

MAGIC = b"\x89DCI\r\n\x1a\n"
SYNC = b"\xd1DCR\r\n\x1a\xd8"
META, TABLE, CHUNK, INDEX, SIG, TRAILER, PROLOGUE, LABELS = range(1, 9)
OPEN = (SIG, TRAILER, PROLOGUE)
SEARCH, SEARCH_DIVIDED = 16 << 20, 1 << 20


class Refused(Exception):
    """The image must not be opened."""


class Damaged(Exception):
    """One structure or chunk does not hold."""


def hash_of(data, key=None):
    return blake3.blake3(data, key=key).digest() if key else blake3.blake3(data).digest()


def derive(context, data):
    return blake3.blake3(data, derive_key_context=context).digest()


def padded(length):
    return -(-length // 64) * 64


class Prologue:
    def __init__(self, data):
        if len(data) < 4096 or data[:8] != MAGIC:
            raise Damaged("no prologue")
        (major,) = struct.unpack_from("<H", data, 8)
        if major != 1:
            raise Damaged(f"version {major}")
        if hash_of(data[:4064]) != data[4064:4096]:
            raise Damaged("prologue hash")
        compatible, _, incompatible = struct.unpack_from("<QQQ", data, 16)
        if struct.unpack_from("<I", data, 12)[0] != 4096:
            raise Damaged("prologue length")
        if incompatible & ~1:
            raise Refused(f"feature {incompatible:#x}")
        self.divided = bool(compatible & 1)
        self.encrypted = bool(incompatible & 1)
        self.uuid = data[40:56]
        self.volume, self.exponent, slots, hashing, block = struct.unpack_from("<IBBBB", data, 56)
        (self.sector,) = struct.unpack_from("<I", data, 64)
        (self.size,) = struct.unpack_from("<Q", data, 72)
        if hashing != 1 or block != 12:
            raise Refused("hash or block size")
        if not 18 <= self.exponent <= 22 or self.sector not in (512, 1024, 2048, 4096):
            raise Refused("geometry")
        if self.size == 0 or self.size % self.sector:
            raise Refused("disk size")
        if slots > 8 or self.encrypted != (slots > 0):
            raise Refused("key slots")
        self.slots = [data[256 + 256 * n : 512 + 256 * n] for n in range(slots)]
        self.same = data[:56] + data[60:4064]

    @property
    def chunk(self):
        return 1 << self.exponent

    def chunk_length(self, number):
        return max(0, min(self.chunk, self.size - number * self.chunk))

    def identity(self):
        text = self.uuid + struct.pack("<QIBB", self.size, self.sector, self.exponent, self.encrypted)
        return derive("diskcast image identity 1", text)


class Record:
    """A header whose CRC holds."""

    def __init__(self, data, at):
        if len(data) < at + 128 or data[at : at + 8] != SYNC:
            raise Damaged(f"no record at {at}")
        self.header = data[at : at + 128]
        if struct.unpack_from("<I", self.header, 124)[0] != zlib.crc32(self.header[:124]):
            raise Damaged(f"CRC at {at}")
        self.at = at
        self.kind, form, self.cipher, self.hashing, self.chunk = struct.unpack_from("<BBBBI", self.header, 8)
        self.codec, self.masked = form & 0x7F, bool(form & 0x80)
        self.uuid = self.header[16:24]
        self.stored_length, self.plain_length = struct.unpack_from("<QQ", self.header, 24)
        self.nonce, self.id, self.stored_hash = self.header[40:64], self.header[64:96], self.header[96:112]
        self.length = padded(128 + self.stored_length)

    @property
    def known(self):
        return self.kind in range(1, 9)

    def validate(self, prologue):
        if self.hashing != 1:
            raise Damaged("unknown hash")
        if self.uuid != prologue.uuid[:8]:
            raise Damaged("another image")
        if not self.known:
            return
        if self.codec > 2:
            raise Damaged("unknown codec")
        if self.cipher > 1:
            raise Damaged("unknown cipher")
        if self.header[112:124] != bytes(12):
            raise Damaged("reserved bytes")
        if bool(self.cipher) != (prologue.encrypted and self.kind not in OPEN):
            raise Damaged("cipher")
        if not self.cipher and self.nonce != bytes(24):
            raise Damaged("nonce")
        body = self.stored_length - 16 * self.cipher
        mask = 0
        if self.kind == CHUNK:
            length = prologue.chunk_length(self.chunk)
            mask = -(-(-(-length // 4096)) // 8) if self.masked else 0
            used = self.plain_length - mask
            if length == 0 or used <= 0 or used > length or (used == length) == self.masked:
                raise Damaged("chunk length")
            self.used = used
        elif self.chunk or self.masked or self.codec == 2:
            raise Damaged("no chunk")
        fits = {0: body == self.plain_length, 1: 0 <= body <= self.plain_length, 2: body == mask}
        if not fits[self.codec]:
            raise Damaged("length and codec")

    def stored(self, data):
        """The stored bytes, after their hash and their padding."""
        end = self.at + 128 + self.stored_length
        stored = data[self.at + 128 : end]
        if len(stored) != self.stored_length or hash_of(stored)[:16] != self.stored_hash:
            raise Damaged(f"stored bytes at {self.at}")
        if data[end : self.at + self.length] != bytes(self.length - 128 - self.stored_length):
            raise Damaged(f"padding at {self.at}")
        return stored


class Image:
    def __init__(self, volumes, word):
        self.volumes, self.word = volumes, word
        self.faults, self.keys = [], None
        self.prologue = self.find_prologue()
        self.trailer_at, self.trailer = self.find_trailer()
        if self.prologue.encrypted:
            self.keys = self.unlock()
        self.read_index()
        self.read_tail()

    # Prologue and trailer

    def candidates(self, limit):
        data = self.volumes[-1]
        at = len(data) // 64 * 64 - 64
        stop = max(4096, len(data) - limit)
        while at >= stop:
            if data[at : at + 9] == SYNC + bytes([TRAILER]):
                yield at
            at -= 64

    def find_prologue(self):
        found, wrong = None, []
        for number, data in enumerate(self.volumes):
            try:
                one = Prologue(data)
                if one.volume != number:
                    raise Refused("volumes out of order")
                if found and one.same != found.same:
                    raise Refused("volumes of two images")
                found = found or one
            except Damaged as error:
                wrong.append((number, error))
        for at in self.candidates(SEARCH) if not found or 0 in [number for number, _ in wrong] else []:
            data = self.volumes[-1]
            try:
                copy = Record(data, at - 4224)
                if copy.kind == PROLOGUE and copy.stored_length == 4096:
                    found = Prologue(data[copy.at + 128 : copy.at + 4224])
                    break
            except Damaged:
                continue
        if not found:
            raise Refused("no prologue")
        self.faults += [f"prologue of volume {number + 1}" for number, _ in wrong]
        return found

    def find_trailer(self):
        before = sum(map(len, self.volumes[:-1]))
        for at in self.candidates(SEARCH_DIVIDED if self.prologue.divided else SEARCH):
            try:
                record = Record(self.volumes[-1], at)
                record.validate(self.prologue)
                body = record.stored(self.volumes[-1])
                if len(body) != 128 or hash_of(body[:96]) != body[96:] or hash_of(body) != record.id:
                    continue
            except Damaged:
                continue
            fields = dict(zip(("index_volume", "volumes", "index", "index_length", "chunks", "used", "total"),
                              struct.unpack_from("<IIQQQQQ", body)))
            fields["root"] = body[48:80]
            end = before + at + 256
            fits = end == fields["total"] if len(self.volumes) == 1 else end >= fields["total"]
            if fits and fields["volumes"] == len(self.volumes):
                return at, fields
        raise Refused("no trailer")

    # Keys

    def unlock(self):
        tried = False
        for slot in self.prologue.slots:
            kind, memory, passes, lanes = struct.unpack_from("<IIII", slot)
            if kind != 1 or memory > 1 << 20 or passes > 16 or lanes > 16 or self.word is None:
                continue
            tried = True
            key = hash_secret_raw(self.word, slot[16:32], passes, memory, lanes, 32, Type.ID, 19)
            try:
                image = nacl.bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(
                    slot[56:104], self.prologue.identity() + slot[:32], slot[32:56], key)
            except nacl.exceptions.CryptoError:
                continue
            uses = ("record", "content id")
            return {use: derive(f"diskcast image {use} key 1", image) for use in uses}
        raise Refused("wrong password" if tried else "no password, or no slot for one")

    @property
    def id_key(self):
        return self.keys and self.keys["content id"]

    # Records

    def body(self, volume, record):
        stored = record.stored(self.volumes[volume])
        if not record.cipher:
            return stored
        try:
            body = nacl.bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(
                stored, record.header[:96], record.nonce, self.keys["record"])
        except nacl.exceptions.CryptoError:
            raise Damaged("decryption") from None
        return body

    def plain(self, volume, record):
        body = self.body(volume, record)
        if record.codec == 1:
            body = unpack(body, record.plain_length)
        if len(body) != record.plain_length:
            raise Damaged("plain length")
        key = self.id_key if record.cipher else None
        if record.kind != CHUNK and hash_of(body, key) != record.id:
            raise Damaged("id")
        return body

    def read_index(self):
        volume, at = self.trailer["index_volume"], self.trailer["index"]
        try:
            record = Record(self.volumes[volume], at)
            record.validate(self.prologue)
            if record.kind != INDEX or record.length != self.trailer["index_length"]:
                raise Damaged("no index")
            data = self.plain(volume, record)
            self.parse_index(data)
        except (Damaged, struct.error, IndexError) as error:
            raise Refused(f"index: {error}") from None

    def parse_index(self, data):
        prologue = self.prologue
        head = b"DCMANI1\n" + prologue.uuid + struct.pack(
            "<QIBBBB", prologue.size, prologue.sector, prologue.exponent, prologue.encrypted, 1, 12)
        if data[:40] != head or data[52:56] != bytes(4):
            raise Damaged("its head")
        meta, table, count = struct.unpack_from("<III", data, 40)
        self.meta, self.table_bytes = data[56 : 56 + meta], data[56 + meta : 56 + meta + table]
        if not isinstance(json.loads(self.meta), dict):
            raise Damaged("META")
        self.table = parse_table(self.table_bytes, prologue)
        at, last, self.entries = 56 + meta + table, -1, []
        for _ in range(count):
            chunk, length, form = struct.unpack_from("<IIB", data, at)
            name, at = data[at + 9 : at + 41], at + 41
            size = prologue.chunk_length(chunk)
            blocks = -(-size // 4096)
            if chunk <= last or size == 0 or form & 0x7F > 2:
                raise Damaged("entries")
            last = chunk
            bits = (1 << blocks) - 1
            mask = bits.to_bytes(-(-blocks // 8), "little")
            if form & 0x80:
                mask, at = data[at : at + len(mask)], at + len(mask)
                value = int.from_bytes(mask, "little")
                if value == 0 or value >= bits:
                    raise Damaged("mask")
            self.entries.append((chunk, length, form & 0x7F, name, mask, bool(form & 0x80)))
        self.places = [struct.unpack_from("<IQ", data, at + 12 * n) for n in range(count)]
        if len(data) != at + 12 * count:
            raise Damaged("its length")
        content = struct.pack("<QIBB", prologue.size, prologue.sector, prologue.exponent, prologue.encrypted)
        content += hash_of(self.table_bytes)
        content += b"".join(struct.pack("<I", e[0]) + e[3] for e in self.entries) + struct.pack("<Q", count)
        self.content = derive("diskcast image content 1", content)
        self.root = derive("diskcast image root 1", prologue.identity() + hash_of(self.meta) + self.content)
        self.used = sum(self.used_of(e) for e in self.entries)
        trailer = self.trailer
        if (self.root, count, self.used) != (trailer["root"], trailer["chunks"], trailer["used"]):
            raise Damaged("root or counts")

    def used_of(self, entry):
        size = self.prologue.chunk_length(entry[0])
        return sum(b - a for a, b in runs(entry[4], size))

    def read_tail(self):
        data, at = self.volumes[-1], self.trailer["index"] + self.trailer["index_length"]
        self.signers, self.labels = [], {}
        while at < self.trailer_at:
            try:
                record = Record(data, at)
                record.validate(self.prologue)
            except Damaged:
                break
            at += record.length
            try:
                if record.kind == LABELS:
                    self.labels = labels_of(self.plain(len(self.volumes) - 1, record))
                    continue
                body = record.stored(data) if record.kind == SIG else b""
            except Damaged:
                continue
            if len(body) < 2 or struct.unpack_from("<H", body)[0] != 1:
                continue
            if body[2:8] != struct.pack("<HHH", 32, 64, 0) or len(body) != 104:
                raise Refused("signature")
            try:
                message = b"diskcast image signature 1\0" + self.root
                nacl.signing.VerifyKey(body[8:40]).verify(message, body[40:104])
            except nacl.exceptions.BadSignatureError:
                raise Refused("signature") from None
            self.signers.append(body[8:40].hex())

    # Content

    def read_chunk(self, index):
        chunk, length, codec, name, mask, masked = self.entries[index]
        volume, at = self.places[index]
        record = Record(self.volumes[volume], at)
        record.validate(self.prologue)
        given = hash_of(name + struct.pack("<I", chunk), self.id_key) if self.keys else name
        if (record.kind, record.chunk, record.codec, record.masked, record.id) != (CHUNK, chunk, codec, masked, given):
            raise Damaged(f"chunk {chunk}: another record")
        body = self.body(volume, record)
        size = self.prologue.chunk_length(chunk)
        used_length = self.used_of(self.entries[index])
        plain_length = used_length + (len(mask) if masked else 0)
        if len(body) != length or record.plain_length != plain_length:
            raise Damaged(f"chunk {chunk}: length")
        plain = {0: lambda: body, 1: lambda: unpack(body, plain_length), 2: lambda: bytes(used_length) + body}[codec]()
        used = plain[:used_length]
        if len(plain) != plain_length or masked and plain[used_length:] != mask:
            raise Damaged(f"chunk {chunk}: mask")
        if hash_of(used + mask, self.id_key) != name:
            raise Damaged(f"chunk {chunk}: id")
        pieces, at = [], 0
        for start, end in runs(mask, size):
            pieces.append((chunk * self.prologue.chunk + start, used[at : at + end - start]))
            at += end - start
        for start, piece in pieces:
            for offset, region in self.table:
                low, high = max(start, offset), min(start + len(piece), offset + len(region))
                if low < high and any(piece[low - start : high - start]):
                    raise Damaged(f"chunk {chunk}: table bytes")
        return pieces

    def disk(self):
        disk = bytearray(self.prologue.size)
        for index in range(len(self.entries)):
            for start, piece in self.read_chunk(index):
                disk[start : start + len(piece)] = piece
        for offset, region in self.table:
            disk[offset : offset + len(region)] = region
        return hash_of(bytes(disk)).hex()

    # Check

    def walk(self):
        """Every record of the file; what stands between them is a fault, what stands behind the end is not."""
        found, gap, self.behind = [], False, 0
        grown = []
        for number, data in enumerate(self.volumes):
            at = 4096
            while at < len(data):
                if number == len(self.volumes) - 1 and at == self.trailer_at + 256:
                    self.behind += len(data) - at
                    self.look_behind(data, at)
                    break
                try:
                    record = Record(data, at)
                    record.validate(self.prologue)
                    if at + record.length > len(data):
                        raise Damaged("it is cut")
                    record.stored(data)
                    found.append((number, record))
                    at += record.length
                except Damaged as error:
                    if data[at : at + 8] != SYNC and number < len(self.volumes) - 1:
                        grown.append(len(data) - at)
                    else:
                        self.faults.append(str(error))
                        gap = True
                    break
        self.behind += sum(grown)
        total = sum(map(len, self.volumes[:-1])) + self.trailer_at + 256
        if total - sum(grown) != self.trailer["total"]:
            self.faults.append("total")
        return found, gap

    def look_behind(self, data, at):
        """A record of the image right behind its end is an addition that no trailer follows."""
        try:
            record = Record(data, at)
            record.validate(self.prologue)
        except Damaged:
            return
        if at + record.length <= len(data):
            self.faults.append("addition")

    def check(self):
        found, gap = self.walk()
        self.faults += [f"record type {r.kind}" for _, r in found if not r.known and r.kind < 128]
        if gap:
            return
        kinds = [record.kind for _, record in found]
        if kinds[:1] != [META] or kinds[-1:] != [TRAILER]:
            self.faults.append("first or last record")
        if kinds.count(TABLE) != 1 or kinds.count(INDEX) != 1:
            self.faults.append("TABLE or INDEX")
        for here, following in zip(kinds, kinds[1:] + [0]):
            if (here == PROLOGUE) != (following == TRAILER):
                self.faults.append("PROLOGUE and TRAILER")
        chunks = [(volume, r) for volume, r in found if r.kind == CHUNK]
        if CHUNK in kinds[kinds.index(INDEX) :] if INDEX in kinds else False:
            self.faults.append("chunk behind the index")
        if len({r.chunk for _, r in chunks}) != len(chunks):
            self.faults.append("chunk twice")
        if len(chunks) != self.trailer["chunks"] or sum(r.used for _, r in chunks) != self.trailer["used"]:
            self.faults.append("counts")
        if {(volume, r.at) for volume, r in chunks} - set(self.places):
            self.faults.append("chunk that is not in the index")
        for kind, data in ((META, self.meta), (TABLE, self.table_bytes)):
            last = [r for _, r in found if r.kind == kind][-1:]
            if last and last[0].id != hash_of(data, self.id_key):
                self.faults.append("META or TABLE and the index")


def unpack(body, length):
    try:
        return zstandard.ZstdDecompressor().decompress(body, max_output_size=length)
    except zstandard.ZstdError:
        raise Damaged("zstd") from None


def runs(mask, size):
    """Used blocks of a chunk, each as first byte and end."""
    for block in range(-(-size // 4096)):
        if mask[block // 8] >> block % 8 & 1:
            yield block * 4096, min(size, block * 4096 + 4096)


def labels_of(data):
    try:
        labels = json.loads(data)
    except ValueError:
        return {}
    if not isinstance(labels, dict) or len(labels) > 64:
        return {}
    for name, text in labels.items():
        fits = isinstance(text, str) and len(text.encode()) <= 4096
        if not fits or not re.fullmatch("[a-z0-9._-]{1,64}", name):
            return {}
    return labels


def parse_table(data, prologue):
    (count,) = struct.unpack_from("<I", data)
    at, end, table = 4, 0, []
    for _ in range(count):
        offset, length = struct.unpack_from("<QI", data, at)
        table.append((offset, data[at + 12 : at + 12 + length]))
        at += 12 + length
        if length == 0 or offset < end or offset % prologue.sector or length % prologue.sector:
            raise Damaged("TABLE")
        end = offset + length
    if at != len(data) or end > prologue.size or not table or table[0][0] != 0:
        raise Damaged("TABLE")
    return table


def report(paths, word):
    volumes = []
    for path in paths:
        with open(path, "rb") as file:
            volumes.append(file.read())
    try:
        image = Image(volumes, word)
    except Refused as error:
        return {"opens": False, "why": str(error)}
    image.check()
    try:
        disk = image.disk()
    except Damaged as error:
        image.faults.append(str(error))
        disk = None
    return {
        "opens": True, "root": image.root.hex(), "content": image.content.hex(), "uuid": image.prologue.uuid.hex(),
        "chunks": len(image.entries), "used": image.used, "signers": image.signers, "labels": image.labels,
        "disk": disk, "faults": image.faults, "behind": image.behind,
    }


def main(arguments):
    word = None
    if arguments[:1] == ["--password"]:
        word, arguments = unicodedata.normalize("NFC", arguments[1]).encode(), arguments[2:]
    for argument in arguments:
        print(json.dumps(report(argument.split(","), word)))


if __name__ == "__main__":
    main(sys.argv[1:])
