/*
 * engine_recovery - mode recovery of bench_engine: how long a pool takes to open whose process was
 * killed with much log since its last checkpoint. For engine.c only.
 */
#ifndef TESTS_BENCH_ENGINE_RECOVERY_H
#define TESTS_BENCH_ENGINE_RECOVERY_H

#include "engine_load.h"

#include <signal.h>
#include <sys/wait.h>

static int see_checkpoints(void *arg, const struct metric_value *v)
{
	if (strcmp(v->def->name, "checkpoints") == 0)
		*(uint64_t *)arg = v->counter;
	return 0;
}

/* All of it in this process: threads of RocksDB do not come with a fork. */
static void write_and_die(struct bench *b)
{
	uint64_t before = 0, after = 0;
	struct err e = { 0 };

	make_pool(b);
	open_pool(b);
	open_object(b, true);
	if (b->prefill)
		prefill(b);
	sync_object(b);
	if (pool_checkpoint(b->pool, &e) < 0)
		fail("checkpoint", &e);
	(void)metrics_for_each(pool_metrics(b->pool), see_checkpoints, &before);
	b->stop_ns = UINT64_MAX;
	run_workers(b);
	(void)metrics_for_each(pool_metrics(b->pool), see_checkpoints, &after);
	if (after != before)
		fail("a checkpoint was made meanwhile: --prefill a larger --disk, or write less",
		     NULL);
	(void)kill(getpid(), SIGKILL);
}

/* The time to open a pool whose process was killed with much log since its last checkpoint. */
static void run_recovery(struct bench *b)
{
	uint64_t start_ns, took_ns;
	double cpu;
	pid_t child;
	int status;

	if (b->bytes_max == 0)
		b->bytes_max = UINT64_C(4) << 30;
	b->options.log_max_bytes = 2 * b->bytes_max; /* no checkpoint comes between */
	b->options.checkpoint_interval_ns = UINT64_C(3600000000000);
	b->options.upload_interval_ns = UINT64_C(3600000000000);
	child = fork();
	if (child < 0)
		fail("fork", NULL);
	if (child == 0)
		write_and_die(b);
	if (waitpid(child, &status, 0) != child || !WIFSIGNALED(status) ||
	    WTERMSIG(status) != SIGKILL)
		fail("the writer did not get as far as being killed", NULL);
	start_ns = clock_mono_ns();
	cpu = cpu_seconds(RUSAGE_SELF);
	open_pool(b);
	took_ns = clock_mono_ns() - start_ns;
	cpu = cpu_seconds(RUSAGE_SELF) - cpu;
	if (b->json)
		(void)printf("{\"mode\":\"recovery\",\"log_mb\":%.1f,\"open_seconds\":%.4f,"
			     "\"cpu_seconds\":%.4f,\"rss_mb\":%.1f}\n",
			     (double)b->bytes_max / 1e6, (double)took_ns / 1e9, cpu,
			     (double)status_bytes("VmHWM") / 1e6);
	else
		(void)printf("recovery: %.1f MB of log, open again in %.3f s (CPU %.3f s), "
			     "most memory %.1f MB\n",
			     (double)b->bytes_max / 1e6, (double)took_ns / 1e9, cpu,
			     (double)status_bytes("VmHWM") / 1e6);
	open_object(b, false);
	if (b->verify)
		verify(b);
	close_pool(b);
}

#endif
