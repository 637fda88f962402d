#include "backend/backend_impl.h"
#include "common/log.h"
#include "tests/sim/client.h"
#include "tests/sim/resolved.h"
#include "tests/sim/rows.h"
#include "tests/sim/snaps.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define POOL_BYTES   (UINT64_C(96) << 20)
#define QUIET_ROUNDS 40u
/* Far more than a process of a seed takes; beyond it something turns in circles. */
#define STEPS_MAX 4000000u

void world_fail(struct world *w, const char *what, int r, const struct err *e)
{
	fprintf(stderr, "seed %" PRIu64 " process %u: %s: %d %s\n", sim_seed(w->sim), w->process,
		what, r, e ? e->message : "");
	if (w->verbose)
		sim_dump_trace(w->sim, stderr, 300);
	_exit(1);
}

/* --- the pool ---------------------------------------------------------------------------------- */

static void choose_options(struct world *w)
{
	struct pool_options *o = &w->options;
	struct sim *s = w->sim;
	/* In some seeds little happens by itself: much that is not durable yet, over many SCOs. */
	uint64_t slow = sim_rand(s, 3) ? 1 : 30;

	(void)snprintf(w->dir, sizeof(w->dir), "/pool");
	(void)snprintf(w->cache, sizeof(w->cache), "/pool/cache");
	pool_options_default(o, w->dir);
	o->sco_bytes = UINT64_C(131072) << sim_rand(s, 3);
	o->ring_frame_bytes = 16384u << sim_rand(s, 3);
	o->ring_bytes = 4096 + o->ring_frame_bytes * (4 + sim_rand(s, slow > 1 ? 100 : 20));
	o->metadata_cache_bytes = UINT64_C(1048576) << sim_rand(s, 4);
	o->flush_interval_ns = 1000000 + sim_rand(s, 100000000 * slow);
	o->checkpoint_interval_ns = 20000000 + sim_rand(s, 300000000 * slow);
	o->upload_interval_ns = 50000000 + sim_rand(s, 1000000000 * slow);
	o->clean_target_percent = 101 + (unsigned int)sim_rand(s, 60);
	o->grace_time_ns = 1;
	o->reserve_bytes = 4096;
	/* A small cache: what is on the backend leaves it. */
	w->small = sim_rand(s, 3) == 0;
	if (w->small) {
		o->sco_bytes = 131072;
		o->cache[0].size_bytes = o->sco_bytes * (12 + sim_rand(s, 12));
		o->fetch_min_bytes = 4096u << sim_rand(s, 5);
		o->fetches_max = (unsigned int)sim_rand(s, 4);
		o->checkpoint_interval_ns = min_u64(o->checkpoint_interval_ns, 100000000);
		o->upload_interval_ns = min_u64(o->upload_interval_ns, 100000000);
	}
	o->map_piece_bytes = 100;
	o->resolve_layers = 1;
	o->packs = sim_rand(s, 3) ? PACKS_ALWAYS : PACKS_NEVER;
	o->shm_dir = sim_rand(s, 4) ? "/dev/shm" : "";
	o->cache[0].path = w->cache;
	o->cache_count = 1;
	if (sim_rand(s, 3) == 0) {
		sim_add_device(s, "/cache2", POOL_BYTES, 0);
		o->cache[o->cache_count++].path = "/cache2/dir";
	}
}

void world_open_backend(struct world *w)
{
	struct backend_options bo = { .attempts_max = 2,
				      .backoff_first_ns = 100000,
				      .timeout_ns = 1000000000 };
	struct fault_plan plan = {
		.error_before = 3000,
		.error_after = 3000,
		.cut_read = 1500,
		.no_space = 500,
		.delay_ns_max = 200000,
		/* Writers would wait for ever; readers, where flash never had it all. */
		.down = sim_rand(w->sim, 8) == 0 && !w->small && !w->machine,
	};
	struct store *below;
	struct err e = { 0 };
	int r;

	if (!w->faulty)
		memset(&plan, 0, sizeof(plan));
	r = store_open(sim_env(w->sim), w->store_url, &bo, &below, &e);
	if (r == 0)
		r = filter_fault_open(sim_env(w->sim), below, &plan, &w->fault_store);
	if (r == 0)
		r = backend_open_over(sim_env(w->sim), w->fault_store, w->store_url, &bo,
				      &w->backend, &e);
	if (r < 0)
		world_fail(w, "opening the backend", r, &e);
	w->options.backend = w->backend;
}

