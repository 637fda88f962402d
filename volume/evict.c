#include "volume/evict.h"

#include "common/log.h"
#include "volume/absent.h"

#include <stdlib.h>

/* Without being asked it looks again so often: room of the disk changes without us. */
#define EVICT_INTERVAL_NS UINT64_C(1000000000)
/* What somebody holds may be free soon. */
#define EVICT_HELD_NS UINT64_C(10000000)
/* Between two requests for a checkpoint or a root that makes more of it evictable. */
#define EVICT_ASK_NS UINT64_C(200000000)
/* Where only the cache wants room, a SCO gives up a chance so often: reads that are longer ago do not
 * keep a whole file from making room for chunks that are read. */
#define EVICT_AGE_NS UINT64_C(1000000000)

/* --- what may go ------------------------------------------------------------------------------- */

void evict_note_root(struct root_builder *b)
{
	struct sco_table *t = b->pool->scos;

	for (size_t i = 0; i < b->stream_count; i++) {
		const struct manifest *m = &b->streams[i].manifest;

		for (uint32_t j = 0; j < m->sco_count && !b->streams[i].damaged; j++) {
			struct sco *s = sco_get(t, m->scos[j].sco);

			if (!s)
				continue;
			mutex_lock(&t->lock);
			if (s->version == m->scos[j].version &&
			    s->object_epoch == m->scos[j].object_epoch) {
				s->rooted = true;
				s->root_whole |= m->scos[j].last_lsn <= m->lsn;
			}
			mutex_unlock(&t->lock);
			sco_unref(t, s);
		}
	}
	job_kick(&b->pool->evictor);
}

/* Why a SCO stays. */
enum verdict {
	MAY_GO,
	IS_HELD,    /* somebody has a reference */
	NOT_SAVED,  /* a checkpoint is to come */
	NOT_ROOTED, /* a root is to come */
	STAYS,	    /* for other reasons */
};

static enum verdict judge_locked(const struct sco_table *t, const struct sco *s,
				 lsn_t checkpoint_lsn, uint32_t own_refs)
{
	if (s->life != SCO_LIFE_SEALED || s->absent || s->dead || s->busy ||
	    s->row_flags & SCO_LINKED)
		return STAYS;
	if (!(s->row_flags & SCO_UPLOADED) || !s->rooted)
		return NOT_ROOTED;
	if ((s->row_change != s->row_saved && !MUTANT(MUTANT_EVICT_UNSAVED)) ||
	    s->last_lsn > checkpoint_lsn)
		return NOT_SAVED;
	if (s->has_cut && sco_cut_is_needed_locked(t, s, checkpoint_lsn))
		return STAYS;
	return s->refs > own_refs ? IS_HELD : MAY_GO;
}

static bool checkpoint_of(struct pool *p, uint32_t stream, lsn_t *ret_lsn)
{
	struct stream *s = pool_stream(p, stream);

	/* Of a damaged stream nothing goes: it may be all there is. */
	if (!s || stream_keeps_all(s))
		return false;
	*ret_lsn = __atomic_load_n(&s->checkpoint_lsn, __ATOMIC_RELAXED);
	return true;
}

static enum verdict judge(struct pool *p, const struct sco *s)
{
	lsn_t lsn;

	if (!checkpoint_of(p, s->stream, &lsn))
		return STAYS;
	GUARD(&p->scos->lock);
	return judge_locked(p->scos, s, lsn, 1);
}

/* --- one SCO ----------------------------------------------------------------------------------- */

/* What a read of a cluster needs first stays near: the slot table, a sixtieth of the data at most, and
 * the footer. Best effort. */
static void keep_index(struct pool *p, struct sco *s)
{
	size_t table_bytes = (size_t)div_up_u64(s->next_slot, SLOTS_PER_CHUNK) * BLOCK_BYTES;
	uint64_t footer_at = s->file_bytes - BLOCK_BYTES;
	uint8_t *mem = direct_alloc(table_bytes);
	struct cache_sco name;

	if (!mem)
		return;
	absent_name(p, s, &name);
	if (sco_read_raw(p->scos, s, s->table_offset_bytes, table_bytes, mem, NULL) == 0)
		cache_put(p->cache, &name, s->table_offset_bytes, table_bytes, mem);
	if (sco_read_raw(p->scos, s, footer_at, BLOCK_BYTES, mem, NULL) == 0)
		cache_put(p->cache, &name, footer_at, BLOCK_BYTES, mem);
	free(mem);
}

