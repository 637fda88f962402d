/*
 * engine_snapshots - modes snapshots and snapcalls of bench_engine: what snapshots cost who reads and
 * writes, and how long their calls take on a big map. For engine.c only.
 */
#ifndef TESTS_BENCH_ENGINE_SNAPSHOTS_H
#define TESTS_BENCH_ENGINE_SNAPSHOTS_H

#include "engine_load.h"

#include "volume/snapshot.h"

#include <fcntl.h>

#define SNAP_DIR_BYTES 512u
/* Between two snapshots of a pool that gets many. */
#define SNAP_WRITES   500u
#define SNAP_RUNS_MAX 32u
/* Tenths of a second. */
#define SNAP_CLEAN_LOOKS 300u
/* What the cleaner leaves of a small disk as well. */
#define SNAP_CLEAN_LEFT (UINT64_C(128) << 20)
/* One read of each page of the map. */
#define SNAP_PAGE_BYTES ((uint64_t)PAGE_CLUSTERS * 4096)

static const struct mode *find_mode(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++)
		if (strcmp(modes[i].name, name) == 0)
			return &modes[i];
	return NULL;
}

static void snap_create(struct bench *b, const char *name)
{
	struct snapshot_wanted wanted = { .object = b->object, .name = name };
	struct err e = { 0 };

	if (snapshot_create(b->pool, &wanted, 1, &e) < 0)
		fail("snapshot", &e);
}

/* --- what they cost ---------------------------------------------------------------------------- */

/* A snapshot a second, and what became of them. */
struct snap_ticker {
	struct bench *b;
	struct thread *thread;
	bool over; /* atomic */
	unsigned int made;
	uint64_t longest_ns;
};

static void snap_tick(void *arg)
{
	const struct timespec second = { .tv_sec = 1 };
	struct snap_ticker *t = arg;

	while (!__atomic_load_n(&t->over, __ATOMIC_ACQUIRE)) {
		uint64_t start_ns = clock_mono_ns();
		char name[24];

		(void)snprintf(name, sizeof(name), "tick%u", t->made++);
		snap_create(t->b, name);
		t->longest_ns = max_u64(t->longest_ns, clock_mono_ns() - start_ns);
		(void)nanosleep(&second, NULL);
	}
	for (unsigned int i = 0; i < t->made; i++) {
		char name[24];
		struct err e = { 0 };

		(void)snprintf(name, sizeof(name), "tick%u", i);
		if (snapshot_delete(t->b->pool, t->b->object_id, name, &e) < 0)
			fail("deleting a snapshot", &e);
	}
}

struct snap_figures {
	double rate[SNAP_RUNS_MAX];
	double cpu_seconds, ops; /* of the process, in all runs */
	uint64_t max_ns;
	unsigned int count;
};

static double snap_median(const struct snap_figures *f)
{
	double sorted[SNAP_RUNS_MAX];

	for (unsigned int i = 0; i < f->count; i++) {
		unsigned int at = i;

		for (; at > 0 && sorted[at - 1] > f->rate[i]; at--)
			sorted[at] = sorted[at - 1];
		sorted[at] = f->rate[i];
	}
	return sorted[f->count / 2];
}

static void snap_run(struct bench *b, const char *mode, struct snap_figures *f)
{
	struct histogram_snapshot l;
	uint64_t start_ns = clock_mono_ns();
	double cpu = cpu_seconds(RUSAGE_SELF);

	b->mode = find_mode(mode);
	b->ops = 0;
	b->latency = (struct histogram){ 0 };
	b->stop_ns = start_ns + (uint64_t)(b->seconds * 1e9);
	run_workers(b);
	histogram_snapshot(&b->latency, &l);
	f->rate[f->count++] = (double)b->ops * 1e9 / (double)(clock_mono_ns() - start_ns);
	f->cpu_seconds += cpu_seconds(RUSAGE_SELF) - cpu;
	f->ops += (double)b->ops;
	f->max_ns = max_u64(f->max_ns, l.max_ns);
	if (b->mode->writes)
		sync_object(b);
}

static void snap_run_ticking(struct bench *b, struct snap_figures *f, uint64_t *longest_ns)
{
	struct snap_ticker t = { .b = b };

	if (thread_start("ticker", snap_tick, &t, &t.thread) < 0)
		fail("thread", NULL);
	snap_run(b, "randwrite4k", f);
	__atomic_store_n(&t.over, true, __ATOMIC_RELEASE);
	thread_join(t.thread);
	*longest_ns = max_u64(*longest_ns, t.longest_ns);
}

