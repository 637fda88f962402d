/*
 * cleaner - gives flash back: moves what lives in mostly dead SCOs to the head of the log, through
 * the ordinary write path and only where the old place still holds, so that they die whole.
 *
 * Garbage is measured as of the last checkpoint. Victims are those with the least live data.
 */
#include "common/crc32c.h"
#include "common/log.h"
#include "volume/io.h"
#include "volume/mutant.h"
#include "volume/pool_impl.h"

#include <stdlib.h>
#include <string.h>

/* Victims of one round; then a checkpoint counts anew. */
#define ROUND_VICTIMS 16u
/* Between two rounds: checkpoint and cleaner call each other. */
#define ROUND_PAUSE_NS UINT64_C(10000000)
/* Garbage that is never worth a round. */
#define SLACK_SCOS     2u
#define CLEAN_PAUSE_NS UINT64_C(200000000)

/* As counted: a checkpoint may count anew while a round goes on. */
struct victim {
	struct sco *sco; /* referenced */
	uint32_t live_slots, data_slots;
};

struct victim_choice {
	struct victim *victims;
	size_t count;
	uint64_t used_bytes, live_bytes;
};

/* Sealed SCOs that a checkpoint has counted, and how much they take. */
static void count_garbage(struct pool *p, struct sco **scos, size_t count, struct victim_choice *v)
{
	for (size_t i = 0; i < count; i++) {
		struct victim *victim = &v->victims[v->count];
		struct sco *s = scos[i];
		struct stream *stream = pool_stream(p, s->stream);
		lsn_t checkpointed =
			stream ? __atomic_load_n(&stream->checkpoint_lsn, __ATOMIC_RELAXED) : 0;
		bool counted;

		mutex_lock(&p->scos->lock);
		counted = s->life == SCO_LIFE_SEALED && !s->busy && !s->dead &&
			  s->last_lsn <= checkpointed;
		/* What could not be moved is nobody's hurry until something in it changed. */
		if (counted && s->stuck != s->live_slots + 1) {
			v->used_bytes += (uint64_t)sco_data_slots(s) * CLUSTER_BYTES;
			v->live_bytes += (uint64_t)s->live_slots * CLUSTER_BYTES;
		}
		*victim = (struct victim){ s, s->live_slots, sco_data_slots(s) };
		mutex_unlock(&p->scos->lock);
		if (counted)
			v->count++;
		else
			sco_unref(p->scos, s);
	}
}

static int by_live(const void *a, const void *b)
{
	const struct victim *x = a, *y = b;
	/* Share of live data, without dividing. */
	uint64_t lx = (uint64_t)x->live_slots * y->data_slots;
	uint64_t ly = (uint64_t)y->live_slots * x->data_slots;

	if (lx != ly)
		return lx < ly ? -1 : 1;
	return x->sco->number < y->sco->number ? -1 : x->sco->number > y->sco->number;
}

/* Slots of the victim that are in memory at once. */
#define WINDOW_SLOTS   4096u
#define READ_SLOTS     4096u
#define READ_MAP_WORDS ((WINDOW_SLOTS + PAGE_CLUSTERS + READ_SLOTS) / READ_SLOTS / 64 + 1)

/* An entry of the victim's log that has clusters in the window. */
struct moving {
	uint64_t object, first_cluster;
	uint32_t slot, count;
};

struct move {
	struct pool *pool;
	struct sco *sco;
	struct moving *moving;
	size_t count, cap;
	uint8_t *window;       /* WINDOW_SLOTS clusters */
	uint32_t window_slot;  /* first of them */
	uint64_t *read;	       /* which READ_SLOTS pieces of the window were read */
	struct object *object; /* of the entry at hand; referenced */
	struct err *e;
};

static int collect_entry(void *arg, const struct log_entry *entry)
{
	struct move *m = arg;

	if (entry->slot == 0)
		return 0;
	if (m->count == m->cap) {
		size_t cap = m->cap ? 2 * m->cap : 1024;
		struct moving *more = reallocarray(m->moving, cap, sizeof(*more));

		if (!more)
			return -ENOMEM;
		m->moving = more;
		m->cap = cap;
	}
	m->moving[m->count++] = (struct moving){
		.object = entry->object,
		.first_cluster = entry->first_cluster,
		.slot = entry->slot,
		.count = entry->kind == ENTRY_DATA ? entry->cluster_count : 1,
	};
	return 0;
}

/* By window, then by address: what lies side by side in an object does so again. */
static int by_address(const void *a, const void *b)
{
	const struct moving *x = a, *y = b;
	uint32_t wx = x->slot / WINDOW_SLOTS, wy = y->slot / WINDOW_SLOTS;

	if (wx != wy)
		return wx < wy ? -1 : 1;
	if (x->object != y->object)
		return x->object < y->object ? -1 : 1;
	if (x->first_cluster != y->first_cluster)
		return x->first_cluster < y->first_cluster ? -1 : 1;
	return x->slot < y->slot ? -1 : x->slot > y->slot;
}

