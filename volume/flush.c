/*
 * flush - the background: group commits of what nobody syncs, sealing of what is full.
 */
#include "common/log.h"
#include "volume/pool_impl.h"

#include <stdlib.h>

/* Garbage that is never worth slowing down for. */
#define GARBAGE_SLACK_SCOS 4u
/* Between two rounds of giving space back. */
#define RELIEF_PAUSE_NS UINT64_C(20000000)
/* A recycled file that nobody took for so long goes. */
#define TRIM_PAUSE_NS UINT64_C(2000000000)
/* How long a failed seal rests. */
#define SEAL_RETRY_NS UINT64_C(1000000000)
/* Between two looks at what is full. */
#define LEFTOVERS_AT_ONCE 4u
/* Log that is not worth a checkpoint (nor is a part of what lives), and what is in any case. */
#define UNCHECKED_MIN_BYTES (UINT64_C(64) << 20)
#define LOG_MAX_BYTES	    (UINT64_C(2) << 30)
/* What may be written while a checkpoint runs that begins before writers are slowed down. */
#define UNCHECKED_AHEAD_BYTES (UINT64_C(128) << 20)
/* So much more of it than at the last checkpoint may be garbage: a disk that fills up. */
#define STALE_MORE_PERCENT 25u
/* Of that, so much never slows down anybody. */
#define UNCOUNTED_MIN_BYTES (UINT64_C(512) << 20)
/* Percent of live data: all of flash that does not live; what is not full yet comes on top. */
#define DEAD_MOST_PERCENT 59u
/* Of live data: so far below that writers are slowed down much already; and how far before at all. */
#define TO_CLEAN_MARGIN_PART 64u
#define TO_CLEAN_RAMP_PART   24u
/* Of live data: what is left to clean, however small the rest. */
#define TO_CLEAN_LEAST_PART 4u

#define NAMES_TROUBLE "volume: names not synced, trying again"
#define SEAL_TROUBLE  "volume: sealing failed, trying again"

int pool_flush_streams(struct pool *p, struct err *e)
{
	struct stream **list;
	size_t count;
	int r, first_error = 0;

	r = pool_streams(p, &list, &count);
	if (r < 0)
		return err_because(e, r, "flushing");
	for (size_t i = 0; i < count; i++) {
		if (!stream_is_dirty(list[i]))
			continue;
		stream_prepare(list[i]);
		r = stream_flush(list[i], first_error ? NULL : e);
		if (r < 0 && first_error == 0)
			first_error = r;
	}
	free(list);
	return first_error;
}

/* Somebody waits for flash: what open SCOs and those in advance hold, and what is dead. */
static void relieve_space(struct pool *p)
{
	struct stream **list;
	size_t count;

	uint64_t now_ns = clock_mono_ns();

	/* Not again while what the last time gave back is on its way. */
	if (!__atomic_load_n(&p->space_wanted, __ATOMIC_ACQUIRE) ||
	    now_ns < p->relieved_ns + RELIEF_PAUSE_NS || pool_streams(p, &list, &count) < 0)
		return;
	__atomic_store_n(&p->space_wanted, false, __ATOMIC_RELEASE);
	p->relieved_ns = now_ns;
	for (size_t i = 0; i < count; i++)
		stream_give_space(list[i]);
	free(list);
	job_kick(&p->sealer);
	job_kick(&p->checkpointer);
}

/* Files of dead SCOs are kept for a writer who needs them soon. */
static void trim_recycled(struct pool *p)
{
	uint64_t now_ns = clock_mono_ns();

	if (now_ns < p->trimmed_ns + TRIM_PAUSE_NS)
		return;
	p->trimmed_ns = now_ns;
	flash_trim_recycled(p->flash);
}

uint64_t flusher_step(void *arg)
{
	struct pool *p = arg;
	struct err e = { 0 };

	relieve_space(p);
	trim_recycled(p);
	if (pool_flush_streams(p, &e) < 0)
		log_debug("volume: flush: %s", e.message); /* the stream said so, once */
	if (meta_sync(p->meta, &e) < 0)
		log_trouble(&p->names_trouble, NAMES_TROUBLE, e.message);
	else
		log_trouble_over(&p->names_trouble, NAMES_TROUBLE);
	return pool_option(p, flush_interval_ns);
}

/* --- sealing ----------------------------------------------------------------------------------- */

