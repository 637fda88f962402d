/*
 * Waiting: for frames of the ring, for flash, for the throttle. Synchronous callers sleep on
 * `room`; requests that must not hold up their thread are parked and resumed in order.
 */
#include "common/log.h"
#include "volume/absent.h"
#include "volume/pool_impl.h"

#include <string.h>

/* A wait looks again so often even if nobody says that something changed (space of the disk). */
#define ROOM_RECHECK_NS UINT64_C(50000000)
/* Longest delay of one write for garbage: enough for the cleaner to overtake. */
#define GARBAGE_DELAY_MAX_NS UINT64_C(20000000)
/* A ramp of it ends at so many thousandths of its length. */
#define OVER_MAX UINT64_C(4000)
/* Longest delay of one write by the throttle: for garbage, for what is dirty. */
#define THROTTLE_MAX_NS UINT64_C(2000000000)
#define DIRTY_MAX_NS	UINT64_C(20000000000)
/* At the speed that is allowed what is left below the dirty limit lasts so long: dirty_ns(). */
#define DIRTY_LASTS_NS 1.5e9
/* But no longer than this for each byte of the room, which is 1.5 s for 48 MiB: where there is less,
 * a second is too long to slow down in. */
#define DIRTY_LASTS_BYTE_NS 30.0
/* Shorter delays add up until one write serves them all: falling asleep costs more than they do. */
#define THROTTLE_STEP_NS UINT64_C(1000000)
/* Between two kicks of those who make room. */
#define HURRY_PAUSE_NS UINT64_C(1000000)

/* How many writes wait; room_lock held. */
static void count_waiting_locked(struct pool *p)
{
	__atomic_store_n(&p->waiting_count, p->waiters + p->parked_count, __ATOMIC_RELAXED);
}

/* Read before trying: what comes free after the look changes it, so no wait misses it. */
uint64_t pool_room_generation(struct pool *p)
{
	return __atomic_load_n(&p->room_generation, __ATOMIC_ACQUIRE);
}

void pool_made_room(struct pool *p)
{
	bool kick;

	mutex_lock(&p->room_lock);
	__atomic_store_n(&p->room_generation, p->room_generation + 1, __ATOMIC_RELEASE);
	kick = p->parked_head != NULL;
	if (p->waiters)
		cond_broadcast(&p->room);
	mutex_unlock(&p->room_lock);
	if (kick)
		job_kick(&p->resumer);
}

void pool_cancel_waits(struct pool *p)
{
	__atomic_store_n(&p->waits_cancelled, true, __ATOMIC_RELEASE);
	pool_made_room(p);
	fetchers_kick(p);
}

bool pool_waits_are_cancelled(struct pool *p)
{
	return __atomic_load_n(&p->waits_cancelled, __ATOMIC_ACQUIRE);
}

int pool_cancelled(struct err *e)
{
	return err_set(e, -ESHUTDOWN, "the pool is being closed, and there is no room meanwhile");
}

void pool_want_space(struct pool *p)
{
	__atomic_store_n(&p->space_wanted, true, __ATOMIC_RELEASE);
	job_kick(&p->flusher);
	job_kick(&p->evictor);
}

void pool_wait_room(struct pool *p, uint64_t generation, uint64_t limit_ns)
{
	uint64_t deadline = clock_mono_ns() + min_u64(limit_ns, ROOM_RECHECK_NS);

	GUARD(&p->room_lock);
	p->waiters++;
	count_waiting_locked(p);
	while (p->room_generation == generation && clock_mono_ns() < deadline)
		cond_wait(&p->room, &p->room_lock, deadline);
	p->waiters--;
	count_waiting_locked(p);
}

/*
 * For what is not on the backend yet. Nothing below half of the limit; near the limit all writers
 * together are as fast as lets the room that is left last for DIRTY_LASTS_NS, whatever room that is. So
 * while nothing is uploaded they halve their speed each second, and never stop at once; while something
 * is, they come to its speed at the fill at which 1.5 s of it are left. The factor `over` lets it
 * begin with nothing.
 *
 * Delays are of each writer, speed is of all: each waits for those that wait already, too.
 */
