/* What only the ring of the dead process holds: found, and written to a SCO of this epoch. */
#include "common/crc32c.h"
#include "common/log.h"
#include "volume/mutant.h"
#include "volume/recovery.h"

#include <stdlib.h>
#include <string.h>

/* --- finding ----------------------------------------------------------------------------------- */

static int take_frame(struct replay *rp, const uint8_t *block, const struct batch_header *h)
{
	unsigned int max = BATCH_ROOM_BYTES / BATCH_ENTRY_BYTES;

	for (unsigned int i = 0; i < max && batch_has_room(i + 1, 0); i++) {
		struct log_entry entry;
		struct err e = { 0 };
		int r = batch_entry_decode(block, i, h->salt, &entry, &e);

		if (r == -ENODATA)
			continue; /* its writer had not published it: nobody was told that it is done */
		if (r < 0) {
			replay_damage(rp, "ring: SCO %" PRIu64 " batch %u entry %u: %.80s", h->sco,
				      h->batch, i, e.message);
			continue;
		}
		if (entry.lsn <= rp->checkpoint_lsn)
			continue;
		r = replay_add(rp, &entry, NULL, block);
		if (r < 0)
			return r;
	}
	return 0;
}

bool recovery_ring_has_batch(const struct ring_old *old, uint32_t stream, uint64_t sco,
			     uint32_t batch)
{
	for (uint32_t i = 0; old && i < old->header.frame_count; i++) {
		const uint8_t *block = ring_old_frame(old, i);
		struct batch_header h;

		if (block && batch_open_decode(block, &h, NULL) == 0 && h.stream == stream &&
		    h.sco == sco && h.batch == batch)
			return true;
	}
	return false;
}

/* Call fn for each frame of the stream. */
static int each_frame(struct replay *rp,
		      int (*fn)(struct replay *rp, const uint8_t *block,
				const struct batch_header *h),
		      struct err *e)
{
	const struct ring_old *old = rp->old;

	for (uint32_t i = 0; old && i < old->header.frame_count; i++) {
		const uint8_t *block = ring_old_frame(old, i);
		struct batch_header h;
		int r;

		if (!block)
			continue;
		r = batch_open_decode(block, &h, e);
		if (r < 0)
			return err_wrap(e, r, "ring frame %u", i);
		if (h.stream != rp->stream->id)
			continue;
		r = fn(rp, block, &h);
		if (r < 0)
			return err_because(e, r, "ring frame %u", i);
	}
	return 0;
}

static int note_start(struct replay *rp, UNUSED const uint8_t *block, const struct batch_header *h)
{
	if (h->sco > rp->ring_sco || (h->sco == rp->ring_sco && h->slot >= rp->ring_slot))
		return 0;
	rp->ring_sco = h->sco;
	rp->ring_slot = h->slot;
	return 0;
}

int recovery_find_ring_start(struct replay *rp, struct err *e)
{
	rp->ring_sco = UINT64_MAX;
	rp->ring_slot = UINT32_MAX;
	return each_frame(rp, note_start, e);
}

int recovery_scan_ring(struct replay *rp, struct err *e)
{
	return each_frame(rp, take_frame, e);
}

/* --- rewriting --------------------------------------------------------------------------------- */

/* Tries on one cache directory after the other, and so many more. */
#define REWRITE_TRIES_MORE 2u

/* A batch being put together in private memory. */
struct rewriter {
	struct replay *rp;
	struct sco *sco;   /* referenced */
	struct sco **made; /* all SCOs of this try, that one among them; referenced */
	size_t made_count;
	uint8_t *mem; /* block and BATCH_CLUSTERS_MAX clusters */
	struct batch_header h;
	lsn_t last_lsn;
};

static int batch_flush(struct rewriter *w, struct err *e)
{
	struct pool *p = w->rp->pool;
	struct env_file *f;
	int r;

	if (w->h.entry_count == 0)
		return 0;
	w->h.closed_lsn = w->last_lsn;
	batch_close_encode(&w->h, w->mem);
	r = sco_file(p->scos, w->sco, &f, e);
	if (r < 0)
		return r;
	r = env_pwrite(p->env, f, w->mem, (size_t)(1 + w->h.cluster_count) * CLUSTER_BYTES,
		       (uint64_t)w->h.slot * CLUSTER_BYTES);
	if (r < 0)
		return err_because(e, r, "writing SCO %" PRIu64, w->sco->number);
	w->h.entry_count = 0;
	return 0;
}

