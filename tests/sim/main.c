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
	bool one, wild;
};

static void usage(void)
{
	puts("usage: vpool_sim [--seeds N] [--first S] [--seed S] [--jobs J]\n"
	     "  --seeds N  run N seeds (default 100), from --first on (default 1)\n"
	     "  --seed S   run one seed and show the trace if it fails\n"
	     "  --wild     faults, class changes, everything must drain: has open failures\n"
	     "  --jobs J   children at a time (default: processors)");
}

static int parse(int argc, char **argv, struct args *a)
{
	*a = (struct args){ .first = 1, .count = 100 };
	a->jobs = (unsigned int)sysconf(_SC_NPROCESSORS_ONLN);
	for (int i = 1; i < argc;) {
		const char *value = i + 1 < argc ? argv[i + 1] : NULL;

		if (strcmp(argv[i], "--help") == 0) {
			usage();
			exit(0);
		}
		if (strcmp(argv[i], "--wild") == 0) {
			a->wild = true;
			i++;
			continue;
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
		i += 2;
	}
	if (a->jobs == 0 || a->jobs > JOBS_MAX)
		a->jobs = 2;
	return a->count ? 0 : -1;
}

/* Of a run in a process of its own: the same seed gives the same run, to the last call. */
static uint64_t fingerprint(uint64_t seed, bool wild)
{
	uint64_t print = 0;
	int ends[2];
	pid_t pid;

	if (pipe(ends) < 0)
		return 0;
	pid = fork();
	if (pid == 0) {
		print = world_run(seed, NULL, wild, false);
		_exit(write(ends[1], &print, sizeof(print)) != (ssize_t)sizeof(print));
	}
	close(ends[1]);
	if (pid < 0 || read(ends[0], &print, sizeof(print)) != (ssize_t)sizeof(print))
		print = (uint64_t)pid; /* differs, and the run itself will say why */
	close(ends[0]);
	if (pid > 0)
		(void)waitpid(pid, NULL, 0);
	return print;
}

static void run_child(const struct args *a, uint64_t first, struct world_totals *totals)
{
	for (uint64_t seed = first; seed < first + SEEDS_PER_CHILD && seed < a->first + a->count;
	     seed++) {
		__atomic_store_n(&totals->current[(unsigned int)getpid() % WORLD_CURRENT], seed,
				 __ATOMIC_RELAXED);
		if (seed % 50 == 0 && fingerprint(seed, a->wild) != fingerprint(seed, a->wild)) {
			fprintf(stderr, "seed %" PRIu64 ": two runs differ\n", seed);
			_exit(1);
		}
		(void)world_run(seed, totals, a->wild, a->one);
		(void)__atomic_add_fetch(&totals->passed, 1, __ATOMIC_RELAXED);
	}
	_exit(0);
}

static int print_totals(const struct world_totals *t, uint64_t seeds, bool wild)
{
	const struct {
		const char *name;
		uint64_t n;
		bool wild; /* happens in wild worlds only */
	} rows[] = {
		{ "power cuts", t->power_cuts, false },
		{ "kills", t->kills, false },
		{ "crashes inside recovery", t->in_recovery, false },
		{ "effects kept", t->kept, false },
		{ "effects dropped", t->dropped, false },
		{ "effects torn", t->torn, false },
		{ "effects reordered", t->reordered, false },
		{ "late landings", t->late, false },
		{ "EIO", t->eio, true },
		{ "ENOSPC", t->enospc, true },
		{ "backend faults", t->backend_faults, true },
		{ "writes", t->writes, false },
		{ "syncs", t->syncs, false },
		{ "truncations", t->truncates, false },
		{ "ranges zeroed", t->zeroes, false },
		{ "class changes", t->class_changes, true },
		{ "deletions", t->deletes, false },
		{ "checkpoints", t->checkpoints, false },
		{ "roots", t->roots, false },
		{ "SCOs deleted", t->scos_deleted, false },
		{ "SCOs uploaded", t->scos_uploaded, false },
		{ "SCOs resealed", t->scos_resealed, false },
		{ "clusters moved", t->clean_clusters, false },
		{ "merges raced", t->merges_raced, false },
	};
	int missing = 0;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		printf("%-24s %" PRIu64 "\n", rows[i].name, rows[i].n);
		if (rows[i].n == 0 && seeds >= SEEDS_FOR_ALL && (wild || !rows[i].wild)) {
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
	failed += (uint64_t)print_totals(totals, a.count, a.wild);
	printf("%" PRIu64 " passed, %" PRIu64 " failed, 0 skipped\n", totals->passed, failed);
	return failed != 0;
}