static uint64_t dirty_ns(struct pool *p, size_t len_bytes)
{
	uint64_t dirty = __atomic_load_n(&p->dirty_bytes, __ATOMIC_RELAXED);
	uint64_t limit = __atomic_load_n(&p->dirty_limit_bytes, __ATOMIC_RELAXED);
	uint64_t from = limit / 2;
	double room = (double)(limit - from), lasts_ns, over, left, delay_ns;

	if (dirty <= from)
		return 0;
	if (dirty >= limit)
		return DIRTY_MAX_NS;
	over = (double)(dirty - from) / room;
	left = (double)(limit - dirty);
	lasts_ns = room * DIRTY_LASTS_BYTE_NS;
	lasts_ns = lasts_ns < DIRTY_LASTS_NS ? lasts_ns : DIRTY_LASTS_NS;
	delay_ns = lasts_ns * over * (double)len_bytes / left *
		   (1.0 + __atomic_load_n(&p->waiting_count, __ATOMIC_RELAXED));
	return delay_ns < (double)DIRTY_MAX_NS ? (uint64_t)delay_ns : DIRTY_MAX_NS;
}

/*
 * For dead data. Nothing below a first mark; from there on the delay grows with the square of the
 * fill, in proportion to the bytes, so that writers slow down smoothly towards the speed of the
 * cleaner instead of running into a wall.
 */
static uint64_t ramp_ns(uint64_t fill, uint64_t from, uint64_t limit, size_t len_bytes)
{
	uint64_t over, per_mib_ns;

	if (fill <= from)
		return 0;
	if (fill >= limit)
		return THROTTLE_MAX_NS;
	over = (fill - from) * 1000 / (limit - from); /* 0..1000 */
	per_mib_ns = over * over * 200;		      /* up to 200 ms for each MiB */
	return min_u64(THROTTLE_MAX_NS, per_mib_ns * len_bytes >> 20);
}

/*
 * As ramp_ns(), as steep at the limit, but flatter before and steeper after it: who is slowed down
 * there only waits longer, so many writers find their speed a little further up than few.
 */
static uint64_t steep_ns(uint64_t fill, uint64_t from, uint64_t limit, size_t len_bytes)
{
	uint64_t over;

	if (fill <= from || limit <= from)
		return 0;
	over = min_u64((fill - from) * 1000 / (limit - from), OVER_MAX);
	over = over * over / 1000;
	/* A longer write must not make the product overflow; delays are cut off anyway. */
	return over * over * 200 * min_u64(len_bytes, UINT64_C(64) << 20) >> 20;
}

/* For space of dead data: what is to be cleaned, and all of it, which is the last word. */
static uint64_t garbage_ns(struct pool *p, size_t len_bytes)
{
	uint64_t garbage = less_u64(__atomic_load_n(&p->garbage_bytes, __ATOMIC_RELAXED),
				    __atomic_load_n(&p->forgiven_bytes, __ATOMIC_RELAXED));
	uint64_t cleaned = __atomic_load_n(&p->cleaned_bytes, __ATOMIC_RELAXED);
	uint64_t uncounted = pool_uncounted_bytes(p);
	uint64_t dead = garbage + uncounted + __atomic_load_n(&p->overhead_bytes, __ATOMIC_RELAXED);
	/* Rather new data than garbage, above that: nobody could clean it. */
	uint64_t all = garbage + min_u64(uncounted, __atomic_load_n(&p->uncounted_most_bytes,
								    __ATOMIC_RELAXED));
	uint64_t delay;

	delay = steep_ns(less_u64(garbage, cleaned),
			 __atomic_load_n(&p->garbage_from_bytes, __ATOMIC_RELAXED),
			 __atomic_load_n(&p->garbage_limit_bytes, __ATOMIC_RELAXED), len_bytes);
	delay = max_u64(delay, steep_ns(less_u64(all, cleaned),
					__atomic_load_n(&p->to_clean_from_bytes, __ATOMIC_RELAXED),
					__atomic_load_n(&p->to_clean_limit_bytes, __ATOMIC_RELAXED),
					len_bytes));
	delay = max_u64(delay, ramp_ns(dead, __atomic_load_n(&p->dead_from_bytes, __ATOMIC_RELAXED),
				       __atomic_load_n(&p->dead_limit_bytes, __ATOMIC_RELAXED),
				       len_bytes));
	return min_u64(GARBAGE_DELAY_MAX_NS, delay);
}

