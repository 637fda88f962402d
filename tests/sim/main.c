/*
 * vpool_sim - the engine in a simulated world: many seeds, each a life of crashes, then a peaceful end.
 *
 * A seed runs in a child process: memory of simulated processes that died leaks by design. Totals
 * come back through shared memory.
 */
#include "tests/sim/steps.h"
#include "tests/sim/world.h"

#include "common/log.h"

#include <argp.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* Of one child: a seed must not depend on those before it. */
#define SEEDS_PER_CHILD 1u
#define JOBS_MAX	16u
#define SEED_MAX	UINT32_MAX
/* From so many seeds on every kind of event must have happened. */
#define SEEDS_FOR_ALL 500u

struct args {
	uint64_t first, count;
	unsigned int jobs, calls_max;
	bool one, fail_fast, opens, steps;
	struct steps_args of_steps;
};

enum {
	KEY_FIRST = 0x100,
	KEY_SEED,
	KEY_SEEDS,
	KEY_JOBS,
	KEY_FAIL_FAST,
	KEY_OPENS,
	KEY_CALLS,
	KEY_STEPS,
	KEY_FAILURES,
	KEY_ALLOCATIONS,
	KEY_ONLY,
	KEY_EVERY,
	KEY_DEATHS
};

static const struct argp_option options[] = {
	{ "seeds", KEY_SEEDS, "N", 0, "Run N seeds (default 100)", 0 },
	{ "first", KEY_FIRST, "S", 0, "The first of them (default 1)", 0 },
	{ "seed", KEY_SEED, "S", 0, "Run one seed and show its trace if it fails", 0 },
	{ "jobs", KEY_JOBS, "J", 0, "Children at a time (default: processors)", 0 },
	{ "opens", KEY_OPENS, NULL, 0,
	  "Of each seed one start, again and again: each of its calls fails", 0 },
	{ "calls", KEY_CALLS, "N", 0, "With --opens: of the first N calls (default: all of them)",
	  0 },
	{ "steps", KEY_STEPS, "SCRIPT", OPTION_ARG_OPTIONAL,
	  "Cut off each script, or this one, at each of its steps", 0 },
	{ "failures", KEY_FAILURES, "SCRIPT", OPTION_ARG_OPTIONAL,
	  "Have each call of each script, or of this one, fail in turn", 0 },
	{ "allocations", KEY_ALLOCATIONS, "SCRIPT", OPTION_ARG_OPTIONAL,
	  "Have each allocation of each script, or of this one, fail in turn", 0 },
	{ "only", KEY_ONLY, "K", 0,
	  "With --steps, --failures, --allocations: at this one, and show its trace", 0 },
	{ "all-deaths", KEY_DEATHS, NULL, 0, "With --steps: all four ways at each, not two", 0 },
	{ "every", KEY_EVERY, "N", 0, "With --steps, --failures, --allocations: at every N-th one",
	  0 },
	{ "fail-fast", KEY_FAIL_FAST, NULL, 0,
	  "Start no further seed, and end a script, once one has failed", 0 },
	{ 0 },
};

static uint64_t number(struct argp_state *state, const char *option, const char *text, uint64_t max)
{
	char *end;
	uint64_t n;

	errno = 0;
	n = strtoull(text, &end, 10);
	if (errno || end == text || *end || text[0] == '-' || n == 0 || n > max)
		argp_error(state, "--%s: '%s' is not a number from 1 to %" PRIu64, option, text,
			   max);
	return n;
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct args *a = state->input;

	switch (key) {
	case KEY_SEEDS:
		a->count = number(state, "seeds", arg, SEED_MAX);
		return 0;
	case KEY_FIRST:
		a->first = number(state, "first", arg, SEED_MAX);
		return 0;
	case KEY_SEED:
		a->first = number(state, "seed", arg, SEED_MAX);
		a->count = 1;
		a->one = true;
		return 0;
	case KEY_JOBS:
		a->jobs = (unsigned int)number(state, "jobs", arg, JOBS_MAX);
		return 0;
	case KEY_FAIL_FAST:
		a->fail_fast = a->of_steps.fail_fast = true;
		return 0;
	case KEY_OPENS:
		a->opens = true;
		return 0;
	case KEY_CALLS:
		a->calls_max = (unsigned int)number(state, "calls", arg, SEED_MAX);
		return 0;
	case KEY_STEPS:
	case KEY_FAILURES:
	case KEY_ALLOCATIONS:
		a->steps = true;
		a->of_steps.script = arg;
		a->of_steps.calls = key == KEY_FAILURES;
		a->of_steps.allocations = key == KEY_ALLOCATIONS;
		return 0;
	case KEY_ONLY:
		a->of_steps.only = number(state, "only", arg, SEED_MAX);
		return 0;
	case KEY_DEATHS:
		a->of_steps.all_deaths = true;
		return 0;
	case KEY_EVERY:
		a->of_steps.every = number(state, "every", arg, SEED_MAX);
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "'%s': no arguments are taken, only options", arg);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
	.options = options,
	.parser = parse_option,
	.doc = "Runs the engine in a simulated world: each seed is a life of power cuts, kills and "
	       "reordered writes, after each of which every object must be at a point of its own "
	       "history.\vThe totals must not be zero from 500 seeds on. The last line is "
	       "\"N passed, N failed, 0 skipped\"; exits 0 if none failed.",
};

