#include "backend/limiter.h"

struct limiter_waiter {
	struct limiter_waiter *next;
	struct cond granted_cond;
	bool granted;
};

void limiter_init(struct limiter *l, unsigned int max)
{
	ASSERT(max > 0);
	*l = (struct limiter){ .max = max, .last = &l->first };
	mutex_init(&l->lock, 0);
	cond_init(&l->closing);
}

void limiter_done(struct limiter *l)
{
	ASSERT(l->in_use == 0);
	ASSERT(!l->first);
	cond_done(&l->closing);
	mutex_done(&l->lock);
}

static void remove_waiter_locked(struct limiter *l, struct limiter_waiter *w)
{
	struct limiter_waiter **at = &l->first;

	while (*at != w)
		at = &(*at)->next;
	*at = w->next;
	if (!w->next)
		l->last = at;
	l->waiting--;
}

int limiter_acquire(struct limiter *l, uint64_t deadline_ns)
{
	struct limiter_waiter w = { .granted = false };

	GUARD(&l->lock);
	if (l->closed)
		return -ESHUTDOWN;
	if (l->in_use < l->max && !l->first) {
		l->in_use++;
		return 0;
	}
	cond_init(&w.granted_cond);
	*l->last = &w;
	l->last = &w.next;
	l->waiting++;
	while (!w.granted && !l->closed && clock_mono_ns() < deadline_ns)
		cond_wait(&w.granted_cond, &l->lock, deadline_ns);
	/* A slot that was handed over is ours even if the deadline has come: it must not get lost. */
	if (!w.granted)
		remove_waiter_locked(l, &w);
	cond_done(&w.granted_cond);
	if (w.granted)
		return 0;
	return l->closed ? -ESHUTDOWN : -ETIMEDOUT;
}

void limiter_close(struct limiter *l, bool closed)
{
	GUARD(&l->lock);
	l->closed = closed;
	if (!closed)
		return;
	for (struct limiter_waiter *w = l->first; w; w = w->next)
		cond_signal(&w->granted_cond);
	cond_broadcast(&l->closing);
}

int limiter_sleep(struct limiter *l, uint64_t deadline_ns)
{
	GUARD(&l->lock);
	while (!l->closed && clock_mono_ns() < deadline_ns)
		cond_wait(&l->closing, &l->lock, deadline_ns);
	return l->closed ? -ESHUTDOWN : 0;
}

void limiter_release(struct limiter *l)
{
	struct limiter_waiter *w;

	GUARD(&l->lock);
	ASSERT(l->in_use > 0);
	w = l->first;
	if (!w) {
		l->in_use--;
		return;
	}
	remove_waiter_locked(l, w);
	w->granted = true;
	cond_signal(&w->granted_cond);
}

unsigned int limiter_waiting(struct limiter *l)
{
	GUARD(&l->lock);
	return l->waiting;
}