static uint64_t throttle_ns(struct pool *p, size_t len_bytes)
{
	return max_u64(dirty_ns(p, len_bytes), garbage_ns(p, len_bytes));
}

/* Kick whoever makes room of the kind that is short. */
static void hurry(struct pool *p)
{
	uint64_t now_ns = clock_mono_ns();
	uint64_t last_ns = __atomic_load_n(&p->hurried_ns, __ATOMIC_RELAXED);

	if (now_ns - last_ns < HURRY_PAUSE_NS && !pool_must_block(p))
		return;
	__atomic_store_n(&p->hurried_ns, now_ns, __ATOMIC_RELAXED);
	if (__atomic_load_n(&p->dirty_bytes, __ATOMIC_RELAXED) >
	    __atomic_load_n(&p->dirty_limit_bytes, __ATOMIC_RELAXED) / 2)
		job_kick(&p->uploader);
	if (garbage_ns(p, CLUSTER_BYTES))
		job_kick(&p->cleaner);
}

uint64_t pool_admission_ns(struct pool *p, size_t len_bytes)
{
	uint64_t delay = throttle_ns(p, len_bytes);

	if (delay == 0)
		return 0;
	hurry(p);
	if (delay < THROTTLE_STEP_NS) {
		delay = __atomic_add_fetch(&p->throttle_debt_ns, delay, __ATOMIC_RELAXED);
		if (delay < THROTTLE_STEP_NS)
			return 0;
		delay = __atomic_exchange_n(&p->throttle_debt_ns, 0, __ATOMIC_RELAXED);
	}
	if (delay)
		counter_inc(&p->metrics.throttled);
	return delay;
}

uint64_t pool_delay_left_ns(struct pool *p, size_t len_bytes, uint64_t delay_ns)
{
	uint64_t now_ns = throttle_ns(p, len_bytes);

	return now_ns ? min_u64(delay_ns, max_u64(now_ns, THROTTLE_STEP_NS)) : 0;
}

/* Only for what others have to do: garbage that nobody can clean must not stop writers for ever. */
bool pool_must_block(struct pool *p)
{
	return __atomic_load_n(&p->dirty_bytes, __ATOMIC_RELAXED) >=
	       __atomic_load_n(&p->dirty_limit_bytes, __ATOMIC_RELAXED);
}

/* --- parked requests --------------------------------------------------------------------------- */

static void unlink_locked(struct pool *p, struct volume_request *prev, struct volume_request *r)
{
	if (prev)
		prev->next = r->next;
	else
		p->parked_head = r->next;
	if (p->parked_tail == r)
		p->parked_tail = prev;
	p->parked_count--;
	count_waiting_locked(p);
	r->next = NULL;
}

/* One that was cancelled, wherever it stands in the line. */
static struct volume_request *take_cancelled_locked(struct pool *p)
{
	struct volume_request *prev = NULL;

	if (!p->parked_cancelled)
		return NULL;
	for (struct volume_request *r = p->parked_head; r; prev = r, r = r->next) {
		if (!r->cancelled)
			continue;
		unlink_locked(p, prev, r);
		return r;
	}
	p->parked_cancelled = false;
	return NULL;
}

static struct volume_request *take_parked(struct pool *p, uint64_t now_ns, uint64_t *ret_next_ns)
{
	struct volume_request *prev = NULL, *cancelled;

