/*
 * vpool_sim - the engine in a simulated world: many seeds, each a life of crashes, then a peaceful end.
 *
 * A seed runs in a child process: memory of simulated processes that died leaks by design. Totals
 * come back through shared memory.
 */
#include "tests/sim/world.h"

#include "common/log.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* Seeds of one child, so that a fork is paid for. */
#define SEEDS_PER_CHILD 8u
#define JOBS_MAX	16u
/* From so many seeds on every kind of event must have happened. */
#define SEEDS_FOR_ALL 500u

struct args {
	uint64_t first, count;
	unsigned int jobs;
	bool one;
};

static void usage(void)
{
	puts("usage: vpool_sim [--seeds N] [--first S] [--seed S] [--jobs J]\n"
	     "  --seeds N  run N seeds (default 100), from --first on (default 1)\n"
	     "  --seed S   run one seed and show the trace if it fails\n"
	     "  --jobs J   children at a time (default: processors)");
}

static int parse(int argc, char **argv, struct args *a)
{
	*a = (struct args){ .first = 1, .count = 100 };
	a->jobs = (unsigned int)sysconf(_SC_NPROCESSORS_ONLN);
	for (int i = 1; i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : NULL;

		if (strcmp(argv[i], "--help") == 0) {
			usage();
			exit(0);
		}
		if (!value)
			return -1;
		if (strcmp(argv[i], "--seeds") == 0)
			a->count = strtoull(value, NULL, 10);
		else if (strcmp(argv[i], "--first") == 0)
			a->first = strtoull(value, NULL, 10);
		else if (strcmp(argv[i], "--jobs") == 0)
			a->jobs = (unsigned int)strtoul(value, NULL, 10);
		else if (strcmp(argv[i], "--seed") == 0) {
			a->first = strtoull(value, NULL, 10);
			a->count = 1;
			a->one = true;
		} else
			return -1;
		i++;
	}
	if (a->jobs == 0 || a->jobs > JOBS_MAX)
		a->jobs = 2;
	return a->count ? 0 : -1;
}

static void run_child(const struct args *a, uint64_t first, struct world_totals *totals)
{
	for (uint64_t seed = first; seed < first + SEEDS_PER_CHILD && seed < a->first + a->count;
	     seed++) {
		uint64_t print;

		__atomic_store_n(&totals->current[(unsigned int)getpid() % WORLD_CURRENT], seed,
				 __ATOMIC_RELAXED);
		print = world_run(seed, totals, a->one);
		/* The same seed again: the same run, to the last call. */
		if (seed % 50 == 0 && world_run(seed, NULL, false) != print) {
			fprintf(stderr, "seed %" PRIu64 ": two runs differ\n", seed);
			_exit(1);
		}
		(void)__atomic_add_fetch(&totals->passed, 1, __ATOMIC_RELAXED);
	}
	_exit(0);
}

static int print_totals(const struct world_totals *t, uint64_t seeds)
{
	const struct {
		const char *name;
		uint64_t n;
	} rows[] = {
		{ "power cuts", t->power_cuts },
		{ "kills", t->kills },
		{ "crashes inside recovery", t->in_recovery },
		{ "effects kept", t->kept },
		{ "effects dropped", t->dropped },
		{ "effects torn", t->torn },
		{ "effects reordered", t->reordered },
		{ "late landings", t->late },
		{ "EIO", t->eio },
		{ "ENOSPC", t->enospc },
		{ "backend faults", t->backend_faults },
		{ "writes", t->writes },
		{ "syncs", t->syncs },
		{ "truncations", t->truncates },
		{ "ranges zeroed", t->zeroes },
		{ "class changes", t->class_changes },
		{ "deletions", t->deletes },
		{ "checkpoints", t->checkpoints },
		{ "roots", t->roots },
		{ "SCOs deleted", t->scos_deleted },
		{ "SCOs uploaded", t->scos_uploaded },
		{ "SCOs resealed", t->scos_resealed },
		{ "clusters moved", t->clean_clusters },
		{ "merges raced", t->merges_raced },
	};
	int missing = 0;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		printf("%-24s %" PRIu64 "\n", rows[i].name, rows[i].n);
		if (rows[i].n == 0 && seeds >= SEEDS_FOR_ALL) {
			printf("never happened: %s\n", rows[i].name);
			missing++;
		}
	}
	return missing;
}

int main(int argc, char **argv)
{
	struct world_totals *totals;
	unsigned int running = 0;
	uint64_t failed;
	struct args a;
	uint64_t next;

	if (parse(argc, argv, &a) < 0) {
		usage();
		return 2;
	}
	totals = mmap(NULL, sizeof(*totals), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (totals == MAP_FAILED || log_open(a.one ? NULL : "/dev/null", LOG_LEVEL_ERROR) < 0)
		return 1;
	setvbuf(stdout, NULL, _IOLBF, 0);
	next = a.first;
	while (running > 0 || next < a.first + a.count) {
		int status;
		pid_t pid;

		if (running < a.jobs && next < a.first + a.count) {
			pid = fork();
			if (pid == 0)
				run_child(&a, next, totals);
			if (pid < 0)
				return 1;
			running++;
			next += SEEDS_PER_CHILD;
			continue;
		}
		pid = wait(&status);
		running--;
		if (pid > 0 && status != 0)
			printf("FAILED: seed %" PRIu64 " (again: vpool_sim --seed %" PRIu64 ")\n",
			       totals->current[(unsigned int)pid % WORLD_CURRENT],
			       totals->current[(unsigned int)pid % WORLD_CURRENT]);
	}
	failed = a.count - totals->passed;
	failed += (uint64_t)print_totals(totals, a.count);
	printf("%" PRIu64 " passed, %" PRIu64 " failed, 0 skipped\n", totals->passed, failed);
	return failed != 0;
}
