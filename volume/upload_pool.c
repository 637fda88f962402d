#include "volume/upload_pool.h"

#include "volume/packs.h"
#include "volume/upload.h"

#include <stdio.h>
#include <stdlib.h>

struct upload_work {
	struct sco **scos;
	size_t count;
	size_t small_count; /* the first ones, which go in packs */
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

/* So many go with the next put: one, or small ones that make a pack. */
static size_t next_batch(struct pool *p, const struct upload_work *w)
{
	uint64_t sum_bytes = 0;
	size_t i = w->next;

	for (; i < w->small_count && i - w->next < PACK_MEMBERS_MAX; i++) {
		sum_bytes += w->scos[i]->file_bytes;
		if (sum_bytes > packs_bytes(p))
			break;
	}
	return i > w->next ? i - w->next : 1;
}

static int put_batch(struct pool *p, const struct upload_work *w, size_t first, size_t count,
		     struct err *e)
{
	if (count > 1)
		return upload_pack(p, w->scos + first, count, w->claimed, e);
	return w->claimed || upload_claim(p, w->scos[first]) ? upload_sco(p, w->scos[first], e) : 0;
}

/* Take one after the other. The lock is held, but for the puts themselves. */
static void work_locked(struct pool *p, struct upload_work *w)
{
	struct upload_pool *u = &p->upload_pool;

	while (w->next < w->count && w->result == 0) {
		size_t first = w->next, count = next_batch(p, w);
		struct err e = { 0 };
		int r;

		w->next += count;
		w->busy++;
		mutex_unlock(&u->lock);
		r = put_batch(p, w, first, count, &e);
		/* A damaged file was told, and no root names it yet: the others go on. */
		if (r == -EBADMSG && !w->claimed)
			r = 0;
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

/* Those that may share a pack first; how many these are. A name never is both a member and an object:
 * deletion would find the one and leave the other. */
static size_t sort_small(struct pool *p, struct sco **scos, size_t count)
{
	size_t small = 0;

	for (size_t i = 0; i < count; i++)
		if (!scos[i]->put_alone && packs_is_small(p, scos[i]->file_bytes)) {
			struct sco *s = scos[i];

			scos[i] = scos[small];
			scos[small++] = s;
		}
	return small;
}

int upload_pool_put(struct pool *p, struct sco **scos, size_t count, bool claimed,
		    size_t *ret_taken, struct err *e)
{
	struct upload_work w = { .scos = scos,
				 .count = count,
				 .small_count = sort_small(p, scos, count),
				 .claimed = claimed };
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