	*ret_next_ns = UINT64_MAX;
	GUARD(&p->room_lock);
	cancelled = take_cancelled_locked(p);
	if (cancelled)
		return cancelled;
	for (struct volume_request *r = p->parked_head; r; prev = r, r = r->next) {
		/* What it waits for may have become less since it was parked. */
		if (r->resume_ns > now_ns)
			r->resume_ns =
				now_ns + pool_delay_left_ns(p, r->len_bytes, r->resume_ns - now_ns);
		if (r->resume_ns > now_ns && !pool_waits_are_cancelled(p)) {
			*ret_next_ns = min_u64(*ret_next_ns, r->resume_ns);
			continue;
		}
		unlink_locked(p, prev, r);
		return r;
	}
	return NULL;
}

static void append_locked(struct pool *p, struct volume_request *r)
{
	r->next = NULL;
	if (p->parked_tail)
		p->parked_tail->next = r;
	else
		p->parked_head = r;
	p->parked_tail = r;
}

static int park(struct pool *p, struct volume_request *r, bool front)
{
	GUARD(&p->room_lock);
	if (!front && p->parked_count >= p->options.parked_max)
		return -EBUSY;
	counter_inc(&p->metrics.parked);
	p->parked_count++;
	count_waiting_locked(p);
	p->parked_cancelled |= r->cancelled;
	if (front) {
		r->next = p->parked_head;
		p->parked_head = r;
		if (!p->parked_tail)
			p->parked_tail = r;
	} else {
		append_locked(p, r);
	}
	return 0;
}

void room_park(struct pool *p, struct volume_request *r)
{
	mutex_lock(&p->room_lock);
	p->parked_count++;
	count_waiting_locked(p);
	p->parked_cancelled |= r->cancelled;
	append_locked(p, r);
	mutex_unlock(&p->room_lock);
	job_kick(&p->resumer);
}

int volume_submit(struct volume_request *r)
{
	struct pool *p = r->object->pool;
	int rc;

	if (r->witness && !MUTANT(MUTANT_WRITTEN_TWICE))
		r->progress_bytes =
			max_u64(r->progress_bytes, min_u64(r->witness->done_bytes, r->len_bytes));
	r->resume_ns = 0;
	rc = io_request_step(r, NULL);
	if (rc == 0)
		return 1;
	if (r->parking)
		r->parking(r);
	if (rc == NEEDS_FETCH)
		return fetchers_park(p, r);
	rc = park(p, r, false);
	if (rc < 0)
		return rc;
	job_kick(&p->resumer);
	return 0;
}

void volume_cancel(struct volume_request *r)
{
	struct pool *p = r->object->pool;

	mutex_lock(&p->room_lock);
	__atomic_store_n(&r->cancelled, true, __ATOMIC_RELAXED);
	p->parked_cancelled = true;
	mutex_unlock(&p->room_lock);
	job_kick(&p->resumer);
	fetchers_kick(p);
}

uint64_t room_resume_step(void *arg)
{
	struct pool *p = arg;
	uint64_t generation = pool_room_generation(p);
	uint64_t now_ns = clock_mono_ns(), next_ns;
	struct volume_request *r;

	while ((r = take_parked(p, now_ns, &next_ns))) {
		int rc = io_request_step(r, NULL);

		if (rc == 0) {
			r->done(r);
			continue;
		}
		if (rc == NEEDS_FETCH) { /* nobody stands behind it any more */
			fetchers_take_over(p, r);
			continue;
		}
		/* Back to its place in the line: those behind it would not get room either. */
		(void)park(p, r, true);
		if (r->resume_ns > now_ns)
			return min_u64(r->resume_ns - now_ns, ROOM_RECHECK_NS);
		return pool_room_generation(p) != generation ? 0 : ROOM_RECHECK_NS;
	}
	return next_ns == UINT64_MAX ? WAIT_FOREVER : next_ns - min_u64(next_ns, now_ns);
}
