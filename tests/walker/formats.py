"""Readers of a pool's bytes, written from volume/FORMAT.md alone; numbers in comments are its sections."""

import struct
from collections import namedtuple

from crc32c import crc, crc_from, crc_without, salted

CLUSTER = 4096
PAGE = 512
UNMAPPED, ZERO = 0, 1
SCO_MAX = (1 << 36) - 1
CLUSTERS_MAX = 1 << 50

NONE, DATA, ZEROS, TRUNCATE, VOID, ATTR, SHARE = 0, 0x35, 0x56, 0x93, 0xAC, 0xCA, 0x69
DEAD, RAW, LZ4, REF, META = range(5)


class Bad(Exception):
    pass


def need(condition, what):
    if not condition:
        raise Bad(what)


def zero(data, what):
    need(not any(data), what + ": unused bytes are not zero")


def sco_of(loc):
    return loc >> 16 & SCO_MAX


def slot_of(loc):
    return loc & 0xFFFF


def is_place(loc):
    return sco_of(loc) != 0


def block(data, magic, size, what):
    """1.3: magic, version, checksum."""
    need(len(data) == size, f"{what}: {len(data)} bytes, not {size}")
    need(data[:8] == magic, what + ": no magic")
    (version, sum_) = struct.unpack_from("<II", data, 8)
    need(sum_ == crc_without(data, 12), what + ": bad checksum")
    need(version == 1, f"{what}: version {version}")


def no_features(data, at, what):
    zero(data[at : at + 24], what + ": features")


# --- 2: header ---------------------------------------------------------------------------------

Header = namedtuple(
    "Header",
    "pool stream slots_max number version flags epoch salt created_ns cut_sco cut_batches cut_lsn",
)


def header(data):
    block(data, b"VPSCOHDR", CLUSTER, "header")
    no_features(data, 16, "header")
    f = struct.unpack_from("<16sIIQIIQQqQI4xQ", data, 40)
    h = Header(*f)
    need(h.stream and 32 <= h.slots_max <= 65535 and 1 <= h.number <= SCO_MAX, "header: fields")
    # 1: the first of its stream in its epoch; 2: the file was another SCO's
    need(h.flags < 4, "header: flags")
    need(h.flags & 1 or not (h.cut_sco or h.cut_batches or h.cut_lsn), "header: a cut without its flag")
    zero(data[116:120] + data[128:], "header")
    return h


# --- 3: batch ----------------------------------------------------------------------------------

Batch = namedtuple(
    "Batch",
    "flags salt number stream batch slot epoch entry_count cluster_count closed_lsn durable_lsn"
    " meta_sequence entries sums",
)
Entry = namedtuple("Entry", "lsn object first size mtime count slot kind flags source")
COPY = 1  # flag of a DATA entry that no replay applies


def entry(data, at, what):
    """Fields and ranges of 3.1, but for the place of slots and the checksum."""
    lsn, obj, first, size, mtime, count, slot, kind, flags = struct.unpack_from(
        "<QQQQqIHBB", data, at
    )
    need(kind in (DATA, ZEROS, TRUNCATE, VOID, ATTR, SHARE), f"{what}: kind {kind:02x}")
    source = 0
    (low,) = struct.unpack_from("<I", data, at + 48)
    if kind == SHARE:
        number = (flags >> 4) << 32 | low
        need(number and slot and slot + count <= 65535, what + ": place")
        source, slot, flags = number << 16 | slot, 0, flags & 15
    else:
        need(low == 0, what + ": the unused part is not zero")
    need(lsn and size <= 1 << 62 and first <= CLUSTERS_MAX, what + ": fields")
    need(flags == 0 or (flags == COPY and kind == DATA and size and mtime == 0), what + ": flags")
    need(obj or kind == VOID, what + ": no object")
    if kind in (DATA, SHARE):
        need(bool(slot) == (kind == DATA) and 1 <= count <= PAGE and first % PAGE + count <= PAGE, what + ": range")
    elif kind == ZEROS:
        need(slot == 0 and count, what + ": range")
        need(count == 0xFFFFFFFF or first + count <= CLUSTERS_MAX, what + ": range")
    elif kind in (VOID, ATTR):
        need(slot == 0, what + ": slot")
    return Entry(lsn, obj, first, size, mtime, count, slot, kind, flags, source)