/* It must not outlive its copy: alone it would be what the copy left out as well. */
static void remember_old_file(struct pool *p, const struct sco_copy *c)
{
	struct old_file *f = malloc(sizeof(*f));

	mutex_lock(&p->scos->lock);
	c->sco->old_kept = true;
	mutex_unlock(&p->scos->lock);
	if (!f)
		return; /* the next start removes it */
	*f = (struct old_file){ .dir = c->old_dir,
				.stream = c->sco->stream,
				.version = c->old_version,
				.sco = c->sco->number,
				.len_bytes = c->old_bytes };
	GUARD(&p->checkpoint_lock);
	f->next = p->old_files;
	p->old_files = f;
}

/* Whether a SCO of that life waits for us; then it is ours until unclaimed. */
static bool claim_for_seal(struct pool *p, struct sco *s, enum sco_life life)
{
	struct stream *stream = pool_stream(p, s->stream);
	bool mine;

	mutex_lock(&p->scos->lock);
	mine = !s->busy && !s->dead && s->life == life;
	/* The copy would have what counts only, and take the place of what a repair might still find. */
	if (mine && life == SCO_LIFE_LEFTOVER && stream &&
	    __atomic_load_n(&stream->error, __ATOMIC_RELAXED) == -EUCLEAN)
		mine = false;
	if (mine)
		s->busy = true;
	mutex_unlock(&p->scos->lock);
	if (!mine || life == SCO_LIFE_LEFTOVER || !stream)
		return mine;
	mutex_lock(&stream->lock);
	mine = s->batches_busy == 0;
	mutex_unlock(&stream->lock);
	if (!mine) {
		mutex_lock(&p->scos->lock);
		s->busy = false;
		mutex_unlock(&p->scos->lock);
	}
	return mine;
}

/* Not ours any more, and, as we hope, sealed. */
static void unclaim(struct pool *p, struct sco *s)
{
	bool sealed;

	mutex_lock(&p->scos->lock);
	s->busy = false;
	sealed = s->life == SCO_LIFE_SEALED;
	mutex_unlock(&p->scos->lock);
	if (sealed)
		counter_inc(&p->metrics.scos_sealed);
}

/* SCOs that are sealed together. */
struct seal_group {
	struct pool *pool;
	struct sco_to_seal scos[SCO_SEAL_MAX];
	struct sco_copy copies[SCO_SEAL_MAX]; /* of leftovers */
	unsigned int count, copy_count;
	unsigned int resealed;
};

static int seal_group(struct seal_group *g, struct err *e)
{
	int r = sco_seal(&g->pool->world, g->scos, g->count, e);

	for (unsigned int i = 0; i < g->count; i++)
		unclaim(g->pool, g->scos[i].sco);
	g->count = 0;
	return r;
}

/*
 * The checkpoint is asked for because a start believes a copy only if its row was saved: without it,
 * processes that die soon would each leave more than they seal.
 */
static int reseal_group(struct seal_group *g, struct err *e)
{
	struct pool *p = g->pool;
	unsigned int before = g->resealed;
	int r = sco_reseal(&p->world, g->copies, g->copy_count, e);

	for (unsigned int i = 0; i < g->copy_count; i++) {
		const struct sco_copy *c = &g->copies[i];

		if (c->done) {
			counter_inc(&p->metrics.scos_resealed);
			remember_old_file(p, c);
			g->resealed++;
		}
		unclaim(p, c->sco);
	}
	g->copy_count = 0;
	if (g->resealed > before)
		job_kick(&p->checkpointer);
	return r;
}

static int seal_one(struct seal_group *g, struct sco *s, struct err *e)
{
	struct stream *stream = pool_stream(g->pool, s->stream);
	lsn_t durable_lsn = stream ? stream_durable_lsn(stream) : 0;

	if (!claim_for_seal(g->pool, s, SCO_LIFE_FULL))
		return 0;
	g->scos[g->count++] = (struct sco_to_seal){ .sco = s, .durable_lsn = durable_lsn };
	return g->count == SCO_SEAL_MAX ? seal_group(g, e) : 0;
}