static void batch_begin(struct rewriter *w)
{
	struct sco *s = w->sco;

	memset(w->mem, 0, BLOCK_BYTES);
	w->h = (struct batch_header){
		.salt = s->salt,
		.sco = s->number,
		.stream = s->stream,
		.batch = s->batch_count++,
		.slot = s->next_slot++,
		.epoch = s->epoch,
		.durable_lsn = w->rp->checkpoint_lsn,
	};
	batch_open_encode(&w->h, w->mem);
}

/* The SCO is done with: durable, and left to the sealer. */
static int sco_finish(struct rewriter *w, bool keep_open, struct err *e)
{
	struct pool *p = w->rp->pool;
	struct env_file *f;
	int r;

	if (!w->sco)
		return 0;
	r = batch_flush(w, e);
	if (r == 0)
		r = sco_file(p->scos, w->sco, &f, e);
	if (r == 0 && !MUTANT(MUTANT_NO_REWRITE_SYNC)) {
		r = env_fdatasync(p->env, f);
		if (r < 0)
			err_because(e, r, "syncing SCO %" PRIu64, w->sco->number);
	}
	if (r == 0)
		r = flash_sync_names(p->flash, w->sco->dir, e);
	if (r < 0)
		return r;
	w->sco->names_durable = true;
	if (keep_open) {
		w->rp->stream->sco = TAKE_PTR(w->sco); /* writes go on in it */
		return 0;
	}
	mutex_lock(&p->scos->lock);
	w->sco->life = SCO_LIFE_FULL;
	mutex_unlock(&p->scos->lock);
	sco_unref(p->scos, TAKE_PTR(w->sco));
	return 0;
}

static int make_sco(struct rewriter *w, const struct sco_make_options *o, struct err *e)
{
	struct pool *p = w->rp->pool;
	struct sco **more = reallocarray(w->made, w->made_count + 1, sizeof(struct sco *));
	int r;

	if (!more)
		return err_set(e, -ENOMEM, "rewriting the ring");
	w->made = more;
	r = sco_make(&p->world, o, &w->sco, e);
	if (r < 0)
		return r;
	sco_ref(p->scos, w->sco);
	w->made[w->made_count++] = w->sco;
	w->rp->stream->epoch_has_sco = true;
	return 0;
}

/* Have a batch with room for one entry and so many clusters. */
static int make_room(struct rewriter *w, unsigned int clusters, struct err *e)
{
	struct stream *s = w->rp->stream;
	struct sco_make_options o = {
		.stream = s->id,
		.urgent = true,
		.first_of_epoch = !s->epoch_has_sco,
		.cut_sco = s->cut_sco,
		.cut_batches = s->cut_batches,
		.cut_lsn = s->cut_lsn,
	};
	int r;

	if (w->sco && w->h.entry_count &&
	    batch_has_room(w->h.entry_count + 1u, w->h.cluster_count + clusters) &&
	    w->sco->next_slot + clusters <= w->sco->slots_max)
		return 0;
	r = w->sco ? batch_flush(w, e) : 0;
	if (r == 0 && w->sco && w->sco->next_slot + 1 + clusters > w->sco->slots_max)
		r = sco_finish(w, false, e);
	if (r == 0 && !w->sco)
		r = make_sco(w, &o, e);
	if (r == 0)
		batch_begin(w);
	return r;
}