def batch(data):
    need(data[:4] == b"VPBT", "batch: no magic")
    (fixed, whole) = struct.unpack_from("<II", data, 48)
    need(fixed == crc(data[:48]), "batch: bad checksum of the fixed part")
    need(whole == crc_without(data, 52), "batch: bad checksum")
    version, flags, salt, number, stream, no, slot, z, epoch = struct.unpack_from(
        "<HHQQIIIIQ", data, 4
    )
    entries, clusters, z2, closed, durable, sequence, z3 = struct.unpack_from("<HHIQQQQ", data, 56)
    need(version == 1 and flags in (0, 1) and not (z or z2 or z3), "batch: fields")
    need(56 * entries + 4 * clusters <= 4000 and slot + clusters <= 65534, "batch: counts")
    sums = [struct.unpack_from("<I", data, CLUSTER - 4 * (i + 1))[0] for i in range(clusters)]
    found = []
    for i in range(entries):
        at = 96 + 56 * i
        if data[at + 46] == NONE:
            continue
        what = f"batch {no} entry {i}"
        e = entry(data, at, what)
        owned = {DATA: e.count, TRUNCATE: 1 if e.slot else 0}.get(e.kind, 0)
        first = e.slot - slot - 1
        need(not owned or 0 <= first and first + owned <= clusters, what + ": slots")
        # The table grows down: the slice in the order of its bytes.
        part = data[CLUSTER - 4 * (first + owned) : CLUSTER - 4 * first] if owned else b""
        own = crc_from(crc_from(salted(salt), data[at : at + 52]), part)
        need(own == struct.unpack_from("<I", data, at + 52)[0], what + ": bad checksum")
        found.append(e)
    return Batch(
        flags, salt, number, stream, no, slot, epoch, entries, clusters, closed, durable, sequence,
        found, sums,
    )


# --- 4: index ----------------------------------------------------------------------------------

Footer = namedtuple(
    "Footer",
    "pool stream slot_count number version table_chunks epoch salt first_lsn last_lsn table_offset"
    " table_crc log_entries log_offset log_crc batch_count file_bytes durable_lsn",
)
Slot = namedtuple("Slot", "kind stored crc arg")


