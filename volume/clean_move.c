#include "volume/clean_move.h"

#include "common/crc32c.h"
#include "volume/io.h"

#include <stdlib.h>
#include <string.h>

/* A wait for room looks again so often whether the cleaner is to stop. */
#define CLEAN_PAUSE_NS UINT64_C(200000000)

static int verify(struct clean_move *m, uint32_t slot, uint32_t count, const uint8_t *bytes,
		  const uint32_t *crcs)
{
	for (uint32_t i = 0; i < count && !MUTANT(MUTANT_MOVE_UNVERIFIED); i++)
		if (crc32c(0, bytes + (size_t)i * CLUSTER_BYTES, CLUSTER_BYTES) != crcs[i])
			return err_set(m->e, -EBADMSG, "slot %u: checksum", slot + i);
	return 0;
}

int clean_window_bytes(struct clean_move *m, uint32_t slot, uint32_t count,
		       const uint8_t **ret_bytes, uint32_t *ret_crcs)
{
	const struct clean_window *w = m->window;
	uint8_t *bytes;
	int r;

	if (slot < w->first_slot || slot + count > w->first_slot + w->count)
		return err_set(m->e, -EUCLEAN, "its log names slot %u, which it does not have",
			       slot);
	bytes = w->bytes + (size_t)(slot - w->first_slot) * CLUSTER_BYTES;
	*ret_bytes = bytes;
	r = sco_index_crcs(m->pool->index, m->sco, slot, count, ret_crcs, m->e);
	if (r == 0)
		r = verify(m, slot, count, bytes, ret_crcs);
	/* Flash is wrong: after a kill a chunk of the cache may be in the place of another. */
	if (r != -EBADMSG || !sco_has_copy(m->pool->scos, m->sco))
		return r;
	r = sco_read_again(m->pool->scos, m->sco, (uint64_t)slot * CLUSTER_BYTES,
			   (size_t)count * CLUSTER_BYTES, bytes, m->e);
	return r == 0 ? verify(m, slot, count, bytes, ret_crcs) : r;
}

int clean_wait_room(struct clean_move *m, uint64_t generation)
{
	if (job_is_stopping(&m->pool->cleaner))
		return -ESHUTDOWN;
	pool_wait_room(m->pool, generation, CLEAN_PAUSE_NS);
	return 0;
}

void clean_count_moved(struct clean_move *m, unsigned int count)
{
	counter_add(&m->pool->metrics.clean_clusters, count);
	m->moved += count;
}

/* Write clusters again that the map still names here. */
static int move_run(struct clean_move *m, uint64_t cluster, uint32_t slot, uint32_t count)
{
	struct pool *p = m->pool;
	const uint8_t *bytes = NULL;
	uint32_t crcs[PAGE_CLUSTERS];
	int r = clean_window_bytes(m, slot, count, &bytes, crcs);

	while (r >= 0 && count > 0) {
		uint64_t generation = pool_room_generation(p);

		r = io_relocate(m->object, cluster, count, bytes, loc_make(0, m->sco->number, slot),
				m->e);
		if (r == -EAGAIN || r == -ENOSPC) {
			r = clean_wait_room(m, generation);
			continue;
		}
		if (r < 0)
			break;
		clean_count_moved(m, (unsigned int)r);
		cluster += (uint32_t)r;
		slot += (uint32_t)r;
		count -= (uint32_t)r;
		bytes += (size_t)r * CLUSTER_BYTES;
	}
	/* Overwritten or deleted meanwhile: dead is what we want; the next round sees what is left. */
	return r == -ESTALE ? 0 : r < 0 ? r : 0;
}

/* Under the gate. One that is frozen just now seems to be: then it is doubled. */
static bool is_behind_freezes(const struct clean_move *m, const struct moving *e)
{
	return m->object->stream->id == m->sco->stream &&
	       e->lsn > __atomic_load_n(&m->object->since_lsn, __ATOMIC_RELAXED);
}

