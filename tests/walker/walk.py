#!/usr/bin/env python3
"""
walk - an independent walker: compares what is reachable in a pool that nobody has mounted with what is
there. It reads volume/FORMAT.md's bytes with its own readers and shares no code with the engine.

usage: walk.py POOL

It prints one line a problem and one of counts, and exits 0: all agrees, 1: something does not,
2: wrong use. The backend must be a directory (file:).
"""

import os
import re
import stat
import sys
import tempfile
import time
from collections import Counter

import formats as f
import maps
import rocks
import scos
from crc32c import crc

SCO_FILE = re.compile(r"([0-9a-f]{8})-([0-9a-f]{9})-([0-9a-f]{8})")
POOL_FILES = {"cache", "lock", "meta", "objects", "reserve", "ring.id", "vpool.conf", "vpool.log"}
OBJECT = re.compile(
    "root/([0-9a-f]{16})-[0-9a-f]{16}|(?:ns|pack|[0-9a-f]{8}/(?:manifest|map|piece|sco))/[-0-9a-f]+-([0-9a-f]{16})"
)
PROBLEMS_MAX = 50
DAY_S = 86400


def name_sco(stream, number, version, epoch):
    return f"{stream:08x}/sco/{number:09x}-{version:08x}-{epoch:016x}"


def name_pack(epoch, number):
    return f"pack/{number:016x}-{epoch:016x}"


def epoch_of(name):
    """The epoch in an object's name; 0: it has none."""
    parts = OBJECT.fullmatch(name)
    return int(parts.group(1) or parts.group(2), 16) if parts else 0


