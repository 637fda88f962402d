/* What the SCOs of a stream hold above its checkpoint, and which of it is whole. */
#include "common/crc32c.h"
#include "common/log.h"
#include "common/parallel.h"
#include "volume/mutant.h"
#include "volume/recovery.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Room for entries is made for so many at least, and not for so many that are not there. */
#define MORE_AT_LEAST 1024u
#define MORE_AT_ONCE  (UINT64_C(1) << 20)
/* Room for what the ring adds, as a rule. */
#define RING_ENTRIES	  32768u
#define LARGE_ALLOC_BYTES ((size_t)4 << 20)
/* Logs are read and verified by so many threads, so many at a time. */
#define SCAN_THREADS   8u
#define SCANS_TOGETHER 32u
#define SCAN_SLOTS     256u
/* What is read to see one header: behind a large batch the next one is the only one near. */
#define HEADER_SLOTS 8u
#define LARGE_BATCH  32u  /* clusters */
#define SECTOR_BYTES 512u /* the smallest thing that a disk writes whole */

/* Best effort. */
static void ask_for_huge_pages(void *mem, size_t len_bytes)
{
	const uintptr_t page = BLOCK_BYTES;
	uintptr_t from = ((uintptr_t)mem + page - 1) / page * page;

	(void)madvise((void *)from, (uintptr_t)mem + len_bytes - from, MADV_HUGEPAGE);
}

/* Whether there is room for so many more. */
static bool replay_reserve(struct replay *rp, size_t count)
{
	size_t cap = max_u64(rp->count + count, min_u64(2 * rp->cap, rp->cap + MORE_AT_ONCE));
	struct replay_entry *more;

	if (rp->count + count <= rp->cap)
		return true;
	more = reallocarray(rp->entries, cap, sizeof(*more));
	if (!more)
		return false;
	rp->entries = more;
	rp->cap = cap;
	if (cap * sizeof(*more) >= LARGE_ALLOC_BYTES) /* touched for the first time, page by page */
		ask_for_huge_pages(more, cap * sizeof(*more));
	return true;
}

int replay_add(struct replay *rp, const struct log_entry *entry, struct sco *sco,
	       const uint8_t *block)
{
	if (rp->count == rp->cap && !replay_reserve(rp, MORE_AT_LEAST))
		return -ENOMEM;
	rp->entries[rp->count++] = (struct replay_entry){
		.entry = *entry, .sco = sco, .from_ring = block != NULL, .block = block
	};
	return 0;
}

void replay_damage(struct replay *rp, const char *fmt, ...)
{
	va_list ap;

	if (rp->damaged)
		return;
	rp->damaged = true;
	va_start(ap, fmt);
	(void)vsnprintf(rp->damage, sizeof(rp->damage), fmt, ap);
	va_end(ap);
}

/* --- sealed SCOs -------------------------------------------------------------------------------- */

struct log_reader {
	struct replay *rp;
	struct sco *sco;
	lsn_t limit; /* entries above it do not count (the cut of a later epoch) */
};

static int sealed_entry(void *arg, const struct log_entry *entry)
{
	struct log_reader *lr = arg;

	if (entry->lsn > lr->limit)
		return 0;
	if (entry->lsn + (entry->kind == ENTRY_VOID ? entry->cluster_count : 1) - 1 <=
	    lr->rp->checkpoint_lsn)
		return 0;
	return replay_add(lr->rp, entry, lr->sco, NULL);
}

/*
 * A sealed SCO that is scanned together with others: its own entries, in a slice of those of all, which
 * is as large as they may be, or else in memory of their own, until they are joined.
 */
struct sealed_scan {
	struct replay part;
	struct sco *sco;
	lsn_t limit;
	bool own; /* memory of their own */
	int result;
	struct err why;
};

static bool make_room(struct sealed_scan *scan, size_t count)
{
	if (count <= scan->part.cap)
		return true;
	scan->own = true;
	scan->part.entries = NULL;
	scan->part.cap = 0;
	return replay_reserve(&scan->part, count);
}

