/* settings - options that change while the pool is open. */
#include "volume/pool_impl.h"

uint64_t pool_dirty_limit(struct pool *p)
{
	uint64_t bytes = pool_option(p, dirty_limit_bytes);

	return bytes ? bytes : flash_size_bytes(p->flash) / 2;
}

#define TAKE_OPTION(p, from, name)                                                                 \
	__atomic_store_n(&(p)->options.name, (from)->name, __ATOMIC_RELAXED)

void pool_change_options(struct pool *p, const struct pool_options *o)
{
	TAKE_OPTION(p, o, capacity_bytes);
	TAKE_OPTION(p, o, dirty_limit_bytes);
	TAKE_OPTION(p, o, flush_interval_ns);
	TAKE_OPTION(p, o, checkpoint_interval_ns);
	TAKE_OPTION(p, o, upload_interval_ns);
	TAKE_OPTION(p, o, grace_time_ns);
	TAKE_OPTION(p, o, clean_target_percent);
	TAKE_OPTION(p, o, scrub_from_minute);
	TAKE_OPTION(p, o, scrub_until_minute);
	__atomic_store_n(&p->dirty_limit_bytes, pool_dirty_limit(p), __ATOMIC_RELAXED);
	capacity_change(p, o->capacity_bytes);
	pool_recount(p);
	pool_made_room(p);
	/* They sleep for what the intervals were; the checkpointer was kicked, and kicks the cleaner. */
	job_kick(&p->flusher);
	job_kick(&p->uploader);
}