/* Faults of the disk for this process; never while the pool is made and in the last one. */
void world_set_faults(struct world *w)
{
	/* What a failed fdatasync cost may be read for a while: the next process must not believe it. */
	struct sim_faults f = { .path_prefix = w->cache };

	if (w->faulty && sim_rand(w->sim, 3) == 0) {
		f.eio_write_ppm = 4000;
		f.eio_read_ppm = 2000;
		f.enospc_ppm = 10000;
	}
	if (w->faulty && w->sync_fails)
		f.eio_sync_ppm = 15000;
	sim_set_faults(w->sim, &f);
	w->trouble.enospc_ppm = w->trouble.eio_ppm = 0;
	if (w->faulty && sim_rand(w->sim, 3) == 0) {
		w->trouble.enospc_ppm = 5000;
		w->trouble.eio_ppm = 1000;
	}
}

/* --- checking ---------------------------------------------------------------------------------- */

#define READS	   8u
#define READ_TRIES 20u

ssize_t world_read(struct world *w, struct object *open, uint64_t offset, void *dst, size_t len,
		   struct err *e)
{
	ssize_t n = object_read(open, offset, dst, len, e);

	for (unsigned int i = 0; n == -EREMOTEIO && i < READ_TRIES; i++) {
		sim_sleep_ns(w->sim, 1000000);
		n = object_read(open, offset, dst, len, e);
	}
	return n;
}

/* All of an object into w->buf, in some reads of different lengths at the same time. */
static ssize_t read_in_flight(struct world *w, struct object *open, struct err *e)
{
	struct volume_read reads[READS], *done;
	struct volume_reader *rd;
	size_t at = 0, rest = MODEL_BYTES;
	ssize_t total = 0;
	int r = volume_reader_open(w->pool, &rd, e);

	if (r < 0)
		return r;
	for (unsigned int i = 0; i < READS; i++) {
		size_t len = i + 1 < READS ? sim_rand(w->sim, rest / 4096 + 1) * 4096 : rest;

		reads[i] = (struct volume_read){
			.object = open, .offset_bytes = at, .buf = w->buf + at, .len_bytes = len
		};
		volume_read_start(rd, &reads[i]);
		at += len;
		rest -= len;
	}
	while ((done = volume_read_reap(rd, true))) {
		if (done->needs_fetch)
			done->result = world_read(w, open, done->offset_bytes, done->buf,
						  done->len_bytes, e);
		if (total >= 0)
			total = done->result < 0 ? done->result : total + done->result;
	}
	volume_reader_close(rd);
	return total;
}

static void forget_object(struct world_object *o)
{
	o->deleting = false;
	o->id = 0;
	model_clear(&o->model);
	snaps_clear(o);
}

/* Numbers that went with a machine and never reached the store may be other objects' from here on: so
 * before something is made, while the others wait to be looked at. */
static void forget_lost(struct world *w)
{
	for (unsigned int i = 0; i < WORLD_OBJECTS; i++) {
		struct world_object *o = &w->objects[i];
		struct object *open;
		int r;

		if (!o->id || o->creation_synced)
			continue;
		r = object_open(w->pool, o->id, &open, NULL);
		if (r == 0)
			object_close(open);
		else if (r == -ENOENT)
			forget_object(o);
	}
	w->machine_lost = false;
}