/* Clusters that their writer put straight into the SCO; they must have their checksums. */
static int direct_bytes(struct replay *rp, const uint8_t *block, const struct batch_header *h,
			uint32_t slot, unsigned int count, uint8_t *dst, struct err *e)
{
	struct sco *s = sco_get(rp->pool->scos, h->sco);
	int r;

	if (!s)
		return err_set(e, -EBADMSG, "ring: SCO %" PRIu64 " slot %u is lost", h->sco, slot);
	r = sco_read(rp->pool->scos, s, slot, count, dst, e);
	sco_unref(rp->pool->scos, s);
	for (unsigned int i = 0; i < count && r == 0; i++)
		if (crc32c(0, dst + (size_t)i * CLUSTER_BYTES, CLUSTER_BYTES) !=
		    batch_crc_get(block, slot + i - h->slot - 1))
			r = err_set(e, -EBADMSG, "ring: SCO %" PRIu64 " slot %u: checksum", h->sco,
				    slot + i);
	return r;
}

/* Clusters of an entry in the ring: from its frame, or, where that does not have them or is damaged,
 * from the SCO. */
static int ring_bytes(struct replay *rp, const uint8_t *block, const struct batch_header *h,
		      uint32_t slot, unsigned int count, uint8_t *dst, struct err *e)
{
	const unsigned int first = slot - h->slot - 1;
	int r = 0;

	if (h->flags & BATCH_DIRECT)
		return count ? direct_bytes(rp, block, h, slot, count, dst, e) : 0;
	for (unsigned int i = 0; i < count && r == 0; i++) {
		uint8_t *to = dst + (size_t)i * CLUSTER_BYTES;

		memcpy(to, block + (size_t)(1 + first + i) * CLUSTER_BYTES, CLUSTER_BYTES);
		if (crc32c(0, to, CLUSTER_BYTES) != batch_crc_get(block, first + i))
			r = direct_bytes(rp, block, h, slot + i, 1, to, e);
	}
	return r;
}

static int put_entry(struct rewriter *w, struct log_entry *entry, unsigned int clusters,
		     struct err *e)
{
	uint8_t bytes[BATCH_ENTRY_BYTES];
	struct sco *s = w->sco;

	batch_entry_encode(w->mem, w->h.entry_count, entry, s->salt, w->h.cluster_count, clusters);
	batch_entry_publish(w->mem, w->h.entry_count, entry->kind);
	w->h.entry_count++;
	w->h.cluster_count = (uint16_t)(w->h.cluster_count + clusters);
	s->next_slot += clusters;
	w->last_lsn = entry->lsn;
	s->first_lsn = s->first_lsn ? s->first_lsn : entry->lsn;
	s->last_lsn = entry->lsn + (entry->kind == ENTRY_VOID ? entry->cluster_count - 1 : 0);
	log_entry_encode(entry, bytes);
	return buf_append(&s->log, bytes, sizeof(bytes)) < 0 ? err_set(e, -ENOMEM, "log") : 0;
}

/* What was written straight into a SCO is lost if the sync failed that should have kept it. */
static bool is_lost(struct rewriter *w, struct replay_entry *re, int r, const struct err *e)
{
	if (r != -EBADMSG && r != -EUCLEAN && r != -ENOENT)
		return false;
	replay_damage(w->rp, "LSN %" PRIu64 ": %.100s", re->entry.lsn,
		      e ? e->message : err_name(r));
	w->rp->end = min_u64(w->rp->end, re->entry.lsn - 1);
	return true;
}

static unsigned int entry_clusters(const struct log_entry *entry)
{
	if (entry->slot == 0)
		return 0;
	return entry->kind == ENTRY_DATA ? entry->cluster_count : 1;
}

static int rewrite_entry(struct rewriter *w, struct replay_entry *re, struct err *e)
{
	struct log_entry *entry = &re->entry;
	unsigned int clusters = entry_clusters(entry);
	uint32_t old_slot = entry->slot;
	struct batch_header h;
	int r;

	r = batch_open_decode(re->block, &h, e);
	if (r == 0)
		r = make_room(w, clusters, e);
	if (r < 0)
		return r;
	r = ring_bytes(w->rp, re->block, &h, old_slot, clusters,
		       w->mem + (size_t)(1 + w->h.cluster_count) * CLUSTER_BYTES, e);
	if (is_lost(w, re, r, e))
		return 0; /* nothing of it was put into the batch; it stays an LSN that misses */
	if (r < 0)
		return r;
	for (unsigned int i = 0; i < clusters; i++) {
		unsigned int at = w->h.cluster_count + i;

		batch_crc_put(w->mem, at, batch_crc_get(re->block, old_slot + i - h.slot - 1));
		w->sco->crcs[w->h.slot + 1 + at] = batch_crc_get(w->mem, at);
	}
	entry->slot = (uint16_t)(clusters ? w->h.slot + 1u + w->h.cluster_count : 0);
	re->sco = clusters ? w->sco : NULL;
	re->from_ring = false;
	return put_entry(w, entry, clusters, e);
}

