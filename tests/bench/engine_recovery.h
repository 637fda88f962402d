/*
 * engine_recovery - mode recovery of bench_engine: how long a pool takes to open and to be read whose
 * process was killed, or whose machine lost its power, with much log since its last checkpoint. For
 * engine.c only.
 */
#ifndef TESTS_BENCH_ENGINE_RECOVERY_H
#define TESTS_BENCH_ENGINE_RECOVERY_H

#include "engine_load.h"

#include "volume/format.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

/* --- the writer -------------------------------------------------------------------------------- */

static int see_checkpoints(void *arg, const struct metric_value *v)
{
	if (strcmp(v->def->name, "checkpoints") == 0)
		*(uint64_t *)arg = v->counter;
	return 0;
}

/* What is synced must be there after a power cut; the rest fills the ring, and any part of it may be. */
static void write_and_sync_most(struct bench *b)
{
	const uint64_t all_bytes = b->bytes_max;

	if (all_bytes <= b->options.ring_bytes)
		fail("--bytes must be more than --ring", NULL);
	b->bytes_max -= b->options.ring_bytes;
	run_workers(b);
	b->bytes_max = all_bytes;
	sync_object(b);
	memcpy(b->synced, b->generation, b->units * sizeof(*b->synced));
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
	if (b->power_cut)
		write_and_sync_most(b);
	run_workers(b);
	(void)metrics_for_each(pool_metrics(b->pool), see_checkpoints, &after);
	if (after != before)
		fail("a checkpoint was made meanwhile: --prefill a larger --disk, or write less",
		     NULL);
	(void)kill(getpid(), SIGKILL);
}

/* --- the power cut ----------------------------------------------------------------------------- */

/* What was in memory is gone, and the record of the ring is of another boot. */
static void remove_ring(const struct bench *b)
{
	uint8_t bytes[RING_RECORD_BYTES];
	struct ring_record record;
	char path[PATH_MAX];
	struct err e = { 0 };
	int fd;

	(void)snprintf(path, sizeof(path), "%s/ring.id", b->dir);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 || pread(fd, bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
		fail("reading the ring's record", NULL);
	if (ring_record_decode(bytes, sizeof(bytes), &record, &e) < 0)
		fail("the ring's record", &e);
	if (record.clean || unlink(record.path) < 0)
		fail("the killed process left no ring", NULL);
	record.boot_id[0] = record.boot_id[0] == '0' ? '1' : '0';
	ring_record_encode(&record, bytes);
	if (pwrite(fd, bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes) || close(fd) < 0)
		fail("writing the ring's record", NULL);
}

static int forget_one(const char *path, UNUSED const struct stat *st, int flag,
		      UNUSED struct FTW *ftw)
{
	int fd = flag == FTW_F ? open(path, O_RDONLY | O_CLOEXEC) : -1;

	if (fd < 0)
		return 0;
	(void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	(void)close(fd);
	return 0;
}

/* All caches of the kernel, or, where only root may, the pages of the pool's files. */
static void drop_caches(const struct bench *b)
{
	int fd;

	sync();
	fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);
	if (fd >= 0) {
		if (write(fd, "3", 1) != 1)
			fail("dropping caches", NULL);
		(void)close(fd);
		return;
	}
	(void)nftw(b->dir, forget_one, 32, FTW_PHYS);
	for (size_t i = 0; i < b->options.cache_count; i++)
		(void)nftw(b->options.cache[i].path, forget_one, 32, FTW_PHYS);
}

/* --- the next process -------------------------------------------------------------------------- */

struct reopened {
	double open_s, read_s, cpu_s; /* read_s: until the first read is back, from the start on */
	uint64_t rss_bytes;
};

static struct reopened open_again(struct bench *b)
{
	uint64_t start_ns = clock_mono_ns(), unit;
	double cpu = cpu_seconds(RUSAGE_SELF);
	uint32_t bytes = b->mode->unit_bytes;
	struct reopened again;
	struct err e = { 0 };
	uint8_t *buf;

	open_pool(b);
	again.open_s = (double)(clock_mono_ns() - start_ns) / 1e9;
	again.cpu_s = cpu_seconds(RUSAGE_SELF) - cpu;
	open_object(b, false);
	buf = aligned_random(bytes, &b->seed);
	unit = next_random(&b->seed) % b->units;
	if (object_read(b->object, unit * bytes, buf, bytes, &e) != (ssize_t)bytes)
		fail("object_read", &e);
	again.read_s = (double)(clock_mono_ns() - start_ns) / 1e9;
	again.rss_bytes = status_bytes("VmHWM");
	free(buf);
	return again;
}

static void report_recovery(const struct bench *b, const struct reopened *again)
{
	const char *format =
		"recovery: %.1f MB of log, open again in %.3f s (CPU %.3f s), first "
		"read after %.3f s, most memory %.1f MB, %" PRIu64 " unsynced writes lost\n";

	if (b->json)
		format = "{\"mode\":\"recovery\",\"log_mb\":%.1f,\"open_seconds\":%.4f,"
			 "\"cpu_seconds\":%.4f,\"first_read_seconds\":%.4f,\"rss_mb\":%.1f,"
			 "\"unsynced_lost\":%" PRIu64 "}\n";
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	(void)printf(format, (double)b->bytes_max / 1e6, again->open_s, again->cpu_s, again->read_s,
		     (double)again->rss_bytes / 1e6, b->lost_writes);
#pragma GCC diagnostic pop
}

static void run_recovery(struct bench *b)
{
	struct reopened again;
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
	if (b->power_cut) {
		remove_ring(b);
		drop_caches(b);
	}
	again = open_again(b);
	if (b->verify)
		verify(b);
	report_recovery(b, &again);
	close_pool(b);
}

#endif