void world_check(struct world *w, struct world_object *o)
{
	struct object_stat st;
	struct object *open;
	struct err e = { 0 };
	ssize_t n;
	int r;

	if (!o->id)
		return;
	r = object_open(w->pool, o->id, &open, &e);
	if (r == -ENOENT && (o->deleting || (w->power_cut && !o->creation_synced))) {
		forget_object(o);
		return;
	}
	if (r < 0)
		world_fail(w, "an object is gone", r, &e);
	object_stat(open, &st);
	if (st.size_bytes > MODEL_BYTES)
		world_fail(w, "size", (int)(st.size_bytes >> 20), NULL);
	n = sim_rand(w->sim, 2) ? read_in_flight(w, open, &e) :
				  world_read(w, open, 0, w->buf, MODEL_BYTES, &e);
	if (n < 0 || (uint64_t)n != st.size_bytes)
		world_fail(w, "reading it all", (int)n, &e);
	if (!model_accept(&o->model, w->buf, st.size_bytes, w->power_cut))
		world_fail(w,
			   w->power_cut ? "after a power cut no state fits" :
					  "after a kill no state fits",
			   0, NULL);
	object_close(open);
	if (w->snapshots)
		snaps_check(w, o);
}

void world_check_all(struct world *w)
{
	for (unsigned int i = 0; i < WORLD_OBJECTS; i++)
		world_check(w, &w->objects[i]);
	w->power_cut = w->machine_lost = false;
}

/* --- the two ends of a shared cluster ----------------------------------------------------------- */

/* Two threads write their own halves of the same clusters; none may lose the other's. */
struct half {
	struct world *w;
	struct object *o;
	unsigned int which;
};

#define HALF_CLUSTERS 24u
#define HALF_ROUNDS   30u

static void write_half(void *arg)
{
	struct half *h = arg;
	uint8_t bytes[2048];

	for (unsigned int round = 1; round <= HALF_ROUNDS; round++) {
		uint64_t cluster = round * 7 % HALF_CLUSTERS;
		uint64_t offset = cluster * 4096 + h->which * sizeof(bytes);
		struct err e = { 0 };

		memset(bytes, (int)(round * 2 + h->which), sizeof(bytes));
		world_outcome(h->w, NULL, "half a cluster",
			      object_write(h->o, offset, bytes, sizeof(bytes), &e), &e);
	}
}

static void drop_halves(struct world *w)
{
	struct err e = { 0 };
	int r = w->halves_id ? object_delete(w->pool, w->halves_id, &e) : 0;

	if (w->halves_id && r == 0)
		r = pool_flush(w->pool,
			       &e); /* else a power cut brings it back, and nobody knows it */
	world_outcome(w, NULL, "delete", r == -ENOENT ? 0 : r, &e);
	if (r == 0 || r == -ENOENT)
		w->halves_id = 0;
}

static void check_halves(struct world *w)
{
	struct half halves[2];
	struct thread *other;
	struct err e = { 0 };
	int r;

	r = object_create(w->pool, OBJECT_FILE, &w->halves_id, &e);
	world_outcome(w, NULL, "create", r, &e);
	r = object_open(w->pool, w->halves_id, &halves[0].o, &e);
	world_outcome(w, NULL, "open", r, &e);
	for (unsigned int i = 0; i < 2; i++)
		halves[i] = (struct half){ .w = w, .o = halves[0].o, .which = i };
	r = thread_start("half", write_half, &halves[1], &other);
	if (r < 0)
		world_fail(w, "thread", r, NULL);
	write_half(&halves[0]);
	thread_join(other);
	if (object_read(halves[0].o, 0, w->buf, HALF_CLUSTERS * 4096, &e) < 0)
		world_outcome(w, NULL, "read", -EIO, &e);
	for (unsigned int round = 1; round <= HALF_ROUNDS; round++) {
		uint64_t cluster = round * 7 % HALF_CLUSTERS;
		unsigned int last =
			round + (round + HALF_CLUSTERS <= HALF_ROUNDS ? HALF_CLUSTERS : 0);

		for (unsigned int i = 0; i < 2; i++)
			if (w->buf[cluster * 4096 + i * 2048] != (uint8_t)(last * 2 + i))
				world_fail(w, "half of a cluster was lost", (int)cluster, NULL);
	}
	object_close(halves[0].o);
	drop_halves(w);
}

