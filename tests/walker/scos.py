"""One SCO, from its file or its object: header, batches, index, clusters."""

import os
from collections import namedtuple

import formats as f
from crc32c import crc

# slots: of formats.Slot; entries: the log; cut: (number, batches, LSN) or None
Sco = namedtuple("Sco", "stream number version epoch salt slots entries cut sealed footer_crc bytes")


def _clusters(data, slots, say):
    for n, slot in enumerate(slots):
        if slot.kind != f.RAW:
            continue
        if slot.arg + f.CLUSTER > len(data):
            say(f"slot {n} lies behind the end of the file")
        elif crc(data[slot.arg : slot.arg + f.CLUSTER]) != slot.crc:
            say(f"slot {n}: the cluster's checksum is wrong")


def _batches(data, head, end):
    """The chain of batches in the slots 1..end - 1, each where the one before ends."""
    found, at = [], 1
    while at < end:
        b = f.batch(data[at * f.CLUSTER : (at + 1) * f.CLUSTER])
        own = (b.stream, b.number, b.salt, b.epoch, b.batch, b.slot)
        want = (head.stream, head.number, head.salt, head.epoch, len(found), at)
        f.need(own == want, f"batch at slot {at}: it belongs to another place")
        found.append(b)
        at += 1 + b.cluster_count
    f.need(at == end, f"the batches end at slot {at}, not {end}")
    return found


def _slots_of_batches(batches, end):
    slots = [f.Slot(f.META, 0, 0, 0)] + [f.Slot(f.DEAD, 0, 0, 0)] * (end - 1)
    for b in batches:
        slots[b.slot] = f.Slot(f.META, 0, 0, 0)
        for e in b.entries:
            for n in range(*owned(e)):
                slots[n] = f.Slot(f.RAW, f.CLUSTER, b.sums[n - b.slot - 1], n * f.CLUSTER)
    return slots


def owned(e):
    """Slots that an entry owns: first and end."""
    if e.kind == f.DATA:
        return e.slot, e.slot + e.count
    return e.slot, e.slot + (1 if e.kind == f.TRUNCATE and e.slot else 0)


def _same_fields(what, **pairs):
    for name, (a, b) in pairs.items():
        f.need(a == b, f"{what}: {name} is {a}, not {b}")


def _read_sealed(data, head, say):
    foot = f.footer(data[-f.CLUSTER :])
    _same_fields(
        "footer",
        pool=(foot.pool, head.pool),
        stream=(foot.stream, head.stream),
        number=(foot.number, head.number),
        version=(foot.version, head.version),
        salt=(foot.salt, head.salt),
        file_bytes=(foot.file_bytes, len(data)),
    )
    f.need(foot.slot_count <= head.slots_max, "footer: more slots than the header allows")
    table_end = foot.table_offset + f.CLUSTER * foot.table_chunks
    slots = f.slot_table(data[foot.table_offset : table_end], foot)
    entries = f.log(data[foot.log_offset : foot.log_offset + 56 * foot.log_entries], foot)
    f.zero(data[table_end : foot.log_offset], "between table and log")
    f.zero(data[foot.log_offset + 56 * foot.log_entries : -f.CLUSTER], "behind the log")
    if head.version == 0:
        # Nothing was left out yet: the index says what the batches say.
        batches = _batches(data, head, foot.slot_count)
        f.need(len(batches) == foot.batch_count, "footer: another number of batches")
        logged = sorted((e for b in batches for e in b.entries), key=lambda e: e.lsn)
        f.need(logged == entries, "the log is not what the batches hold")
        for n, (a, b) in enumerate(zip(slots, _slots_of_batches(batches, foot.slot_count))):
            # Places without a cluster are DEAD or META, whichever.
            if a != b and (a.kind, b.kind) != (f.DEAD, f.META):
                say(f"slot {n}: the table says {a}, the batches {b}")
    for e in entries:
        for n in range(*owned(e)):
            if n >= len(slots) or slots[n].kind not in (f.RAW, f.LZ4, f.REF):
                say(f"LSN {e.lsn}: its slot {n} holds no cluster")
    return foot, slots, entries


def read(path, slot_count, sealed, say):
    """
    The SCO, or None after say(what) for damage that makes the rest unreadable. Of an open one the
    first slot_count slots count.
    """
    with open(path, "rb") as file:
        data = file.read()
    try:
        head = f.header(data[: f.CLUSTER])
        if sealed:
            foot, slots, entries = _read_sealed(data, head, say)
        else:
            batches = _batches(data, head, slot_count) if slot_count else []
            slots = _slots_of_batches(batches, max(slot_count, 1))
            entries = sorted((e for b in batches for e in b.entries), key=lambda e: e.lsn)
            foot = None
    except f.Bad as bad:
        say(str(bad))
        return None
    _clusters(data, slots, say)
    return Sco(
        stream=head.stream,
        number=head.number,
        version=head.version,
        epoch=head.epoch,
        salt=head.salt,
        slots=slots,
        entries=entries,
        cut=(head.cut_sco, head.cut_batches, head.cut_lsn) if head.flags & 1 else None,
        sealed=sealed,
        footer_crc=crc(data[-f.CLUSTER :]) if foot else 0,
        bytes=len(data),
    )


def same_file(a, b):
    return os.path.samestat(os.stat(a), os.stat(b))