/* The caller's reference is the only one, or it stays. */
static enum verdict evict(struct pool *p, struct sco *s)
{
	struct sco_table *t = p->scos;
	struct env_file *file = NULL;
	struct err e = { 0 };
	enum verdict verdict;
	lsn_t lsn;

	if (!checkpoint_of(p, s->stream, &lsn))
		return STAYS;
	keep_index(p, s);
	mutex_lock(&t->lock);
	verdict = judge_locked(t, s, lsn, 1);
	if (verdict == MAY_GO) {
		s->absent = true; /* from here on nobody opens it */
		__atomic_store_n(&t->any_absent, true, __ATOMIC_RELAXED);
		file = TAKE_PTR(s->file);
		t->open_files -= file != NULL;
	}
	mutex_unlock(&t->lock);
	if (verdict != MAY_GO)
		return verdict;
	if (file)
		env_close(p->env, file);
	if (flash_delete(p->flash, s->dir, s->stream, s->number, s->version, s->file_bytes, &e) < 0)
		log_warning("volume: evicted file stays until the next start: %s", e.message);
	counter_inc(&p->metrics.scos_evicted);
	return MAY_GO;
}

/* --- rounds ------------------------------------------------------------------------------------ */

struct candidate {
	uint64_t number;
	uint32_t dir;
};

struct round {
	struct pool *pool;
	struct candidate *candidates; /* in order of numbers, from the hand on */
	size_t count;
	uint64_t room_bytes[FLASH_DIRS_MAX], margin_bytes[FLASH_DIRS_MAX];
	unsigned int evicted;
	bool aging;  /* chances are given up without need */
	bool spared; /* something may go that was read */
	bool held, not_saved, not_rooted;
};

static bool is_short(const struct round *r, uint32_t dir)
{
	return r->room_bytes[dir] < r->margin_bytes[dir];
}

/* What nobody read goes a little earlier: the cache gets room for what somebody did read. */
static bool is_narrow(const struct round *r, uint32_t dir)
{
	return r->room_bytes[dir] < r->margin_bytes[dir] + r->margin_bytes[dir] / 2;
}

static bool any_is(const struct round *r, bool (*is)(const struct round *r, uint32_t dir))
{
	for (uint32_t i = 0; i < r->pool->flash->dir_count; i++)
		if (is(r, i))
			return true;
	return false;
}

static void look_at_room(struct round *r)
{
	uint64_t sco_bytes = (uint64_t)r->pool->world.sco_slots * CLUSTER_BYTES;

	for (uint32_t i = 0; i < r->pool->flash->dir_count; i++) {
		r->room_bytes[i] = flash_dir_room_bytes(r->pool->flash, i);
		r->margin_bytes[i] = flash_dir_margin_bytes(r->pool->flash, i, sco_bytes);
	}
}

static int by_number(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;

	return x->number < y->number ? -1 : x->number > y->number;
}

/* Sealed SCOs with a file of their own. */
static int find_candidates(struct round *r)
{
	struct sco_table *t = r->pool->scos;
	struct sco *s, *next;

	mutex_lock(&t->lock);
	r->candidates = calloc(HASH_COUNT(t->by_number) + 1, sizeof(*r->candidates));
	HASH_ITER (hh, t->by_number, s, next)
		if (r->candidates && s->life == SCO_LIFE_SEALED && !s->absent && !s->dead &&
		    !(s->row_flags & SCO_LINKED))
			r->candidates[r->count++] = (struct candidate){ s->number, s->dir };
	mutex_unlock(&t->lock);
	if (r->count)
		qsort(r->candidates, r->count, sizeof(*r->candidates), by_number);
	return r->candidates ? 0 : -ENOMEM;
}

static size_t hand(const struct round *r)
{
	size_t i = 0;

	while (i < r->count && r->candidates[i].number <= r->pool->evict_hand)
		i++;
	return r->count ? i % r->count : 0;
}

/* Whether it has had its chances. */
static bool is_due(const struct round *r, struct sco *s, uint32_t dir)
{
	unsigned int reads = __atomic_load_n(&s->reads, __ATOMIC_RELAXED);

	if (reads && (is_short(r, dir) || r->aging))
		__atomic_store_n(&s->reads, (uint8_t)(reads - 1), __ATOMIC_RELAXED);
	return reads == 0;
}