/*
 * Of an object over frozen layers only what its live layer has itself: what it inherits would be
 * doubled. An entry behind the last freeze was written to that layer, and no other one names its place.
 * Of others its rows tell, for all entries of a victim are below the checkpoint.
 */
static int keep_own(struct clean_move *m, const struct moving *e, loc_t *locs)
{
	struct layer *l = m->object->layer; /* under the gate */
	loc_t own[PAGE_CLUSTERS];
	int r;

	if (!layer_has_parent(l) || is_behind_freezes(m, e))
		return 0;
	r = map_read_rows(m->pool->map, l, e->first_cluster >> PAGE_CLUSTERS_SHIFT, true, own,
			  m->e);
	for (uint32_t i = 0; i < e->count && r == 0; i++)
		if (own[e->first_cluster % PAGE_CLUSTERS + i] != locs[i])
			locs[i] = LOC_UNMAPPED;
	return r;
}

static bool any_here(const loc_t *locs, const struct moving *e, loc_t here)
{
	for (uint32_t i = 0; i < e->count; i++)
		if (locs[i] == here + i)
			return true;
	return false;
}

static int move_live(struct clean_move *m, const struct moving *e)
{
	loc_t locs[PAGE_CLUSTERS], here = loc_make(0, m->sco->number, e->slot);
	uint32_t crcs[PAGE_CLUSTERS];
	uint8_t known[PAGE_CLUSTERS / 8];
	int r;

	rwlock_read_lock(&m->object->gate);
	r = map_lookup(m->pool->map, m->object->layer, e->first_cluster, e->count, locs, crcs,
		       known, m->e);
	if (r == 0 && any_here(locs, e, here))
		r = keep_own(m, e, locs);
	rwlock_read_unlock(&m->object->gate);
	for (uint32_t i = 0, n; r == 0 && i < e->count; i += n) {
		for (n = 0; i + n < e->count && locs[i + n] == here + i + n; n++)
			continue;
		if (n)
			r = move_run(m, e->first_cluster + i, e->slot + i, n);
		else
			n = 1;
	}
	return r;
}

/* First where it was written to; a merge may have brought it into the live layer since. */
static int move_entry(struct clean_move *m, const struct moving *e)
{
	uint32_t left = e->count;
	int r = clean_frozen_entry(m, e, &left);

	return r == 0 && left && m->object ? move_live(m, e) : r;
}

/* The object of the next entry in m->object, or NULL: it is gone. */
static int take_object(struct clean_move *m, uint64_t id)
{
	int r = 0;

	if (m->object && m->object->id == id)
		return 0;
	if (m->object)
		object_put(m->object);
	m->object = NULL;
	if (id != m->missing)
		r = object_get(m->pool, id, &m->object, m->e);
	if (r == -ENOENT)
		m->missing = id;
	return r == -ENOENT ? 0 : r;
}

void clean_move_begin(struct clean_move *m, struct pool *p, struct sco *s, struct err *e)
{
	*m = (struct clean_move){ .pool = p, .sco = s, .e = e };
}

int clean_move_window(struct clean_move *m, struct clean_window *w)
{
	int r = 0;

	if (w->result < 0) {
		*m->e = w->error;
		return w->result;
	}
	m->window = w;
	if (w->first_slot == 0) {
		m->log = w->log;
		w->log = (struct clean_log){ 0 };
		r = frozen_finder_begin(m);
	}
	for (; m->at < m->log.count && r == 0; m->at++) {
		const struct moving *e = &m->log.moving[m->at];

		if (e->slot / CLEAN_WINDOW_SLOTS != w->first_slot / CLEAN_WINDOW_SLOTS)
			break;
		if (job_is_stopping(&m->pool->cleaner))
			return -ESHUTDOWN;
		r = take_object(m, e->object);
		if (r == 0)
			r = move_entry(m, e);
	}
	return r;
}

void clean_move_end(struct clean_move *m)
{
	if (m->object)
		object_put(m->object);
	frozen_finder_end(m);
	free(m->log.moving);
}
