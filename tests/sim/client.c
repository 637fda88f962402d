/* What a process of the world does with its objects. */
#include "tests/sim/client.h"
#include "tests/sim/snaps.h"

#define STEPS	    120u
#define STEPS_BRIEF 10u
#define WRITE_MAX   200000u

void world_outcome(struct world *w, struct world_object *o, const char *what, int r,
		   const struct err *e)
{
	if (r >= 0) {
		if (o)
			o->model.in_flight = false;
		return;
	}
	if (!w->faulty)
		world_fail(w, what, r, e);
	sim_crash_now(w->sim, SIM_KILL);
}

static void need_object(struct world *w, struct world_object *o)
{
	struct err e = { 0 };
	int r;

	if (o->open)
		return;
	if (!o->id) {
		r = object_create(w->pool, sim_rand(w->sim, 2) ? OBJECT_DISK : OBJECT_FILE, &o->id,
				  &e);
		if (r < 0)
			o->id = 0;
		world_outcome(w, NULL, "create", r, &e);
		o->creation_synced = false;
		model_clear(&o->model);
	}
	r = object_open(w->pool, o->id, &o->open, &e);
	world_outcome(w, NULL, "open", r, &e);
}

static void do_write(struct world *w, struct world_object *o)
{
	static const uint32_t sizes[] = { 600, 5000, 9000, 30000, WRITE_MAX };
	uint64_t len = 1 + sim_rand(w->sim, sizes[sim_rand(w->sim, ARRAY_SIZE(sizes))]);
	uint64_t offset = sim_rand(w->sim, MODEL_BYTES - len);
	struct err e = { 0 };
	uint8_t *src = w->buf;

	if (sim_rand(w->sim, 2)) {
		offset &= ~UINT64_C(4095);
		len = min_u64(round_up_u64(len, 4096), MODEL_BYTES - offset);
	}
	if (w->sync_fails)
		src += 512; /* unaligned memory never goes past the ring, into the file only */
	model_add(&o->model, &(struct model_op){ MODEL_WRITE, offset, len, ++w->generation, NULL });
	o->model.in_flight = true;
	model_fill(o->model.number, w->generation, offset, src, len);
	sim_note(w->sim, "write %u at %" PRIu64 "+%" PRIu64, o->model.number, offset, len);
	world_outcome(w, o, "write", object_write(o->open, offset, src, len, &e), &e);
	TOTAL(w, writes, 1);
}

static void do_zero(struct world *w, struct world_object *o)
{
	uint64_t len = 1 + sim_rand(w->sim, 300000);
	uint64_t offset = sim_rand(w->sim, MODEL_BYTES - len);
	struct err e = { 0 };

	model_add(&o->model, &(struct model_op){ MODEL_ZERO, offset, len, 0, NULL });
	o->model.in_flight = true;
	sim_note(w->sim, "zero %u at %" PRIu64 "+%" PRIu64, o->model.number, offset, len);
	world_outcome(w, o, "zero", object_zero(o->open, offset, len, false, &e), &e);
	TOTAL(w, zeroes, 1);
}

static void do_truncate(struct world *w, struct world_object *o)
{
	uint64_t size = sim_rand(w->sim, MODEL_BYTES);
	struct err e = { 0 };

	model_add(&o->model, &(struct model_op){ MODEL_TRUNCATE, size, 0, 0, NULL });
	o->model.in_flight = true;
	sim_note(w->sim, "truncate %u to %" PRIu64, o->model.number, size);
	world_outcome(w, o, "truncate", object_truncate(o->open, size, &e), &e);
	TOTAL(w, truncates, 1);
}

static void do_sync(struct world *w, struct world_object *o)
{
	size_t count = o->model.op_count;
	struct err e = { 0 };
	int r;

	sim_note(w->sim, "sync %u", o->model.number);
	r = object_sync(o->open, &e);
	world_outcome(w, NULL, "sync", r, &e);
	o->model.synced = count;
	o->creation_synced = true;
	TOTAL(w, syncs, 1);
}