class Walk:
    def __init__(self, pool):
        self.pool = pool
        self.problems = 0
        self.counts = Counter()
        self.changed = set()  # (layer, area) of rows that changed since their map was stored
        self.rows = maps.Layers()  # as the rows of STATE and NAMES have it
        self.sco_rows = {}  # number -> (stream, ScoRow)
        self.state_rows = {}  # layer -> StateRow
        self.page_refs = []  # (layer, cluster, location, checksum or None)
        self.streams, self.checkpoints = {}, {}
        self.resolved, self.moved = {}, 0  # (layer, page) -> (checkpoint, places); last move's
        self.condemned = {}  # name -> numbers of the roots that say so
        self.pool_row = self.root_row = None
        self.fs = {"i": {}, "d": {}, "n": {}, "o": set(), "t": {}, "x": Counter()}
        self.local, self.remote = {}, {}  # number -> Sco
        self.packs = {}  # name -> {name of a member: (offset, Named)}, as the rows have it
        self.packed = {}  # name of a member -> (name of its pack, offset, size, checksum)
        self.taken_out = None  # directory of members, each as a file

    def say(self, what):
        self.problems += 1
        if self.problems <= PROBLEMS_MAX:
            print(what)

    # --- configuration ---

    def settings(self):
        """[(directory, its index)...] of the cache, and the directory of the objects."""
        section, dirs, url = "", [], ""
        with open(os.path.join(self.pool, "vpool.conf"), encoding="utf-8") as file:
            for line in file:
                line = line.strip()
                if line.startswith("["):
                    section = line.strip("[]")
                elif "=" in line and line[0] not in "#;":
                    key, value = (part.strip() for part in line.split("=", 1))
                    if (section, key) == ("cache", "dir"):
                        dirs.append(value.rsplit(":", 1)[0])
                    elif (section, key) == ("backend", "url"):
                        url = value
        if url and not url.startswith("file:"):
            raise SystemExit(f"walk: the backend '{url}' is not a directory")
        path = re.sub("^file:(//)?", "", url) or os.path.join(self.pool, "objects")
        return dirs or [os.path.join(self.pool, "cache")], path

    # --- rows ---

    def take_row(self, kind, key, value):
        if kind == "F":
            kind, ino, rest, fields = f.fs_row(key[1:], value)
            if kind == "o":
                self.fs["o"].add(ino)
            elif kind == "x":
                self.fs["x"][ino] += 1
            elif kind != "a":  # answers of the daemons of one mount: nothing to any other
                self.fs[kind][(ino, rest) if rest else ino] = fields
        elif kind == "X":
            number, _ = f.key_numbers(key, 2)
            self.condemned.setdefault(f.condemned(value), set()).add(number)
        elif kind == "B":
            epoch, rest = f.key_numbers(key, 2)
            members, member = self.packs.setdefault(name_pack(epoch, rest >> 16), {}), f.pack_row(value)
            f.need((member is None) == (rest & 0xFFFF == 0), "row 'B': a pack's or a member's")
            if member:
                members[member[1].name] = member
        elif kind == "m":
            layer, number = f.key_numbers(key, 2)
            places = maps.page(rocks.merged_list(value))
            self.rows.add_page(layer, number, places)
            for n, (loc, sum_) in places.items():
                if f.is_place(loc):
                    self.page_refs.append((layer, number * f.PAGE + n, loc, sum_))
            self.counts["pages"] += 1
        elif kind == "s":
            stream, number = f.key_numbers(key, 2)
            f.need(number not in self.sco_rows, f"SCO {number:x} has two rows")
            self.sco_rows[number] = (stream, f.row(kind, value))
        elif kind == "N":
            self.rows.snapshots[f.key_numbers(key, 2)] = f.row(kind, value)
        elif kind == "r":
            row = f.row(kind, value)
            places = {n: loc for n, (loc, _) in maps.page([row.page]).items() if f.is_place(loc)}
            self.resolved[f.key_numbers(key, 2)] = (row.sequence, places)
        elif kind == "c":
            f.row(kind, value)
            self.changed.add(f.key_numbers(key, 2))
        else:
            (number,) = f.key_numbers(key, 1)
            self.take_simple(kind, number, f.row(kind, value))

    def take_simple(self, kind, number, row):
        self.rows.add_names(kind, number, row)
        if kind == "P":
            self.pool_row = row
        elif kind == "R":
            self.root_row = row
        elif kind == "S":
            self.streams[number] = row
        elif kind == "C":
            self.checkpoints[number] = row
        elif kind == "o":
            self.state_rows[number] = row
        elif kind == "v":
            self.moved = row.sequence

    def take_rows(self):
        for family, rows in rocks.rows(os.path.join(self.pool, "meta")).items():
            for key, value in rows:
                kind = chr(key[0])
                self.counts["rows"] += 1
                try:
                    f.need(kind in {"names": "PKSCOLRXFBN", "state": "omscrv"}.get(family, ""), "kind")
                    self.take_row(kind, key, value)
                except f.Bad as bad:
                    self.say(f"row {key.hex()} of {family}: {bad}")
        if not self.pool_row:
            raise SystemExit("walk: the pool's own row is missing")

    # --- files of the pool and its cache ---

    def look_at_pool_directory(self, default_cache):
        self.look_at_ring()
        names = POOL_FILES if default_cache else POOL_FILES - {"cache"}
        for name in sorted(set(os.listdir(self.pool)) - names):
            self.say(f"pool: '{name}' is nobody's")

    def look_at_ring(self):
        own = os.stat(self.pool)
        start = f"vpool-{self.pool_row.pool.hex()}-{own.st_dev:x}-{own.st_ino:x}-"
        for directory in ("/dev/shm", self.pool):
            for name in os.listdir(directory):
                if name.startswith(start):
                    self.say(f"ring: '{directory}/{name}' is there, and the pool is closed")
        with open(os.path.join(self.pool, "ring.id"), "rb") as file:
            try:
                ring = f.ring_id(file.read())
                f.need(ring.pool == self.pool_row.pool and ring.clean == 1, "ring.id: not closed")
            except f.Bad as bad:
                self.say(str(bad))

    def look_at_cache(self, index, directory):
        with open(os.path.join(directory, "label"), "rb") as file:
            try:
                f.need(f.label(file.read()) == (self.pool_row.pool, index), "of another pool or place")
            except f.Bad as bad:
                self.say(f"cache '{directory}': label: {bad}")
        self.look_at_chunks(index, directory)
        for name in sorted(set(os.listdir(directory)) - {"label", "sco", "chunks", "chunks.map"}):
            self.say(f"cache: '{name}' is nobody's")
        for name in sorted(os.listdir(os.path.join(directory, "sco"))):
            self.look_at_sco_file(index, os.path.join(directory, "sco", name), name)

    def look_at_chunks(self, index, directory):
        """Of a closed pool the map says what is there. Whether the bytes are right is for those who read."""
        path = os.path.join(directory, "chunks")
        if not os.path.exists(path + ".map"):
            return
        size, chunks = os.path.getsize(path), set()
        with open(path + ".map", "rb") as file:
            try:
                for slot, held in f.chunk_map(file.read(), self.pool_row.pool, index):
                    f.need(not held or held[0:3:2] not in chunks, f"chunks.map: slot {slot}: a second one")
                    f.need(not held or slot << 16 < size, f"chunks.map: slot {slot}: behind the end")
                    chunks.add(held and held[0:3:2])
            except f.Bad as bad:
                self.say(f"cache '{directory}': {bad}")

    def look_at_sco_file(self, index, path, name):
        parts = SCO_FILE.fullmatch(name)
        stream, number, version = (int(p, 16) for p in parts.groups()) if parts else (0, 0, 0)
        owner, row = self.sco_rows.get(number, (0, None))
        if not row or (owner, row.version, row.cache_dir) != (stream, version, index):
            self.say(f"cache: '{name}' is named by no row")
            return
        self.counts["files"] += 1
        self.take_sco(path, stream, number, row, lambda what: self.say(f"cache: '{name}': {what}"))

    def take_sco(self, path, stream, number, row, say):
        sco = scos.read(path, row.slot_count, row.state == f.SCO_SEALED, say)
        self.local[number] = sco
        if not sco:
            return
        self.counts["clusters"] += sum(s.kind == f.RAW for s in sco.slots)
        own = (sco.stream, sco.number, sco.version)
        if own != (stream, number, row.version):
            say("header and row disagree")
        # A restore does not know the salt; the row has it once somebody needed it.
        if row.salt and (sco.epoch, sco.salt) != (row.epoch, row.salt):
            say("header and row disagree in epoch or salt")
        if sco.sealed:
            own = (sco.bytes, sco.footer_crc, len(sco.slots))
            if own != (row.file_bytes, row.footer_crc, row.slot_count):
                say(f"the file {own} and its row {row} disagree")

    def look_for_missing_files(self):
        for number, (stream, row) in sorted(self.sco_rows.items()):
            if number in self.local or not (row.slot_count or row.state == f.SCO_SEALED):
                pass
            elif row.state == f.SCO_SEALED and row.flags & f.UPLOADED:
                self.look_at_absent(stream, number, row)
            else:
                self.say(f"SCO {number:x} of stream {stream:x}: its file is missing")
            if stream not in self.streams:
                self.say(f"SCO {number:x}: its stream {stream:x} has no row")

    def look_at_absent(self, stream, number, row):
        """It is on the backend only."""
        self.counts["absent"] += 1
        name = name_sco(stream, number, row.version, row.object_epoch)
        path = self.path_of(name)
        if os.path.exists(path):  # else it is told where the backend is looked at
            self.take_sco(path, stream, number, row, lambda what: self.say(f"'{name}': {what}"))

    # --- maps against SCOs ---

    def look_at_maps(self):
        counted, layers = Counter(), set()
        for layer, cluster, loc, sum_ in self.page_refs:
            number, slot = f.sco_of(loc), f.slot_of(loc)
            counted[number] += 1
            self.counts["mapped"] += 1
            at = f"layer {layer:x} cluster {cluster:x}: SCO {number:x} slot {slot}"
            layers.add(layer)
            if number not in self.sco_rows:
                self.say(f"{at}: the SCO has no row")
            elif self.local.get(number):
                slots = self.local[number].slots
                if slot >= len(slots) or slots[slot].kind not in (f.RAW, f.LZ4, f.REF):
                    self.say(f"{at}: the slot holds no cluster")
                elif sum_ is not None and sum_ != slots[slot].crc:
                    self.say(f"{at}: map and SCO have different checksums")
        for layer in sorted(layers - set(self.rows.rows)):
            self.say(f"pages of layer {layer:x}: the layer has no row")
        for number, (_, row) in sorted(self.sco_rows.items()):
            if row.live_slots != counted[number]:
                self.say(f"SCO {number:x}: counts {row.live_slots} live, maps name {counted[number]}")

    def look_at_state(self, what, layer, state):
        """Counts of a layer against what it shows with all below it."""
        seen = self.rows.effective_of(layer)
        if not state:
            if seen:
                self.say(f"{what}: maps, but no state")
            return
        if state.mapped != len(seen):
            self.say(f"{what}: counts {state.mapped} mapped clusters, has {len(seen)}")
        if seen and max(seen) >= -(-state.size // f.CLUSTER):
            self.say(f"{what}: has clusters behind its end")

    def look_at_objects(self):
        kept = set()
        for obj, row in sorted(self.rows.objects.items()):
            chain = self.rows.chain(obj)
            kept.update(chain)
            self.counts["objects"] += 1
            if not chain or self.rows.rows[chain[-1]].parent:
                self.say(f"object {obj:x}: a layer of it is missing")
                continue
            live = self.rows.rows[chain[0]]
            if (live.object, live.state) != (obj, f.LAYER_LIVE):
                self.say(f"object {obj:x}: its live layer is another's, or none")
            # What is frozen may be another's: then it is a clone.
            if any(self.rows.rows[layer].state != f.LAYER_FROZEN for layer in chain[1:]):
                self.say(f"object {obj:x}: a layer below its live one is not frozen")
            if row.template and (self.rows.places.get(chain[0]) or self.rows.zeros.get(chain[0])):
                self.say(f"object {obj:x}: a template, and its live layer holds something")
            if row.template and not self.pool_row.features[16] & f.TEMPLATES:
                self.say("pool: it has a template, and its row does not say so")
            # A layer that a change of class has just made has none of its own yet.
            state = next((self.state_rows[l] for l in chain if l in self.state_rows), None)
            self.look_at_state(f"object {obj:x}", chain[0], state)
        kept |= self.look_at_snapshots()
        self.look_at_resolved()
        for layer in sorted(set(self.rows.rows) - kept):
            self.say(f"layer {layer:x}: no object reaches it")
        for layer in sorted(set(self.state_rows) - kept):
            self.say(f"state of layer {layer:x}: no object reaches it")
        for stream, row in sorted(self.streams.items()):
            if row.owner and row.owner not in self.rows.objects:
                self.counts["ending"] += 1  # its last SCO's, or the next, checkpoint removes the row

    def look_at_resolved(self):
        """10.11: copies of what frozen layers show; those that hold say what the rows say."""
        shown = {}
        if self.resolved and not self.pool_row.features[16] & f.RESOLVED:
            self.say("pool: it has resolved pages, and its row does not say so")
        for (layer, number), (sequence, places) in sorted(self.resolved.items()):
            what = f"resolved page {number:x} of layer {layer:x}"
            known = self.rows.rows.get(layer)
            self.counts["resolved"] += 1
            if not known or known.state != f.LAYER_FROZEN:
                self.say(f"{what}: the layer is not a frozen one")
                continue
            if layer not in shown:
                shown[layer] = self.rows.effective_of(layer)
            first = number * f.PAGE
            there = {n: shown[layer][first + n] for n in range(f.PAGE) if first + n in shown[layer]}
            if sequence >= self.moved and places != there:
                self.say(f"{what}: it names other places than the rows")

    def look_at_snapshots(self):
        """Layers that they keep."""
        kept, names = set(), set()
        if self.rows.snapshots and not self.pool_row.features[16] & f.SNAPSHOTS:
            self.say("pool: it has snapshots, and its row does not say so")
        for (obj, number), row in sorted(self.rows.snapshots.items()):
            what = f"snapshot {number:x} of object {obj:x}"
            layer = self.rows.rows.get(row.layer)
            self.counts["snapshots"] += 1
            if not layer or (layer.object, layer.state) != (obj, f.LAYER_FROZEN):
                self.say(f"{what}: layer {row.layer:x} is not a frozen one of it")
                continue
            chain = self.rows.chain_of(row.layer)
            kept.update(chain)
            if obj not in self.rows.objects or row.layer not in self.rows.chain(obj):
                self.say(f"{what}: its layer is not below the object")
            if self.rows.rows[chain[-1]].parent:
                self.say(f"{what}: a layer of it is missing")
            if (obj, row.name) in names:
                self.say(f"{what}: the name {row.name!r} is another's, too")
            names.add((obj, row.name))
            state = self.state_rows.get(row.layer)
            self.look_at_state(what, row.layer, state)
            if state and state.size != row.size:
                self.say(f"{what}: {row.size} bytes, its layer has {state.size}")
        return kept

    # --- names against objects ---

    def look_at_names(self):
        inodes, links, children = self.fs["i"], Counter(), {}
        for (parent, cookie), (type_, ino, name) in self.fs["d"].items():
            links[ino] += 1
            children.setdefault(parent, []).append((type_, ino))
            at = f"name {name!r} in inode {parent:x}"
            other = self.fs["n"].get((parent, name))
            if other != (type_, ino, int.from_bytes(cookie, "big")):
                self.say(f"{at}: by place and by name differ")
            if ino not in inodes or inodes[ino].mode >> 12 != type_:
                self.say(f"{at}: no such inode")
        if len(self.fs["n"]) != len(self.fs["d"]):
            self.say(f"{len(self.fs['n'])} names, {len(self.fs['d'])} places of names")
        reached, todo = {1}, [1]
        while todo:
            for type_, ino in children.get(todo.pop(), []):
                if ino not in reached:
                    reached.add(ino)
                    if type_ == stat.S_IFDIR >> 12:
                        todo.append(ino)
        for ino, i in sorted(inodes.items()):
            self.counts["inodes"] += 1
            if ino not in reached and ino not in self.fs["o"] and ino not in self.fs["t"]:
                self.say(f"inode {ino:x}: no name reaches it")
            if ino in self.fs["t"]:
                self.counts["trashed"] += 1
                if ino in reached or ino in self.fs["o"] or not stat.S_ISREG(i.mode):
                    self.say(f"inode {ino:x}: a file with a name, an orphan or no file in the trash")
            if stat.S_ISDIR(i.mode):
                below = children.get(ino, [])
                want = 2 + sum(t == stat.S_IFDIR >> 12 for t, _ in below)
                if i.entries != len(below):
                    self.say(f"directory {ino:x}: counts {i.entries} entries, has {len(below)}")
            else:
                want = links[ino]
            if i.nlink != want:
                self.say(f"inode {ino:x}: {i.nlink} links, {want} are there")
            if i.xattrs != self.fs["x"][ino]:
                self.say(f"inode {ino:x}: {i.xattrs} attributes, {self.fs['x'][ino]} are there")
            if stat.S_ISREG(i.mode) and ino not in self.rows.objects:
                self.say(f"file {ino:x}: its object is missing")
        for obj in sorted(self.rows.objects):
            if obj not in inodes or not stat.S_ISREG(inodes[obj].mode):
                self.say(f"object {obj:x}: no file has it")
        for ino in sorted((set(self.fs["x"]) | self.fs["o"] | set(self.fs["t"])) - set(inodes)):
            self.say(f"attribute, orphan or trash row of inode {ino:x}: no such inode")
        if self.fs["t"] and not self.pool_row.features[16] & f.TRASH:
            self.say("pool: it has a trash, and its row does not say so")

    # --- the backend ---

    def take_packs(self):
        for pack, members in self.packs.items():
            for name, (offset, named) in members.items():
                f.need(name not in self.packed, f"'{name}' lies in two packs")
                self.packed[name] = (pack, offset, named.size, named.crc)

    def path_of(self, name):
        """A file with the bytes of an object; of one that is missing there is none."""
        if name not in self.packed:
            return os.path.join(self.objects, name)
        pack, offset, size, sum_ = self.packed[name]
        path = os.path.join(self.taken_out, name.replace("/", "_"))
        if not os.path.exists(path) and os.path.exists(os.path.join(self.objects, pack)):
            with open(os.path.join(self.objects, pack), "rb") as file:
                file.seek(offset)
                data = file.read(size)
            if crc(data) != sum_:
                self.say(f"backend: '{name}' in '{pack}': wrong checksum")
            with open(path, "wb") as file:
                file.write(data)
        return path

    def look_at_packs(self, root):
        """Whoever has the root alone finds in its packs what the rows say."""
        found = {}
        for named, directory_bytes in root.packs:
            path = os.path.join(self.objects, named.name)
            if not os.path.exists(path):
                continue  # nothing in it is needed any more
            with open(path, "rb") as file:
                data = file.read()
            f.need(len(data) == named.size, f"'{named.name}': not as named")
            end = named.size - directory_bytes
            pack = f.pack(data[end:], end)
            own = (pack.pool, name_pack(pack.epoch, pack.number))
            f.need(own == (root.pool, named.name), f"'{named.name}': another's pack")
            found[named.name] = pack.members
        for pack, members in self.packs.items():
            for name, member in members.items():
                if pack in found and found[pack].get(name) != member:
                    self.say(f"backend: '{name}' is not in '{pack}' as its row says")
        return found

    def get(self, named):
        with open(self.path_of(named.name), "rb") as file:
            data = file.read()
        f.need(len(data) == named.size and crc(data) == named.crc, f"'{named.name}': not as named")
        return data

    def look_at_backend(self):
        there = set()
        for directory, _, names in os.walk(self.objects):
            for name in names:
                path = os.path.join(directory, name)
                there.add(os.path.relpath(path, self.objects))
        for name in sorted(n for n in there if n.startswith("tmp/")):
            # The next process that opens the store a day later removes it.
            self.counts["temporary"] += 1
            if os.stat(os.path.join(self.objects, name)).st_ctime < time.time() - DAY_S:
                self.say(f"backend: '{name}' should have been removed")
        there = {n for n in there if not n.startswith("tmp/")}
        packs = there & self.packs.keys()
        there |= {name for pack in packs for name in self.packs[pack]}
        self.counts["stored"] = len(there)
        self.counts["packed"] = len(self.packed)
        known = {"pool.json"} | {n for n in there if re.fullmatch("epoch/[0-9a-f]{16}", n)}
        for name in sorted(n for n in known if n.startswith("epoch/")):
            if int(name[6:], 16) > self.pool_row.epoch:
                self.say(f"backend: '{name}': an epoch that is still to come")
        known |= self.packs.keys()
        for number, (stream, row) in self.sco_rows.items():
            if row.flags & f.UPLOADED:
                known.add(name_sco(stream, number, row.version, row.object_epoch))
        if self.root_row:
            try:
                known |= self.look_at_root(there)
            except (f.Bad, OSError) as bad:
                self.say(f"backend: {bad}")
        for name in sorted(known - there):
            self.say(f"backend: '{name}' is missing")
        stray = there - known - self.condemned.keys()
        unswept = stray & self.may_be_unswept(there)
        for name in sorted(stray - unswept):
            self.say(f"backend: '{name}' is named by nothing")
        self.counts["unswept"] = len(unswept)
        self.counts["condemned"] = len(there & self.condemned.keys() - known)

    def came_to_nothing(self, name):
        """Whether a root was put that does not count: it is condemned under its own number."""
        return bool(epoch_of(name)) and int(name[-16:], 16) in self.condemned.get(name, ())

    def may_be_unswept(self, there):
        """What daemons that were killed left goes behind the first root of a later epoch, or the next."""
        own = {n for n in there if n.startswith("root/") and epoch_of(n) == self.pool_row.epoch}
        if sum(not self.came_to_nothing(n) for n in own) >= 2:
            return set()
        return {n for n in there if 0 < epoch_of(n) < self.pool_row.epoch}

    def look_at_root(self, there):
        """Names that the newest root makes known; its state against the rows."""
        name = f"root/{self.root_row.epoch:016x}-{self.root_row.number:016x}"
        newer = [n for n in there if n.startswith("root/") and n > name and not self.came_to_nothing(n)]
        newest = max((n for n in newer if not 0 < epoch_of(n) < self.pool_row.epoch), default=name)
        f.need(newest == name, f"the newest root is '{newest}', the rows say '{name}'")
        with open(os.path.join(self.objects, name), "rb") as file:
            root = f.root(file.read())
        f.need(root.pool == self.pool_row.pool, "the root is another pool's")
        f.need((root.epoch, root.number) == tuple(self.root_row)[::-1], "the root's name is not its own")
        known = {name, root.ns.name}
        in_root = {n for members in self.look_at_packs(root).values() for n in members}
        state = maps.Layers()
        for key, value in f.image(self.get(root.ns)).rows:
            kind = chr(key[0])
            if kind in "OL":
                state.add_names(kind, f.key_numbers(key, 1)[0], f.row(kind, value))
            elif kind == "N":
                state.snapshots[f.key_numbers(key, 2)] = f.row(kind, value)
            elif kind == "F":
                f.fs_row(key[1:], value)
        manifests = []
        for stream, named in root.streams:
            m = f.manifest(self.get(named))
            f.need((m.pool, m.stream) == (root.pool, stream), f"'{named.name}': another's manifest")
            known.add(named.name)
            manifests.append(m)
            if m.map.name:
                known |= self.take_map(state, m)
            for s in m.scos:
                known.add(name_sco(stream, s.number, s.version, s.object_epoch))
                self.look_at_stored_sco(m, s)
        stored = {s.number for m in manifests for s in m.scos}
        named = {f.sco_of(loc) for layer in state.rows for loc in state.in_map.get(layer, ()) if f.is_place(loc)}
        for number in sorted(named - stored):
            self.say(f"backend: the root's maps name SCO {number:x}, which the root has not")
        self.compare(state, manifests)
        for name in sorted(known & self.packed.keys() - in_root):
            self.say(f"backend: '{name}' lies in a pack that the root does not name")
        return known

    def look_at_places(self, state, behind):
        """Of the state that image and logs make: each place must be on a SCO of the root."""
        missing = Counter()
        tops = [row.live_layer for row in state.objects.values()]
        for layer in tops + [row.layer for row in state.snapshots.values()]:
            for loc in state.effective_of(layer).values():
                number, slot = f.sco_of(loc), f.slot_of(loc)
                sco = self.remote.get(number) or behind and self.local.get(number)
                if not sco or slot >= len(sco.slots) or sco.slots[slot].kind in (f.DEAD, f.META):
                    missing[number] += 1
        for number, count in sorted(missing.items()):
            self.say(f"backend: the root's maps name {count} slots of SCO {number:x}: not there")

    def take_map(self, state, m):
        """Names of the map of a stream: of its index and of its pieces."""
        index = f.image(self.get(m.map))
        f.need(
            (index.kind, index.stream, index.lsn) == (3, m.stream, m.map_lsn), f"'{m.map.name}': another's"
        )
        begins = [f.key_numbers(key, 2) for key, _ in index.rows]
        f.need(begins == sorted(set(begins)), f"'{m.map.name}': pieces are not in order")
        ends = begins[1:] + [(1 << 64, 0)]
        known = {m.map.name}
        for i, (key, value) in enumerate(index.rows):
            f.need(key[:1] == b"p", f"'{m.map.name}': a row {key[:1]}")
            _, named = f.map_piece(value)
            known.add(named.name)
            self.take_piece(state, m, named, begins[i] if i else (0, 0), ends[i])
        return known

    def take_piece(self, state, m, named, begin, end):
        image = f.image(self.get(named))
        f.need((image.kind, image.stream) == (2, m.stream), f"'{named.name}': another's")
        for key, value in image.rows:
            kind = chr(key[0])
            f.need(kind in "om", f"'{named.name}': a row '{kind}'")
            layer, number = f.key_numbers(key, 1) + (0,) if kind == "o" else f.key_numbers(key, 2)
            f.need(begin <= (layer, number) < end, f"'{named.name}': a row of another piece")
            if kind == "o":
                f.row(kind, value)
                self.look_at_settled_state(layer, value)
                continue
            places = maps.page([value])
            state.add_page(layer, number, places)
            state.in_map.setdefault(layer, set()).update(loc for loc, _ in places.values())

    def look_at_settled_state(self, layer, value):
        """A layer's state in a map: as its row has it, unless that changed since."""
        row = self.state_rows.get(layer)
        if row and (layer, 0) not in self.changed and row != f.row("o", value):
            self.say(f"state of layer {layer:x}: another one in the newest root, and not marked as changed")

    def look_at_stored_sco(self, m, s):
        name = name_sco(m.stream, s.number, s.version, s.object_epoch)
        path, own = self.path_of(name), self.local.get(s.number)
        if not os.path.exists(path):
            return  # told with all that is missing
        say = lambda what: self.say(f"backend: '{name}': {what}")
        linked = any(
            scos.same_file(path, p)
            for p in (
                os.path.join(d, "sco", f"{m.stream:08x}-{s.number:09x}-{s.version:08x}")
                for d in self.caches
            )
            if os.path.exists(p)
        )
        row = self.sco_rows.get(s.number, (0, None))[1]
        if row and row.version == s.version:
            if not row.flags & f.UPLOADED or row.object_epoch != s.object_epoch:
                say("the SCO's row does not know of it")
            if bool(row.flags & f.LINKED) != bool(linked):
                say("one file or two: the SCO's row says otherwise")
        sco = own if own and linked else scos.read(path, s.slot_count, True, say)
        self.counts["linked" if linked else "copies"] += 1
        if not sco:
            return
        self.remote[s.number] = sco
        found = (sco.bytes, sco.footer_crc, len(sco.slots), sco.stream, sco.number, sco.version)
        want = (s.file_bytes, s.footer_crc, s.slot_count, m.stream, s.number, s.version)
        if found != want:
            say("the object and its manifest disagree")

    def compare(self, state, manifests):
        """Image and logs of the root, brought up to the checkpoint by the local log, against the rows."""
        behind, unknown = 0, set()
        for m in manifests:
            mine = {n: s for n, s in self.remote.items() if s.stream == m.stream}
            log = maps.counting_log(list(mine.values()))
            gaps = maps.holes(log, m.map_lsn + 1, m.lsn)
            if gaps:
                self.say(f"stream {m.stream:x}: {gaps} entries up to LSN {m.lsn} are on no SCO of the root")
            reached = self.checkpoints[m.stream].lsn if m.stream in self.checkpoints else m.lsn
            mine.update({n: s for n, s in self.local.items() if s and s.stream == m.stream})
            log = maps.counting_log(list(mine.values()))
            if max(log, default=0) > reached:
                self.say(f"stream {m.stream:x}: its log is ahead of its rows: is the pool closed?")
            behind += max(0, reached - m.lsn)
            if maps.holes(log, m.lsn + 1, reached):
                unknown.add(m.stream)  # what came after the root died with its SCO: nothing to compare
            for lsn in sorted(log):
                if m.map_lsn < lsn <= reached:
                    state.replay(m.stream, *log[lsn])
        self.counts["behind"] = behind
        same = {o for o, row in self.rows.objects.items() if state.objects.get(o) == row}
        tops = [(f"object {obj:x}", obj, self.rows.objects[obj].live_layer) for obj in sorted(same)]
        for (obj, number), row in sorted(self.rows.snapshots.items()):
            if obj in same and (obj, number) in state.snapshots:
                tops.append((f"snapshot {number:x} of object {obj:x}", obj, row.layer))
        for what, obj, layer in tops:
            streams = {stream for stream, _ in self.rows.objects[obj].origins}
            streams |= {self.rows.rows[l].mark_stream for l in self.rows.chain_of(layer)}
            if not unknown & streams:
                self.compare_layer(what, state, layer)
        if not behind and len(same) != len(self.rows.objects):
            self.say(f"of {len(self.rows.objects)} objects the newest root has only {len(same)} so")
        self.look_at_places(state, behind)

    def are_copies(self, a, b):
        """Whether two places hold the same: what is frozen may be moved, and no log tells where to."""
        found = []
        for loc in a, b:
            number, slot = f.sco_of(loc), f.slot_of(loc)
            sco = self.remote.get(number) or self.local.get(number)
            if not f.is_place(loc) or not sco or slot >= len(sco.slots):
                return False
            found.append(sco.slots[slot])
        return all(s.kind == f.RAW for s in found) and found[0].crc == found[1].crc

    def compare_layer(self, what, state, layer):
        a, b = state.effective_of(layer), self.rows.effective_of(layer)
        self.counts["compared"] += len(b)
        wrong = sorted(c for c in a.keys() | b.keys() if a.get(c) != b.get(c))
        wrong = [c for c in wrong if not self.are_copies(a.get(c, 0), b.get(c, 0))]
        if wrong:
            c = wrong[0]
            self.say(
                f"{what}: {len(wrong)} clusters are elsewhere in the newest root, the first"
                f" {c:x}: {a.get(c, 0):x}, the rows say {b.get(c, 0):x}"
            )

    def run(self):
        with tempfile.TemporaryDirectory(prefix="vpool-walk.") as self.taken_out:
            return self.walk()

    def walk(self):
        self.caches, self.objects = self.settings()
        self.take_rows()
        self.take_packs()
        self.look_at_pool_directory(os.path.join(self.pool, "cache") in self.caches)
        for index, directory in enumerate(self.caches):
            self.look_at_cache(index, directory)
        self.look_for_missing_files()
        self.look_at_maps()
        self.look_at_objects()
        self.look_at_names()
        self.look_at_backend()
        if self.problems > PROBLEMS_MAX:
            print(f"... and {self.problems - PROBLEMS_MAX} more")
        order = (
            "rows inodes objects pages mapped files clusters stored linked copies condemned unswept temporary"
            " ending compared behind packed snapshots resolved trashed"
        )
        said = ", ".join(f"{name} {self.counts[name]}" for name in order.split())
        print(f"walked: {said}; {self.problems} problems")
        return 1 if self.problems else 0


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print(__doc__.strip(), file=sys.stderr)
        return 2
    return Walk(os.path.abspath(sys.argv[1])).run()


if __name__ == "__main__":
    sys.exit(main())
