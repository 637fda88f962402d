/*
 * cleaner - gives flash back: moves what lives in mostly dead SCOs to the head of the log, through
 * the ordinary write path and only where the old place still holds, so that they die whole.
 *
 * Garbage is measured as of the last checkpoint. Victims are those with the least live data.
 */
#include "common/crc32c.h"
#include "common/log.h"
#include "volume/io.h"
#include "volume/pool_impl.h"

#include <stdlib.h>

/* Victims of one round; then a checkpoint counts anew. */
#define ROUND_VICTIMS 16u
/* Garbage that is never worth a round. */
#define SLACK_SCOS 4u
#define CLEAN_PAUSE_NS UINT64_C(200000000)

struct victim_choice {
	struct sco **scos;
	size_t count;
	uint64_t used_bytes, live_bytes;
};

/* Sealed SCOs that a checkpoint has counted, and how much they take. */
static void count_garbage(struct pool *p, struct victim_choice *v)
{
	size_t kept = 0;

	for (size_t i = 0; i < v->count; i++) {
		struct sco *s = v->scos[i];
		struct stream *stream = pool_stream(p, s->stream);
		lsn_t checkpointed =
			stream ? __atomic_load_n(&stream->checkpoint_lsn, __ATOMIC_RELAXED) : 0;
		bool counted;

		mutex_lock(&p->scos->lock);
		counted = s->life == SCO_LIFE_SEALED && !s->busy && !s->dead &&
			  s->last_lsn <= checkpointed;
		if (counted) {
			v->used_bytes += s->file_bytes;
			v->live_bytes += (uint64_t)s->live_slots * CLUSTER_BYTES;
		}
		mutex_unlock(&p->scos->lock);
		if (counted)
			v->scos[kept++] = s;
		else
			sco_unref(p->scos, s);
	}
	v->count = kept;
}

static int by_live(const void *a, const void *b)
{
	const struct sco *x = *(struct sco *const *)a, *y = *(struct sco *const *)b;
	/* Share of live data, without dividing. */
	uint64_t lx = x->live_slots * y->file_bytes, ly = y->live_slots * x->file_bytes;

	if (lx != ly)
		return lx < ly ? -1 : 1;
	return x->number < y->number ? -1 : x->number > y->number;
}

struct move {
	struct pool *pool;
	struct sco *sco;
	struct object *object; /* of the last entry; referenced */
	struct bounce *bounce;
	struct err *e;
};

/* One cluster of the victim: if the map still names it, write it again. */
static int move_cluster(struct move *m, uint64_t cluster, uint32_t slot)
{
	struct pool *p = m->pool;
	loc_t expect = loc_make(0, m->sco->number, slot), loc;
	uint8_t known[PAGE_CLUSTERS / 8];
	uint32_t crc, want;
	int r;

	r = map_lookup(p->map, m->object->layer, cluster, 1, &loc, &crc, known, m->e);
	if (r < 0 || loc != expect)
		return r;
	r = sco_read(p->scos, m->sco, slot, 1, m->bounce->mem, m->e);
	if (r == 0)
		r = sco_index_crcs(p->index, m->sco, slot, 1, &want, m->e);
	if (r == 0 && crc32c(0, m->bounce->mem, CLUSTER_BYTES) != want)
		r = err_set(m->e, -EBADMSG, "SCO %" PRIu64 " slot %u: checksum", m->sco->number,
			    slot);
	for (;;) {
		uint64_t generation = pool_room_generation(p);

		if (r == 0)
			r = io_relocate(m->object, cluster, m->bounce->mem, expect, m->e);
		if (r != -EAGAIN && r != -ENOSPC)
			break;
		if (job_is_stopping(&p->cleaner))
			return -ESHUTDOWN;
		pool_wait_room(p, generation, CLEAN_PAUSE_NS);
		r = 0;
	}
	if (r == 0)
		counter_inc(&p->metrics.clean_clusters);
	return r == -ESTALE ? 0 : r; /* overwritten or deleted meanwhile: dead is what we want */
}

static int move_entry(void *arg, const struct log_entry *entry)
{
	struct move *m = arg;
	uint32_t count = entry->kind == ENTRY_DATA ? entry->cluster_count : 1;
	int r = 0;

	if (entry->slot == 0)
		return 0;
	if (job_is_stopping(&m->pool->cleaner))
		return -ESHUTDOWN;
	if (m->object && m->object->id != entry->object) {
		object_put(m->object);
		m->object = NULL;
	}
	if (!m->object) {
		r = object_get(m->pool, entry->object, &m->object, m->e);
		if (r < 0)
			return r == -ENOENT ? 0 : r;
	}
	for (uint32_t i = 0; i < count && r == 0; i++)
		r = move_cluster(m, entry->first_cluster + i, entry->slot + i);
	return r;
}

static int clean_sco(struct pool *p, struct sco *s, struct err *e)
{
	struct move m = { .pool = p, .sco = s, .e = e };
	struct sco_footer footer;
	struct env_file *f;
	int r;

	m.bounce = bounce_get(p);
	if (!m.bounce)
		return err_set(e, -ENOMEM, "cleaning");
	r = sco_file(p->scos, s, &f, e);
	if (r == 0)
		r = sco_read_footer(p->env, f, s->file_bytes, &footer, e);
	if (r == 0)
		r = sco_read_log(p->env, f, &footer, move_entry, &m, e);
	if (m.object)
		object_put(m.object);
	bounce_put(p, m.bounce);
	return r < 0 ? err_wrap(e, r, "cleaning SCO %" PRIu64, s->number) : 0;
}

static bool too_much_garbage(const struct pool *p, uint64_t used, uint64_t live)
{
	uint64_t slack = SLACK_SCOS * (uint64_t)p->world.sco_slots * CLUSTER_BYTES;

	return used > live / 100 * p->options.clean_target_percent + slack;
}

/* Clean until enough is freed or the round is over. Returns victims, or negative. */
static int clean_round(struct pool *p, struct err *e)
{
	struct victim_choice v = { 0 };
	unsigned int victims = 0;
	uint64_t used;
	int r;

	r = sco_table_list(p->scos, 0, &v.scos, &v.count);
	if (r < 0)
		return err_set(e, r, "cleaning");
	count_garbage(p, &v);
	used = v.used_bytes;
	if (v.count)
		qsort(v.scos, v.count, sizeof(struct sco *), by_live);
	for (size_t i = 0; i < v.count && victims < ROUND_VICTIMS && r == 0; i++) {
		struct sco *s = v.scos[i];
		uint64_t live = (uint64_t)s->live_slots * CLUSTER_BYTES;

		if (!too_much_garbage(p, used, v.live_bytes) || live * 10 > s->file_bytes * 9)
			break;
		r = clean_sco(p, s, e);
		used -= s->file_bytes - live;
		victims++;
	}
	sco_list_free(p->scos, v.scos, v.count);
	return r < 0 ? r : (int)victims;
}

uint64_t cleaner_step(void *arg)
{
	struct pool *p = arg;
	struct err e = { 0 };
	int r = clean_round(p, &e);

	if (r < 0 && r != -ESHUTDOWN)
		log_warning("volume: cleaning stopped: %s", e.message);
	if (r > 0) /* it counts, buries, and calls us again */
		job_kick(&p->checkpointer);
	return WAIT_FOREVER;
}