static void do_class(struct world *w, struct world_object *o)
{
	struct object_stat st;
	struct err e = { 0 };

	object_stat(o->open, &st);
	sim_note(w->sim, "class of %u", o->model.number);
	world_outcome(w, NULL, "class change",
		      object_set_class(o->open, st.class == OBJECT_DISK ? OBJECT_FILE : OBJECT_DISK,
				       &e),
		      &e);
	TOTAL(w, class_changes, 1);
}

void world_delete(struct world *w, struct world_object *o)
{
	struct err e = { 0 };
	int r;

	object_close(TAKE_PTR(o->open));
	sim_note(w->sim, "delete %u", o->model.number);
	o->deleting = true; /* from here on it may be gone */
	/* Made sure at once: what a power cut leaves of an unsynced deletion is either. */
	r = object_delete(w->pool, o->id, &e);
	world_outcome(w, NULL, "delete", r, &e);
	o->id = 0;
	o->deleting = false;
	model_clear(&o->model);
	snaps_clear(o);
	r = pool_sync_names(w->pool, &e);
	world_outcome(w, NULL, "syncing names", r, &e);
	TOTAL(w, deletes, 1);
}

/* All that was acknowledged is in a root: from here on the machine may be lost. */
static void begin_loss(struct world *w)
{
	w->losing = true;
	for (unsigned int i = 0; i < WORLD_OBJECTS; i++) {
		w->objects[i].rooted_id = w->objects[i].id;
		w->objects[i].rooted = w->objects[i].model.op_count;
	}
}

static void do_background(struct world *w, unsigned int which)
{
	struct err e = { 0 };
	int r;

	if (which == 0)
		r = pool_checkpoint(w->pool, &e);
	else if (which == 1)
		r = pool_flush(w->pool, &e);
	else
		r = pool_sync_backend(w->pool, &e);
	world_outcome(w, NULL, "background", r, &e);
	for (unsigned int i = 0; r == 0 && which == 1 && i < WORLD_OBJECTS; i++) {
		w->objects[i].model.synced = w->objects[i].model.op_count;
		w->objects[i].creation_synced = true;
	}
	if (which == 2 && w->process + 1 < PROCESSES && sim_rand(w->sim, 3) == 0)
		begin_loss(w);
}

/* A range that reads as another one does at this moment, here or in another object. */
static void do_share(struct world *w, struct world_object *o)
{
	struct world_object *from = &w->objects[sim_rand(w->sim, WORLD_OBJECTS)];
	uint64_t len = round_up_u64(1 + sim_rand(w->sim, 200000), 4096), shared = 0;
	uint64_t at = sim_rand(w->sim, MODEL_BYTES - len) & ~UINT64_C(4095);
	uint64_t to = sim_rand(w->sim, MODEL_BYTES - len) & ~UINT64_C(4095);
	struct model_op op = { .kind = MODEL_PATCH, .offset_bytes = to };
	struct err e = { 0 };
	ssize_t n;
	int r;

	/* Only what a root names can be shared. */
	if (sim_rand(w->sim, 2))
		do_background(w, 2);
	need_object(w, from);
	r = object_seek(from->open, at, true, &at, &e);
	if (r == -ENXIO)
		return;
	world_outcome(w, NULL, "seek", r, &e);
	at &= ~UINT64_C(4095);
	n = world_read(w, from->open, at, w->buf, min_u64(len, MODEL_BYTES - at), &e);
	if (n == -EREMOTEIO)
		return;
	world_outcome(w, NULL, "read", (int)n, &e);
	op.len_bytes = (uint64_t)n & ~UINT64_C(4095);
	if (op.len_bytes == 0 || (from == o && at < to + len && to < at + len))
		return;
	op.bytes = malloc(op.len_bytes);
	ASSERT(op.bytes);
	memcpy(op.bytes, w->buf, op.len_bytes);
	model_add(&o->model, &op);
	o->model.in_flight = true;
	sim_note(w->sim, "share %u at %" PRIu64 "+%" PRIu64 " from %u at %" PRIu64, o->model.number,
		 to, op.len_bytes, from->model.number, at);
	r = object_share(o->open, to, from->open, at, op.len_bytes, &shared, &e);
	world_outcome(w, o, "share", r, &e);
	model_cut_last(&o->model, shared);
	TOTAL(w, shares, shared > 0);
}