static int scan_sealed(struct sealed_scan *scan, struct err *e)
{
	struct replay *part = &scan->part;
	struct sco *s = scan->sco;
	struct log_reader lr = { .rp = part, .sco = s, .limit = scan->limit };
	struct sco_bytes bytes = sco_bytes_of(part->pool->scos, s);
	struct sco_footer footer;
	int r;

	r = sco_load_footer(part->pool->scos, s, e); /* that it is its own */
	if (r == 0)
		r = sco_read_footer(&bytes, s->file_bytes, &footer, e);
	if (r == 0 && !make_room(scan, footer.log_entries))
		r = err_set(e, -ENOMEM, "log of SCO %" PRIu64, s->number);
	if (r == 0)
		r = sco_read_log(&bytes, &footer, sealed_entry, &lr, e);
	/* What a later epoch gave up was not durable: its cut says how far to believe this one. */
	if (r == 0)
		part->recorded_durable = min_u64(footer.durable_lsn, scan->limit);
	return r;
}

static void scan_one(void *arg, size_t i)
{
	struct sealed_scan *scan = (struct sealed_scan *)arg + i;

	scan->result = scan_sealed(scan, &scan->why);
}

/* How many entries the log of a SCO may have that is scanned; what its footer says may be wrong. */
static size_t count_at_most(const struct replay *rp, const struct sco *s)
{
	if (s->life == SCO_LIFE_LEFTOVER || s->last_lsn <= rp->checkpoint_lsn)
		return 0;
	return (size_t)min_u64(s->last_lsn - s->first_lsn + 1, s->next_slot);
}

static void give_slices(struct replay *rp, struct sealed_scan *scans, size_t count)
{
	size_t all = 0, at = rp->count;

	for (size_t i = 0; i < count; i++)
		all += count_at_most(rp, scans[i].sco);
	if (!replay_reserve(rp, all))
		return;
	for (size_t i = 0; i < count; i++) {
		scans[i].part.entries = rp->entries + at;
		scans[i].part.cap = count_at_most(rp, scans[i].sco);
		at += scans[i].part.cap;
	}
}

/* Some have memory of their own: all is put together anew. */
static int join_copies(struct replay *rp, const struct sealed_scan *scans, size_t count)
{
	size_t all = rp->count, at = rp->count, cap;
	struct replay_entry *entries;

	for (size_t i = 0; i < count; i++)
		all += scans[i].part.count;
	cap = max_u64(rp->cap, all);
	entries = reallocarray(NULL, cap, sizeof(*entries));
	if (!entries)
		return -ENOMEM;
	if (rp->count)
		memcpy(entries, rp->entries, rp->count * sizeof(*entries));
	for (size_t i = 0; i < count; i++) {
		const struct replay *part = &scans[i].part;

		if (part->count)
			memcpy(entries + at, part->entries, part->count * sizeof(*entries));
		at += part->count;
	}
	free(rp->entries);
	rp->entries = entries;
	rp->count = all;
	rp->cap = cap;
	return 0;
}

/* Slices that are not full leave gaps. */
static void close_gaps(struct replay *rp, const struct sealed_scan *scans, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct replay *part = &scans[i].part;

		if (part->count && part->entries != rp->entries + rp->count)
			memmove(rp->entries + rp->count, part->entries,
				part->count * sizeof(*part->entries));
		rp->count += part->count;
	}
}

static int join(struct replay *rp, const struct sealed_scan *scans, size_t count)
{
	bool copies = false;

	for (size_t i = 0; i < count; i++) {
		rp->recorded_durable =
			max_u64(rp->recorded_durable, scans[i].part.recorded_durable);
		copies |= scans[i].own;
	}
	if (copies)
		return join_copies(rp, scans, count);
	close_gaps(rp, scans, count);
	return 0;
}

static int scan_together(struct replay *rp, struct sealed_scan *scans, size_t count, struct err *e)
{
	int r = 0;

	give_slices(rp, scans, count);
	parallel_each(SCAN_THREADS, count, scan_one, scans);
	for (size_t i = 0; i < count; i++)
		if (scans[i].result < 0 && r == 0)
			r = err_set(e, scans[i].result, "%s", scans[i].why.message);
	if (r == 0)
		r = join(rp, scans, count);
	for (size_t i = 0; i < count; i++)
		if (scans[i].own)
			free(scans[i].part.entries);
	return r == -ENOMEM ? err_set(e, r, "replaying") : r;
}