static int reseal_one(struct seal_group *g, struct sco *s, struct err *e)
{
	struct stream *stream = pool_stream(g->pool, s->stream);
	lsn_t durable_lsn = stream ? stream_durable_lsn(stream) : 0;

	if (!claim_for_seal(g->pool, s, SCO_LIFE_LEFTOVER))
		return 0;
	g->copies[g->copy_count++] = (struct sco_copy){ .sco = s, .durable_lsn = durable_lsn };
	return g->copy_count == SCO_SEAL_MAX ? reseal_group(g, e) : 0;
}

/*
 * So much log waits for a checkpoint that it would delay a restart; or that there would be something
 * to clean, if it replaced as much as what the last checkpoint counted; or that writers are slowed
 * down soon because all of it might be garbage.
 */
static bool checkpoint_is_due(struct pool *p)
{
	uint64_t unchecked = __atomic_load_n(&p->unchecked_bytes, __ATOMIC_RELAXED);
	uint64_t garbage = __atomic_load_n(&p->garbage_bytes, __ATOMIC_RELAXED);
	uint64_t from = __atomic_load_n(&p->garbage_from_bytes, __ATOMIC_RELAXED);
	uint64_t overhead = __atomic_load_n(&p->overhead_bytes, __ATOMIC_RELAXED);
	uint64_t slow_from = __atomic_load_n(&p->dead_from_bytes, __ATOMIC_RELAXED);
	uint64_t stale = unchecked / 100 * __atomic_load_n(&p->stale_percent, __ATOMIC_RELAXED);
	uint64_t part = pool_live_bytes(p) / GARBAGE_PART;
	uint64_t most = p->options.log_max_bytes ? p->options.log_max_bytes : LOG_MAX_BYTES;

	if (unchecked <= max_u64(UNCHECKED_MIN_BYTES, part))
		return false;
	return unchecked > most || garbage + stale + part > from ||
	       garbage + unchecked + overhead + max_u64(UNCHECKED_AHEAD_BYTES, part) > slow_from;
}

uint64_t pool_live_bytes(struct pool *p)
{
	GUARD(&p->scos->lock);
	return p->scos->live_here_slots * CLUSTER_BYTES;
}

void pool_note_stale(struct pool *p, uint64_t unchecked_bytes, uint64_t live_before_bytes)
{
	uint64_t live_bytes = pool_live_bytes(p);
	uint64_t fresh_bytes = live_bytes - min_u64(live_bytes, live_before_bytes);
	uint64_t stale_bytes = unchecked_bytes - min_u64(unchecked_bytes, fresh_bytes);
	uint64_t percent;

	if (unchecked_bytes < UNCHECKED_MIN_BYTES)
		return;
	percent = stale_bytes / (unchecked_bytes / 100) + STALE_MORE_PERCENT;
	__atomic_store_n(&p->stale_percent, min_u64(percent, 100), __ATOMIC_RELAXED);
}

uint64_t pool_uncounted_bytes(const struct pool *p)
{
	return __atomic_load_n(&p->unchecked_bytes, __ATOMIC_RELAXED) +
	       __atomic_load_n(&p->checking_bytes, __ATOMIC_RELAXED);
}

/* What a leftover holds, as of the last checkpoint. */
enum leftover { LEFTOVER_UNCOUNTED, LEFTOVER_DEAD, LEFTOVER_LIVES };

static enum leftover leftover_is(struct pool *p, const struct sco *s)
{
	struct stream *stream = pool_stream(p, s->stream);
	lsn_t counted = stream ? __atomic_load_n(&stream->checkpoint_lsn, __ATOMIC_RELAXED) : 0;

	GUARD(&p->scos->lock);
	if (s->last_lsn > counted)
		return LEFTOVER_UNCOUNTED;
	return s->live_slots > 0 ? LEFTOVER_LIVES : LEFTOVER_DEAD;
}

bool pool_leftover_is_dead(struct pool *p, const struct sco *s)
{
	return leftover_is(p, s) == LEFTOVER_DEAD;
}

static void note_first(int *first_error, int r)
{
	if (r < 0 && *first_error == 0)
		*first_error = r;
}

/* Leftovers: those that live and were counted, so many (below SCO_SEAL_MAX); or all but the dead. */
static void reseal_locked(struct seal_group *g, struct sco **list, size_t count, bool all,
			  unsigned int most, int *first_error, struct err *e)
{
	for (size_t i = 0; i < count && (all || g->copy_count < most); i++) {
		enum leftover what;

		if (sco_life(g->pool->scos, list[i]) != SCO_LIFE_LEFTOVER)
			continue;
		what = leftover_is(g->pool, list[i]);
		if (what == LEFTOVER_LIVES || (all && what == LEFTOVER_UNCOUNTED))
			note_first(first_error, reseal_one(g, list[i], *first_error ? NULL : e));
	}
	note_first(first_error, reseal_group(g, *first_error ? NULL : e));
}