def footer(data):
    block(data, b"VPSCOEND", CLUSTER, "footer")
    no_features(data, 16, "footer")
    f = Footer(*struct.unpack_from("<16sIIQIIQQQQQIIQIIQQ", data, 40))
    zero(data[160:], "footer")
    need(f.stream and 1 <= f.number <= SCO_MAX and 1 <= f.slot_count <= 65535, "footer: fields")
    need(f.table_chunks == -(-f.slot_count // 255), "footer: chunks")
    need(f.first_lsn <= f.last_lsn and (f.first_lsn or not f.last_lsn), "footer: LSNs")
    need((f.log_entries == 0) == (f.first_lsn == 0), "footer: a log without LSNs, or the reverse")
    need(CLUSTER <= f.table_offset, "footer: place of the table")
    need(f.log_offset >= f.table_offset + CLUSTER * f.table_chunks, "footer: place of the log")
    need(f.log_offset + 56 * f.log_entries <= f.file_bytes - CLUSTER, "footer: place of the log")
    need(f.batch_count < f.slot_count, "footer: batches")
    return f


def slot_table(data, f):
    need(crc(data) == f.table_crc, "slot table: bad checksum")
    slots = []
    for k in range(f.table_chunks):
        chunk = data[CLUSTER * k : CLUSTER * (k + 1)]
        magic, number, sum_, count = struct.unpack_from("<4sIII", chunk)
        need(magic == b"VPSL" and number == k, f"slot table, chunk {k}: head")
        need(sum_ == crc_without(chunk, 8, salted(f.salt)), f"slot table, chunk {k}: bad checksum")
        need(count == min(255, f.slot_count - 255 * k), f"slot table, chunk {k}: count")
        zero(chunk[16 + 16 * count :], f"slot table, chunk {k}")
        for i in range(count):
            kind, z, stored, sum_, arg = struct.unpack_from("<BBHIQ", chunk, 16 + 16 * i)
            what = f"slot {255 * k + i}"
            need(kind <= META and z == 0, what + ": kind")
            if kind in (DEAD, META):
                need(stored == 0 and sum_ == 0 and arg == 0, what + ": fields")
            need(kind != RAW or stored == CLUSTER, what + ": length")
            slots.append(Slot(kind, stored, sum_, arg))
    return slots


def log(data, f):
    need(crc(data) == f.log_crc, "log: bad checksum")
    entries = []
    for i in range(f.log_entries):
        entries.append(entry(data, 56 * i, f"log entry {i}"))
        zero(data[56 * i + 52 : 56 * i + 56], f"log entry {i}")
    lsns = [e.lsn for e in entries]
    need(lsns == sorted(lsns), "log: LSNs are not in order")
    if lsns:
        last = entries[-1]
        end = last.lsn + (last.count - 1 if last.kind == VOID else 0)
        need(lsns[0] == f.first_lsn and end == f.last_lsn, "log: first and last LSN")
    return entries


# --- 5, 6: ring.id, label, chunks.map ----------------------------------------------------------

RingId = namedtuple("RingId", "pool ring_bytes nonce uid clean boot_id path")


def ring_id(data):
    block(data, b"VPRINGID", 512, "ring.id")
    pool, size, nonce, uid, clean = struct.unpack_from("<16sQQIB", data, 16)
    zero(data[53:56] + data[92:96] + data[352:], "ring.id")
    return RingId(pool, size, nonce, uid, clean, data[56:92], data[96:352].rstrip(b"\0").decode())


def label(data):
    block(data, b"VPCACHE1", 128, "label")
    no_features(data, 16, "label")
    zero(data[60:64] + data[72:], "label")
    return struct.unpack_from("<16sI", data, 40)


def chunk_map(data, pool, index):
    """6.1: numbers of slots and what they hold, (SCO, version, chunk, blocks), None for nothing."""
    block(data[:4096], b"VPCHUNKS", 4096, "chunks.map")
    no_features(data, 16, "chunks.map")
    zero(data[64:4096], "chunks.map")
    need(struct.unpack_from("<16sI", data, 40) == (pool, index), "chunks.map: of another pool or place")
    (count,) = struct.unpack_from("<I", data, 60)
    for slot in range(count):
        entry = data[4096 + 32 * slot : 4128 + 32 * slot].ljust(32, b"\0")
        if not any(entry):
            continue
        (sum_, version, sco, chunk, blocks, kind, main, frequency) = struct.unpack_from("<IIQIHBBB", entry)
        what = f"chunks.map: slot {slot}"
        need(sum_ == crc_from(slot, entry[4:]), what + ": bad checksum")
        zero(entry[25:], what)
        if kind == 0x56:
            zero(entry[4:22] + entry[23:], what)
            yield slot, None
            continue
        need(kind == 0x35 and blocks and main < 2 and frequency < 4, what)
        need(1 <= sco <= SCO_MAX and chunk < 1 << 14, what + ": impossible chunk")
        yield slot, (sco, version, chunk, blocks)


# --- 7: rows -----------------------------------------------------------------------------------

ObjectRow = namedtuple("ObjectRow", "cls template live_layer created_ns origins")
LayerRow = namedtuple("LayerRow", "state object parent limit origin_base mark_stream mark")
ScoRow = namedtuple(
    "ScoRow",
    "state flags version cache_dir slot_count live_slots epoch salt object_epoch file_bytes"
    " footer_crc first_lsn last_lsn",
)
SnapshotRow = namedtuple("SnapshotRow", "layer created size root flags name")
ResolvedRow = namedtuple("ResolvedRow", "sequence page")
LAYER_LIVE, LAYER_FROZEN, LAYER_DROPPED = 1, 2, 3
SCO_OPEN, SCO_SEALED = 1, 2
UPLOADED, LINKED = 1, 2

_SIMPLE = {
    "P": ("<24s16sQqI", namedtuple("PoolRow", "features pool epoch created_ns sco_bytes")),
    "K": ("<Q", namedtuple("CounterRow", "high_water")),
    "S": ("<IQ", namedtuple("StreamRow", "cls owner")),
    "C": ("<QQB", namedtuple("CheckpointRow", "lsn replay_sco damaged")),
    "L": ("<BQQQIIQ", LayerRow),
    "R": ("<QQ", namedtuple("RootRow", "number epoch")),
    "v": ("<Q", namedtuple("MovedRow", "sequence")),
    "o": ("<QqQQ", namedtuple("StateRow", "size mtime_ns mapped lsn")),
    "s": ("<BBIIIIQQQQIQQ", ScoRow),
}


def row(kind, data):
    what = f"row '{kind}'"
    need(len(data) >= 5, what + ": too short")
    need(struct.unpack("<I", data[-4:])[0] == crc(kind.encode() + data[:-4]), what + ": bad checksum")
    need(data[0] == 1, f"{what}: version {data[0]}")
    fields = data[1:-4]
    if kind == "c":
        need(len(fields) == 8, what + ": length")
        return None
    if kind == "r":
        sequence, size = struct.unpack_from("<QI", fields)
        need(sequence != 0 and len(fields) == 12 + size, what + ": fields")
        return ResolvedRow(sequence, fields[12:])
    if kind == "O":
        cls, flags, live, created, count = struct.unpack_from("<IIQqI", fields)
        need(cls in (1, 2) and flags < 2 and 1 <= count <= 4095, what + ": fields")
        need(len(fields) == 28 + 12 * count, what + ": length")
        origins = [struct.unpack_from("<IQ", fields, 28 + 12 * i) for i in range(count)]
        need(all(stream for stream, _ in origins), what + ": a stream 0")
        return ObjectRow(cls, flags == 1, live, created, origins)
    if kind == "N":
        layer, created, size, root, flags, name, comment = struct.unpack_from("<QqQQIBI", fields)
        need(len(fields) == 41 + name + comment and name > 0, what + ": length")
        need(layer != 0 and flags < 2, what + ": fields")
        return SnapshotRow(layer, created, size, root, flags, fields[41 : 41 + name])
    form, make = _SIMPLE[kind]
    need(len(fields) == struct.calcsize(form), what + ": length")
    value = make(*struct.unpack(form, fields))
    if kind == "s":
        need(value.state in (1, 2) and value.flags < 4, what + ": state")
        need(value.slot_count <= 65535 and value.live_slots <= 65535, what + ": counts")
    if kind == "L":
        need(value.state in (1, 2, 3), what + ": state")
    return value


def condemned(data):
    """The name in an X row."""
    need(5 <= len(data) <= 131, "row 'X': length")
    need(data[-4:] == struct.pack("<I", crc_from(0x58, data[:-4])), "row 'X': bad checksum")
    return data[:-4].decode("ascii")


def key_numbers(key, count):
    need(len(key) == 1 + 8 * count, f"key of {len(key)} bytes")
    return struct.unpack(f">{count}Q", key[1:])


# --- 7.3: rows of the namespace ----------------------------------------------------------------

Inode = namedtuple(
    "Inode",
    "mode nlink uid gid rdev atime mtime ctime crtime mtime_lsn mtime_stream xattrs parent cookie"
    " cookie_next entries mtime_object",
)


def fs_row(key, data):
    """(kind, inode or parent, rest of the key, fields) of an F row; key without the F."""
    kind = key[:1].decode("latin-1")
    what = f"row 'F{kind}'"
    need(len(key) >= 9 and len(data) >= 5, what + ": length")
    need(struct.unpack("<I", data[-4:])[0] == crc(key + data[:-4]), what + ": bad checksum")
    need(data[0] == 1, f"{what}: version {data[0]}")
    (ino,) = struct.unpack(">Q", key[1:9])
    rest, f = key[9:], data[1:-4]
    if kind == "i":
        need(not rest, what + ": key")
        value = Inode(*struct.unpack_from("<IIIIQqqqqQIIQQQQq", f))
        (target,) = struct.unpack_from("<H", f, 112)
        need(len(f) == 114 + target and (target != 0) == (value.mode >> 12 == 0o12), what + ": target")
        return kind, ino, rest, value
    if kind == "d":
        need(len(rest) == 8 and len(f) == 10 + f[9] and f[9], what + ": length")
        return kind, ino, rest, (f[0], struct.unpack_from("<Q", f, 1)[0], f[10:])
    if kind == "n":
        need(1 <= len(rest) <= 255 and len(f) == 17, what + ": length")
        return kind, ino, rest, (f[0], *struct.unpack_from("<QQ", f, 1))
    if kind == "a":
        need(not rest and len(f) == 24, what + ": length")
        return kind, ino, rest, struct.unpack("<QQQ", f)
    if kind == "t":
        when, parent, length = struct.unpack_from("<qQH", f)
        path = f[18:]
        need(not rest and len(path) == length and 0 < length < 4096 and b"\0" not in path, what + ": path")
        need(path[0] == 47 and path[-1] != 47 if b"/" in path else length < 256, what + ": path")
        return kind, ino, rest, (when, parent, path)
    need(kind in "ox", what + ": kind")
    need(kind == "x" and rest or kind == "o" and not rest and not f, what + ": length")
    return kind, ino, rest, f


# --- 8: pages ----------------------------------------------------------------------------------


def page_value(data, want):
    """[(first, count, location, checksums or None)...] of a base (1) or a delta (2)."""
    need(8 <= len(data) <= 8200, "page: length")
    version, kind, count, sum_ = struct.unpack_from("<BBHI", data)
    need(sum_ == crc_without(data, 4), "page: bad checksum")
    need(version == 1 and kind == want, f"page: version {version}, kind {kind}")
    at, end, runs = 8, 0, []
    for _ in range(count):
        need(at + 12 <= len(data), "page: too short")
        first, clusters, loc = struct.unpack_from("<HHQ", data, at)
        at += 12
        sums = None
        if first & 0x8000:
            first &= 0x7FFF
            need(at + 4 * clusters <= len(data), "page: too short")
            sums = struct.unpack_from(f"<{clusters}I", data, at)
            at += 4 * clusters
        need(clusters and end <= first and first + clusters <= PAGE, "page: runs")
        if is_place(loc):
            need(loc >> 52 == 0, "page: an origin")
            need(slot_of(loc) and slot_of(loc) + clusters <= 65535, "page: slots")
        else:
            need(loc in (UNMAPPED, ZERO) and sums is None, "page: location")
        end = first + clusters
        runs.append((first, clusters, loc, sums))
    need(at == len(data), "page: bytes behind its runs")
    return runs


# --- 9: objects --------------------------------------------------------------------------------

Image = namedtuple("Image", "kind pool stream epoch lsn rows")
Named = namedtuple("Named", "name size crc")
ManifestSco = namedtuple(
    "ManifestSco", "number version slot_count object_epoch file_bytes footer_crc first_lsn last_lsn"
)
Manifest = namedtuple("Manifest", "pool stream epoch root lsn map_lsn map scos")
Root = namedtuple("Root", "pool epoch number created_ns ns streams condemned packs")
Pack = namedtuple("Pack", "pool epoch number members")
# Incompat features: of a pool's row; of that and of a root (COPIES: logs may have entries with the flag
# COPY; TRASH: there may be rows Ft; TEMPLATES: objects may have the flag; SHARES: logs may have SHARE).
SNAPSHOTS, PACKS, COPIES, TRASH, RESOLVED, TEMPLATES, SHARES = 1, 2, 4, 8, 16, 32, 64


def _ends_with_crc(data, magic, what):
    need(len(data) >= 16 and data[:8] == magic, what + ": no magic")
    need(struct.unpack("<I", data[-4:])[0] == crc(data[:-4]), what + ": bad checksum")
    (version,) = struct.unpack_from("<I", data, 8)
    need(version == 1, f"{what}: version {version}")


def _named(data, at, what):
    size = data[at]
    name = data[at + 1 : at + 1 + size].decode("ascii")
    need(len(name) == size and at + size + 13 <= len(data), what + ": a name is cut off")
    return at + size + 13, Named(name, *struct.unpack_from("<QI", data, at + 1 + size))


def image(data):
    _ends_with_crc(data, b"VPROWIMG", "image")
    kind, pool, stream, z, epoch, lsn, count = struct.unpack_from("<I16sIIQQQ", data, 12)
    need(kind in (1, 2, 3) and z == 0 and (kind == 1) == (stream == 0), "image: fields")
    at, rows = 64, []
    for _ in range(count):
        key_bytes, z, value_bytes = struct.unpack_from("<HHI", data, at)
        at += 8
        need(1 <= key_bytes <= 384 and z == 0 and value_bytes <= 1 << 20, "image: a row")
        rows.append((data[at : at + key_bytes], data[at + key_bytes : at + key_bytes + value_bytes]))
        at += key_bytes + value_bytes
        need(at <= len(data) - 4, "image: too short")
    need(at == len(data) - 4, "image: bytes behind its rows")
    return Image(kind, pool, stream, epoch, lsn, rows)


def map_piece(data):
    """(layers, Named) in a row of a map's index."""
    what = "row 'p'"
    need(len(data) >= 24, what + ": length")
    need(struct.unpack("<I", data[-4:])[0] == crc(b"p" + data[:-4]), what + ": bad checksum")
    need(data[0] == 1, f"{what}: version {data[0]}")
    at, named = _named(data, 5, what)
    need(at == len(data) - 4 and named.name, what + ": name")
    return struct.unpack_from("<I", data, 1)[0], named


def pack_row(data):
    """None of a pack's own row, else (offset, Named) of a member."""
    what = "row 'B'"
    need(len(data) >= 21, what + ": length")
    need(struct.unpack("<I", data[-4:])[0] == crc(b"B" + data[:-4]), what + ": bad checksum")
    need(data[0] == 1, f"{what}: version {data[0]}")
    if len(data) == 21:
        size, directory, count = struct.unpack_from("<QII", data, 1)
        need(directory <= size and 1 <= count <= 2000, what + ": fields")
        return None
    at, named = _named(data, 9, what)
    need(at == len(data) - 4 and named.name, what + ": name")
    return struct.unpack_from("<Q", data, 1)[0], named


def pack(data, end):
    """The directory of a pack, whose members end where it begins."""
    _ends_with_crc(data, b"VPPACK01", "pack")
    count, pool, epoch, number = struct.unpack_from("<I16sQQ", data, 12)
    at, members, place = 48, {}, 0
    for _ in range(count):
        (offset,) = struct.unpack_from("<Q", data, at)
        at, named = _named(data, at + 8, "pack")
        need(offset == place and named.name not in members, "pack: members are not side by side")
        members[named.name] = (offset, named)
        place += named.size
    need(at == len(data) - 4 and place == end, "pack: its members do not fill it")
    return Pack(pool, epoch, number, members)


def manifest(data):
    _ends_with_crc(data, b"VPMANIF1", "manifest")
    count, pool, stream, z, epoch, root, lsn, map_lsn = struct.unpack_from("<I16sIIQQQQ", data, 12)
    at, map_ = _named(data, 72, "manifest")
    need(stream and z == 0 and at + 56 * count == len(data) - 4, "manifest: fields")
    scos = []
    for i in range(count):
        scos.append(ManifestSco(*struct.unpack_from("<QIIQQI4xQQ", data, at + 56 * i)))
        zero(data[at + 56 * i + 36 : at + 56 * i + 40], "manifest")
    numbers = [s.number for s in scos]
    need(numbers == sorted(set(numbers)), "manifest: SCOs are not in order")
    return Manifest(pool, stream, epoch, root, lsn, map_lsn, map_, scos)


def root(data):
    _ends_with_crc(data, b"VPROOT01", "root")
    (packs,) = struct.unpack_from("<I", data, 12)
    compat, ro_compat, incompat = struct.unpack_from("<QQQ", data, 16)
    need(
        compat == ro_compat == 0 and incompat & ~(COPIES | TRASH | TEMPLATES | SHARES) == (PACKS if packs else 0),
        "root: features",
    )
    pool, epoch, number, created, streams, condemned = struct.unpack_from("<16sQQqII", data, 40)
    at, ns = _named(data, 88, "root")
    found, names = [], []
    for _ in range(streams):
        (stream,) = struct.unpack_from("<I", data, at)
        at, named = _named(data, at + 4, "root")
        found.append((stream, named))
    for _ in range(condemned):
        size = data[at]
        names.append(data[at + 1 : at + 1 + size].decode("ascii"))
        at += 1 + size
    lists = []
    for _ in range(packs):
        at, named = _named(data, at, "root")
        lists.append((named, struct.unpack_from("<I", data, at)[0]))
        at += 4
    need(at == len(data) - 4, "root: bytes behind its end")
    need([s for s, _ in found] == sorted({s for s, _ in found}), "root: streams are not in order")
    return Root(pool, epoch, number, created, ns, found, names, lists)
