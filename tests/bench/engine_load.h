/*
 * engine_load - the load of bench_engine: a disk, callers that write or read units of it and know
 * which generation each holds, and what the machine counted meanwhile. For engine.c only.
 */
#ifndef TESTS_BENCH_ENGINE_LOAD_H
#define TESTS_BENCH_ENGINE_LOAD_H

#include "engine_tools.h"

#include "common/metrics.h"
#include "common/thread.h"
#include "common/units.h"
#include "volume/volume.h"

#include <sched.h>
#include <semaphore.h>

#define CHUNK_BYTES ((size_t)1 << 20)
/* Set in the generation of a unit while somebody writes it. */
#define UNIT_BUSY (UINT32_C(1) << 31)
/* Threads that read the disk back. */
#define VERIFIERS 16u

struct mode {
	const char *name;
	unsigned int threads; /* default */
	uint32_t unit_bytes;
	bool writes, reads, random, syncs, prefill;
};
static const struct mode modes[] = {
	{ .name = "randwrite4k", .threads = 4, .unit_bytes = 4096, .writes = true, .random = true },
	{ .name = "write1m", .threads = 8, .unit_bytes = CHUNK_BYTES, .writes = true },
	{ .name = "sync4k",
	  .threads = 1,
	  .unit_bytes = 4096,
	  .writes = true,
	  .random = true,
	  .syncs = true },
	{ .name = "randread4k",
	  .threads = 16,
	  .unit_bytes = 4096,
	  .reads = true,
	  .random = true,
	  .prefill = true },
	{ .name = "read1m",
	  .threads = 8,
	  .unit_bytes = CHUNK_BYTES,
	  .reads = true,
	  .prefill = true },
	{ .name = "null4k", .threads = 4, .unit_bytes = 4096, .random = true },
	{ .name = "recovery", .threads = 4, .unit_bytes = 4096, .writes = true, .random = true },
	{ .name = "churn",
	  .threads = 4,
	  .unit_bytes = 4096,
	  .writes = true,
	  .random = true,
	  .prefill = true },
	{ .name = "snapshots",
	  .threads = 4,
	  .unit_bytes = 4096,
	  .writes = true,
	  .random = true,
	  .prefill = true },
	{ .name = "snapcalls", .threads = 1, .unit_bytes = 4096, .writes = true, .random = true },
	{ .name = "bigmap",
	  .threads = 4,
	  .unit_bytes = 4096,
	  .reads = true,
	  .writes = true,
	  .random = true },
};

#define SAMPLE_NS 50000000

struct bench {
	const struct mode *mode;
	struct pool_options options;
	const char *dir;
	uint64_t disk_bytes;
	double seconds;
	uint64_t bytes_max; /* stop after so many written; 0: by time */
	unsigned int threads, inflight;
	unsigned int rounds, keep_snapshots, settle_s; /* modes churn, snapshots, snapcalls */
	bool json, keep, verify, prefill, power_cut;
	uint64_t seed;

	struct pool *pool;
	struct object *object;
	uint64_t object_id;
	uint64_t units;
	uint32_t *generation;	/* of each unit; atomic; shared with the process that is killed;
			       * NULL: nothing is verified */
	uint32_t *synced;	/* of each unit at the last sync, likewise; NULL: all that was
				 * acknowledged must be there */
	uint64_t lost_writes;	/* atomic; acknowledged ones behind it that verify() missed */
	uint64_t next_unit;	/* atomic; sequential modes */
	uint64_t written_bytes; /* atomic */
	uint64_t stop_ns;

	struct histogram latency;
	uint64_t ops, elapsed_ns, sync_ns, device_bytes, thread_allocations, all_allocations;
	double caller_cpu, process_cpu;
	struct thread_cpu threads_before[THREAD_NAMES_MAX], threads_after[THREAD_NAMES_MAX];
	unsigned int threads_before_count, threads_after_count;
	bool sampler_over; /* atomic */
	uint64_t flash_most_bytes, live_bytes;
};