/* It goes on beside what follows, and often dies with the process. */
static void do_scrub(struct world *w)
{
	struct pool_scrub_status st;

	pool_scrub_status(w->pool, &st);
	TOTAL(w, scrubs, 1);
	TOTAL(w, scrubs_done, st.phase == POOL_SCRUB_DONE);
	pool_scrub(w->pool);
}

static void checkpoint_beside(void *arg)
{
	struct world *w = arg;
	struct err e = { 0 };

	world_outcome(w, NULL, "checkpoint", pool_checkpoint(w->pool, &e), &e);
}

/* Writes while a checkpoint is made; sometimes the process dies as soon as it is. */
static void do_busy_checkpoint(struct world *w, struct world_object *o)
{
	struct thread *thread;
	int r = thread_start("checkpoint", checkpoint_beside, w, &thread);

	if (r < 0)
		world_fail(w, "thread", r, NULL);
	for (uint64_t i = sim_rand(w->sim, 8); i > 0; i--)
		do_write(w, o);
	thread_join(thread);
	if (w->process + 1 < PROCESSES && sim_rand(w->sim, 4) == 0)
		sim_crash_now(w->sim, w->kind);
}

/* Much that nobody synced, over many SCOs, and the power goes: what a later SCO keeps counts for
 * nothing when an earlier one lost something. Little is lost, or no later batch were whole. */
static void do_burst(struct world *w, struct world_object *o)
{
	for (uint64_t i = 8 + sim_rand(w->sim, 32); i > 0; i--)
		do_write(w, o);
	if (w->process + 1 == PROCESSES)
		return;
	w->hasty = sim_rand(w->sim, 3) ? o : NULL;
	sim_set_power_bias(w->sim, 900000 + (uint32_t)sim_rand(w->sim, 100000), SIM_PICK);
	sim_crash_now(w->sim, SIM_POWER);
}

void client_live_hastily(struct world *w)
{
	struct world_object *o = TAKE_PTR(w->hasty);

	world_check(w, o);
	need_object(w, o);
	for (uint64_t i = 1 + sim_rand(w->sim, 8); i > 0; i--)
		do_write(w, o);
	do_sync(w, o);
	sim_crash_now(w->sim, w->kind);
}

void client_live(struct world *w)
{
	unsigned int steps = w->brief ? STEPS_BRIEF : STEPS;

	if (!w->brief && w->process + 1 == PROCESSES && w->steps + steps < CLIENT_SEED_STEPS)
		steps = CLIENT_SEED_STEPS - w->steps;
	for (unsigned int i = 0; i < steps; i++) {
		struct world_object *o = &w->objects[sim_rand(w->sim, WORLD_OBJECTS)];
		uint64_t dice = sim_rand(w->sim, 1000);

		w->steps++;
		need_object(w, o);
		if (dice < 600 || (w->lazy && dice >= 740 && dice < 820))
			do_write(w, o);
		else if (dice < 660)
			do_zero(w, o);
		else if (dice < 720)
			do_truncate(w, o);
		else if (dice < 820)
			do_sync(w, o);
		else if (dice < 850)
			do_background(w, (unsigned int)sim_rand(w->sim, 3));
		else if (dice < 858 && w->classes)
			do_class(w, o);
		else if (dice < 866)
			world_delete(w, o);
		else if (dice < 876)
			do_busy_checkpoint(w, o);
		else if (dice < 886)
			do_burst(w, o);
		else if (dice < 930 && w->snapshots)
			snaps_step(w, o);
		else if (dice >= 930 && dice < 936)
			do_scrub(w);
		else if (dice >= 940 && w->shares)
			do_share(w, o);
		else
			sim_sleep_ns(w->sim, 1 + sim_rand(w->sim, 30000000));
	}
	for (unsigned int i = 0; i < WORLD_OBJECTS; i++)
		object_close(TAKE_PTR(w->objects[i].open));
}