/* Room for all of them at once, if there is so much: it is not moved while it grows. */
static void reserve_for_sealed(struct replay *rp)
{
	size_t count = rp->old ? RING_ENTRIES : 0;

	for (size_t i = 0; i < rp->sco_count; i++)
		count += count_at_most(rp, rp->scos[i]);
	(void)replay_reserve(rp, count);
}

/* In the order of their numbers: that of their LSNs, but for what was published at the borders. */
static int scan_all_sealed(struct replay *rp, const lsn_t *limits, struct err *e)
{
	struct sealed_scan *scans = calloc(SCANS_TOGETHER, sizeof(*scans));
	size_t count = 0;
	int r = scans ? 0 : err_set(e, -ENOMEM, "scanning a stream");

	reserve_for_sealed(rp);
	for (size_t i = 0; i < rp->sco_count && r == 0; i++) {
		if (rp->scos[i]->life == SCO_LIFE_LEFTOVER ||
		    rp->scos[i]->last_lsn <= rp->checkpoint_lsn)
			continue;
		scans[count++] = (struct sealed_scan){
			.part = { .pool = rp->pool, .checkpoint_lsn = rp->checkpoint_lsn },
			.sco = rp->scos[i],
			.limit = limits[i],
		};
		if (count == SCANS_TOGETHER) {
			r = scan_together(rp, scans, count, e);
			count = 0;
		}
	}
	if (r == 0)
		r = scan_together(rp, scans, count, e);
	free(scans);
	return r;
}

/* --- SCOs that were open ----------------------------------------------------------------------- */

struct scan {
	struct replay *rp;
	struct sco *s;
	lsn_t limit;
	uint32_t slots;	 /* that the file has */
	uint8_t *window; /* SCAN_SLOTS clusters */
	uint32_t window_slot, window_count;
};

/* A slot's bytes, through a window of at most that many slots; NULL: behind the end of the file. */
static const uint8_t *slot_bytes(struct scan *sc, uint32_t slot, uint32_t window, struct err *e,
				 int *ret_r)
{
	*ret_r = 0;
	if (slot >= sc->slots)
		return NULL;
	if (slot < sc->window_slot || slot >= sc->window_slot + sc->window_count) {
		uint32_t count = (uint32_t)min_u64(window, sc->slots - slot);

		*ret_r = sco_read(sc->rp->pool->scos, sc->s, slot, count, sc->window, e);
		if (*ret_r < 0)
			return NULL;
		sc->window_slot = slot;
		sc->window_count = count;
	}
	return sc->window + (size_t)(slot - sc->window_slot) * CLUSTER_BYTES;
}

static bool belongs(const struct scan *sc, const struct batch_header *h, uint32_t slot)
{
	return h->salt == sc->s->salt && h->sco == sc->s->number && h->stream == sc->s->stream &&
	       h->slot == slot && h->epoch == sc->s->epoch &&
	       (uint64_t)slot + 1 + h->cluster_count <= sc->slots;
}

static void note_header(struct replay *rp, const struct batch_header *h)
{
	rp->recorded_durable = max_u64(rp->recorded_durable, h->durable_lsn);
	rp->recorded_sequence = max_u64(rp->recorded_sequence, h->meta_sequence);
}

/* Behind the end of the chain: whole headers there tell what must have been durable. */
static int scan_ahead(struct scan *sc, uint32_t slot, struct err *e)
{
	int r;

	for (; slot < sc->slots; slot++) {
		const uint8_t *block = slot_bytes(sc, slot, SCAN_SLOTS, e, &r);
		struct batch_header h;

		if (r < 0)
			return r;
		if (batch_close_decode(block, &h, NULL) == 0 && belongs(sc, &h, slot))
			note_header(sc->rp, &h);
	}
	return 0;
}

/* Checksums of all places that entries of the block name, against the bytes. */
static int payload_is_whole(struct scan *sc, const uint8_t *block, const struct batch_header *h,
			    struct err *e, bool *ret_whole)
{
	uint8_t copy[BLOCK_BYTES];
	int r;

