/*
 * bench_engine - the engine under load, without FUSE: real files, RocksDB, a ring in /dev/shm.
 *
 * Each run makes a pool in a directory of its own, writes random data whose every 512 bytes say
 * which disk, address and generation they are, counts the last sync into the time, then reads the
 * whole disk back and compares. README.md beside this file tells how to read the figures.
 */
#include "engine_churn.h"
#include "engine_recovery.h"
#include "engine_snapshots.h"

#include <getopt.h>
#include <sys/mman.h>

#define THREADS_MAX 64u
/* What a process may use beside ring and metadata cache (mode bigmap). */
#define RSS_EXTRA_BYTES (150 * MIB)

/* --- what came out ----------------------------------------------------------------------------- */

/* Who used it: the engine's threads, RocksDB's; callers have ended, and io_uring's workers may have. */
static void report_threads(const struct bench *b)
{
	double ops = b->ops ? (double)b->ops : 1;

	(void)printf("  CPU us/op by thread:");
	for (unsigned int i = 0; i < b->threads_after_count; i++) {
		double us = b->threads_after[i].seconds;

		for (unsigned int j = 0; j < b->threads_before_count; j++)
			if (strcmp(b->threads_before[j].name, b->threads_after[i].name) == 0)
				us -= b->threads_before[j].seconds;
		us *= 1e6 / ops;
		if (us >= 0.005)
			(void)printf(" %s %.2f", b->threads_after[i].name, us);
	}
	(void)printf("\n");
}

static void report(struct bench *b)
{
	struct histogram_snapshot l;
	double s = (double)b->elapsed_ns / 1e9, ops = (double)b->ops;
	double engine_cpu = b->process_cpu - b->caller_cpu;
	double mb = ops * b->mode->unit_bytes / 1e6;
	const char *format =
		"%s: %.0f IOPS, %.1f MB/s, %" PRIu64 " operations in %.3f s (last sync %.3f s)\n"
		"  latency us: p50 %.1f, p99 %.1f, p99.9 %.1f, max %.1f\n"
		"  CPU us/op: %.3f (callers %.3f, engine's threads %.3f)\n"
		"  allocations/op: callers %.5f, process %.5f; device: %.1f MB written, %.3f a byte\n";

	if (b->json)
		format = "{\"mode\":\"%s\",\"iops\":%.1f,\"mb_per_s\":%.2f,\"ops\":%" PRIu64
			 ",\"seconds\":%.4f,\"last_sync_seconds\":%.4f,"
			 "\"p50_us\":%.2f,\"p99_us\":%.2f,\"p999_us\":%.2f,\"max_us\":%.2f,"
			 "\"cpu_us_per_op\":%.4f,\"caller_cpu_us_per_op\":%.4f,"
			 "\"engine_cpu_us_per_op\":%.4f,\"caller_allocs_per_op\":%.6f,"
			 "\"allocs_per_op\":%.6f,\"device_mb\":%.2f,\"device_per_byte\":%.4f}\n";
	histogram_snapshot(&b->latency, &l);
	ops = ops > 0 ? ops : 1;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	(void)printf(format, b->mode->name, ops / s, mb / s, b->ops, s, (double)b->sync_ns / 1e9,
		     (double)l.p50_ns / 1e3, (double)l.p99_ns / 1e3, (double)l.p999_ns / 1e3,
		     (double)l.max_ns / 1e3, b->process_cpu * 1e6 / ops, b->caller_cpu * 1e6 / ops,
		     engine_cpu * 1e6 / ops, (double)b->thread_allocations / ops,
		     (double)b->all_allocations / ops, (double)b->device_bytes / 1e6,
		     mb > 0 ? (double)b->device_bytes / 1e6 / mb : 0);
#pragma GCC diagnostic pop
	if (!b->json) {
		report_threads(b);
		(void)printf("  flash: most %.1f MB, %.2f of the %.1f MB that live in the end\n",
			     (double)b->flash_most_bytes / 1e6,
			     (double)b->flash_most_bytes / (double)max_u64(1, b->live_bytes),
			     (double)b->live_bytes / 1e6);
	}
	(void)fflush(stdout);
}

/* --- modes ------------------------------------------------------------------------------------- */

static void run_ordinary(struct bench *b)
{
	make_pool(b);
	open_pool(b);
	open_object(b, true);
	if (b->prefill) {
		prefill(b);
		close_pool(b); /* read from flash, with cold caches */
		open_pool(b);
		open_object(b, false);
	}
	if (strcmp(b->mode->name, "churn") == 0) {
		churn(b);
	} else {
		measure(b);
		report(b);
	}
	if (b->verify && b->mode->writes)
		verify(b);
	close_pool(b);
}