/* --- a process --------------------------------------------------------------------------------- */

static void add_metrics(struct world *w)
{
	const struct pool_metrics *m = &w->pool->metrics;

	TOTAL(w, checkpoints, counter_get(&m->checkpoints));
	TOTAL(w, roots, counter_get(&m->roots));
	TOTAL(w, scos_deleted, counter_get(&m->scos_deleted));
	TOTAL(w, scos_uploaded, counter_get(&m->scos_uploaded));
	TOTAL(w, scos_resealed, counter_get(&m->scos_resealed));
	TOTAL(w, scos_evicted, counter_get(&m->scos_evicted));
	TOTAL(w, fetches, counter_get(&w->pool->cache_metrics.fetches));
	TOTAL(w, clean_clusters, counter_get(&m->clean_clusters));
	TOTAL(w, clean_frozen_clusters, counter_get(&m->clean_frozen_clusters));
	TOTAL(w, resolved_pages, counter_get(&m->resolved_pages));
	TOTAL(w, merges_raced, counter_get(&m->merges_raced));
	TOTAL(w, trimmed_clusters, counter_get(&m->trimmed_clusters));
	TOTAL(w, backend_faults, filter_fault_count(w->fault_store));
}

/* Everything deleted and some rounds later nothing may be left but what a pool always has. */
/* Stops at the first one: rows must not change meanwhile. */
static int first_object(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
			size_t value_bytes)
{
	(void)value;
	(void)value_bytes;
	return row_key_parse_u64(key, key_bytes, ROW_OBJECT, arg) < 0 ? -EUCLEAN : 1;
}

/*
 * By the rows, for the world does not know all: one whose creation or deletion ended in an error may
 * be there or not after a crash, and a deletion that nobody synced is undone by a power cut.
 */
static void delete_all(struct world *w)
{
	struct row_key from = row_key_u64(ROW_OBJECT, 0);
	struct row_key until = row_key_u64(ROW_OBJECT, UINT64_MAX);
	struct err e = { 0 };
	uint64_t id;
	int r;

	while ((r = meta_iterate(w->pool->meta, META_NAMES, &from, &until, first_object, &id,
				 &e)) == 1) {
		r = object_delete(w->pool, id, &e);
		if (r < 0)
			world_fail(w, "deleting at the end", r, &e);
	}
	if (r < 0)
		world_fail(w, "objects at the end", r, &e);
	for (unsigned int i = 0; i < WORLD_OBJECTS; i++)
		w->objects[i].id = 0;
	for (unsigned int i = 0; i < 6; i++) {
		r = pool_sync_backend(w->pool, &e);
		if (r < 0)
			world_fail(w, "upload at the end", r, &e);
		r = pool_checkpoint(w->pool, &e);
		if (r < 0)
			world_fail(w, "checkpoint at the end", r, &e);
		sim_sleep_ns(w->sim, 10000000);
	}
}

/* With faults off all drains. */
static void check_liveness(struct world *w)
{
	struct pool_status st = { 0 };
	struct err e = { 0 };
	int r = pool_sync_backend(w->pool, &e);

	if (r < 0)
		world_fail(w, "upload without faults", r, &e);
	for (unsigned int i = 0; i < QUIET_ROUNDS; i++) {
		pool_status(w->pool, &st);
		if (st.state == POOL_OK && st.parked == 0 && st.dirty_bytes == 0)
			return;
		sim_sleep_ns(w->sim, 100000000);
		r = pool_sync_backend(w->pool, &e);
		if (r < 0)
			world_fail(w, "upload without faults", r, &e);
	}
	world_fail(w, st.reason[0] ? st.reason : "it does not drain", (int)(st.dirty_bytes >> 10),
		   NULL);
}

