"""Maps as rows have them, and as images and logs make them: {layer: {cluster: location}}."""

import formats as f

# A hole of more clusters is kept as a range: one of a TiB would take all memory.
LONG_CLUSTERS = 1 << 16


def page(values):
    """{cluster in the page: (location, checksum or None)} of a base, or None, and its deltas."""
    places = {}
    for i, value in enumerate(values):
        if value is None:
            continue
        for first, count, loc, sums in f.page_value(value, 1 if i == 0 else 2):
            for n in range(count):
                at = loc + n if f.is_place(loc) else loc
                places[first + n] = (at, sums[n] if sums else None)
    return places


class Layers:
    """One state of all maps."""

    def __init__(self):
        self.places = {}  # layer -> {cluster: location}
        self.zeros = {}  # layer -> [(first, end)]: long ones; places are younger
        self.rows = {}  # layer -> LayerRow
        self.objects = {}  # object -> ObjectRow
        self.snapshots = {}  # (object, number) -> SnapshotRow
        self.limits = {}  # layer -> clusters of the parent that it shows
        self.in_map = {}  # layer -> locations that the maps of a root have

    def add_names(self, kind, number, row):
        if kind == "L":
            self.rows[number] = row
            self.limits[number] = row.limit
        elif kind == "O":
            self.objects[number] = row

    def add_page(self, layer, number, places):
        to = self.places.setdefault(layer, {})
        for n, (loc, _) in places.items():
            if loc != f.UNMAPPED:
                to[number * f.PAGE + n] = loc

    def chain(self, obj):
        """Layers of an object from the live one down."""
        return self.chain_of(self.objects[obj].live_layer)

    def chain_of(self, layer):
        found = []
        while layer and layer in self.rows and layer not in found:
            found.append(layer)
            layer = self.rows[layer].parent
        return found

    def effective(self, obj):
        """{cluster: location} of what a reader of the object finds; zeros are left out."""
        return self.effective_of(self.objects[obj].live_layer)

    def effective_of(self, layer):
        """The same of a layer, on top of those below it."""
        seen = {}
        for layer in reversed(self.chain_of(layer)):
            limit = self.limits[layer]
            seen = {c: loc for c, loc in seen.items() if c < limit}
            for first, end in self.zeros.get(layer, []):
                seen = {c: loc for c, loc in seen.items() if not first <= c < end}
            seen.update(self.places.get(layer, {}))
        return {c: loc for c, loc in seen.items() if loc != f.ZERO}

    def layer_of_entry(self, stream, e):
        """The layer that an entry of a stream's log changed, or None: its object is gone."""
        if e.object not in self.objects:
            return None
        live = self.objects[e.object].live_layer
        own = self.objects[e.object].origins[0][0] == stream
        row = self.rows.get(live)
        given_up = row is not None and row.mark_stream == stream and e.lsn <= row.mark
        ret = live if own and not given_up else None
        for layer in self.chain(e.object):  # the oldest of its own that was frozen behind it
            row = self.rows[layer]
            frozen_here = row.state == f.LAYER_FROZEN and (row.object, row.mark_stream) == (e.object, stream)
            if frozen_here and e.lsn <= row.mark:
                ret = layer
        return ret

    def _erase(self, layer, first, end):
        to = self.places.setdefault(layer, {})
        if end is None:
            for c in [c for c in to if c >= first]:
                del to[c]
            self.limits[layer] = min(self.limits[layer], first)
            return
        if end - first > LONG_CLUSTERS:
            for c in [c for c in to if first <= c < end]:
                del to[c]
            self.zeros.setdefault(layer, []).append((first, end))
            return
        for c in range(first, end):
            to[c] = f.ZERO

    def replay(self, stream, number, e):
        """An entry of the log, found in the SCO of that number."""
        passed_over = e.kind in (f.VOID, f.ATTR) or e.flags & f.COPY
        layer = None if passed_over else self.layer_of_entry(stream, e)
        if layer is None:
            return
        place = number << 16 | e.slot
        if e.kind in (f.DATA, f.SHARE):
            place = e.source or place
            to = self.places.setdefault(layer, {})
            for n in range(e.count):
                to[e.first + n] = place + n
        elif e.kind == f.ZEROS:
            self._erase(layer, e.first, None if e.count == 0xFFFFFFFF else e.first + e.count)
        else:
            self._erase(layer, e.first, None)
            if e.slot:
                self.places[layer][e.first] = place


def counting_log(scos):
    """
    {lsn: (number of the SCO, entry)} of a stream's SCOs: what their cuts leave, and of two of the same
    LSN the younger SCO's.
    """
    cuts = [(s.number, s.cut[0], s.cut[2]) for s in scos if s.cut]
    found = {}
    for s in sorted(scos, key=lambda s: s.number):
        for e in s.entries:
            if all(n <= s.number or s.number <= sco and e.lsn <= lsn for n, sco, lsn in cuts):
                found[e.lsn] = (s.number, e)
    return found


def holes(log, first, last):
    """How many LSNs of first..last no entry has."""
    missing = last - first + 1 if last >= first else 0
    for lsn, (_, e) in log.items():
        end = lsn + (e.count if e.kind == f.VOID else 1)
        missing -= max(0, min(end, last + 1) - max(lsn, first))
    return missing