/* What is full first. Returns the first error, or the number of leftovers that were sealed. */
static int seal_locked(struct pool *p, bool all, unsigned int leftovers_most, struct err *e)
{
	struct seal_group group = { .pool = p };
	struct sco **list;
	size_t count;
	int r, first_error = 0;

	r = sco_table_list_unsealed(p->scos, &list, &count);
	if (r < 0)
		return err_because(e, r, "sealing");
	for (size_t i = 0; i < count; i++)
		note_first(&first_error, seal_one(&group, list[i], first_error ? NULL : e));
	note_first(&first_error, seal_group(&group, first_error ? NULL : e));
	reseal_locked(&group, list, count, all, leftovers_most, &first_error, e);
	sco_list_free(p->scos, list, count);
	return first_error ? first_error : (int)group.resealed;
}

static bool has_uncounted(struct pool *p)
{
	struct sco **list;
	bool uncounted = false;
	size_t count;

	if (sco_table_list_unsealed(p->scos, &list, &count) < 0)
		return false;
	for (size_t i = 0; i < count; i++)
		uncounted |= sco_life(p->scos, list[i]) == SCO_LIFE_LEFTOVER &&
			     leftover_is(p, list[i]) == LEFTOVER_UNCOUNTED;
	sco_list_free(p->scos, list, count);
	return uncounted;
}

int pool_seal(struct pool *p, struct err *e)
{
	struct err why = { 0 };
	int r;

	/* What is dead need not be copied. If nobody can say, it is, for that may make the room that the
	 * checkpoint lacks. */
	if (has_uncounted(p) && pool_checkpoint(p, &why) < 0)
		log_debug("volume: leftovers are sealed uncounted: %s", why.message);
	/* Whoever wants all of it sealed waits for what another one is sealing. */
	GUARD(&p->seal_lock);
	r = seal_locked(p, true, 0, e);
	return r < 0 ? r : 0;
}

int pool_seal_own_locked(struct pool *p, struct err *e)
{
	return seal_locked(p, false, 0, e);
}

/* Few leftovers at a time, for what is full meanwhile would be left over by the next kill. */
static int seal_some(struct pool *p, struct err *e)
{
	GUARD(&p->seal_lock);
	return seal_locked(p, false, LEFTOVERS_AT_ONCE, e);
}

/* The next SCO of each stream that will soon need one: a writer who has to make it holds up all. */
uint64_t preparer_step(void *arg)
{
	struct stream **list;
	size_t count;

	if (pool_streams(arg, &list, &count) < 0)
		return WAIT_FOREVER; /* the writer makes his SCO himself */
	for (size_t i = 0; i < count; i++)
		stream_prepare(list[i]);
	free(list);
	return WAIT_FOREVER;
}

uint64_t sealer_step(void *arg)
{
	struct pool *p = arg;
	struct err e = { 0 };
	int resealed, r;

	resealed = seal_some(p, &e);
	if (resealed < 0) {
		log_trouble(&p->seal_trouble, SEAL_TROUBLE, e.message);
		return SEAL_RETRY_NS;
	}
	log_trouble_over(&p->seal_trouble, SEAL_TROUBLE);
	/* A SCO that is full has been followed by another, perhaps out of the stock. */
	r = flash_fill_stock(p->flash, &e);
	if (r < 0)
		log_debug("volume: stock not filled: %s", e.message);
	if (r > 0 || resealed > 0)
		return 0;
	if (checkpoint_is_due(p))
		job_kick(&p->checkpointer);
	return WAIT_FOREVER;
}

/* --- counting ---------------------------------------------------------------------------------- */