/* While nobody changes names, but checkpoints that let go of what was deleted. */
static void check_names(struct world *w)
{
	struct err e = { 0 };

	for (unsigned int i = 0; i < QUIET_ROUNDS; i++) {
		int r = pool_sync_backend(w->pool, &e);

		if (r < 0)
			world_fail(w, "upload without faults", r, &e);
		if (names_are_shown(w->backend, w->pool->meta))
			return;
		sim_sleep_ns(w->sim, 100000000);
	}
	world_fail(w, "the newest root shows other names", 0, NULL);
}

static void process(void *arg)
{
	struct world *w = arg;
	bool last = w->process + 1 == PROCESSES && !w->brief;
	struct err e = { 0 };
	int r;

	r = meta_mem_open(w->disk, &w->options.meta, &e);
	if (r < 0)
		world_fail(w, "metadata", r, &e);
	world_open_backend(w);
	w->in_open = true;
	r = pool_open(sim_env(w->sim), &w->options, &w->pool, &e);
	if (r < 0 && w->faulty) { /* the next one has no faults while it opens */
		sim_crash_now(w->sim, SIM_KILL);
	}
	if (r < 0)
		world_fail(w, "open", r, &e);
	w->in_open = false;
	if (w->machine_lost && !w->faulty)
		forget_lost(w);
	if (w->hasty && !last && !w->faulty)
		client_live_hastily(w);
	w->hasty = NULL;
	if (w->process > 0 && !w->faulty)
		world_check_all(w);
	else if (w->process > 0) {
		sim_set_faults(w->sim, NULL);
		world_check_all(w);
		world_set_faults(w);
	}
	drop_halves(w);
	client_live(w);
	if (!w->faulty && !w->brief)
		check_halves(w);
	if (last) {
		check_liveness(w);
		world_check_all(w);
		check_names(w);
		delete_all(w);
	}
	add_metrics(w);
	r = pool_close(w->pool, &e);
	if (r < 0 && !w->faulty)
		world_fail(w, "close", r, &e);
	if (r == 0) {
		for (unsigned int i = 0; i < WORLD_OBJECTS; i++) {
			w->objects[i].model.synced = w->objects[i].model.op_count;
			w->objects[i].creation_synced = true;
		}
		sim_set_faults(w->sim, NULL);
		if (!rows_agree(sim_env(w->sim), w->options.meta, &w->options))
			world_fail(w, "rows and files do not agree", 0, NULL);
		if (!resolved_agree(w->options.meta))
			world_fail(w, "resolved pages and rows do not agree", 0, NULL);
		if (!w->faulty && !maps_agree(w->backend, w->options.meta))
			world_fail(w, "maps and rows do not agree", 0, NULL);
		if (!w->faulty && !root_before_is_whole(w->backend, w->options.meta))
			world_fail(w, "the root before the newest is not whole", 0, NULL);
		if (last && !nothing_left(w->backend, sim_env(w->sim), &w->options))
			world_fail(w, "something is left", 0, NULL);
	}
	meta_close(w->options.meta);
	backend_close(w->backend);
	w->ended = true;
}

/* A process of its own that makes the pool and never dies. */
void world_make_pool(void *arg)
{
	struct world *w = arg;
	struct err e = { 0 };
	int r = meta_mem_open(w->disk, &w->options.meta, &e);

	if (r < 0)
		world_fail(w, "metadata", r, &e);
	world_open_backend(w);
	r = pool_create(sim_env(w->sim), &w->options, &e);
	if (r < 0)
		world_fail(w, "create", r, &e);
	meta_close(w->options.meta);
	backend_close(w->backend);
}

static uint64_t pick(void *arg, uint64_t n)
{
	return sim_rand(arg, n + 1);
}

/* --- a machine that is lost -------------------------------------------------------------------- */