	memcpy(copy, block, sizeof(copy)); /* the window moves */
	*ret_whole = true;
	for (unsigned int i = 0; i < h->entry_count; i++) {
		struct log_entry entry;
		uint32_t count;

		if (batch_entry_decode(copy, i, h->salt, &entry, NULL) < 0 || entry.slot == 0)
			continue;
		count = entry.kind == ENTRY_DATA ? entry.cluster_count : 1;
		for (uint32_t j = 0; j < count; j++) {
			const uint8_t *bytes = slot_bytes(sc, entry.slot + j, SCAN_SLOTS, e, &r);

			if (r < 0)
				return r;
			if (!bytes || crc32c(0, bytes, CLUSTER_BYTES) !=
					      batch_crc_get(copy, entry.slot + j - h->slot - 1)) {
				*ret_whole = MUTANT(MUTANT_PAYLOAD_UNVERIFIED);
				return 0;
			}
		}
	}
	return 0;
}

/* The entries of one whole batch become part of the SCO and of the replay. */
static int take_batch(struct scan *sc, const uint8_t *block, const struct batch_header *h)
{
	struct sco *s = sc->s;
	int r = 0;

	for (unsigned int i = 0; i < h->cluster_count; i++)
		s->crcs[h->slot + 1 + i] = batch_crc_get(block, i);
	for (unsigned int i = 0; i < h->entry_count && r == 0; i++) {
		uint8_t bytes[BATCH_ENTRY_BYTES];
		struct log_entry entry;

		if (batch_entry_decode(block, i, h->salt, &entry, NULL) < 0 ||
		    entry.lsn > sc->limit)
			continue;
		log_entry_encode(&entry, bytes);
		r = buf_append(&s->log, bytes, sizeof(bytes));
		s->first_lsn = s->first_lsn ? min_u64(s->first_lsn, entry.lsn) : entry.lsn;
		s->last_lsn = max_u64(s->last_lsn, entry.lsn);
		if (r == 0 && entry.lsn + (entry.kind == ENTRY_VOID ? entry.cluster_count : 1) - 1 >
				      sc->rp->checkpoint_lsn)
			r = replay_add(sc->rp, &entry, s, NULL);
	}
	s->next_slot = h->slot + 1 + h->cluster_count;
	s->batch_count = h->batch + 1;
	return r;
}

/* How much to read for the header behind this one. */
static uint32_t window_behind(const struct batch_header *h)
{
	return h->cluster_count < LARGE_BATCH ? SCAN_SLOTS : HEADER_SLOTS;
}

/* First pass: headers only, to learn what was recorded as durable. */
static int scan_headers(struct scan *sc, struct err *e)
{
	uint32_t slot = 1, window = HEADER_SLOTS;
	int r;

	for (uint32_t batch = 0;; batch++) {
		const uint8_t *block = slot_bytes(sc, slot, window, e, &r);
		struct batch_header h;

		if (r < 0)
			return r;
		if (!block || batch_close_decode(block, &h, NULL) < 0 || !belongs(sc, &h, slot) ||
		    h.batch != batch)
			return scan_ahead(sc, slot + 1, e);
		note_header(sc->rp, &h);
		slot += 1u + h.cluster_count;
		window = window_behind(&h);
	}
}

/* Not closed_lsn: a writer may have published behind it, into a batch that was closed already. */
static lsn_t newest_lsn(const uint8_t *block, const struct batch_header *h)
{
	lsn_t newest = 0;

	for (unsigned int i = 0; i < h->entry_count; i++) {
		struct log_entry entry;

		if (batch_entry_decode(block, i, h->salt, &entry, NULL) == 0)
			newest = max_u64(newest, entry.lsn);
	}
	return newest;
}

/*
 * Whether a batch there, if the process that died began one, was durable: its frame is not in the
 * ring any more. Says nothing about SCOs of other processes.
 */
static bool left_ring(const struct scan *sc, uint32_t slot)
{
	const struct replay *rp = sc->rp;

	return rp->old && sc->s->epoch == rp->ring_epoch &&
	       (sc->s->number < rp->ring_sco ||
		(sc->s->number == rp->ring_sco && slot < rp->ring_slot));
}

/*
 * Whether what the file has of a batch counts for nothing, readable or not, because the ring has
 * it: no sync covered it, or one failed, and then the cache may hold bytes that it believes to be
 * clean and that never reach the disk, whatever is synced later. It is written anew from the ring.
 */
static bool is_in_ring(const struct scan *sc, const struct batch_header *h)
{
	const struct replay *rp = sc->rp;

	return rp->old && sc->s->epoch == rp->ring_epoch && !left_ring(sc, h->slot) &&
	       !MUTANT(MUTANT_FILE_BELIEVED) &&
	       recovery_ring_has_batch(rp->old, sc->s->stream, sc->s->number, h->batch);
}