/* A pool made by tool_mapbuild: memory while its map is read and changed all over. */
static void run_bigmap(struct bench *b)
{
	uint64_t limit = b->options.ring_bytes + b->options.metadata_cache_bytes + RSS_EXTRA_BYTES;
	uint64_t opened, rss, peak, start_ns = clock_mono_ns();
	double open_seconds;
	struct object_stat st;

	open_pool(b);
	open_seconds = (double)(clock_mono_ns() - start_ns) / 1e9;
	opened = status_bytes("VmRSS");
	open_object(b, false);
	object_stat(b->object, &st);
	b->units = st.size_bytes / b->mode->unit_bytes;
	if (b->units == 0)
		fail("the disk is empty", NULL);
	measure(b);
	rss = status_bytes("VmRSS");
	peak = status_bytes("VmHWM");
	report(b);
	if (b->json)
		(void)printf("{\"mode\":\"rss\",\"disk_bytes\":%" PRIu64 ",\"open_seconds\":%.3f,"
			     "\"open_rss_mb\":%.1f,\"rss_mb\":%.1f,\"peak_rss_mb\":%.1f,"
			     "\"limit_mb\":%.1f,\"within\":%s}\n",
			     st.size_bytes, open_seconds, (double)opened / 1e6, (double)rss / 1e6,
			     (double)peak / 1e6, (double)limit / 1e6,
			     peak <= limit ? "true" : "false");
	else
		(void)printf("  memory: opened in %.2f s with %.1f MB, now %.1f MB, most %.1f MB, "
			     "limit (ring + cache + 150 MiB) %.1f MB: %s\n",
			     open_seconds, (double)opened / 1e6, (double)rss / 1e6,
			     (double)peak / 1e6, (double)limit / 1e6,
			     peak <= limit ? "within" : "ABOVE");
	close_pool(b);
}

/* --- command line ------------------------------------------------------------------------------ */

static const char usage[] =
	"usage: bench_engine --dir DIR [OPTIONS] MODE\n"
	"modes: randwrite4k write1m sync4k randread4k read1m null4k recovery churn snapshots\n"
	"       snapcalls bigmap\n"
	"  --dir DIR             pool directory; made, and removed at the end (snapcalls, bigmap: is\n"
	"                        there)\n"
	"  --disk SIZE           size of the disk (4G)\n"
	"  --seconds N           length of a run (10)\n"
	"  --bytes SIZE          stop after so many bytes written instead\n"
	"  --threads N           callers; each runs its requests to the end\n"
	"  --inflight N          requests in flight over all threads, by volume_submit()\n"
	"  --ring SIZE           ring (64M)    --metadata-cache SIZE  map cache (default of pools)\n"
	"  --sco-size SIZE       of new SCOs   --cache DIR            cache directory\n"
	"  --upload-interval S   --checkpoint-interval S              (defaults of pools)\n"
	"  --rounds N            of churn: the disk is overwritten so often (10); of the others\n"
	"  --keep-snapshots N    of churn: so many of those taken after each round stay (5); of\n"
	"                        snapshots: so many are there\n"
	"  --settle S            a pause after each round (0)\n"
	"  --power-cut           of recovery: the ring and all caches go as well\n"
	"  --prefill             write the disk in order first        --no-verify\n"
	"  --seed N              --keep  leave the pool there         --json  one line of JSON\n";

enum option_id {
	OPT_DIR = 1,
	OPT_DISK,
	OPT_SECONDS,
	OPT_BYTES,
	OPT_THREADS,
	OPT_INFLIGHT,
	OPT_RING,
	OPT_CACHE_BYTES,
	OPT_SCO,
	OPT_CACHE,
	OPT_UPLOAD,
	OPT_CHECKPOINT,
	OPT_ROUNDS,
	OPT_KEEP_SNAPSHOTS,
	OPT_SETTLE,
	OPT_POWER_CUT,
	OPT_PREFILL,
	OPT_NO_VERIFY,
	OPT_SEED,
	OPT_KEEP,
	OPT_JSON,
	OPT_HELP,
};
static const struct option long_options[] = {
	{ "dir", 1, NULL, OPT_DIR },
	{ "disk", 1, NULL, OPT_DISK },
	{ "seconds", 1, NULL, OPT_SECONDS },
	{ "bytes", 1, NULL, OPT_BYTES },
	{ "threads", 1, NULL, OPT_THREADS },
	{ "inflight", 1, NULL, OPT_INFLIGHT },
	{ "ring", 1, NULL, OPT_RING },
	{ "metadata-cache", 1, NULL, OPT_CACHE_BYTES },
	{ "sco-size", 1, NULL, OPT_SCO },
	{ "cache", 1, NULL, OPT_CACHE },
	{ "upload-interval", 1, NULL, OPT_UPLOAD },
	{ "checkpoint-interval", 1, NULL, OPT_CHECKPOINT },
	{ "rounds", 1, NULL, OPT_ROUNDS },
	{ "keep-snapshots", 1, NULL, OPT_KEEP_SNAPSHOTS },
	{ "settle", 1, NULL, OPT_SETTLE },
	{ "power-cut", 0, NULL, OPT_POWER_CUT },
	{ "prefill", 0, NULL, OPT_PREFILL },
	{ "no-verify", 0, NULL, OPT_NO_VERIFY },
	{ "seed", 1, NULL, OPT_SEED },
	{ "keep", 0, NULL, OPT_KEEP },
	{ "json", 0, NULL, OPT_JSON },
	{ "help", 0, NULL, OPT_HELP },
	{ NULL, 0, NULL, 0 },
};