static void restore(void *arg)
{
	struct world *w = arg;
	struct pool_restored restored;
	struct err e = { 0 };
	int r = meta_mem_open(w->disk, &w->options.meta, &e);

	if (r < 0)
		world_fail(w, "metadata", r, &e);
	world_open_backend(w);
	r = pool_restore(sim_env(w->sim), &w->options, NULL, &restored, &e);
	if (r < 0)
		world_fail(w, "restore", r, &e);
	if (restored.roots_skipped)
		world_fail(w, "the newest root is not whole", (int)restored.roots_skipped, NULL);
	meta_close(w->options.meta);
	backend_close(w->backend);
}

/* Sometimes it is cut off, and begins anew in what that left. */
static void restore_machine(struct world *w)
{
	enum sim_crash kind = sim_rand(w->sim, 2) ? SIM_POWER : SIM_KILL;

	w->faulty = false;
	sim_crash_cancel(w->sim);
	if (sim_rand(w->sim, 2))
		sim_crash_at(w->sim, 1 + sim_rand(w->sim, 200), kind);
	if (sim_run(w->sim, restore, w) == SIM_CRASHED) {
		if (kind == SIM_POWER)
			meta_mem_power_cut(w->disk, pick, w->sim);
		else
			meta_mem_kill(w->disk);
		sim_crash_cancel(w->sim);
		(void)sim_run(w->sim, restore, w);
	}
	meta_mem_kill(w->disk);
}

/* What is left is the store. A machine with other directories takes over: each object is at one point
 * of its history, not before the last root that was waited for. */
static void lose_machine(struct world *w)
{
	struct pool_options *o = &w->options;

	w->losing = false;
	(void)snprintf(w->dir, sizeof(w->dir), "/machine%u", ++w->machine);
	(void)snprintf(w->cache, sizeof(w->cache), "%s/cache", w->dir);
	sim_add_device(w->sim, w->dir, POOL_BYTES, 0);
	o->cache_count = 1;
	meta_mem_disk_free(w->disk);
	w->disk = meta_mem_disk_new();
	ASSERT(w->disk);
	meta_trouble_begin(&w->trouble, w->sim, w->disk);
	restore_machine(w);
	for (unsigned int i = 0; i < WORLD_OBJECTS; i++) {
		struct world_object *ob = &w->objects[i];

		snaps_doubt(ob);
		ob->creation_synced = ob->id == ob->rooted_id;
		ob->model.synced = ob->creation_synced ? ob->rooted : 0;
	}
	w->halves_id = 0;
	w->power_cut = true;
	w->machine_lost = true;
	TOTAL(w, machines_lost, 1);
}

void world_run_to_its_end(struct world *w, void (*fn)(void *arg))
{
	uint64_t cuts = sim_stats(w->sim)->power_cuts;

	meta_trouble_forget(&w->trouble);
	if (sim_run(w->sim, fn, w) == SIM_CRASHED) {
		bool power = sim_stats(w->sim)->power_cuts > cuts;

		TOTAL(w, backend_faults, filter_fault_count(w->fault_store));
		for (unsigned int i = 0; i < WORLD_OBJECTS; i++)
			w->objects[i].open = NULL;
		if (w->in_open)
			TOTAL(w, in_recovery, 1);
		if (power)
			meta_mem_power_cut(w->disk, pick, w->sim);
		else
			meta_mem_kill_some(w->disk, pick, w->sim);
		w->power_cut |= power;
	} else {
		meta_mem_kill_some(w->disk, pick, w->sim);
	}
	sim_set_faults(w->sim, NULL);
}

