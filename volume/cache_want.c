/* What is wanted soon: a queue, and threads that serve it. */
#include "volume/cache_impl.h"

#include <stdio.h>
#include <stdlib.h>

/* After a fetch that failed: who wished may wish again at once, the store is spared. */
#define CALM_NS (UINT64_C(200) * 1000 * 1000)
/* From here on nothing is fetched ahead. */
#define AHEAD_WISHES_MAX (WISHES_MAX / 2)

void cache_wishes_open(struct cache *c)
{
	for (unsigned int i = 0; i < WISHES_MAX; i++) {
		c->wishes[i].next = c->free_wishes;
		c->free_wishes = &c->wishes[i];
	}
}

/* --- the queue; the lock is held --------------------------------------------------------------- */

static void push_wish(struct cache *c, struct wish_list *list, const struct cache_sco *s,
		      uint64_t offset_bytes, uint64_t end_bytes)
{
	struct cache_wish *w = c->free_wishes;

	c->free_wishes = w->next;
	*w = (struct cache_wish){ .sco = *s, .offset_bytes = offset_bytes, .end_bytes = end_bytes };
	if (list->last)
		list->last->next = w;
	else
		list->first = w;
	list->last = w;
	c->wish_count++;
}

/* The one behind `before`, or the first. */
static void remove_wish(struct cache *c, struct wish_list *list, struct cache_wish *before)
{
	struct cache_wish *w = before ? before->next : list->first;

	if (before)
		before->next = w->next;
	else
		list->first = w->next;
	if (list->last == w)
		list->last = before;
	w->next = c->free_wishes;
	c->free_wishes = w;
	c->wish_count--;
}

static void forget_wishes(struct cache *c, struct wish_list *list, uint64_t sco)
{
	struct cache_wish *before = NULL, *w = list->first;

	while (w) {
		struct cache_wish *next = w->next;

		if (w->sco.sco == sco)
			remove_wish(c, list, before);
		else
			before = w;
		w = next;
	}
}

void cache_wishes_forget(struct cache *c, uint64_t sco)
{
	forget_wishes(c, &c->urgent, sco);
	forget_wishes(c, &c->ahead, sco);
}

static bool is_same(const struct cache_sco *a, const struct cache_sco *b)
{
	return a->sco == b->sco && a->version == b->version;
}

/* Whether a list has it already; a wish that it continues grows. */
static bool join_wish(struct wish_list *list, const struct cache_sco *s, uint64_t offset_bytes,
		      uint64_t end_bytes)
{
	for (struct cache_wish *w = list->first; w; w = w->next) {
		if (!is_same(&w->sco, s) || offset_bytes < w->offset_bytes ||
		    offset_bytes > w->end_bytes)
			continue;
		w->end_bytes = max_u64(w->end_bytes, end_bytes);
		return true;
	}
	return false;
}

/* Blocks that are there, or on their way, are left out of a wish up to the first that is not. */
static void trim(struct cache *c, const struct cache_sco *s, bool ahead, uint64_t *offset_bytes,
		 uint64_t end_bytes, bool *ret_on_its_way)
{
	uint64_t at = *offset_bytes, chunk;

	*ret_on_its_way = false;
	while (at < end_bytes) {
		uint16_t missing = cache_blocks(at, end_bytes, &chunk);
		uint32_t id = cache_find_version(c, s, chunk);
		struct cache_fetch *f;

		if (id != SLOT_NONE)
			missing &= (uint16_t)~slot_at(c, id)->present;
		if (!missing) {
			at = (chunk + 1) * CACHE_CHUNK_BYTES;
			continue;
		}
		at = chunk * CACHE_CHUNK_BYTES +
		     (uint64_t)__builtin_ctz(missing) * CACHE_BLOCK_BYTES;
		f = cache_find_fetch(c, s, at);
		if (!f)
			break;
		f->wanted |= !ahead;
		*ret_on_its_way = true;
		at = f->end_bytes;
	}
	*offset_bytes = at;
}

static void kick_idle(struct cache *c)
{
	for (unsigned int i = 0; i < c->worker_count; i++)
		if (c->workers[i].idle) {
			c->workers[i].idle = false;
			job_kick(&c->workers[i].job);
			return;
		}
}

void cache_kick_writer(struct cache *c)
{
	if (c->map_changes == CACHE_MAP_CHANGES_MUCH && c->worker_count > 0)
		job_kick(&c->workers[0].job);
}

int cache_want(struct cache *c, const struct cache_sco *s, uint64_t offset_bytes, size_t len_bytes,
	       bool ahead)
{
	uint64_t at = offset_bytes - offset_bytes % CACHE_BLOCK_BYTES;
	uint64_t end = min_u64(offset_bytes + len_bytes, s->file_bytes);
	bool on_its_way;

	end = round_up_u64(end, CACHE_BLOCK_BYTES);
	GUARD(&c->lock);
	trim(c, s, ahead, &at, end, &on_its_way);
	if (at >= end)
		return on_its_way;
	if (join_wish(&c->urgent, s, at, end) || (ahead && join_wish(&c->ahead, s, at, end)))
		return 1;
	if (ahead && c->unkept_until_ns && env_now_mono_ns(c->o.env) < c->unkept_until_ns)
		return -EAGAIN;
	if (c->wish_count >= (ahead ? AHEAD_WISHES_MAX : WISHES_MAX))
		return -EAGAIN;
	push_wish(c, ahead ? &c->ahead : &c->urgent, s, at, end);
	kick_idle(c);
	return 1;
}