static NORETURN void wrong_usage(void)
{
	(void)fputs(usage, stderr);
	exit(2);
}

static uint64_t size_argument(const char *text)
{
	uint64_t bytes;

	if (size_parse(text, &bytes) < 0)
		wrong_usage();
	return bytes;
}

static void take_option(struct bench *b, int id, const char *arg)
{
	switch (id) {
	case OPT_DIR:
		b->dir = b->options.dir = arg;
		break;
	case OPT_DISK:
		b->disk_bytes = size_argument(arg);
		break;
	case OPT_SECONDS:
		b->seconds = strtod(arg, NULL);
		break;
	case OPT_BYTES:
		b->bytes_max = size_argument(arg);
		break;
	case OPT_THREADS:
		b->threads = (unsigned int)strtoul(arg, NULL, 10);
		break;
	case OPT_INFLIGHT:
		b->inflight = (unsigned int)strtoul(arg, NULL, 10);
		break;
	case OPT_RING:
		b->options.ring_bytes = size_argument(arg);
		break;
	case OPT_CACHE_BYTES:
		b->options.metadata_cache_bytes = size_argument(arg);
		break;
	case OPT_SCO:
		b->options.sco_bytes = size_argument(arg);
		break;
	case OPT_CACHE:
		b->options.cache[0] = (struct pool_cache_dir){ .path = arg };
		b->options.cache_count = 1;
		break;
	case OPT_UPLOAD:
		b->options.upload_interval_ns = (uint64_t)(strtod(arg, NULL) * 1e9);
		break;
	case OPT_CHECKPOINT:
		b->options.checkpoint_interval_ns = (uint64_t)(strtod(arg, NULL) * 1e9);
		break;
	case OPT_ROUNDS:
		b->rounds = (unsigned int)strtoul(arg, NULL, 10);
		break;
	case OPT_KEEP_SNAPSHOTS:
		b->keep_snapshots = (unsigned int)strtoul(arg, NULL, 10);
		break;
	case OPT_SETTLE:
		b->settle_s = (unsigned int)strtoul(arg, NULL, 10);
		break;
	case OPT_POWER_CUT:
		b->power_cut = true;
		break;
	case OPT_PREFILL:
		b->prefill = true;
		break;
	case OPT_NO_VERIFY:
		b->verify = false;
		break;
	case OPT_SEED:
		b->seed = strtoull(arg, NULL, 10);
		break;
	case OPT_KEEP:
		b->keep = true;
		break;
	case OPT_JSON:
		b->json = true;
		break;
	case OPT_HELP:
		(void)fputs(usage, stdout);
		exit(0);
	default:
		wrong_usage();
	}
}

static void take_mode(struct bench *b, const char *name)
{
	b->mode = find_mode(name);
	if (!b->mode)
		wrong_usage();
	b->prefill |= b->mode->prefill;
	if (b->threads == 0)
		b->threads = b->mode->threads;
	if (b->threads > THREADS_MAX || (b->inflight && b->inflight < b->threads))
		wrong_usage();
	if (b->disk_bytes < CHUNK_BYTES || b->disk_bytes % CHUNK_BYTES)
		wrong_usage();
	if (b->power_cut && strcmp(name, "recovery") != 0)
		wrong_usage();
	b->units = b->disk_bytes / b->mode->unit_bytes;
}

static bool is_mode(const struct bench *b, const char *name)
{
	return strcmp(b->mode->name, name) == 0;
}

/* Of each unit; shared: the writer that is killed tells what it was told. */
static uint32_t *shared_generations(const struct bench *b)
{
	void *mem = mmap(NULL, b->units * sizeof(*b->generation), PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (mem == MAP_FAILED)
		fail("memory", NULL);
	return mem;
}

int main(int argc, char **argv)
{
	static struct bench bench = { .disk_bytes = UINT64_C(4) << 30,
				      .seconds = 10,
				      .rounds = 10,
				      .keep_snapshots = 5,
				      .verify = true,
				      .seed = 1 };
	struct bench *b = &bench;
	bool is_there;
	int id;

	pool_options_default(&b->options, NULL);
	while ((id = getopt_long(argc, argv, "", long_options, NULL)) != -1)
		take_option(b, id, optarg);
	if (optind + 1 != argc || !b->dir)
		wrong_usage();
	take_mode(b, argv[optind]);
	is_there = is_mode(b, "bigmap") || is_mode(b, "snapcalls");
	if (!is_there) {
		b->generation = shared_generations(b);
		if (b->power_cut)
			b->synced = shared_generations(b);
	}
	if (is_mode(b, "bigmap"))
		run_bigmap(b);
	else if (is_mode(b, "recovery"))
		run_recovery(b);
	else if (is_mode(b, "snapshots"))
		run_snapshots(b);
	else if (is_mode(b, "snapcalls"))
		run_snapcalls(b);
	else
		run_ordinary(b);
	if (!b->keep && !is_there)
		remove_tree(b->dir);
	return 0;
}
