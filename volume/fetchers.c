/*
 * fetchers - requests that merge with a cluster which only the backend has. They stand in a line of
 * their own, so that nobody waits behind them; a few threads get the clusters and do them.
 */
#include "volume/absent.h"
#include "volume/pool_impl.h"

static void append_locked(struct pool *p, struct volume_request *r)
{
	r->next = NULL;
	if (p->remote_tail)
		p->remote_tail->next = r;
	else
		p->remote_head = r;
	p->remote_tail = r;
}

void fetchers_kick(struct pool *p)
{
	for (unsigned int i = 0; i < POOL_FETCHERS; i++)
		job_kick(&p->fetchers[i]);
}

/* It has served its delay, if it had one: else it would come and go as long as writes are slowed. */
static void add_locked(struct pool *p, struct volume_request *r)
{
	p->parked_count++;
	r->resume_ns = 1;
	append_locked(p, r);
}

int fetchers_park(struct pool *p, struct volume_request *r)
{
	mutex_lock(&p->room_lock);
	if (p->parked_count >= p->options.parked_max) {
		mutex_unlock(&p->room_lock);
		return -EBUSY;
	}
	counter_inc(&p->metrics.parked);
	add_locked(p, r);
	mutex_unlock(&p->room_lock);
	fetchers_kick(p);
	return 0;
}

void fetchers_take_over(struct pool *p, struct volume_request *r)
{
	mutex_lock(&p->room_lock);
	add_locked(p, r);
	mutex_unlock(&p->room_lock);
	fetchers_kick(p);
}

static bool is_due(struct pool *p, const struct volume_request *r, uint64_t now_ns)
{
	return r->resume_ns <= now_ns || r->cancelled || pool_waits_are_cancelled(p);
}

/* The first whose time has come, the caller's; NULL: none, *ret_next_ns is when to look again. */
static struct volume_request *take(struct pool *p, uint64_t now_ns, uint64_t *ret_next_ns)
{
	struct volume_request *prev = NULL;

	*ret_next_ns = UINT64_MAX;
	GUARD(&p->room_lock);
	for (struct volume_request *r = p->remote_head; r; prev = r, r = r->next) {
		if (!is_due(p, r, now_ns)) {
			*ret_next_ns = min_u64(*ret_next_ns, r->resume_ns);
			continue;
		}
		if (prev)
			prev->next = r->next;
		else
			p->remote_head = r->next;
		if (p->remote_tail == r)
			p->remote_tail = prev;
		r->next = NULL;
		return r;
	}
	return NULL;
}

static void put_back(struct pool *p, struct volume_request *r, uint64_t resume_ns)
{
	GUARD(&p->room_lock);
	r->resume_ns = resume_ns;
	append_locked(p, r);
}

/* Get what it needs and do it. 0: its result is set; else as io_request_step(). */
static int serve(struct pool *p, struct volume_request *r)
{
	struct io_fetched fetched = { 0 };
	struct err e = { 0 };
	int rc = 0;

	if (r->write && !__atomic_load_n(&r->cancelled, __ATOMIC_RELAXED) &&
	    !pool_waits_are_cancelled(p))
		rc = io_fetch(r->object, (r->offset_bytes + r->progress_bytes) >> CLUSTER_SHIFT,
			      &fetched, &e);
	if (rc == -ESHUTDOWN || rc == -ENOMEM)
		rc = STORE_AWAY; /* the end is near, and tells itself; or better times are */
	else if (rc == 0)
		rc = io_request_step(r, &fetched);
	else if (rc != STORE_AWAY) { /* nobody has that cluster */
		r->result = rc;
		rc = 0;
	}
	io_fetched_done(p, &fetched);
	return rc;
}

static void unpark(struct pool *p)
{
	GUARD(&p->room_lock);
	p->parked_count--;
}

uint64_t fetcher_step(void *arg)
{
	struct pool *p = arg;
	uint64_t now_ns = clock_mono_ns(), next_ns;
	struct volume_request *r = take(p, now_ns, &next_ns);
	int rc;

	if (!r)
		return next_ns == UINT64_MAX ? WAIT_FOREVER : next_ns - min_u64(next_ns, now_ns);
	rc = serve(p, r);
	if (rc == 0) {
		unpark(p);
		r->done(r);
	} else if (rc == -EAGAIN) { /* room is what it waits for now */
		unpark(p);
		room_park(p, r);
	} else {
		put_back(p, r, clock_mono_ns() + (rc == STORE_AWAY ? AWAY_PAUSE_NS : 0));
	}
	return 0;
}