static void set_limits(struct pool *p, uint64_t live, uint64_t overhead)
{
	uint64_t slack = GARBAGE_SLACK_SCOS * (uint64_t)p->world.sco_slots * CLUSTER_BYTES;
	uint64_t from = live / 100 * (pool_option(p, clean_target_percent) - 100);
	uint64_t dead = max_u64(live / 100 * DEAD_MOST_PERCENT, UNCOUNTED_MIN_BYTES / 4 * 5);
	uint64_t part = live / GARBAGE_PART, ramp = live / TO_CLEAN_RAMP_PART, to_clean;

	from = from - min_u64(from, part) + slack;
	__atomic_store_n(&p->garbage_from_bytes, from, __ATOMIC_RELAXED);
	__atomic_store_n(&p->garbage_limit_bytes, from + part + slack, __ATOMIC_RELAXED);
	__atomic_store_n(&p->dead_from_bytes,
			 max_u64(live / 100 * DEAD_FROM_PERCENT, UNCOUNTED_MIN_BYTES),
			 __ATOMIC_RELAXED);
	__atomic_store_n(&p->dead_limit_bytes, dead, __ATOMIC_RELAXED);
	__atomic_store_n(&p->uncounted_most_bytes, part * 3 / 2, __ATOMIC_RELAXED);
	/* What is left of it while cleaned SCOs wait for their checkpoint. */
	to_clean = overhead + pool_cleaned_most(p, live) + live / TO_CLEAN_MARGIN_PART + ramp;
	to_clean = dead - min_u64(dead, to_clean);
	to_clean = max_u64(to_clean, max_u64(live / TO_CLEAN_LEAST_PART, UNCOUNTED_MIN_BYTES));
	__atomic_store_n(&p->to_clean_from_bytes, to_clean, __ATOMIC_RELAXED);
	__atomic_store_n(&p->to_clean_limit_bytes, to_clean + max_u64(ramp, slack),
			 __ATOMIC_RELAXED);
}

/*
 * Garbage is what SCOs take that a checkpoint has counted and nothing names. Cleaning leaves less of it
 * than its target, by what comes up meanwhile. What no checkpoint has counted yet may be garbage, too;
 * what was cleaned is dead on flash until the next checkpoint, but nobody's work any more. So what is
 * left to clean goes up and down with writers and cleaner alone, without the steps of checkpoints: it
 * is what writers are slowed down for. Flash itself stays below 1.6 of live data: all that is dead in
 * it, with blocks and indexes of SCOs, stops writers in any case. Files kept for reuse take no part:
 * what goes into them takes no more space. What is absent takes no flash, whatever lives in it. Garbage
 * that comes all at once, because something large was deleted, stops nobody (grace.h).
 */
void pool_recount(struct pool *p)
{
	uint64_t dirty = 0, counted = 0, live = 0, cleaned = 0, overhead = 0, forgiven;
	uint64_t last = __atomic_load_n(&p->checkpoint_counted, __ATOMIC_ACQUIRE);
	struct sco_table *t = p->scos;
	struct sco *s, *next;

	mutex_lock(&t->lock);
	t->live_slots = t->live_here_slots = 0;
	HASH_ITER (hh, t->by_number, s, next) {
		uint64_t data = (uint64_t)sco_data_slots(s) * CLUSTER_BYTES;

		t->live_slots += sco_live_data_slots(s);
		if (s->absent)
			continue;
		t->live_here_slots += sco_live_data_slots(s);
		dirty += sco_dirty_bytes(s);
		if (!s->row_saved || s->dead)
			continue;
		overhead += s->file_bytes - min_u64(s->file_bytes, data);
		if (s->stuck == s->live_slots + 1)
			continue;
		counted += data;
		live += (uint64_t)sco_live_data_slots(s) * CLUSTER_BYTES;
		cleaned += s->cleaned_in >= last ? data : 0;
	}
	__atomic_store_n(&p->cleaned_bytes, cleaned, __ATOMIC_RELAXED);
	/* Under the lock: what is uploaded from here on takes itself off this. */
	__atomic_store_n(&p->dirty_bytes, dirty, __ATOMIC_RELAXED);
	set_limits(p, live, overhead);
	forgiven = grace_look(&p->grace, counted - min_u64(counted, live),
			      __atomic_load_n(&p->garbage_from_bytes, __ATOMIC_RELAXED), live,
			      clock_mono_ns());
	__atomic_store_n(&p->forgiven_bytes, forgiven, __ATOMIC_RELAXED);
	mutex_unlock(&t->lock);
	__atomic_store_n(&p->overhead_bytes, overhead, __ATOMIC_RELAXED);
	__atomic_store_n(&p->garbage_bytes, counted - min_u64(counted, live), __ATOMIC_RELAXED);
}