/* Bytes of slots of the window, read in pieces as they are needed and verified. */
static int window_bytes(struct move *m, uint32_t slot, uint32_t count, uint8_t **ret_bytes)
{
	uint32_t crcs[PAGE_CLUSTERS];
	uint32_t at = slot - m->window_slot;
	int r;

	for (uint32_t piece = at / READ_SLOTS; piece * READ_SLOTS < at + count; piece++) {
		uint32_t first = m->window_slot + piece * READ_SLOTS;
		uint32_t n = (uint32_t)min_u64(READ_SLOTS, m->sco->next_slot - first);

		if (m->read[piece / 64] & UINT64_C(1) << piece % 64)
			continue;
		r = sco_read(m->pool->scos, m->sco, first, n,
			     m->window + (size_t)piece * READ_SLOTS * CLUSTER_BYTES, m->e);
		if (r < 0)
			return r;
		m->read[piece / 64] |= UINT64_C(1) << piece % 64;
	}
	*ret_bytes = m->window + (size_t)at * CLUSTER_BYTES;
	r = sco_index_crcs(m->pool->index, m->sco, slot, count, crcs, m->e);
	for (uint32_t i = 0; r == 0 && i < count; i++)
		if (crc32c(0, *ret_bytes + (size_t)i * CLUSTER_BYTES, CLUSTER_BYTES) != crcs[i] &&
		    !MUTANT(MUTANT_MOVE_UNVERIFIED))
			r = err_set(m->e, -EBADMSG, "SCO %" PRIu64 " slot %u: checksum",
				    m->sco->number, slot + i);
	return r;
}

/* Write clusters again that the map still names here. */
static int move_run(struct move *m, uint64_t cluster, uint32_t slot, uint32_t count)
{
	struct pool *p = m->pool;
	uint8_t *bytes;
	int r = window_bytes(m, slot, count, &bytes);

	while (r >= 0 && count > 0) {
		uint64_t generation = pool_room_generation(p);

		r = io_relocate(m->object, cluster, count, bytes, loc_make(0, m->sco->number, slot),
				m->e);
		if (r == -EAGAIN || r == -ENOSPC) {
			if (job_is_stopping(&p->cleaner))
				return -ESHUTDOWN;
			pool_wait_room(p, generation, CLEAN_PAUSE_NS);
			r = 0;
			continue;
		}
		if (r < 0)
			break;
		counter_add(&p->metrics.clean_clusters, (uint64_t)r);
		cluster += (uint32_t)r;
		slot += (uint32_t)r;
		count -= (uint32_t)r;
		bytes += (size_t)r * CLUSTER_BYTES;
	}
	/* Overwritten or deleted meanwhile: dead is what we want; the next round sees what is left. */
	return r == -ESTALE ? 0 : r < 0 ? r : 0;
}

static int move_entry(struct move *m, const struct moving *e)
{
	loc_t locs[PAGE_CLUSTERS];
	uint32_t crcs[PAGE_CLUSTERS];
	uint8_t known[PAGE_CLUSTERS / 8];
	int r;

	rwlock_read_lock(&m->object->gate);
	r = map_lookup(m->pool->map, m->object->layer, e->first_cluster, e->count, locs, crcs,
		       known, m->e);
	rwlock_read_unlock(&m->object->gate);
	for (uint32_t i = 0, n; r == 0 && i < e->count; i += n) {
		loc_t here = loc_make(0, m->sco->number, e->slot);

		for (n = 0; i + n < e->count && locs[i + n] == here + i + n; n++)
			continue;
		if (n)
			r = move_run(m, e->first_cluster + i, e->slot + i, n);
		else
			n = 1;
	}
	return r;
}

static int move_all(struct move *m)
{
	uint64_t missing = 0; /* object that is gone */
	int r = 0;

	for (size_t i = 0; i < m->count && r == 0; i++) {
		const struct moving *e = &m->moving[i];

		if (job_is_stopping(&m->pool->cleaner))
			return -ESHUTDOWN;
		if (i == 0 || e->slot / WINDOW_SLOTS != m->window_slot / WINDOW_SLOTS) {
			m->window_slot = e->slot / WINDOW_SLOTS * WINDOW_SLOTS;
			memset(m->read, 0, READ_MAP_WORDS * sizeof(*m->read));
		}
		if (e->object == missing)
			continue;
		if (m->object && m->object->id != e->object) {
			object_put(m->object);
			m->object = NULL;
		}
		if (!m->object) {
			r = object_get(m->pool, e->object, &m->object, m->e);
			if (r == -ENOENT) {
				missing = e->object;
				r = 0;
				continue;
			}
		}
		if (r == 0)
			r = move_entry(m, e);
	}
	return r;
}