/* One request of a thread with several in flight. */
struct slot {
	struct volume_request request;
	struct worker *worker;
	uint8_t *buf;
	uint64_t unit, start_ns;
	uint32_t generation;
	bool busy; /* parked; cleared by the one who takes it off the done list */
	struct slot *next_done;
};

struct worker {
	struct bench *b;
	struct thread *thread;
	uint64_t random;
	uint64_t ops, allocations;
	double cpu;
	struct slot *slots;
	unsigned int slot_count;
	struct slot *done; /* atomic: finished by a thread of the pool */
	sem_t some_done;
};

static NORETURN void fail(const char *what, const struct err *e)
{
	(void)fprintf(stderr, "bench_engine: %s: %s\n", what, e ? e->message : "failed");
	exit(1);
}

/* --- the pool ---------------------------------------------------------------------------------- */

static void make_pool(struct bench *b)
{
	struct err e = { 0 };

	if (mkdir(b->dir, 0700) < 0) {
		err_set(&e, -errno, "making '%s'", b->dir);
		fail("--dir must not exist yet", &e);
	}
	if (pool_create(env_posix(), &b->options, &e) < 0)
		fail("pool_create", &e);
}

static void open_pool(struct bench *b)
{
	struct err e = { 0 };

	if (pool_open(env_posix(), &b->options, &b->pool, &e) < 0)
		fail("pool_open", &e);
}

static void open_object(struct bench *b, bool create)
{
	struct err e = { 0 };
	uint64_t *ids;
	size_t count;

	if (create) {
		if (object_create(b->pool, OBJECT_DISK, &b->object_id, &e) < 0)
			fail("object_create", &e);
	} else if (b->object_id == 0) {
		if (pool_list_objects(b->pool, &ids, &count, &e) < 0 || count == 0)
			fail("no object in the pool", &e);
		b->object_id = ids[0];
		free(ids);
	}
	if (object_open(b->pool, b->object_id, &b->object, &e) < 0)
		fail("object_open", &e);
	if (create && object_truncate(b->object, b->disk_bytes, &e) < 0)
		fail("object_truncate", &e);
}

static void close_pool(struct bench *b)
{
	struct err e = { 0 };

	object_close(b->object);
	b->object = NULL;
	if (pool_close(b->pool, &e) < 0)
		fail("pool_close", &e);
	b->pool = NULL;
}

static void sync_object(struct bench *b)
{
	struct err e = { 0 };

	if (object_sync(b->object, &e) < 0)
		fail("object_sync", &e);
}

static uint8_t *aligned_random(size_t len_bytes, uint64_t *random)
{
	void *p = NULL;

	if (posix_memalign(&p, ENV_DIRECT_ALIGN, len_bytes) != 0)
		fail("memory", NULL);
	fill_random(p, len_bytes, random);
	return p;
}

/* The whole disk in order, generation 1. */
static void prefill(struct bench *b)
{
	uint8_t *buf = aligned_random(CHUNK_BYTES, &b->seed);
	struct err e = { 0 };

	for (uint64_t at = 0; at < b->disk_bytes; at += CHUNK_BYTES) {
		stamp_put(buf, CHUNK_BYTES, b->object_id, at, 1);
		if (object_write(b->object, at, buf, CHUNK_BYTES, &e) < 0)
			fail("prefill", &e);
	}
	for (uint64_t i = 0; i < b->units; i++)
		b->generation[i] = 1;
	free(buf);
	sync_object(b);
}

/* --- units ------------------------------------------------------------------------------------- */

static uint64_t pick_unit(struct worker *w)
{
	struct bench *b = w->b;

	return b->mode->random ? next_random(&w->random) % b->units :
				 __atomic_fetch_add(&b->next_unit, 1, __ATOMIC_RELAXED) % b->units;
}