/* One read of each page of the map, by one caller, in a pool that was just opened. */
static void snap_run_cold(struct bench *b, struct snap_figures *f)
{
	uint64_t pages = b->disk_bytes / SNAP_PAGE_BYTES, start_ns, at = 0;
	uint8_t *buf = aligned_random(4096, &b->seed);
	double cpu = cpu_seconds(RUSAGE_SELF);
	struct err e = { 0 };

	start_ns = clock_mono_ns();
	for (uint64_t i = 0; i < pages; i++) {
		at = (at + pages / 2 + 1) % pages; /* not in order */
		if (object_read(b->object, at * SNAP_PAGE_BYTES, buf, 4096, &e) != 4096)
			fail("object_read", &e);
	}
	f->rate[f->count++] = (double)pages * 1e9 / (double)(clock_mono_ns() - start_ns);
	f->cpu_seconds += cpu_seconds(RUSAGE_SELF) - cpu;
	f->ops += (double)pages;
	free(buf);
}

/* A full disk; with many a snapshot, between every two of which a little was written. */
static void snap_make_pool(struct bench *b, unsigned int snapshots)
{
	make_pool(b);
	open_pool(b);
	open_object(b, true);
	prefill(b);
	b->prefill = false; /* what is read is not generation 1 any more */
	b->mode = find_mode("randwrite4k");
	for (unsigned int i = 0; i < snapshots; i++) {
		char name[24];

		(void)snprintf(name, sizeof(name), "old%u", i);
		snap_create(b, name);
		b->stop_ns = UINT64_MAX;
		b->bytes_max = SNAP_WRITES * 4096;
		b->written_bytes = 0;
		run_workers(b);
	}
	b->bytes_max = 0;
	sync_object(b);
	close_pool(b);
}

static void snap_print_runs(const char *which, const struct snap_figures *f)
{
	(void)printf("    %s:", which);
	for (unsigned int i = 0; i < f->count; i++)
		(void)printf(" %.0f", f->rate[i]);
	(void)printf("\n");
}

static void snap_report(const struct bench *b, const char *what, const struct snap_figures *with,
			const struct snap_figures *without)
{
	const char *format = "%-44s %10.0f %10.0f  %5.2f  %9.1f %9.1f  %7.2f %7.2f\n";

	if (b->json)
		format = "{\"mode\":\"snapshots\",\"what\":\"%s\",\"without\":%.1f,\"with\":%.1f,"
			 "\"ratio\":%.3f,\"without_max_ms\":%.2f,\"with_max_ms\":%.2f,"
			 "\"without_cpu_us\":%.3f,\"with_cpu_us\":%.3f}\n";
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	(void)printf(format, what, snap_median(without), snap_median(with),
		     snap_median(with) / snap_median(without), (double)without->max_ns / 1e6,
		     (double)with->max_ns / 1e6, without->cpu_seconds * 1e6 / without->ops,
		     with->cpu_seconds * 1e6 / with->ops);
#pragma GCC diagnostic pop
	if (b->json)
		return;
	snap_print_runs("without", without);
	snap_print_runs("with", with);
}

enum snap_kind {
	SNAP_NONE,
	SNAP_TICKING,
	SNAP_MANY,
	SNAP_KINDS,
};

/* One pool at a time is open, and nothing that was written before waits for the disk. */
static void snap_open(struct bench *b)
{
	int fd = open(b->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || syncfs(fd) < 0)
		fail("syncfs", NULL);
	(void)close(fd);
	open_pool(b);
	open_object(b, false);
}

/* What the snapshots that were just deleted had is garbage: it is not the next run's. */
static void snap_clean(struct bench *b)
{
	const struct timespec pause = { .tv_nsec = 100000000 };
	struct pool_status st;

	for (unsigned int i = 0; i < SNAP_CLEAN_LOOKS; i++) {
		if (pool_checkpoint(b->pool, NULL) < 0)
			fail("checkpoint", NULL);
		pool_status(b->pool, &st);
		if (st.flash_used_bytes < st.live_bytes / 2 * 3 + SNAP_CLEAN_LEFT)
			return;
		(void)nanosleep(&pause, NULL);
	}
}

struct snap_results {
	struct snap_figures writes[SNAP_KINDS], reads[SNAP_KINDS], cold[SNAP_KINDS];
	uint64_t longest_ns;
};

static void snap_round(struct bench *b, enum snap_kind kind, struct snap_results *s)
{
	snap_open(b);
	if (kind == SNAP_TICKING) {
		snap_run_ticking(b, &s->writes[kind], &s->longest_ns);
		snap_clean(b);
	} else {
		snap_run_cold(b, &s->cold[kind]);
		snap_run(b, "randread4k", &s->reads[kind]);
	}
	close_pool(b);
	if (kind == SNAP_TICKING)
		return;
	snap_open(b);
	snap_run(b, "randwrite4k", &s->writes[kind]);
	close_pool(b);
}

