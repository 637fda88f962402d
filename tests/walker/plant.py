#!/usr/bin/env python3
"""
plant - the walker on a pool whose rows are changed on their way to it, checksums right, so that only what
rows say about each other is wrong: what no damaged file would show.

usage: plant.py POOL live|place|checksum|name|inode|object|layer|uploaded|condemned|snapshot|size|resolved|
                     template|trash
"""

import os
import struct
import sys

import formats as f
import rocks
import walk
from crc32c import crc, crc_without


EMPTY_PAGE = b"\1\1\0\0" + struct.pack("<I", crc_without(b"\1\1" + bytes(6), 4))


def sealed(kind, value):
    """A value with its checksum made right."""
    return value[:-4] + struct.pack("<I", crc(kind + value[:-4]))


def changed_sco(value, at, by):
    (number,) = struct.unpack_from("<I", value, at)
    return sealed(b"s", value[:at] + struct.pack("<I", number + by) + value[at + 4 :])


def changed_page(value, what):
    """In the newest part of it, a place: the next slot, or one checksum that is another."""
    parts = rocks.merged_list(value)
    data, at = parts[-1], 8
    for _, _, loc, sums in f.page_value(data, 1 if len(parts) == 1 else 2):
        if f.is_place(loc) and (what == "place" or sums):
            if what == "place":
                data = data[: at + 4] + struct.pack("<Q", loc + 1) + data[at + 12 :]
            else:
                data = data[: at + 12] + struct.pack("<I", sums[0] ^ 1) + data[at + 16 :]
            data = data[:4] + struct.pack("<I", crc_without(data, 4)) + data[8:]
            return rocks.as_list(parts[:-1] + [data])
        at += 12 + 4 * len(sums or ())
    return None


def changed(what, key, value):
    """The row as it should be found, b"" to leave it out, None: it is not one of those."""
    kind = chr(key[0])
    if what == "live" and kind == "s":
        return changed_sco(value, 15, 1)
    if what == "uploaded" and kind == "s":
        return sealed(b"s", value[:2] + b"\0" + value[3:])
    if what == "snapshot" and kind == "N":
        return sealed(b"N", value[:1] + struct.pack("<Q", 12345) + value[9:])
    if what == "template" and kind == "O":
        return sealed(b"O", value[:5] + b"\1" + value[6:])
    if what == "size" and kind == "N":
        return sealed(b"N", value[:17] + struct.pack("<Q", 4097) + value[25:])
    if what == "resolved" and kind == "r":
        return sealed(b"r", value[:9] + struct.pack("<I", 8) + EMPTY_PAGE + value[-4:])
    if what in ("place", "checksum") and kind == "m":
        return changed_page(value, what)
    gone = {"trash": b"Ft", "name": b"Fn", "inode": b"Fi", "object": b"O", "layer": b"L", "condemned": b"X"}
    return b"" if what in gone and key.startswith(gone[what]) else None


def main():
    if len(sys.argv) != 3:
        print(__doc__.strip(), file=sys.stderr)
        return 2
    what, planted = sys.argv[2], False
    rows = rocks.rows(os.path.join(sys.argv[1], "meta"))
    for family in rows.values():
        for i in reversed(range(len(family))):
            key, value = family[i]
            new = None if planted else changed(what, key, value)
            if new is not None:
                planted = True
                family[i : i + 1] = [(key, new)] if new else []
    if not planted:
        print(f"plant: no row to change for '{what}'", file=sys.stderr)
        return 2
    rocks.rows = lambda _directory: rows
    return walk.Walk(os.path.abspath(sys.argv[1])).run()


if __name__ == "__main__":
    sys.exit(main())