void world_run_process(struct world *w)
{
	bool last = w->process + 1 == PROCESSES;

	w->faulty = !last && sim_rand(w->sim, 3) == 0;
	w->kind = sim_rand(w->sim, 2) ? SIM_POWER : SIM_KILL;
	w->lazy = sim_rand(w->sim, 3) == 0;
	w->ended = w->in_open = false;
	world_set_faults(w);
	sim_crash_cancel(w->sim);
	sim_set_power_bias(w->sim, SIM_PICK, SIM_PICK);
	if (!last && sim_rand(w->sim, 7))
		sim_crash_at(w->sim, 1 + sim_rand(w->sim, sim_rand(w->sim, 2) ? 150 : 4000),
			     w->kind);
	world_run_to_its_end(w, process);
	if (w->losing)
		lose_machine(w);
}

/* A stream that failed keeps what it has until the next start, and the flash may be full of it. */
static bool waits_for_a_start(void *arg)
{
	const struct world *w = arg;
	struct stream *s, *next;

	if (!w->faulty || w->in_open)
		return false;
	HASH_ITER (hh, w->pool->streams, s, next)
		if (stream_keeps_all(s))
			return true;
	return false;
}

struct world *world_new(uint64_t seed, struct world_totals *totals, bool verbose)
{
	static unsigned int runs;
	struct world *w = calloc(1, sizeof(*w));

	ASSERT(w);
	w->totals = totals;
	w->verbose = verbose;
	/* Of its own: processes that died never closed theirs. */
	(void)snprintf(w->store_url, sizeof(w->store_url), "mem:sim-%" PRIu64 "-%u", seed, ++runs);
	w->sim = sim_new(seed, &(struct sim_opts){ .steps_max = STEPS_MAX,
						   .waits_for_a_start = waits_for_a_start,
						   .arg = w });
	if (verbose)
		sim_catch_aborts();
	sim_add_device(w->sim, "/pool", POOL_BYTES, 0);
	sim_add_device(w->sim, "/dev/shm", UINT64_C(64) << 20, SIM_DEV_TMPFS);
	w->disk = meta_mem_disk_new();
	w->buf = direct_alloc(MODEL_BYTES + 4096);
	ASSERT(w->disk && w->buf);
	for (unsigned int i = 0; i < WORLD_OBJECTS; i++)
		w->objects[i].model.number = i;
	choose_options(w);
	w->classes = seed % 2 == 0;
	w->snapshots = seed % 4 < 2;
	w->shares = seed % 8 == 1 || seed % 8 == 6;
	w->sync_fails = seed % 3 == 0;
	/* Layers that lost their name are left where they are, if the one above has no more pages. */
	if (seed % 8 == 1 || seed % 8 == 4)
		w->options.merge_rows_min = w->options.merge_ratio = 1;
	meta_trouble_begin(&w->trouble, w->sim, w->disk);
	return w;
}

uint64_t world_run(uint64_t seed, struct world_totals *totals, bool verbose)
{
	struct world *w = world_new(seed, totals, verbose);
	const struct sim_stats *st;
	uint64_t print;

	(void)sim_run(w->sim, world_make_pool, w);
	for (w->process = 0; w->process < PROCESSES; w->process++)
		world_run_process(w);
	st = sim_stats(w->sim);
	ASSERT(w->steps >= CLIENT_SEED_STEPS);
	TOTAL(w, steps, w->steps);
	TOTAL(w, power_cuts, st->power_cuts);
	TOTAL(w, kills, st->kills);
	TOTAL(w, kept, st->fx_kept);
	TOTAL(w, dropped, st->fx_dropped);
	TOTAL(w, torn, st->fx_torn);
	TOTAL(w, reordered, st->fx_reordered);
	TOTAL(w, late, st->late_landed);
	TOTAL(w, eio, st->eio + st->eio_sync);
	TOTAL(w, enospc, st->enospc_full + st->enospc_injected);
	print = sim_fingerprint(w->sim);
	for (unsigned int i = 0; i < WORLD_OBJECTS; i++)
		snaps_clear(&w->objects[i]);
	backend_mem_forget(w->store_url + strlen("mem:"));
	meta_mem_disk_free(w->disk);
	sim_free(w->sim);
	free(w->buf);
	free(w);
	return print;
}