/* A pool of each kind, in turn, and every other round the other way round. */
static void run_snapshots(struct bench *b)
{
	static const char *const names[SNAP_KINDS] = { "none", "ticking", "many" };
	static struct bench pools[SNAP_KINDS];
	static struct snap_results s;
	char dirs[SNAP_KINDS][SNAP_DIR_BYTES];

	if (b->rounds > SNAP_RUNS_MAX || mkdir(b->dir, 0700) < 0)
		fail("--dir must not exist yet, and --rounds be at most 32", NULL);
	for (unsigned int i = 0; i < SNAP_KINDS; i++) {
		pools[i] = *b;
		(void)snprintf(dirs[i], sizeof(dirs[i]), "%s/%s", b->dir, names[i]);
		pools[i].dir = pools[i].options.dir = dirs[i];
		pools[i].generation = calloc(b->units, sizeof(*b->generation));
		if (!pools[i].generation)
			fail("memory", NULL);
		snap_make_pool(&pools[i], i == SNAP_MANY ? b->keep_snapshots : 0);
	}
	for (unsigned int i = 0; i < b->rounds; i++)
		for (unsigned int k = 0; k < SNAP_KINDS; k++) {
			enum snap_kind kind = i % 2 ? SNAP_KINDS - 1 - k : k;

			snap_round(&pools[kind], kind, &s);
		}
	if (!b->json)
		(void)printf("disk %.1f MB, %u snapshots, %u rounds; a second, medians; longest "
			     "snapshot under load %.1f ms\n%-44s %10s %10s  %5s  %9s %9s  %7s "
			     "%7s\n",
			     (double)b->disk_bytes / 1e6, b->keep_snapshots, b->rounds,
			     (double)s.longest_ns / 1e6, "", "without", "with", "ratio", "max ms",
			     "with", "CPU us", "with");
	snap_report(b, "random writes, a snapshot every second", &s.writes[SNAP_TICKING],
		    &s.writes[SNAP_NONE]);
	snap_report(b, "random writes, many snapshots", &s.writes[SNAP_MANY], &s.writes[SNAP_NONE]);
	snap_report(b, "random reads, map cached, many snapshots", &s.reads[SNAP_MANY],
		    &s.reads[SNAP_NONE]);
	snap_report(b, "reads of cold pages, many snapshots", &s.cold[SNAP_MANY],
		    &s.cold[SNAP_NONE]);
	for (unsigned int i = 0; i < SNAP_KINDS; i++)
		free(pools[i].generation);
}

/* --- how long their calls take ----------------------------------------------------------------- */

static double snap_ms_since(uint64_t *start_ns)
{
	uint64_t now_ns = clock_mono_ns();
	double ms = (double)(now_ns - *start_ns) / 1e6;

	*start_ns = now_ns;
	return ms;
}

static void snap_call_round(struct bench *b, unsigned int round)
{
	struct clone_source *source;
	struct names_batch *batch;
	struct err e = { 0 };
	uint64_t clone, start_ns = clock_mono_ns();
	double ms[4];

	snap_create(b, "called");
	ms[0] = snap_ms_since(&start_ns);
	if (clone_source_open(b->pool, b->object, "called", &source, &e) < 0)
		fail("clone_source_open", &e);
	batch = names_batch_new(b->pool);
	if (!batch || names_clone_object(batch, source, OBJECT_DISK, &clone, &e) < 0 ||
	    names_commit(batch, &e) < 0 || pool_sync_names(b->pool, &e) < 0)
		fail("clone", &e);
	names_batch_free(batch);
	clone_source_close(source);
	ms[1] = snap_ms_since(&start_ns);
	if (object_delete(b->pool, clone, &e) < 0 || pool_sync_names(b->pool, &e) < 0)
		fail("deleting the clone", &e);
	ms[2] = snap_ms_since(&start_ns);
	if (snapshot_delete(b->pool, b->object_id, "called", &e) < 0)
		fail("deleting the snapshot", &e);
	ms[3] = snap_ms_since(&start_ns);
	(void)printf(b->json ? "{\"mode\":\"snapcalls\",\"round\":%u,\"create_ms\":%.2f,"
			       "\"clone_ms\":%.2f,\"delete_clone_ms\":%.2f,\"delete_ms\":%.2f}\n" :
			       "round %2u: snapshot %7.2f ms, clone %7.2f ms, delete clone %7.2f "
			       "ms, delete snapshot %7.2f ms\n",
		     round, ms[0], ms[1], ms[2], ms[3]);
	(void)fflush(stdout);
}

/* A pool made by tool_mapbuild, its disk made as long as --disk. */
static void run_snapcalls(struct bench *b)
{
	struct timespec settle = { .tv_sec = b->settle_s };
	struct err e = { 0 };
	uint8_t *buf = aligned_random(4096, &b->seed);

	open_pool(b);
	open_object(b, false);
	if (object_truncate(b->object, b->disk_bytes, &e) < 0)
		fail("object_truncate", &e);
	sync_object(b);
	for (unsigned int round = 1; round <= b->rounds; round++) {
		for (unsigned int i = 0; i < SNAP_WRITES; i++)
			if (object_write(b->object, next_random(&b->seed) % b->units * 4096, buf,
					 4096, &e) < 0)
				fail("object_write", &e);
		snap_call_round(b, round);
		(void)nanosleep(&settle, NULL);
	}
	free(buf);
	close_pool(b);
}

#endif
