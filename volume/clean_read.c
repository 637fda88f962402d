#include "volume/clean_read.h"

#include "common/log.h"
#include "volume/sco_make.h"
#include "volume/sco_read.h"

#include <stdlib.h>

static int add_moving(struct clean_log *log, const struct moving *moving)
{
	if (log->count == log->cap) {
		size_t cap = log->cap ? 2 * log->cap : 1024;
		struct moving *more = reallocarray(log->moving, cap, sizeof(*more));

		if (!more)
			return -ENOMEM;
		log->moving = more;
		log->cap = cap;
	}
	log->moving[log->count++] = *moving;
	return 0;
}

static int collect_entry(void *arg, const struct log_entry *entry)
{
	struct moving moving = {
		.object = entry->object,
		.first_cluster = entry->first_cluster,
		.lsn = entry->flags & ENTRY_COPY ? entry->size_bytes : entry->lsn,
		.slot = entry->slot,
	};
	uint32_t left = entry->kind == ENTRY_DATA ? entry->cluster_count : 1;
	int r = 0;

	if (entry->slot == 0)
		return 0;
	for (; left > 0 && r == 0; left -= moving.count) {
		uint32_t in_window = CLEAN_WINDOW_SLOTS - moving.slot % CLEAN_WINDOW_SLOTS;

		moving.count = (uint32_t)min_u64(left, in_window);
		r = add_moving(arg, &moving);
		moving.first_cluster += moving.count;
		moving.slot += moving.count;
	}
	return r;
}

/* What lies side by side in an object does so again. */
static int by_address(const void *a, const void *b)
{
	const struct moving *x = a, *y = b;
	uint32_t wx = x->slot / CLEAN_WINDOW_SLOTS, wy = y->slot / CLEAN_WINDOW_SLOTS;

	if (wx != wy)
		return wx < wy ? -1 : 1;
	if (x->object != y->object)
		return x->object < y->object ? -1 : 1;
	if (x->first_cluster != y->first_cluster)
		return x->first_cluster < y->first_cluster ? -1 : 1;
	return x->slot < y->slot ? -1 : x->slot > y->slot;
}

static int read_log(struct clean_reader *r, struct sco *s, struct clean_log *log, struct err *e)
{
	struct sco_bytes bytes = sco_bytes_of(r->scos, s);
	struct sco_footer footer;
	int error = sco_read_footer(&bytes, s->file_bytes, &footer, e);

	if (error == 0)
		error = sco_read_log(&bytes, &footer, collect_entry, log, e);
	if (error == 0 && log->count)
		qsort(log->moving, log->count, sizeof(*log->moving), by_address);
	return error;
}

static void read_window(struct clean_reader *r, struct clean_window *w)
{
	struct err unused;

	w->result = w->first_slot == 0 ? read_log(r, w->sco, &w->log, &w->error) : 0;
	if (w->result == 0)
		w->result = sco_read(r->scos, w->sco, w->first_slot, w->count, w->bytes, &w->error);
	/* A chunk that is damaged concerns whoever needs it. */
	if (w->result == 0 &&
	    sco_index_load(r->index, w->sco, w->first_slot, w->count, &unused) < 0)
		log_debug("volume: reading ahead: %s", unused.message);
}

static uint64_t read_step(void *arg)
{
	struct clean_reader *r = arg;
	struct clean_window *w;
	uint64_t pause_ns;

	mutex_lock(&r->lock);
	w = r->unread ? &r->windows[r->next] : NULL;
	mutex_unlock(&r->lock);
	if (!w)
		return WAIT_FOREVER;
	read_window(r, w);
	mutex_lock(&r->lock);
	w->read = true;
	r->next = (r->next + 1) % CLEAN_WINDOWS;
	r->unread--;
	pause_ns = r->unread ? 0 : WAIT_FOREVER;
	cond_broadcast(&r->changed);
	mutex_unlock(&r->lock);
	return pause_ns;
}

void clean_reader_init(struct clean_reader *r, struct sco_table *scos, struct sco_index *index)
{
	*r = (struct clean_reader){ .scos = scos, .index = index };
	mutex_init(&r->lock, 0);
	cond_init(&r->changed);
	job_init(&r->job);
}

int clean_reader_start(struct clean_reader *r)
{
	return job_start(&r->job, "clean-reader", read_step, r);
}

void clean_reader_stop(struct clean_reader *r)
{
	if (r->job.thread)
		clean_reader_rest(r);
	job_stop(&r->job);
}

void clean_reader_done(struct clean_reader *r)
{
	cond_done(&r->changed);
	mutex_done(&r->lock);
}

bool clean_reader_is_full(const struct clean_reader *r)
{
	return r->count == CLEAN_WINDOWS;
}

int clean_reader_want(struct clean_reader *r, struct sco *s, uint32_t first_slot, uint32_t count)
{
	struct clean_window *w = &r->windows[(r->first + r->count) % CLEAN_WINDOWS];

	ASSERT(!clean_reader_is_full(r) && count <= CLEAN_WINDOW_SLOTS);
	if (!w->bytes)
		w->bytes = direct_alloc((size_t)CLEAN_WINDOW_SLOTS * CLUSTER_BYTES);
	if (!w->bytes)
		return -ENOMEM;
	sco_ref(r->scos, s);
	w->sco = s;
	w->first_slot = first_slot;
	w->count = count;
	w->result = 0;
	w->error = (struct err){ 0 };
	r->count++;
	mutex_lock(&r->lock);
	w->read = false;
	r->unread++;
	mutex_unlock(&r->lock);
	job_kick(&r->job);
	return 0;
}

struct clean_window *clean_reader_wait(struct clean_reader *r)
{
	struct clean_window *w = &r->windows[r->first];

	if (r->count == 0)
		return NULL;
	GUARD(&r->lock);
	while (!w->read)
		cond_wait(&r->changed, &r->lock, WAIT_FOREVER);
	return w;
}

void clean_reader_drop(struct clean_reader *r)
{
	struct clean_window *w = clean_reader_wait(r);

	sco_unref(r->scos, w->sco);
	w->sco = NULL;
	free(w->log.moving);
	w->log = (struct clean_log){ 0 };
	r->first = (r->first + 1) % CLEAN_WINDOWS;
	r->count--;
}

void clean_reader_rest(struct clean_reader *r)
{
	while (r->count)
		clean_reader_drop(r);
	for (unsigned int i = 0; i < CLEAN_WINDOWS; i++) {
		free(r->windows[i].bytes);
		r->windows[i].bytes = NULL;
	}
}