static int clean_sco(struct pool *p, struct sco *s, struct err *e)
{
	struct move m = { .pool = p, .sco = s, .e = e };
	struct sco_footer footer;
	struct env_file *f;
	int r;

	/* An entry of up to a page may begin in one window and end behind it. */
	m.window =
		direct_alloc((size_t)(WINDOW_SLOTS + PAGE_CLUSTERS + READ_SLOTS) * CLUSTER_BYTES);
	m.read = calloc(READ_MAP_WORDS, sizeof(*m.read));
	r = m.window && m.read ? sco_file(p->scos, s, &f, e) : err_set(e, -ENOMEM, "cleaning");
	if (r == 0)
		r = sco_read_footer(p->env, f, s->file_bytes, &footer, e);
	if (r == 0)
		r = sco_read_log(p->env, f, &footer, collect_entry, &m, e);
	if (r == 0 && m.count) {
		qsort(m.moving, m.count, sizeof(*m.moving), by_address);
		r = move_all(&m);
	}
	if (m.object)
		object_put(m.object);
	free(m.moving);
	free(m.window);
	free(m.read);
	return r < 0 ? err_wrap(e, r, "cleaning SCO %" PRIu64, s->number) : 0;
}

static bool too_much_garbage(const struct pool *p, uint64_t used, uint64_t live)
{
	uint64_t slack = SLACK_SCOS * (uint64_t)p->world.sco_slots * CLUSTER_BYTES;

	return used > live / 100 * pool_option(p, clean_target_percent) + slack;
}

/* Clean until enough is freed or the round is over. Returns victims, or negative. */
static int clean_round(struct pool *p, struct err *e)
{
	struct victim_choice v = { 0 };
	unsigned int victims = 0;
	uint64_t used, moved;
	struct sco **scos;
	size_t count;
	int r;

	r = sco_table_list(p->scos, 0, &scos, &count);
	if (r < 0)
		return err_set(e, r, "cleaning");
	v.victims = calloc(count + 1, sizeof(*v.victims));
	if (!v.victims) {
		sco_list_free(p->scos, scos, count);
		return err_set(e, -ENOMEM, "cleaning");
	}
	count_garbage(p, scos, count, &v);
	free(scos); /* the references are among the victims now, or dropped */
	used = v.used_bytes;
	if (v.count)
		qsort(v.victims, v.count, sizeof(*v.victims), by_live);
	for (size_t i = 0; i < v.count && victims < ROUND_VICTIMS && r == 0; i++) {
		struct sco *s = v.victims[i].sco;
		uint32_t live_slots = v.victims[i].live_slots;
		uint64_t live = (uint64_t)live_slots * CLUSTER_BYTES;
		uint64_t data = (uint64_t)v.victims[i].data_slots * CLUSTER_BYTES;

		if (!too_much_garbage(p, used, v.live_bytes) || live * 10 > data * 9)
			break;
		if (s->stuck == live_slots + 1) /* only this thread sets it */
			continue; /* of frozen layers: nothing changed since it was tried */
		moved = counter_get(&p->metrics.clean_clusters);
		r = clean_sco(p, s, e);
		if (r == -ESHUTDOWN || r == -ENOMEM)
			break;
		if (r <
		    0) /* damaged, or its stream failed: the others can be cleaned all the same */
			log_warning("volume: not cleaned before it changes: %s", e->message);
		if (r < 0 || moved == counter_get(&p->metrics.clean_clusters)) {
			mutex_lock(&p->scos->lock);
			s->stuck = live_slots + 1;
			mutex_unlock(&p->scos->lock);
			r = 0;
			continue;
		}
		used -= data - min_u64(data, live);
		victims++;
	}
	for (size_t i = 0; i < v.count; i++)
		sco_unref(p->scos, v.victims[i].sco);
	free(v.victims);
	return r < 0 ? r : (int)victims;
}

uint64_t cleaner_step(void *arg)
{
	struct pool *p = arg;
	uint64_t now_ns = clock_mono_ns();
	struct err e = { 0 };
	int r;

	if (now_ns < p->cleaned_ns + ROUND_PAUSE_NS)
		return p->cleaned_ns + ROUND_PAUSE_NS - now_ns;
	r = clean_round(p, &e);
	p->cleaned_ns = clock_mono_ns();

	if (r < 0 && r != -ESHUTDOWN)
		log_warning("volume: cleaning stopped: %s", e.message);
	if (r > 0) /* it counts, buries, and calls us again */
		job_kick(&p->checkpointer);
	return WAIT_FOREVER;
}