static void note(struct round *r, enum verdict verdict)
{
	r->held |= verdict == IS_HELD;
	r->not_saved |= verdict == NOT_SAVED;
	r->not_rooted |= verdict == NOT_ROOTED;
}

static void try_one(struct round *r, const struct candidate *c)
{
	struct pool *p = r->pool;
	struct sco *s = sco_get(p->scos, c->number);
	enum verdict verdict;

	if (!s)
		return;
	verdict = judge(p, s);
	if (verdict == MAY_GO && !is_due(r, s, c->dir)) {
		r->spared = true;
	} else if (verdict == MAY_GO) {
		uint64_t len_bytes = s->file_bytes;

		verdict = evict(p, s);
		if (verdict == MAY_GO) {
			r->room_bytes[c->dir] += len_bytes;
			r->evicted++;
		}
	}
	note(r, verdict);
	sco_unref(p->scos, s);
}

static void go_round(struct round *r)
{
	struct pool *p = r->pool;
	uint64_t now_ns = env_now_mono_ns(p->env);
	size_t first = hand(r);

	r->aging = now_ns >= p->evict_aged_ns + EVICT_AGE_NS;
	if (r->aging)
		p->evict_aged_ns = now_ns;
	for (unsigned int pass = 0; pass <= SCO_READS_MAX && any_is(r, is_narrow); pass++) {
		r->spared = false;
		for (size_t i = 0; i < r->count; i++) {
			const struct candidate *c = &r->candidates[(first + i) % r->count];

			if (!is_narrow(r, c->dir))
				continue;
			if (job_is_stopping(&p->evictor))
				return;
			try_one(r, c);
			p->evict_hand = c->number;
			if (!any_is(r, is_narrow))
				return;
		}
		if (!any_is(r, is_short) || !r->spared)
			return;
	}
}

/* Flash is short of room, and what would give some waits for a checkpoint or a root. */
static void ask(struct round *r)
{
	struct pool *p = r->pool;
	uint64_t now_ns = env_now_mono_ns(p->env);

	if (!any_is(r, is_short) || now_ns < p->evict_asked_ns + EVICT_ASK_NS)
		return;
	p->evict_asked_ns = now_ns;
	if (r->not_saved)
		job_kick(&p->checkpointer);
	if (r->not_rooted && !__atomic_load_n(&p->backend_failed_ns, __ATOMIC_RELAXED))
		job_kick(&p->uploader);
}

/* Nothing else is left: what was fetched makes room, so that writers keep half of theirs. */
static void shrink_cache(struct round *r)
{
	uint64_t len_bytes = 0;

	for (uint32_t i = 0; i < r->pool->flash->dir_count; i++)
		if (r->room_bytes[i] < r->margin_bytes[i] / 2)
			len_bytes += r->margin_bytes[i] / 2 - r->room_bytes[i];
	if (len_bytes && cache_shrink(r->pool->cache, len_bytes))
		pool_made_room(r->pool);
}

static bool is_absent(void *arg, uint64_t number, uint32_t version)
{
	struct sco_table *t = arg;
	struct sco *s = sco_get(t, number);
	bool absent;

	if (!s)
		return false;
	mutex_lock(&t->lock);
	absent = s->absent && s->version == version;
	mutex_unlock(&t->lock);
	sco_unref(t, s);
	return absent;
}

uint64_t evictor_step(void *arg)
{
	struct pool *p = arg;
	struct round r = { .pool = p };

	if (!p->cache_sifted)
		cache_sift(p->cache, is_absent, p->scos);
	p->cache_sifted = true;
	if (__atomic_load_n(&p->fenced, __ATOMIC_RELAXED))
		return WAIT_FOREVER;
	look_at_room(&r);
	if (!any_is(&r, is_narrow))
		return EVICT_INTERVAL_NS;
	if (find_candidates(&r) < 0)
		return EVICT_INTERVAL_NS;
	go_round(&r);
	free(r.candidates);
	if (r.evicted) {
		pool_recount(p);
		pool_made_room(p);
	}
	ask(&r);
	shrink_cache(&r);
	return r.held && any_is(&r, is_short) ? EVICT_HELD_NS : EVICT_INTERVAL_NS;
}
