#include "volume/upload_pool.h"

#include "volume/upload.h"

#include <stdio.h>
#include <stdlib.h>

struct upload_work {
	struct sco *const *scos;
	size_t count;
	bool claimed;
	size_t next;	   /* who works takes it */
	unsigned int busy; /* of those before it, not put yet */
	int result;	   /* the first error, which ends it */
	struct err error;
};

void upload_pool_init(struct upload_pool *u)
{
	mutex_init(&u->lock, 0);
	cond_init(&u->done);
}

/* Take one after the other. The lock is held, but for the puts themselves. */
static void work_locked(struct pool *p, struct upload_work *w)
{
	struct upload_pool *u = &p->upload_pool;

	while (w->next < w->count && w->result == 0) {
		struct sco *s = w->scos[w->next++];
		struct err e = { 0 };
		int r = 0;

		w->busy++;
		mutex_unlock(&u->lock);
		if (w->claimed || upload_claim(p, s))
			r = upload_sco(p, s, &e);
		mutex_lock(&u->lock);
		w->busy--;
		if (r < 0 && w->result == 0) {
			w->result = r;
			w->error = e;
		}
	}
	if (w->busy == 0)
		cond_broadcast(&u->done);
}

static uint64_t help_step(void *arg)
{
	struct pool *p = arg;

	GUARD(&p->upload_pool.lock);
	if (p->upload_pool.work)
		work_locked(p, p->upload_pool.work);
	return WAIT_FOREVER;
}

int upload_pool_start(struct pool *p)
{
	struct upload_pool *u = &p->upload_pool;
	unsigned int wanted = p->options.uploads_max > 1 ? p->options.uploads_max - 1 : 0;
	int r = 0;

	u->helpers = calloc(wanted + 1, sizeof(*u->helpers));
	if (!u->helpers)
		return -ENOMEM;
	for (; u->helper_count < wanted && r == 0; u->helper_count++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "put-%u", u->helper_count);
		r = job_start(&u->helpers[u->helper_count], name, help_step, p);
	}
	return r;
}

void upload_pool_stop(struct upload_pool *u)
{
	while (u->helper_count > 0)
		job_stop(&u->helpers[--u->helper_count]);
	free(u->helpers);
	u->helpers = NULL;
}

int upload_pool_put(struct pool *p, struct sco *const *scos, size_t count, bool claimed,
		    size_t *ret_taken, struct err *e)
{
	struct upload_work w = { .scos = scos, .count = count, .claimed = claimed };
	struct upload_pool *u = &p->upload_pool;

	mutex_lock(&u->lock);
	u->work = &w;
	mutex_unlock(&u->lock);
	for (unsigned int i = 0; i < u->helper_count && i + 1 < count; i++)
		job_kick(&u->helpers[i]);
	mutex_lock(&u->lock);
	work_locked(p, &w);
	while (w.busy > 0)
		cond_wait(&u->done, &u->lock, WAIT_FOREVER);
	u->work = NULL;
	mutex_unlock(&u->lock);
	*ret_taken = w.next;
	return w.result < 0 ? err_set(e, w.result, "%s", w.error.message) : 0;
}
