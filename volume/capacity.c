/*
 * capacity - the bound on what a pool may hold. What lives is known as of the last checkpoint; since
 * then each new cluster is counted when it is written. Nobody can say without a look at the map
 * whether a cluster is new or overwrites another, so a first part of the room is given out without
 * looking, all clusters counting as new; behind it each write looks, and only what is new counts.
 * So a pool that is far from full pays one addition a write, one without a bound a comparison, and
 * what was overwritten since the checkpoint can hide no more than that part of the room.
 */
#include "common/log.h"
#include "volume/pool_impl.h"

#include <string.h>

/* The part of the room that is given out without looking at the map. */
#define SURE_PART 8u
/* So much of the capacity must be free before the log says that there is room again. */
#define TELL_ROOM_PART 64u
/* Between two checkpoints that are asked for because the pool is full. */
#define KICK_PAUSE_NS UINT64_C(50000000)

static uint64_t load(const uint64_t *value)
{
	return __atomic_load_n(value, __ATOMIC_RELAXED);
}

static bool take(struct pool *p, uint64_t bytes, const uint64_t *limit)
{
	uint64_t taken = load(&p->taken_bytes);

	do {
		uint64_t end = load(limit);

		if (taken > end || bytes > end - taken)
			return false;
	} while (!__atomic_compare_exchange_n(&p->taken_bytes, &taken, taken + bytes, true,
					      __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	return true;
}

/* How many of these clusters, all of one page, hold nothing yet. */
static int count_new(struct object *o, uint64_t first, unsigned int count, uint64_t *ret_new,
		     struct err *e)
{
	loc_t locs[PAGE_CLUSTERS];
	uint32_t crcs[PAGE_CLUSTERS];
	uint8_t known[PAGE_CLUSTERS / 8];
	int r;

	rwlock_read_lock(&o->gate);
	r = o->deleted ? err_set(e, -ESTALE, "object %" PRIu64 " was deleted", o->id) :
			 map_lookup(o->pool->map, o->layer, first, count, locs, crcs, known, e);
	rwlock_read_unlock(&o->gate);
	if (r < 0)
		return r;
	*ret_new = 0;
	for (unsigned int i = 0; i < count; i++)
		*ret_new += locs[i] == LOC_UNMAPPED || locs[i] == LOC_ZERO;
	return 0;
}

/* A checkpoint counts what was overwritten and deleted; not again while the last one is young. */
static void want_count(struct pool *p)
{
	uint64_t now_ns = clock_mono_ns();

	if (now_ns - load(&p->capacity_kicked_ns) < KICK_PAUSE_NS)
		return;
	__atomic_store_n(&p->capacity_kicked_ns, now_ns, __ATOMIC_RELAXED);
	job_kick(&p->checkpointer);
}

static int refuse(struct pool *p, struct err *e)
{
	uint64_t capacity = load(&p->capacity_bytes);

	if (!__atomic_exchange_n(&p->capacity_told, true, __ATOMIC_RELAXED))
		log_warning("volume: capacity reached, what needs more room is refused: "
			    "capacity_bytes=%" PRIu64,
			    capacity);
	want_count(p);
	return err_set(e, CAPACITY_REACHED,
		       "the pool holds its capacity of %" PRIu64
		       " bytes: delete something or raise [pool] capacity",
		       capacity);
}

int capacity_take(struct object *o, uint64_t first, unsigned int count, uint64_t *ret_bytes,
		  struct err *e)
{
	uint64_t bytes = (uint64_t)count << CLUSTER_SHIFT, fresh;
	struct pool *p = o->pool;
	int r;

	*ret_bytes = 0;
	if (load(&p->taken_limit_bytes) == UINT64_MAX)
		return 0;
	if (!take(p, bytes, &p->taken_sure_bytes)) {
		r = count_new(o, first, count, &fresh, e);
		if (r < 0)
			return r;
		bytes = fresh << CLUSTER_SHIFT;
		if (bytes && !take(p, bytes, &p->taken_limit_bytes))
			return refuse(p, e);
	}
	*ret_bytes = bytes;
	return 0;
}

/* The map has what is written before it counts as such, so a checkpoint's mark is never ahead. */
void capacity_settle(struct pool *p, uint64_t taken_bytes, uint64_t used_bytes)
{
	if (taken_bytes > used_bytes)
		(void)__atomic_sub_fetch(&p->taken_bytes, taken_bytes - used_bytes,
					 __ATOMIC_RELAXED);
	if (taken_bytes && used_bytes)
		(void)__atomic_add_fetch(&p->written_bytes, min_u64(taken_bytes, used_bytes),
					 __ATOMIC_RELEASE);
}

static bool all_zero(const uint8_t *src, size_t len)
{
	return src[0] == 0 && memcmp(src, src + 1, len - 1) == 0;
}

int capacity_check(struct object *o, uint64_t offset_bytes, const void *src, size_t len_bytes,
		   struct err *e)
{
	uint64_t first = offset_bytes >> CLUSTER_SHIFT, fresh;
	uint64_t end = div_up_u64(offset_bytes + len_bytes, CLUSTER_BYTES);
	uint64_t page_end = (first / PAGE_CLUSTERS + 1) * PAGE_CLUSTERS;
	uint64_t limit = load(&o->pool->taken_limit_bytes);
	int r;

	if (limit == UINT64_MAX || len_bytes == 0 ||
	    load(&o->pool->taken_bytes) + CLUSTER_BYTES <= limit)
		return 0;
	r = count_new(o, first, (unsigned int)(min_u64(end, page_end) - first), &fresh, e);
	if (r < 0)
		return r;
	return fresh && !all_zero(src, len_bytes) ? refuse(o->pool, e) : 0;
}

uint64_t capacity_mark(struct pool *p)
{
	return __atomic_load_n(&p->written_bytes, __ATOMIC_ACQUIRE);
}

static void set_limits_locked(struct pool *p)
{
	uint64_t capacity = load(&p->capacity_bytes);
	uint64_t live = p->capacity_live_bytes, mark = p->capacity_mark_bytes;
	uint64_t room = capacity - min_u64(capacity, live);

	__atomic_store_n(&p->taken_sure_bytes, capacity ? mark + room / SURE_PART : UINT64_MAX,
			 __ATOMIC_RELAXED);
	__atomic_store_n(&p->taken_limit_bytes, capacity ? mark + room : UINT64_MAX,
			 __ATOMIC_RELAXED);
}

static void tell_room(struct pool *p)
{
	uint64_t capacity = load(&p->capacity_bytes), live = load(&p->capacity_live_bytes);
	uint64_t room = capacity - min_u64(capacity, live);

	if (capacity && room < max_u64(capacity / TELL_ROOM_PART, CLUSTER_BYTES))
		return;
	if (__atomic_exchange_n(&p->capacity_told, false, __ATOMIC_RELAXED))
		log_info("volume: room under the capacity again: capacity_bytes=%" PRIu64
			 " used_bytes=%" PRIu64,
			 capacity, live);
}

void capacity_counted(struct pool *p, uint64_t mark_bytes)
{
	uint64_t live;

	mutex_lock(&p->scos->lock);
	live = p->scos->live_slots * CLUSTER_BYTES;
	mutex_unlock(&p->scos->lock);
	mutex_lock(&p->capacity_lock);
	__atomic_store_n(&p->capacity_live_bytes, live, __ATOMIC_RELAXED);
	p->capacity_mark_bytes = mark_bytes;
	set_limits_locked(p);
	mutex_unlock(&p->capacity_lock);
	tell_room(p);
}

void capacity_change(struct pool *p, uint64_t capacity_bytes)
{
	mutex_lock(&p->capacity_lock);
	__atomic_store_n(&p->capacity_bytes, capacity_bytes, __ATOMIC_RELAXED);
	set_limits_locked(p);
	mutex_unlock(&p->capacity_lock);
	tell_room(p);
	job_kick(&p->checkpointer); /* nothing was counted while there was no bound */
}

void capacity_freed(struct pool *p)
{
	if (__atomic_load_n(&p->capacity_told, __ATOMIC_RELAXED))
		want_count(p);
}

void capacity_status(struct pool *p, struct pool_status *st)
{
	uint64_t limit = load(&p->taken_limit_bytes), taken = load(&p->taken_bytes), room;

	st->capacity_bytes = load(&p->capacity_bytes);
	st->used_bytes = st->live_bytes;
	if (!st->capacity_bytes || limit == UINT64_MAX)
		return;
	/* What was counted since the checkpoint is what is gone of the room that it left. */
	room = min_u64(limit - min_u64(taken, limit), st->capacity_bytes);
	st->used_bytes = max_u64(st->capacity_bytes - room, st->live_bytes);
}