/* Own a unit for writing, so that what is in it afterwards is known. */
static uint64_t claim_unit(struct worker *w, uint32_t *ret_generation)
{
	struct bench *b = w->b;

	*ret_generation = 1;
	if (!b->generation) /* its memory would hide the engine's */
		return pick_unit(w);
	for (;;) {
		uint64_t unit = pick_unit(w);
		uint32_t old = __atomic_load_n(&b->generation[unit], __ATOMIC_RELAXED);

		if (!(old & UNIT_BUSY) &&
		    __atomic_compare_exchange_n(&b->generation[unit], &old, old | UNIT_BUSY, false,
						__ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
			*ret_generation = old + 1;
			return unit;
		}
	}
}

static void release_unit(struct bench *b, uint64_t unit, uint32_t generation)
{
	if (b->generation)
		__atomic_store_n(&b->generation[unit], generation, __ATOMIC_RELEASE);
}

/* --- workers ----------------------------------------------------------------------------------- */

static bool goes_on(const struct bench *b, uint64_t now_ns)
{
	if (b->bytes_max && __atomic_load_n(&b->written_bytes, __ATOMIC_RELAXED) >= b->bytes_max)
		return false;
	return now_ns < b->stop_ns;
}

static void write_one(struct worker *w, uint8_t *buf)
{
	struct bench *b = w->b;
	uint32_t bytes = b->mode->unit_bytes, generation;
	uint64_t unit = claim_unit(w, &generation);
	struct err e = { 0 };

	stamp_put(buf, bytes, b->object_id, unit * bytes, generation);
	if (b->mode->writes && object_write(b->object, unit * bytes, buf, bytes, &e) < 0)
		fail("object_write", &e);
	if (b->mode->syncs)
		sync_object(b);
	release_unit(b, unit, generation);
	if (b->bytes_max)
		(void)__atomic_fetch_add(&b->written_bytes, bytes, __ATOMIC_RELAXED);
}

static void read_one(struct worker *w, uint8_t *buf)
{
	struct bench *b = w->b;
	uint32_t bytes = b->mode->unit_bytes;
	uint64_t unit = pick_unit(w);
	struct err e = { 0 };

	if (object_read(b->object, unit * bytes, buf, bytes, &e) != (ssize_t)bytes)
		fail("object_read", &e);
	if (b->prefill && !stamp_is(buf, SECTOR_BYTES, b->object_id, unit * bytes, 1))
		fail("wrong data read", NULL);
}

static void run_plain(struct worker *w, uint8_t *buf)
{
	const struct mode *mode = w->b->mode;
	uint64_t start_ns = clock_mono_ns(), end_ns;

	for (; goes_on(w->b, start_ns); start_ns = end_ns) {
		/* Both: a read for every write. */
		if (mode->reads && (!mode->writes || w->ops % 2 == 0))
			read_one(w, buf);
		else
			write_one(w, buf);
		end_ns = clock_mono_ns();
		histogram_record(&w->b->latency, end_ns - start_ns);
		w->ops++;
	}
}

/* From a thread of the pool, or for a request that finished at once from its own. */
static void slot_finished(struct slot *s)
{
	struct worker *w = s->worker;
	struct err e = { 0 };

	if (s->request.result != (ssize_t)s->request.len_bytes) {
		err_set(&e, s->request.result < 0 ? (int)s->request.result : -EIO, "request");
		fail("volume_submit", &e);
	}
	histogram_record(&w->b->latency, clock_mono_ns() - s->start_ns);
	if (w->b->mode->writes)
		release_unit(w->b, s->unit, s->generation);
}

static void parked_done(struct volume_request *r)
{
	struct slot *s = r->owner;
	struct worker *w = s->worker;

	slot_finished(s);
	s->next_done = __atomic_load_n(&w->done, __ATOMIC_RELAXED);
	while (!__atomic_compare_exchange_n(&w->done, &s->next_done, s, true, __ATOMIC_RELEASE,
					    __ATOMIC_RELAXED))
		continue;
	(void)sem_post(&w->some_done);
}

static void slot_start(struct slot *s)
{
	struct worker *w = s->worker;
	struct bench *b = w->b;
	uint32_t bytes = b->mode->unit_bytes;
	int r;

	s->start_ns = clock_mono_ns();
	if (b->mode->writes) {
		s->unit = claim_unit(w, &s->generation);
		stamp_put(s->buf, bytes, b->object_id, s->unit * bytes, s->generation);
	} else {
		s->unit = pick_unit(w);
	}
	s->request = (struct volume_request){
		.object = b->object,
		.write = b->mode->writes,
		.offset_bytes = s->unit * bytes,
		.buf = s->buf,
		.len_bytes = bytes,
		.done = parked_done,
		.owner = s,
	};
	s->busy = true;
	while ((r = volume_submit(&s->request)) == -EBUSY)
		(void)sched_yield();
	if (b->bytes_max)
		(void)__atomic_fetch_add(&b->written_bytes, bytes, __ATOMIC_RELAXED);
	if (r == 1) {
		slot_finished(s);
		s->busy = false;
	}
	w->ops++;
}

/* Collect what finished; wait says that there is nothing else to do. */
static void take_done(struct worker *w, bool wait)
{
	struct slot *s;

	while (wait && sem_wait(&w->some_done) < 0)
		continue;
	s = __atomic_exchange_n(&w->done, NULL, __ATOMIC_ACQUIRE);
	for (; s; s = s->next_done)
		s->busy = false;
}

static void run_submitting(struct worker *w)
{
	unsigned int at = 0;

	while (goes_on(w->b, clock_mono_ns())) {
		unsigned int tried = 0;

		if (__atomic_load_n(&w->done, __ATOMIC_RELAXED))
			take_done(w, false);
		while (tried < w->slot_count && w->slots[at].busy) {
			at = (at + 1) % w->slot_count;
			tried++;
		}
		if (tried == w->slot_count)
			take_done(w, true);
		else
			slot_start(&w->slots[at]);
	}
	for (unsigned int i = 0; i < w->slot_count; i++)
		while (w->slots[i].busy)
			take_done(w, true);
}

static void worker_main(void *arg)
{
	struct worker *w = arg;
	uint32_t bytes = w->b->mode->unit_bytes;
	uint8_t *buf = aligned_random(bytes, &w->random);
	uint64_t allocations_before;
	double cpu_before;

	for (unsigned int i = 0; i < w->slot_count; i++) {
		w->slots[i].worker = w;
		w->slots[i].buf = aligned_random(bytes, &w->random);
	}
	allocations_before = my_allocations;
	cpu_before = cpu_seconds(RUSAGE_THREAD);
	if (w->slot_count)
		run_submitting(w);
	else
		run_plain(w, buf);
	w->cpu = cpu_seconds(RUSAGE_THREAD) - cpu_before;
	w->allocations = my_allocations - allocations_before;
	for (unsigned int i = 0; i < w->slot_count; i++)
		free(w->slots[i].buf);
	free(buf);
}

static void run_workers(struct bench *b)
{
	struct worker *workers = calloc(b->threads, sizeof(*workers));

	if (!workers)
		fail("memory", NULL);
	for (unsigned int i = 0; i < b->threads; i++) {
		struct worker *w = &workers[i];

		w->b = b;
		w->random = next_random(&b->seed);
		w->slot_count = b->inflight / b->threads;
		w->slots = calloc(w->slot_count + 1, sizeof(*w->slots));
		if (!w->slots || sem_init(&w->some_done, 0, 0) < 0)
			fail("memory", NULL);
		if (thread_start("caller", worker_main, w, &w->thread) < 0)
			fail("thread", NULL);
	}
	for (unsigned int i = 0; i < b->threads; i++) {
		struct worker *w = &workers[i];

		thread_join(w->thread);
		b->ops += w->ops;
		b->caller_cpu += w->cpu;
		b->thread_allocations += w->allocations;
		(void)sem_destroy(&w->some_done);
		free(w->slots);
	}
	free(workers);
}

/* What the pool takes on flash while it is written. */
static void sampler_main(void *arg)
{
	const struct timespec pause = { .tv_nsec = SAMPLE_NS };
	struct bench *b = arg;

	while (!__atomic_load_n(&b->sampler_over, __ATOMIC_ACQUIRE)) {
		struct pool_status st;

		pool_status(b->pool, &st);
		b->flash_most_bytes = max_u64(b->flash_most_bytes, st.flash_used_bytes);
		(void)nanosleep(&pause, NULL);
	}
}

static void measure(struct bench *b)
{
	struct thread *sampler;
	struct pool_status st;
	uint64_t device = device_written_bytes(b->dir), start_ns, sync_ns;
	uint64_t allocations_before = __atomic_load_n(&allocations, __ATOMIC_RELAXED);
	double cpu = cpu_seconds(RUSAGE_SELF);

	b->threads_before_count = threads_cpu(b->threads_before);
	if (thread_start("sampler", sampler_main, b, &sampler) < 0)
		fail("thread", NULL);
	start_ns = clock_mono_ns();
	b->stop_ns = b->seconds > 0 ? start_ns + (uint64_t)(b->seconds * 1e9) : UINT64_MAX;
	run_workers(b);
	sync_ns = clock_mono_ns();
	if (b->mode->writes)
		sync_object(b);
	b->elapsed_ns = clock_mono_ns() - start_ns;
	b->sync_ns = clock_mono_ns() - sync_ns;
	b->process_cpu = cpu_seconds(RUSAGE_SELF) - cpu;
	b->threads_after_count = threads_cpu(b->threads_after);
	b->all_allocations = __atomic_load_n(&allocations, __ATOMIC_RELAXED) - allocations_before;
	b->device_bytes = device_written_bytes(b->dir) - device;
	__atomic_store_n(&b->sampler_over, true, __ATOMIC_RELEASE);
	thread_join(sampler);
	if (pool_checkpoint(b->pool, NULL) < 0) /* which counts what lives */
		fail("checkpoint", NULL);
	pool_status(b->pool, &st);
	b->live_bytes = st.live_bytes;
}

/* --- verification ------------------------------------------------------------------------------ */

/*
 * A unit that was being written when the process died holds the old or the new generation; after a
 * power cut it may hold any since the last sync.
 */
static bool unit_is_right(struct bench *b, const uint8_t *buf, uint64_t unit)
{
	uint32_t bytes = b->mode->unit_bytes, acked = b->generation[unit] & ~UNIT_BUSY;
	uint32_t oldest = b->synced ? b->synced[unit] : acked;
	uint32_t newest = acked + (b->generation[unit] & UNIT_BUSY ? 1 : 0);

	for (uint32_t g = newest;; g--) {
		if (stamp_is(buf, bytes, b->object_id, unit * bytes, g)) {
			if (g < acked)
				(void)__atomic_fetch_add(&b->lost_writes, acked - g,
							 __ATOMIC_RELAXED);
			return true;
		}
		if (g == oldest)
			return false;
	}
}

struct verifier {
	struct bench *b;
	uint64_t seed, first_chunk; /* it reads each VERIFIERS-th from there on */
	struct thread *thread;
};

static void verify_part(void *arg)
{
	struct verifier *v = arg;
	struct bench *b = v->b;
	uint8_t *buf = aligned_random(CHUNK_BYTES, &v->seed);
	uint32_t bytes = b->mode->unit_bytes;
	struct err e = { 0 };

	for (uint64_t at = v->first_chunk * CHUNK_BYTES; at < b->disk_bytes;
	     at += VERIFIERS * CHUNK_BYTES) {
		if (object_read(b->object, at, buf, CHUNK_BYTES, &e) != (ssize_t)CHUNK_BYTES)
			fail("reading back", &e);
		for (uint64_t in = 0; in < CHUNK_BYTES; in += bytes)
			if (!unit_is_right(b, buf + in, (at + in) / bytes)) {
				err_set(&e, -EBADMSG, "address %" PRIu64, at + in);
				fail("the disk does not hold what was acknowledged", &e);
			}
	}
	free(buf);
}

/* What was written at random is read in many small pieces, so several at once. */
static void verify(struct bench *b)
{
	struct verifier verifiers[VERIFIERS];

	for (unsigned int i = 0; i < VERIFIERS; i++) {
		verifiers[i] = (struct verifier){ b, next_random(&b->seed), i, NULL };
		if (thread_start("verifier", verify_part, &verifiers[i], &verifiers[i].thread) < 0)
			fail("thread", NULL);
	}
	for (unsigned int i = 0; i < VERIFIERS; i++)
		thread_join(verifiers[i].thread);
}

#endif