/* Writes are torn between sectors: where the one with the header was never written, no batch was
 * ever whole, whatever stands behind (the rest of an index whose sync failed, for one). */
static bool nothing_begins(const uint8_t *block)
{
	return block[0] == 0 && memcmp(block, block + 1, SECTOR_BYTES - 1) == 0;
}

static bool is_index(const struct scan *sc, const uint8_t *block)
{
	struct slot_record records[SLOTS_PER_CHUNK];
	unsigned int count;
	int r = slot_chunk_decode(block, 0, sc->s->salt, records, &count, NULL);

	return r == 0 || r == -EBADMSG; /* damaged or not */
}

/*
 * The chain of batches ends at a slot. The SCO's row may know of durable batches behind it. The
 * newest durable batch has no header behind it that tells of it, so the ring has to: a batch that left
 * it must be here. Then the block there may only be one that nobody wrote, or the index of a SCO whose
 * sealing was cut off. In a file that had another life before anything may be there.
 */
static void chain_ends(struct scan *sc, uint32_t slot, const uint8_t *block)
{
	struct replay *rp = sc->rp;

	/* Where nothing lives it may be a file whose name came back after it was recycled. */
	if (slot < sc->s->durable_slots && sc->s->live_slots)
		replay_damage(rp, "SCO %" PRIu64 " slot %u: a durable batch is damaged",
			      sc->s->number, slot);
	if (sc->limit == 0 || rp->tail_lost || sc->s->recycled || !left_ring(sc, slot))
		return;
	if (sc->s->number < rp->ring_sco &&
	    (!block || nothing_begins(block) || is_index(sc, block)))
		return;
	rp->tail_lost = true;
	rp->lost_sco = sc->s->number;
	rp->lost_slot = slot;
}

/* Second pass: entries, payload verified where nothing says that it was durable. */
static int scan_batches(struct scan *sc, struct err *e)
{
	uint32_t slot = 1, window = HEADER_SLOTS;
	int r;

	for (uint32_t batch = 0;; batch++) {
		const uint8_t *bytes = slot_bytes(sc, slot, window, e, &r);
		uint8_t block[BLOCK_BYTES];
		struct batch_header h;
		bool whole = true;

		if (r < 0)
			return r;
		if (!bytes || batch_close_decode(bytes, &h, NULL) < 0 || !belongs(sc, &h, slot) ||
		    h.batch != batch) {
			chain_ends(sc, slot, bytes);
			return 0;
		}
		memcpy(block, bytes, sizeof(block));
		window = window_behind(&h);
		if (is_in_ring(sc, &h)) {
			slot += 1u + h.cluster_count;
			continue;
		}
		if (slot >= sc->s->durable_slots && !left_ring(sc, slot) &&
		    newest_lsn(block, &h) > sc->rp->recorded_durable)
			r = payload_is_whole(sc, block, &h, e, &whole);
		if (r < 0 || !whole)
			return r;
		r = take_batch(sc, block, &h);
		if (r < 0)
			return err_because(e, r, "replaying SCO %" PRIu64, sc->s->number);
		slot += 1u + h.cluster_count;
	}
}

static int scan_init(struct scan *sc, struct replay *rp, struct sco *s, lsn_t limit, struct err *e)
{
	*sc = (struct scan){ .rp = rp, .s = s, .limit = limit };
	sc->slots = (uint32_t)min_u64(s->slots_max, s->file_bytes / CLUSTER_BYTES);
	sc->window = direct_alloc((size_t)SCAN_SLOTS * CLUSTER_BYTES);
	if (!s->crcs)
		s->crcs = calloc(s->slots_max, sizeof(*s->crcs));
	s->next_slot = max_u64(s->next_slot, 1) > 1 ? s->next_slot : 1;
	return sc->window && s->crcs ? 0 : err_set(e, -ENOMEM, "scanning a SCO");
}

/* --- the stream -------------------------------------------------------------------------------- */