static void parse(int argc, char **argv, struct args *a)
{
	long processors = sysconf(_SC_NPROCESSORS_ONLN);

	*a = (struct args){ .first = 1, .count = 100, .of_steps.every = 1 };
	a->jobs = processors > 0 ? (unsigned int)min_u64((uint64_t)processors, JOBS_MAX) : 2;
	argp_parse(&argp, argc, argv, 0, NULL, a);
	a->of_steps.jobs = a->jobs;
	a->of_steps.seed = a->first;
}

/* Of a run in a process of its own: the same seed gives the same run, to the last call. */
static uint64_t fingerprint(uint64_t seed)
{
	uint64_t print = 0;
	int ends[2];
	pid_t pid;

	if (pipe(ends) < 0)
		return 0;
	pid = fork();
	if (pid == 0) {
		print = world_run(seed, NULL, false);
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
		if (a->opens)
			world_run_opens(seed, totals, a->calls_max);
		else if (seed % 50 == 0 && fingerprint(seed) != fingerprint(seed)) {
			fprintf(stderr, "seed %" PRIu64 ": two runs differ\n", seed);
			_exit(1);
		}
		if (!a->opens)
			(void)world_run(seed, totals, a->one);
		(void)__atomic_add_fetch(&totals->passed, 1, __ATOMIC_RELAXED);
	}
	_exit(0);
}

static int print_totals(const struct world_totals *t, uint64_t seeds, bool opens)
{
	const struct {
		const char *name;
		uint64_t n;
	} rows[] = {
		{ "power cuts", t->power_cuts },
		{ "kills", t->kills },
		{ "crashes inside recovery", t->in_recovery },
		{ "machines lost and restored", t->machines_lost },
		{ "effects kept", t->kept },
		{ "effects dropped", t->dropped },
		{ "effects torn", t->torn },
		{ "effects reordered", t->reordered },
		{ "late landings", t->late },
		{ "EIO", t->eio },
		{ "ENOSPC", t->enospc },
		{ "backend faults", t->backend_faults },
		{ "client steps", t->steps },
		{ "writes", t->writes },
		{ "syncs", t->syncs },
		{ "truncations", t->truncates },
		{ "ranges zeroed", t->zeroes },
		{ "shares", t->shares },
		{ "class changes", t->class_changes },
		{ "snapshots", t->snapshots },
		{ "rollbacks", t->rollbacks },
		{ "clones", t->clones },
		{ "templates", t->templates },
		{ "scrubs", t->scrubs },
		{ "done before the next", t->scrubs_done },
		{ "deletions", t->deletes },
		{ "checkpoints", t->checkpoints },
		{ "roots", t->roots },
		{ "SCOs deleted", t->scos_deleted },
		{ "SCOs uploaded", t->scos_uploaded },
		{ "SCOs resealed", t->scos_resealed },
		{ "SCOs evicted", t->scos_evicted },
		{ "ranges fetched", t->fetches },
		{ "clusters moved", t->clean_clusters },
		{ "of snapshots", t->clean_frozen_clusters },
		{ "resolved", t->resolved_pages },
		{ "merges raced", t->merges_raced },
		{ "hidden clusters let go", t->trimmed_clusters },
	};
	int missing = 0;

	if (opens)
		printf("%-24s %" PRIu64 "\n%-24s %" PRIu64 "\n", "opens tried", t->opens,
		       "opens that failed", t->opens_failed);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		printf("%-24s %" PRIu64 "\n", rows[i].name, rows[i].n);
		if (rows[i].n == 0 && seeds >= SEEDS_FOR_ALL && !opens) {
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
	uint64_t next, last, failed;
	struct args a;

	parse(argc, argv, &a);
	totals = mmap(NULL, sizeof(*totals), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (totals == MAP_FAILED || log_open(a.one ? NULL : "/dev/null", LOG_LEVEL_ERROR) < 0)
		return 1;
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (a.steps)
		return !steps_run(&a.of_steps);
	next = a.first;
	last = a.first + a.count;
	while (running > 0 || next < last) {
		int status;
		pid_t pid;

		if (running < a.jobs && next < last) {
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
		if (pid > 0 && status != 0 && a.fail_fast)
			last = next;
		if (pid > 0 && status != 0)
			printf("FAILED: seed %" PRIu64 " (again: vpool_sim --seed %" PRIu64 ")\n",
			       totals->current[(unsigned int)pid % WORLD_CURRENT],
			       totals->current[(unsigned int)pid % WORLD_CURRENT]);
	}
	a.count = min_u64(last, next) - a.first; /* less, where it stopped at a failure */
	failed = a.count - min_u64(a.count, totals->passed);
	failed += (uint64_t)print_totals(totals, a.count, a.opens);
	printf("%" PRIu64 " passed, %" PRIu64 " failed, 0 skipped\n", totals->passed, failed);
	return failed != 0;
}
