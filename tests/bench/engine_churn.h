/*
 * engine_churn - mode churn of bench_engine: a disk is overwritten at random again and again while its
 * snapshots rotate. What it takes beside what lives, and what the cleaner writes for that. For engine.c
 * only.
 */
#ifndef TESTS_BENCH_ENGINE_CHURN_H
#define TESTS_BENCH_ENGINE_CHURN_H

#include "engine_load.h"

#include "volume/snapshot.h"

/* Ten times a second, as the space changes within one. */
#define CHURN_SAMPLE_NS 100000000

struct churn_counters {
	uint64_t moved, frozen; /* bytes since the pool was opened */
};

struct churn {
	struct bench *b;
	bool over; /* atomic */
	/* Of the round: in percent of what lived at that moment, as last counted. */
	unsigned int worst_percent;
	uint64_t percent_sum, samples;
};

static int see_counter(void *arg, const struct metric_value *v)
{
	struct churn_counters *c = arg;

	if (strcmp(v->def->name, "clean_clusters") == 0)
		c->moved = v->counter * 4096;
	if (strcmp(v->def->name, "clean_frozen_clusters") == 0)
		c->frozen = v->counter * 4096;
	return 0;
}

static void churn_sampler(void *arg)
{
	const struct timespec pause = { .tv_nsec = CHURN_SAMPLE_NS };
	struct churn *c = arg;

	while (!__atomic_load_n(&c->over, __ATOMIC_ACQUIRE)) {
		struct pool_status st;
		unsigned int percent;

		pool_status(c->b->pool, &st);
		percent = (unsigned int)(st.flash_used_bytes * 100 / max_u64(1, st.live_bytes));
		c->worst_percent = percent > c->worst_percent ? percent : c->worst_percent;
		c->percent_sum += percent;
		c->samples++;
		(void)nanosleep(&pause, NULL);
	}
}

static void churn_snapshot(struct bench *b, unsigned int round)
{
	char name[24], old[24];
	struct snapshot_wanted wanted = { .object = b->object, .name = name };
	struct err e = { 0 };

	(void)snprintf(name, sizeof(name), "round%u", round);
	if (snapshot_create(b->pool, &wanted, 1, &e) < 0)
		fail("snapshot", &e);
	if (round <= b->keep_snapshots)
		return;
	(void)snprintf(old, sizeof(old), "round%u", round - b->keep_snapshots);
	if (snapshot_delete(b->pool, b->object_id, old, &e) < 0)
		fail("deleting a snapshot", &e);
}

static void churn_report(struct bench *b, struct churn *c, unsigned int round,
			 const struct churn_counters *before)
{
	struct churn_counters now = { 0 };
	struct pool_status st;
	double written = (double)b->disk_bytes, used, live;
	const char *format = "%5u  %9.1f  %9.1f  %6.2f  %6.2f  %6.2f  %8.1f  %8.1f  %6.2f  %7.1f\n";

	if (pool_checkpoint(b->pool, NULL) < 0) /* which counts what lives */
		fail("checkpoint", NULL);
	pool_status(b->pool, &st);
	(void)metrics_for_each(pool_metrics(b->pool), see_counter, &now);
	used = (double)st.flash_used_bytes;
	live = (double)max_u64(1, st.live_bytes);
	if (b->json)
		format = "{\"mode\":\"churn\",\"round\":%u,\"live_mb\":%.1f,\"used_mb\":%.1f,"
			 "\"used_per_live\":%.3f,\"mean_per_live\":%.3f,\"worst_per_live\":%.3f,"
			 "\"moved_mb\":%.1f,\"moved_frozen_mb\":%.1f,\"moved_per_written\":%.3f,"
			 "\"seconds\":%.1f}\n";
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	(void)printf(format, round, live / 1e6, used / 1e6, used / live,
		     (double)c->percent_sum / 100 / (double)max_u64(1, c->samples),
		     (double)c->worst_percent / 100, (double)(now.moved - before->moved) / 1e6,
		     (double)(now.frozen - before->frozen) / 1e6,
		     (double)(now.moved - before->moved) / written, (double)b->elapsed_ns / 1e9);
#pragma GCC diagnostic pop
	(void)fflush(stdout);
}

static void churn_round(struct bench *b, unsigned int round)
{
	struct churn_counters before = { 0 };
	struct churn c = { .b = b };
	struct timespec settle = { .tv_sec = b->settle_s };
	struct thread *sampler;
	uint64_t start_ns;

	(void)metrics_for_each(pool_metrics(b->pool), see_counter, &before);
	if (thread_start("sampler", churn_sampler, &c, &sampler) < 0)
		fail("thread", NULL);
	start_ns = clock_mono_ns();
	b->stop_ns = UINT64_MAX;
	b->bytes_max = b->disk_bytes;
	b->written_bytes = 0;
	run_workers(b);
	sync_object(b);
	churn_snapshot(b, round);
	b->elapsed_ns = clock_mono_ns() - start_ns;
	(void)nanosleep(&settle, NULL);
	__atomic_store_n(&c.over, true, __ATOMIC_RELEASE);
	thread_join(sampler);
	churn_report(b, &c, round, &before);
}

/* The disk as a pool has it that was opened already. */
static void churn(struct bench *b)
{
	if (!b->json)
		(void)printf("disk %.1f MB, %u snapshots kept; used: of flash, per live byte: at "
			     "the end of a round, mean, worst\n"
			     "round    live MB    used MB     end    mean   worst  moved MB  "
			     "(frozen)  /write  seconds\n",
			     (double)b->disk_bytes / 1e6, b->keep_snapshots);
	for (unsigned int round = 1; round <= b->rounds; round++)
		churn_round(b, round);
}

#endif