/* limits[i]: entries of SCO i above it were given up by a later epoch. */
static void find_limits(const struct replay *rp, lsn_t *limits)
{
	for (size_t i = 0; i < rp->sco_count; i++)
		limits[i] = rp->limit;
	for (size_t i = 0; i < rp->sco_count; i++) {
		const struct sco *s = rp->scos[i];

		if (!s->has_cut || MUTANT(MUTANT_NO_CUT))
			continue;
		for (size_t j = 0; j < i; j++)
			if (rp->scos[j]->epoch < s->epoch)
				limits[j] = min_u64(limits[j], s->cut_lsn);
			else if (rp->scos[j]->epoch == s->epoch) /* a try that was taken back */
				limits[j] = 0;
	}
}

/* Whoever had a ring had finished his recovery: all that his cut counts was durable then. */
static void note_cut(struct replay *rp)
{
	for (size_t i = 0; i < rp->sco_count && rp->old; i++) {
		const struct sco *s = rp->scos[i];

		if (s->has_cut && s->epoch == rp->ring_epoch)
			rp->recorded_durable = max_u64(rp->recorded_durable, s->cut_lsn);
	}
}

static int scan_open(struct replay *rp, struct sco *s, lsn_t limit,
		     int (*pass)(struct scan *sc, struct err *e), struct err *e)
{
	/* A recovery that never came to its end copied all of it from this ring. */
	bool is_copy = rp->old && s->epoch > rp->ring_epoch && !MUTANT(MUTANT_FILE_BELIEVED);
	struct scan sc;
	int r = scan_init(&sc, rp, s, limit, e);

	if (r == 0 && !is_copy)
		r = pass(&sc, e);
	free(sc.window);
	return r;
}

/* The row of an absent SCO does not tell of its cut. What no checkpoint has may need it. */
static int load_cut(struct replay *rp, struct sco *s, struct err *e)
{
	struct sco_header h;
	int r;

	if (!sco_is_absent(rp->pool->scos, s) || s->last_lsn <= rp->checkpoint_lsn)
		return 0;
	r = sco_read_header(rp->pool->scos, s, &h, e);
	if (r < 0)
		return err_wrap(e, r, "header of SCO %" PRIu64, s->number);
	s->has_cut = h.flags & SCO_FIRST_OF_EPOCH;
	s->cut_lsn = h.cut_lsn;
	return 0;
}

int recovery_scan_stream(struct replay *rp, struct err *e)
{
	lsn_t *limits = calloc(rp->sco_count + 1, sizeof(*limits));
	int r = limits ? 0 : err_set(e, -ENOMEM, "scanning a stream");

	for (size_t i = 0; i < rp->sco_count && r == 0; i++)
		r = load_cut(rp, rp->scos[i], e);
	if (r == 0) {
		find_limits(rp, limits);
		note_cut(rp);
	}
	for (size_t i = 0; i < rp->sco_count && r == 0; i++)
		if (rp->scos[i]->life == SCO_LIFE_LEFTOVER)
			r = scan_open(rp, rp->scos[i], limits[i], scan_headers, e);
	if (r == 0)
		r = scan_all_sealed(rp, limits, e);
	for (size_t i = 0; i < rp->sco_count && r == 0; i++)
		if (rp->scos[i]->life == SCO_LIFE_LEFTOVER)
			r = scan_open(rp, rp->scos[i], limits[i], scan_batches, e);
	free(limits);
	return r;
}

static int keep_counted(struct sco *s, lsn_t end, struct err *e)
{
	size_t kept = 0;

	s->first_lsn = s->last_lsn = 0;
	for (size_t at = 0; at < s->log.len_bytes; at += BATCH_ENTRY_BYTES) {
		struct log_entry entry;
		int r = log_entry_decode(s->log.data + at, &entry, e);

		if (r < 0)
			return r;
		if (entry.lsn > end)
			continue;
		memmove(s->log.data + kept, s->log.data + at, BATCH_ENTRY_BYTES);
		kept += BATCH_ENTRY_BYTES;
		s->first_lsn = s->first_lsn ? min_u64(s->first_lsn, entry.lsn) : entry.lsn;
		s->last_lsn = max_u64(s->last_lsn, entry.lsn);
	}
	s->log.len_bytes = kept;
	return 0;
}

int recovery_give_up_behind(struct replay *rp, struct err *e)
{
	int r = 0;

	for (size_t i = 0; i < rp->sco_count && r == 0; i++)
		if (rp->scos[i]->life == SCO_LIFE_LEFTOVER)
			r = keep_counted(rp->scos[i], rp->end, e);
	return r;
}