/* LSNs that were taken and never published, so that the log has no holes. */
static int rewrite_gap(struct rewriter *w, lsn_t first, lsn_t end, struct err *e)
{
	struct log_entry entry = {
		.lsn = first,
		.cluster_count = (uint32_t)(end - first),
		.kind = ENTRY_VOID,
	};
	int r = make_room(w, 0, e);

	return r < 0 ? r : put_entry(w, &entry, 0, e);
}

static int rewrite_all(struct rewriter *w, struct err *e)
{
	struct replay *rp = w->rp;
	lsn_t expected = rp->checkpoint_lsn + 1;
	int r = 0;

	for (size_t i = 0; i < rp->count && r == 0; i++) {
		struct replay_entry *re = &rp->entries[i];

		if (rp->old && re->entry.lsn > expected && !rp->damaged)
			r = rewrite_gap(w, expected, re->entry.lsn, e);
		if (r == 0 && re->from_ring)
			r = rewrite_entry(w, re, e);
		expected = re->entry.lsn +
			   (re->entry.kind == ENTRY_VOID ? re->entry.cluster_count : 1);
	}
	return r == 0 ? sco_finish(w, true, e) : r;
}

/* What a try made that failed goes, the header with the cut as well. */
static void take_back(struct rewriter *w)
{
	struct pool *p = w->rp->pool;

	for (size_t i = 0; i < w->made_count; i++) {
		const struct sco *s = w->made[i];

		(void)sco_remove(p->scos, w->made[i]);
		flash_discard(p->flash, s->dir, s->stream, s->number, s->version, s->file_bytes);
	}
	w->rp->stream->epoch_has_sco = false;
}

/* *ret_again: a device failed, and another file, in another directory if there is one, may do better. */
static int rewrite_once(struct replay *rp, uint8_t *mem, bool *ret_again, struct err *e)
{
	struct rewriter w = { .rp = rp, .mem = mem };
	struct pool *p = rp->pool;
	int r = rewrite_all(&w, e);

	*ret_again = r == -EIO && w.sco;
	if (*ret_again) {
		(void)flash_note_error(p->flash, w.sco->dir, r);
		take_back(&w);
		log_warning("volume: the ring's content is written to another file: stream=%u: %s",
			    rp->stream->id, e->message);
	}
	if (w.sco)
		sco_unref(p->scos, w.sco);
	sco_list_free(p->scos, w.made, w.made_count);
	return r;
}

size_t recovery_first_of_ring(const struct replay *rp)
{
	size_t first = 0;

	while (first < rp->count && !rp->entries[first].from_ring)
		first++;
	return first;
}

int recovery_rewrite(struct replay *rp, struct err *e)
{
	unsigned int tries = rp->pool->flash->dir_count + REWRITE_TRIES_MORE;
	const size_t first = recovery_first_of_ring(rp);
	size_t bytes = (rp->count - first) * sizeof(*rp->entries);
	struct replay_entry *before = malloc(bytes + 1);
	uint8_t *mem = direct_alloc((size_t)(1 + BATCH_CLUSTERS_MAX) * CLUSTER_BYTES);
	bool again = before && mem;
	int r = again ? 0 : err_set(e, -ENOMEM, "rewriting the ring");

	if (again && bytes)
		memcpy(before, rp->entries + first, bytes);
	while (again && tries-- > 0) {
		r = rewrite_once(rp, mem, &again, e);
		if (again && bytes)
			memcpy(rp->entries + first, before, bytes);
	}
	free(before);
	free(mem);
	return r;
}
