/* pool_world - what the streams of a pool find around them, and whom they tell. */
#include "volume/pool_impl.h"

static int world_new_sco_number(void *arg, uint64_t *ret_number, struct err *e)
{
	int r = pool_new_number(arg, COUNTER_SCO, ret_number, e);

	if (r == 0 && *ret_number > SCO_NUMBER_MAX)
		return err_set(e, -ENOSPC, "SCO numbers are used up");
	return r;
}

static void world_batch_is_full(void *arg, uint64_t bytes)
{
	struct pool *p = arg;

	(void)__atomic_add_fetch(&p->dirty_bytes, bytes, __ATOMIC_RELAXED);
}

static void world_sco_is_full(void *arg, uint64_t bytes)
{
	struct pool *p = arg;

	(void)__atomic_add_fetch(&p->unchecked_bytes, bytes, __ATOMIC_RELAXED);
	job_kick(&p->evictor); /* room was taken */
}

static void world_wants_flush(void *arg)
{
	job_kick(&((struct pool *)arg)->flusher);
}

static void world_wants_seal(void *arg)
{
	job_kick(&((struct pool *)arg)->sealer);
}

static void world_wants_sco(void *arg)
{
	job_kick(&((struct pool *)arg)->preparer);
}

static void world_device_failed(void *arg)
{
	pool_tell_failure(arg);
}

static void world_made_room(void *arg)
{
	pool_made_room(arg);
}

void pool_init_world(struct pool *p, const struct pool_row *row)
{
	p->world = (struct stream_world){
		.env = p->env,
		.pool = p->uuid,
		.epoch = p->epoch,
		.sco_slots = (uint32_t)min_u64(row->sco_bytes / CLUSTER_BYTES, SCO_SLOTS_MAX),
		.flash = p->flash,
		.scos = p->scos,
		.meta = p->meta,
		.writeback = &p->writeback,
		.new_sco_number = world_new_sco_number,
		.batch_is_full = world_batch_is_full,
		.sco_is_full = world_sco_is_full,
		.wants_flush = world_wants_flush,
		.wants_seal = world_wants_seal,
		.wants_sco = world_wants_sco,
		.device_failed = world_device_failed,
		.made_room = world_made_room,
		.arg = p,
	};
}
