#include "volume/absent.h"

#include "common/log.h"
#include "volume/packs.h"
#include "volume/pool_impl.h"

#include "backend/backend.h"

#include <string.h>

/* --- the store --------------------------------------------------------------------------------- */

static int store(void *arg, struct backend **ret_backend, struct err *e)
{
	struct pool *p = arg;
	int r = pool_open_backend(p, e);

	if (r == 0)
		*ret_backend = p->backend;
	return r;
}

/* Of an object that lies in a pack: that one's name, and where. */
static uint64_t find(void *arg, char *name)
{
	char pack[OBJECT_NAME_MAX + 1];
	uint64_t offset_bytes, len_bytes;

	if (!packs_find(arg, name, pack, &offset_bytes, &len_bytes))
		return 0;
	memcpy(name, pack, sizeof(pack));
	return offset_bytes;
}

static void fetched(void *arg)
{
	fetchers_kick(arg);
}

int absent_open(struct pool *p, struct err *e)
{
	const struct cache_options o = {
		.env = p->env,
		.flash = p->flash,
		.pool = p->uuid,
		.sco_bytes = p->options.sco_bytes,
		.fetch_min_bytes = p->options.fetch_min_bytes,
		.fetches_max = p->options.fetches_max,
		.backend = store,
		.find = find,
		.fetched = fetched,
		.arg = p,
		.metrics = &p->cache_metrics,
	};
	int r = cache_open(&o, &p->cache, e);

	if (r < 0)
		return r;
	p->scos->read_object = absent_read;
	p->scos->read_arg = p;
	return 0;
}

/* --- whether it answers ------------------------------------------------------------------------ */

static void note_away(struct pool *p, const struct err *e)
{
	int64_t none = 0;

	if (__atomic_compare_exchange_n(&p->reads_wait_ns, &none, env_now_real_ns(p->env), false,
					__ATOMIC_RELAXED, __ATOMIC_RELAXED))
		log_warning("backend: reads of what only it has wait, trying again for ever: %s",
			    e ? e->message : "");
}

static void note_answer(struct pool *p)
{
	if (__atomic_load_n(&p->reads_wait_ns, __ATOMIC_RELAXED) &&
	    __atomic_exchange_n(&p->reads_wait_ns, 0, __ATOMIC_RELAXED))
		log_info("backend: reads go on: url='%s'", p->options.backend_url);
}

int64_t absent_since_ns(struct pool *p)
{
	return __atomic_load_n(&p->reads_wait_ns, __ATOMIC_RELAXED);
}

/* --- reading ----------------------------------------------------------------------------------- */

void absent_name(struct pool *p, const struct sco *s, struct cache_sco *ret_name)
{
	GUARD(&p->scos->lock);
	*ret_name = (struct cache_sco){
		.sco = s->number,
		.stream = s->stream,
		.version = s->version,
		.object_epoch = s->object_epoch,
		.file_bytes = s->file_bytes,
	};
}

int absent_read(void *arg, const struct sco *s, uint64_t offset_bytes, size_t len_bytes, void *dst,
		bool anew, struct err *e)
{
	struct pool *p = arg;
	struct cache_sco name;
	struct err why = { 0 };
	bool near;
	int r;

	absent_name(p, s, &name);
	if (anew)
		cache_drop(p->cache, &name, offset_bytes, len_bytes);
	near = cache_has(p->cache, &name, offset_bytes, len_bytes);
	r = cache_read(p->cache, &name, offset_bytes, len_bytes, dst, &why);
	if (r == -ENOENT) /* it may have been away just then: it is damage if the store insists */
		r = cache_read(p->cache, &name, offset_bytes, len_bytes, dst, &why);
	switch (r) {
	case 0:
		if (!near)
			note_answer(p);
		return 0;
	case -ENOENT:
	case -EUCLEAN: /* it answered */
		note_answer(p);
		return err_set(e, r, "%s", why.message);
	case -ENOMEM:
	case -ESHUTDOWN:
		return err_set(e, r, "%s", why.message);
	default:
		note_away(p, &why);
		return err_set(e, STORE_AWAY, "%s", why.message);
	}
}

bool absent_is_near(struct pool *p, struct sco *s, uint32_t slot, uint32_t count, bool crcs_known)
{
	uint64_t at = (uint64_t)slot * CLUSTER_BYTES, table_bytes;
	size_t len_bytes = (size_t)count * CLUSTER_BYTES;
	struct cache_sco name;

	absent_name(p, s, &name);
	if (!cache_has(p->cache, &name, at, len_bytes))
		return false;
	if (crcs_known)
		return true;
	mutex_lock(&p->scos->lock);
	table_bytes = s->table_offset_bytes;
	mutex_unlock(&p->scos->lock);
	/* The footer is there and has only to be read. */
	if (table_bytes == 0 &&
	    (!cache_has(p->cache, &name, s->file_bytes - BLOCK_BYTES, BLOCK_BYTES) ||
	     sco_load_footer(p->scos, s, NULL) < 0))
		return false;
	return !sco_index_span(p->index, s, slot, count, &at, &len_bytes) ||
	       cache_has(p->cache, &name, at, len_bytes);
}

int io_fetch_waiting(struct object *o, uint64_t cluster, struct io_fetched *f, struct err *e)
{
	struct pool *p = o->pool;

	for (;;) {
		int r = io_fetch(o, cluster, f, e);

		if (r != STORE_AWAY && r != -ESHUTDOWN)
			return r;
		if (r == -ESHUTDOWN || pool_waits_are_cancelled(p))
			return pool_cancelled(e);
		pool_wait_room(p, pool_room_generation(p), AWAY_PAUSE_NS);
	}
}