/* --- serving ----------------------------------------------------------------------------------- */

/* Begin the fetch of what comes first, and take it off the queue. NULL: nothing of it is missing, or no
 * memory. */
static struct cache_fetch *begin_wish(struct cache *c, struct wish_list *list)
{
	bool ahead = list == &c->ahead, on_its_way;
	struct cache_wish *w = list->first;
	struct cache_fetch *f = NULL;

	trim(c, &w->sco, ahead, &w->offset_bytes, w->end_bytes, &on_its_way);
	if (w->offset_bytes < w->end_bytes)
		f = cache_fetch_new(c, &w->sco, w->offset_bytes, w->end_bytes);
	if (f) {
		f->ahead = ahead;
		f->wanted = !ahead;
		w->offset_bytes = f->end_bytes;
	}
	if (!f || w->offset_bytes >= w->end_bytes)
		remove_wish(c, list, NULL);
	return f;
}

/* The store fails: what nobody waits for can be wished for again. */
static void calm_down(struct cache *c)
{
	uint64_t now_ns = env_now_mono_ns(c->o.env);

	GUARD(&c->lock);
	c->calm_until_ns = now_ns + CALM_NS;
	while (c->ahead.first)
		remove_wish(c, &c->ahead, NULL);
}

static uint64_t serve_wish(struct cache *c)
{
	uint64_t now_ns = env_now_mono_ns(c->o.env);
	struct cache_fetch *f;
	struct err e = { 0 };
	bool urgent;

	mutex_lock(&c->lock);
	urgent = c->urgent.first != NULL;
	if (!urgent && !c->ahead.first) {
		mutex_unlock(&c->lock);
		return WAIT_FOREVER;
	}
	if (now_ns < c->calm_until_ns) {
		uint64_t pause_ns = c->calm_until_ns - now_ns;

		mutex_unlock(&c->lock);
		return pause_ns;
	}
	f = begin_wish(c, urgent ? &c->urgent : &c->ahead);
	if (c->wish_count > 0)
		kick_idle(c);
	mutex_unlock(&c->lock);
	if (!f && urgent && c->o.fetched)
		c->o.fetched(c->o.arg);
	if (f && cache_fetch_run(c, f, 0, 0, NULL, &e) < 0)
		calm_down(c);
	return 0;
}

uint64_t cache_step(void *cache)
{
	struct cache *c = cache;
	uint64_t map_ns = cache_map_step(c), wish_ns;

	if (map_ns == 0)
		return 0;
	wish_ns = serve_wish(c);
	return min_u64(map_ns, wish_ns);
}

/* --- threads ----------------------------------------------------------------------------------- */

static uint64_t work(void *arg)
{
	struct cache_worker *w = arg;
	struct cache *c = w->cache;
	uint64_t pause_ns;

	mutex_lock(&c->lock);
	w->idle = false;
	mutex_unlock(&c->lock);
	pause_ns = w == c->workers ? cache_step(c) : serve_wish(c);
	if (pause_ns == 0)
		return 0;
	GUARD(&c->lock);
	w->idle = true;
	/* One that came since then found nobody idle to kick. */
	if ((c->urgent.first || c->ahead.first) && env_now_mono_ns(c->o.env) >= c->calm_until_ns) {
		w->idle = false;
		return 0;
	}
	return pause_ns;
}

int cache_start(struct cache *c, struct err *e)
{
	struct cache_worker *workers;
	int r = 0;

	if (c->o.fetches_max == 0)
		return 0;
	workers = calloc(c->o.fetches_max, sizeof(*workers));
	if (!workers)
		return err_set(e, -ENOMEM, "threads that fetch");
	for (unsigned int i = 0; i < c->o.fetches_max; i++) {
		workers[i].cache = c;
		job_init(&workers[i].job);
	}
	mutex_lock(&c->lock);
	c->workers = workers;
	c->worker_count = c->o.fetches_max;
	mutex_unlock(&c->lock);
	for (unsigned int i = 0; i < c->o.fetches_max && r == 0; i++) {
		char name[24];

		(void)snprintf(name, sizeof(name), "fetch-%u", i);
		r = job_start(&workers[i].job, name, work, &workers[i]);
	}
	if (r == 0)
		return 0;
	cache_stop(c);
	return err_because(e, r, "starting threads that fetch");
}

void cache_stop(struct cache *c)
{
	struct cache_worker *workers;

	if (!c)
		return;
	mutex_lock(&c->lock);
	c->worker_count = 0; /* nobody is kicked any more */
	workers = c->workers;
	mutex_unlock(&c->lock);
	for (unsigned int i = 0; workers && i < c->o.fetches_max; i++)
		job_stop(&workers[i].job);
	c->workers = NULL;
	free(workers);
}
